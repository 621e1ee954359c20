//! Names of classes, users and items, and what the rows and columns of a model stand for.
//!
//! Kind: time-free. A model knows numbers alone: row 17, column 3. Which user has row 17 and which
//! class has column 3 follows from the files that somebody read, and is lost with them unless it is
//! written down. [`Vocabulary`] writes it down: it is made when data is read, or given so that
//! other data is read by it, it is kept beside a trained model, and it has a digest by which two
//! processes see that they mean the same.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::lines::excerpt;
use crate::learning::data::HashedIds;

/// So many names are shown where there are more.
const SHOWN: usize = 4;

/// The longest name, in bytes. Longer ones are prose, and surely a mistaken column.
pub const MAX_NAME_BYTES: usize = 256;

/// The most that a vocabulary may take in the metadata of a file.
const MOST_METADATA_BYTES: usize = 24 << 20;

/// The name of a class, a user or an item, as files have it: a whole number or else a text.
///
/// Names of users and items identify: `0012` and `12` are two, and only a number as a table of
/// numbers has it (`12`, `-3`, `12.0`) is one. Labels of classes are small numbers that tools write
/// in their own ways, LIBSVM `+1` and NumPy `1.000000000000000000e+00`, and here a number is the
/// same class however it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Name {
    /// A whole number.
    Number(i64),
    /// Any other text; neither empty nor longer than [`MAX_NAME_BYTES`].
    Text(Box<str>),
}

/// A field that is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// There is nothing.
    #[error("nothing")]
    Empty,
    /// A quantity: two of them are hardly ever the same.
    #[error("a number with a fraction")]
    Fraction,
    /// Prose.
    #[error("a text of more than {MAX_NAME_BYTES} bytes")]
    Long,
    /// A line break or another control character: a quote that was never meant as one, or no text
    /// at all.
    #[error("a text with control characters")]
    Control,
}

/// A field as a name, not yet copied.
enum Parsed<'a> {
    Number(i64),
    Text(&'a str),
}

/// Which texts are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Those that are written as numbers alone are.
    Id,
    /// All that have the value of a whole number.
    Label,
}

fn parse(text: &str, rule: Rule) -> Result<Parsed<'_>, NotAName> {
    let number = match rule {
        Rule::Id => canonical_number(text),
        Rule::Label => whole_number(text),
    };
    if let Some(number) = number {
        return Ok(Parsed::Number(number));
    }
    match text.parse::<f64>() {
        _ if text.is_empty() => Err(NotAName::Empty),
        // Words that happen to be read as numbers, such as `nan`, and digits beyond 64 bits are
        // names like others.
        Ok(number) if number.is_finite() && number.fract() != 0.0 => Err(NotAName::Fraction),
        _ if text.len() > MAX_NAME_BYTES => Err(NotAName::Long),
        _ if text.contains(char::is_control) => Err(NotAName::Control),
        _ => Ok(Parsed::Text(text)),
    }
}

/// `0`, or digits that do not begin with zero, after a minus sign or none; behind them perhaps
/// `.0`, as tools write that keep ids as floats.
fn canonical_number(text: &str) -> Option<i64> {
    let whole = text.strip_suffix(".0").unwrap_or(text);
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_canonical = whole == "0" || digits.starts_with(|first| matches!(first, '1'..='9'));
    // Whatever else is no digit fails to parse.
    whole.parse().ok().filter(|_| is_canonical)
}

/// An integer, or a decimal number without a fraction (`3.0`, `1e0`), as numeric tools write them.
pub(crate) fn whole_number(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        // Up to 2^53 every integer has a representation of its own.
        (number.fract() == 0.0 && number.abs() <= 9.0e15).then_some(number as i64)
    })
}

impl Name {
    /// Reads a field of users or items.
    ///
    /// # Errors
    ///
    /// If it is no name, and why.
    pub fn read(text: &str) -> Result<Self, NotAName> {
        parse(text, Rule::Id).map(Self::from)
    }

    /// Reads a field of classes.
    ///
    /// # Errors
    ///
    /// If it is no name, and why.
    pub fn read_label(text: &str) -> Result<Self, NotAName> {
        parse(text, Rule::Label).map(Self::from)
    }
}

