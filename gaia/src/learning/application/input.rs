//! What an application is made of: the job's data, as far as a process needs it.

use std::cell::Cell;

use datacenter::TableSpec;

use super::{Application, BuildError, ModelSettings};
use crate::learning::data::partition::{Attributes, partition};
use crate::learning::data::{
    Classification, Corpus, DataError, DataFile, DataSettings, Observations, Outcome, Partition, Ratings,
    Vocabulary, check_size, classification_to_judge, documents_to_judge, draw_sample, load_classification,
    load_classification_slice, load_documents, load_observations, load_observations_slice, load_ratings,
    observations_to_judge, ratings_to_judge, tenths,
};

/// The data of a job, as far as a process needs them, for a [`ModelKind`](super::ModelKind) to make
/// its application of.
///
/// Everything random about an application (planted data, partition, initial values) follows from
/// the seed, and is the same in every datacenter that has the same files.
#[derive(Debug)]
pub struct Input<'a> {
    model: &'a ModelSettings,
    data: &'a DataSettings,
    partition: Partition,
    seed: u64,
    needs: Needs<'a>,
    left_out: Cell<u64>,
}

/// What is needed of the data.
#[derive(Debug)]
enum Needs<'a> {
    /// All of them.
    All,
    /// The same, read by the names and figures of a model that has been trained.
    Known(&'a Vocabulary),
    /// Of the training data these parts of so many: the features of other examples are not kept in
    /// memory.
    ///
    /// Ratings are kept whole: one has two ids, which the partition and the step sizes go by, and a
    /// value.
    Parts { of: usize, mine: &'a [usize] },
    /// These files in the place of all data, as what a model is judged by. The names and figures
    /// that make sense of the model are the known ones; where there are none, as beside models of
    /// older versions, they are found in the job's data.
    Judging { known: Option<&'a Vocabulary>, files: &'a [DataFile] },
}

impl<'a> Input<'a> {
    /// All data that `data` names, for a model of these settings.
    pub fn new(model: &'a ModelSettings, data: &'a DataSettings, partition: Partition, seed: u64) -> Self {
        Self { model, data, partition, seed, needs: Needs::All, left_out: Cell::new(0) }
    }

    /// The same, read by what is `known`, if anything is.
    #[must_use]
    pub fn known(self, known: Option<&'a Vocabulary>) -> Self {
        Self { needs: known.map_or(Needs::All, Needs::Known), ..self }
    }

    /// What a process needs that trains on (and scores) parts `mine` of `parts` alone.
    #[must_use]
    pub fn parts(self, parts: usize, mine: &'a [usize]) -> Self {
        Self { needs: Needs::Parts { of: parts, mine }, ..self }
    }

    /// No training data, and the examples of `files` as test data.
    #[must_use]
    pub fn judging(self, known: Option<&'a Vocabulary>, files: &'a [DataFile]) -> Self {
        Self { needs: Needs::Judging { known, files }, ..self }
    }

    /// Loads the data and makes the job's application.
    ///
    /// # Errors
    ///
    /// If the data cannot be used, or do not suit the application.
    pub fn application(&self) -> Result<Box<dyn Application>, BuildError> {
        let application = self.model.build(self)?;
        for table in application.tables() {
            check_size(u64::from(table.rows), u64::from(table.width))?;
            if !table.rule.is_sound() {
                let reason =
                    format!("table `{}` has a rule that makes no sense: {:?}", table.name, table.rule);
                return Err(BuildError::of_model(reason));
            }
            check_numbers(&table).map_err(BuildError::of_model)?;
        }
        Ok(application)
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How the training data are dealt out to workers: see
    /// [`partition`](crate::learning::data::partition).
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Where the job says that the data are, for a model that reads files of its own.
    pub fn data(&self) -> &DataSettings {
        self.data
    }

    /// The data as examples of classes.
    ///
    /// # Errors
    ///
    /// If they cannot be used, are of another kind, or have changed since they were looked at.
    pub fn classification(&self) -> Result<Classification, DataError> {
        let data = self.data;
        match self.needs {
            Needs::All => load_classification(data, None),
            Needs::Known(known) => load_classification(data, Some(known)),
            Needs::Parts { of, mine } => load_classification_slice(data, None, |classes: &[u32]| {
                let attributes = Attributes { keys: classes, labels: classes };
                let mut all = partition(self.partition, attributes, of, self.seed);
                mine.iter().flat_map(|&part| std::mem::take(&mut all[part])).collect()
            }),
            Needs::Judging { known, files } => {
                let found = known.is_none().then(|| load_classification(data, None)).transpose()?;
                let found = found.map(|data| data.vocabulary());
                let known = found.as_ref().or(known).expect("one of them is there");
                classification_to_judge(known, data, files)
            }
        }
    }

    /// The data as examples without classes, whose labels are `outcome`; also draws a sample of
    /// `sample` training examples, or of all where there are no more, which is the same in every
    /// process and has its features in memory.
    ///
    /// # Errors
    ///
    /// If they cannot be used, are of another kind, or have changed since they were looked at.
    pub fn observations(&self, outcome: Outcome, sample: usize) -> Result<Observations, DataError> {
        let (data, seed) = (self.data, self.seed);
        let with_sample = |mut data: Observations| {
            data.sample = draw_sample(data.train.len(), sample, seed);
            data
        };
        match self.needs {
            Needs::All => load_observations(data, None, outcome, seed).map(with_sample),
            Needs::Known(known) => load_observations(data, Some(known), outcome, seed).map(with_sample),
            Needs::Parts { of, mine } => {
                load_observations_slice(data, None, outcome, seed, |count, quantities| {
                    let keys = if quantities.is_empty() { vec![0; count] } else { tenths(quantities) };
                    let attributes = Attributes { keys: &keys, labels: &keys };
                    let mut all = partition(self.partition, attributes, of, seed);
                    let kept = mine.iter().flat_map(|&part| std::mem::take(&mut all[part])).collect();
                    (kept, draw_sample(count, sample, seed))
                })
            }
            Needs::Judging { known, files } => {
                let found =
                    known.is_none().then(|| load_observations(data, None, outcome, seed)).transpose()?;
                let found = found.map(|data| data.vocabulary());
                let known = found.as_ref().or(known).expect("one of them is there");
                observations_to_judge(known, data, outcome, files)
            }
        }
    }

    /// The data as ratings.
    ///
    /// # Errors
    ///
    /// If they cannot be used, or are of another kind.
    pub fn ratings(&self) -> Result<Ratings, DataError> {
        let data = self.data;
        match self.needs {
            Needs::All | Needs::Parts { .. } => load_ratings(data, None, self.seed),
            Needs::Known(known) => load_ratings(data, Some(known), self.seed),
            Needs::Judging { known, files } => {
                let found = known.is_none().then(|| load_ratings(data, None, self.seed)).transpose()?;
                let found = found.and_then(|data| data.vocabulary);
                let Some(vocabulary) = found.as_deref().or(known) else {
                    let expected = "planted ratings have no files";
                    return Err(DataError::Files { found: files.len(), expected });
                };
                let (data, count) = ratings_to_judge(vocabulary, data, files)?;
                self.left_out.set(count);
                Ok(data)
            }
        }
    }

    /// The data as documents.
    ///
    /// # Errors
    ///
    /// If they cannot be used, or are of another kind.
    pub fn documents(&self) -> Result<Corpus, DataError> {
        let data = self.data;
        match self.needs {
            Needs::All | Needs::Parts { .. } => load_documents(data, None, self.seed),
            Needs::Known(known) => load_documents(data, Some(known), self.seed),
            Needs::Judging { known, files } => {
                let found = known.is_none().then(|| load_documents(data, None, self.seed)).transpose()?;
                let found = found.and_then(|data| data.vocabulary);
                let Some(vocabulary) = found.as_deref().or(known) else {
                    let expected = "planted documents have no files";
                    return Err(DataError::Files { found: files.len(), expected });
                };
                documents_to_judge(vocabulary, data, files)
            }
        }
    }

    /// How many examples to judge by were left out, since the model knows nothing of whom they are
    /// about.
    pub fn left_out(&self) -> u64 {
        self.left_out.get()
    }
}

/// Refuses a rule that would make fractions of whole numbers.
fn check_numbers(table: &TableSpec) -> Result<(), String> {
    if table.is_whole() && !table.rule.takes_changes() {
        return Err(format!(
            "table `{}` holds whole numbers, of which the rule \"{}\" would make fractions; allowed: \"add\"",
            table.name,
            table.rule.name()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use datacenter::Rule;

    use super::*;

    #[test]
    fn whole_numbers_are_added_and_nothing_else() {
        let table = TableSpec::new("counts", 2, 3).whole();
        assert_eq!(check_numbers(&table), Ok(()));
        let error = check_numbers(&table.with_rule(Rule::Sgd { rate: 0.5 })).unwrap_err();
        assert_eq!(
            error,
            "table `counts` holds whole numbers, of which the rule \"sgd\" would make fractions; allowed: \"add\""
        );
        assert_eq!(check_numbers(&TableSpec::new("w", 2, 3).with_rule(Rule::Sgd { rate: 0.5 })), Ok(()));
    }
}
