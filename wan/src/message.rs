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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The shard.
    pub shard: ShardId,
    /// How often the sender has begun anew to count its updates for this shard and this receiver: when it had to tell more
    /// than numbers can.
    pub stream: u32,
    /// Counts them, from one.
    pub seq: u64,
    /// The sender's clock when it made this.
    pub clock: Clock,
    /// How many releases the sender had counted when it made this: with these deltas, and those before, the rows are as it
    /// had released them then.
    pub count: u32,
    /// At most one entry for each table, tables ascending.
    pub deltas: Vec<Elements>,
    /// What makes these no deltas but whole rows, each with all its elements.
    pub rows: Option<WholeRows>,
}

/// What one datacenter has released of rows, in sum, from somebody who has it.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeRows {
    /// Who has released it.
    pub origin: Origin,
    /// By entry of the update, by row: how many releases its origin had counted when the row was like that.
    pub stamps: Vec<Vec<u32>>,
    /// Whether no more rows of this origin wait behind these.
    pub is_last: bool,
    /// The latest process of the origin any of whose releases the sender has; zero where that does not matter.
    pub life: u64,
}

/// A datacenter, in words between two; in the order in which their rows are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// All of them, in sum, for a receiver that has nothing: it serves from that until it has them one by one.
    All,
    /// Whoever says this.
    Sender,
    /// Whoever hears this: its own, which it has lost.
    Receiver,
    /// Another one, which is gone.
    Other(DatacenterId),
}

/// What one shard tells its mirror besides updates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardControl {
    /// The shard.
    pub shard: ShardId,
    /// Whose numbers the sender's progress, barriers and returns are in (see [`Update::stream`]).
    pub stream: u32,
    /// The sender's progress.
    pub progress: Option<Progress>,
    /// Rows whose values are late.
    pub barriers: Vec<Barrier>,
    /// The receiver of this message need not keep updates up to this sequence number any longer.
    pub applied: Option<u64>,
    /// The stream that this is a number of.
    pub applied_stream: u32,
    /// All that the sender has of the receiver's own former releases is in updates up to this sequence number.
    pub returned: Option<u64>,
    /// What the sender has of datacenters that are gone.
    pub gone: Vec<Holdings>,
    /// Datacenters that have left the job for good.
    pub departed: Vec<DatacenterId>,
    /// The sender has no values: the receiver is to send first what it has of all datacenters, in sum. Of several mirrors one
    /// is asked, once there is a link with it.
    pub wants_values: bool,
}

impl ShardControl {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.progress.is_none()
            && self.barriers.is_empty()
            && self.applied.is_none()
            && self.returned.is_none()
            && self.gone.is_empty()
            && self.departed.is_empty()
            && !self.wants_values
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
    /// How many releases the sender had counted at the covered clock.
    pub covered_count: u32,
    /// Counts when the sender's workers have all left, and when some came back: odd while it has none.
    pub pauses: u32,
    /// While it has none: the last of its sequence numbers, once all that it has left to say is numbered.
    pub last_seq: Option<u64>,
    /// The sender does not wait for the receiver, which has yet to catch up.
    pub went_on: bool,
    /// How many of the clocks up to `clock` the sender's workers have left out.
    pub left_out: u32,
    /// By how many clocks the sender may be ahead of `clock` before it says so.
    pub unstated: u32,
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

/// How much somebody has of what a datacenter has released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Who has released it.
    pub origin: DatacenterId,
    /// All that it had released when it had counted so many releases.
    pub covered: u32,
    /// The largest count of any row.
    pub newest: u32,
}

/// What one side has of a shard when a link comes up: said in the hello, so that the other can send the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The shard.
    pub shard: ShardId,
    /// The process of the receiver, as far as the sender knows, whose numbers the following are; zero for none.
    pub life: u64,
    /// Its stream; one that there is not if it has to begin anew.
    pub stream: u32,
    /// Every sequence number up to this one has been applied.
    pub through: u64,
    /// Numbers beyond it that came early, ascending.
    pub beyond: Vec<u64>,
    /// All that the receiver had released when it had counted so many releases.
    pub covered: u32,
    /// The largest count of any row that the receiver has released.
    pub newest: u32,
    /// What the sender has of its own releases from before its process started: the receiver is to return what it has
    /// beyond. None where it has done so.
    pub lost_after: Option<u32>,
    /// The sender's clock.
    pub clock: Clock,
    /// The receiver's clock, as far as the sender has heard of it.
    pub heard_clock: Clock,
    /// How many clocks the receiver's workers have left out, as far as the sender has heard of it.
    pub heard_left_out: u32,
    /// The sender has not waited for the receiver meanwhile.
    pub went_on: bool,
    /// The sender has itself all that its datacenter has released, and so can give others values.
    pub is_whole: bool,
}
