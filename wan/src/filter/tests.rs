use std::collections::BTreeMap;

use datacenter::{Numbers, codec};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::policy::{Schedule, Significance, ValueFormat};

fn shape(slots: u32, width: u32) -> ShardTable {
    ShardTable { slots, width }
}

fn elements(pairs: impl IntoIterator<Item = (u32, f32)>) -> Elements {
    let (indexes, values) = pairs.into_iter().unzip();
    Elements { table: TableId(0), indexes, values }
}

fn constant(function: Significance, threshold: f64) -> FilterConfig {
    FilterConfig {
        function,
        threshold,
        schedule: Schedule::Constant,
        values: ValueFormat::F32,
        numbers: Numbers::Real,
    }
}

fn filter_of(config: FilterConfig, goal: Goal, shape: ShardTable) -> Filter {
    Filter::new(
        &Selection::Significant { filters: vec![config], goal, leeway: Leeway::default() },
        vec![shape],
        1,
    )
}

/// One clock of a table of one row: which of `updates` a filter ships, with `values` as they are.
fn shipped_of(function: Significance, threshold: f64, updates: &[f32], values: &[f32]) -> Vec<u32> {
    let mut filter = filter_of(constant(function, threshold), Goal::Cheapest, shape(1, updates.len() as u32));
    filter.offer(&elements((0..).zip(updates.iter().copied())));
    let mut out = Vec::new();
    filter.release(Clock(1), &[values], &mut out);
    out.pop().map_or(Vec::new(), |shipped| shipped.indexes)
}

#[test]
fn functions_decide_as_documented() {
    use Significance::*;
    // Of the values 3, -4, 0, 0, 5: the root mean square is sqrt(50 / 5) = 3.1623.
    let x = &[3.0, -4.0, 0.0, 0.0, 5.0];
    let cases: &[(Significance, f64, &[f32], &[u32])] = &[
        // Strictly above: 2 of 4 is not above a half; what has value zero is significant, what did not change is not.
        (Relative, 0.5, &[-1.6, 2.0, 0.0, 1e-9, 2.6], &[0, 3, 4]),
        (Relative, 0.0, &[1e-30, 0.0, 0.0, 0.0, 1.0], &[0, 4]),
        (Absolute, 0.5, &[0.5, -0.51, 0.0, 1e-9, 7.0], &[1, 4]),
        (RowRms, 0.5, &[1.58, 1.582, -1.582, 0.1, 0.0], &[1, 2]),
        (TableRms, 0.5, &[1.58, 1.582, -1.582, 0.1, 0.0], &[1, 2]),
    ];
    for (function, threshold, updates, expected) in cases {
        assert_eq!(
            shipped_of(function.clone(), *threshold, updates, x),
            *expected,
            "{function:?} {threshold}"
        );
    }
    // A row of zeros: any update is significant by its root mean square.
    assert_eq!(shipped_of(RowRms, 10.0, &[1e-9, 0.0], &[0.0, 0.0]), [0]);
    assert_eq!(shipped_of(TableRms, 10.0, &[1e-9, 0.0], &[0.0, 0.0]), [0]);
}

#[test]
fn rms_of_a_row_looks_at_that_row_alone() {
    // Rows of three with root mean squares 1, 2 and 0.
    let values = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0];
    let mut filter = filter_of(constant(Significance::RowRms, 1.0), Goal::Cheapest, shape(3, 3));
    filter.offer(&elements([(0, 1.0), (2, 1.5), (3, 1.5), (5, 2.5), (8, 0.1)]));
    let mut out = Vec::new();
    filter.release(Clock(1), &[&values], &mut out);
    assert_eq!(out[0].indexes, [2, 5, 8]);
    assert_eq!(filter.remainders()[0].indexes, [0, 3]);
}

