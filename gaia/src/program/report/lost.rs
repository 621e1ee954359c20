//! Where the time went that a run took longer than one datacenter would have.
//!
//! A run can be slower in two ways: it needs more clocks, since what comes late or is held back
//! teaches less, or its clocks take longer, since workers wait. Both are counted in seconds against
//! `lan`, so that causes are named by what they cost, and not because they were the largest of
//! their kind.

use super::reading::{listed, words};
use super::{FASTEST, run_of};
use crate::human::{percent, seconds};
use crate::simulator::results::{Comparison, RegionWait, Run};

/// What of the lost time is not worth a word.
const NEGLIGIBLE: f64 = 0.01;

/// How far two runs are compared: up to the target, or in all.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    seconds: f64,
    clocks: f64,
}

impl Span {
    fn to_target(run: &Run) -> Option<Self> {
        let seconds = run.seconds_to_target.filter(|seconds| *seconds > 0.0)?;
        let point = run.curve.iter().find(|point| point.seconds >= seconds)?;
        Some(Self { seconds, clocks: f64::from(point.clock) }).filter(|span| span.clocks > 0.0)
    }

    fn in_all(run: &Run) -> Self {
        let clocks = f64::from(run.clocks);
        Self { seconds: run.clock_seconds * clocks, clocks }
    }
}

/// Why `run` takes longer than `lan`, in a sentence; none where it does not, or by less than
/// `allowed` times.
pub(super) fn lost(comparison: &Comparison, run: &Run, allowed: f64) -> Option<String> {
    let lan = run_of(comparison, FASTEST)?;
    let (span, of_lan, what) = match Span::to_target(run).zip(Span::to_target(lan)) {
        Some((span, of_lan)) => (span, of_lan, "it reaches the target"),
        None => (Span::in_all(run), Span::in_all(lan), "it ends"),
    };
    let lost = span.seconds - of_lan.seconds;
    if span.seconds <= allowed * of_lan.seconds {
        return None;
    }
    let mut causes = causes(run, lan, span, of_lan);
    let sum: f64 = causes.iter().map(|(cost, _)| cost).sum();
    causes.retain(|(cost, _)| *cost >= NEGLIGIBLE * sum);
    causes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let went = |(at, (cost, cause)): (usize, (f64, String))| {
        let verb = if at == 0 { " went" } else { "" };
        format!("{}{verb} {cause}", percent(share(cost / sum)))
    };
    let causes: Vec<_> = causes.into_iter().enumerate().map(went).collect();
    Some(format!(
        "{} is not as fast as a LAN here: {what} {} later than {FASTEST}. Of that, {}.",
        run.strategy,
        seconds(lost),
        listed(&causes)
    ))
}

/// To whole per cent, as far as these causes can be told apart at all.
fn share(share: f64) -> f64 {
    (share * 100.0).round() / 100.0
}

/// What costs `run` more than `lan`: seconds, and what they went to.
fn causes(run: &Run, lan: &Run, span: Span, of_lan: Span) -> Vec<(f64, String)> {
    let lan_clock = of_lan.seconds / of_lan.clocks;
    let further = (span.clocks - of_lan.clocks) * lan_clock;
    let mut causes = vec![(
        further,
        format!(
            "to {} clocks instead of {} (what comes late or is held back teaches less)",
            span.clocks, of_lan.clocks
        ),
    )];
    let longer = span.seconds - span.clocks * lan_clock;
    let a_clock = |run: &Run, seconds: f64| seconds / f64::from(run.clocks.max(1));
    let mut longer_by: Vec<(f64, String)> = run
        .holds
        .iter()
        .map(|(reason, held)| {
            let of_lan = lan.holds.get(reason).copied().unwrap_or_default();
            let cause = format!("to waiting by reason of: {}{}", words(reason), mostly(run, reason));
            (a_clock(run, *held) - a_clock(lan, of_lan), cause)
        })
        .collect();
    let computing = a_clock(run, run.computing_seconds) - a_clock(lan, lan.computing_seconds);
    longer_by.push((computing, "to computing".to_owned()));
    let known: f64 = longer_by.iter().map(|(cost, _)| cost).sum();
    longer_by.push((
        run.clock_seconds - lan.clock_seconds - known,
        "to the rest: messages within regions, and regions that are done before the last".to_owned(),
    ));
    longer_by.retain(|(cost, _)| *cost > 0.0);
    let sum: f64 = longer_by.iter().map(|(cost, _)| cost).sum();
    if longer > 0.0 && sum > 0.0 {
        causes.extend(longer_by.into_iter().map(|(cost, cause)| (longer * cost / sum, cause)));
    }
    causes.retain(|(cost, _)| *cost > 0.0);
    causes
}

/// Which region waited most for that reason, and for which other one: ", most in singapore for
/// virginia".
fn mostly(run: &Run, reason: &str) -> String {
    let waits = || run.waits.iter().filter(|wait| wait.reason == reason && wait.waits_for.is_some());
    match waits().max_by(|a, b| a.seconds.total_cmp(&b.seconds)) {
        Some(RegionWait { region, waits_for: Some(peer), .. }) => format!(" (most in {region}, for {peer})"),
        _ => String::new(),
    }
}
