use std::collections::BTreeMap;

use super::*;
use crate::filters::FilterStatus;
use crate::job::TargetSettings;
use crate::simulator::results::{
    Change, Failure, FilterPoint, LinkBytes, MetricValue, Point, RegionWait, TablePoint, Target, Trial,
};

/// A run with round figures: the objective, seconds and bytes to the target and in all, seconds of
/// a clock.
fn made_up(
    strategy: Strategy,
    objective: f64,
    to_target: Option<(f64, u64)>,
    all: (f64, u64),
    clock: f64,
) -> Run {
    Run {
        strategy: strategy.name().to_owned(),
        reached_target: to_target.is_some(),
        seconds_to_target: to_target.map(|(seconds, _)| seconds),
        wan_bytes_to_target: to_target.map(|(_, bytes)| bytes),
        seconds: all.0,
        wan_bytes: all.1,
        wan_payload_bytes: all.1 / 10 * 9,
        naive_wan_bytes: (all.1 > 0).then_some(all.1 * 3),
        clocks: 200,
        objective,
        metric: MetricValue { name: "accuracy".to_owned(), value: 0.9527, larger_is_better: true },
        holds: BTreeMap::new(),
        computing_seconds: all.0 * 0.9,
        waits: Vec::new(),
        links: Vec::new(),
        curve: [(0, 2.3), (10, 1.0), (200, objective), (200, objective)]
            .map(|(at, objective)| Point {
                seconds: all.0 * f64::from(at) / 200.0,
                clock: at,
                objective,
                metric: 0.9527,
                wan_bytes: all.1 * u64::from(at) / 200,
            })
            .to_vec(),
        clock_seconds: clock,
        filter_hit_rate: None,
        filter: Vec::new(),
    }
}

fn holds(mut run: Run, holds: &[(&str, f64)]) -> Run {
    run.holds = holds.iter().map(|(reason, seconds)| ((*reason).to_owned(), *seconds)).collect();
    run
}

/// A filter of one table that follows its updates, at a clock, with its threshold and gain and
/// between releases.
pub(crate) fn filter_point(clock: u32, threshold: f64, gain: f64, release_every: f64) -> FilterPoint {
    let filter = FilterStatus {
        table: "weights".to_owned(),
        function: "usual-update".to_owned(),
        significance_threshold: Some(10.0),
        threshold: Some(threshold),
        step: None,
        raised: None,
        usual_update: Some(threshold / 10.0),
        gain: Some(gain),
        likeness: (clock > 2).then_some(gain / 2.0),
        updated_elements: 1000 * u64::from(clock),
        shipped_elements: 42 * u64::from(clock),
    };
    let tables = vec![TablePoint { shipped_share: filter.shipped_share(), filter }];
    FilterPoint { clock, release_every, tables }
}

/// A comparison as one would hope for.
pub(crate) fn good() -> Comparison {
    let mut asp = holds(
        made_up(Strategy::Asp, 0.15249, Some((66.4, 1_203_000)), (108.1, 1_920_400), 0.5406),
        &[("stale", 1.25), ("barrier", 0.31), ("mirror_clock", 0.0)],
    );
    asp.filter_hit_rate = Some(0.0421);
    asp.filter = vec![
        filter_point(2, 0.031, 0.0, 1.0),
        filter_point(10, 0.0042, 1.9, 16.0),
        filter_point(200, 0.0007, 0.2, 4.0),
    ];
    asp.links = vec![LinkBytes {
        from: "virginia".to_owned(),
        to: "ireland".to_owned(),
        payload: 300_000,
        framing: 20_066,
        retransmitted: 0,
        total: 320_066,
    }];
    Comparison {
        job: "digits".to_owned(),
        seed: 1,
        target: Target { metric: "objective".to_owned(), value: 0.153823 },
        runs: vec![
            made_up(Strategy::Lan, 0.1523, Some((63.2, 0)), (104.2, 0), 0.521),
            asp,
            holds(
                made_up(Strategy::Bsp, 0.1523, Some((91.0, 26_586_000)), (151.1, 44_120_000), 0.7555),
                &[("mirror_clock", 46.5)],
            ),
            made_up(Strategy::Async, f64::NAN, None, (104.9, 44_120_000), 0.5245),
            made_up(Strategy::Isolated, 0.2051, None, (104.0, 0), 0.52),
            made_up(Strategy::Stretched, 0.1523, Some((764.0, 61_000_000)), (1262.0, 98_000_000), 6.31),
        ],
        trials: Vec::new(),
        failed: Vec::new(),
    }
}

