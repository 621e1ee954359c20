//! Three regions as real processes on loopback, over emulated links.
//!
//! What is compared with the simulation is what does not depend on the machine's speed: the
//! objective, and how many bytes crossed the WAN. The declared cost of computing makes clocks long
//! enough that a busy machine keeps up.

mod common;

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use common::{
    LIMIT, ONE_AT_A_TIME, assert_equal, assert_learned, assert_truthful, ended, finished, logs, outputs,
    parts, plan, simulated, statuses, stop_all, until, whole_regions,
};
use flate2::read::GzDecoder;
use gaia::program::local_cluster::{LocalCluster, Plan, Process};
use gaia::service::Part;
use gaia::service::status::fetch::{Fetched, fetch};
use gaia::service::status::{Absence, MissingWorker, Phase, ServerStatus, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wan::relay::RelayCounters;

/// Runs the job to its end; judges what was learned and what it cost.
async fn run_to_the_end(servers: u16) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan { servers, ..plan(directory.path(), &[("at_end", "stay")]) };
    let mut cluster = LocalCluster::start(&plan).unwrap();
    let fetched = finished(&mut cluster).await;
    let counters = cluster.relay.counters();
    let bytes = |link: &RelayCounters| link.forward.link.offered_bytes + link.backward.link.offered_bytes;
    let relayed: u64 = counters.iter().map(bytes).sum();
    let sent: u64 = statuses(&fetched).flat_map(|s| &s.servers).map(|server| server.wan_sent_bytes).sum();
    let simulated = simulated(directory.path(), servers, &[]);
    let scores = assert_learned(&fetched, &simulated);
    println!(
        "{servers} servers: objective {:?}, simulated {}; sent {sent}, relayed {relayed}, simulated {} bytes",
        scores.iter().map(|score| score.objective).collect::<Vec<_>>(),
        simulated.objective,
        simulated.wan_bytes
    );
    let apart = (sent as f64 / relayed as f64 - 1.0).abs();
    assert!(apart < 0.02, "sent {sent}, relayed {relayed}");
    let apart = (sent as f64 / simulated.wan_bytes as f64 - 1.0).abs();
    assert!(apart < 0.15, "sent {sent}, simulated {}", simulated.wan_bytes);
    for (process, fetched) in cluster.processes.iter().zip(&fetched) {
        let status = fetched.status.as_ref().unwrap();
        assert_eq!(
            (process.region.to_owned(), process.part.role()),
            (status.datacenter.clone(), status.role.clone())
        );
        assert_recorded(status, &scraped(process).await);
    }
    assert_equal(&outputs(directory.path()));
}

