//! What a comparison means, in sentences; also when it says that Gaia is no use here.

use super::lost::lost;
use super::tuning::tuning;
use super::{FASTEST, NAIVE, missed, run_of, saving, time_ratio};
use crate::human::{bytes, figure, percent, seconds, times};
use crate::job::TargetSettings;
use crate::job::strategy::Strategy;
use crate::simulator::results::{Comparison, Run, Target};

/// Further from the LAN than this is not "as fast as a LAN" any more.
const LIKE_LAN: f64 = 1.2;

/// Sentences about `comparison`: the target, the lengths of clocks, and how the strategies fared.
pub fn reading(comparison: &Comparison, settings: &TargetSettings) -> Vec<String> {
    let mut sentences = vec![target(comparison, settings)];
    sentences.extend(clocks(comparison));
    if let Some(why) = no_yardstick(comparison) {
        sentences.push(why);
        return sentences;
    }
    sentences.extend(resolution(comparison));
    if let Some(asp) = run_of(comparison, Strategy::Asp) {
        sentences.extend(fared(comparison, asp));
        sentences.extend(sooner(comparison, asp));
        sentences.extend(lost(comparison, asp, LIKE_LAN));
        sentences.extend(tuning(asp).map(|tuning| format!("asp tuned itself: {tuning}.")));
    }
    sentences.extend(missed::others(comparison));
    sentences
}

fn target(comparison: &Comparison, settings: &TargetSettings) -> String {
    let target = &comparison.target;
    if !target.value.is_finite() {
        return format!("There is no target: {FASTEST} diverged, and the job asks for what it ends with.");
    }
    let (name, figure) = (words(&target.metric), figure(target.value));
    let bound = comparison.runs.first().map_or("at most", |run| bound(target, run));
    match (settings, run_of(comparison, FASTEST)) {
        (TargetSettings::WithinLan(share), Some(lan)) => format!(
            "Target: {name} {bound} {figure}, within {} of the {} that {FASTEST} ends with.",
            percent(*share),
            self::figure(lan.objective)
        ),
        (TargetSettings::WithinLan(share), None) => {
            format!(
                "Target: {name} {bound} {figure}, within {} of what {FASTEST} ends with.",
                percent(*share)
            )
        }
        (TargetSettings::Value { .. }, _) => format!("Target: {name} {bound} {figure}, as the job says."),
    }
}

/// Whether the target is a floor or a ceiling.
pub(super) fn bound(target: &Target, run: &Run) -> &'static str {
    if target.metric != "objective" && run.metric.larger_is_better { "at least" } else { "at most" }
}

/// Why the target says nothing about the strategies, if it does not.
fn no_yardstick(comparison: &Comparison) -> Option<String> {
    const ADVICE: &str = "A smaller job.model.learning_rate.initial may help.";
    if let Some(lan) = run_of(comparison, FASTEST) {
        if !lan.objective.is_finite() {
            return Some(format!("{FASTEST} diverged: this job does not train on any network. {ADVICE}"));
        }
        if let Some(start) = lan.curve.first().map(|point| point.objective)
            && lan.objective >= start
        {
            return Some(format!(
                "{FASTEST} ends with {}, no better than the {} it started with: this job does not train on any network. {ADVICE}",
                figure(lan.objective),
                figure(start)
            ));
        }
    }
    comparison.runs.iter().any(|run| run.seconds_to_target == Some(0.0)).then(|| {
        "The target was met before training began: times and bytes to it say nothing about strategies."
            .to_owned()
    })
}

/// Of which interval a time to the target is the end: how many clocks, and seconds of `run`. Both
/// are none where it was not scored in between.
fn interval(run: &Run) -> Option<(u32, f64)> {
    // The first point is the start, the last the end.
    let [_, first, .., _] = run.curve.as_slice() else { return None };
    Some((first.clock, f64::from(first.clock) * run.clock_seconds))
}

/// How exact times to the target are.
fn resolution(comparison: &Comparison) -> Option<String> {
    let run =
        run_of(comparison, Strategy::Asp).or(run_of(comparison, FASTEST)).or(comparison.runs.first())?;
    let (clocks, length) = interval(run)?;
    let scored = if clocks == 1 { "at every clock".to_owned() } else { format!("every {clocks} clocks") };
    Some(format!(
        "Models are scored {scored}: a time to target may be {} too long, and differences below that mean nothing.",
        seconds(length)
    ))
}

