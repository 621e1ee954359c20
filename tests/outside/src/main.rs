//! `gaia` with one more kind of model: a perceptron of two layers, `relu(x W1 + b1) W2 + b2`.

use gaia::learning::application::*;
use gaia::learning::data::{Classification, Epochs, Partition, normal_row};
use gaia::learning::linalg::dot;
use gaia::ndarray::{Array2, ArrayView2, Axis};
use gaia::settings::Section;
use serde::{Deserialize, Serialize};

const W1: TableId = TableId(0);
const B1: TableId = TableId(1);
const W2: TableId = TableId(2);
const B2: TableId = TableId(3);

/// What stands under `[job.model]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Settings {
    hidden: u32,
    batch: u32,
    learning_rate: f32,
}

struct TwoLayersKind;
impl ModelKind for TwoLayersKind {
    type Settings = Settings;
    fn name(&self) -> &'static str {
        "two-layers"
    }
    fn settings(&self, section: &Section<'_>) -> Option<Settings> {
        section.deserialize()
    }
    fn training(&self, set: &Settings) -> Training {
        Training::of_mini_batches(set.batch, 1)
    }
    fn build(&self, set: &Settings, input: &Input<'_>) -> Result<Box<dyn Application>, BuildError> {
        let (settings, data, seed) = (set.clone(), input.classification()?, input.seed());
        Ok(Box::new(TwoLayers { settings, data, seed, partition: input.partition() }))
    }
}

struct TwoLayers {
    settings: Settings,
    data: Classification,
    partition: Partition,
    seed: u64,
}

/// The hidden layer, and the probabilities of the classes.
fn forward(x: ArrayView2<f32>, [w1, b1, w2, b2]: [ArrayView2<f32>; 4]) -> (Array2<f32>, Array2<f32>) {
    let hidden = (dot(x, w1) + b1).mapv_into(|z| z.max(0.0));
    let logits = dot(hidden.view(), w2) + b2;
    let largest = logits.fold_axis(Axis(1), f32::MIN, |most, z| z.max(*most)).insert_axis(Axis(1));
    let exp = (logits - largest).mapv_into(libm::expf);
    let sums = exp.sum_axis(Axis(1)).insert_axis(Axis(1));
    (hidden, exp / sums)
}

impl Application for TwoLayers {
    fn tables(&self) -> Vec<TableSpec> {
        let (features, classes) = (self.data.features, self.data.labels.len() as u32);
        let hidden = self.settings.hidden;
        let shapes =
            [("w1", features, hidden), ("b1", 1, hidden), ("w2", hidden, classes), ("b2", 1, classes)];
        shapes.map(|(name, rows, width)| TableSpec::new(name, rows, width)).into()
    }

    fn initialise(&self, table: TableId, row: u32, out: &mut [f32]) {
        if table == W1 || table == W2 {
            let inputs = self.tables()[table.index()].rows;
            normal_row(self.seed, table, row, (2.0 / f64::from(inputs)).sqrt(), out);
        }
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        self.data.train.deal(self.partition, parts, self.seed)
    }

    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_> {
        Box::new(Sgd { model: self, epochs: Epochs::new(examples, seed), share: share as f32, batch: vec![] })
    }

    fn evaluate(&self, model: &Model) -> Evaluation {
        Evaluation::of_classes(&self.data, 0.0, |examples, which| {
            let x = examples.dense(which, self.data.features);
            forward(x.view(), [W1, B1, W2, B2].map(|table| model.table(table))).1
        })
    }
}

struct Sgd<'a> {
    model: &'a TwoLayers,
    epochs: Epochs,
    share: f32,
    batch: Vec<u32>,
}

impl Learner for Sgd<'_> {
    fn rows(&mut self, clock: u32, rows: &mut RowSet) {
        self.batch = self.epochs.batch(clock, self.model.settings.batch as usize);
        rows.insert_tables(&self.model.tables());
    }

    fn step(&mut self, _clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        let TwoLayers { settings, data, .. } = self.model;
        let (x, y) = data.matrices(&self.batch);
        let step = settings.learning_rate * self.share / x.nrows().max(1) as f32;
        let (hidden, p) = forward(x.view(), [W1, B1, W2, B2].map(|table| tables.rows(table)));
        let error = (y - p) * step;
        let below = dot(error.view(), tables.rows(W2).t()) * hidden.mapv(|h| f32::from(h > 0.0));
        tables.scatter_add(W1, dot(x.t(), below.view()).view());
        tables.scatter_add(B1, below.sum_axis(Axis(0)).insert_axis(Axis(0)).view());
        tables.scatter_add(W2, dot(hidden.t(), error.view()).view());
        tables.scatter_add(B2, error.sum_axis(Axis(0)).insert_axis(Axis(0)).view());
        Ok(Work::examples(x.nrows() as u64))
    }
}

fn main() -> std::process::ExitCode {
    gaia::Program::new().with(TwoLayersKind).main()
}
