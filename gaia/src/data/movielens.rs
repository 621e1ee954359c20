//! The rating files of MovieLens, told apart by their first line.
//!
//! | file | a line |
//! |---|---|
//! | `u.data`, `u1.base`, `u1.test` | `user TAB item TAB rating TAB seconds` |
//! | `ratings.dat` | `user::item::rating::seconds` |
//! | `ratings.csv` | `userId,movieId,rating,timestamp`, under a header of these words |
//!
//! The time may be missing and is not read. Ids are any non-negative integers; they become dense indexes in ascending
//! order of the ids of training and test file together, so that no rating of a test file is without a row.

use std::io::BufRead;

use super::classification::MAX_EXAMPLES;
use super::lines::{LineError, Lines, excerpt, parse_finite};
use super::ratings::{RatingList, Ratings};

/// Why a file is not usable as MovieLens ratings.
#[derive(Debug, thiserror::Error)]
pub enum MovieLensError {
    /// A line cannot be had.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Neither kind of file, or a line that is cut.
    #[error(
        "line {line}: {found} fields between `{separator}`, 3 or 4 are allowed: user, item, rating, time"
    )]
    Fields {
        /// Counted from one.
        line: u64,
        /// How many.
        found: usize,
        /// What the first line is separated by.
        separator: &'static str,
    },
    /// A user or an item.
    #[error("line {line}: {what} `{found}`, an integer from zero is allowed")]
    Id {
        /// Counted from one.
        line: u64,
        /// `user` or `item`.
        what: &'static str,
        /// The field.
        found: String,
    },
    /// A rating.
    #[error("line {line}: rating `{found}`, a finite number is allowed")]
    Rating {
        /// Counted from one.
        line: u64,
        /// The field.
        found: String,
    },
    /// Nothing to train on or test with.
    #[error("has no ratings, at least one is needed")]
    Empty,
    /// More ratings than indexes can name.
    #[error("has more than the {MAX_EXAMPLES} ratings allowed")]
    TooMany,
}

/// Ratings as a file has them, with ids instead of indexes.
#[derive(Debug, Default)]
pub(crate) struct RawRatings {
    users: Vec<u64>,
    items: Vec<u64>,
    values: Vec<f32>,
}

/// Reads all lines.
pub(crate) fn read(input: impl BufRead) -> Result<RawRatings, MovieLensError> {
    let mut raw = RawRatings::default();
    let mut lines = Lines::new(input);
    let mut separator = None;
    while let Some((line, text)) = lines.next_filled()? {
        let is_first = separator.is_none();
        let separator = *separator.get_or_insert_with(|| separator_of(text));
        if is_first && separator == "," && is_header(text) {
            continue;
        }
        let mut fields = [""; 4];
        let found = text.split(separator).zip(1..).map(|(field, n)| {
            if let Some(slot) = fields.get_mut(n - 1) {
                *slot = field.trim();
            }
            n
        });
        let found = found.last().unwrap_or(0);
        if !(3..=4).contains(&found) {
            return Err(MovieLensError::Fields { line, found, separator });
        }
        if raw.values.len() == MAX_EXAMPLES {
            return Err(MovieLensError::TooMany);
        }
        raw.users.push(id(line, "user", fields[0])?);
        raw.items.push(id(line, "item", fields[1])?);
        let rating = || MovieLensError::Rating { line, found: excerpt(fields[2]) };
        raw.values.push(parse_finite(fields[2]).ok_or_else(rating)?);
    }
    if raw.values.is_empty() { Err(MovieLensError::Empty) } else { Ok(raw) }
}

fn separator_of(line: &str) -> &'static str {
    ["::", "\t"].into_iter().find(|separator| line.contains(separator)).unwrap_or(",")
}

fn is_header(line: &str) -> bool {
    line.starts_with(|first: char| first.is_alphabetic() || first == '"')
}

fn id(line: u64, what: &'static str, text: &str) -> Result<u64, MovieLensError> {
    text.parse().map_err(|_| MovieLensError::Id { line, what, found: excerpt(text) })
}

