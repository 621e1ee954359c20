//! What a replica tells its [anticipation](crate::anticipation), and how it tells the shard that rows read differently.
//!
//! Kind: time-free.

use datacenter::{Clock, Elements, TableId};

use super::Replica;

impl Replica {
    /// `g` of each table, and what it is estimated to be, where reads anticipate.
    pub fn anticipation(&self) -> Option<&crate::anticipation::Anticipation> {
        self.anticipation.as_ref()
    }

    /// What is unshipped was released at the end of `clock`.
    pub(super) fn anticipate_released(&mut self, clock: Clock) {
        self.anticipate_answers();
        let Some(anticipation) = &mut self.anticipation else { return };
        let shard = &mut self.shard;
        anticipation.release(clock, &self.releases.unshipped, &mut |table, slot| shard.touch(table, [slot]));
    }

    /// How alike updates of a table are: what is expected of each peer for what one has done oneself, near one where it does the
    /// same, below zero where it undoes it. None where that is not known.
    pub fn likeness(&self, table: TableId) -> Option<f64> {
        self.anticipation.as_ref()?.likeness(table)
    }

    /// That of the least alike table.
    pub fn least_likeness(&self) -> Option<f64> {
        self.anticipation.as_ref()?.least_likeness()
    }

    /// A clock has ended.
    pub(super) fn anticipate_clock(&mut self) {
        let Some(anticipation) = &mut self.anticipation else {
            self.filter.give_leeway(None, false);
            return;
        };
        let shard = &mut self.shard;
        let moved: Vec<_> = anticipation.end_clock().collect();
        self.filter.give_leeway(anticipation.least_likeness(), anticipation.is_opposed());
        for table in moved {
            let slots = shard.shape(table).map_or(0, |shape| shape.slots);
            let accumulated = self.filter.accumulated(table);
            let is_other = |slot: &u32| anticipation.has_unanswered(table, *slot, accumulated);
            shard.touch(table, (0..slots).filter(is_other));
        }
    }

    /// These deltas of a mirror are new.
    pub(super) fn anticipate_arrived(&mut self, peer: usize, deltas: &[Elements]) {
        if let Some(anticipation) = &mut self.anticipation {
            deltas.iter().for_each(|delta| anticipation.arrive(peer, delta));
        }
    }

    /// Mirrors may have come further, or be waited for or not.
    pub(super) fn anticipate_answers(&mut self) {
        let Some(anticipation) = &mut self.anticipation else { return };
        let shard = &mut self.shard;
        for (peer, mirror) in self.mirrors.iter().enumerate() {
            let clock = mirror.state.is_waited_for().then(|| mirror.inbox.arrived_clock());
            anticipation.answer(peer, clock, &mut |table, slot| shard.touch(table, [slot]));
        }
    }
}
