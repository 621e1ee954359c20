//! A worker's side of the tables: a cache of rows and a buffer of its own deltas.
//!
//! A learner declares the rows of its next iteration; [`Client::plan`] turns those that are too
//! stale into one [`Read`] for each shard. It then reads and adds to cached rows, and sees its own
//! deltas at once. [`Client::flush`] ends the iteration: every shard gets the deltas of its rows
//! and the worker's new clock.
//!
//! Memory: twice the model (values and deltas) and 17 bytes a row are set aside at the start, so
//! that reading and adding never allocate, and all of it is zeros, which the system gives a page at
//! a time when it is first written to: what a worker takes follows the rows that it touches.
//! Planning and flushing allocate the messages that they make.
//!
//! A row that is fresh enough is not asked for, so what a shard holds its reads for (barriers,
//! mirror clocks) holds back a worker only when it asks: up to the staleness of clocks later.
//!
//! Kind: time-free.

use std::collections::BTreeMap;
use std::ops::Range;

use thiserror::Error;

use crate::message::{Flush, Read, ReadReply, RowGroup};
use crate::rows::{Blocks, RowBlock, Slots};
use crate::sums::magnitude;
use crate::table::what_is;
use crate::{Clock, NonFinite, Placement, ShardId, TableId, TableSpec, WorkerId};

/// One worker's cache and write-back buffer.
#[derive(Debug)]
pub struct Client {
    worker: WorkerId,
    clock: Clock,
    /// The latest clock of a shard that an answer has told.
    ahead: Clock,
    placement: Placement,
    staleness: Option<u32>,
    non_finite: NonFinite,
    tables: Vec<CachedTable>,
    /// What each shard was last asked for, until it answers.
    asked: Vec<Option<Read>>,
}

#[derive(Debug)]
struct CachedTable {
    name: String,
    rows: u32,
    width: usize,
    /// Whether what is added is what becomes of it; else it shows when the row is read again.
    takes_changes: bool,
    values: Vec<f32>,
    deltas: Vec<f32>,
    /// Rows with deltas, in the order of their first touch, and the same as marks.
    dirty: Vec<u32>,
    is_dirty: Vec<bool>,
    /// By row: one more than the shard's clock when it was last read; zero for never.
    read_at: Vec<u32>,
    /// By row: the shard's version then.
    version: Vec<u64>,
}

/// A shard's answer does not fit what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{shard} answered what it was not asked: {what}")]
pub struct UnexpectedReply {
    /// The shard.
    pub shard: ShardId,
    /// What is wrong.
    pub what: &'static str,
}

/// A learner has made a delta that cannot be added to anything: its model has diverged.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "table `{table}` row {row}: the delta is {what} at {clock} of {worker}: the model has diverged; nothing of this \
     clock is sent"
)]
pub struct NotFinite {
    /// The table's name.
    pub table: String,
    /// The row.
    pub row: u32,
    /// `NaN` or `infinite`.
    pub what: &'static str,
    /// The clock that does not end, counted from zero.
    pub clock: Clock,
    /// Whose it is.
    pub worker: WorkerId,
}

impl Client {
    /// An empty cache over the tables of `specs`, at clock zero.
    pub fn new(worker: WorkerId, specs: &[TableSpec], placement: Placement, staleness: Option<u32>) -> Self {
        let tables = specs.iter().map(|spec| {
            let (rows, width) = (spec.rows as usize, spec.width as usize);
            CachedTable {
                name: spec.name.clone(),
                rows: spec.rows,
                width,
                takes_changes: spec.rule.takes_changes(),
                values: vec![0.0; rows * width],
                deltas: vec![0.0; rows * width],
                dirty: Vec::new(),
                is_dirty: vec![false; rows],
                read_at: vec![0; rows],
                version: vec![0; rows],
            }
        });
        Self {
            worker,
            clock: Clock(0),
            ahead: Clock(0),
            placement,
            staleness,
            non_finite: NonFinite::default(),
            tables: tables.collect(),
            asked: vec![None; placement.shard_count() as usize],
        }
    }

    /// The same with another rule for deltas that are NaN or infinite; by default they are refused.
    #[must_use]
    pub fn with_non_finite(self, non_finite: NonFinite) -> Self {
        Self { non_finite, ..self }
    }

    /// Who this is.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// How many shards the tables are spread over.
    pub fn shard_count(&self) -> usize {
        self.placement.shard_count() as usize
    }

