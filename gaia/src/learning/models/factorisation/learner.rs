//! One worker's SGD over its ratings, a slice of them each clock.

use datacenter::TableId;

use super::{Factorisation, ITEMS, USERS, conflict, count};
use crate::learning::application::{Learner, RowSet, StepError, Tables, Work};
use crate::learning::data::Epochs;
use crate::learning::models::lanes::dot;
use crate::learning::models::local_rows::LocalRows;

/// Keeps AdaGrad from dividing by zero; far below any gradient that matters.
const ADAGRAD_EPSILON: f32 = 1e-8;

pub(super) struct FactorisationLearner<'a> {
    application: &'a Factorisation,
    epochs: Epochs,
    /// This clock's ratings: slot in `users`, slot in `items`, value.
    slice: Vec<(u32, u32, f32)>,
    users: LocalRows,
    items: LocalRows,
    user_conflict: Conflict,
    item_conflict: Conflict,
    /// Sums of squared gradients, where AdaGrad is on: of all users, then of all items; shape
    /// `[rows, width]` each.
    squares: Option<[Vec<f32>; 2]>,
}

/// What the workers of one table's rows do to each other.
struct Conflict {
    /// See [`conflict::workers`]; shape `[rows]`.
    workers: Vec<f32>,
    /// The sum of squared inputs of this clock's ratings; shape `[slots]`.
    pulls: Vec<f32>,
}

/// The part of an update that is the same for all ratings of a clock.
#[derive(Clone, Copy)]
struct Step {
    rate: f32,
    l2: f32,
    bias_l2: f32,
}

impl<'a> FactorisationLearner<'a> {
    pub(super) fn new(application: &'a Factorisation, examples: Vec<u32>, share: f64, seed: u64) -> Self {
        let width = application.width();
        let rows = |table| application.rows(table) as usize;
        let conflict = |table: TableId, of_rating: &[u32]| {
            let mine: Vec<u32> = examples.iter().map(|&example| of_rating[example as usize]).collect();
            let mine = count(&mine, application.rows(table));
            Conflict {
                workers: conflict::workers(&mine, &application.counts[table.index()], share),
                pulls: Vec::new(),
            }
        };
        let train = &application.data.train;
        let squares = |table| vec![0.0; rows(table) * width];
        Self {
            user_conflict: conflict(USERS, &train.users),
            item_conflict: conflict(ITEMS, &train.items),
            epochs: Epochs::new(examples, seed),
            slice: Vec::new(),
            users: LocalRows::new(USERS, rows(USERS), width),
            items: LocalRows::new(ITEMS, rows(ITEMS), width),
            squares: application.settings.adagrad.then(|| [squares(USERS), squares(ITEMS)]),
            application,
        }
    }

    /// Sums up how hard this clock's ratings pull at their rows.
    fn weigh(&mut self) {
        let rank = self.application.rank();
        let bias = f32::from(u8::from(self.application.settings.biases));
        let square = |row: &[f32]| dot(&row[..rank], &row[..rank]) + bias;
        let squares = |rows: &LocalRows| -> Vec<f32> {
            rows.values().chunks_exact(self.application.width()).map(square).collect()
        };
        let (users, items) = (squares(&self.users), squares(&self.items));
        let (user_pulls, item_pulls) = (&mut self.user_conflict.pulls, &mut self.item_conflict.pulls);
        for (pulls, length) in [(&mut *user_pulls, users.len()), (&mut *item_pulls, items.len())] {
            pulls.clear();
            pulls.resize(length, 0.0);
        }
        for &(user, item, _) in &self.slice {
            user_pulls[user as usize] += items[item as usize];
            item_pulls[item as usize] += users[user as usize];
        }
    }

