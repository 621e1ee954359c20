//! Which datacenters have taken part in what is here, and to which clock of each.
//!
//! Kind: time-free.

use datacenter::{Clock, DatacenterId};

use super::Node;
use crate::replica::Replica;

/// How far a datacenter's part in a job is contained in what is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which one.
    pub datacenter: DatacenterId,
    /// All its updates up to this clock of its own are in the values.
    pub clock: Clock,
    /// How many of these its workers have left out: it went on where the others were.
    pub left_out: u32,
    /// Whether it has left the job for good.
    pub has_departed: bool,
}

impl Node {
    /// The parts of the other datacenters, in the order in which the replicas count their mirrors.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        (0..self.datacenters.len()).map(|mirror| Part {
            datacenter: self.datacenters[mirror].id,
            clock: self.least(|replica| replica.included_clock(mirror)),
            left_out: self.most(|replica| replica.included_left_out(mirror)),
            has_departed: self.has_departed(mirror),
        })
    }

    /// The clock that all shards of this datacenter itself have completed, and how many of the clocks up to it a shard has left
    /// out at most: each worker has one clock on all of them, so the others leave these out as well.
    pub fn own_part(&self) -> (Clock, u32) {
        (self.least(|replica| replica.shard().clock()), self.most(Replica::left_out))
    }

    fn least(&self, of: impl Fn(&Replica) -> Clock) -> Clock {
        self.replicas.iter().map(of).min().unwrap_or_default()
    }

    fn most(&self, of: impl Fn(&Replica) -> u32) -> u32 {
        self.replicas.iter().map(of).max().unwrap_or_default()
    }
}
