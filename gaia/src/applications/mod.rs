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
use crate::data::{DataError, check_size, load_classification, load_ratings};
use crate::job::{ApplicationSettings, Job};

/// Loads the job's data and makes its application.
///
/// Everything random about the application (planted data, partition, initial values) follows from `seed`, and is the
/// same in every datacenter that has the same files.
///
/// # Errors
///
/// If the data cannot be used, or does not suit the application.
pub fn build(job: &Job, seed: u64) -> Result<Box<dyn Application>, DataError> {
    match &job.application {
        ApplicationSettings::Own(_) => Err(DataError::Own),
        ApplicationSettings::Softmax(settings) => {
            let data = load_classification(&job.data)?;
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
