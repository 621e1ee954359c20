//! What a user implements to train a model of their own.
//!
//! An [`Application`] names its tables, gives their initial values, makes a [`Learner`] for each worker's part of the
//! data, and scores a model. A learner declares the rows that it needs for a clock, reads them, and adds deltas to
//! them. Everything else (shards, clocks, what crosses the WAN) is Gaia's.
//!
//! For results to be the same on every machine, arithmetic should keep to IEEE operations in a fixed order and take
//! `exp` and `ln` from the `libm` crate, not from the platform.

use std::sync::Arc;

use datacenter::{TableId, TableSpec};

use crate::data::{Names, Vocabulary};

/// A model and how to train it on partitioned data.
pub trait Application: Send + Sync {
    /// The tables of the model, the same in every datacenter.
    fn tables(&self) -> Vec<TableSpec>;

    /// Writes the initial values of `row`; `out` has shape `[width]` and comes zeroed.
    ///
    /// Every datacenter calls this with its own copy of the application, so it must depend on nothing but the
    /// application's own seed.
    fn initialise(&self, table: TableId, row: u32, out: &mut [f32]);

    /// Splits the training data into `parts` of about equal size, by the configured partition; called once.
    ///
    /// `result[p]` holds the indexes of the examples of part `p`, in any order.
    fn partition(&self, parts: usize) -> Vec<Vec<u32>>;

    /// The learner of a worker that trains on `examples` (indexes into the training data).
    ///
    /// `share` is how many of the examples that train the same model this worker has, between zero and one; the shares
    /// of all its workers add up to one. A learner whose deltas are meant to be averaged multiplies them by it, so
    /// that parts of unequal size weigh as much as they hold. `seed` is the learner's own.
    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_>;

    /// Scores `model` on all training data and, where there are any, on the test data.
    fn evaluate(&self, model: &dyn Model) -> Evaluation;

    /// Scores `model` on the test data alone: both the objective and the metric. None where there are no test data, and for
    /// an application that does not do this.
    fn judge(&self, _model: &dyn Model) -> Option<Judgement> {
        None
    }

    /// The names of the figures that [`predict`](Self::predict) tells; none for a model that predicts nothing.
    fn predicted(&self) -> Vec<String> {
        Vec::new()
    }

    /// Where a figure of [`predict`](Self::predict) is the place of a name and not a quantity: among which names, by the
    /// `column` of the figure.
    fn predicted_names(&self, _column: usize) -> Option<&Names> {
        None
    }

    /// Tells `each` what `model` predicts for each example of the test data, or of the training data where there are none,
    /// in the order of the file: one figure for each name in [`predicted`](Self::predicted).
    fn predict(&self, _model: &dyn Model, _each: &mut dyn FnMut(&[f64])) {}

    /// What the rows and columns of the model stand for, to be kept beside it; none where there is nothing to say.
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
    /// Declares the rows that [`step`](Self::step) will read at this clock (counted from zero). Clocks may be left out,
    /// also after their rows have been declared: a worker that was cut off goes on where the others are.
    fn rows(&mut self, clock: u32, rows: &mut RowSet);

    /// Trains for one clock; reads declared rows, adds deltas to them, and tells how much work that was.
    fn step(&mut self, clock: u32, rows: &mut dyn RowAccess) -> Work;
}

/// How much one [`Learner::step`] did; simulations charge virtual time by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Training examples processed.
    pub examples: u64,
}

/// The rows that a learner is about to read, by table. Duplicates are welcome and cost nothing.
#[derive(Clone, Debug, Default)]
pub struct RowSet {
    tables: Vec<Vec<u32>>,
}

impl RowSet {
    /// An empty set over `tables` tables.
    pub fn new(tables: usize) -> Self {
        Self { tables: vec![Vec::new(); tables] }
    }

    /// Adds one row.
    pub fn insert(&mut self, table: TableId, row: u32) {
        self.tables[table.index()].push(row);
    }

    /// Adds rows `0..rows`.
    pub fn insert_all(&mut self, table: TableId, rows: u32) {
        self.tables[table.index()].extend(0..rows);
    }

    /// Empties the set and keeps its memory.
    pub fn clear(&mut self) {
        self.tables.iter_mut().for_each(Vec::clear);
    }

    /// Sorts and removes duplicates, then yields each table's rows in ascending order.
    pub fn sorted(&mut self) -> impl Iterator<Item = (TableId, &[u32])> {
        self.tables.iter_mut().enumerate().map(|(i, rows)| {
            rows.sort_unstable();
            rows.dedup();
            (TableId(i as u16), rows.as_slice())
        })
    }
}

/// A learner's view of the rows that it declared.
pub trait RowAccess {
    /// The row's current values as this worker sees them, its own deltas included; shape `[width]`.
    ///
    /// # Panics
    ///
    /// If the row was never declared: that is a bug of the learner.
    fn row(&self, table: TableId, row: u32) -> &[f32];

    /// Adds `delta`, shape `[width]`, to the row; visible to this worker at once, to others after the clock.
    fn add(&mut self, table: TableId, row: u32, delta: &[f32]);
}

/// A whole model, to be scored.
pub trait Model {
    /// The row's values, shape `[width]`.
    fn row(&self, table: TableId, row: u32) -> &[f32];
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
