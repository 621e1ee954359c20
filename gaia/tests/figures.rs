//! What a run counts, and what it does not.

use std::path::Path;

use gaia::config::{Overrides, load_simulation};
use gaia::outcome::Run;
use gaia::progress::Silent;
use gaia::simulation;
use gaia::strategy::Strategy::{self, Asp, Bsp, Isolated, Lan, Stretched};

/// The main job, short, with a last clock that is not one of those scored on the way.
fn run(strategy: Strategy) -> Run {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/three-regions.toml"));
    let mut overrides = Overrides::from_variables(None).expect("nothing to refuse");
    overrides.flag("--set job.clocks", "job.clocks", "5");
    let simulation = load_simulation(path, &overrides).expect("a shipped file is good");
    simulation::simulate(&simulation, strategy, &Silent).expect("it runs")
}

#[test]
fn the_naive_bytes_are_counted_where_there_are_mirrors() {
    for (strategy, is_counted) in
        [(Asp, true), (Bsp, true), (Lan, false), (Isolated, false), (Stretched, false)]
    {
        assert_eq!(run(strategy).naive_wan_bytes.is_some(), is_counted, "{strategy}");
    }
}

#[test]
fn the_last_clock_is_scored_before_and_after_the_final_exchange() {
    let run = run(Asp);
    let clocks: Vec<_> = run.curve.iter().map(|point| point.clock).collect();
    assert_eq!(clocks, [0, 2, 4, 5, 5]);
    let [.., trained, end] = run.curve.as_slice() else { unreachable!("there are five") };
    assert!(trained.seconds < end.seconds && trained.wan_bytes < end.wan_bytes, "{trained:?} {end:?}");
    assert_eq!(run.objective, end.objective);
}

#[test]
fn a_worker_waits_no_longer_than_the_run_takes_and_a_stretched_one_for_the_network() {
    for strategy in [Lan, Bsp, Stretched] {
        let run = run(strategy);
        let held: f64 = run.holds.values().sum();
        assert!(held < run.seconds, "{strategy}: {held} of {}", run.seconds);
        // The farther regions are half a round trip of 220 ms apart.
        let network = run.holds.get("network").copied();
        assert_eq!(network.is_some_and(|seconds| seconds > 5.0 * 0.1), strategy == Stretched, "{network:?}");
    }
}
