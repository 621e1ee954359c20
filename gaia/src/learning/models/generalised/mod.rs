//! Generalised linear models: [linear](linear) and [logistic](logistic) regression.
//!
//! With features `x`, outputs `z = x W + b` and an outcome `y`, the objective over all examples is
//!
//! ```text
//! mean(loss(z, y)) + l1 |W|_1 + (l2 / 2) |W|^2
//! ```
//!
//! which is ridge for `l1 = 0`, the lasso for `l2 = 0`, and the elastic net else (Zou and Hastie,
//! 2005); the intercept `b` is not penalised. One table, `weights`, has a row for each feature and,
//! where there is an intercept, one more as its last, and a column for each output: a sparse example
//! touches the rows of its non-zero features and no others.
//!
//! A worker takes proximal steps: with the gradient `g` of a mini-batch's mean loss and the rate
//! `r`, `w <- S(w - r g, r l1) / (1 + r l2)`, where `S(a, t) = sign(a) max(|a| - t, 0)`. So that a
//! step stays sparse, penalties are spread over the examples in which a feature occurs, as in
//! [softmax regression](super::softmax): with `n_j` of `n` examples having feature `j`, one with it
//! carries `n / n_j` of its penalty.

mod learner;
mod linear;
mod logistic;
mod loss;
mod scores;

use std::sync::Arc;

use datacenter::{TableId, TableSpec};

use self::learner::GeneralisedLearner;
use self::loss::{Loss, sigmoid};
use self::scores::Scores;
use crate::learning::LearningRate;
use crate::learning::application::{Application, Evaluation, Judgement, Learner, Metric, Model};
use crate::learning::data::partition::{Attributes, partition};
use crate::learning::data::{Names, Partition, Slice, SparseRow, SparseRows, Vocabulary};

pub use self::linear::{LinearKind, LinearSettings, QuantityMetric};
pub use self::logistic::{ClassMetric, LogisticKind, LogisticSettings, Optimiser};

const WEIGHTS: TableId = TableId(0);

/// How the weights are found.
#[derive(Clone, Debug)]
struct Descent {
    l1: f64,
    l2: f64,
    intercept: bool,
    optimiser: Optimiser,
    batch: u32,
    batches: u32,
    learning_rate: LearningRate,
}

impl Descent {
    fn is_adaptive(&self) -> bool {
        self.optimiser == Optimiser::AdaGrad
    }
}

/// Examples with an outcome each: a quantity, or the number of a class.
#[derive(Clone, Debug, Default)]
struct Outcomes {
    rows: SparseRows,
    outcomes: Vec<f32>,
}

/// What a model is trained on and judged by.
#[derive(Debug)]
struct Data {
    train: Outcomes,
    test: Option<Outcomes>,
    features: u32,
    /// In how many training examples each feature is non-zero; shape `[features]`.
    occurrences: Vec<u32>,
    slice: Option<Slice>,
    /// By what examples are dealt out that are not dealt out by chance; shape `[examples]`.
    keys: Vec<u32>,
    /// The names of classes; none for quantities.
    labels: Option<Names>,
    vocabulary: Vocabulary,
    remarks: Vec<String>,
}

/// A figure by which such models are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Accuracy,
    LogLoss,
    Auc,
    Rmse,
    R2,
}

/// A generalised linear model on a data set.
struct Generalised {
    descent: Descent,
    loss: Loss,
    figure: Figure,
    data: Data,
    partition: Partition,
    seed: u64,
    /// `n / n_j` of each feature; shape `[features]`.
    spread: Vec<f64>,
}

/// `out += values . weights[indexes]`; `weights` has shape `[rows, outputs]`, `out` has `[outputs]`.
/// Every output is summed in the order of `indexes`.
fn add_product(indexes: &[u32], values: &[f32], weights: &[f64], out: &mut [f64]) {
    if let [out] = out {
        let products = indexes.iter().zip(values).map(|(&i, &value)| f64::from(value) * weights[i as usize]);
        *out = products.fold(*out, |sum, product| sum + product);
        return;
    }
    for (&index, &value) in indexes.iter().zip(values) {
        let row = &weights[index as usize * out.len()..][..out.len()];
        out.iter_mut().zip(row).for_each(|(out, weight)| *out += f64::from(value) * weight);
    }
}

impl Generalised {
    fn new(
        descent: Descent,
        loss: Loss,
        figure: Figure,
        data: Data,
        partition: Partition,
        seed: u64,
    ) -> Self {
        let total = data.train.outcomes.len() as f64;
        let spread = data.occurrences.iter().map(|&n| total / f64::from(n.max(1))).collect();
        Self { descent, loss, figure, data, partition, seed, spread }
    }

    /// How many rows the table has.
    fn rows(&self) -> usize {
        self.data.features as usize + usize::from(self.descent.intercept)
    }

    /// All weights; shape `[rows, outputs]`.
    fn gathered(&self, model: &Model) -> Vec<f64> {
        model.table(WEIGHTS).iter().map(|&weight| f64::from(weight)).collect()
    }

    /// The outputs for one example; `z` has shape `[outputs]`.
    fn outputs(&self, weights: &[f64], row: SparseRow<'_>, z: &mut [f64]) {
        z.fill(0.0);
        if self.descent.intercept {
            z.copy_from_slice(&weights[self.data.features as usize * z.len()..]);
        }
        add_product(row.features, row.values, weights, z);
    }

    /// `l1 |W|_1 + (l2 / 2) |W|^2`.
    fn penalty(&self, weights: &[f64]) -> f64 {
        let weights = &weights[..self.data.features as usize * self.loss.outputs()];
        let sum = |of: fn(f64) -> f64| weights.iter().map(|&weight| of(weight)).sum::<f64>();
        self.descent.l1 * sum(f64::abs) + 0.5 * self.descent.l2 * sum(|weight| weight * weight)
    }

