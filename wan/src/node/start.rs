//! The start of a job: who is waited for before the first clock.
//!
//! A datacenter that begins alone trains a model of its own, and so do the others when they come. So everybody waits for
//! everybody at the start, however long that takes, unless the operator has said how long and how many suffice. From the first
//! clock on, [`Grace`](super::Grace) has it.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use super::Node;

/// For whom a datacenter waits at the start of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartPolicy {
    /// After so long it begins without those that have not come; none for never.
    pub wait: Option<Duration>,
    /// Provided that so many datacenters are there, itself among them, if only with some of their servers.
    pub min_datacenters: usize,
}

impl Default for StartPolicy {
    /// Waits for all of them.
    fn default() -> Self {
        Self { wait: None, min_datacenters: 1 }
    }
}

impl Node {
    /// The same, waiting at the start of the job as `policy` says.
    #[must_use]
    pub fn starting(self, policy: StartPolicy) -> Self {
        Self { start: policy, ..self }
    }

    /// Whether the job has begun, as far as is known here: all have met who are waited for, or somebody has completed a clock.
    pub fn has_begun(&self) -> bool {
        self.begun_at.is_some()
    }

    /// Takes note if the job has begun. Grace counts from then on for those who have not been heard yet.
    pub(super) fn note_beginning(&mut self, now: Instant) {
        if self.begun_at.is_some() {
            return;
        }
        let have_met = || (0..self.datacenters.len()).all(|mirror| self.has_met(mirror));
        let has_clocks = self.replicas.iter().any(|replica| replica.knows_of_clocks());
        if has_clocks || (self.replicas.iter().all(|replica| replica.is_ready()) && have_met()) {
            self.begun_at = Some(now);
            // From now on it depends on time.
            (0..self.datacenters.len()).for_each(|mirror| self.watch_mirror(mirror, now));
        }
    }

    /// When the job begins here without those that have not come, if it does.
    pub(super) fn starts_without_at(&self) -> Option<Instant> {
        let until = self.detector.since? + self.start.wait?;
        let is_here = |mirror: &usize| (0..self.replicas.len()).any(|at| self.is_linked(at, *mirror));
        let here = (0..self.datacenters.len()).filter(is_here).count();
        (here + 1 >= self.start.min_datacenters).then_some(until)
    }

    /// Whether nothing of another datacenter is waited for: each shard has a link with it, or is begun with without it. Of several
    /// servers of it some may have come, and others not.
    fn has_met(&self, mirror: usize) -> bool {
        (0..self.replicas.len()).all(|at| self.is_linked(at, mirror) || self.replicas[at].is_gone(mirror))
    }

    pub(super) fn is_linked(&self, at: usize, mirror: usize) -> bool {
        self.peers.iter().any(|peer| peer.is_up() && peer.mirror == mirror && peer.shards.contains(&at))
    }
}
