//! Names that are said and not found: where each region has data of its own, the numbering of
//! classes, users and items must not follow from whatever its files happen to have.
//!
//! They stand in a file of names ([`NamesFile`]), which is made once: each region [finds](find)
//! what its own data has, and these are put [together](NamesFile::merge). Only names travel between
//! regions for that, and no data.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::DataError;
use super::classification::{Keep, MAX_CLASSES, MAX_FEATURES};
use super::lines::excerpt;
use super::load::{Known, Loaded, Reading, load_observations, load_ratings};
use super::names::{Name, Names, NotAName, Vocabulary};
use super::observations::Observations;
use super::source::Source;
use crate::learning::data::{DataFile, DataSettings, DataSource, Declared, Outcome};

/// The most bytes of a file of names, unpacked: at ten bytes a name, that is 25 million.
const MAX_BYTES: u64 = 256 << 20;

/// A vocabulary as a file of its own, and how much data it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamesFile {
    /// The names, without standardisation.
    #[serde(flatten)]
    pub vocabulary: Vocabulary,
    /// How many training examples have them, by which means of several files are weighed. At least
    /// one.
    #[serde(default = "one")]
    pub examples: u64,
}

fn one() -> u64 {
    1
}

impl NamesFile {
    /// Reads a file of names, which may be packed.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is something else, or has no names that a model could have.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let file = DataFile::Path(path.to_owned());
        let read =
            read_text(&file).map_err(|error| error.to_string()).and_then(|text| Self::from_json(&text));
        read.map_err(|what| DataError::Names { file, what })
    }

    fn from_json(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Count {
            #[serde(default = "one")]
            examples: u64,
        }
        // The vocabulary checks what it reads.
        let vocabulary = Vocabulary::from_json(text)?;
        let Count { examples } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        check(&vocabulary)?;
        Ok(Self { vocabulary, examples: examples.max(1) })
    }

    /// As it is written.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it is plain data") + "\n"
    }

    /// The names of both: a model that has them all can be trained where either was found.
    ///
    /// # Errors
    ///
    /// If they are not of one kind, in words.
    pub fn merge(self, other: Self) -> Result<Self, String> {
        let (here, there) = (self.examples as f64, other.examples as f64);
        let vocabulary = match (self.vocabulary, other.vocabulary) {
            (
                Vocabulary::Classes { labels, features, feature_names, .. },
                Vocabulary::Classes {
                    labels: more,
                    features: their_features,
                    feature_names: their_names,
                    ..
                },
            ) => Vocabulary::Classes {
                labels: both(&labels, &more),
                // LIBSVM files show the largest index that occurs in them, and no more.
                features: features.max(their_features),
                feature_names: one_order((feature_names, features), (their_names, their_features))?,
                scaling: None,
            },
            (
                Vocabulary::Features { features, feature_names, .. },
                Vocabulary::Features { features: their_features, feature_names: their_names, .. },
            ) => Vocabulary::Features {
                features: features.max(their_features),
                feature_names: one_order((feature_names, features), (their_names, their_features))?,
                scaling: None,
            },
            (
                Vocabulary::Ratings { users, items, mean, range },
                Vocabulary::Ratings { users: more_users, items: more_items, mean: their_mean, range: theirs },
            ) => Vocabulary::Ratings {
                users: both(&users, &more_users),
                items: both(&items, &more_items),
                mean: ((f64::from(mean) * here + f64::from(their_mean) * there) / (here + there)) as f32,
                range: (range.0.min(theirs.0), range.1.max(theirs.1)),
            },
            (ours, theirs) => return Err(ours.difference(&theirs).unwrap_or_default()),
        };
        Ok(Self { vocabulary, examples: self.examples.saturating_add(other.examples) })
    }
}

/// The names of the features of both, each with how many it has: in the order of the first that has
/// names, since columns are found by name wherever there is a header.
fn one_order(
    (ours, our_count): (Option<Vec<String>>, u32),
    (theirs, their_count): (Option<Vec<String>>, u32),
) -> Result<Option<Vec<String>>, String> {
    let is_named = ours.is_some() || theirs.is_some();
    if is_named && our_count != their_count {
        return Err(format!("it has {their_count} features, those before have {our_count}"));
    }
    let (Some(ours), Some(theirs)) = (&ours, &theirs) else { return Ok(ours.or(theirs)) };
    let [mut sorted, mut their_sorted] = [ours.clone(), theirs.clone()];
    sorted.sort_unstable();
    their_sorted.sort_unstable();
    if let Some((_, other)) = sorted.iter().zip(&their_sorted).find(|(name, other)| name != other) {
        let name = if ours.contains(other) { "another feature too often" } else { &excerpt(other) };
        return Err(format!("it has the feature `{name}`, those before have not"));
    }
    Ok(Some(ours.clone()))
}

fn both(some: &Names, more: &Names) -> Names {
    some.all().iter().chain(more.all()).cloned().collect()
}

