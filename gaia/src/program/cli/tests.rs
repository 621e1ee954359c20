use std::fs;
use std::sync::Mutex;

use clap::CommandFactory;

use super::*;
use crate::program::report::tests::{good, incomplete};
use crate::simulator::Progress;

/// An engine that finds what it is told to find, and remembers what it was asked for.
#[derive(Default)]
struct Scripted {
    asked: Mutex<Vec<(u64, u32, Vec<Strategy>)>>,
    fails: bool,
    /// One of the strategies of a comparison.
    one_fails: bool,
    /// With what every run of any strategy ends.
    ends_with: Option<f64>,
    /// In a comparison `asp` misses the target.
    misses: bool,
    explained: Mutex<u32>,
}

impl Scripted {
    fn ask(&self, simulation: &Simulation, strategies: &[Strategy]) -> Result<(), SimulationError> {
        let asked = (simulation.seed, simulation.job.clocks, strategies.to_vec());
        self.asked.lock().expect("no panic").push(asked);
        if self.fails {
            let source = datacenter::local::SessionError::NoReply.into();
            return Err(SimulationError::Failed { strategy: strategies[0], source });
        }
        Ok(())
    }
}

impl Engine for Scripted {
    fn simulate(
        &self,
        simulation: &Simulation,
        strategy: Strategy,
        observer: &dyn Observer,
    ) -> Result<Run, SimulationError> {
        self.ask(simulation, &[strategy])?;
        observer.run_started(strategy, &["virginia".to_owned()], 1);
        let progress =
            Progress { region: 0, clock: 1, seconds: 1.0, objective: None, wan_bytes_per_sec: 0.0 };
        observer.clock(strategy, &progress);
        let mut run = good().runs.remove(1);
        run.objective = self.ends_with.unwrap_or(run.objective);
        observer.run_finished(&run);
        Ok(run)
    }

    fn compare(
        &self,
        simulation: &Simulation,
        strategies: &[Strategy],
        _: &dyn Observer,
    ) -> Result<Comparison, SimulationError> {
        self.ask(simulation, strategies)?;
        let mut comparison = if self.one_fails { incomplete() } else { good() };
        for run in &mut comparison.runs {
            run.objective = self.ends_with.unwrap_or(run.objective);
        }
        comparison.runs[1].reached_target &= !self.misses;
        Ok(comparison)
    }

    fn explain(&self, _: &Simulation, _: &mut Comparison) -> Result<(), SimulationError> {
        *self.explained.lock().expect("no panic") += 1;
        Ok(())
    }

    fn check(&self, simulation: &Simulation) -> Result<simulator::Found, SimulationError> {
        self.ask(simulation, &[Strategy::Asp])?;
        Ok(simulator::Found { summary: "1,437 examples".to_owned(), remarks: Vec::new() })
    }
}

/// A file that needs no data.
const PLANTED: &str = r#"
name = "tiny"
strategies = ["lan", "asp"]
[[regions]]
name = "here"
[compute]
examples_per_second = 10
[job]
clocks = 3
[job.data]
format = "planted"
users = 2
items = 2
rank = 1
ratings = 2
[job.model]
kind = "factorisation"
rank = 1
clocks_per_epoch = 1
learning_rate.initial = 0.1
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("x.toml"), text).expect("a file");
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Runs `gaia COMMAND x.toml REST...`; the code and the message are those of the error.
    fn run(&self, engine: &Scripted, command: &str, rest: &[&str]) -> Result<(), (u8, String)> {
        let file = self.path("x.toml");
        let words = ["gaia", command, &file].into_iter().chain(rest.iter().copied());
        let arguments = Arguments::try_parse_from(words).map_err(|error| (2, error.to_string()))?;
        super::run(&arguments.command, engine, &models::kinds())
            .map_err(|error| (error.code(), with_causes(&error)))
    }
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
    let help = Arguments::command().render_long_help().to_string();
    assert!(help.contains("  2  the input has to be put right"), "{help}");
    for mut command in Arguments::command().get_subcommands().cloned() {
        assert!(command.render_long_help().to_string().contains("Example"), "{}", command.get_name());
    }
}

