use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Map;
use proptest::prelude::*;

use super::*;
use crate::job::{ApplicationSettings, DataSource, Decay, FilterSchedule, Partition, TargetSettings};
use crate::scenario::Congestion;
use crate::strategy::Strategy;
use wan::policy::{Goal, Lead, Schedule, Significance};

/// Everything that must be there.
const SMALLEST: &str = r#"
name = "tiny"
[[regions]]
name = "here"
[compute]
examples_per_second = 10
[job]
clocks = 3
[job.data]
format = "csv"
path = "data"
train = "train.csv"
[job.model]
kind = "softmax"
batch = 4
learning_rate.initial = 0.1
"#;

fn shipped() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/simulations");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the shipped files are there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

fn overrides(variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Overrides {
    let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut overrides = Overrides::from_variables(Some(variables.collect())).expect("text");
    flags.iter().for_each(|(key, value)| overrides.flag(&format!("--set {key}"), key, value));
    overrides
}

/// Loads `text` as a file of its own; messages call it `x.toml`.
fn load_with(text: &str, overrides: &Overrides) -> Result<Simulation, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    fs::write(&path, text).expect("a file");
    let prefix = format!("{}/", directory.path().display());
    load_simulation(&path, overrides).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn load(text: &str) -> Result<Simulation, String> {
    load_with(text, &Overrides::default())
}

#[track_caller]
fn problems(text: &str) -> Vec<String> {
    let error = load(text).expect_err("something is wrong");
    let lines: Vec<_> = error.lines().map(|line| line.trim().to_owned()).collect();
    if lines.len() > 1 { lines[1..].to_vec() } else { lines }
}

#[test]
fn every_shipped_file_loads() {
    let files = shipped();
    assert!(files.len() >= 4);
    for file in files {
        let simulation =
            load_simulation(&file, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Some(simulation.name.as_str()), file.file_stem().and_then(|stem| stem.to_str()));
    }
}

#[test]
fn the_smallest_file_gets_the_documented_defaults() {
    let simulation = load(SMALLEST).expect("it is complete");
    assert_eq!(simulation.seed, 1);
    assert_eq!(simulation.strategies, Strategy::DEFAULT);
    assert_eq!(simulation.congestion, Congestion::Steady);
    assert_eq!((simulation.regions[0].workers, simulation.regions[0].speed), (1, 1.0));
    assert_eq!(simulation.lan.rate_bytes_per_sec, 1_250_000_000);
    let job = simulation.job;
    assert_eq!(job.name, "tiny");
    assert_eq!((job.staleness, job.shards, job.evaluate_every, job.ssp_lead), (Some(0), 1, 1, 3));
    assert_eq!(job.partition, Partition::Random);
    assert_eq!(job.target, TargetSettings::WithinLan(0.01));
    assert_eq!(job.asp.filter.function, Significance::Relative);
    assert_eq!(job.asp.filter.threshold, 0.01);
    assert_eq!(job.asp.filter.schedule, FilterSchedule::Plain(Schedule::InverseSqrt));
    assert_eq!(job.asp.goal, Goal::Cheapest);
    assert_eq!(job.asp.barrier_max_delay, Some(Duration::from_millis(200)));
    assert_eq!(job.asp.lead, Lead::Derived);
}

#[test]
fn everything_wrong_is_reported_at_once_with_its_line() {
    let text = SMALLEST
        .replace("clocks = 3", "cloks = 3\nshards = 0\nstaleness = \"lots\"")
        .replace("examples_per_second = 10", "examples_per_second = \"10\"\noverhead = 5")
        .replace("batch = 4", "batch = 4.5");
    assert_eq!(
        problems(&text),
        [
            r#"x.toml:6: compute.examples_per_second: found "10"; allowed: a number from 0.001 to 1000000000000"#,
            "x.toml:7: compute.overhead: found 5; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h); did you mean \"5ms\"?",
            "x.toml:9: job.clocks: missing; allowed: a whole number from 1 to 1000000",
            "x.toml:11: job.staleness: found \"lots\"; allowed: a whole number, at least 0, or \"async\"",
            "x.toml:10: job.shards: found 0; allowed: a whole number from 1 to 1024",
            "x.toml:18: job.model.batch: found 4.5; allowed: a whole number from 1 to 10000000",
            "x.toml:9: job.cloks: unknown key; did you mean `clocks`?",
        ]
    );
}

#[test]
fn one_wrong_value_gives_one_problem() {
    let with = |line: &str| format!("{line}\n{SMALLEST}");
    let in_job = |line: &str| SMALLEST.replace("clocks = 3", &format!("clocks = 3\n{line}"));
    let in_data = |line: &str| SMALLEST.replace("format = \"csv\"", line);
    for (text, expected) in [
        (
            SMALLEST.replace("[[regions]]\nname = \"here\"", ""),
            "regions: missing; allowed: at least one [[regions]] table",
        ),
        (
            SMALLEST.replace("[[regions]]\nname = \"here\"", "regions = []"),
            "x.toml:3: regions: found 0 regions; allowed: 1 to 64",
        ),
        (
            SMALLEST.replace("[[regions]]", "[[regions]]\nname = \"here\"\n[[regions]]"),
            "x.toml:6: regions[1].name: found \"here\" a second time; allowed: a name that no other region has",
        ),
        (
            SMALLEST.replace("\"here\"", "\"here\"\nworkers = 0"),
            "x.toml:5: regions.here.workers: found 0; allowed: a whole number from 1 to 128",
        ),
        (
            SMALLEST.replace("\"here\"", "\"Here!\""),
            "x.toml:4: regions[0].name: found \"Here!\"; allowed: a name of lower-case letters, digits and hyphens, at most 63",
        ),
        (
            in_job("evaluate_every = 1").replace("clocks = 3", "clocks = 4_000_000_000"),
            "x.toml:8: job.clocks: found 4000000000; allowed: a whole number from 1 to 1000000",
        ),
        (
            in_job("shards = 65535"),
            "x.toml:9: job.shards: found 65535; allowed: a whole number from 1 to 1024",
        ),
        (
            SMALLEST.replace("batch = 4", "batch = 4_000_000_000"),
            "x.toml:15: job.model.batch: found 4000000000; allowed: a whole number from 1 to 10000000",
        ),
        (
            SMALLEST.replace("batch = 4", "batch = 4\nbatches = 4_000_000_000"),
            "x.toml:16: job.model.batches: found 4000000000, which makes 16000000000 examples a clock; allowed: 1, or batch * batches at most 1000000",
        ),
        (
            with("lan.rate = \"2 TB/s\""),
            "x.toml:1: lan.rate: found \"2 TB/s\"; allowed: a rate such as \"100 Mbit/s\" or \"2 MB/s\" (bit/s, B/s with k, M, G, T or Ki, Mi, Gi, Ti), above 0 and at most 1 TB/s",
        ),
        (
            with("link.one_way_delay = \"2 h\""),
            "x.toml:1: link.one_way_delay: found \"2 h\"; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h), at most 1 h",
        ),
        (with("seed = -1"), "x.toml:1: seed: found -1; allowed: a whole number, at least 0"),
        (with("seed = \"1\""), "x.toml:1: seed: found \"1\"; allowed: a whole number, at least 0"),
        (with("region = 3"), "x.toml:1: region: unknown key; did you mean `regions`?"),
        (with("\"a[9999999999]\" = 3"), "x.toml:1: \"a[9999999999]\": unknown key"),
        (with("link = 3"), "x.toml:1: link: found 3; allowed: a table"),
        (
            with("link.rate = \"100 Mbit\""),
            "x.toml:1: link.rate: found \"100 Mbit\"; allowed: a rate such as \"100 Mbit/s\" or \"2 MB/s\" (bit/s, B/s with k, M, G, T or Ki, Mi, Gi, Ti), above 0 and at most 1 TB/s",
        ),
        (
            with("link.jitter = \"80\""),
            "x.toml:1: link.jitter: found \"80\"; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h), at most 1 h; did you mean \"80ms\"?",
        ),
        (
            with("link.queue = 1.5"),
            "x.toml:1: link.queue: found 1.5; allowed: a size such as \"2.5 MB\" or \"64 KiB\" (B with k, M, G, T or Ki, Mi, Gi, Ti), or a number of bandwidth-delay products such as \"1 bdp\"; above 0; did you mean \"1.5 bdp\"?",
        ),
        (
            with("lan.rate = 100"),
            "x.toml:1: lan.rate: found 100; allowed: a rate such as \"100 Mbit/s\" or \"2 MB/s\" (bit/s, B/s with k, M, G, T or Ki, Mi, Gi, Ti), above 0 and at most 1 TB/s; did you mean \"100 Mbit/s\"?",
        ),
        (
            with("link.loss = 1.0"),
            "x.toml:1: link.loss: found 1.0; allowed: a probability from 0 to below 1, such as 0.001 or \"0.1 %\"",
        ),
        (
            with("link.outages = [{ start = \"1s\" }]"),
            "x.toml:1: link.outages[0].length: missing; allowed: a duration such as \"80ms\" or \"1.5 s\" (ns, us, ms, s, min, h)",
        ),
        (
            with("strategies = [\"asp\", \"bps\"]"),
            "x.toml:1: strategies: found [\"asp\", \"bps\"]; allowed: an array; each entry: one of \"lan\", \"asp\", \"bsp\", \"ssp\", \"async\", \"isolated\", \"stretched\", \"asp-no-barrier\", \"asp-no-mirror-clock\", \"asp-unguarded\"; at least one; did you mean \"bsp\"?",
        ),
        (
            with("strategies = [\"asp\", \"asp\"]"),
            "x.toml:1: strategies: names asp twice; allowed: each strategy once",
        ),
        (
            with("transport.congestion = \"Cubic\""),
            "x.toml:1: transport.congestion: found \"Cubic\"; allowed: one of \"steady\", \"cubic\", \"newreno\", \"bbr\"; did you mean \"cubic\"?",
        ),
        (
            in_job("dirichlet_alpha = 0.5"),
            "x.toml:9: job.dirichlet_alpha: is used with partition = \"dirichlet\" only",
        ),
        (
            in_job("partition = \"dirichlet\""),
            "x.toml:8: job.dirichlet_alpha: missing; allowed: a number above 0",
        ),
        (in_job("asp.factors = [1]"), "x.toml:9: job.asp.factors: is used with schedule = \"list\" only"),
        (
            in_job("asp.threshold = nan"),
            "x.toml:9: job.asp.threshold: found NaN; allowed: a number such as 0.01 or a percentage such as \"1 %\", at least 0",
        ),
        (
            in_job("asp.tables.w.treshold = 1"),
            "x.toml:9: job.asp.tables.w.treshold: unknown key; did you mean `threshold`?",
        ),
        (in_job("target.metric = \"objective\""), "x.toml:9: job.target.value: missing; allowed: a number"),
        (
            in_job("target = { within = 0.1, metric = \"objective\", value = 1 }"),
            "x.toml:9: job.target.within: stands beside metric or value; allowed: one or the other",
        ),
        (
            in_data("format = \"cvs\""),
            "x.toml:10: job.data.format: found \"cvs\"; allowed: one of \"idx\", \"libsvm\", \"csv\", \"movielens\", \"planted\"; did you mean \"csv\"?",
        ),
    ] {
        // A wrong format leaves the keys of all formats unknown: the format's own problem is the first.
        let found = problems(&text);
        let found: Vec<_> =
            found.iter().filter(|problem| !problem.contains("job.data.train: unknown")).collect();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].ends_with(expected), "{} is not\n{expected}", found[0]);
    }
}

