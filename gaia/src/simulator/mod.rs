//! Runs a job over simulated regions in virtual time.
//!
//! Shards, workers, the WAN protocol and QUIC are the real ones; only the network
//! ([`emulation`]) and the cost of computing are simulated. Every region lives in one thread,
//! so that a run is the same bytes at the same nanoseconds each time; different strategies run in
//! threads of their own.
//!
//! - `topology`: which datacenter hosts which shards and workers under a strategy;
//! - `cluster`: builds that, and runs it to the end, with `site` for one datacenter's server and
//!   links, `sessions` for how workers reach shards, and `accounting` for what it cost;
//! - `lan`: what messages inside a datacenter cost;
//! - `worker`: one worker's loop;
//! - `watchdog`: when a run that has stopped is given up, and `stalled` for why;
//! - `recorder`: the objective over time;
//! - `explain`: why `asp` missed a target.

mod accounting;
mod cluster;
mod explain;
mod lan;
mod recorder;
pub mod results;
mod sessions;
mod site;
mod stalled;
mod topology;
mod watchdog;
mod worker;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Mutex;
use std::thread;

use datacenter::ShardTable;
use emulation::OutOfTime;
use wan::replica::Replica;

use crate::human;
use crate::job::scenario::Simulation;
use crate::job::strategy::{Strategy, check_tables};
use crate::job::{Job, TargetSettings};
use crate::learning::application::{Application, Metric, Model, StepError};
use crate::learning::data::partition::idle_workers;
use crate::learning::models::{EXTERNAL, is_external};
use crate::simulator::results::{Comparison, Failure, Run, Target};

pub use self::explain::{explain, explain_application};
pub use self::stalled::Stalled;

/// Hears how runs go. Runs of different strategies may go on in different threads at once.
pub trait Observer: Send + Sync {
    /// Something in the data is allowed, and yet worth a thought.
    fn remark(&self, _remark: &str) {}

    /// A run begins; `regions` are the datacenters of this run (one alone under `lan`), each to
    /// complete `clocks`.
    fn run_started(&self, strategy: Strategy, regions: &[String], clocks: u32);

    /// A datacenter completed a clock.
    fn clock(&self, strategy: Strategy, progress: &Progress);

    /// A run ended.
    fn run_finished(&self, run: &Run);
}

/// How far a datacenter has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Which one, as an index into the regions that `run_started` named.
    pub region: usize,
    /// Clocks completed.
    pub clock: u32,
    /// Virtual time.
    pub seconds: f64,
    /// Its objective, where it has just been evaluated.
    pub objective: Option<f64>,
    /// What it currently sends over the WAN.
    pub wan_bytes_per_sec: f64,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The operator's: data that cannot be read, or settings that do not fit it. The message names
    /// file or key.
    #[error(transparent)]
    Input(Box<dyn Error + Send + Sync>),
    /// The run broke.
    #[error("the run of {strategy} failed")]
    Failed {
        /// Which one.
        strategy: Strategy,
        /// Why.
        source: RunError,
    },
    /// All runs were to be judged by one, and that one broke.
    #[error(
        "nothing could be judged: the target is within a share of what {} ends with, and the run of {} failed",
        Strategy::Lan,
        Strategy::Lan
    )]
    NoTarget {
        /// Why it did.
        source: RunError,
    },
}

