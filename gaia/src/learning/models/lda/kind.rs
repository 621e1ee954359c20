//! Topic models in a job's file.

use serde::Serialize;

use super::Lda;
use super::sampler::MOST_TOPICS;
use crate::learning::application::{Application, BuildError, ClockWork, Input, ModelKind, Training};
use crate::learning::data::check_size;
use crate::settings::Section;
use crate::settings::kind::{real, whole};

/// A topic model: latent Dirichlet allocation with symmetric priors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LdaSettings {
    /// How many topics; at least one, at most 65,535.
    pub topics: u32,
    /// The concentration of each topic in a document; from 1e-6 to 1e6. Default 0.1: a document has few
    /// topics.
    pub alpha: f64,
    /// The concentration of each word in a topic; from 1e-6 to 1e6. Default 0.01: a topic has few words.
    pub beta: f64,
    /// In how many clocks a worker goes through its documents once; at least one. Default one.
    pub clocks_per_epoch: u32,
    /// How many topics are proposed to a token in a pass by its word, and as many by its document;
    /// at least one. Default one: time is better spent on the next pass, which sees what others did.
    pub proposals: u32,
}

impl LdaSettings {
    /// So many topics, and what is usual of everything else.
    pub fn new(topics: u32) -> Self {
        Self { topics, alpha: 0.1, beta: 0.01, clocks_per_epoch: 1, proposals: 1 }
    }
}

/// The most proposals: with as many, a pass is as good as one that computes the chances of all
/// topics.
const MOST_PROPOSALS: u32 = 64;

/// `kind = "lda"`.
#[derive(Clone, Copy, Debug)]
pub struct LdaKind;

impl ModelKind for LdaKind {
    type Settings = LdaSettings;

    fn name(&self) -> &'static str {
        "lda"
    }

    fn settings(&self, s: &Section<'_>) -> Option<LdaSettings> {
        let topics = s.required("topics", whole(1..=MOST_TOPICS));
        let defaults = LdaSettings::new(1);
        // Products of four of them, and of counts, are to be numbers of 32 bits.
        let concentration = || real(1e-6..=1e6);
        let alpha = s.or("alpha", defaults.alpha, concentration());
        let beta = s.or("beta", defaults.beta, concentration());
        let clocks_per_epoch = s.or("clocks_per_epoch", defaults.clocks_per_epoch, whole(1..=u32::MAX));
        let proposals = s.or("proposals", defaults.proposals, whole(1..=MOST_PROPOSALS));
        Some(LdaSettings { topics: topics?, alpha, beta, clocks_per_epoch, proposals })
    }

    fn training(&self, settings: &LdaSettings) -> Training {
        Training {
            clock: Some(ClockWork::Epoch { clocks: settings.clocks_per_epoch }),
            ..Training::default()
        }
    }

    fn build(&self, settings: &LdaSettings, input: &Input<'_>) -> Result<Box<dyn Application>, BuildError> {
        let data = input.documents()?;
        check_size(u64::from(data.words), u64::from(settings.topics))?;
        Ok(Box::new(Lda::new(settings.clone(), data, input.partition(), input.seed())))
    }
}