#[test]
fn syntax_errors_name_their_lines() {
    let found = problems("name = \"x\nseed = 3\n[job\nclocks = = 3\n");
    assert!(found.len() >= 2, "{found:#?}");
    assert!(found[0].starts_with("x.toml:1: not TOML: "), "{found:#?}");
    assert!(found.iter().any(|problem| problem.starts_with("x.toml:3: not TOML: ")), "{found:#?}");
    let found = problems("seed = 99999999999999999999\nname = 'x'\n");
    assert!(found[0].starts_with("x.toml:1: 99999999999999999999: number too large"), "{found:#?}");
    assert!(problems("a = 1\na = 2\n")[0].starts_with("x.toml:2: not TOML: duplicate key"));
}

#[test]
fn depth_is_bounded() {
    let deep = 50_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("job = {}", "{a=".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
    ] {
        let found = problems(&text);
        assert!(found.len() <= 8 && found[0].contains("recursion"), "{found:#?}");
    }
    let key = format!("{}a", "a.".repeat(deep));
    let error = load_with(SMALLEST, &overrides(&[], &[(&key, "1")])).unwrap_err();
    assert!(error.contains("no setting has more than 16 levels"), "it is refused");
    let error = load_with(SMALLEST, &overrides(&[], &[("regions", &"[".repeat(deep))])).unwrap_err();
    assert!(error.contains("allowed: an array of tables"), "it is refused");
}

