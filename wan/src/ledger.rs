//! What each datacenter has released of its own updates, summed up: the parts of which the values of a table are made.
//!
//! An update adds to a row, so a replica that only keeps the values cannot tell what of them it had from whom, nor give back
//! what a datacenter has lost. A ledger keeps the sum of one datacenter's releases, row by row, and with each row a *stamp*:
//! how many releases its datacenter had counted when the row was like that. All that is pending of a row goes in one
//! update, so rows are whole, and of two replicas' rows the one with the larger stamp has everything that the other has. Merging
//! is to take that one: it can be done again and in any order, whoever had the row from whom.
//!
//! Deltas that are small against what a datacenter has released of an element in sum must count there as they do in the
//! values, which may be small: so sums are rounded as values are, by a sequence. It goes by the count of releases, which is the
//! same wherever an update is added.
//!
//! Memory: as much as the values, and four bytes a row, for each datacenter; touched pages only.
//!
//! Kind: time-free.

use std::collections::BTreeSet;

use datacenter::sums::Rounding;
use datacenter::{DatacenterId, Elements, ShardTable, TableId};

use crate::message::Origin;
use crate::state::ReleasedTable;

/// The releases of one datacenter for one shard.
#[derive(Clone, Debug)]
pub struct Ledger {
    tables: Vec<LedgerTable>,
    newest: u32,
    /// The latest process of the datacenter of which anything is here; zero for none.
    pub life: u64,
}

#[derive(Clone, Debug)]
struct LedgerTable {
    width: usize,
    sums: Vec<f32>,
    stamps: Vec<u32>,
}

impl Ledger {
    /// Nothing released for tables of these shapes.
    pub fn new(shapes: &[ShardTable]) -> Self {
        let table = |shape: &ShardTable| LedgerTable {
            width: shape.width as usize,
            sums: vec![0.0; shape.elements()],
            stamps: vec![0; shape.slots as usize],
        };
        Self { tables: shapes.iter().map(table).collect(), newest: 0, life: 0 }
    }

    /// What a checkpoint has kept; none if it is not for tables of these shapes.
    pub fn from_state(tables: Vec<ReleasedTable>, shapes: &[ShardTable]) -> Option<Self> {
        let fits = |(table, shape): (&ReleasedTable, &ShardTable)| {
            table.sums.len() == shape.elements() && table.stamps.len() == shape.slots as usize
        };
        if tables.len() != shapes.len() || !tables.iter().zip(shapes).all(fits) {
            return None;
        }
        let newest = tables.iter().flat_map(|table| &table.stamps).max().copied().unwrap_or(0);
        let tables = tables.into_iter().zip(shapes).map(|(table, shape)| LedgerTable {
            width: shape.width as usize,
            sums: table.sums,
            stamps: table.stamps,
        });
        Some(Self { tables: tables.collect(), newest, life: 0 })
    }

    /// A copy for a checkpoint.
    pub fn to_state(&self) -> Vec<ReleasedTable> {
        let table = |t: &LedgerTable| ReleasedTable { sums: t.sums.clone(), stamps: t.stamps.clone() };
        self.tables.iter().map(table).collect()
    }

    /// The largest stamp of all rows.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// A row's sums and its stamp.
    pub fn row(&self, table: TableId, slot: u32) -> (&[f32], u32) {
        let table = &self.tables[table.index()];
        let start = slot as usize * table.width;
        (&table.sums[start..start + table.width], table.stamps[slot as usize])
    }

    /// Rows with a stamp above `count`.
    pub fn newer_than(&self, count: u32) -> impl Iterator<Item = (TableId, u32)> {
        (0..).map(TableId).zip(&self.tables).flat_map(move |(id, table)| {
            let newer = table.stamps.iter().enumerate().filter(move |(_, stamp)| **stamp > count);
            newer.map(move |(slot, _)| (id, slot as u32))
        })
    }

    /// Adds deltas that were released at `count` or before. Yields those of rows that have them already: rows that came
    /// whole from somebody who had them earlier.
    pub fn add(&mut self, deltas: &Elements, count: u32) -> Elements {
        self.newest = self.newest.max(count);
        let rounding = Rounding::of(u64::from(count));
        let table = &mut self.tables[deltas.table.index()];
        let width = table.width as u32;
        let mut known = Elements::new(deltas.table);
        let (mut row_end, mut is_known) = (0, false);
        for (&index, &delta) in deltas.indexes.iter().zip(&deltas.values) {
            if index >= row_end {
                let slot = index / width;
                row_end = (slot + 1).saturating_mul(width);
                let stamp = &mut table.stamps[slot as usize];
                is_known = *stamp >= count;
                *stamp = count.max(*stamp);
            }
            match is_known {
                false => {
                    let sum = &mut table.sums[index as usize];
                    *sum = rounding.add(*sum, delta, index);
                }
                true => known.push(index, delta),
            }
        }
        known
    }

    /// Puts a whole row in the place of what is there, if its stamp is larger; appends by how much each element
    /// changed to `changes`.
    pub fn merge(&mut self, table: TableId, slot: u32, row: &[f32], stamp: u32, changes: &mut Elements) {
        let place = &mut self.tables[table.index()];
        if place.stamps[slot as usize] >= stamp {
            return;
        }
        place.stamps[slot as usize] = stamp;
        self.newest = self.newest.max(stamp);
        let start = slot as usize * place.width;
        for (i, (sum, &value)) in place.sums[start..start + place.width].iter_mut().zip(row).enumerate() {
            let change = value - std::mem::replace(sum, value);
            if change != 0.0 {
                changes.push((start + i) as u32, change);
            }
        }
    }

