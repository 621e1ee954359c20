//! Shards, and the clients of the workers that use them, while workers leave and come back and a
//! gate holds rows.
//!
//! All deltas are positive, so that what a worker must see is a bound from below: its own updates,
//! and those of the others that the staleness says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use datacenter::client::Client;
use datacenter::message::{Flush, Read, ReadReply, Request, Wait};
use datacenter::rows::Slots;
use datacenter::shard::{Flushed, ReadGate, RequestError, Shard};
use datacenter::{Clock, DatacenterId, Placement, ShardId, TableId, TableSpec, WorkerId, shard_tables};

use super::operations::operations;

const WORKERS: usize = 3;
const SHARDS: u16 = 2;
/// Rows and width of each table.
const TABLES: [(u32, u32); 2] = [(5, 2), (3, 1)];

#[derive(Arbitrary, Debug)]
enum Operation {
    /// A worker adds to a row.
    Add {
        worker: u8,
        table: bool,
        row: u8,
        deltas: [u8; 2],
    },
    /// It ends its iteration.
    Flush {
        worker: u8,
    },
    /// It asks for rows, a bit for each.
    Plan {
        worker: u8,
        rows: [u8; 2],
    },
    /// Its next request reaches a shard.
    Deliver {
        worker: u8,
        shard: bool,
    },
    /// Its last flush comes once more.
    Repeat {
        worker: u8,
        shard: bool,
    },
    /// A flush that leaves out a clock.
    Skip {
        worker: u8,
        shard: bool,
    },
    Leave {
        worker: u8,
    },
    Join {
        worker: u8,
    },
    /// What may not be read: all, or rows of both tables, a bit for each.
    Hold {
        all: bool,
        rows: [u8; 2],
    },
    Wait {
        millis: u8,
    },
}

/// The first byte is the staleness, the others are a list of operations; then everybody is
/// answered.
pub fn shards(data: &[u8]) {
    let Some((staleness, rest)) = data.split_first() else { return };
    let mut cluster = Cluster::new([Some(0), Some(1), Some(3), None][usize::from(staleness % 4)]);
    operations(&mut Unstructured::new(rest)).into_iter().for_each(|operation| cluster.apply(operation));
    cluster.settle();
}

/// Sums by `(table, row, column)`.
type Sums = BTreeMap<(usize, u32, usize), u64>;

struct Cluster {
    staleness: Option<u32>,
    now: Instant,
    shards: Vec<Shard>,
    gate: Gate,
    workers: Vec<Worker>,
}

struct Worker {
    client: Client,
    is_live: bool,
    /// On their way, by shard.
    requests: Vec<VecDeque<Request>>,
    /// The last that reached each shard.
    last: Vec<Option<Flush>>,
    /// What it waits for.
    asked: BTreeMap<ShardId, Read>,
    wanted: Vec<Vec<u32>>,
    /// The clocks of shards that have answered while nobody trained there: they wait for nobody who
    /// comes later.
    idle: BTreeMap<ShardId, Clock>,
    /// What it has added, by stamp.
    added: BTreeMap<u32, Sums>,
}

#[derive(Debug, Default)]
struct Gate {
    all: bool,
    rows: [u8; 2],
}

impl ReadGate for Gate {
    fn why_all_held(&self, _: Clock) -> Option<Wait> {
        self.all.then_some(Wait::Fetching)
    }

    fn why_rows_held(&self, table: TableId, slots: &Slots) -> Option<Wait> {
        let is_held = slots.iter().any(|slot| self.rows[table.index()] >> slot & 1 == 1);
        is_held.then_some(Wait::Barrier(DatacenterId(4)))
    }
}

