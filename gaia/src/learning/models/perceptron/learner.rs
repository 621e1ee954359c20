//! One worker's mini-batch SGD on a private copy of the network.

use super::Perceptron;
use super::network::{Gradient, Passes};
use crate::learning::application::{Learner, RowSet, StepError, Tables, Work};
use crate::learning::data::Epochs;

pub(super) struct PerceptronLearner<'a> {
    application: &'a Perceptron,
    share: f32,
    epochs: Epochs,
    /// Examples in a mini-batch.
    batch: usize,
    /// The examples of this clock; shape `[batches * batch]`.
    drawn: Vec<u32>,
    /// As read at the start of the clock; by table, as `Network` lays them out.
    before: Vec<Vec<f32>>,
    /// As they are now.
    values: Vec<Vec<f32>>,
    gradient: Gradient,
    passes: Passes,
}

impl<'a> PerceptronLearner<'a> {
    pub(super) fn new(application: &'a Perceptron, examples: Vec<u32>, share: f64, seed: u64) -> Self {
        let network = &application.network;
        Self {
            share: share as f32,
            batch: (application.settings.batch as usize).clamp(1, examples.len().max(1)),
            epochs: Epochs::new(examples, seed),
            drawn: Vec::new(),
            before: network.zeros(),
            values: network.zeros(),
            gradient: Gradient::new(network),
            passes: Passes::default(),
            application,
        }
    }
}

impl Learner for PerceptronLearner<'_> {
    fn rows(&mut self, clock: u32, rows: &mut RowSet) {
        let count = self.batch * self.application.settings.batches as usize;
        self.drawn.clear();
        self.epochs.take(u64::from(clock).saturating_mul(count as u64), count, &mut self.drawn);
        rows.insert_tables(&self.application.network.tables());
    }

    fn step(&mut self, clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        let Perceptron { network, settings, data, .. } = self.application;
        network.load(|table| tables.rows(table), &mut self.before);
        self.values.clone_from(&self.before);
        let rate = settings.learning_rate.at(clock) as f32;
        for batch in self.drawn.chunks(self.batch) {
            for piece in batch.chunks(network.piece()) {
                network.forward(&self.values, &data.train, piece, &mut self.passes);
                network.backward(&self.values, &data.train, piece, &mut self.passes, &mut self.gradient);
            }
            network.descend(&mut self.values, &mut self.gradient, batch.len(), rate, settings.l2 as f32);
        }
        let values = [&self.before, &self.values].map(Vec::as_slice);
        network.write_changes(values, self.share, tables);
        Ok(Work::examples(self.drawn.len() as u64))
    }
}
