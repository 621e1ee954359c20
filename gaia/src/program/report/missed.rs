//! Why `asp` missed its target, as far as that is known.

use super::reading::{bound, ending, listed};
use super::{FASTEST, NAIVE, run_of};
use crate::human::{bytes, percent, seconds};
use crate::job::strategy::Strategy;
use crate::simulator::results::{Change, Comparison, Run, Trial};

/// That `asp` missed the target, and what would have to change: measured where it was, and else
/// only what follows from the other strategies.
pub(super) fn missed(comparison: &Comparison, asp: &Run) -> Vec<String> {
    let mut sentences =
        vec![format!("asp did not reach the target: it ends with {}.", ending(comparison, asp))];
    let of = |strategy| run_of(comparison, strategy);
    if let Some(lan) = of(FASTEST).filter(|lan| !lan.reached_target) {
        sentences.push(format!(
            "Nor did {FASTEST}, which ends with {}: one datacenter does not reach this target either, so nothing that \
             crosses the WAN will change that. More clocks, another model or learning rate, or another target may.",
            ending(comparison, lan)
        ));
        return sentences;
    }
    sentences.extend(comparison.trials.iter().map(|trial| tried(comparison, asp, trial)));
    sentences.extend(conclusion(comparison));
    sentences
}

/// What came of one trial.
fn tried(comparison: &Comparison, asp: &Run, trial: &Trial) -> String {
    let with = match trial.change {
        Change::NoThreshold => "With job.asp.threshold = 0, which ships every update,",
        Change::NoLead => "With job.asp.mirror_clock.lead = 0, which waits for the others at every clock,",
        Change::Neither => "With both, job.asp.threshold = 0 and job.asp.mirror_clock.lead = 0,",
    };
    let run = &trial.run;
    if let Some((time, sent)) = run.seconds_to_target.zip(run.wan_bytes_to_target) {
        return format!("{with} it reaches it, after {} and {}.", seconds(time), bytes(sent as f64));
    }
    let how_near = match closed(comparison, asp, run) {
        Some(share) if share >= 0.005 => {
            format!("closes {} of the gap", percent((share * 100.0).round() / 100.0))
        }
        _ => "comes no closer".to_owned(),
    };
    format!("{with} it {how_near}: it ends with {}.", ending(comparison, run))
}

/// Which share of what `asp` lacked at the end of its training `run` made up for.
fn closed(comparison: &Comparison, asp: &Run, run: &Run) -> Option<f64> {
    let gap = |run: &Run| {
        let [.., trained, _] = run.curve.as_slice() else { return None };
        let value = match comparison.target.metric.as_str() {
            "objective" => trained.objective,
            _ => trained.metric,
        };
        let gap = value - comparison.target.value;
        let gap = if bound(&comparison.target, run) == "at least" { -gap } else { gap };
        gap.is_finite().then_some(gap.max(0.0))
    };
    let (asp, run) = (gap(asp)?, gap(run)?);
    (asp > 0.0).then_some(1.0 - run / asp)
}

fn conclusion(comparison: &Comparison) -> Option<String> {
    let reaches = |change: Change| {
        comparison.trials.iter().any(|trial| trial.change == change && trial.run.reached_target)
    };
    let text = match (reaches(Change::NoThreshold), reaches(Change::NoLead)) {
        (true, false) => {
            "So what the filter holds back costs the target: a threshold between 0 and the job's may reach it with fewer \
             bytes."
        }
        (false, true) => {
            "So updates that come too late cost the target, not those that are held back: a smaller lead, or more work in \
             each clock, reaches it; a lower threshold does not."
        }
        (true, true) => {
            "So either is enough: what is held back costs the target only where it also comes late."
        }
        (false, false) if run_of(comparison, NAIVE).is_some_and(|run| run.reached_target) => {
            "bsp, which ships every update and waits at every clock, reaches it."
        }
        (false, false) if comparison.trials.is_empty() || reaches(Change::Neither) => return None,
        (false, false) => {
            "So neither what is held back nor what comes late is known to be the cause: more clocks may be what it takes."
        }
    };
    Some(text.to_owned())
}

/// Which strategies missed the target of which nothing has been said.
pub(super) fn others(comparison: &Comparison) -> Option<String> {
    let asp_missed = run_of(comparison, Strategy::Asp).is_some_and(|asp| !asp.reached_target);
    let is_said =
        |run: &Run| run.strategy == Strategy::Asp.name() || (asp_missed && run.strategy == FASTEST.name());
    let missed: Vec<_> = comparison
        .runs
        .iter()
        .filter(|run| !run.reached_target && !is_said(run))
        .map(|run| format!("{} ({})", run.strategy, ending(comparison, run)))
        .collect();
    (!missed.is_empty()).then(|| format!("The target was not reached by {}.", listed(&missed)))
}
