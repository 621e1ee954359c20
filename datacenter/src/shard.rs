//! One shard: its part of every table, its workers' clocks, and the reads that wait.
//!
//! A read may be answered when local workers have come far enough (stale synchronous parallel) and when nothing from
//! outside holds it. What holds from outside is a [`ReadGate`]'s business; between datacenters that is the `wan`
//! crate's, in a datacenter alone it is [`Open`].
//!
//! Kind: time-passed (only to account how long reads were held).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::clock::VectorClock;
use crate::message::{Flush, Read, ReadReply, RowBlock, RowGroup, Wait};
use crate::{Clock, Elements, ShardId, ShardTable, TableId, WorkerId};

/// Conditions on reads from outside the shard.
pub trait ReadGate {
    /// Why no row at all may be read now.
    fn why_all_held(&self) -> Option<Wait>;

    /// Why one of these rows may not be read now; `slots` ascend.
    fn why_rows_held(&self, table: TableId, slots: &[u32]) -> Option<Wait>;
}

/// A gate that never holds: a datacenter alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl ReadGate for Open {
    fn why_all_held(&self) -> Option<Wait> {
        None
    }

    fn why_rows_held(&self, _: TableId, _: &[u32]) -> Option<Wait> {
        None
    }
}

/// A worker's request makes no sense: it costs the worker its session, never the shard.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// The worker is not one of this datacenter's, or is not live.
    #[error("{0} is not a live worker of this datacenter")]
    UnknownWorker(WorkerId),
    /// The shard is hosted elsewhere.
    #[error("{0} is not hosted here")]
    UnknownShard(ShardId),
    /// There is no such table.
    #[error("{0} does not exist")]
    UnknownTable(TableId),
    /// An index is outside the shard's part of the table.
    #[error("{table} has {allowed} {what} on this shard, found index {found}")]
    OutOfRange {
        /// The table.
        table: TableId,
        /// `elements` or `rows`.
        what: &'static str,
        /// The index.
        found: u32,
        /// How many there are.
        allowed: usize,
    },
    /// A flush left out a clock.
    #[error("{worker} flushed clock {found} after clock {last}")]
    ClockSkipped {
        /// The worker.
        worker: WorkerId,
        /// Its last clock.
        last: u32,
        /// The flush's.
        found: u32,
    },
}

/// What became of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// It is added, and the shard's clock moved to this one, if it did.
    Now(Option<Clock>),
    /// It had come before.
    Before,
}

/// One shard of the model in one datacenter.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    tables: Vec<TableState>,
    workers: VectorClock,
    staleness: Option<u32>,
    /// Counts changes, so that a reader can ask for what is new; zero is before all of them.
    version: u64,
    parked: Vec<Parked>,
    /// For how long reads were held that are held no more, or for another reason.
    held: BTreeMap<Wait, Duration>,
}

#[derive(Debug)]
struct TableState {
    shape: ShardTable,
    values: Vec<f32>,
    /// By slot: the shard's version at which the row last changed.
    changed: Vec<u64>,
}

#[derive(Debug)]
struct Parked {
    read: Read,
    why: Wait,
    since: Instant,
    held: Vec<(Wait, Duration)>,
}

