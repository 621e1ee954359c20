//! Datacenters of several servers, pure nodes all of them, to which the faults of a scenario
//! happen.
//!
//! Links and workers are as simple as can be: a message takes a random time, and none is lost on a
//! connection that stays; a connection ends some time after either end has died or the way is cut.
//! What a worker has said to a server that is not there it says again when that is back.

mod checks;
mod disks;
mod links;
mod servers;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use datacenter::{DatacenterId, Placement, ShardId, ShardTable, shard_tables};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wan::node::Grace;
use wan::policy::{Policy, Selection, ValueFormat};
use wan::state::ReplicaState;

use self::links::{Frame, Link};
use self::servers::Process;
use self::workers::Worker;
use super::account::Account;
use super::random;
use super::scenario::{Fault, SLOW, Scenario, When};
use crate::mesh::{random_policy, table_specs};
use crate::queue::Queue;

/// The same policy, shipping values as they are.
fn unrounded(mut policy: Policy) -> Policy {
    if let Selection::Significant { filters, .. } = &mut policy.selection {
        filters.iter_mut().for_each(|filter| filter.values = ValueFormat::F32);
    }
    policy
}

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
    /// Where it happens, and to whom it does not.
    pub scenario: Scenario,
    /// What happens.
    pub story: Vec<(When, Fault)>,
    /// Datacenters to which nothing happens, and that must not wait for longer than the grace, and
    /// two round trips.
    pub bystanders: Vec<usize>,
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
    /// How long it takes at most until it is there.
    pub max_write: Duration,
    /// The mechanism to take out, if any.
    pub sabotage: Option<Sabotage>,
}

impl Plan {
    /// A random plan of `scenario`.
    pub fn random(scenario: &Scenario, rng: &mut impl RngExt) -> Self {
        Self {
            scenario: scenario.clone(),
            story: scenario.story.to_vec(),
            bystanders: scenario.bystanders.to_vec(),
            clocks: rng.random_range(60..200),
            // What rounding leaves over may be lost with a server that is killed.
            policy: unrounded(random_policy(rng, table_specs().len())),
            staleness: [Some(0), Some(0), Some(2)][rng.random_range(0..3)],
            max_delay: Duration::from_millis(rng.random_range(2..40)),
            max_step: Duration::from_millis(rng.random_range(10..60)),
            checkpoint_every: rng.random_range(1..15),
            max_write: scenario
                .max_write
                .unwrap_or_else(|| Duration::from_millis([1, 40, 300][rng.random_range(0..3)])),
            sabotage: None,
        }
    }