    /// Adds to single elements of a row, whatever its stamp, and sets that.
    pub fn correct(&mut self, deltas: &Elements, stamp: u32) {
        let rounding = Rounding::of(u64::from(stamp));
        let table = &mut self.tables[deltas.table.index()];
        for (&index, &delta) in deltas.indexes.iter().zip(&deltas.values) {
            let sum = &mut table.sums[index as usize];
            *sum = rounding.add(*sum, delta, index);
            table.stamps[index as usize / table.width] = stamp;
        }
        self.newest = self.newest.max(stamp);
    }

    /// Gives all rows with stamps above `count` the stamp `to`.
    pub fn restamp(&mut self, count: u32, to: u32) {
        for stamp in self.tables.iter_mut().flat_map(|table| &mut table.stamps).filter(|s| **s > count) {
            *stamp = to;
            self.newest = self.newest.max(to);
        }
    }

    /// The sums of a table, `[slots * width]`.
    pub fn sums(&self, table: TableId) -> &[f32] {
        &self.tables[table.index()].sums
    }
}

/// The ledgers of all datacenters, as one replica has them.
#[derive(Debug)]
pub struct Ledgers {
    /// Its own datacenter's.
    pub own: Ledger,
    /// Those of its mirrors, in their order.
    pub mirrors: Vec<(DatacenterId, Ledger)>,
}

impl Ledgers {
    /// The ledger of `origin`, in words with the mirror at place `mirror`; none if that is no single datacenter, or none of
    /// the job.
    pub fn said_to(&self, mirror: usize, origin: Origin) -> Option<&Ledger> {
        match origin {
            Origin::All => None,
            Origin::Sender => Some(&self.own),
            Origin::Receiver => self.mirrors.get(mirror).map(|(_, ledger)| ledger),
            Origin::Other(id) => self.mirrors.iter().find_map(|(of, ledger)| (*of == id).then_some(ledger)),
        }
    }

    /// Rows of which something has been released, by anybody.
    pub fn released(&self) -> BTreeSet<(TableId, u32)> {
        let all = self.mirrors.iter().map(|(_, ledger)| ledger).chain([&self.own]);
        all.flat_map(|ledger| ledger.newer_than(0)).collect()
    }

    /// Appends what all have released of a row, in sum.
    pub fn add_up(&self, table: TableId, slot: u32, values: &mut Vec<f32>) {
        let first = values.len();
        values.extend_from_slice(self.own.row(table, slot).0);
        for (_, ledger) in &self.mirrors {
            let row = ledger.row(table, slot).0;
            values[first..].iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }

    /// The place of a mirror.
    pub fn place(&self, id: DatacenterId) -> Option<usize> {
        self.mirrors.iter().position(|(of, _)| *of == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId(0);

    fn ledger() -> Ledger {
        Ledger::new(&[ShardTable { slots: 4, width: 2 }])
    }

    fn deltas(elements: &[(u32, f32)]) -> Elements {
        let (indexes, values) = elements.iter().copied().unzip();
        Elements { table: TABLE, indexes, values }
    }

    #[test]
    fn of_two_rows_the_one_with_the_larger_stamp_has_everything() {
        let (mut one, mut other) = (ledger(), ledger());
        for ledger in [&mut one, &mut other] {
            assert!(ledger.add(&deltas(&[(2, 1.0), (3, 2.0)]), 1).is_empty());
        }
        other.add(&deltas(&[(3, 4.0), (6, 8.0)]), 2);
        let rows: Vec<_> = other.newer_than(1).collect();
        assert_eq!(rows, [(TABLE, 1), (TABLE, 3)]);
        let mut changes = Elements::new(TABLE);
        for (table, slot) in rows.iter().chain(&rows) {
            let (row, stamp) = other.row(*table, *slot);
            one.merge(*table, *slot, row, stamp, &mut changes);
        }
        assert_eq!(changes, deltas(&[(3, 4.0), (6, 8.0)]), "each once, though they came twice");
        assert_eq!((one.row(TABLE, 1), one.newest()), ((&[1.0, 6.0][..], 2), 2));
        one.merge(TABLE, 1, &[0.0, 0.0], 1, &mut changes);
        assert_eq!(one.row(TABLE, 1), (&[1.0, 6.0][..], 2), "an older row changes nothing");
    }

    #[test]
    fn deltas_that_a_whole_row_had_before_are_not_added_again() {
        let mut ledger = ledger();
        ledger.merge(TABLE, 1, &[5.0, 0.0], 3, &mut Elements::new(TABLE));
        let known = ledger.add(&deltas(&[(0, 1.0), (2, 5.0)]), 3);
        assert_eq!(known, deltas(&[(2, 5.0)]));
        assert!(ledger.add(&deltas(&[(2, 2.0)]), 4).is_empty());
        assert_eq!(ledger.sums(TABLE)[..4], [1.0, 0.0, 7.0, 0.0]);
    }

    #[test]
    fn small_deltas_add_up_beside_large_ones() {
        let mut ledger = ledger();
        ledger.add(&deltas(&[(2, 8.0)]), 1);
        (2..=100_001).for_each(|count| _ = ledger.add(&deltas(&[(2, 2.5e-8)]), count));
        let (sum, step) = (ledger.sums(TABLE)[2], 8f32.next_up() - 8.0);
        assert!((sum - 8.0025).abs() < 8.0 * step, "{sum}");
    }
}
