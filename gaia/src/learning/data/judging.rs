//! Other test data than the job's, for a model that has been trained.
//!
//! What the numbers of a model mean, which class a label is, which row a user has, how features are
//! scaled, is its [`Vocabulary`]: other files are read by it, and the data that the model was
//! trained on is not needed.

use super::classification::{Classification, Examples, Keep};
use super::documents::{Corpus, Documents};
use super::load::{DataError, Loaded, csv_form, features_of, idx_pair, read_bags, read_file, words_of};
use super::names::{Scaling, Vocabulary};
use super::observations::{Observations, Samples};
use super::ratings::{RatingList, Ratings};
use super::{csv, libsvm, movielens};
use crate::learning::data::{DataFile, DataSettings, DataSource, Outcome};

/// A data set without training data, whose test data are the examples of `files`, which have the
/// format of `settings`.
///
/// # Errors
///
/// If a file cannot be used, or has features or labels that the model has not.
pub(crate) fn classification_to_judge(
    vocabulary: &Vocabulary,
    settings: &DataSettings,
    files: &[DataFile],
) -> Result<Classification, DataError> {
    let Vocabulary::Classes { labels, features, feature_names, scaling } = vocabulary else {
        return Err(DataError::OtherNames { known: vocabulary.subject(), found: "classes" });
    };
    let loaded =
        examples((*features, feature_names.as_deref(), scaling.as_ref()), settings, Outcome::Class, files)?;
    Ok(Classification {
        train: Examples::default(),
        test: Some(loaded.classify(labels)?),
        features: *features,
        labels: labels.clone(),
        feature_names: feature_names.clone(),
        scaling: scaling.clone(),
        slice: None,
    })
}

/// The same of examples without classes, whose labels are `outcome`.
///
/// # Errors
///
/// If a file cannot be used, or has features that the model has not.
pub(crate) fn observations_to_judge(
    vocabulary: &Vocabulary,
    settings: &DataSettings,
    outcome: Outcome,
    files: &[DataFile],
) -> Result<Observations, DataError> {
    let Vocabulary::Features { features, feature_names, scaling } = vocabulary else {
        return Err(DataError::OtherNames { known: vocabulary.subject(), found: "features alone" });
    };
    let loaded = examples((*features, feature_names.as_deref(), scaling.as_ref()), settings, outcome, files)?;
    Ok(Observations {
        train: Samples::default(),
        test: Some(loaded.samples()?),
        features: *features,
        feature_names: feature_names.clone(),
        scaling: scaling.clone(),
        slice: None,
        sample: Vec::new(),
    })
}

/// Reads the examples of `files` by the features of a model: how many, what they are called, how they
/// are standardised.
fn examples(
    (features, names, scaling): (u32, Option<&[String]>, Option<&Scaling>),
    settings: &DataSettings,
    outcome: Outcome,
    files: &[DataFile],
) -> Result<Loaded, DataError> {
    let loaded = match (&settings.source, files) {
        (DataSource::Idx { .. }, [first, second]) => {
            idx_pair(first.clone(), second.clone(), outcome, Keep::All)?
        }
        (DataSource::Idx { .. }, _) => {
            let expected = "two are needed: images, then labels";
            return Err(DataError::Files { found: files.len(), expected });
        }
        (DataSource::Libsvm { .. }, [file]) => {
            Loaded::read(file.clone(), |source| libsvm::read(source, Some(features), outcome, Keep::All))?
        }
        (DataSource::Csv { scale, .. }, [file]) => {
            let form = csv_form(&settings.source, outcome, features_of(*scale, scaling), names);
            Loaded::read(file.clone(), |source| csv::read(source, form, Keep::All))?
        }
        (DataSource::Libsvm { .. } | DataSource::Csv { .. }, _) => {
            return Err(DataError::Files { found: files.len(), expected: "one is needed" });
        }
        (DataSource::PlantedLinear { .. }, _) => {
            let expected = "examples that are drawn have no files";
            return Err(DataError::Files { found: files.len(), expected });
        }
        (source, _) => {
            return Err(DataError::Kind {
                application: "this kind of model",
                needs: "classes",
                source_kind: source.kind(),
            });
        }
    };
    if loaded.examples.features != features && !loaded.examples.rows.is_empty() {
        let (found, allowed) = (loaded.examples.features.into(), features.into());
        return Err(DataError::Features { file: loaded.features_file, found, allowed });
    }
    Ok(loaded)
}

/// A data set without training data, whose test data are the ratings of `files`; also tells how
/// many of them are of users or items that the model does not know, and were left out.
///
/// # Errors
///
/// If the file cannot be used, or if ratings are drawn and not read.
pub(crate) fn ratings_to_judge(
    vocabulary: &Vocabulary,
    settings: &DataSettings,
    files: &[DataFile],
) -> Result<(Ratings, u64), DataError> {
    let DataSource::MovieLens { layout, columns, .. } = &settings.source else {
        return Err(DataError::Files { found: files.len(), expected: "planted ratings have no files" });
    };
    let [file] = files else {
        return Err(DataError::Files { found: files.len(), expected: "one is needed" });
    };
    let raw = read_file(file, |source| movielens::read(source, *layout, columns))?;
    let (list, left_out, [users, items]) = match vocabulary {
        Vocabulary::Ratings { users, items, .. } => {
            let (list, left_out) = movielens::index_known(&raw, users, items);
            (list, left_out, [users.len() as u32, items.len() as u32])
        }
        Vocabulary::Hashed(ids) => (movielens::index_hashed(&raw, ids), 0, [ids.users, ids.items]),
        Vocabulary::Classes { .. } | Vocabulary::Features { .. } | Vocabulary::Words { .. } => {
            return Err(DataError::OtherNames { known: vocabulary.subject(), found: "ratings" });
        }
    };
    let ratings = Ratings {
        train: RatingList::default(),
        test: Some(list),
        users,
        items,
        vocabulary: Some(vocabulary.clone().into()),
        repeated: 0,
        shared_rows: None,
    };
    Ok((ratings, left_out))
}

/// A data set without training data, whose test data are the documents of `files`.
///
/// # Errors
///
/// If a file cannot be used, or has words that the model has not, or if documents are drawn.
pub(crate) fn documents_to_judge(
    vocabulary: &Vocabulary,
    settings: &DataSettings,
    files: &[DataFile],
) -> Result<Corpus, DataError> {
    let DataSource::Bags { format, .. } = &settings.source else {
        return Err(DataError::Files { found: files.len(), expected: "planted documents have no files" });
    };
    let [file] = files else {
        return Err(DataError::Files { found: files.len(), expected: "one is needed" });
    };
    let words = words_of(vocabulary)?;
    let test = Some(read_bags(file, *format, words)?);
    Ok(Corpus { train: Documents::default(), test, words, vocabulary: Some(vocabulary.clone().into()) })
}
