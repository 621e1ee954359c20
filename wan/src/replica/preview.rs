//! How a replica that begins with nothing serves early: from the sum of what all datacenters have released, as one mirror, the
//! *donor*, has it.
//!
//! Each datacenter's own releases are needed one by one to go on from, and those of all of them are as many models. Their sum
//! is one, and comes first. While the rest comes, the values stay the sum of parts:
//!
//! `values = initial + all ledgers + what is held back + the preview's rest`
//!
//! where the rest is what the donor's sum has and no ledger here has yet. A ledger's row that comes for the first time is in the
//! donor's sum already, but for what was released meanwhile, so it is taken out of the rest and the values stay as they are; what
//! comes of it later is added to the values. Once everything has come the rest is taken out, and with it whatever was
//! counted the wrong way meanwhile: from then on the values are as if there had been no preview.
//!
//! Kind: time-free.

use datacenter::shard::Shard;
use datacenter::{Elements, TableId};

use super::mirror::Mirror;
use super::recovery::Recovery;
use super::{Replica, negated};
use crate::ledger::{Ledger, Ledgers};
use crate::message::{Origin, WholeRows};

/// What a process that began with nothing serves from.
#[derive(Debug)]
pub(super) struct Preview {
    /// The place of the mirror that gives it.
    donor: usize,
    /// By table, `[slots * width]`: what is in the values and in no ledger.
    rest: Vec<Vec<f32>>,
    /// Everything of it is here.
    is_complete: bool,
}

/// By how much rows of ledgers have changed, of one table.
pub(super) struct Changes {
    /// Rows that nothing was known of.
    pub(super) first: Elements,
    /// Others.
    pub(super) later: Elements,
}

impl Changes {
    pub(super) fn new(table: TableId) -> Self {
        Self { first: Elements::new(table), later: Elements::new(table) }
    }

    /// Where to put those of a row of which `stamp` was known.
    pub(super) fn after(&mut self, stamp: u32) -> &mut Elements {
        if stamp == 0 { &mut self.first } else { &mut self.later }
    }
}

impl Replica {
    /// Which mirror is asked for values, if any is.
    pub fn donor(&self) -> Option<usize> {
        self.recovery.donor
    }

    /// Whether a mirror is to hear that values are wanted of it.
    pub(super) fn wants_values_of(&self, peer: usize) -> bool {
        self.recovery.asks(peer) && !self.mirrors[peer].to_say.is_asked_for_values
    }

    /// The donor has nothing to give, or is away: somebody else is asked.
    pub(super) fn lose_donor(&mut self, peer: usize) {
        self.recovery.restart_preview(peer, &mut self.shard);
        self.recovery.lose_donor(peer);
        self.recovery.choose_donor(&self.mirrors);
    }

    /// A mirror has no values, and wants ours: it gets what all have released, in sum. If it says so again, it has them.
    pub(super) fn give_values(&mut self, peer: usize) {
        if self.is_whole() && !std::mem::replace(&mut self.mirrors[peer].restoration.has_values, true) {
            self.mirrors[peer].outbox.hand_on(Origin::All, self.ledgers.released().into_iter());
        }
    }
}

impl Recovery {
    /// Whether a mirror is the one that is asked for values.
    fn asks(&self, peer: usize) -> bool {
        self.is_fetching && self.donor == Some(peer)
    }

    /// Asks a mirror for values, where none is asked: the first that there is a link with and that
    /// has some to give.
    pub(super) fn choose_donor(&mut self, mirrors: &[Mirror]) {
        if self.is_fetching && self.donor.is_none() {
            self.donor = mirrors.iter().position(Mirror::may_give_values);
        }
    }

    fn lose_donor(&mut self, peer: usize) {
        self.donor = self.donor.filter(|donor| *donor != peer);
    }