/// What `process` answers at `/metrics`.
async fn scraped(process: &Process) -> String {
    let mut stream = TcpStream::connect(process.admin).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// What was recorded as it happened, added up over all series of `name` that have this label.
fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let of_name =
        metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let values = of_name.filter(|line| line.contains(label)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

/// What was recorded while a job ran is what the status of its process says in the end.
fn assert_recorded(status: &Status, metrics: &str) {
    let sum = |name: &str, label: &str| sum(metrics, name, label);
    let is_near = |told: f64, recorded: f64| (told - recorded).abs() < 1e-6 * (1.0 + told);
    assert_eq!(sum("gaia_uptime_seconds", &format!("role=\"{}\"", status.role)).signum(), 1.0, "{metrics}");
    for worker in &status.workers {
        let label = format!("worker=\"{}\"", worker.index);
        let recorded = |name: &str| sum(name, &label);
        assert!(is_near(worker.compute_seconds, recorded("gaia_worker_compute_seconds_sum")), "{metrics}");
        assert!(is_near(worker.wait_seconds, recorded("gaia_worker_wait_seconds_sum")), "{metrics}");
        assert!(recorded("gaia_worker_wait_seconds_count") >= f64::from(worker.clock), "{metrics}");
        assert_eq!(recorded("gaia_worker_processed_examples_total"), worker.processed_examples as f64);
    }
    for server in &status.servers {
        let label = format!("server=\"{}\"", server.index);
        let flushes = server.shards.len() as u32 * server.workers.len() as u32 * server.shards[0].clock;
        // Workers have left by the end, and then they are not counted.
        assert!(sum("gaia_flush_bytes_count", &label) >= f64::from(flushes).max(1.0), "{metrics}");
        for link in &server.links {
            let label = format!("peer=\"{}\",peer_server=\"{}\"", link.datacenter, link.server);
            assert_eq!(sum("gaia_link_connects_total", &label), link.connects as f64, "{metrics}");
            let (sent, received) =
                (sum("gaia_link_sent_update_bytes_sum", &label), "gaia_link_received_update_bytes_count");
            assert!(sent >= link.sent_payload_bytes as f64 && sum(received, &label) > 0.0, "{metrics}");
        }
        for shard in &server.shards {
            let told: f64 = shard.held_seconds.values().sum();
            assert!(
                is_near(told, sum("gaia_hold_seconds_sum", &format!("shard=\"{}\"", shard.shard))),
                "{metrics}"
            );
        }
    }
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
    let set = [
        ("job.clocks", "60"),
        ("grace.worker", "15 s"),
        ("grace.server", "3 s"),
        ("grace.datacenter", "4 s"),
    ];
    let mut cluster = LocalCluster::start(&plan(directory.path(), &set)).unwrap();
    let is_it = |process: &Process| process.region == region && process.part == part;
    until(&mut cluster, |fetched| {
        let clock = statuses(fetched).flat_map(|s| &s.servers).flat_map(|s| &s.shards).map(|s| s.clock).min();
        clock.is_some_and(|clock| clock >= 20) && fetched.iter().all(|f| f.status.is_ok())
    })
    .await;
    let stopped = cluster.processes.iter_mut().find(|process| is_it(process)).unwrap();
    stopped.stop();
    assert_eq!(ended(stopped).await, Some(0), "it hands over what it has:\n{}", logs(&cluster));
    // Without one of its servers the workers of a region wait for it, and go on when they are
    // stopped.
    let waits = |process: &Process| matches!(part, Part::Server(_)) && process.region == region;
    for at in 0..cluster.processes.len() {
        let process = &mut cluster.processes[at];
        if is_it(process) || (waits(process) && matches!(process.part, Part::Worker(_))) {
            continue;
        }
        let (code, who) = (ended(process).await, format!("{} of {}", process.part.role(), process.region));
        // What the region of a server that does not come back would have done is missing in its
        // shards, as workers hear as well.
        let lacks = match (part, process.part) {
            (Part::Server(gone), Part::Server(index)) => gone == index,
            (Part::Server(_), Part::Worker(_)) => true,
            _ => false,
        };
        let is_left_alone = waits(process);
        match (lacks || is_left_alone, process.part) {
            (true, _) => assert_eq!(code, Some(3), "{who}:\n{}", logs(&cluster)),
            // Others hear that the rest of that region was left alone.
            (false, Part::Server(_)) => assert_truthful(process, code),
            (false, _) => assert_eq!(code, Some(0), "{who}:\n{}", logs(&cluster)),
        }
    }
    for process in &cluster.processes {
        let text = std::fs::read_to_string(&process.log).unwrap();
        assert!(text.contains(&format!(" {} ", process.part.role())), "{text}");
        // A field says it once: `worker=2`.
        assert!(!text.contains("worker=worker ") && !text.contains("shard=shard "), "{text}");
    }
    for process in cluster.processes.iter_mut().filter(|process| waits(process)) {
        process.stop();
        ended(process).await;
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

/// A region whose workers are restarted is not done: who leaves before the end is expected back.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_workers_is_not_done() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = LocalCluster::start(&plan(directory.path(), &[])).unwrap();
    until(&mut cluster, |fetched| {
        let clocks = statuses(fetched).flat_map(|s| &s.servers).flat_map(|s| &s.shards).map(|s| s.clock);
        clocks.min().is_some_and(|clock| clock >= 5) && fetched.iter().all(|f| f.status.is_ok())
    })
    .await;
    let (workers, servers): (Vec<_>, Vec<_>) =
        cluster.processes.drain(..).partition(|process| matches!(process.part, Part::Worker(_)));
    for mut worker in workers {
        worker.stop();
        assert_eq!(ended(&mut worker).await, Some(0), "worker of {}", worker.region);
    }
    cluster.processes = servers;
    until(&mut cluster, |fetched| {
        let waits = |status: &Status| {
            let left = status.waiting_for.iter().any(|what| what == "workers, all of which have left");
            status.phase == Phase::Waiting && left
        };
        fetched.len() == 6 && fetched.iter().all(|f| f.status.as_ref().is_ok_and(waits))
    })
    .await;
    stop_all(cluster).await;
    let written = std::fs::read_dir(directory.path().join("out")).unwrap().count();
    assert_eq!(written, 0, "there is no result of a job that is not done");
}

/// A model that blows up ends the worker in which it does, by name, and reaches no table.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_model_diverges_says_so_and_spreads_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let set = [("job.model.learning_rate.initial", "1e39")];
    let mut cluster = LocalCluster::start(&plan(directory.path(), &set)).unwrap();
    let process = cluster.processes.iter_mut().find(|p| matches!(p.part, Part::Worker(_))).unwrap();
    assert_eq!(ended(process).await, Some(1));
    let text = std::fs::read_to_string(&process.log).unwrap();
    let said = error_of(&text);
    assert!(said.contains("table `weights` row ") && said.contains("the delta is "), "{text}");
    for server in cluster.processes.iter().filter(|p| matches!(p.part, Part::Server(_))) {
        let text = std::fs::read_to_string(&server.log).unwrap();
        assert!(!text.contains("refused a worker's request"), "the worker itself has seen it: {text}");
    }
}

/// Workers that are killed, or hang, hold up the others for the grace time and no longer; who is
/// back goes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_a_worker_that_is_gone_until_it_is_back() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path(), &[("job.clocks", "80"), ("grace.worker", "15 s")]);
    let mut cluster = LocalCluster::start(&plan).unwrap();
    let clock = |fetched: &[Fetched]| {
        let clocks = statuses(fetched).flat_map(|s| &s.servers).flat_map(|s| &s.shards).map(|s| s.clock);
        clocks.min().unwrap_or(0)
    };
    until(&mut cluster, |fetched| clock(fetched) >= 10 && fetched.iter().all(|f| f.status.is_ok())).await;
    let position = |cluster: &LocalCluster, region: &str, part: Part| {
        cluster.processes.iter().position(|p| p.region == region && p.part == part).unwrap()
    };
    let at = position(&cluster, "virginia", Part::Worker(1));
    let killed = cluster.processes.remove(at);
    let (part, admin, set) = (killed.part, killed.admin, killed.set.clone());
    let log = killed.log.with_extension("again.log");
    drop(killed);
    let frozen = position(&cluster, "ireland", Part::Worker(2));
    cluster.processes[frozen].freeze(true);
    let gone = |fetched: &[Fetched], region: &str, worker: u32| {
        let servers = statuses(fetched).filter(|s| s.datacenter == region).flat_map(|s| &s.servers);
        let is_gone = |missing: &MissingWorker| {
            missing.worker == worker && missing.state == Absence::Gone && missing.reason.is_some()
        };
        let gone = servers.filter(|s| s.suspensions == 1 && s.missing_workers.iter().any(is_gone));
        gone.count() == 2
    };
    let without = until(&mut cluster, |fetched| {
        gone(fetched, "virginia", 1) && gone(fetched, "ireland", 2) && clock(fetched) >= 15
    })
    .await;
    let left = clock(&without);
    assert!(left < 70, "{left}: too late to come back");
    cluster.processes[frozen].freeze(false);
    let again = Process::start(&plan, "virginia", part, admin, set, log).unwrap();
    cluster.processes.push(again);
    until(&mut cluster, |fetched| {
        let is_whole = |s: &ServerStatus| s.workers.len() == 3 && s.missing_workers.is_empty();
        statuses(fetched).flat_map(|s| &s.servers).filter(|s| is_whole(s)).count() == 6
    })
    .await;
    for at in 0..cluster.processes.len() {
        let process = &mut cluster.processes[at];
        let (code, who) = (ended(process).await, format!("{} of {}", process.part.role(), process.region));
        assert_eq!(code, Some(0), "{who}:\n{}", logs(&cluster));
    }
    let outputs = outputs(directory.path());
    assert_eq!(outputs.len(), 4, "every shard is written");
    assert_equal(&outputs);
}

/// Starts a cluster's process, and waits until it answers `done`.
async fn wait_for(cluster: &LocalCluster, at: usize, done: impl Fn(&Status) -> bool) -> Status {
    let started = tokio::time::Instant::now();
    loop {
        let fetched = fetch(&cluster.targets()[at..=at], Duration::from_secs(2)).await;
        if let Some(Ok(status)) = fetched.into_iter().next().map(|fetched| fetched.status)
            && done(&status)
        {
            return status;
        }
        assert!(started.elapsed() < LIMIT, "it takes too long:\n{}", logs(cluster));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A region whose peers have not come trains nothing, for however long; then there is one model.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_alone_waits_for_the_others_and_says_so() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path(), &[("job.clocks", "20"), ("grace.datacenter", "2 s")]);
    let mut cluster = whole_regions(&plan);
    cluster.processes[0].start_again(&plan).unwrap();
    let status = wait_for(&cluster, 0, |status| status.uptime_seconds > 8.0).await;
    assert_eq!(status.phase, Phase::Waiting);
    for region in ["ireland", "singapore"] {
        assert!(status.waiting_for.iter().any(|what| what.contains(region)), "{:?}", status.waiting_for);
    }
    assert!(status.servers[0].shards.iter().all(|shard| shard.clock == 0));
    for process in &mut cluster.processes[1..] {
        process.start_again(&plan).unwrap();
    }
    for at in 0..3 {
        assert_eq!(ended(&mut cluster.processes[at]).await, Some(0), "{}", logs(&cluster));
    }
    let text = std::fs::read_to_string(&cluster.processes[0].log).unwrap();
    let waits = text.lines().find(|line| line.contains("waits_for")).unwrap_or_default();
    assert!(waits.contains("ireland") && waits.contains("singapore"), "{text}");
    assert!(text.contains("everything has arrived everywhere"), "{text}");
    assert_equal(&outputs(directory.path()));
    let parts = parts(directory.path());
    assert!(
        parts.len() == 12 && parts.values().all(|part| part.len() == 3 && part.values().all(|c| *c == 20))
    );
}

/// There is no clock that a worker could end, and nobody to hand anything over to.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_waits_for_the_others_is_stopped_at_once() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path(), &[]);
    let mut cluster = whole_regions(&plan);
    cluster.processes[0].start_again(&plan).unwrap();
    wait_for(&cluster, 0, |status| status.phase == Phase::Waiting && !status.waiting_for.is_empty()).await;
    let asked = tokio::time::Instant::now();
    let process = &mut cluster.processes[0];
    process.stop();
    let (code, took) = (ended(process).await, asked.elapsed());
    let text = std::fs::read_to_string(&process.log).unwrap();
    assert_eq!(code, Some(0), "{text}");
    assert!(took < Duration::from_secs(3), "{took:?}: {text}");
    assert!(text.contains("the job has not begun: nothing was trained"), "{text}");
    assert!(!text.contains("error: ") && !text.contains("WARN"), "{text}");
}

