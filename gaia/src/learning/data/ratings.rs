//! Ratings of items by users.

use std::fmt;
use std::sync::Arc;

use super::names::Vocabulary;
use crate::human::percent;

/// A list of ratings, in columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RatingList {
    /// Who rated, as an index below [`Ratings::users`]; shape `[ratings]`.
    pub users: Vec<u32>,
    /// What was rated, as an index below [`Ratings::items`]; shape `[ratings]`.
    pub items: Vec<u32>,
    /// How it was rated; shape `[ratings]`.
    pub values: Vec<f32>,
}

impl RatingList {
    /// Appends a rating.
    pub fn push(&mut self, user: u32, item: u32, value: f32) {
        self.users.push(user);
        self.items.push(item);
        self.values.push(value);
    }

    /// The list with the last of several ratings of an item by one user alone, and how many others
    /// there were.
    pub(crate) fn without_repetitions(self) -> (Self, usize) {
        let pair = |at: u32| (self.users[at as usize], self.items[at as usize]);
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_unstable_by_key(|at| (pair(*at), *at));
        let mut again: Vec<_> =
            order.windows(2).filter(|two| pair(two[0]) == pair(two[1])).map(|two| two[0]).collect();
        if again.is_empty() {
            return (self, 0);
        }
        again.sort_unstable();
        let keeps = |at: usize| again.binary_search(&(at as u32)).is_err();
        let mut kept = Self::default();
        for (_, (user, item, value)) in self.iter().enumerate().filter(|(at, _)| keeps(*at)) {
            kept.push(user, item, value);
        }
        (kept, again.len())
    }

    /// How many ratings.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All ratings as `(user, item, value)`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, f32)> {
        let pairs = self.users.iter().zip(&self.items);
        pairs.zip(&self.values).map(|((&user, &item), &value)| (user, item, value))
    }

    /// The mean rating; zero where there are none.
    pub fn mean(&self) -> f64 {
        self.values.iter().map(|&value| f64::from(value)).sum::<f64>() / (self.len().max(1)) as f64
    }

    /// The lowest and the highest rating.
    pub fn range(&self) -> (f32, f32) {
        let ends = (f32::INFINITY, f32::NEG_INFINITY);
        self.values.iter().fold(ends, |(low, high), &value| (low.min(value), high.max(value)))
    }
}

/// How many ids have a row to themselves, where rows follow from their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRows {
    /// `users` or `items`.
    pub what: &'static str,
    /// How many different ids there are.
    pub ids: usize,
    /// How many rows.
    pub rows: u32,
    /// How many of the ids have a row that another one has too.
    pub sharing: usize,
}

impl SharedRows {
    /// Counts, given the row of each different id.
    pub(crate) fn count(what: &'static str, mut places: Vec<u32>, rows: u32) -> Self {
        places.sort_unstable();
        let sharing = places.chunk_by(|a, b| a == b).map(<[u32]>::len).filter(|ids| *ids > 1).sum();
        Self { what, ids: places.len(), rows, sharing }
    }
}

impl fmt::Display for SharedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, ids, rows, sharing } = self;
        let share = percent(*sharing as f64 / (*ids).max(1) as f64);
        write!(f, "{ids} {what} in {rows} rows: {sharing} share a row ({share})")
    }
}

/// A ratings data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratings {
    /// What to train on; never empty.
    pub train: RatingList,
    /// What to judge by.
    pub test: Option<RatingList>,
    /// How many users.
    pub users: u32,
    /// How many items.
    pub items: u32,
    /// Whom and what the indexes stand for; none where they are all there is.
    pub vocabulary: Option<Arc<Vocabulary>>,
    /// How many ratings were left out, since the same user rates the same item again later in the
    /// file.
    pub repeated: usize,
    /// Where rows follow from hashes: how many users and items of this data share one.
    pub shared_rows: Option<[SharedRows; 2]>,
}
