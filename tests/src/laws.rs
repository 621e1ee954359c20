//! What must hold, judged from outside: by what was sent, delivered and read, not by what a node believes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use datacenter::message::{Read, ReadReply};
use datacenter::{Clock, ShardTable};
use wan::message::{Progress, ShardControl, Update};

/// A row that was announced.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    /// The first update that can bring it.
    from_seq: u64,
    /// When it was announced.
    since: Duration,
}

/// One receiver's knowledge of one sender, for one shard.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// Announced rows that have not come: `(table, slot)`.
    announced: BTreeMap<(u16, u32), Awaited>,
    /// The latest update that brought a row.
    brought: BTreeMap<(u16, u32), u64>,
    /// Delivered numbers.
    delivered: BTreeMap<u64, ()>,
    /// The sum of what came for the first element of the first table, each update once.
    counted: f32,
    progress: Vec<Progress>,
}

impl Witness {
    /// An update was delivered, for the first time or again.
    pub fn see_update(&mut self, update: &Update, shapes: &[ShardTable]) {
        if self.delivered.insert(update.seq, ()).is_none() {
            let first = update.deltas.iter().filter(|d| d.table.0 == 0 && d.indexes.first() == Some(&0));
            self.counted += first.map(|d| d.values[0]).sum::<f32>();
        }
        for delta in &update.deltas {
            let width = shapes[delta.table.index()].width;
            for index in &delta.indexes {
                let row = (delta.table.0, index / width);
                let latest = self.brought.entry(row).or_default();
                *latest = (*latest).max(update.seq);
                if let Entry::Occupied(awaited) = self.announced.entry(row)
                    && awaited.get().from_seq <= update.seq
                {
                    awaited.remove();
                }
            }
        }
    }

    /// A control message was delivered at `now`.
    pub fn see_control(&mut self, control: &ShardControl, now: Duration) {
        for barrier in &control.barriers {
            for slot in &barrier.slots {
                let row = (barrier.table.0, *slot);
                if self.brought.get(&row).copied().unwrap_or(0) < barrier.from_seq {
                    let awaited = self.announced.entry(row).or_insert(Awaited { from_seq: 0, since: now });
                    awaited.from_seq = awaited.from_seq.max(barrier.from_seq);
                }
            }
        }
        self.progress.extend(control.progress);
    }

    /// The sender's clock as far as all its data has been delivered.
    pub fn arrived_clock(&self) -> Clock {
        let through = (1..).take_while(|seq| self.delivered.contains_key(seq)).last().unwrap_or(0);
        let whole = self.progress.iter().filter(|p| p.covered_seq <= through);
        whole.map(|p| p.covered).max().unwrap_or_default()
    }

    /// The sender's clock by what has been delivered, whatever it claims: where everything is shipped and each of its
    /// `workers` adds one to the first element at each clock.
    pub fn counted_clock(&self, workers: u32) -> Clock {
        Clock(self.counted as u32 / workers)
    }

    /// Law 4: no read returns a row announced and not arrived, nor any row when the lead exceeds `lead`.
    ///
    /// Only what was announced before `before` counts: where the answer was given at the same instant, which of the two
    /// came first may not be known.
    ///
    /// # Errors
    ///
    /// With what was violated.
    pub fn check_read(
        &self,
        read: &Read,
        reply: &ReadReply,
        lead: Option<u32>,
        before: Duration,
    ) -> Result<(), String> {
        let is_awaited = |table, slot| self.announced.get(&(table, slot)).is_some_and(|a| a.since < before);
        for group in &read.groups {
            if let Some(slot) = group.slots.iter().find(|slot| is_awaited(group.table.0, **slot)) {
                return Err(format!(
                    "{} row slot {slot} was read while announced and not arrived",
                    group.table
                ));
            }
        }
        let arrived = self.arrived_clock();
        match lead {
            Some(lead) if reply.clock.lead_over(arrived) > lead => {
                Err(format!("read at {} while the mirror's data is at {arrived}, DS is {lead}", reply.clock))
            }
            _ => Ok(()),
        }
    }
}
