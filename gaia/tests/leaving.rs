//! A region leaves a job for good, by an operator's command.

mod common;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use common::{assert_equal, assert_truthful, ended, finished, logs, outputs, plan, statuses, until};
use datacenter::identity::{Date, Dates, PeerName, Role};
use datacenter::lan::operator::ask;
use gaia::program::local_cluster::{LocalCluster, Plan};
use gaia::service::Part;
use gaia::service::certificates::{Directory, ProcessName, TlsFiles, Validity};
use gaia::service::status::fetch::Fetched;
use gaia::service::status::{MirrorPresence, Status};
use tokio::time::{Instant, sleep};

/// Long enough that nothing here ends since somebody is only given up.
const SETTINGS: [(&str, &str); 5] = [
    ("job.clocks", "150"),
    ("at_end", "stay"),
    ("grace.worker", "60 s"),
    ("grace.server", "120 s"),
    ("grace.datacenter", "120 s"),
];

fn clock(fetched: &[Fetched]) -> u32 {
    let shards = statuses(fetched).flat_map(|status| &status.servers).flat_map(|server| &server.shards);
    shards.map(|shard| shard.clock).max().unwrap_or(0)
}

async fn start(plan: &Plan) -> LocalCluster {
    let mut cluster = LocalCluster::start(plan).unwrap();
    let operators = ["virginia", "ireland"].map(|region| name(region, Role::Operator));
    let validity = Validity { now: Date::from(Dates::System.now()), days: 7 };
    Directory::new(plan.directory.join("certs")).issue(&operators, validity, true).unwrap();
    until(&mut cluster, |fetched| clock(fetched) >= 25 && fetched.iter().all(|f| f.status.is_ok())).await;
    cluster
}

fn name(region: &str, role: Role) -> ProcessName {
    ProcessName::new(PeerName::new(region, role).unwrap(), 0)
}