/// Where the operator has said how many suffice, the result says who is not in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_lacks_a_region_is_not_told_as_one_that_has_it() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let set = [("job.clocks", "10"), ("regions.min", "2"), ("grace.start", "2 s")];
    let plan = plan(directory.path(), &set);
    let mut cluster = whole_regions(&plan);
    cluster.processes[..2].iter_mut().for_each(|process| process.start_again(&plan).unwrap());
    for at in 0..2 {
        assert_eq!(ended(&mut cluster.processes[at]).await, Some(3), "{}", logs(&cluster));
        let text = std::fs::read_to_string(&cluster.processes[at].log).unwrap();
        assert!(text.contains("a region has not come: starting without it"), "{text}");
        assert!(text.contains("singapore (clock 0 of 10)") && !text.contains("arrived everywhere"), "{text}");
        assert!(text.contains("clock 10: objective "), "there is a result all the same: {text}");
    }
    let parts = parts(directory.path());
    let expected =
        [("ireland", 10), ("singapore", 0), ("virginia", 10)].map(|(name, clock)| (name.to_owned(), clock));
    assert!(
        parts.len() == 8 && parts.values().all(|part| part.clone().into_iter().eq(expected.clone())),
        "{parts:?}"
    );
}

/// The last word of a process that ended with an error, after which it has not panicked.
fn error_of(log: &str) -> &str {
    assert!(!log.contains("panicked"), "{log}");
    log.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default()
}

