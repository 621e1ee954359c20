//! One worker's proximal mini-batch SGD on a private copy of the weights.
//!
//! The copy is in f64: a step down a flat direction may be smaller than what an f32 of the weight's
//! size can tell, and a thousand such steps in a clock are not lost.

use super::{Generalised, WEIGHTS};
use crate::learning::application::{Learner, RowSet, StepError, Tables, Work};
use crate::learning::data::Epochs;
use crate::learning::models::local_rows::LocalRows;

/// Keeps AdaGrad from dividing by zero; far below any gradient that matters.
const ADAGRAD_EPSILON: f64 = 1e-8;

pub(super) struct GeneralisedLearner<'a> {
    application: &'a Generalised,
    share: f64,
    epochs: Epochs,
    /// Examples in a mini-batch.
    batch: usize,
    /// The examples of this clock; shape `[batches * batch]`.
    drawn: Vec<u32>,
    /// Example `i` of `drawn` has its non-zeros at `offsets[i]..offsets[i + 1]` of `slots`.
    offsets: Vec<usize>,
    /// The slot of each non-zero of this clock's examples.
    slots: Vec<u32>,
    /// The rows as read at the start of the clock. Slot 0 is the intercept, where there is one.
    read: LocalRows,
    /// As they are now; shape `[slots, outputs]`.
    weights: Vec<f64>,
    gradient: Gradient,
    /// Sums of squared gradients by row of the table, where AdaGrad is on; shape `[rows, outputs]`.
    squares: Option<Vec<f64>>,
}

/// The summed gradient of one mini-batch.
#[derive(Default)]
struct Gradient {
    /// Shape `[slots, outputs]`; zero except in touched slots.
    sums: Vec<f64>,
    /// In how many examples of the batch a slot is non-zero; shape `[slots]`.
    counts: Vec<u32>,
    /// Slots with a count, in the order of first touch.
    touched: Vec<u32>,
    /// The outputs for one example, then the loss's derivatives by them; shape `[outputs]`.
    error: Vec<f64>,
}

impl<'a> GeneralisedLearner<'a> {
    pub(super) fn new(application: &'a Generalised, examples: Vec<u32>, share: f64, seed: u64) -> Self {
        let (rows, outputs) = (application.rows(), application.loss.outputs());
        let descent = &application.descent;
        Self {
            share,
            batch: (descent.batch as usize).clamp(1, examples.len().max(1)),
            epochs: Epochs::new(examples, seed),
            drawn: Vec::new(),
            offsets: Vec::new(),
            slots: Vec::new(),
            read: LocalRows::new(WEIGHTS, rows, outputs),
            weights: Vec::new(),
            gradient: Gradient { error: vec![0.0; outputs], ..Gradient::default() },
            squares: descent.is_adaptive().then(|| vec![0.0; rows * outputs]),
            application,
        }
    }

    /// Sums the gradient over examples `batch` of this clock.
    fn add_gradients(&mut self, batch: std::ops::Range<usize>) {
        let Generalised { data, loss, descent, .. } = self.application;
        let Gradient { sums, counts, touched, error } = &mut self.gradient;
        if descent.intercept {
            touched.push(0);
            counts[0] = batch.len() as u32;
        }
        for index in batch {
            let example = self.drawn[index] as usize;
            let slots = &self.slots[self.offsets[index]..self.offsets[index + 1]];
            let values = data.train.rows.row(example).values;
            error.fill(0.0);
            if descent.intercept {
                error.iter_mut().zip(&self.weights).for_each(|(error, weight)| *error = *weight);
            }
            super::add_product(slots, values, &self.weights, error);
            loss.derive(data.train.outcomes[example], error);
            if descent.intercept {
                error.iter().zip(&mut *sums).for_each(|(error, sum)| *sum += error);
            }
            for (&slot, &value) in slots.iter().zip(values) {
                let sums = &mut sums[slot as usize * error.len()..][..error.len()];
                sums.iter_mut().zip(&*error).for_each(|(sum, error)| *sum += f64::from(value) * error);
                let count = &mut counts[slot as usize];
                if *count == 0 {
                    touched.push(slot);
                }
                *count += 1;
            }
        }
    }

