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
//! Kind: time-free.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use datacenter::codec;
use datacenter::{Clock, Elements, ShardId, ShardTable, TableId};

use crate::message::{Barrier, Progress, Resume, Update};

/// An update is closed when its payload reaches this, so that bulk spreads over streams; one row always fits.
pub const UPDATE_TARGET_BYTES: usize = 32 * 1024;

/// Updates that may be unconfirmed at a time, however small they are: bounds what the receiver must remember of numbers
/// that come out of order.
pub const MAX_IN_FLIGHT: u64 = 4096;

/// Bytes charged for a waiting element: an f32 and its share of the index.
const WAITING_ELEMENT_BYTES: u64 = 5;

/// Elements of a table for which an empty outbox keeps its memory; a backlog's is given back.
const KEPT_ELEMENTS: usize = 64 * 1024;

/// Marks of completed clocks kept while the queue is long; between them coverage is reported less finely.
const MAX_MARKS: usize = 256;

/// The queue from one shard to one mirror.
#[derive(Debug)]
pub struct Outbox {
    shard: ShardId,
    waiting: Waiting,
    next_seq: u64,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    /// How many of `in_flight` have been handed to the link since it last came up.
    sent: usize,
    /// Completed clocks, by the place of the queue's tail at that time.
    marks: VecDeque<(u64, Clock)>,
    progress: Progress,
}

#[derive(Debug)]
struct InFlight {
    update: Arc<Update>,
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
            next_seq: 1,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            sent: 0,
            marks: VecDeque::new(),
            progress: Progress::default(),
        }
    }

    /// Adds deltas to what waits.
    pub fn push(&mut self, delta: &Elements) {
        self.waiting.add(delta);
    }

    /// Notes that everything of `clock` has been pushed.
    pub fn complete(&mut self, clock: Clock) {
        self.progress.clock = clock;
        if self.marks.len() == MAX_MARKS {
            // Keep every other one: a mark may be forgotten as long as a later one stands.
            let mut keep = true;
            self.marks.retain(|_| {
                keep = !keep;
                !keep
            });
        }
        self.marks.push_back((self.waiting.tail(), clock));
        self.advance_coverage();
    }

    /// How far this side has come.
    pub fn progress(&self) -> Progress {
        let is_settled = self.progress.is_paused() && self.waiting.queue.is_empty();
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
        self.waiting.elements * WAITING_ELEMENT_BYTES
    }

    /// Payload bytes of the updates that the peer has not confirmed.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Whether the peer has confirmed everything.
    pub fn is_drained(&self) -> bool {
        self.waiting.queue.is_empty() && self.in_flight.is_empty()
    }

    /// Whether [`poll_update`](Self::poll_update) would yield one that was sent before, on a former connection.
    pub fn has_repeat(&self) -> bool {
        self.in_flight.range(self.sent.min(self.in_flight.len())..).any(|f| !f.applied)
    }

    /// The next update to send: first those to be repeated after a reconnect, then what waits.
    ///
    /// None while [`MAX_IN_FLIGHT`] updates are unconfirmed.
    pub fn poll_update(&mut self) -> Option<Outgoing> {
        while let Some(repeat) = self.in_flight.get(self.sent) {
            self.sent += 1;
            if !repeat.applied {
                return Some(Outgoing {
                    update: repeat.update.clone(),
                    bytes: repeat.bytes,
                    is_repeat: true,
                });
            }
        }
        if self.in_flight.len() as u64 >= MAX_IN_FLIGHT {
            return None;
        }
        let Taken { deltas, announced } = self.waiting.take(UPDATE_TARGET_BYTES)?;
        let bytes = deltas.iter().map(|d| codec::encoded_len(d) as u64).sum();
        let update = Arc::new(Update { shard: self.shard, seq: self.next_seq, deltas });
        self.next_seq += 1;
        self.in_flight.push_back(InFlight { update: update.clone(), bytes, announced, applied: false });
        self.in_flight_bytes += bytes;
        self.sent += 1;
        self.advance_coverage();
        Some(Outgoing { update, bytes, is_repeat: false })
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
        while let Some(&(place, clock)) = self.marks.front() {
            if place > self.waiting.head {
                return;
            }
            self.marks.pop_front();
            self.progress.covered = clock;
            self.progress.covered_seq = self.next_seq - 1;
        }
    }
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

/// Deltas summed by element, in rows that queue.
#[derive(Debug)]
struct Waiting {
    tables: Vec<WaitingTable>,
    queue: VecDeque<(TableId, u32)>,
    /// How many rows have ever left the queue: the place of its head.
    head: u64,
    /// Rows at places before this one have been announced.
    announced_to: u64,
    /// How many elements have a sum other than zero.
    elements: u64,
}

/// Rows are kept in a slab, so that memory follows what waits and not the table.
#[derive(Debug)]
struct WaitingTable {
    width: usize,
    /// By slot: one more than the row's place in the slab; zero where nothing waits.
    place: Vec<u32>,
    slab: Vec<f32>,
    free: Vec<u32>,
}

/// What leaves the queue as one update.
struct Taken {
    deltas: Vec<Elements>,
    /// Its rows that were announced, ascending.
    announced: Vec<(TableId, u32)>,
}