/// Nothing but another setting heals that, so it is said, and nobody trains.
#[tokio::test(flavor = "multi_thread")]
async fn regions_of_different_jobs_end_and_name_what_differs() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path(), &[("grace.datacenter", "2 s")]);
    let mut cluster = whole_regions(&plan);
    for (process, clocks) in cluster.processes[..2].iter_mut().zip(["20", "21"]) {
        process.set.push(("job.clocks".to_owned(), clocks.to_owned()));
        process.start_again(&plan).unwrap();
    }
    for at in 0..2 {
        assert_eq!(ended(&mut cluster.processes[at]).await, Some(2), "{}", logs(&cluster));
        let text = std::fs::read_to_string(&cluster.processes[at].log).unwrap();
        let last = error_of(&text);
        assert!(last.contains("job.clocks is "), "{text}");
        assert!(last.contains("20 in virginia") && last.contains("21 in ireland"), "{text}");
    }
    let written = std::fs::read_dir(directory.path().join("out")).unwrap().count();
    assert_eq!(written, 0, "nobody has trained");
}

/// The same plan for a region whose own data is digits of some labels alone.
fn with_digits_of(plan: &Plan, region: &str, labels: RangeInclusive<u8>) -> Plan {
    let directory = plan.directory.join("own").join(region);
    let folder = directory.join("data");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["digits-train.csv.gz", "digits-test.csv.gz"] {
        let packed = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)).unwrap();
        let text = std::io::read_to_string(GzDecoder::new(packed)).unwrap();
        let label = |line: &str| line.rsplit(',').next().and_then(|label| label.trim().parse().ok());
        let lines = text.lines().filter(|line| label(line).is_none_or(|label| labels.contains(&label)));
        std::fs::write(folder.join(name), lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
    // All else is where it was.
    for entry in std::fs::read_dir(&plan.directory).unwrap() {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if !["data", "own"].iter().any(|other| name == *other) {
            std::os::unix::fs::symlink(from, directory.join(name)).unwrap();
        }
    }
    Plan { directory, ..plan.clone() }
}

