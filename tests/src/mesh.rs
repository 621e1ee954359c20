//! Datacenters of pure nodes, joined by links that misbehave, in one thread and no real time.
//!
//! A link has two queues of its own for data and control. Each message draws its delay, so any two
//! may swap; updates may be delivered twice; and a link may be cut, which loses everything on its
//! way in both directions, until it comes up again and both ends exchange what they have applied.
//! Deltas are small integers, so that sums in any order are exact and replicas can be compared bit
//! for bit.

#![expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use datacenter::message::{Flush, Read, ReadReply, Request, RowGroup};
use datacenter::shard::Shard;
use datacenter::table::is_whole;
use datacenter::{
    Clock, DatacenterId, Elements, Numbers, Placement, ShardId, ShardTable, TableId, TableSpec, WorkerId,
    shard_tables,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wan::leeway::Leeway;
use wan::message::{ServerId, ShardControl, Update};
use wan::node::{Greeting, Node, PeerConfig};
use wan::outbox::Outgoing;
use wan::policy::{
    Budget, BudgetScope, FilterConfig, Goal, Lead, Limit, Policy, ReleaseEvery, Schedule, Selection,
    Significance, ValueFormat,
};
use wan::replica::Replica;

use crate::laws::InvariantChecker;
use crate::queue::{Queue, ordered};

/// A mechanism to break on purpose, between the nodes and the laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Lose an update and confirm it nevertheless.
    DropUpdate,
    /// Add an update twice, as if numbers were not checked.
    ForgetDuplicates,
    /// Keep barriers from the receiver.
    IgnoreBarriers,
    /// Run without a limit on the lead, and judge with one.
    IgnoreLead,
    /// Offer a remote update to the receiver's own filter.
    Echo,
}

/// What a mesh is made of.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// How many datacenters.
    pub datacenters: u16,
    /// Workers in each.
    pub workers: u32,
    /// Shards of the model.
    pub shards: u16,
    /// Clocks that every worker runs.
    pub clocks: u32,
    /// Deltas are multiples of it: many bits of significand, or few.
    pub scale: i16,
    /// What crosses the WAN.
    pub policy: Policy,
    /// `s` inside a datacenter.
    pub staleness: Option<u32>,
    /// The longest delay of a message.
    pub max_delay: Duration,
    /// The rate that the nodes take their links to have.
    pub rate_bytes_per_sec: u64,
    /// How much may be on its way to a peer; `None` for what the nodes derive.
    pub window_bytes: Option<u64>,
    /// Probability that an update is delivered twice.
    pub duplicate: f64,
    /// Mean time between cuts of each link; zero for none.
    pub cut_every: Duration,
    /// The mechanism to break, if any.
    pub sabotage: Option<Sabotage>,
}

impl MeshConfig {
    /// A random mesh, with everything that may go wrong going wrong.
    pub fn random(rng: &mut impl RngExt) -> Self {
        let policy = random_policy(rng, table_specs().len());
        Self {
            datacenters: rng.random_range(2..4),
            workers: rng.random_range(1..4),
            shards: rng.random_range(1..4),
            clocks: if rng.random_bool(0.05) { rng.random_range(20..70) } else { rng.random_range(3..15) },
            scale: [1, 1021][rng.random_range(0..2)],
            policy,
            staleness: [Some(0), Some(2), None][rng.random_range(0..3)],
            max_delay: Duration::from_millis(rng.random_range(1..400)),
            rate_bytes_per_sec: 10u64.pow(rng.random_range(2..7)),
            window_bytes: [None, Some(1), Some(100)][rng.random_range(0..3)],
            duplicate: 0.1,
            cut_every: Duration::from_millis([0, 500, 3000][rng.random_range(0..3)]),
            sabotage: None,
        }
    }
}

