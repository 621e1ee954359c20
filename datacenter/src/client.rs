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

use thiserror::Error;

use crate::message::{Flush, Read, ReadReply, RowGroup};
use crate::table::{all_finite, what_is};
use crate::{Clock, Elements, NonFinite, Placement, ShardId, TableId, TableSpec, WorkerId};

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
        let mut by_shard: Vec<Vec<(u64, u32)>> = vec![Vec::new(); shards];
        for (table, rows) in wanted {
            let cached = &self.tables[table.index()];
            for &row in rows {
                assert!(
                    row < cached.rows,
                    "{table} has {} rows, the learner asked for row {row}",
                    cached.rows
                );
                if self.is_stale(cached.read_at[row as usize]) {
                    let entry = (cached.version[row as usize], self.placement.slot_of(row));
                    by_shard[self.placement.shard_of(row).index()].push(entry);
                }
            }
            for (shard, stale) in by_shard.iter_mut().enumerate() {
                stale.sort_unstable();
                let same_version = stale.chunk_by(|a, b| a.0 == b.0);
                groups[shard].extend(same_version.map(|g| RowGroup {
                    table,
                    since: g[0].0,
                    slots: g.iter().map(|&(_, slot)| slot).collect(),
                }));
                stale.clear();
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

    /// Takes a shard's answer into the cache; the worker's own unflushed deltas stay visible on
    /// top.
    ///
    /// # Errors
    ///
    /// If the answer does not fit the question; the cache is then unchanged.
    pub fn absorb(&mut self, reply: &ReadReply) -> Result<(), UnexpectedReply> {
        let wrong = |what| UnexpectedReply { shard: reply.shard, what };
        let asked = self.asked.get_mut(reply.shard.index()).ok_or(wrong("unknown shard"))?;
        let read = asked.take().ok_or(wrong("nothing"))?;
        if reply.blocks.len() != read.groups.len() {
            return Err(wrong("another number of blocks"));
        }
        for (group, block) in read.groups.iter().zip(&reply.blocks) {
            let width = self.tables[group.table.index()].width;
            if block.table != group.table || block.values.len() != block.slots.len() * width {
                return Err(wrong("another table or width"));
            }
            if block.slots.iter().any(|slot| group.slots.binary_search(slot).is_err()) {
                return Err(wrong("other rows"));
            }
        }
        self.ahead = self.ahead.max(reply.clock);
        for (group, block) in read.groups.iter().zip(&reply.blocks) {
            let table = &mut self.tables[group.table.index()];
            for &slot in &group.slots {
                let row = self.placement.row_at(reply.shard, slot) as usize;
                table.read_at[row] = reply.clock.0.saturating_add(1);
                table.version[row] = reply.version;
            }
            for (&slot, values) in block.slots.iter().zip(block.values.chunks_exact(table.width)) {
                table.overwrite(self.placement.row_at(reply.shard, slot) as usize, values);
            }
        }
        Ok(())
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
    /// If a delta is NaN or infinite and such are refused; then the iteration has not ended, and
    /// nothing is sent.
    pub fn flush(&mut self) -> Result<Vec<(ShardId, Flush)>, NotFinite> {
        self.check_finite()?;
        self.clock = self.clock.next();
        let shards = self.placement.shard_count();
        let empty = |_| Flush { worker: self.worker, clock: self.clock, deltas: Vec::new() };
        let mut flushes: Vec<Flush> = (0..shards).map(empty).collect();
        for (i, table) in self.tables.iter_mut().enumerate() {
            let mut parts: Vec<Elements> = (0..shards).map(|_| Elements::new(TableId(i as u16))).collect();
            table.dirty.sort_unstable();
            for &row in &table.dirty {
                let range = row as usize * table.width..(row as usize + 1) * table.width;
                let part = &mut parts[self.placement.shard_of(row).index()];
                let first = self.placement.slot_of(row) * table.width as u32;
                for (column, delta) in table.deltas[range].iter_mut().enumerate() {
                    if *delta != 0.0 {
                        part.push(first + column as u32, std::mem::take(delta));
                    }
                }
                table.is_dirty[row as usize] = false;
            }
            table.dirty.clear();
            for (flush, part) in flushes.iter_mut().zip(parts).filter(|(_, part)| !part.is_empty()) {
                flush.deltas.push(part);
            }
        }
        Ok((0..shards).map(ShardId).zip(flushes).collect())
    }

    fn check_finite(&self) -> Result<(), NotFinite> {
        if self.non_finite == NonFinite::Pass {
            return Ok(());
        }
        for table in &self.tables {
            let mut deltas = table.dirty.iter().map(|&row| (row, &table.deltas[table.range(row as usize)]));
            if let Some((row, deltas)) = deltas.find(|(_, deltas)| !all_finite(deltas)) {
                let value = deltas.iter().find(|delta| !delta.is_finite()).expect("not all are finite");
                let (table, what) = (table.name.clone(), what_is(*value));
                return Err(NotFinite { table, row, what, clock: self.clock, worker: self.worker });
            }
        }
        Ok(())
    }
}

impl CachedTable {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        row * self.width..(row + 1) * self.width
    }

    fn overwrite(&mut self, row: usize, values: &[f32]) {
        let range = self.range(row);
        self.values[range.clone()].copy_from_slice(values);
        if self.is_dirty[row] && self.takes_changes {
            for (to, d) in self.values[range.clone()].iter_mut().zip(&self.deltas[range]) {
                *to += d;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests;