#[test]
fn examples_of_settings_are_settings() {
    let file = |name: &str| format!("{}/../configs/{name}", env!("CARGO_MANIFEST_DIR"));
    for (command, name) in [
        ("simulate", "simulations/three-regions.toml"),
        ("compare", "simulations/three-regions.toml"),
        ("run", "regions/virginia.toml"),
        ("server", "regions/virginia.toml"),
        ("worker", "regions/virginia.toml"),
        ("demo", "regions/virginia.toml"),
        ("link", "links/three-regions.toml"),
    ] {
        let mut all = Arguments::command();
        let help = all.find_subcommand_mut(command).expect("a command").render_long_help().to_string();
        let set = help.split_once("--set <KEY=VALUE>").expect("it has settings").1;
        let set = set.trim_start().split(';').next().expect("text");
        let mut overrides = crate::settings::Overrides::default();
        let mut count = 0;
        for (key, value) in set.split([' ', ',']).filter_map(|word| word.split_once('=')) {
            overrides.flag("--set", key, value);
            count += 1;
        }
        assert!(count > 0, "{command}: {set}");
        let path = file(name);
        let path = std::path::Path::new(&path);
        let error = match name.split('/').next() {
            Some("simulations") => config::load_simulation(path, &overrides, &models::kinds()).err(),
            Some("regions") => config::load_region(path, &overrides, &models::kinds()).err(),
            _ => config::load_link_file(path, &overrides).err(),
        };
        assert_eq!(error, None, "{command}: {set}");
    }
}

#[test]
fn who_is_to_be_asked_may_be_said_in_two_ways() {
    let error = Arguments::try_parse_from(["gaia", "status"]).expect_err("nobody is named").to_string();
    assert!(error.contains("FILES") && error.contains("--url <URL>"), "{error}");
    for words in [&["x.toml"][..], &["--url", "a:1"], &["x.toml", "--url", "a:1", "--url", "b:1"]] {
        Arguments::try_parse_from(["gaia", "status"].iter().chain(words)).expect("somebody is");
    }
}

#[test]
fn several_busy_ports_stand_on_lines_of_their_own() {
    let busy = |count: usize| CommandError::Busy(vec!["127.0.0.1:1 for a-b: it is in use".to_owned(); count]);
    assert_eq!(busy(1).to_string(), "cannot listen on 127.0.0.1:1 for a-b: it is in use");
    let expected = "cannot listen on 2 addresses:\n  127.0.0.1:1 for a-b: it is in use\n  127.0.0.1:1 for a-b: it is in use";
    assert_eq!((busy(2).to_string().as_str(), busy(2).code()), (expected, 2));
}

#[test]
fn a_port_that_is_taken_comes_with_a_remedy() {
    let error = ServiceError::Listen {
        address: "127.0.0.1:7100".parse().expect("an address"),
        what: "workers, servers.listen",
        error: io::ErrorKind::AddrInUse.into(),
    };
    let expected = "cannot listen on 127.0.0.1:7100 (workers, servers.listen): it is in use; stop what listens there, or \
                    choose another port";
    assert_eq!(with_causes(&CommandError::from(error)), expected);
}

#[test]
fn flags_reach_the_engine() {
    let place = Place::new(PLANTED);
    let engine = Scripted::default();
    place.run(&engine, "simulate", &["-q", "--strategy", "bsp", "--seed", "7"]).expect("it runs");
    place.run(&engine, "compare", &["-q", "--set", "job.clocks=5"]).expect("it runs");
    place.run(&engine, "compare", &["-q", "--strategies", "bsp,asp-unguarded"]).expect("it runs");
    place.run(&engine, "check", &["--data-path", "/nowhere"]).expect("it needs no data");
    let asked = engine.asked.into_inner().expect("no panic");
    assert_eq!(
        asked,
        [
            (7, 3, vec![Strategy::Bsp]),
            (1, 5, vec![Strategy::Lan, Strategy::Asp]),
            (1, 3, vec![Strategy::Bsp, Strategy::AspUnguarded]),
            (1, 3, vec![Strategy::Asp]),
        ]
    );
}

#[test]
fn results_are_written_where_they_are_wanted() {
    let place = Place::new(PLANTED);
    let (json, csv) = (place.path("out.json"), place.path("out.csv"));
    place.run(&Scripted::default(), "compare", &["-q", "--json", &json, "--csv", &csv]).expect("it runs");
    assert_eq!(fs::read_to_string(json).expect("it is there"), report::json(&good()));
    assert_eq!(fs::read_to_string(csv).expect("it is there"), report::csv(&good()));
}