#[test]
fn a_missing_file_is_named() {
    let error = load_simulation(Path::new("no/such.toml"), &Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("no/such.toml: cannot be read: "), "{error}");
}

const TRIANGLE: &str = r#"
[[regions]]
name = "there"
[[regions]]
name = "far-away"
[link]
rate = "8 Mbit/s"
loss = "1 %"
outages = [{ start = "1s", length = "1s" }]
[[links]]
between = ["here", "there"]
one_way_delay = "10 ms"
[[links]]
between = ["there", "far-away"]
one_way_delay = "1 s"
queue = "2 bdp"
outages = [{ start = "10s", length = "5s" }]
[[links]]
between = ["here", "far-away"]
one_way_delay = "100 ms"
queue = "64 KiB"
[[links]]
from = "here"
to = "far-away"
rate = "16 Mbit/s"
one_way_delay = "300 ms"
"#;

#[test]
fn links_are_defaults_and_then_what_differs() {
    let links = load(&format!("{SMALLEST}{TRIANGLE}")).expect("it is right").links;
    let (here, there, far) = (0, 1, 2);
    assert_eq!(links.get(here, there), links.get(there, here));
    assert_eq!(links.get(here, there).rate_bytes_per_sec, 1_000_000);
    assert_eq!(links.get(here, there).loss, 0.01);
    // 1 MB/s x 20 ms is less than the least default.
    assert_eq!(links.get(here, there).queue_bytes, 200_000);
    assert_eq!(links.get(there, far).queue_bytes, 4_000_000);
    assert_eq!(links.get(far, there).outages.len(), 1);
    assert_eq!(links.get(here, far).rate_bytes_per_sec, 2_000_000);
    assert_eq!(links.get(here, far).one_way_delay, Duration::from_millis(300));
    assert_eq!(links.get(far, here).rate_bytes_per_sec, 1_000_000);
    assert_eq!(links.get(far, here).one_way_delay, Duration::from_millis(100));
    assert_eq!(links.get(far, here).queue_bytes, 65_536);
}