fn clocks(comparison: &Comparison) -> Option<String> {
    let lan = run_of(comparison, FASTEST)?;
    let mut sentence = format!("A clock takes {} on the LAN", seconds(lan.clock_seconds));
    if let Some(stretched) = run_of(comparison, Strategy::Stretched) {
        sentence.push_str(&format!(
            ", and {} with one parameter server stretched over the WAN: {}",
            seconds(stretched.clock_seconds),
            times(stretched.clock_seconds / lan.clock_seconds)
        ));
    }
    sentence.push('.');
    Some(sentence)
}

/// How `asp` did against the naive baseline and the LAN.
fn fared(comparison: &Comparison, asp: &Run) -> Vec<String> {
    let Some(to_target) = asp.wan_bytes_to_target.zip(asp.seconds_to_target) else {
        return missed::missed(comparison, asp);
    };
    let mut parts = vec![match time_ratio(comparison, asp) {
        Some(ratio) => format!("in {} the time of {FASTEST}", times(ratio)),
        None => format!("in {}", seconds(to_target.1)),
    }];
    let stretched = run_of(comparison, Strategy::Stretched).and_then(|run| run.seconds_to_target);
    if let Some(ratio) = stretched.map(|stretched| stretched / to_target.1).filter(|ratio| *ratio >= 1.0) {
        parts.push(format!("{} sooner than {}", times(ratio), Strategy::Stretched));
    }
    let spent = bytes(to_target.0 as f64);
    let naive =
        run_of(comparison, NAIVE).and_then(|run| run.wan_bytes_to_target).map(|count| bytes(count as f64));
    let parts = match saving(comparison, asp).zip(naive) {
        None => listed(&[parts, vec![format!("with {spent} over the WAN")]].concat()),
        Some((saving, naive)) if saving >= 1.0 => {
            let fewer =
                format!("with {} fewer WAN bytes than {NAIVE} ({spent} instead of {naive})", times(saving));
            listed(&[vec![fewer], parts].concat())
        }
        Some((saving, naive)) => format!(
            "{}, but it saves nothing: it took {} the WAN bytes of {NAIVE} ({spent} instead of {naive})",
            listed(&parts),
            times(1.0 / saving)
        ),
    };
    vec![format!("asp reached the target {parts}.")]
}

/// Says so where another strategy over the WAN was sooner than `asp`.
fn sooner(comparison: &Comparison, asp: &Run) -> Option<String> {
    let asp_seconds = asp.seconds_to_target?;
    // Times that are closer than they are known are the same.
    let sooner_than = asp_seconds - interval(asp).map_or(0.0, |(_, length)| length);
    let others =
        comparison.runs.iter().filter(|run| run.strategy != FASTEST.name() && run.strategy != asp.strategy);
    let sooner: Vec<_> = others
        .filter(|run| run.seconds_to_target.is_some_and(|seconds| seconds < sooner_than))
        .map(|run| {
            let saved = 1.0 - run.seconds_to_target.unwrap_or(asp_seconds) / asp_seconds;
            format!("{} ({} less time)", run.strategy, percent(saved))
        })
        .collect();
    (!sooner.is_empty()).then(|| format!("Sooner than asp: {}.", listed(&sooner)))
}

/// With what the run ended, in terms of the target.
pub(super) fn ending(comparison: &Comparison, run: &Run) -> String {
    let (name, value) = match comparison.target.metric.as_str() {
        "objective" => ("objective", run.objective),
        _ => (run.metric.name.as_str(), run.metric.value),
    };
    if !value.is_finite() {
        return format!("{} diverged", words(name));
    }
    let target = comparison.target.value;
    let reached = format!("{} {}", words(name), figure(value));
    let is_met = if bound(&comparison.target, run) == "at least" { value >= target } else { value <= target };
    if is_met {
        // Runs that met it in training are not asked for here.
        return format!("{reached}, which meets it only after the final exchange");
    }
    let side = if value > target { "above" } else { "below" };
    match target {
        target if target > 0.0 => format!("{reached}, {} {side} it", percent((value / target - 1.0).abs())),
        _ => format!("{reached}, {} {side} it", figure((value - target).abs())),
    }
}

/// A name of the program as people write it.
pub(super) fn words(name: &str) -> String {
    name.replace(['_', '-'], " ")
}

/// "a, b and c".
pub(super) fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
