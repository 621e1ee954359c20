//! Datacenters of several servers, pure nodes all of them, to which the faults of a scenario happen.
//!
//! Links and workers are as simple as can be: a message takes a random time, and none is lost on a connection that stays; a
//! connection ends some time after either end has died or the way is cut. What a worker has said to a server that is not
//! there it says again when that is back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use datacenter::message::{Flush, Read, ReadReply, Request, RowGroup, Wait};
use datacenter::shard::Shard;
use datacenter::{
    Clock, DatacenterId, Elements, Placement, ShardId, ShardTable, TableId, WorkerId, shard_tables,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wan::inbox::PeerError;
use wan::message::{ServerId, ShardControl, Update};
use wan::node::{Grace, Greeting, Node, PeerConfig};
use wan::outbox::Outgoing;
use wan::policy::Policy;
use wan::replica::Replica;
use wan::state::ReplicaState;

use super::account::Account;
use super::scenario::{Fault, Scenario, Server, When};
use crate::mesh::{random_policy, table_specs};

/// A mechanism to take out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Nobody is ever given up.
    NoGrace,
    /// A process does not say that it is not the one before.
    SameLife,
    /// What mirrors have of our own former releases is not asked for.
    NoReturn,
    /// Those who are left do not say what they have of a datacenter that is gone.
    NoHoldings,
    /// A worker's flush that was taken before a server died is taken again.
    ForgetFlushes,
}

/// What all clusters have in common.
const WORKERS: u32 = 2;
const SHARDS: u16 = 3;
const GRACE: Grace = Grace {
    workers: Duration::from_millis(800),
    server: Duration::from_millis(700),
    datacenter: Duration::from_millis(1000),
};
/// How long it takes until an end of a connection notices that the other is not there.
const NOTICE: Duration = Duration::from_millis(150);
/// How long the word that a flush was taken takes at most.
const CONFIRMED: Duration = Duration::from_millis(10);
/// How long a link takes to be tried again.
const REDIAL: Duration = Duration::from_millis(40);

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What happens.
    pub scenario: Scenario,
    /// Clocks that every worker runs.
    pub clocks: u32,
    /// What crosses the WAN.
    pub policy: Policy,
    /// `s` inside a datacenter.
    pub staleness: Option<u32>,
    /// The longest delay of a message.
    pub max_delay: Duration,
    /// How long a worker computes at most.
    pub max_step: Duration,
    /// A checkpoint is made at every so many clocks.
    pub checkpoint_every: u32,
    /// The mechanism to take out, if any.
    pub sabotage: Option<Sabotage>,
}

impl Plan {
    /// A random plan of `scenario`.
    pub fn random(scenario: &Scenario, rng: &mut impl RngExt) -> Self {
        Self {
            scenario: scenario.clone(),
            clocks: rng.random_range(60..200),
            policy: random_policy(rng, table_specs().len()),
            staleness: [Some(0), Some(0), Some(2)][rng.random_range(0..3)],
            max_delay: Duration::from_millis(rng.random_range(2..40)),
            max_step: Duration::from_millis(rng.random_range(10..60)),
            checkpoint_every: rng.random_range(1..15),
            sabotage: None,
        }
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// How many reads were answered.
    pub reads: u64,
    /// The longest that a read of a bystander was held for the sake of another datacenter.
    pub longest_hold: Duration,
    /// Elements of which something was lost.
    pub lost_elements: usize,
    /// How long it took.
    pub took: Duration,
}

/// A cluster under test.
pub struct Cluster {
    plan: Plan,
    rng: ChaCha8Rng,
    start: Instant,
    now: Duration,
    sequence: u64,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    sites: Vec<Site>,
    /// Server processes, dead ones too.
    processes: Vec<Process>,
    /// By pair of processes.
    links: BTreeMap<(usize, usize), Link>,
    cuts: BTreeSet<(usize, usize)>,
    shapes: Vec<Vec<ShardTable>>,
    account: Account,
    story: VecDeque<(When, Fault)>,
    lives: u64,
    is_replacing: bool,
    outcome: Outcome,
    progress_at: Duration,
    /// Who has left for good.
    departed: BTreeSet<DatacenterId>,
}

struct Site {
    servers: u16,
    /// By server: the process that is it.
    process: Vec<Option<usize>>,
    workers: Vec<Worker>,
    /// By shard, oldest first.
    disk: Vec<VecDeque<ReplicaState>>,
    has_left: bool,
}

struct Process {
    server: Server,
    node: Option<Node>,
    is_frozen: bool,
    /// It is known what it has left behind.
    is_written_off: bool,
    /// Workers may come.
    is_open: bool,
    poll_at: Option<Duration>,
}

struct Worker {
    is_alive: bool,
    life: u32,
    clock: u32,
    is_done: bool,
    /// What is to be said to each server, which is not there.
    pending: BTreeMap<u16, VecDeque<(ShardId, Request)>>,
    /// Servers that count it.
    joined: BTreeSet<u16>,
    asked: BTreeMap<u16, Read>,
    /// The last flush to each shard, and when it was said: it may have been taken without the word of that having come.
    last: BTreeMap<u16, (Duration, Flush)>,
    /// The time at which each server was lost last.
    lost: BTreeMap<u16, Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_up: bool,
    generation: u64,
    /// The ends that have had the other's hello: the lower and the higher one.
    greeted: [bool; 2],
}

#[derive(Clone, Debug)]
enum Event {
    Step {
        site: usize,
        worker: usize,
        life: u32,
    },
    Suspend {
        site: usize,
        worker: usize,
        life: u32,
    },
    /// A server has been away for as long as its datacenter's workers wait for it.
    Away {
        site: usize,
        server: u16,
    },
    Update {
        from: usize,
        to: usize,
        generation: u64,
        update: Update,
        bytes: u64,
    },
    Control {
        from: usize,
        to: usize,
        generation: u64,
        controls: Vec<ShardControl>,
    },
    Dial {
        one: usize,
        other: usize,
    },
    Hello {
        from: usize,
        to: usize,
        generation: u64,
        greeting: Greeting,
    },
    /// An end notices that the connection is no more.
    Down {
        at: usize,
        peer: usize,
        generation: u64,
    },
    Poll {
        process: usize,
    },
    /// A process hears that its datacenter has left for good.
    Expelled {
        process: usize,
    },
    Story,
}

impl Cluster {
    /// A cluster at clock zero.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let placement = Placement::new(SHARDS);
        let shapes: Vec<_> =
            (0..SHARDS).map(|s| shard_tables(&table_specs(), placement, ShardId(s))).collect();
        let site = || Site {
            servers: plan.scenario.servers,
            process: Vec::new(),
            workers: (0..WORKERS).map(|_| Worker::new()).collect(),
            disk: vec![VecDeque::new(); usize::from(SHARDS)],
            has_left: false,
        };
        let mut cluster = Self {
            sites: (0..plan.scenario.datacenters).map(|_| site()).collect(),
            story: plan.scenario.story.iter().copied().collect(),
            account: Account::new(plan.scenario.datacenters, &shapes),
            shapes,
            rng: ChaCha8Rng::seed_from_u64(seed),
            start: start(),
            now: Duration::ZERO,
            sequence: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            processes: Vec::new(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            lives: 0,
            is_replacing: false,
            outcome: Outcome::default(),
            progress_at: Duration::ZERO,
            departed: BTreeSet::new(),
            plan,
        };
        for site in 0..cluster.sites.len() {
            if !cluster.plan.scenario.absent.contains(&site) {
                cluster.return_datacenter(site, true);
            }
        }
        cluster.schedule_story();
        cluster
    }

