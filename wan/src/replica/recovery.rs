//! How a replica gets back what it has lost.
//!
//! Three things may be missing when two replicas meet, and each is made good by row, whoever died and however often:
//!
//! - *What the mirror lacks of our releases.* It says how many it has wholly (`greeting`); rows that have changed since go whole.
//! - *What our process lacks of our own datacenter's releases*: those between its checkpoint and the death of the process
//!   before it. Each mirror returns the rows that it has with later stamps. A process goes on meanwhile, and may have released
//!   more of the same rows: so what a returned row has more than what the process began with is added, once, and counts as
//!   a release. What the checkpoint held back of an element that was released since is in that: it is taken out.
//! - *What either lacks of a third datacenter, which is gone* and cannot say it itself (`absence`): both say how much they have,
//!   and each hands on what it has more.
//!
//! Kind: time-free.

use std::collections::BTreeSet;

use datacenter::{Elements, TableId};

use super::Replica;
use super::mirror::{GivenBack, Mirror};
use super::preview::{Changes, Preview};
use crate::inbox::{PeerError, check_counts};
use crate::ledger::{Ledger, Ledgers};
use crate::message::{Origin, Update, WholeRows};

/// What a process lacks of what was there before it, and gets back.
#[derive(Debug)]
pub(super) struct Recovery {
    /// What the process began with, until every mirror has given back what it has of our releases;
    /// none as well where there was no process before it.
    pub(super) former: Option<Former>,
    /// Whether the model's first values are in.
    has_first_values: bool,
    /// Reads wait until what others have is here.
    pub(super) is_fetching: bool,
    /// Which mirror is asked for values, one that there has been a link with.
    pub(super) donor: Option<usize>,
    /// What the donor has given.
    pub(super) preview: Option<Preview>,
}

/// What a process began with of its own datacenter's releases.
#[derive(Debug)]
pub(super) struct Former {
    /// The releases, with what mirrors have returned since.
    pub(super) base: Ledger,
    /// The largest stamp that it began with.
    pub(super) after: u32,
    /// By table: what was held back then, and was not found to be released.
    pub(super) held: Vec<Elements>,
    /// The process that it began from the state of.
    pub(super) written_by: u64,
    /// Rows that this one had released before it knew of everything that those before it had.
    pub(super) forked: BTreeSet<(TableId, u32)>,
}

impl Recovery {
    /// Nothing is lacking: there was no process before this one.
    pub(super) fn new() -> Self {
        Self { former: None, has_first_values: true, is_fetching: false, donor: None, preview: None }
    }

    /// Whether the model's first values are in.
    pub(super) fn has_first_values(&self) -> bool {
        self.has_first_values
    }

    /// Whether the values are good to read.
    pub(super) fn has_values(&self) -> bool {
        self.has_first_values && !self.is_fetching
    }

    /// Whether the values are those of the ledgers alone.
    fn has_final_values(&self) -> bool {
        !self.is_fetching && self.preview.is_none()
    }

    /// Whether some mirror may have more of our releases than this process knows of.
    pub(super) fn is_recovering(&self) -> bool {
        self.former.is_some()
    }

    /// Whether this process knows of everything that its datacenter has released.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_recovering() && self.has_final_values()
    }

    /// The largest stamp of our releases that this process began with, while some mirror may have
    /// larger ones.
    pub(super) fn lost_after(&self) -> Option<u32> {
        self.former.as_ref().map(|former| former.after)
    }

    /// Every mirror has given back what it has of our releases.
    fn become_recovered(&mut self) {
        self.former = None;
    }
}

impl Replica {
    /// The same in process `life`, which is later than those before it.
    #[must_use]
    pub fn in_life(mut self, life: u64) -> Self {
        self.releases.life = life;
        self
    }

    /// This process is to be known by another number.
    pub fn set_life(&mut self, life: u64) {
        self.releases.life = life;
    }

    /// The same, of a process that knows nothing of those before it: it asks its mirrors, and serves when they have told it.
    #[must_use]
    pub fn without_state(mut self) -> Self {
        if !self.mirrors.is_empty() {
            self.recovery.former = Some(Former {
                base: self.ledgers.own.clone(),
                after: 0,
                held: Vec::new(),
                written_by: 0,
                forked: BTreeSet::new(),
            });
            self.recovery.is_fetching = true;
        }
        self.begin_again();
        self
    }

    /// The same, of a process whose shard holds zeros: the model's first values [come later](Self::begin_with). What others have is
    /// taken meanwhile, since all of it adds up; who trains or keeps states waits.
    #[must_use]
    pub fn without_first_values(mut self) -> Self {
        self.recovery.has_first_values = false;
        self
    }

    /// The model's first values are there: for each table, shape `[slots * width]`. Those that are there already stay.
    ///
    /// # Panics
    ///
    /// If they do not fit the shard.
    pub fn begin_with(&mut self, values: &[Vec<f32>]) {
        if !std::mem::replace(&mut self.recovery.has_first_values, true) {
            (0..).map(TableId).zip(values).for_each(|(table, values)| self.shard.add_to_all(table, values));
        }
    }

