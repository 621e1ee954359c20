//! One shard: its part of every table, its workers' clocks, and the reads that wait.
//!
//! A read may be answered when local workers have come far enough (stale synchronous parallel) and
//! when nothing from outside holds it. What holds from outside is a [`ReadGate`]'s business;
//! between datacenters that is the `wan` crate's, in a datacenter alone it is [`Open`].
//!
//! Kind: time-passed (only to account how long reads were held).

mod checks;
mod request_error;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::checks::check_order;
pub use self::request_error::RequestError;
use crate::clock::VectorClock;
use crate::message::{Flush, Read, ReadReply, RowGroup, Standing, Wait};
use crate::rows::{Blocks, RowBlock, Slots};
use crate::rule::RuleState;
use crate::sums::{MAX_SUM, Reach, Rounding, larger, largest, magnitude, may_add};
use crate::usual::UsualDelta;
use crate::{Clock, Elements, NonFinite, Rule, ShardId, ShardTable, TableId, WorkerId};

/// Conditions on reads from outside the shard.
pub trait ReadGate {
    /// Why a worker at clock `reader` may read no row at all now.
    fn why_all_held(&self, reader: Clock) -> Option<Wait>;

    /// Why one of these rows may not be read now.
    fn why_rows_held(&self, table: TableId, slots: &Slots) -> Option<Wait>;

    /// Makes of a row's values what a worker is to read; by default they are that. Whoever answers
    /// otherwise [tells the shard](Shard::touch) when the answer changes.
    fn adjust(&self, table: TableId, slot: u32, row: &mut [f32]) {
        let _ = (table, slot, row);
    }
}

/// A gate that never holds: a datacenter alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl ReadGate for Open {
    fn why_all_held(&self, _: Clock) -> Option<Wait> {
        None
    }

    fn why_rows_held(&self, _: TableId, _: &Slots) -> Option<Wait> {
        None
    }
}

/// What became of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// It is added, and the shard's clock moved to this one, if it did.
    Now(Option<Clock>),
    /// It had come before.
    Before,
}

/// One shard of the model in one datacenter.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    tables: Vec<TableState>,
    workers: VectorClock,
    staleness: Option<u32>,
    non_finite: NonFinite,
    /// By table: the largest magnitude of a worker's delta; none for any. Empty where no table has
    /// one.
    max_delta: Vec<Option<f32>>,
    /// By table: how large deltas usually are, where what is allowed is a multiple of that. Empty
    /// where it is for no table.
    usual: Vec<Option<UsualDelta>>,
    /// By table; empty where workers push changes to all.
    rules: Vec<RuleState>,
    /// Of all values.
    reach: Reach,
    /// How many flushes and how many other additions there have been, by which values are rounded:
    /// each by a count of its own, as an element that is in every flush is best rounded evenly if
    /// nothing comes between them.
    flushes: u64,
    additions: u64,
    /// Whether it has come from the beginning of the job, and not back.
    is_new: bool,
    /// Counts changes, so that a reader can ask for what is new; zero is before all of them.
    version: u64,
    parked: Vec<Parked>,
    /// For how long reads were held that are held no more, or for another reason.
    held: BTreeMap<Wait, Duration>,
}

#[derive(Debug)]
struct TableState {
    shape: ShardTable,
    values: Vec<f32>,
    /// By slot: the shard's version at which the row last changed.
    changed: Vec<u64>,
}

#[derive(Debug)]
struct Parked {
    read: Read,
    why: Wait,
    since: Instant,
    held: Vec<(Wait, Duration)>,
}