    /// Runs until the job is done everywhere, checking the laws.
    ///
    /// # Errors
    ///
    /// With the law that was violated, and how.
    pub fn run(mut self) -> Result<Outcome, String> {
        while !(self.story.is_empty() && self.is_settled()) {
            let Some(Reverse((at, sequence))) = self.queue.pop() else {
                return Err("law 5: nothing happens any more".into());
            };
            self.now = at;
            if self.now > self.progress_at + Duration::from_secs(30) {
                return Err(format!("law 5: no progress since {:?}: {}", self.progress_at, self.why()));
            }
            let event = self.events.remove(&sequence).expect("every queued event is kept");
            let what = format!("{event:?}");
            self.handle(event)?;
            self.check_sums().map_err(|e| format!("{e} after {what}"))?;
        }
        self.check_end()?;
        (self.outcome.took, self.outcome.lost_elements) = (self.now, self.account.lost_elements);
        Ok(self.outcome)
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        let now = self.start + self.now;
        // A link runs when its hello is done: what overtakes it waits at the door.
        if let Event::Update { from, to, generation, .. } | Event::Control { from, to, generation, .. } =
            &event
            && self.is_current(*from, *to, *generation)
            && !self.links[&ordered(*from, *to)].greeted[usize::from(to > from)]
        {
            self.after_delay(event);
            return Ok(());
        }
        match event {
            Event::Step { site, worker, life } if self.sites[site].workers[worker].life == life => {
                self.step(site, worker)?;
            }
            Event::Suspend { site, worker, life } if self.sites[site].workers[worker].life == life => {
                if !self.sites[site].workers[worker].is_alive {
                    self.suspend(site, worker)?;
                }
            }
            Event::Step { .. } | Event::Suspend { .. } => {}
            Event::Away { site, server } => {
                if self.open_process(site, server).is_none() && self.plan.sabotage != Some(Sabotage::NoGrace)
                {
                    self.leave_servers(site)?;
                }
            }
            Event::Poll { process } => {
                self.processes[process].poll_at = None;
                self.flush(process)?;
            }
            Event::Update { from, to, generation, update, bytes } => {
                if self.is_current(from, to, generation) {
                    let peer = self.peer_of(to, from);
                    let node = self.node(to).expect("a link is up between nodes");
                    match node.handle_update(peer, &update, bytes, now) {
                        Err(PeerError::VoidStream { .. }) => self.break_link(from, to),
                        Err(PeerError::Departed(_)) => self.expel(from),
                        outcome => outcome.map_err(|e| e.to_string())?,
                    }
                    self.flush(to)?;
                }
            }
            Event::Control { from, to, generation, mut controls } => {
                if self.is_current(from, to, generation) {
                    if self.plan.sabotage == Some(Sabotage::NoHoldings) {
                        controls.iter_mut().for_each(|control| control.gone.clear());
                    }
                    let peer = self.peer_of(to, from);
                    let node = self.node(to).expect("a link is up between nodes");
                    match node.handle_control(peer, &controls, now) {
                        Err(PeerError::VoidStream { .. }) => self.break_link(from, to),
                        Err(PeerError::Departed(_)) => self.expel(from),
                        outcome => outcome.map_err(|e| format!("{e}: {from} to {to}: {controls:?}"))?,
                    }
                    self.flush(to)?;
                }
            }
            Event::Dial { one, other } => self.dial(one, other)?,
            Event::Hello { from, to, generation, greeting } => self.greet(from, to, generation, greeting)?,
            Event::Down { at, peer, generation } => {
                let link = self.links.entry(ordered(at, peer)).or_default();
                if link.generation == generation {
                    link.is_up = false;
                    link.generation += 1;
                    for (here, there) in [(at, peer), (peer, at)] {
                        if self.is_linked(here, self.processes[there].server) {
                            // With the process that has taken its place.
                            continue;
                        }
                        let place = self.peer_of(here, there);
                        if let Some(node) = self.node(here) {
                            node.handle_down(place);
                        }
                    }
                }
            }
            Event::Expelled { process } => self.expel(process),
            Event::Story => {
                if self.is_due()
                    && let Some((_, fault)) = self.story.pop_front()
                {
                    self.progress_at = self.now;
                    self.happen(fault)?;
                }
                self.schedule_story();
            }
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        match self.story.front() {
            Some((When::At(percent), _)) => {
                let clocks = self.processes.iter().filter_map(|p| p.node.as_ref());
                let latest = clocks.flat_map(|n| n.replicas()).map(|r| r.shard().clock().0).max();
                latest.unwrap_or(0) * 100 >= percent * self.plan.clocks
            }
            Some((When::After(_), _)) => true,
            None => false,
        }
    }

    fn schedule_story(&mut self) {
        match self.story.front() {
            Some((When::At(_), _)) => self.at(self.now + Duration::from_millis(7), Event::Story),
            Some((When::After(millis), _)) => {
                let after = Duration::from_millis(*millis).mul_f64(self.rng.random_range(1.0..2.0));
                self.at(self.now + after, Event::Story);
            }
            None => {}
        }
    }

    fn happen(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(server) => self.kill(server),
            Fault::Return(server) => self.return_server(server, false, false),
            Fault::ReturnEmpty(server) => self.return_server(server, true, false),
            Fault::Freeze((site, server)) => {
                if let Some(process) = self.sites[site].process[usize::from(server)] {
                    self.processes[process].is_frozen = true;
                    self.sites[site].process[usize::from(server)] = None;
                    self.forget_joins(site, server);
                    self.at(self.now + GRACE.server, Event::Away { site, server });
                    self.break_links(process);
                }
            }
            Fault::Thaw(server) => self.thaw(server),
            Fault::KillDatacenter(site) => self.kill_datacenter(site),
            Fault::ReturnDatacenter(site) => self.return_datacenter(site, false),
            Fault::ReturnDatacenterEmpty(site) => {
                self.sites[site].disk.iter_mut().for_each(VecDeque::clear);
                self.return_datacenter(site, false);
            }
            Fault::KillAll => (0..self.sites.len()).for_each(|site| self.kill_datacenter(site)),
            Fault::ReturnAll => (0..self.sites.len()).for_each(|site| self.return_datacenter(site, false)),
            Fault::Cut(one, other) => {
                self.cuts.extend([(one, other), (other, one)]);
                self.break_between(one, other);
            }
            Fault::CutOneWay(from, to) => {
                self.cuts.insert((from, to));
                self.break_between(from, to);
            }
            Fault::Heal(one, other) => {
                self.cuts.remove(&(one, other));
                self.cuts.remove(&(other, one));
            }
            Fault::KillWorker(site, worker) => {
                self.kill_worker(site, worker as usize)?;
            }
            Fault::ReturnWorker(site, worker) => self.return_worker(site, worker as usize),
            Fault::Leave(site) => self.leave(site)?,
            Fault::LeaveForGood(site) => {
                self.departed.insert(DatacenterId(site as u16));
                self.leave(site)?;
            }
            Fault::Dismiss(at, site) => {
                self.departed.insert(DatacenterId(site as u16));
                for process in self.sites[at].process.clone().into_iter().flatten() {
                    self.node(process).expect("it runs").depart(DatacenterId(site as u16));
                    self.flush(process)?;
                }
            }
            Fault::Reshard(site, servers) => self.sites[site].servers = servers,
        }
        Ok(())
    }

