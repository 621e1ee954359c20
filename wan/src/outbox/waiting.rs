//! What waits for a mirror, summed by element, in rows that queue (time-free).

use std::collections::VecDeque;
use std::ops::Range;

use datacenter::sums::Rounding;
use datacenter::{Elements, ShardTable, TableId};

use super::WAITING_ELEMENT_BYTES;
use crate::message::Barrier;

/// Elements of a table for which an empty queue keeps its memory; a backlog's is given back.
const KEPT_ELEMENTS: usize = 64 * 1024;

/// Deltas summed by element, in rows that queue.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) tables: Vec<WaitingTable>,
    pub(super) queue: VecDeque<(TableId, u32)>,
    /// How many rows have ever left the queue: the place of its head.
    pub(super) head: u64,
    /// Rows at places before this one have been announced.
    announced_to: u64,
    /// How many elements have a sum other than zero.
    pub(super) elements: u64,
    /// How often something was added, by which sums are rounded.
    additions: u64,
}

/// Rows are kept in a slab, so that memory follows what waits and not the table.
#[derive(Debug)]
pub(super) struct WaitingTable {
    width: usize,
    /// By slot: one more than the row's place in the slab; zero where nothing waits.
    place: Vec<u32>,
    pub(super) slab: Vec<f32>,
    free: Vec<u32>,
}

/// What leaves the queue as one update.
pub(super) struct Taken {
    pub(super) deltas: Vec<Elements>,
    /// Its rows that were announced, ascending.
    pub(super) announced: Vec<(TableId, u32)>,
}

/// Announcements of `rows`, which ascend, by table.
pub(super) fn barriers(rows: &[(TableId, u32)], from_seq: u64) -> impl Iterator<Item = Barrier> {
    rows.chunk_by(|a, b| a.0 == b.0).map(move |rows| Barrier {
        table: rows[0].0,
        slots: rows.iter().map(|(_, slot)| *slot).collect(),
        from_seq,
    })
}

impl Waiting {
    pub(super) fn new(shapes: &[ShardTable]) -> Self {
        let tables = shapes.iter().map(|shape| WaitingTable {
            width: shape.width as usize,
            place: vec![0; shape.slots as usize],
            slab: Vec::new(),
            free: Vec::new(),
        });
        Self {
            tables: tables.collect(),
            queue: VecDeque::new(),
            head: 0,
            announced_to: 0,
            elements: 0,
            additions: 0,
        }
    }

    /// The shapes of its tables.
    pub(super) fn shapes(&self) -> impl Iterator<Item = ShardTable> {
        let shape = |t: &WaitingTable| ShardTable { slots: t.place.len() as u32, width: t.width as u32 };
        self.tables.iter().map(shape)
    }

    pub(super) fn tail(&self) -> u64 {
        self.head + self.queue.len() as u64
    }