    /// Scores the examples with these indexes.
    fn score(
        &self,
        weights: &[f64],
        examples: &Outcomes,
        indexes: &mut dyn Iterator<Item = usize>,
    ) -> Scores {
        let mut scores = Scores::new(self.loss, self.figure == Figure::Auc);
        let mut z = vec![0.0; self.loss.outputs()];
        for index in indexes {
            self.outputs(weights, examples.rows.row(index), &mut z);
            scores.add(examples.outcomes[index], &z);
        }
        scores
    }

    fn metric(&self, scores: &Scores) -> Metric {
        let of = |name, value, larger_is_better, best| Metric { name, value, larger_is_better, best };
        match self.figure {
            Figure::Accuracy => Metric::accuracy(scores.accuracy()),
            Figure::LogLoss => of("log_loss", scores.log_loss(), false, Some(0.0)),
            Figure::Auc => of("auc", scores.auc(), true, Some(1.0)),
            Figure::Rmse => of("rmse", scores.rmse(), false, Some(0.0)),
            Figure::R2 => of("r2", scores.r2(), true, Some(1.0)),
        }
    }
}

impl Application for Generalised {
    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new("weights", self.rows() as u32, self.loss.outputs() as u32)]
    }

    fn initialise(&self, _table: TableId, _row: u32, _out: &mut [f32]) {
        // The objective is convex: zeros are as good a start as any.
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        let keys = &self.data.keys;
        partition(self.partition, Attributes { keys, labels: keys }, parts, self.seed)
    }

    /// # Panics
    ///
    /// If an example's features were not kept.
    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_> {
        if let Some(slice) = &self.data.slice {
            let is_kept = |example| slice.kept.binary_search(example).is_ok();
            assert!(examples.iter().all(is_kept), "a worker trains on its own slice");
        }
        Box::new(GeneralisedLearner::new(self, examples, share, seed))
    }

    /// Of the training data, what was kept is scored.
    fn evaluate(&self, model: &Model) -> Evaluation {
        let weights = self.gathered(model);
        let train = &self.data.train;
        let scores = match &self.data.slice {
            None => self.score(&weights, train, &mut (0..train.outcomes.len())),
            Some(Slice { kept, .. }) => {
                self.score(&weights, train, &mut kept.iter().map(|&index| index as usize))
            }
        };
        let objective = scores.mean_loss() + self.penalty(&weights);
        let metric = match &self.data.test {
            Some(test) => self.metric(&self.score(&weights, test, &mut (0..test.outcomes.len()))),
            None => self.metric(&scores),
        };
        Evaluation { objective, metric }
    }

    fn judge(&self, model: &Model) -> Option<Judgement> {
        let weights = self.gathered(model);
        let test = self.data.test.as_ref()?;
        let scores = self.score(&weights, test, &mut (0..test.outcomes.len()));
        let objective = scores.mean_loss() + self.penalty(&weights);
        let evaluation = Evaluation { objective, metric: self.metric(&scores) };
        Some(Judgement { evaluation, examples: test.outcomes.len() })
    }

    /// Of quantities: the target and what is predicted. Of classes: the label and the likeliest
    /// one, then the probability of each; of one class against all others, the label and the
    /// probability of that one.
    fn predicted(&self) -> Vec<String> {
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        match (&self.data.labels, self.loss) {
            (None, _) => named(&["target", "predicted"]),
            (Some(labels), Loss::Binary { positive }) if labels.len() != 2 => {
                let positive = labels.get(positive as usize).map(ToString::to_string).unwrap_or_default();
                vec!["label".to_owned(), format!("p({positive})")]
            }
            (Some(labels), _) => super::classes::predicted(labels),
        }
    }

    fn predicted_names(&self, column: usize) -> Option<&Names> {
        let labels = self.data.labels.as_ref()?;
        let is_one_of_many = matches!(self.loss, Loss::Binary { .. }) && labels.len() != 2;
        (column < if is_one_of_many { 1 } else { 2 }).then_some(labels)
    }

    fn predict(&self, model: &Model, each: &mut dyn FnMut(&[f64])) {
        let weights = self.gathered(model);
        let examples = self.data.test.as_ref().unwrap_or(&self.data.train);
        let mut z = vec![0.0; self.loss.outputs()];
        let mut figures = Vec::new();
        let labels = self.data.labels.as_ref().map_or(0, Names::len);
        for (index, &outcome) in examples.outcomes.iter().enumerate() {
            self.outputs(&weights, examples.rows.row(index), &mut z);
            figures.clear();
            figures.push(f64::from(outcome));
            match self.loss {
                Loss::Squared => figures.push(z[0]),
                Loss::Binary { .. } if labels != 2 => figures.push(sigmoid(z[0])),
                Loss::Binary { positive } => {
                    let mut both = [1.0 - sigmoid(z[0]); 2];
                    both[positive as usize % 2] = sigmoid(z[0]);
                    figures.push(f64::from(u8::from(both[1] > both[0])));
                    figures.extend(both);
                }
                Loss::OneAgainstRest { .. } => {
                    figures.push(scores::largest(&z) as f64);
                    let sum: f64 = z.iter().map(|&z| sigmoid(z)).sum();
                    figures.extend(z.iter().map(|&z| sigmoid(z) / sum));
                }
            }
            each(&figures);
        }
    }

    fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        Some(Arc::new(self.data.vocabulary.clone()))
    }

    fn remarks(&self) -> Vec<String> {
        self.data.remarks.clone()
    }
}
