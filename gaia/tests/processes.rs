//! Three regions as real processes on loopback, over emulated links.
//!
//! What is compared with the simulation is what does not depend on the machine's speed: the objective, and how many bytes
//! crossed the WAN. The declared cost of computing makes clocks long enough that a busy machine keeps up.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use gaia::config::{self, Overrides};
use gaia::rehearsal::{Plan, Process, Rehearsal};
use gaia::scenario::{ComputeSettings, Simulation};
use gaia::service::Part;
use gaia::simulation::{self, Observer, Progress};
use gaia::status::fetch::{Fetched, fetch};
use gaia::status::{Phase, Status};
use gaia::strategy::Strategy;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use wan::link::LinkConfig;
use wan::relay::RelayCounters;

const EXAMPLES_PER_SECOND: f64 = 6400.0;
const OVERHEAD: Duration = Duration::from_millis(100);

/// Longer than anything takes on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(240);

/// Fifteen processes at a time are enough for any machine that tests run on.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Round trips of 60 to 120 ms.
fn links() -> [((usize, usize), LinkConfig); 3] {
    let link = |millis| LinkConfig::clean(12_500_000, Duration::from_millis(millis));
    [((0, 1), link(30)), ((0, 2), link(60)), ((1, 2), link(45))]
}

fn plan(directory: &Path, set: &[(&str, &str)]) -> Plan {
    let compute = [
        ("compute.examples_per_second", EXAMPLES_PER_SECOND.to_string()),
        ("compute.overhead", format!("{} ms", OVERHEAD.as_millis())),
        ("output.directory", directory.join("out").display().to_string()),
    ];
    let set = set.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Plan {
        program: env!("CARGO_BIN_EXE_gaia").into(),
        directory: directory.to_owned(),
        servers: 2,
        set: compute.into_iter().chain(set).map(|(key, value)| (key.to_owned(), value)).collect(),
        links: links(),
        seed: 1,
    }
}

fn logs(rehearsal: &Rehearsal) -> String {
    let tail = |process: &Process| {
        let text = std::fs::read_to_string(&process.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("--- {}\n{}\n", process.log.display(), lines[lines.len().saturating_sub(8)..].join("\n"))
    };
    rehearsal.processes.iter().map(tail).collect()
}

/// Asks all processes until `done` says so of what they answer.
async fn until(rehearsal: &Rehearsal, done: impl Fn(&[Fetched]) -> bool) -> Vec<Fetched> {
    let started = Instant::now();
    loop {
        let fetched = fetch(&rehearsal.targets(), Duration::from_secs(2)).await;
        if done(&fetched) {
            return fetched;
        }
        assert!(started.elapsed() < LIMIT, "it takes too long:\n{}", logs(rehearsal));
        sleep(Duration::from_millis(100)).await;
    }
}

fn statuses(fetched: &[Fetched]) -> impl Iterator<Item = &Status> {
    fetched.iter().filter_map(|fetched| fetched.status.as_ref().ok())
}

/// Waits for a process; yields its exit code.
async fn ended(process: &mut Process) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = process.ended().unwrap() {
            return status.code();
        }
        assert!(started.elapsed() < LIMIT, "{} of {} does not end", process.part.role(), process.region);
        sleep(Duration::from_millis(50)).await;
    }
}

/// By shard: the tables that each region has written, as the bytes of their safetensors file behind its header.
fn outputs(directory: &Path) -> BTreeMap<String, Vec<(String, Vec<f32>)>> {
    let mut shards: BTreeMap<String, Vec<(String, Vec<f32>)>> = BTreeMap::new();
    for entry in std::fs::read_dir(directory.join("out")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let values = bytes[8 + header..].chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap()));
        let shard = name.rsplit('-').next().unwrap().to_owned();
        shards.entry(shard).or_default().push((name, values.collect()));
    }
    shards
}

/// Replicas have added up the same updates in other orders.
fn assert_equal(shards: &BTreeMap<String, Vec<(String, Vec<f32>)>>) {
    for replicas in shards.values() {
        let (first, values) = &replicas[0];
        for (other, others) in &replicas[1..] {
            let apart = values.iter().zip(others).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-4, "{first} and {other} are {apart} apart");
        }
    }
}

struct Silent;

impl Observer for Silent {
    fn run_started(&self, _: Strategy, _: &[String], _: u32) {}
    fn clock(&self, _: Strategy, _: &Progress) {}
    fn run_finished(&self, _: &gaia::outcome::Run) {}
}

/// The same job over the same links in virtual time.
fn simulated(directory: &Path, servers: u16) -> gaia::outcome::Run {
    let mut overrides = Overrides::default();
    let data = directory.join("data").display().to_string();
    overrides.flag("--data-path", "job.data.path", &data);
    let region = config::load_region(&directory.join("regions/virginia.toml"), &overrides).unwrap();
    let members: Vec<_> = region.members.iter().map(|m| (m.name.as_str(), m.workers)).collect();
    let compute =
        ComputeSettings { examples_per_second: EXAMPLES_PER_SECOND, overhead: OVERHEAD, jitter: 0.0 };
    let links = links();
    let link = |from: usize, to: usize| {
        let ends = (from.min(to), from.max(to));
        links.iter().find(|(known, _)| *known == ends).unwrap().1.clone()
    };
    let mut simulation = Simulation::new(region.job, &members, compute, link);
    simulation.seed = region.seed;
    simulation.regions.iter_mut().for_each(|region| region.servers = servers);
    // Virtual time has a runtime of its own.
    std::thread::spawn(move || simulation::simulate(&simulation, Strategy::Asp, &Silent).unwrap())
        .join()
        .unwrap()
}

