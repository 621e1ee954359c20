//! Datacenters of the real stack over links that misbehave: nodes, drivers and QUIC as they ship,
//! in virtual time.
//!
//! What a link tells the node's task, and what workers ask and hear, passes through taps that judge
//! it. Taps take no virtual time, so that all they see of one instant happened then; in which order
//! within the instant they cannot know, and give the node the benefit of the doubt. Deltas are
//! small integers, as in [`mesh`](crate::mesh).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use datacenter::client::Client;
use datacenter::local::{Port, Session, SessionError};
use datacenter::message::{Read, ReadReply, Request, Wait};
use datacenter::{Clock, ShardId, TableId, TableSpec, WorkerId};
use emulation::link::{LinkConfig, Outage};
use emulation::seed;
use emulation::{Trace, VirtualClock, host_address};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wan::driver::queue::{EventSender, event_queue};
use wan::driver::server::{Event, Observer};
use wan::node::Node;
use wan::policy::{Lead, Policy};
use wan::transport::Path;

use crate::laws::InvariantChecker;
use crate::mesh::random_policy;
use crate::site::{Model, Site, SitePlan, World, copy_values, keep_links, server_name};

/// A run that is not over by then never will be: the longest outages add up to far less.
const LIMIT: Duration = Duration::from_secs(1800);

/// What a stack is made of.
#[derive(Clone, Debug)]
pub struct Stack {
    /// How many datacenters.
    pub datacenters: u16,
    /// Workers in each.
    pub workers: usize,
    /// Clocks that every worker runs.
    pub clocks: u32,
    /// The tables.
    pub model: Model,
    /// What crosses the WAN.
    pub policy: Policy,
    /// `s` inside a datacenter.
    pub staleness: Option<u32>,
    /// The longest time that a worker computes.
    pub max_compute: Duration,
    /// The longest delay of a request inside the datacenter.
    pub max_lan_delay: Duration,
    /// Share of rows that a worker reads and changes at a clock.
    pub density: f64,
    /// How much may be on its way to a peer; `None` for what the nodes derive.
    pub window_bytes: Option<u64>,
    /// Each directed link.
    pub links: BTreeMap<(u16, u16), LinkConfig>,
    /// Whether datacenters know the rate and length of their links.
    pub paths_known: bool,
    /// How long a connection lives without a sign of its peer.
    pub idle_timeout: Duration,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Every datagram of the run.
    pub trace: Trace,
    /// When everything was applied everywhere.
    pub ended_at: Duration,
    /// When each datacenter completed each clock.
    pub clocks: Vec<Vec<Duration>>,
    /// Requests answered.
    pub reads: u64,
    /// Of these, how many waited for a barrier or a mirror clock.
    pub held_reads: u64,
    /// Updates delivered.
    pub updates: u64,
    /// Rows announced.
    pub announced_rows: u64,
    /// Links that came up.
    pub links_up: u64,
}

impl Stack {
    /// A random stack, with everything that may go wrong on a WAN going wrong.
    pub fn random(rng: &mut impl RngExt) -> Self {
        let spec = |name: &str, rows, width| TableSpec::new(name, rows, width);
        // The largest model is twenty packets: it takes several updates and streams.
        let rows = [7, 300, 3000][rng.random_range(0..3)];
        let specs = vec![spec("wide", rows, 5), spec("narrow", 40, 1)];
        let datacenters = rng.random_range(2..4);
        let mut links = BTreeMap::new();
        for from in 0..datacenters {
            for to in (0..datacenters).filter(|to| *to != from) {
                links.insert((from, to), random_link(rng));
            }
        }
        Self {
            datacenters,
            workers: rng.random_range(1..3),
            clocks: rng.random_range(3..10),
            model: Model::new(specs, rng.random_range(1..4)),
            policy: random_policy(rng, 2),
            staleness: [Some(0), Some(2), None][rng.random_range(0..3)],
            max_compute: Duration::from_millis([1, 50, 800][rng.random_range(0..3)]),
            max_lan_delay: Duration::from_millis([0, 1, 5][rng.random_range(0..3)]),
            density: [0.05, 0.9][rng.random_range(0..2)],
            window_bytes: [None, None, Some(1), Some(2000)][rng.random_range(0..4)],
            links,
            paths_known: rng.random_bool(0.7),
            idle_timeout: Duration::from_millis([1500, 3000, 30_000][rng.random_range(0..3)]),
        }
    }

