//! The built-in applications: [`Softmax`] regression, a multi-layer [`Perceptron`] and matrix [`Factorisation`].
//!
//! Their arithmetic gives the same bits on every machine: sums run in a stated order (see `lanes` and `products`),
//! `exp` and `ln` come from the `libm` crate, and every random choice has a seed.

mod classes;
mod epochs;
mod factorisation;
mod lanes;
mod local_rows;
mod perceptron;
mod products;
mod softmax;
#[cfg(test)]
mod tests;

pub use self::factorisation::Factorisation;
pub use self::perceptron::Perceptron;
pub use self::softmax::Softmax;

use crate::application::Application;
use crate::data::partition::{Attributes, partition};
use crate::data::{
    Classification, DataError, Ratings, Vocabulary, check_size, classification_to_judge, load_classification,
    load_classification_slice, load_ratings, ratings_to_judge,
};
use crate::job::{ApplicationSettings, DataFile, DataSettings, Job};

/// Loads the job's data and makes its application.
///
/// Everything random about the application (planted data, partition, initial values) follows from `seed`, and is the
/// same in every datacenter that has the same files.
///
/// # Errors
///
/// If the data cannot be used, or does not suit the application.
pub fn build(job: &Job, seed: u64) -> Result<Box<dyn Application>, DataError> {
    build_known(job, seed, None)
}

/// The same for data that is read by what is `known`: the names and figures of a model that has been trained.
///
/// # Errors
///
/// As [`build`], and if the data does not fit.
pub fn build_known(
    job: &Job,
    seed: u64,
    known: Option<&Vocabulary>,
) -> Result<Box<dyn Application>, DataError> {
    build_with(job, seed, |data| load_classification(data, known), |data| load_ratings(data, known, seed))
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
    let mine = |classes: &[u32]| {
        let attributes = Attributes { keys: classes, labels: classes };
        let mut all = partition(job.partition, attributes, parts, seed);
        mine.iter().flat_map(|&part| std::mem::take(&mut all[part])).collect()
    };
    build_with(
        job,
        seed,
        |data| load_classification_slice(data, None, mine),
        |data| load_ratings(data, None, seed),
    )
}

/// The same application without training data, and with the examples of `files` as its test data; also tells how many of
/// these were left out, since the model knows nothing of whom they are about.
///
/// The names and figures that make sense of the model are the `known` ones; where there are none, as beside models of older
/// versions, they are found in the job's data.
///
/// # Errors
///
/// As [`build`], and if the files do not suit the model.
pub fn build_judging(
    job: &Job,
    seed: u64,
    known: Option<&Vocabulary>,
    files: &[DataFile],
) -> Result<(Box<dyn Application>, u64), DataError> {
    let mut left_out = 0;
    let application = build_with(
        job,
        seed,
        |settings| {
            let found = known.is_none().then(|| load_classification(settings, None)).transpose()?;
            let found = found.map(|data| data.vocabulary());
            classification_to_judge(found.as_ref().or(known).expect("one of them is there"), settings, files)
        },
        |settings| {
            let found = known.is_none().then(|| load_ratings(settings, None, seed)).transpose()?;
            let found = found.and_then(|data| data.vocabulary);
            let Some(vocabulary) = found.as_deref().or(known) else {
                let expected = "planted ratings have no files";
                return Err(DataError::Files { found: files.len(), expected });
            };
            let (data, count) = ratings_to_judge(vocabulary, settings, files)?;
            left_out = count;
            Ok(data)
        },
    )?;
    Ok((application, left_out))
}

fn build_with(
    job: &Job,
    seed: u64,
    classification: impl FnOnce(&DataSettings) -> Result<Classification, DataError>,
    ratings: impl FnOnce(&DataSettings) -> Result<Ratings, DataError>,
) -> Result<Box<dyn Application>, DataError> {
    match &job.application {
        ApplicationSettings::Own(_) => Err(DataError::Own),
        ApplicationSettings::Softmax(settings) => {
            let data = classification(&job.data)?;
            check_size(u64::from(data.features) + 1, data.labels.len() as u64)?;
            Ok(Box::new(Softmax::new(settings.clone(), data, job.partition, seed)))
        }
        ApplicationSettings::Perceptron(settings) => {
            let data = classification(&job.data)?;
            Ok(Box::new(Perceptron::new(settings.clone(), data, job.partition, seed)?))
        }
        ApplicationSettings::Factorisation(settings) => {
            let data = ratings(&job.data)?;
            let width = u64::from(settings.rank) + u64::from(settings.biases);
            check_size(u64::from(data.users.max(data.items)), width)?;
            Ok(Box::new(Factorisation::new(settings.clone(), data, job.partition, seed)))
        }
    }
}
