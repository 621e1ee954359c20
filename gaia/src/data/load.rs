//! From a job's settings to a data set.

use std::io;
use std::path::PathBuf;

use super::classification::{
    ClassesError, Classification, Examples, Keep, Labelled, Slice, classes_of, classify,
};
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
    /// A file that was read twice.
    #[error("{file} was changed while it was read")]
    Changed {
        /// The file.
        file: DataFile,
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
    /// Other files to judge by than a data set of this format has.
    #[error("found {found} data files; {expected}")]
    Files {
        /// How many.
        found: usize,
        /// How many there may be, and which.
        expected: &'static str,
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
    classification(training(data, Keep::All)?, test(data)?, has_same_features(&data.source))
}

/// Loads examples with classes, and keeps the features of those training examples that `choose` names when it is told
/// the classes of all.
///
/// The training file is read twice: what is kept may depend on all labels. An example that is not kept costs 12 bytes.
///
/// # Errors
///
/// As [`load_classification`], and if the file is not the same when it is read again.
pub fn load_classification_slice(
    data: &DataSettings,
    choose: impl FnOnce(&[u32]) -> Vec<u32>,
) -> Result<Classification, DataError> {
    let whole = training(data, Keep::Those(&[]))?;
    let labels = classes_of(&whole.examples.labels).map_err(|e| wrong(&whole.labels_file, e))?;
    let (known, occurrences) = (whole.examples.labels.clone(), whole.examples.occurrences.clone());
    let mut kept = choose(&whole.classify(&labels)?.classes);
    kept.sort_unstable();
    let mut keep = vec![false; known.len()];
    kept.iter().for_each(|&example| keep[example as usize] = true);
    let train = training(data, Keep::Those(&keep))?;
    if train.examples.labels != known || train.examples.occurrences != occurrences {
        return Err(DataError::Changed { file: train.features_file });
    }
    let mut data = classification(train, test(data)?, has_same_features(&data.source))?;
    data.slice = Some(Slice { kept, occurrences });
    Ok(data)
}

/// Reads the training examples.
fn training(data: &DataSettings, keep: Keep<'_>) -> Result<Loaded, DataError> {
    let at = |path: &PathBuf| data.root.file(path);
    match &data.source {
        DataSource::Idx { train: [images, labels], .. } => idx_pair(at(images), at(labels), keep),
        DataSource::Libsvm { train, features, .. } => {
            Loaded::read(at(train), |source| libsvm::read(source, *features, keep))
        }
        DataSource::Csv { train, header, scale, .. } => {
            Loaded::read(at(train), |source| csv::read(source, *header, *scale, keep))
        }
        DataSource::Own => Err(DataError::Own),
        DataSource::MovieLens { .. } | DataSource::Planted { .. } => Err(DataError::Kind {
            application: "softmax regression",
            needs: "classes",
            source_kind: "ratings",
        }),
    }
}

/// Reads the test examples, where there are any, as training examples of another file.
fn test(data: &DataSettings) -> Result<Option<Loaded>, DataError> {
    let mut source = data.source.clone();
    let is_there = match &mut source {
        DataSource::Idx { train, test } => test.take().map(|test| *train = test),
        DataSource::Libsvm { train, test, .. } | DataSource::Csv { train, test, .. } => {
            test.take().map(|test| *train = test)
        }
        DataSource::Own | DataSource::MovieLens { .. } | DataSource::Planted { .. } => None,
    };
    is_there.map(|()| training(&DataSettings { root: data.root.clone(), source }, Keep::All)).transpose()
}

/// Whether every file states how many features an example has. A LIBSVM file shows only the largest index that occurs in
/// it.
fn has_same_features(source: &DataSource) -> bool {
    !matches!(source, DataSource::Libsvm { .. })
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
pub(super) fn read_file<T, E: Into<FileError>>(
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
pub(super) struct Loaded {
    pub(super) examples: Labelled,
    pub(super) features_file: DataFile,
    labels_file: DataFile,
}

impl Loaded {
    pub(super) fn read<E: Into<FileError>>(
        file: DataFile,
        read: impl FnOnce(&mut Source) -> Result<Labelled, E>,
    ) -> Result<Self, DataError> {
        let examples = read_file(&file, read)?;
        Ok(Self { examples, features_file: file.clone(), labels_file: file })
    }

    pub(super) fn classify(self, labels: &[i64]) -> Result<Examples, DataError> {
        classify(self.examples, labels).map_err(|e| wrong(&self.labels_file, e))
    }
}

pub(super) fn idx_pair(images: DataFile, labels: DataFile, keep: Keep<'_>) -> Result<Loaded, DataError> {
    let mut examples = read_file(&images, |source| idx::read_images(source, keep))?;
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
    Ok(Classification { train: train.classify(&labels)?, test, features, labels, slice: None })
}

#[cfg(test)]
mod tests;
