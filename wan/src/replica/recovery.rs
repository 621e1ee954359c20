//! How a replica gets back what it has lost, gives others what they have lost, and goes on without who is gone.
//!
//! Three things may be missing when two replicas meet, and each is made good by row, whoever died and however often:
//!
//! - *What the mirror lacks of our releases.* It says how many it has wholly; rows that have changed since go whole.
//! - *What our process lacks of our own datacenter's releases*: those between its checkpoint and the death of the process
//!   before it. Each mirror returns the rows that it has with later stamps. A process goes on meanwhile, and may have released
//!   more of the same rows: so what a returned row has more than what the process began with is added, once, and counts as
//!   a release. What the checkpoint held back of an element that was released since is in that: it is taken out.
//! - *What either lacks of a third datacenter, which is gone* and cannot say it itself: both say how much they have, and each
//!   hands on what it has more.
//!
//! Kind: time-free.

use std::collections::BTreeSet;

use datacenter::{Clock, DatacenterId, Elements, TableId, WorkerId};
use thiserror::Error;

use super::{Replica, negated};
use crate::inbox::{MAX_COUNT, PeerError, check_counts};
use crate::ledger::{Ledger, Ledgers};
use crate::message::{Holdings, Origin, Resume, Update, WholeRows};
use crate::mirror_clock::{UNHEARD_LEAD, lead_limit};
use crate::replica::mirror::{Mirror, ToSay};
use crate::replica::preview::Changes;
use crate::state::{OriginState, ReplicaState};

/// The number of no stream.
const VOID: u32 = u32::MAX;

/// What a process began with of its own datacenter's releases.
#[derive(Debug)]
pub(super) struct Former {
    /// The releases, with what mirrors have returned since.
    pub(super) base: Ledger,
    /// The largest stamp that it began with.
    after: u32,
    /// By table: what was held back then, and was not found to be released.
    held: Vec<Elements>,
    /// The process that it began from the state of.
    written_by: u64,
    /// Rows that this one had released before it knew of everything that those before it had.
    forked: BTreeSet<(TableId, u32)>,
}

/// A state does not fit the replica that is to begin from it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the state does not fit the shard: {what}")]
pub struct Misfit {
    /// What differs.
    pub what: &'static str,
}

impl Replica {
    /// The same in process `life`, which is later than those before it.
    #[must_use]
    pub fn in_life(self, life: u64) -> Self {
        Self { life, ..self }
    }

    /// This process is to be known by another number.
    pub fn set_life(&mut self, life: u64) {
        self.life = life;
    }

    /// The same, of a process that knows nothing of those before it: it asks its mirrors, and serves when they have told it.
    #[must_use]
    pub fn without_state(mut self) -> Self {
        if !self.mirrors.is_empty() {
            self.former = Some(Former {
                base: self.ledgers.own.clone(),
                after: 0,
                held: Vec::new(),
                written_by: 0,
                forked: BTreeSet::new(),
            });
            self.is_fetching = true;
        }
        self.begin_again();
        self
    }

    /// Nobody has joined this process, and no mirror has returned anything to it.
    fn begin_again(&mut self) {
        let (is_idle, clock, count) = (self.shard.is_idle(), self.shard.clock(), self.count);
        for mirror in &mut self.mirrors {
            mirror.has_returned = false;
            mirror.outbox.complete(clock, count);
            mirror.outbox.set_paused(is_idle);
        }
    }

