//! From a job's settings to a data set.

use std::io;
use std::path::PathBuf;

use super::classification::{
    ClassesError, Classification, Examples, Keep, Labelled, MAX_EXAMPLES, Slice, classes_of, classify,
};
use super::csv::{Features, Form};
use super::names::{Names, Scaling, Vocabulary};
use super::observations::{LinearPlan, Observations, Samples, draw_linear};
use super::source::Source;
use super::{BagError, Corpus, CsvError, Documents, IdxError, LibsvmError, MovieLensError, Ratings};
use super::{bags, csv, declared, idx, libsvm, movielens, planted, planted_topics};
use crate::learning::data::{BagFormat, Column, DataFile, DataSettings, DataSource, Layout, Outcome, Scale};

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
    /// Other features than those that are known.
    #[error("{file} has {found} features, the model has {allowed}")]
    Features {
        /// The file.
        file: DataFile,
        /// How many it has.
        found: u64,
        /// How many the model has.
        allowed: u64,
    },
    /// A file that was read twice.
    #[error("{file} was changed while it was read")]
    Changed {
        /// The file.
        file: DataFile,
    },
    /// What is known of the model is of another kind than the data.
    #[error("the names that are known are those of {known}, and the data has {found}")]
    OtherNames {
        /// What they are.
        known: &'static str,
        /// What the data has.
        found: &'static str,
    },
    /// A file of names that is none, or that has none that a model could have.
    #[error("cannot use the names in {file}: {what}")]
    Names {
        /// The file.
        file: DataFile,
        /// What is wrong with it.
        what: String,
    },
    /// Names of several files that are not those of one model.
    #[error("the names of {file} do not go together with those before: {what}")]
    Merge {
        /// The file.
        file: DataFile,
        /// How they differ.
        what: String,
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
    /// As bags of words.
    #[error(transparent)]
    Bags(#[from] BagError),
    /// Its labels.
    #[error(transparent)]
    Classes(#[from] ClassesError),
}

/// What is known before data is read: the names and figures of a model, by which it is read then.
pub type Known<'a> = Option<&'a Vocabulary>;

/// Loads examples with classes. Where names are `known`, a label's class is its place among them;
/// else among those that the training file has.
///
/// # Errors
///
/// If a file cannot be used, if files do not fit together or do not fit what is known, or if the
/// source has ratings instead.
pub fn load_classification(data: &DataSettings, known: Known<'_>) -> Result<Classification, DataError> {
    let declared = declared::read(data, known)?;
    let reading = Reading::new(data, known, declared.as_ref(), Outcome::Class)?;
    let train = reading.training(Keep::All)?;
    reading.classification(train)
}

/// Loads examples with classes, and keeps the features of those training examples that `choose`
/// names when it is told the classes of all.
///
/// The training file is read twice: what is kept may depend on all labels. An example that is not
/// kept costs 12 bytes.
///
/// # Errors
///
/// As [`load_classification`], and if the file is not the same when it is read again.
pub fn load_classification_slice(
    data: &DataSettings,
    known: Known<'_>,
    choose: impl FnOnce(&[u32]) -> Vec<u32>,
) -> Result<Classification, DataError> {
    let declared = declared::read(data, known)?;
    let reading = Reading::new(data, known, declared.as_ref(), Outcome::Class)?;
    let whole = reading.training(Keep::Those(&[]))?;
    let labels = reading.labels(&whole)?;
    let (names, occurrences) = (whole.examples.labels.clone(), whole.examples.occurrences.clone());
    let mut kept = choose(&whole.classify(&labels)?.classes);
    kept.sort_unstable();
    let mut keep = vec![false; names.len()];
    kept.iter().for_each(|&example| keep[example as usize] = true);
    let train = reading.training(Keep::Those(&keep))?;
    if train.examples.labels != names || train.examples.occurrences != occurrences {
        return Err(DataError::Changed { file: train.features_file });
    }
    let mut data = reading.classification(train)?;
    data.slice = Some(Slice { kept, occurrences });
    Ok(data)
}

/// Loads examples without classes; `outcome` is what their labels are instead, and `seed` matters
/// for drawn ones alone.
///
/// # Errors
///
/// If a file cannot be used, if files do not fit together or do not fit what is known, or if the
/// source has ratings instead.
pub fn load_observations(
    data: &DataSettings,
    known: Known<'_>,
    outcome: Outcome,
    seed: u64,
) -> Result<Observations, DataError> {
    if let DataSource::PlantedLinear { examples, features, noise } = data.source {
        return planted_linear(LinearPlan { examples, features, noise }, seed);
    }
    let declared = declared::read(data, known)?;
    let reading = Reading::new(data, known, declared.as_ref(), outcome)?;
    let train = reading.training(Keep::All)?;
    reading.observations(train)
}

/// Loads examples without classes, and keeps the features of those training examples that `choose`
/// names when it is told how many there are and their quantities: those of a part, and those of a
/// sample.
///
/// # Errors
///
/// As [`load_observations`], and if the file is not the same when it is read again.
pub fn load_observations_slice(
    data: &DataSettings,
    known: Known<'_>,
    outcome: Outcome,
    seed: u64,
    choose: impl FnOnce(usize, &[f32]) -> (Vec<u32>, Vec<u32>),
) -> Result<Observations, DataError> {
    if let DataSource::PlantedLinear { .. } = data.source {
        let mut data = load_observations(data, known, outcome, seed)?;
        let (mut kept, sample) = choose(data.train.len(), &data.train.quantities);
        kept.sort_unstable();
        let occurrences = data.train.rows.occurrences(data.features);
        (data.slice, data.sample) = (Some(Slice { kept, occurrences }), sample);
        return Ok(data);
    }
    let declared = declared::read(data, known)?;
    let reading = Reading::new(data, known, declared.as_ref(), outcome)?;
    let whole = reading.training(Keep::Those(&[]))?.examples;
    let (mut kept, sample) = choose(whole.rows.len(), &whole.quantities);
    kept.sort_unstable();
    let mut keep = vec![false; whole.rows.len()];
    kept.iter().chain(&sample).for_each(|&example| keep[example as usize] = true);
    let train = reading.training(Keep::Those(&keep))?;
    let again = &train.examples;
    if (&again.quantities, &again.occurrences) != (&whole.quantities, &whole.occurrences)
        || again.rows.len() != whole.rows.len()
    {
        return Err(DataError::Changed { file: train.features_file });
    }
    let mut data = reading.observations(train)?;
    (data.slice, data.sample) = (Some(Slice { kept, occurrences: whole.occurrences }), sample);
    Ok(data)
}

fn planted_linear(plan: LinearPlan, seed: u64) -> Result<Observations, DataError> {
    for (what, count) in [("examples", plan.examples), ("features", plan.features)] {
        if count == 0 {
            return Err(DataError::Nothing { what });
        }
    }
    check_size(u64::from(plan.examples), u64::from(plan.features))?;
    let (train, test) = draw_linear(plan, seed);
    Ok(Observations {
        train,
        test: Some(test),
        features: plan.features,
        feature_names: None,
        scaling: None,
        slice: None,
        sample: Vec::new(),
    })
}

/// How the files of a data set of examples are read: once its scaling is found, all of them alike.
pub(super) struct Reading<'a> {
    data: &'a DataSettings,
    labels: Option<&'a Names>,
    features: Option<u32>,
    feature_names: Option<&'a [String]>,
    /// Whether a model is there already, whose features are what they are.
    is_trained: bool,
    scaling: Option<Scaling>,
    /// What labels are.
    outcome: Outcome,
}

impl<'a> Reading<'a> {
    /// By what is `known` of a model, or else by what is `declared`.
    pub(super) fn new(
        data: &'a DataSettings,
        known: Known<'a>,
        declared: Known<'a>,
        outcome: Outcome,
    ) -> Result<Self, DataError> {
        let labels = data.declared.labels.as_ref();
        let mut reading = Self {
            data,
            labels,
            features: None,
            feature_names: None,
            is_trained: known.is_some(),
            scaling: None,
            outcome,
        };
        let found = match outcome {
            Outcome::Class => "classes",
            Outcome::Quantity => "quantities",
            Outcome::Ignored => "features alone",
        };
        if labels.is_some() && outcome != Outcome::Class {
            return Err(DataError::OtherNames { known: "classes", found });
        }
        match known.or(declared) {
            Some(Vocabulary::Classes { labels, features, feature_names, scaling })
                if outcome == Outcome::Class =>
            {
                reading.labels = Some(labels);
                reading.features = Some(*features);
                reading.feature_names = feature_names.as_deref();
                reading.scaling.clone_from(scaling);
            }
            Some(Vocabulary::Features { features, feature_names, scaling }) if outcome != Outcome::Class => {
                reading.features = Some(*features);
                reading.feature_names = feature_names.as_deref();
                reading.scaling.clone_from(scaling);
            }
            Some(Vocabulary::Ratings { .. } | Vocabulary::Hashed(_)) => {
                return Err(DataError::OtherNames { known: "users and items", found });
            }
            Some(other) => return Err(DataError::OtherNames { known: other.subject(), found }),
            None => {}
        }
        if let DataSource::Csv { train, scale: Scale::Standard, .. } = &data.source
            && reading.scaling.is_none()
        {
            let file = data.root.file(train);
            let form = csv_form(&data.source, outcome, Features::Measured, reading.feature_names);
            let measured = read_file(&file, |source| csv::read(source, form, Keep::Those(&[])))?;
            reading.scaling = measured.scaling;
        }
        Ok(reading)
    }

    /// Reads the training examples.
    pub(super) fn training(&self, keep: Keep<'_>) -> Result<Loaded, DataError> {
        self.examples(&self.data.source, self.feature_names, keep)
    }

    /// Reads the training examples of `source`, whose features are called `names`.
    fn examples(
        &self,
        source: &DataSource,
        names: Option<&[String]>,
        keep: Keep<'_>,
    ) -> Result<Loaded, DataError> {
        let at = |path: &PathBuf| self.data.root.file(path);
        match source {
            DataSource::Idx { train: [images, labels], .. } => {
                idx_pair(at(images), at(labels), self.outcome, keep)
            }
            DataSource::Libsvm { train, features, .. } => {
                let features = self.features.or(*features);
                Loaded::read(at(train), |source| libsvm::read(source, features, self.outcome, keep))
            }
            DataSource::Csv { train, scale, .. } => {
                let form = csv_form(source, self.outcome, features_of(*scale, self.scaling.as_ref()), names);
                Loaded::read(at(train), |source| csv::read(source, form, keep))
            }
            DataSource::Own => Err(DataError::Own),
            DataSource::MovieLens { .. }
            | DataSource::Planted { .. }
            | DataSource::PlantedLinear { .. }
            | DataSource::Bags { .. }
            | DataSource::PlantedTopics { .. } => Err(DataError::Kind {
                application: "this kind of model",
                needs: match self.outcome {
                    Outcome::Class => "classes",
                    Outcome::Quantity => "quantities",
                    Outcome::Ignored => "features",
                },
                source_kind: source.kind(),
            }),
        }
    }

    /// Reads the test examples, where there are any, as training examples of another file: by the
    /// names of the features in `train`, whatever their order there.
    pub(super) fn test(&self, train: &Loaded) -> Result<Option<Loaded>, DataError> {
        let mut source = self.data.source.clone();
        let is_there = match &mut source {
            DataSource::Idx { train, test } => test.take().map(|test| *train = test),
            DataSource::Libsvm { train, test, .. } | DataSource::Csv { train, test, .. } => {
                test.take().map(|test| *train = test)
            }
            DataSource::Own
            | DataSource::MovieLens { .. }
            | DataSource::Planted { .. }
            | DataSource::PlantedLinear { .. }
            | DataSource::Bags { .. }
            | DataSource::PlantedTopics { .. } => None,
        };
        let names = self.feature_names.or(train.examples.header.as_deref());
        is_there.map(|()| self.examples(&source, names, Keep::All)).transpose()
    }

    fn labels(&self, train: &Loaded) -> Result<Names, DataError> {
        match self.labels {
            Some(labels) => Ok(labels.clone()),
            None => classes_of(&train.examples.labels).map_err(|e| wrong(&train.labels_file, e)),
        }
    }

    /// Maps labels to classes, and puts the test examples beside the training examples.
    fn classification(self, train: Loaded) -> Result<Classification, DataError> {
        let labels = self.labels(&train)?;
        let Fitted { train, test, features, feature_names } = self.fit(train)?;
        let test = test.map(|test| test.classify(&labels)).transpose()?;
        let train = train.classify(&labels)?;
        let scaling = self.scaling;
        Ok(Classification { train, test, features, labels, feature_names, scaling, slice: None })
    }

    /// Puts the test examples beside the training examples.
    fn observations(self, train: Loaded) -> Result<Observations, DataError> {
        let Fitted { train, test, features, feature_names } = self.fit(train)?;
        let test = test.map(Loaded::samples).transpose()?;
        let train = train.samples()?;
        let (scaling, sample) = (self.scaling, Vec::new());
        Ok(Observations { train, test, features, feature_names, scaling, slice: None, sample })
    }

    /// Reads the test examples, and compares features.
    fn fit(&self, mut train: Loaded) -> Result<Fitted, DataError> {
        let mut features = train.examples.features;
        if let Some(known) = self.features.filter(|known| *known != features) {
            let found = u64::from(features);
            return Err(DataError::Features { file: train.features_file, found, allowed: u64::from(known) });
        }
        let test = self.test(&train)?;
        let named = self.feature_names.map(<[String]>::to_vec);
        let feature_names = named.or(train.examples.header.take().filter(|_| !self.is_trained));
        if let Some(test) = &test {
            let found = test.examples.features;
            if has_same_features(&self.data.source) && found != features && !test.examples.rows.is_empty() {
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
        Ok(Fitted { train, test, features, feature_names })
    }
}

/// Files whose features go together.
struct Fitted {
    train: Loaded,
    test: Option<Loaded>,
    features: u32,
    feature_names: Option<Vec<String>>,
}

/// How `source`, which is CSV, is read.
pub(super) fn csv_form<'a>(
    source: &'a DataSource,
    outcome: Outcome,
    features: Features<'a>,
    names: Option<&'a [String]>,
) -> Form<'a> {
    match source {
        DataSource::Csv { layout, label, .. } => Form { layout: *layout, label, outcome, features, names },
        _ => Form { layout: Layout::default(), label: &Column::Last, outcome, features, names },
    }
}

/// What becomes of the features of a CSV file.
pub(super) fn features_of(scale: Scale, scaling: Option<&Scaling>) -> Features<'_> {
    match (scale, scaling) {
        (_, Some(scaling)) => Features::Standardised(scaling),
        (Scale::Times(factor), None) => Features::Times(factor),
        (Scale::Standard, None) => Features::Times(1.0),
    }
}

