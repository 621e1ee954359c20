//! What two mirrors of a shard say to each other.
//!
//! Updates travel on the data queue, everything here called control on the control queue, which never waits behind
//! data. Control messages are idempotent statements ("this clock is complete, through that sequence number"), so
//! repeating, reordering or merging them does no harm.

use std::fmt;

use datacenter::{Clock, DatacenterId, Elements, ShardId, TableId};

/// A server process of a datacenter.
///
/// Each hosts some of the shards; how many processes share them is each datacenter's own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// The datacenter.
    pub datacenter: DatacenterId,
    /// Which of its servers, counted from zero.
    pub index: u16,
}

impl ServerId {
    /// The only server of a datacenter that has one, or the first.
    pub fn first(datacenter: DatacenterId) -> Self {
        Self { datacenter, index: 0 }
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} of {}", self.index, self.datacenter)
    }
}

/// A batch of deltas for a mirror. Whoever receives it applies it exactly once, whenever it comes.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The shard.
    pub shard: ShardId,
    /// Counts the sender's updates for this shard and this receiver, from one.
    pub seq: u64,
    /// At most one entry for each table, tables ascending.
    pub deltas: Vec<Elements>,
}

/// What one shard tells its mirror besides updates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardControl {
    /// The shard.
    pub shard: ShardId,
    /// The sender's progress.
    pub progress: Option<Progress>,
    /// Rows whose values are late.
    pub barriers: Vec<Barrier>,
    /// The receiver of this message need not keep updates up to this sequence number any longer.
    pub applied: Option<u64>,
}

impl ShardControl {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.progress.is_none() && self.barriers.is_empty() && self.applied.is_none()
    }
}

/// How far a sender has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The clock that it has completed.
    pub clock: Clock,
    /// The clock whose significant updates, and all before, have been given sequence numbers; at most `clock`.
    pub covered: Clock,
    /// The last of those numbers.
    pub covered_seq: u64,
    /// Counts when the sender's workers have all left, and when some came back: odd while it has none.
    pub pauses: u32,
    /// While it has none: the last of its sequence numbers, once all that it has left to say is numbered.
    pub last_seq: Option<u64>,
}

impl Progress {
    /// Whether the sender has no workers, so that its clock stands still.
    pub fn is_paused(&self) -> bool {
        self.pauses % 2 == 1
    }
}

/// Rows announced ahead of their values (selective barrier).
///
/// The receiver holds reads of each row until an update with sequence number `from_seq` or later has brought it. All
/// that waits for a row goes in one update, so that one suffices.
#[derive(Clone, Debug, PartialEq)]
pub struct Barrier {
    /// The table.
    pub table: TableId,
    /// Slots on the shard, strictly ascending.
    pub slots: Vec<u32>,
    /// The first sequence number that can carry them.
    pub from_seq: u64,
}

/// What a receiver has applied so far: said in the hello, so that the sender can send the rest again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The shard.
    pub shard: ShardId,
    /// Every sequence number up to this one.
    pub through: u64,
    /// Numbers beyond it that came early, ascending.
    pub beyond: Vec<u64>,
}
