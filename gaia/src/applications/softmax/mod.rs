//! Softmax (multinomial logistic) regression.
//!
//! The objective over examples `x` of class `y` is `mean(-ln softmax(x W + b)[y]) + (l2 / 2) |W|^2`; the intercept
//! `b` is not penalised. One table, `weights`, has a row for each feature and the intercept as its last row, and a
//! column for each class: a sparse example touches the rows of its non-zero features and no others.
//!
//! The penalty would spoil that, since its gradient touches every row at every step. It is therefore spread over the
//! examples in which a feature occurs (Recht et al., Hogwild!, NIPS 2011, section 2): with `n_j` of `n` examples
//! having feature `j`, example `x` carries `(l2 / 2) sum_{j in x} (n / n_j) |w_j|^2`. The mean over all examples is
//! the same objective, and a mini-batch stays sparse. A feature that never occurs keeps its initial weight, zero,
//! which is its optimum.

mod learner;

use std::collections::BTreeSet;
use std::sync::Arc;

use datacenter::{TableId, TableSpec};

use self::learner::SoftmaxLearner;
use super::classes::{self, Score};
use super::lanes::{padded, sparse_product};
use crate::application::{Application, Evaluation, Judgement, Learner, Model};
use crate::data::partition::{Attributes, partition};
use crate::data::{Classification, Examples, Names, SparseRow, Vocabulary};
use crate::job::{Partition, SoftmaxSettings};

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
    fn gathered(&self, model: &dyn Model) -> Vec<f32> {
        let stride = padded(self.classes());
        let mut weights = vec![0.0; (self.data.features as usize + 1) * stride];
        for (row, out) in (0..).zip(weights.chunks_exact_mut(stride)) {
            out[..self.classes()].copy_from_slice(model.row(WEIGHTS, row));
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
        vec![TableSpec { name: "weights".to_owned(), rows: self.data.features + 1, width }]
    }

    fn initialise(&self, _table: TableId, _row: u32, _out: &mut [f32]) {
        // The objective is convex: zeros are as good a start as any.
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        let classes = &self.data.train.classes;
        partition(self.partition, Attributes { keys: classes, labels: classes }, parts, self.seed)
    }

    /// # Panics
    ///
    /// If an example's features were not kept.
    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_> {
        classes::assert_kept(&self.data, &examples);
        Box::new(SoftmaxLearner::new(self, examples, share, seed))
    }

    /// Of the training data, what was kept is scored.
    fn evaluate(&self, model: &dyn Model) -> Evaluation {
        let weights = self.gathered(model);
        let penalty = self.penalty(&weights);
        classes::evaluate(&self.data, penalty, |examples, indexes| self.score(&weights, examples, indexes))
    }

    fn judge(&self, model: &dyn Model) -> Option<Judgement> {
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
    fn predict(&self, model: &dyn Model, each: &mut dyn FnMut(&[f64])) {
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
<<<<<<< HEAD
        let labels = self.data.labels.all();
        let classes = &self.data.train.classes;
        match (labels.first(), labels.last()) {
            (Some(Name::Number(first)), Some(Name::Number(last)))
                if is_quantity((*first, *last), labels.len(), classes) =>
            {
                vec![format!(
                    "the labels are {} different numbers from {first} to {last}, and each is a class of its own, no \
                     nearer to the next than to any other; for a quantity, such as a year or a price, this is not the model",
                    labels.len()
                )]
            }
            _ => Vec::new(),
        }
    }
}

/// Whether labels look like measurements, and not like names of classes: of so many different numbers from the first to the
/// last, which examples have these.
///
/// Two things tell. A class has examples to learn it from, and a quantity has nearly as many values as it was measured
/// times. And whoever numbers classes counts them, from 0 or 1, while years, prices and counts of people lie far from zero
/// or far apart.
fn is_quantity((first, last): (i64, i64), labels: usize, examples: &[u32]) -> bool {
    /// So few numbers may always be classes: ten digits, or the parties of a parliament.
    const FEW: usize = 15;
    /// So many are no numbering that somebody thought of, where they lie wide.
    const MANY: usize = 50;
    /// A class with fewer examples is hardly learnt.
    const EXAMPLES_OF_A_CLASS: usize = 4;
    /// Codes leave gaps, but do not use one number in so many.
    const WIDE: u64 = 10;
    // Labels may be declared of which this region has few.
    let found = examples.iter().collect::<BTreeSet<_>>().len();
    let is_rare = found >= FEW && examples.len() < found * EXAMPLES_OF_A_CLASS;
    let is_wide = first.unsigned_abs() > labels as u64 || last.abs_diff(first) > labels as u64 * WIDE;
    is_rare || (labels >= MANY && is_wide)
}

fn evaluation(objective: f64, correct: usize, judged: usize) -> Evaluation {
    let accuracy = correct as f64 / judged as f64;
    Evaluation {
        objective,
        metric: Metric { name: "accuracy", value: accuracy, larger_is_better: true, best: Some(1.0) },
    }
}

/// The place of the largest; the first of equals.
fn largest(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, c| if logits[c] > logits[best] { c } else { best })
}

/// Turns logits into probabilities and returns `ln(sum(exp(logits)))`; shape `[classes]`.
fn softmax(logits: &mut [f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f32;
    for logit in &mut *logits {
        *logit = libm::expf(*logit - largest);
        sum += *logit;
    }
    logits.iter_mut().for_each(|p| *p /= sum);
    f64::from(largest) + libm::log(f64::from(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_large_logits_does_not_overflow() {
        let mut logits = [1000.0, 1000.0, -1000.0];
        let log_sum = softmax(&mut logits);
        assert_eq!(logits, [0.5, 0.5, 0.0]);
        assert!((log_sum - 1000.0 - std::f64::consts::LN_2).abs() < 1e-6);
    }

    #[test]
    fn quantities_are_told_from_classes() {
        // First and last label, how many there are, and examples.
        let quantities = [
            (1966, 2010, 45, 60, "years among few examples"),
            (1922, 2011, 89, 500_000, "years among many"),
            (100, 4_999, 90, 10_000, "prices"),
            (-40, 45, 60, 120, "degrees"),
            (0, 19, 20, 30, "one example of most"),
        ];
        let classes = [
            (0, 99, 100, 10_000, "a hundred classes"),
            (1, 100, 100, 10_000, "counted from one"),
            (0, 9, 10, 20, "digits of a small file"),
            (-1, 1, 2, 3, "signs"),
            (0, 999, 1000, 50_000, "a thousand classes"),
            (1, 80, 60, 6_000, "classes with gaps"),
            (101, 126, 26, 2_600, "a few codes"),
        ];
        let is_quantity = |(first, last, labels, examples, _): (i64, i64, u32, u32, &str)| {
            let examples: Vec<u32> = (0..examples).map(|example| example % labels).collect();
            super::is_quantity((first, last), labels as usize, &examples)
        };
        for shape in quantities {
            assert!(is_quantity(shape), "{}", shape.4);
        }
        for shape in classes {
            assert!(!is_quantity(shape), "{}", shape.4);
        }
        // Of many declared classes a region may have one.
        assert!(!super::is_quantity((0, 999), 1000, &[7; 20]));
        assert!(!super::is_quantity((0, 999), 1000, &[]), "nothing to train on");
=======
        classes::remarks(&self.data.labels, &self.data.train.classes)
>>>>>>> a4e255f (Keep apart what all models of classes share: another one is to have the same scores, predictions and remarks as softmax)
    }
}
