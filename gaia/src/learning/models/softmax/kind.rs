//! Softmax regression in a job's file.

use serde::Serialize;

use super::Softmax;
use crate::learning::LearningRate;
use crate::learning::application::{Application, BuildError, ClockWork, Input, ModelKind, Training};
use crate::learning::data::check_size;
use crate::learning::models::batches::batches;
use crate::settings::Section;
use crate::settings::kind::{flag, real};

/// Softmax regression: `mean NLL + (l2 / 2) |W|^2`, the intercept not penalised.
///
/// Each worker takes `batches` steps of SGD a clock on its own data; its delta is multiplied by its
/// share of the examples, so that a clock moves the model by the mean of what the workers would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SoftmaxSettings {
    /// L2 penalty.
    pub l2: f64,
    /// Examples in a mini-batch of one worker; at least one. A worker that has fewer takes all of
    /// them.
    pub batch: u32,
    /// Mini-batches of one worker in a clock; at least one.
    pub batches: u32,
    /// The step size.
    pub learning_rate: LearningRate,
    /// Adapt the step size of each weight by AdaGrad; the accumulators stay with the worker.
    pub adagrad: bool,
}

/// `kind = "softmax"`.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxKind;

impl ModelKind for SoftmaxKind {
    type Settings = SoftmaxSettings;

    fn name(&self) -> &'static str {
        "softmax"
    }

    fn settings(&self, s: &Section<'_>) -> Option<SoftmaxSettings> {
        let l2 = s.or("l2", 0.0, real(0.0..=f64::INFINITY));
        let learning_rate = s.section("learning_rate", LearningRate::read);
        let (batches, adagrad) = (batches(s), s.or("adagrad", false, flag()));
        let (batch, batches) = batches?;
        Some(SoftmaxSettings { l2, batch, batches, learning_rate: learning_rate?, adagrad })
    }

    fn training(&self, settings: &SoftmaxSettings) -> Training {
        let SoftmaxSettings { batch, batches, .. } = *settings;
        Training {
            learning_rate: settings.learning_rate.clone(),
            clock: Some(ClockWork::MiniBatches { batch, batches }),
        }
    }

    fn build(
        &self,
        settings: &SoftmaxSettings,
        input: &Input<'_>,
    ) -> Result<Box<dyn Application>, BuildError> {
        let data = input.classification()?;
        check_size(u64::from(data.features) + 1, data.labels.len() as u64)?;
        Ok(Box::new(Softmax::new(settings.clone(), data, input.partition(), input.seed())))
    }
}