/// `gaia leave` with the settings of a region, and `more`.
fn leave(cluster: &LocalCluster, plan: &Plan, leaving: &str, of: &str, more: &[&str]) -> Output {
    let process = cluster.processes.iter().find(|process| process.region == of).unwrap();
    let mut command = std::process::Command::new(&plan.program);
    command
        .args(["leave", leaving, "--config"])
        .arg(plan.directory.join("regions").join(format!("{of}.toml")));
    command.arg("--data-path").arg(plan.directory.join("data"));
    for (key, value) in &process.set {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command.args(more).output().unwrap()
}

/// The same, by somebody who means it.
fn leave_surely(cluster: &LocalCluster, plan: &Plan, leaving: &str, of: &str) -> Output {
    leave(cluster, plan, leaving, of, &["--yes"])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn presences<'a>(status: &'a Status, region: &'a str) -> impl Iterator<Item = MirrorPresence> + 'a {
    let mirrors = status.servers.iter().flat_map(|server| &server.shards).flat_map(|shard| &shard.mirrors);
    mirrors.filter(move |mirror| mirror.datacenter == region).map(|mirror| mirror.presence)
}

/// Waits until all servers that are asked say that `region` has left, and nobody waits for it.
async fn left(cluster: &mut LocalCluster, region: &'static str) {
    let have_heard = |fetched: &[Fetched]| {
        let servers =
            statuses(fetched).filter(|status| !status.servers.is_empty() && status.datacenter != region);
        let mut seen = servers.map(|status| {
            presences(status, region).all(|presence| presence == MirrorPresence::Left)
                && !status.waiting_for.iter().any(|wait| wait.contains(region))
        });
        fetched.iter().filter(|f| f.status.is_ok()).count() > 0 && seen.all(|has_left| has_left)
    };
    let started = Instant::now();
    loop {
        let fetched = gaia::service::status::fetch::fetch(&cluster.targets(), Duration::from_secs(2)).await;
        if have_heard(&fetched) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{region} is still there:\n{}", logs(cluster));
        sleep(Duration::from_millis(100)).await;
    }
}

/// Those who remain have finished, with equal replicas.
async fn conclude(mut cluster: LocalCluster, directory: &Path) {
    finished(&mut cluster).await;
    for process in &mut cluster.processes {
        process.stop();
        let code = ended(process).await;
        assert_truthful(process, code);
    }
    let outputs = outputs(directory);
    assert_eq!(outputs.len(), 4, "every shard is written");
    assert_equal(&outputs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_dead_is_said_to_have_left() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path(), &SETTINGS);
    let mut cluster = start(&plan).await;
    let virginia = cluster.processes[0].set.clone();

    // Whoever has no business here changes nothing.
    let unknown = leave_surely(&cluster, &plan, "tokyo", "virginia");
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    let allowed = "REGION: found \"tokyo\"; allowed: a region of the job, virginia, ireland, singapore";
    assert!(said(&unknown).contains(allowed), "{}", said(&unknown));
    let without = leave_surely(&cluster, &plan, "ireland", "singapore");
    assert_eq!(without.status.code(), Some(2), "{}", said(&without));
    assert!(
        said(&without).contains("singapore-operator-0.pem is missing; `gaia certs issue` makes"),
        "{}",
        said(&without)
    );
    let addresses = &virginia.iter().find(|(key, _)| key == "servers.addresses").unwrap().1;
    let address = addresses.trim_matches(['[', ']']).split(", ").next().unwrap().trim_matches('"').to_owned();
    for (role, region, reason) in [
        (
            Role::Worker,
            "virginia",
            "your certificate virginia.worker.gaia is for the role 'worker', 'operator' is needed",
        ),
        (
            Role::Server,
            "virginia",
            "your certificate virginia.server.gaia is for the role 'server', 'operator' is needed",
        ),
        (Role::Operator, "ireland", "your certificate is that of ireland.operator.gaia, this is virginia"),
    ] {
        let process = name(region, role);
        let files = TlsFiles::in_directory(&plan.directory.join("certs"), &process);
        let identity = files.load(process.peer(), Dates::System).unwrap().identity;
        let refused = ask(&identity, "virginia", &address, "singapore", &[0; 32])
            .await
            .err()
            .expect("refused")
            .to_string();
        assert!(refused.contains(reason), "{refused}");
    }

    // Nor does whoever means another job, says nothing, or only looks.
    for (more, code, expected) in [
        (&["--yes", "--set", "job.clocks=151"][..], 1, "your job digest is "),
        (&["--yes", "--job", "0011223344556677"], 1, "your job digest is 0011223344556677, ours is "),
        (&[], 2, "there is no terminal to ask on"),
        (&["--dry-run"], 0, "would be told\nRegion singapore would leave job "),
    ] {
        let output = leave(&cluster, &plan, "singapore", "virginia", more);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{more:?}: {}", said(&output));
    }

    cluster.processes.iter_mut().filter(|p| p.region == "singapore").for_each(|p| p.kill());
    let output = leave_surely(&cluster, &plan, "singapore", "virginia");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(said(&output).matches(": told").count(), 2, "none knew it: {}", said(&output));
    left(&mut cluster, "singapore").await;
    let again = leave_surely(&cluster, &plan, "singapore", "ireland");
    assert_eq!(
        (again.status.code(), said(&again).matches("knew it").count()),
        (Some(0), 2),
        "{}",
        said(&again)
    );

    // One that restarts learns it from the others, and waits for nobody.
    let restarted = cluster.processes.iter_mut();
    let server = restarted.into_iter().find(|p| (p.region, p.part) == ("ireland", Part::Server(1))).unwrap();
    server.kill();
    let partly = leave_surely(&cluster, &plan, "singapore", "ireland");
    assert_eq!(partly.status.code(), Some(1), "{}", said(&partly));
    assert!(said(&partly).contains("server 0 of ireland") && said(&partly).contains("server 1 of ireland"));
    let server = cluster.processes.iter_mut().find(|p| (p.region, p.part) == ("ireland", Part::Server(1)));
    server.unwrap().start_again(&plan).unwrap();

    // And so does the one that is dead no more.
    for process in cluster.processes.iter_mut().filter(|p| p.region == "singapore") {
        process.start_again(&plan).unwrap();
    }
    for process in cluster.processes.iter_mut().filter(|p| p.region == "singapore") {
        let code = ended(process).await;
        let log = std::fs::read_to_string(&process.log).unwrap();
        assert_eq!(code, Some(1), "{}: {log}", process.part.role());
        let last = log.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
        assert!(last.contains("region singapore has left this job for good"), "{log}");
    }
    cluster.processes.retain(|process| process.region != "singapore");
    left(&mut cluster, "singapore").await;
    conclude(cluster, directory.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_leaves_while_it_lives() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path(), &SETTINGS);
    let mut cluster = start(&plan).await;
    let output = leave_surely(&cluster, &plan, "ireland", "ireland");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for process in cluster.processes.iter_mut().filter(|p| p.region == "ireland") {
        let log = || std::fs::read_to_string(&process.log).unwrap_or_default();
        let (log, role) = (log(), process.part.role());
        assert_eq!(ended(process).await, Some(0), "{role}: {log}");
    }
    cluster.processes.retain(|process| process.region != "ireland");
    left(&mut cluster, "ireland").await;
    let gone = leave_surely(&cluster, &plan, "ireland", "virginia");
    assert_eq!((gone.status.code(), said(&gone).matches("knew it").count()), (Some(0), 2), "{}", said(&gone));
    conclude(cluster, directory.path()).await;
}
