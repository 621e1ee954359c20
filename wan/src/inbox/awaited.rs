//! The rows that selective barriers hold, and when each is free again.
//!
//! A barrier says that a row's values come in some update numbered `from_seq` or later; the first such update that
//! has the row is the one. Updates arrive out of order, so one that brings the row may be a later one, with the
//! announced values still on another stream. Hence a row is free once an update from `from_seq` on brought it *and*
//! every number up to that update's is applied.
//!
//! Kind: time-free.

use std::collections::BTreeMap;

use datacenter::rows::Slots;
use datacenter::{Elements, ShardTable, TableId};

use crate::message::Barrier;

/// The most rows that may ripen at a time, in multiples of the rows there are, before stale entries are dropped.
const RIPENING_SLACK: usize = 2;

/// Holds by row, over all tables of a shard.
#[derive(Debug)]
pub(super) struct AwaitedRows {
    tables: Vec<AwaitedTable>,
    /// How many rows are held.
    held: usize,
    /// Rows that an update brought while earlier numbers were missing, by that update's number.
    ripening: BTreeMap<u64, Vec<(TableId, u32)>>,
    /// How many entries `ripening` has.
    ripening_rows: usize,
}

/// 16 bytes a row: what a barrier costs to be exact whichever of announcement and values comes first.
#[derive(Debug)]
struct AwaitedTable {
    width: u32,
    /// By slot: the latest update that brought the row.
    brought: Vec<u64>,
    /// By slot: what its readers wait for.
    hold: Vec<Hold>,
}

/// What the readers of a row wait for, packed: the number of an update, and whether an update from that number on has
/// already brought the row and only earlier ones are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hold(u64);

impl Hold {
    const RIPENING: u64 = 1 << 63;

    /// An update from `seq` on must bring the row.
    fn until(seq: u64) -> Self {
        Self(seq & !Self::RIPENING)
    }

    fn is_free(self) -> bool {
        self.0 == 0
    }

    fn first_seq(self) -> u64 {
        self.0 & !Self::RIPENING
    }

    fn is_ripening(self) -> bool {
        self.0 & Self::RIPENING != 0
    }

    fn ripen(&mut self) {
        self.0 |= Self::RIPENING;
    }
}

impl AwaitedRows {
    /// No row of such tables is awaited.
    pub(super) fn new(shapes: &[ShardTable]) -> Self {
        let tables = shapes.iter().map(|shape| AwaitedTable {
            width: shape.width,
            brought: vec![0; shape.slots as usize],
            hold: vec![Hold::default(); shape.slots as usize],
        });
        Self { tables: tables.collect(), held: 0, ripening: BTreeMap::new(), ripening_rows: 0 }
    }

    /// How many rows are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether one of these rows is held.
    pub(super) fn holds_any(&self, table: TableId, slots: &Slots) -> bool {
        self.held > 0 && slots.iter().any(|slot| !self.tables[table.index()].hold[slot as usize].is_free())
    }

    /// How many entries wait for lower numbers.
    #[cfg(test)]
    pub(super) fn ripening_rows(&self) -> usize {
        self.ripening_rows
    }

    /// Holds the rows of a barrier that have not come; everything up to `through` is applied.
    pub(super) fn await_rows(&mut self, barrier: &Barrier, through: u64) {
        let table = &mut self.tables[barrier.table.index()];
        for &slot in &barrier.slots {
            let brought = table.brought[slot as usize];
            let hold = &mut table.hold[slot as usize];
            let has_come = brought >= barrier.from_seq && brought <= through;
            if has_come || hold.first_seq() >= barrier.from_seq {
                continue;
            }
            self.held += usize::from(hold.is_free());
            *hold = Hold::until(barrier.from_seq);
            if brought >= barrier.from_seq {
                hold.ripen();
                self.ripening.entry(brought).or_default().push((barrier.table, slot));
                self.ripening_rows += 1;
            }
        }
        self.drop_stale();
    }

    /// Notes that update `seq` brought the rows of `deltas`; everything up to `through` is applied, perhaps including it.
    pub(super) fn bring(&mut self, seq: u64, deltas: &[Elements], through: u64) {
        for delta in deltas {
            let table = &mut self.tables[delta.table.index()];
            let mut row_end = 0;
            for &index in &delta.indexes {
                if index < row_end {
                    continue;
                }
                let slot = index / table.width;
                row_end = (slot + 1).saturating_mul(table.width);
                let brought = &mut table.brought[slot as usize];
                *brought = (*brought).max(seq);
                let hold = &mut table.hold[slot as usize];
                if hold.is_free() || hold.first_seq() > seq {
                    continue;
                }
                if seq <= through {
                    *hold = Hold::default();
                    self.held -= 1;
                } else if !hold.is_ripening() {
                    hold.ripen();
                    self.ripening.entry(seq).or_default().push((delta.table, slot));
                    self.ripening_rows += 1;
                }
            }
        }
        self.free_ripe(through);
        self.drop_stale();
    }

    /// Frees what was brought by updates up to `through`.
    fn free_ripe(&mut self, through: u64) {
        while let Some(entry) = self.ripening.first_entry().filter(|entry| *entry.key() <= through) {
            let (seq, rows) = entry.remove_entry();
            self.ripening_rows -= rows.len();
            for (table, slot) in rows {
                let hold = &mut self.tables[table.index()].hold[slot as usize];
                // Another barrier may have come for the row in the meantime, or a lower number may have freed it.
                if !hold.is_free() && hold.first_seq() <= seq {
                    *hold = Hold::default();
                    self.held -= 1;
                }
            }
        }
    }

    /// Keeps what ripens within a multiple of the rows there are, however often a peer announces the same ones.
    fn drop_stale(&mut self) {
        let rows: usize = self.tables.iter().map(|table| table.hold.len()).sum();
        if self.ripening_rows <= RIPENING_SLACK * rows {
            return;
        }
        let tables = &self.tables;
        self.ripening.retain(|seq, rows| {
            rows.retain(|(table, slot)| {
                let hold = tables[table.index()].hold[*slot as usize];
                hold.is_ripening() && hold.first_seq() <= *seq
            });
            !rows.is_empty()
        });
        self.ripening_rows = self.ripening.values().map(Vec::len).sum();
    }
}
