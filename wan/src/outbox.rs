//! What one shard has for one mirror: updates that wait, and updates that are on their way.
//!
//! A slow or dead peer must cost no more than one model's worth of memory, and an update must never be dropped. So
//! what waits is summed by element (rows in the order of their first waiting delta), and becomes a numbered
//! [`Update`] only when the link has room. From then on it is immutable, and kept until the peer says that it has
//! applied it; after a reconnect what was not applied is sent again under the same number. Updates on their way are
//! bounded by the link's window, which the caller enforces through [`in_flight_bytes`](Outbox::in_flight_bytes).
//!
//! All that waits for a row goes in one update. Two mechanisms stand on this: a selective barrier names the first
//! sequence number that can carry a row, and a clock is *covered* once the queue's head has passed the place where
//! its tail was when the clock completed.
//!
//! Numbers hold between two processes. When either is a new one, the stream begins anew: what was on its way or waited
//! is dropped, and the rows that the peer lacks go *whole*, as their origin's [ledger](crate::ledger) has them when
//! they are numbered, before any delta of them. Rows of others that the peer needs back go the same way, in turns with
//! deltas.
//!
//! Kind: time-free.

mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use datacenter::codec;
use datacenter::{Clock, Elements, ShardId, ShardTable, TableId};

use self::waiting::{Taken, Waiting, barriers};
use crate::ledger::Ledgers;
use crate::message::{Barrier, Origin, Progress, Resume, Update, WholeRows};

/// An update is closed when its payload reaches this, so that bulk spreads over streams; one row always fits.
pub const UPDATE_TARGET_BYTES: usize = 32 * 1024;

/// Updates that may be unconfirmed at a time, however small they are: bounds what the receiver must remember of numbers
/// that come out of order.
pub const MAX_IN_FLIGHT: u64 = 4096;

/// Bytes charged for a waiting element: an f32 and its share of the index.
const WAITING_ELEMENT_BYTES: u64 = 5;

/// Marks of completed clocks kept while the queue is long; between them coverage is reported less finely.
const MAX_MARKS: usize = 256;

/// The queue from one shard to one mirror.
#[derive(Debug)]
pub struct Outbox {
    shard: ShardId,
    waiting: Waiting,
    stream: u32,
    next_seq: u64,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    /// How many of `in_flight` have been handed to the link since it last came up.
    sent: usize,
    /// Completed clocks and the releases counted then, by the place of the queue's tail at that time.
    marks: VecDeque<(u64, Clock, u32)>,
    progress: Progress,
    /// Rows to be sent whole, in this order.
    rows: BTreeSet<(Origin, TableId, u32)>,
    /// How many elements those have.
    row_elements: u64,
    /// What was numbered last were whole rows.
    rows_were_last: bool,
    widths: Vec<u32>,
    /// Whether deltas may be sent: not before it is known what the peer has.
    is_open: bool,
    returned: Returned,
}

/// Whether the peer has been given back what it had lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returned {
    NotAsked,
    /// Rows of it wait.
    Due,
    /// With this update.
    By(u64),
}

#[derive(Debug)]
struct InFlight {
    update: Arc<Update>,
    payloads: Arc<[Bytes]>,
    bytes: u64,
    /// The rows in it that were announced, ascending.
    announced: Vec<(TableId, u32)>,
    /// The peer has it already, out of order: it is not sent again.
    applied: bool,
}

/// An update to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The update.
    pub update: Arc<Update>,
    /// The elements of each entry of it, as they cross the WAN.
    pub payloads: Arc<[Bytes]>,
    /// The size of its payload.
    pub bytes: u64,
    /// Whether it was sent before, on a former connection.
    pub is_repeat: bool,
}

impl Outbox {
    /// An empty outbox for a shard with tables of these shapes.
    pub fn new(shard: ShardId, shapes: &[ShardTable]) -> Self {
        Self {
            shard,
            waiting: Waiting::new(shapes),
            stream: 0,
            next_seq: 1,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            sent: 0,
            marks: VecDeque::new(),
            progress: Progress::default(),
            rows: BTreeSet::new(),
            row_elements: 0,
            rows_were_last: false,
            widths: shapes.iter().map(|shape| shape.width).collect(),
            is_open: true,
            returned: Returned::NotAsked,
        }
    }