/// The same without what would have been the third run.
pub(crate) fn incomplete() -> Comparison {
    let mut comparison = good();
    let strategy = comparison.runs.remove(2).strategy;
    let reason = "given up after 1 h without progress\n  virginia, at clock 4 of 10, waits".to_owned();
    comparison.failed = vec![Failure { strategy, reason }];
    comparison
}

/// A comparison in which Gaia is no use.
fn bad() -> Comparison {
    let mut comparison = good();
    comparison.runs[1].wan_bytes_to_target = Some(30_000_000);
    comparison.runs[1] = slow(&comparison.runs[1], 191.0, 120, 213.0);
    comparison.runs[0] = slow(&comparison.runs[0], 63.2, 120, 0.0);
    comparison
}

/// `run` as it would be had it reached the target after `seconds` and `clocks`, of 200, with reads
/// held for so many seconds.
fn slow(run: &Run, seconds: f64, clocks: u32, held: f64) -> Run {
    let mut run = run.clone();
    run.clock_seconds = seconds / f64::from(clocks);
    run.seconds = run.clock_seconds * f64::from(run.clocks);
    run.computing_seconds = run.seconds - held - 10.0;
    run.seconds_to_target = Some(seconds);
    run.curve[1] = Point { seconds: seconds / 2.0, clock: clocks / 2, ..run.curve[1].clone() };
    run.curve[2] = Point { seconds, clock: clocks, ..run.curve[2].clone() };
    run.curve[3].seconds = run.seconds;
    if held > 0.0 {
        run.holds.insert("mirror_clock".to_owned(), held);
        let wait = |region: &str, peer: &str, seconds| RegionWait {
            region: region.to_owned(),
            reason: "mirror_clock".to_owned(),
            waits_for: Some(peer.to_owned()),
            seconds,
        };
        run.waits = vec![wait("virginia", "ireland", held * 0.5), wait("singapore", "virginia", held * 1.5)];
    }
    run
}

fn value(value: f64) -> TargetSettings {
    TargetSettings::Value { metric: "objective".to_owned(), value }
}

fn shown(comparison: &Comparison, width: u16) -> String {
    let style = Style { width, styled: false };
    super::comparison(comparison, &TargetSettings::WithinLan(0.01), style)
}

fn snapshot(name: &str, text: &str) {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/program/report/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).expect("a snapshot");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; UPDATE_SNAPSHOTS=1 accepts it:\n{text}");
}

#[test]
fn a_comparison_reads_well_at_any_width() {
    for width in [80, 100, 160] {
        let text = shown(&good(), width);
        for line in text.lines() {
            assert!(line.chars().count() <= usize::from(width), "longer than {width}: {line}");
        }
        snapshot(&format!("comparison-{width}.txt"), &text);
    }
    snapshot("comparison-bad.txt", &shown(&bad(), 100));
}

#[test]
fn styles_change_nothing_but_the_style() {
    let plain = Style { width: 100, styled: false };
    let shown = |style| super::comparison(&good(), &TargetSettings::WithinLan(0.01), style);
    let styled = shown(Style { styled: true, ..plain });
    assert!(styled.contains("\u{1b}[1m"), "asp is bold");
    let mut stripped = String::new();
    for (index, part) in styled.split('\u{1b}').enumerate() {
        stripped.push_str(if index == 0 { part } else { part.split_once('m').expect("a style").1 });
    }
    let trimmed: Vec<_> = stripped.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, shown(plain).lines().collect::<Vec<_>>());
}

#[test]
fn one_run_reads_well() {
    snapshot("run.txt", &super::run(&good().runs[1], &value(0.1538), Style { width: 80, styled: false }));
}

#[test]
fn long_names_and_few_strategies_fit_too() {
    let mut comparison = good();
    comparison.runs = vec![comparison.runs.remove(1)];
    comparison.runs[0].strategy = Strategy::AspNoMirrorClock.name().to_owned();
    comparison.runs[0].metric.name = "rmse".to_owned();
    for width in [80, 160] {
        for line in shown(&comparison, width).lines() {
            assert!(line.chars().count() <= usize::from(width), "longer than {width}: {line}");
        }
    }
}

