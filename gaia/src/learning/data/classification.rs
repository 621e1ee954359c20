//! Examples of classes, as sparse rows.
//!
//! Most classification data is mostly zeros: four fifths of MNIST's pixels are, and nearly all of a
//! bag of words. So examples are kept in compressed sparse rows, and a model only ever touches the
//! weights of non-zero features.

use ndarray::Array2;

use super::names::{Name, NameColumn, Names, Scaling, Vocabulary};
use super::partition::{Attributes, partition};
use crate::learning::data::Partition;

/// The most features of a data set: 2^26. A stray index in a file must not become a table of
/// terabytes.
pub const MAX_FEATURES: u32 = 1 << 26;

/// The most classes of a data set. More is surely a mistaken column.
pub const MAX_CLASSES: usize = 1 << 16;

/// Non-negative counts of examples are 32 bits wide everywhere.
pub(crate) const MAX_EXAMPLES: usize = u32::MAX as usize;

/// Sparse rows in one piece: compressed sparse row format.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows {
    /// Row `i` is at `offsets[i]..offsets[i + 1]`; shape `[rows + 1]`.
    offsets: Vec<usize>,
    /// Shape `[non-zeros]`, ascending inside a row.
    features: Vec<u32>,
    /// Shape `[non-zeros]`.
    values: Vec<f32>,
}

/// One example's non-zero features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseRow<'a> {
    /// Indexes of features, ascending; shape `[non-zeros]`.
    pub features: &'a [u32],
    /// Their values; shape `[non-zeros]`.
    pub values: &'a [f32],
}

impl Default for SparseRows {
    fn default() -> Self {
        Self { offsets: vec![0], features: Vec::new(), values: Vec::new() }
    }
}

impl SparseRows {
    /// Appends a row; features must come in ascending order, and zeros are left out.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (feature, value) in row {
            if value != 0.0 {
                self.features.push(feature);
                self.values.push(value);
            }
        }
        self.offsets.push(self.features.len());
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> SparseRow<'_> {
        let range = self.offsets[index]..self.offsets[index + 1];
        SparseRow { features: &self.features[range.clone()], values: &self.values[range] }
    }

    /// Divides each row by its Euclidean norm; one without non-zeros stays as it is.
    pub fn normalise(&mut self) {
        for range in self.offsets.windows(2) {
            let row = &mut self.values[range[0]..range[1]];
            let norm = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
            row.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
        }
    }

    /// In how many rows each of `features` features is non-zero.
    pub fn occurrences(&self, features: u32) -> Vec<u32> {
        let mut counts = vec![0; features as usize];
        self.features.iter().for_each(|&feature| counts[feature as usize] += 1);
        counts
    }
}

/// Examples, each with its class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// One row for each example.
    pub rows: SparseRows,
    /// The class of each example, an index into [`Classification::labels`]; shape `[examples]`.
    pub classes: Vec<u32>,
}

impl Examples {
    /// How many examples.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Deals the examples out to `parts` parts: `result[p]` has the indexes of part `p`. What must
    /// stay together, or is sorted out, are classes.
    pub fn deal(&self, kind: Partition, parts: usize, seed: u64) -> Vec<Vec<u32>> {
        partition(kind, Attributes { keys: &self.classes, labels: &self.classes }, parts, seed)
    }

    /// The classes of some examples as a matrix with a one in the column of each one's class; shape
    /// `[indexes, classes]`.
    ///
    /// # Panics
    ///
    /// If there is no such example, or one has a class beyond `classes`.
    pub fn one_hot(&self, indexes: &[u32], classes: usize) -> Array2<f32> {
        let mut matrix = Array2::zeros([indexes.len(), classes]);
        for (row, &index) in indexes.iter().enumerate() {
            matrix[[row, self.classes[index as usize] as usize]] = 1.0;
        }
        matrix
    }

    /// The features of some examples as a dense matrix; shape `[indexes, features]`.
    ///
    /// # Panics
    ///
    /// If there is no such example, or one has a feature beyond `features`.
    pub fn dense(&self, indexes: &[u32], features: u32) -> Array2<f32> {
        let mut matrix = Array2::zeros([indexes.len(), features as usize]);
        for (mut out, &index) in matrix.rows_mut().into_iter().zip(indexes) {
            let SparseRow { features, values } = self.rows.row(index as usize);
            features.iter().zip(values).for_each(|(&feature, &value)| out[feature as usize] = value);
        }
        matrix
    }
}