#[test]
fn links_must_be_complete_and_between_regions() {
    let text = format!("{SMALLEST}{TRIANGLE}");
    for (from, to, expected) in [
        (
            "\"there\", \"far-away\"",
            "\"there\", \"far-awy\"",
            "links[1].between: found \"far-awy\", which is no region; did you mean \"far-away\"?",
        ),
        (
            "\"there\", \"far-away\"",
            "\"there\"",
            "links[1].between: found 1 names; allowed: the names of two regions",
        ),
        (
            "\"there\", \"far-away\"",
            "\"there\", \"there\"",
            "links[1].between: found \"there\" twice; allowed: two regions",
        ),
        (
            "from = \"here\"\n",
            "",
            "links[3].from: missing; allowed: a name of lower-case letters, digits and hyphens, at most 63",
        ),
        (
            "from = \"here\"\nto = \"far-away\"\n",
            "",
            "links[3].between: allowed: either between = [\"a\", \"b\"] (both ways) or from and to (one way)",
        ),
        (
            "rate = \"8 Mbit/s\"\n",
            "",
            "links: here -> there has no rate, there -> here has no rate, there -> far-away has no rate, far-away -> here has no rate and 1 more; allowed: every link has both, from [link] or from [[links]]",
        ),
        (
            "one_way_delay = \"10 ms\"\n",
            "",
            "links: here -> there has no one_way_delay, there -> here has no one_way_delay; allowed: every link has both, from [link] or from [[links]]",
        ),
    ] {
        let found = problems(&text.replacen(from, to, 1));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].ends_with(expected), "{}\nis not {expected}", found[0]);
    }
}

