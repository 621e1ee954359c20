//! k-means in a job's file.

use std::sync::OnceLock;

use serde::Serialize;

use super::KMeans;
use crate::learning::application::{Application, BuildError, ClockWork, Input, ModelKind, Training};
use crate::learning::data::{Outcome, Partition, check_size};
use crate::settings::Section;
use crate::settings::kind::whole;

const MOST_CLUSTERS: u32 = 65_536;
const MOST_BATCH: u32 = 10_000_000;
const MOST_SAMPLE: u32 = 1_000_000;
const MOST_STARTS: u32 = 100;

/// k-means: as many centers as make the mean squared distance of an example to the nearest one small.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KMeansSettings {
    /// How many centers; at least one.
    pub clusters: u32,
    /// How many of its examples a worker assigns in a clock; none for all.
    pub batch: Option<u32>,
    /// On how many training examples first centers are found; at least one.
    pub sample: u32,
    /// How often they are drawn, of which the best are taken; at least once.
    pub starts: u32,
}

/// `kind = "k-means"`.
#[derive(Clone, Copy, Debug)]
pub struct KMeansKind;

impl ModelKind for KMeansKind {
    type Settings = KMeansSettings;

    fn name(&self) -> &'static str {
        "k-means"
    }

    fn settings(&self, s: &Section<'_>) -> Option<KMeansSettings> {
        const SAMPLE: u32 = 10_000;
        const STARTS: u32 = 3;
        let clusters = s.required("clusters", whole(1..=MOST_CLUSTERS));
        let batch = s.or("batch", None, whole(1..=MOST_BATCH).map(Some).or_word("all", None));
        let sample = s.or("sample", SAMPLE, whole(1..=MOST_SAMPLE));
        let starts = s.or("starts", STARTS, whole(1..=MOST_STARTS));
        Some(KMeansSettings { clusters: clusters?, batch, sample, starts })
    }

    fn training(&self, settings: &KMeansSettings) -> Training {
        let clock = match settings.batch {
            Some(batch) => ClockWork::MiniBatches { batch, batches: 1 },
            None => ClockWork::Epoch { clocks: 1 },
        };
        Training { clock: Some(clock), ..Training::default() }
    }

    fn outcome(&self) -> Outcome {
        Outcome::Ignored
    }

    fn build(
        &self,
        settings: &KMeansSettings,
        input: &Input<'_>,
    ) -> Result<Box<dyn Application>, BuildError> {
        let clusters = settings.clusters;
        if !matches!(input.partition(), Partition::Random | Partition::Contiguous) {
            let message = "job.partition deals examples out by their labels, which k-means passes over; allowed there: \
                           \"random\" or \"contiguous\"";
            return Err(BuildError::of_model(message));
        }
        let data = input.observations(Outcome::Ignored, settings.sample.max(clusters) as usize)?;
        let count = data.train.len();
        if (1..clusters as usize).contains(&count) {
            let message = format!(
                "job.model.clusters is {clusters}, and there are {count} training examples; allowed: at most as many"
            );
            return Err(BuildError::of_model(message));
        }
        check_size(u64::from(clusters), u64::from(data.features))?;
        let (partition, seed) = (input.partition(), input.seed());
        let settings = settings.clone();
        Ok(Box::new(KMeans { settings, data, partition, seed, seeds: OnceLock::new() }))
    }
}