    /// The same, in the state that an earlier process of the datacenter `here` was in.
    ///
    /// # Errors
    ///
    /// If the state is not one of such a shard.
    pub fn restored(mut self, state: ReplicaState, here: DatacenterId) -> Result<Self, Misfit> {
        let misfit = |what| Err(Misfit { what });
        let tables = (0..self.shard.table_count() as u16).map(TableId);
        let shapes: Vec<_> = tables.filter_map(|table| self.shard.shape(table).ok()).collect();
        if state.shard != self.shard.id() {
            return misfit("it is another shard's");
        }
        if state.workers.len() != self.shard.worker_count() {
            return misfit("it has another number of workers");
        }
        if state.values.len() != shapes.len() {
            return misfit("it has other tables");
        }
        if state.values.iter().zip(&shapes).any(|(values, shape)| values.len() != shape.elements()) {
            return misfit("a table has another size");
        }
        let is_inside = |remainder: &Elements| {
            let shape = shapes.get(remainder.table.index());
            let last = remainder.indexes.last().map_or(0, |last| *last as usize);
            remainder.indexes.len() == remainder.values.len()
                && shape.is_some_and(|shape| last < shape.elements().max(1))
        };
        if !state.remainders.iter().all(is_inside) {
            return misfit("something is held back outside its tables");
        }
        if state.clock.0 > MAX_COUNT {
            return misfit("its clock is larger than any");
        }
        let (mut covered, mut written_by, mut departed) = (0, 0, Vec::new());
        for origin in state.origins {
            let place = self.ledgers.place(origin.datacenter);
            departed.extend(place.filter(|_| origin.has_departed));
            let Some(mut ledger) = Ledger::from_state(origin.tables, &shapes) else {
                return misfit("what was released has another size");
            };
            ledger.life = origin.life;
            if ledger.newest().max(origin.covered).max(origin.heard_clock.0) > MAX_COUNT {
                return misfit("it speaks of more releases than there can be");
            }
            match place {
                Some(place) => {
                    self.mirrors[place].inbox.set_arrived(Clock(0), origin.covered);
                    self.mirrors[place].heard_clock = origin.heard_clock;
                    self.ledgers.mirrors[place].1 = ledger;
                }
                None if origin.datacenter == here => {
                    self.ledgers.own = ledger;
                    (covered, written_by) = (origin.covered, origin.life);
                }
                None => return misfit("it has releases of a datacenter that is no mirror"),
            }
        }
        if !self.mirrors.is_empty() {
            state.remainders.iter().for_each(|remainder| self.filter.restore(remainder));
            let base = self.ledgers.own.clone();
            self.count = base.newest().max(covered).max(state.clock.0);
            let forked = base.newer_than(covered).collect();
            self.former = Some(Former { base, after: covered, held: state.remainders, written_by, forked });
        }
        for (table, values) in (0..).map(TableId).zip(state.values) {
            self.shard.overwrite(table, values);
        }
        self.shard = self.shard.restored(state.clock, &state.workers);
        self.begin_again();
        departed.into_iter().for_each(|place| self.depart(place));
        Ok(self)
    }

