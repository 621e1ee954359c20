//! Kinds of models, which jobs name: how a model of one's own is had wherever a built-in one is.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use thiserror::Error;

use super::{Application, Input};
use crate::learning::data::{DataError, Outcome};
use crate::learning::{Decay, LearningRate};
use crate::settings::Section;

/// A kind of model: what stands under `[job.model]` of a job whose `kind` is its name, and the
/// application that is made of it.
///
/// The built-in kinds are implementations of this trait and nothing else. One more is added to the
/// program by [`Program::with`](crate::Program::with).
pub trait ModelKind: Send + Sync + 'static {
    /// What stands under `[job.model]`, beside `kind`.
    type Settings: Serialize + fmt::Debug + Send + Sync + 'static;

    /// What `job.model.kind` calls it.
    fn name(&self) -> &'static str;

    /// Regions train together only if they have the same version: a change of the model that makes
    /// its tables mean something else needs another one. Default 1.
    fn version(&self) -> u32 {
        1
    }

    /// Reads the settings: [`section.deserialize()`](Section::deserialize) for a type of serde's,
    /// or key by key. Problems are noted in `section`; `None` if there are any.
    fn settings(&self, section: &Section<'_>) -> Option<Self::Settings>;

    /// What is known of the training from the settings alone.
    fn training(&self, _settings: &Self::Settings) -> Training {
        Training::default()
    }

    /// What labels of examples are to it: what `gaia check` and `gaia names` read of a file. Default
    /// classes.
    fn outcome(&self) -> Outcome {
        Outcome::Class
    }

    /// Loads the data and makes the application.
    ///
    /// # Errors
    ///
    /// If the data cannot be used, or does not suit the model.
    fn build(&self, settings: &Self::Settings, input: &Input<'_>)
    -> Result<Box<dyn Application>, BuildError>;
}

/// Why there is no application.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model says so.
    #[error("the model cannot be made: {0}")]
    Model(Box<dyn Error + Send + Sync>),
}

impl BuildError {
    /// What a model has to say, in its own words.
    pub fn of_model(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Model(reason.into())
    }
}

/// What is known of a training from its settings alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// The step size: thresholds that are tied to it fall as it does. Default one that does not
    /// fall.
    pub learning_rate: LearningRate,
    /// What a worker does in a clock, where that is known. Default unknown.
    pub clock: Option<ClockWork>,
}

impl Default for Training {
    fn default() -> Self {
        Self { learning_rate: LearningRate { initial: 1.0, decay: Decay::Constant }, clock: None }
    }
}

impl Training {
    /// A training of so many steps a clock, each down the gradient of so many examples, whose size does
    /// not fall.
    pub fn of_mini_batches(batch: u32, batches: u32) -> Self {
        Self { clock: Some(ClockWork::MiniBatches { batch, batches }), ..Self::default() }
    }

    /// How many steps a worker takes in a clock, each from the gradient of a mini-batch, where that
    /// is known.
    pub fn steps_per_clock(&self) -> Option<u32> {
        self.clock?.steps()
    }
}

/// What a worker does in a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockWork {
    /// So many steps, each down the gradient of so many examples, or of all where it has fewer.
    MiniBatches {
        /// Examples in a step.
        batch: u32,
        /// Steps.
        batches: u32,
    },
    /// One in so many parts of its examples.
    Epoch {
        /// In how many clocks it goes through all of them.
        clocks: u32,
    },
}

impl ClockWork {
    /// How many steps that is, each from the gradient of a mini-batch; none where there are as many
    /// as examples.
    pub fn steps(self) -> Option<u32> {
        match self {
            Self::MiniBatches { batches, .. } => Some(batches),
            Self::Epoch { .. } => None,
        }
    }

    /// How many examples that is, for a worker that has `all`.
    pub fn examples(self, all: u64) -> u64 {
        match self {
            Self::MiniBatches { batch, batches } => u64::from(batch).min(all) * u64::from(batches),
            Self::Epoch { clocks } => all.div_ceil(u64::from(clocks.max(1))),
        }
    }
}

/// What a job trains: a kind of model with its settings. Clones are one.
#[derive(Clone)]
pub struct ModelSettings(Arc<dyn Configured>);

/// A kind with its settings, whatever their type.
trait Configured: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn settings(&self) -> &(dyn Any + Send + Sync);
    fn written(&self) -> &dyn erased_serde::Serialize;
    fn shown(&self) -> &dyn fmt::Debug;
    fn training(&self) -> &Training;
    fn outcome(&self) -> Outcome;
    fn build(&self, input: &Input<'_>) -> Result<Box<dyn Application>, BuildError>;
}

