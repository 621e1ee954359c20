//! The multi-layer perceptron in a job's file.

use serde::Serialize;

use super::Perceptron;
use crate::learning::LearningRate;
use crate::learning::application::{Application, BuildError, ClockWork, Input, ModelKind, Training};
use crate::learning::models::batches::batches;
use crate::settings::Section;
use crate::settings::kind::{Kind, list, real, whole};

/// Units of a hidden layer, and hidden layers: what is wider or deeper than this is trained
/// otherwise.
const MOST_UNITS: u32 = 65_536;
const MOST_HIDDEN: usize = 64;

/// A multi-layer perceptron: layers of ReLU, and `mean NLL + (l2 / 2) sum |W|^2` with the biases
/// not penalised.
///
/// Each worker takes `batches` steps of SGD a clock on its own data; its delta is multiplied by its
/// share of the examples, so that a clock moves the model by the mean of what the workers would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerceptronSettings {
    /// The widths of the hidden layers, from the input on; at least one layer, of at least one unit
    /// each.
    pub hidden: Vec<u32>,
    /// L2 penalty.
    pub l2: f64,
    /// Examples in a mini-batch of one worker; at least one. A worker that has fewer takes all of
    /// them.
    pub batch: u32,
    /// Mini-batches of one worker in a clock; at least one.
    pub batches: u32,
    /// The step size.
    pub learning_rate: LearningRate,
}

/// `kind = "mlp"`.
#[derive(Clone, Copy, Debug)]
pub struct PerceptronKind;

impl ModelKind for PerceptronKind {
    type Settings = PerceptronSettings;

    fn name(&self) -> &'static str {
        "mlp"
    }

    fn settings(&self, s: &Section<'_>) -> Option<PerceptronSettings> {
        let l2 = s.or("l2", 0.0, real(0.0..=f64::INFINITY));
        let learning_rate = s.section("learning_rate", LearningRate::read);
        s.only_with("kind = \"softmax\" or \"factorisation\"", &["adagrad"]);
        let (batches, hidden) = (batches(s), s.required("hidden", hidden()));
        let (batch, batches) = batches?;
        let (hidden, learning_rate) = (hidden?, learning_rate?);
        Some(PerceptronSettings { hidden, l2, batch, batches, learning_rate })
    }

    fn training(&self, settings: &PerceptronSettings) -> Training {
        let PerceptronSettings { batch, batches, .. } = *settings;
        Training {
            learning_rate: settings.learning_rate.clone(),
            clock: Some(ClockWork::MiniBatches { batch, batches }),
        }
    }

    fn build(
        &self,
        settings: &PerceptronSettings,
        input: &Input<'_>,
    ) -> Result<Box<dyn Application>, BuildError> {
        let data = input.classification()?;
        Ok(Box::new(Perceptron::new(settings.clone(), data, input.partition(), input.seed())?))
    }
}

/// The widths of hidden layers.
fn hidden() -> Kind<Vec<u32>> {
    let condition = format!("; 1 to {MOST_HIDDEN} layers");
    list(whole(1..=MOST_UNITS)).only(&condition, |layers| (1..=MOST_HIDDEN).contains(&layers.len()))
}