    /// Nobody has joined this process, and no mirror has returned anything to it.
    pub(super) fn begin_again(&mut self) {
        let (is_idle, clock, count) = (self.shard.is_idle(), self.shard.clock(), self.releases.count);
        for mirror in &mut self.mirrors {
            mirror.restoration.ours = GivenBack::Awaited;
            mirror.outbox.complete(clock, count);
            mirror.outbox.set_paused(is_idle);
        }
    }

    /// Whether reads wait until what others have is here.
    pub fn is_fetching(&self) -> bool {
        self.recovery.is_fetching
    }

    /// Whether a state of this process is good to begin from: it has been given back what it lacked, but for what is gone. What
    /// those who are gone alone have of a row that has been released since is not found again by whoever begins from it.
    pub fn may_be_kept(&self) -> bool {
        let has_returned = |m: &Mirror| m.restoration.ours.is_done() || m.state.is_gone();
        self.recovery.has_first_values
            && self.recovery.has_final_values()
            && self.mirrors.iter().all(has_returned)
    }

    /// Whether this process knows of everything that its datacenter has released.
    pub fn is_whole(&self) -> bool {
        self.recovery.is_whole()
    }

    /// Whether some mirror may have more of what this datacenter has released than this process knows of.
    pub fn is_recovering(&self) -> bool {
        self.recovery.is_recovering()
    }

    /// What each datacenter has released.
    pub fn ledgers(&self) -> &Ledgers {
        &self.ledgers
    }

    /// Refuses rows of nobody, and counts that nobody has.
    pub(super) fn check_origin(&self, peer: usize, update: &Update) -> Result<(), PeerError> {
        check_counts([update.count, update.clock.0])?;
        check_counts(update.rows.iter().flat_map(|rows| rows.stamps.iter().flatten().copied()))?;
        match &update.rows {
            Some(WholeRows { origin: Origin::Other(id), .. }) => match self.ledgers.place(*id) {
                Some(place) if place != peer => Ok(()),
                _ => Err(PeerError::UnknownOrigin(*id)),
            },
            _ => Ok(()),
        }
    }

    /// Whole rows have their turn.
    pub(super) fn settle_rows(&mut self, peer: usize, rows: &WholeRows, values: &[Elements]) {
        let tables = || values.iter().zip(&rows.stamps);
        match rows.origin {
            Origin::All => {
                self.recovery.settle_sums(peer, rows, values, &self.ledgers, &mut self.shard);
            }
            Origin::Receiver => tables().for_each(|(table, stamps)| self.take_back(rows.life, table, stamps)),
            Origin::Sender => {
                let life = self.mirrors[peer].numbering.life;
                tables().for_each(|(table, stamps)| self.merge(peer, life, table, stamps));
            }
            Origin::Other(id) => {
                let under_way = &mut self.mirrors[peer].forwarding.under_way;
                if rows.is_last {
                    under_way.remove(&id)
                } else {
                    under_way.insert(id)
                };
                // Whoever is there says it itself.
                let Some(place) = self.ledgers.place(id).filter(|place| self.is_gone(*place)) else {
                    return;
                };
                self.mirrors[place].numbering.is_void |= !values.is_empty();
                tables().for_each(|(table, stamps)| self.merge(place, rows.life, table, stamps));
            }
        }
    }

    /// Takes what the mirror at `place` has released, as its process `life` has it, into its ledger.
    fn merge(&mut self, place: usize, life: u64, table: &Elements, stamps: &[u32]) {
        let mut changes = Changes::new(table.table);
        let ledger = &mut self.ledgers.mirrors[place].1;
        ledger.life = ledger.life.max(life);
        for (slot, row, stamp) in whole_rows(table, stamps) {
            let known = ledger.row(table.table, slot).1;
            ledger.merge(table.table, slot, row, stamp, changes.after(known));
        }
        self.recovery.apply_changes(&changes, &mut self.shard);
    }

    /// Adds to our own releases what a mirror returns of them and this process did not begin with.
    fn take_back(&mut self, life: u64, rows: &Elements, stamps: &[u32]) {
        let Some(former) = &mut self.recovery.former else { return };
        let table = rows.table;
        let mut changes = Changes::new(table);
        // Rows that come back count as released now: mirrors say how much they have by counts, and
        // have not had these.
        self.releases.count += 1;
        let mut to_restate = Vec::new();
        let ours_from = self.releases.own_from(life).unwrap_or(u32::MAX);
        for (slot, row, stamp) in whole_rows(rows, stamps) {
            if stamp >= ours_from || !former.lacks((table, slot), stamp, life) {
                continue;
            }
            to_restate.push((table, slot));
            let unheld = former.take_back(
                (table, slot),
                (row, stamp),
                (&mut self.ledgers.own, self.releases.count),
                &mut changes,
            );
            unheld.iter().for_each(|unheld| self.filter.restore(unheld));
        }
        for mirror in &mut self.mirrors {
            mirror.outbox.restate(to_restate.iter().copied());
        }
        self.recovery.apply_changes(&changes, &mut self.shard);
    }

