//! A run behind a link that never heals ends with a reason; one behind a link that heals goes on.

use std::path::Path;
use std::time::Duration;

use emulation::link::{LinkConfig, Outage};
use gaia::job::TargetSettings;
use gaia::job::config::load_simulation;
use gaia::job::scenario::{Links, Simulation};
use gaia::job::strategy::Strategy;
use gaia::learning::models;
use gaia::program::progress::Silent;
use gaia::settings::Overrides;
use gaia::simulator;

/// The main job, short, with these outages of the links to and from Singapore.
fn interrupted(outages: &[(u64, u64)]) -> Simulation {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/three-regions.toml"));
    let mut overrides = Overrides::from_variables(None).expect("nothing to refuse");
    overrides.flag("--set job.clocks", "job.clocks", "10");
    let mut simulation = load_simulation(path, &overrides, &models::kinds()).expect("a shipped file is good");
    let outage = |&(start, length): &(u64, u64)| Outage {
        start: Duration::from_secs(start),
        length: Duration::from_secs(length),
    };
    let links = simulation.links.clone();
    let singapore = 2;
    simulation.links = Links::new(simulation.regions.len(), |from, to| LinkConfig {
        outages: match from == singapore || to == singapore {
            true => outages.iter().map(outage).collect(),
            false => Vec::new(),
        },
        ..links.get(from, to).clone()
    });
    simulation
}

const YEAR: u64 = 365 * 24 * 3600;

fn failure(simulation: &Simulation, strategy: Strategy) -> String {
    let error = simulator::simulate(simulation, strategy, &Silent).expect_err("it cannot end");
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    message
}

#[test]
fn a_link_that_never_heals_is_named_by_who_waits_for_it() {
    let dead = interrupted(&[(2, YEAR)]);
    for (strategy, expected) in [
        (Strategy::Bsp, "\n  virginia, at clock 4 of 10, waits for the clock of singapore (mirror clock)"),
        (Strategy::Asp, "the clock of singapore (mirror clock)"),
        (Strategy::Async, "virginia, at clock 10 of 10, waits for singapore to confirm its last updates"),
        (Strategy::Stretched, "waits for the updates of other workers (stale)"),
    ] {
        let message = failure(&dead, strategy);
        assert!(message.starts_with(&format!("the run of {strategy} failed: given up after ")), "{message}");
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
    let dead = interrupted(&[(0, YEAR)]);
    let message = failure(&dead, Strategy::Stretched);
    assert!(message.contains("virginia and singapore could not be connected"), "{message}");
}

#[test]
fn a_run_that_breaks_takes_no_other_with_it() {
    let simulation = interrupted(&[(2, YEAR)]);
    let strategies = [Strategy::Bsp, Strategy::Lan, Strategy::Async, Strategy::Isolated];
    let comparison = simulator::compare(&simulation, &strategies, &Silent).expect("two of them end");
    let names: Vec<_> = comparison.runs.iter().map(|run| run.strategy.as_str()).collect();
    assert_eq!(names, ["lan", "isolated"]);
    assert!(comparison.runs[0].reached_target, "it is judged as ever");
    let failed: Vec<_> = comparison.failed.iter().map(|failure| failure.strategy.as_str()).collect();
    assert_eq!(failed, ["bsp", "async"]);
    let reason = &comparison.failed[0].reason;
    assert!(reason.starts_with("given up after ") && reason.contains("(mirror clock)"), "{reason}");
}

#[test]
fn nothing_is_judged_by_a_run_that_broke() {
    let mut simulation = interrupted(&[]);
    // A clock takes longer than any run may.
    simulation.compute.overhead = Duration::from_secs(YEAR);
    let strategies = [Strategy::Lan, Strategy::Isolated];
    let error = simulator::compare(&simulation, &strategies, &Silent).expect_err("the target is not known");
    let expected = "nothing could be judged: the target is within a share of what lan ends with, and the run of lan failed";
    assert_eq!(error.to_string(), expected);
    simulation.job.target = TargetSettings::Value { metric: "objective".to_owned(), value: 1.0 };
    let comparison = simulator::compare(&simulation, &strategies, &Silent).expect("the target is known");
    assert_eq!((comparison.runs.len(), comparison.failed.len()), (0, 2));
}

#[test]
fn an_outage_that_heals_costs_time_and_nothing_else() {
    // Longer than connections live, and than the least patience.
    let healing = interrupted(&[(2, 3 * 3600)]);
    for strategy in [Strategy::Bsp, Strategy::Stretched] {
        let run = simulator::simulate(&healing, strategy, &Silent).expect("it heals");
        assert!(run.seconds > 3.0 * 3600.0, "{strategy}: {}", run.seconds);
        assert_eq!(run.clocks, 10);
    }
}

/// The main job, of so many clocks, with all its links like this.
fn over(link: &LinkConfig, clocks: &str) -> Simulation {
    let mut simulation = interrupted(&[]);
    simulation.job.clocks = clocks.parse().expect("a number");
    simulation.links = Links::new(simulation.regions.len(), |_, _| link.clone());
    simulation
}

#[test]
fn thin_links_and_long_ones_train() {
    let secs = Duration::from_secs;
    let thin = |bits: u64| LinkConfig {
        // What a link has for a queue where nothing is said: here more than two minutes.
        queue_bytes: 200_000,
        ..LinkConfig::clean(bits / 8, Duration::from_millis(80))
    };
    let long = |delay| LinkConfig::clean(12_500_000, delay);
    // All that is sent has to fit through the thin ones, and each clock on the long ones is a lead
    // that has to be waited for.
    for (link, within) in
        [(thin(10_000), 300), (thin(14_000), 300), (long(secs(8)), 300), (long(secs(60)), 1800)]
    {
        let run = simulator::simulate(&over(&link, "10"), Strategy::Asp, &Silent);
        let run = run.unwrap_or_else(|error| panic!("{link:?}: {error:?}"));
        assert!(run.seconds < f64::from(within), "{link:?}: {} s", run.seconds);
    }
}

#[test]
fn an_hour_without_links_costs_little_and_they_are_found_again() {
    const HOUR: f64 = 3600.0;
    let length = Duration::from_secs(3600);
    let run = |outages: Vec<Outage>| {
        let link = LinkConfig { outages, ..LinkConfig::clean(12_500_000, Duration::from_millis(80)) };
        simulator::simulate(&over(&link, "20"), Strategy::Asp, &Silent).expect("the links heal")
    };
    let (without, with) = (run(Vec::new()), run(vec![Outage { start: Duration::from_secs(5), length }]));
    for (before, after) in without.links.iter().zip(&with.links) {
        let more = after.total.saturating_sub(before.total);
        println!("{} -> {}: {more} bytes more", after.from, after.to);
        assert!(more < 100_000, "{} -> {}: {more} bytes more", after.from, after.to);
    }
    let later = with.seconds - without.seconds;
    assert!((HOUR - 5.0..HOUR + 15.0).contains(&later), "{later} s later");
}
