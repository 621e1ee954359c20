//! Matrix factorisation in a job's file.

use serde::Serialize;

use super::Factorisation;
use crate::learning::LearningRate;
use crate::learning::application::{Application, BuildError, ClockWork, Input, ModelKind, Training};
use crate::learning::data::check_size;
use crate::settings::Section;
use crate::settings::kind::{flag, real, whole};

/// The longest factor vector.
pub(crate) const MOST_RANK: u32 = 10_000;

/// Matrix factorisation: squared error of `mean + b_u + b_i + p_u . q_i`, with L2.
///
/// Each worker goes through its ratings once in `clocks_per_epoch` clocks; workers' deltas add up,
/// scaled down where many workers have many ratings of one item. Penalties count once for each
/// rating of a user or an item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FactorisationSettings {
    /// Length of a factor vector; at least one.
    pub rank: u32,
    /// Whether users and items have biases (and the global mean is subtracted).
    pub biases: bool,
    /// L2 penalty of factors.
    pub l2: f64,
    /// L2 penalty of biases.
    pub bias_l2: f64,
    /// The step size.
    pub learning_rate: LearningRate,
    /// Adapt the step size of each element by AdaGrad; the accumulators stay with the worker.
    pub adagrad: bool,
    /// In how many clocks a worker goes through its data once; at least one.
    pub clocks_per_epoch: u32,
    /// Standard deviation of the initial factors.
    pub initial_deviation: f64,
}

/// `kind = "factorisation"`.
#[derive(Clone, Copy, Debug)]
pub struct FactorisationKind;

impl ModelKind for FactorisationKind {
    type Settings = FactorisationSettings;

    fn name(&self) -> &'static str {
        "factorisation"
    }

    fn settings(&self, s: &Section<'_>) -> Option<FactorisationSettings> {
        let not_negative = || real(0.0..=f64::INFINITY);
        let l2 = s.or("l2", 0.0, not_negative());
        let learning_rate = s.section("learning_rate", LearningRate::read);
        let rank = s.required("rank", whole(1..=MOST_RANK));
        let biases = s.or("biases", true, flag());
        let bias_l2 = s.or("bias_l2", l2, not_negative());
        let clocks_per_epoch = s.required("clocks_per_epoch", whole(1..=u32::MAX));
        let adagrad = s.or("adagrad", false, flag());
        let initial_deviation = s.or("initial_deviation", 0.1, not_negative());
        Some(FactorisationSettings {
            rank: rank?,
            biases,
            l2,
            bias_l2,
            learning_rate: learning_rate?,
            adagrad,
            clocks_per_epoch: clocks_per_epoch?,
            initial_deviation,
        })
    }

    fn training(&self, settings: &FactorisationSettings) -> Training {
        Training {
            learning_rate: settings.learning_rate.clone(),
            clock: Some(ClockWork::Epoch { clocks: settings.clocks_per_epoch }),
        }
    }

    fn build(
        &self,
        settings: &FactorisationSettings,
        input: &Input<'_>,
    ) -> Result<Box<dyn Application>, BuildError> {
        let data = input.ratings()?;
        let width = u64::from(settings.rank) + u64::from(settings.biases);
        check_size(u64::from(data.users.max(data.items)), width)?;
        Ok(Box::new(Factorisation::new(settings.clone(), data, input.partition(), input.seed())))
    }
}