impl From<Parsed<'_>> for Name {
    fn from(parsed: Parsed<'_>) -> Self {
        match parsed {
            Parsed::Number(number) => Self::Number(number),
            Parsed::Text(text) => Self::Text(text.into()),
        }
    }
}

/// The row of `name` among `rows`, at least one, where rows follow from names alone: the first
/// eight bytes of the SHA-256 of its text, as a number with the first byte highest, modulo the
/// number of rows. A whole number's text is its shortest, however a file writes it.
///
/// It is part of what a trained model means, the same in every version and easily had in other
/// programs. A hash that is not made to withstand anybody would do, and be no faster where it
/// matters: it is taken once for each name of a file.
pub fn hashed_row(name: &Name, rows: u32) -> u32 {
    let digest = match name {
        Name::Number(number) => ring::digest::digest(&ring::digest::SHA256, number.to_string().as_bytes()),
        Name::Text(text) => ring::digest::digest(&ring::digest::SHA256, text.as_bytes()),
    };
    let first = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    (u64::from_be_bytes(*first) % u64::from(rows)) as u32
}

impl From<i64> for Name {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for Name {
    /// What comes from a file is escaped and cut: it goes into messages and to terminals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(&excerpt(text)),
        }
    }
}

/// Different names in a fixed order, so that a name's place stands for it: numbers ascending, then
/// texts by their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Names(Vec<Name>);

impl Names {
    /// All names, in order.
    pub fn all(&self) -> &[Name] {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name at `place`.
    pub fn get(&self, place: usize) -> Option<&Name> {
        self.0.get(place)
    }

    /// The place of `name`.
    pub fn place(&self, name: &Name) -> Option<u32> {
        self.0.binary_search(name).ok().map(|place| place as u32)
    }

    /// The names in a few words: the first and last of numbers, the first of texts, and how many
    /// there are.
    pub fn summary(&self) -> String {
        match (self.0.first(), self.0.last()) {
            (Some(Name::Number(first)), Some(Name::Number(last))) if self.len() > SHOWN => {
                if self.is_run() {
                    return format!("{first} to {last}");
                }
                format!("{} numbers from {first} to {last}", self.len())
            }
            _ => {
                let shown: Vec<_> = self.0.iter().take(SHOWN).map(Name::to_string).collect();
                match self.len().saturating_sub(SHOWN) {
                    0 if shown.is_empty() => "none".to_owned(),
                    0 => shown.join(", "),
                    more => format!("{} and {more} more", shown.join(", ")),
                }
            }
        }
    }
}

impl Names {
    /// The same; where it leaves names out, or whoever shows it may, behind the beginning of a
    /// digest of all.
    fn identified(&self) -> String {
        let summary = self.summary();
        const SHORT: usize = 36;
        let shows_all = (self.len() <= SHOWN || self.is_run()) && summary.len() <= SHORT;
        if shows_all {
            return summary;
        }
        let json = serde_json::to_vec(self).expect("names are plain data");
        format!("[{}] {summary}", beginning(&json))
    }