    /// Goes on where something that was waited for may have come.
    pub(super) fn advance_recovery(&mut self, peer: usize) {
        let mirror = &mut self.mirrors[peer];
        mirror.restoration.ours.become_done_with(mirror.inbox.applied_through());
        self.open_outboxes();
        self.judge_catching_up(peer);
        self.end_fetching();
        self.anticipate_answers();
        if self.mirrors.iter().all(|mirror| mirror.restoration.ours.is_done()) {
            self.recovery.become_recovered();
        }
    }

    /// Ships again, once everybody who is there has returned our releases: a mirror that had rows of us with newer stamps, and
    /// not what another has yet to return, would keep the next process from taking that.
    pub(super) fn open_outboxes(&mut self) {
        if !self.mirrors.iter().all(|mirror| mirror.restoration.ours.is_done() || mirror.state.is_away()) {
            return;
        }
        for mirror in self.mirrors.iter_mut().filter(|mirror| mirror.restoration.ours.is_done()) {
            if let Some(covered) = mirror.restoration.to_restate.take() {
                mirror.outbox.open(self.ledgers.own.newer_than(covered), self.releases.count);
            }
        }
    }

    pub(super) fn end_fetching(&mut self) {
        if self.recovery.has_final_values() {
            return;
        }
        let is_here = self.mirrors.iter().all(|m| m.state.is_away() || m.is_caught_up(self.shard.clock()));
        self.recovery.is_fetching &= !is_here;
        // What the donor has shown of others is kept until those who are left have said all that they have of them.
        if is_here && self.mirrors.iter().any(|m| !m.state.is_away()) && self.has_asked_for_the_gone() {
            self.recovery.end_preview(&mut self.shard);
        }
    }
}

/// Slot, values and stamp of each row. All values of each are there: the inbox has seen to that.
fn whole_rows<'a>(table: &'a Elements, stamps: &'a [u32]) -> impl Iterator<Item = (u32, &'a [f32], u32)> {
    let width = table.values.len() / stamps.len();
    let rows = table.indexes.chunks(width).zip(table.values.chunks(width)).zip(stamps);
    rows.map(move |((indexes, row), stamp)| (indexes[0] / width as u32, row, *stamp))
}

impl Former {
    /// Whether a mirror that had last heard of process `life` returns something of a row that this
    /// process did not begin with, with this `stamp`.
    fn lacks(&self, (table, slot): (TableId, u32), stamp: u32, life: u64) -> bool {
        // The mirror has heard nothing of the process that wrote the state, and so has rows of
        // those before it.
        let is_older = life < self.written_by;
        stamp > self.base.row(table, slot).1 && !(is_older && self.forked.contains(&(table, slot)))
    }

    /// Takes a row that was returned, with its stamp, into our `own` releases, as of `count` of
    /// them; the values are to change by `changes`. Yields what the filter is to hold back less, if
    /// anything.
    fn take_back(
        &mut self,
        (table, slot): (TableId, u32),
        (row, stamp): (&[f32], u32),
        (own, count): (&mut Ledger, u32),
        changes: &mut Changes,
    ) -> Option<Elements> {
        let (known, known_stamp) = self.base.row(table, slot);
        let (now, first) = (own.row(table, slot).0, slot as usize * row.len());
        let has_released: Vec<bool> = now.iter().zip(known).map(|(now, known)| now != known).collect();
        let mut more = Elements::new(table);
        self.base.merge(table, slot, row, stamp, &mut more);
        let held = self.take_held(&more);
        let changes = changes.after(known_stamp);
        if held.is_empty() && !has_released.contains(&true) {
            own.merge(table, slot, row, count, changes);
            return None;
        }
        // Where it is held back still, it is so no more: what is released stays so, or it would be
        // lost if we were. Where we have released it again, it counts once.
        let mut unheld = Elements::new(table);
        let mut released = more.clone();
        for (place, held) in held {
            more.values[place] -= held;
            match has_released[more.indexes[place] as usize - first] {
                true => released.values[place] -= held,
                false => unheld.push(more.indexes[place], -held),
            }
        }
        own.correct(&released, count);
        more.indexes.iter().zip(&more.values).for_each(|(index, value)| changes.push(*index, *value));
        Some(unheld)
    }

    /// What was held back of the elements of `released`, by their places in it: it has been released since.
    fn take_held(&mut self, released: &Elements) -> Vec<(usize, f32)> {
        let Some(held) = self.held.iter_mut().find(|held| held.table == released.table) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for (place, index) in released.indexes.iter().enumerate() {
            if let Ok(at) = held.indexes.binary_search(index) {
                let value = std::mem::take(&mut held.values[at]);
                taken.extend((value != 0.0).then_some((place, value)));
            }
        }
        taken
    }
}
