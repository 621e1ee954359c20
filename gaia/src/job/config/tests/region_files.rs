//! Region files, and the job files that they share.

use std::time::Duration;

use wan::driver::address::Address;
use wan::relay::Direction;

use super::*;
use crate::job::region::{AtEnd, Grace, Region};
use crate::job::region::{CheckpointStart, LogFormat};
use crate::job::scenario::Congestion;
use crate::job::strategy::Strategy;
use crate::learning::data::DataScope;

/// What a job's table must have for regions.
pub(super) const JOB: &str = r#"
name = "tiny"
clocks = 3
shards = 4
seed = 7
strategy = "ssp"
[[regions]]
name = "here"
workers = 3
[[regions]]
name = "far-away"
workers = 2
[[regions]]
name = "there"
workers = 1
[data]
format = "csv"
path = "data"
scope = "own"
train = "train.csv"
[model]
kind = "softmax"
batch = 4
learning_rate.initial = 0.1
"#;

/// Everything that must be there.
pub(super) const REGION: &str = r#"datacenter = "here"
job = "jobs/j.toml"
[servers]
addresses = ["127.0.0.1:7100"]
[wan]
listen = "0.0.0.0:7200"
[peers.far-away]
[peers.there]
"#;

/// Everything that may be there.
const WHOLE: &str = r#"datacenter = "here"
job = "jobs/j.toml"
at_end = "stay"
[servers]
count = 3
addresses = "gaia-server-{index}.servers:7100"
listen = "[::]:7100"
[wan]
listen = ["10.0.0.1:7200", "10.0.0.2:7200", "[2001:db8::3]:7200"]
egress_limit = "8 Mbit/s"
congestion = "cubic"
[peers.there]
[peers.far-away]
servers = ["a.example.net:7200", ["[2001:db8::9]:7200", "b.example.net:7200"]]
rate = "16 Mbit/s"
round_trip = "80 ms"
transfer_rate = "1 Mbit/s"
[tls]
directory = "/etc/gaia/certs"
certificate = "{role}/tls.crt"
key = "{role}/tls.key"
lan = "plaintext"
[admin]
servers = "gaia-server-{index}.servers:9464"
workers = ["w0:1", "w1:1", "w2:1"]
listen = "0.0.0.0:9464"
[log]
format = "json"
[output]
directory = "out"
[checkpoint]
location = "kept"
every_clocks = 50
every = "10 min"
keep = 3
start = "zero"
[grace]
start = "10 min"
[regions]
min = 2
[compute]
examples_per_second = 640
overhead = "100 ms"
jitter = "5 %"
"#;

