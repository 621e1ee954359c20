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
    /// Whether it has left the job for good.
    pub has_departed: bool,
}

impl Node {
    /// The parts of the other datacenters, in the order in which the replicas count their mirrors.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        (0..self.datacenters.len()).map(|mirror| Part {
            datacenter: self.datacenters[mirror].id,
            clock: self.least(|replica| replica.included_clock(mirror)),
            has_departed: self.has_departed(mirror),
        })
    }

    /// The clock up to which this datacenter itself has trained: not those that it has taken for complete at the end since
    /// nobody was left to train them.
    pub fn own_part(&self) -> Clock {
        self.deserted_from.unwrap_or_else(|| self.least(|replica| replica.shard().clock()))
    }

    fn least(&self, of: impl Fn(&Replica) -> Clock) -> Clock {
        self.replicas.iter().map(of).min().unwrap_or_default()
    }
}