impl Cluster {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
    fn new(staleness: Option<u32>) -> Self {
        let specs = TABLES.map(|(rows, width)| TableSpec::new(String::new(), rows, width));
        let placement = Placement::new(SHARDS);
        let shards = (0..SHARDS).map(ShardId).map(|id| {
            let shapes = shard_tables(&specs, placement, id);
            let zeros = shapes.iter().map(|shape| vec![0.0; shape.elements()]).collect();
            Shard::new(id, &shapes, zeros, WORKERS, staleness)
        });
        let workers = (0..WORKERS as u32).map(|id| Worker {
            client: Client::new(WorkerId(id), &specs, placement, staleness),
            is_live: true,
            requests: vec![VecDeque::new(); SHARDS.into()],
            last: vec![None; SHARDS.into()],
            asked: BTreeMap::new(),
            wanted: Vec::new(),
            idle: BTreeMap::new(),
            added: BTreeMap::new(),
        });
        let (shards, workers) = (shards.collect(), workers.collect());
        Self { staleness, now: Instant::now(), shards, gate: Gate::default(), workers }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Add { worker, table, row, deltas } => {
                self.add(place(worker), table.into(), row, deltas)
            }
            Operation::Flush { worker } => self.flush(place(worker)),
            Operation::Plan { worker, rows } => self.plan(place(worker), rows),
            Operation::Deliver { worker, shard } => self.deliver(place(worker), shard.into()),
            Operation::Repeat { worker, shard } => self.repeat(place(worker), shard.into()),
            Operation::Skip { worker, shard } => self.skip(place(worker), shard.into()),
            Operation::Leave { worker } => self.leave(place(worker)),
            Operation::Join { worker } => self.join(place(worker)),
            Operation::Hold { all, rows } => self.gate = Gate { all, rows },
            Operation::Wait { millis } => self.now += Duration::from_millis(millis.into()),
        }
        self.answer();
        self.check();
    }

    fn add(&mut self, worker: usize, table: usize, row: u8, deltas: [u8; 2]) {
        let worker = &mut self.workers[worker];
        if !worker.is_live {
            return;
        }
        let (rows, width) = TABLES[table];
        let row = u32::from(row) % rows;
        let deltas: Vec<f32> = deltas.into_iter().take(width as usize).map(f32::from).collect();
        worker.client.add(TableId(table as u16), row, &deltas);
        let sums = worker.added.entry(worker.client.clock().0).or_default();
        for (column, delta) in deltas.into_iter().enumerate() {
            *sums.entry((table, row, column)).or_default() += delta as u64;
        }
    }

    /// One that waits for rows is in the midst of an iteration, and one that has left is in none.
    fn flush(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        if worker.is_live && worker.asked.is_empty() {
            for (shard, flush) in worker.client.flush().expect("all deltas are numbers") {
                worker.requests[shard.index()].push_back(Request::Flush(flush));
            }
        }
    }

    /// One that waits for answers asks for nothing else.
    fn plan(&mut self, worker: usize, rows: [u8; 2]) {
        let worker = &mut self.workers[worker];
        if !worker.asked.is_empty() {
            return;
        }
        let chosen =
            |(rows, bits): ((u32, u32), u8)| (0..rows.0).filter(|row| bits >> row & 1 == 1).collect();
        worker.wanted = TABLES.into_iter().zip(rows).map(chosen).collect();
        let wanted = (0..).map(TableId).zip(worker.wanted.iter().map(Vec::as_slice));
        worker.asked = worker.client.plan(wanted).into_iter().collect();
        worker.idle.clear();
        for (shard, read) in &worker.asked {
            worker.requests[shard.index()].push_back(Request::Read(read.clone()));
        }
    }

    fn deliver(&mut self, worker: usize, at: usize) {
        let shard = &mut self.shards[at];
        match self.workers[worker].requests[at].pop_front() {
            Some(Request::Flush(flush)) => {
                let before = shard.clock();
                let moved = match shard.handle_flush(&flush).expect("it makes sense") {
                    Flushed::Now(moved) => moved,
                    Flushed::Before => panic!("it comes for the first time"),
                };
                assert_eq!(moved, (shard.clock() > before).then(|| shard.clock()));
                self.workers[worker].last[at] = Some(flush);
            }
            Some(Request::Read(read)) => {
                let reply = shard.handle_read(read, self.now, &self.gate).expect("it makes sense");
                reply.into_iter().for_each(|reply| self.absorb(&reply));
            }
            Some(Request::Leave(worker)) => drop(shard.remove_worker(worker)),
            None => {}
        }
    }

    fn repeat(&mut self, worker: usize, at: usize) {
        let Some(flush) = self.workers[worker].last[at].clone() else { return };
        let shard = &mut self.shards[at];
        assert_eq!(shard.handle_flush(&flush), Ok(Flushed::Before));
    }

    /// One that is not known is refused.
    fn skip(&mut self, worker: usize, at: usize) {
        let Some(mut flush) = self.workers[worker].last[at].clone() else { return };
        let shard = &mut self.shards[at];
        flush.worker = WorkerId(u32::MAX);
        assert_eq!(shard.handle_flush(&flush), Err(RequestError::UnknownWorker(flush.worker)));
    }

    fn leave(&mut self, worker: usize) {
        if self.workers[worker].is_live && self.workers[worker].asked.is_empty() {
            self.flush(worker);
            let worker = &mut self.workers[worker];
            worker.is_live = false;
            let leave = Request::Leave(worker.client.worker());
            worker.requests.iter_mut().for_each(|requests| requests.push_back(leave.clone()));
        }
    }

    /// Once all that it has said before has come, it joins every shard, and goes on with the
    /// furthest of them.
    fn join(&mut self, worker: usize) {
        let Worker { is_live, asked, requests, .. } = &self.workers[worker];
        if *is_live || !asked.is_empty() || requests.iter().any(|requests| !requests.is_empty()) {
            return;
        }
        let client = &mut self.workers[worker].client;
        let id = client.worker();
        let mut join = |clock| self.shards.iter_mut().map(move |shard| shard.join(id, clock)).max().flatten();
        let clock = join(client.clock()).expect("the worker is known");
        assert_eq!(join(clock), Some(clock));
        client.start_at(clock);
        self.workers[worker].is_live = true;
    }

    /// Answers all reads that may be answered.
    fn answer(&mut self) {
        for at in 0..self.shards.len() {
            while let Some(reply) = self.shards[at].poll_reply(self.now, &self.gate) {
                self.absorb(&reply);
            }
        }
    }

    fn absorb(&mut self, reply: &ReadReply) {
        let worker = &mut self.workers[reply.worker.index()];
        let read = worker.asked.remove(&reply.shard).expect("nobody is answered who did not ask");
        assert!(self.gate.why_all_held(read.clock).is_none());
        for group in &read.groups {
            assert_eq!(self.gate.why_rows_held(group.table, &group.slots), None);
        }
        if let Some(staleness) = self.staleness {
            // Where nobody trains any more, there is nothing to wait for.
            let is_idle = self.shards.iter().any(|shard| shard.id() == reply.shard && shard.is_idle());
            assert!(is_idle || reply.clock.0 >= read.clock.0.saturating_sub(staleness));
            if is_idle {
                worker.idle.insert(reply.shard, reply.clock);
            }
        }
        worker.client.absorb(reply).expect("it is the answer");
        if worker.asked.is_empty() {
            self.check_view(reply.worker.index());
        }
    }

    /// A worker's view of the rows that it has asked for.
    fn check_view(&self, worker: usize) {
        let client = &self.workers[worker].client;
        let old = self.staleness.map_or(0, |staleness| client.clock().0.saturating_sub(staleness));
        let placement = Placement::new(SHARDS);
        for (table, rows) in self.workers[worker].wanted.iter().enumerate() {
            for row in rows {
                let idle = self.workers[worker].idle.get(&placement.shard_of(*row));
                let old = idle.map_or(old, |clock| old.min(clock.0));
                for (column, seen) in client.row(TableId(table as u16), *row).iter().enumerate() {
                    let sum = |other: usize, below: u32| -> u64 {
                        let stamps = self.workers[other].added.range(..below);
                        stamps.filter_map(|(_, sums)| sums.get(&(table, *row, column))).sum()
                    };
                    let below = |other| if other == worker { u32::MAX } else { old };
                    let least: u64 = (0..WORKERS).map(|other| sum(other, below(other))).sum();
                    let most: u64 = (0..WORKERS).map(|other| sum(other, u32::MAX)).sum();
                    assert!((least..=most).contains(&(*seen as u64)), "{seen}, {least} to {most}");
                }
            }
        }
    }

    /// Clocks are the least of the live workers', and every read that waits has its reason.
    fn check(&self) {
        for shard in &self.shards {
            let least = shard.live_workers().map(|(_, clock)| clock).min();
            assert!(least.is_none_or(|least| least == shard.clock()), "{least:?}");
            let mut waiting = BTreeSet::new();
            for (worker, why) in shard.waiting() {
                assert!(waiting.insert(worker), "one read of each worker");
                let read = &self.workers[worker.index()].asked[&shard.id()];
                let is_stale = |staleness| shard.clock().0 < read.clock.0.saturating_sub(staleness);
                let is_stale = self.staleness.is_some_and(is_stale) && !shard.is_idle();
                assert_eq!(why == Wait::Stale, is_stale);
            }
        }
    }

    /// The gate opens, all requests come, and the slower workers catch up: then everybody is
    /// answered.
    fn settle(&mut self) {
        self.gate = Gate::default();
        let furthest = self.workers.iter().map(|worker| worker.client.clock()).max().unwrap_or_default();
        loop {
            for worker in 0..WORKERS {
                for at in 0..self.shards.len() {
                    while !self.workers[worker].requests[at].is_empty() {
                        self.deliver(worker, at);
                    }
                }
            }
            self.answer();
            self.check();
            let is_behind = |worker: &Worker| worker.is_live && worker.client.clock() < furthest;
            let behind: Vec<_> = (0..WORKERS).filter(|worker| is_behind(&self.workers[*worker])).collect();
            if behind.is_empty() {
                break;
            }
            // The slowest waits for nobody.
            let slowest = behind.into_iter().min_by_key(|worker| self.workers[*worker].client.clock());
            let slowest = slowest.expect("somebody is behind");
            assert!(self.workers[slowest].asked.is_empty(), "the slowest is answered");
            self.flush(slowest);
        }
        // Where nobody is live clocks stand still, and one that has left may look on for ever.
        let is_waiting = |worker: &Worker| !worker.asked.is_empty();
        assert!(
            !self.workers.iter().any(|w| w.is_live) || !self.workers.iter().any(is_waiting),
            "all are answered"
        );
        self.check_sums();
    }

    /// What was flushed is in the tables, once.
    fn check_sums(&self) {
        let mut sums = Sums::new();
        for worker in &self.workers {
            for (_, added) in worker.added.range(..worker.client.clock().0) {
                added.iter().for_each(|(element, sum)| *sums.entry(*element).or_default() += sum);
            }
        }
        let placement = Placement::new(SHARDS);
        for (table, (rows, width)) in TABLES.into_iter().enumerate() {
            for row in 0..rows {
                let values = self.shards[placement.shard_of(row).index()].values(TableId(table as u16));
                let start = (placement.slot_of(row) * width) as usize;
                for (column, value) in values[start..start + width as usize].iter().enumerate() {
                    let sum = sums.get(&(table, row, column)).copied().unwrap_or_default();
                    assert_eq!(*value as u64, sum, "row {row} of table {table}");
                }
            }
        }
    }
}

/// Which worker is meant.
fn place(worker: u8) -> usize {
    usize::from(worker) % WORKERS
}