/// A random policy for a job of so many tables.
pub fn random_policy(rng: &mut impl RngExt, tables: usize) -> Policy {
    let function =
        [Significance::Absolute, Significance::Relative, Significance::RowRms, Significance::TableRms];
    let function = match rng.random_bool(0.3) {
        true => Significance::UsualUpdate,
        false => function[rng.random_range(0..4)].clone(),
    };
    let filter = FilterConfig {
        function,
        threshold: [0.0, 0.5, 3.0, 2000.0][rng.random_range(0..4)],
        schedule: [Schedule::Constant, Schedule::InverseSqrt][rng.random_range(0..2)].clone(),
        values: [ValueFormat::F32, ValueFormat::Auto, ValueFormat::Int8, ValueFormat::Bf16]
            [rng.random_range(0..4)],
        numbers: [Numbers::Real, Numbers::Whole][rng.random_range(0..2)],
    };
    let filters = vec![filter; tables];
    let selection = match rng.random_range(0..3) {
        0 => Selection::Everything,
        _ => {
            let goal = [Goal::Cheapest, Goal::Fastest][rng.random_range(0..2)];
            Selection::Significant { filters, goal, leeway: Leeway::default() }
        }
    };
    Policy {
        selection,
        barrier_max_delay: rng.random_bool(0.7).then(|| Duration::from_millis(rng.random_range(0..50))),
        lead: [Lead::Limit(0), Lead::Limit(2), Lead::Unlimited, Lead::Derived][rng.random_range(0..4)],
        anticipates: rng.random_bool(0.5),
        release_every: [ReleaseEvery::Clocks(1), ReleaseEvery::Clocks(3), ReleaseEvery::derived(Some(1))]
            [rng.random_range(0..3)],
        budget: rng.random_bool(0.4).then(|| random_budget(rng)),
    }
}

/// A random budget, from one that lets hardly anything pass to one that is in nobody's way. A rate
/// is at least one by which what clocks wait for comes within the times that laws allow.
fn random_budget(rng: &mut impl RngExt) -> Budget {
    let (rate, of_clock) = (10f64.powi(rng.random_range(4..7)), 10f64.powi(rng.random_range(1..6)));
    let limits = [Limit::BytesPerSec(rate), Limit::BytesPerClock(of_clock)];
    let scopes = [BudgetScope::Link, BudgetScope::Region];
    Budget { limit: limits[rng.random_range(0..2)], scope: scopes[rng.random_range(0..2)] }
}

/// Which numbers the tables of a mesh hold: those for which its policy has filters. Deltas are whole
/// in any case.
fn numbers(policy: &Policy) -> Vec<Numbers> {
    match &policy.selection {
        Selection::Everything => vec![Numbers::Whole; table_specs().len()],
        Selection::Significant { filters, .. } => filters.iter().map(|filter| filter.numbers).collect(),
    }
}

/// The tables of every mesh.
pub fn table_specs() -> Vec<TableSpec> {
    let spec = |name: &str, rows, width| TableSpec::new(name, rows, width);
    vec![spec("wide", 7, 5), spec("narrow", 40, 1)]
}

/// A cluster of nodes under test.
pub struct Mesh {
    config: MeshConfig,
    rng: ChaCha8Rng,
    start: Instant,
    now: Duration,
    queue: Queue<Event>,
    sites: Vec<Site>,
    /// By pair `(lower, higher)`: counts the connections, so that what was sent on a former one is
    /// lost.
    links: BTreeMap<(usize, usize), LinkState>,
    expected: Vec<Vec<Vec<f32>>>,
    shapes: Vec<Vec<ShardTable>>,
    /// How many reads were answered.
    pub reads: u64,
    /// How many updates were delivered.
    pub updates: u64,
    /// How many reads waited for a barrier or a mirror clock at least once.
    pub held_reads: u64,
    sabotaged: bool,
}

#[derive(Clone, Default)]
struct LinkState {
    is_up: bool,
    generation: u64,
    /// The ends that have had the other's hello.
    greeted: BTreeSet<usize>,
}

struct Site {
    node: Node,
    peers: Vec<usize>,
    workers: Vec<Worker>,
    /// By peer and shard.
    witnesses: Vec<Vec<InvariantChecker>>,
    finished: bool,
}

struct Worker {
    clock: u32,
    asked: BTreeMap<u16, Read>,
}

#[derive(Clone, Debug)]
enum Event {
    Step { site: usize, worker: usize },
    Update { from: usize, to: usize, generation: u64, update: Update, bytes: u64 },
    Control { from: usize, to: usize, generation: u64, controls: Vec<ShardControl> },
    Up { pair: (usize, usize) },
    Hello { from: usize, to: usize, generation: u64, greeting: Greeting },
    Cut { pair: (usize, usize) },
    Poll { site: usize },
}

