//! A learner's view of the rows that it declared.

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use datacenter::TableId;
use datacenter::client::Client;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::{Learner, Model, RowSet, StepError, Work};

/// A learner's view of the rows that it declared, its own deltas included. Matrices have a row for
/// each declared one, in the order of declaration.
pub trait Tables {
    /// The current values of all declared rows of a table; shape `[declared, width]`.
    ///
    /// Rows that were declared in a piece, `a..b`, are read where they lie; others are gathered,
    /// once for each time that the table was changed.
    fn rows(&self, table: TableId) -> ArrayView2<'_, f32>;

    /// The current values of one row; shape `[width]`.
    ///
    /// # Panics
    ///
    /// If the row was never declared: that is a bug of the learner.
    fn row(&self, table: TableId, row: u32) -> &[f32];

    /// Adds `deltas`, shape `[declared, width]`, to the declared rows of a table; visible to this
    /// worker at once, to others after the clock.
    ///
    /// # Panics
    ///
    /// If the shape is another.
    fn scatter_add(&mut self, table: TableId, deltas: ArrayView2<'_, f32>);

    /// What this step adds to the declared rows of a table, to be written in place; shape
    /// `[declared, width]`, zero at first. It is added when the step returns, and not visible
    /// before.
    fn deltas(&mut self, table: TableId) -> ArrayViewMut2<'_, f32>;

    /// Adds `delta`, shape `[width]`, to one row, as [`scatter_add`](Self::scatter_add) does to
    /// all.
    ///
    /// # Panics
    ///
    /// If the width is another.
    fn add(&mut self, table: TableId, row: u32, delta: &[f32]);

    /// Asks for more rows, which the step turns out to need: they are declared behind the others,
    /// and the step is called again once they are there.
    fn extend(&mut self, table: TableId, rows: &[u32]);
}

/// Where the rows of a worker lie: its cache, or the model itself.
pub(crate) trait RowStore {
    /// How many elements a row of `table` has.
    fn width(&self, table: TableId) -> usize;

    /// Rows `first..first + count` as they lie in memory, shape `[count * width]`; none where they
    /// do not lie side by side.
    fn block(&self, table: TableId, first: u32, count: usize) -> Option<&[f32]>;

    /// A row; shape `[width]`.
    fn row(&self, table: TableId, row: u32) -> &[f32];

    /// Adds to a row, visibly at once.
    fn add(&mut self, table: TableId, row: u32, delta: &[f32]);
}

impl RowStore for Client {
    fn width(&self, table: TableId) -> usize {
        Client::width(self, table)
    }

    fn block(&self, table: TableId, first: u32, count: usize) -> Option<&[f32]> {
        let width = Client::width(self, table);
        Some(&self.values(table)[first as usize * width..][..count * width])
    }

    fn row(&self, table: TableId, row: u32) -> &[f32] {
        Client::row(self, table, row)
    }

    fn add(&mut self, table: TableId, row: u32, delta: &[f32]) {
        Client::add(self, table, row, delta);
    }
}

impl RowStore for Model {
    fn width(&self, table: TableId) -> usize {
        self.table(table).ncols()
    }

    fn block(&self, table: TableId, first: u32, count: usize) -> Option<&[f32]> {
        let (all, width) = (self.table(table).to_slice()?, RowStore::width(self, table));
        Some(&all[first as usize * width..][..count * width])
    }

    fn row(&self, table: TableId, row: u32) -> &[f32] {
        Model::row(self, table, row)
    }

    fn add(&mut self, table: TableId, row: u32, delta: &[f32]) {
        let values = self.row_mut(table, row);
        assert_eq!(delta.len(), values.len(), "a delta is as wide as its row");
        values.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
    }
}

/// What a worker's clocks work with: the declared rows, and memory that is kept from clock to
/// clock.
pub(crate) struct Workspace {
    declared: RowSet,
    /// What the step has asked for on top.
    extension: RowSet,
    /// By table.
    buffers: Vec<Buffer>,
    work: Work,
}

#[derive(Default)]
struct Buffer {
    /// The declared rows, where they had to be gathered; shape `[declared, width]`.
    gathered: OnceCell<Array2<f32>>,
    /// Memory for them.
    spare: Cell<Vec<f32>>,
    /// What the step adds in place, if it does; shape `[declared, width]`.
    deltas: Array2<f32>,
    has_deltas: bool,
}

impl Buffer {
    /// Forgets what was gathered, since the table has changed.
    fn forget(&mut self) {
        if let Some(gathered) = self.gathered.take() {
            self.spare.set(gathered.into_raw_vec_and_offset().0);
        }
    }
}

impl Workspace {
    /// A workspace for a model of so many tables.
    pub(crate) fn new(tables: usize) -> Self {
        Self {
            declared: RowSet::new(tables),
            extension: RowSet::new(tables),
            buffers: (0..tables).map(|_| Buffer::default()).collect(),
            work: Work::examples(0),
        }
    }