    // Servers.

    fn kill(&mut self, (site, server): Server) {
        let Some(process) = self.sites[site].process[usize::from(server)].take() else { return };
        self.bury((site, server), process);
    }

    /// A process is no more: what only it knew is lost.
    fn bury(&mut self, (site, server): Server, process: usize) {
        self.account_for(site, process);
        self.processes[process].node = None;
        if self.sites[site].process.get(usize::from(server)).is_some_and(Option::is_none) {
            self.forget_joins(site, server);
            self.at(self.now + GRACE.server, Event::Away { site, server });
        }
        self.break_links(process);
    }

    /// What is left of what a process has taken, once it is dead or replaced.
    fn account_for(&mut self, site: usize, process: usize) {
        if std::mem::replace(&mut self.processes[process].is_written_off, true) {
            return;
        }
        let Some(node) = &self.processes[process].node else { return };
        for replica in node.replicas() {
            let id = replica.shard().id();
            let saved = self.sites[site].disk[id.index()].back().filter(|_| self.disk_will_be_read(site));
            let alive = self.processes.iter().filter(|p| p.server.0 != site && !p.is_frozen);
            let others = alive.filter_map(|p| p.node.as_ref()).flat_map(|node| node.replicas());
            let others: Vec<_> = others.filter(|other| other.shard().id() == id).collect();
            let is_exact = others.len() + 1 == self.sites.len() && !replica.is_recovering();
            let owner = DatacenterId(site as u16);
            let ledgers = others.iter().filter_map(|other| {
                other.ledgers().mirrors.iter().find(|(of, _)| *of == owner).map(|(_, ledger)| ledger)
            });
            self.account.die(site, id, saved, ledgers, is_exact);
            for other in (0..self.sites.len()).filter(|other| *other != site) {
                let alive = self.processes.iter().filter(|p| p.server.0 == other);
                let replicas = alive.filter_map(|p| p.node.as_ref()).flat_map(|node| node.replicas());
                let mut of_shard = replicas.filter(|r| r.shard().id() == id);
                if of_shard.next().is_none_or(|r| r.is_recovering()) {
                    let saved = self.sites[other].disk[id.index()].back();
                    self.account.weaken(other, id, saved.filter(|_| self.disk_will_be_read(other)));
                }
            }
        }
    }

    /// Whether the next process of a datacenter's server will begin from its disk.
    fn disk_will_be_read(&self, of: usize) -> bool {
        let next = self.story.iter().find_map(|(_, fault)| match fault {
            Fault::Return((site, _)) | Fault::ReturnDatacenter(site) => (*site == of).then_some(true),
            Fault::ReturnEmpty((site, _)) | Fault::ReturnDatacenterEmpty(site) => {
                (*site == of).then_some(false)
            }
            Fault::ReturnAll => Some(true),
            _ => None,
        });
        // One that is being replaced right now is so from its disk.
        next.unwrap_or(self.is_replacing)
    }

    fn forget_joins(&mut self, site: usize, server: u16) {
        let servers = self.sites[site].servers;
        for worker in &mut self.sites[site].workers {
            worker.joined.remove(&server);
            worker.lost.insert(server, self.now);
            // Whatever was not confirmed will be said again.
            for (shard, read) in worker.asked.iter().filter(|(shard, _)| **shard % servers == server) {
                let pending = worker.pending.entry(server).or_default();
                pending.push_back((ShardId(*shard), Request::Read(read.clone())));
            }
        }
    }

