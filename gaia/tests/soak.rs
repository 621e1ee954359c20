//! Three regions of real processes to which something happens every few seconds, for as long as
//! `GAIA_SOAK_SECONDS` says.
//!
//! Nobody may stand still, whoever was started again must come back, memory must not grow, and in
//! the end, when all has been put right and the job has come to its end, replicas must be equal,
//! and have learned what they learn without faults. `GAIA_SOAK_SEED` tells the same [`story`]
//! again, though not at the same clocks.

mod common;
#[path = "soak/fault_schedule.rs"]
mod fault_schedule;
#[path = "soak/memory.rs"]
mod memory;
#[path = "soak/progress.rs"]
mod progress;

use std::panic::catch_unwind;
use std::time::Duration;

use common::{
    CLOCK, ONE_AT_A_TIME, ROUNDING, assert_near, assert_within, is_truthful, logs, outputs, plan, simulated,
    statuses,
};
use fault_schedule::{Event, Fault, REGIONS, Target};
use gaia::program::local_cluster::{LocalCluster, Plan};
use gaia::service::Part;
use gaia::service::status::Phase;
use gaia::service::status::fetch::{Fetched, fetch};
use memory::Memory;
use progress::Progress;
use rand::RngExt;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long faults go on where nothing is said: a taste, for `cargo test`.
const SECONDS: u64 = 30;
/// Whoever does not move, or come back, for that long while nothing is done to its region hangs.
const HANG: Duration = Duration::from_secs(60);
/// How often everybody is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is told how far the slowest is, once nothing happens any more.
const TELL: Duration = Duration::from_secs(60);
/// What a process may have late over what it had early: allocators keep what bursts have needed.
const GROWTH_BYTES: u64 = 8 << 20;
/// What no process of this job needs, which is 20 MiB.
const PEAK_BYTES: u64 = 64 << 20;

/// As in `recovery.rs`: shorter than an operator would have it.
const SETTINGS: [(&str, &str); 7] = [
    ("grace.worker", "15 s"),
    ("grace.server", "3 s"),
    ("grace.datacenter", "4 s"),
    ("drain", "20 s"),
    ("at_end", "stay"),
    ("checkpoint.every_clocks", "10"),
    ("job.evaluate_every", "10"),
];

/// What a process is doing, as far as this test knows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Standing {
    Up,
    /// Killed, or stopped.
    Down {
        until: Instant,
    },
    Frozen {
        until: Instant,
    },
    /// It was asked to stop.
    Stopping {
        since: Instant,
        then_down: Duration,
    },
    /// It was started again or thawed, and has not been seen training since.
    Returning {
        undisturbed: Duration,
    },
}

struct Soak {
    seed: u64,
    plan: Plan,
    directory: Option<TempDir>,
    cluster: LocalCluster,
    clocks: u32,
    started: Instant,
    /// By the place of the process.
    standings: Vec<Standing>,
    /// When each was started.
    births: Vec<Instant>,
    cuts: Vec<(&'static str, &'static str, Instant)>,
    progress: Progress,
    memory: Memory,
    last: Vec<Fetched>,
    told: Vec<String>,
    ended_with_an_error: u32,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as GAIA_SOAK_SECONDS says, and half as much again"]
async fn whatever_happens_nothing_is_lost() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no whole number")))
    };
    let seconds = number("GAIA_SOAK_SECONDS").unwrap_or(SECONDS);
    let seed = number("GAIA_SOAK_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    println!("GAIA_SOAK_SECONDS={seconds} GAIA_SOAK_SEED={seed}");
    let length = Duration::from_secs(seconds);
    let mut soak = Soak::start(seed, length);
    soak.until("begin", |soak| soak.progress.slowest() >= 5).await;
    soak.suffer(fault_schedule::story(seed, length), length).await;
    soak.until("end", |soak| soak.all_have_finished()).await;
    soak.judge().await;
}