    fn is_run(&self) -> bool {
        match (self.0.first(), self.0.last()) {
            (Some(Name::Number(first)), Some(Name::Number(last))) => {
                last.checked_sub(*first) == Some(self.len() as i64 - 1)
            }
            _ => false,
        }
    }
}

/// Names of features in their order, in a few words: what tells two lists apart is in them.
fn identified_in_order(names: &[String]) -> String {
    const SHORT: usize = 36;
    let all = |names: &[String]| names.iter().map(|name| excerpt(name)).collect::<Vec<_>>().join(", ");
    let shown = all(&names[..names.len().min(SHOWN)]);
    if names.len() <= SHOWN && shown.len() <= SHORT {
        return format!("({shown})");
    }
    let json = serde_json::to_vec(names).expect("names are plain data");
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("([{}] {shown}{more})", beginning(&json))
}

/// The first feature that has another name there than here, in words.
pub(super) fn differing_feature(here: Option<&[String]>, there: Option<&[String]>) -> Option<String> {
    match (here, there) {
        (None, None) => None,
        (Some(_), None) => Some("its features have no names, ours have".to_owned()),
        (None, Some(_)) => Some("its features have names, ours have none".to_owned()),
        (Some(here), Some(there)) => {
            let at = here.iter().zip(there).position(|(ours, theirs)| ours != theirs)?;
            let (ours, theirs) = (excerpt(&here[at]), excerpt(&there[at]));
            Some(format!("its feature {} is `{theirs}`, ours `{ours}`", at + 1))
        }
    }
}

/// What is said of the features of a vocabulary.
fn summary_of_features(
    features: u32,
    names: Option<&[String]>,
    scaling: Option<&Scaling>,
) -> Vec<(&'static str, String)> {
    let shown = match names {
        Some(names) => format!("{features} {}", identified_in_order(names)),
        None => features.to_string(),
    };
    let mut all = vec![("features", shown)];
    all.extend(scaling.map(|scaling| {
        ("standardisation", beginning(&serde_json::to_vec(scaling).expect("it is plain data")))
    }));
    all
}

/// How many features there are, what they are called, and how they are standardised.
type OfFeatures<'a> = (u32, Option<&'a [String]>, Option<&'a Scaling>);

/// In what the features of two vocabularies differ.
fn differing_features(ours: OfFeatures<'_>, theirs: OfFeatures<'_>) -> Option<String> {
    if ours.0 != theirs.0 {
        return Some(format!("it has {} features, we have {}", theirs.0, ours.0));
    }
    differing_feature(ours.1, theirs.1).or_else(|| {
        (ours.2 != theirs.2).then(|| "its features are standardised by other figures than ours".to_owned())
    })
}

/// The beginning of the SHA-256 of `bytes`, for people.
fn beginning(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

impl FromIterator<Name> for Names {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }
}

impl<'de> Deserialize<'de> for Names {
    /// The order is part of the meaning: a list that is not in it was not written by us.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<Name>::deserialize(deserializer)?;
        if !names.is_sorted_by(|a, b| a.cmp(b) == Ordering::Less) {
            return Err(serde::de::Error::custom("names are not in ascending order"));
        }
        Ok(Self(names))
    }
}

/// A column of names as a file has them: each name is kept once, and has a code in the order of its
/// first occurrence.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NameColumn {
    /// One for each row.
    codes: Vec<u32>,
    numbers: BTreeMap<i64, u32>,
    texts: BTreeMap<Box<str>, u32>,
}

impl NameColumn {
    /// Appends a user or an item.
    ///
    /// # Errors
    ///
    /// If it is no name, and why.
    pub(crate) fn push(&mut self, text: &str) -> Result<(), NotAName> {
        self.push_parsed(&parse(text, Rule::Id)?);
        Ok(())
    }

    /// Appends a class; yields whether it is a text, and not a number.
    ///
    /// # Errors
    ///
    /// If it is no name, and why.
    pub(crate) fn push_label(&mut self, text: &str) -> Result<bool, NotAName> {
        let label = parse(text, Rule::Label)?;
        self.push_parsed(&label);
        Ok(matches!(label, Parsed::Text(_)))
    }

    fn push_parsed(&mut self, name: &Parsed<'_>) {
        match *name {
            Parsed::Number(number) => self.push_number(number),
            Parsed::Text(text) => {
                let next = (self.numbers.len() + self.texts.len()) as u32;
                let code = match self.texts.get(text) {
                    Some(code) => *code,
                    None => *self.texts.entry(text.into()).or_insert(next),
                };
                self.codes.push(code);
            }
        }
    }

    pub(crate) fn push_number(&mut self, number: i64) {
        let next = (self.numbers.len() + self.texts.len()) as u32;
        self.codes.push(*self.numbers.entry(number).or_insert(next));
    }

    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        self.codes.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The numbers of all rows; texts are NaN.
    pub(crate) fn numbers(&self) -> Vec<f32> {
        let mut by_code = vec![f32::NAN; self.numbers.len() + self.texts.len()];
        self.numbers.iter().for_each(|(number, code)| by_code[*code as usize] = *number as f32);
        self.codes.iter().map(|code| by_code[*code as usize]).collect()
    }

