//! Reads that anticipate: what the others will have done by the time that they say so (time-free).
//!
//! The problem: with a loose threshold a model falls behind, and not because replicas differ. Most of what has been learned
//! lies in accumulators and on its way, each region's own at home, and each lacks that of all the others. The idea: where
//! regions learn from data that are alike, what the others have and have not said yet is about what one has oneself and has not
//! been answered yet. So a worker reads
//!
//! ```text
//! x + g * p        p = sum over peers j of p_j / D',  p_j = a + sum of s_t over the releases of clocks t > c_j
//! ```
//!
//! of each element, with `x` the value, `a` what the filter holds back, `s_t` what was released of clock `t`, `c_j` the clock of
//! peer `j` of which everything has arrived, and `D'` the number of peers that are waited for. `p` is one's own part whose
//! counterpart has not come, exactly, peer by peer. It falls when the counterpart comes. Nothing but the answer to a read
//! knows of it: tables, filter, updates and checkpoints do not change.
//!
//! **The gain** `g` is what the others' part is to one's own: about the number of peers where data are alike, less where much of
//! an update is noise, and below zero where the regions' updates undo each other, as they do when each has other labels. It is
//! estimated, for each table, from what arrives. With `b_j` what was released of an element since something last came for it from
//! `j`, and `s` what comes then,
//!
//! ```text
//! e = sum over j of  sum(s * b_j) / sum(b_j^2)        sums with a memory of 0.99 a clock, over a sample of the table
//! ```
//!
//! For alike data, where updates are `m + n_j` with a common part `m` and noise `n_j` of each region's own, the expectation of `e` is
//! `D' * E(m^2) / E((m + n)^2)`: the factor by which one's own predicts the others' with the least squared error. So `g = e` where
//! `e` is clearly positive, and zero near zero. Where it is clearly negative in any table `g = -1` in all: then a worker reads what everybody
//! has, without its own part that nobody has answered, and no region runs off alone.
//!
//! Tables of whole numbers are read as they are.
//!
//! It is wrong where the counterpart is no function of one's own: rows that only one region touches (the estimate finds that
//! for the table as a whole, not by row), and for some clocks after data, learning rate or the set of peers have changed at once.

use std::collections::VecDeque;

use datacenter::{Clock, Elements, ShardTable, TableId};

use crate::sample::Sample;

/// Weight of the clocks before in the sums of the estimate.
const MEMORY: f64 = 0.99;

/// An estimate nearer to zero than this says nothing.
const UNCLEAR: f64 = 0.05;

/// A likeness below which the others' updates undo our own, and one above which they do so no longer. Once training has come
/// to rest on data that are alike, whatever noise one region brings in is taken back by all the others, which is a little below zero (-0.04
/// was seen).
pub(crate) const OPPOSED: f64 = -0.05;
const STILL_OPPOSED: f64 = -0.02;

/// How many releases there must have been before the estimate counts.
const MIN_RELEASES: u32 = 4;

/// By how much of it the gain must have moved before readers are told: each time every row with something unanswered is
/// read again.
const MOVED: f32 = 0.05;

/// After so many clocks in which nothing has come for a table that was compared, its likeness says nothing of others.
const QUIET_CLOCKS: u32 = 300;

/// What is anticipated of one shard.
#[derive(Debug)]
pub struct Anticipation {
    tables: Vec<Table>,
    /// Releases that some peer has yet to answer, by clock.
    unanswered: VecDeque<Release>,
    /// How many elements those have, and how many they may have: a model's worth.
    elements: usize,
    most: usize,
    /// By peer: the clock up to which releases are answered; none while nobody waits for it.
    answered: Vec<Option<Clock>>,
    /// Whether the others' updates undo our own.
    is_opposed: bool,
}

#[derive(Debug)]
struct Release {
    clock: Clock,
    deltas: Vec<Elements>,
}

#[derive(Debug)]
struct Table {
    width: usize,
    /// Whether its values are whole numbers, which a part of somebody's count is not: they are read as they are.
    is_whole: bool,
    /// By element: what was released, once for each peer that has yet to answer.
    unanswered: Vec<f32>,
    gain: f32,
    sample: Sample,
    likeness: Vec<Likeness>,
    releases: u32,
    /// How many clocks ago something came that could be compared.
    quiet_clocks: u32,
}

/// How a peer's updates of a table are to our own.
#[derive(Debug)]
struct Likeness {
    /// By place in the sample: what was released since something last came.
    own: Vec<f32>,
    /// The sums of the products of what came and our own, and of the squares of our own.
    products: f64,
    squares: f64,
}

