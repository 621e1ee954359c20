//! How soon a killed server of 100 MB of tables serves again: from its own checkpoint, and from
//! another region when its disk is lost with it.
//!
//! Three regions of real processes, whose checkpoints are made up beforehand so that nobody has to
//! train so far. A server serves when a clock of its workers is complete that was not before: they
//! have read from it, and it has taken their updates. It has recovered when it has kept that up for
//! some clocks. What comes from another region is compared with the time that the link needs for
//! the values alone.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use datacenter::{Clock, DatacenterId, ShardId, ShardTable};
use emulation::link::LinkConfig;
use gaia::job::config;
use gaia::job::region::{CheckpointSettings, CheckpointStart};
use gaia::learning::data::DataRoot;
use gaia::learning::models;
use gaia::program::local_cluster::{LocalCluster, Plan};
use gaia::service::checkpoint::{Archive, Subject};
use gaia::service::status::Status;
use gaia::service::status::fetch::fetch;
use gaia::service::{Part, Setup};
use gaia::settings::Overrides;
use tokio::time::sleep;
use wan::state::{OriginState, ReleasedTable, ReplicaState};

const REGIONS: [&str; 3] = ["virginia", "ireland", "singapore"];
const SHARDS: u16 = 2;
const CLOCK: u32 = 100;
const RATE: u64 = 12_500_000;
const ROUNDS: usize = 3;
/// Clocks that it goes on for when it has recovered: more than it may lead the others.
const ON: u32 = 20;

/// 100 MB in 384,000 and 6,600 rows of 64.
const JOB: &str = r#"
name = "digits"
clocks = 100000
evaluate_every = 100000
shards = 2
regions = [
    { name = "virginia", workers = 3 }, { name = "ireland", workers = 3 }, { name = "singapore", workers = 3 },
]
data = { format = "planted", users = 384000, items = 6600, rank = 4, ratings = 18000 }
asp = { function = "absolute", threshold = 0.04 }
target = { within = "1 %" }

[model]
kind = "factorisation"
rank = 64
biases = false
clocks_per_epoch = 20
learning_rate = { initial = 0.01 }
"#;

fn plan(directory: &Path) -> Plan {
    let link = || LinkConfig::clean(RATE, Duration::from_millis(30));
    let checkpoints = directory.join("checkpoints").display().to_string();
    let set = [
        ("compute.examples_per_second", "10000"),
        ("compute.overhead", "100 ms"),
        ("grace.server", "60 s"),
        ("grace.datacenter", "60 s"),
        ("checkpoint.location", checkpoints.as_str()),
        ("checkpoint.every", "1 h"),
    ];
    Plan {
        program: env!("CARGO_BIN_EXE_gaia").into(),
        directory: directory.to_owned(),
        job: JOB.to_owned(),
        worker_command: Vec::new(),
        servers: 1,
        set: set.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        links: [((0, 1), link()), ((0, 2), link()), ((1, 2), link())],
        late: Vec::new(),
        seed: 1,
    }
}

/// A replica at a clock to which every region has released something for every row.
fn state(shard: ShardId, shapes: &[ShardTable]) -> ReplicaState {
    let sums =
        |shape: &ShardTable| (0..shape.elements()).map(|i| (i % 97) as f32 / 9700.0).collect::<Vec<_>>();
    let table = |shape: &ShardTable| ReleasedTable {
        sums: sums(shape),
        stamps: (0..shape.slots).map(|slot| 1 + slot % CLOCK).collect(),
    };
    let origin = |datacenter| OriginState {
        datacenter: DatacenterId(datacenter),
        life: 1,
        covered: CLOCK,
        heard_clock: Clock(CLOCK),
        included_clock: Clock(CLOCK),
        left_out: 0,
        tables: shapes.iter().map(table).collect(),
        has_departed: false,
    };
    let thrice = |shape: &ShardTable| sums(shape).into_iter().map(|sum| 3.0 * sum).collect();
    ReplicaState {
        remembered: vec![],
        shard,
        clock: Clock(CLOCK),
        left_out: 0,
        workers: vec![Clock(CLOCK); 3],
        values: shapes.iter().map(thrice).collect(),
        remainders: Vec::new(),
        origins: (0..3).map(origin).collect(),
    }
}

