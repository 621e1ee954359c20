//! What a user implements to train a model of their own.
//!
//! An [`Application`] names its tables, gives their initial values, makes a [`Learner`] for each
//! worker's part of the data, and scores a [`Model`]. A learner declares the rows that it needs for
//! a clock in a [`RowSet`], reads them as matrices through [`Tables`], and adds deltas to them.
//! Everything else (shards, clocks, what crosses the WAN) is Gaia's.
//!
//! ```
//! use gaia::learning::application::{Learner, RowSet, StepError, TableId, Tables, Work};
//!
//! const WEIGHTS: TableId = TableId(0);
//!
//! /// Pulls its weights towards zero: the gradient of `0.5 |w|^2`.
//! struct Shrink;
//!
//! impl Learner for Shrink {
//!     fn rows(&mut self, _clock: u32, rows: &mut RowSet) {
//!         rows.insert_all(WEIGHTS, 10);
//!     }
//!
//!     fn step(&mut self, _clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
//!         let delta = tables.rows(WEIGHTS).mapv(|weight| -0.1 * weight);
//!         tables.scatter_add(WEIGHTS, delta.view());
//!         Ok(Work::examples(10))
//!     }
//! }
//! ```
//!
//! A whole model, with its `Application` and `ModelKind`, is `tests/outside/src/main.rs`. Three things are
//! easily forgotten: initial values must depend on the seed alone; deltas are multiplied by `share` where
//! those of several workers are meant to be averaged; and [`ModelKind::training`] says how many steps a clock
//! is, by which thresholds are chosen.
//!
//! For results to be the same on every machine, arithmetic should keep to IEEE operations in a
//! fixed order and take `exp` and `ln` from the `libm` crate, not from the platform.

mod access;
mod input;
mod kind;
mod model;
mod rows;
mod score;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

pub use datacenter::{Numbers, Rule, TableId, TableSpec};

pub use self::access::Tables;
pub(crate) use self::access::{RowStore, Workspace};
pub use self::input::Input;
pub(crate) use self::kind::Given;
pub use self::kind::{BuildError, ClockWork, ModelKind, ModelKinds, ModelSettings, Training};
pub use self::model::Model;
pub(crate) use self::model::{ShardValues, initial_values, initial_values_of};
pub use self::rows::RowSet;
use crate::learning::data::{Names, Vocabulary};

/// A model and how to train it on partitioned data.
pub trait Application: Send + Sync {
    /// The tables of the model, the same in every datacenter.
    fn tables(&self) -> Vec<TableSpec>;

    /// Writes the initial values of `row`; `out` has shape `[width]` and comes zeroed.
    ///
    /// Every datacenter calls this with its own copy of the application, so it must depend on
    /// nothing but the application's own seed.
    fn initialise(&self, table: TableId, row: u32, out: &mut [f32]);

    /// Splits the training data into `parts` of about equal size, by the configured partition;
    /// called once.
    ///
    /// `result[p]` holds the indexes of the examples of part `p`, in any order.
    fn partition(&self, parts: usize) -> Vec<Vec<u32>>;

    /// The learner of a worker that trains on `examples` (indexes into the training data).
    ///
    /// `share` is how many of the examples that train the same model this worker has, between zero
    /// and one; the shares of all its workers add up to one. A learner whose deltas are meant to be
    /// averaged multiplies them by it, so that parts of unequal size weigh as much as they hold.
    /// `seed` is the learner's own.
    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_>;

    /// Scores `model` on all training data and, where there are any, on the test data.
    fn evaluate(&self, model: &Model) -> Evaluation;

    /// Scores `model` on the test data alone: both the objective and the metric. None where there
    /// are no test data, and for an application that does not do this.
    fn judge(&self, _model: &Model) -> Option<Judgement> {
        None
    }

    /// The names of the figures that [`predict`](Self::predict) tells; none for a model that
    /// predicts nothing.
    fn predicted(&self) -> Vec<String> {
        Vec::new()
    }

    /// Where a figure of [`predict`](Self::predict) is the place of a name and not a quantity:
    /// among which names, by the `column` of the figure.
    fn predicted_names(&self, _column: usize) -> Option<&Names> {
        None
    }

    /// Tells `each` what `model` predicts for each example of the test data, or of the training
    /// data where there are none, in the order of the file: one figure for each name in
    /// [`predicted`](Self::predicted).
    fn predict(&self, _model: &Model, _each: &mut dyn FnMut(&[f64])) {}

    /// What the rows and columns of the model stand for, to be kept beside it; none where there is
    /// nothing to say.
    fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        None
    }

    /// What is allowed in the data and yet worth a thought before it is trained on, in sentences.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One worker's part of the training.
pub trait Learner: Send {
    /// Declares the rows that [`step`](Self::step) will read at this clock (counted from zero).
    /// Clocks may be left out, also after their rows have been declared: a worker that was cut off
    /// goes on where the others are.
    fn rows(&mut self, clock: u32, rows: &mut RowSet);

    /// Trains for one clock; reads declared rows, adds deltas to them, and tells how much work that
    /// was.
    ///
    /// A step that has asked for [more rows](Tables::extend) is called again for the same clock
    /// once these are there; what it added meanwhile stays, and the work of all its calls adds up.
    ///
    /// # Errors
    ///
    /// What went wrong, in the model's own words. Nothing of this clock is sent. A simulation ends
    /// with it; a worker of a real region tries the clock again, as often as `workers.step_retries`
    /// allows, and then ends.
    fn step(&mut self, clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError>;
}

/// Why a step came to nothing.
pub type StepError = Box<dyn Error + Send + Sync>;

/// How much one [`Learner::step`] did; simulations charge virtual time by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Training examples processed.
    pub examples: u64,
    /// How long that took elsewhere, such as on an accelerator, where it was measured; else it is
    /// told from the number of examples. Default none.
    pub measured: Option<Duration>,
}

impl Work {
    /// So many examples.
    pub const fn examples(examples: u64) -> Self {
        Self { examples, measured: None }
    }

    /// The same with the time that was measured.
    #[must_use]
    pub const fn measured(self, time: Duration) -> Self {
        Self { measured: Some(time), ..self }
    }

    /// Both together; a time only where both have one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let measured = self.measured.zip(other.measured).map(|(one, other)| one.saturating_add(other));
        Self { examples: self.examples.saturating_add(other.examples), measured }
    }
}

/// A score of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// The training objective, smaller is better, regularisation included.
    pub objective: f64,
    /// The figure by which people judge this kind of model.
    pub metric: Metric,
}

/// A score on examples that a model was not trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// The score.
    pub evaluation: Evaluation,
    /// On how many examples.
    pub examples: usize,
}

impl Metric {
    /// Which share of examples is classified correctly.
    pub fn accuracy(value: f64) -> Self {
        Self { name: "accuracy", value, larger_is_better: true, best: Some(1.0) }
    }
}

/// A named figure, such as test accuracy or test RMSE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its name, in snake case.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Whether larger values are better.
    pub larger_is_better: bool,
    /// The value that no model can be better than, if there is one: a target beyond it is refused.
    pub best: Option<f64>,
}