/// Announcements of `rows`, which ascend, by table.
fn barriers(rows: &[(TableId, u32)], from_seq: u64) -> impl Iterator<Item = Barrier> {
    rows.chunk_by(|a, b| a.0 == b.0).map(move |rows| Barrier {
        table: rows[0].0,
        slots: rows.iter().map(|(_, slot)| *slot).collect(),
        from_seq,
    })
}

impl Waiting {
    fn new(shapes: &[ShardTable]) -> Self {
        let tables = shapes.iter().map(|shape| WaitingTable {
            width: shape.width as usize,
            place: vec![0; shape.slots as usize],
            slab: Vec::new(),
            free: Vec::new(),
        });
        Self { tables: tables.collect(), queue: VecDeque::new(), head: 0, announced_to: 0, elements: 0 }
    }

    fn tail(&self) -> u64 {
        self.head + self.queue.len() as u64
    }

    fn add(&mut self, delta: &Elements) {
        let table = &mut self.tables[delta.table.index()];
        let width = table.width as u32;
        let (mut row_start, mut row_end, mut place) = (0, 0, 0);
        for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
            if index >= row_end {
                let slot = index / width;
                (row_start, row_end) = (slot * width, (slot + 1).saturating_mul(width));
                let is_new = table.place[slot as usize] == 0;
                place = table.claim(slot);
                if is_new {
                    self.queue.push_back((delta.table, slot));
                }
            }
            let sum = &mut table.slab[place * table.width + (index - row_start) as usize];
            let was_waiting = *sum != 0.0;
            *sum += value;
            self.elements += u64::from(*sum != 0.0);
            self.elements -= u64::from(was_waiting);
        }
    }

    /// Takes rows from the head of the queue, about `target_bytes` of them and at least one.
    fn take(&mut self, target_bytes: usize) -> Option<Taken> {
        let mut rows = Vec::new();
        let mut elements = 0;
        // A row is charged for one element more, so that empty ones end too.
        while (elements + rows.len() as u64) * WAITING_ELEMENT_BYTES < target_bytes as u64 {
            let Some((table, slot)) = self.queue.pop_front() else { break };
            elements += self.tables[table.index()].row(slot).iter().filter(|v| **v != 0.0).count() as u64;
            rows.push((table, slot, self.head < self.announced_to));
            self.head += 1;
        }
        self.elements -= elements;
        if rows.is_empty() {
            return None;
        }
        rows.sort_unstable();
        let mut deltas: Vec<Elements> = Vec::new();
        for &(table, slot, is_announced) in &rows {
            if deltas.last().is_none_or(|d| d.table != table) {
                deltas.push(Elements::new(table));
            }
            let out = deltas.last_mut().expect("pushed if there was none");
            self.tables[table.index()].release(slot, is_announced, out);
        }
        if self.queue.is_empty() {
            self.tables.iter_mut().for_each(WaitingTable::shrink);
        }
        let announced = rows.into_iter().filter(|row| row.2).map(|(table, slot, _)| (table, slot));
        Some(Taken { deltas, announced: announced.collect() })
    }

    /// Announces the rows that wait and were not announced before; linear in their number.
    fn announce(&mut self, from_seq: u64) -> Vec<Barrier> {
        let known = self.announced_to.saturating_sub(self.head) as usize;
        self.announced_to = self.tail();
        self.barriers(known..self.queue.len(), from_seq)
    }

    /// Announces again the rows that wait and were announced before.
    fn announced(&self, from_seq: u64) -> Vec<Barrier> {
        self.barriers(0..self.announced_to.saturating_sub(self.head) as usize, from_seq)
    }

    fn barriers(&self, places: Range<usize>, from_seq: u64) -> Vec<Barrier> {
        let mut rows: Vec<_> = self.queue.range(places).copied().collect();
        rows.sort_unstable();
        barriers(&rows, from_seq).collect()
    }
}

impl WaitingTable {
    /// The row's place in the slab; a zeroed one if it had none.
    fn claim(&mut self, slot: u32) -> usize {
        if self.place[slot as usize] == 0 {
            let place = self.free.pop().unwrap_or_else(|| {
                self.slab.resize(self.slab.len() + self.width, 0.0);
                (self.slab.len() / self.width) as u32 - 1
            });
            self.place[slot as usize] = place + 1;
        }
        self.place[slot as usize] as usize - 1
    }

    fn row(&self, slot: u32) -> &[f32] {
        let place = self.place[slot as usize] as usize - 1;
        &self.slab[place * self.width..(place + 1) * self.width]
    }

    /// Moves the row's sums to `out` and forgets the row.
    fn release(&mut self, slot: u32, is_announced: bool, out: &mut Elements) {
        let place = std::mem::take(&mut self.place[slot as usize]) as usize - 1;
        let first = slot * self.width as u32;
        let before = out.len();
        for (column, sum) in self.slab[place * self.width..(place + 1) * self.width].iter_mut().enumerate() {
            if *sum != 0.0 {
                out.push(first + column as u32, std::mem::take(sum));
            }
        }
        if is_announced && out.len() == before {
            // The sums cancelled, but the peer holds its readers until the row comes: a zero frees them.
            out.push(first, 0.0);
        }
        self.free.push(place as u32);
    }

    /// Gives back the memory of a backlog that is over. Nothing may wait.
    fn shrink(&mut self) {
        if self.slab.len() > KEPT_ELEMENTS {
            (self.slab, self.free) = (Vec::new(), Vec::new());
        }
    }
}

#[cfg(test)]
mod tests;
