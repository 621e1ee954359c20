//! What a job trains, on what, and how: checked settings, in code's units.
//!
//! These are made by `config` from TOML and by tests directly; whoever holds one may rely on the
//! stated ranges. They are written (by `serde`) for the digest alone, which `digest` makes.

mod by_key;
pub mod config;
mod digest;
pub mod region;
pub mod scenario;
pub mod strategy;

use std::path::PathBuf;
use std::time::Duration;

use datacenter::NonFinite;
use serde::Serialize;
use wan::policy::{Budget, Lead, ReleaseEvery, Schedule, Significance, ValueFormat};

use crate::learning::application::{Given, Input, ModelSettings};
use crate::learning::data::{DataScope, DataSettings, DataSource, Partition};

pub use self::by_key::by_key;

/// A training job, the same in every region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    /// Its name, for people.
    pub name: String,
    /// How many clocks every worker runs; at least one.
    pub clocks: u32,
    /// `s` of stale synchronous parallel inside a datacenter; `None` is asynchronous. Default 0
    /// (BSP).
    pub staleness: Option<u32>,
    /// How many shards the model is cut into; at least one.
    pub shards: u16,
    /// The model is scored every this many clocks (and at the end); at least one.
    pub evaluate_every: u32,
    /// The model and its training settings.
    pub model: ModelSettings,
    /// The data.
    pub data: DataSettings,
    /// Whose data that is. Default [`DataScope::Shared`].
    pub data_scope: DataScope,
    /// How the training data is dealt out to workers.
    pub partition: Partition,
    /// What counts as done.
    pub target: TargetSettings,
    /// Approximate synchronous parallel between datacenters.
    pub asp: AspSettings,
    /// `s` of the strategy `ssp` between datacenters. Default 3.
    pub ssp_lead: u32,
    /// What becomes of deltas that are NaN or infinite. Simulations pass them on in any case.
    /// Default [`NonFinite::Refuse`].
    #[serde(with = "digest::NonFiniteText")]
    pub non_finite: NonFinite,
    /// The largest deltas that servers take. Default any; simulations take any in any case.
    #[serde(skip_serializing_if = "MaxDelta::is_any")]
    pub max_delta: MaxDelta,
}

/// The largest of what one worker may add to an element in a clock; none for any.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MaxDelta {
    /// Of tables without one of their own.
    pub all: Option<DeltaBound>,
    /// By table.
    pub tables: Vec<(String, Option<DeltaBound>)>,
}

/// From where on a delta is too large.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum DeltaBound {
    /// Its magnitude is larger than this; above zero.
    Magnitude(f32),
    /// Its magnitude is larger than so many times the [usual](datacenter::usual) one of its table;
    /// above one.
    TimesTheUsual(f32),
}

impl MaxDelta {
    /// That of a table.
    pub fn of(&self, table: &str) -> Option<DeltaBound> {
        self.tables.iter().find(|(name, _)| name == table).map_or(self.all, |(_, own)| *own)
    }

    /// Whether deltas of any size are taken.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

impl Job {
    /// What the job's application is made of, where `seed` decides everything random.
    pub fn input(&self, seed: u64) -> Input<'_> {
        Input::new(&self.model, &self.data, self.partition, seed)
    }

    /// A job that trains a model of one's own, which a program gives to
    /// [`crate::simulator::compare_application`] or [`crate::simulator::run_one`]. Everything else
    /// is as documented for its field; change what should differ.
    pub fn of_own_model(name: &str, clocks: u32) -> Self {
        Self {
            name: name.to_owned(),
            clocks,
            staleness: Some(0),
            shards: 1,
            evaluate_every: 1,
            model: ModelSettings::new(Given, ()),
            data: DataSettings::new(PathBuf::new(), DataSource::Own),
            data_scope: DataScope::Shared,
            partition: Partition::Random,
            target: TargetSettings::WithinLan(0.01),
            asp: AspSettings::default(),
            ssp_lead: 3,
            non_finite: NonFinite::default(),
            max_delta: MaxDelta::default(),
        }
    }
}

/// What counts as done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum TargetSettings {
    /// Objective within this share of the `lan` run's final one: 0.01 is 1 %.
    WithinLan(f64),
    /// A figure: `objective` or the application's metric.
    Value {
        /// Its name.
        metric: String,
        /// Its value.
        value: f64,
    },
}

/// Settings of approximate synchronous parallel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AspSettings {
    /// The filter of tables that `tables` does not name.
    pub filter: Filter,
    /// Filters by table name.
    pub tables: Vec<(String, Filter)>,
    /// Whether idle bandwidth is spent on updates below the threshold (Gaia, section 3.4). Default
    /// false.
    pub soft_threshold: bool,
    /// `barrier.max_delay`. Default 200 ms; `None` turns barriers off.
    pub barrier_max_delay: Option<Duration>,
    /// `mirror_clock.lead`: `DS`. Default derived.
    #[serde(with = "digest::LeadText")]
    pub lead: Lead,
    /// Whether reads anticipate what others will have done. Default true.
    pub anticipation: bool,
    /// At which clocks is released. Default derived.
    #[serde(with = "digest::ReleaseEveryText")]
    pub release_every: ReleaseEvery,
    /// What each region may send while it trains, all that crosses the wire. Default as much as the
    /// filter lets pass.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "digest::budget")]
    pub budget: Option<Budget>,
}

