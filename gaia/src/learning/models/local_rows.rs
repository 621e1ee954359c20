//! A learner's private copy of the rows of one table, for the length of one clock.
//!
//! The steps inside a clock read each other's results, but what is added to a table is what the
//! others will get: a learner that weighs its delta must not read the weighed one. So a clock
//! copies its rows once, works on the copy, and adds the difference once: inner loops run over one
//! dense matrix.

use datacenter::TableId;

use crate::learning::application::{RowSet, Tables};

/// Rows of one table, in the order in which they were claimed: a dense matrix of shape `[slots,
/// stride]`.
pub(crate) struct LocalRows {
    table: TableId,
    /// At least the width of the table; what is beyond it stays zero.
    stride: usize,
    /// One more than the slot of each row of the table; zero where it has none; shape `[rows]`. A
    /// look-up without hashing. Zeros are memory that the system gives when it is first written to.
    slot_of: Vec<u32>,
    /// The row in each slot.
    rows: Vec<u32>,
    /// As read at the start of the clock; shape `[slots, stride]`.
    before: Vec<f32>,
    /// As they are now; shape `[slots, stride]`.
    values: Vec<f32>,
}

impl LocalRows {
    /// No rows yet of a table of so many.
    pub(crate) fn new(table: TableId, rows: usize, stride: usize) -> Self {
        let (before, values) = (Vec::new(), Vec::new());
        Self { table, stride, slot_of: vec![0; rows], rows: Vec::new(), before, values }
    }

    /// Gives up all rows.
    pub(crate) fn clear(&mut self) {
        self.rows.drain(..).for_each(|row| self.slot_of[row as usize] = 0);
    }

    /// The slot of `row`, a new one where it has none.
    pub(crate) fn claim(&mut self, row: u32) -> u32 {
        let slot = &mut self.slot_of[row as usize];
        if *slot == 0 {
            self.rows.push(row);
            *slot = self.rows.len() as u32;
        }
        *slot - 1
    }

    /// The rows by slot; shape `[slots]`.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Declares all claimed rows.
    pub(crate) fn declare(&self, set: &mut RowSet) {
        self.rows.iter().for_each(|&row| set.insert(self.table, row));
    }

    /// Copies all claimed rows, which are those of the table that were declared.
    pub(crate) fn load(&mut self, tables: &dyn Tables) {
        self.before.clear();
        self.before.resize(self.rows.len() * self.stride, 0.0);
        for (slot, row) in self.before.chunks_exact_mut(self.stride).zip(tables.rows(self.table).rows()) {
            slot.iter_mut().zip(row).for_each(|(value, read)| *value = *read);
        }
        self.values.clone_from(&self.before);
    }

    /// All values; shape `[slots, stride]`.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values in `slot`; shape `[stride]`.
    pub(crate) fn row_mut(&mut self, slot: u32) -> &mut [f32] {
        &mut self.values[slot as usize * self.stride..][..self.stride]
    }

    /// Adds the change of every row to the table, times `scale(slot)`.
    pub(crate) fn add_changes(&self, scale: impl Fn(usize) -> f32, tables: &mut dyn Tables) {
        let changes = self.values.chunks_exact(self.stride).zip(self.before.chunks_exact(self.stride));
        let mut deltas = tables.deltas(self.table);
        for (slot, ((now, before), deltas)) in changes.zip(deltas.rows_mut()).enumerate() {
            if now == before {
                continue;
            }
            let scale = scale(slot);
            for (delta, (now, before)) in deltas.into_iter().zip(now.iter().zip(before)) {
                *delta = scale * (now - before);
            }
        }
    }
}