#[test]
fn the_environment_and_then_flags_win_over_the_file() {
    let text = format!("{SMALLEST}{TRIANGLE}");
    let overrides = overrides(
        &[
            ("GAIA__JOB__CLOCKS", "50"),
            ("GAIA__JOB__SHARDS", "7"),
            ("GAIA__REGIONS__FAR_AWAY__WORKERS", "4"),
            ("GAIA__REGIONS__1__SPEED", "0.5"),
            ("GAIA__STRATEGIES", "asp, bsp"),
            ("GAIA__JOB__ASP__TABLES__W__THRESHOLD", "5 %"),
            ("GAIA__JOB__MODEL__ADAGRAD", "TRUE"),
            ("GAIA__LINK__OUTAGES", "[{ start = '1s', length = '2s' }]"),
            ("GAIA_LOG", "debug"),
            ("HOME", "/"),
        ],
        &[
            ("job.shards", "8"),
            ("job.shards", "9"),
            ("job.asp.barrier.max_delay", "off"),
            ("seed", "18446744073709551615"),
        ],
    );
    let simulation = load_with(&text, &overrides).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(simulation.seed, u64::MAX);
    assert_eq!((simulation.job.clocks, simulation.job.shards), (50, 9));
    let workers: Vec<_> = simulation.regions.iter().map(|region| region.workers).collect();
    assert_eq!(workers, [1, 1, 4]);
    assert_eq!(simulation.regions[1].speed, 0.5);
    assert_eq!(simulation.strategies, [Strategy::Asp, Strategy::Bsp]);
    assert_eq!(simulation.job.asp.tables[0].1.threshold, 0.05);
    assert_eq!(simulation.job.asp.barrier_max_delay, None);
    assert!(matches!(simulation.job.application, ApplicationSettings::Softmax(settings) if settings.adagrad));
    assert_eq!(simulation.links.get(0, 1).outages[0].length, Duration::from_secs(2));
}

#[test]
fn wrong_overrides_name_the_variable_or_the_flag() {
    let overrides = overrides(
        &[("GAIA__JOB__CLOCKS", "many"), ("GAIA__JOB__CLOKS", "5"), ("GAIA__REGIONS__THERE__WORKERS", "5")],
        &[("job.shards", "0"), ("no such", "1"), ("regions.99999999999.workers", "1"), ("regions", "3")],
    );
    let error = load_with(SMALLEST, &overrides).unwrap_err();
    for expected in [
        "environment variable GAIA__JOB__CLOCKS: job.clocks: found \"many\"; allowed: a whole number from 1 to 1000000",
        "environment variable GAIA__JOB__CLOKS: job.cloks: unknown key; did you mean `clocks`?",
        "environment variable GAIA__REGIONS__THERE__WORKERS: regions.there.workers: there is no `there` here; there are 1 entries (here)",
        "--set job.shards: job.shards: found \"0\"; allowed: a whole number from 1 to 1024",
        "--set no such: no such: not a key: keys are words joined by dots, such as job.clocks",
        "--set regions: regions: found \"3\"; allowed: an array of tables",
    ] {
        assert!(error.contains(expected), "{error}\nlacks {expected}");
    }
}

#[test]
fn paths_are_relative_to_whoever_says_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    fs::write(&path, SMALLEST).expect("a file");
    let root = |overrides| load_simulation(&path, &overrides).expect("it is right").job.data.root;
    assert_eq!(root(Overrides::default()), directory.path().join("data"));
    assert_eq!(root(overrides(&[("GAIA__JOB__DATA__PATH", "here")], &[])), Path::new("here"));
    assert_eq!(root(overrides(&[], &[("job.data.path", "/there")])), Path::new("/there"));
}

#[test]
fn a_job_may_stand_in_a_file_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let (world, job) = SMALLEST.split_once("[job]\n").expect("a job");
    let write = |job: &str| {
        fs::create_dir_all(at("jobs")).expect("a directory");
        fs::create_dir_all(at("simulations")).expect("a directory");
        fs::write(at("jobs/j.toml"), job.replace("[job.", "[")).expect("a file");
        let world = world.replace("[[regions]]", "job = \"../jobs/j.toml\"\n[[regions]]");
        fs::write(at("simulations/x.toml"), world).expect("a file");
    };
    let file = at("simulations/x.toml");
    write(job);
    let simulation = load_simulation(&file, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(simulation.job.clocks, 3);
    assert_eq!(simulation.job.data.root, at("simulations/../jobs/data"));
    // Its keys can be overridden like all others, and its problems name it.
    let overrides = overrides(&[], &[("job.clocks", "5")]);
    assert_eq!(load_simulation(&file, &overrides).expect("it is right").job.clocks, 5);
    write(&job.replace("clocks = 3", "clocks = 0"));
    let error = load_simulation(&file, &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("jobs/j.toml:1: job.clocks: found 0"), "{error}");
    write(&job.replace("clocks = 3", "shards = 1"));
    let error = load_simulation(&file, &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("jobs/j.toml:1: job.clocks: missing"), "{error}");
    fs::remove_file(at("jobs/j.toml")).expect("it was there");
    let error = load_simulation(&file, &Overrides::default()).unwrap_err().to_string();
    assert!(error.contains("j.toml: cannot be read: ") && error.contains("(named by job in "), "{error}");
}