/// Whether every file states how many features an example has. A LIBSVM file shows only the largest
/// index that occurs in it.
fn has_same_features(source: &DataSource) -> bool {
    !matches!(source, DataSource::Libsvm { .. })
}

/// Loads or draws ratings; `seed` matters for drawn ones alone. Where names are `known`, the index
/// of a user or an item is its place among them.
///
/// # Errors
///
/// If a file cannot be used or does not fit what is known, or if the source has classes instead.
pub fn load_ratings(data: &DataSettings, known: Known<'_>, seed: u64) -> Result<Ratings, DataError> {
    match &data.source {
        DataSource::MovieLens { train, test, layout, columns } => {
            let declared = declared::read(data, known)?;
            let known = known.or(declared.as_ref());
            if let Some(
                known @ (Vocabulary::Classes { .. } | Vocabulary::Features { .. } | Vocabulary::Words { .. }),
            ) = known
            {
                return Err(DataError::OtherNames { known: known.subject(), found: "ratings" });
            }
            let file = data.root.file(train);
            let load = |path: &PathBuf| -> Result<_, DataError> {
                read_file(&data.root.file(path), |source| movielens::read(source, *layout, columns))
            };
            let (train, test) = (load(train)?, test.as_ref().map(load).transpose()?);
            movielens::index(train, test, known).map_err(|error| wrong(&file, error))
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
        source => {
            let source_kind = source.kind();
            Err(DataError::Kind { application: "factorisation", needs: "ratings", source_kind })
        }
    }
}

/// Loads or draws documents; `seed` matters for drawn ones alone. Where words are `known`, those of
/// the job's own file are not read.
///
/// # Errors
///
/// If a file cannot be used, or if the source has no documents.
pub fn load_documents(data: &DataSettings, known: Known<'_>, seed: u64) -> Result<Corpus, DataError> {
    match &data.source {
        DataSource::Bags { format, train, test, vocabulary } => {
            let vocabulary = match known {
                Some(known) => known.clone(),
                None => {
                    let words = read_file(&data.root.file(vocabulary), |source| bags::read_words(source))?;
                    Vocabulary::Words { words }
                }
            };
            let words = words_of(&vocabulary)?;
            let load = |path: &PathBuf| read_bags(&data.root.file(path), *format, words);
            let (train, test) = (load(train)?, test.as_ref().map(load).transpose()?);
            Ok(Corpus { train, test, words, vocabulary: Some(vocabulary.into()) })
        }
        &DataSource::PlantedTopics { documents, words, topics, length } => {
            let counts = [("documents", documents), ("words", words), ("topics", topics), ("tokens", length)];
            if let Some((what, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
                return Err(DataError::Nothing { what });
            }
            check_size(u64::from(words), u64::from(topics))?;
            Ok(planted_topics::draw(planted_topics::Plan { documents, words, topics, length }, seed))
        }
        DataSource::Own => Err(DataError::Own),
        source => {
            let source_kind = source.kind();
            Err(DataError::Kind { application: "a topic model", needs: "documents", source_kind })
        }
    }
}

/// How many words a vocabulary of documents has.
pub(super) fn words_of(vocabulary: &Vocabulary) -> Result<u32, DataError> {
    match vocabulary {
        Vocabulary::Words { words } => Ok(words.len() as u32),
        Vocabulary::Classes { .. }
        | Vocabulary::Features { .. }
        | Vocabulary::Ratings { .. }
        | Vocabulary::Hashed(_) => {
            Err(DataError::OtherNames { known: vocabulary.subject(), found: "documents" })
        }
    }
}

/// Reads documents over `words` words.
pub(super) fn read_bags(file: &DataFile, format: BagFormat, words: u32) -> Result<Documents, DataError> {
    read_file(file, |source| match format {
        BagFormat::Uci => bags::read_uci(source, words),
        BagFormat::LdaC => bags::read_ldac(source, words),
    })
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

pub(super) fn wrong(file: &DataFile, source: impl Into<FileError>) -> DataError {
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

    pub(super) fn classify(self, labels: &Names) -> Result<Examples, DataError> {
        classify(self.examples, labels).map_err(|e| wrong(&self.labels_file, e))
    }

    /// The same without classes.
    pub(super) fn samples(self) -> Result<Samples, DataError> {
        let Labelled { rows, quantities, .. } = self.examples;
        match rows.len() {
            0 => Err(wrong(&self.features_file, ClassesError::Empty)),
            found if found > MAX_EXAMPLES => {
                Err(wrong(&self.features_file, ClassesError::TooManyExamples { found }))
            }
            _ => Ok(Samples { rows, quantities }),
        }
    }
}

pub(super) fn idx_pair(
    images: DataFile,
    labels: DataFile,
    outcome: Outcome,
    keep: Keep<'_>,
) -> Result<Loaded, DataError> {
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
    match outcome {
        Outcome::Class => examples.labels = values,
        Outcome::Quantity => examples.quantities = values.numbers(),
        Outcome::Ignored => {}
    }
    Ok(Loaded { examples, features_file: images, labels_file: labels })
}

#[cfg(test)]
mod tests;
