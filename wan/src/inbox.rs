//! What one shard has from one mirror: which updates are applied, which rows are awaited, how far the mirror is.
//!
//! Updates come striped over several streams and may come again after a reconnect, so they arrive in any order and
//! any number of times. Adding commutes, hence each is applied as it comes, once: the inbox remembers the numbers it
//! has seen, as one prefix and the few beyond it.
//!
//! Kind: time-free.

mod awaited;

use std::collections::{BTreeMap, VecDeque};

use datacenter::rows::Slots;
use datacenter::{Clock, DatacenterId, ShardId, ShardTable, TableId};
use thiserror::Error;

use self::awaited::AwaitedRows;
use crate::message::{Barrier, Origin, Progress, Resume, Update};
use crate::outbox::MAX_IN_FLIGHT;

/// How far a number that a peer speaks of may be ahead of the last one applied here. A sender has at most
/// [`MAX_IN_FLIGHT`] numbers unconfirmed, and speaks of the next one at most: a peer beyond this is broken or hostile.
/// So it can neither make the receiver remember more, nor hold its readers for an update that never comes.
pub const MAX_GAP: u64 = MAX_IN_FLIGHT + 1;

/// Elements in updates that came early: more than fit into any window. A peer beyond this is broken or hostile.
const MAX_EARLY_ELEMENTS: usize = 18 << 20;

/// The largest clock, or count of releases, that a peer may speak of: more than any job has. A larger one would be passed on
/// as its datacenter's, which could then say nothing any more.
pub const MAX_COUNT: u32 = 1 << 31;

/// No process has started later, in microseconds since 1970, whatever the clock of its machine.
pub const MAX_LIFE: u64 = 1 << 62;

/// Progress reports that wait for their data; one more replaces the newest.
const MAX_REPORTS: usize = 1024;

/// The receiving end from one mirror of one shard.
#[derive(Debug)]
pub struct Inbox {
    shard: ShardId,
    stream: u32,
    /// Every update up to this number is applied.
    through: u64,
    /// Updates beyond it.
    early: BTreeMap<u64, Update>,
    early_elements: usize,
    shapes: Vec<ShardTable>,
    awaited: AwaitedRows,
    /// The clock that the mirror says it completed.
    reported: Clock,
    /// How many of its clocks it says were left out.
    reported_left_out: u32,
    /// Covered clocks whose last data has not arrived.
    reports: VecDeque<Report>,
    /// The clock that the mirror completed and all of whose data has arrived.
    arrived: Clock,
    /// How many releases the mirror had counted then.
    arrived_count: u32,
    /// The update with which all of the first clock is here that the mirror has covered since it began to count.
    first_covered: Option<u64>,
    /// The latest word on whether the mirror has workers, and what it has left to say if not.
    pauses: u32,
    last_seq: Option<u64>,
}

/// A covered clock.
#[derive(Clone, Copy, Debug)]
struct Report {
    clock: Clock,
    /// Its last update.
    seq: u64,
    /// The releases counted then.
    count: u32,
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It had come before.
    Again,
    /// Others before it are missing.
    Early,
    /// It is the next one. [`Inbox::next_settled`] yields those that came early and follow it.
    InOrder,
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
    /// Whole rows that are not whole, or are nobody's.
    #[error("update {seq} has rows of {table} that are not whole")]
    TornRows {
        /// The update.
        seq: u64,
        /// The table.
        table: TableId,
    },
    /// Rows of a datacenter that there is not.
    #[error("{0} is no datacenter of this job")]
    UnknownOrigin(DatacenterId),
    /// Too much came early.
    #[error("updates with {elements} elements came before an earlier one, {MAX_EARLY_ELEMENTS} are allowed")]
    TooMuchEarly {
        /// How many.
        elements: usize,
    },
    /// A number that is not finite, where the job does not pass them on.
    #[error("its update of {table} has {found} for element {index}")]
    NotFinite {
        /// The table.
        table: TableId,
        /// Its flat index on the shard.
        index: u32,
        /// What it is.
        found: String,
    },
    /// A number that is none of those that count things, for a table of whole numbers.
    #[error(
        "its update of {table} has {found} for element {index}, and this table holds whole numbers alone"
    )]
    NotWhole {
        /// The table.
        table: TableId,
        /// Its flat index on the shard.
        index: u32,
        /// What it is.
        found: String,
    },
    /// More than one datacenter can have contributed.
    #[error(
        "its update of {table} has {found} for element {index}, to which {origin} would have contributed \
         {contributed}, and no datacenter contributes more than {allowed}"
    )]
    TooMuch {
        /// The table.
        table: TableId,
        /// Its flat index on the shard.
        index: u32,
        /// What the update has.
        found: String,
        /// Whose contribution it is.
        origin: String,
        /// What that would come to.
        contributed: String,
        /// The most that it may come to.
        allowed: String,
    },
    /// More clocks or releases than there can be.
    #[error("it speaks of {count} clocks or releases, and no job has more than {MAX_COUNT}")]
    AbsurdCount {
        /// How many.
        count: u32,
    },
    /// A clock that the job does not have.
    #[error("it speaks of {found}, and the job ends with {end}")]
    BeyondEnd {
        /// The clock.
        found: Clock,
        /// The last one.
        end: Clock,
    },
    /// A process that started in some other age.
    #[error("it speaks of a process that started {micros} microseconds after 1970, which is later than any")]
    AbsurdLife {
        /// When that would be.
        micros: u64,
    },
    /// What it says belongs to numbers that are void.
    #[error("it counts in stream {found}, and should have begun anew after {known}")]
    VoidStream {
        /// Its stream.
        found: u32,
        /// The one before.
        known: u32,
    },
    /// Its datacenter is one that nobody talks to any more.
    #[error("{0} has left this job for good")]
    Departed(DatacenterId),
    /// A process that another one has taken the place of.
    #[error("its process has been replaced by one that started later")]
    FormerLife,
    /// Its covered clock is ahead of its clock.
    #[error("the peer covers {covered} at {clock}")]
    CoversTheFuture {
        /// Its clock.
        clock: Clock,
        /// The covered one.
        covered: Clock,
    },
}

