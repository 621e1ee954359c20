//! LIBSVM text: one example a line, `label index:value ...`, indexes ascending from one.
//!
//! What follows a `#` is a comment. Labels are integers of any set, or else quantities; values and
//! quantities are finite numbers of 32 bits.

use std::io::BufRead;

use super::classification::{Keep, Labelled, MAX_FEATURES};
use super::lines::{FINITE, LineError, Lines, excerpt, parse_finite};
use super::names::whole_number;
use crate::learning::data::Outcome;

/// Why a file is not usable LIBSVM text.
#[derive(Debug, thiserror::Error)]
pub enum LibsvmError {
    /// A line cannot be had.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The first word of a line.
    #[error("line {line}: label `{found}`, an integer is allowed")]
    Label {
        /// Counted from one.
        line: u64,
        /// The word.
        found: String,
    },
    /// The first word of a line, where it is to be a quantity.
    #[error("line {line}: quantity `{found}`, {FINITE}")]
    Quantity {
        /// Counted from one.
        line: u64,
        /// The word.
        found: String,
    },
    /// A word that is no feature.
    #[error("line {line}: `{found}`, only index:value is allowed, where the value is a number")]
    Feature {
        /// Counted from one.
        line: u64,
        /// The word.
        found: String,
    },
    /// A value that is no finite number of 32 bits.
    #[error("line {line}: index {index} has the value `{found}`, {FINITE}")]
    Value {
        /// Counted from one.
        line: u64,
        /// Of the feature.
        index: u64,
        /// The value.
        found: String,
    },
    /// An index out of order or out of range.
    #[error("line {line}: index {found}, {least} to {most} is allowed here; indexes count from 1 and ascend")]
    Index {
        /// Counted from one.
        line: u64,
        /// The index.
        found: u64,
        /// One more than the index before it.
        least: u64,
        /// How many features there are.
        most: u64,
    },
}

/// Reads all lines; `features` limits the indexes and is how many there are, else the largest index
/// found is.
pub(crate) fn read(
    input: impl BufRead,
    features: Option<u32>,
    outcome: Outcome,
    keep: Keep<'_>,
) -> Result<Labelled, LibsvmError> {
    let most = features.unwrap_or(MAX_FEATURES).min(MAX_FEATURES);
    let mut file = Labelled { features: features.unwrap_or(0), ..Labelled::default() };
    let mut lines = Lines::new(input);
    let mut entries = Vec::new();
    while let Some((line, text)) = lines.next_filled()? {
        let Some(label) = example(line, text, most, &mut entries)? else { continue };
        file.features = file.features.max(entries.last().map_or(0, |(index, _)| index + 1));
        file.push(keep, entries.iter().copied());
        match outcome {
            Outcome::Class => file.labels.push_number(class(label, line)?),
            Outcome::Quantity => file.quantities.push(quantity(label, line)?),
            Outcome::Ignored => {}
        }
    }
    Ok(file)
}

/// Reads the features of a line into `entries`; yields its label, or none for a comment.
fn example<'a>(
    line: u64,
    text: &'a str,
    most: u32,
    entries: &mut Vec<(u32, f32)>,
) -> Result<Option<&'a str>, LibsvmError> {
    let mut words = text.split('#').next().unwrap_or_default().split_ascii_whitespace();
    let Some(label) = words.next() else { return Ok(None) };
    entries.clear();
    let mut least = 1;
    for word in words {
        let (index, value) = feature(word, line)?;
        if !(least..=u64::from(most)).contains(&index) {
            return Err(LibsvmError::Index { line, found: index, least, most: u64::from(most) });
        }
        least = index + 1;
        entries.push((index as u32 - 1, value));
    }
    Ok(Some(label))
}

fn class(label: &str, line: u64) -> Result<i64, LibsvmError> {
    whole_number(label).ok_or_else(|| LibsvmError::Label { line, found: excerpt(label) })
}

fn quantity(label: &str, line: u64) -> Result<f32, LibsvmError> {
    parse_finite(label).ok_or_else(|| LibsvmError::Quantity { line, found: excerpt(label) })
}

fn feature(word: &str, line: u64) -> Result<(u64, f32), LibsvmError> {
    let wrong = || LibsvmError::Feature { line, found: excerpt(word) };
    let (index, value) = word.split_once(':').ok_or_else(wrong)?;
    let index = index.parse().map_err(|_| wrong())?;
    match parse_finite(value) {
        Some(value) => Ok((index, value)),
        None if value.parse::<f64>().is_ok() => {
            Err(LibsvmError::Value { line, index, found: excerpt(value) })
        }
        None => Err(wrong()),
    }
}