    fn return_server(&mut self, (site, server): Server, empty: bool, is_new: bool) {
        if self.sites[site].process[usize::from(server)].is_some() {
            return;
        }
        let shards: Vec<u16> = (0..SHARDS).filter(|s| s % self.sites[site].servers == server).collect();
        if empty {
            shards.iter().for_each(|s| {
                self.sites[site].disk[usize::from(*s)].clear();
            });
        }
        // One that stands still is replaced.
        for process in 0..self.processes.len() {
            if self.processes[process].server == (site, server) && self.processes[process].is_frozen {
                self.is_replacing = true;
                self.account_for(site, process);
                self.is_replacing = false;
            }
        }
        let here = DatacenterId(site as u16);
        let peers: Vec<DatacenterId> =
            (0..self.sites.len()).filter(|s| *s != site).map(|s| DatacenterId(s as u16)).collect();
        self.lives += 1;
        let known = shards.iter().filter_map(|s| self.sites[site].disk[usize::from(*s)].back());
        let known = known.flat_map(|state| &state.origins).map(|origin| origin.life).max().unwrap_or(0);
        let life = match (self.plan.sabotage, site) {
            (Some(Sabotage::SameLife), _) => 1,
            // The clocks of its machines differ by more than processes live.
            (_, 1) => self.rng.random_range(1..1_000_000).max(known + 1),
            _ => self.rng.random_range(1..1000) + self.lives * 1_000_000,
        };
        let replicas = shards.iter().map(|&s| {
            let shapes = &self.shapes[usize::from(s)];
            let zeros = shapes.iter().map(|t| vec![0.0; t.elements()]).collect();
            let shard = Shard::new(ShardId(s), shapes, zeros, WORKERS as usize, self.plan.staleness);
            let replica = Replica::new(shard, &self.plan.policy, peers.iter().copied());
            match self.sites[site].disk[usize::from(s)].back().cloned() {
                Some(state) => replica.restored(state, here).expect("it is of this shard"),
                None if is_new => replica,
                None => replica.without_state(),
            }
        });
        let configs: Vec<_> = peers
            .iter()
            .map(|&id| PeerConfig { id, rate_bytes_per_sec: Some(1_000_000), window_bytes: None })
            .collect();
        let grace = match self.plan.sabotage {
            Some(Sabotage::NoGrace) => Grace {
                workers: Duration::from_secs(9999),
                server: Duration::from_secs(9999),
                datacenter: Duration::from_secs(9999),
            },
            _ => GRACE,
        };
        let node = Node::new(replicas.collect(), &configs, &self.plan.policy)
            .ending_at(Clock(self.plan.clocks))
            .in_life(life)
            .giving_up(grace);
        self.processes.push(Process {
            server: (site, server),
            node: Some(node),
            is_frozen: false,
            is_written_off: false,
            is_open: is_new,
            poll_at: None,
        });
        let process = self.processes.len() - 1;
        self.sites[site].process[usize::from(server)] = Some(process);
        self.dial_all(process);
        self.at(self.now, Event::Poll { process });
        if is_new {
            self.come_to(site, server);
        }
    }

    fn dial_all(&mut self, process: usize) {
        let site = self.processes[process].server.0;
        for other in 0..self.processes.len() {
            if self.processes[other].server.0 != site && self.processes[other].node.is_some() {
                self.after_delay(Event::Dial { one: process, other });
            }
        }
    }

    /// A process goes on, perhaps beside the one that has taken its place.
    fn thaw(&mut self, (site, server): Server) {
        let frozen = (0..self.processes.len())
            .find(|&p| self.processes[p].is_frozen && self.processes[p].server == (site, server));
        let Some(process) = frozen else { return };
        self.processes[process].is_frozen = false;
        let place = &mut self.sites[site].process[usize::from(server)];
        if place.is_none() {
            *place = Some(process);
            self.come_to(site, server);
        }
        self.dial_all(process);
        self.at(self.now, Event::Poll { process });
    }

    fn kill_datacenter(&mut self, site: usize) {
        for server in 0..self.sites[site].process.len() as u16 {
            self.kill((site, server));
        }
        for worker in 0..WORKERS as usize {
            let life = self.sites[site].workers[worker].life + 1;
            self.sites[site].workers[worker] = Worker { is_alive: false, life, ..Worker::new() };
        }
    }

    fn return_datacenter(&mut self, site: usize, is_new: bool) {
        let servers = self.sites[site].servers;
        self.sites[site].process.resize(usize::from(servers), None);
        for worker in &mut self.sites[site].workers {
            (worker.is_alive, worker.life) = (true, worker.life + 1);
        }
        for worker in 0..WORKERS as usize {
            let life = self.sites[site].workers[worker].life;
            self.after_step(Event::Step { site, worker, life });
        }
        (0..servers).for_each(|server| self.return_server((site, server), false, is_new));
    }

    fn leave(&mut self, site: usize) -> Result<(), String> {
        for worker in 0..WORKERS as usize {
            let life = self.sites[site].workers[worker].life + 1;
            self.sites[site].workers[worker] = Worker { is_alive: false, life, ..Worker::new() };
        }
        self.sites[site].has_left = true;
        for process in self.sites[site].process.clone().into_iter().flatten() {
            let now = self.start + self.now;
            let node = self.node(process).expect("it runs");
            let shards: Vec<ShardId> = node.replicas().iter().map(|r| r.shard().id()).collect();
            for (shard, worker) in shards.iter().flat_map(|s| (0..WORKERS).map(|w| (*s, WorkerId(w)))) {
                node.handle_request(shard, Request::Leave(worker), now).map_err(|e| e.to_string())?;
            }
            self.flush(process)?;
        }
        Ok(())
    }

    /// A datacenter that is to leave does so when everybody has all it had.
    fn leave_if_drained(&mut self, process: usize) {
        let (site, server) = self.processes[process].server;
        if !self.sites[site].has_left || !self.node(process).is_some_and(|node| node.is_drained()) {
            return;
        }
        self.processes[process].node = None;
        self.sites[site].process[usize::from(server)] = None;
        for other in 0..self.processes.len() {
            let pair = ordered(process, other);
            if let Some(link) = self.links.get_mut(&pair).filter(|link| link.is_up) {
                (link.is_up, link.generation) = (false, link.generation + 1);
                let place = self.peer_of(other, process);
                let is_for_good = self.departed.contains(&DatacenterId(site as u16));
                match self.node(other) {
                    Some(node) if is_for_good => node.handle_goodbye(place),
                    Some(node) => node.handle_left(place),
                    None => {}
                }
            }
        }
    }

    /// A process has been told that its datacenter has left for good, and ends.
    fn expel(&mut self, process: usize) {
        let server = self.processes[process].server;
        if self.processes[process].node.is_none() {
            return;
        }
        let place = &mut self.sites[server.0].process[usize::from(server.1)];
        *place = place.filter(|current| *current != process);
        self.bury(server, process);
    }

    // Links.

    fn dial(&mut self, one: usize, other: usize) -> Result<(), String> {
        let is_there = |p: usize| self.processes[p].node.is_some();
        if !is_there(one) || !is_there(other) || self.links.get(&ordered(one, other)).is_some_and(|l| l.is_up)
        {
            return Ok(());
        }
        let passes = self.passes(one, other) && self.passes(other, one);
        if !passes || self.processes[one].is_frozen || self.processes[other].is_frozen {
            self.at(self.now + REDIAL, Event::Dial { one, other });
            return Ok(());
        }
        if !self.share(one, other) {
            return Ok(());
        }
        for (from, to) in [(one, other), (other, one)] {
            let there = DatacenterId(self.processes[to].server.0 as u16);
            if self.node(from).is_some_and(|node| node.departed().any(|id| id == there)) {
                self.after_delay(Event::Expelled { process: to });
                return Ok(());
            }
        }
        let link = self.links.entry(ordered(one, other)).or_default();
        *link = Link { is_up: true, generation: link.generation + 1, greeted: [false; 2] };
        let generation = link.generation;
        for (from, to) in [(one, other), (other, one)] {
            let to_site = self.processes[to].server.0;
            let greeting = self.node(from).map(|node| node.greeting(DatacenterId(to_site as u16)));
            let mut greeting = greeting.expect("both are there");
            for resume in &mut greeting.resumes {
                match self.plan.sabotage {
                    Some(Sabotage::NoReturn) => resume.lost_after = resume.lost_after.map(|_| u32::MAX),
                    Some(Sabotage::ForgetFlushes) => resume.heard_clock = Clock(0),
                    _ => {}
                }
            }
            self.after_delay(Event::Hello { from, to, generation, greeting });
        }
        Ok(())
    }

