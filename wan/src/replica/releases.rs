//! What a shard has released, and as which process.
//!
//! Releases are counted over all processes that a shard has had: mirrors say how much they have of
//! them by that count. What the filter has released is kept here until it goes into the ledger and
//! the outboxes.
//!
//! Kind: time-free.

use datacenter::{Clock, Elements};

use super::mirror::Mirror;
use crate::ledger::Ledger;

/// What a shard has released.
#[derive(Debug)]
pub(super) struct Releases {
    /// How many there have been, counted over all processes that this shard has had.
    pub(super) count: u32,
    /// This process.
    pub(super) life: u64,
    /// How many had been counted when this process made its first.
    first_count: Option<u32>,
    /// What was released, and has yet to be [shipped](Self::ship).
    pub(super) unshipped: Vec<Elements>,
    /// What of the filter's count of the naive baseline has been shared out to mirrors.
    naive_shared_bytes: u64,
}

impl Releases {
    /// None yet, in the first process.
    pub(super) fn new() -> Self {
        Self { count: 0, life: 1, first_count: None, unshipped: Vec::new(), naive_shared_bytes: 0 }
    }

    /// From which count on a mirror that has last heard of process `life` may have had releases of
    /// this process: it has them from others, where that is no earlier process.
    pub(super) fn own_from(&self, life: u64) -> Option<u32> {
        self.first_count.filter(|_| life >= self.life)
    }

    /// One more, at the end of `clock`.
    pub(super) fn count_clock(&mut self, clock: Clock) {
        // Whoever counts from a checkpoint on may be ahead of its clock.
        self.count = clock.0.max(self.count + 1);
    }

    /// Moves what was released into the ledger of our `own` releases and every outbox.
    pub(super) fn ship(&mut self, own: &mut Ledger, mirrors: &mut [Mirror]) {
        if !self.unshipped.is_empty() {
            self.first_count.get_or_insert(self.count);
            own.life = self.life;
        }
        for delta in self.unshipped.drain(..) {
            let known = own.add(&delta, self.count);
            debug_assert!(known.is_empty(), "each release counts one more");
            mirrors.iter_mut().for_each(|m| m.outbox.push(&delta));
        }
    }

    /// Counts what the naive baseline, which has released `naive_bytes` in all, would have shipped
    /// now, to each mirror that is there: it ships nothing to others either.
    pub(super) fn share_naive(&mut self, naive_bytes: u64, mirrors: &mut [Mirror]) {
        let fresh = naive_bytes - std::mem::replace(&mut self.naive_shared_bytes, naive_bytes);
        for mirror in mirrors.iter_mut().filter(|mirror| !mirror.state.is_away()) {
            mirror.naive_payload_bytes += fresh;
        }
    }
}
