//! A model whose training is a program of its user's: three regions of real processes whose workers
//! are `gaia/examples/own_loop.rs`, and what refuses such a model.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::{LIMIT, ONE_AT_A_TIME, assert_equal, ended, logs, outputs, plan};
use gaia::program::local_cluster::{LocalCluster, Plan};
use gaia::service::Part;
use tokio::time::{Instant, sleep};

const JOB: &str = include_str!("../examples/own_loop.toml");

/// What cargo has built beside this test, as it does for all tests of the crate.
fn example() -> PathBuf {
    let gaia = Path::new(env!("CARGO_BIN_EXE_gaia"));
    let path = gaia.parent().expect("it is in a folder").join("examples/own_loop");
    assert!(path.exists(), "cargo build -p gaia --example own_loop makes {}", path.display());
    path
}

fn own_plan(directory: &Path, program: &Path) -> Plan {
    let command = vec![program.into()];
    Plan { job: JOB.to_owned(), worker_command: command, servers: 1, ..plan(directory, &[]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_regions_train_by_a_program_of_ones_own() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = LocalCluster::start(&own_plan(directory.path(), &example())).unwrap();
    for at in 0..cluster.processes.len() {
        let code = ended(&mut cluster.processes[at]).await;
        assert_eq!(code, Some(0), "{}", logs(&cluster));
    }
    let shards = outputs(directory.path());
    assert_eq!(shards.len(), 2);
    assert_equal(&shards);
    for (shard, replicas) in &shards {
        let first: usize = shard.parse().unwrap();
        for (slot, found) in replicas[0].1.iter().enumerate() {
            // As the example has it.
            let truth = ((first + 2 * slot) % 7) as f32 - 3.0;
            assert!((found - truth).abs() < 0.1, "row {}: {found} is not {truth}", first + 2 * slot);
        }
    }
    for worker in cluster.processes.iter().filter(|process| matches!(process.part, Part::Worker(_))) {
        let log = std::fs::read_to_string(&worker.log).unwrap();
        assert!(log.contains(" of 9: within 0.0"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_again_is_a_read_that_takes_longer() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut plan = own_plan(directory.path(), &example());
    let kept = directory.path().join("kept").display().to_string();
    plan.set.extend([set("job.clocks", "400"), set("grace.server", "60 s"), set("grace.worker", "60 s")]);
    // With what it has kept, nothing is left out.
    plan.set.push(set("checkpoint.location", &kept));
    let mut cluster = LocalCluster::start(&plan).unwrap();
    common::until(&mut cluster, |fetched| common::furthest(common::statuses(fetched)) > 20).await;
    let place =
        cluster.processes.iter().position(|p| p.region == "ireland" && p.part == Part::Server(0)).unwrap();
    cluster.processes[place].stop();
    assert_eq!(ended(&mut cluster.processes[place]).await, Some(0), "{}", logs(&cluster));
    sleep(Duration::from_secs(1)).await;
    cluster.processes[place].start_again(&plan).unwrap();
    for at in 0..cluster.processes.len() {
        let code = ended(&mut cluster.processes[at]).await;
        assert_eq!(code, Some(0), "{}", logs(&cluster));
    }
    assert_equal(&outputs(directory.path()));
}

/// The files of a job whose workers are programs.
fn files(directory: &Path) -> PathBuf {
    own_plan(directory, Path::new("unused")).write_files().unwrap();
    directory.join("regions/virginia.toml")
}

fn gaia(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gaia")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

#[test]
fn who_would_train_it_says_what_to_do_instead() {
    let directory = tempfile::tempdir().unwrap();
    let config = files(directory.path()).display().to_string();
    let out = directory.path().join("out");
    std::fs::create_dir(&out).unwrap();
    for arguments in [vec!["worker", "--config", &config, "--index", "0"], vec!["run", "--config", &config]] {
        let output = gaia(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("found \"external\"") && said.contains("-- PROGRAM"), "{said}");
    }
    let simulation = directory.path().join("simulation.toml");
    let text = format!(
        "job = \"jobs/digits.toml\"\n[[regions]]\nname = \"virginia\"\nworkers = 1\n[compute]\nexamples_per_second = 1\n{}",
        "[links.default]\nrate = \"1 Mbit/s\"\ndelay = \"1 ms\"\n"
    );
    std::fs::write(&simulation, text).unwrap();
    let output = gaia(&["simulate", &simulation.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
}

#[test]
fn a_program_is_told_who_it_is_and_ends_the_command_as_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let config = files(directory.path()).display().to_string();
    let variables = "echo $GAIA_REGION $GAIA_WORKER $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE \
                     $GROUP_RANK/$GROUP_WORLD_SIZE $GAIA__JOB__CLOCKS $1; exit 7";
    let output = gaia(&[
        "worker",
        "--config",
        &config,
        "--index",
        "1",
        "--set",
        "job.clocks=9",
        "--",
        "sh",
        "-c",
        variables,
        "sh",
        "-x",
    ]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "virginia 1 1/9 0/1 0/3 9 -x\n");
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));

    let two = [
        "worker",
        "--config",
        &config,
        "--index",
        "1",
        "--spawn",
        "2",
        "--",
        "sh",
        "-c",
        "exit $((RANK - 1))",
    ];
    assert_eq!(gaia(&two).status.code(), Some(1), "the second of them is rank 2");
    let output = gaia(&["worker", "--config", &config, "--index", "1", "--spawn", "3", "--", "true"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--spawn: found 3; allowed: at most 2"), "{said}");
    let output = gaia(&["worker", "--config", &config, "--index", "1", "--", "/no/such/program"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn signals_are_passed_on() {
    let directory = tempfile::tempdir().unwrap();
    let config = files(directory.path());
    let ready = directory.path().join("ready");
    let script = format!("trap 'exit 5' TERM; touch {}; while :; do sleep 0.05; done", ready.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaia"));
    command.arg("worker").arg("--config").arg(&config).args(["--index", "0", "--", "sh", "-c", &script]);
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    while !ready.exists() {
        assert!(started.elapsed() < LIMIT, "it does not start");
        sleep(Duration::from_millis(20)).await;
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < LIMIT, "it does not end");
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(5));
}