#[test]
fn a_job_file_stands_alone_if_it_has_a_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("j.toml");
    let job = SMALLEST.split_once("[job]\n").expect("a job").1.replace("[job.", "[");
    let read = |text: &str| {
        fs::write(&path, text).expect("a file");
        let layers = Layers::read(&path, &Overrides::default(), job::KEY).expect("TOML");
        Reader::new(&layers).read(|s| job::job(s, None)).map_err(|error| error.to_string())
    };
    assert_eq!(read(&format!("name = \"alone\"\n{job}")).expect("it is right").name, "alone");
    assert!(read(&job).unwrap_err().contains("name: missing; allowed: a name"));
}

/// Settings of the choices that [`SMALLEST`] leaves out.
const CHOICES: [&str; 6] = [
    "[job.data]\nformat = \"idx\"\npath = \".\"\ntrain_images = \"a\"\ntrain_labels = \"b\"\ntest_images = \"c\"\ntest_labels = \"d\"",
    "[job.data]\nformat = \"libsvm\"\npath = \".\"\ntrain = \"a\"\nfeatures = 3",
    "[job.data]\nformat = \"movielens\"\npath = \".\"\ntrain = \"a\"",
    "[job.data]\nformat = \"planted\"\nusers = 1\nitems = 1\nrank = 1\nratings = 1",
    "partition = \"dirichlet\"\ndirichlet_alpha = 0.5\n[job.asp]\nschedule = \"list\"\nfactors = [1, 0.5]\n[job.asp.tables.w]\nschedule = \"list\"\nfactors = [1]",
    "[job.asp]\nschedule = \"linear\"\nto = 0.1\nover = 4\n[job.asp.tables.w]\nschedule = \"linear\"\nto = 1\nover = 2",
];

fn with_choice(choice: &str) -> String {
    let (head, data) = SMALLEST.split_once("[job.data]").expect("there is data");
    let (_, model) = data.split_once("[job.model]").expect("there is a model");
    let data = if choice.contains("[job.data]") {
        String::new()
    } else {
        SMALLEST[head.len()..].replace(model, "").replace("[job.model]", "")
    };
    format!("{head}{choice}\n{data}\n[job.model]{model}")
}

#[test]
fn every_choice_can_be_made() {
    let job = |choice| load(&with_choice(choice)).unwrap_or_else(|error| panic!("{error}")).job;
    assert!(matches!(job(CHOICES[0]).data.source, DataSource::Idx { test: Some(_), .. }));
    assert!(matches!(job(CHOICES[1]).data.source, DataSource::Libsvm { features: Some(3), .. }));
    assert!(matches!(job(CHOICES[2]).data.source, DataSource::MovieLens { test: None, .. }));
    assert!(matches!(job(CHOICES[3]).data.source, DataSource::Planted { users: 1, .. }));
    let listed = job(CHOICES[4]);
    assert_eq!(listed.partition, Partition::Dirichlet(0.5));
    assert_eq!(listed.asp.filter.schedule, FilterSchedule::Plain(Schedule::Factors(vec![1.0, 0.5])));
    // What a table leaves out is as for all.
    assert_eq!(listed.asp.tables[0].1.threshold, listed.asp.filter.threshold);
    let linear = FilterSchedule::Plain(Schedule::Linear { to: 0.1, clocks: 4 });
    assert_eq!(job(CHOICES[5]).asp.filter.schedule, linear);
    let decay = |text: &str| {
        let text = SMALLEST
            .replace("learning_rate.initial = 0.1", &format!("learning_rate = {{ initial = 0.1, {text} }}"));
        load(&text).map(|simulation| simulation.job.application.learning_rate().decay.clone())
    };
    assert_eq!(decay("decay = \"inverse\", every = 5"), Ok(Decay::Inverse { every: 5 }));
    assert_eq!(decay("decay = \"inverse-sqrt\", every = 5"), Ok(Decay::InverseSqrt { every: 5 }));
    let exponential = Decay::Exponential { factor: 0.5, every: 5 };
    assert_eq!(decay("decay = \"exponential\", factor = 0.5, every = 5"), Ok(exponential));
    let error = decay("decay = \"inverse\"").unwrap_err();
    assert!(error.contains("job.model.learning_rate.every: missing"), "{error}");
}

