//! Trains an application on one thread, without any network: the reference for what clusters should
//! reach.
//!
//! All workers read the same model, and their deltas are added at the end of the clock, in the
//! order of the workers: BSP, as one datacenter with staleness 0 has it.

use datacenter::{TableId, TableSpec};

use crate::learning::application::{
    Application, Evaluation, Learner, Model, RowSet, RowStore, StepError, Workspace,
};

/// An application in training.
pub struct Sequential<'a> {
    application: &'a dyn Application,
    model: Model,
    learners: Vec<Box<dyn Learner + 'a>>,
    view: View,
    workspace: Workspace,
    clock: u32,
}

impl<'a> Sequential<'a> {
    /// A new model for `workers` workers, each with its part of the data; worker `w` has the seed
    /// `seed + w`.
    ///
    /// # Panics
    ///
    /// If a table has a rule other than that changes are added.
    pub fn new(application: &'a dyn Application, workers: usize, seed: u64) -> Self {
        let specs = application.tables();
        assert!(specs.iter().all(|spec| spec.rule.takes_changes()), "there is no server here that has rules");
        let parts = application.partition(workers);
        let examples: usize = parts.iter().map(Vec::len).sum();
        let learner = |(part, seed): (Vec<u32>, u64)| {
            let share = part.len() as f64 / examples.max(1) as f64;
            application.learner(part, share, seed)
        };
        Self {
            application,
            model: Model::initial(application),
            learners: parts.into_iter().zip(seed..).map(learner).collect(),
            view: View::new(&specs),
            workspace: Workspace::new(specs.len()),
            clock: 0,
        }
    }

    /// Runs one clock of every worker; tells how many examples were processed.
    ///
    /// # Errors
    ///
    /// If a step of the application fails.
    pub fn clock(&mut self) -> Result<u64, StepError> {
        let mut examples = 0;
        let mut deltas = Vec::new();
        for learner in &mut self.learners {
            self.view.read(&self.model, self.workspace.begin(&mut **learner, self.clock));
            let work = loop {
                if let Some(work) = self.workspace.step(&mut **learner, self.clock, &mut self.view)? {
                    break work;
                }
                self.view.read(&self.model, self.workspace.extension());
            };
            examples += work.examples;
            self.view.take_deltas(&mut deltas);
        }
        for (table, row, delta) in deltas {
            RowStore::add(&mut self.model, table, row, &delta);
        }
        self.clock += 1;
        Ok(examples)
    }

    /// Runs `clocks` clocks, then scores the model.
    ///
    /// # Errors
    ///
    /// If a step of the application fails.
    pub fn train(&mut self, clocks: u32) -> Result<Evaluation, StepError> {
        (0..clocks).try_for_each(|_| self.clock().map(drop))?;
        Ok(self.application.evaluate(&self.model))
    }

    /// The model as it stands.
    pub fn model(&self) -> &Model {
        &self.model
    }
}

const UNDECLARED: u32 = u32::MAX;

/// What one worker sees during a clock: the rows that it declared, with its own deltas.
struct View {
    tables: Vec<TableView>,
}

struct TableView {
    width: usize,
    /// Shape `[rows]`.
    slot_of: Vec<u32>,
    /// Declared rows; shape `[slots]`.
    rows: Vec<u32>,
    /// Shape `[slots, width]`.
    values: Vec<f32>,
    /// Shape `[slots, width]`.
    deltas: Vec<f32>,
}

impl View {
    fn new(specs: &[TableSpec]) -> Self {
        let table = |spec: &TableSpec| TableView {
            width: spec.width as usize,
            slot_of: vec![UNDECLARED; spec.rows as usize],
            rows: Vec::new(),
            values: Vec::new(),
            deltas: Vec::new(),
        };
        Self { tables: specs.iter().map(table).collect() }
    }

    /// Takes over the declared rows that are not there yet.
    fn read(&mut self, model: &Model, declared: &mut RowSet) {
        for (table, rows) in declared.sorted() {
            let view = &mut self.tables[table.index()];
            for &row in rows {
                if view.slot_of[row as usize] != UNDECLARED {
                    continue;
                }
                view.slot_of[row as usize] = view.rows.len() as u32;
                view.rows.push(row);
                view.values.extend_from_slice(model.row(table, row));
            }
            view.deltas.resize(view.values.len(), 0.0);
        }
    }

    /// Moves the deltas to `out` and forgets all rows.
    fn take_deltas(&mut self, out: &mut Vec<(TableId, u32, Vec<f32>)>) {
        for (table, view) in (0..).zip(&mut self.tables) {
            let deltas = view.deltas.chunks_exact(view.width).zip(&view.rows);
            out.extend(deltas.map(|(delta, row)| (TableId(table), *row, delta.to_vec())));
            view.rows.drain(..).for_each(|row| view.slot_of[row as usize] = UNDECLARED);
            view.values.clear();
            view.deltas.clear();
        }
    }
}

impl TableView {
    fn slot(&self, row: u32) -> std::ops::Range<usize> {
        let slot = self.slot_of[row as usize];
        assert_ne!(slot, UNDECLARED, "row {row} was not declared for this clock");
        slot as usize * self.width..(slot as usize + 1) * self.width
    }
}

impl RowStore for View {
    fn width(&self, table: TableId) -> usize {
        self.tables[table.index()].width
    }

    fn block(&self, _table: TableId, _first: u32, _count: usize) -> Option<&[f32]> {
        None
    }

    fn row(&self, table: TableId, row: u32) -> &[f32] {
        let view = &self.tables[table.index()];
        &view.values[view.slot(row)]
    }

    fn add(&mut self, table: TableId, row: u32, delta: &[f32]) {
        let view = &mut self.tables[table.index()];
        let range = view.slot(row);
        assert_eq!(delta.len(), view.width, "a delta is as wide as its row");
        for values in [&mut view.values, &mut view.deltas] {
            values[range.clone()].iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
        }
    }
}
