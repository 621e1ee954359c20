//! All that a replica is between two clocks: what a checkpoint keeps, and what a replica begins from.
//!
//! A table's values are what it began with, plus what each datacenter has released of its own updates, plus what this one
//! has accumulated and not released. The parts are kept beside the sum, since recovery is done by part: whoever has more of
//! what a datacenter released gives it to whoever has less, row by row.
//!
//! Nothing here names a connection: sequence numbers end with the process that counted them.
//!
//! Kind: time-free.

use datacenter::{Clock, DatacenterId, Elements, ShardId, TableId};

/// A replica, as of a clock that its shard has completed.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaState {
    /// The shard.
    pub shard: ShardId,
    /// Its clock.
    pub clock: Clock,
    /// How many of the clocks up to that one nobody has trained.
    pub left_out: u32,
    /// By worker: the clock of the last flush that is in `values`.
    pub workers: Vec<Clock>,
    /// By table, `[slots * width]`: with everything that has come.
    pub values: Vec<Vec<f32>>,
    /// What has accumulated of this datacenter's updates and was not released; at most one entry for each table,
    /// tables ascending. It is part of `values`.
    pub remainders: Vec<Elements>,
    /// What the [rules](datacenter::rule) of tables remember, tables ascending; empty where changes are added to all.
    pub remembered: Vec<Remembered>,
    /// What each datacenter has released, this one among them, as far as it is in `values`; by datacenter, ascending.
    /// Empty where there are no mirrors.
    pub origins: Vec<OriginState>,
}

impl ReplicaState {
    /// The process of `datacenter` that released the last of what is here of it; none where there are no mirrors.
    pub fn life_of(&self, datacenter: DatacenterId) -> Option<u64> {
        self.origins.iter().find(|origin| origin.datacenter == datacenter).map(|origin| origin.life)
    }
}

/// What the rule of one table remembers of its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// The table.
    pub table: TableId,
    /// What it is, by the name that the rule has for it.
    pub what: String,
    /// `[slots * width]`.
    pub values: Vec<f32>,
}

/// What one datacenter has released of its own updates to a shard, as far as that is known to a replica.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginState {
    /// Which one.
    pub datacenter: DatacenterId,
    /// Its process that released the last of it.
    pub life: u64,
    /// Everything that it had released when it had counted so many releases is here.
    pub covered: u32,
    /// The clock that it has said to have completed; of this datacenter itself zero, as the state has its clock.
    pub heard_clock: Clock,
    /// Its clock up to which all its updates are in the values; of this datacenter itself zero.
    pub included_clock: Clock,
    /// How many of the clocks up to `heard_clock` its workers have left out, as it has said; of this datacenter itself zero.
    pub left_out: u32,
    /// By table.
    pub tables: Vec<ReleasedTable>,
    /// Whether it has left the job for good.
    pub has_departed: bool,
}

/// The sum of what one datacenter has released for one table.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleasedTable {
    /// `[slots * width]`.
    pub sums: Vec<f32>,
    /// By slot: how many releases its datacenter had counted when the row was as it is in `sums`; zero for one that is not
    /// known to be other than zero. Of two replicas, the one with the larger count has more.
    pub stamps: Vec<u32>,
}