impl Default for AspSettings {
    /// What follows from nothing but the updates.
    fn default() -> Self {
        Self::automatic(None)
    }
}

impl AspSettings {
    /// What depends on nothing but the updates, and on how many steps of training a clock is, as
    /// far as that is known.
    pub fn automatic(steps_per_clock: Option<u32>) -> Self {
        Self {
            filter: Filter::automatic(AspGoal::default(), steps_per_clock),
            tables: Vec::new(),
            soft_threshold: false,
            barrier_max_delay: Some(Duration::from_millis(200)),
            lead: Lead::Derived,
            anticipation: true,
            release_every: ReleaseEvery::derived(steps_per_clock),
            budget: None,
        }
    }

    /// The paper's filter (Gaia, section 3.2), whose updates are shipped as they are and once they
    /// are significant.
    pub fn paper() -> Self {
        let (anticipation, release_every) = (false, ReleaseEvery::Clocks(1));
        Self { filter: Filter::paper(), anticipation, release_every, ..Self::default() }
    }
}

/// How much of the quality that shipping everything gets is given for bytes, as far as a threshold
/// that follows updates decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AspGoal {
    /// As little as can be.
    Quality,
    /// So little that a job reaches what it would on a LAN in about the same time.
    #[default]
    Balanced,
    /// What several times fewer bytes take.
    Cheapest,
}

impl AspGoal {
    /// How many times the usual update of a clock is held back, where a clock is so many steps of
    /// training; where that is not known, many.
    ///
    /// What is held back of updates disturbs the model as the noise of mini-batches does, so how
    /// much that may be follows the update of one step: less than that of a clock by the square
    /// root of how many steps it is where all of it is noise, and by how many where none is. The
    /// power between the two is found by trial, as the figures are. However many steps there are, a
    /// few updates of a clock do no harm.
    pub fn threshold(self, steps_per_clock: Option<u32>) -> f64 {
        let (of_clocks, of_steps) = match self {
            Self::Quality => (2.0, 15.0),
            Self::Balanced => (4.0, 30.0),
            Self::Cheapest => (15.0, 100.0),
        };
        steps_per_clock.map_or(of_clocks, |steps| {
            f64::max(of_clocks, of_steps / libm::pow(f64::from(steps.max(1)), 0.75))
        })
    }
}

/// A significance filter as a job states it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Filter {
    /// The significance function.
    #[serde(with = "digest::SignificanceText")]
    pub function: Significance,
    /// `v0`: at or above zero.
    pub threshold: f64,
    /// How the hard threshold moves.
    pub schedule: FilterSchedule,
    /// How precisely values are shipped.
    #[serde(with = "digest::ValueFormatText")]
    pub values: ValueFormat,
}

impl Default for Filter {
    fn default() -> Self {
        Self::automatic(AspGoal::default(), None)
    }
}

impl Filter {
    /// A threshold that follows updates, where a clock is so many steps of training, as far as that
    /// is known.
    pub fn automatic(goal: AspGoal, steps_per_clock: Option<u32>) -> Self {
        Self {
            function: Significance::UsualUpdate,
            threshold: goal.threshold(steps_per_clock),
            schedule: FilterSchedule::Plain(Schedule::Constant),
            values: ValueFormat::Auto,
        }
    }

    /// The paper's (Gaia, section 3.2).
    pub fn paper() -> Self {
        Self {
            function: Significance::Relative,
            threshold: 0.01,
            schedule: FilterSchedule::Plain(Schedule::InverseSqrt),
            values: ValueFormat::F32,
        }
    }

    /// What is not said beside this function: nothing that depends on the data where thresholds
    /// follow updates, else as in the paper.
    pub fn of(function: Significance, steps_per_clock: Option<u32>) -> Self {
        let rest = match function {
            Significance::UsualUpdate => Self::automatic(AspGoal::default(), steps_per_clock),
            _ => Self::paper(),
        };
        Self { function, ..rest }
    }
}

/// How a job states a threshold's schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum FilterSchedule {
    /// One of the schedules of [`wan::policy`].
    Plain(#[serde(with = "digest::ScheduleText")] Schedule),
    /// The threshold falls as the job's learning rate does.
    LearningRate,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::learning::models::{SoftmaxKind, SoftmaxSettings};
    use crate::learning::{Decay, LearningRate};

    /// A small job with the defaults of the documentation, but for the paper's filter.
    pub(crate) fn job() -> Job {
        Job {
            name: "digits".to_owned(),
            clocks: 10,
            staleness: Some(0),
            shards: 1,
            evaluate_every: 1,
            model: ModelSettings::new(
                SoftmaxKind,
                SoftmaxSettings {
                    l2: 1e-4,
                    batch: 8,
                    batches: 1,
                    learning_rate: LearningRate { initial: 0.5, decay: Decay::Inverse { every: 2 } },
                    adagrad: false,
                },
            ),
            data: DataSettings::new(PathBuf::from("gaia/data"), DataSource::csv("digits-train.csv.gz", None)),
            data_scope: DataScope::Shared,
            partition: Partition::Random,
            target: TargetSettings::WithinLan(0.01),
            asp: AspSettings::paper(),
            ssp_lead: 3,
            non_finite: NonFinite::default(),
            max_delta: MaxDelta::default(),
        }
    }
}