/// Five columns of digits 0 to 4 are not five columns of digits 5 to 9.
#[tokio::test(flavor = "multi_thread")]
async fn regions_whose_columns_mean_something_else_refuse_each_other_and_name_the_labels() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path(), &[("job.data.scope", "own")]);
    let mut cluster = whole_regions(&plan);
    for (process, labels) in cluster.processes[..2].iter_mut().zip([0..=4, 5..=9]) {
        process.start_again(&with_digits_of(&plan, process.region, labels)).unwrap();
    }
    for at in 0..2 {
        assert_eq!(ended(&mut cluster.processes[at]).await, Some(2), "{}", logs(&cluster));
        let text = std::fs::read_to_string(&cluster.processes[at].log).unwrap();
        let last = error_of(&text);
        assert!(last.contains("job.data.labels is "), "{text}");
        assert!(last.contains("0 to 4 in virginia") && last.contains("5 to 9 in ireland"), "{text}");
    }
    let written = std::fs::read_dir(directory.path().join("out")).unwrap().count();
    assert_eq!(written, 0, "nobody has trained");
}

/// The same regions train one model of all digits once the job says which there are; one of them
/// has a single one.
#[tokio::test(flavor = "multi_thread")]
async fn regions_with_declared_labels_train_one_model_of_all_classes() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let set = [
        ("job.data.scope", "own"),
        ("job.data.labels", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"),
        ("job.clocks", "20"),
    ];
    let plan = plan(directory.path(), &set);
    let mut cluster = whole_regions(&plan);
    for (process, labels) in cluster.processes.iter_mut().zip([0..=4, 5..=9, 3..=3]) {
        process.start_again(&with_digits_of(&plan, process.region, labels)).unwrap();
    }
    for at in 0..3 {
        assert_eq!(ended(&mut cluster.processes[at]).await, Some(0), "{}", logs(&cluster));
    }
    assert_equal(&outputs(directory.path()));
    for entry in std::fs::read_dir(directory.path().join("out")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        assert_eq!(header["weights"]["shape"][1], 10, "{header}");
    }
}