impl PeerError {
    /// Whether it may happen between peers that keep to the protocol: a new link, or another process, makes it good.
    pub fn is_routine(&self) -> bool {
        matches!(self, Self::VoidStream { .. } | Self::FormerLife | Self::Departed(_))
    }
}

/// Refuses what no peer can have counted to.
pub fn check_counts(counts: impl IntoIterator<Item = u32>) -> Result<(), PeerError> {
    let absurd = counts.into_iter().find(|count| *count > MAX_COUNT);
    absurd.map_or(Ok(()), |count| Err(PeerError::AbsurdCount { count }))
}

/// Refuses processes that nobody can have started: every server must have a number to take after them.
pub fn check_lives(lives: impl IntoIterator<Item = u64>) -> Result<(), PeerError> {
    let absurd = lives.into_iter().find(|life| *life > MAX_LIFE);
    absurd.map_or(Ok(()), |micros| Err(PeerError::AbsurdLife { micros }))
}

impl Inbox {
    /// An inbox that has seen nothing.
    pub fn new(shard: ShardId, shapes: &[ShardTable]) -> Self {
        Self {
            shard,
            stream: 0,
            through: 0,
            early: BTreeMap::new(),
            early_elements: 0,
            shapes: shapes.to_vec(),
            awaited: AwaitedRows::new(shapes),
            reported: Clock(0),
            reported_left_out: 0,
            reports: VecDeque::new(),
            arrived: Clock(0),
            arrived_count: 0,
            first_covered: None,
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
        let beyond = self.early.keys().copied().collect();
        Resume { shard: self.shard, stream: self.stream, through: self.through, beyond, ..Resume::default() }
    }

    /// The mirror begins to count again, for the `stream`-th time. Yields what had come early and will never be
    /// settled: it is to be taken back. Clocks stay as they were heard.
    pub fn restart(&mut self, stream: u32) -> Vec<Update> {
        let new = Self { stream, ..Self::new(self.shard, &self.shapes) };
        let former = std::mem::replace(self, new);
        (self.reported, self.arrived) = (former.reported, former.arrived);
        self.arrived_count = former.arrived_count;
        self.reported_left_out = former.reported_left_out;
        former.early.into_values().collect()
    }

    /// Forgets what has come early, and yields it.
    pub fn drop_early(&mut self) -> Vec<Update> {
        self.early_elements = 0;
        std::mem::take(&mut self.early).into_values().collect()
    }

    /// How often the mirror has begun to count anew.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// What has come early.
    pub fn early(&self) -> impl Iterator<Item = &Update> {
        self.early.values()
    }

    /// The clock is known to be this, with all its data, from before the first update: from a checkpoint.
    pub fn set_arrived(&mut self, clock: Clock, count: u32) {
        (self.reported, self.arrived, self.arrived_count) = (clock, clock, count);
    }

    /// All that the mirror had released when it had counted so many releases has arrived.
    pub fn arrived_count(&self) -> u32 {
        self.arrived_count
    }

    /// The clock that the mirror says it has completed; its data may still be on the way.
    pub fn reported_clock(&self) -> Clock {
        self.reported
    }

    /// How many of its clocks the mirror says its workers have left out.
    pub fn reported_left_out(&self) -> u32 {
        self.reported_left_out
    }

    /// The mirror's clock as far as its data has arrived: what the mirror clock goes by.
    pub fn arrived_clock(&self) -> Clock {
        self.arrived
    }

    /// Whether any clock has arrived in the present stream.
    pub fn has_covered(&self) -> bool {
        self.first_covered.is_some_and(|seq| seq <= self.through)
    }

    /// Whether the mirror has no workers, as far as it has said.
    pub fn is_paused(&self) -> bool {
        self.pauses % 2 == 1
    }

    /// Whether the mirror has no workers, and all that it shipped has arrived: there is nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.is_paused() && self.last_seq.is_some_and(|last| last <= self.through)
    }