/// A classification data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// What to train on; never empty.
    pub train: Examples,
    /// What to judge by.
    pub test: Option<Examples>,
    /// How many features an example has.
    pub features: u32,
    /// The label of each class as the files have it; at least two, unless they were given.
    pub labels: Names,
    /// What the features are called, in order, where that is known.
    pub feature_names: Option<Vec<String>>,
    /// How features were standardised, if they were.
    pub scaling: Option<Scaling>,
    /// What is left of the training data, where only a part of it was kept.
    pub slice: Option<Slice>,
}

impl Classification {
    /// Some of the training examples as matrices: their features, shape `[indexes, features]`, and a one
    /// in the column of each one's class, shape `[indexes, classes]`.
    ///
    /// # Panics
    ///
    /// If there is no such example.
    pub fn matrices(&self, indexes: &[u32]) -> (Array2<f32>, Array2<f32>) {
        (self.train.dense(indexes, self.features), self.train.one_hot(indexes, self.labels.len()))
    }

    /// What a model of these data stands for.
    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Classes {
            labels: self.labels.clone(),
            features: self.features,
            feature_names: self.feature_names.clone(),
            scaling: self.scaling.clone(),
        }
    }

    /// In how many training examples each feature is non-zero, whether they were kept or not; shape
    /// `[features]`.
    pub fn occurrences(&self) -> Vec<u32> {
        occurrences(&self.train.rows, self.slice.as_ref(), self.features)
    }
}

/// In how many examples of the whole training data each feature is non-zero; shape `[features]`.
pub(super) fn occurrences(rows: &SparseRows, slice: Option<&Slice>, features: u32) -> Vec<u32> {
    let mut occurrences = match slice {
        Some(slice) => slice.occurrences.clone(),
        None => rows.occurrences(features),
    };
    // The test data may have features that training never sees.
    occurrences.resize(features as usize, 0);
    occurrences
}

/// A part of the training data that has its features in memory. All other examples have their
/// places and classes still, so that indexes mean the same as in the whole, and no features.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The examples that were kept, ascending.
    pub kept: Vec<u32>,
    /// In how many examples of the whole each feature is non-zero.
    pub occurrences: Vec<u32>,
}

/// Which rows of a file are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Keep<'a> {
    /// All.
    #[default]
    All,
    /// Those for which there is a true.
    Those(&'a [bool]),
}

/// Rows as a file has them: labels not yet mapped to classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Labelled {
    pub(crate) rows: SparseRows,
    /// One for each row, where they are classes.
    pub(crate) labels: NameColumn,
    /// One for each row, where they are quantities.
    pub(crate) quantities: Vec<f32>,
    /// How many features the file shows or declares.
    pub(crate) features: u32,
    /// In how many rows each feature is non-zero, where not all are kept.
    pub(crate) occurrences: Vec<u32>,
    /// How features are to be standardised, where that was found out.
    pub(crate) scaling: Option<Scaling>,
    /// The names of features in the order in which rows have them, where the file has a header.
    pub(crate) header: Option<Vec<String>>,
}

impl Labelled {
    /// Appends a row, or an empty one in its place if it is not kept; features must come in
    /// ascending order.
    pub(crate) fn push(&mut self, keep: Keep<'_>, row: impl Iterator<Item = (u32, f32)> + Clone) {
        let Keep::Those(kept) = keep else {
            return self.rows.push(row);
        };
        for (feature, _) in row.clone().filter(|(_, value)| *value != 0.0) {
            let index = feature as usize;
            if self.occurrences.len() <= index {
                self.occurrences.resize(index + 1, 0);
            }
            self.occurrences[index] += 1;
        }
        if kept.get(self.rows.len()) == Some(&true) {
            self.rows.push(row);
        } else {
            self.rows.push([]);
        }
    }
}