#[test]
fn the_reading_is_honest() {
    let read = |comparison: &Comparison| reading(comparison, &TargetSettings::WithinLan(0.01)).join("\n");
    let text = read(&good());
    assert!(
        text.contains(
            "with 22.1x fewer WAN bytes than bsp (1.20 MB instead of 26.6 MB), in 1.05x the time of lan and 11.5x sooner than stretched."
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "The target was not reached by async (objective diverged) and isolated (objective 0.2051, 33.3 % above it)."
        ),
        "{text}"
    );
    let text = read(&bad());
    assert!(
        text.contains("asp reached the target in 3.02x the time of lan and 4.00x sooner than stretched, but it saves nothing: it took 1.13x the WAN bytes of bsp (30.0 MB instead of 26.6 MB)."),
        "{text}"
    );
    assert!(text.contains("Sooner than asp: bsp (52.4 % less time)."), "{text}");
    assert!(
        text.contains("not as fast as a LAN here: it reaches the target 2 min 8 s later than lan."),
        "{text}"
    );
    let mut comparison = good();
    comparison.runs[1].reached_target = false;
    comparison.runs[1].seconds_to_target = None;
    comparison.runs[1].wan_bytes_to_target = None;
    comparison.runs[1].objective = 0.16;
    let text = read(&comparison);
    assert!(
        text.contains("asp did not reach the target: it ends with objective 0.1600, 4.02 % above it."),
        "{text}"
    );
    // What holds at the end and did not in training.
    comparison.runs[1].objective = 0.1530;
    assert!(read(&comparison).contains("0.1530, which meets it only after the final exchange."));
    // A metric of which more is better.
    comparison.target = Target { metric: "accuracy".to_owned(), value: 0.96 };
    let text = read(&comparison);
    assert!(text.contains("Target: accuracy at least 0.9600"), "{text}");
    assert!(text.contains("it ends with accuracy 0.9527, 0.76 % below it."), "{text}");
    // Without the baselines there is nothing to compare with, and nothing is claimed.
    let mut comparison = good();
    comparison.runs.retain(|run| run.strategy == "asp");
    let text = read(&comparison);
    assert!(text.contains("asp reached the target in 66.4 s and with 1.20 MB over the WAN."), "{text}");
}

#[test]
fn causes_are_named_by_what_they_cost_and_not_by_being_the_largest_hold() {
    let read = |comparison: &Comparison| reading(comparison, &TargetSettings::WithinLan(0.01)).join("\n");
    // Four times as many clocks; what holds there are is next to nothing.
    let mut comparison = good();
    comparison.runs[0] = slow(&comparison.runs[0], 40.0, 40, 0.0);
    comparison.runs[1] = slow(&comparison.runs[1], 160.0, 160, 0.0);
    comparison.runs[1].holds = [("stale".to_owned(), 0.00013)].into();
    let text = read(&comparison);
    let expected = "asp is not as fast as a LAN here: it reaches the target 2 min 0 s later than lan. Of that, 100 % went to \
                    160 clocks instead of 40 (what comes late or is held back teaches less).";
    assert!(text.contains(expected) && !text.contains("stale"), "{text}");
    // As many clocks, each twice as long.
    comparison.runs[1] = slow(&comparison.runs[1], 80.0, 40, 200.0);
    let text = read(&comparison);
    let expected = "40.0 s later than lan. Of that, 100 % went to waiting by reason of: mirror clock (most in singapore, for virginia).";
    assert!(text.contains(expected), "{text}");
    // Both; and a run that misses the target, which is compared in all.
    comparison.runs[1] = slow(&comparison.runs[1], 120.0, 80, 100.0);
    let text = read(&comparison);
    assert!(text.contains("Of that, 50 % went to 80 clocks instead of 40"), "{text}");
    assert!(text.contains("and 50 % to waiting by reason of: mirror clock (most"), "{text}");
    comparison.runs[1].seconds_to_target = None;
    comparison.runs[1].wan_bytes_to_target = None;
    comparison.runs[1].reached_target = false;
    let text = read(&comparison);
    assert!(text.contains("it ends 1 min 40 s later than lan. Of that, 100 % went to waiting"), "{text}");
}

