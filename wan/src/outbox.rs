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
use std::sync::Arc;

use datacenter::codec;
use datacenter::{Clock, Elements, ShardId, ShardTable, TableId};

use crate::message::{Barrier, Progress, Resume, Update};

/// An update is closed when its payload reaches this, so that bulk spreads over streams; one row always fits.
pub const UPDATE_TARGET_BYTES: usize = 32 * 1024;

/// Bytes charged for a waiting element: an f32 and its share of the index.
const WAITING_ELEMENT_BYTES: u64 = 5;

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
    /// The peer has it already, out of order: it is not sent again.
    applied: bool,
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
        self.progress
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
    pub fn poll_update(&mut self) -> Option<Arc<Update>> {
        while let Some(repeat) = self.in_flight.get(self.sent) {
            self.sent += 1;
            if !repeat.applied {
                return Some(repeat.update.clone());
            }
        }
        let deltas = self.waiting.take(UPDATE_TARGET_BYTES)?;
        let bytes = deltas.iter().map(|d| codec::encoded_len(d) as u64).sum();
        let update = Arc::new(Update { shard: self.shard, seq: self.next_seq, deltas });
        self.next_seq += 1;
        self.in_flight.push_back(InFlight { update: update.clone(), bytes, applied: false });
        self.in_flight_bytes += bytes;
        self.sent += 1;
        self.advance_coverage();
        Some(update)
    }

    /// Announces the rows that wait and have not been announced yet.
    pub fn announce(&mut self) -> Vec<Barrier> {
        self.waiting.announce(self.next_seq, false)
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

    /// The link is up (again) and the peer has applied what `resume` says: the rest will be sent again, and what was
    /// announced and still waits is announced again.
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
        Ok(self.waiting.announce(self.next_seq, true))
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
    announced: Vec<bool>,
    free: Vec<u32>,
}

impl Waiting {
    fn new(shapes: &[ShardTable]) -> Self {
        let tables = shapes.iter().map(|shape| WaitingTable {
            width: shape.width as usize,
            place: vec![0; shape.slots as usize],
            slab: Vec::new(),
            announced: Vec::new(),
            free: Vec::new(),
        });
        Self { tables: tables.collect(), queue: VecDeque::new(), head: 0, elements: 0 }
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
    fn take(&mut self, target_bytes: usize) -> Option<Vec<Elements>> {
        let mut rows = Vec::new();
        let mut elements = 0;
        // A row is charged for one element more, so that empty ones end too.
        while (elements + rows.len() as u64) * WAITING_ELEMENT_BYTES < target_bytes as u64 {
            let Some((table, slot)) = self.queue.pop_front() else { break };
            let held = &self.tables[table.index()];
            elements += held.row(slot).iter().filter(|v| **v != 0.0).count() as u64;
            rows.push((table, slot));
        }
        self.elements -= elements;
        if rows.is_empty() {
            return None;
        }
        self.head += rows.len() as u64;
        rows.sort_unstable();
        let mut deltas: Vec<Elements> = Vec::new();
        for (table, slot) in rows {
            if deltas.last().is_none_or(|d| d.table != table) {
                deltas.push(Elements::new(table));
            }
            let out = deltas.last_mut().expect("pushed if there was none");
            self.tables[table.index()].release(slot, out);
        }
        Some(deltas)
    }

    /// Rows that wait: all of them after a reconnect, otherwise those not announced before.
    fn announce(&mut self, from_seq: u64, repeat: bool) -> Vec<Barrier> {
        let mut barriers = Vec::new();
        for (i, table) in self.tables.iter_mut().enumerate() {
            let mut slots = Vec::new();
            for (slot, &place) in table.place.iter().enumerate().filter(|(_, place)| **place > 0) {
                let announced = &mut table.announced[place as usize - 1];
                if *announced == repeat {
                    *announced = true;
                    slots.push(slot as u32);
                }
            }
            if !slots.is_empty() {
                barriers.push(Barrier { table: TableId(i as u16), slots, from_seq });
            }
        }
        barriers
    }
}

impl WaitingTable {
    /// The row's place in the slab; a zeroed one if it had none.
    fn claim(&mut self, slot: u32) -> usize {
        if self.place[slot as usize] == 0 {
            let place = self.free.pop().unwrap_or_else(|| {
                self.slab.resize(self.slab.len() + self.width, 0.0);
                self.announced.push(false);
                self.announced.len() as u32 - 1
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
    fn release(&mut self, slot: u32, out: &mut Elements) {
        let place = std::mem::take(&mut self.place[slot as usize]) as usize - 1;
        let first = slot * self.width as u32;
        let before = out.len();
        for (column, sum) in self.slab[place * self.width..(place + 1) * self.width].iter_mut().enumerate() {
            if *sum != 0.0 {
                out.push(first + column as u32, std::mem::take(sum));
            }
        }
        if std::mem::take(&mut self.announced[place]) && out.len() == before {
            // The sums cancelled, but the peer holds its readers until the row comes: a zero frees them.
            out.push(first, 0.0);
        }
        self.free.push(place as u32);
    }
}

#[cfg(test)]
mod tests;