/// The first examples as they are understood, for people.
pub(crate) fn preview(
    input: impl BufRead,
    features: Option<u32>,
    outcome: Outcome,
    count: usize,
) -> Result<Vec<String>, LibsvmError> {
    let most = features.unwrap_or(MAX_FEATURES).min(MAX_FEATURES);
    let mut lines = Lines::new(input);
    let first = match outcome {
        Outcome::Class => "a class",
        Outcome::Quantity => "a quantity",
        Outcome::Ignored => "a word that is passed over",
    };
    let mut shown = vec![format!("{first}, then index:value of features that are not zero")];
    let mut entries = Vec::new();
    while shown.len() <= count
        && let Some((line, text)) = lines.next_filled()?
    {
        let Some(label) = example(line, text, most, &mut entries)? else { continue };
        const SHOWN: usize = 4;
        let mut values: Vec<_> =
            entries.iter().take(SHOWN).map(|(index, value)| format!("{}:{value}", index + 1)).collect();
        if let Some(more @ 1..) = entries.len().checked_sub(SHOWN) {
            values.push(format!("{more} more"));
        }
        let label = match outcome {
            Outcome::Class => format!("class {} of ", class(label, line)?),
            Outcome::Quantity => format!("{} of ", quantity(label, line)?),
            Outcome::Ignored => String::new(),
        };
        shown.push(format!("line {line}: {label}{}", values.join(", ")));
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_read() {
        let text = "-1 1:0.5 3:2 # why\n\n# nothing\n+1 2:-1e-1 \n";
        let file = read(text.as_bytes(), None, Outcome::Class, Keep::All).unwrap();
        assert_eq!(
            (file.features, file.labels.name(0), file.labels.name(1)),
            (3, Some((-1).into()), Some(1.into()))
        );
        assert_eq!((file.rows.row(0).features, file.rows.row(0).values), (&[0, 2][..], &[0.5, 2.0][..]));
        assert_eq!((file.rows.row(1).features, file.rows.row(1).values), (&[1][..], &[-0.1][..]));
        assert_eq!(read(text.as_bytes(), Some(9), Outcome::Class, Keep::All).unwrap().features, 9);
        let quantities = read("1.5 1:1\n-2e3 2:1".as_bytes(), None, Outcome::Quantity, Keep::All).unwrap();
        assert_eq!((quantities.quantities, quantities.labels.is_empty()), (vec![1.5, -2000.0], true));
        assert!(read("".as_bytes(), None, Outcome::Class, Keep::All).unwrap().labels.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let table = [
            ("1 1:1\ncat 1:1", "line 2: label `cat`, an integer is allowed"),
            ("1.5 1:1", "line 1: label `1.5`, an integer is allowed"),
            ("1 0:1", "line 1: index 0, 1 to 5 is allowed here; indexes count from 1 and ascend"),
            ("1 3:1 2:1", "line 1: index 2, 4 to 5 is allowed here; indexes count from 1 and ascend"),
            ("1 3:1 3:1", "line 1: index 3, 4 to 5 is allowed here; indexes count from 1 and ascend"),
            ("1 6:1", "line 1: index 6, 1 to 5 is allowed here; indexes count from 1 and ascend"),
            ("1 2:nan", "line 1: index 2 has the value `nan`, a number from -3.4e38 to 3.4e38 is allowed"),
            ("1 1:1e99", "line 1: index 1 has the value `1e99`, a number from -3.4e38 to 3.4e38 is allowed"),
            ("1 1:x", "line 1: `1:x`, only index:value is allowed, where the value is a number"),
            ("1 qid:3", "line 1: `qid:3`, only index:value is allowed, where the value is a number"),
            ("1 -1:3", "line 1: `-1:3`, only index:value is allowed, where the value is a number"),
            ("1 7", "line 1: `7`, only index:value is allowed, where the value is a number"),
        ];
        for (text, message) in table {
            assert_eq!(
                read(text.as_bytes(), Some(5), Outcome::Class, Keep::All).unwrap_err().to_string(),
                message
            );
        }
        let quantity = read("1.5 1:1\nx 2:1".as_bytes(), None, Outcome::Quantity, Keep::All).unwrap_err();
        let message = "line 2: quantity `x`, a number from -3.4e38 to 3.4e38 is allowed";
        assert_eq!(quantity.to_string(), message);
        let stray = read("1 4294967295:1".as_bytes(), None, Outcome::Class, Keep::All).unwrap_err();
        assert!(matches!(stray, LibsvmError::Index { found: 4_294_967_295, .. }), "{stray}");
    }
}