/// Runs the job to its end; judges what was learned and what it cost.
async fn run_to_the_end(servers: u16) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan { servers, ..plan(directory.path(), &[("at_end", "stay")]) };
    let rehearsal = Rehearsal::start(&plan).unwrap();
    let fetched = until(&rehearsal, |fetched| {
        let finished = |f: &Fetched| f.status.as_ref().is_ok_and(|status| status.phase == Phase::Finished);
        fetched.iter().all(finished)
    })
    .await;
    let counters = rehearsal.relay.counters();
    let bytes = |link: &RelayCounters| link.forward.link.offered_bytes + link.backward.link.offered_bytes;
    let relayed: u64 = counters.iter().map(bytes).sum();
    let sent: u64 = statuses(&fetched).flat_map(|s| &s.servers).map(|server| server.wan_sent_bytes).sum();
    let scores: Vec<_> =
        statuses(&fetched).flat_map(|s| &s.workers).filter_map(|worker| worker.score.clone()).collect();
    let simulated = simulated(directory.path(), servers);
    println!(
        "{servers} servers: objective {:?}, simulated {}; sent {sent}, relayed {relayed}, simulated {} bytes",
        scores.iter().map(|score| score.objective).collect::<Vec<_>>(),
        simulated.objective,
        simulated.wan_bytes
    );
    assert_eq!(scores.len(), 3, "one worker of each region scores");
    for score in &scores {
        let apart = (score.objective - simulated.objective).abs() / simulated.objective;
        assert!(apart < 0.01, "{} is not the simulation's {}", score.objective, simulated.objective);
    }
    let apart = (sent as f64 / relayed as f64 - 1.0).abs();
    assert!(apart < 0.02, "sent {sent}, relayed {relayed}");
    let apart = (sent as f64 / simulated.wan_bytes as f64 - 1.0).abs();
    assert!(apart < 0.15, "sent {sent}, simulated {}", simulated.wan_bytes);
    assert_equal(&outputs(directory.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_of_two_servers_do_what_the_simulation_says() {
    run_to_the_end(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_of_one_server_do_what_the_simulation_says() {
    run_to_the_end(1).await;
}

/// Stops one process under load, and sees that the others get to the end with equal replicas.
async fn stop_one(region: &str, part: Part) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let mut rehearsal = Rehearsal::start(&plan(directory.path(), &[("job.clocks", "60")])).unwrap();
    let is_it = |process: &Process| process.region == region && process.part == part;
    until(&rehearsal, |fetched| {
        let clock = statuses(fetched).flat_map(|s| &s.servers).flat_map(|s| &s.shards).map(|s| s.clock).min();
        clock.is_some_and(|clock| clock >= 20) && fetched.iter().all(|f| f.status.is_ok())
    })
    .await;
    let stopped = rehearsal.processes.iter_mut().find(|process| is_it(process)).unwrap();
    stopped.stop();
    assert_eq!(ended(stopped).await, Some(0), "it hands over what it has:\n{}", logs(&rehearsal));
    // Without one of its servers the workers of a region wait for it, and go on when they are stopped.
    let waits = |process: &Process| matches!(part, Part::Server(_)) && process.region == region;
    for at in 0..rehearsal.processes.len() {
        let process = &mut rehearsal.processes[at];
        if is_it(process) || (waits(process) && matches!(process.part, Part::Worker(_))) {
            continue;
        }
        let (code, who) = (ended(process).await, format!("{} of {}", process.part.role(), process.region));
        assert_eq!(code, Some(0), "{who}:\n{}", logs(&rehearsal));
    }
    for at in 0..rehearsal.processes.len() {
        let process = &mut rehearsal.processes[at];
        process.stop();
        let (code, who) = (ended(process).await, format!("{} of {}", process.part.role(), process.region));
        assert_eq!(code, Some(0), "{who}:\n{}", logs(&rehearsal));
    }
    for process in &rehearsal.processes {
        let text = std::fs::read_to_string(&process.log).unwrap();
        assert!(text.contains(&format!(" {} ", process.part.role())), "{text}");
        // A field says it once: `worker=2`.
        assert!(!text.contains("worker=worker ") && !text.contains("shard=shard "), "{text}");
    }
    let outputs = outputs(directory.path());
    assert_eq!(outputs.len(), 4, "every shard is written");
    assert!(outputs.values().all(|replicas| replicas.len() >= 2));
    assert_equal(&outputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_loses_nothing() {
    stop_one("virginia", Part::Worker(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_loses_nothing() {
    stop_one("ireland", Part::Server(1)).await;
}
