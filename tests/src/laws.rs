//! What must hold, judged from outside: by what was sent, delivered and read, not by what a node
//! believes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use datacenter::message::{Read, ReadReply};
use datacenter::{Clock, ShardTable};
use wan::message::{Progress, ShardControl, Update};

/// A row that was announced, whether it has come since or not.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    /// The first update that can bring it.
    from_seq: u64,
    /// When it was announced.
    since: Duration,
}

/// One receiver's knowledge of one sender, for one shard.
#[derive(Clone, Debug, Default)]
pub struct InvariantChecker {
    /// The latest stream of which something was delivered: numbers count anew in each.
    stream: u32,
    /// Announced rows: `(table, slot)`.
    announced: BTreeMap<(u16, u32), Awaited>,
    /// The rows of each update that is known, by stream and number, whether it has come or not.
    rows: BTreeMap<(u32, u64), BTreeSet<(u16, u32)>>,
    /// Delivered numbers.
    delivered: BTreeSet<u64>,
    /// The sender's clock as far as its data had been delivered in streams before.
    arrived_before: Clock,
    /// The sum of what came for the first element of the first table, each update once.
    counted: f32,
    progress: Vec<Progress>,
}

impl InvariantChecker {
    /// The sender made an update. Where this is not told, only what is delivered is known.
    pub fn see_sent(&mut self, update: &Update, shapes: &[ShardTable]) {
        let rows = update.deltas.iter().flat_map(|delta| {
            let width = shapes[delta.table.index()].width;
            delta.indexes.iter().map(move |index| (delta.table.0, index / width))
        });
        self.rows.entry((update.stream, update.seq)).or_insert_with(|| rows.collect());
    }

    /// An update was delivered, for the first time or again.
    pub fn see_update(&mut self, update: &Update, shapes: &[ShardTable]) {
        self.see_sent(update, shapes);
        if self.is_current(update.stream) && self.delivered.insert(update.seq) {
            let first = update.deltas.iter().filter(|d| d.table.0 == 0 && d.indexes.first() == Some(&0));
            self.counted += first.map(|d| d.values[0]).sum::<f32>();
        }
    }

    /// A control message was delivered at `now`.
    pub fn see_control(&mut self, control: &ShardControl, now: Duration) {
        if !self.is_current(control.stream) {
            return;
        }
        for barrier in &control.barriers {
            for slot in &barrier.slots {
                let row = (barrier.table.0, *slot);
                let before = self.announced.get(&row).filter(|a| !self.has_come(row, a.from_seq));
                let from_seq = before.map_or(0, |a| a.from_seq).max(barrier.from_seq);
                let since = before.map_or(now, |a| a.since);
                self.announced.insert(row, Awaited { from_seq, since });
            }
        }
        self.progress.extend(control.progress);
    }

    /// Whether something of `stream` counts. Where it is a new one, nothing of those before does.
    fn is_current(&mut self, stream: u32) -> bool {
        if stream > self.stream {
            self.arrived_before = self.arrived_clock();
            self.stream = stream;
            self.announced.clear();
            self.delivered.clear();
            self.progress.clear();
        }
        stream == self.stream
    }

    /// Whether the first update from `from_seq` on that has `row` was delivered. An update of which
    /// nothing is known may have it.
    fn has_come(&self, row: (u16, u32), from_seq: u64) -> bool {
        let has_row = |seq| self.rows.get(&(self.stream, seq)).map(|rows| rows.contains(&row));
        let first = (from_seq..).find(|seq| has_row(*seq) != Some(false)).expect("some number is unknown");
        self.delivered.contains(&first)
    }

    /// The sender's clock as far as all its data has been delivered.
    pub fn arrived_clock(&self) -> Clock {
        let through = (1..).take_while(|seq| self.delivered.contains(seq)).last().unwrap_or(0);
        let whole = self.progress.iter().filter(|p| p.covered_seq <= through);
        whole.map(|p| p.covered).max().unwrap_or_default().max(self.arrived_before)
    }

    /// The sender's clock by what has been delivered, whatever it claims: where everything is
    /// shipped and each of its `workers` adds one to the first element at each clock.
    pub fn counted_clock(&self, workers: u32) -> Clock {
        Clock(self.counted as u32 / workers)
    }

    /// Law 4: no read returns a row announced and not arrived, nor any row when the lead exceeds
    /// `lead`, as which counts that of the reader or of its shard, whichever is less.
    ///
    /// Only what was announced before `before` counts: where the answer was given at the same
    /// instant, which of the two came first may not be known.
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
        let is_awaited = |table, slot| {
            let awaited = self.announced.get(&(table, slot)).filter(|a| a.since < before);
            awaited.is_some_and(|a| !self.has_come((table, slot), a.from_seq))
        };
        for group in &read.groups {
            if let Some(slot) = group.slots.iter().find(|slot| is_awaited(group.table.0, *slot)) {
                return Err(format!(
                    "{} row slot {slot} was read while announced and not arrived",
                    group.table
                ));
            }
        }
        let arrived = self.arrived_clock();
        let clock = reply.clock.min(read.clock);
        match lead {
            Some(lead) if clock.lead_over(arrived) > lead => {
                Err(format!("read at {clock} while the mirror's data is at {arrived}, DS is {lead}"))
            }
            _ => Ok(()),
        }
    }
}
