//! Whole processes die, and come back: from their checkpoints, from other regions, or not at all.
//! Regions are cut off, or late.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::{
    assert_equal, assert_near, assert_truthful, ended, finished, furthest, left_out, logs, outputs, parts,
    plan, simulated, statuses, until, whole_regions,
};
use gaia::program::local_cluster::{LocalCluster, Plan, Process};
use gaia::service::Part;
use gaia::service::status::Phase;
use gaia::service::status::fetch::{Fetched, fetch};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// Thirty processes at a time: they wait for each other more than they compute.
static TURNS: Semaphore = Semaphore::const_new(2);

/// Clocks of the job: enough to come back within.
const CLOCKS: u32 = 120;

/// Shorter than an operator would have it, so that the tests do not wait for it.
const GRACE: [(&str, &str); 3] =
    [("grace.worker", "15 s"), ("grace.server", "3 s"), ("grace.datacenter", "4 s")];

/// The same, but for regions that are silent as a whole: whoever waits for one shows it.
const PATIENT: [(&str, &str); 3] =
    [("grace.worker", "15 s"), ("grace.server", "3 s"), ("grace.datacenter", "60 s")];

const REGIONS: [&str; 3] = ["virginia", "ireland", "singapore"];

/// What happens to the processes of a region, or to the links.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// These die: all of a region, or one.
    Kill(&'static str, Option<Part>),
    /// They are asked to stop, and do so.
    Stop(&'static str, Option<Part>),
    /// They start, again or for the first time.
    Start(&'static str, Option<Part>),
    /// Nobody hears the region any more, nor it them.
    CutOff(&'static str),
    /// They hear each other again.
    Join(&'static str),
    /// The checkpoints of a region are lost.
    LoseDisk(&'static str),
    /// Nothing, for so many milliseconds.
    Wait(u64),
    /// Nothing, until every shard that answers has come so far.
    Until(u32),
    /// The same, which must not take as long as a region is waited for in [`PATIENT`].
    Soon(u32),
    /// Nothing, until everybody trains and each region has come further by so many clocks.
    Further(u32),
}

use Act::*;

/// What servers have told of what costs money: no process of any tells less than one before it has.
#[derive(Debug, Default)]
struct Told(BTreeMap<(String, u16), BTreeMap<String, u64>>);

impl Told {
    fn hear(&mut self, fetched: &[Fetched]) {
        for status in statuses(fetched) {
            for server in &status.servers {
                let mut now = BTreeMap::from([
                    ("sent".to_owned(), server.wan_sent_bytes),
                    ("received".to_owned(), server.wan_received_bytes),
                ]);
                for shard in &server.shards {
                    now.insert(format!("updated on {}", shard.shard), shard.updated_elements);
                    now.insert(format!("shipped of {}", shard.shard), shard.shipped_elements);
                }
                for link in &server.links {
                    let mut add = |what: &str, bytes| {
                        now.insert(format!("{what} {} {}", link.datacenter, link.server), bytes);
                    };
                    add("sent to", link.sent_bytes);
                    add("received from", link.received_bytes);
                    add("payload to", link.sent_payload_bytes);
                    add("repeated to", link.repeated_bytes);
                    add("naive to", link.naive_bytes);
                }
                let known = self.0.entry((status.datacenter.clone(), server.index)).or_default();
                for (what, count) in now {
                    let before = known.insert(what.clone(), count).unwrap_or(0);
                    let who = format!("{} server {}", status.datacenter, server.index);
                    assert!(count >= before, "{who}, {what}: {before}, and then {count}");
                }
            }
        }
    }

    /// What was counted in a region went with its disk.
    fn forget(&mut self, region: &str) {
        self.0.retain(|(name, _), _| name != region);
    }
}

fn clock(fetched: &[Fetched]) -> u32 {
    furthest(statuses(fetched))
}

/// How far each region is.
fn clocks(fetched: &[Fetched]) -> [u32; 3] {
    REGIONS.map(|region| furthest(statuses(fetched).filter(|status| status.datacenter == region)))
}

/// Asks everybody until `done` says so.
async fn ask(
    cluster: &LocalCluster,
    told: &mut Told,
    wanted: &Act,
    mut done: impl FnMut(&[Fetched]) -> bool,
) {
    let started = Instant::now();
    loop {
        let fetched = fetch(&cluster.targets(), Duration::from_secs(2)).await;
        told.hear(&fetched);
        if done(&fetched) {
            return;
        }
        assert!(started.elapsed() < common::LIMIT, "no {wanted:?}:\n{}", logs(cluster));
        sleep(Duration::from_millis(100)).await;
    }
}

async fn act(cluster: &mut LocalCluster, told: &mut Told, plan: &Plan, act: Act) {
    let is_meant = |region: &str, part: Option<Part>, process: &Process| {
        process.region == region && part.is_none_or(|part| process.part == part)
    };
    match act {
        Kill(region, part) => {
            told.hear(&fetch(&cluster.targets(), Duration::from_secs(2)).await);
            cluster.processes.iter_mut().filter(|p| is_meant(region, part, p)).for_each(|p| p.kill());
        }
        Stop(region, part) => {
            for process in cluster.processes.iter_mut().filter(|p| is_meant(region, part, p)) {
                process.stop();
                assert_eq!(ended(process).await, Some(0), "{act:?}:\n{}", logs(cluster));
            }
        }
        Start(region, part) => {
            let meant = cluster.processes.iter_mut().filter(|p| is_meant(region, part, p));
            meant.for_each(|process| process.start_again(plan).unwrap());
        }
        CutOff(region) => {
            for other in REGIONS.into_iter().filter(|other| *other != region) {
                cluster.cut(region, other);
                cluster.cut(other, region);
            }
        }
        Join(region) => {
            for other in REGIONS.into_iter().filter(|other| *other != region) {
                cluster.heal(region, other);
                cluster.heal(other, region);
            }
        }
        LoseDisk(region) => {
            let kept = plan.directory.join("checkpoints").join("digits").join(region);
            std::fs::remove_dir_all(kept).unwrap();
            told.forget(region);
        }
        Wait(millis) => sleep(Duration::from_millis(millis)).await,
        Until(wanted) => ask(cluster, told, &act, |fetched| clock(fetched) >= wanted).await,
        Soon(wanted) => {
            let started = Instant::now();
            ask(cluster, told, &act, |fetched| clock(fetched) >= wanted).await;
            let took = started.elapsed();
            assert!(took < Duration::from_secs(40), "{act:?} took {took:?}");
        }
        Further(by) => {
            let mut from = None;
            let trains = |f: &Fetched| f.status.as_ref().is_ok_and(|status| status.phase == Phase::Training);
            ask(cluster, told, &act, |fetched| {
                let all_train = fetched.iter().all(trains);
                let now = clocks(fetched);
                if all_train && from.is_none() {
                    from = Some(now);
                }
                from.is_some_and(|from| from.iter().zip(now).all(|(from, now)| now >= from + by))
            })
            .await;
        }
    }
}

fn plan_in(directory: &Path, clocks: u32, grace: [(&str, &str); 3]) -> Plan {
    let checkpoints = directory.join("checkpoints").display().to_string();
    let clocks = clocks.to_string();
    let set = [
        ("job.clocks", clocks.as_str()),
        ("at_end", "stay"),
        ("checkpoint.location", checkpoints.as_str()),
        ("checkpoint.every_clocks", "10"),
    ];
    plan(directory, &[&set[..], &grace[..]].concat())
}

/// Lets `story` happen, and everybody who is there at the end must have finished, with equal
/// replicas, and have learned what a run without any faults learns, within 2 %.
async fn rehearse(story: &[Act]) {
    rehearse_with(CLOCKS, &[], story).await;
}

/// The same with so many clocks, and without those who are late until the story starts them.
async fn rehearse_with(clocks: u32, late: &[&'static str], story: &[Act]) {
    rehearse_under(GRACE, clocks, late, story).await;
}

/// The same where others are waited for as `grace` has it.
async fn rehearse_under(grace: [(&str, &str); 3], clocks: u32, late: &[&'static str], story: &[Act]) {
    let _turn = TURNS.acquire().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut plan = Plan { late: late.to_vec(), ..plan_in(directory.path(), clocks, grace) };
    if !late.is_empty() {
        // Longer than the others take to start.
        plan.set.push(("grace.start".to_owned(), "10 s".to_owned()));
    }
    let mut cluster = LocalCluster::start(&plan).unwrap();
    let is_late = |fetched: &Fetched| {
        fetched.target.name.as_ref().is_some_and(|(region, _)| late.contains(&region.as_str()))
    };
    until(&mut cluster, |fetched| {
        clock(fetched) >= 25 && fetched.iter().all(|f| f.status.is_ok() || is_late(f))
    })
    .await;
    let mut told = Told::default();
    for step in story {
        act(&mut cluster, &mut told, &plan, *step).await;
    }
    let mut dead = Vec::new();
    for at in (0..cluster.processes.len()).rev() {
        if let Some(status) = cluster.processes[at].ended().unwrap() {
            assert_eq!(status.code(), None, "it was killed, or should be there:\n{}", logs(&cluster));
            dead.push(cluster.processes.remove(at));
        }
    }
    let is_lacking = REGIONS.iter().any(|region| cluster.processes.iter().all(|p| p.region != *region));
    let fetched = finished(&mut cluster).await;
    told.hear(&fetched);
    let undisturbed = simulated(directory.path(), 2, &[("job.clocks", &clocks.to_string())]);
    let scores = statuses(&fetched).flat_map(|s| &s.workers).filter_map(|worker| worker.score.clone());
    assert_near(&scores.collect::<Vec<_>>(), &undisturbed, 0.02);
    for process in &mut cluster.processes {
        process.stop();
        let (code, who) = (ended(process).await, format!("{} of {}", process.part.role(), process.region));
        // What a region that has not come back would have done is missing, and that is said.
        match is_lacking {
            true => assert_eq!(code, Some(3), "{who}"),
            false => assert_truthful(process, code),
        }
    }
    let outputs = outputs(directory.path());
    assert_eq!(outputs.len(), 4, "every shard is written");
    assert_equal(&outputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_dies_and_returns_from_its_checkpoint() {
    const SERVER: Option<Part> = Some(Part::Server(1));
    rehearse(&[Kill("ireland", SERVER), Wait(500), Start("ireland", SERVER), Further(1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_dies_with_its_disk_and_returns_from_a_mirror() {
    const SERVER: Option<Part> = Some(Part::Server(0));
    let story = [Kill("ireland", SERVER), LoseDisk("ireland"), Wait(500), Start("ireland", SERVER)];
    rehearse(&story).await;
}

/// Its workers know that there is a model, and wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_returns_with_nothing_and_hears_nobody_for_longer_than_the_grace_time() {
    const SERVER: Option<Part> = Some(Part::Server(0));
    let lost = [CutOff("ireland"), Kill("ireland", SERVER), LoseDisk("ireland"), Start("ireland", SERVER)];
    rehearse_with(240, &[], &[&lost[..], &[Wait(8000), Join("ireland"), Further(5)]].concat()).await;
}

/// Its workers leave its sibling, for which the other regions would wait; one of them starts anew
/// meanwhile. That the sibling is there shows the others, none of whose processes has a link to
/// both, that it is not the region that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_away_for_long_and_nobody_waits_for_its_sibling() {
    const SERVER: Option<Part> = Some(Part::Server(0));
    const WORKER: Option<Part> = Some(Part::Worker(1));
    let away = [Kill("ireland", SERVER), Kill("ireland", WORKER), Start("ireland", WORKER), Soon(70)];
    let story = [&away[..], &[Start("ireland", SERVER), Further(5)]].concat();
    rehearse_under(PATIENT, 240, &[], &story).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_dies_and_returns() {
    rehearse(&[Kill("singapore", None), Until(50), Start("singapore", None)]).await;
}

/// Its clock ends where that of the others does, and that is not all that there is to say.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_a_region_was_away_for_are_missing_and_everybody_says_so() {
    let _turn = TURNS.acquire().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let plan = plan_in(directory.path(), 100, [GRACE[0], GRACE[1], ("grace.datacenter", "2 s")]);
    let mut cluster = whole_regions(&plan);
    cluster.processes.iter_mut().for_each(|process| process.start_again(&plan).unwrap());
    let mut told = Told::default();
    act(&mut cluster, &mut told, &plan, Until(15)).await;
    act(&mut cluster, &mut told, &plan, Kill("singapore", None)).await;
    act(&mut cluster, &mut told, &plan, Until(40)).await;
    act(&mut cluster, &mut told, &plan, Start("singapore", None)).await;
    let fetched = finished(&mut cluster).await;
    let counts: Vec<_> = statuses(&fetched)
        .flat_map(|status| &status.regions)
        .filter(|part| part.datacenter == "singapore")
        .map(|part| (part.clock, part.left_out))
        .collect();
    let count = counts[0].1;
    assert!((10..60).contains(&count), "{count}");
    assert_eq!(counts, [(100, count); 3], "all say the same");
    for process in &mut cluster.processes {
        process.stop();
        assert_eq!(ended(process).await, Some(3), "{}", process.region);
        let text = std::fs::read_to_string(&process.log).unwrap();
        let said = format!("singapore (clock 100 of 100, {count} of them left out)");
        assert!(text.contains(&said) && !text.contains("arrived everywhere"), "{text}");
    }
    let all = REGIONS.map(|region| (region.to_owned(), 100));
    assert!(parts(directory.path()).values().all(|parts| *parts == all.clone().into()));
    let written = left_out(directory.path());
    assert_eq!(written.len(), 12);
    assert!(written.values().all(|left_out| *left_out == [("singapore".to_owned(), count)].into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_never_returns() {
    // Later, as its data is lost to the job: what remains to be learned of it, nobody learns.
    rehearse(&[Until(70), Kill("ireland", None)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_killed_and_resumes() {
    let kill = REGIONS.map(|region| Kill(region, None));
    let start = REGIONS.map(|region| Start(region, None));
    rehearse(&[&kill[..], &[Wait(500)], &start[..]].concat()).await;
}

/// For longer than the grace time: both sides go on, and become one again.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_cut_off_and_returns() {
    rehearse(&[CutOff("singapore"), Wait(5000), Further(15), Join("singapore")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_is_restarted_in_turn() {
    let servers = [Part::Server(0), Part::Server(1)];
    let parts = [&servers[..], &[Part::Worker(0), Part::Worker(1), Part::Worker(2)]].concat();
    let all = REGIONS.into_iter().flat_map(|region| parts.iter().map(move |part| (region, Some(*part))));
    // Every other one in order.
    let restart = all.enumerate().flat_map(|(count, (region, part))| {
        let end = if count % 2 == 0 { Stop(region, part) } else { Kill(region, part) };
        [end, Start(region, part), Further(1)]
    });
    rehearse_with(300, &[], &restart.collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_comes_late() {
    // It has to learn what its data has to say in the clocks that are left.
    rehearse_with(240, &["singapore"], &[Until(40), Start("singapore", None), Further(5)]).await;
}

/// It is back before the others go on without it; `processes.rs` has one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_and_returns() {
    const WORKER: Option<Part> = Some(Part::Worker(1));
    rehearse(&[Kill("virginia", WORKER), Wait(2000), Start("virginia", WORKER), Further(10)]).await;
}