impl Anticipation {
    /// Of a shard with tables of these shapes, and so many peers, of which nothing has come.
    pub fn new(shapes: &[ShardTable], peers: usize) -> Self {
        let tables = shapes.iter().map(|shape| {
            let sample = Sample::of(shape.elements());
            let likeness = || Likeness { own: vec![0.0; sample.len()], products: 0.0, squares: 0.0 };
            Table {
                width: shape.width as usize,
                is_whole: false,
                unanswered: vec![0.0; shape.elements()],
                gain: 0.0,
                likeness: (0..peers).map(|_| likeness()).collect(),
                sample,
                releases: 0,
                quiet_clocks: 0,
            }
        });
        Self {
            tables: tables.collect(),
            unanswered: VecDeque::new(),
            elements: 0,
            most: shapes.iter().map(|shape| shape.elements()).sum(),
            answered: vec![Some(Clock(0)); peers],
            is_opposed: false,
        }
    }

    /// The same that leaves tables as they are, by table: those of whole numbers. How alike their updates are is found all the same.
    #[must_use]
    pub fn leaving_whole(mut self, whole: impl IntoIterator<Item = bool>) -> Self {
        self.tables.iter_mut().zip(whole).for_each(|(table, is_whole)| table.is_whole = is_whole);
        self
    }

    /// `g` of a table.
    pub fn gain(&self, table: TableId) -> f32 {
        self.tables[table.index()].gain
    }

    /// `e` of a table; none before it counts.
    pub fn estimate(&self, table: TableId) -> Option<f64> {
        let table = &self.tables[table.index()];
        (table.releases >= MIN_RELEASES).then(|| table.estimate(&self.answered)).flatten()
    }

    /// What is expected of each peer for what one has done oneself in a table; none before it counts.
    pub fn likeness(&self, table: TableId) -> Option<f64> {
        let peers = self.answered.iter().flatten().count();
        Some(self.estimate(table)? / peers as f64).filter(|_| peers > 0)
    }

    /// The same of the table of which that is least, among those for which something comes.
    pub fn least_likeness(&self) -> Option<f64> {
        let is_heard = |table: &TableId| self.tables[table.index()].quiet_clocks < QUIET_CLOCKS;
        let tables = (0..self.tables.len()).map(|table| TableId(table as u16)).filter(is_heard);
        tables.filter_map(|table| self.likeness(table)).reduce(f64::min)
    }

    /// Whether the others' updates undo our own: then readers see what everybody has.
    pub fn is_opposed(&self) -> bool {
        self.is_opposed
    }