impl Mesh {
    /// A mesh at clock zero with every link down.
    pub fn new(config: MeshConfig, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let placement = Placement::new(config.shards);
        let ids = || (0..config.shards).map(ShardId);
        let shapes: Vec<_> = ids().map(|s| shard_tables(&table_specs(), placement, s)).collect();
        let zeros =
            |tables: &[ShardTable]| tables.iter().map(|t| vec![0.0; t.elements()]).collect::<Vec<_>>();
        let count = config.datacenters as usize;
        let mut policy = config.policy.clone();
        if config.sabotage == Some(Sabotage::IgnoreLead) {
            policy.lead = Lead::Unlimited;
        }
        let site = |here: usize| {
            let peers: Vec<usize> = (0..count).filter(|p| *p != here).collect();
            let ids_of_peers = || peers.iter().map(|p| DatacenterId(*p as u16));
            let replicas = ids().map(|id| {
                let tables = &shapes[id.index()];
                let shard = Shard::new(id, tables, zeros(tables), config.workers as usize, config.staleness);
                Replica::new(shard.with_numbers(&numbers(&policy)), &policy, ids_of_peers())
            });
            let peer_configs: Vec<_> = ids_of_peers()
                .map(|id| {
                    let rate_bytes_per_sec = Some(config.rate_bytes_per_sec);
                    PeerConfig {
                        id,
                        rate_bytes_per_sec,
                        window_bytes: config.window_bytes,
                        transfer_bytes_per_sec: None,
                    }
                })
                .collect();
            let mut node = Node::new(replicas.collect(), &peer_configs, &policy);
            for id in ids_of_peers() {
                node.peer(ServerId::first(id)).expect("all are configured");
            }
            Site {
                node,
                witnesses: vec![vec![InvariantChecker::default(); config.shards as usize]; peers.len()],
                peers,
                workers: (0..config.workers).map(|_| Worker { clock: 0, asked: BTreeMap::new() }).collect(),
                finished: false,
            }
        };
        let mut mesh = Self {
            sites: (0..count).map(site).collect(),
            expected: shapes.iter().map(|tables| zeros(tables)).collect(),
            shapes,
            start: Instant::now(),
            now: Duration::ZERO,
            queue: Queue::default(),
            links: BTreeMap::new(),
            reads: 0,
            updates: 0,
            held_reads: 0,
            sabotaged: false,
            rng: ChaCha8Rng::seed_from_u64(rng.random()),
            config,
        };
        for low in 0..count {
            for high in low + 1..count {
                mesh.links.insert((low, high), LinkState::default());
                mesh.after_delay(Event::Up { pair: (low, high) });
            }
            for worker in 0..mesh.config.workers as usize {
                mesh.after_delay(Event::Step { site: low, worker });
            }
        }
        mesh
    }