#[test]
fn schedules_move_the_threshold() {
    let factors = Schedule::Factors([1.0, 0.5, 0.25].into());
    let linear = Schedule::Linear { to: 0.1, clocks: 4 };
    let cases: &[(&Schedule, u32, f64)] = &[
        (&Schedule::InverseSqrt, 1, 0.5),
        (&Schedule::InverseSqrt, 4, 0.25),
        (&Schedule::InverseSqrt, 10_000, 0.005),
        (&Schedule::Constant, 1, 0.5),
        (&Schedule::Constant, 77, 0.5),
        (&factors, 1, 0.5),
        (&factors, 2, 0.25),
        (&factors, 3, 0.125),
        (&factors, 100, 0.125),
        (&linear, 1, 0.5),
        (&linear, 2, 0.4),
        (&linear, 3, 0.3),
        (&linear, 5, 0.1),
        (&linear, 50, 0.1),
        (&Schedule::Linear { to: 0.1, clocks: 0 }, 1, 0.1),
        (&Schedule::Factors([].into()), 3, 0.5),
    ];
    for (schedule, t, expected) in cases {
        let config = FilterConfig {
            function: Significance::Absolute,
            threshold: 0.5,
            schedule: (*schedule).clone(),
            values: ValueFormat::F32,
            numbers: Numbers::Real,
        };
        let found = config.threshold_at(Clock(*t));
        assert!((found - expected).abs() < 1e-12, "{schedule:?} at {t}: {found}, not {expected}");
    }
}

#[test]
fn what_is_held_back_ships_when_it_has_grown_or_the_threshold_has_fallen() {
    let config = FilterConfig {
        function: Significance::Absolute,
        threshold: 1.0,
        schedule: Schedule::InverseSqrt,
        values: ValueFormat::F32,
        numbers: Numbers::Real,
    };
    let mut filter = filter_of(config, Goal::Cheapest, shape(2, 2));
    let values = [0.0; 4];
    let release = |filter: &mut Filter, t| {
        let mut out = Vec::new();
        filter.release(Clock(t), &[&values], &mut out);
        out.pop().map_or(Vec::new(), |e| e.indexes.into_iter().zip(e.values).collect())
    };
    filter.offer(&elements([(0, 0.75), (3, 0.5)]));
    assert_eq!(release(&mut filter, 1), []);
    filter.offer(&elements([(0, 0.5)]));
    assert_eq!(release(&mut filter, 1), [(0, 1.25)]);
    // The threshold is at a half, then below it.
    assert_eq!(release(&mut filter, 4), []);
    assert_eq!(release(&mut filter, 5), [(3, 0.5)]);
    assert_eq!(filter.remainders(), []);
}

#[test]
fn what_is_not_finite_is_never_hidden() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    struct Never;
    impl SignificanceFunction for Never {
        fn name(&self) -> &str {
            "never"
        }
        fn significance(&self, _: f32, _: f32, _: u32) -> f64 {
            0.0
        }
    }
    let functions = [
        Significance::Relative,
        Significance::Absolute,
        Significance::RowRms,
        Significance::TableRms,
        Significance::Custom(CustomSignificance::new(Never)),
    ];
    for function in functions {
        let updates = [nan, inf, -inf, 1.0];
        assert_eq!(shipped_of(function.clone(), 1e300, &updates, &[1.0; 4]), [0, 1, 2], "{function:?}");
        if function != Significance::Absolute {
            let shipped = shipped_of(function.clone(), 1e300, &[1.0; 2], &[nan, inf]);
            assert_eq!(shipped, [0, 1], "{function:?}");
        }
    }
    // It leaves a clean accumulator behind, and a restored one is looked at again.
    let mut filter = filter_of(constant(Significance::Absolute, 1.0), Goal::Cheapest, shape(1, 2));
    filter.restore(&elements([(0, nan), (1, 0.5)]));
    let mut out = Vec::new();
    filter.release(Clock(1), &[&[0.0; 2]], &mut out);
    assert_eq!(out[0].indexes, [0]);
    assert_eq!(filter.remainders(), [elements([(1, 0.5)])]);
}

