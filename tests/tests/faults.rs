//! Every scenario over many seeds.

use gaia_tests::faults::cluster::{Cluster, Outcome, Plan, Sabotage};
use gaia_tests::faults::scenario::{SCENARIOS, Scenario};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Seeds of each scenario; `GAIA_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("GAIA_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(30)
}

fn run(scenario: &Scenario, seed: u64) -> Result<Outcome, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Cluster::new(Plan::random(scenario, &mut rng), seed).run()
}

#[test]
fn every_scenario_ends_well() {
    let only = std::env::var("GAIA_SCENARIO").unwrap_or_default();
    let mut failures = Vec::new();
    for scenario in SCENARIOS.iter().filter(|s| s.name.contains(&only)) {
        let (mut longest, mut reads) = (std::time::Duration::ZERO, 0);
        let mut failed = 0;
        for seed in 0..seeds() {
            match run(scenario, seed) {
                Ok(outcome) => {
                    longest = longest.max(outcome.longest_hold);
                    reads += outcome.reads;
                }
                Err(error) => {
                    failed += 1;
                    if failed == 1 {
                        failures.push(format!("{}: seed {seed}: {error}", scenario.name));
                    }
                }
            }
        }
        println!("{}: {reads} reads, held for {longest:?} at most, {failed} failed", scenario.name);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Seeds over which something was found, beyond those that are always run.
const FOUND: &[(&str, u64)] = &[
    // Two processes that began with the same checkpoint took the same number.
    ("a disk is full, a server dies meanwhile, and there is room again", 51),
    // What had been released was held back again, and lost with the next death.
    ("a disk is full, a server dies meanwhile, and there is room again", 147),
];

#[test]
fn what_was_found_before_ends_well() {
    for &(name, seed) in FOUND {
        let scenario =
            SCENARIOS.iter().find(|scenario| scenario.name == name).expect("there is such a scenario");
        run(scenario, seed).unwrap_or_else(|error| panic!("{name}: seed {seed}: {error}"));
    }
}

/// Seeds whose stories something was found over, beyond those that are always run.
const FOUND_STORIES: &[u64] = &[
    // A server came back from a checkpoint that did not say how far the others had come, and a
    // flush counted twice.
    1414,
    // A worker that came back while one of its servers stood still joined the other, and all
    // regions waited for it.
    3051,
];

fn run_story(seed: u64) -> Result<Outcome, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let plan = Plan::of_random_faults(&mut rng);
    let story = plan.story.clone();
    Cluster::new(plan, seed).run().map_err(|error| format!("seed {seed}: {error}, in {story:?}"))
}

/// Ten times as many seeds as for scenarios, each with a story of its own.
#[test]
fn random_faults_end_well() {
    let only = std::env::var("GAIA_SCENARIO").unwrap_or_default();
    if !"random faults".contains(&only) {
        return;
    }
    let (mut longest, mut failures) = (std::time::Duration::ZERO, Vec::new());
    for seed in (0..10 * seeds()).chain(FOUND_STORIES.iter().copied()) {
        match run_story(seed) {
            Ok(outcome) => longest = longest.max(outcome.longest_hold),
            Err(error) => failures.push(error),
        }
    }
    println!("random faults: held for {longest:?} at most, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Over how many of the first `seeds` a mechanism that is taken out is missed in the scenario of
/// this name.
fn missed(sabotage: Sabotage, name: &str, seeds: u64) -> usize {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).expect("there is such a scenario");
    let is_broken = |seed: &u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(*seed);
        let plan = Plan { sabotage: Some(sabotage), ..Plan::random(scenario, &mut rng) };
        Cluster::new(plan, *seed).run().is_err()
    };
    (0..seeds).filter(is_broken).count()
}

#[test]
fn without_a_time_of_grace_the_dead_are_waited_for() {
    assert_eq!(missed(Sabotage::NoGrace, "a datacenter never returns", 30), 30);
}

#[test]
fn a_process_that_passes_for_the_one_before_it_is_noticed() {
    let replaced = "a server stands still, is replaced, and goes on";
    assert_eq!(missed(Sabotage::SameLife, replaced, 30), 30);
    let again = "a server dies while it gets its state, and during the hello";
    assert!(missed(Sabotage::SameLife, again, 30) > 20);
}

#[test]
fn what_mirrors_do_not_return_is_missed() {
    assert!(missed(Sabotage::NoReturn, "a server dies with its disk, and returns from a mirror", 30) > 25);
}

#[test]
fn what_the_dead_have_left_is_missed_where_nobody_hands_it_on() {
    assert_eq!(missed(Sabotage::NoHoldings, "a datacenter never returns", 30), 30);
}

#[test]
fn a_flush_that_is_taken_twice_is_noticed() {
    // Only where it had crossed the WAN within the few milliseconds in which its word may be lost.
    assert!(missed(Sabotage::ForgetFlushes, "a server dies, and returns from its checkpoint", 400) > 0);
}