    /// Begins a clock: yields what `learner` declares, to be fetched.
    pub(crate) fn begin(&mut self, learner: &mut dyn Learner, clock: u32) -> &mut RowSet {
        self.declared.clear();
        self.work = Work::examples(0).measured(Duration::ZERO);
        learner.rows(clock, &mut self.declared);
        &mut self.declared
    }

    /// Has `learner` train on what is in `store`. None where it needs [more rows](Self::extension)
    /// first; once they have been fetched, this is to be called again.
    pub(crate) fn step(
        &mut self,
        learner: &mut dyn Learner,
        clock: u32,
        store: &mut impl RowStore,
    ) -> Result<Option<Work>, StepError> {
        self.extension.clear();
        let Self { declared, extension, buffers, work } = self;
        let mut view = View { store, declared, extension, buffers };
        let done = learner.step(clock, &mut view);
        view.settle(done.is_ok());
        *work = work.and(done?);
        if extension.is_empty() {
            return Ok(Some(*work));
        }
        declared.append(extension);
        Ok(None)
    }

    /// The rows that the last step has asked for.
    pub(crate) fn extension(&mut self) -> &mut RowSet {
        &mut self.extension
    }
}

/// The view during one step.
struct View<'a, S> {
    store: &'a mut S,
    declared: &'a RowSet,
    extension: &'a mut RowSet,
    buffers: &'a mut [Buffer],
}

impl<S: RowStore> View<'_, S> {
    /// Ends the step: adds what was written in place, if the step has succeeded.
    fn settle(&mut self, has_succeeded: bool) {
        for table in (0..self.declared.tables() as u16).map(TableId) {
            let buffer = &mut self.buffers[table.index()];
            buffer.forget();
            if std::mem::take(&mut buffer.has_deltas) && has_succeeded {
                let deltas = std::mem::take(&mut buffer.deltas);
                self.scatter_add(table, deltas.view());
                self.buffers[table.index()].deltas = deltas;
            }
        }
    }

    fn shape(&self, table: TableId) -> [usize; 2] {
        [self.declared.declared(table).len(), self.store.width(table)]
    }

    fn gather(&self, table: TableId) -> Array2<f32> {
        let [count, width] = self.shape(table);
        let mut values = self.buffers[table.index()].spare.take();
        values.clear();
        values.reserve(count * width);
        for &row in self.declared.declared(table) {
            values.extend_from_slice(self.store.row(table, row));
        }
        Array2::from_shape_vec([count, width], values).expect("as many rows as are declared")
    }
}

impl<S: RowStore> Tables for View<'_, S> {
    fn rows(&self, table: TableId) -> ArrayView2<'_, f32> {
        let range = self.declared.as_range(table);
        if let Some(block) = range.and_then(|(first, count)| self.store.block(table, first, count)) {
            return ArrayView2::from_shape(self.shape(table), block).expect("a block is as long as its rows");
        }
        self.buffers[table.index()].gathered.get_or_init(|| self.gather(table)).view()
    }

    fn row(&self, table: TableId, row: u32) -> &[f32] {
        self.store.row(table, row)
    }

    fn scatter_add(&mut self, table: TableId, deltas: ArrayView2<'_, f32>) {
        assert_eq!(deltas.shape(), self.shape(table), "a delta for each element of the declared rows");
        let mut copy = Vec::new();
        for (&row, delta) in self.declared.declared(table).iter().zip(deltas.rows()) {
            match delta.as_slice() {
                Some(delta) => self.store.add(table, row, delta),
                None => {
                    copy.clear();
                    copy.extend(delta);
                    self.store.add(table, row, &copy);
                }
            }
        }
        self.buffers[table.index()].forget();
    }

    fn deltas(&mut self, table: TableId) -> ArrayViewMut2<'_, f32> {
        let shape = self.shape(table);
        let buffer = &mut self.buffers[table.index()];
        if !std::mem::replace(&mut buffer.has_deltas, true) {
            match buffer.deltas.shape() == shape {
                true => buffer.deltas.fill(0.0),
                false => buffer.deltas = Array2::zeros(shape),
            }
        }
        buffer.deltas.view_mut()
    }

    fn add(&mut self, table: TableId, row: u32, delta: &[f32]) {
        self.store.add(table, row, delta);
        self.buffers[table.index()].forget();
    }

    fn extend(&mut self, table: TableId, rows: &[u32]) {
        self.extension.extend(table, rows.iter().copied());
    }
}