/// Writes a checkpoint for every region; yields how large the values are, and the files.
fn write_checkpoints(plan: &Plan) -> (u64, u64) {
    plan.write_files().expect("a directory");
    let mut bytes = (0, 0);
    for region in REGIONS {
        let mut overrides = Overrides::default();
        plan.set.iter().for_each(|(key, value)| overrides.flag(key, key, value));
        let path = plan.directory.join("regions").join(format!("{region}.toml"));
        let region = config::load_region(&path, &overrides, &models::kinds()).expect("settings");
        let setup = Setup::new(region, Part::Region).expect("a setup");
        let subject = Arc::new(Subject::from(&setup));
        let location = DataRoot::Directory(plan.directory.join("checkpoints"));
        let settings = CheckpointSettings {
            location,
            every_clocks: None,
            every: None,
            keep: 2,
            start: CheckpointStart::Newest,
        };
        let archive = Archive::new(&settings, subject.clone());
        #[expect(clippy::disallowed_methods, reason = "files of real processes carry the real date")]
        let now = SystemTime::now();
        bytes = (0, 0);
        for shard in (0..SHARDS).map(ShardId) {
            let shapes = subject.shapes(shard);
            bytes.0 += shapes.iter().map(|shape| shape.elements() as u64 * 4).sum::<u64>();
            bytes.1 += archive.write(&state(shard, &shapes), now).expect("a disk");
        }
    }
    bytes
}

async fn status(cluster: &LocalCluster) -> Option<Status> {
    let targets = cluster.targets();
    let at = cluster.processes.iter().position(|p| p.region == REGIONS[0] && p.part == Part::Server(0))?;
    fetch(&targets[at..=at], Duration::from_secs(2)).await.pop()?.status.ok()
}

fn clock(status: &Status) -> Option<u32> {
    status.servers.first()?.shards.iter().map(|shard| shard.clock).min()
}

/// When a server that was started again answers, when its workers train, and when it has recovered.
struct Times {
    answers: Duration,
    serves: Duration,
    recovered: Duration,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [answers, serves, recovered] =
            [self.answers, self.serves, self.recovered].map(|time| time.as_secs_f64());
        write!(
            f,
            "answers after {answers:.2} s, serves after {serves:.2} s, {ON} clocks on after {recovered:.2} s"
        )
    }
}

/// Kills virginia's server, with its disk or not, and starts it again.
async fn restart(cluster: &mut LocalCluster, plan: &Plan, loses_disk: bool) -> Times {
    let server = |cluster: &mut LocalCluster| {
        cluster.processes.iter().position(|p| p.region == REGIONS[0] && p.part == Part::Server(0))
    };
    let at = server(cluster).expect("it is one of them");
    cluster.processes[at].kill();
    if loses_disk {
        let kept = plan.directory.join("checkpoints/digits").join(REGIONS[0]);
        match std::fs::remove_dir_all(kept) {
            // After the first time there are none.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                panic!("its disk is not lost: {error}")
            }
            _ => {}
        }
    }
    sleep(Duration::from_secs(1)).await;
    #[expect(clippy::disallowed_methods, reason = "this is real time")]
    let started = Instant::now();
    cluster.processes[at].start_again(plan).expect("it starts");
    let (mut answers, mut last, mut serves, mut on) = (None, None, None, 0);
    loop {
        if let Some(clock) = status(cluster).await.as_ref().and_then(clock) {
            let since = started.elapsed();
            answers.get_or_insert(since);
            // Where it begins is not yet where the others are: what it leaves out does not count.
            let passed = clock - last.replace(clock).unwrap_or(clock);
            if passed == 1 {
                on += 1;
                serves.get_or_insert(since);
            }
            if let (Some(answers), Some(serves), ON) = (answers, serves, on) {
                return Times { answers, serves, recovered: since };
            }
        }
        assert!(started.elapsed() < Duration::from_secs(300), "it does not serve again");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = plan(directory.path());
    let (values, file) = write_checkpoints(&plan);
    println!("tables of {:.1} MB, checkpoints of {:.1} MB", values as f64 / 1e6, file as f64 / 1e6);
    let mut cluster = LocalCluster::start(&plan).expect("processes");
    while status(&cluster).await.as_ref().and_then(clock).is_none_or(|clock| clock < CLOCK + 10) {
        sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..ROUNDS {
        println!("from its checkpoint: {}", restart(&mut cluster, &plan, false).await);
        sleep(Duration::from_secs(5)).await;
    }
    let link = Duration::from_secs_f64(values as f64 / RATE as f64);
    for _ in 0..ROUNDS {
        let times = restart(&mut cluster, &plan, true).await;
        println!(
            "from another region: {times}; it serves after {:.2} times the {:.2} s that the link needs",
            times.serves.as_secs_f64() / link.as_secs_f64(),
            link.as_secs_f64()
        );
        sleep(Duration::from_secs(5)).await;
    }
}