#[test]
fn what_would_reach_a_missed_target_is_said_from_trials_alone() {
    let read = |comparison: &Comparison| reading(comparison, &value(0.1538)).join("\n");
    let missed = |run: &Run, objective: f64| {
        let mut run = run.clone();
        (run.reached_target, run.seconds_to_target, run.wan_bytes_to_target) = (false, None, None);
        run.objective = objective;
        run.curve.iter_mut().skip(2).for_each(|point| point.objective = objective);
        run
    };
    let mut comparison = good();
    let reached = comparison.runs[1].clone();
    comparison.runs[1] = missed(&reached, 0.163823);
    let text = read(&comparison);
    assert!(!text.contains("job.asp"), "nothing is known: {text}");
    assert!(text.contains("bsp, which ships every update and waits at every clock, reaches it."), "{text}");
    // A model that suffers from lateness.
    let trial = |change, run| Trial { change, run };
    comparison.trials =
        vec![trial(Change::NoThreshold, missed(&reached, 0.160823)), trial(Change::NoLead, reached.clone())];
    let text = read(&comparison);
    for expected in [
        "With job.asp.threshold = 0, which ships every update, it closes 30 % of the gap: it ends with objective 0.1608",
        "With job.asp.mirror_clock.lead = 0, which waits for the others at every clock, it reaches it, after 66.4 s and 1.20 MB.",
        "So updates that come too late cost the target, not those that are held back",
    ] {
        assert!(text.contains(expected), "{text}\nlacks {expected}");
    }
    // One that suffers from the filter.
    comparison.trials =
        vec![trial(Change::NoThreshold, reached.clone()), trial(Change::NoLead, missed(&reached, 0.17))];
    let text = read(&comparison);
    assert!(
        text.contains("lead = 0, which waits for the others at every clock, it comes no closer"),
        "{text}"
    );
    assert!(text.contains("So what the filter holds back costs the target"), "{text}");
    // A target that is out of reach in one datacenter too.
    comparison.trials.clear();
    comparison.runs[0] = missed(&comparison.runs[0], 0.1600);
    assert!(!comparison.needs_explanation());
    let text = read(&comparison);
    assert!(text.contains("Nor did lan, which ends with objective 0.1600"), "{text}");
    assert!(text.contains("one datacenter does not reach this target either"), "{text}");
}

#[test]
fn json_has_the_agreed_order_and_no_number_that_is_none() {
    let text = json(&good());
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["runs"][3]["objective"], serde_json::Value::Null);
    assert_eq!(value["runs"][3]["seconds_to_target"], serde_json::Value::Null);
    assert_eq!(value["runs"][1]["wan_bytes_to_target"], 1_203_000);
    // Every key in its place; one run with everything, and one with as little as there can be.
    let mut few = good();
    few.runs = vec![few.runs.swap_remove(1), few.runs.swap_remove(0)];
    for run in &mut few.runs {
        run.curve.truncate(1);
        run.filter.truncate(1);
    }
    few.failed = incomplete().failed;
    snapshot("comparison.json", &json(&few));
    assert_eq!(text, json(&good()), "the same result, the same bytes");
    assert!(value.get("failed").is_none(), "nothing failed");
}

#[test]
fn what_failed_is_told_after_what_did_not() {
    let text = shown(&incomplete(), 100);
    let last =
        "\n\nNo result for bsp: given up after 1 h without progress\n  virginia, at clock 4 of 10, waits\n";
    assert!(text.ends_with(last) && text.contains("\n stretched "), "{text}");
    let points: usize = incomplete().runs.iter().map(|run| run.curve.len()).sum();
    assert_eq!(csv(&incomplete()).lines().count(), 1 + points);
    let mut nothing = incomplete();
    nothing.runs.clear();
    let text = shown(&nothing, 100);
    assert!(text.ends_with(last) && !text.contains(" strategy "), "{text}");
}

#[test]
fn csv_has_a_line_for_each_point_of_each_strategy_with_units_in_the_names_of_columns() {
    let text = csv(&good());
    let points: usize = good().runs.iter().map(|run| run.curve.len()).sum();
    assert_eq!(text.lines().count(), 1 + points);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().expect("a header").clone();
    let column = |name: &str| header.iter().position(|other| other == name).expect("the column is there");
    let lines: Vec<_> = reader.records().map(|line| line.expect("a line")).collect();
    let cells = |line: usize, names: &[&str]| {
        names.iter().map(|name| lines[line][column(name)].to_owned()).collect::<Vec<_>>().join(" ")
    };
    let first_of_asp = good().runs[0].curve.len();
    assert_eq!(cells(first_of_asp + 1, &["strategy", "clock", "objective"]), "asp 10 1");
    let held = ["run_held_barrier_seconds", "run_held_stale_seconds", "run_held_mirror_clock_seconds"];
    assert_eq!(cells(first_of_asp + 1, &held), "0.31 1.25 0", "each cause has its column");
    assert_eq!(cells(first_of_asp + 1, &["run_held_network_seconds"]), "", "what was not there is empty");
    let diverged = 3 * first_of_asp + 3;
    assert_eq!(cells(diverged, &["objective", "seconds_to_target"]), " ");
    // Whoever reads it needs no words for units: every duration and size says its own.
    let no_unit = ["job", "seed", "strategy", "clock", "objective", "metric_name", "metric_value"];
    let of_target =
        ["target_metric", "target_value", "reached_target", "run_clocks", "run_seconds_per_clock"];
    let has_unit =
        |name: &&str| ["seconds", "bytes", "share", "to_target"].iter().any(|unit| name.ends_with(unit));
    let others = header.iter().filter(|name| !no_unit.contains(name) && !of_target.contains(name));
    assert!(others.clone().all(|name| has_unit(&name)), "{:?}", others.collect::<Vec<_>>());
    assert_eq!(lines.iter().map(|line| line.len()).collect::<std::collections::BTreeSet<_>>().len(), 1);
}