    fn greet(&mut self, from: usize, to: usize, generation: u64, greeting: Greeting) -> Result<(), String> {
        if !self.is_current(from, to, generation) {
            return Ok(());
        }
        let now = self.start + self.now;
        let peer = self.peer_of(to, from);
        let node = self.node(to).expect("a link is up between nodes");
        node.handle_rtt(peer, Duration::from_millis(20));
        match node.handle_up(peer, &greeting, now) {
            Ok(()) => {
                let link = self.links.get_mut(&ordered(from, to)).expect("it is up");
                link.greeted[usize::from(to > from)] = true;
                self.flush(to)
            }
            Err(PeerError::NothingShared) => Ok(()),
            Err(PeerError::Departed(_)) => {
                self.expel(from);
                Ok(())
            }
            Err(PeerError::FormerLife | PeerError::HostedTwice { .. }) => {
                let superseded = node.is_superseded();
                self.refuse(from, to, superseded);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// `to` does not want to talk to `from`.
    fn refuse(&mut self, from: usize, to: usize, superseded: bool) {
        let generation = self.links[&ordered(from, to)].generation;
        self.at(self.now, Event::Down { at: from, peer: to, generation });
        if superseded {
            // It ends, and what it had in memory is lost.
            let server = self.processes[to].server;
            let (site, index) = server;
            if self.sites[site].process[usize::from(index)] == Some(to) {
                self.sites[site].process[usize::from(index)] = None;
            }
            self.bury(server, to);
            return;
        }
        self.at(self.now + REDIAL, Event::Dial { one: from, other: to });
    }

    /// Whether two processes host a shard that is the same.
    fn share(&self, one: usize, other: usize) -> bool {
        let hosted = |process: usize| {
            let node = self.processes[process].node.iter();
            node.flat_map(|node| node.replicas()).map(|r| r.shard().id()).collect::<BTreeSet<_>>()
        };
        !hosted(one).is_disjoint(&hosted(other))
    }

    fn is_linked(&self, process: usize, server: Server) -> bool {
        let others = (0..self.processes.len()).filter(|other| self.processes[*other].server == server);
        others.map(|other| ordered(process, other)).any(|pair| self.links.get(&pair).is_some_and(|l| l.is_up))
    }

    fn break_links(&mut self, process: usize) {
        for other in 0..self.processes.len() {
            self.break_link(process, other);
        }
    }

    fn break_between(&mut self, one: usize, other: usize) {
        for a in 0..self.processes.len() {
            for b in 0..self.processes.len() {
                if (self.processes[a].server.0, self.processes[b].server.0) == (one, other) {
                    self.break_link(a, b);
                }
            }
        }
    }

    /// Nothing passes any more on this connection; its ends notice that later, and try again.
    fn break_link(&mut self, one: usize, other: usize) {
        if let Some(link) = self.links.get_mut(&ordered(one, other)).filter(|link| link.is_up) {
            // What is on its way is lost at once.
            link.generation += 1;
            let generation = link.generation;
            let notice = NOTICE.mul_f64(self.rng.random_range(0.1..1.0));
            self.at(self.now + notice, Event::Down { at: one, peer: other, generation });
            self.at(self.now + notice + REDIAL, Event::Dial { one, other });
        }
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(self.processes[from].server.0, self.processes[to].server.0))
    }

    fn is_current(&self, from: usize, to: usize, generation: u64) -> bool {
        let link = self.links.get(&ordered(from, to)).copied().unwrap_or_default();
        link.is_up && link.generation == generation && !self.processes[to].is_frozen
    }

    fn peer_of(&mut self, here: usize, there: usize) -> usize {
        let (site, index) = self.processes[there].server;
        let id = ServerId { datacenter: DatacenterId(site as u16), index };
        self.node(here).and_then(|node| node.peer(id)).unwrap_or(0)
    }

    fn node(&mut self, process: usize) -> Option<&mut Node> {
        self.processes[process].node.as_mut()
    }

    /// Sends what a node has to send.
    fn flush(&mut self, process: usize) -> Result<(), String> {
        if self.processes[process].is_frozen || self.processes[process].node.is_none() {
            return Ok(());
        }
        let now = self.start + self.now;
        let (site, server) = self.processes[process].server;
        self.tell_departed(process);
        let node = self.node(process).expect("it is there");
        node.judge(now);
        while let Some(reply) = self.node(process).and_then(|node| node.poll_reply(now)) {
            self.answered(site, reply)?;
        }
        for peer in 0..self.node(process).map_or(0, |node| node.peers().len()) {
            let id = self.node(process).and_then(|node| node.peers().nth(peer)).expect("counted");
            let to = (0..self.processes.len()).find(|&to_be| {
                let link = self.links.get(&ordered(process, to_be)).copied().unwrap_or_default();
                let other = &self.processes[to_be];
                link.is_up
                    && link.greeted[usize::from(process > to_be)]
                    && other.node.is_some()
                    && other.server == (id.datacenter.index(), id.index)
            });
            let Some(to) = to else { continue };
            let generation = self.links[&ordered(process, to)].generation;
            while let Some(Outgoing { update, bytes, .. }) =
                self.node(process).and_then(|node| node.poll_update(peer))
            {
                let update =
                    Event::Update { from: process, to, generation, update: (*update).clone(), bytes };
                if self.rng.random_bool(0.05) {
                    self.after_delay(update.clone());
                }
                self.after_delay(update);
            }
            let controls = self.node(process).expect("it is there").poll_control(peer, now);
            if !controls.is_empty() {
                self.after_delay(Event::Control { from: process, to, generation, controls });
            }
        }
        self.save(process);
        if !self.processes[process].is_open && self.node(process).is_some_and(|node| node.is_oriented()) {
            self.processes[process].is_open = true;
            self.come_to(site, server);
        }
        self.leave_if_drained(process);
        self.schedule_poll(process);
        Ok(())
    }

    /// Ends the links with those who have left for good.
    fn tell_departed(&mut self, process: usize) {
        for other in 0..self.processes.len() {
            let is_linked = self.links.get(&ordered(process, other)).is_some_and(|link| link.is_up);
            if !is_linked || self.processes[other].node.is_none() {
                continue;
            }
            let place = self.peer_of(process, other);
            if self.node(process).is_some_and(|node| node.peers().len() > place && node.is_departed(place)) {
                self.after_delay(Event::Expelled { process: other });
            }
        }
    }

    fn schedule_poll(&mut self, process: usize) {
        let now = self.start + self.now;
        let Some(node) = self.processes[process].node.as_ref() else { return };
        let of_links = (0..node.peers().len()).filter_map(|peer| node.poll_timeout(peer)).min();
        let Some(at) = of_links.into_iter().chain(node.poll_judgement(now)).min() else { return };
        let at = at.saturating_duration_since(self.start).max(self.now + Duration::from_millis(1));
        if self.processes[process].poll_at.is_none_or(|known| at < known || known <= self.now) {
            self.processes[process].poll_at = Some(at);
            self.at(at, Event::Poll { process });
        }
    }

    /// Makes checkpoints of shards whose clock is due.
    fn save(&mut self, process: usize) {
        let (site, _) = self.processes[process].server;
        let (every, here) = (self.plan.checkpoint_every, DatacenterId(site as u16));
        let Some(node) = self.processes[process].node.as_ref() else { return };
        for replica in node.replicas() {
            let (id, clock) = (replica.shard().id(), replica.shard().clock());
            let disk = &mut self.sites[site].disk[id.index()];
            let is_due = disk.back().map_or(Clock(0), |last| last.clock).0 + every <= clock.0;
            if is_due && replica.is_whole() {
                disk.push_back(replica.state(here));
                if disk.len() > 2 {
                    disk.pop_front();
                }
            }
        }
    }

    // Workers.

    fn kill_worker(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let life = self.sites[site].workers[worker].life + 1;
        self.sites[site].workers[worker] = Worker { is_alive: false, life, ..Worker::new() };
        if self.plan.sabotage == Some(Sabotage::NoGrace) {
            return Ok(());
        }
        // Whoever watches the connections suspends it after the time of grace.
        self.at(self.now + GRACE.workers, Event::Suspend { site, worker, life });
        Ok(())
    }

    fn suspend(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let now = self.start + self.now;
        for process in self.sites[site].process.clone().into_iter().flatten() {
            if let Some(node) = self.node(process) {
                node.suspend(WorkerId(worker as u32), now);
                self.flush(process)?;
            }
        }
        Ok(())
    }

    /// Workers that cannot go on without one server leave the others, so that nobody waits for them.
    fn leave_servers(&mut self, site: usize) -> Result<(), String> {
        for worker in 0..self.sites[site].workers.len() {
            for server in std::mem::take(&mut self.sites[site].workers[worker].joined) {
                let Some(process) = self.open_process(site, server) else { continue };
                let servers = self.sites[site].servers;
                for shard in (0..SHARDS).filter(|shard| shard % servers == server) {
                    self.say(process, ShardId(shard), Request::Leave(WorkerId(worker as u32)))?;
                    let here = &mut self.sites[site].workers[worker];
                    if let Some(read) = here.asked.get(&shard).cloned() {
                        let pending = here.pending.entry(server).or_default();
                        pending.push_back((ShardId(shard), Request::Read(read)));
                    }
                }
                self.flush(process)?;
            }
        }
        Ok(())
    }

    fn return_worker(&mut self, site: usize, worker: usize) {
        self.sites[site].workers[worker].is_alive = true;
        let life = self.sites[site].workers[worker].life;
        self.after_step(Event::Step { site, worker, life });
    }

    /// A server is there for the workers of its datacenter.
    fn come_to(&mut self, site: usize, server: u16) {
        for worker in 0..self.sites[site].workers.len() {
            if self.sites[site].workers[worker].is_alive {
                let life = self.sites[site].workers[worker].life;
                self.after_delay(Event::Step { site, worker, life });
            }
        }
        let _ = server;
    }

    fn open_process(&self, site: usize, server: u16) -> Option<usize> {
        let process = *self.sites[site].process.get(usize::from(server))?.as_ref()?;
        (self.processes[process].is_open && !self.processes[process].is_frozen).then_some(process)
    }

    /// One worker's turn: it says what it has to say, and if it waits for nothing, ends its clock.
    fn step(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let id = WorkerId(worker as u32);
        for server in 0..self.sites[site].servers {
            let Some(process) = self.open_process(site, server) else { continue };
            let servers = self.sites[site].servers;
            let here = &mut self.sites[site].workers[worker];
            let mut requests = here.pending.remove(&server).unwrap_or_default();
            if !here.joined.contains(&server)
                && let Some(&lost) = here.lost.get(&server).filter(|_| self.plan.staleness == Some(0))
            {
                // The word that the last flush was taken may not have come.
                let shards = here.last.iter().filter(|(s, _)| **s % servers == server);
                let unconfirmed = shards.filter(|(_, (said, _))| lost.saturating_sub(*said) < CONFIRMED);
                let again = unconfirmed.map(|(s, (_, flush))| (ShardId(*s), Request::Flush(flush.clone())));
                let again: Vec<_> = again.collect();
                again.into_iter().rev().for_each(|request| requests.push_front(request));
            }
            let mut reads = Vec::new();
            for (shard, request) in requests {
                match request {
                    Request::Read(read) => reads.push((shard, read)),
                    request => self.say(process, shard, request)?,
                }
            }
            if !self.sites[site].workers[worker].is_done
                && self.sites[site].workers[worker].joined.insert(server)
            {
                self.join_all(site, worker)?;
            }
            for (shard, read) in reads {
                self.say(process, shard, Request::Read(read))?;
            }
            self.flush(process)?;
        }
        let here = &self.sites[site].workers[worker];
        let all_joined = (0..self.sites[site].servers).all(|server| here.joined.contains(&server));
        if here.is_done || !here.asked.is_empty() || !all_joined {
            return Ok(());
        }
        self.sites[site].workers[worker].clock += 1;
        self.progress_at = self.now;
        let clock = Clock(self.sites[site].workers[worker].clock);
        let is_done = clock.0 >= self.plan.clocks;
        for shard in (0..SHARDS).map(ShardId) {
            let deltas = self.random_deltas(shard);
            self.account.make(site, shard, &deltas);
            let flush = Flush { worker: id, clock, deltas };
            self.sites[site].workers[worker].last.insert(shard.0, (self.now, flush.clone()));
            self.send(site, worker, shard, Request::Flush(flush))?;
            if is_done {
                self.send(site, worker, shard, Request::Leave(id))?;
            } else {
                let read = Read { worker: id, clock, groups: self.random_rows(shard) };
                self.sites[site].workers[worker].asked.insert(shard.0, read);
            }
        }
        self.sites[site].workers[worker].is_done = is_done;
        for (shard, read) in self.sites[site].workers[worker].asked.clone() {
            self.send(site, worker, ShardId(shard), Request::Read(read))?;
        }
        for server in 0..self.sites[site].servers {
            if let Some(process) = self.open_process(site, server) {
                self.flush(process)?;
            }
        }
        Ok(())
    }

    /// A worker counts as equally far at all servers that it has joined.
    fn join_all(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let now = self.start + self.now;
        loop {
            let clock = self.sites[site].workers[worker].clock;
            let mut latest = clock;
            for server in self.sites[site].workers[worker].joined.clone() {
                let Some(process) = self.open_process(site, server) else { continue };
                let node = self.node(process).expect("it is there");
                let joined = node.join(WorkerId(worker as u32), Clock(clock), now);
                latest = joined.iter().map(|(_, clock)| clock.0).max().unwrap_or(0).max(latest);
                self.flush(process)?;
            }
            if latest == clock {
                return Ok(());
            }
            self.sites[site].workers[worker].clock = latest;
        }
    }

    /// Says something to the server of a shard, or keeps it until that is there.
    fn send(&mut self, site: usize, worker: usize, shard: ShardId, request: Request) -> Result<(), String> {
        let server = shard.0 % self.sites[site].servers;
        match self.open_process(site, server) {
            Some(process) => self.say(process, shard, request),
            None => {
                let pending = self.sites[site].workers[worker].pending.entry(server).or_default();
                pending.push_back((shard, request));
                Ok(())
            }
        }
    }

    fn say(&mut self, process: usize, shard: ShardId, request: Request) -> Result<(), String> {
        let now = self.start + self.now;
        let site = self.processes[process].server.0;
        let node = self.node(process).expect("it is there");
        if let Request::Flush(flush) = &request {
            let known = node.replicas().iter().find(|r| r.shard().id() == shard);
            let is_new = known.and_then(|r| r.shard().flushed(flush.worker)) < Some(flush.clock);
            if is_new {
                self.account.take(site, shard, flush);
            }
        }
        let node = self.node(process).expect("it is there");
        let reply = node.handle_request(shard, request, now).map_err(|e| e.to_string())?;
        reply.map_or(Ok(()), |reply| self.answered(site, reply))
    }

    fn answered(&mut self, site: usize, reply: ReadReply) -> Result<(), String> {
        self.outcome.reads += 1;
        if self.plan.scenario.bystanders.contains(&site) {
            let remote = reply.held.iter().filter(|(why, _)| !matches!(why, Wait::Stale));
            let longest = remote.map(|(_, time)| *time).max().unwrap_or_default();
            self.outcome.longest_hold = self.outcome.longest_hold.max(longest);
            // The grace, two round trips, and a step of whoever is waited for.
            let bound = GRACE.datacenter * self.plan.scenario.graces
                + 4 * self.plan.max_delay
                + 3 * self.plan.max_step
                + 2 * REDIAL
                + NOTICE;
            if longest > bound {
                let held = &reply.held;
                return Err(format!("law 5: a read was held for {longest:?}, {bound:?} allowed: {held:?}"));
            }
        }
        let here = &mut self.sites[site].workers[reply.worker.index()];
        if here.asked.remove(&reply.shard.0).is_none() {
            // Asked again, and answered twice.
            return Ok(());
        }
        here.clock = here.clock.max(reply.clock.0.min(self.plan.clocks - 1));
        if here.asked.is_empty() {
            let (worker, life) = (reply.worker.index(), here.life);
            self.after_step(Event::Step { site, worker, life });
        }
        Ok(())
    }

    fn random_deltas(&mut self, shard: ShardId) -> Vec<Elements> {
        let mut deltas = Vec::new();
        for (t, shape) in (0..).zip(&self.shapes[shard.index()]) {
            let mut delta = Elements::new(TableId(t));
            for index in 0..shape.elements() as u32 {
                if self.rng.random_bool(0.3) {
                    delta.push(index, f32::from(self.rng.random_range(1u8..4)));
                }
            }
            deltas.push(delta);
        }
        deltas.retain(|d| !d.is_empty());
        deltas
    }

    fn random_rows(&mut self, shard: ShardId) -> Vec<RowGroup> {
        let tables = (0..).map(TableId).zip(&self.shapes[shard.index()]);
        let rng = &mut self.rng;
        let groups = tables.map(|(table, shape)| RowGroup {
            table,
            since: 0,
            slots: (0..shape.slots).filter(|_| rng.random_bool(0.3)).collect(),
        });
        groups.collect()
    }

    // The end.

    fn is_settled(&self) -> bool {
        let running = || self.processes.iter().filter(|p| !p.is_frozen && p.node.is_some());
        let sites: BTreeSet<usize> = running().map(|p| p.server.0).collect();
        // Who is there must have found each other again.
        let is_settled = |p: &Process| {
            let node = p.node.as_ref().expect("it runs");
            let mirrors = || (0..).zip(node.datacenters()).filter(|(_, id)| sites.contains(&id.index()));
            node.is_settled()
                && node.replicas().iter().all(|replica| mirrors().all(|(at, _)| !replica.is_gone(at)))
        };
        !sites.is_empty() && running().all(is_settled)
    }

    fn check_end(&self) -> Result<(), String> {
        for node in self.processes.iter().filter(|p| !p.is_frozen).filter_map(|p| p.node.as_ref()) {
            let departed: BTreeSet<_> = node.departed().collect();
            if departed != self.departed {
                return Err(format!(
                    "{departed:?} are known to have left for good, and not {:?}",
                    self.departed
                ));
            }
            let is_open = |r: &Replica| {
                (0..).zip(node.datacenters()).any(|(at, id)| {
                    let outbox = r.outbox(at);
                    departed.contains(&id)
                        && (outbox.is_open() || outbox.waiting_bytes() + outbox.in_flight_bytes() > 0)
                })
            };
            if let Some(replica) = node.replicas().iter().find(|r| is_open(r)) {
                return Err(format!("{} keeps something for who has left for good", replica.shard().id()));
            }
            if let Some(replica) = node.replicas().iter().find(|r| !departed.is_empty() && !r.is_whole()) {
                return Err(format!("{} still waits for what it may have lost", replica.shard().id()));
            }
        }
        for shard in (0..SHARDS).map(ShardId) {
            let running = self.processes.iter().filter(|p| !p.is_frozen).filter_map(|p| {
                let node = p.node.as_ref()?;
                let replica = node.replicas().iter().find(|r| r.shard().id() == shard)?;
                Some((p.server.0, replica))
            });
            let running: Vec<_> = running.collect();
            for t in 0..self.shapes[shard.index()].len() as u16 {
                let (_, first) = running[0];
                for (site, replica) in &running {
                    let parts = replica.ledgers();
                    let mut sums = parts.own.sums(TableId(t)).to_vec();
                    for (_, ledger) in &parts.mirrors {
                        sums.iter_mut().zip(ledger.sums(TableId(t))).for_each(|(sum, part)| *sum += part);
                    }
                    if replica.shard().values(TableId(t)) != sums {
                        return Err(format!(
                            "the values of {shard} at {site} are not the sum of their parts"
                        ));
                    }
                    let own = DatacenterId(*site as u16);
                    for (other, there) in &running {
                        let theirs = there.ledgers().mirrors.iter().find(|(id, _)| *id == own);
                        if theirs.is_some_and(|(_, l)| l.sums(TableId(t)) != parts.own.sums(TableId(t))) {
                            return Err(format!(
                                "{other} differs from {site} in what {site} has released of {shard}"
                            ));
                        }
                    }
                    if replica.shard().values(TableId(t)) != first.shard().values(TableId(t)) {
                        let of = |replica: &Replica, id: DatacenterId| {
                            let ledgers = replica.ledgers();
                            let mirror = ledgers.mirrors.iter().find(|(of, _)| *of == id);
                            mirror.map_or(&ledgers.own, |(_, ledger)| ledger).clone()
                        };
                        let parts = (0..self.sites.len() as u16).map(DatacenterId).filter(|id| {
                            of(first, *id).sums(TableId(t)) != of(replica, *id).sums(TableId(t))
                        });
                        return Err(format!(
                            "law 1: datacenters {} and {site} differ in table {t} of {shard}, in what {:?} has released",
                            running[0].0,
                            parts.collect::<Vec<_>>()
                        ));
                    }
                }
                let parts = first.ledgers();
                let of: Vec<_> =
                    parts.mirrors.iter().map(|(id, l)| (id.index(), l.sums(TableId(t)))).collect();
                let checked = self.account.check(shard, TableId(t), first.shard().values(TableId(t)));
                checked.map_err(|error| {
                    let at: usize = error.split(' ').nth(3).and_then(|n| n.parse().ok()).unwrap_or(0);
                    let own = (running[0].0, parts.own.sums(TableId(t)));
                    let sums: BTreeMap<_, _> = of.iter().chain([&own]).map(|(s, v)| (*s, v[at])).collect();
                    format!("{error}; found {sums:?}")
                })?;
            }
        }
        Ok(())
    }

    /// What a replica has is what it began with, all that was released, and what is held back.
    fn check_sums(&self) -> Result<(), String> {
        for process in &self.processes {
            let site = process.server.0;
            for replica in process.node.iter().flat_map(|node| node.replicas()) {
                let state = replica.state(DatacenterId(site as u16));
                for (t, values) in state.values.iter().enumerate() {
                    let mut sums = vec![0.0; values.len()];
                    for origin in &state.origins {
                        sums.iter_mut().zip(&origin.tables[t].sums).for_each(|(sum, part)| *sum += part);
                    }
                    for held in state.remainders.iter().filter(|held| held.table.index() == t) {
                        held.indexes.iter().zip(&held.values).for_each(|(i, v)| sums[*i as usize] += v);
                    }
                    if *values != sums {
                        let at = values.iter().zip(&sums).position(|(v, s)| v != s).unwrap_or(0);
                        return Err(format!(
                            "{} at {:?} is not the sum of its parts: {} is {} and not {}",
                            state.shard, process.server, at, values[at], sums[at]
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn why(&self) -> String {
        let processes = self.processes.iter().filter_map(|p| Some((p, p.node.as_ref()?)));
        let each = processes.map(|(p, node)| {
            let replicas = node.replicas().iter().map(|r| {
                let mirrors: Vec<_> = (0..node.datacenters().len())
                    .map(|m| {
                        (
                            r.inbox(m).arrived_clock().0,
                            r.inbox(m).arrived_count(),
                            r.is_gone(m),
                            r.outbox(m).is_drained(),
                            r.outbox(m).progress(),
                        )
                    })
                    .collect();
                let waiting: Vec<_> = r.shard().waiting().map(|(w, why)| (w.0, why)).collect();
                let live: Vec<_> = r.shard().live_workers().map(|(w, c)| (w.0, c.0)).collect();
                format!(
                    "{} at {} live {live:?} waiting {waiting:?} mirrors {mirrors:?}",
                    r.shard().id(),
                    r.shard().clock().0
                )
            });
            let replicas: Vec<_> = replicas.collect();
            format!("\n{:?} open {} frozen {}: {}", p.server, p.is_open, p.is_frozen, replicas.join("; "))
        });
        let workers = self.sites.iter().enumerate().map(|(s, site)| {
            let each =
                site.workers.iter().map(|w| (w.is_alive, w.clock, w.is_done, w.asked.len(), &w.joined));
            format!("\nworkers of {s}: {:?}", each.collect::<Vec<_>>())
        });
        let links = self
            .links
            .iter()
            .filter(|((a, b), _)| self.processes[*a].node.is_some() && self.processes[*b].node.is_some());
        let links = links.map(|((a, b), link)| {
            format!("\n{:?} {:?} {link:?}", self.processes[*a].server, self.processes[*b].server)
        });
        each.chain(workers).chain(links).collect()
    }

    fn after_delay(&mut self, event: Event) {
        let delay = self.plan.max_delay.mul_f64(self.rng.random_range(0.05..1.0));
        self.at(self.now + delay, event);
    }

    fn after_step(&mut self, event: Event) {
        let delay = self.plan.max_step.mul_f64(self.rng.random_range(0.3..1.0));
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.events.insert(self.sequence, event);
    }
}

impl Worker {
    fn new() -> Self {
        Self {
            is_alive: true,
            life: 0,
            clock: 0,
            is_done: false,
            pending: BTreeMap::new(),
            joined: BTreeSet::new(),
            asked: BTreeMap::new(),
            last: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
fn start() -> Instant {
    Instant::now()
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