#[test]
fn the_documentation_lists_the_keys_that_there_are() {
    let mut asked = BTreeSet::new();
    let mut read = |path: &Path| {
        let layers = Layers::read(path, &Overrides::default(), job::KEY).expect("TOML");
        let reader = Reader::new(&layers);
        asked.extend(reader.keys_asked(simulation::simulation));
    };
    shipped().iter().for_each(|file| read(file));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    for choice in CHOICES {
        let text = format!("{}{TRIANGLE}", with_choice(choice));
        fs::write(&path, text).expect("a file");
        read(&path);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    let text = fs::read_to_string(path).expect("the documentation is there");
    let (settings, _) =
        text.split_once("\n## What comes out\n").expect("results are documented behind settings");
    let listed: BTreeSet<_> = settings
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    // Tables are headings there, or said to exist by their keys.
    let is_table = |key: &String| {
        asked
            .iter()
            .any(|other| other.starts_with(&format!("{key}.")) || other.starts_with(&format!("{key}[].")))
    };
    let keys: BTreeSet<_> = asked.iter().filter(|key| !is_table(key)).cloned().collect();
    let missing: Vec<_> = keys.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&keys).collect();
    assert!(missing.is_empty() && stale.is_empty(), "missing there: {missing:#?}\nno such key: {stale:#?}");
}

/// TOML texts that are mostly well-formed and mostly wrong.
fn any_toml() -> impl Strategy2<Value = String> {
    let key = prop_oneof![
        Just("name"),
        Just("seed"),
        Just("regions"),
        Just("link"),
        Just("links"),
        Just("job"),
        Just("job.asp"),
        Just("job.data"),
        Just("job.model"),
        Just("job.asp.tables"),
        Just("job.target"),
        Just("compute"),
        Just("strategies"),
        Just("lan.rate"),
        Just("link.outages"),
        Just("\"odd[77777777777]\""),
        Just("x-y"),
    ];
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}").to_lowercase()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "[ -~]{0,12}".prop_map(|text| format!("{text:?}")),
        Just("\"1 %\"".to_owned()),
        Just("{ kind = \"softmax\", format = \"idx\", name = \"a\" }".to_owned()),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            ("[a-z_]{1,8}", inner).prop_map(|(key, value)| format!("{{ {key} = {value} }}")),
        ]
    });
    prop::collection::vec((key, value), 0..6)
        .prop_map(|lines| lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect())
}

use proptest::strategy::Strategy as Strategy2;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_file_makes_the_loader_panic(text in prop_oneof![any_toml(), "(?s).{0,200}"], key in "[a-z.\\[\\]0-9]{0,12}", value in ".{0,12}") {
        let _ = load_with(&text, &overrides(&[], &[(&key, &value), ("regions.0.workers", &value), ("job.asp", &value)]));
    }

    #[test]
    fn a_right_file_with_a_wrong_line_has_problems(key in "[a-z_]{3,12}", value in any::<i64>()) {
        prop_assume!(!["seed"].contains(&key.as_str()));
        let text = format!("{key} = {value}\n{SMALLEST}");
        prop_assert!(load(&text).is_err());
    }
}

#[test]
fn variables_are_those_with_the_prefix() {
    let variables: Map<_, _> = [("GAIA__SEED", "5"), ("GAIA_SEED", "6"), ("SEED", "7")]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let overrides = Overrides::from_variables(Some(variables)).expect("text");
    assert_eq!(load_with(SMALLEST, &overrides).expect("it is right").seed, 5);
}
