//! One worker's mini-batch SGD on a private copy of the weights.

use super::{Softmax, WEIGHTS};
use crate::learning::application::{Learner, RowSet, StepError, Tables, Work};
use crate::learning::data::Epochs;
use crate::learning::models::classes::softmax;
use crate::learning::models::lanes::{add_outer, axpy, padded, sparse_product};
use crate::learning::models::local_rows::LocalRows;

/// Keeps AdaGrad from dividing by zero; far below any gradient that matters.
const ADAGRAD_EPSILON: f32 = 1e-8;

pub(super) struct SoftmaxLearner<'a> {
    application: &'a Softmax,
    share: f32,
    epochs: Epochs,
    /// Examples in a mini-batch.
    batch: usize,
    /// The examples of this clock; shape `[batches * batch]`.
    drawn: Vec<u32>,
    /// Example `i` of `drawn` has its non-zeros at `offsets[i]..offsets[i + 1]` of `slots`.
    offsets: Vec<usize>,
    /// The slot in `local` of each non-zero of this clock's examples.
    slots: Vec<u32>,
    /// Slot 0 is the intercept.
    local: LocalRows,
    gradient: Gradient,
    /// Sums of squared gradients by row of the table, where AdaGrad is on; shape `[features + 1,
    /// stride]`.
    squares: Option<Vec<f32>>,
}

/// The summed gradient of one mini-batch.
#[derive(Default)]
struct Gradient {
    /// Shape `[slots, stride]`; zero except in touched slots.
    sums: Vec<f32>,
    /// In how many examples of the batch a slot is non-zero; shape `[slots]`.
    counts: Vec<u32>,
    /// Slots with a count, in the order of first touch.
    touched: Vec<u32>,
    /// `softmax(x W + b) - onehot(y)` of one example; shape `[stride]`.
    error: Vec<f32>,
}

impl<'a> SoftmaxLearner<'a> {
    pub(super) fn new(application: &'a Softmax, examples: Vec<u32>, share: f64, seed: u64) -> Self {
        let rows = application.data.features as usize + 1;
        let stride = padded(application.classes());
        Self {
            share: share as f32,
            batch: (application.settings.batch as usize).clamp(1, examples.len().max(1)),
            epochs: Epochs::new(examples, seed),
            drawn: Vec::new(),
            offsets: Vec::new(),
            slots: Vec::new(),
            local: LocalRows::new(WEIGHTS, rows, stride),
            gradient: Gradient { error: vec![0.0; stride], ..Gradient::default() },
            squares: application.settings.adagrad.then(|| vec![0.0; rows * stride]),
            application,
        }
    }

    /// Sums the gradient over examples `batch` of this clock.
    fn add_gradients(&mut self, batch: std::ops::Range<usize>) {
        let examples = &self.application.data.train;
        let Gradient { sums, counts, touched, error } = &mut self.gradient;
        let (weights, stride) = (self.local.values(), error.len());
        touched.push(0);
        counts[0] = batch.len() as u32;
        for index in batch {
            let example = self.drawn[index] as usize;
            let slots = &self.slots[self.offsets[index]..self.offsets[index + 1]];
            let values = examples.rows.row(example).values;

            error.copy_from_slice(&weights[..stride]);
            sparse_product(slots, values, weights, error);
            softmax(&mut error[..self.application.classes()]);
            error[examples.classes[example] as usize] -= 1.0;

            axpy(1.0, error, &mut sums[..stride]);
            add_outer(slots, values, error, sums);
            for &slot in slots {
                let count = &mut counts[slot as usize];
                if *count == 0 {
                    touched.push(slot);
                }
                *count += 1;
            }
        }
    }

    /// Takes a step down the gradient of `examples` examples and clears it.
    fn descend(&mut self, rate: f32, examples: usize) {
        let Gradient { sums, counts, touched, error } = &mut self.gradient;
        let (stride, mean) = (error.len(), 1.0 / examples as f32);
        for slot in touched.drain(..) {
            let row = self.local.rows()[slot as usize] as usize;
            let weights = self.local.row_mut(slot);
            let gradient = &mut sums[slot as usize * stride..][..stride];
            // The intercept's row is beyond the penalties: it has none.
            let penalty = self.application.penalties.get(row).copied().unwrap_or(0.0);
            let penalty = penalty * counts[slot as usize] as f32 * mean;
            match &mut self.squares {
                None => {
                    // The penalty's step is implicit: of a rare feature it may be too large for a
                    // plain one.
                    let shrink = 1.0 / (1.0 + rate * penalty);
                    for (w, g) in weights.iter_mut().zip(&*gradient) {
                        *w = (*w - rate * mean * g) * shrink;
                    }
                }
                Some(squares) => {
                    let squares = &mut squares[row * stride..][..stride];
                    for ((w, g), square) in weights.iter_mut().zip(&*gradient).zip(squares) {
                        let g = mean * g + penalty * *w;
                        *square += g * g;
                        *w -= rate * g / (square.sqrt() + ADAGRAD_EPSILON);
                    }
                }
            }
            gradient.fill(0.0);
            counts[slot as usize] = 0;
        }
    }
}

impl Learner for SoftmaxLearner<'_> {
    fn rows(&mut self, clock: u32, rows: &mut RowSet) {
        let count = self.batch * self.application.settings.batches as usize;
        self.drawn.clear();
        self.epochs.take(u64::from(clock).saturating_mul(count as u64), count, &mut self.drawn);

        self.local.clear();
        self.local.claim(self.application.data.features);
        self.slots.clear();
        self.offsets.clear();
        self.offsets.push(0);
        for &example in &self.drawn {
            let features = self.application.data.train.rows.row(example as usize).features;
            self.slots.extend(features.iter().map(|&feature| self.local.claim(feature)));
            self.offsets.push(self.slots.len());
        }
        self.local.declare(rows);
    }

    fn step(&mut self, clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        self.local.load(tables);
        self.gradient.sums.resize(self.local.values().len(), 0.0);
        self.gradient.counts.resize(self.local.rows().len(), 0);
        let rate = self.application.settings.learning_rate.at(clock) as f32;
        for start in (0..self.drawn.len()).step_by(self.batch) {
            let end = (start + self.batch).min(self.drawn.len());
            self.add_gradients(start..end);
            self.descend(rate, end - start);
        }
        let share = self.share;
        self.local.add_changes(|_| share, tables);
        Ok(Work::examples(self.drawn.len() as u64))
    }
}
