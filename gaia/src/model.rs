//! A model as values: at its start, in a worker's cache, and put together from its shards.
//!
//! Kind: time-free.

use datacenter::client::Client;
use datacenter::{Placement, ShardId, TableId, TableSpec};

use crate::application::{Application, Model, RowAccess};

/// Values of one shard, by table.
pub(crate) type ShardValues = Vec<Vec<f32>>;

/// A whole model, put together from its shards.
pub(crate) struct Snapshot<'a> {
    placement: Placement,
    widths: &'a [usize],
    shards: &'a [ShardValues],
}

impl<'a> Snapshot<'a> {
    /// The model with these shards, which are all there are; `widths` are those of its tables.
    pub(crate) fn new(placement: Placement, widths: &'a [usize], shards: &'a [ShardValues]) -> Self {
        Self { placement, widths, shards }
    }
}

impl Model for Snapshot<'_> {
    fn row(&self, table: TableId, row: u32) -> &[f32] {
        let width = self.widths[table.index()];
        let start = self.placement.slot_of(row) as usize * width;
        &self.shards[self.placement.shard_of(row).index()][table.index()][start..start + width]
    }
}

/// A whole model as its tables, each of shape `[rows * width]`.
pub(crate) struct Tables {
    widths: Vec<usize>,
    values: Vec<Vec<f32>>,
}

impl Tables {
    /// The model with these tables.
    pub(crate) fn new(specs: &[TableSpec], values: Vec<Vec<f32>>) -> Self {
        Self { widths: specs.iter().map(|spec| spec.width as usize).collect(), values }
    }
}

impl Model for Tables {
    fn row(&self, table: TableId, row: u32) -> &[f32] {
        let width = self.widths[table.index()];
        &self.values[table.index()][row as usize * width..(row as usize + 1) * width]
    }
}

/// A learner's view of its cache.
pub(crate) struct CachedRows<'a>(pub(crate) &'a mut Client);

impl RowAccess for CachedRows<'_> {
    fn row(&self, table: TableId, row: u32) -> &[f32] {
        self.0.row(table, row)
    }

    fn add(&mut self, table: TableId, row: u32, delta: &[f32]) {
        self.0.add(table, row, delta);
    }
}

/// The model at the start, by shard and table.
pub(crate) fn initial_values(
    application: &dyn Application,
    specs: &[TableSpec],
    placement: Placement,
) -> Vec<ShardValues> {
    let shards = (0..placement.shard_count()).map(ShardId);
    shards.map(|shard| initial_values_of(shard, application, specs, placement)).collect()
}

/// The same of one shard.
pub(crate) fn initial_values_of(
    shard: ShardId,
    application: &dyn Application,
    specs: &[TableSpec],
    placement: Placement,
) -> ShardValues {
    let tables = (0..).map(TableId).zip(specs).map(|(table, spec)| {
        let mut values = vec![0.0; placement.slot_count(shard, spec.rows) as usize * spec.width as usize];
        for (slot, out) in (0..).zip(values.chunks_exact_mut(spec.width as usize)) {
            application.initialise(table, placement.row_at(shard, slot), out);
        }
        values
    });
    tables.collect()
}
