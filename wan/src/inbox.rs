//! What one shard has from one mirror: which updates are applied, which rows are awaited, how far the mirror is.
//!
//! Updates come striped over several streams and may come again after a reconnect, so they arrive in any order and
//! any number of times. Adding commutes, hence each is applied as it comes, once: the inbox remembers the numbers it
//! has seen, as one prefix and the few beyond it.
//!
//! Kind: time-free.

use std::collections::{BTreeSet, VecDeque};

use datacenter::{Clock, Elements, ShardId, ShardTable, TableId};
use thiserror::Error;

use crate::message::{Barrier, Progress, Resume};

/// How far an update's number may be ahead of the first missing one. A sender's window is far smaller, so that a peer
/// beyond this is broken or hostile, and cannot make the receiver remember more.
pub const MAX_GAP: u64 = 1 << 16;

/// Progress reports that wait for their data; one more replaces the newest.
const MAX_REPORTS: usize = 1024;

/// The receiving end from one mirror of one shard.
#[derive(Debug)]
pub struct Inbox {
    shard: ShardId,
    /// Every update up to this number is applied.
    through: u64,
    /// Numbers beyond `through` that are applied.
    beyond: BTreeSet<u64>,
    tables: Vec<AwaitedTable>,
    /// How many rows are held, over all tables.
    held: usize,
    /// The clock that the mirror says it completed.
    reported: Clock,
    /// Covered clocks whose last data has not arrived.
    reports: VecDeque<(Clock, u64)>,
    /// The clock that the mirror completed and all of whose data has arrived.
    arrived: Clock,
}

/// 16 bytes a row: what a barrier costs to be exact whichever of announcement and values comes first.
#[derive(Debug)]
struct AwaitedTable {
    slots: u32,
    width: u32,
    /// By slot: the latest update that brought the row.
    brought: Vec<u64>,
    /// By slot: reads wait for an update of this number or later; zero for no wait.
    awaited: Vec<u64>,
}

/// A peer broke the protocol; it costs the peer its connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PeerError {
    /// The number is absurdly far ahead.
    #[error("update {seq} is {} ahead of the first missing one, {MAX_GAP} are allowed", seq - through)]
    TooFarAhead {
        /// The update's number.
        seq: u64,
        /// Everything up to this one has come.
        through: u64,
    },
    /// There is no such shard here.
    #[error("{0} is not hosted here")]
    UnknownShard(ShardId),
    /// There is no such table.
    #[error("{0} does not exist")]
    UnknownTable(TableId),
    /// A row or element is outside the table.
    #[error("{table}: {what} {found} is out of range, there are {allowed}")]
    OutOfRange {
        /// The table.
        table: TableId,
        /// `row` or `element`.
        what: &'static str,
        /// What was found.
        found: u64,
        /// How many there are.
        allowed: u64,
    },
    /// It confirmed what was never sent.
    #[error(transparent)]
    NeverSent(#[from] crate::outbox::NeverSent),
    /// Its covered clock is ahead of its clock.
    #[error("the peer covers {covered} at {clock}")]
    CoversTheFuture {
        /// Its clock.
        clock: Clock,
        /// The covered one.
        covered: Clock,
    },
}

impl Inbox {
    /// An inbox that has seen nothing.
    pub fn new(shard: ShardId, shapes: &[ShardTable]) -> Self {
        let tables = shapes.iter().map(|s| AwaitedTable {
            slots: s.slots,
            width: s.width,
            brought: vec![0; s.slots as usize],
            awaited: vec![0; s.slots as usize],
        });
        Self {
            shard,
            through: 0,
            beyond: BTreeSet::new(),
            tables: tables.collect(),
            held: 0,
            reported: Clock(0),
            reports: VecDeque::new(),
            arrived: Clock(0),
        }
    }

    /// Every update up to this number is applied.
    pub fn applied_through(&self) -> u64 {
        self.through
    }

    /// What has been applied, for the hello.
    pub fn resume(&self) -> Resume {
        Resume { shard: self.shard, through: self.through, beyond: self.beyond.iter().copied().collect() }
    }

    /// The clock that the mirror says it has completed; its data may still be on the way.
    pub fn reported_clock(&self) -> Clock {
        self.reported
    }

    /// The mirror's clock as far as its data has arrived: what the mirror clock goes by.
    pub fn arrived_clock(&self) -> Clock {
        self.arrived
    }

