//! What tests of rehearsals have in common: three regions as real processes, waited for and judged.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use emulation::link::LinkConfig;
use gaia::job::config;
use gaia::job::scenario::{ComputeSettings, Simulation};
use gaia::job::strategy::Strategy;
use gaia::learning::models;
use gaia::program::local_cluster::{JOB, LocalCluster, Plan, Process};
use gaia::service::Part;
use gaia::service::status::fetch::{Fetched, fetch};
use gaia::service::status::{Phase, ScoreStatus, Status};
use gaia::settings::Overrides;
use gaia::simulator::{self, Observer, Progress};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

const EXAMPLES_PER_SECOND: f64 = 6400.0;
const OVERHEAD: Duration = Duration::from_millis(100);

/// The least that a clock of 256 examples takes.
pub const CLOCK: Duration = Duration::from_millis(140);

/// Longer than anything takes on a machine that does other things as well.
pub const LIMIT: Duration = Duration::from_secs(240);

/// Fifteen processes at a time are enough for any machine that tests run on.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Round trips of 60 to 120 ms.
pub fn links() -> [((usize, usize), LinkConfig); 3] {
    let link = |millis| LinkConfig::clean(12_500_000, Duration::from_millis(millis));
    [((0, 1), link(30)), ((0, 2), link(60)), ((1, 2), link(45))]
}

pub fn plan(directory: &Path, set: &[(&str, &str)]) -> Plan {
    let compute = [
        ("compute.examples_per_second", EXAMPLES_PER_SECOND.to_string()),
        ("compute.overhead", format!("{} ms", OVERHEAD.as_millis())),
        ("output.directory", directory.join("out").display().to_string()),
    ];
    let set = set.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Plan {
        program: env!("CARGO_BIN_EXE_gaia").into(),
        directory: directory.to_owned(),
        job: JOB.to_owned(),
        worker_command: Vec::new(),
        servers: 2,
        set: compute.into_iter().chain(set).map(|(key, value)| (key.to_owned(), value)).collect(),
        links: links(),
        seed: 1,
        late: Vec::new(),
    }
}

/// A cluster of three `gaia run`, none of which is started yet: each has all of its region in one
/// process.
pub fn whole_regions(plan: &Plan) -> LocalCluster {
    let plan = Plan { servers: 1, late: vec!["virginia", "ireland", "singapore"], ..plan.clone() };
    let mut cluster = LocalCluster::start(&plan).unwrap();
    cluster.processes.retain(|process| process.part == Part::Server(0));
    cluster.processes.iter_mut().for_each(|process| process.part = Part::Region);
    cluster
}

/// By region, the clock up to which it took part, as the metadata of each written shard says.
pub fn parts(directory: &Path) -> BTreeMap<String, BTreeMap<String, u32>> {
    by_region(directory, "regions")
}

/// By region, how many of these clocks it has left out, where it has.
pub fn left_out(directory: &Path) -> BTreeMap<String, BTreeMap<String, u32>> {
    by_region(directory, "left_out")
}

fn by_region(directory: &Path, key: &str) -> BTreeMap<String, BTreeMap<String, u32>> {
    let mut parts = BTreeMap::new();
    for entry in std::fs::read_dir(directory.join("out")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        let regions = header["__metadata__"][key].as_str().unwrap_or("{}");
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        parts.insert(name, serde_json::from_str(regions).unwrap());
    }
    parts
}