    /// Takes note of an update.
    ///
    /// # Errors
    ///
    /// If it makes no sense; then nothing has changed.
    pub fn handle_update(&mut self, update: &Update) -> Result<Arrival, PeerError> {
        let seq = update.seq;
        self.check_gap("update", seq)?;
        for delta in &update.deltas {
            let allowed = self.shape(delta.table)?.elements() as u64;
            if let Some(&last) = delta.indexes.last().filter(|last| u64::from(**last) >= allowed) {
                let found = u64::from(last);
                return Err(PeerError::OutOfRange { table: delta.table, what: "element", found, allowed });
            }
        }
        self.check_whole(update)?;
        if seq <= self.through || self.early.contains_key(&seq) {
            return Ok(Arrival::Again);
        }
        let arrival = if seq == self.through + 1 { Arrival::InOrder } else { Arrival::Early };
        match arrival {
            Arrival::InOrder | Arrival::Again => {
                self.through = seq;
                // What came early and is next to it will be settled right after it.
                while self.early.contains_key(&(self.through + 1)) {
                    self.through += 1;
                }
            }
            Arrival::Early => {
                let elements = self.early_elements + elements(update);
                if elements > MAX_EARLY_ELEMENTS {
                    return Err(PeerError::TooMuchEarly { elements });
                }
                self.early_elements = elements;
                self.early.insert(seq, update.clone());
            }
        }
        // What was announced is the sender's own.
        if update.rows.as_ref().is_none_or(|rows| rows.origin == Origin::Sender) {
            self.awaited.bring(seq, &update.deltas, self.through);
        }
        self.reported = self.reported.max(update.clock);
        self.advance_clock();
        Ok(arrival)
    }

    /// The next update that came early and has its turn now.
    pub fn next_settled(&mut self) -> Option<Update> {
        let entry = self.early.first_entry().filter(|entry| *entry.key() <= self.through)?;
        let update = entry.remove();
        self.early_elements -= elements(&update);
        Some(update)
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
        let Progress { clock, covered, covered_seq, covered_count, pauses, last_seq, left_out, .. } =
            progress;
        check_counts([clock.0, covered_count, left_out])?;
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
        self.reported_left_out = self.reported_left_out.max(left_out);
        let last = self.reports.back().map_or((self.arrived, self.arrived_count), |r| (r.clock, r.count));
        if covered > Clock(0) {
            self.first_covered.get_or_insert(covered_seq);
        }
        if last.0 <= covered && last.1 <= covered_count && last != (covered, covered_count) {
            if self.reports.len() == MAX_REPORTS {
                self.reports.pop_back();
            }
            self.reports.push_back(Report { clock: covered, seq: covered_seq, count: covered_count });
        }
        self.advance_clock();
        Ok(())
    }

    /// How many rows are held.
    pub fn held_rows(&self) -> usize {
        self.awaited.held()
    }

    /// Whether one of these rows is held.
    pub fn holds_any(&self, table: TableId, slots: &Slots) -> bool {
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

    /// Whole rows have all their elements, one row after the other, and a stamp each.
    fn check_whole(&self, update: &Update) -> Result<(), PeerError> {
        let Some(rows) = &update.rows else { return Ok(()) };
        let torn = |table| PeerError::TornRows { seq: update.seq, table };
        if rows.stamps.len() != update.deltas.len() {
            return Err(torn(update.deltas.first().map_or(TableId(0), |delta| delta.table)));
        }
        for (delta, stamps) in update.deltas.iter().zip(&rows.stamps) {
            let width = self.shape(delta.table)?.width as usize;
            let is_whole = |row: &[u32]| row[0].is_multiple_of(width as u32) && row.len() == width;
            let are_whole = width > 0
                && !stamps.is_empty()
                && delta.len() == stamps.len() * width
                && delta.indexes.chunks(width).all(|row| is_whole(row) && ascends_by_one(row));
            if !are_whole {
                return Err(torn(delta.table));
            }
        }
        Ok(())
    }

    fn advance_clock(&mut self) {
        while let Some(&Report { clock, seq, count }) = self.reports.front() {
            if seq > self.through {
                return;
            }
            self.reports.pop_front();
            (self.arrived, self.arrived_count) = (clock, count);
        }
    }
}

fn elements(update: &Update) -> usize {
    update.deltas.iter().map(|delta| delta.len()).sum()
}

fn ascends_by_one(row: &[u32]) -> bool {
    row.windows(2).all(|pair| pair[0] + 1 == pair[1])
}

#[cfg(test)]
mod tests;