    /// Adds deltas to what waits; nothing of rows that will be sent whole.
    pub fn push(&mut self, delta: &Elements) {
        if !self.is_open {
            return;
        }
        if !self.has_rows_of(Origin::Sender) {
            return self.waiting.add(delta);
        }
        let width = self.widths[delta.table.index()];
        let mut rest = Elements::new(delta.table);
        for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
            if !self.rows.contains(&(Origin::Sender, delta.table, index / width)) {
                rest.push(index, value);
            }
        }
        self.waiting.add(&rest);
    }

    /// Forgets what waits and what is on its way, and begins to count again: one of the two processes is a new one. Nothing
    /// is pushed until [`open`](Self::open).
    pub fn restart(&mut self) {
        let shapes: Vec<_> = self.waiting.shapes().collect();
        let Progress { clock, pauses, .. } = self.progress;
        let progress = Progress { clock, pauses, ..Progress::default() };
        let stream = self.stream + 1;
        *self = Self { is_open: false, progress, stream, ..Self::new(self.shard, &shapes) };
    }

    /// Sends these rows of ours whole, and from now on what is pushed. All that has been released so far is in them or
    /// known to the peer: `count` releases.
    pub fn open(&mut self, rows: impl Iterator<Item = (TableId, u32)>, count: u32) {
        self.is_open = true;
        rows.for_each(|(table, slot)| self.add_row((Origin::Sender, table, slot)));
        self.complete(self.progress.clock, count);
    }

    /// Sends these rows of ours whole, with all that waits of them: they have changed by more than deltas.
    pub fn restate(&mut self, rows: impl Iterator<Item = (TableId, u32)>) {
        if !self.is_open {
            return;
        }
        for (table, slot) in rows {
            self.waiting.clear(table, slot);
            self.add_row((Origin::Sender, table, slot));
        }
    }

    /// How often it has begun anew.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Whether what is pushed will be sent.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Sends these rows whole, of another datacenter or of all.
    pub fn hand_on(&mut self, origin: Origin, rows: impl Iterator<Item = (TableId, u32)>) {
        rows.for_each(|(table, slot)| self.add_row((origin, table, slot)));
    }

    /// The peer is to hear when it has had all rows of its own that have been [handed on](Self::hand_on).
    pub fn return_all(&mut self) {
        self.returned = Returned::Due;
        self.advance_returned();
    }

    /// With which update the peer has been given back all its own, once that is known.
    pub fn returned(&self) -> Option<u64> {
        match self.returned {
            Returned::By(seq) => Some(seq),
            Returned::NotAsked | Returned::Due => None,
        }
    }

    /// Notes that everything of `clock` has been pushed, `count` releases.
    pub fn complete(&mut self, clock: Clock, count: u32) {
        self.progress.clock = clock;
        if self.marks.len() == MAX_MARKS {
            // Keep every other one: a mark may be forgotten as long as a later one stands.
            let mut keep = true;
            self.marks.retain(|_| {
                keep = !keep;
                !keep
            });
        }
        self.marks.push_back((self.waiting.tail(), clock, count));
        self.advance_coverage();
    }

    /// How far this side has come.
    pub fn progress(&self) -> Progress {
        let is_settled = self.progress.is_paused() && self.is_open && self.nothing_waits();
        Progress { last_seq: is_settled.then(|| self.next_seq - 1), ..self.progress }
    }

    /// Notes that the shard has lost its last worker, and that all it has left to ship has been pushed; or that it has
    /// workers again.
    pub fn set_paused(&mut self, is_paused: bool) {
        if self.progress.is_paused() != is_paused {
            self.progress.pauses += 1;
        }
    }

    /// Roughly how many bytes wait to be numbered and sent.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_delta_bytes() + self.row_elements * WAITING_ELEMENT_BYTES
    }

    /// Of these, those of deltas.
    pub fn waiting_delta_bytes(&self) -> u64 {
        self.waiting.elements * WAITING_ELEMENT_BYTES
    }

    /// How many elements wait as deltas.
    pub fn waiting_elements(&self) -> u64 {
        self.waiting.elements
    }

    /// Whether rows wait that are to be sent whole.
    pub fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Payload bytes of the updates that the peer has not confirmed.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Whether the peer has confirmed everything.
    pub fn is_drained(&self) -> bool {
        self.is_open && self.nothing_waits() && self.in_flight.is_empty()
    }

    fn nothing_waits(&self) -> bool {
        self.waiting.queue.is_empty() && self.rows.is_empty()
    }

    /// Whether [`poll_update`](Self::poll_update) would yield one that was sent before, on a former connection.
    pub fn has_repeat(&self) -> bool {
        self.in_flight.range(self.sent.min(self.in_flight.len())..).any(|f| !f.applied)
    }

    /// The next update that was sent before, on a former connection, and is to be repeated.
    pub fn poll_repeat(&mut self) -> Option<Outgoing> {
        while let Some(repeat) = self.in_flight.get(self.sent) {
            self.sent += 1;
            if !repeat.applied {
                return Some(Outgoing {
                    update: repeat.update.clone(),
                    payloads: repeat.payloads.clone(),
                    bytes: repeat.bytes,
                    is_repeat: true,
                });
            }
        }
        None
    }

    /// The next update to send: first those to be repeated after a reconnect, then whole rows as `ledgers` have them, if
    /// they `may_transfer`, and about `target_bytes` of what waits. `count` is how many releases there have been; the peer is
    /// the mirror at place `peer` of `ledgers`.
    ///
    /// None while [`MAX_IN_FLIGHT`] updates are unconfirmed.
    pub fn poll_update(
        &mut self,
        count: u32,
        ledgers: &Ledgers,
        peer: usize,
        may_transfer: bool,
        target_bytes: usize,
    ) -> Option<Outgoing> {
        if let Some(repeat) = self.poll_repeat() {
            return Some(repeat);
        }
        if self.in_flight.len() as u64 >= MAX_IN_FLIGHT {
            return None;
        }
        let taken = if may_transfer && self.is_turn_of_rows() {
            self.take_rows(ledgers, peer, target_bytes)
        } else {
            None
        };
        let (deltas, announced, rows) = match taken {
            Some((deltas, rows)) => (deltas, Vec::new(), Some(rows)),
            None => {
                let Taken { deltas, announced } = self.waiting.take(target_bytes)?;
                (deltas, announced, None)
            }
        };
        self.rows_were_last = rows.is_some();
        let stamps: u64 = rows.iter().flat_map(|rows| &rows.stamps).flatten().map(|s| varint_len(*s)).sum();
        let payloads: Arc<[Bytes]> = deltas.iter().map(|delta| self.payload(delta)).collect();
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum::<u64>() + stamps;
        let update = Arc::new(Update {
            shard: self.shard,
            stream: self.stream,
            seq: self.next_seq,
            clock: self.progress.clock,
            count,
            deltas,
            rows,
        });
        self.next_seq += 1;
        self.in_flight.push_back(InFlight {
            update: update.clone(),
            payloads: payloads.clone(),
            bytes,
            announced,
            applied: false,
        });
        self.in_flight_bytes += bytes;
        self.sent += 1;
        self.advance_coverage();
        self.advance_returned();
        Some(Outgoing { update, payloads, bytes, is_repeat: false })
    }

    fn payload(&self, delta: &Elements) -> Bytes {
        let mut payload = Vec::new();
        codec::encode_compact(delta, self.widths[delta.table.index()], &mut payload);
        payload.into()
    }

    fn add_row(&mut self, row: (Origin, TableId, u32)) {
        if self.rows.insert(row) {
            self.row_elements += u64::from(self.widths[row.1.index()]);
        }
    }

    /// Whether rows of `origin` are to be sent whole.
    fn has_rows_of(&self, origin: Origin) -> bool {
        let first = self.rows.range((origin, TableId(0), 0)..).next();
        first.is_some_and(|(of, ..)| *of == origin)
    }

    /// Until the peer has ours, no delta brings it further. Then others' must not keep it from what is new.
    fn is_turn_of_rows(&self) -> bool {
        let is_ours = self.rows.first().is_some_and(|(of, ..)| *of <= Origin::Sender);
        is_ours || !self.rows_were_last || self.waiting.queue.is_empty()
    }

    /// Takes rows of one origin, about as many as an update holds and at least one.
    fn take_rows(
        &mut self,
        ledgers: &Ledgers,
        peer: usize,
        target_bytes: usize,
    ) -> Option<(Vec<Elements>, WholeRows)> {
        let &(origin, ..) = self.rows.first()?;
        let (mut deltas, mut stamps): (Vec<Elements>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
        let (mut bytes, mut row_values) = (0, Vec::new());
        let life = ledgers.said_to(peer, origin).map_or(0, |ledger| ledger.life);
        while bytes < target_bytes as u64
            && let Some(&row) = self.rows.first().filter(|row| row.0 == origin)
        {
            let (_, table, slot) = row;
            self.rows.remove(&row);
            let width = self.widths[table.index()];
            self.row_elements -= u64::from(width);
            let stamp = match ledgers.said_to(peer, origin) {
                Some(ledger) => {
                    let (values, stamp) = ledger.row(table, slot);
                    row_values.extend_from_slice(values);
                    stamp
                }
                // It is a sum that nobody merges.
                None => {
                    ledgers.add_up(table, slot, &mut row_values);
                    0
                }
            };
            if deltas.last().is_none_or(|d| d.table != table) {
                deltas.push(Elements::new(table));
                stamps.push(Vec::new());
            }
            let (Some(out), Some(out_stamps)) = (deltas.last_mut(), stamps.last_mut()) else { break };
            out.indexes.extend(slot * width..(slot + 1) * width);
            out.values.append(&mut row_values);
            out_stamps.push(stamp);
            bytes += u64::from(width) * WAITING_ELEMENT_BYTES;
        }
        let is_last = self.rows.first().is_none_or(|row| row.0 != origin);
        Some((deltas, WholeRows { origin, stamps, is_last, life }))
    }

    fn advance_returned(&mut self) {
        if self.returned == Returned::Due && !self.has_rows_of(Origin::Receiver) {
            self.returned = Returned::By(self.next_seq - 1);
        }
    }

    /// Announces the rows that wait and have not been announced yet.
    pub fn announce(&mut self) -> Vec<Barrier> {
        self.waiting.announce(self.next_seq)
    }

    /// The peer has applied every update up to `seq`. Yields how many payload bytes that set free.
    ///
    /// # Errors
    ///
    /// If no such update was ever sent: the peer is confused.
    pub fn handle_applied(&mut self, seq: u64) -> Result<u64, NeverSent> {
        if seq >= self.next_seq {
            return Err(NeverSent { seq, last: self.next_seq - 1 });
        }
        let before = self.in_flight_bytes;
        while self.in_flight.front().is_some_and(|f| f.update.seq <= seq) {
            let done = self.in_flight.pop_front().expect("there is a front");
            self.in_flight_bytes -= done.bytes;
            self.sent = self.sent.saturating_sub(1);
        }
        Ok(before - self.in_flight_bytes)
    }

    /// The link is up (again) and the peer has applied what `resume` says: the rest will be sent again. Yields the
    /// announcements of rows that have not come, as the former connection may have lost them.
    ///
    /// # Errors
    ///
    /// If the peer claims updates that were never sent.
    pub fn handle_resume(&mut self, resume: &Resume) -> Result<Vec<Barrier>, NeverSent> {
        let last = self.next_seq - 1;
        if let Some(&seq) = resume.beyond.iter().find(|&&seq| seq > last) {
            return Err(NeverSent { seq, last });
        }
        self.handle_applied(resume.through)?;
        self.sent = 0;
        let early: BTreeSet<u64> = resume.beyond.iter().copied().collect();
        for flight in &mut self.in_flight {
            flight.applied = early.contains(&flight.update.seq);
        }
        let flying = self.in_flight.iter().filter(|f| !f.applied);
        let flying = flying.flat_map(|f| barriers(&f.announced, f.update.seq));
        Ok(flying.chain(self.waiting.announced(self.next_seq)).collect())
    }

    fn advance_coverage(&mut self) {
        while let Some(&(place, clock, count)) = self.marks.front() {
            if place > self.waiting.head || self.has_rows_of(Origin::Sender) || !self.is_open {
                return;
            }
            self.marks.pop_front();
            self.progress.covered = clock;
            self.progress.covered_seq = self.next_seq - 1;
            self.progress.covered_count = count;
        }
    }
}

/// As how many bytes so many waiting elements count in the size of an update, and at least one row of one.
pub(crate) fn waiting_bytes(elements: f64) -> usize {
    (elements.max(1.0) as usize).saturating_mul(WAITING_ELEMENT_BYTES as usize)
}

/// How many bytes a number takes in an envelope.
fn varint_len(number: u32) -> u64 {
    u64::from((32 - (number | 1).leading_zeros()).div_ceil(7))
}

/// A peer speaks of an update that it cannot have.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the peer says it applied update {seq}, but {last} is the last one sent")]
pub struct NeverSent {
    /// What it claims.
    pub seq: u64,
    /// The last one sent.
    pub last: u64,
}

#[cfg(test)]
mod tests;