    /// Moves both rows of one rating.
    fn learn(&mut self, (user, item, value): (u32, u32, f32), step: Step) {
        let (width, rank) = (self.application.width(), self.application.rank());
        let (user_row, item_row) = (self.users.rows()[user as usize], self.items.rows()[item as usize]);
        let (p, q) = (self.users.row_mut(user), self.items.row_mut(item));
        let error = value - self.application.predict(p, q);
        let (p, user_bias) = p.split_at_mut(rank);
        let (q, item_bias) = q.split_at_mut(rank);
        let Some([users, items]) = &mut self.squares else {
            for (p, q) in p.iter_mut().zip(q) {
                let (old_p, old_q) = (*p, *q);
                *p += step.rate * (error * old_q - step.l2 * old_p);
                *q += step.rate * (error * old_p - step.l2 * old_q);
            }
            for bias in user_bias.iter_mut().chain(item_bias) {
                *bias += step.rate * (error - step.bias_l2 * *bias);
            }
            return;
        };

        let (p_squares, user_square) = users[user_row as usize * width..][..width].split_at_mut(rank);
        let (q_squares, item_square) = items[item_row as usize * width..][..width].split_at_mut(rank);
        for ((p, p_square), (q, q_square)) in p.iter_mut().zip(p_squares).zip(q.iter_mut().zip(q_squares)) {
            let (old_p, old_q) = (*p, *q);
            adapt(p, p_square, error * old_q - step.l2 * old_p, step.rate);
            adapt(q, q_square, error * old_p - step.l2 * old_q, step.rate);
        }
        let biases = user_bias.iter_mut().zip(user_square).chain(item_bias.iter_mut().zip(item_square));
        for (bias, square) in biases {
            let gradient = error - step.bias_l2 * *bias;
            adapt(bias, square, gradient, step.rate);
        }
    }
}

/// Adds the changes of `rows`, scaled to the presence of other workers.
fn add_changes(rows: &mut LocalRows, conflict: &Conflict, rate: f32, tables: &mut dyn Tables) {
    let workers: Vec<f32> = rows.rows().iter().map(|&row| conflict.workers[row as usize]).collect();
    let scale = |slot: usize| conflict::scale(rate * conflict.pulls[slot], workers[slot]);
    rows.add_changes(scale, tables);
}

/// AdaGrad's step of one element up `gradient` (Duchi, Hazan and Singer, JMLR 12, 2011).
fn adapt(value: &mut f32, square: &mut f32, gradient: f32, rate: f32) {
    *square += gradient * gradient;
    *value += rate * gradient / (square.sqrt() + ADAGRAD_EPSILON);
}

impl Learner for FactorisationLearner<'_> {
    fn rows(&mut self, clock: u32, rows: &mut RowSet) {
        let slices = self.application.settings.clocks_per_epoch.max(1);
        let (epoch, part) = (clock / slices, (clock % slices) as usize);
        let (count, slices) = (self.epochs.len(), slices as usize);
        let ratings = &self.application.data.train;
        self.users.clear();
        self.items.clear();
        self.slice.clear();
        let order = &self.epochs.order(u64::from(epoch))[part * count / slices..(part + 1) * count / slices];
        for &rating in order {
            let rating = rating as usize;
            let user = self.users.claim(ratings.users[rating]);
            let item = self.items.claim(ratings.items[rating]);
            self.slice.push((user, item, ratings.values[rating]));
        }
        self.users.declare(rows);
        self.items.declare(rows);
    }

    fn step(&mut self, clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        self.users.load(tables);
        self.items.load(tables);
        let settings = &self.application.settings;
        let step = Step {
            rate: settings.learning_rate.at(clock) as f32,
            l2: settings.l2 as f32,
            bias_l2: settings.bias_l2 as f32,
        };
        // AdaGrad's rates fall by themselves where there are many ratings.
        let plain_rate = if settings.adagrad { 0.0 } else { step.rate };
        self.weigh();
        for index in 0..self.slice.len() {
            self.learn(self.slice[index], step);
        }
        add_changes(&mut self.users, &self.user_conflict, plain_rate, tables);
        add_changes(&mut self.items, &self.item_conflict, plain_rate, tables);
        Ok(Work::examples(self.slice.len() as u64))
    }
}