impl Shard {
    /// A shard whose tables hold `initial` (one vector for each shape, `[slots * width]`), for `workers` workers.
    ///
    /// `staleness` is `s` of SSP; `None` never waits for other workers.
    ///
    /// # Panics
    ///
    /// If `initial` does not fit `shapes`.
    pub fn new(
        id: ShardId,
        shapes: &[ShardTable],
        initial: Vec<Vec<f32>>,
        workers: usize,
        staleness: Option<u32>,
    ) -> Self {
        assert_eq!(shapes.len(), initial.len(), "one vector of initial values for each table");
        let tables = shapes.iter().zip(initial).map(|(&shape, values)| {
            assert_eq!(values.len(), shape.elements(), "initial values fill the table");
            // Version 1, so that a reader that has nothing (version 0) gets every row.
            TableState { shape, values, changed: vec![1; shape.slots as usize] }
        });
        Self {
            id,
            tables: tables.collect(),
            workers: VectorClock::new(workers),
            staleness,
            version: 1,
            parked: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The shard's clock: the least clock of its live workers.
    pub fn clock(&self) -> Clock {
        self.workers.minimum()
    }

    /// The current values of a table's part, shape `[slots * width]`.
    pub fn values(&self, table: TableId) -> &[f32] {
        &self.tables[table.index()].values
    }

    /// How many tables there are.
    pub fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// Reads that wait, with their reasons.
    pub fn waiting(&self) -> impl Iterator<Item = (WorkerId, Wait)> {
        self.parked.iter().map(|p| (p.read.worker, p.why))
    }

    /// Reads that wait, with their reasons and for how long it has been that one.
    pub fn waiting_since(&self, now: Instant) -> impl Iterator<Item = (WorkerId, Wait, Duration)> {
        self.parked.iter().map(move |p| (p.read.worker, p.why, now.saturating_duration_since(p.since)))
    }

    /// For how long reads have been held, by reason, those of all workers added up.
    pub fn held(&self, now: Instant) -> BTreeMap<Wait, Duration> {
        let mut held = self.held.clone();
        for (_, why, time) in self.waiting_since(now) {
            *held.entry(why).or_default() += time;
        }
        held
    }

    /// The clock of a worker, if it is known and live.
    pub fn clock_of(&self, worker: WorkerId) -> Option<Clock> {
        self.workers.clock_of(worker)
    }

    /// The live workers with their clocks.
    pub fn live_workers(&self) -> impl Iterator<Item = (WorkerId, Clock)> {
        self.workers.live()
    }

    /// Whether nobody trains on this shard.
    pub fn is_idle(&self) -> bool {
        self.workers.live().next().is_none()
    }

    /// Counts `worker` among the live ones, at `clock` or later; yields its clock from then on, as
    /// [`VectorClock::join`] has it.
    pub fn join(&mut self, worker: WorkerId, clock: Clock) -> Option<Clock> {
        self.workers.join(worker, clock)
    }

    /// Adds a worker's deltas and advances its clock.
    ///
    /// A flush that has come before changes nothing: a worker whose connection broke says again what was not confirmed.
    ///
    /// # Errors
    ///
    /// If the flush makes no sense; then nothing has changed.
    pub fn handle_flush(&mut self, flush: &Flush) -> Result<Flushed, RequestError> {
        let last = self.workers.clock_of(flush.worker).ok_or(RequestError::UnknownWorker(flush.worker))?;
        if flush.clock <= last {
            return Ok(Flushed::Before);
        }
        if flush.clock != last.next() {
            return Err(RequestError::ClockSkipped {
                worker: flush.worker,
                last: last.0,
                found: flush.clock.0,
            });
        }
        flush.deltas.iter().try_for_each(|d| self.check_elements(d))?;
        for delta in &flush.deltas {
            self.apply(delta);
        }
        Ok(Flushed::Now(self.workers.tick(flush.worker, flush.clock)))
    }

    /// Stops waiting for `worker` and forgets its read; yields the shard's new clock if it moved.
    pub fn remove_worker(&mut self, worker: WorkerId) -> Option<Clock> {
        self.parked.retain(|p| p.read.worker != worker);
        self.workers.remove(worker)
    }

    /// Adds deltas, wherever they come from.
    ///
    /// # Panics
    ///
    /// If an index is out of range: decoding checks every index, so that would be our own bug.
    pub fn apply(&mut self, delta: &Elements) {
        if delta.is_empty() {
            return;
        }
        self.version += 1;
        let version = self.version;
        let table = &mut self.tables[delta.table.index()];
        let width = table.shape.width;
        // Indexes ascend, so the row's end is found by comparison; dividing for each element would cost more.
        let mut row_end = 0;
        for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
            table.values[index as usize] += value;
            if index >= row_end {
                let slot = index / width;
                table.changed[slot as usize] = version;
                row_end = (slot + 1).saturating_mul(width);
            }
        }
    }

    /// Answers a read if it may be answered now; otherwise keeps it until [`poll_reply`](Self::poll_reply) can.
    ///
    /// # Errors
    ///
    /// If the read makes no sense; then it is not kept.
    pub fn handle_read(
        &mut self,
        read: Read,
        now: Instant,
        gate: &impl ReadGate,
    ) -> Result<Option<ReadReply>, RequestError> {
        self.check_read(&read)?;
        // A worker has one read at a time: it asks again when its connection broke.
        self.parked.retain(|p| p.read.worker != read.worker);
        Ok(match self.why_held(&read, gate) {
            None => Some(self.reply(&read, Vec::new())),
            Some(why) => {
                self.parked.push(Parked { read, why, since: now, held: Vec::new() });
                None
            }
        })
    }

    /// The next waiting read that may be answered now. Call it until `None` after anything has changed.
    pub fn poll_reply(&mut self, now: Instant, gate: &impl ReadGate) -> Option<ReadReply> {
        for i in 0..self.parked.len() {
            let why = self.why_held(&self.parked[i].read, gate);
            let parked = &mut self.parked[i];
            if why == Some(parked.why) {
                continue;
            }
            let (was, spent) = parked.charge(now);
            *self.held.entry(was).or_default() += spent;
            match why {
                Some(why) => parked.why = why,
                None => {
                    let parked = self.parked.remove(i);
                    return Some(self.reply(&parked.read, parked.held));
                }
            }
        }
        None
    }

    fn why_held(&self, read: &Read, gate: &impl ReadGate) -> Option<Wait> {
        if let Some(s) = self.staleness {
            // All updates stamped <= c - s - 1 are in when the shard's clock is at least c - s.
            if self.clock().0 < read.clock.0.saturating_sub(s) {
                return Some(Wait::Stale);
            }
        }
        gate.why_all_held().or_else(|| read.groups.iter().find_map(|g| gate.why_rows_held(g.table, &g.slots)))
    }

    fn reply(&self, read: &Read, held: Vec<(Wait, Duration)>) -> ReadReply {
        ReadReply {
            shard: self.id,
            worker: read.worker,
            clock: self.clock(),
            version: self.version,
            blocks: read.groups.iter().map(|g| self.block(g)).collect(),
            held,
        }
    }

    fn block(&self, group: &RowGroup) -> RowBlock {
        let table = &self.tables[group.table.index()];
        let width = table.shape.width as usize;
        let news = group.slots.iter().filter(|&&s| table.changed[s as usize] > group.since);
        let slots: Vec<u32> = news.copied().collect();
        let mut values = Vec::with_capacity(slots.len() * width);
        for &slot in &slots {
            let start = slot as usize * width;
            values.extend_from_slice(&table.values[start..start + width]);
        }
        RowBlock { table: group.table, slots, values }
    }

    fn check_read(&self, read: &Read) -> Result<(), RequestError> {
        // One that has left may look on.
        if read.worker.index() >= self.workers.worker_count() {
            return Err(RequestError::UnknownWorker(read.worker));
        }
        for group in &read.groups {
            let shape = self.shape(group.table)?;
            if let Some(&found) = group.slots.iter().find(|&&s| s >= shape.slots) {
                let allowed = shape.slots as usize;
                return Err(RequestError::OutOfRange { table: group.table, what: "rows", found, allowed });
            }
        }
        Ok(())
    }

    fn check_elements(&self, delta: &Elements) -> Result<(), RequestError> {
        let allowed = self.shape(delta.table)?.elements();
        match delta.indexes.last() {
            Some(&found) if found as usize >= allowed => {
                Err(RequestError::OutOfRange { table: delta.table, what: "elements", found, allowed })
            }
            _ => Ok(()),
        }
    }

    /// The shape of this shard's part of `table`.
    ///
    /// # Errors
    ///
    /// If there is no such table.
    pub fn shape(&self, table: TableId) -> Result<ShardTable, RequestError> {
        self.tables.get(table.index()).map(|t| t.shape).ok_or(RequestError::UnknownTable(table))
    }
}

impl Parked {
    /// Charges the time since the last charge to the reason that held; yields both.
    fn charge(&mut self, now: Instant) -> (Wait, Duration) {
        let spent = now.saturating_duration_since(self.since);
        self.since = now;
        match self.held.iter_mut().find(|(why, _)| *why == self.why) {
            Some((_, total)) => *total += spent,
            None => self.held.push((self.why, spent)),
        }
        (self.why, spent)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests;