impl Shard {
    /// A shard whose tables hold `initial` (one vector for each shape, `[slots * width]`), for
    /// `workers` workers.
    ///
    /// `staleness` is `s` of SSP; `None` never waits for other workers.
    ///
    /// # Panics
    ///
    /// If `initial` does not fit `shapes`.
    pub fn new(
        id: ShardId,
        shapes: &[ShardTable],
        initial: Vec<Vec<f32>>,
        workers: usize,
        staleness: Option<u32>,
    ) -> Self {
        assert_eq!(shapes.len(), initial.len(), "one vector of initial values for each table");
        let mut reach = Reach::default();
        initial.iter().for_each(|values| reach.extend(largest(values)));
        let tables = shapes.iter().zip(initial).map(|(&shape, values)| {
            assert_eq!(values.len(), shape.elements(), "initial values fill the table");
            // Version 1, so that a reader that has nothing (version 0) gets every row.
            TableState { shape, values, changed: vec![1; shape.slots as usize] }
        });
        Self {
            id,
            tables: tables.collect(),
            workers: VectorClock::new(workers),
            staleness,
            non_finite: NonFinite::default(),
            max_delta: Vec::new(),
            usual: Vec::new(),
            rules: Vec::new(),
            reach,
            flushes: 0,
            additions: 0,
            is_new: true,
            version: 1,
            parked: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    /// The same with another rule for deltas that are NaN or infinite, and for those that would
    /// make sums too large; by default they are refused.
    #[must_use]
    pub fn with_non_finite(self, non_finite: NonFinite) -> Self {
        Self { non_finite, ..self }
    }

    /// The same, refusing workers' deltas beyond these magnitudes, by table, as far as it refuses
    /// any.
    ///
    /// # Panics
    ///
    /// If there is not one for each table.
    #[must_use]
    pub fn with_max_delta(self, max_delta: Vec<Option<f32>>) -> Self {
        assert_eq!(max_delta.len(), self.tables.len(), "one for each table");
        Self { max_delta, ..self }
    }

    /// The same, refusing workers' deltas beyond so many times the [usual](crate::usual), by table,
    /// as far as it refuses any.
    ///
    /// # Panics
    ///
    /// If there is not one for each table.
    #[must_use]
    pub fn with_max_times_usual(self, times: Vec<Option<f32>>) -> Self {
        assert_eq!(times.len(), self.tables.len(), "one for each table");
        let workers = self.workers.worker_count();
        let usual = |times: Option<f32>| times.map(|times| UsualDelta::new(times, workers));
        Self { usual: times.into_iter().map(usual).collect(), ..self }
    }

    /// The same with these rules, by table.
    ///
    /// # Panics
    ///
    /// If there is not one for each table.
    #[must_use]
    pub fn with_rules(self, rules: &[Rule]) -> Self {
        assert_eq!(rules.len(), self.tables.len(), "one for each table");
        if rules.iter().all(|rule| rule.takes_changes()) {
            return self;
        }
        let workers = self.workers.worker_count();
        let state = |(rule, table): (&Rule, &TableState)| RuleState::new(*rule, table.values.len(), workers);
        Self { rules: rules.iter().zip(&self.tables).map(state).collect(), ..self }
    }

    /// What the rules of tables remember: by table, a name and `[slots * width]` values each.
    pub fn remembered(&self) -> impl Iterator<Item = (TableId, &'static str, &[f32])> {
        let tables = (0..).map(TableId).zip(&self.rules);
        tables.flat_map(|(table, rule)| rule.memory().map(move |(name, values)| (table, name, values)))
    }

    /// Has the rule of a table remember something else; false if it remembers nothing of that name
    /// and size.
    pub fn remember(&mut self, table: TableId, name: &str, values: &[f32]) -> bool {
        self.rules.get_mut(table.index()).is_some_and(|rule| rule.remember(name, values))
    }

    /// How large deltas of `table` usually are, if what is allowed is a multiple of that.
    pub fn usual(&self, table: TableId) -> Option<&UsualDelta> {
        self.usual.get(table.index())?.as_ref()
    }

    /// What becomes of deltas that are NaN or infinite.
    pub fn non_finite(&self) -> NonFinite {
        self.non_finite
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The same as it was at some time, with the values of then as its initial ones: at `clock`,
    /// and with the flushes of each worker up to its clock in `flushed` (see
    /// [`flushed`](Self::flushed)). Nobody trains on it; who comes joins.
    ///
    /// # Panics
    ///
    /// If there is not one clock for each worker.
    #[must_use]
    pub fn restored(self, clock: Clock, flushed: &[Clock]) -> Self {
        assert_eq!(flushed.len(), self.workers.worker_count(), "a clock for each worker");
        Self { workers: VectorClock::restored(clock, flushed), is_new: false, ..self }
    }

    /// Whether it is at the job's beginning: it was neither [restored](Self::restored) nor
    /// [overwritten](Self::overwrite), and has completed no clock. Where the others are far ahead,
    /// its server has forgotten what it had.
    pub fn is_new(&self) -> bool {
        self.is_new && self.clock() == Clock(0)
    }

    /// How far it is, for `worker`, which comes to it.
    pub fn standing(&self, worker: WorkerId) -> Standing {
        let (clock, is_new) = (self.clock(), self.is_new());
        Standing { shard: self.id, clock, worker: self.flushed(worker), is_new }
    }

    /// The shard's clock: the least clock of its live workers, or what it has [jumped](Self::jump)
    /// to.
    pub fn clock(&self) -> Clock {
        self.workers.minimum()
    }

    /// The current values of a table's part, shape `[slots * width]`.
    pub fn values(&self, table: TableId) -> &[f32] {
        &self.tables[table.index()].values
    }

    /// How many tables there are.
    pub fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// Reads that wait, with their reasons.
    pub fn waiting(&self) -> impl Iterator<Item = (WorkerId, Wait)> {
        self.parked.iter().map(|p| (p.read.worker, p.why))
    }

    /// Reads that wait, with their reasons and for how long it has been that one.
    pub fn waiting_since(&self, now: Instant) -> impl Iterator<Item = (WorkerId, Wait, Duration)> {
        self.parked.iter().map(move |p| (p.read.worker, p.why, now.saturating_duration_since(p.since)))
    }

    /// For how long reads have been held, by reason, those of all workers added up.
    pub fn held(&self, now: Instant) -> BTreeMap<Wait, Duration> {
        let mut held = self.held.clone();
        for (_, why, time) in self.waiting_since(now) {
            *held.entry(why).or_default() += time;
        }
        held
    }

    /// The clock of a worker, if it is known and live.
    pub fn clock_of(&self, worker: WorkerId) -> Option<Clock> {
        self.workers.clock_of(worker)
    }

    /// The clock of the last flush of a worker that is in, whether it is live or not; none if there
    /// is no such worker.
    pub fn flushed(&self, worker: WorkerId) -> Option<Clock> {
        self.workers.flushed(worker)
    }

    /// How many workers there are, live or not.
    pub fn worker_count(&self) -> usize {
        self.workers.worker_count()
    }

    /// The suspended workers with their clocks.
    pub fn suspended_workers(&self) -> impl Iterator<Item = (WorkerId, Clock)> {
        self.workers.suspended()
    }

    /// The live workers with their clocks.
    pub fn live_workers(&self) -> impl Iterator<Item = (WorkerId, Clock)> {
        self.workers.live()
    }

    /// Whether nobody trains on this shard.
    pub fn is_idle(&self) -> bool {
        self.workers.live().next().is_none()
    }

    /// Counts `worker` among the live ones, at `clock` or later; yields its clock from then on, as
    /// [`VectorClock::join`] has it.
    pub fn join(&mut self, worker: WorkerId, clock: Clock) -> Option<Clock> {
        self.workers.join(worker, clock)
    }

    /// Adds a worker's deltas and advances its clock, which may leave out some: a worker that finds
    /// the shard ahead of it goes on there.
    ///
    /// A flush that has come before changes nothing: a worker whose connection broke says again
    /// what was not confirmed. One of a worker that is not live, as it was suspended or has left
    /// meanwhile, is late, and added all the same.
    ///
    /// # Errors
    ///
    /// If the flush makes no sense; then nothing has changed.
    pub fn handle_flush(&mut self, flush: &Flush) -> Result<Flushed, RequestError> {
        let Some(most) = self.check_flush(flush)? else { return Ok(Flushed::Before) };
        Ok(Flushed::Now(self.add_flush(flush, most, None)))
    }

    /// The largest magnitude of a flush that is to be added: it makes sense, and has not come
    /// before.
    ///
    /// # Errors
    ///
    /// If it makes no sense, or would make a value too large.
    pub fn check_flush(&self, flush: &Flush) -> Result<Option<f32>, RequestError> {
        let last = self.workers.flushed(flush.worker).ok_or(RequestError::UnknownWorker(flush.worker))?;
        if flush.clock <= last {
            return Ok(None);
        }
        flush.deltas.iter().try_for_each(|block| self.check_block(block))?;
        check_order(&flush.deltas)?;
        let most = flush.deltas.iter().map(RowBlock::largest).fold(0.0, larger);
        if self.non_finite == NonFinite::Refuse {
            if !most.is_finite() {
                self.check_finite(flush)?;
            }
            self.check_size(flush)?;
            if !self.reach.has_room(most) {
                self.check_sums(flush)?;
            }
        }
        Ok(Some(most))
    }

    /// Adds a flush that is [to be added](Self::check_flush), in which no delta is larger than
    /// `most`, by the rules of its tables. Appends to `changes` what values have changed by, for
    /// somebody else to add: a value has steps, so that this is not what was pushed. Yields the
    /// shard's clock if it moved.
    pub fn add_flush(
        &mut self,
        flush: &Flush,
        most: f32,
        mut changes: Option<&mut Vec<Elements>>,
    ) -> Option<Clock> {
        self.reach.extend(most);
        self.flushes += 1;
        let rounding = Rounding::of(self.flushes);
        for blocks in flush.deltas.chunk_by(|a, b| a.table() == b.table()) {
            let table = blocks[0].table();
            if let Some(Some(usual)) = self.usual.get_mut(table.index()) {
                usual.observe(blocks.iter().map(|block| &block.values()[..]));
            }
            let takes_changes = self.rules.get(table.index()).is_none_or(|rule| rule.rule().takes_changes());
            match &mut changes {
                None if takes_changes => self.add_blocks(table, blocks, rounding),
                changes => {
                    let mut step = self.step_of(flush.worker, table, blocks);
                    self.add(table, &mut step, rounding);
                    if let Some(changes) = changes
                        && !step.is_empty()
                    {
                        changes.push(step);
                    }
                }
            }
        }
        self.workers.tick(flush.worker, flush.clock)
    }

    /// The changes that a worker has pushed, or that the table's rule makes of what it has.
    fn step_of(&mut self, worker: WorkerId, table: TableId, blocks: &[RowBlock]) -> Elements {
        let mut step = Elements::new(table);
        blocks.iter().for_each(|block| block.non_zero(&mut step));
        let Some(rule) = self.rules.get_mut(table.index()) else { return step };
        if rule.rule().takes_changes() {
            return step;
        }
        rule.apply(worker, &mut step);
        if self.non_finite == NonFinite::Refuse {
            // What was pushed was looked at; a step from it that would go too far is not made.
            let values = &self.tables[table.index()].values;
            for (index, change) in step.indexes.iter().zip(&mut step.values) {
                if !may_add(values[*index as usize], *change, MAX_SUM) {
                    *change = 0.0;
                }
            }
        }
        self.reach.extend(largest(&step.values));
        step
    }

    /// Tells rules what a worker is about to know.
    fn note_read(&mut self, read: &Read) {
        for group in &read.groups {
            if let Some(rule) = self.rules.get_mut(group.table.index()) {
                let width = self.tables[group.table.index()].shape.width as usize;
                rule.read(read.worker, width, group.slots.iter());
            }
        }
    }

    /// Stops waiting for `worker` and forgets its read; yields the shard's new clock if it moved.
    pub fn remove_worker(&mut self, worker: WorkerId) -> Option<Clock> {
        self.parked.retain(|p| p.read.worker != worker);
        self.workers.remove(worker)
    }

    /// Stops waiting for `worker`, of which nothing is heard, until it [resumes](Self::resume);
    /// yields the shard's new clock if it moved. A read of it stays: the worker may still be there,
    /// and takes the answer if it comes back in time.
    pub fn suspend(&mut self, worker: WorkerId) -> Option<Clock> {
        self.workers.suspend(worker)
    }

    /// Waits for `worker` again, if it was suspended, at the shard's clock or its own; yields that.
    pub fn resume(&mut self, worker: WorkerId) -> Option<Clock> {
        self.workers.resume(worker)
    }

    /// Makes the shard's clock at least `clock`, wherever its workers are: what they have yet to
    /// flush of before is added when it comes, and not waited for. Yields the clock if it moved.
    pub fn jump(&mut self, clock: Clock) -> Option<Clock> {
        self.workers.jump(clock)
    }

    /// Takes the flushes of all workers up to `clock` to be in, since their deltas have come
    /// another way: they count as having come before.
    pub fn presume_flushed(&mut self, clock: Clock) {
        self.workers.presume_flushed(clock);
    }

    /// Replaces all values of a table, shape `[slots * width]`: every row counts as changed.
    ///
    /// # Panics
    ///
    /// If there is no such table, or `values` does not fit it.
    pub fn overwrite(&mut self, table: TableId, values: Vec<f32>) {
        let state = &mut self.tables[table.index()];
        assert_eq!(values.len(), state.values.len(), "values fill the table");
        self.version += 1;
        self.is_new = false;
        self.reach.extend(largest(&values));
        state.values = values;
        state.changed.fill(self.version);
    }

    /// Adds to all values of a table, shape `[slots * width]`: every row counts as changed.
    ///
    /// # Panics
    ///
    /// If there is no such table, or `values` does not fit it.
    pub fn add_to_all(&mut self, table: TableId, values: &[f32]) {
        let state = &mut self.tables[table.index()];
        assert_eq!(values.len(), state.values.len(), "values fill the table");
        self.version += 1;
        self.reach.extend(largest(values));
        state.values.iter_mut().zip(values).for_each(|(value, more)| *value += more);
        state.changed.fill(self.version);
    }

    /// What workers read of these rows has changed, though their values have not.
    ///
    /// # Panics
    ///
    /// If there is no such table or row.
    pub fn touch(&mut self, table: TableId, slots: impl IntoIterator<Item = u32>) {
        self.version += 1;
        let version = self.version;
        let changed = &mut self.tables[table.index()].changed;
        slots.into_iter().for_each(|slot| changed[slot as usize] = version);
    }

    /// Adds deltas, wherever they come from.
    ///
    /// # Panics
    ///
    /// If an index is out of range: decoding checks every index, so that would be our own bug.
    pub fn apply(&mut self, delta: &Elements) {
        if delta.is_empty() {
            return;
        }
        self.reach.extend(largest(&delta.values));
        self.additions += 1;
        let rounding = Rounding::of(self.additions);
        let (table, version) = self.changing(delta.table);
        let mut rows = ChangedRows::new(table.shape.width, version);
        for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
            let place = &mut table.values[index as usize];
            *place = rounding.add(*place, value, index);
            rows.note(index, &mut table.changed);
        }
    }

    /// Adds deltas, and makes each what its value has changed by.
    fn add(&mut self, table: TableId, deltas: &mut Elements, rounding: Rounding) {
        let (table, version) = self.changing(table);
        let mut rows = ChangedRows::new(table.shape.width, version);
        for (&index, value) in deltas.indexes.iter().zip(&mut deltas.values) {
            let place = &mut table.values[index as usize];
            let sum = rounding.add(*place, *value, index);
            let change = sum - *place;
            // Of what is infinite already there is no change that could be told.
            *value = if change.is_finite() { change } else { *value };
            *place = sum;
            rows.note(index, &mut table.changed);
        }
    }

    /// Adds whole rows, those elements that are not zero.
    fn add_blocks(&mut self, table: TableId, blocks: &[RowBlock], rounding: Rounding) {
        let (table, version) = self.changing(table);
        let width = table.shape.width as usize;
        for (slots, deltas) in blocks.iter().flat_map(RowBlock::runs) {
            let first = slots.start as usize * width;
            let values = &mut table.values[first..first + deltas.len()];
            rounding.add_to(values, deltas, first as u32);
            let changed = &mut table.changed[slots.start as usize..slots.end as usize];
            for (changed, deltas) in changed.iter_mut().zip(deltas.chunks_exact(width)) {
                let is_some = deltas.iter().fold(0, |bits, delta| bits | magnitude(*delta)) != 0;
                *changed = if is_some { version } else { *changed };
            }
        }
    }

    /// A table that is about to change, and the version that it is then.
    fn changing(&mut self, table: TableId) -> (&mut TableState, u64) {
        self.version += 1;
        (&mut self.tables[table.index()], self.version)
    }

    /// Answers a read if it may be answered now; otherwise keeps it until
    /// [`poll_reply`](Self::poll_reply) can.
    ///
    /// # Errors
    ///
    /// If the read makes no sense; then it is not kept.
    pub fn handle_read(
        &mut self,
        read: Read,
        now: Instant,
        gate: &impl ReadGate,
    ) -> Result<Option<ReadReply>, RequestError> {
        self.check_read(&read)?;
        // A worker that has left out clocks, as a shard elsewhere was ahead, says so by what it
        // asks.
        self.workers.reach(read.worker, read.clock);
        // A worker has one read at a time: it asks again when its connection broke.
        self.parked.retain(|p| p.read.worker != read.worker);
        Ok(match self.why_held(&read, gate) {
            None => {
                self.note_read(&read);
                Some(self.reply(&read, Vec::new(), gate))
            }
            Some(why) => {
                self.parked.push(Parked { read, why, since: now, held: Vec::new() });
                None
            }
        })
    }

    /// The next waiting read that may be answered now. Call it until `None` after anything has
    /// changed.
    pub fn poll_reply(&mut self, now: Instant, gate: &impl ReadGate) -> Option<ReadReply> {
        for i in 0..self.parked.len() {
            let why = self.why_held(&self.parked[i].read, gate);
            let parked = &mut self.parked[i];
            if why == Some(parked.why) {
                continue;
            }
            let (was, spent) = parked.charge(now);
            *self.held.entry(was).or_default() += spent;
            match why {
                Some(why) => parked.why = why,
                None => {
                    let parked = self.parked.remove(i);
                    self.note_read(&parked.read);
                    return Some(self.reply(&parked.read, parked.held, gate));
                }
            }
        }
        None
    }

    fn why_held(&self, read: &Read, gate: &impl ReadGate) -> Option<Wait> {
        if let Some(s) = self.staleness {
            // All updates stamped <= c - s - 1 are in when the shard's clock is at least c - s.
            // Where nobody trains, no more will come.
            if self.clock().0 < read.clock.0.saturating_sub(s) && !self.is_idle() {
                return Some(Wait::Stale);
            }
        }
        let by_row = || read.groups.iter().find_map(|g| gate.why_rows_held(g.table, &g.slots));
        gate.why_all_held(read.clock).or_else(by_row)
    }

    fn reply(&self, read: &Read, held: Vec<(Wait, Duration)>, gate: &impl ReadGate) -> ReadReply {
        ReadReply {
            shard: self.id,
            worker: read.worker,
            clock: self.clock(),
            version: self.version,
            blocks: self.blocks(&read.groups, gate),
            held,
            is_last: true,
        }
    }

    /// What is new of these rows.
    fn blocks(&self, groups: &[RowGroup], gate: &impl ReadGate) -> Vec<RowBlock> {
        let news: Vec<Slots> = groups.iter().map(|group| self.news(group)).collect();
        let width = |group: &RowGroup| self.tables[group.table.index()].shape.width as usize;
        let expected = groups.iter().zip(&news).map(|(group, news)| news.len() * width(group)).sum();
        let mut blocks = Blocks::expecting(expected);
        for (group, news) in groups.iter().zip(&news) {
            blocks.end_block();
            let (table, width) = (&self.tables[group.table.index()], width(group));
            for slots in news.runs() {
                blocks.append(group.table, width, slots, |part, values| {
                    let before = values.len();
                    let elements = part.start as usize * width..part.end as usize * width;
                    values.extend_from_slice(&table.values[elements]);
                    for (slot, row) in part.zip(values[before..].chunks_exact_mut(width.max(1))) {
                        gate.adjust(group.table, slot, row);
                    }
                    values[before..].iter().fold(0, |most, value| most.max(magnitude(*value)))
                });
            }
        }
        blocks.finish()
    }

    /// Which of these rows have changed since.
    fn news(&self, group: &RowGroup) -> Slots {
        let changed = &self.tables[group.table.index()].changed;
        if group.since == 0 {
            // Whoever has nothing wants everything.
            return group.slots.clone();
        }
        let mut news = Slots::default();
        for run in group.slots.runs() {
            let mut rest = run;
            while !rest.is_empty() {
                let of_run = &changed[rest.start as usize..rest.end as usize];
                let is_new = of_run[0] > group.since;
                let alike = of_run.iter().take_while(|version| (**version > group.since) == is_new).count();
                let end = rest.start + alike as u32;
                if is_new {
                    news.extend(rest.start..end);
                }
                rest.start = end;
            }
        }
        news
    }

    /// The shape of this shard's part of `table`.
    ///
    /// # Errors
    ///
    /// If there is no such table.
    pub fn shape(&self, table: TableId) -> Result<ShardTable, RequestError> {
        self.tables.get(table.index()).map(|t| t.shape).ok_or(RequestError::UnknownTable(table))
    }
}

/// Notes at which version rows change, by the indexes of elements, which ascend: a row's end is
/// found by comparison, as dividing for each element would cost more.
struct ChangedRows {
    width: u32,
    version: u64,
    row_end: u32,
}

impl ChangedRows {
    fn new(width: u32, version: u64) -> Self {
        Self { width, version, row_end: 0 }
    }

    fn note(&mut self, index: u32, changed: &mut [u64]) {
        if index >= self.row_end {
            let slot = index / self.width;
            changed[slot as usize] = self.version;
            self.row_end = (slot + 1).saturating_mul(self.width);
        }
    }
}

impl Parked {
    /// Charges the time since the last charge to the reason that held; yields both.
    fn charge(&mut self, now: Instant) -> (Wait, Duration) {
        let spent = now.saturating_duration_since(self.since);
        self.since = now;
        match self.held.iter_mut().find(|(why, _)| *why == self.why) {
            Some((_, total)) => *total += spent,
            None => self.held.push((self.why, spent)),
        }
        (self.why, spent)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests;