impl Soak {
    fn start(seed: u64, length: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // No clock is shorter, so that the job cannot be done before the faults are.
        let clocks = 5 + u32::try_from(length.as_millis() / CLOCK.as_millis()).unwrap();
        let (text, checkpoints) =
            (clocks.to_string(), directory.path().join("checkpoints").display().to_string());
        let own = [("job.clocks", text.as_str()), ("checkpoint.location", checkpoints.as_str())];
        let plan = plan(directory.path(), &[&own[..], &SETTINGS[..]].concat());
        let cluster = LocalCluster::start(&plan).unwrap();
        let (started, count) = (Instant::now(), cluster.processes.len());
        Self {
            seed,
            plan,
            directory: Some(directory),
            cluster,
            clocks,
            started,
            standings: vec![Standing::Returning { undisturbed: Duration::ZERO }; count],
            births: vec![started; count],
            cuts: Vec::new(),
            progress: Progress::new(),
            memory: Memory::default(),
            last: Vec::new(),
            told: Vec::new(),
            ended_with_an_error: 0,
        }
    }

    fn tell(&mut self, what: &str) {
        let line = format!(
            "{:6.1} s, clock {:4}: {what}",
            self.started.elapsed().as_secs_f64(),
            self.progress.slowest()
        );
        println!("{line}");
        self.told.push(line);
    }

    fn name(&self, at: usize) -> String {
        let process = &self.cluster.processes[at];
        format!("{} of {}", process.part.role(), process.region)
    }

    fn all_have_finished(&self) -> bool {
        let is_finished = |f: &Fetched| f.status.as_ref().is_ok_and(|status| status.phase == Phase::Finished);
        self.last.len() == self.standings.len() && self.last.iter().all(is_finished)
    }

    /// Makes the faults happen, and puts all right when the time is over.
    async fn suffer(&mut self, story: Vec<Event>, length: Duration) {
        let begun = Instant::now();
        let mut looked = begun;
        for event in story {
            while begun.elapsed() < event.at.min(length) {
                self.step(&mut looked).await;
            }
            self.strike(event);
        }
        while begun.elapsed() < length {
            self.step(&mut looked).await;
        }
        self.tell("no more faults");
        let now = Instant::now();
        for standing in &mut self.standings {
            match standing {
                Standing::Down { until } | Standing::Frozen { until } => *until = now,
                Standing::Stopping { then_down, .. } => *then_down = Duration::ZERO,
                Standing::Up | Standing::Returning { .. } => {}
            }
        }
        self.cuts.iter_mut().for_each(|(_, _, until)| *until = now);
    }

