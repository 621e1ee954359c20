//! Matrix factorisation by stochastic gradient descent.
//!
//! A rating of item `i` by user `u` is predicted as `p_u . q_i`, or with biases as `mean + b_u +
//! b_i + p_u . q_i`, where `mean` is that of the training ratings. Tables `users` and `items` hold
//! a row `[rank]` each, or `[rank + 1]` with the bias as the last element.
//!
//! The objective is the mean over training ratings `r` of `(r - prediction)^2 + l2 (|p_u|^2 +
//! |q_i|^2) + bias_l2 (b_u^2 + b_i^2)`: mean squared error plus penalties that weigh each row by
//! how often it is rated (Koren, Bell and Volinsky, IEEE Computer 42(8), 2009, equation 5). It is
//! what the steps go down, `gamma` times half of a rating's gradient at a time: `p_u += gamma (e
//! q_i - l2 p_u)` with `e = r - prediction`, and likewise for the others.

mod conflict;
mod kind;
mod learner;

use std::sync::Arc;

use datacenter::{TableId, TableSpec};

use self::learner::FactorisationLearner;
use super::lanes::dot;
use crate::learning::application::{Application, Evaluation, Judgement, Learner, Metric, Model};
use crate::learning::data::Partition;
use crate::learning::data::partition::{Attributes, partition};
use crate::learning::data::ratings::{RatingList, Ratings};
use crate::learning::data::{Names, Vocabulary, normal_row};

pub(crate) use self::kind::MOST_RANK;
pub use self::kind::{FactorisationKind, FactorisationSettings};
use crate::human::counted;

const USERS: TableId = TableId(0);
const ITEMS: TableId = TableId(1);

/// Matrix factorisation of ratings.
pub struct Factorisation {
    settings: FactorisationSettings,
    data: Ratings,
    partition: Partition,
    seed: u64,
    /// The mean training rating, from which predictions start where there are biases.
    mean: f32,
    /// The lowest and the highest training rating.
    range: (f32, f32),
    /// How many training ratings each user and each item has; shapes `[users]` and `[items]`.
    counts: [Vec<u32>; 2],
}

impl Factorisation {
    /// The application; `seed` decides the partition and the initial factors.
    pub fn new(settings: FactorisationSettings, data: Ratings, partition: Partition, seed: u64) -> Self {
        let (mean, range) = match data.vocabulary.as_deref() {
            Some(Vocabulary::Ratings { mean, range, .. }) => (*mean, *range),
            Some(Vocabulary::Hashed(ids)) => (ids.mean, ids.range),
            Some(Vocabulary::Classes { .. } | Vocabulary::Features { .. } | Vocabulary::Words { .. })
            | None => (data.train.mean() as f32, data.train.range()),
        };
        let counts = [count(&data.train.users, data.users), count(&data.train.items, data.items)];
        Self { mean, range, counts, settings, data, partition, seed }
    }

    fn rank(&self) -> usize {
        self.settings.rank as usize
    }

    /// Length of a row.
    fn width(&self) -> usize {
        self.rank() + usize::from(self.settings.biases)
    }

    fn rows(&self, table: TableId) -> u32 {
        if table == USERS { self.data.users } else { self.data.items }
    }

    /// The predicted rating; `user` and `item` are rows of shape `[width]`.
    fn predict(&self, user: &[f32], item: &[f32]) -> f32 {
        let rank = self.rank();
        let biases = user[rank..].iter().sum::<f32>() + item[rank..].iter().sum::<f32>();
        let mean = if self.settings.biases { self.mean } else { 0.0 };
        mean + biases + dot(&user[..rank], &item[..rank])
    }

    /// What is predicted where nothing is known of the user or of the item: the mean training
    /// rating and the biases that there are, since a bias that was never trained is zero, and
    /// factors that were never trained are chance.
    fn predict_by_biases(&self, user: &[f32], item: &[f32]) -> f32 {
        let rank = self.rank();
        self.mean + user[rank..].iter().sum::<f32>() + item[rank..].iter().sum::<f32>()
    }

    /// Whether anybody has trained `row`: it has training ratings here, or is no longer what it was
    /// at first. Regions with data of their own train rows that have no ratings elsewhere.
    fn is_trained(&self, table: TableId, index: u32, row: &[f32]) -> bool {
        if self.counts[table.index()][index as usize] > 0 {
            return true;
        }
        let mut first = vec![0.0; self.width()];
        self.initialise(table, index, &mut first);
        first[..self.rank()] != row[..self.rank()]
    }

    /// The objective's penalty of one rating's share of `row`, shape `[width]`.
    fn penalty(&self, row: &[f32]) -> f64 {
        let (factors, bias) = row.split_at(self.rank());
        let square = |values: &[f32]| values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
        self.settings.l2 * square(factors) + self.settings.bias_l2 * square(bias)
    }
}

impl Application for Factorisation {
    fn tables(&self) -> Vec<TableSpec> {
        let width = self.width() as u32;
        let spec = |name: &str, table| TableSpec::new(name, self.rows(table), width);
        vec![spec("users", USERS), spec("items", ITEMS)]
    }

    /// Factors are normal with the configured deviation, drawn for each row alone; biases are zero.
    fn initialise(&self, table: TableId, row: u32, out: &mut [f32]) {
        normal_row(self.seed, table, row, self.settings.initial_deviation, &mut out[..self.rank()]);
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        let RatingList { users, items, .. } = &self.data.train;
        partition(self.partition, Attributes { keys: users, labels: items }, parts, self.seed)
    }