#[test]
fn a_simulation_is_written_as_a_comparison_of_one() {
    let place = Place::new(PLANTED);
    let (json, csv) = (place.path("one.json"), place.path("one.csv"));
    place.run(&Scripted::default(), "simulate", &["-q", "--json", &json, "--csv", &csv]).expect("it runs");
    let read: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(json).expect("it is there")).expect("JSON");
    let whole: serde_json::Value = serde_json::from_str(&report::json(&good())).expect("JSON");
    assert_eq!(read["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(read["runs"][0], whole["runs"][1]);
    let keys = |value: &serde_json::Value| value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
    assert_eq!(keys(&read), keys(&whole), "whoever reads one reads the other");
    let csv = fs::read_to_string(csv).expect("it is there");
    assert_eq!(csv.lines().next(), report::csv(&good()).lines().next());
    assert_eq!(csv.lines().count(), 1 + good().runs[1].curve.len());
}

#[test]
fn every_shell_completes_every_command_and_every_command_has_a_page() {
    use clap::ValueEnum;
    let names: Vec<_> =
        Arguments::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for shell in clap_complete::Shell::value_variants() {
        let script = handbook::completion(*shell);
        assert!(names.iter().all(|name| script.contains(name.as_str())), "{shell}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    handbook::write_pages(directory.path()).expect("there is room");
    for name in &names {
        let page = fs::read_to_string(directory.path().join(format!("gaia-{name}.1"))).expect(name);
        assert!(page.starts_with(".ie") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    assert!(directory.path().join("gaia-certs-renew.1").is_file());
    assert!(handbook::page().contains(".SH SUBCOMMANDS"));
}

#[test]
fn messages_are_wrapped_between_words_and_keep_their_indentation() {
    let message =
        "error: two problems\n  regions/virginia.toml:7: job.clocks: found \"x\"; allowed: a whole number";
    let expected = "error: two problems\n  regions/virginia.toml:7: job.clocks:\n    found \"x\"; allowed: a whole number";
    assert_eq!(wrapped(message, 38), expected);
    assert_eq!(wrapped(message, 200), message);
    let path = "cannot write /a/very/long/path/that/nobody/would/want/to/have/broken.json";
    assert!(wrapped(path, 30).contains("/a/very/long/path/that/nobody/would/want/to/have/broken.json"));
}

#[test]
fn bad_input_is_refused_before_anything_runs() {
    let place = Place::new(PLANTED);
    let engine = Scripted::default();
    for (command, rest, expected) in [
        ("compare", vec!["--strategies", "asp,bps"], "`bps` is not one of lan, asp, bsp"),
        ("compare", vec!["--strategies", "asp,asp"], "--strategies: names asp twice"),
        (
            "compare",
            vec!["--json", "no/such/dir.json"],
            "cannot write no/such/dir.json: there is no such directory",
        ),
        ("compare", vec!["--json", "-", "--csv", "-"], "--csv: goes where --json goes"),
        ("compare", vec!["--json", "same.out", "--csv", "./same.out"], "--csv: goes where --json goes"),
        ("simulate", vec!["--json", "-", "--csv", "-"], "--csv: goes where --json goes"),
        (
            "simulate",
            vec!["--csv", "no/such/dir.csv"],
            "cannot write no/such/dir.csv: there is no such directory",
        ),
        ("compare", vec!["--json", "/proc/out.json"], "cannot write /proc/out.json: "),
        ("compare", vec!["--seed", "-1"], "--seed: seed: found \"-1\"; allowed: a whole number, at least 0"),
        ("compare", vec!["--set", "job.clocks"], "there is no `=`; write KEY=VALUE"),
        ("compare", vec!["--seed", "x"], "--seed: seed: found \"x\"; allowed: a whole number, at least 0"),
        ("simulate", vec!["--strategy", "fastest"], "`fastest` is not one of lan, asp, bsp"),
        ("simulate", vec!["--set", "job.clocks=0"], "--set job.clocks: job.clocks: found \"0\""),
        ("check", vec!["no-such.toml"], "something is not right"),
    ] {
        let (code, message) = place.run(&engine, command, &rest).expect_err("it is refused");
        assert_eq!(code, 2, "{message}");
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
    let asked = engine.asked.into_inner().expect("no panic");
    assert_eq!(asked.len(), 1, "only the check of the right file ran");
}

#[test]
fn data_that_is_not_there_is_named_with_its_key() {
    let world = PLANTED.split_once("[job.data]").expect("there is data").0;
    let place = Place::new(&format!(
        r#"{world}
        [job.data]
        format = "csv"
        path = "d"
        train = "a.csv"
        test = "b.csv"
        [job.model]
        kind = "softmax"
        batch = 1
        learning_rate.initial = 1
        "#
    ));
    let compare = |rest: &[&str]| place.run(&Scripted::default(), "compare", &[&["-q"], rest].concat());
    let (code, message) = compare(&[]).expect_err("no directory");
    assert_eq!(code, 2);
    assert!(
        message.contains("x.toml: job.data.path: ") && message.contains("d is no directory;"),
        "{message}"
    );
    assert!(message.contains("--data-path PLACE"), "{message}");
    fs::create_dir(place.path("d")).expect("a directory");
    let (_, message) = compare(&[]).expect_err("no files");
    assert!(message.starts_with("2 problems"), "{message}");
    assert!(message.contains("x.toml: job.data.train: "), "{message}");
    assert!(message.contains("b.csv cannot be read: "), "{message}");
    fs::write(place.path("d/a.csv"), "1,0\n").expect("a file");
    fs::create_dir(place.path("d/b.csv")).expect("a directory");
    let (_, message) = compare(&[]).expect_err("a directory is no file");
    assert!(message.contains("job.data.test: ") && message.contains("is a directory"), "{message}");
    fs::create_dir(place.path("other")).expect("a directory");
    fs::write(place.path("other/a.csv"), "1,0\n").expect("a file");
    fs::write(place.path("other/b.csv"), "1,0\n").expect("a file");
    compare(&["--data-path", &place.path("other")]).expect("it runs");
}

#[test]
fn a_run_that_fails_is_not_the_operators_fault() {
    let place = Place::new(PLANTED);
    let engine = Scripted { fails: true, ..Scripted::default() };
    let (code, message) = place.run(&engine, "simulate", &["-q"]).expect_err("it fails");
    let expected = "the run of asp failed: a worker's session ended: the shards closed the connection";
    assert_eq!((code, message.as_str()), (1, expected));
}

#[test]
fn what_diverged_is_shown_and_is_no_success() {
    let place = Place::new(PLANTED);
    // A model that blew up need not be NaN: gradients may be bounded. These begin with 2.3.
    for ends_with in [f64::NAN, f64::INFINITY, 5.8e28, 2.31] {
        let engine = Scripted { ends_with: Some(ends_with), ..Scripted::default() };
        let csv = place.path("out.csv");
        let written = place.run(&engine, "compare", &["-q", "--csv", &csv]);
        let (code, message) = written.expect_err("nothing came of it");
        let expected = "no model came of it: lan, asp, bsp, async, isolated, stretched diverged, or ended worse than before training";
        assert_eq!((code, message.as_str()), (1, expected));
        assert!(!fs::read_to_string(csv).expect("a file").is_empty());
        let (code, message) = place.run(&engine, "simulate", &["-q"]).expect_err("nothing came of it");
        let expected = "no model came of it: asp diverged, or ended worse than before training";
        assert_eq!((code, message.as_str()), (1, expected));
    }
    let engine = Scripted { ends_with: Some(2.29), ..Scripted::default() };
    place.run(&engine, "compare", &["-q"]).expect("it learned something");
}

#[test]
fn a_missed_target_is_explained_unless_that_is_not_wanted() {
    let place = Place::new(PLANTED);
    for (misses, flags, expected) in
        [(false, &["-q"][..], 0), (true, &["-q"], 1), (true, &["-q", "--no-explain"], 0)]
    {
        let engine = Scripted { misses, ..Scripted::default() };
        place.run(&engine, "compare", flags).expect("it runs");
        assert_eq!(engine.explained.into_inner().expect("no panic"), expected, "{misses} {flags:?}");
    }
}

#[test]
fn what_others_found_is_written_though_one_failed() {
    let place = Place::new(PLANTED);
    let engine = Scripted { one_fails: true, ..Scripted::default() };
    let (json, csv) = (place.path("out.json"), place.path("out.csv"));
    let written = place.run(&engine, "compare", &["-q", "--json", &json, "--csv", &csv]);
    assert_eq!(written, Err((1, "no result for bsp".to_owned())));
    assert!(fs::read_to_string(json).expect("a file").contains("\"failed\""));
    assert_eq!(fs::read_to_string(csv).expect("a file"), report::csv(&incomplete()));
}