#[test]
fn files_are_replaced_whole_and_bad_places_are_known_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("out.json");
    let destination = Destination::from(path.to_str().expect("text"));
    destination.check().expect("the directory is there");
    destination.write("one").expect("it can be written");
    destination.write("two").expect("and again");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "two");
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("a directory").count(),
        1,
        "nothing is left behind"
    );
    assert!(Destination::File(directory.path().to_owned()).check().is_err());
    assert!(Destination::File(directory.path().join("no/such.json")).check().is_err());
    assert_eq!(Destination::from("-"), Destination::Stdout);
}

#[test]
fn a_target_that_says_nothing_is_called_that() {
    let read = |comparison: &Comparison| reading(comparison, &TargetSettings::WithinLan(0.01)).join("\n");
    let mut diverged = good();
    diverged.runs[0].objective = f64::NAN;
    diverged.target.value = f64::NAN;
    let text = read(&diverged);
    assert!(text.starts_with("There is no target: lan diverged"), "{text}");
    assert!(text.contains("lan diverged: this job does not train on any network."), "{text}");
    assert!(!text.contains("asp reached"), "{text}");
    let mut worse = good();
    worse.runs[0].objective = 2.5;
    let text = read(&worse);
    assert!(text.contains("lan ends with 2.5000, no better than the 2.3000 it started with"), "{text}");
    let mut met = good();
    for run in &mut met.runs {
        (run.seconds_to_target, run.wan_bytes_to_target) = (Some(0.0), Some(0));
    }
    let text = read(&met);
    assert!(
        text.ends_with(
            "The target was met before training began: times and bytes to it say nothing about strategies."
        ),
        "{text}"
    );
    assert!(!shown(&met, 100).contains("NaN"), "no ratio of nothing to nothing");
}

#[test]
fn one_run_says_whether_it_reached_the_target() {
    let style = Style { width: 120, styled: false };
    let mut run = good().runs.remove(1);
    let line = |run: &Run, target: &TargetSettings| {
        let text = super::run(run, target, style);
        let line = text.lines().find(|line| line.starts_with(" target ")).expect("it is there");
        line.trim_start_matches(" target").trim().to_owned()
    };
    assert_eq!(line(&run, &value(0.1538)), "objective at most 0.1538: reached after 66.4 s and 1.20 MB");
    run.seconds_to_target = Some(0.0);
    assert_eq!(line(&run, &value(5.0)), "objective at most 5.0000: met before training began");
    run.seconds_to_target = None;
    assert_eq!(line(&run, &value(0.1)), "objective at most 0.1000: not reached");
    assert_eq!(
        line(&run, &TargetSettings::WithinLan(0.01)),
        "within 1 % of what lan ends with, which takes a `gaia compare` to know"
    );
}

#[test]
fn holds_too_short_to_matter_are_left_out() {
    let mut comparison = good();
    comparison.runs[2].holds.insert("stale".to_owned(), 0.00009);
    assert!(!shown(&comparison, 160).contains("90.0"), "{}", shown(&comparison, 160));
    assert_eq!(shown(&comparison, 160).matches("stale").count(), 1);
}

#[test]
fn who_was_never_held_was_held_for_zero_seconds() {
    let mut comparison = good();
    comparison.runs[0].holds.clear();
    let text = csv(&comparison);
    let mut records = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = records.next().expect("there is a header");
    let at = header.iter().position(|name| *name == "run_held_seconds").expect("it is a column");
    assert_eq!(records.next().expect("there is a run")[at], "0");
}
