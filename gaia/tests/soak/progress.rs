//! How far every shard of every region is, and who stands still.
//!
//! Kind: time-passed.

#![allow(unreachable_pub, reason = "a module of one test")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use gaia::service::status::Status;

use crate::fault_schedule::REGIONS;

const SHARDS: u16 = 4;

/// By region and shard.
pub struct Progress {
    shards: BTreeMap<(&'static str, u16), Reached>,
}

#[derive(Clone, Copy, Default)]
struct Reached {
    /// The highest: who comes back may be behind it for a while.
    clock: u32,
    /// For how long it has not risen though nothing was done to its region.
    still: Duration,
}

impl Progress {
    pub fn new() -> Self {
        let shards = REGIONS.into_iter().flat_map(|region| (0..SHARDS).map(move |shard| (region, shard)));
        Self { shards: shards.map(|shard| (shard, Reached::default())).collect() }
    }

    /// How far the last shard has come.
    pub fn slowest(&self) -> u32 {
        self.shards.values().map(|reached| reached.clock).min().unwrap_or(0)
    }

    /// Takes what a process says.
    pub fn see(&mut self, region: &'static str, status: &Status) {
        for shard in status.servers.iter().flat_map(|server| &server.shards) {
            let reached = self.shards.entry((region, shard.shard)).or_default();
            if shard.clock > reached.clock {
                *reached = Reached { clock: shard.clock, still: Duration::ZERO };
            }
        }
    }

    /// Time has passed in which nothing was done to `region`.
    pub fn pass(&mut self, region: &str, time: Duration) {
        self.shards.iter_mut().filter(|((of, _), _)| *of == region).for_each(|(_, r)| r.still += time);
    }

    /// Who has stood still for longer than `limit` before `last`.
    pub fn hangs(&self, last: u32, limit: Duration) -> Option<String> {
        let mut shards = self.shards.iter();
        let ((region, shard), reached) = shards.find(|(_, r)| r.clock < last && r.still > limit)?;
        Some(format!("shard {shard} of {region} stands still at clock {}", reached.clock))
    }
}

/// Where a process is, and whom it waits for.
pub fn line(status: &Status) -> String {
    let mut text = format!("{} of {}: {:?}", status.role, status.datacenter, status.phase);
    for shard in status.servers.iter().flat_map(|server| &server.shards) {
        let _ = write!(text, "; shard {} at {}", shard.shard, shard.clock);
        for hold in &shard.holds {
            let (worker, seconds, reason) = (hold.worker, hold.seconds, &hold.reason);
            let _ = write!(text, ", holds worker {worker} for {seconds:.1} s: {reason}");
            let _ = hold.datacenter.iter().try_for_each(|whom| write!(text, " of {whom}"));
        }
    }
    for worker in &status.workers {
        let _ = write!(text, "; at {}", worker.clock);
    }
    format!("{text}; waits for {:?}", status.waiting_for)
}
