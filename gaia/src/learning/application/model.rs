//! A model as values: a matrix for each table.
//!
//! Kind: time-free.

use datacenter::{Placement, ShardId, TableId, TableSpec};
use ndarray::{Array2, ArrayView2};

use super::Application;

/// Values of one shard, by table.
pub(crate) type ShardValues = Vec<Vec<f32>>;

/// A whole model, to be scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Shape `[rows, width]` each, in standard layout.
    tables: Vec<Array2<f32>>,
}

impl Model {
    /// A model of these tables, all zeros.
    pub fn zeros(specs: &[TableSpec]) -> Self {
        Self { tables: specs.iter().map(|spec| Array2::zeros(shape(spec))).collect() }
    }

    /// The model at the start of training.
    pub fn initial(application: &dyn Application) -> Self {
        let mut model = Self::zeros(&application.tables());
        for (id, table) in (0..).map(TableId).zip(&mut model.tables) {
            for (row, mut values) in (0..).zip(table.rows_mut()) {
                let values = values.as_slice_mut().expect("rows of a table are contiguous");
                application.initialise(id, row, values);
            }
        }
        model
    }

    /// The model with these values, of shape `[rows * width]` each.
    ///
    /// # Panics
    ///
    /// If one has another number of values.
    pub(crate) fn of_tables(specs: &[TableSpec], values: impl IntoIterator<Item = Vec<f32>>) -> Self {
        let table = |(spec, values)| {
            Array2::from_shape_vec(shape(spec), values).expect("a table has a value for each element")
        };
        Self { tables: specs.iter().zip(values).map(table).collect() }
    }

    /// The model with these shards, which are all there are.
    pub(crate) fn of_shards(placement: Placement, specs: &[TableSpec], shards: &[ShardValues]) -> Self {
        let mut model = Self::zeros(specs);
        for (index, table) in model.tables.iter_mut().enumerate() {
            let width = table.ncols();
            for (row, mut values) in (0..).zip(table.rows_mut()) {
                let shard = &shards[placement.shard_of(row).index()][index];
                let start = placement.slot_of(row) as usize * width;
                let values = values.as_slice_mut().expect("rows of a table are contiguous");
                values.copy_from_slice(&shard[start..start + width]);
            }
        }
        model
    }

    /// The values of a table; shape `[rows, width]`, in standard layout.
    pub fn table(&self, table: TableId) -> ArrayView2<'_, f32> {
        self.tables[table.index()].view()
    }

    /// The values of a row; shape `[width]`.
    pub fn row(&self, table: TableId, row: u32) -> &[f32] {
        let table = &self.tables[table.index()];
        let width = table.ncols();
        let values = table.as_slice().expect("a table is in standard layout");
        &values[row as usize * width..][..width]
    }

    /// The same to be changed.
    pub(crate) fn row_mut(&mut self, table: TableId, row: u32) -> &mut [f32] {
        let table = &mut self.tables[table.index()];
        let width = table.ncols();
        let values = table.as_slice_mut().expect("a table is in standard layout");
        &mut values[row as usize * width..][..width]
    }
}

fn shape(spec: &TableSpec) -> [usize; 2] {
    [spec.rows as usize, spec.width as usize]
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
