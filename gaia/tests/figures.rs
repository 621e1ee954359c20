//! What a run counts, and what it does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use emulation::link::{LinkConfig, Outage};
use gaia::job::config::load_simulation;
use gaia::job::scenario::{Links, Simulation};
use gaia::job::strategy::Strategy::{self, Asp, Bsp, Isolated, Lan, Stretched};
use gaia::learning::models;
use gaia::program::progress::Silent;
use gaia::settings::Overrides;
use gaia::simulator::results::{Change, RegionWait, Run};
use gaia::simulator::{self, Observer, Progress};
use wan::policy::Lead;

/// The main job, of this many clocks.
fn main_job(clocks: &str) -> Simulation {
    main_job_with(&[("job.clocks", clocks)])
}

/// The main job with other settings.
fn main_job_with(set: &[(&str, &str)]) -> Simulation {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/three-regions.toml"));
    let mut overrides = Overrides::from_variables(None).expect("nothing to refuse");
    set.iter().for_each(|(key, value)| overrides.flag(key, key, value));
    load_simulation(path, &overrides, &models::kinds()).expect("a shipped file is good")
}

/// The main job, short, with a last clock that is not one of those scored on the way.
fn run(strategy: Strategy) -> Run {
    simulator::simulate(&main_job("5"), strategy, &Silent).expect("it runs")
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

/// What each region has sent when it completed each clock.
#[derive(Default)]
struct Sent(Mutex<BTreeMap<usize, Vec<(f64, f64)>>>);

impl Observer for Sent {
    fn run_started(&self, _: Strategy, _: &[String], _: u32) {}

    fn clock(&self, _: Strategy, progress: &Progress) {
        let mut regions = self.0.lock().expect("nobody panics while it is held");
        let sent = regions.entry(progress.region).or_default();
        let (before, bytes) = sent.last().copied().unwrap_or_default();
        sent.push((progress.seconds, bytes + progress.wan_bytes_per_sec * (progress.seconds - before)));
    }

    fn run_finished(&self, _: &Run) {}
}

#[test]
fn a_budget_is_kept_over_any_ten_seconds_and_spent() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/simulations/digits-mlp.toml"));
    let clock_seconds = 0.42;
    for (budget, of, bytes_per_sec) in [
        ("16 kbit/s", "region", 2000.0),
        ("1.5 kB/s", "link", 3000.0),
        ("1 kB/clock", "region", 1000.0 / clock_seconds),
        ("$10/day", "region", 10.0 / 86_400.0 / 5e-8),
    ] {
        let mut overrides = Overrides::from_variables(None).expect("nothing to refuse");
        let mut settings = vec![("job.asp.budget", budget), ("job.asp.budget_of", of)];
        if budget.starts_with('$') {
            settings.push(("job.asp.egress_price", "$50/GB"));
        }
        settings.push(("job.evaluate_every", "150"));
        settings.iter().for_each(|(key, value)| overrides.flag(key, key, value));
        let simulation = load_simulation(path, &overrides, &models::kinds()).expect("the settings are good");
        let sent = Sent::default();
        let run = simulator::simulate(&simulation, Asp, &sent).expect("it runs");
        let raised = run.filter.last().and_then(|point| point.tables[0].filter.raised);
        assert!(raised.is_some_and(|raised| raised > 2.0), "{budget}: {raised:?}");
        for (region, mut sent) in sent.0.into_inner().expect("nobody has panicked") {
            // When the last clock ends, what the filter holds back is shipped.
            sent.pop();
            let used = |(from, before): (f64, f64), (to, after): (f64, f64)| {
                (after - before) / (to - from) / bytes_per_sec
            };
            for (at, first) in sent.iter().enumerate() {
                let Some(last) = sent[at..].iter().find(|(to, _)| to - first.0 >= 10.0) else { break };
                let used = used(*first, *last);
                assert!(
                    used <= 1.05,
                    "{budget}: region {region} has sent {used} of it from {first:?} to {last:?}"
                );
            }
            let warm = sent.iter().find(|(at, _)| *at >= 30.0).zip(sent.last());
            let used = warm.map(|(first, last)| used(*first, *last));
            assert!(used.is_some_and(|used| used >= 0.85), "{budget}: region {region} uses {used:?}");
        }
    }
}