    /// How many iterations the worker has completed.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Begins at `clock`, for a worker that joins others who are further; or goes on there, having
    /// left out what is between.
    pub fn start_at(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// How many elements a row of `table` has.
    pub fn width(&self, table: TableId) -> usize {
        self.tables[table.index()].width
    }

    /// All values of a table as cached, shape `[rows * width]`; rows that were never read are zero.
    pub fn values(&self, table: TableId) -> &[f32] {
        &self.tables[table.index()].values
    }

    /// The reads, at most one for each shard, without which `wanted` rows (ascending) would be too
    /// stale.
    ///
    /// # Panics
    ///
    /// If a row does not exist: that is a bug of the learner.
    pub fn plan<'a>(&mut self, wanted: impl Iterator<Item = (TableId, &'a [u32])>) -> Vec<(ShardId, Read)> {
        let shards = self.placement.shard_count() as usize;
        let mut groups: Vec<Vec<RowGroup>> = vec![Vec::new(); shards];
        let mut by_shard: Vec<StaleRows> = vec![StaleRows::default(); shards];
        for (table, rows) in wanted {
            let cached = &self.tables[table.index()];
            for &row in rows {
                assert!(
                    row < cached.rows,
                    "{table} has {} rows, the learner asked for row {row}",
                    cached.rows
                );
                if self.is_stale(cached.read_at[row as usize]) {
                    let shard = self.placement.shard_of(row).index();
                    by_shard[shard].push(cached.version[row as usize], self.placement.slot_of(row));
                }
            }
            for (groups, stale) in groups.iter_mut().zip(&mut by_shard) {
                let of_version = stale.take().into_iter();
                groups.extend(of_version.map(|(since, slots)| RowGroup { table, since, slots }));
            }
        }
        let mut reads = Vec::new();
        for (shard, groups) in groups.into_iter().enumerate().filter(|(_, g)| !g.is_empty()) {
            let read = Read { worker: self.worker, clock: self.clock, groups };
            self.asked[shard] = Some(read.clone());
            reads.push((ShardId(shard as u16), read));
        }
        reads
    }

    fn is_stale(&self, read_at: u32) -> bool {
        match self.staleness {
            _ if read_at == 0 => true,
            // Asynchronous workers read what is newest, always.
            None => true,
            Some(s) => read_at - 1 < self.clock.0.saturating_sub(s),
        }
    }

    /// Takes a shard's answer, or a part of one, into the cache; the worker's own unflushed deltas
    /// stay visible on top. When the last part is in, the rows count as read.
    ///
    /// # Errors
    ///
    /// If the answer does not fit the question; of this part nothing is in the cache then.
    pub fn absorb(&mut self, reply: &ReadReply) -> Result<(), UnexpectedReply> {
        let wrong = |what| UnexpectedReply { shard: reply.shard, what };
        let asked = self.asked.get_mut(reply.shard.index()).ok_or(wrong("unknown shard"))?;
        let read = asked.take().ok_or(wrong("nothing"))?;
        // Blocks come in the order of the groups that they answer, none or several for each.
        let mut groups = read.groups.iter().peekable();
        for block in &reply.blocks {
            let width = self.tables.get(block.table().index()).map(|table| table.width);
            if width != Some(block.width()) {
                return Err(wrong("another table or width"));
            }
            let answers =
                |group: &RowGroup| group.table == block.table() && group.slots.contains_all(block.slots());
            while groups.next_if(|group| !answers(group)).is_some() {}
            if groups.peek().is_none() {
                return Err(wrong("other rows"));
            }
        }
        self.ahead = self.ahead.max(reply.clock);
        for block in &reply.blocks {
            let table = &mut self.tables[block.table().index()];
            for (slots, values) in block.runs() {
                match self.placement.rows_at(reply.shard, slots.clone()) {
                    Some(rows) => table.overwrite(rows.start as usize, values),
                    None => slots.zip(values.chunks_exact(table.width)).for_each(|(slot, values)| {
                        table.overwrite(self.placement.row_at(reply.shard, slot) as usize, values);
                    }),
                }
            }
        }
        match reply.is_last {
            true => self.note_read(reply, &read),
            false => self.asked[reply.shard.index()] = Some(read),
        }
        Ok(())
    }

    fn note_read(&mut self, reply: &ReadReply, read: &Read) {
        for group in &read.groups {
            let table = &mut self.tables[group.table.index()];
            let read_at = reply.clock.0.saturating_add(1);
            for slots in group.slots.runs() {
                match self.placement.rows_at(reply.shard, slots.clone()) {
                    Some(rows) => {
                        let rows = rows.start as usize..rows.end as usize;
                        table.read_at[rows.clone()].fill(read_at);
                        table.version[rows].fill(reply.version);
                    }
                    None => slots.for_each(|slot| {
                        let row = self.placement.row_at(reply.shard, slot) as usize;
                        (table.read_at[row], table.version[row]) = (read_at, reply.version);
                    }),
                }
            }
        }
    }

    /// Goes on at the latest clock that a shard has told, if that is further: nobody waits for what
    /// this worker would have done until then. Yields the new clock if it moved.
    ///
    /// A shard's clock is the least of its workers', so that happens only where the shard has
    /// stopped waiting for this one, or has jumped.
    pub fn catch_up(&mut self) -> Option<Clock> {
        (self.ahead > self.clock).then(|| {
            self.clock = self.ahead;
            self.ahead
        })
    }

    /// A cached row, shape `[width]`.
    ///
    /// # Panics
    ///
    /// If the row was never read.
    pub fn row(&self, table: TableId, row: u32) -> &[f32] {
        let cached = &self.tables[table.index()];
        assert!(cached.read_at[row as usize] > 0, "row {row} of {table} was not declared");
        &cached.values[cached.range(row as usize)]
    }

    /// Adds `delta`, shape `[width]`, to a row; visible here at once, to others when they read
    /// after the flush. Where the table has a [rule](crate::rule), it is a gradient, and what came
    /// of it is seen when the row is read again.
    ///
    /// # Panics
    ///
    /// If the width differs.
    pub fn add(&mut self, table: TableId, row: u32, delta: &[f32]) {
        let cached = &mut self.tables[table.index()];
        let range = cached.range(row as usize);
        assert_eq!(delta.len(), range.len(), "a delta is as wide as its row");
        if cached.takes_changes {
            for (to, d) in cached.values[range.clone()].iter_mut().zip(delta) {
                *to += d;
            }
        }
        for (to, d) in cached.deltas[range].iter_mut().zip(delta) {
            *to += d;
        }
        if !std::mem::replace(&mut cached.is_dirty[row as usize], true) {
            cached.dirty.push(row);
        }
    }

    /// Takes back what was added since the last flush. The rows that it was added to are as if
    /// never read.
    pub fn discard(&mut self) {
        for table in &mut self.tables {
            for row in std::mem::take(&mut table.dirty) {
                let range = table.range(row as usize);
                table.deltas[range].fill(0.0);
                table.is_dirty[row as usize] = false;
                (table.read_at[row as usize], table.version[row as usize]) = (0, 0);
            }
        }
    }

    /// Ends the iteration: one [`Flush`] for each shard, empty ones included, as each carries the
    /// clock.
    ///
    /// # Errors
    ///
    /// If a delta is NaN or infinite and such are refused; then the iteration has not ended,
    /// nothing is sent, and what was added is [discarded](Self::discard).
    pub fn flush(&mut self) -> Result<Vec<(ShardId, Flush)>, NotFinite> {
        let deltas = self.take_deltas();
        if self.non_finite == NonFinite::Refuse
            && let Err(error) = self.check_finite(&deltas)
        {
            self.forget(&deltas);
            return Err(error);
        }
        self.clock = self.clock.next();
        let (worker, clock) = (self.worker, self.clock);
        let of_shard = |deltas| Flush { worker, clock, deltas };
        Ok((0..).map(ShardId).zip(deltas.into_iter().map(of_shard)).collect())
    }

    /// What was added since the last flush, by shard; nothing is left of it here.
    fn take_deltas(&mut self) -> Vec<Vec<RowBlock>> {
        let shards = self.placement.shard_count();
        let expected: usize = self.tables.iter().map(|table| table.dirty.len() * table.width).sum();
        let of_shard = |_| Blocks::expecting(expected.div_ceil(shards.into()));
        let mut blocks: Vec<Blocks> = (0..shards).map(of_shard).collect();
        for (table, cached) in (0..).map(TableId).zip(&mut self.tables) {
            for rows in cached.take_dirty().runs() {
                match self.placement.slots_of(rows.clone()) {
                    Some((shard, slots)) => {
                        cached.take_rows(&mut blocks[shard.index()], (table, rows), slots)
                    }
                    None => rows.for_each(|row| {
                        let (shard, slot) = (self.placement.shard_of(row), self.placement.slot_of(row));
                        cached.take_rows(&mut blocks[shard.index()], (table, row..row + 1), slot..slot + 1);
                    }),
                }
            }
        }
        blocks.into_iter().map(Blocks::finish).collect()
    }

    fn check_finite(&self, deltas: &[Vec<RowBlock>]) -> Result<(), NotFinite> {
        let blocks =
            (0..).map(ShardId).zip(deltas).flat_map(|(shard, of)| of.iter().map(move |b| (shard, b)));
        let broken = blocks.into_iter().find(|(_, block)| !block.largest().is_finite());
        let element = broken.map(|(shard, block)| {
            (shard, block, block.indexed().find(|(_, value)| !value.is_finite()).unwrap_or_default())
        });
        let Some((shard, block, (index, value))) = element else { return Ok(()) };
        let row = self.placement.row_at(shard, index / block.width() as u32);
        let (table, what) = (self.tables[block.table().index()].name.clone(), what_is(value));
        Err(NotFinite { table, row, what, clock: self.clock, worker: self.worker })
    }

    /// Rows to which these were added are as if never read.
    fn forget(&mut self, deltas: &[Vec<RowBlock>]) {
        for (shard, blocks) in (0..).map(ShardId).zip(deltas) {
            for block in blocks {
                let table = &mut self.tables[block.table().index()];
                for slot in block.slots().iter() {
                    let row = self.placement.row_at(shard, slot) as usize;
                    (table.read_at[row], table.version[row]) = (0, 0);
                }
            }
        }
    }
}

