//! Why `asp` missed a target: the same job with what `asp` does taken away, one thing at a time.
//!
//! Two things set `asp` apart from `bsp`: its filter holds updates back, and regions run apart, so
//! that updates come late. Either can cost a model its target, and no figure of the run itself says
//! which it was. In virtual time it is cheap to find out: run it once without the one, and once
//! without the other.

use wan::policy::Lead;

use super::{Observer, SimulationError, judge, load, run_all_of};
use crate::human::with_causes;
use crate::job::scenario::Simulation;
use crate::job::strategy::Strategy;
use crate::learning::application::Application;
use crate::simulator::results::{Change, Comparison, Run, Trial};

/// Adds to `comparison`, which is one of `simulation`, the trials that explain why `asp` missed its
/// target. Where it did not, or where `lan` missed it too, so that the WAN is not to blame, there
/// are none.
///
/// # Errors
///
/// If the data cannot be used. A trial that breaks explains nothing, and is left out.
pub fn explain(
    simulation: &Simulation,
    comparison: &mut Comparison,
    observer: &dyn Observer,
) -> Result<(), SimulationError> {
    if !comparison.needs_explanation() {
        return Ok(());
    }
    let application = load(simulation)?;
    explain_application(simulation, application.as_ref(), comparison, observer);
    Ok(())
}

/// As [`explain`], of a comparison of an application that is not built in.
pub fn explain_application(
    simulation: &Simulation,
    application: &dyn Application,
    comparison: &mut Comparison,
    observer: &dyn Observer,
) {
    if !comparison.needs_explanation() {
        return;
    }
    let mut trials =
        run(simulation, application, &[Change::NoThreshold, Change::NoLead], comparison, observer);
    let is_explained = trials.iter().any(|trial| trial.run.reached_target);
    let has_naive = comparison.runs.iter().any(|run| run.strategy == Strategy::Bsp.name());
    if !is_explained && !has_naive {
        trials.extend(run(simulation, application, &[Change::Neither], comparison, observer));
    }
    comparison.trials = trials;
}

fn run(
    simulation: &Simulation,
    application: &dyn Application,
    changes: &[Change],
    comparison: &Comparison,
    observer: &dyn Observer,
) -> Vec<Trial> {
    let changed: Vec<_> = changes.iter().map(|change| changed(simulation, *change)).collect();
    let tasks: Vec<_> = changed.iter().map(|simulation| (simulation, Strategy::Asp)).collect();
    let results = run_all_of(&tasks, application, observer);
    let trial = |(change, result): (&Change, Result<Run, super::RunError>)| match result {
        Ok(mut run) => {
            judge(&mut run, &comparison.target);
            Some(Trial { change: *change, run })
        }
        Err(error) => {
            tracing::info!(?change, error = with_causes(&error), "a trial broke");
            None
        }
    };
    changes.iter().zip(results).filter_map(trial).collect()
}

/// `simulation` with something taken away from `asp`.
fn changed(simulation: &Simulation, change: Change) -> Simulation {
    let mut simulation = simulation.clone();
    let asp = &mut simulation.job.asp;
    if matches!(change, Change::NoThreshold | Change::Neither) {
        asp.filter.threshold = 0.0;
        asp.tables.iter_mut().for_each(|(_, filter)| filter.threshold = 0.0);
    }
    if matches!(change, Change::NoLead | Change::Neither) {
        asp.lead = Lead::Limit(0);
    }
    simulation
}