#[test]
fn what_the_filter_has_come_to_is_told_at_every_clock_that_is_scored() {
    let simulation = main_job_with(&[
        ("job.clocks", "30"),
        ("job.asp.function", "usual-update"),
        ("job.asp.threshold", "10"),
        ("job.asp.schedule", "constant"),
        ("job.asp.values", "auto"),
        ("job.asp.anticipation", "true"),
        ("job.asp.release_every", "derived"),
    ]);
    let run = simulator::simulate(&simulation, Asp, &Silent).expect("it runs");
    let [_, training @ .., _] = run.curve.as_slice() else { unreachable!("it begins and ends") };
    let scored: Vec<_> = training.iter().map(|point| point.clock).collect();
    assert_eq!(run.filter.iter().map(|point| point.clock).collect::<Vec<_>>(), scored);
    let last = run.filter.last().expect("it was scored");
    assert!((1.0..=16.0).contains(&last.release_every), "{last:?}");
    let [table] = last.tables.as_slice() else { unreachable!("softmax has one table") };
    let filter = &table.filter;
    assert_eq!((filter.table.as_str(), filter.function.as_str()), ("weights", "usual-update"));
    assert_eq!(filter.significance_threshold, Some(10.0));
    let (threshold, step) = filter.threshold.zip(filter.step).expect("something was released");
    assert!(step <= threshold && threshold > 0.0, "{filter:?}");
    assert!(
        filter.usual_update.is_some() && filter.gain.is_some() && filter.likeness.is_some(),
        "{filter:?}"
    );
    assert!(table.shipped_share.is_some_and(|share| share > 0.0 && share < 1.0), "{table:?}");
    // What ships everything has no filter.
    assert_eq!(self::run(Bsp).filter, []);
}

#[test]
fn where_data_are_skewed_strategies_are_scored_by_comparable_models() {
    let mut simulation = main_job_with(&[
        ("job.clocks", "12"),
        ("job.partition", "label-skewed"),
        ("compute.overhead", "2 s"),
    ]);
    let objectives = |simulation: &Simulation, strategy| {
        let run = simulator::simulate(simulation, strategy, &Silent).expect("it runs");
        run.curve.iter().map(|point| (point.clock, point.objective)).collect::<Vec<_>>()
    };
    let lan = objectives(&simulation, Lan);
    let is_like_lan = |objectives: &[(u32, f64)]| {
        let near =
            |(one, lan): (&(u32, f64), &(u32, f64))| one.0 == lan.0 && (one.1 / lan.1 - 1.0).abs() < 1e-4;
        objectives.len() == lan.len() && objectives.iter().zip(&lan).all(near)
    };
    // Workers read the same at each clock, so it is the same model.
    let bsp = objectives(&simulation, Bsp);
    assert!(is_like_lan(&bsp), "{bsp:?}\n{lan:?}");
    // What is held back is what `asp` lacks.
    simulation.job.asp.lead = Lead::Limit(0);
    let asp = objectives(&simulation, Asp);
    assert!(!is_like_lan(&asp) && asp.len() == lan.len(), "{asp:?}\n{lan:?}");
    simulation.job.asp.filter.threshold = 0.0;
    let asp = objectives(&simulation, Asp);
    assert!(is_like_lan(&asp), "{asp:?}\n{lan:?}");
}

