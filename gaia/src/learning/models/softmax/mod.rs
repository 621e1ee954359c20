//! Softmax (multinomial logistic) regression.
//!
//! The objective over examples `x` of class `y` is `mean(-ln softmax(x W + b)[y]) + (l2 / 2)
//! |W|^2`; the intercept `b` is not penalised. One table, `weights`, has a row for each feature and
//! the intercept as its last row, and a column for each class: a sparse example touches the rows of
//! its non-zero features and no others.
//!
//! The penalty would spoil that, since its gradient touches every row at every step. It is
//! therefore spread over the examples in which a feature occurs (Recht et al., Hogwild!, NIPS 2011,
//! section 2): with `n_j` of `n` examples having feature `j`, example `x` carries `(l2 / 2) sum_{j
//! in x} (n / n_j) |w_j|^2`. The mean over all examples is the same objective, and a mini-batch
//! stays sparse. A feature that never occurs keeps its initial weight, zero, which is its optimum.

mod kind;
mod learner;

use std::sync::Arc;

use datacenter::{TableId, TableSpec};

use self::learner::SoftmaxLearner;
use super::classes::{self, Score};
use super::lanes::{padded, sparse_product};
use crate::learning::application::{Application, Evaluation, Judgement, Learner, Model};
use crate::learning::data::Partition;
use crate::learning::data::{Classification, Examples, Names, SparseRow, Vocabulary};

pub use self::kind::{SoftmaxKind, SoftmaxSettings};

const WEIGHTS: TableId = TableId(0);

/// Softmax regression on a data set.
pub struct Softmax {
    settings: SoftmaxSettings,
    data: Classification,
    partition: Partition,
    seed: u64,
    /// `l2 * n / n_j` of each feature; shape `[features]`.
    penalties: Vec<f32>,
}

impl Softmax {
    /// The application; `seed` decides the partition.
    pub fn new(settings: SoftmaxSettings, data: Classification, partition: Partition, seed: u64) -> Self {
        let total = settings.l2 * data.train.len() as f64;
        let occurrences = data.occurrences();
        let penalties = occurrences.iter().map(|&n| (total / f64::from(n.max(1))) as f32).collect();
        Self { settings, data, partition, seed, penalties }
    }

    fn classes(&self) -> usize {
        self.data.labels.len()
    }

    /// All weights, rows padded; shape `[features + 1, stride]`.
    fn gathered(&self, model: &Model) -> Vec<f32> {
        let stride = padded(self.classes());
        let mut weights = vec![0.0; (self.data.features as usize + 1) * stride];
        for (out, row) in weights.chunks_exact_mut(stride).zip(model.table(WEIGHTS).rows()) {
            out.iter_mut().zip(row).for_each(|(out, weight)| *out = *weight);
        }
        weights
    }

    /// Scores the examples with these indexes.
    fn score(&self, weights: &[f32], examples: &Examples, indexes: &mut dyn Iterator<Item = usize>) -> Score {
        let mut logits = vec![0.0; padded(self.classes())];
        let mut score = Score::default();
        for index in indexes {
            let logits = self.logits(weights, examples.rows.row(index), &mut logits);
            classes::add_score(examples.classes[index], logits, &mut score);
        }
        score
    }

    /// `x W + b` of one example; `out` has shape `[stride]`, the result `[classes]`.
    fn logits<'a>(&self, weights: &[f32], row: SparseRow<'_>, out: &'a mut [f32]) -> &'a mut [f32] {
        let (weights, intercept) = weights.split_at(self.data.features as usize * out.len());
        out.copy_from_slice(intercept);
        sparse_product(row.features, row.values, weights, out);
        &mut out[..self.classes()]
    }

    /// `(l2 / 2) |W|^2`.
    fn penalty(&self, weights: &[f32]) -> f64 {
        let penalised = weights.len() - padded(self.classes());
        let norm: f64 = weights[..penalised].iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        0.5 * self.settings.l2 * norm
    }
}

impl Application for Softmax {
    fn tables(&self) -> Vec<TableSpec> {
        let width = self.classes() as u32;
        vec![TableSpec::new("weights", self.data.features + 1, width)]
    }

    fn initialise(&self, _table: TableId, _row: u32, _out: &mut [f32]) {
        // The objective is convex: zeros are as good a start as any.
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        self.data.train.deal(self.partition, parts, self.seed)
    }

    /// # Panics
    ///
    /// If an example's features were not kept.
    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_> {
        classes::assert_kept(&self.data, &examples);
        Box::new(SoftmaxLearner::new(self, examples, share, seed))
    }

    /// Of the training data, what was kept is scored.
    fn evaluate(&self, model: &Model) -> Evaluation {
        let weights = self.gathered(model);
        let penalty = self.penalty(&weights);
        classes::evaluate(&self.data, penalty, |examples, indexes| self.score(&weights, examples, indexes))
    }

    fn judge(&self, model: &Model) -> Option<Judgement> {
        let weights = self.gathered(model);
        let penalty = self.penalty(&weights);
        classes::judge(&self.data, penalty, |examples, indexes| self.score(&weights, examples, indexes))
    }

    fn predicted(&self) -> Vec<String> {
        classes::predicted(&self.data.labels)
    }

    fn predicted_names(&self, column: usize) -> Option<&Names> {
        (column < 2).then_some(&self.data.labels)
    }

    /// The label, the label with the largest probability, and the probabilities of all labels.
    fn predict(&self, model: &Model, each: &mut dyn FnMut(&[f64])) {
        let weights = self.gathered(model);
        let examples = self.data.test.as_ref().unwrap_or(&self.data.train);
        let mut logits = vec![0.0; padded(self.classes())];
        let mut figures = Vec::with_capacity(2 + self.classes());
        for (index, class) in examples.classes.iter().enumerate() {
            let logits = self.logits(&weights, examples.rows.row(index), &mut logits);
            classes::figures(*class, logits, &mut figures);
            each(&figures);
        }
    }

    fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        Some(Arc::new(self.data.vocabulary()))
    }

    fn remarks(&self) -> Vec<String> {
        classes::remarks(&self.data.labels, &self.data.train.classes)
    }
}