    pub(super) fn add(&mut self, delta: &Elements) {
        self.additions += 1;
        let rounding = Rounding::of(self.additions);
        let table = &mut self.tables[delta.table.index()];
        let width = table.width as u32;
        let (mut row_start, mut row_end, mut place) = (0, 0, 0);
        for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
            if index >= row_end {
                let slot = index / width;
                (row_start, row_end) = (slot * width, (slot + 1).saturating_mul(width));
                let is_new = table.place[slot as usize] == 0;
                place = table.claim(slot);
                if is_new {
                    self.queue.push_back((delta.table, slot));
                }
            }
            let sum = &mut table.slab[place * table.width + (index - row_start) as usize];
            let was_waiting = *sum != 0.0;
            *sum = rounding.add(*sum, value, index);
            self.elements += u64::from(*sum != 0.0);
            self.elements -= u64::from(was_waiting);
        }
    }

    /// Forgets the sums of a row, which keeps its place in the queue.
    pub(super) fn clear(&mut self, table: TableId, slot: u32) {
        let table = &mut self.tables[table.index()];
        if let Some(place) = (table.place[slot as usize] as usize).checked_sub(1) {
            let row = &mut table.slab[place * table.width..(place + 1) * table.width];
            self.elements -= row.iter().filter(|sum| **sum != 0.0).count() as u64;
            row.fill(0.0);
        }
    }

    /// Takes rows from the head of the queue, about `target_bytes` of them and at least one.
    pub(super) fn take(&mut self, target_bytes: usize) -> Option<Taken> {
        let mut rows = Vec::new();
        let mut elements = 0;
        // A row is charged for one element more, so that empty ones end too.
        while (elements + rows.len() as u64) * WAITING_ELEMENT_BYTES < target_bytes as u64 {
            let Some((table, slot)) = self.queue.pop_front() else { break };
            elements += self.tables[table.index()].row(slot).iter().filter(|v| **v != 0.0).count() as u64;
            rows.push((table, slot, self.head < self.announced_to));
            self.head += 1;
        }
        self.elements -= elements;
        if rows.is_empty() {
            return None;
        }
        rows.sort_unstable();
        let mut deltas: Vec<Elements> = Vec::new();
        for &(table, slot, is_announced) in &rows {
            if deltas.last().is_none_or(|d| d.table != table) {
                deltas.push(Elements::new(table));
            }
            let out = deltas.last_mut().expect("pushed if there was none");
            self.tables[table.index()].release(slot, is_announced, out);
        }
        if self.queue.is_empty() {
            self.tables.iter_mut().for_each(WaitingTable::shrink);
        }
        let announced = rows.into_iter().filter(|row| row.2).map(|(table, slot, _)| (table, slot));
        Some(Taken { deltas, announced: announced.collect() })
    }

    /// Announces the rows that wait and were not announced before; linear in their number.
    pub(super) fn announce(&mut self, from_seq: u64) -> Vec<Barrier> {
        let known = self.announced_to.saturating_sub(self.head) as usize;
        self.announced_to = self.tail();
        self.barriers(known..self.queue.len(), from_seq)
    }

    /// Announces again the rows that wait and were announced before.
    pub(super) fn announced(&self, from_seq: u64) -> Vec<Barrier> {
        self.barriers(0..self.announced_to.saturating_sub(self.head) as usize, from_seq)
    }

    fn barriers(&self, places: Range<usize>, from_seq: u64) -> Vec<Barrier> {
        let mut rows: Vec<_> = self.queue.range(places).copied().collect();
        rows.sort_unstable();
        barriers(&rows, from_seq).collect()
    }
}

impl WaitingTable {
    /// The row's place in the slab; a zeroed one if it had none.
    fn claim(&mut self, slot: u32) -> usize {
        if self.place[slot as usize] == 0 {
            let place = self.free.pop().unwrap_or_else(|| {
                self.slab.resize(self.slab.len() + self.width, 0.0);
                (self.slab.len() / self.width) as u32 - 1
            });
            self.place[slot as usize] = place + 1;
        }
        self.place[slot as usize] as usize - 1
    }

    fn row(&self, slot: u32) -> &[f32] {
        let place = self.place[slot as usize] as usize - 1;
        &self.slab[place * self.width..(place + 1) * self.width]
    }

    /// Moves the row's sums to `out` and forgets the row.
    fn release(&mut self, slot: u32, is_announced: bool, out: &mut Elements) {
        let place = std::mem::take(&mut self.place[slot as usize]) as usize - 1;
        let first = slot * self.width as u32;
        let before = out.len();
        for (column, sum) in self.slab[place * self.width..(place + 1) * self.width].iter_mut().enumerate() {
            if *sum != 0.0 {
                out.push(first + column as u32, std::mem::take(sum));
            }
        }
        if is_announced && out.len() == before {
            // The sums cancelled, but the peer holds its readers until the row comes: a zero frees them.
            out.push(first, 0.0);
        }
        self.free.push(place as u32);
    }

    /// Gives back the memory of a backlog that is over. Nothing may wait.
    fn shrink(&mut self) {
        if self.slab.len() > KEPT_ELEMENTS {
            (self.slab, self.free) = (Vec::new(), Vec::new());
        }
    }
}