pub fn logs(cluster: &LocalCluster) -> String {
    let tail = |process: &Process| {
        let text = std::fs::read_to_string(&process.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("--- {}\n{}\n", process.log.display(), lines[lines.len().saturating_sub(8)..].join("\n"))
    };
    cluster.processes.iter().map(tail).collect()
}

/// Asks all processes until `done` says so of what they answer.
pub async fn until(cluster: &mut LocalCluster, done: impl Fn(&[Fetched]) -> bool) -> Vec<Fetched> {
    let started = Instant::now();
    loop {
        let fetched = fetch(&cluster.targets(), Duration::from_secs(2)).await;
        if done(&fetched) {
            return fetched;
        }
        let failed = |process: &mut Process| process.ended().unwrap().is_some_and(|status| !status.success());
        assert!(!cluster.processes.iter_mut().any(failed), "a process failed:\n{}", logs(cluster));
        assert!(started.elapsed() < LIMIT, "it takes too long:\n{}", logs(cluster));
        sleep(Duration::from_millis(100)).await;
    }
}

pub fn statuses(fetched: &[Fetched]) -> impl Iterator<Item = &Status> {
    fetched.iter().filter_map(|fetched| fetched.status.as_ref().ok())
}

/// Waits for a process; yields its exit code.
pub async fn ended(process: &mut Process) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = process.ended().unwrap() {
            return status.code();
        }
        assert!(started.elapsed() < LIMIT, "{} of {} does not end", process.part.role(), process.region);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a process of a job in which regions were away has ended as it should: with code 0, or
/// with 3 if it says that some of them have left out clocks.
pub fn is_truthful(process: &Process, code: Option<i32>) -> bool {
    let log = std::fs::read_to_string(&process.log).unwrap_or_default();
    let last = log.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
    let is_said = last.contains("the job has ended without all updates of ") && last.contains(" left out)");
    code == Some(0) || code == Some(3) && is_said
}

/// Fails where it has not.
pub fn assert_truthful(process: &Process, code: Option<i32>) {
    let log = std::fs::read_to_string(&process.log).unwrap_or_default();
    let who = format!("{} of {}", process.part.role(), process.region);
    assert!(is_truthful(process, code), "{who}: {code:?}\n{log}");
}

/// By shard: the tables that each region has written, as the bytes of their safetensors file behind
/// its header.
pub fn outputs(directory: &Path) -> BTreeMap<String, Vec<(String, Vec<f32>)>> {
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

/// Replicas have added up the same updates in other orders, in a job of some hundred clocks.
pub fn assert_equal(shards: &BTreeMap<String, Vec<(String, Vec<f32>)>>) {
    assert_within(shards, ROUNDING);
}

/// Replicas are not further apart than this. Says how far they are.
pub fn assert_within(shards: &BTreeMap<String, Vec<(String, Vec<f32>)>>, most: f32) {
    let mut furthest = 0.0_f32;
    for replicas in shards.values() {
        let (first, values) = &replicas[0];
        for (other, others) in &replicas[1..] {
            let apart = values.iter().zip(others).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < most, "{first} and {other} are {apart} apart, {most} is allowed");
            furthest = furthest.max(apart);
        }
    }
    println!("replicas are {furthest} apart at most, {most} is allowed");
}

/// What rounding makes of a sum of some hundred updates in another order, and more.
pub const ROUNDING: f32 = 1e-4;

struct Silent;

impl Observer for Silent {
    fn run_started(&self, _: Strategy, _: &[String], _: u32) {}
    fn clock(&self, _: Strategy, _: &Progress) {}
    fn run_finished(&self, _: &gaia::simulator::results::Run) {}
}

/// The same job over the same links in virtual time, with so many servers in each region, and `set`
/// over its settings.
pub fn simulated(directory: &Path, servers: u16, set: &[(&str, &str)]) -> gaia::simulator::results::Run {
    let mut overrides = Overrides::default();
    for (key, value) in set {
        overrides.flag(key, key, value);
    }
    let data = directory.join("data").display().to_string();
    overrides.flag("--data-path", "job.data.path", &data);
    let region =
        config::load_region(&directory.join("regions/virginia.toml"), &overrides, &models::kinds()).unwrap();
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
    std::thread::spawn(move || simulator::simulate(&simulation, Strategy::Asp, &Silent).unwrap())
        .join()
        .unwrap()
}

/// Waits until every process has finished, which they must be told to stay for.
pub async fn finished(cluster: &mut LocalCluster) -> Vec<Fetched> {
    let is_finished = |f: &Fetched| f.status.as_ref().is_ok_and(|status| status.phase == Phase::Finished);
    until(cluster, |fetched| fetched.iter().all(is_finished)).await
}

/// Every region has scored its copy of the model, and found what the simulation found.
pub fn assert_learned(fetched: &[Fetched], simulated: &gaia::simulator::results::Run) -> Vec<ScoreStatus> {
    let scores: Vec<_> =
        statuses(fetched).flat_map(|s| &s.workers).filter_map(|worker| worker.score.clone()).collect();
    assert_eq!(scores.len(), 3, "one worker of each region scores");
    assert_near(&scores, simulated, 0.01);
    scores
}

/// Whatever has happened on the way, a share of `within` at most is lost or gained by it.
pub fn assert_near(scores: &[ScoreStatus], simulated: &gaia::simulator::results::Run, within: f64) {
    for score in scores {
        println!("objective {} against {}", score.objective, simulated.objective);
        let apart = (score.objective - simulated.objective).abs() / simulated.objective;
        assert!(apart < within, "{} is not the simulation's {}", score.objective, simulated.objective);
    }
}

/// The clock at which the furthest shard is.
pub fn furthest<'a>(statuses: impl IntoIterator<Item = &'a Status>) -> u32 {
    let servers = statuses.into_iter().flat_map(|status| &status.servers);
    servers.flat_map(|server| &server.shards).map(|shard| shard.clock).max().unwrap_or(0)
}

/// Stops all processes; each must have had a good end.
pub async fn stop_all(mut cluster: LocalCluster) {
    for at in 0..cluster.processes.len() {
        let process = &mut cluster.processes[at];
        process.stop();
        let (code, who) = (ended(process).await, format!("{} of {}", process.part.role(), process.region));
        assert_eq!(code, Some(0), "{who}:\n{}", logs(&cluster));
    }
}