    /// The random stack of `seed`.
    pub fn of_seed(seed: u64) -> Self {
        Self::random(&mut ChaCha8Rng::seed_from_u64(seed))
    }

    /// Runs all workers to the end and the links until everything is applied, and judges by the
    /// laws.
    ///
    /// # Errors
    ///
    /// With the law that was violated, and how.
    pub fn run(&self, seed: u64) -> Result<Outcome, String> {
        let clock = VirtualClock::new();
        let judges: Vec<_> = (0..self.datacenters).map(|at| SharedJudge::new(self, at)).collect();
        let run = clock.run(LIMIT, self.run_in(&World::new(&clock, seed), &judges));
        let broken = judges.iter().find_map(|judge| judge.lock().broken.clone());
        match (broken, run) {
            (Some(broken), _) => Err(broken),
            (None, Ok(outcome)) => outcome,
            (None, Err(late)) => {
                let clocks: Vec<_> = judges.iter().map(|judge| judge.lock().clocks.len()).collect();
                Err(format!("law 5: {late}, datacenters are at clocks {clocks:?} of {}", self.clocks))
            }
        }
    }

    async fn run_in(&self, world: &World, judges: &[SharedJudge]) -> Result<Outcome, String> {
        for (&(from, to), link) in &self.links {
            world.network.set_link(
                host_address(from.into()).ip(),
                host_address(to.into()).ip(),
                link.clone(),
            );
        }
        let mut sites = Vec::new();
        let mut workers = JoinSet::new();
        for at in 0..self.datacenters {
            let plan = self.plan(at);
            let judge = &judges[at as usize];
            let mut site = Site::start(&plan, &self.model, judge.clone());
            let endpoint = world.endpoint(at, &server_name(at), &world.authority);
            keep_links(world, &plan, &self.model, &endpoint, judge.tap_events(world, site.events.clone()));
            for (id, answers) in (0..).map(WorkerId).zip(std::mem::take(&mut site.answers)) {
                let seed = seed::derive(world.seed, &[u64::from(at), u64::from(id.0), 1]);
                let lan = Lan { clock: world.clock.clone(), max_delay: self.max_lan_delay, seed };
                let session = self.session(id, judge.tap(lan, site.requests.clone(), answers));
                let work = self.clone().work(session, world.clock.clone(), seed, judge.clone());
                workers.spawn(async move { (at, work.await) });
            }
            sites.push((site, endpoint));
        }
        while let Some(done) = workers.join_next().await {
            let (at, result) = done.map_err(|panic| panic.to_string())?;
            result.map_err(|error| format!("law 5: a worker of datacenter {at}: {error}"))?;
        }
        for (site, _) in &mut sites {
            site.settled.wait_for(|settled| *settled).await.map_err(|error| error.to_string())?;
        }
        let ended_at = world.clock.now();
        let mut announced_rows = 0;
        for (at, (site, _)) in sites.iter().enumerate() {
            announced_rows += self.check_end(at, site, judges).await?;
        }
        let sum = |count: fn(&Judge) -> u64| judges.iter().map(|judge| count(&judge.lock())).sum();
        Ok(Outcome {
            trace: world.network.trace(),
            ended_at,
            clocks: judges.iter().map(|judge| judge.lock().clocks.clone()).collect(),
            reads: sum(|judge| judge.reads),
            held_reads: sum(|judge| judge.held_reads),
            updates: sum(|judge| judge.updates),
            announced_rows,
            links_up: sum(|judge| judge.links_up),
        })
    }

