//! What a learner steps along is the gradient of what `evaluate` scores: checked by finite
//! differences.

use datacenter::TableId;

use super::*;
use crate::learning::application::{Learner, Model, Work, Workspace};
use crate::learning::data::ratings::{RatingList, Ratings};
use crate::learning::data::{Classification, Examples, Name, Purpose, SparseRows, gaussian, stream};

/// A small model held row by row.
#[derive(Clone)]
pub(super) struct Rows(pub(super) Vec<Vec<Vec<f32>>>);

impl Rows {
    fn random(application: &dyn Application, deviation: f64) -> Self {
        let mut random = stream(5, Purpose::InitialRow, 0);
        let mut row = |width: u32| (0..width).map(|_| (deviation * gaussian(&mut random)) as f32).collect();
        let tables = application.tables().into_iter();
        Self(tables.map(|t| (0..t.rows).map(|_| row(t.width)).collect()).collect())
    }

    pub(super) fn model(&self, application: &dyn Application) -> Model {
        Model::of_tables(&application.tables(), self.0.iter().map(|rows| rows.concat()))
    }

    /// Has `learner` train on these values.
    pub(super) fn train(
        &mut self,
        application: &dyn Application,
        learner: &mut dyn Learner,
        clock: u32,
    ) -> Work {
        let mut model = self.model(application);
        let mut workspace = Workspace::new(self.0.len());
        workspace.begin(learner, clock);
        let work = workspace.step(learner, clock, &mut model).expect("the step succeeds");
        for (table, rows) in (0..).map(TableId).zip(&mut self.0) {
            for (row, values) in (0..).zip(rows) {
                values.copy_from_slice(model.row(table, row));
            }
        }
        work.expect("a step has all rows")
    }

    /// One step of one worker that has all examples; the changes of all elements.
    fn step(&self, application: &dyn Application) -> Self {
        let mut after = self.clone();
        let examples = application.partition(1).remove(0);
        after.train(application, &mut *application.learner(examples, 1.0, 3), 0);
        let pairs = after.0.iter_mut().flatten().flatten().zip(self.0.iter().flatten().flatten());
        pairs.for_each(|(after, before)| *after -= before);
        after
    }

    /// The central difference of the objective by every element.
    fn gradient(&self, application: &dyn Application) -> Self {
        const STEP: f32 = 1.0 / 128.0;
        let mut gradient = self.clone();
        for (table, rows) in self.0.iter().enumerate() {
            for (row, values) in rows.iter().enumerate() {
                for column in 0..values.len() {
                    let objective = |sign: f32| {
                        let mut moved = self.clone();
                        moved.0[table][row][column] += sign * STEP;
                        application.evaluate(&moved.model(application)).objective
                    };
                    let difference = (objective(1.0) - objective(-1.0)) / (2.0 * f64::from(STEP));
                    gradient.0[table][row][column] = difference as f32;
                }
            }
        }
        gradient
    }

    /// Panics unless every element is `factor` times that of `other`, up to `tolerance` of the
    /// largest.
    fn assert_multiple(&self, factor: f32, other: &Self, tolerance: f32) {
        let largest = other.0.iter().flatten().flatten().fold(0.0f32, |most, x| most.max(x.abs()));
        assert!(largest > 0.01, "a vanishing gradient proves nothing");
        for (mine, theirs) in self.0.iter().flatten().flatten().zip(other.0.iter().flatten().flatten()) {
            let difference = (mine / factor - theirs).abs();
            assert!(difference < tolerance * largest, "{} against {theirs}", mine / factor);
        }
    }
}

fn constant(initial: f64) -> LearningRate {
    LearningRate { initial, decay: Decay::Constant }
}

/// Five classes of seven sparse features; the last feature never occurs.
pub(super) fn examples() -> Classification {
    let mut train = Examples { rows: SparseRows::default(), classes: Vec::new() };
    for example in 0..40u32 {
        let feature = |f: u32| (f, ((example * 7 + f * 3) % 11) as f32 / 5.0 - 1.0);
        train.rows.push((0..6).filter(|f| (example + f) % 3 > 0 || *f == 2).map(feature));
        train.classes.push(example * example % 5);
    }
    Classification {
        train,
        test: None,
        features: 7,
        labels: (0..5).map(Name::Number).collect(),
        feature_names: None,
        scaling: None,
        slice: None,
    }
}

#[test]
fn a_full_batch_of_softmax_steps_down_the_gradient() {
    let rate = 1e-2;
    let settings =
        SoftmaxSettings { l2: 0.1, batch: 1000, batches: 1, learning_rate: constant(rate), adagrad: false };
    let application = Softmax::new(settings, examples(), Partition::Random, 1);
    let mut model = Rows::random(&application, 0.5);
    // The weights of a feature without examples are zero from start to end.
    model.0[0][6].fill(0.0);
    model.step(&application).assert_multiple(-rate as f32, &model.gradient(&application), 5e-3);
}

#[test]
fn small_steps_of_factorisation_add_up_to_half_the_gradient() {
    let mut train = RatingList::default();
    (0..60u32).for_each(|n| train.push(n * n % 7, n % 5, 1.0 + (n * 11 % 9) as f32 / 2.0));
    let count = train.len() as f32;
    for biases in [false, true] {
        let data = Ratings {
            train: train.clone(),
            test: None,
            users: 7,
            items: 5,
            vocabulary: None,
            repeated: 0,
            shared_rows: None,
        };
        let rate = 1e-4;
        let settings = FactorisationSettings {
            rank: 3,
            biases,
            l2: 0.3,
            bias_l2: 0.2,
            learning_rate: constant(rate),
            adagrad: false,
            clocks_per_epoch: 1,
            initial_deviation: 0.1,
        };
        let application = Factorisation::new(settings, data, Partition::Random, 1);
        let model = Rows::random(&application, 0.5);
        let factor = -rate as f32 * count / 2.0;
        model.step(&application).assert_multiple(factor, &model.gradient(&application), 1e-2);
    }
}