    /// Runs all workers to the end and the links until nothing is pending, checking the laws at
    /// each event.
    ///
    /// # Errors
    ///
    /// With the law that was violated, and how.
    pub fn run(&mut self) -> Result<(), String> {
        let mut events = 0u64;
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.handle(event)?;
            events += 1;
            if events > 2_000_000 {
                return Err("law 5: the cluster never comes to rest".into());
            }
        }
        self.check_end()
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        let now = self.start + self.now;
        // A link runs when its hello is done: what overtakes it waits at the door.
        if let Event::Update { from, to, generation, .. } | Event::Control { from, to, generation, .. } =
            &event
            && self.is_current(*from, *to, *generation)
            && !self.links[&ordered(*from, *to)].greeted.contains(to)
        {
            self.after_delay(event);
            return Ok(());
        }
        match event {
            Event::Step { site, worker } => self.step(site, worker)?,
            Event::Poll { site } => self.flush(site)?,
            Event::Update { from, to, generation, update, bytes } => {
                if self.is_current(from, to, generation) {
                    self.deliver(from, to, update, bytes)?;
                    self.flush(to)?;
                }
            }
            Event::Control { from, to, generation, mut controls } => {
                if self.is_current(from, to, generation) {
                    let peer = self.peer_index(to, from);
                    for control in &mut controls {
                        self.sites[to].witnesses[peer][control.shard.index()].see_control(control, self.now);
                        if self.config.sabotage == Some(Sabotage::IgnoreBarriers) {
                            control.barriers.clear();
                        }
                    }
                    self.sites[to].node.handle_control(peer, &controls, now).map_err(|e| e.to_string())?;
                    self.flush(to)?;
                }
            }
            Event::Up { pair } => {
                let link = self.links.get_mut(&pair).expect("every pair has a link");
                *link = LinkState { is_up: true, generation: link.generation + 1, greeted: BTreeSet::new() };
                let generation = link.generation;
                for (from, to) in [pair, (pair.1, pair.0)] {
                    let greeting = self.sites[from].node.greeting(DatacenterId(to as u16));
                    self.after_delay(Event::Hello { from, to, generation, greeting });
                }
                if !self.config.cut_every.is_zero() && !self.all_finished() {
                    let after = self.config.cut_every.mul_f64(self.rng.random_range(0.1..2.0));
                    self.at(self.now + after, Event::Cut { pair });
                }
            }
            Event::Hello { from, to, generation, greeting } => {
                if self.is_current(from, to, generation) {
                    let link = self.links.get_mut(&ordered(from, to)).expect("every pair has a link");
                    link.greeted.insert(to);
                    let peer = self.peer_index(to, from);
                    let node = &mut self.sites[to].node;
                    node.handle_rtt(peer, self.config.max_delay, now);
                    node.handle_up(peer, &greeting, now).map_err(|e| e.to_string())?;
                    self.flush(to)?;
                }
            }
            Event::Cut { pair } => {
                self.links.get_mut(&pair).expect("every pair has a link").is_up = false;
                for (here, there) in [pair, (pair.1, pair.0)] {
                    let peer = self.peer_index(here, there);
                    self.sites[here].node.handle_down(peer);
                }
                self.after_delay(Event::Up { pair });
            }
        }
        Ok(())
    }

    fn deliver(&mut self, from: usize, to: usize, mut update: Update, bytes: u64) -> Result<(), String> {
        let now = self.start + self.now;
        let peer = self.peer_index(to, from);
        let shard = update.shard.index();
        self.updates += 1;
        let once = !self.sabotaged && update.deltas.iter().any(|d| !d.is_empty());
        match self.config.sabotage {
            Some(Sabotage::DropUpdate) if once => {
                self.sabotaged = true;
                void(&mut update);
            }
            Some(Sabotage::ForgetDuplicates) if once => {
                self.sabotaged = true;
                let values = update.deltas.iter_mut().flat_map(|delta| &mut delta.values);
                values.for_each(|value| *value *= 2.0);
            }
            Some(Sabotage::Echo) if self.sites[to].workers[0].clock < self.config.clocks => {
                let worker = &mut self.sites[to].workers[0];
                worker.clock += 1;
                let clock = Clock(worker.clock);
                for s in 0..self.config.shards {
                    // The table gets it once, as it should, and so does the filter, which it should
                    // not.
                    let own = s as usize == shard;
                    let deltas = if own { &update.deltas[..] } else { &[] };
                    let shapes = &self.shapes[s as usize];
                    let request = Request::Flush(Flush::of_elements(WorkerId(0), clock, deltas, shapes));
                    let node = &mut self.sites[to].node;
                    node.handle_request(ShardId(s), request, now).map_err(|e| e.to_string())?;
                }
                void(&mut update);
            }
            _ => {}
        }
        self.sites[to].witnesses[peer][shard].see_update(&update, &self.shapes[shard]);
        self.sites[to].node.handle_update(peer, &update, bytes, now).map_err(|e| e.to_string())
    }

    /// One worker's turn: it flushes what it made of its last read, and asks for rows.
    fn step(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let now = self.start + self.now;
        if self.sites[site].workers[worker].clock >= self.config.clocks {
            return self.finish_if_done(site);
        }
        self.sites[site].workers[worker].clock += 1;
        let clock = Clock(self.sites[site].workers[worker].clock);
        let id = WorkerId(worker as u32);
        for shard in 0..self.config.shards {
            let deltas = self.random_deltas(shard as usize);
            let shapes = &self.shapes[shard as usize];
            let request = Request::Flush(Flush::of_elements(id, clock, &deltas, shapes));
            self.sites[site].node.handle_request(ShardId(shard), request, now).map_err(|e| e.to_string())?;
        }
        if clock.0 == self.config.clocks {
            self.finish_if_done(site)?;
        } else {
            // All questions are noted before the first is put, as an answer to the last one ends
            // the turn.
            for shard in 0..self.config.shards {
                let read = Read { worker: id, clock, groups: self.random_rows(shard as usize) };
                self.sites[site].workers[worker].asked.insert(shard, read);
            }
            for (shard, read) in self.sites[site].workers[worker].asked.clone() {
                let node = &mut self.sites[site].node;
                let reply = node.handle_request(ShardId(shard), Request::Read(read), now);
                if let Some(reply) = reply.map_err(|e| e.to_string())? {
                    self.answered(site, reply)?;
                }
            }
        }
        self.flush(site)
    }

    fn answered(&mut self, site: usize, reply: ReadReply) -> Result<(), String> {
        self.reads += 1;
        self.held_reads +=
            u64::from(reply.held.iter().any(|(why, _)| *why != datacenter::message::Wait::Stale));
        let lead = match self.config.policy.lead {
            Lead::Limit(limit) => Some(limit),
            Lead::Derived | Lead::Unlimited => None,
        };
        let here = &mut self.sites[site];
        let numbers = numbers(&self.config.policy);
        for block in reply.blocks.iter().filter(|block| numbers[block.table().index()] == Numbers::Whole) {
            if let Some(value) = block.values().iter().find(|value| !is_whole(**value)) {
                return Err(format!("law 1: a table of whole numbers was read as {value}"));
            }
        }
        let worker = &mut here.workers[reply.worker.index()];
        let read = worker.asked.remove(&reply.shard.0).ok_or("law 5: a read was answered twice")?;
        for checker in &here.witnesses {
            let checker = &checker[reply.shard.index()];
            checker.check_read(&read, &reply, lead, Duration::MAX).map_err(|e| format!("law 4: {e}"))?;
            if let (Some(lead), Selection::Everything) = (lead, &self.config.policy.selection) {
                let counted = checker.counted_clock(self.config.workers);
                let clock = reply.clock.min(read.clock);
                if clock.lead_over(counted) > lead {
                    return Err(format!("law 4: read at {clock} with the data of {counted}, DS is {lead}"));
                }
            }
        }
        if worker.asked.is_empty() {
            self.after_delay(Event::Step { site, worker: reply.worker.index() });
        }
        Ok(())
    }

    fn finish_if_done(&mut self, site: usize) -> Result<(), String> {
        let here = &mut self.sites[site];
        if !here.finished && here.workers.iter().all(|w| w.clock >= self.config.clocks) {
            here.finished = true;
            for (worker, shard) in
                (0..self.config.workers).flat_map(|w| (0..self.config.shards).map(move |s| (w, s)))
            {
                let leave = Request::Leave(WorkerId(worker));
                let left = here.node.handle_request(ShardId(shard), leave, self.start + self.now);
                left.map_err(|e| e.to_string())?;
            }
        }
        self.flush(site)
    }

    /// Sends what the node of `site` has to send.
    fn flush(&mut self, site: usize) -> Result<(), String> {
        let now = self.start + self.now;
        while let Some(reply) = self.sites[site].node.poll_reply(now) {
            self.answered(site, reply)?;
        }
        for peer in 0..self.sites[site].peers.len() {
            let to = self.sites[site].peers[peer];
            let generation = self.links[&ordered(site, to)].generation;
            while let Some(Outgoing { update, bytes, .. }) = self.sites[site].node.poll_update(peer, now) {
                let (shard, back) = (update.shard.index(), self.peer_index(to, site));
                self.sites[to].witnesses[back][shard].see_sent(&update, &self.shapes[shard]);
                let update = Event::Update { from: site, to, generation, update: (*update).clone(), bytes };
                if self.rng.random_bool(self.config.duplicate) {
                    self.after_delay(update.clone());
                }
                self.after_delay(update);
            }
            let controls = self.sites[site].node.poll_control(peer, now);
            if !controls.is_empty() {
                self.after_delay(Event::Control { from: site, to, generation, controls });
            }
            self.check_bounds(site, peer)?;
        }
        let node = &self.sites[site].node;
        let timeout = (0..node.peers().len()).filter_map(|peer| node.poll_timeout(peer)).min();
        if let Some(at) = timeout {
            let at = at.saturating_duration_since(self.start).max(self.now + Duration::from_millis(1));
            self.at(at, Event::Poll { site });
        }
        Ok(())
    }

    /// Law 3, for what can be seen from outside; the outbox's own tests look inside.
    fn check_bounds(&self, site: usize, peer: usize) -> Result<(), String> {
        let node = &self.sites[site].node;
        let elements: usize = self.shapes.iter().flatten().map(|t| t.elements()).sum();
        let waiting: u64 = node.replicas().iter().map(|r| r.outbox(peer).waiting_bytes()).sum();
        let flying: u64 = node.replicas().iter().map(|r| r.outbox(peer).in_flight_bytes()).sum();
        if waiting > 5 * elements as u64 || flying > node.window_bytes(peer) + 64 * 1024 {
            return Err(format!(
                "law 3: {waiting} bytes wait and {flying} fly for a model of {elements} elements"
            ));
        }
        Ok(())
    }

    /// Laws 1, 2 and 5 at the end: everybody is done and answered, and every replica is the sum of
    /// all deltas.
    fn check_end(&self) -> Result<(), String> {
        for (i, site) in self.sites.iter().enumerate() {
            if !site.finished || !site.node.is_settled() {
                let waiting: Vec<_> = site.node.replicas().iter().flat_map(|r| r.shard().waiting()).collect();
                return Err(format!("law 5: datacenter {i} is not done, waiting {waiting:?}"));
            }
            for (replica, expected) in site.node.replicas().iter().zip(&self.expected) {
                for (t, expected) in expected.iter().enumerate() {
                    if replica.shard().values(TableId(t as u16)) != expected {
                        return Err(format!(
                            "law 1: datacenter {i} differs in table {t} of {}",
                            replica.shard().id()
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn random_deltas(&mut self, shard: usize) -> Vec<Elements> {
        let mut deltas = Vec::new();
        for (t, shape) in self.shapes[shard].iter().enumerate() {
            let mut delta = Elements::new(TableId(t as u16));
            let density = [0.05, 0.9][self.rng.random_range(0..2)];
            for index in 0..shape.elements() as u32 {
                // The first element counts flushes: by it the laws see how much of a clock has
                // really come.
                let counts = t == 0 && index == 0;
                if self.rng.random_bool(density) || counts {
                    let value = self.rng.random_range(-3i16..=4) * self.config.scale;
                    let value = f32::from(if counts { 1 } else { value });
                    delta.push(index, value);
                    self.expected[shard][t][index as usize] += value;
                }
            }
            deltas.push(delta);
        }
        deltas.retain(|d| !d.is_empty());
        deltas
    }

    fn random_rows(&mut self, shard: usize) -> Vec<RowGroup> {
        let tables = self.shapes[shard].clone();
        let groups = tables.iter().enumerate().map(|(t, shape)| RowGroup {
            table: TableId(t as u16),
            since: 0,
            slots: (0..shape.slots).filter(|_| self.rng.random_bool(0.3)).collect(),
        });
        groups.collect()
    }

    fn after_delay(&mut self, event: Event) {
        let delay = self.config.max_delay.mul_f64(self.rng.random_range(0.01..1.0));
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.queue.push(at, event);
    }

    fn is_current(&self, from: usize, to: usize, generation: u64) -> bool {
        let link = &self.links[&ordered(from, to)];
        link.is_up && link.generation == generation
    }

    fn peer_index(&self, here: usize, there: usize) -> usize {
        self.sites[here].peers.iter().position(|p| *p == there).expect("all are peers")
    }

    fn all_finished(&self) -> bool {
        self.sites.iter().all(|s| s.finished)
    }
}

/// Takes the values out of an update; its rows remain, so that no reader waits for them.
fn void(update: &mut Update) {
    update.deltas.iter_mut().for_each(|delta| delta.values.fill(0.0));
}