pub(super) fn load_files(region: &str, job: &str, overrides: &Overrides) -> Result<Region, String> {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("jobs")).expect("a directory");
    fs::write(directory.path().join("jobs/j.toml"), job).expect("a file");
    let path = directory.path().join("x.toml");
    fs::write(&path, region).expect("a file");
    let prefix = format!("{}/", directory.path().display());
    load_region(&path, overrides).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn load(region: &str) -> Region {
    load_files(region, JOB, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn problems(region: &str, job: &str) -> Vec<String> {
    let error = load_files(region, job, &Overrides::default()).expect_err("something is wrong");
    let lines: Vec<_> = error.lines().map(|line| line.trim().to_owned()).collect();
    if lines.len() > 1 { lines[1..].to_vec() } else { lines }
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

#[test]
fn the_shipped_regions_are_one_job() {
    let regions = ["virginia", "ireland", "singapore"].map(|name| {
        let path = configs().join(format!("regions/{name}.toml"));
        let region = load_region(&path, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(region.name, name);
        region
    });
    for region in &regions {
        assert_eq!(region.digest(&[], None), regions[0].digest(&[], None));
        assert_eq!((region.workers(), region.all_workers(), region.servers), (3, 9, 2));
        assert!(
            crate::learning::data::look(&region.job.data.root.file(Path::new("digits-train.csv.gz"))).is_ok()
        );
        // What others dial is where we listen.
        for peer in &region.peers {
            let found = regions.iter().find(|other| other.name == peer.name).expect("it is one of them");
            let listen = found.wan_listen.iter().flatten().map(|address| vec![(*address).into()]);
            assert_eq!(listen.collect::<Vec<Vec<Address>>>(), peer.servers);
        }
    }
}

#[test]
fn the_links_between_processes_lead_to_the_shipped_regions() {
    let links = load_link_file(&configs().join("links/three-regions.toml"), &Overrides::default());
    for link in links.unwrap_or_else(|error| panic!("{error}")).links {
        for route in link.routes {
            let target = match route.direction {
                Direction::Forward => &link.ends[1],
                Direction::Backward => &link.ends[0],
            };
            let path = configs().join(format!("regions/{target}.toml"));
            let region = load_region(&path, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
            let listen: Vec<_> = region.wan_listen.iter().flatten().map(ToString::to_string).collect();
            assert!(listen.contains(&route.target), "{} is not among {listen:?}", route.target);
        }
    }
}

#[test]
fn a_simulation_may_use_the_job_of_regions() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    let load = |more: &str| {
        fs::write(directory.path().join("j.toml"), JOB).expect("a file");
        let link = "link = { rate = \"8 Mbit/s\", one_way_delay = \"10 ms\" }";
        let text =
            format!("name = \"plan\"\njob = \"j.toml\"\ncompute.examples_per_second = 10\n{link}\n{more}");
        fs::write(&path, text).expect("a file");
        load_simulation(&path, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"))
    };
    let regions = |simulation: &Simulation| {
        simulation.regions.iter().map(|region| (region.name.clone(), region.workers)).collect::<Vec<_>>()
    };
    let plan = load("");
    assert_eq!((plan.seed, plan.strategy, plan.job.data_scope), (7, Strategy::Ssp, DataScope::Own));
    assert_eq!(regions(&plan), [("here".to_owned(), 3), ("far-away".to_owned(), 2), ("there".to_owned(), 1)]);
    let other = load("seed = 8\nregions = [{ name = \"alone\" }]");
    assert_eq!((other.seed, regions(&other)), (8, vec![("alone".to_owned(), 1)]));
}

#[test]
fn the_smallest_region_gets_the_documented_defaults() {
    let region = load(REGION);
    assert_eq!((region.name.as_str(), region.seed, region.strategy), ("here", 7, Strategy::Ssp));
    assert_eq!((region.servers, region.workers(), region.first_worker()), (1, 3, 0));
    assert_eq!((region.server_listen, region.egress_bytes_per_sec), (None, None));
    assert_eq!(region.wan_listen, Some(vec!["0.0.0.0:7200".parse().unwrap()]));
    assert_eq!(region.congestion, Congestion::Steady);
    assert!(region.tls.directory.ends_with("certs") && region.tls.directory.is_absolute());
    assert_eq!(region.tls.certificate, "{datacenter}-{role}-{index}.pem");
    assert_eq!(region.tls.key, "{datacenter}-{role}-{index}.key");
    assert!(!region.tls.plaintext_lan);
    assert_eq!((region.admin.servers, region.admin.workers, region.admin.listen), (None, None, None));
    assert_eq!((region.log, region.at_end), (LogFormat::Text, AtEnd::Exit));
    assert_eq!((region.grace, region.min_regions), (Grace::default(), 1));
    assert_eq!((region.output, region.checkpoint, region.compute), (None, None, None));
    // In the order of the members.
    assert_eq!(region.peers.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>(), ["far-away", "there"]);
    assert!(region.peers.iter().all(|peer| peer.servers.is_empty()));
    // A job without them.
    let job = JOB.replace("seed = 7\nstrategy = \"ssp\"\n", "").replace("scope = \"own\"\n", "");
    let region = load_files(REGION, &job, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((region.seed, region.strategy, region.job.data_scope), (1, Strategy::Asp, DataScope::Shared));
}

#[test]
fn every_key_of_a_region_is_read() {
    let region = load(WHOLE);
    let shown = |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(region.servers, 3);
    assert_eq!(shown(&region.server_addresses)[2], "gaia-server-2.servers:7100");
    assert_eq!(region.server_listen, Some(vec!["[::]:7100".parse().unwrap(); 3]));
    assert_eq!(region.wan_listen.expect("it listens")[2], "[2001:db8::3]:7200".parse().unwrap());
    assert_eq!(region.egress_bytes_per_sec, Some(1_000_000));
    assert_eq!(region.congestion, Congestion::Cubic);
    let far_away = &region.peers[0];
    assert_eq!(shown(&far_away.servers[1]), ["[2001:db8::9]:7200", "b.example.net:7200"]);
    assert_eq!(far_away.rate_bytes_per_sec, Some(2_000_000));
    assert_eq!(far_away.round_trip, Some(Duration::from_millis(80)));
    assert_eq!(far_away.transfer_bytes_per_sec, Some(125_000));
    assert_eq!(region.tls.directory, Path::new("/etc/gaia/certs"));
    assert_eq!((region.tls.key.as_str(), region.tls.plaintext_lan), ("{role}/tls.key", true));
    assert_eq!(shown(&region.admin.servers.expect("some"))[1], "gaia-server-1.servers:9464");
    assert_eq!(shown(&region.admin.workers.expect("some")), ["w0:1", "w1:1", "w2:1"]);
    assert_eq!(region.admin.listen, Some("0.0.0.0:9464".parse().unwrap()));
    assert_eq!((region.log, region.at_end), (LogFormat::Json, AtEnd::Stay));
    assert!(region.output.expect("somewhere").ends_with("out"));
    assert_eq!(region.compute.expect("declared").overhead, Duration::from_millis(100));
    let checkpoint = region.checkpoint.expect("there is a table");
    assert!(
        checkpoint.location.to_string().ends_with("/kept")
            && checkpoint.location.to_string().starts_with('/')
    );
    assert_eq!((checkpoint.every_clocks, checkpoint.every), (Some(50), Some(Duration::from_secs(600))));
    assert_eq!((checkpoint.keep, checkpoint.start), (3, CheckpointStart::Zero));
    assert_eq!((region.grace.start, region.min_regions), (Some(Duration::from_secs(600)), 2));
}

#[test]
fn all_regions_are_waited_for_unless_it_is_said_how_many_suffice() {
    let with = |tables: &str| {
        let region = load(&format!("{REGION}{tables}"));
        (region.grace.start.map(|wait| wait.as_secs()), region.min_regions)
    };
    assert_eq!(with(""), (None, 1));
    assert_eq!(with("[grace]\nstart = \"5 s\"\n"), (Some(5), 1));
    assert_eq!(with("[regions]\nmin = 2\n"), (Some(60), 2));
    assert_eq!(with("[regions]\nmin = 2\n[grace]\ndatacenter = \"9 s\"\n"), (Some(9), 2));
    let wrong = "[regions]\nmin = 4\n[grace]\nstart = 0\n";
    let found = problems(&format!("{REGION}{wrong}"), JOB);
    assert!(
        found[0].starts_with(
            "x.toml:10: regions.min: found 4; allowed: a whole number from 1 to 3, at most all regions"
        ),
        "{found:?}"
    );
    assert!(found[1].starts_with("x.toml:12: grace.start: found 0; allowed: "), "{found:?}");
}

#[test]
fn checkpoints_are_made_every_five_minutes_if_nothing_else_is_said() {
    let with = |table: &str| load(&format!("{REGION}[checkpoint]\nlocation = \"s3://bucket/kept\"\n{table}"));
    let often = |region: Region| region.checkpoint.map(|settings| (settings.every_clocks, settings.every));
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    assert_eq!(often(with("")), Some((None, minutes(5))));
    assert_eq!(often(with("every = \"1 min\"")), Some((None, minutes(1))));
    assert_eq!(often(with("every_clocks = 5")), Some((Some(5), None)));
    assert_eq!(often(with("every_clocks = 5\nevery = \"1h\"")), Some((Some(5), minutes(60))));
    let checkpoint = with("").checkpoint.expect("there is a table");
    assert_eq!(checkpoint.location.to_string(), "s3://bucket/kept");
    assert_eq!((checkpoint.keep, checkpoint.start), (2, CheckpointStart::Newest));
    let wrong = "[checkpoint]\nlocation = \"https://host/x\"\nevery_clocks = 0\nevery = 5\nkeep = 0\nstart = \"new\"\n";
    assert_eq!(
        problems(&format!("{REGION}{wrong}"), JOB),
        [
            "x.toml:10: checkpoint.location: found \"https://host/x\"; allowed: a path, or a URL of a store such as \"s3://bucket/prefix\" (s3, gs, az), without password and query",
            "x.toml:11: checkpoint.every_clocks: found 0; allowed: a whole number, at least 1",
            "x.toml:12: checkpoint.every: found 5; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h), from 1 s to 7 days; did you mean \"5ms\"?",
            "x.toml:13: checkpoint.keep: found 0; allowed: a whole number from 1 to 1000",
            "x.toml:14: checkpoint.start: found \"new\"; allowed: one of \"newest\", \"zero\"; did you mean \"newest\"?",
        ]
    );
    let table = "[checkpoint]\nkeep = 1\n";
    assert_eq!(
        problems(&format!("{REGION}{table}"), JOB),
        [
            "x.toml:10: checkpoint.location: missing; allowed: a path, or a URL of a store such as \"s3://bucket/prefix\" (s3, gs, az), without password and query"
        ]
    );
}

#[test]
fn what_regions_must_agree_on_is_in_the_digest() {
    let digest = |region: &str, from: &str, to: &str| {
        assert!(from.is_empty() || JOB.contains(from));
        let region = load_files(region, &JOB.replacen(from, to, 1), &Overrides::default());
        region.unwrap_or_else(|error| panic!("{error}")).digest(&[], None)
    };
    assert_eq!(digest(REGION, "", ""), digest(WHOLE, "", ""));
    assert_eq!(digest(REGION, "", ""), digest(REGION, "path = \"data\"", "path = \"elsewhere\""));
    let names = |labels: [i64; 2]| crate::learning::data::Vocabulary::Classes {
        labels: labels.map(crate::learning::data::Name::Number).into_iter().collect(),
        features: 3,
        feature_names: None,
        scaling: None,
    };
    let region = load_files(REGION, JOB, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    let [ours, theirs] = [[0, 1], [5, 6]].map(names);
    // Tables of equal size whose columns stand for something else are another model.
    assert_ne!(region.digest(&[], Some(&ours)), region.digest(&[], Some(&theirs)));
    let settings = |names| region.job_settings(&[], Some(names));
    let differences = settings(&ours).differences("here", &settings(&theirs), "there");
    assert_eq!(differences.as_deref(), Some("job.data.labels is 5, 6 in there, 0, 1 in here"));
    let ordered = |names: [&str; 2]| crate::learning::data::Vocabulary::Classes {
        labels: [0, 1].map(crate::learning::data::Name::Number).into_iter().collect(),
        features: 2,
        feature_names: Some(names.map(str::to_owned).into()),
        scaling: None,
    };
    let [ours, theirs] = [ordered(["height", "weight"]), ordered(["weight", "height"])];
    assert_ne!(region.digest(&[], Some(&ours)), region.digest(&[], Some(&theirs)));
    let settings = |names| region.job_settings(&[], Some(names));
    let differences = settings(&ours).differences("here", &settings(&theirs), "there").expect("they differ");
    let first = "job.data.features (0001) is weight in there, height in here";
    assert!(differences.contains(first), "{differences}");
    for (from, to) in [
        ("seed = 7", "seed = 8"),
        ("strategy = \"ssp\"", "strategy = \"asp\""),
        ("workers = 1", "workers = 2"),
        ("scope = \"own\"", "scope = \"shared\""),
        ("shards = 4", "shards = 3"),
        ("scope = \"own\"", "scope = \"own\"\nlabels = [0, 1]"),
    ] {
        assert_ne!(digest(REGION, "", ""), digest(REGION, from, to), "{to}");
    }
}

#[test]
fn the_environment_and_flags_go_over_both_files() {
    let overrides = overrides(
        &[
            ("GAIA__PEERS__FAR_AWAY__RATE", "8 Mbit/s"),
            ("GAIA__PEERS__THERE__SERVERS", "t0:1,t1:2"),
            ("GAIA__SERVERS__COUNT", "2"),
            ("GAIA__SERVERS__ADDRESSES", "s-{index}:7100"),
            ("GAIA__JOB__REGIONS__FAR_AWAY__WORKERS", "5"),
            ("GAIA__JOB__STRATEGY", "bsp"),
        ],
        &[
            ("peers.far-away.round_trip", "1 s"),
            ("peers.there.servers", "[['t0:1', 't0:2'], 't1:1']"),
            ("wan.listen", "10.0.0.1:1,10.0.0.1:2"),
            ("tls.directory", "here"),
            ("job.seed", "9"),
        ],
    );
    let region = load_files(REGION, JOB, &overrides).unwrap_or_else(|error| panic!("{error}"));
    let [far_away, there] = region.peers.as_slice() else { panic!("{region:?}") };
    assert_eq!(far_away.rate_bytes_per_sec, Some(1_000_000));
    assert_eq!(far_away.round_trip, Some(Duration::from_secs(1)));
    assert_eq!(there.servers.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(region.server_addresses[1].to_string(), "s-1:7100");
    assert_eq!(region.wan_listen.expect("it listens")[1].port(), 2);
    assert_eq!((region.seed, region.strategy, region.members[1].workers), (9, Strategy::Bsp, 5));
    assert_eq!(region.tls.directory, Path::new("here"));
}

#[test]
fn everything_wrong_with_a_region_is_reported_at_once() {
    let region = REGION
        .replace("\"here\"", "\"her\"")
        .replace("[servers]", "[servers]\ncount = 5")
        .replace("listen =", "lisen =")
        .replace("[peers.there]", "[peers.ther]\nrate = 5");
    let job = JOB.replace("seed = 7", "seed = -1").replace("workers = 2", "");
    assert_eq!(
        problems(&region, &job),
        [
            "jobs/j.toml:5: job.seed: found -1; allowed: a whole number, at least 0",
            "jobs/j.toml:10: job.regions.far-away.workers: missing; allowed: a whole number from 1 to 1024",
            "x.toml:4: servers.count: found 5; allowed: a whole number from 1 to 4, at most one for each shard (job.shards)",
            "x.toml:7: wan.lisen: unknown key; did you mean `listen`?",
            "x.toml: peers.far-away.servers: missing; allowed: where its servers are, as without wan.listen they cannot dial us",
            "x.toml:10: peers.ther.servers: missing; allowed: where its servers are, as without wan.listen they cannot dial us",
            "x.toml:10: peers.ther.rate: found 5; allowed: a rate such as \"100 Mbit/s\" or \"2 MB/s\" (bit/s, B/s with k, M, G, T or Ki, Mi, Gi, Ti), above 0 and at most 1 TB/s; did you mean \"5 Mbit/s\"?",
        ]
    );
}

#[test]
fn one_wrong_value_of_a_region_gives_one_problem() {
    const HOST: &str = "a host and a port, such as \"ireland-0:7200\" or \"[::1]:7200\"";
    const SOCKET: &str =
        "an IP address and a port, such as \"127.0.0.1:9001\" or \"[::1]:9001\", with a port from 1 to 65535";
    for (from, to, expected) in [
        ("datacenter = \"here\"\n", "", "x.toml:3: datacenter: missing; allowed: a name of lower-case letters, digits and hyphens, at most 63".to_owned()),
        ("\"here\"", "\"ther\"", "x.toml:1: datacenter: found \"ther\", which is no region of the job; did you mean \"there\"?".to_owned()),
        ("job = \"jobs/j.toml\"\n", "", "x.toml:1: job: missing; allowed: a path".to_owned()),
        ("[servers]\n", "[servers]\ncount = 0\n", "x.toml:4: servers.count: found 0; allowed: a whole number from 1 to 4, at most one for each shard (job.shards)".to_owned()),
        ("[servers]\n", "[servers]\ncount = 2\n", format!("x.toml:5: servers.addresses: found [\"127.0.0.1:7100\"]; allowed: an array for the 2 servers, or one text with {{index}}; each: {HOST}; there are 1 for 2 servers")),
        ("[\"127.0.0.1:7100\"]", "\"::1:7100\"", format!("x.toml:4: servers.addresses: found \"::1:7100\"; allowed: an array for the 1 servers, or one text with {{index}}; each: {HOST}")),
        ("\"0.0.0.0:7200\"", "\"0.0.0.0:0\"", format!("x.toml:6: wan.listen: found \"0.0.0.0:0\"; allowed: an array for the 1 servers, or one text, with or without {{index}}; each: {SOCKET}")),
        ("\"0.0.0.0:7200\"", "\"localhost:7200\"", format!("x.toml:6: wan.listen: found \"localhost:7200\"; allowed: an array for the 1 servers, or one text, with or without {{index}}; each: {SOCKET}")),
        ("[peers.there]\n", "[peers.there]\nservers = []\n", format!("x.toml:9: peers.there.servers: found []; allowed: an array; each entry: {HOST}, or an array of these; at least one, at most one for each shard (job.shards)")),
        ("[peers.there]\n", "[peers.there]\nservers = [\"a:1\", \"a:2\", \"a:3\", \"a:4\", \"a:5\"]\n", format!("x.toml:9: peers.there.servers: found [\"a:1\", \"a:2\", \"a:3\", \"a:4\", \"a:5\"]; allowed: an array; each entry: {HOST}, or an array of these; at least one, at most one for each shard (job.shards)")),
        ("[peers.there]\n", "", "x.toml:1: peers.there: missing; allowed: a table for every other region, an empty one if it dials us".to_owned()),
        ("[peers.there]\n", "[peers.there]\n[peers.here]\nrate = \"1 MB/s\"\n", "x.toml:10: peers.here: is this region itself; allowed: the other regions of the job".to_owned()),
        ("[peers.there]\n", "[peers.there]\n[peers.virginia]\nrate = \"1 MB/s\"\n", "x.toml:10: peers.virginia: is no region of the job; allowed: here, far-away, there".to_owned()),
        ("[peers.there]\n", "[peers.there]\n[tls]\nkey = \"{name}.key\"\n", "x.toml:10: tls.key: found \"{name}.key\"; allowed: a file name, in which {datacenter}, {role} and {index} are filled in".to_owned()),
        ("[peers.there]\n", "[peers.there]\n[tls]\nlan = \"plain\"\n", "x.toml:10: tls.lan: found \"plain\"; allowed: one of \"mutual\", \"plaintext\"; did you mean \"plaintext\"?".to_owned()),
        ("[peers.there]\n", "[peers.there]\n[admin]\nworkers = \"w:1\"\n", format!("x.toml:10: admin.workers: found \"w:1\"; allowed: an array for the 3 workers, or one text with {{index}}; each: {HOST}; one address cannot be that of 3 workers")),
        ("[peers.there]\n", "[peers.there]\n[compute]\noverhead = \"1 s\"\n", "x.toml:10: compute.examples_per_second: missing; allowed: a number from 0.001 to 1000000000000".to_owned()),
        ("job =", "at_end = \"leave\"\njob =", "x.toml:2: at_end: found \"leave\"; allowed: one of \"exit\", \"stay\"".to_owned()),
        ("[servers]", "[grace]\nworker = \"5 s\"\n[servers]", "x.toml:4: grace.worker: found \"5 s\"; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h), from 15 s (after which a silent connection counts as broken) to 1 h".to_owned()),
        ("[servers]", "seed = 3\n[servers]", "x.toml:3: seed: unknown key; known here: admin, at_end, checkpoint, compute, datacenter, drain, grace, job, log, output, peers, regions, servers, tls, wan, workers".to_owned()),
    ] {
        assert!(REGION.contains(from), "{from}");
        let found = problems(&REGION.replacen(from, to, 1), JOB);
        assert_eq!(found, [expected]);
    }
    for (from, to, expected) in [
        (
            "\"ssp\"",
            "\"stretched\"",
            "jobs/j.toml:6: job.strategy: found \"stretched\"; allowed: one of \"asp\", \"bsp\", \"ssp\", \"async\", \"asp-no-barrier\", \"asp-no-anticipation\", \"asp-no-mirror-clock\", \"asp-unguarded\"",
        ),
        (
            "\"own\"",
            "\"mine\"",
            "jobs/j.toml:19: job.data.scope: found \"mine\"; allowed: one of \"shared\", \"own\"",
        ),
        (
            "\"there\"",
            "\"here\"",
            "jobs/j.toml:14: job.regions[2].name: found \"here\" a second time; allowed: a name that no other region has",
        ),
        (
            "name = \"tiny\"\n",
            "",
            "jobs/j.toml:2: job.name: missing; allowed: a name of lower-case letters, digits and hyphens, at most 63",
        ),
    ] {
        assert!(JOB.contains(from), "{from}");
        assert_eq!(problems(REGION, &JOB.replacen(from, to, 1)), [expected]);
    }
    let (head, tail) = JOB.split_once("[[regions]]").expect("there are regions");
    let job = format!("{head}{}", &tail[tail.find("[data]").expect("there is data")..]);
    assert_eq!(
        problems(REGION, &job),
        ["jobs/j.toml:2: job.regions: missing; allowed: a [[regions]] table for each region of the job"]
    );
}

#[test]
fn the_documentation_lists_the_keys_of_region_files() {
    use super::documentation::{compare, listed};
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    fs::create_dir(directory.path().join("jobs")).expect("a directory");
    fs::write(directory.path().join("jobs/j.toml"), JOB).expect("a file");
    fs::write(&path, WHOLE).expect("a file");
    let layers = Layers::read(&path, &Overrides::default(), job::KEY).expect("TOML");
    let asked = Reader::new(&layers).keys_asked(|s| region::region(s, &models::kinds()));
    let asked = asked.into_iter().filter(|key| !key.starts_with("job."));
    compare(&asked.collect(), &listed("Region files"));
}

#[test]
fn a_region_without_wan_listen_says_where_everybody_is() {
    let region = REGION.replace("[wan]\nlisten = \"0.0.0.0:7200\"\n", "");
    let region = region.replace("[peers.far-away]", "[peers.far-away]\nservers = [\"a:1\"]");
    assert_eq!(problems(&region, JOB).len(), 1);
    let region = region.replace("[peers.there]", "[peers.there]\nservers = [\"b:1\"]");
    assert_eq!(load(&region).wan_listen, None);
}