    fn plan(&self, at: u16) -> SitePlan {
        let peers = (0..self.datacenters).filter(|peer| *peer != at).map(|peer| {
            let (there, back) = (&self.links[&(at, peer)], &self.links[&(peer, at)]);
            let known = Path {
                rate_bytes_per_sec: Some(there.rate_bytes_per_sec),
                round_trip: Some(there.one_way_delay + back.one_way_delay),
                ..Path::default()
            };
            let path = if self.paths_known { known } else { Path::default() };
            (peer, Path { idle_timeout: self.idle_timeout, ..path })
        });
        SitePlan {
            at,
            workers: self.workers,
            staleness: self.staleness,
            policy: self.policy.clone(),
            peers: peers.collect(),
            window_bytes: self.window_bytes,
            job_digest: vec![7; 32],
        }
    }

    fn session(&self, id: WorkerId, port: Port) -> Session {
        Session::new(Client::new(id, &self.model.specs, self.model.placement, self.staleness), port)
    }

    /// One worker: reads rows, changes some of them, and ends its clock.
    async fn work(
        self,
        mut session: Session,
        clock: VirtualClock,
        seed: u64,
        judge: SharedJudge,
    ) -> Result<(), SessionError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..self.clocks {
            let some_rows = |spec: &TableSpec| {
                (0..spec.rows).filter(|_| rng.random_bool(self.density)).collect::<Vec<_>>()
            };
            let rows: Vec<Vec<u32>> = self.model.specs.iter().map(some_rows).collect();
            session.fetch((0..).map(TableId).zip(rows.iter().map(Vec::as_slice))).await?;
            for (table, row) in
                (0..).map(TableId).zip(&rows).flat_map(|(t, r)| r.iter().map(move |r| (t, *r)))
            {
                let width = self.model.specs[table.index()].width;
                let delta: Vec<f32> = (0..width).map(|_| f32::from(rng.random_range(-3i8..=4))).collect();
                judge.lock().expect(&self.model, table, row, &delta);
                session.client().add(table, row, &delta);
            }
            clock.sleep(self.max_compute.mul_f64(rng.random_range(0.01..1.0))).await;
            session.clock().await?;
        }
        session.leave().await
    }

    /// Laws 1 and 2: every replica is the sum of all deltas, and nothing is held. Yields how many
    /// rows were announced.
    async fn check_end(&self, at: usize, site: &Site, judges: &[SharedJudge]) -> Result<u64, String> {
        let (values, held, announced) = site
            .inspect(|node| {
                let peers = 0..node.peers().len();
                let held =
                    |peer| node.replicas().iter().map(move |r| r.inbox(peer).held_rows()).sum::<usize>();
                let announced = peers.clone().map(|peer| node.sent(peer).announced_rows).sum();
                (copy_values(node), peers.map(held).sum::<usize>(), announced)
            })
            .await;
        let mut expected: Vec<_> = (0..self.model.shapes.len()).map(|s| self.model.zeros(s)).collect();
        for judge in judges {
            let ours = judge.lock();
            let sums = expected.iter_mut().flatten().flatten().zip(ours.sums.iter().flatten().flatten());
            sums.for_each(|(sum, ours)| *sum += ours);
        }
        if values != expected {
            return Err(format!("law 1: datacenter {at} is not the sum of all deltas"));
        }
        if held > 0 {
            return Err(format!("law 5: datacenter {at} still holds {held} rows"));
        }
        if !judges[at].lock().asked.is_empty() {
            return Err(format!("law 5: datacenter {at} has not answered everything"));
        }
        Ok(announced)
    }
}