/// Why a run broke.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing moved any more: a link that never heals, for example.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// It did not end.
    #[error(transparent)]
    OutOfTime(#[from] OutOfTime),
    /// A worker lost its shards.
    #[error("a worker's session ended")]
    Session(#[from] datacenter::local::SessionError),
    /// A step of the application failed.
    #[error("worker {worker}, clock {clock}")]
    Step {
        /// Whose, counted over all regions.
        worker: usize,
        /// The clock, counted from zero.
        clock: u32,
        /// What the application says.
        source: StepError,
    },
    /// The stretched parameter server could not be connected.
    #[error("{from} and {to} could not be connected")]
    Connect {
        /// A region.
        from: String,
        /// Another.
        to: String,
        /// Why.
        source: wan::transport::DialError,
    },
}

/// Runs `simulation` under one strategy.
///
/// The target is judged only where the job states a value: "within 1 % of `lan`" needs a
/// [`compare`].
///
/// # Errors
///
/// If the data cannot be used or the run breaks.
pub fn simulate(
    simulation: &Simulation,
    strategy: Strategy,
    observer: &dyn Observer,
) -> Result<Run, SimulationError> {
    let application = load(simulation)?;
    application.remarks().iter().for_each(|remark| observer.remark(remark));
    let mut run = run_one(simulation, application.as_ref(), strategy, observer)?;
    if let TargetSettings::Value { metric, value } = &simulation.job.target {
        judge(&mut run, &Target { metric: metric.clone(), value: *value });
    }
    Ok(run)
}

/// Runs `simulation` under each of `strategies`.
///
/// A target "within a share of `lan`" makes a run of `lan` necessary, which is added to the result
/// if it was not asked for. A run that breaks takes none of the others with it: it is in the
/// result, with its reason.
///
/// # Errors
///
/// If the data cannot be used, or the run that the target depends on breaks.
pub fn compare(
    simulation: &Simulation,
    strategies: &[Strategy],
    observer: &dyn Observer,
) -> Result<Comparison, SimulationError> {
    let application = load(simulation)?;
    application.remarks().iter().for_each(|remark| observer.remark(remark));
    compare_application(simulation, application.as_ref(), strategies, observer)
}

/// Runs `application` under each of `strategies`: how a model that is not built in is compared.
///
/// As [`compare`], but for the application, which is the caller's and not the job's.
///
/// # Errors
///
/// If the job has a filter for a table that the application has not, or the run that the target
/// depends on breaks.
pub fn compare_application(
    simulation: &Simulation,
    application: &dyn Application,
    strategies: &[Strategy],
    observer: &dyn Observer,
) -> Result<Comparison, SimulationError> {
    check_tables(&simulation.job, &application.tables())
        .map_err(|error| SimulationError::Input(error.into()))?;
    let mut strategies = strategies.to_vec();
    if matches!(simulation.job.target, TargetSettings::WithinLan(_)) && !strategies.contains(&Strategy::Lan) {
        strategies.insert(0, Strategy::Lan);
    }
    let (mut runs, mut failed) = (Vec::new(), Vec::new());
    for (strategy, result) in run_all(simulation, application, &strategies, observer) {
        match (result, &simulation.job.target) {
            (Ok(run), _) => runs.push(run),
            (Err(source), TargetSettings::WithinLan(_)) if strategy == Strategy::Lan => {
                return Err(SimulationError::NoTarget { source });
            }
            (Err(error), _) => {
                failed.push(Failure { strategy: strategy.name().into(), reason: human::with_causes(&error) });
            }
        }
    }
    let target = match &simulation.job.target {
        TargetSettings::Value { metric, value } => Target { metric: metric.clone(), value: *value },
        TargetSettings::WithinLan(share) => {
            let lan = runs.iter().find(|run| run.strategy == Strategy::Lan.name()).expect("added above");
            // Objectives may be negative, hence the absolute value.
            Target { metric: "objective".into(), value: lan.objective + share * lan.objective.abs() }
        }
    };
    runs.iter_mut().for_each(|run| judge(run, &target));
    let (job, trials) = (simulation.job.name.clone(), Vec::new());
    Ok(Comparison { job, seed: simulation.seed, target, runs, trials, failed })
}

/// What was found in the data of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In a few words.
    pub summary: String,
    /// What is allowed and yet worth a thought.
    pub remarks: Vec<String>,
}

/// Loads what `simulation` trains on, and tells what it found.
///
/// # Errors
///
/// If the data cannot be used, or settings do not fit it.
pub fn check(simulation: &Simulation) -> Result<Found, SimulationError> {
    let application = load(simulation)?;
    let tables = application.tables();
    let elements: u64 = tables.iter().map(|t| u64::from(t.rows) * u64::from(t.width)).sum();
    let shapes: Vec<String> = tables.iter().map(|t| format!("{} {} x {}", t.name, t.rows, t.width)).collect();
    let parts = application.partition(simulation.worker_count() as usize);
    let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
    let summary = format!(
        "{}, {} to {} for each of {}; model of {elements} values: {}",
        human::counted(sizes.iter().sum::<usize>(), "training example"),
        sizes.iter().min().unwrap_or(&0),
        sizes.iter().max().unwrap_or(&0),
        human::counted(parts.len(), "worker"),
        shapes.join(", "),
    );
    let remarks = application.remarks().into_iter().chain(idle_workers(&sizes)).collect();
    Ok(Found { summary, remarks })
}

/// Loads the data of `simulation` and makes its application.
///
/// # Errors
///
/// If the data cannot be used, or settings do not fit it.
pub fn load(simulation: &Simulation) -> Result<Box<dyn Application>, SimulationError> {
    if is_external(&simulation.job.model) {
        return Err(SimulationError::Input(Unfit::External.into()));
    }
    let application = simulation
        .job
        .input(simulation.seed)
        .application()
        .map_err(|error| SimulationError::Input(error.into()))?;
    check_tables(&simulation.job, &application.tables())
        .map_err(|error| SimulationError::Input(error.into()))?;
    check_job(simulation, application.as_ref()).map_err(|error| SimulationError::Input(error.into()))?;
    Ok(application)
}

