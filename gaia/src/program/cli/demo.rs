//! `gaia demo`: three regions as real processes on this machine, in one command that cleans up
//! after itself.
//!
//! Kind: driver.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};
use wan::relay::RelayCounters;

use super::arguments::DemoArguments;
use super::{CommandError, say};
use crate::human;
use crate::job::config;
use crate::job::region::Member;
use crate::learning::application::ModelKinds;
use crate::learning::data::DataRoot;
use crate::program::local_cluster::{DEMO_JOB, LocalCluster, Plan, REGIONS, WORKERS, three_regions};
use crate::program::view::{self, Ended};
use crate::service::Part;
use crate::service::status::fetch::{Fetched, TIME_LIMIT, fetch};
use crate::service::status::totals::Totals;
use crate::service::status::{Phase, Status};
use crate::settings::{ConfigError, Overrides, Problem};

/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How long processes may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// What a clock costs unless something else is asked for: some 0.12 s, so that links of up to 220
/// ms matter, and 150 clocks are soon over.
const COMPUTE: [(&str, &str); 2] = [("compute.examples_per_second", "6400"), ("compute.overhead", "100 ms")];

/// The job to be trained, as text, and settings over it that come from where its file is.
struct Job {
    text: String,
    set: Vec<(String, String)>,
}

impl Job {
    /// That of a file, or the shipped one.
    fn load(file: Option<&Path>, kinds: &ModelKinds) -> Result<Self, CommandError> {
        let Some(file) = file else { return Ok(Self { text: DEMO_JOB.to_owned(), set: Vec::new() }) };
        let loaded = config::load_job(file, &Overrides::default(), kinds)?;
        let expected = REGIONS.map(|(name, _)| Member { name: name.to_owned(), workers: WORKERS });
        if loaded.members != expected {
            let all: Vec<_> = expected.iter().map(|member| member.name.as_str()).collect();
            let place = file.display().to_string();
            let message =
                format!("allowed in a demo: {}, with {WORKERS} workers each, in this order", all.join(", "));
            return Err(ConfigError::from(Problem { place, key: Some("regions".to_owned()), message }).into());
        }
        let text = std::fs::read_to_string(file).map_err(CommandError::System)?;
        // The file is copied, and what it says of its data is relative to where it was.
        let data = match &loaded.job.data.root {
            DataRoot::Directory(path) => {
                std::path::absolute(path).map_err(CommandError::System)?.display().to_string()
            }
            DataRoot::Store(url) => url.to_string(),
        };
        Ok(Self { text, set: vec![("job.data.path".to_owned(), data)] })
    }
}

pub(super) fn demo(arguments: &DemoArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    let job = Job::load(arguments.job.as_deref(), kinds)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(CommandError::Runtime)?.block_on(run(arguments, job))
}

/// How a demo ended.
enum Ending {
    /// It came to its end, and this is what processes said then.
    Finished(Vec<Fetched>),
    /// Somebody has seen enough.
    Interrupted,
}

/// Ctrl-C, SIGTERM, and a terminal that goes away. From when these are asked for, none of them ends
/// the program by itself: so it always cleans up.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> Result<Self, CommandError> {
        let listen = |kind| signal(kind).map_err(CommandError::System);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// Returns once one of them has come.
    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

async fn run(arguments: &DemoArguments, job: Job) -> Result<(), CommandError> {
    // Before there is anything to clean up.
    let mut signals = Signals::listen()?;
    let (directory, scratch) = match &arguments.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(CommandError::System)?;
            (directory.clone(), None)
        }
        None => {
            let scratch = tempfile::Builder::new().prefix("gaia-demo-").tempdir();
            let scratch = scratch.map_err(CommandError::System)?;
            (scratch.path().to_owned(), Some(scratch))
        }
    };
    let result = play(arguments, job, directory, &mut signals).await;
    if let (Err(_), Some(scratch)) = (&result, scratch) {
        // The logs that the error speaks of.
        let _ = scratch.keep();
    }
    result
}

