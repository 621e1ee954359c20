//! Checkpoints: written beside the training, one file at a time, and given up where the disk is
//! full.

use std::collections::BTreeMap;

use datacenter::{Clock, DatacenterId, ShardId};
use rand::RngExt;
use wan::state::ReplicaState;

use super::servers::Process;
use super::{Cluster, Event, REDIAL};

/// How many of a shard are kept.
const KEPT: usize = 2;

/// What a process has taken of its shards, and is not on the disk yet: it dies with it.
#[derive(Default)]
pub(super) struct Keeper {
    /// The last clock that each shard was asked for.
    seen: BTreeMap<ShardId, Clock>,
    /// One of each shard; a newer one takes its place.
    waiting: BTreeMap<ShardId, ReplicaState>,
    writing: Option<ReplicaState>,
    /// Whose turn was last.
    last: Option<ShardId>,
}

impl Keeper {
    /// One for shards that begin with these clocks.
    pub(super) fn new(begins: impl Iterator<Item = (ShardId, Clock)>) -> Self {
        Self { seen: begins.collect(), ..Self::default() }
    }

    /// Whether the state of a shard that has completed `clock` is to be kept, in a job with so many
    /// clocks.
    fn is_due(&mut self, shard: ShardId, clock: Clock, every: u32, last: u32) -> bool {
        let before = self.seen.insert(shard, clock).unwrap_or_default();
        before.0 / every < clock.0 / every || (before.0 < last && last <= clock.0)
    }
}

impl Cluster {
    /// Takes the states of shards whose clock is due, to be written.
    pub(super) fn save(&mut self, process: usize) {
        let (every, last) = (self.plan.checkpoint_every, self.plan.clocks);
        let Process { server: (site, _), node: Some(node), keeper, .. } = &mut self.processes[process] else {
            return;
        };
        for replica in node.replicas().iter().filter(|replica| replica.may_be_kept()) {
            let shard = replica.shard();
            if keeper.is_due(shard.id(), shard.clock(), every, last) {
                keeper.waiting.insert(shard.id(), replica.state(DatacenterId(*site as u16)));
            }
        }
        self.write_next(process);
    }

    fn write_next(&mut self, process: usize) {
        let keeper = &mut self.processes[process].keeper;
        // In turn, as `gaia::service::checkpoint::Keeper` has it.
        let after = |shard: &ShardId| keeper.last.is_none_or(|last| *shard > last);
        let next = keeper.waiting.keys().copied().find(after).or(keeper.waiting.keys().next().copied());
        if keeper.writing.is_none()
            && let Some(shard) = next
        {
            (keeper.last, keeper.writing) = (Some(shard), keeper.waiting.remove(&shard));
            let takes = self.plan.max_write.mul_f64(self.rng.random_range(0.1..1.0));
            self.at(self.now + takes, Event::Written { process });
        }
    }

    /// A checkpoint is there, or could not be written. Only the newest are kept, and none of later
    /// clocks of a process whose place this one has taken.
    pub(super) fn written(&mut self, process: usize) {
        let Process { server: (site, _), node, is_frozen, keeper, .. } = &mut self.processes[process];
        let here = DatacenterId(*site as u16);
        if *is_frozen {
            self.at(self.now + REDIAL, Event::Written { process });
            return;
        }
        let site = &mut self.sites[*site];
        if let Some(state) = keeper.writing.take().filter(|_| node.is_some() && !site.is_disk_full) {
            let disk = &mut site.disk[state.shard.index()];
            if disk.iter().any(|kept| kept.life_of(here) > state.life_of(here)) {
                // Another process has taken its place, and keeps checkpoints.
                return self.write_next(process);
            }
            disk.retain(|kept| kept.clock <= state.clock || kept.life_of(here) == state.life_of(here));
            let place = disk.iter().take_while(|kept| kept.clock < state.clock).count();
            match disk.get_mut(place).filter(|kept| kept.clock == state.clock) {
                Some(kept) => *kept = state,
                None => disk.insert(place, state),
            }
            let later = disk.len() - place - 1;
            while disk.len() - later > KEPT {
                disk.pop_front();
            }
        }
        self.write_next(process);
    }
}