    /// Deltas of all workers add up, as if one worker had gone through all their ratings.
    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_> {
        Box::new(FactorisationLearner::new(self, examples, share, seed))
    }

    /// The metric is the root mean squared error of test ratings (of training ratings where there
    /// are none), with predictions clipped to the range of the training ratings.
    fn evaluate(&self, model: &Model) -> Evaluation {
        let judged = self.data.test.as_ref().unwrap_or(&self.data.train);
        let rows = Rows::of(self, model, judged);
        rows.evaluation(&self.data.train, judged)
    }

    fn judge(&self, model: &Model) -> Option<Judgement> {
        let test = self.data.test.as_ref().filter(|test| !test.is_empty())?;
        let evaluation = Rows::of(self, model, test).evaluation(test, test);
        Some(Judgement { evaluation, examples: test.len() })
    }

    fn predicted(&self) -> Vec<String> {
        // Several users may have a row, of whom nothing but that is known.
        let is_hashed = matches!(self.data.vocabulary.as_deref(), Some(Vocabulary::Hashed(_)));
        let ids = if is_hashed { ["user_row", "item_row"] } else { ["user", "item"] };
        ids.into_iter().chain(["rating", "predicted"]).map(str::to_owned).collect()
    }

    fn predicted_names(&self, column: usize) -> Option<&Names> {
        match (self.data.vocabulary.as_deref(), column) {
            (Some(Vocabulary::Ratings { users, .. }), 0) => Some(users),
            (Some(Vocabulary::Ratings { items, .. }), 1) => Some(items),
            _ => None,
        }
    }

    /// User and item, the rating, and what is predicted, clipped as for the metric.
    fn predict(&self, model: &Model, each: &mut dyn FnMut(&[f64])) {
        let judged = self.data.test.as_ref().unwrap_or(&self.data.train);
        let rows = Rows::of(self, model, judged);
        for (user, item, value) in judged.iter() {
            let prediction = rows.clipped(user, item);
            each(&[user.into(), item.into(), f64::from(value), f64::from(prediction)]);
        }
    }

    fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        self.data.vocabulary.clone()
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<_> = self.data.shared_rows.iter().flatten().map(ToString::to_string).collect();
        let are = match self.data.repeated {
            0 => return remarks,
            1 => "is",
            _ => "are",
        };
        remarks.push(format!(
            "{} {are} left out, since the same user rates the same item again further down in the file: the last rating \
             counts",
            counted(self.data.repeated, "rating")
        ));
        remarks
    }
}

/// All rows of a model.
struct Rows<'a> {
    application: &'a Factorisation,
    users: Vec<&'a [f32]>,
    items: Vec<&'a [f32]>,
    /// The users and the items to judge by of whom nothing is known, ascending.
    unknown: [Vec<u32>; 2],
}

impl<'a> Rows<'a> {
    /// The rows of `model`, to judge it by `judged`.
    fn of(application: &'a Factorisation, model: &'a Model, judged: &RatingList) -> Self {
        let rows = |table| (0..application.rows(table)).map(|row| model.row(table, row)).collect();
        let unknown = |table, indexes: &[u32]| {
            // Hardly ever any: those that have training ratings are done first.
            let is_rated = |index: &u32| application.counts[TableId::index(table)][*index as usize] > 0;
            let mut indexes: Vec<u32> = indexes.iter().copied().filter(|index| !is_rated(index)).collect();
            indexes.sort_unstable();
            indexes.dedup();
            indexes.retain(|index| !application.is_trained(table, *index, model.row(table, *index)));
            indexes
        };
        let unknown = [unknown(USERS, &judged.users), unknown(ITEMS, &judged.items)];
        Self { application, users: rows(USERS), items: rows(ITEMS), unknown }
    }

    fn predicted(&self, user: u32, item: u32) -> f32 {
        let [users, items] = &self.unknown;
        let (user_row, item_row) = (self.users[user as usize], self.items[item as usize]);
        if users.binary_search(&user).is_ok() || items.binary_search(&item).is_ok() {
            return self.application.predict_by_biases(user_row, item_row);
        }
        self.application.predict(user_row, item_row)
    }

    fn clipped(&self, user: u32, item: u32) -> f32 {
        let (least, most) = self.application.range;
        self.predicted(user, item).clamp(least, most)
    }

    /// The objective over some ratings, and the metric of others.
    fn evaluation(&self, scored: &RatingList, judged: &RatingList) -> Evaluation {
        let penalties =
            |rows: &[&[f32]]| -> Vec<f64> { rows.iter().map(|row| self.application.penalty(row)).collect() };
        let (user_penalties, item_penalties) = (penalties(&self.users), penalties(&self.items));
        let mut sum = 0.0;
        for (user, item, value) in scored.iter() {
            let error = f64::from(value - self.predicted(user, item));
            sum += error * error + user_penalties[user as usize] + item_penalties[item as usize];
        }
        let squared = |(user, item, value): (u32, u32, f32)| {
            let error = f64::from(value - self.clipped(user, item));
            error * error
        };
        let mean = judged.iter().map(squared).sum::<f64>() / judged.len() as f64;
        Evaluation {
            objective: sum / scored.len() as f64,
            metric: Metric { name: "rmse", value: mean.sqrt(), larger_is_better: false, best: Some(0.0) },
        }
    }
}

/// How often each of `rows` rows occurs; shape `[rows]`.
fn count(occurrences: &[u32], rows: u32) -> Vec<u32> {
    let mut counts = vec![0; rows as usize];
    occurrences.iter().for_each(|&row| counts[row as usize] += 1);
    counts
}