    /// Takes note of an update. Yields whether it is new, and so to be added to the tables.
    ///
    /// # Errors
    ///
    /// If it makes no sense; then nothing has changed.
    pub fn handle_update(&mut self, seq: u64, deltas: &[Elements]) -> Result<bool, PeerError> {
        if seq > self.through.saturating_add(MAX_GAP) {
            return Err(PeerError::TooFarAhead { seq, through: self.through });
        }
        for delta in deltas {
            let table = self.tables.get(delta.table.index()).ok_or(PeerError::UnknownTable(delta.table))?;
            let allowed = u64::from(table.slots) * u64::from(table.width);
            if let Some(&last) = delta.indexes.last().filter(|last| u64::from(**last) >= allowed) {
                let found = u64::from(last);
                return Err(PeerError::OutOfRange { table: delta.table, what: "element", found, allowed });
            }
        }
        if !self.note(seq) {
            return Ok(false);
        }
        for delta in deltas {
            self.held -= self.tables[delta.table.index()].bring(seq, &delta.indexes);
        }
        self.advance_clock();
        Ok(true)
    }

    /// Holds reads of the announced rows, unless they have come already.
    ///
    /// # Errors
    ///
    /// If it names rows that do not exist; then nothing has changed.
    pub fn handle_barrier(&mut self, barrier: &Barrier) -> Result<(), PeerError> {
        let table =
            self.tables.get_mut(barrier.table.index()).ok_or(PeerError::UnknownTable(barrier.table))?;
        if let Some(&slot) = barrier.slots.last().filter(|slot| **slot >= table.slots) {
            let (found, allowed) = (u64::from(slot), u64::from(table.slots));
            return Err(PeerError::OutOfRange { table: barrier.table, what: "row", found, allowed });
        }
        for &slot in &barrier.slots {
            let slot = slot as usize;
            if table.brought[slot] < barrier.from_seq {
                self.held += usize::from(table.awaited[slot] == 0);
                table.awaited[slot] = table.awaited[slot].max(barrier.from_seq);
            }
        }
        Ok(())
    }

    /// Takes note of the mirror's progress.
    ///
    /// # Errors
    ///
    /// If it contradicts itself.
    pub fn handle_progress(&mut self, progress: Progress) -> Result<(), PeerError> {
        let Progress { clock, covered, covered_seq } = progress;
        if covered > clock {
            return Err(PeerError::CoversTheFuture { clock, covered });
        }
        self.reported = self.reported.max(clock);
        if self.reports.back().map_or(self.arrived, |(clock, _)| *clock) < covered {
            if self.reports.len() == MAX_REPORTS {
                self.reports.pop_back();
            }
            self.reports.push_back((covered, covered_seq));
        }
        self.advance_clock();
        Ok(())
    }

    /// Whether any row is held.
    pub fn is_holding(&self) -> bool {
        self.held > 0
    }

    /// How many rows are held.
    pub fn held_rows(&self) -> usize {
        self.held
    }

    /// Whether one of these rows is held.
    pub fn holds_any(&self, table: TableId, slots: &[u32]) -> bool {
        self.held > 0 && slots.iter().any(|&slot| self.tables[table.index()].awaited[slot as usize] > 0)
    }

    /// Yields whether `seq` is new.
    fn note(&mut self, seq: u64) -> bool {
        if seq <= self.through || !self.beyond.insert(seq) {
            return false;
        }
        while self.beyond.first() == Some(&(self.through + 1)) {
            self.beyond.pop_first();
            self.through += 1;
        }
        true
    }

    fn advance_clock(&mut self) {
        while let Some(&(clock, seq)) = self.reports.front() {
            if seq > self.through {
                return;
            }
            self.reports.pop_front();
            self.arrived = clock;
        }
    }
}

impl AwaitedTable {
    /// Notes that update `seq` brought the rows of these elements; yields how many rows that freed.
    fn bring(&mut self, seq: u64, indexes: &[u32]) -> usize {
        let (mut row_end, mut freed) = (0, 0);
        for &index in indexes {
            if index < row_end {
                continue;
            }
            let slot = index / self.width;
            row_end = (slot + 1).saturating_mul(self.width);
            let slot = slot as usize;
            self.brought[slot] = self.brought[slot].max(seq);
            if self.awaited[slot] > 0 && self.awaited[slot] <= seq {
                self.awaited[slot] = 0;
                freed += 1;
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests;