    /// The donor begins anew: what it has not given wholly is void.
    pub(super) fn restart_preview(&mut self, peer: usize, shard: &mut Shard) {
        if self.preview.as_ref().is_some_and(|preview| preview.donor == peer && !preview.is_complete) {
            self.end_preview(shard);
        }
    }

    /// The donor's sums of some rows.
    pub(super) fn settle_sums(
        &mut self,
        peer: usize,
        rows: &WholeRows,
        sums: &[Elements],
        ledgers: &Ledgers,
        shard: &mut Shard,
    ) {
        if !self.asks(peer) {
            return;
        }
        let preview = self.preview.get_or_insert_with(|| {
            let tables = (0..shard.table_count()).map(|table| shard.values(TableId(table as u16)).len());
            Preview { donor: peer, rest: tables.map(|len| vec![0.0; len]).collect(), is_complete: false }
        });
        let returned = self.former.as_ref().map(|former| &former.base);
        for sums in sums {
            let ledgers = ledgers.mirrors.iter().map(|(_, ledger)| ledger).chain(returned);
            let ledgers: Vec<&[f32]> = ledgers.map(|ledger| ledger.sums(sums.table)).collect();
            let rest = &mut preview.rest[sums.table.index()];
            let mut changes = Elements::new(sums.table);
            for (&index, &sum) in sums.indexes.iter().zip(&sums.values) {
                let at = index as usize;
                let missing = sum - ledgers.iter().map(|ledger| ledger[at]).sum::<f32>();
                changes.push(index, missing - std::mem::replace(&mut rest[at], missing));
            }
            shard.apply(&changes);
        }
        if rows.is_last {
            preview.is_complete = true;
            self.is_fetching = false;
        }
    }

    /// Takes changes of ledgers into the values.
    pub(super) fn apply_changes(&mut self, changes: &Changes, shard: &mut Shard) {
        shard.apply(&changes.later);
        match &mut self.preview {
            None => shard.apply(&changes.first),
            Some(preview) => preview.take_out(&changes.first),
        }
    }

    /// Deltas have come into a mirror's ledger that are in the values: takes out of the rest what it has of them.
    pub(super) fn take_out_first(&mut self, first: &Elements, shard: &mut Shard) {
        if let Some(preview) = self.preview.as_mut().filter(|_| !first.is_empty()) {
            preview.take_out(first);
            shard.apply(&negated(first));
        }
    }

    /// Those of a mirror's deltas, whose ledger is `ledger`, that are of rows of which nothing is
    /// known, where that makes a difference.
    pub(super) fn first_of(&self, deltas: &Elements, ledger: &Ledger, shard: &Shard) -> Elements {
        let mut first = Elements::new(deltas.table);
        if self.preview.is_some() {
            let width = shard.shape(deltas.table).map_or(1, |shape| shape.width);
            let new = deltas.indexes.iter().zip(&deltas.values);
            new.filter(|(index, _)| ledger.row(deltas.table, **index / width).1 == 0)
                .for_each(|(index, value)| first.push(*index, *value));
        }
        first
    }

    /// What is in the values and in no ledger, by table.
    pub(super) fn preview_rest(&self) -> impl Iterator<Item = &Vec<f32>> {
        self.preview.iter().flat_map(|preview| &preview.rest)
    }

    /// The values are those of the ledgers alone.
    pub(super) fn end_preview(&mut self, shard: &mut Shard) {
        let Some(preview) = self.preview.take() else { return };
        for (table, rest) in (0..).map(TableId).zip(&preview.rest) {
            let mut changes = Elements::new(table);
            let left = (0..).zip(rest).filter(|(_, rest)| **rest != 0.0);
            left.for_each(|(index, rest)| changes.push(index, -rest));
            shard.apply(&changes);
        }
    }
}

impl Preview {
    fn take_out(&mut self, changes: &Elements) {
        let rest = &mut self.rest[changes.table.index()];
        changes.indexes.iter().zip(&changes.values).for_each(|(index, value)| rest[*index as usize] -= value);
    }
}
