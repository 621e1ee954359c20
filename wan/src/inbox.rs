//! What one shard has from one mirror: which updates are applied, which rows are awaited, how far the mirror is.
//!
//! Updates come striped over several streams and may come again after a reconnect, so they arrive in any order and
//! any number of times. Adding commutes, hence each is applied as it comes, once: the inbox remembers the numbers it
//! has seen, as one prefix and the few beyond it.
//!
//! Kind: time-free.

mod awaited;

use std::collections::{BTreeSet, VecDeque};

use datacenter::{Clock, Elements, ShardId, ShardTable, TableId};
use thiserror::Error;

use self::awaited::AwaitedRows;
use crate::message::{Barrier, Progress, Resume};
use crate::outbox::MAX_IN_FLIGHT;

/// How far a number that a peer speaks of may be ahead of the last one applied here. A sender has at most
/// [`MAX_IN_FLIGHT`] numbers unconfirmed, and speaks of the next one at most: a peer beyond this is broken or hostile.
/// So it can neither make the receiver remember more, nor hold its readers for an update that never comes.
pub const MAX_GAP: u64 = MAX_IN_FLIGHT + 1;

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
    shapes: Vec<ShardTable>,
    awaited: AwaitedRows,
    /// The clock that the mirror says it completed.
    reported: Clock,
    /// Covered clocks whose last data has not arrived.
    reports: VecDeque<(Clock, u64)>,
    /// The clock that the mirror completed and all of whose data has arrived.
    arrived: Clock,
    /// The latest word on whether the mirror has workers, and what it has left to say if not.
    pauses: u32,
    last_seq: Option<u64>,
}

/// A peer broke the protocol; it costs the peer its connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PeerError {
    /// A number is absurdly far ahead.
    #[error("{what} {seq} is {} ahead of the last applied one, {MAX_GAP} are allowed", seq - through)]
    TooFarAhead {
        /// Where it stands.
        what: &'static str,
        /// The number.
        seq: u64,
        /// Everything up to this one has come.
        through: u64,
    },
    /// There is no such shard here.
    #[error("{0} is not hosted here")]
    UnknownShard(ShardId),
    /// It hosts none of the shards that are hosted here.
    #[error("it hosts none of the shards that are hosted here")]
    NothingShared,
    /// Another server of its datacenter hosts a shard already.
    #[error("it says that it hosts {shard}, which server {by} of its datacenter hosts")]
    HostedTwice {
        /// The shard.
        shard: ShardId,
        /// The server that is linked already.
        by: u16,
    },
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
        Self {
            shard,
            through: 0,
            beyond: BTreeSet::new(),
            shapes: shapes.to_vec(),
            awaited: AwaitedRows::new(shapes),
            reported: Clock(0),
            reports: VecDeque::new(),
            arrived: Clock(0),
            pauses: 0,
            last_seq: None,
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

    /// Whether the mirror has no workers, and all that it shipped has arrived: there is nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.pauses % 2 == 1 && self.last_seq.is_some_and(|last| last <= self.through)
    }

    /// Takes note of an update. Yields whether it is new, and so to be added to the tables.
    ///
    /// # Errors
    ///
    /// If it makes no sense; then nothing has changed.
    pub fn handle_update(&mut self, seq: u64, deltas: &[Elements]) -> Result<bool, PeerError> {
        self.check_gap("update", seq)?;
        for delta in deltas {
            let allowed = self.shape(delta.table)?.elements() as u64;
            if let Some(&last) = delta.indexes.last().filter(|last| u64::from(**last) >= allowed) {
                let found = u64::from(last);
                return Err(PeerError::OutOfRange { table: delta.table, what: "element", found, allowed });
            }
        }
        if !self.note(seq) {
            return Ok(false);
        }
        self.awaited.bring(seq, deltas, self.through);
        self.advance_clock();
        Ok(true)
    }

    /// Holds reads of the announced rows, unless they have come already.
    ///
    /// # Errors
    ///
    /// If it names rows that do not exist, or an update that cannot have been sent; then nothing has changed.
    pub fn handle_barrier(&mut self, barrier: &Barrier) -> Result<(), PeerError> {
        let shape = self.shape(barrier.table)?;
        if let Some(&slot) = barrier.slots.last().filter(|slot| **slot >= shape.slots) {
            let (found, allowed) = (u64::from(slot), u64::from(shape.slots));
            return Err(PeerError::OutOfRange { table: barrier.table, what: "row", found, allowed });
        }
        self.check_gap("a barrier from update", barrier.from_seq)?;
        self.awaited.await_rows(barrier, self.through);
        Ok(())
    }

    /// Takes note of the mirror's progress.
    ///
    /// # Errors
    ///
    /// If it contradicts itself.
    pub fn handle_progress(&mut self, progress: Progress) -> Result<(), PeerError> {
        let Progress { clock, covered, covered_seq, pauses, last_seq } = progress;
        if covered > clock {
            return Err(PeerError::CoversTheFuture { clock, covered });
        }
        self.check_gap("a clock covered by update", covered_seq)?;
        self.check_gap("its last update", last_seq.unwrap_or(0))?;
        // What was said in an earlier pause is void.
        if pauses > self.pauses {
            (self.pauses, self.last_seq) = (pauses, last_seq);
        } else if pauses == self.pauses {
            self.last_seq = self.last_seq.max(last_seq);
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

    /// How many rows are held.
    pub fn held_rows(&self) -> usize {
        self.awaited.held()
    }

    /// Whether one of these rows is held.
    pub fn holds_any(&self, table: TableId, slots: &[u32]) -> bool {
        self.awaited.holds_any(table, slots)
    }

    fn shape(&self, table: TableId) -> Result<ShardTable, PeerError> {
        self.shapes.get(table.index()).copied().ok_or(PeerError::UnknownTable(table))
    }

    fn check_gap(&self, what: &'static str, seq: u64) -> Result<(), PeerError> {
        match seq > self.through.saturating_add(MAX_GAP) {
            true => Err(PeerError::TooFarAhead { what, seq, through: self.through }),
            false => Ok(()),
        }
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

#[cfg(test)]
mod tests;