/// Runs it with its files in `directory`, until it is over or somebody has seen enough.
async fn play(
    arguments: &DemoArguments,
    job: Job,
    directory: PathBuf,
    signals: &mut Signals,
) -> Result<(), CommandError> {
    // Processes stay when they are done, so that what they have to say can be heard; then they are
    // stopped.
    let mut set = vec![("at_end".to_owned(), "stay".to_owned())];
    set.extend(COMPUTE.map(|(key, value)| (key.to_owned(), value.to_owned())));
    set.extend(job.set);
    set.extend(arguments.set.iter().cloned());
    let program = std::env::current_exe().map_err(CommandError::System)?;
    let (job, links) = (job.text, three_regions());
    let worker_command = arguments.command.clone();
    let plan =
        Plan { program, directory, job, worker_command, servers: 2, set, links, seed: 1, late: Vec::new() };
    say(&format!(
        "three regions, each with {} servers and {WORKERS} workers; settings and logs in {}",
        plan.servers,
        plan.directory.display()
    ));
    let is_own = !plan.worker_command.is_empty();
    let mut cluster = LocalCluster::start(&plan)?;
    let targets = cluster.targets();
    let result = {
        let mut until = Box::pin(async {
            tokio::select! {
                ended = until_finished(&mut cluster, is_own) => ended.map(Ending::Finished),
                () = signals.asked() => Ok(Ending::Interrupted),
            }
        });
        if arguments.no_view || !io::stdout().is_terminal() {
            until.await
        } else {
            let shown = view::run(|| fetch(&targets, Duration::from_secs(1)), until.as_mut()).await;
            match shown.map_err(CommandError::Terminal)? {
                Ended::Done(result) => result,
                Ended::Quit => Ok(Ending::Interrupted),
            }
        }
    };
    if let Ok(Ending::Finished(fetched)) = &result {
        let _ = io::stdout().write_all(summary(fetched, &cluster.relay.counters()).as_bytes());
    }
    say("stopping the processes; Ctrl-C kills them");
    tokio::select! {
        () = stop(&mut cluster) => {}
        () = signals.asked() => {}
    }
    result.map(|_| ())
}

/// Waits until all processes have finished; yields what they say then. A program that trains ends
/// when it is done, if it is the user's own.
async fn until_finished(cluster: &mut LocalCluster, is_own: bool) -> Result<Vec<Fetched>, CommandError> {
    let targets = cluster.targets();
    loop {
        for process in &mut cluster.processes {
            if let Some(status) = process.ended().map_err(CommandError::System)? {
                if status.success() && is_own && matches!(process.part, Part::Worker(_)) {
                    continue;
                }
                let (region, role, log) = (process.region, process.part.role(), process.log.display());
                let last = std::fs::read_to_string(&process.log).unwrap_or_default();
                let last = last.lines().last().unwrap_or_default().to_owned();
                return Err(CommandError::Demo(format!(
                    "{role} of {region} ended, {status}: {last} (all in {log})"
                )));
            }
        }
        let fetched = fetch(&targets, TIME_LIMIT).await;
        let is_finished = |f: &Fetched| f.status.as_ref().is_ok_and(|status| status.phase == Phase::Finished);
        let mut all = cluster.processes.iter_mut().zip(&fetched);
        if all.all(|(process, fetched)| is_finished(fetched) || matches!(process.ended(), Ok(Some(_)))) {
            return Ok(fetched);
        }
        sleep(LOOK).await;
    }
}

async fn stop(cluster: &mut LocalCluster) {
    cluster.processes.iter_mut().for_each(|process| process.stop());
    let stopped = timeout(STOP, async {
        while cluster.processes.iter_mut().any(|process| matches!(process.ended(), Ok(None))) {
            sleep(LOOK).await;
        }
    });
    if stopped.await.is_err() {
        say("some did not stop in time, and are killed");
    }
}

/// What came of it, in a few lines.
fn summary(fetched: &[Fetched], links: &[RelayCounters]) -> String {
    let statuses: Vec<&Status> = fetched.iter().filter_map(|f| f.status.as_ref().ok()).collect();
    let mut text = String::new();
    for status in &statuses {
        for score in status.workers.iter().filter_map(|worker| worker.score.as_ref()) {
            let (clock, objective, metric, value) =
                (score.clock, score.objective, &score.metric, score.value);
            text += &format!(
                "{:<10} clock {clock}  objective {objective:.4}  {metric} {value:.4}\n",
                status.datacenter
            );
        }
    }
    let totals = Totals::of(statuses.iter().copied());
    let regions: BTreeSet<&str> = statuses.iter().map(|status| status.datacenter.as_str()).collect();
    let sum = |of: fn(&Totals, &str) -> u64| regions.iter().map(|region| of(&totals, region)).sum::<u64>();
    let (sent, naive) = (sum(Totals::sent_bytes), sum(Totals::naive_bytes));
    let saved = naive as f64 / sent.max(1) as f64;
    text += &format!(
        "WAN        {} sent; every update would have taken {}: {saved:.1} times as much\n",
        human::bytes(sent as f64),
        human::bytes(naive as f64)
    );
    for link in links {
        let bytes =
            |counters: &wan::relay::DirectionCounters| human::bytes(counters.link.offered_bytes as f64);
        text += &format!(
            "link       {:<19} {} there, {} back\n",
            link.name,
            bytes(&link.forward),
            bytes(&link.backward)
        );
    }
    text
}