/// Settings of a job that do not fit its application.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("{EXTERNAL}")]
    External,
    #[error(
        "job.target.metric: found \"{found}\"; allowed: \"objective\" or \"{metric}\", which is what this model is judged by"
    )]
    Metric { found: String, metric: &'static str },
    #[error(
        "job.shards: found {found}; allowed: at most {rows}, the rows of the largest table, as further shards would be empty"
    )]
    Shards { found: u16, rows: u32 },
    #[error(
        "job.target.value: found {found}; allowed: {bound} {best}, the best {metric} there is{}", .hint.unwrap_or_default()
    )]
    OutOfReach {
        found: f64,
        metric: &'static str,
        bound: &'static str,
        best: f64,
        hint: Option<&'static str>,
    },
    #[error(
        "regions[].workers: {workers} workers in {regions} regions, each with a copy of a model of {elements} values, would \
         take about {}; allowed: at most {}",
        human::bytes(*bytes as f64), human::bytes(MOST_BYTES as f64)
    )]
    Memory { workers: u32, regions: usize, elements: u64, bytes: u64 },
}

/// The most memory that a run may be known to need: more is a slip, and would end the program
/// without a word.
const MOST_BYTES: u64 = 64_000_000_000;

/// Checks what depends on the model.
fn check_job(simulation: &Simulation, application: &dyn Application) -> Result<(), Unfit> {
    check_fit(&simulation.job, application)?;
    let tables = application.tables();
    let elements: u64 = tables.iter().map(|t| u64::from(t.rows) * u64::from(t.width)).sum();
    let (workers, regions) = (simulation.worker_count(), simulation.regions.len());
    // A worker caches values and deltas.
    let of_worker = elements.saturating_mul(2 * size_of::<f32>() as u64);
    let whole: Vec<_> =
        tables.iter().map(|table| ShardTable { slots: table.rows, width: table.width }).collect();
    let is_mirrored = simulation.strategy.mirrors() || simulation.strategies.iter().any(|s| s.mirrors());
    let mirrors = if is_mirrored { regions.saturating_sub(1) as u64 } else { 0 };
    let of_region = Replica::most_bytes(&whole, mirrors);
    // Under every strategy models wait to be scored until all regions are as far.
    let scored = u64::from(simulation.job.clocks / simulation.job.evaluate_every) + 1;
    let waiting = recorder::most_bytes(elements, regions as u64, scored);
    let bytes = of_worker
        .saturating_mul(u64::from(workers))
        .saturating_add(of_region.saturating_mul(regions as u64))
        .saturating_add(waiting);
    if bytes > MOST_BYTES {
        return Err(Unfit::Memory { workers, regions, elements, bytes });
    }
    Ok(())
}

/// Checks what of a job depends on the model, wherever it runs.
pub(crate) fn check_fit(job: &Job, application: &dyn Application) -> Result<(), Unfit> {
    let tables = application.tables();
    let rows = tables.iter().map(|table| table.rows).max().unwrap_or(0);
    if u32::from(job.shards) > rows {
        return Err(Unfit::Shards { found: job.shards, rows });
    }
    match &job.target {
        TargetSettings::Value { metric, value } if metric != "objective" => {
            check_target(metric, *value, &application.evaluate(&Model::zeros(&tables)).metric)
        }
        TargetSettings::Value { .. } | TargetSettings::WithinLan(_) => Ok(()),
    }
}

/// Checks a target that is a value of the metric by which `judged` the application is.
fn check_target(found: &str, value: f64, judged: &Metric) -> Result<(), Unfit> {
    let metric = judged.name;
    if found != metric {
        return Err(Unfit::Metric { found: found.to_owned(), metric });
    }
    let Some(best) = judged.best else { return Ok(()) };
    let (is_out_of_reach, bound) = match judged.larger_is_better {
        true => (value > best, "at most"),
        false => (value < best, "at least"),
    };
    if !is_out_of_reach {
        return Ok(());
    }
    let is_share = judged.larger_is_better && best == 1.0 && (1.0..=100.0).contains(&value);
    Err(Unfit::OutOfReach { found: value, metric, bound, best, hint: is_share.then_some("; 90 % is 0.9") })
}

/// Runs `application` under one strategy: how a model that is not built in is simulated.
///
/// # Errors
///
/// If the run breaks.
pub fn run_one(
    simulation: &Simulation,
    application: &dyn Application,
    strategy: Strategy,
    observer: &dyn Observer,
) -> Result<Run, SimulationError> {
    cluster::run(simulation, application, strategy, observer)
        .map_err(|source| SimulationError::Failed { strategy, source })
}

