//! Other test data than the job's, for a model that has been trained.
//!
//! What the numbers of a model mean follows from the job's own files: which class a label is, which row a user has, how many
//! features there are. So other files are read as those say.

use super::classification::{Classification, Keep};
use super::load::{DataError, Loaded, idx_pair, read_file};
use super::ratings::Ratings;
use super::{csv, libsvm, movielens};
use crate::job::{DataFile, DataSettings, DataSource};

/// Puts the examples of `files`, which have the format of `settings`, in the place of the test data.
///
/// # Errors
///
/// If a file cannot be used, or has features or labels that the job's files have not.
pub(crate) fn judge_classification_by(
    data: &mut Classification,
    settings: &DataSettings,
    files: &[DataFile],
) -> Result<(), DataError> {
    let (train, loaded) = match (&settings.source, files) {
        (DataSource::Idx { train: [images, _], .. }, [first, second]) => {
            (images, idx_pair(first.clone(), second.clone(), Keep::All)?)
        }
        (DataSource::Idx { .. }, _) => {
            return Err(DataError::Files {
                found: files.len(),
                expected: "two are needed: images, then labels",
            });
        }
        (DataSource::Libsvm { train, .. }, [file]) => {
            let read = |source: &mut _| libsvm::read(source, Some(data.features), Keep::All);
            (train, Loaded::read(file.clone(), read)?)
        }
        (DataSource::Csv { train, header, scale, .. }, [file]) => {
            (train, Loaded::read(file.clone(), |source| csv::read(source, *header, *scale, Keep::All))?)
        }
        (DataSource::Libsvm { .. } | DataSource::Csv { .. }, _) => {
            return Err(DataError::Files { found: files.len(), expected: "one is needed" });
        }
        (DataSource::Own | DataSource::MovieLens { .. } | DataSource::Planted { .. }, _) => {
            return Err(DataError::Kind {
                application: "softmax regression",
                needs: "classes",
                source_kind: "ratings",
            });
        }
    };
    if loaded.examples.features != data.features && !loaded.examples.labels.is_empty() {
        return Err(DataError::Fit {
            file: loaded.features_file,
            what: "features",
            found: u64::from(loaded.examples.features),
            other: settings.root.file(train),
            allowed: u64::from(data.features),
        });
    }
    data.test = Some(loaded.classify(&data.labels)?);
    Ok(())
}

/// Puts the ratings of `files` in the place of the test data; yields how many of them are of users or items that the model
/// does not know, and were left out.
///
/// # Errors
///
/// If the file cannot be used, or if ratings are drawn and not read.
pub(crate) fn judge_ratings_by(
    data: &mut Ratings,
    settings: &DataSettings,
    files: &[DataFile],
) -> Result<u64, DataError> {
    if matches!(settings.source, DataSource::Planted { .. }) {
        return Err(DataError::Files { found: files.len(), expected: "planted ratings have no files" });
    }
    let [file] = files else {
        return Err(DataError::Files { found: files.len(), expected: "one is needed" });
    };
    let raw = read_file(file, |source| movielens::read(source))?;
    let (list, left_out) = movielens::index_known(&raw, data);
    data.test = Some(list);
    Ok(left_out)
}
