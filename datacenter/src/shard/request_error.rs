//! Why a worker's request is refused.
//!
//! Kind: time-free.

use thiserror::Error;

use crate::message::Flush;
use crate::sums::MAX_SUM;
use crate::{Clock, ShardId, TableId, WorkerId};

/// A worker's request makes no sense: it costs the worker its session, never the shard.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// The worker is not one of this datacenter's.
    #[error("{0} is not a worker of this datacenter")]
    UnknownWorker(WorkerId),
    /// The shard is hosted elsewhere.
    #[error("{0} is not hosted here")]
    UnknownShard(ShardId),
    /// There is no such table.
    #[error("{0} does not exist")]
    UnknownTable(TableId),
    /// A clock that the job does not have.
    #[error("{worker} is at {found}, and the job ends with {end}")]
    BeyondEnd {
        /// The worker.
        worker: WorkerId,
        /// Its clock.
        found: Clock,
        /// The last one.
        end: Clock,
    },
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
    /// Rows of another width than the table's.
    #[error("{table} has rows of {allowed} elements, found rows of {found}")]
    Width {
        /// The table.
        table: TableId,
        /// How wide they are.
        found: usize,
        /// How wide they should be.
        allowed: u32,
    },
    /// Rows come twice, or not in order.
    #[error("rows of {table} do not ascend")]
    Disordered {
        /// The table.
        table: TableId,
    },
    /// A delta is NaN or infinite. A correct worker finds that itself, and says nothing of it.
    #[error("{worker} flushed a delta that is {what} at {clock}: {table}, row in slot {slot} of this shard")]
    NotFinite {
        /// The worker.
        worker: WorkerId,
        /// The flush's clock.
        clock: Clock,
        /// The table.
        table: TableId,
        /// The slot of the row.
        slot: u32,
        /// `NaN` or `infinite`.
        what: &'static str,
    },
    /// A delta is larger than the job allows.
    #[error(
        "{worker} flushed a delta of {found} at {clock}: {table}, row in slot {slot} of this shard; \
         job.max_delta allows {allowed}"
    )]
    TooLarge {
        /// The worker.
        worker: WorkerId,
        /// The flush's clock.
        clock: Clock,
        /// The table.
        table: TableId,
        /// The slot of the row.
        slot: u32,
        /// The delta.
        found: String,
        /// The largest that may be.
        allowed: String,
    },
    /// A delta would make a sum larger than any may be: the model has diverged, or the worker is
    /// hostile.
    #[error(
        "{worker} flushed a delta of {found} at {clock}, which would bring {sum} beyond {MAX_SUM:e}: {table}, row in \
         slot {slot} of this shard; the model has diverged"
    )]
    SumTooLarge {
        /// The worker.
        worker: WorkerId,
        /// The flush's clock.
        clock: Clock,
        /// The table.
        table: TableId,
        /// The slot of the row.
        slot: u32,
        /// The delta.
        found: String,
        /// The sum before it.
        sum: String,
    },
}

impl RequestError {
    /// That a delta of `flush` would bring `sum` too far: element `index` of `table`, whose rows
    /// have `width` elements.
    pub fn sum_too_large(
        flush: &Flush,
        (table, width): (TableId, u32),
        (index, delta, sum): (u32, f32, f32),
    ) -> Self {
        let (worker, clock, slot) = (flush.worker, flush.clock, index / width);
        let (found, sum) = (format!("{delta:e}"), format!("{sum:e}"));
        Self::SumTooLarge { worker, clock, table, slot, found, sum }
    }
}
