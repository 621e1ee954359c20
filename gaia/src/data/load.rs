//! From a job's settings to a data set.

use std::io;
use std::path::PathBuf;

use super::classification::{ClassesError, Classification, Examples, Labelled, classes_of, classify};
use super::source::Source;
use super::{CsvError, IdxError, LibsvmError, MovieLensError, Ratings};
use super::{csv, idx, libsvm, movielens, planted};
use crate::job::{DataFile, DataSettings, DataSource};

/// Why there is no data set.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file is missing, unreadable or not what it should be.
    #[error("cannot use {file}")]
    File {
        /// The file.
        file: DataFile,
        /// What is wrong with it.
        source: FileError,
    },
    /// Two files that belong together do not fit together.
    #[error("{file} has {found} {what}, {other} has {allowed}")]
    Fit {
        /// The file.
        file: DataFile,
        /// What was counted.
        what: &'static str,
        /// How many it has.
        found: u64,
        /// The file that it should agree with.
        other: DataFile,
        /// How many that has.
        allowed: u64,
    },
    /// Planted ratings without a planted thing.
    #[error("planted ratings with 0 {what}, at least 1 is needed")]
    Nothing {
        /// What is missing.
        what: &'static str,
    },
    /// The application and the data are made for different problems.
    #[error("{application} trains on {needs}, not on {source_kind}")]
    Kind {
        /// The application.
        application: &'static str,
        /// The kind of data that it needs.
        needs: &'static str,
        /// The kind of data that the job names.
        source_kind: &'static str,
    },
    /// The model comes from a program, which alone has its data.
    #[error("the model of this job is not built in: the program that has it runs it")]
    Own,
    /// The data would make a model beyond any machine.
    #[error("the model would have {rows} rows of {width} elements, at most {allowed} elements are allowed")]
    ModelSize {
        /// Rows of the largest table.
        rows: u64,
        /// Its width.
        width: u64,
        /// The most elements of a table.
        allowed: u64,
    },
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("cannot be opened")]
    Open(#[source] io::Error),
    /// As IDX.
    #[error(transparent)]
    Idx(#[from] IdxError),
    /// As LIBSVM text.
    #[error(transparent)]
    Libsvm(#[from] LibsvmError),
    /// As CSV.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// As MovieLens ratings.
    #[error(transparent)]
    MovieLens(#[from] MovieLensError),
    /// Its labels.
    #[error(transparent)]
    Classes(#[from] ClassesError),
}

/// Loads examples with classes.
///
/// # Errors
///
/// If a file cannot be used, if files do not fit together, or if the source has ratings instead.
pub fn load_classification(data: &DataSettings) -> Result<Classification, DataError> {
    let at = |path: &PathBuf| data.root.file(path);
    match &data.source {
        DataSource::Idx { train, test } => {
            let load = |[images, labels]: &[PathBuf; 2]| idx_pair(at(images), at(labels));
            classification(load(train)?, test.as_ref().map(load).transpose()?, true)
        }
        DataSource::Libsvm { train, test, features } => {
            let load = |path: &PathBuf| Loaded::read(at(path), |source| libsvm::read(source, *features));
            // A LIBSVM file shows only the largest index that occurs in it.
            classification(load(train)?, test.as_ref().map(load).transpose()?, false)
        }
        DataSource::Csv { train, test, header, scale } => {
            let load = |path: &PathBuf| Loaded::read(at(path), |source| csv::read(source, *header, *scale));
            classification(load(train)?, test.as_ref().map(load).transpose()?, true)
        }
        DataSource::Own => Err(DataError::Own),
        DataSource::MovieLens { .. } | DataSource::Planted { .. } => Err(DataError::Kind {
            application: "softmax regression",
            needs: "classes",
            source_kind: "ratings",
        }),
    }
}

/// Loads or draws ratings; `seed` matters for drawn ones alone.
///
/// # Errors
///
/// If a file cannot be used, or if the source has classes instead.
pub fn load_ratings(data: &DataSettings, seed: u64) -> Result<Ratings, DataError> {
    match &data.source {
        DataSource::MovieLens { train, test } => {
            let load = |path: &PathBuf| -> Result<_, DataError> {
                read_file(&data.root.file(path), |source| movielens::read(source))
            };
            Ok(movielens::index(load(train)?, test.as_ref().map(load).transpose()?))
        }
        &DataSource::Planted { users, items, rank, ratings, noise } => {
            let counts = [("users", users), ("items", items), ("rank", rank), ("ratings", ratings)];
            if let Some((what, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
                return Err(DataError::Nothing { what });
            }
            let rows = u64::from(users.max(items));
            check_size(rows, u64::from(rank))?;
            Ok(planted::draw(planted::Plan { users, items, rank, ratings, noise }, seed))
        }
        DataSource::Own => Err(DataError::Own),
        DataSource::Idx { .. } | DataSource::Libsvm { .. } | DataSource::Csv { .. } => {
            Err(DataError::Kind { application: "factorisation", needs: "ratings", source_kind: "classes" })
        }
    }
}

/// The most elements of a table, of a model or a planted truth: 2^30, four gigabytes of f32.
const MAX_TABLE_ELEMENTS: u64 = 1 << 30;

/// Refuses tables beyond any machine.
///
/// # Errors
///
/// If `rows * width` elements are too many.
pub(crate) fn check_size(rows: u64, width: u64) -> Result<(), DataError> {
    if rows * width > MAX_TABLE_ELEMENTS {
        return Err(DataError::ModelSize { rows, width, allowed: MAX_TABLE_ELEMENTS });
    }
    Ok(())
}

/// Opens `file`, reads it by `read`, and puts its name on whatever goes wrong.
fn read_file<T, E: Into<FileError>>(
    file: &DataFile,
    read: impl FnOnce(&mut Source) -> Result<T, E>,
) -> Result<T, DataError> {
    let mut source = Source::open(file).map_err(|e| wrong(file, FileError::Open(e)))?;
    read(&mut source).map_err(|e| wrong(file, e))
}

fn wrong(file: &DataFile, source: impl Into<FileError>) -> DataError {
    DataError::File { file: file.clone(), source: source.into() }
}

/// Examples, and where they come from.
struct Loaded {
    examples: Labelled,
    features_file: DataFile,
    labels_file: DataFile,
}

impl Loaded {
    fn read<E: Into<FileError>>(
        file: DataFile,
        read: impl FnOnce(&mut Source) -> Result<Labelled, E>,
    ) -> Result<Self, DataError> {
        let examples = read_file(&file, read)?;
        Ok(Self { examples, features_file: file.clone(), labels_file: file })
    }

    fn classify(self, labels: &[i64]) -> Result<Examples, DataError> {
        classify(self.examples, labels).map_err(|e| wrong(&self.labels_file, e))
    }
}

fn idx_pair(images: DataFile, labels: DataFile) -> Result<Loaded, DataError> {
    let mut examples = read_file(&images, |source| idx::read_images(source))?;
    let values = read_file(&labels, |source| idx::read_labels(source))?;
    if values.len() != examples.rows.len() {
        return Err(DataError::Fit {
            file: labels,
            what: "examples",
            found: values.len() as u64,
            other: images,
            allowed: examples.rows.len() as u64,
        });
    }
    examples.labels = values;
    Ok(Loaded { examples, features_file: images, labels_file: labels })
}

/// Maps labels to classes; `same_features` where every file states how many features an example has.
fn classification(
    train: Loaded,
    test: Option<Loaded>,
    same_features: bool,
) -> Result<Classification, DataError> {
    let mut features = train.examples.features;
    let labels = classes_of(&train.examples.labels).map_err(|e| wrong(&train.labels_file, e))?;
    if let Some(test) = &test {
        let found = test.examples.features;
        if same_features && found != features && !test.examples.labels.is_empty() {
            return Err(DataError::Fit {
                file: test.features_file.clone(),
                what: "features",
                found: u64::from(found),
                other: train.features_file,
                allowed: u64::from(features),
            });
        }
        features = features.max(found);
    }
    let test = test.map(|test| test.classify(&labels)).transpose()?;
    Ok(Classification { train: train.classify(&labels)?, test, features, labels })
}

#[cfg(test)]
mod tests;