struct Chosen<K: ModelKind> {
    kind: Arc<K>,
    settings: K::Settings,
    training: Training,
}

impl<K: ModelKind> Configured for Chosen<K> {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn version(&self) -> u32 {
        self.kind.version()
    }

    fn settings(&self) -> &(dyn Any + Send + Sync) {
        &self.settings
    }

    fn written(&self) -> &dyn erased_serde::Serialize {
        &self.settings
    }

    fn shown(&self) -> &dyn fmt::Debug {
        &self.settings
    }

    fn training(&self) -> &Training {
        &self.training
    }

    fn outcome(&self) -> Outcome {
        self.kind.outcome()
    }

    fn build(&self, input: &Input<'_>) -> Result<Box<dyn Application>, BuildError> {
        self.kind.build(&self.settings, input)
    }
}

impl ModelSettings {
    /// These settings of this kind.
    pub fn new<K: ModelKind>(kind: K, settings: K::Settings) -> Self {
        Self::of(Arc::new(kind), settings)
    }

    fn of<K: ModelKind>(kind: Arc<K>, settings: K::Settings) -> Self {
        let training = kind.training(&settings);
        Self(Arc::new(Chosen { kind, settings, training }))
    }

    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        self.0.name()
    }

    /// The settings, if they are of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.0.settings().downcast_ref()
    }

    /// What is known of the training.
    pub fn training(&self) -> &Training {
        self.0.training()
    }

    /// What labels of examples are to it.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome()
    }

    pub(super) fn build(&self, input: &Input<'_>) -> Result<Box<dyn Application>, BuildError> {
        self.0.build(input)
    }
}

impl fmt::Debug for ModelSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind(), self.0.shown())
    }
}

/// Settings are the same if regions take them for the same.
impl PartialEq for ModelSettings {
    fn eq(&self, other: &Self) -> bool {
        let text = |settings| serde_json::to_string(settings).expect("settings are plain data");
        text(self) == text(other)
    }
}

impl Serialize for ModelSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Agreed<'a> {
            kind: &'a str,
            version: u32,
            settings: &'a dyn erased_serde::Serialize,
        }
        let (kind, version, settings) = (self.0.name(), self.0.version(), self.0.written());
        Agreed { kind, version, settings }.serialize(serializer)
    }
}

/// The kinds that there are, by name.
#[derive(Clone)]
pub struct ModelKinds(Vec<Arc<dyn AnyKind>>);

/// A kind whatever its settings.
trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn read(self: Arc<Self>, section: &Section<'_>) -> Option<ModelSettings>;
}

impl<K: ModelKind> AnyKind for K {
    fn name(&self) -> &'static str {
        ModelKind::name(self)
    }

    fn read(self: Arc<Self>, section: &Section<'_>) -> Option<ModelSettings> {
        let settings = self.settings(section)?;
        Some(ModelSettings::of(self, settings))
    }
}

impl ModelKinds {
    /// None at all.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The same and one more.
    ///
    /// # Panics
    ///
    /// If there is one of that name.
    #[must_use]
    pub fn with(mut self, kind: impl ModelKind) -> Self {
        let name = ModelKind::name(&kind);
        assert!(self.names().all(|known| known != name), "there are two kinds of models called {name:?}");
        self.0.push(Arc::new(kind));
        self
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|kind| AnyKind::name(&**kind))
    }

    /// Reads the settings of the kind that is called `name`, which is one of
    /// [`names`](Self::names).
    pub(crate) fn read(&self, name: &str, section: &Section<'_>) -> Option<ModelSettings> {
        let kind = self.0.iter().find(|kind| AnyKind::name(&***kind) == name)?;
        kind.clone().read(section)
    }
}

impl fmt::Debug for ModelKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// What [`crate::simulator::run_one`] trains when it is given an application: nothing that a job
/// names.
#[derive(Debug)]
pub(crate) struct Given;

impl ModelKind for Given {
    type Settings = ();

    fn name(&self) -> &'static str {
        "own"
    }

    fn settings(&self, _section: &Section<'_>) -> Option<()> {
        None
    }

    fn build(&self, (): &(), _input: &Input<'_>) -> Result<Box<dyn Application>, BuildError> {
        Err(DataError::Own.into())
    }
}
