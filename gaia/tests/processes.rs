//! Three regions as real processes on loopback, over emulated links.
//!
//! What is compared with the simulation is what does not depend on the machine's speed: the objective, and how many bytes
//! crossed the WAN. The declared cost of computing makes clocks long enough that a busy machine keeps up.

mod common;

use common::{
    ONE_AT_A_TIME, assert_equal, assert_learned, ended, finished, logs, outputs, plan, simulated, statuses,
    stop_all, until,
};
use gaia::rehearsal::{Plan, Process, Rehearsal};
use gaia::service::Part;
use gaia::status::fetch::Fetched;
use gaia::status::{Absence, MissingWorker, Phase, ServerStatus, Status};
use wan::relay::RelayCounters;

/// Runs the job to its end; judges what was learned and what it cost.
async fn run_to_the_end(servers: u16) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan { servers, ..plan(directory.path(), &[("at_end", "stay")]) };
    let mut rehearsal = Rehearsal::start(&plan).unwrap();
    let fetched = finished(&mut rehearsal).await;
    let counters = rehearsal.relay.counters();
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
    let set = [
        ("job.clocks", "60"),
        ("grace.worker", "15 s"),
        ("grace.server", "3 s"),
        ("grace.datacenter", "4 s"),
    ];
    let mut rehearsal = Rehearsal::start(&plan(directory.path(), &set)).unwrap();
    let is_it = |process: &Process| process.region == region && process.part == part;
    until(&mut rehearsal, |fetched| {
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
    for process in &rehearsal.processes {
        let text = std::fs::read_to_string(&process.log).unwrap();
        assert!(text.contains(&format!(" {} ", process.part.role())), "{text}");
        // A field says it once: `worker=2`.
        assert!(!text.contains("worker=worker ") && !text.contains("shard=shard "), "{text}");
    }
    stop_all(rehearsal).await;
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
    let mut rehearsal = Rehearsal::start(&plan(directory.path(), &[])).unwrap();
    until(&mut rehearsal, |fetched| {
        let clocks = statuses(fetched).flat_map(|s| &s.servers).flat_map(|s| &s.shards).map(|s| s.clock);
        clocks.min().is_some_and(|clock| clock >= 5) && fetched.iter().all(|f| f.status.is_ok())
    })
    .await;
    let (workers, servers): (Vec<_>, Vec<_>) =
        rehearsal.processes.drain(..).partition(|process| matches!(process.part, Part::Worker(_)));
    for mut worker in workers {
        worker.stop();
        assert_eq!(ended(&mut worker).await, Some(0), "worker of {}", worker.region);
    }
    rehearsal.processes = servers;
    until(&mut rehearsal, |fetched| {
        let waits = |status: &Status| {
            let left = status.waiting_for.iter().any(|what| what == "workers, all of which have left");
            status.phase == Phase::Waiting && left
        };
        fetched.len() == 6 && fetched.iter().all(|f| f.status.as_ref().is_ok_and(waits))
    })
    .await;
    stop_all(rehearsal).await;
    let written = std::fs::read_dir(directory.path().join("out")).unwrap().count();
    assert_eq!(written, 0, "there is no result of a job that is not done");
}

/// A model that blows up ends the worker in which it does, by name, and reaches no table.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_model_diverges_says_so_and_spreads_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let set = [("job.model.learning_rate.initial", "1e39")];
    let mut rehearsal = Rehearsal::start(&plan(directory.path(), &set)).unwrap();
    let process = rehearsal.processes.iter_mut().find(|p| matches!(p.part, Part::Worker(_))).unwrap();
    assert_eq!(ended(process).await, Some(1));
    let text = std::fs::read_to_string(&process.log).unwrap();
    let said = text.lines().last().unwrap_or_default();
    assert!(said.contains("table `weights` row ") && said.contains("the delta is "), "{text}");
    for server in rehearsal.processes.iter().filter(|p| matches!(p.part, Part::Server(_))) {
        let text = std::fs::read_to_string(&server.log).unwrap();
        assert!(!text.contains("refused a worker's request"), "the worker itself has seen it: {text}");
    }
}

/// Workers that are killed, or hang, hold up the others for the grace time and no longer; who is back goes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_a_worker_that_is_gone_until_it_is_back() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path(), &[("job.clocks", "80"), ("grace.worker", "15 s")]);
    let mut rehearsal = Rehearsal::start(&plan).unwrap();
    let clock = |fetched: &[Fetched]| {
        let clocks = statuses(fetched).flat_map(|s| &s.servers).flat_map(|s| &s.shards).map(|s| s.clock);
        clocks.min().unwrap_or(0)
    };
    until(&mut rehearsal, |fetched| clock(fetched) >= 10 && fetched.iter().all(|f| f.status.is_ok())).await;
    let position = |rehearsal: &Rehearsal, region: &str, part: Part| {
        rehearsal.processes.iter().position(|p| p.region == region && p.part == part).unwrap()
    };
    let at = position(&rehearsal, "virginia", Part::Worker(1));
    let killed = rehearsal.processes.remove(at);
    let (part, admin, set) = (killed.part, killed.admin, killed.set.clone());
    let log = killed.log.with_extension("again.log");
    drop(killed);
    let frozen = position(&rehearsal, "ireland", Part::Worker(2));
    rehearsal.processes[frozen].freeze(true);
    let gone = |fetched: &[Fetched], region: &str, worker: u32| {
        let servers = statuses(fetched).filter(|s| s.datacenter == region).flat_map(|s| &s.servers);
        let is_gone = |missing: &MissingWorker| {
            missing.worker == worker && missing.state == Absence::Gone && missing.reason.is_some()
        };
        let gone = servers.filter(|s| s.suspensions == 1 && s.missing_workers.iter().any(is_gone));
        gone.count() == 2
    };
    let without = until(&mut rehearsal, |fetched| {
        gone(fetched, "virginia", 1) && gone(fetched, "ireland", 2) && clock(fetched) >= 15
    })
    .await;
    let left = clock(&without);
    assert!(left < 70, "{left}: too late to come back");
    rehearsal.processes[frozen].freeze(false);
    let again = Process::start(&plan, "virginia", part, admin, set, log).unwrap();
    rehearsal.processes.push(again);
    until(&mut rehearsal, |fetched| {
        let is_whole = |s: &ServerStatus| s.workers.len() == 3 && s.missing_workers.is_empty();
        statuses(fetched).flat_map(|s| &s.servers).filter(|s| is_whole(s)).count() == 6
    })
    .await;
    for at in 0..rehearsal.processes.len() {
        let process = &mut rehearsal.processes[at];
        let (code, who) = (ended(process).await, format!("{} of {}", process.part.role(), process.region));
        assert_eq!(code, Some(0), "{who}:\n{}", logs(&rehearsal));
    }
    let outputs = outputs(directory.path());
    assert_eq!(outputs.len(), 4, "every shard is written");
    assert_equal(&outputs);
}