    /// A random plan with a random story.
    pub fn of_random_faults(rng: &mut impl RngExt) -> Self {
        let (datacenters, servers) = (rng.random_range(2..5), rng.random_range(1..3));
        let scenario = Scenario::of(datacenters, servers, "random faults");
        let (story, bystanders, graces) = random::story(&scenario, rng);
        let scenario = Scenario { graces, ..scenario };
        let mut plan = Self { story, bystanders, ..Self::random(&scenario, rng) };
        plan.scenario.transfer_bytes_per_sec =
            [None, None, Some(10 * SLOW), Some(100 * SLOW)][rng.random_range(0..4)];
        plan
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
    queue: Queue<Event>,
    sites: Vec<Site>,
    /// Server processes, dead ones too.
    processes: Vec<Process>,
    /// Those to which something has happened since their sums were checked.
    touched: BTreeSet<usize>,
    /// By pair of processes.
    links: BTreeMap<(usize, usize), Link>,
    cuts: BTreeSet<(usize, usize)>,
    shapes: Vec<Vec<ShardTable>>,
    account: Account,
    story: VecDeque<(When, Fault)>,
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
    is_disk_full: bool,
    has_left: bool,
    /// By how much the clocks of its machines are ahead.
    clock_ahead_minutes: i64,
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
    /// Something comes on the connection of this number between two processes.
    Frame {
        from: usize,
        to: usize,
        number: u64,
        frame: Frame,
    },
    Dial {
        one: usize,
        other: usize,
    },
    /// An end notices that the connection is no more.
    Down {
        at: usize,
        peer: usize,
        number: u64,
    },
    Poll {
        process: usize,
    },
    /// A process hears that its datacenter has left for good.
    Expelled {
        process: usize,
    },
    /// A process has been there for its workers for as long as it waits for them.
    Absent {
        process: usize,
    },
    /// The checkpoint is there that a process has been writing.
    Written {
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
        let site = |site: usize| Site {
            servers: plan.scenario.servers,
            process: Vec::new(),
            workers: (0..WORKERS).map(|_| Worker::new()).collect(),
            disk: vec![VecDeque::new(); usize::from(SHARDS)],
            is_disk_full: false,
            has_left: false,
            clock_ahead_minutes: plan.scenario.clocks.get(site).copied().unwrap_or(0),
        };
        let mut cluster = Self {
            sites: (0..plan.scenario.datacenters).map(site).collect(),
            story: plan.story.iter().copied().collect(),
            account: Account::new(plan.scenario.datacenters, &shapes),
            shapes,
            rng: ChaCha8Rng::seed_from_u64(seed),
            start: start(),
            now: Duration::ZERO,
            queue: Queue::default(),
            processes: Vec::new(),
            touched: BTreeSet::new(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
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
            let Some((at, event)) = self.queue.pop() else {
                return Err("law 5: nothing happens any more".into());
            };
            self.now = at;
            if self.now > self.progress_at + Duration::from_secs(30) {
                return Err(format!("law 5: no progress since {:?}: {}", self.progress_at, self.why()));
            }
            let what = event.clone();
            self.handle(event)?;
            let checked = self.check_donors().and_then(|()| self.check_sums());
            checked.map_err(|e| format!("{e} after {what:?}"))?;
        }
        self.check_end()?;
        (self.outcome.took, self.outcome.lost_elements) = (self.now, self.account.lost_elements);
        Ok(self.outcome)
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Step { site, worker, life } if self.sites[site].workers[worker].life == life => {
                self.step(site, worker)?;
            }
            Event::Suspend { site, worker, life } if self.sites[site].workers[worker].life == life => {
                self.suspend(site, worker)?;
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
            Event::Frame { from, to, number, frame } => self.arrive(from, to, number, frame)?,
            Event::Expelled { process } => self.expel(process),
            Event::Absent { process } => self.suspend_absent(process)?,
            Event::Written { process } => self.written(process),
            Event::Dial { one, other } => self.dial(one, other),
            Event::Down { at, peer, number } => self.down(at, peer, number),
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
            Fault::Freeze(server) => self.freeze(server),
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
            Fault::ReturnWorker(site, worker) => self.return_worker(site, worker as usize)?,
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
            Fault::Break(one, other) => self.break_between(one, other),
            Fault::Garble(from, to) => self.garble(from, to),
            Fault::FillDisk(site) => self.sites[site].is_disk_full = true,
            Fault::FreeDisk(site) => self.sites[site].is_disk_full = false,
            Fault::SetClock(site, minutes) => self.sites[site].clock_ahead_minutes = minutes,
            Fault::Reshard(site, servers) => self.sites[site].servers = servers,
        }
        Ok(())
    }

    fn random_delay(&mut self) -> Duration {
        self.plan.max_delay.mul_f64(self.rng.random_range(0.05..1.0))
    }

    fn after_delay(&mut self, event: Event) {
        let delay = self.random_delay();
        self.at(self.now + delay, event);
    }

    fn after_step(&mut self, event: Event) {
        let delay = self.plan.max_step.mul_f64(self.rng.random_range(0.3..1.0));
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.queue.push(at, event);
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
fn start() -> Instant {
    Instant::now()
}
