//! Whole processes die, and come back: from their checkpoints, from other regions, or not at all.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{ONE_AT_A_TIME, assert_equal, ended, finished, logs, outputs, plan, simulated, statuses, until};
use gaia::rehearsal::{Plan, Rehearsal};
use gaia::service::Part;
use gaia::status::fetch::Fetched;
use tokio::time::sleep;

/// Clocks of the job: enough to come back within.
const CLOCKS: &str = "120";

/// Shorter than an operator would have it, so that the tests do not wait for it.
const GRACE: [(&str, &str); 3] =
    [("grace.worker", "15 s"), ("grace.server", "3 s"), ("grace.datacenter", "4 s")];

/// What happens to the processes of a region.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// These die: all of a region, or one.
    Kill(&'static str, Option<Part>),
    /// They start again.
    Start(&'static str, Option<Part>),
    /// The checkpoints of a region are lost.
    LoseDisk(&'static str),
    /// Nothing, for so many milliseconds.
    Wait(u64),
    /// Nothing, until every shard that answers has come so far.
    Until(u32),
}

use Act::*;

fn clock(fetched: &[Fetched]) -> u32 {
    let shards = statuses(fetched).flat_map(|status| &status.servers).flat_map(|server| &server.shards);
    shards.map(|shard| shard.clock).max().unwrap_or(0)
}

async fn act(rehearsal: &mut Rehearsal, plan: &Plan, act: Act) {
    let is_meant = |region: &str, part: Option<Part>, process: &gaia::rehearsal::Process| {
        process.region == region && part.is_none_or(|part| process.part == part)
    };
    match act {
        Kill(region, part) => {
            rehearsal.processes.iter_mut().filter(|p| is_meant(region, part, p)).for_each(|p| p.kill());
        }
        Start(region, part) => {
            let meant = rehearsal.processes.iter_mut().filter(|p| is_meant(region, part, p));
            meant.for_each(|process| process.start_again(plan).unwrap());
        }
        LoseDisk(region) => {
            let kept = plan.directory.join("checkpoints").join("digits").join(region);
            std::fs::remove_dir_all(kept).unwrap();
        }
        Wait(millis) => sleep(Duration::from_millis(millis)).await,
        Until(wanted) => {
            let started = tokio::time::Instant::now();
            loop {
                let fetched = gaia::status::fetch::fetch(&rehearsal.targets(), Duration::from_secs(2)).await;
                if clock(&fetched) >= wanted {
                    return;
                }
                assert!(started.elapsed() < common::LIMIT, "not at {wanted}:\n{}", logs(rehearsal));
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn plan_in(directory: &Path) -> Plan {
    let checkpoints = directory.join("checkpoints").display().to_string();
    let set = [
        ("job.clocks", CLOCKS),
        ("at_end", "stay"),
        ("checkpoint.location", checkpoints.as_str()),
        ("checkpoint.every_clocks", "10"),
    ];
    plan(directory, &[&set[..], &GRACE[..]].concat())
}

/// Lets `story` happen, and everybody who is there at the end must have finished, with equal replicas, and have learned what a
/// run without any faults learns, within 2 %.
async fn rehearse(story: &[Act]) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let plan = plan_in(directory.path());
    let mut rehearsal = Rehearsal::start(&plan).unwrap();
    until(&mut rehearsal, |fetched| clock(fetched) >= 25 && fetched.iter().all(|f| f.status.is_ok())).await;
    for step in story {
        act(&mut rehearsal, &plan, *step).await;
    }
    let mut dead = Vec::new();
    for at in (0..rehearsal.processes.len()).rev() {
        if rehearsal.processes[at].ended().unwrap().is_some() {
            dead.push(rehearsal.processes.remove(at));
        }
    }
    let fetched = finished(&mut rehearsal).await;
    let undisturbed = simulated(directory.path(), 2, &[("job.clocks", CLOCKS)]);
    let scores = statuses(&fetched).flat_map(|s| &s.workers).filter_map(|worker| worker.score.clone());
    for score in scores {
        let apart = (score.objective - undisturbed.objective).abs() / undisturbed.objective;
        println!("objective {} against {}", score.objective, undisturbed.objective);
        assert!(
            apart < 0.02,
            "{} is not the {} of an undisturbed run",
            score.objective,
            undisturbed.objective
        );
    }
    for process in &mut rehearsal.processes {
        process.stop();
        let (code, who) = (ended(process).await, format!("{} of {}", process.part.role(), process.region));
        assert_eq!(code, Some(0), "{who}");
    }
    let outputs = outputs(directory.path());
    assert_eq!(outputs.len(), 4, "every shard is written");
    assert_equal(&outputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_dies_and_returns_from_its_checkpoint() {
    const SERVER: Option<Part> = Some(Part::Server(1));
    rehearse(&[Kill("ireland", SERVER), Wait(500), Start("ireland", SERVER)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_dies_with_its_disk_and_returns_from_a_mirror() {
    const SERVER: Option<Part> = Some(Part::Server(0));
    let story = [Kill("ireland", SERVER), LoseDisk("ireland"), Wait(500), Start("ireland", SERVER)];
    rehearse(&story).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_dies_and_returns() {
    rehearse(&[Kill("singapore", None), Until(50), Start("singapore", None)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_never_returns() {
    // Later, as its data is lost to the job: what remains to be learned of it, nobody learns.
    rehearse(&[Until(70), Kill("ireland", None)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_and_resumes() {
    let regions = ["virginia", "ireland", "singapore"];
    let kill = regions.map(|region| Kill(region, None));
    let start = regions.map(|region| Start(region, None));
    rehearse(&[&kill[..], &[Wait(500)], &start[..]].concat()).await;
}