    /// All different names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = Name> {
        let numbers = self.numbers.keys().copied().map(Name::Number);
        numbers.chain(self.texts.keys().cloned().map(Name::Text))
    }

    /// The name of `row`.
    pub(crate) fn name(&self, row: usize) -> Option<Name> {
        let code = self.codes.get(row)?;
        let all = self.numbers.values().chain(self.texts.values());
        all.zip(self.names()).find(|(of_name, _)| *of_name == code).map(|(_, name)| name)
    }

    /// The place of each row's name among `names`; none for names that are not there.
    pub(crate) fn places(&self, names: &Names) -> Vec<Option<u32>> {
        let mut by_code = vec![None; self.numbers.len() + self.texts.len()];
        let codes = self.numbers.values().chain(self.texts.values());
        for (code, name) in codes.zip(self.names()) {
            by_code[*code as usize] = names.place(&name);
        }
        self.codes.iter().map(|code| by_code[*code as usize]).collect()
    }
}

/// Standardisation: a feature `x` becomes `(x - mean) / deviation`. Both are those of the training
/// data; the deviation of a feature that is the same everywhere is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Shape `[features]`.
    pub means: Vec<f32>,
    /// Shape `[features]`; above zero.
    pub deviations: Vec<f32>,
}

/// What the rows and columns of a model stand for: all that is needed to use a trained model, or to
/// read further data for it, without the data that it was trained on.
///
/// It is an explicit value: loaders make one of what they read, or take one and read by it,
/// refusing names that it lacks. Two processes train the same model only if their vocabularies are
/// equal, which their [`digest`](Self::digest)s tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Vocabulary {
    /// Of a classifier: a row for each feature, a column for each class.
    Classes {
        /// The label of each class.
        labels: Names,
        /// How many features an example has.
        features: u32,
        /// What they are called, in order, where the training file has a header; as many as there
        /// are features.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        feature_names: Option<Vec<String>>,
        /// How features are standardised, if they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scaling: Option<Scaling>,
    },
    /// Of a model of examples without classes: a row or a column for each feature.
    Features {
        /// How many features an example has.
        features: u32,
        /// What they are called, in order, where the training file has a header; as many as there
        /// are features.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        feature_names: Option<Vec<String>>,
        /// How features are standardised, if they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scaling: Option<Scaling>,
    },
    /// Of a factorisation: a row for each user and each item.
    Ratings {
        /// The user of each row.
        users: Names,
        /// The item of each row.
        items: Names,
        /// The mean of the training ratings, from which predictions start.
        mean: f32,
        /// The lowest and the highest training rating, to which predictions are clipped.
        range: (f32, f32),
    },
    /// Of a factorisation whose rows follow from the [hashes](hashed_row) of ids: any id has a row,
    /// and may share it.
    Hashed(HashedIds),
    /// Of a topic model: a row for each word.
    Words {
        /// The word of each row; at least one.
        words: Vec<String>,
    },
}

