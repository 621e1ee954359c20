//! Shows what runs found: tables for people, JSON and CSV for programs.

mod files;
mod lost;
mod missed;
mod reading;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod tuning;

pub use files::{Destination, OutputError, csv, json};
pub use reading::reading;
pub use table::{Style, comparison, figures, run};

use crate::job::strategy::Strategy;
use crate::simulator::results::{Comparison, Run};

/// The strategy that others are measured against when it comes to bytes.
const NAIVE: Strategy = Strategy::Bsp;
/// The strategy that others are measured against when it comes to time.
const FASTEST: Strategy = Strategy::Lan;

/// The run of `strategy`, if it was compared.
fn run_of(comparison: &Comparison, strategy: Strategy) -> Option<&Run> {
    comparison.runs.iter().find(|run| run.strategy == strategy.name())
}

/// By how many times `run` reached the target later than the LAN.
fn time_ratio(comparison: &Comparison, run: &Run) -> Option<f64> {
    let lan = run_of(comparison, FASTEST)?.seconds_to_target.filter(|seconds| *seconds > 0.0)?;
    Some(run.seconds_to_target? / lan)
}

/// By how many times fewer bytes `run` reached the target with than the naive mirrors; below one,
/// it took more.
fn saving(comparison: &Comparison, run: &Run) -> Option<f64> {
    let naive = run_of(comparison, NAIVE)?.wan_bytes_to_target?;
    let bytes = run.wan_bytes_to_target.filter(|bytes| *bytes > 0)?;
    Some(naive as f64 / bytes as f64)
}

/// Seconds that a worker's reads were held, for whatever reason.
fn held(run: &Run) -> f64 {
    // From zero: the sum of nothing would be -0.
    run.holds.values().fold(0.0, |sum, seconds| sum + seconds)
}
