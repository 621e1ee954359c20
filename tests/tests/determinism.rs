//! Law 6 for what a user runs: one simulation file and one seed give one result, whatever else runs
//! beside it.

use std::path::Path;
use std::time::Duration;

use emulation::link::{LinkConfig, Outage};
use gaia::job::config::load_simulation;
use gaia::job::scenario::Simulation;
use gaia::job::strategy::Strategy;
use gaia::learning::models;
use gaia::program::report::json;
use gaia::settings::Overrides;
use gaia::simulator::{self, Observer, Progress};

struct Silent;

impl Observer for Silent {
    fn run_started(&self, _: Strategy, _: &[String], _: u32) {}
    fn clock(&self, _: Strategy, _: &Progress) {}
    fn run_finished(&self, _: &gaia::simulator::results::Run) {}
}

/// The main job, shortened, over links with everything that may go wrong.
fn rough() -> Simulation {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/three-regions.toml"));
    let mut overrides = Overrides::from_variables(None).expect("nothing to refuse");
    overrides.flag("--clocks", "job.clocks", "12");
    let mut simulation = load_simulation(path, &overrides, &models::kinds()).expect("a shipped file is good");
    let links = simulation.links.clone();
    simulation.links = gaia::job::scenario::Links::new(simulation.regions.len(), |from, to| LinkConfig {
        loss: 0.01,
        jitter: Duration::from_millis(3),
        reorder: true,
        duplicate: 0.01,
        outages: vec![Outage { start: Duration::from_secs(2), length: Duration::from_secs(40) }],
        ..links.get(from, to).clone()
    });
    simulation
}

#[test]
fn one_file_and_seed_give_one_result() {
    let simulation = rough();
    let strategies = [Strategy::Lan, Strategy::Asp, Strategy::Bsp];
    let first = simulator::compare(&simulation, &strategies, &Silent).expect("it runs");
    let second = simulator::compare(&simulation, &strategies, &Silent).expect("it runs");
    assert_eq!(json(&first), json(&second));
    assert_eq!(first.runs.len(), strategies.len(), "{:?}", first.failed);
    // Each alone in this thread is the same as beside the others.
    for run in &first.runs {
        let strategy = strategies.into_iter().find(|s| s.name() == run.strategy).expect("it was asked for");
        let alone = simulator::simulate(&simulation, strategy, &Silent).expect("it runs");
        assert_eq!(
            serde_json::to_string(&alone.curve).ok(),
            serde_json::to_string(&run.curve).ok(),
            "{strategy}"
        );
        assert_eq!(
            serde_json::to_string(&alone.links).ok(),
            serde_json::to_string(&run.links).ok(),
            "{strategy}"
        );
    }
}
