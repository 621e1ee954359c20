//! The built-in applications: [`Softmax`] regression and matrix [`Factorisation`].
//!
//! Their arithmetic gives the same bits on every machine: sums run in a stated order (see `lanes`), `exp` and `ln`
//! come from the `libm` crate, and every random choice has a seed.

mod epochs;
mod factorisation;
mod lanes;
mod local_rows;
mod softmax;
#[cfg(test)]
mod tests;

pub use self::factorisation::Factorisation;
pub use self::softmax::Softmax;

use crate::application::Application;
use crate::data::partition::{Attributes, partition};
use crate::data::{
    Classification, DataError, check_size, load_classification, load_classification_slice, load_ratings,
};
use crate::job::{ApplicationSettings, DataSettings, Job};

/// Loads the job's data and makes its application.
///
/// Everything random about the application (planted data, partition, initial values) follows from `seed`, and is the
/// same in every datacenter that has the same files.
///
/// # Errors
///
/// If the data cannot be used, or does not suit the application.
pub fn build(job: &Job, seed: u64) -> Result<Box<dyn Application>, DataError> {
    build_from(job, seed, load_classification)
}

/// The same application for a process that trains on (and scores) some of `parts` parts alone: the features of other
/// training examples are not kept in memory.
///
/// Ratings are kept whole: one has two ids, which the partition and the step sizes go by, and a value.
///
/// # Errors
///
/// As [`build`], and if the training file is not the same when it is read a second time.
pub fn build_slice(
    job: &Job,
    seed: u64,
    parts: usize,
    mine: &[usize],
) -> Result<Box<dyn Application>, DataError> {
    build_from(job, seed, |data| {
        load_classification_slice(data, |classes| {
            let attributes = Attributes { keys: classes, labels: classes };
            let mut all = partition(job.partition, attributes, parts, seed);
            mine.iter().flat_map(|&part| std::mem::take(&mut all[part])).collect()
        })
    })
}

fn build_from(
    job: &Job,
    seed: u64,
    load: impl FnOnce(&DataSettings) -> Result<Classification, DataError>,
) -> Result<Box<dyn Application>, DataError> {
    match &job.application {
        ApplicationSettings::Own(_) => Err(DataError::Own),
        ApplicationSettings::Softmax(settings) => {
            let data = load(&job.data)?;
            check_size(u64::from(data.features) + 1, data.labels.len() as u64)?;
            Ok(Box::new(Softmax::new(settings.clone(), data, job.partition, seed)))
        }
        ApplicationSettings::Factorisation(settings) => {
            let data = load_ratings(&job.data, seed)?;
            let width = u64::from(settings.rank) + u64::from(settings.biases);
            check_size(u64::from(data.users.max(data.items)), width)?;
            Ok(Box::new(Factorisation::new(settings.clone(), data, job.partition, seed)))
        }
    }
}
