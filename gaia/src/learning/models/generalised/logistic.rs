//! Logistic regression in a job's file.

use serde::Serialize;

use super::loss::Loss;
use super::{Data, Descent, Figure, Generalised, Outcomes};
use crate::learning::LearningRate;
use crate::learning::application::{Application, BuildError, ClockWork, Input, ModelKind, Training};
use crate::learning::data::{Classification, Examples, Name, check_size};
use crate::learning::models::batches::batches;
use crate::learning::models::classes;
use crate::settings::Section;
use crate::settings::kind::{Kind, choice, flag, real};

/// How step sizes follow the gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Optimiser {
    /// They do not.
    #[default]
    Sgd,
    /// That of each weight is divided by the root of the sum of its squared gradients, which stays
    /// with the worker (Duchi, Hazan and Singer, JMLR 12, 2011).
    AdaGrad,
}

const OPTIMISERS: &[(&str, Optimiser)] = &[("sgd", Optimiser::Sgd), ("adagrad", Optimiser::AdaGrad)];

/// By which figure a classifier is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ClassMetric {
    /// Which share of examples is classified correctly.
    #[default]
    Accuracy,
    /// The mean negative log-likelihood, in nats.
    LogLoss,
    /// The area under the receiver operating characteristic; of two classes.
    Auc,
}

/// Logistic regression: of two classes, or of each class against all others.
///
/// Each worker takes `batches` steps of proximal SGD a clock on its own data; its delta is
/// multiplied by its share of the examples, so that a clock moves the model by the mean of what the
/// workers would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogisticSettings {
    /// The class that counts as one, all others together being zero. Where it is not said, the
    /// later of two labels; with more labels each has an output of its own.
    pub positive: Option<Name>,
    /// L1 penalty of the weights.
    pub l1: f64,
    /// L2 penalty of the weights.
    pub l2: f64,
    /// Whether there is an intercept.
    pub intercept: bool,
    /// Whether each example is divided by its Euclidean norm.
    pub normalise: bool,
    /// By what the model is judged.
    pub metric: ClassMetric,
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

/// `kind = "logistic"`.
#[derive(Clone, Copy, Debug)]
pub struct LogisticKind;

impl ModelKind for LogisticKind {
    type Settings = LogisticSettings;

    fn name(&self) -> &'static str {
        "logistic"
    }

    fn settings(&self, s: &Section<'_>) -> Option<LogisticSettings> {
        const METRICS: &[(&str, ClassMetric)] = &[
            ("accuracy", ClassMetric::Accuracy),
            ("log-loss", ClassMetric::LogLoss),
            ("auc", ClassMetric::Auc),
        ];
        let positive = s.optional("positive", label());
        let metric = s.or("metric", ClassMetric::default(), choice(METRICS));
        let descent = descent(s);
        let normalise = s.or("normalise", false, flag());
        let Descent { l1, l2, intercept, optimiser, batch, batches, learning_rate } = descent?;
        Some(LogisticSettings {
            positive,
            l1,
            l2,
            intercept,
            normalise,
            metric,
            optimiser,
            batch,
            batches,
            learning_rate,
        })
    }

    fn training(&self, settings: &LogisticSettings) -> Training {
        let LogisticSettings { batch, batches, .. } = *settings;
        Training {
            learning_rate: settings.learning_rate.clone(),
            clock: Some(ClockWork::MiniBatches { batch, batches }),
        }
    }

    fn build(
        &self,
        settings: &LogisticSettings,
        input: &Input<'_>,
    ) -> Result<Box<dyn Application>, BuildError> {
        let mut data = input.classification()?;
        let loss = loss(settings, &data)?;
        check_size(u64::from(data.features) + 1, loss.outputs() as u64)?;
        if settings.normalise {
            data.train.rows.normalise();
            data.test.iter_mut().for_each(|test| test.rows.normalise());
        }
        let LogisticSettings { l1, l2, intercept, optimiser, batch, batches, .. } = *settings;
        let learning_rate = settings.learning_rate.clone();
        let descent = Descent { l1, l2, intercept, optimiser, batch, batches, learning_rate };
        let figure = match settings.metric {
            ClassMetric::Accuracy => Figure::Accuracy,
            ClassMetric::LogLoss => Figure::LogLoss,
            ClassMetric::Auc => Figure::Auc,
        };
        let model = Generalised::new(descent, loss, figure, data_of(data), input.partition(), input.seed());
        Ok(Box::new(model))
    }
}

/// What regressions have in common.
pub(super) fn descent(s: &Section<'_>) -> Option<Descent> {
    let penalty = || real(0.0..=f64::INFINITY);
    let (l1, l2) = (s.or("l1", 0.0, penalty()), s.or("l2", 0.0, penalty()));
    let intercept = s.or("intercept", true, flag());
    let optimiser = s.or("optimiser", Optimiser::default(), choice(OPTIMISERS));
    let learning_rate = s.section("learning_rate", LearningRate::read);
    let (batch, batches) = batches(s)?;
    Some(Descent { l1, l2, intercept, optimiser, batch, batches, learning_rate: learning_rate? })
}

/// A label, as files have it.
fn label() -> Kind<Name> {
    Kind::new("a label: a whole number or a text", |raw| {
        let number = raw.whole().and_then(|number| i64::try_from(number).ok()).map(Name::Number);
        number.or_else(|| Name::read_label(raw.text()?.trim()).ok())
    })
}

/// The loss of these settings for these labels.
fn loss(settings: &LogisticSettings, data: &Classification) -> Result<Loss, BuildError> {
    let classes = data.labels.len() as u32;
    let loss = match &settings.positive {
        Some(positive) => {
            let place = data.labels.place(positive).ok_or_else(|| {
                let known = data.labels.summary();
                BuildError::of_model(format!(
                    "job.model.positive is {positive}, which is none of the {classes} labels: {known}"
                ))
            })?;
            Loss::Binary { positive: place }
        }
        None if classes == 2 => Loss::Binary { positive: 1 },
        None => Loss::OneAgainstRest { classes },
    };
    match loss {
        Loss::OneAgainstRest { .. } if settings.metric == ClassMetric::Auc => {
            Err(BuildError::of_model(format!(
                "job.model.metric is \"auc\", which ranks two classes, and there are {classes} labels: {}; \
                 job.model.positive can name one that is told from all others",
                data.labels.summary()
            )))
        }
        _ => Ok(loss),
    }
}

fn data_of(data: Classification) -> Data {
    let (vocabulary, occurrences) = (data.vocabulary(), data.occurrences());
    let remarks = classes::remarks(&data.labels, &data.train.classes);
    let keys = data.train.classes.clone();
    let outcomes = |Examples { rows, classes }| Outcomes {
        rows,
        outcomes: classes.into_iter().map(|class| class as f32).collect(),
    };
    Data {
        train: outcomes(data.train),
        test: data.test.map(outcomes),
        features: data.features,
        occurrences,
        slice: data.slice,
        keys,
        labels: Some(data.labels),
        vocabulary,
        remarks,
    }
}