fn random_link(rng: &mut impl RngExt) -> LinkConfig {
    let rate = 125_000.0 * libm::pow(200.0, rng.random_range(0.0..1.0));
    let delay = Duration::from_millis(rng.random_range(1..200));
    let clean = LinkConfig::clean(rate as u64, delay);
    let mut start = Duration::ZERO;
    let outages = (0..[0, 0, 1, 3][rng.random_range(0..4)]).map(|_| {
        start += Duration::from_millis(rng.random_range(1..5000));
        let outage = Outage { start, length: Duration::from_millis(rng.random_range(20..6000)) };
        start += outage.length;
        outage
    });
    LinkConfig {
        outages: outages.collect(),
        jitter: Duration::from_millis([0, 5, 40][rng.random_range(0..3)]),
        reorder: rng.random_bool(0.5),
        loss: [0.0, 0.001, 0.01, 0.03][rng.random_range(0..4)],
        duplicate: [0.0, 0.02][rng.random_range(0..2)],
        queue_bytes: [5000, 64_000, clean.queue_bytes][rng.random_range(0..3)],
        ..clean
    }
}

/// What is known of a datacenter from outside.
struct Judge {
    lead: Option<u32>,
    elements: u64,
    /// By datacenter and shard.
    witnesses: Vec<Vec<InvariantChecker>>,
    shapes: Vec<Vec<datacenter::ShardTable>>,
    /// Sums of the local deltas, by shard and table.
    sums: Vec<Vec<Vec<f32>>>,
    asked: BTreeMap<(u32, u16), Read>,
    start: Option<Instant>,
    clocks: Vec<Duration>,
    sessions: BTreeSet<u64>,
    reads: u64,
    held_reads: u64,
    updates: u64,
    links_up: u64,
    /// By peer: what might be on its way when that was looked at last; a window that has shrunk
    /// since takes nothing back.
    allowed: BTreeMap<usize, u64>,
    /// The first violation.
    broken: Option<String>,
}

impl Judge {
    fn expect(&mut self, model: &Model, table: TableId, row: u32, delta: &[f32]) {
        let shard = model.placement.shard_of(row);
        let start = model.placement.slot_of(row) as usize * delta.len();
        let sums = &mut self.sums[shard.index()][table.index()][start..start + delta.len()];
        sums.iter_mut().zip(delta).for_each(|(sum, delta)| *sum += delta);
    }

    fn see_event(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Update { peer, update, .. } => {
                self.updates += 1;
                let shard = update.shard.index();
                self.witnesses[peer.datacenter.index()][shard].see_update(update, &self.shapes[shard]);
            }
            Event::Control { peer, controls, .. } => {
                for control in controls {
                    self.witnesses[peer.datacenter.index()][control.shard.index()].see_control(control, now);
                }
            }
            Event::Up { handle, .. } => {
                self.links_up += 1;
                if !self.sessions.insert(handle.session) {
                    self.broken.get_or_insert("two links of one session".into());
                }
            }
            _ => {}
        }
    }

    fn see_request(&mut self, shard: ShardId, request: &Request) {
        if let Request::Read(read) = request {
            self.asked.insert((read.worker.0, shard.0), read.clone());
        }
    }

    fn see_reply(&mut self, reply: &ReadReply, now: Duration) {
        self.reads += 1;
        self.held_reads += u64::from(reply.held.iter().any(|(why, _)| *why != Wait::Stale));
        let Some(read) = self.asked.remove(&(reply.worker.0, reply.shard.0)) else {
            self.broken.get_or_insert("law 5: a read was answered twice".into());
            return;
        };
        for (at, checker) in self.witnesses.iter().enumerate() {
            // Nobody mirrors itself.
            let Some(checker) = checker.get(reply.shard.index()) else { continue };
            if let Err(broken) = checker.check_read(&read, reply, self.lead, now) {
                self.broken.get_or_insert(format!("law 4: at {now:?}, of datacenter {at}: {broken}"));
            }
        }
    }
}