#[test]
fn a_missed_target_is_explained_by_runs_with_one_thing_changed() {
    let trials = |set: &[(&str, &str)]| {
        let simulation = main_job_with(set);
        let mut comparison = simulator::compare(&simulation, &[Lan, Asp], &Silent).expect("it runs");
        simulator::explain(&simulation, &mut comparison, &Silent).expect("it runs");
        let trials = comparison.trials.iter().map(|trial| (trial.change, trial.run.reached_target));
        trials.collect::<Vec<_>>()
    };
    assert_eq!(trials(&[]), [], "there is nothing to explain");
    let coarse = trials(&[("job.asp.threshold", "0.5")]);
    assert_eq!(coarse, [(Change::NoThreshold, true), (Change::NoLead, false)]);
    let skewed = trials(&[("job.partition", "label-skewed")]);
    assert_eq!(skewed, [(Change::NoThreshold, false), (Change::NoLead, false), (Change::Neither, true)]);
}

#[test]
fn what_a_run_spent_its_time_on_is_known_by_region_and_peer() {
    let run = run(Bsp);
    for (reason, held) in &run.holds {
        let of_reason: Vec<_> = run.waits.iter().filter(|wait| wait.reason == *reason).collect();
        // Three regions of as many workers.
        let mean = of_reason.iter().map(|wait| wait.seconds).sum::<f64>() / 3.0;
        assert!((mean - held).abs() < 1e-9, "{reason}: {mean} {held}");
        let is_for_another =
            |wait: &RegionWait| wait.waits_for.as_ref().is_some_and(|peer| *peer != wait.region);
        assert!(
            of_reason.iter().all(|wait| is_for_another(wait) == (reason == "mirror_clock")),
            "{of_reason:?}"
        );
    }
    let held: f64 = run.holds.values().sum();
    assert!(
        run.waits.iter().any(|wait| wait.reason == "mirror_clock" && wait.seconds > 0.1),
        "{:?}",
        run.waits
    );
    assert!(run.computing_seconds > 5.0 * 0.5 && run.computing_seconds + held < run.seconds, "{run:?}");
}

#[test]
fn a_stretched_server_with_fewer_shards_than_regions_ends() {
    for shards in ["1", "2"] {
        let simulation = main_job_with(&[("job.clocks", "4"), ("job.shards", shards)]);
        let run = simulator::simulate(&simulation, Stretched, &Silent).expect("it ends");
        let clocks: Vec<_> = run.curve.iter().map(|point| point.clock).collect();
        assert_eq!((run.clocks, clocks), (4, vec![0, 2, 4, 4]), "{shards} shards");
        assert!(run.seconds < 10.0 && run.wan_bytes > 0, "{run:?}");
    }
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

#[test]
fn the_parts_of_every_links_bytes_add_up_whatever_breaks() {
    let outage =
        |(start, length)| Outage { start: Duration::from_secs(start), length: Duration::from_secs(length) };
    // Connections live through 10 seconds without a sign of the peer, and not through 40.
    let broken = |outages: &[(u64, u64)], loss, duplicate| {
        let mut simulation = main_job("40");
        let links = simulation.links.clone();
        simulation.links = Links::new(simulation.regions.len(), |from, to| LinkConfig {
            outages: outages.iter().copied().map(outage).collect(),
            loss,
            duplicate,
            ..links.get(from, to).clone()
        });
        simulation
    };
    let whole = broken(&[], 0.0, 0.0);
    let lossy = broken(&[(4, 2)], 0.03, 0.05);
    let interrupted = broken(&[(5, 40), (60, 50)], 0.001, 0.01);
    for strategy in Strategy::ALL {
        for (simulation, is_whole) in [(&whole, true), (&lossy, false), (&interrupted, false)] {
            let run = simulator::simulate(simulation, strategy, &Silent).expect("it ends");
            for link in &run.links {
                let parts = link.payload + link.framing + link.retransmitted;
                assert_eq!(parts, link.total, "{strategy} {link:?}");
                // Headers alone are more: 56 bytes around no more than 1424.
                assert!(link.payload > 0 && link.framing > link.total / 30, "{strategy} {link:?}");
                assert_eq!(link.retransmitted == 0, is_whole, "{strategy} {link:?}");
            }
            assert_eq!(run.links.iter().map(|link| link.total).sum::<u64>(), run.wan_bytes, "{strategy}");
        }
    }
}