/// Why labels cannot be taken for classes.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ClassesError {
    /// There is nothing to train on or test with.
    #[error("has no examples, at least one is needed")]
    Empty,
    /// More examples than indexes can name.
    #[error("has {found} examples, at most {MAX_EXAMPLES} are allowed")]
    TooManyExamples {
        /// How many.
        found: usize,
    },
    /// Nothing to tell apart, or surely not labels.
    #[error("has {found} different labels, 2 to {MAX_CLASSES} are allowed")]
    Count {
        /// How many.
        found: usize,
    },
    /// A label that the model does not know: training never saw it, or it is not among those that
    /// were given.
    #[error("example {example}: label {found} is none of the {classes} known labels: {known}")]
    Unknown {
        /// Counted from one.
        example: usize,
        /// The label.
        found: Name,
        /// How many labels there are.
        classes: usize,
        /// Which ones.
        known: String,
    },
}

/// The different labels of a training file, in order: a label's place among them is its class.
pub(crate) fn classes_of(labels: &NameColumn) -> Result<Names, ClassesError> {
    let classes: Names = labels.names().collect();
    match (labels.len(), classes.len()) {
        (0, _) => Err(ClassesError::Empty),
        (found, _) if found > MAX_EXAMPLES => Err(ClassesError::TooManyExamples { found }),
        (_, 2..=MAX_CLASSES) => Ok(classes),
        (_, found) => Err(ClassesError::Count { found }),
    }
}

/// Replaces each label by its class.
pub(crate) fn classify(file: Labelled, labels: &Names) -> Result<Examples, ClassesError> {
    match file.labels.len() {
        0 => return Err(ClassesError::Empty),
        found if found > MAX_EXAMPLES => return Err(ClassesError::TooManyExamples { found }),
        _ => {}
    }
    let places = file.labels.places(labels);
    if let Some(row) = places.iter().position(Option::is_none)
        && let Some(found) = file.labels.name(row)
    {
        let (classes, known) = (labels.len(), labels.summary());
        return Err(ClassesError::Unknown { example: row + 1, found, classes, known });
    }
    let classes = places.into_iter().flatten().collect();
    Ok(Examples { rows: file.rows, classes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(labels: &[i64]) -> Labelled {
        let mut file = Labelled { features: 1, ..Labelled::default() };
        for label in labels {
            file.labels.push_number(*label);
            file.rows.push([(0, 1.0)]);
        }
        file
    }

    fn classes(labels: &[i64]) -> Result<Names, ClassesError> {
        classes_of(&labelled(labels).labels)
    }

    #[test]
    fn rows_come_back_without_zeros() {
        let mut rows = SparseRows::default();
        rows.push([(1, 0.5), (2, 0.0), (4, -1.0)]);
        rows.push([]);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows.row(0), SparseRow { features: &[1, 4], values: &[0.5, -1.0] });
        assert_eq!(rows.row(1), SparseRow { features: &[], values: &[] });
        assert_eq!(rows.occurrences(5), [0, 1, 0, 0, 1]);
    }

    #[test]
    fn labels_become_classes_in_ascending_order() {
        let labels = classes(&[1, -1, 1]).unwrap();
        assert_eq!(labels.all(), [Name::Number(-1), Name::Number(1)]);
        assert_eq!(classify(labelled(&[1, -1, 1]), &labels).unwrap().classes, [1, 0, 1]);
        // The training set's classes hold for a test set that lacks one.
        assert_eq!(classify(labelled(&[1, 1]), &labels).unwrap().classes, [1, 1]);
    }

    #[test]
    fn what_cannot_be_classes_is_refused() {
        assert_eq!(classes(&[]), Err(ClassesError::Empty));
        assert_eq!(classes(&[3, 3]), Err(ClassesError::Count { found: 1 }));
        let many: Vec<i64> = (0..=MAX_CLASSES as i64).collect();
        assert_eq!(classes(&many), Err(ClassesError::Count { found: MAX_CLASSES + 1 }));
        let known: Names = [1, 2].map(Name::Number).into_iter().collect();
        let unknown = classify(labelled(&[1, 5]), &known).unwrap_err().to_string();
        assert_eq!(unknown, "example 2: label 5 is none of the 2 known labels: 1, 2");
        assert_eq!(classify(labelled(&[]), &known), Err(ClassesError::Empty));
    }
}