/// What a stop loses is said, and what is safe.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_whose_last_checkpoint_cannot_be_written_says_which_one_is_safe() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (kept, moved) = (directory.path().join("kept"), directory.path().join("moved"));
    let location = kept.display().to_string();
    let set = [("checkpoint.location", location.as_str()), ("checkpoint.every_clocks", "1")];
    let plan = plan(directory.path(), &set);
    let mut cluster = whole_regions(&plan);
    cluster.processes.iter_mut().for_each(|process| process.start_again(&plan).unwrap());
    let has_kept = |status: &Status| {
        let mut shards = status.servers.iter().flat_map(|server| &server.shards).peekable();
        let is_kept = |shard: &gaia::service::status::ShardStatus| {
            shard.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.kept.is_some())
        };
        shards.peek().is_some() && shards.all(is_kept)
    };
    wait_for(&cluster, 0, has_kept).await;
    // As a disk that is gone.
    std::fs::rename(&kept, &moved).unwrap();
    std::fs::write(&kept, "").unwrap();
    let process = &mut cluster.processes[0];
    process.stop();
    assert_eq!(ended(process).await, Some(1), "{}", logs(&cluster));
    let text = std::fs::read_to_string(&cluster.processes[0].log).unwrap();
    let last = error_of(&text);
    assert!(last.contains("the last checkpoint of shard 0 could not be written"), "{text}");
    assert!(last.contains("the checkpoints of clock ") && last.contains(" are safe"), "{text}");
}

/// A job that is done is done as often as it is started. `GAIA_RESTARTS` says how often that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_that_is_started_again_ends_with_its_result() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let restarts = std::env::var("GAIA_RESTARTS").ok().map_or(5, |count| count.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().join("kept").display().to_string();
    let set = [("job.clocks", "10"), ("checkpoint.location", location.as_str())];
    let plan = plan(directory.path(), &set);
    let mut cluster = whole_regions(&plan);
    for restart in 0..=restarts {
        for process in &mut cluster.processes {
            let _ = std::fs::remove_file(&process.log);
            process.start_again(&plan).unwrap();
        }
        for at in 0..3 {
            let code = ended(&mut cluster.processes[at]).await;
            assert_eq!(code, Some(0), "restart {restart}:\n{}", logs(&cluster));
            let text = std::fs::read_to_string(&cluster.processes[at].log).unwrap();
            assert!(text.contains("clock 10: objective "), "restart {restart}: no objective:\n{text}");
        }
        assert_eq!(parts(directory.path()).len(), 12, "restart {restart}: no output:\n{}", logs(&cluster));
        assert_equal(&outputs(directory.path()));
        std::fs::remove_dir_all(directory.path().join("out")).unwrap();
    }
}
