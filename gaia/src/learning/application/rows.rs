//! Which rows a learner is about to read.

use datacenter::{TableId, TableSpec};

/// The rows that a learner is about to read, by table, in the order in which it declares them: the
/// order of the rows of [`Tables::rows`](super::Tables::rows). A row that is declared twice stands
/// there twice; it is fetched once.
#[derive(Clone, Debug, Default)]
pub struct RowSet {
    tables: Vec<Declared>,
}

/// The rows of one table.
#[derive(Clone, Debug)]
struct Declared {
    /// As they were declared.
    rows: Vec<u32>,
    /// Whether they ascend, each once.
    ascends: bool,
    /// The same rows in ascending order, each once; written where they do not ascend by themselves.
    sorted: Vec<u32>,
}

impl Default for Declared {
    fn default() -> Self {
        Self { rows: Vec::new(), ascends: true, sorted: Vec::new() }
    }
}

impl Declared {
    fn push(&mut self, row: u32) {
        self.ascends &= self.rows.last().is_none_or(|last| *last < row);
        self.rows.push(row);
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.ascends = true;
    }

    fn sorted(&mut self) -> &[u32] {
        if self.ascends {
            return &self.rows;
        }
        self.sorted.clone_from(&self.rows);
        self.sorted.sort_unstable();
        self.sorted.dedup();
        &self.sorted
    }
}

impl RowSet {
    /// An empty set over `tables` tables.
    pub fn new(tables: usize) -> Self {
        Self { tables: vec![Declared::default(); tables] }
    }

    /// Adds one row.
    pub fn insert(&mut self, table: TableId, row: u32) {
        self.tables[table.index()].push(row);
    }

    /// Adds rows in their order.
    pub fn extend(&mut self, table: TableId, rows: impl IntoIterator<Item = u32>) {
        let declared = &mut self.tables[table.index()];
        rows.into_iter().for_each(|row| declared.push(row));
    }

    /// Adds rows `0..rows`.
    pub fn insert_all(&mut self, table: TableId, rows: u32) {
        self.extend(table, 0..rows);
    }

    /// Adds all rows of all tables.
    pub fn insert_tables(&mut self, specs: &[TableSpec]) {
        for (table, spec) in (0..).map(TableId).zip(specs) {
            self.insert_all(table, spec.rows);
        }
    }

    /// Adds all that `other` has, behind what is there.
    pub(crate) fn append(&mut self, other: &Self) {
        for (table, declared) in (0..).map(TableId).zip(&other.tables) {
            self.extend(table, declared.rows.iter().copied());
        }
    }

    /// Empties the set and keeps its memory.
    pub fn clear(&mut self) {
        self.tables.iter_mut().for_each(Declared::clear);
    }

    /// Whether no row is declared.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|declared| declared.rows.is_empty())
    }

    /// How many tables there are.
    pub(crate) fn tables(&self) -> usize {
        self.tables.len()
    }

    /// The rows of a table as they were declared.
    pub fn declared(&self, table: TableId) -> &[u32] {
        &self.tables[table.index()].rows
    }

    /// The first row and the number of rows, where the declared rows of a table follow each other
    /// without a gap; a table of which none is declared has none.
    pub(crate) fn as_range(&self, table: TableId) -> Option<(u32, usize)> {
        let Declared { rows, ascends, .. } = &self.tables[table.index()];
        let (first, last) = (*rows.first()?, *rows.last()?);
        (*ascends && (last - first) as usize + 1 == rows.len()).then_some((first, rows.len()))
    }

    /// Each table's rows in ascending order, each once.
    pub fn sorted(&mut self) -> impl Iterator<Item = (TableId, &[u32])> {
        (0..).map(TableId).zip(self.tables.iter_mut().map(Declared::sorted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId(0);

    #[test]
    fn rows_keep_their_order_and_are_fetched_once() {
        let mut rows = RowSet::new(1);
        rows.extend(TABLE, [5, 2, 5, 9]);
        assert_eq!(rows.declared(TABLE), [5, 2, 5, 9]);
        assert_eq!(rows.sorted().next(), Some((TABLE, [2, 5, 9].as_slice())));
        assert_eq!(rows.as_range(TABLE), None);
        rows.clear();
        assert!(rows.is_empty());
        rows.extend(TABLE, 4..7);
        assert_eq!(rows.sorted().next(), Some((TABLE, [4, 5, 6].as_slice())));
        assert_eq!(rows.as_range(TABLE), Some((4, 3)));
        rows.insert(TABLE, 8);
        assert_eq!(rows.as_range(TABLE), None);
    }
}
