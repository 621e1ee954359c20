//! Linear regression in a job's file.

use serde::Serialize;

use super::logistic::descent;
use super::loss::Loss;
use super::{Data, Descent, Figure, Generalised, Optimiser, Outcomes};
use crate::learning::LearningRate;
use crate::learning::application::{Application, BuildError, ClockWork, Input, ModelKind, Training};
use crate::learning::data::{Observations, Outcome, Samples, check_size, tenths};
use crate::settings::Section;
use crate::settings::kind::choice;

/// By which figure a regression is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum QuantityMetric {
    /// The root of the mean squared error, in units of the quantity.
    #[default]
    Rmse,
    /// The coefficient of determination: one minus the mean squared error over the variance of the
    /// quantity among the examples that are judged by.
    R2,
}

/// Linear regression: ridge, lasso and elastic net.
///
/// Each worker takes `batches` steps of proximal SGD a clock on its own data; its delta is
/// multiplied by its share of the examples, so that a clock moves the model by the mean of what the
/// workers would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinearSettings {
    /// L1 penalty of the weights.
    pub l1: f64,
    /// L2 penalty of the weights.
    pub l2: f64,
    /// Whether there is an intercept.
    pub intercept: bool,
    /// By what the model is judged.
    pub metric: QuantityMetric,
    /// How step sizes follow the gradients.
    pub optimiser: Optimiser,
    /// Examples in a mini-batch of one worker; at least one. A worker that has fewer takes all of
    /// them.
    pub batch: u32,
    /// Mini-batches of one worker in a clock; at least one.
    pub batches: u32,
    /// The step size.
    pub learning_rate: LearningRate,
}

/// `kind = "linear"`.
#[derive(Clone, Copy, Debug)]
pub struct LinearKind;

impl ModelKind for LinearKind {
    type Settings = LinearSettings;

    fn name(&self) -> &'static str {
        "linear"
    }

    fn settings(&self, s: &Section<'_>) -> Option<LinearSettings> {
        const METRICS: &[(&str, QuantityMetric)] =
            &[("rmse", QuantityMetric::Rmse), ("r2", QuantityMetric::R2)];
        let metric = s.or("metric", QuantityMetric::default(), choice(METRICS));
        let Descent { l1, l2, intercept, optimiser, batch, batches, learning_rate } = descent(s)?;
        Some(LinearSettings { l1, l2, intercept, metric, optimiser, batch, batches, learning_rate })
    }

    fn training(&self, settings: &LinearSettings) -> Training {
        let LinearSettings { batch, batches, .. } = *settings;
        Training {
            learning_rate: settings.learning_rate.clone(),
            clock: Some(ClockWork::MiniBatches { batch, batches }),
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Quantity
    }

    fn build(
        &self,
        settings: &LinearSettings,
        input: &Input<'_>,
    ) -> Result<Box<dyn Application>, BuildError> {
        let data = input.observations(Outcome::Quantity, 0)?;
        check_size(u64::from(data.features) + 1, 1)?;
        let LinearSettings { l1, l2, intercept, optimiser, batch, batches, .. } = *settings;
        let learning_rate = settings.learning_rate.clone();
        let descent = Descent { l1, l2, intercept, optimiser, batch, batches, learning_rate };
        let figure = match settings.metric {
            QuantityMetric::Rmse => Figure::Rmse,
            QuantityMetric::R2 => Figure::R2,
        };
        let (data, partition) = (data_of(data), input.partition());
        Ok(Box::new(Generalised::new(descent, Loss::Squared, figure, data, partition, input.seed())))
    }
}

fn data_of(data: Observations) -> Data {
    let (vocabulary, occurrences) = (data.vocabulary(), data.occurrences());
    let outcomes = |Samples { rows, quantities }| Outcomes { rows, outcomes: quantities };
    Data {
        keys: tenths(&data.train.quantities),
        train: outcomes(data.train),
        test: data.test.map(outcomes),
        features: data.features,
        occurrences,
        slice: data.slice,
        labels: None,
        vocabulary,
        remarks: Vec::new(),
    }
}
