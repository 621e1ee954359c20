//! What right files mean.

use std::time::Duration;

use datacenter::NonFinite;
use wan::policy::{BudgetScope, Lead, Limit, ReleaseEvery, Schedule, Significance, ValueFormat};

use super::*;
use crate::job::scenario::Congestion;
use crate::job::strategy::Strategy;
use crate::job::{AspGoal, AspSettings, Filter, FilterSchedule, TargetSettings};
use crate::learning::data::Partition;

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
    let region = &simulation.regions[0];
    assert_eq!((region.servers, region.workers, region.speed), (1, 1, 1.0));
    assert_eq!(simulation.lan.rate_bytes_per_sec, 1_250_000_000);
    let job = simulation.job;
    assert_eq!(job.name, "tiny");
    assert_eq!((job.staleness, job.shards, job.evaluate_every, job.ssp_lead), (Some(0), 1, 1, 3));
    assert_eq!(job.partition, Partition::Random);
    assert_eq!(job.non_finite, NonFinite::Refuse);
    assert!(job.max_delta.is_any());
    assert_eq!(job.target, TargetSettings::WithinLan(0.01));
    assert_eq!(job.asp.filter.function, Significance::UsualUpdate);
    assert_eq!(job.asp.filter.threshold, 30.0, "a clock is one step");
    assert_eq!(job.asp.filter.schedule, FilterSchedule::Plain(Schedule::Constant));
    assert_eq!(job.asp.filter.values, ValueFormat::Auto);
    assert_eq!((job.asp.anticipation, job.asp.release_every), (true, ReleaseEvery::Derived { most: 32 }));
    assert!(!job.asp.soft_threshold);
    assert_eq!(job.asp.barrier_max_delay, Some(Duration::from_millis(200)));
    assert_eq!(job.asp.lead, Lead::Derived);
}

/// Without a word thresholds follow updates; what one other word means for all the others.
#[test]
fn one_key_of_asp_decides_what_the_others_are_where_they_are_not_said() {
    let asp = |keys: &str| {
        let text = SMALLEST.replace("[job.data]", &format!("[job.asp]\n{keys}\n[job.data]"));
        load(&text).unwrap_or_else(|error| panic!("{keys}: {error}")).job.asp
    };
    let automatic = AspSettings::automatic(Some(1));
    assert_eq!(asp(""), automatic);
    for (goal, times) in [("quality", 15.0), ("balanced", 30.0), ("cheapest", 100.0)] {
        let mut expected = automatic.clone();
        expected.filter.threshold = times;
        assert_eq!(asp(&format!("goal = \"{goal}\"")), expected);
    }
    assert_eq!(asp("preset = \"paper\""), AspSettings::paper());
    assert_eq!(asp("function = \"relative\""), AspSettings::paper());
    let budget = |text: &str| asp(text).budget;
    let (region, link) = (BudgetScope::Region, BudgetScope::Link);
    for (text, limit, scope) in [
        ("budget = \"5 Mbit/s\"", Limit::BytesPerSec(625_000.0), region),
        ("budget = \"2 MB/clock\"\nbudget_of = \"link\"", Limit::BytesPerClock(2e6), link),
        ("budget = \"$43.2/day\"\negress_price = \"$0.05/GB\"", Limit::BytesPerSec(1e7), region),
    ] {
        let found = budget(text).expect("there is one");
        assert_eq!(found.scope, scope, "{text}");
        match (found.limit, limit) {
            (Limit::BytesPerSec(found), Limit::BytesPerSec(meant))
            | (Limit::BytesPerClock(found), Limit::BytesPerClock(meant)) => {
                assert!((found - meant).abs() < 1e-6 * meant, "{text}: {found}");
            }
            _ => panic!("{text}: {found:?}"),
        }
    }
    let with_soft_threshold = AspSettings { soft_threshold: true, ..AspSettings::paper() };
    assert_eq!(asp("preset = \"paper\"\nsoft_threshold = true"), with_soft_threshold);
    // A table whose function is of the other kind takes nothing that would mean something else
    // there.
    let other = asp("[job.asp.tables.w]\nfunction = \"absolute\"");
    let absolute = Filter { function: Significance::Absolute, ..Filter::paper() };
    assert_eq!((other.filter, &other.tables[0].1), (automatic.filter, &absolute));
}

/// How much is held back follows the update of one step, and not only that of a clock.
#[test]
fn the_more_steps_a_clock_is_the_less_of_its_updates_is_held_back() {
    let of = |goal: AspGoal| [Some(1), Some(16), Some(256), None].map(|steps| goal.threshold(steps));
    assert_eq!(of(AspGoal::Quality), [15.0, 2.0, 2.0, 2.0]);
    assert_eq!(of(AspGoal::Balanced), [30.0, 4.0, 4.0, 4.0]);
    assert_eq!(of(AspGoal::Cheapest), [100.0, 15.0, 15.0, 15.0]);
    assert_eq!(AspGoal::Balanced.threshold(Some(8)), 30.0 / libm::pow(8.0, 0.75));
}