/// The way of a worker's requests to its shards.
struct Lan {
    clock: VirtualClock,
    max_delay: Duration,
    seed: u64,
}

/// A judge for the taps of one datacenter.
#[derive(Clone)]
struct SharedJudge(Arc<Mutex<Judge>>);

impl SharedJudge {
    fn new(stack: &Stack, at: u16) -> Self {
        let shards = stack.model.shapes.len();
        let witnesses_of = |peer| vec![InvariantChecker::default(); if peer == at { 0 } else { shards }];
        let lead = match stack.policy.lead {
            Lead::Limit(limit) => Some(limit),
            Lead::Derived | Lead::Unlimited => None,
        };
        Self(Arc::new(Mutex::new(Judge {
            lead,
            elements: stack.model.shapes.iter().flatten().map(|t| t.elements() as u64).sum(),
            witnesses: (0..stack.datacenters).map(witnesses_of).collect(),
            shapes: stack.model.shapes.clone(),
            sums: (0..shards).map(|s| stack.model.zeros(s)).collect(),
            asked: BTreeMap::new(),
            start: None,
            clocks: Vec::new(),
            sessions: BTreeSet::new(),
            reads: 0,
            held_reads: 0,
            updates: 0,
            links_up: 0,
            allowed: BTreeMap::new(),
            broken: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Judge> {
        self.0.lock().expect("no one panics while judging")
    }

    /// Sees what links tell the node's task.
    fn tap_events(&self, world: &World, to: EventSender) -> EventSender {
        let (from_links, mut events) = event_queue();
        let (judge, clock) = (self.clone(), world.clock.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                judge.lock().see_event(&event, clock.now());
                if to.send(event).await.is_err() {
                    return;
                }
            }
        });
        from_links
    }

    /// Sees what a worker asks and hears.
    fn tap(
        &self,
        lan: Lan,
        to: mpsc::Sender<(ShardId, Request)>,
        mut answers: mpsc::Receiver<ReadReply>,
    ) -> Port {
        self.lock().start.get_or_insert(tokio::time::Instant::now().into_std());
        let shards = self.lock().shapes.len();
        let (requests, mut asked) = mpsc::channel::<(ShardId, Request)>(1);
        let (replies, heard) = mpsc::channel(shards);
        let (judge, clock) = (self.clone(), lan.clock.clone());
        tokio::spawn(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(lan.seed);
            while let Some((shard, request)) = asked.recv().await {
                judge.lock().see_request(shard, &request);
                lan.clock.sleep(lan.max_delay.mul_f64(rng.random_range(0.0..1.0))).await;
                if to.send((shard, request)).await.is_err() {
                    return;
                }
            }
        });
        let judge = self.clone();
        tokio::spawn(async move {
            while let Some(reply) = answers.recv().await {
                judge.lock().see_reply(&reply, clock.now());
                if replies.send(reply).await.is_err() {
                    return;
                }
            }
        });
        Port { shards: vec![requests; shards], replies: heard }
    }
}

impl Observer for SharedJudge {
    /// Law 3, for what can be seen from outside; the outbox's own tests look inside.
    fn clock(&mut self, node: &Node, _: Clock, now: Instant) {
        let mut judge = self.lock();
        let start = *judge.start.get_or_insert(now);
        judge.clocks.push(now - start);
        for peer in 0..node.peers().len() {
            let waiting: u64 = node.replicas().iter().map(|r| r.outbox(peer).waiting_bytes()).sum();
            let flying: u64 = node.replicas().iter().map(|r| r.outbox(peer).in_flight_bytes()).sum();
            let window = node.window_bytes(peer);
            let before = judge.allowed.insert(peer, window.max(flying)).unwrap_or(0);
            if waiting > 5 * judge.elements || flying > window.max(before) + 64 * 1024 {
                judge.broken.get_or_insert(format!("law 3: {waiting} bytes wait and {flying} fly"));
            }
        }
    }
}