impl CachedTable {
    fn range(&self, row: usize) -> Range<usize> {
        row * self.width..(row + 1) * self.width
    }

    /// Rows with deltas, ascending, which have none any more when these are taken.
    fn take_dirty(&mut self) -> Slots {
        let mut rows = std::mem::take(&mut self.dirty);
        if !rows.is_sorted() {
            rows.sort_unstable();
        }
        rows.iter().for_each(|row| self.is_dirty[*row as usize] = false);
        rows.into()
    }

    /// Moves deltas of rows that lie side by side to `blocks`.
    fn take_rows(&mut self, blocks: &mut Blocks, (table, rows): (TableId, Range<u32>), slots: Range<u32>) {
        let (width, first) = (self.width, slots.start);
        let deltas = &mut self.deltas[rows.start as usize * width..rows.end as usize * width];
        blocks.append(table, width, slots, |part, values| {
            let from = (part.start - first) as usize * width;
            take_values(&mut deltas[from..from + part.len() * width], values)
        });
    }

    /// Puts rows that lie side by side in the place of those from `row` on, with the worker's own
    /// deltas on top.
    fn overwrite(&mut self, row: usize, values: &[f32]) {
        let first = row * self.width;
        self.values[first..first + values.len()].copy_from_slice(values);
        if self.dirty.is_empty() || !self.takes_changes {
            return;
        }
        for row in (row..row + values.len() / self.width.max(1)).filter(|row| self.is_dirty[*row]) {
            let range = row * self.width..(row + 1) * self.width;
            self.values[range.clone()].iter_mut().zip(&self.deltas[range]).for_each(|(to, d)| *to += d);
        }
    }
}

/// Appends `deltas` to `values` and leaves zeros; yields the largest magnitude as bits.
fn take_values(deltas: &mut [f32], values: &mut Vec<f32>) -> u32 {
    values.extend_from_slice(deltas);
    let most = deltas.iter().fold(0, |most, delta| most.max(magnitude(*delta)));
    deltas.fill(0.0);
    most
}

/// Rows of one table on one shard that are to be read, by the version that is known of them.
#[derive(Clone, Debug, Default)]
struct StaleRows {
    /// Those that came last, which mostly agree.
    run: (u64, Slots),
    others: BTreeMap<u64, Slots>,
}

impl StaleRows {
    /// One more; slots ascend.
    fn push(&mut self, version: u64, slot: u32) {
        if self.run.0 != version {
            self.end_run();
            self.run.0 = version;
        }
        self.run.1.push(slot);
    }

    fn end_run(&mut self) {
        let slots = std::mem::take(&mut self.run.1);
        if !slots.is_empty() {
            self.others.entry(self.run.0).or_default().append(&slots);
        }
    }

    /// All of them, ascending by version; none are left.
    fn take(&mut self) -> BTreeMap<u64, Slots> {
        self.end_run();
        std::mem::take(&mut self.others)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests;
