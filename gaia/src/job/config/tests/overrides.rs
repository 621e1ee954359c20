//! The environment and flags over a file.

use std::time::Duration;

use config::Map;

use super::*;
use crate::job::strategy::Strategy;
use crate::learning::data::DataRoot;
use crate::learning::models::SoftmaxSettings;

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
    assert!(simulation.job.model.get::<SoftmaxSettings>().is_some_and(|settings| settings.adagrad));
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
    assert_eq!(root(Overrides::default()), directory.path().join("data").into());
    assert_eq!(root(overrides(&[("GAIA__JOB__DATA__PATH", "here")], &[])), PathBuf::from("here").into());
    assert_eq!(root(overrides(&[], &[("job.data.path", "/there")])), PathBuf::from("/there").into());
    let store = root(overrides(&[], &[("job.data.path", "s3://bucket/prefix")]));
    assert!(matches!(store, DataRoot::Store(url) if url.as_str() == "s3://bucket/prefix"));
    let error = load_with(SMALLEST, &overrides(&[], &[("job.data.path", "ftp://host")])).unwrap_err();
    assert!(error.contains("found \"ftp://host\"; allowed: a path, or a URL of a store such as"), "{error}");
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