    /// `deltas` were released at the end of `clock`. Rows that are read differently by it are passed to `changed`.
    pub fn release(&mut self, clock: Clock, deltas: &[Elements], changed: &mut impl FnMut(TableId, u32)) {
        let waiting = self.answered.iter().flatten().filter(|answered| **answered < clock).count() as f32;
        for delta in deltas {
            let table = &mut self.tables[delta.table.index()];
            table.releases = table.releases.saturating_add(1);
            for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
                table.unanswered[index as usize] += value * waiting;
                if let Some(place) = table.sample.element(index as usize) {
                    table.likeness.iter_mut().for_each(|likeness| likeness.own[place] += value);
                }
            }
        }
        if waiting == 0.0 || deltas.is_empty() {
            return;
        }
        self.elements += deltas.iter().map(Elements::len).sum::<usize>();
        self.unanswered.push_back(Release { clock, deltas: deltas.to_vec() });
        while self.elements > self.most && self.unanswered.len() > 1 {
            self.give_up_oldest(changed);
        }
    }

    /// Something new has come from a peer.
    pub fn arrive(&mut self, peer: usize, delta: &Elements) {
        let table = &mut self.tables[delta.table.index()];
        let likeness = &mut table.likeness[peer];
        for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
            if let Some(place) = table.sample.element(index as usize) {
                let own = f64::from(std::mem::take(&mut likeness.own[place]));
                likeness.products += own * f64::from(value);
                likeness.squares += own * own;
                if own != 0.0 {
                    table.quiet_clocks = 0;
                }
            }
        }
    }

    /// Everything of a peer up to `clock` has arrived; none if nobody waits for it. Rows that are read differently by it are passed
    /// to `changed`.
    pub fn answer(&mut self, peer: usize, clock: Option<Clock>, changed: &mut impl FnMut(TableId, u32)) {
        let before = std::mem::replace(&mut self.answered[peer], clock);
        // Whoever comes back answers what is released from then on.
        let Some(from) = before else {
            let newest = self.unanswered.back().map_or(Clock(0), |release| release.clock);
            self.answered[peer] = clock.map(|clock| clock.max(newest));
            return;
        };
        let through = clock.unwrap_or(Clock(u32::MAX));
        if through <= from {
            self.answered[peer] = clock.map(|_| from);
            return;
        }
        let first = self.unanswered.partition_point(|release| release.clock <= from);
        for release in self.unanswered.range(first..).take_while(|release| release.clock <= through) {
            take_out(&mut self.tables, release, 1.0, changed);
        }
        self.forget_answered();
    }

    /// A clock has ended: moves the gains to what is estimated. True for a table whose rows are read differently by it.
    pub fn end_clock(&mut self) -> impl Iterator<Item = TableId> {
        self.is_opposed = match self.least_likeness() {
            Some(likeness) if self.is_opposed => likeness < STILL_OPPOSED,
            Some(likeness) => likeness < OPPOSED,
            None => self.is_opposed,
        };
        let (answered, is_opposed) = (&self.answered, self.is_opposed);
        let peers = answered.iter().flatten().count() as f64;
        let move_gain = |table: &mut Table| {
            table.quiet_clocks = table.quiet_clocks.saturating_add(1);
            for likeness in &mut table.likeness {
                likeness.products *= MEMORY;
                likeness.squares *= MEMORY;
            }
            if table.releases < MIN_RELEASES || table.is_whole {
                return false;
            }
            let gain = match is_opposed {
                true => -1.0,
                false => gain_of(table.estimate(answered).unwrap_or(0.0), peers) as f32,
            };
            let is_other = (gain - table.gain).abs() > MOVED * table.gain.abs().max(gain.abs());
            if is_other {
                table.gain = gain;
            }
            is_other
        };
        let moved: Vec<bool> = self.tables.iter_mut().map(move_gain).collect();
        (0..).map(TableId).zip(moved).filter(|(_, moved)| *moved).map(|(table, _)| table)
    }

    /// Whether the row's elements from `first` on have something that is not answered, `accumulated` being what the filter holds
    /// back of the table.
    pub fn has_unanswered(&self, table: TableId, slot: u32, accumulated: &[f32]) -> bool {
        let table = &self.tables[table.index()];
        let row = slot as usize * table.width..(slot as usize + 1) * table.width;
        table.unanswered[row.clone()].iter().chain(&accumulated[row]).any(|part| *part != 0.0)
    }

    /// Adds `g * p` to a row's values, `accumulated` being what the filter holds back of the table.
    pub fn adjust(&self, table: TableId, slot: u32, accumulated: &[f32], row: &mut [f32]) {
        let table = &self.tables[table.index()];
        let peers = self.answered.iter().flatten().count();
        if table.gain == 0.0 || peers == 0 {
            return;
        }
        let share = 1.0 / peers as f32;
        let first = slot as usize * table.width;
        let parts = accumulated[first..].iter().zip(&table.unanswered[first..]);
        for (value, (held, unanswered)) in row.iter_mut().zip(parts) {
            *value += table.gain * (held + share * unanswered);
        }
    }

    /// Forgets the oldest release, as if everybody had answered it.
    fn give_up_oldest(&mut self, changed: &mut impl FnMut(TableId, u32)) {
        let Some(release) = self.unanswered.pop_front() else { return };
        self.elements -= release.deltas.iter().map(Elements::len).sum::<usize>();
        let waiting = self.answered.iter().flatten().filter(|answered| **answered < release.clock).count();
        take_out(&mut self.tables, &release, waiting as f32, changed);
    }

    fn forget_answered(&mut self) {
        let all = self.answered.iter().flatten().min().copied().unwrap_or(Clock(u32::MAX));
        while self.unanswered.front().is_some_and(|release| release.clock <= all) {
            let release = self.unanswered.pop_front().expect("there is a front");
            self.elements -= release.deltas.iter().map(Elements::len).sum::<usize>();
        }
    }
}

impl Table {
    fn estimate(&self, answered: &[Option<Clock>]) -> Option<f64> {
        let known = self.likeness.iter().zip(answered).filter(|(likeness, answered)| {
            answered.is_some() && likeness.squares > 0.0 && likeness.products.is_finite()
        });
        known.map(|(likeness, _)| likeness.products / likeness.squares).reduce(|sum, e| sum + e)
    }
}

/// `g` for an estimate, with so many peers, where updates do not oppose each other.
fn gain_of(estimate: f64, peers: f64) -> f64 {
    if estimate > UNCLEAR { estimate.min(peers) } else { 0.0 }
}

fn take_out(tables: &mut [Table], release: &Release, times: f32, changed: &mut impl FnMut(TableId, u32)) {
    for delta in &release.deltas {
        let table = &mut tables[delta.table.index()];
        let mut last = None;
        for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
            let part = &mut table.unanswered[index as usize];
            *part -= value * times;
            // What rounding has left over.
            if part.abs() <= 1e-6 * (value * times).abs() {
                *part = 0.0;
            }
            let slot = index / table.width as u32;
            if last.replace(slot) != Some(slot) && !table.is_whole {
                changed(delta.table, slot);
            }
        }
    }
}

#[cfg(test)]
mod tests;