impl Vocabulary {
    /// SHA-256 of all of it; the same on every machine.
    pub fn digest(&self) -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.to_json().as_bytes());
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// What it says, in a few words for each part: what tells two vocabularies apart is in them.
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Classes { labels, features, feature_names, scaling } => {
                let mut all = vec![("labels", labels.identified())];
                all.extend(summary_of_features(*features, feature_names.as_deref(), scaling.as_ref()));
                all
            }
            Self::Features { features, feature_names, scaling } => {
                summary_of_features(*features, feature_names.as_deref(), scaling.as_ref())
            }
            Self::Ratings { users, items, mean, range: (low, high) } => vec![
                ("users", users.identified()),
                ("items", items.identified()),
                ("mean of ratings", mean.to_string()),
                ("range of ratings", format!("{low} to {high}")),
            ],
            Self::Hashed(HashedIds { users, items, mean, range: (low, high) }) => vec![
                ("users", format!("hashed into {users} rows")),
                ("items", format!("hashed into {items} rows")),
                ("mean of ratings", mean.to_string()),
                ("range of ratings", format!("{low} to {high}")),
            ],
            Self::Words { words } => {
                vec![("words", format!("{} {}", words.len(), identified_in_order(words)))]
            }
        }
    }

    /// What the features are called, in order.
    pub fn feature_names(&self) -> Option<&[String]> {
        match self {
            Self::Classes { feature_names, .. } | Self::Features { feature_names, .. } => {
                feature_names.as_deref()
            }
            Self::Ratings { .. } | Self::Hashed(_) | Self::Words { .. } => None,
        }
    }

    /// As it is kept beside a model.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it is plain data")
    }

    /// The same as metadata of a file, unless it would be too long for any: at ten bytes a name,
    /// that is two million names.
    pub fn to_metadata(&self) -> Option<String> {
        Some(self.to_json()).filter(|json| json.len() <= MOST_METADATA_BYTES)
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// If it is something else, in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match &read {
            Self::Classes { features, feature_names: Some(names), .. }
            | Self::Features { features, feature_names: Some(names), .. }
                if names.len() != *features as usize =>
            {
                return Err(format!("it has {} names of {features} features", names.len()));
            }
            Self::Classes { features, scaling: Some(scaling), .. }
            | Self::Features { features, scaling: Some(scaling), .. } => {
                let lengths = [scaling.means.len(), scaling.deviations.len()];
                let is_sound = scaling.means.iter().all(|mean| mean.is_finite())
                    && scaling.deviations.iter().all(|deviation| deviation.is_finite() && *deviation > 0.0);
                if lengths != [*features as usize; 2] || !is_sound {
                    return Err(format!("its scaling is not that of {features} features"));
                }
            }
            Self::Ratings { mean, range, .. } if !(mean.is_finite() && range.0 <= range.1) => {
                return Err("its mean and range are none of ratings".to_owned());
            }
            Self::Hashed(HashedIds { users, items, mean, range }) => {
                if *users == 0 || *items == 0 || !(mean.is_finite() && range.0 <= range.1) {
                    return Err("its rows, mean and range are none of ratings".to_owned());
                }
            }
            Self::Words { words } if words.is_empty() => return Err("it has no words".to_owned()),
            Self::Classes { .. } | Self::Features { .. } | Self::Ratings { .. } | Self::Words { .. } => {}
        }
        Ok(read)
    }

    /// In what `other` differs from this one, for a message such as "its labels are 5 to 9, ours 0
    /// to 4"; none if they are the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let names = |what: &str, ours: &Names, theirs: &Names| {
            let (mine, others) = (ours.summary(), theirs.summary());
            match (ours == theirs, mine == others) {
                (true, _) => None,
                (false, false) => Some(format!("its {what} are {others}, ours {mine}")),
                (false, true) => Some(format!("its {what} and ours are not the same {mine}")),
            }
        };
        match (self, other) {
            (
                Self::Classes { labels, features, feature_names, scaling },
                Self::Classes {
                    labels: labels_there,
                    features: features_there,
                    feature_names: feature_names_there,
                    scaling: scaling_there,
                },
            ) => names("labels", labels, labels_there).or_else(|| {
                let ours = (*features, feature_names.as_deref(), scaling.as_ref());
                let theirs = (*features_there, feature_names_there.as_deref(), scaling_there.as_ref());
                differing_features(ours, theirs)
            }),
            (
                Self::Features { features, feature_names, scaling },
                Self::Features {
                    features: features_there,
                    feature_names: feature_names_there,
                    scaling: scaling_there,
                },
            ) => {
                let ours = (*features, feature_names.as_deref(), scaling.as_ref());
                let theirs = (*features_there, feature_names_there.as_deref(), scaling_there.as_ref());
                differing_features(ours, theirs)
            }
            (
                Self::Ratings { users, items, mean, range },
                Self::Ratings {
                    users: users_there,
                    items: items_there,
                    mean: mean_there,
                    range: range_there,
                },
            ) => names("users", users, users_there).or_else(|| names("items", items, items_there)).or_else(
                || {
                    ((mean, range) != (mean_there, range_there))
                        .then(|| format!("its training ratings have the mean {mean_there}, ours {mean}"))
                },
            ),
            (Self::Hashed(ours), Self::Hashed(theirs)) => (ours != theirs).then(|| {
                let shown = |ids: &HashedIds| {
                    let HashedIds { users, items, mean, range: (low, high) } = ids;
                    format!(
                        "{users} rows of users, {items} of items, ratings from {low} to {high} around {mean}"
                    )
                };
                format!("it has {}, we have {}", shown(theirs), shown(ours))
            }),
            (Self::Hashed(_), Self::Ratings { .. }) => Some("its ids have names, ours are hashed".to_owned()),
            (Self::Ratings { .. }, Self::Hashed(_)) => Some("its ids are hashed, ours have names".to_owned()),
            (Self::Words { words }, Self::Words { words: theirs }) => {
                let at = words.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
                let lengths = (words.len() != theirs.len())
                    .then(|| format!("it has {} words, we have {}", theirs.len(), words.len()));
                lengths.or_else(|| {
                    let (ours, theirs) = (excerpt(&words[at?]), excerpt(&theirs[at?]));
                    Some(format!("its word {} is `{theirs}`, ours `{ours}`", at? + 1))
                })
            }
            (ours, theirs) => Some(format!("it has {}, we have {}", theirs.subject(), ours.subject())),
        }
    }

    /// What it has names of, in a word or two.
    pub fn subject(&self) -> &'static str {
        match self {
            Self::Classes { .. } => "classes",
            Self::Features { .. } => "features alone",
            Self::Ratings { .. } | Self::Hashed(_) => "ratings",
            Self::Words { .. } => "documents",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Names {
        texts.iter().map(|text| Name::read(text).expect("a name")).collect()
    }

    fn classes(labels: &[&str]) -> Vocabulary {
        Vocabulary::Classes { labels: names(labels), features: 2, feature_names: None, scaling: None }
    }

    #[test]
    fn labels_are_the_same_number_however_written() {
        let table = [("7", 7), ("+1", 1), ("-1", -1), ("3.0", 3), ("1e1", 10), ("007", 7)];
        for (text, number) in table {
            assert_eq!(Name::read_label(text), Ok(Name::Number(number)), "{text}");
        }
    }

    #[test]
    fn ids_that_are_different_texts_are_different_names() {
        let numbers = [
            ("0", 0),
            ("7", 7),
            ("-1", -1),
            ("12.0", 12),
            ("-30.0", -30),
            ("9007199254740993.0", 9_007_199_254_740_993),
        ];
        for (text, number) in numbers {
            assert_eq!(Name::read(text), Ok(Name::Number(number)), "{text}");
        }
        for text in ["+7", "007", "0012", "0000013714", "1e3", "1.00", "-0", "-0.0", "00", ".0", "-", "1_0"] {
            assert_eq!(Name::read(text), Ok(Name::Text(text.into())), "{text}");
        }
        let mut column = NameColumn::default();
        ["0012", "12", "1e3", "1000", "12.0"].into_iter().for_each(|text| column.push(text).expect("a name"));
        let shown: Vec<_> = column.names().map(|name| name.to_string()).collect();
        assert_eq!(shown, ["12", "1000", "0012", "1e3"]);
    }

    #[test]
    fn both_kinds_of_name_have_the_same_texts() {
        for read in [Name::read, Name::read_label] {
            for text in ["cat", "nan", "inf", "1e300", "99999999999999999999", "A 1"] {
                assert_eq!(read(text), Ok(Name::Text(text.into())), "{text}");
            }
            assert_eq!(read(""), Err(NotAName::Empty));
            assert_eq!(read("1.5"), Err(NotAName::Fraction));
            assert_eq!(read(&"x".repeat(257)), Err(NotAName::Long));
            for text in ["a\nb", "a\u{1b}[2J", "a\tb"] {
                assert_eq!(read(text), Err(NotAName::Control), "{text:?}");
            }
        }
    }

    #[test]
    fn a_name_has_a_place_of_its_own() {
        let names = names(&["b", "10", "2", "a", "2.0"]);
        let all: Vec<_> = names.all().iter().map(Name::to_string).collect();
        assert_eq!(all, ["2", "10", "a", "b"]);
        assert_eq!(names.place(&Name::Text("b".into())), Some(3));
        assert_eq!(names.place(&Name::Number(3)), None);
        let mut column = NameColumn::default();
        for (text, is_text) in [("b", true), ("2.0", false), ("zz", true), ("b", true), ("10", false)] {
            assert_eq!(column.push_label(text), Ok(is_text));
        }
        assert_eq!(column.places(&names), [Some(3), Some(0), None, Some(3), Some(1)]);
        assert_eq!(column.name(2), Some(Name::Text("zz".into())));
    }

    #[test]
    fn summaries_are_short_and_safe() {
        let table: [(&[&str], &str); 5] = [
            (&["-1", "1"], "-1, 1"),
            (&["0", "1", "2", "3", "4"], "0 to 4"),
            (&["0", "1", "2", "3", "9"], "5 numbers from 0 to 9"),
            (&["0012", "12"], "12, 0012"),
            (&["a", "b", "c", "d", "e", "f"], "a, b, c, d and 2 more"),
        ];
        for (texts, summary) in table {
            assert_eq!(names(texts).summary(), summary);
        }
        assert_eq!(Names::default().summary(), "none");
    }

    #[test]
    fn what_is_kept_beside_a_model_is_read_back_and_means_the_same() {
        let scaling = Scaling { means: vec![0.1, -3.0e-7], deviations: vec![1.0, 2.5] };
        let labels = names(&["7", "setosa"]);
        let ratings = Vocabulary::Ratings {
            users: names(&["1", "AX"]),
            items: names(&["5"]),
            mean: 3.3,
            range: (1.0, 5.0),
        };
        let feature_names = Some(vec!["height".to_owned(), "weight".to_owned()]);
        for vocabulary in
            [Vocabulary::Classes { labels, features: 2, feature_names, scaling: Some(scaling) }, ratings]
        {
            let read = Vocabulary::from_json(&vocabulary.to_json()).expect("it was written so");
            assert_eq!((read.digest(), &read), (vocabulary.digest(), &vocabulary));
        }
        let json = r#"{"kind":"classes","labels":[-1,"a"],"features":2}"#;
        assert_eq!(classes(&["a", "-1"]).to_json(), json, "other programs read it");
        for wrong in [
            r#"{"kind":"classes","labels":["a",-1],"features":2}"#,
            r#"{"kind":"classes","labels":[1,1],"features":2}"#,
            r#"{"kind":"classes","labels":[1],"features":2,"scaling":{"means":[1],"deviations":[1]}}"#,
            r#"{"kind":"classes","labels":[1],"features":1,"scaling":{"means":[1],"deviations":[0]}}"#,
            r#"{"kind":"classes","labels":[1],"features":1,"feature_names":["a","b"]}"#,
            r#"{"kind":"ratings","users":[1],"items":[1],"mean":3,"range":[5,1]}"#,
            "{}",
        ] {
            assert!(Vocabulary::from_json(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_differs_is_said() {
        let ours = classes(&["0", "1", "2", "3", "4"]);
        let theirs = classes(&["5", "6", "7", "8", "9"]);
        assert_eq!(ours.difference(&theirs).as_deref(), Some("its labels are 5 to 9, ours 0 to 4"));
        assert_eq!(ours.difference(&ours), None);
        assert_ne!(ours.digest(), theirs.digest());
        let [one, other] = [["0", "1", "2", "3", "9"], ["0", "1", "2", "4", "9"]].map(|all| classes(&all));
        let expected = "its labels and ours are not the same 5 numbers from 0 to 9";
        assert_eq!(one.difference(&other).as_deref(), Some(expected));
    }

    #[test]
    fn the_order_of_features_is_part_of_what_a_model_is() {
        let named = |all: &[&str]| Vocabulary::Classes {
            labels: names(&["0", "1"]),
            features: all.len() as u32,
            feature_names: Some(all.iter().map(|name| (*name).to_owned()).collect()),
            scaling: None,
        };
        let (ours, theirs) = (named(&["height", "weight"]), named(&["weight", "height"]));
        assert_ne!(ours.digest(), theirs.digest());
        assert_ne!(ours.summary(), theirs.summary());
        assert_eq!(ours.difference(&theirs).as_deref(), Some("its feature 1 is `weight`, ours `height`"));
        assert_eq!(ours.difference(&ours.clone()), None);
        let bare = classes(&["0", "1"]);
        assert_eq!(ours.difference(&bare).as_deref(), Some("its features have no names, ours have"));
        assert_eq!(ours.summary()[1].1, "2 (height, weight)");
        let long: Vec<String> = (0..90).map(|n| format!("feature-{n}")).collect();
        let swapped: Vec<String> = long.iter().rev().cloned().collect();
        let [long, swapped] = [&long, &swapped].map(|all| identified_in_order(all));
        assert!(long.len() < 80 && long.ends_with(" and 86 more)") && long[..12] != swapped[..12], "{long}");
    }
}