/// Runs each strategy, as many at once as there are processors.
fn run_all(
    simulation: &Simulation,
    application: &dyn Application,
    strategies: &[Strategy],
    observer: &dyn Observer,
) -> Vec<(Strategy, Result<Run, RunError>)> {
    let tasks: Vec<_> = strategies.iter().map(|strategy| (simulation, *strategy)).collect();
    strategies.iter().copied().zip(run_all_of(&tasks, application, observer)).collect()
}

/// Runs each of `tasks`, as many at once as there are processors; results are in their order. The
/// order in which threads get to them changes nothing: a run depends on nothing but its own seed.
fn run_all_of(
    tasks: &[(&Simulation, Strategy)],
    application: &dyn Application,
    observer: &dyn Observer,
) -> Vec<Result<Run, RunError>> {
    let queue = Mutex::new(tasks.iter().copied().enumerate());
    let results = Mutex::new(BTreeMap::new());
    let threads = thread::available_parallelism().map_or(1, usize::from).min(tasks.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no thread panics while it holds the queue").next();
                    let Some((at, (simulation, strategy))) = next else { return };
                    let result = cluster::run(simulation, application, strategy, observer);
                    results.lock().expect("no thread panics while it holds the results").insert(at, result);
                }
            });
        }
    });
    results.into_inner().expect("all threads are done").into_values().collect()
}

/// Fills in when and at what cost `run` reached `target`, by the points of its training: the last
/// point is that after the final exchange.
pub fn judge(run: &mut Run, target: &Target) {
    let is_reached = |objective: f64, metric: f64| match target.metric.as_str() {
        "objective" => objective <= target.value,
        _ if run.metric.larger_is_better => metric >= target.value,
        _ => metric <= target.value,
    };
    let training = run.curve.split_last().map_or(&[][..], |(_, training)| training);
    let reached = training.iter().find(|point| is_reached(point.objective, point.metric));
    run.reached_target = reached.is_some();
    run.seconds_to_target = reached.map(|point| point.seconds);
    run.wan_bytes_to_target = reached.map(|point| point.wan_bytes);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::simulator::results::{MetricValue, Point};

    #[test]
    fn a_target_that_nothing_can_reach_is_refused() {
        let accuracy = Metric { name: "accuracy", value: 0.1, larger_is_better: true, best: Some(1.0) };
        let rmse = Metric { name: "rmse", value: 1.0, larger_is_better: false, best: Some(0.0) };
        let unbounded = Metric { name: "gain", value: 1.0, larger_is_better: true, best: None };
        for (metric, value, expected) in [
            (accuracy, 0.9, None),
            (accuracy, 1.0, None),
            (
                accuracy,
                90.0,
                Some(
                    "job.target.value: found 90; allowed: at most 1, the best accuracy there is; 90 % is 0.9",
                ),
            ),
            (
                accuracy,
                900.0,
                Some("job.target.value: found 900; allowed: at most 1, the best accuracy there is"),
            ),
            (rmse, 0.8, None),
            (rmse, -0.5, Some("job.target.value: found -0.5; allowed: at least 0, the best rmse there is")),
            (unbounded, 90.0, None),
        ] {
            let error = check_target(metric.name, value, &metric).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected, "{metric:?} {value}");
        }
    }

    #[test]
    fn the_final_exchange_does_not_decide_about_the_target() {
        let point = |(clock, objective): (u32, f64)| Point {
            seconds: f64::from(clock),
            clock,
            objective,
            metric: 1.0 - objective,
            wan_bytes: u64::from(clock) * 10,
        };
        let mut run = Run {
            strategy: "asp".to_owned(),
            reached_target: false,
            seconds_to_target: None,
            wan_bytes_to_target: None,
            seconds: 3.0,
            wan_bytes: 30,
            wan_payload_bytes: 0,
            naive_wan_bytes: None,
            clocks: 2,
            objective: 0.1,
            metric: MetricValue { name: "accuracy".to_owned(), value: 0.9, larger_is_better: true },
            holds: BTreeMap::new(),
            computing_seconds: 0.0,
            waits: Vec::new(),
            links: Vec::new(),
            curve: [(0, 0.9), (1, 0.5), (2, 0.3), (2, 0.1)].map(point).to_vec(),
            clock_seconds: 1.0,
            filter_hit_rate: None,
            filter: Vec::new(),
        };
        for (metric, value, expected) in [
            ("objective", 0.9, Some((0.0, 0))),
            ("objective", 0.4, Some((2.0, 20))),
            ("objective", 0.2, None),
            ("accuracy", 0.5, Some((1.0, 10))),
            ("accuracy", 0.8, None),
        ] {
            judge(&mut run, &Target { metric: metric.to_owned(), value });
            assert_eq!(run.seconds_to_target.zip(run.wan_bytes_to_target), expected, "{metric} {value}");
            assert_eq!(run.reached_target, expected.is_some());
        }
    }
}
