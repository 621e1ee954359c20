//! The shipped simulations keep what their files promise, on real data where it is to be had.
//!
//! `GAIA_DATA` names a directory with `mnist/` and `ml-100k/`; without it, `../shared/data` beside
//! the workspace is tried. Where neither is there, the tests that need it say so and pass.

use std::path::{Path, PathBuf};

use gaia::job::config;
use gaia::job::scenario::Simulation;
use gaia::job::strategy::Strategy::{self, Asp, Async, Bsp, Lan, Ssp, Stretched};
use gaia::learning::models;
use gaia::program::progress::Silent;
use gaia::program::report;
use gaia::settings::Overrides;
use gaia::simulator;
use gaia::simulator::results::{Comparison, Run};

/// The optimum of softmax regression on MNIST with an L2 penalty of 1e-4, found by L-BFGS.
const MNIST_OBJECTIVE: f64 = 0.259248;
/// The RMSE of Surprise's SVD (100 factors, defaults) on the test part of fold u1.
const FOLD_U1_RMSE: f64 = 0.9513;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace").to_owned()
}

fn load(name: &str, flags: &[(&str, &str)]) -> Simulation {
    let mut overrides = Overrides::default();
    flags.iter().for_each(|(key, value)| overrides.flag("test", key, value));
    let file = workspace().join("configs/simulations").join(name);
    config::load_simulation(&file, &overrides, &models::kinds()).unwrap_or_else(|error| panic!("{error}"))
}

fn compare(simulation: &Simulation, strategies: &[Strategy]) -> Comparison {
    simulator::compare(simulation, strategies, &Silent).unwrap_or_else(|error| panic!("{error}"))
}

fn run(comparison: &Comparison, strategy: Strategy) -> &Run {
    comparison.runs.iter().find(|run| run.strategy == strategy.name()).expect("it was asked for")
}

/// The directory of a data set.
fn data(name: &str) -> Option<String> {
    let beside = || workspace().join("../shared/data");
    let root = std::env::var_os("GAIA_DATA").map_or_else(beside, PathBuf::from);
    let directory = root.join(name);
    if directory.is_dir() {
        return Some(directory.display().to_string());
    }
    println!("skipped: there is no {}; GAIA_DATA can name another place", directory.display());
    None
}

/// `asp` reaches the target with at least 20 times fewer bytes than `bsp`, in at most 1.2 times the
/// time of `lan`.
fn assert_asp_pays(comparison: &Comparison) {
    let reached = |strategy| {
        let run = run(comparison, strategy);
        let reached = run.seconds_to_target.zip(run.wan_bytes_to_target);
        reached.unwrap_or_else(|| {
            panic!("{strategy} ends at {} and misses {:?}", run.objective, comparison.target)
        })
    };
    let (lan, asp, bsp) = (reached(Lan), reached(Asp), reached(Bsp));
    assert!(asp.1 * 20 <= bsp.1, "{} WAN bytes, bsp {}", asp.1, bsp.1);
    assert!(asp.0 <= 1.2 * lan.0, "{} s, lan {} s", asp.0, lan.0);
}

#[test]
fn softmax_on_mnist_reaches_the_optimum_from_three_regions() {
    let Some(path) = data("mnist") else { return };
    let simulation = load("mnist-softmax.toml", &[("job.data.path", &path)]);
    let comparison = compare(&simulation, &[Lan, Asp, Bsp, Ssp, Async, Stretched]);
    for run in &comparison.runs {
        assert!(run.objective <= 1.01 * MNIST_OBJECTIVE, "{}: {}", run.strategy, run.objective);
    }
    assert_asp_pays(&comparison);
}

#[test]
fn ratings_are_factorised_as_well_from_three_regions_as_from_one() {
    let Some(path) = data("ml-100k") else { return };
    let simulation = load("movielens-mf.toml", &[("job.data.path", &path)]);
    let comparison = compare(&simulation, &[Lan, Asp, Bsp]);
    let rmse = |strategy| run(&comparison, strategy).metric.value;
    assert!(rmse(Lan) <= FOLD_U1_RMSE + 0.005, "{}", rmse(Lan));
    assert!(rmse(Asp) <= rmse(Lan) + 0.005, "{}, lan {}", rmse(Asp), rmse(Lan));
    assert_asp_pays(&comparison);
}

#[test]
fn on_a_thin_link_asp_leaves_a_stretched_parameter_server_far_behind() {
    let comparison = compare(&load("two-regions-thin.toml", &[]), &[Lan, Asp, Stretched]);
    let (asp, stretched) = (run(&comparison, Asp), run(&comparison, Stretched));
    let ratio = stretched.clock_seconds / run(&comparison, Lan).clock_seconds;
    assert!((22.0..26.0).contains(&ratio), "a stretched clock takes {ratio} times as long as one on the LAN");
    let faster = stretched.seconds_to_target.expect("it trains as lan does")
        / asp.seconds_to_target.expect("asp gets there");
    assert!(faster >= 15.0, "asp is {faster} times as fast as stretched");
    for why in ["barrier", "mirror_clock"] {
        assert!(asp.holds.get(why).is_some_and(|seconds| *seconds > 0.0), "{why}: {:?}", asp.holds);
    }
}

#[test]
fn two_comparisons_of_the_digits_are_the_same_bytes() {
    let simulation = load("three-regions.toml", &[]);
    let json = || report::json(&compare(&simulation, &simulation.strategies));
    assert!(json() == json(), "one seed gives one result");
}