/// Refuses what could not be the names of a model.
fn check(vocabulary: &Vocabulary) -> Result<(), String> {
    type Read = fn(&str) -> Result<Name, NotAName>;
    let (lists, read): ([(&str, &Names); 2], Read) = match vocabulary {
        Vocabulary::Classes { labels, features, .. } => {
            if labels.len() > MAX_CLASSES || !(1..=MAX_FEATURES).contains(features) {
                let found = labels.len();
                return Err(format!(
                    "{found} labels and {features} features, at most {MAX_CLASSES} and 1 to {MAX_FEATURES} are allowed"
                ));
            }
            ([("labels", labels), ("labels", labels)], Name::read_label)
        }
        Vocabulary::Features { features, .. } => {
            return match features {
                1..=MAX_FEATURES => Ok(()),
                _ => Err(format!("{features} features, 1 to {MAX_FEATURES} are allowed")),
            };
        }
        Vocabulary::Ratings { users, items, .. } => ([("users", users), ("items", items)], Name::read),
        // A file of its own says them.
        Vocabulary::Words { .. } => return Err("words stand in job.data.vocabulary".to_owned()),
        Vocabulary::Hashed(_) => return Err("ids that are hashed have no names".to_owned()),
    };
    for (what, names) in lists {
        if names.is_empty() {
            return Err(format!("there are no {what}, at least one is needed"));
        }
        let written = |name: &&Name| match name {
            Name::Number(_) => false,
            Name::Text(text) => read(text).ok().as_ref() != Some(*name),
        };
        if let Some(name) = names.all().iter().find(written) {
            let message = "data never has it: numbers stand without quotes, and a text has 1 to 256 bytes and no control \
                           characters";
            return Err(format!("`{name}` is among the {what}, and {message}"));
        }
    }
    Ok(())
}

fn read_text(file: &DataFile) -> io::Result<String> {
    let text = io::read_to_string(Source::open(file)?.take(MAX_BYTES + 1))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than the {MAX_BYTES} bytes allowed")));
    }
    Ok(text)
}

/// The names in the file that the job declares, or what stands in for them, unless others are
/// `known`.
pub(super) fn read(data: &DataSettings, known: Known<'_>) -> Result<Option<Vocabulary>, DataError> {
    if let Some(ids) = data.declared.hashed.as_ref().filter(|_| known.is_none()) {
        return Ok(Some(Vocabulary::Hashed(ids.clone())));
    }
    let file = data.declared.file.as_ref().filter(|_| known.is_none());
    let Some(path) = file else { return Ok(None) };
    let found = NamesFile::read(path)?.vocabulary;
    match &found {
        Vocabulary::Classes { labels, .. } if labels.len() < 2 => Err(DataError::Names {
            file: DataFile::Path(path.clone()),
            what: format!("{} label, at least two are needed", labels.len()),
        }),
        Vocabulary::Classes { .. }
        | Vocabulary::Features { .. }
        | Vocabulary::Ratings { .. }
        | Vocabulary::Hashed(_)
        | Vocabulary::Words { .. } => Ok(Some(found)),
    }
}

/// The names that the files of `data` have, training and test data alike, whatever the job
/// declares; `outcome` is what labels are.
///
/// # Errors
///
/// If a file cannot be used, or if the data has no names.
pub fn find(data: &DataSettings, outcome: Outcome) -> Result<NamesFile, DataError> {
    let data = DataSettings { declared: Declared::default(), ..data.clone() };
    if data.source.has_documents() {
        let expected = "documents have no names but their words, which job.data.vocabulary has";
        return Err(DataError::Files { found: 0, expected });
    }
    if data.source.has_ratings() {
        let ratings = load_ratings(&data, None, 0)?;
        let examples = ratings.train.len() as u64;
        let expected = "planted ratings have no names";
        let vocabulary = ratings.vocabulary.ok_or(DataError::Files { found: 0, expected })?;
        return Ok(NamesFile { vocabulary: (*vocabulary).clone(), examples });
    }
    if outcome != Outcome::Class {
        if matches!(data.source, DataSource::PlantedLinear { .. }) {
            return Err(DataError::Files { found: 0, expected: "examples that are drawn have no names" });
        }
        let found = load_observations(&data, None, outcome, 0)?;
        let Observations { features, feature_names, train, .. } = found;
        let vocabulary = Vocabulary::Features { features, feature_names, scaling: None };
        return Ok(NamesFile { vocabulary, examples: train.len() as u64 });
    }
    let reading = Reading::new(&data, None, None, outcome)?;
    let train = reading.training(Keep::Those(&[]))?;
    let test = reading.test(&train)?;
    let examples = train.examples.labels.len() as u64;
    let loaded: Vec<Loaded> = [Some(train), test].into_iter().flatten().collect();
    let labels = loaded.iter().flat_map(|loaded| loaded.examples.labels.names()).collect();
    let features = loaded.iter().map(|loaded| loaded.examples.features).max().unwrap_or(0);
    let feature_names = loaded[0].examples.header.clone();
    let vocabulary = Vocabulary::Classes { labels, features, feature_names, scaling: None };
    check(&vocabulary).map_err(|what| DataError::Names { file: loaded[0].features_file.clone(), what })?;
    Ok(NamesFile { vocabulary, examples: examples.max(1) })
}

#[cfg(test)]
mod tests;
