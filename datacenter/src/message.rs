//! What workers and shards say to each other.
//!
//! Messages between one worker and one shard stay in order; the client counts on it when it
//! promises a worker its own updates.

use std::fmt;
use std::time::Duration;

use crate::rows::{self, RowBlock, Slots};
use crate::{Clock, DatacenterId, Elements, ShardId, ShardTable, TableId, WorkerId};

/// From a worker to a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The deltas of an iteration, and its end.
    Flush(Flush),
    /// Rows wanted.
    Read(Read),
    /// The worker trains no more, for now or for good: nobody waits for it. It may still read.
    Leave(WorkerId),
}

impl Request {
    /// Who asks.
    pub fn worker(&self) -> WorkerId {
        match self {
            Self::Flush(flush) => flush.worker,
            Self::Read(read) => read.worker,
            Self::Leave(worker) => *worker,
        }
    }
}

/// One iteration's deltas of a worker for one shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Flush {
    /// The worker.
    pub worker: WorkerId,
    /// The clock that the worker has reached: deltas carry the stamp `clock - 1`.
    pub clock: Clock,
    /// Rows that have deltas, each once, ascending by table and slot. What is zero in them counts
    /// as not named.
    pub deltas: Vec<RowBlock>,
}

impl Flush {
    /// One with these deltas, at most one entry for each table, ascending, to a shard with tables
    /// of these shapes.
    ///
    /// # Panics
    ///
    /// If there is no such table.
    pub fn of_elements(worker: WorkerId, clock: Clock, deltas: &[Elements], shapes: &[ShardTable]) -> Self {
        let rows =
            deltas.iter().filter_map(|delta| rows::of_elements(delta, shapes[delta.table.index()].width));
        Self { worker, clock, deltas: rows.collect() }
    }

    /// How many bytes its values have.
    pub(crate) fn value_bytes(&self) -> usize {
        self.deltas.iter().map(|block| size_of_val(&block.values()[..])).sum()
    }

    /// The deltas that are not zero, one entry for each table that has any.
    pub fn elements(&self) -> Vec<Elements> {
        let tables = self.deltas.chunk_by(|a, b| a.table() == b.table());
        let elements = tables.map(|blocks| {
            let mut elements = Elements::new(blocks[0].table());
            blocks.iter().for_each(|block| block.non_zero(&mut elements));
            elements
        });
        elements.filter(|elements| !elements.is_empty()).collect()
    }
}

/// Rows that a worker wants at its clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The worker.
    pub worker: WorkerId,
    /// The worker's clock: how many iterations it has completed.
    pub clock: Clock,
    /// The rows, grouped by what the worker has of them already.
    pub groups: Vec<RowGroup>,
}

/// Rows of one table that the worker last saw at the same version of the shard.
#[derive(Clone, Debug, PartialEq)]
pub struct RowGroup {
    /// The table.
    pub table: TableId,
    /// The shard's version when the worker last had these rows; zero for never. Rows unchanged
    /// since are left out.
    pub since: u64,
    /// Slots on the shard.
    pub slots: Slots,
}

/// A shard's answer to a [`Read`], or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadReply {
    /// Who answers.
    pub shard: ShardId,
    /// Who asked.
    pub worker: WorkerId,
    /// The shard's clock: all local updates stamped below it are included, but of workers that are
    /// not waited for. One that is behind it goes on there.
    pub clock: Clock,
    /// The shard's version, for the next request's `since`.
    pub version: u64,
    /// The rows that changed, group by group.
    pub blocks: Vec<RowBlock>,
    /// For how long the read was held, by reason.
    pub held: Vec<(Wait, Duration)>,
    /// Whether this is all, or the last part of what comes in several. A shard answers at once;
    /// it is connections that take answers apart.
    pub is_last: bool,
}

/// How far a shard is, for a worker that comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The shard.
    pub shard: ShardId,
    /// Its clock.
    pub clock: Clock,
    /// That of the last flush of the worker that is in, if the worker is known.
    pub worker: Option<Clock>,
    /// Whether it has all from the beginning of the job, and did not come back with what it had.
    pub is_new: bool,
}

/// What a server tells all its workers of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Notice {
    /// It is there.
    #[default]
    Serving,
    /// It is about to stop: a worker ends its clock, and leaves.
    Leaving,
    /// Nobody trains any more, anywhere, and everything has arrived: what is read now is the
    /// result.
    Settled {
        /// What the result lacks, in words, if it is not all that the job was to be.
        lacks: Option<String>,
    },
    /// The datacenter leaves the job for good: a worker ends its clock, leaves, and ends.
    Departing,
    /// The datacenter has left the job for good, as others say: there is nobody to train with.
    Expelled,
}

/// Why a read is held. A held read has exactly one reason at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// Workers of this datacenter are behind (bounded staleness).
    Stale,
    /// A row was announced by this peer and has not arrived (selective barrier).
    Barrier(DatacenterId),
    /// This datacenter leads that peer by too much (mirror clock).
    MirrorClock(DatacenterId),
    /// The shard is still fetching its state.
    Fetching,
}

impl Wait {
    /// The reason's name without its peer, as metrics and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Barrier(_) => "barrier",
            Self::MirrorClock(_) => "mirror_clock",
            Self::Fetching => "fetching",
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => f.write_str("local workers are behind"),
            Self::Barrier(peer) => write!(f, "barrier of {peer}"),
            Self::MirrorClock(peer) => write!(f, "mirror clock of {peer}"),
            Self::Fetching => f.write_str("fetching state"),
        }
    }
}