/// Gives users and items dense indexes.
pub(crate) fn index(train: RawRatings, test: Option<RawRatings>) -> Ratings {
    let users = distinct(&train.users, test.as_ref().map(|t| &t.users));
    let items = distinct(&train.items, test.as_ref().map(|t| &t.items));
    let indexed = |raw: RawRatings| RatingList {
        users: indexes(&raw.users, &users),
        items: indexes(&raw.items, &items),
        values: raw.values,
    };
    Ratings {
        train: indexed(train),
        test: test.map(indexed),
        users: users.len() as u32,
        items: items.len() as u32,
        ids: [users, items],
    }
}

/// Gives ratings of another file the indexes of those in `known`; also tells how many are of users or items that are not
/// there, and were left out.
pub(crate) fn index_known(raw: &RawRatings, known: &Ratings) -> (RatingList, u64) {
    let [users, items] = &known.ids;
    let mut list = RatingList::default();
    for ((user, item), value) in raw.users.iter().zip(&raw.items).zip(&raw.values) {
        if let (Ok(user), Ok(item)) = (users.binary_search(user), items.binary_search(item)) {
            list.push(user as u32, item as u32, *value);
        }
    }
    let left_out = (raw.values.len() - list.len()) as u64;
    (list, left_out)
}

fn distinct(train: &[u64], test: Option<&Vec<u64>>) -> Vec<u64> {
    let mut ids = train.to_vec();
    ids.extend(test.into_iter().flatten());
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn indexes(ids: &[u64], distinct: &[u64]) -> Vec<u32> {
    let index = |id| distinct.binary_search(id).expect("every id is among the distinct ones");
    ids.iter().map(|id| index(id) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_of_file_read_alike() {
        let kinds = [
            "9\t7\t3\t881250949\n2\t70\t5\t881250950\n",
            "9::7::3::881250949\n2::70::5::881250950\n",
            "userId,movieId,rating,timestamp\n9,7,3.0,881250949\r\n2,70,5.0,881250950\r\n",
            "9,7,3\n2,70,5\n",
        ];
        for kind in kinds {
            let raw = read(kind.as_bytes()).unwrap();
            assert_eq!((&raw.users[..], &raw.items[..]), (&[9, 2][..], &[7, 70][..]), "{kind}");
            assert_eq!(raw.values, [3.0, 5.0]);
        }
    }

    #[test]
    fn indexes_are_dense_over_train_and_test_together() {
        let train = read("9\t7\t3\t0\n2\t70\t5\t0\n".as_bytes()).unwrap();
        let test = read("5\t7\t1\t0\n".as_bytes()).unwrap();
        let ratings = index(train, Some(test));
        assert_eq!((ratings.users, ratings.items), (3, 2));
        assert_eq!((&ratings.train.users[..], &ratings.train.items[..]), (&[2, 0][..], &[0, 1][..]));
        assert_eq!(ratings.test.as_ref().unwrap().users, [1]);
        let other = read("9,70,2\n9,71,2\n4,7,2\n".as_bytes()).unwrap();
        let (known, left_out) = index_known(&other, &ratings);
        assert_eq!((known.users, known.items, left_out), (vec![2], vec![1], 2));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let table = [
            ("1\t2\n", "line 1: 2 fields between `\t`, 3 or 4 are allowed: user, item, rating, time"),
            ("1,2,3,4,5\n", "line 1: 5 fields between `,`, 3 or 4 are allowed: user, item, rating, time"),
            (
                "1,2,3\n1::2::3\n",
                "line 2: 1 fields between `,`, 3 or 4 are allowed: user, item, rating, time",
            ),
            ("1\t2\t3\n-1\t2\t3\n", "line 2: user `-1`, an integer from zero is allowed"),
            (
                "1\t99999999999999999999\t3\n",
                "line 1: item `99999999999999999999`, an integer from zero is allowed",
            ),
            ("1::2::NaN::4\n", "line 1: rating `NaN`, a finite number is allowed"),
            ("1::2::1e99::4\n", "line 1: rating `1e99`, a finite number is allowed"),
            ("", "has no ratings, at least one is needed"),
            ("userId,movieId,rating,timestamp\n", "has no ratings, at least one is needed"),
        ];
        for (text, message) in table {
            assert_eq!(read(text.as_bytes()).unwrap_err().to_string(), message, "{text}");
        }
    }
}