    /// All that this replica of datacenter `here` is: what its next process may begin from, if it [may be kept](Self::may_be_kept).
    pub fn state(&self, here: DatacenterId) -> ReplicaState {
        let tables = (0..self.shard.table_count() as u16).map(TableId);
        let mut values: Vec<Vec<f32>> = tables.map(|table| self.shard.values(table).to_vec()).collect();
        let early = self.mirrors.iter().flat_map(|mirror| mirror.inbox.early());
        for delta in early.filter(|update| update.rows.is_none()).flat_map(|update| &update.deltas) {
            for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
                values[delta.table.index()][index as usize] -= value;
            }
        }
        for (values, rest) in values.iter_mut().zip(self.preview_rest()) {
            values.iter_mut().zip(rest).for_each(|(value, rest)| *value -= rest);
        }
        let own = OriginState {
            datacenter: here,
            life: self.life,
            covered: self.former.as_ref().map_or(self.count, |former| former.after),
            heard_clock: Clock(0),
            tables: self.ledgers.own.to_state(),
            has_departed: false,
        };
        let others =
            self.mirrors.iter().zip(&self.ledgers.mirrors).map(|(mirror, (id, ledger))| OriginState {
                datacenter: *id,
                life: ledger.life,
                covered: mirror.inbox.arrived_count(),
                heard_clock: mirror.heard_clock(),
                tables: ledger.to_state(),
                has_departed: mirror.has_departed,
            });
        let mut origins: Vec<_> =
            if self.mirrors.is_empty() { Vec::new() } else { others.chain([own]).collect() };
        origins.sort_by_key(|origin| origin.datacenter);
        let workers = (0..self.shard.worker_count() as u32).map(WorkerId);
        ReplicaState {
            shard: self.shard.id(),
            clock: self.shard.clock(),
            workers: workers.filter_map(|worker| self.shard.flushed(worker)).collect(),
            values,
            remainders: if self.mirrors.is_empty() { Vec::new() } else { self.filter.remainders() },
            origins,
        }
    }

    /// Whether reads wait until what others have is here.
    pub fn is_fetching(&self) -> bool {
        self.is_fetching
    }

    /// Whether a state of this process is good to begin from: it has been given back what it lacked, but for what is gone. What
    /// those who are gone alone have of a row that has been released since is not found again by whoever begins from it.
    pub fn may_be_kept(&self) -> bool {
        let has_returned = |m: &Mirror| m.has_returned || m.is_gone;
        !self.is_fetching && self.preview.is_none() && self.mirrors.iter().all(has_returned)
    }

    /// Whether this process knows of everything that its datacenter has released.
    pub fn is_whole(&self) -> bool {
        !self.is_recovering() && !self.is_fetching && self.preview.is_none()
    }

    /// Whether some mirror may have more of what this datacenter has released than this process knows of.
    pub fn is_recovering(&self) -> bool {
        self.former.is_some()
    }

    /// Whether each mirror has said how far it is, or is not waited for: then the shard's clock is that of the others.
    pub fn is_oriented(&self) -> bool {
        self.mirrors.iter().all(|m| m.is_gone || m.clock_at_hello.is_some())
    }

    /// What each datacenter has released.
    pub fn ledgers(&self) -> &Ledgers {
        &self.ledgers
    }

    /// What this side has, for the hello to a mirror.
    pub fn resume(&mut self, peer: usize) -> Resume {
        let wants_values = self.chooses_donor(peer);
        let (mirror, (_, ledger)) = (&self.mirrors[peer], &self.ledgers.mirrors[peer]);
        let lost_after = self.former.as_ref().filter(|_| !mirror.has_returned).map(|former| former.after);
        Resume {
            life: mirror.life,
            stream: if mirror.is_void { VOID } else { mirror.inbox.stream() },
            covered: mirror.inbox.arrived_count(),
            newest: ledger.newest(),
            lost_after,
            clock: self.shard.clock(),
            heard_clock: mirror.heard_clock(),
            went_on: mirror.is_gone,
            wants_values,
            is_whole: self.is_whole(),
            ..mirror.inbox.resume()
        }
    }

    /// The link to a mirror's process `life` is up, which has what `resume` says. Yields the shard's clock if it moved, as the
    /// others have gone on without this one.
    ///
    /// # Errors
    ///
    /// If the mirror claims what was never sent, or its process has been replaced.
    pub fn handle_resume(
        &mut self,
        peer: usize,
        life: u64,
        resume: &Resume,
    ) -> Result<Option<Clock>, PeerError> {
        let mirror = &mut self.mirrors[peer];
        if life < mirror.life {
            return Err(PeerError::FormerLife);
        }
        check_counts([resume.newest, resume.covered, resume.clock.0, resume.heard_clock.0])?;
        let continues = resume.life == self.life
            && mirror.numbered_for == life
            && mirror.life == life
            && resume.stream == mirror.outbox.stream();
        let barriers = if continues { mirror.outbox.handle_resume(resume)? } else { Vec::new() };
        if mirror.life != life {
            mirror.life = life;
            self.begin_stream(peer, 0);
        }
        let mirror = &mut self.mirrors[peer];
        if !continues {
            // Where nobody had anything before, what waits is all there is.
            let is_first = mirror.numbered_for == 0 && resume.newest == 0 && self.former.is_none();
            mirror.numbered_for = life;
            if !is_first {
                mirror.outbox.restart();
                mirror.to_restate = Some(resume.covered);
            }
            if resume.wants_values && self.is_whole() {
                self.mirrors[peer].outbox.hand_on(Origin::All, self.ledgers.released().into_iter());
            }
        }
        if !resume.is_whole {
            self.lose_donor(peer);
        }
        self.mirrors[peer].told_holdings.clear();
        // Whatever was said on the old connection may be lost: say all of it again.
        self.mirrors[peer].to_say = ToSay { barriers, unconfirmed_bytes: 1, ..ToSay::default() };
        let clock = self.shard.clock();
        if !self.mirrors[peer].has_returned && !self.has_flushed {
            // Workers say again what was not confirmed to them. What is in the mirror's clock was taken all the same.
            self.shard.presume_flushed(resume.heard_clock);
        }
        self.jump(peer, resume);
        let moved = Some(self.shard.clock()).filter(|now| *now > clock);
        let mirror = &mut self.mirrors[peer];
        (mirror.has_left, mirror.is_gone) = (false, false);
        mirror.clock_at_hello = Some(resume.clock);
        self.count_above(resume.newest.max(resume.covered), self.mirrors[peer].has_returned);
        if let Some(after) = resume.lost_after.filter(|_| !continues) {
            let mirror = &mut self.mirrors[peer];
            mirror.outbox.hand_on(Origin::Receiver, self.ledgers.mirrors[peer].1.newer_than(after));
            mirror.outbox.return_all();
        }
        if let Some(former) = self.former.as_ref().filter(|_| !self.mirrors[peer].has_returned) {
            self.mirrors[peer].has_returned = resume.newest <= former.after;
        }
        let gone = (0..self.mirrors.len()).filter(|&other| other != peer && self.mirrors[other].is_gone);
        self.mirrors[peer].to_say.gone = gone.collect();
        self.mirrors[peer].to_say.departed = self.departed().collect();
        self.advance_recovery(peer);
        Ok(moved)
    }

    /// A mirror's numbers begin anew.
    fn begin_stream(&mut self, peer: usize, stream: u32) {
        let mirror = &mut self.mirrors[peer];
        (mirror.returns_by, mirror.is_void) = (None, false);
        mirror.handing_on.clear();
        // What was confirmed in the old numbers says nothing of the new.
        mirror.to_say.applied_told = 0;
        for early in mirror.inbox.restart(stream).iter().filter(|update| update.rows.is_none()) {
            early.deltas.iter().for_each(|delta| self.shard.apply(&negated(delta)));
        }
        self.restart_preview(peer);
    }

    /// A mirror says something in the numbers of `stream`.
    pub(super) fn follow_stream(&mut self, peer: usize, stream: u32) -> Result<(), PeerError> {
        let mirror = &self.mirrors[peer];
        let known = mirror.inbox.stream();
        if stream > known {
            self.begin_stream(peer, stream);
        } else if stream < known || mirror.is_void {
            return Err(PeerError::VoidStream { found: stream, known });
        }
        Ok(())
    }

    /// Takes the clock of the others, where they have gone on without this one for longer than they would have waited.
    fn jump(&mut self, peer: usize, resume: &Resume) {
        let mirror = &self.mirrors[peer];
        let comes_back = self.former.is_some() && mirror.clock_at_hello.is_none();
        let slack = lead_limit(self.lead, mirror.derived_lead).unwrap_or(0).max(UNHEARD_LEAD);
        // Nor does it go back behind what the others have heard of it.
        let clock = if comes_back { resume.clock.max(resume.heard_clock) } else { resume.clock };
        let is_behind = clock.lead_over(self.shard.clock()) > slack;
        if is_behind && (comes_back || resume.went_on || mirror.is_gone) {
            self.shard.jump(clock);
        }
    }

    /// Counts on above what a mirror has of ours: an earlier process released it.
    fn count_above(&mut self, known: u32, has_returned: bool) {
        let is_new = |former: &&Former| known > self.count || (known > former.after && !has_returned);
        let Some(former) = self.former.as_ref().filter(is_new) else { return };
        // Also where this process has counted further meanwhile: the mirror would take some of that for what it has itself.
        self.count = self.count.max(known) + 1;
        self.ledgers.own.restamp(former.after, self.count);
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
        match rows.origin {
            Origin::All => return self.settle_sums(peer, rows, values),
            Origin::Other(id) if rows.is_last => _ = self.mirrors[peer].handing_on.remove(&id),
            Origin::Other(id) => _ = self.mirrors[peer].handing_on.insert(id),
            Origin::Sender | Origin::Receiver => {}
        }
        for (table, stamps) in values.iter().zip(&rows.stamps) {
            // Those of each row are all there: the inbox has seen to that.
            let width = table.values.len() / stamps.len();
            let mut changes = Changes::new(table.table);
            let each = table.indexes.chunks(width).zip(table.values.chunks(width)).zip(stamps);
            let each = each.map(|((indexes, row), stamp)| (indexes[0] / width as u32, row, *stamp));
            let ledger = match rows.origin {
                Origin::Receiver => {
                    self.take_back(rows.life, table.table, each, &mut changes);
                    self.apply_changes(&changes);
                    continue;
                }
                Origin::All => None,
                Origin::Sender => Some(peer),
                // Whoever is there says it itself.
                Origin::Other(id) => self.ledgers.place(id).filter(|place| self.mirrors[*place].is_gone),
            };
            let Some(place) = ledger else { continue };
            self.mirrors[place].is_void |= place != peer;
            let ledger = &mut self.ledgers.mirrors[place].1;
            ledger.life = ledger.life.max(if place == peer { self.mirrors[peer].life } else { rows.life });
            for (slot, row, stamp) in each {
                let known = ledger.row(table.table, slot).1;
                ledger.merge(table.table, slot, row, stamp, changes.after(known));
            }
            self.apply_changes(&changes);
        }
    }

    /// Adds to our own releases what a mirror returns of them and this process did not begin with.
    fn take_back<'a>(
        &mut self,
        life: u64,
        table: TableId,
        rows: impl Iterator<Item = (u32, &'a [f32], u32)>,
        changes: &mut Changes,
    ) {
        let Some(former) = &mut self.former else { return };
        let own = &mut self.ledgers.own;
        // Rows that come back count as released now: mirrors say how much they have by counts, and have not had these.
        self.count += 1;
        let mut to_restate = Vec::new();
        // It has heard nothing of the process that wrote the state, and so has rows of those before it.
        // From who has heard of this process, through others: what it has released itself.
        let ours_from = self.first_count.filter(|_| life >= self.life).unwrap_or(u32::MAX);
        let is_older = life < former.written_by;
        for (slot, row, stamp) in rows {
            let (known, known_stamp) = former.base.row(table, slot);
            if stamp <= known_stamp
                || stamp >= ours_from
                || (is_older && former.forked.contains(&(table, slot)))
            {
                continue;
            }
            let (now, first) = (own.row(table, slot).0, slot as usize * row.len());
            let has_released: Vec<bool> = now.iter().zip(known).map(|(now, known)| now != known).collect();
            let mut more = Elements::new(table);
            former.base.merge(table, slot, row, stamp, &mut more);
            let held = former.take_held(&more);
            to_restate.push((table, slot));
            if held.is_empty() && !has_released.contains(&true) {
                own.merge(table, slot, row, self.count, changes.after(known_stamp));
                continue;
            }
            // Where it is held back still, it is so no more: what is released stays so, or it would be lost if we were. Where we
            // have released it again, it counts once.
            let mut unheld = Elements::new(table);
            let mut released = more.clone();
            for (place, held) in held {
                more.values[place] -= held;
                match has_released[more.indexes[place] as usize - first] {
                    true => released.values[place] -= held,
                    false => unheld.push(more.indexes[place], -held),
                }
            }
            self.filter.restore(&unheld);
            own.correct(&released, self.count);
            let changes = changes.after(known_stamp);
            more.indexes.iter().zip(&more.values).for_each(|(index, value)| changes.push(*index, *value));
        }
        for mirror in &mut self.mirrors {
            mirror.outbox.restate(to_restate.iter().copied());
        }
    }

    /// Goes on where something that was waited for may have come.
    pub(super) fn advance_recovery(&mut self, peer: usize) {
        let mirror = &mut self.mirrors[peer];
        if mirror.returns_by.is_some_and(|seq| seq <= mirror.inbox.applied_through()) {
            (mirror.has_returned, mirror.returns_by) = (true, None);
        }
        self.open_outboxes();
        self.end_fetching();
        if self.former.is_some() && self.mirrors.iter().all(|mirror| mirror.has_returned) {
            self.former = None;
        }
    }

    /// Ships again, once everybody who is there has returned our releases: a mirror that had rows of us with newer stamps, and
    /// not what another has yet to return, would keep the next process from taking that.
    pub(super) fn open_outboxes(&mut self) {
        if !self.mirrors.iter().all(|mirror| mirror.has_returned || mirror.is_away()) {
            return;
        }
        for mirror in self.mirrors.iter_mut().filter(|mirror| mirror.has_returned) {
            if let Some(covered) = mirror.to_restate.take() {
                mirror.outbox.open(self.ledgers.own.newer_than(covered), self.count);
            }
        }
    }

    fn end_fetching(&mut self) {
        if !self.is_fetching && self.preview.is_none() {
            return;
        }
        let is_here = self.mirrors.iter().all(|m| m.is_away() || m.is_caught_up());
        self.is_fetching &= !is_here;
        // What the donor has shown of others is kept until those who are left have said all that they have of them.
        if is_here && self.mirrors.iter().any(|m| !m.is_away()) && self.has_asked_for_the_gone() {
            self.end_preview();
        }
    }

    /// A mirror has been silent for longer than it may: nobody waits for it any more. What it has left here is settled with
    /// the others.
    pub fn give_up(&mut self, peer: usize) {
        let mirror = &mut self.mirrors[peer];
        mirror.is_gone = true;
        // What came early of it may never have its turn. If it has after all, it comes again.
        let early = mirror.inbox.drop_early();
        mirror.is_void |= !early.is_empty();
        for update in early.iter().filter(|update| update.rows.is_none()) {
            update.deltas.iter().for_each(|delta| self.shard.apply(&negated(delta)));
        }
        for (other, mirror) in self.mirrors.iter_mut().enumerate() {
            if other != peer {
                mirror.to_say.gone.insert(peer);
            }
        }
        self.lose_donor(peer);
        self.open_outboxes();
        self.end_fetching();
    }

    /// A mirror that was given up is heard again.
    pub fn take_up(&mut self, peer: usize) {
        self.mirrors[peer].is_gone = false;
    }

    /// Whether a mirror has been given up.
    pub fn is_gone(&self, peer: usize) -> bool {
        self.mirrors[peer].is_gone
    }

    /// A mirror says what it has of a datacenter that is gone for it: it gets what we have more, and is asked for what it has
    /// more.
    pub(super) fn handle_holdings(&mut self, peer: usize, theirs: Holdings) {
        let Some(place) = self.ledgers.place(theirs.origin).filter(|place| *place != peer) else { return };
        let ledger = &self.ledgers.mirrors[place].1;
        let mirror = &mut self.mirrors[peer];
        if mirror.holdings.insert(place, theirs) != Some(theirs) || theirs.newest < ledger.newest() {
            mirror.outbox.hand_on(Origin::Other(theirs.origin), ledger.newer_than(theirs.covered));
        }
        let ours = self.holdings(place);
        let mirror = &mut self.mirrors[peer];
        if mirror.told_holdings.get(&place) != Some(&ours) {
            mirror.to_say.gone.insert(place);
        }
    }

    fn holdings(&self, place: usize) -> Holdings {
        let (origin, ledger) = &self.ledgers.mirrors[place];
        let covered = self.mirrors[place].inbox.arrived_count();
        Holdings { origin: *origin, covered, newest: ledger.newest() }
    }

    /// What a mirror should hear of datacenters that are gone.
    pub(super) fn holdings_to_say(&mut self, peer: usize) -> Vec<Holdings> {
        let places = std::mem::take(&mut self.mirrors[peer].to_say.gone);
        let said = places.into_iter().map(|place| (place, self.holdings(place)));
        let said: Vec<_> = said.collect();
        self.mirrors[peer].told_holdings.extend(said.iter().copied());
        said.into_iter().map(|(_, holdings)| holdings).collect()
    }

    /// Whether everything that mirrors had of datacenters that are gone has come.
    pub(super) fn has_asked_for_the_gone(&self) -> bool {
        let gone = || (0..self.mirrors.len()).filter(|&place| self.mirrors[place].is_gone);
        let has_come = |place: usize| {
            let (origin, ledger) = &self.ledgers.mirrors[place];
            let (newest, arrived) = (ledger.newest(), self.mirrors[place].inbox.arrived_count());
            let is_coming = self.mirrors.iter().any(|m| !m.is_away() && m.handing_on.contains(origin));
            let others = self.mirrors.iter().filter(|m| !m.is_away());
            let has_all = |holdings: &Holdings| holdings.newest <= newest.max(arrived);
            others.map(|m| m.holdings.get(&place)).all(|h| h.is_some_and(has_all)) && !is_coming
        };
        gone().all(has_come)
    }
}

impl Former {
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