#[test]
fn a_user_s_function_sees_what_it_needs() {
    /// Even elements matter ten times as much.
    struct Even;
    impl SignificanceFunction for Even {
        fn name(&self) -> &str {
            "even"
        }
        fn significance(&self, a: f32, _: f32, index: u32) -> f64 {
            f64::from(a.abs()) * if index.is_multiple_of(2) { 10.0 } else { 1.0 }
        }
    }
    let custom = Significance::Custom(CustomSignificance::new(Even));
    assert_eq!(shipped_of(custom.clone(), 1.0, &[0.2, 0.2, 0.05, 1.1], &[1.0; 4]), [0, 3]);
    assert_eq!(custom, Significance::Custom(CustomSignificance::new(Even)));
    assert_eq!(format!("{custom:?}"), r#"Custom(CustomSignificance("even"))"#);
}

#[test]
fn the_soft_threshold_only_adds() {
    let values = [1.0; 8];
    let run = |goal| {
        let mut filter = filter_of(constant(Significance::Relative, 0.5), goal, shape(2, 4));
        for _ in 0..8 {
            filter.observe([Reachability::Heard { backlog: Duration::ZERO }], Duration::from_secs(1));
        }
        filter.offer(&elements([(0, 0.1), (1, 0.2), (5, 0.6), (6, 0.4)]));
        let mut out = Vec::new();
        filter.release(Clock(1), &[&values], &mut out);
        out[0].indexes.clone()
    };
    assert_eq!(run(Goal::Cheapest), [5]);
    // The threshold has fallen to 0.5 * 0.875^8 = 0.172.
    assert_eq!(run(Goal::Fastest), [1, 5, 6]);
}

/// A filter of a table of so many elements whose threshold is so many usual updates.
fn of_usual_updates(elements: u32, threshold: f64, values: ValueFormat) -> Filter {
    let config = FilterConfig { values, ..constant(Significance::UsualUpdate, threshold) };
    filter_of(config, Goal::Cheapest, shape(1, elements))
}

fn usual_of(filter: &Filter) -> Option<f64> {
    filter.figures(TableId(0)).expect("it filters").usual_update
}

#[test]
fn a_filter_tells_by_what_it_has_decided() {
    let figures = |filter: &Filter| {
        let found = filter.figures(TableId(0)).expect("it filters");
        (found.significance_threshold, found.threshold, found.step)
    };
    let mut filter = of_usual_updates(4, 2.0, ValueFormat::Auto);
    assert_eq!(figures(&filter), (None, None, None));
    let mut out = Vec::new();
    filter.offer(&elements([(0, 3.0), (1, 3.0), (2, -3.0)]));
    (0..3).for_each(|_| filter.give_leeway(Some(1.0), false));
    filter.release(Clock(1), &[&[0.0; 4]], &mut out);
    // Twice the usual update of 3, and the power of two below that.
    assert_eq!(figures(&filter), (Some(2.0), Some(6.0), Some(4.0)));
    // What ships everything at the end decides nothing.
    filter.flush_all(&mut out);
    assert_eq!(figures(&filter), (Some(2.0), Some(6.0), Some(4.0)));
    let counters = filter.figures(TableId(0)).expect("it filters").counters;
    assert_eq!((counters.elements_updated, counters.elements_shipped), (3, 3));
    // Where each element has a threshold of its own there is none for all.
    let mut filter = filter_of(constant(Significance::Relative, 0.5), Goal::Cheapest, shape(1, 4));
    filter.offer(&elements([(0, 3.0)]));
    filter.release(Clock(1), &[&[1.0; 4]], &mut out);
    assert_eq!(figures(&filter), (Some(0.5), None, None));
    assert!(Filter::new(&Selection::Everything, vec![shape(1, 4)], 1).figures(TableId(0)).is_none());
}

#[test]
fn one_usual_update_is_held_back_at_first_and_more_as_leeway_is_given() {
    let mut filter = of_usual_updates(8, 3.0, ValueFormat::F32);
    let figure = |filter: &Filter| filter.figures(TableId(0)).expect("it filters").significance_threshold;
    for (clock, expected) in [(1, 1.0), (2, 1.4), (3, 1.96), (1000, 3.0)] {
        filter.offer(&elements((0..8).map(|index| (index, 1.0))));
        filter.release(Clock(clock), &[&[0.0; 8]], &mut Vec::new());
        let found = figure(&filter).expect("it has decided");
        assert!((found - expected).abs() < 1e-9, "clock {clock}: {found}");
        (0..if clock == 3 { 9 } else { 1 }).for_each(|_| filter.give_leeway(Some(0.9), false));
    }
    filter.give_leeway(Some(-0.2), true);
    filter.offer(&elements((0..8).map(|index| (index, 1.0))));
    filter.release(Clock(1001), &[&[0.0; 8]], &mut Vec::new());
    assert_eq!(figure(&filter), Some(1.0), "a third where updates are opposed");
    let mut absolute = filter_of(constant(Significance::Absolute, 3.0), Goal::Cheapest, shape(1, 8));
    absolute.offer(&elements([(0, 2.0)]));
    absolute.release(Clock(1), &[&[0.0; 8]], &mut Vec::new());
    assert_eq!(figure(&absolute), Some(3.0), "that follows nothing");
}

#[test]
fn the_usual_update_is_what_a_clock_does_to_what_it_touches() {
    let mut filter = of_usual_updates(200, 1.0, ValueFormat::F32);
    let (mut out, values) = (Vec::new(), [0.0; 200]);
    assert_eq!(usual_of(&filter), None);
    // The root mean square of 3 and 4, in two parts; those that were not touched, or by nothing, do not count.
    filter.offer(&elements([(3, 1.0), (150, 4.0), (7, 0.0)]));
    filter.offer(&elements([(3, 2.0)]));
    filter.release(Clock(1), &[&values], &mut out);
    assert_eq!(usual_of(&filter), Some(12.5f64.sqrt()));
    assert_eq!(out.pop().unwrap().indexes, [150]);
    // What is held back from before is no update, nor what a state brings back, nor what was shipped.
    filter.restore(&elements([(9, 5.0)]));
    filter.offer(&elements([(3, -0.5), (150, 0.5), (9, 0.5)]));
    filter.hold();
    let expected = 0.9 * 12.5f64.sqrt() + 0.1 * 0.5;
    assert!((usual_of(&filter).unwrap() - expected).abs() < 1e-12);
    // A clock that updates nothing changes nothing.
    filter.hold();
    assert!((usual_of(&filter).unwrap() - expected).abs() < 1e-12);
    let naive = |e: &[u32]| codec::encoded_len(&elements(e.iter().map(|i| (*i, 1.0)))) as u64;
    assert_eq!(filter.counters().naive_payload_bytes, naive(&[3, 150]) + naive(&[3, 9, 150]));
    filter.release(Clock(4), &[&values], &mut out);
    assert_eq!(out, [elements([(9, 5.5)])]);
    assert_eq!(filter.remainders(), [elements([(3, 2.5), (150, 0.5)])]);
}

#[test]
fn what_ships_is_a_multiple_of_a_power_of_two_and_the_rest_stays() {
    let config = FilterConfig { values: ValueFormat::Auto, ..constant(Significance::Absolute, 3.0) };
    let mut filter = filter_of(config, Goal::Cheapest, shape(1, 8));
    let mut out = Vec::new();
    // The step is two.
    let updates = [3.0, 3.5, -3.75, 7.25, -8.0, f32::INFINITY, 2.0e9, 0.0];
    filter.offer(&elements((0..).zip(updates)));
    filter.release(Clock(1), &[&[0.0; 8]], &mut out);
    let shipped = [(1, 2.0), (2, -2.0), (3, 6.0), (4, -8.0), (5, f32::INFINITY), (6, 2.0e9)];
    assert_eq!(out, [elements(shipped)]);
    assert_eq!(filter.remainders(), [elements([(0, 3.0), (1, 1.5), (2, -1.75), (3, 1.25)])]);
    // It is released when it has grown again, or at the end.
    filter.offer(&elements([(1, 2.0)]));
    out.clear();
    filter.release(Clock(2), &[&[0.0; 8]], &mut out);
    filter.flush_all(&mut out);
    assert_eq!(out, [elements([(1, 2.0)]), elements([(0, 3.0), (1, 1.5), (2, -1.75), (3, 1.25)])]);
}

#[test]
fn finer_steps_and_halves_leave_less_over() {
    let shipped = |values, function: Significance| {
        let config = FilterConfig { values, ..constant(function, 3.0) };
        let mut filter = filter_of(config, Goal::Cheapest, shape(1, 8));
        let mut out = Vec::new();
        filter.offer(&elements([(0, 3.0), (1, 3.7), (2, 257.0), (3, -1.0e9), (4, f32::NAN)]));
        filter.release(Clock(1), &[&[1.0; 8]], &mut out);
        let values = &out[0].values;
        assert!(values[3].is_nan(), "what is no number is shipped as it is");
        assert_eq!(values[2], -1.0e9, "what would be left over is significant");
        let rest = filter.remainders().iter().flat_map(|rest| rest.values.clone()).sum::<f32>();
        assert_eq!(rest, 3.0 + (3.7 - values[0]) + (257.0 - values[1]), "{out:?}");
        (values[0], values[1])
    };
    let table = [
        (ValueFormat::Int8, Significance::Absolute, (3.625, 257.0)),
        (ValueFormat::Bf16, Significance::Absolute, (3.6875, 256.0)),
        (ValueFormat::Bf16, Significance::Relative, (3.6875, 256.0)),
        (ValueFormat::Bf16, Significance::RowRms, (3.6875, 256.0)),
        (ValueFormat::Int8, Significance::Relative, (3.7, 257.0)),
        (ValueFormat::F32, Significance::Absolute, (3.7, 257.0)),
    ];
    for (values, function, expected) in table {
        assert_eq!(shipped(values, function.clone()), expected, "{values:?} of {function:?}");
    }
}

#[test]
fn everything_costs_what_the_baseline_costs_unless_updates_cancel() {
    let mut filter = Filter::new(&Selection::Everything, vec![shape(4, 100)], 1);
    let mut out = Vec::new();
    filter.offer(&elements((0..300).map(|i| (i, 1.0))));
    // A delta of zero is no update, to the baseline neither.
    filter.offer(&elements([(350, 0.0)]));
    filter.release(Clock(1), &[&[0.0; 400]], &mut out);
    assert_eq!(out[0].len(), 300);
    assert_eq!(filter.counters().naive_payload_bytes, codec::encoded_len(&out[0]) as u64);

    out.clear();
    let before = filter.counters();
    filter.offer(&elements([(7, 1.0), (9, 1.0)]));
    filter.offer(&elements([(7, -1.0)]));
    filter.release(Clock(2), &[&[0.0; 400]], &mut out);
    assert_eq!(out, [elements([(9, 1.0)])]);
    let after = filter.counters();
    assert_eq!(after.elements_updated - before.elements_updated, 2);
    assert_eq!(after.elements_shipped - before.elements_shipped, 1);
    let two = codec::encoded_len(&elements([(7, 0.0), (9, 1.0)]));
    assert_eq!(after.naive_payload_bytes - before.naive_payload_bytes, two as u64);
}

/// `sig(a, x) > v`, by division and without shortcuts.
fn is_significant(
    function: &Significance,
    a: f32,
    index: usize,
    values: &[f32],
    width: usize,
    v: f64,
) -> bool {
    let a = f64::from(a).abs();
    let rms = |values: &[f32]| {
        let squares: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
        (squares / values.len() as f64).sqrt()
    };
    let scale = match function {
        Significance::Relative => f64::from(values[index]).abs(),
        Significance::Absolute => 1.0,
        Significance::RowRms => rms(&values[index / width * width..][..width]),
        Significance::TableRms => rms(values),
        Significance::UsualUpdate | Significance::Custom(_) => unreachable!("not in this test"),
    };
    scale == 0.0 || a / scale > v
}

/// What happens to a table of integer values: local updates, remote ones, ends of clocks, restarts.
#[derive(Clone, Debug)]
enum Step {
    Local(BTreeMap<u32, i8>),
    Remote(u32, i8),
    Release { backlog_ms: u64 },
    Restart,
}

fn steps(elements: u32) -> impl Strategy<Value = Vec<Step>> {
    let updates = prop_oneof![
        proptest::collection::btree_map(0..elements, -3i8..=3, 1..12),
        // A stretch of neighbours, as dense models update.
        (0..elements, 1..200u32, 1i8..4)
            .prop_map(move |(from, n, by)| (from..elements.min(from + n)).map(|i| (i, by)).collect()),
    ];
    let step = prop_oneof![
        5 => updates.prop_map(Step::Local),
        2 => (0..elements, -40i8..40).prop_map(|(i, by)| Step::Remote(i, by)),
        4 => prop_oneof![Just(0u64), 0u64..200].prop_map(|backlog_ms| Step::Release { backlog_ms }),
        1 => Just(Step::Restart),
    ];
    vec(step, 1..40)
}

fn function() -> impl Strategy<Value = Significance> {
    use Significance::*;
    prop_oneof![Just(Relative), Just(Absolute), Just(RowRms), Just(TableRms)]
}

fn job() -> impl Strategy<Value = (ShardTable, Vec<Step>)> {
    let shapes = prop_oneof![(1u32..300, 1u32..3), (1u32..8, 1u32..150), Just((3, 64)), Just((9000, 1))];
    shapes.prop_flat_map(|(slots, width)| (Just(shape(slots, width)), steps(slots * width)))
}

proptest! {
    /// Both laws of the filter, after every step, in exact arithmetic.
    #[test]
    fn nothing_is_lost_and_what_stays_is_insignificant(
        (shape, steps) in job(),
        function in function(),
        // Exact in binary: products and quotients with integers decide alike.
        v0 in prop_oneof![Just(0.0), Just(0.25), Just(1.5), Just(4.0)],
        // By more than eight bits of significand hold.
        scale in prop_oneof![Just(1i16), Just(1021)],
        fastest: bool,
        decreasing: bool,
        values in prop_oneof![
            Just(ValueFormat::F32), Just(ValueFormat::Auto), Just(ValueFormat::Int8), Just(ValueFormat::Bf16)
        ],
    ) {
        let schedule = if decreasing { Schedule::Factors([1.0, 0.5, 0.25].into()) } else { Schedule::Constant };
        let (v0, scale) = (v0 * f64::from(scale), f32::from(scale));
        let config = FilterConfig { function: function.clone(), threshold: v0, schedule, values, numbers: Numbers::Real };
        let goal = if fastest { Goal::Fastest } else { Goal::Cheapest };
        let mut filter = filter_of(config.clone(), goal, shape);
        let n = shape.elements();
        let (mut values, mut local, mut shipped) = (vec![1.0f32; n], vec![0.0f32; n], vec![0.0f32; n]);
        let mut touched = BTreeMap::new();
        let (mut clock, mut naive, mut updated) = (Clock(0), 0, 0);
        for step in steps {
            match step {
                Step::Local(updates) => {
                    let deltas = elements(updates.into_iter().map(|(i, by)| (i, scale * f32::from(by))));
                    for (&i, by) in deltas.indexes.iter().zip(&deltas.values) {
                        values[i as usize] += by;
                        local[i as usize] += by;
                        if *by != 0.0 {
                            touched.insert(i, 1.0);
                        }
                    }
                    filter.offer(&deltas);
                }
                Step::Remote(i, by) => values[i as usize] += f32::from(by),
                Step::Release { backlog_ms } => {
                    clock = clock.next();
                    filter.observe([Reachability::Heard { backlog: Duration::from_millis(backlog_ms) }], Duration::from_millis(100));
                    let before: Vec<f32> = local.iter().zip(&shipped).map(|(l, s)| l - s).collect();
                    let v = config.threshold_at(clock) * filter.soft_factor();
                    prop_assert!(v <= config.threshold_at(clock));
                    let mut out = Vec::new();
                    filter.release(clock, &[&values], &mut out);
                    prop_assert!(out.len() <= 1);
                    let out = out.pop().unwrap_or_default();
                    for (&i, a) in out.indexes.iter().zip(&out.values) {
                        shipped[i as usize] += a;
                    }
                    let expected: Vec<u32> = (0..n)
                        .filter(|&i| before[i] != 0.0)
                        .filter(|&i| is_significant(&function, before[i], i, &values, shape.width as usize, v))
                        .map(|i| i as u32)
                        .collect();
                    prop_assert_eq!(&out.indexes, &expected, "at {} with v = {}", clock, v);
                    if !touched.is_empty() {
                        updated += touched.len() as u64;
                        naive += codec::encoded_len(&elements(std::mem::take(&mut touched))) as u64;
                    }
                    prop_assert_eq!(filter.counters().naive_payload_bytes, naive);
                    prop_assert_eq!(filter.counters().elements_updated, updated);
                }
                Step::Restart => {
                    let remainders = filter.remainders();
                    // The counters start again, and what was updated in this clock is forgotten, but not its deltas.
                    filter = filter_of(config.clone(), goal, shape);
                    remainders.iter().for_each(|r| filter.restore(r));
                    touched.clear();
                    (naive, updated) = (0, 0);
                }
            }
            let mut sum = shipped.clone();
            for remainder in filter.remainders() {
                for (&i, a) in remainder.indexes.iter().zip(&remainder.values) {
                    prop_assert!(*a != 0.0);
                    sum[i as usize] += a;
                }
            }
            prop_assert_eq!(&sum, &local, "shipped and accumulated add up to the local updates");
        }
        let mut out = Vec::new();
        filter.flush_all(&mut out);
        for rest in &out {
            for (&i, a) in rest.indexes.iter().zip(&rest.values) {
                shipped[i as usize] += a;
            }
        }
        prop_assert_eq!(&shipped, &local, "after the last flush everything is shipped");
        prop_assert_eq!(filter.remainders(), vec![]);
    }

    /// Neighbours are looked at together. Elements that lie in blocks of their own are not, and come to the same.
    #[test]
    fn neighbours_are_filtered_as_elements_on_their_own(
        clocks in vec(vec(update(), 200), 1..4),
        selects in any::<bool>(),
        threshold in prop_oneof![Just(0.0), Just(0.3), Just(1.0), Just(1e-45), Just(f64::INFINITY)],
        values in prop_oneof![
            Just(ValueFormat::F32), Just(ValueFormat::Auto), Just(ValueFormat::Int8), Just(ValueFormat::Bf16)
        ],
    ) {
        let config = FilterConfig { values, ..constant(Significance::Absolute, threshold) };
        let filter = |shape| match selects {
            true => filter_of(config.clone(), Goal::Cheapest, shape),
            false => Filter::new(&Selection::Everything, vec![shape], 1),
        };
        let (mut together, mut apart) = (filter(shape(1, 200)), filter(shape(200, 64)));
        let bits = |values: &mut dyn Iterator<Item = f32>| values.map(f32::to_bits).collect::<Vec<_>>();
        for deltas in clocks {
            let [near, far] = [1, 64].map(|apart| elements((0..).step_by(apart).zip(deltas.iter().copied())));
            let mut out = [Vec::new(), Vec::new()];
            together.offer(&near);
            together.release(Clock(1), &[&[1.0; 200]], &mut out[0]);
            apart.offer(&far);
            apart.release(Clock(1), &[&vec![1.0; 200 * 64]], &mut out[1]);
            let [near, far] = out.map(|mut out| out.pop().unwrap_or_default());
            prop_assert_eq!(&near.indexes, &far.indexes.iter().map(|index| index / 64).collect::<Vec<_>>());
            prop_assert_eq!(bits(&mut near.values.into_iter()), bits(&mut far.values.into_iter()));
            prop_assert_eq!(
                bits(&mut together.accumulated(TableId(0)).iter().copied()),
                bits(&mut apart.accumulated(TableId(0)).iter().step_by(64).copied())
            );
            let [near, far] = [&together, &apart].map(Filter::counters);
            prop_assert_eq!(
                (near.elements_updated, near.elements_shipped),
                (far.elements_updated, far.elements_shipped)
            );
        }
    }
}

/// What blocks are to agree about: numbers around thresholds, zeros of both signs, and what is no number.
fn update() -> impl Strategy<Value = f32> {
    let odd = [0.0, -0.0, 1.0, 0.3, f32::MIN_POSITIVE / 8.0, f32::NAN, f32::INFINITY, f32::MIN];
    prop_oneof![8 => -1.5f32..1.5, 1 => proptest::sample::select(odd.to_vec())]
}