    /// Goes on without further faults until `done` says so.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let (mut looked, mut told) = (Instant::now(), Instant::now());
        let mut complete = None;
        while !done(self) {
            self.step(&mut looked).await;
            if told.elapsed() > TELL {
                told = Instant::now();
                self.tell(&format!("of {} clocks", self.clocks));
            }
            if self.progress.slowest() == self.clocks {
                let since = *complete.get_or_insert_with(Instant::now);
                if since.elapsed() > HANG {
                    self.fail(&format!("all clocks are done, and there is no {what}"));
                }
            }
        }
    }

    fn strike(&mut self, event: Event) {
        let is_busy = |soak: &Self, target: Target| {
            let processes = soak.cluster.processes.iter().zip(&soak.standings);
            processes
                .clone()
                .any(|(process, standing)| target.includes(process) && !matches!(standing, Standing::Up))
        };
        let (now, lasts) = (Instant::now(), event.lasts);
        if let Some(region) = event.fault.loses_servers_of() {
            // On a slow machine who is lost may be away for longer than the story says.
            let away = self.cluster.processes.iter().zip(&self.standings).find(|(process, standing)| {
                let is_away = !matches!(standing, Standing::Up | Standing::Frozen { .. });
                process.region != region && matches!(process.part, Part::Server(_)) && is_away
            });
            if away.is_some() {
                return self.tell(&format!("not now: {event}"));
            }
        }
        match event.fault {
            Fault::Kill { target, .. } | Fault::Restart(target) | Fault::Freeze(target)
                if is_busy(self, target) =>
            {
                return self.tell(&format!("not now: {event}"));
            }
            Fault::Kill { target, disk } => self.each(target, |soak, at| {
                soak.cluster.processes[at].kill();
                soak.standings[at] = Standing::Down { until: now + lasts };
                if disk {
                    let checkpoints = soak.plan.directory.join("checkpoints/digits").join(target.region);
                    // A checkpoint that is being written just now may get in the way.
                    (0..20).find(|_| std::fs::remove_dir_all(&checkpoints).is_ok());
                }
            }),
            Fault::Restart(target) => self.each(target, |soak, at| {
                soak.cluster.processes[at].stop();
                soak.standings[at] = Standing::Stopping { since: now, then_down: lasts };
            }),
            Fault::Freeze(target) => self.each(target, |soak, at| {
                soak.cluster.processes[at].freeze(true);
                soak.standings[at] = Standing::Frozen { until: now + lasts };
            }),
            Fault::Cut { from, to, both } => {
                let ways = [(from, to), (to, from)].into_iter().take(if both { 2 } else { 1 });
                for (from, to) in ways {
                    self.cluster.cut(from, to);
                    self.cuts.push((from, to, now + lasts));
                }
            }
        }
        self.tell(&event.to_string());
    }

    fn each(&mut self, target: Target, strike: impl Fn(&mut Self, usize)) {
        for at in 0..self.standings.len() {
            if target.includes(&self.cluster.processes[at]) {
                strike(self, at);
            }
        }
    }

    /// A short time, in which who is due comes back and everybody is looked at.
    async fn step(&mut self, looked: &mut Instant) {
        sleep(Duration::from_millis(100)).await;
        self.put_right();
        if looked.elapsed() > LOOK {
            let passed = looked.elapsed();
            *looked = Instant::now();
            self.look(passed).await;
        }
    }

    fn put_right(&mut self) {
        let now = Instant::now();
        for at in 0..self.standings.len() {
            let code = self.cluster.processes[at].ended().unwrap().map(|status| status.code());
            match (self.standings[at], code) {
                (Standing::Up | Standing::Frozen { .. } | Standing::Returning { .. }, Some(code)) => {
                    self.fail(&format!("{} ended by itself, with {code:?}", self.name(at)));
                }
                (Standing::Down { until }, _) if until <= now => {
                    self.cluster.processes[at].start_again(&self.plan).unwrap();
                    self.births[at] = now;
                    self.returns(at);
                }
                (Standing::Frozen { until }, None) if until <= now => {
                    self.cluster.processes[at].freeze(false);
                    self.returns(at);
                }
                (Standing::Stopping { then_down, .. }, Some(code)) => {
                    // 1 says that it could not hand over what it had, to whom something was done at
                    // the same time.
                    if !matches!(code, Some(0 | 1)) {
                        self.fail(&format!("{} was stopped, and ended with {code:?}", self.name(at)));
                    }
                    self.ended_with_an_error += u32::from(code == Some(1));
                    self.tell(&format!("{} has ended with {}", self.name(at), code.unwrap_or(-1)));
                    self.standings[at] = Standing::Down { until: now + then_down };
                }
                (Standing::Stopping { since, .. }, None) if since.elapsed() > HANG => {
                    self.fail(&format!("{} was stopped, and does not end", self.name(at)));
                }
                _ => {}
            }
        }
        let (over, cuts): (Vec<_>, Vec<_>) = self.cuts.drain(..).partition(|(_, _, until)| *until <= now);
        self.cuts = cuts;
        for (from, to, _) in over {
            self.cluster.heal(from, to);
            self.tell(&format!("{from} -> {to} is whole again"));
        }
    }

    fn returns(&mut self, at: usize) {
        self.standings[at] = Standing::Returning { undisturbed: Duration::ZERO };
        self.tell(&format!("{} goes on", self.name(at)));
    }

    /// Whether somebody of the region is away, other than the one at `but`.
    fn is_disturbed(&self, region: &str, but: Option<usize>) -> bool {
        let away = |standing: &Standing| !matches!(standing, Standing::Up | Standing::Returning { .. });
        (0..self.standings.len())
            .filter(|at| Some(*at) != but && self.cluster.processes[*at].region == region)
            .any(|at| away(&self.standings[at]))
    }

    /// Asks those who run how they are, `passed` after they were last asked.
    async fn look(&mut self, passed: Duration) {
        let targets = self.cluster.targets();
        let runs = |at: &usize| matches!(self.standings[*at], Standing::Up | Standing::Returning { .. });
        let running: Vec<_> = (0..targets.len()).filter(runs).collect();
        let asked: Vec<_> = running.iter().map(|at| targets[*at].clone()).collect();
        self.last = fetch(&asked, Duration::from_secs(2)).await;
        for (index, at) in running.into_iter().enumerate() {
            let status = self.last[index].status.as_ref().ok();
            let trains = status.is_some_and(|s| matches!(s.phase, Phase::Training | Phase::Finished));
            let region = self.cluster.processes[at].region;
            if let Some(status) = status {
                self.progress.see(region, status);
            }
            if let Standing::Returning { undisturbed } = self.standings[at] {
                let more = if self.is_disturbed(region, Some(at)) { Duration::ZERO } else { passed };
                if trains {
                    self.standings[at] = Standing::Up;
                } else if undisturbed > HANG {
                    self.fail(&format!("{} does not come back", self.name(at)));
                } else {
                    self.standings[at] = Standing::Returning { undisturbed: undisturbed + more };
                }
            }
            let process = &self.cluster.processes[at];
            let (age, id) = (self.births[at].elapsed(), process.id().expect("it runs"));
            self.memory.sample(format!("{} ({id})", self.name(at)), age, id);
        }
        for region in REGIONS {
            if !self.is_disturbed(region, None) {
                self.progress.pass(region, passed);
            }
        }
        if let Some(who) = self.progress.hangs(self.clocks, HANG) {
            self.fail(&who);
        }
    }

    /// Everybody has finished: what came of it.
    async fn judge(&mut self) {
        let growth = self.memory.growth();
        let worst =
            growth.iter().max_by_key(|(_, growth)| growth.late_bytes.saturating_sub(growth.early_bytes));
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let peak_bytes = self.memory.peak_bytes();
        println!("memory: at most {:.1} MiB; {} processes lived for a minute", mib(peak_bytes), growth.len());
        if let Some((life, worst)) = worst {
            println!(
                "memory: {life} went from {:.1} to {:.1} MiB in {:.0} s, which no one exceeded",
                mib(worst.early_bytes),
                mib(worst.late_bytes),
                worst.age.as_secs_f64()
            );
            if worst.late_bytes > worst.early_bytes + GROWTH_BYTES {
                self.fail(&format!("the memory of {life} grows: {worst:?}"));
            }
        }
        if peak_bytes > PEAK_BYTES {
            self.fail("a process needs too much memory");
        }
        println!("{} of those who were stopped could not hand over all", self.ended_with_an_error);
        let clocks = self.clocks.to_string();
        let set = [("job.clocks", clocks.as_str()), ("job.evaluate_every", "10")];
        let undisturbed = simulated(&self.plan.directory, fault_schedule::SERVERS, &set);
        let scores: Vec<_> =
            statuses(&self.last).flat_map(|s| &s.workers).filter_map(|worker| worker.score.clone()).collect();
        for at in 0..self.standings.len() {
            let process = &mut self.cluster.processes[at];
            process.stop();
            let code = common::ended(process).await;
            if !is_truthful(process, code) {
                self.fail(&format!("{} had finished, and ended with {code:?}", self.name(at)));
            }
        }
        let outputs = outputs(&self.plan.directory);
        let judged = catch_unwind(|| {
            assert_eq!(scores.len(), 3, "one worker of each region scores");
            assert_eq!(outputs.values().map(Vec::len).collect::<Vec<_>>(), [3; 4], "every shard is written");
            assert_near(&scores, &undisturbed, 0.02);
            // Each addition rounds one way or the other: what that comes to grows with the root of
            // their number.
            let many = (self.clocks as f32 / 1000.0).max(1.0).sqrt();
            assert_within(&outputs, ROUNDING * many);
        });
        if judged.is_err() {
            self.fail("replicas are not what they should be, see above");
        }
    }

    /// Says all there is to say, and leaves the logs where they are.
    fn fail(&mut self, why: &str) -> ! {
        let mut lines = vec![why.to_owned(), format!("GAIA_SOAK_SEED={}", self.seed)];
        lines.append(&mut self.told);
        lines.extend(self.last.iter().map(|fetched| match &fetched.status {
            Ok(status) => progress::line(status),
            Err(error) => format!("{:?}: {error}", fetched.target.name),
        }));
        lines.push(logs(&self.cluster));
        if let Some(directory) = self.directory.take() {
            lines.push(format!("all of it is in {}", directory.keep().display()));
        }
        panic!("{}", lines.join("\n"));
    }
}