    /// Takes a proximal step down the gradient of `examples` examples and clears it.
    fn descend(&mut self, rate: f64, examples: usize) {
        let descent = &self.application.descent;
        let Gradient { sums, counts, touched, error } = &mut self.gradient;
        let (outputs, mean) = (error.len(), 1.0 / examples as f64);
        for slot in touched.drain(..) {
            let row = self.read.rows()[slot as usize] as usize;
            let weights = &mut self.weights[slot as usize * outputs..][..outputs];
            let gradient = &mut sums[slot as usize * outputs..][..outputs];
            // The intercept's row is beyond these: it has no penalty.
            let weight = self.application.spread.get(row).copied().unwrap_or(0.0);
            let weight = weight * f64::from(counts[slot as usize]) * mean;
            let (l1, l2) = (descent.l1 * weight, descent.l2 * weight);
            for (output, (w, g)) in weights.iter_mut().zip(&*gradient).enumerate() {
                let (g, mut rate) = (mean * g, rate);
                if let Some(squares) = &mut self.squares {
                    let square = &mut squares[row * outputs + output];
                    *square += g * g;
                    rate /= square.sqrt() + ADAGRAD_EPSILON;
                }
                *w = soft(*w - rate * g, rate * l1) / (1.0 + rate * l2);
            }
            gradient.fill(0.0);
            counts[slot as usize] = 0;
        }
    }

    /// Adds to the table what has changed, times the worker's share.
    fn add_changes(&self, tables: &mut dyn Tables) {
        let outputs = self.gradient.error.len();
        let changes = self.weights.chunks_exact(outputs).zip(self.read.values().chunks_exact(outputs));
        for (deltas, (now, before)) in tables.deltas(WEIGHTS).rows_mut().into_iter().zip(changes) {
            for (delta, (now, before)) in deltas.into_iter().zip(now.iter().zip(before)) {
                *delta = (self.share * (now - f64::from(*before))) as f32;
            }
        }
    }
}

/// The soft threshold: `w` brought towards zero by `by`, and no further (the proximal map of `by
/// |w|`).
pub(super) fn soft(w: f64, by: f64) -> f64 {
    if w > by {
        w - by
    } else if w < -by {
        w + by
    } else {
        0.0
    }
}

impl Learner for GeneralisedLearner<'_> {
    fn rows(&mut self, clock: u32, rows: &mut RowSet) {
        let Generalised { data, descent, .. } = self.application;
        let count = self.batch * descent.batches as usize;
        self.drawn.clear();
        self.epochs.take(u64::from(clock).saturating_mul(count as u64), count, &mut self.drawn);

        self.read.clear();
        if descent.intercept {
            self.read.claim(data.features);
        }
        self.slots.clear();
        self.offsets.clear();
        self.offsets.push(0);
        for &example in &self.drawn {
            let features = data.train.rows.row(example as usize).features;
            self.slots.extend(features.iter().map(|&feature| self.read.claim(feature)));
            self.offsets.push(self.slots.len());
        }
        self.read.declare(rows);
    }

    fn step(&mut self, clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        self.read.load(tables);
        self.weights.clear();
        self.weights.extend(self.read.values().iter().map(|&weight| f64::from(weight)));
        self.gradient.sums.resize(self.weights.len(), 0.0);
        self.gradient.counts.resize(self.read.rows().len(), 0);
        let rate = self.application.descent.learning_rate.at(clock);
        for start in (0..self.drawn.len()).step_by(self.batch) {
            let end = (start + self.batch).min(self.drawn.len());
            self.add_gradients(start..end);
            self.descend(rate, end - start);
        }
        self.add_changes(tables);
        Ok(Work::examples(self.drawn.len() as u64))
    }
}
