//! What has accumulated in one table of one shard (time-free).

use std::ops::Range;

use datacenter::codec::IndexSizer;
use datacenter::{Elements, ShardTable, TableId};

use super::bits::{SparseBits, positions};
use super::census::{Census, Turns};
use super::dense;
use super::measure::{Decided, Measure};
use super::usual::UsualUpdate;
use super::{FilterCounters, TableFigures};
use crate::policy::FilterConfig;

/// The accumulators of one table, 4.3 bytes an element.
#[derive(Debug)]
pub(super) struct TableFilter {
    id: TableId,
    shape: ShardTable,
    /// `a`, `[slots * width]`.
    accumulated: Vec<f32>,
    /// Elements updated since the last release.
    touched: SparseBits,
    /// Elements that the last release held back: all others that were not touched since have `a == 0`.
    held: SparseBits,
    /// By block of 64 elements: the largest `|a|` that the last release held back there; infinite where it is not known.
    largest: Vec<f32>,
    /// Where the threshold follows it.
    usual: Option<UsualUpdate>,
    /// By what the last release decided that held anything back.
    decided: Decided,
    /// How many elements the last release shipped: about as many as the next will.
    shipped: usize,
    counters: FilterCounters,
}

impl TableFilter {
    /// A filter in which nothing has accumulated, and which measures the usual update if it `follows_updates`.
    pub(super) fn new(id: TableId, shape: ShardTable, follows_updates: bool) -> Self {
        let elements = shape.elements();
        Self {
            id,
            shape,
            accumulated: vec![0.0; elements],
            touched: SparseBits::new(elements),
            held: SparseBits::new(elements),
            largest: vec![0.0; elements.div_ceil(64)],
            usual: follows_updates.then(|| UsualUpdate::new(elements)),
            decided: Decided::default(),
            shipped: 0,
            counters: FilterCounters::default(),
        }
    }

    pub(super) fn shape(&self) -> ShardTable {
        self.shape
    }

    pub(super) fn accumulated(&self) -> &[f32] {
        &self.accumulated
    }

    /// Whether nothing was updated and nothing is held back, so that a release would do nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.touched.is_empty() && self.held.is_empty()
    }

    /// Adds deltas to the accumulators.
    pub(super) fn offer(&mut self, deltas: &Elements) {
        add(&mut self.accumulated, &mut self.touched, &deltas.indexes, &deltas.values);
    }

    /// Adds deltas to the accumulators as if they had been held back by the last release.
    pub(super) fn restore(&mut self, remainder: &Elements) {
        add(&mut self.accumulated, &mut self.held, &remainder.indexes, &remainder.values);
        if let Some(usual) = &mut self.usual {
            remainder
                .indexes
                .iter()
                .zip(&remainder.values)
                .for_each(|(index, value)| usual.shift(*index, *value));
        }
        for &index in &remainder.indexes {
            let largest = &mut self.largest[index as usize / 64];
            // Not a number would be passed over by `max`, and with it the whole block.
            *largest = match self.accumulated[index as usize].abs() {
                a if a.is_nan() => f32::INFINITY,
                a => largest.max(a),
            };
        }
    }

    /// Ends a clock: what it has updated counts in the [usual update](UsualUpdate).
    pub(super) fn end_clock(&mut self) {
        let Some(usual) = &mut self.usual else { return };
        for i in 0..self.touched.summary_count() {
            for block in positions(self.touched.summary(i)).map(|p| i * 64 + p) {
                usual.observe(block, self.touched.word(block), &self.accumulated);
            }
        }
        usual.end_clock();
    }

    /// The usual update, where it is measured and there has been one.
    pub(super) fn usual_update(&self) -> Option<f64> {
        self.usual.as_ref().and_then(UsualUpdate::average)
    }

    pub(super) fn counters(&self) -> FilterCounters {
        self.counters
    }

    pub(super) fn figures<'a>(&self, config: &'a FilterConfig) -> TableFigures<'a> {
        let Decided { significance_threshold, threshold, step } = self.decided;
        let (usual_update, counters) = (self.usual_update(), self.counters);
        TableFigures { config, significance_threshold, threshold, step, usual_update, counters }
    }

    /// Holds back all that was updated, and counts what the baseline would send.
    pub(super) fn hold(&mut self) {
        let mut naive = Naive::default();
        for i in 0..self.touched.summary_count() {
            for block in positions(self.touched.summary(i)).map(|p| i * 64 + p) {
                let touched = self.touched.replace(block, 0);
                naive.add(touched, block);
                self.held.add(block, touched);
                self.largest[block] = f32::INFINITY;
            }
        }
        naive.count(&mut self.counters);
    }

    /// Appends what `measure` does not hold back and whose turn it is to `out`, and counts it and what the baseline would send.
    pub(super) fn release(&mut self, mut measure: Measure<'_>, mut turns: Turns, out: &mut Vec<Elements>) {
        self.decided = measure.decided().unwrap_or(self.decided);
        let mut shipped = Elements::new(self.id);
        shipped.indexes.reserve(self.shipped);
        shipped.values.reserve(self.shipped);
        let mut naive = Naive::default();
        for i in 0..self.touched.summary_count() {
            for block in positions(self.touched.summary(i) | self.held.summary(i)).map(|p| i * 64 + p) {
                let touched = self.touched.replace(block, 0);
                if touched == 0 && measure.holds_up_to(self.largest[block]) {
                    continue;
                }
                naive.add(touched, block);
                let waiting = touched | self.held.word(block);
                let kept = measure.release_block(
                    waiting,
                    block * 64,
                    &mut self.accumulated,
                    &mut shipped,
                    &mut turns,
                );
                self.largest[block] = kept.largest;
                self.held.replace(block, kept.bits);
                if let Some(usual) = &mut self.usual {
                    usual.reset(block, &self.accumulated);
                }
            }
        }
        naive.count(&mut self.counters);
        self.shipped = shipped.len();
        self.counters.elements_shipped += shipped.len() as u64;
        if !shipped.is_empty() {
            out.push(shipped);
        }
    }

    /// Counts what `measure` would not hold back, by how many times its threshold it is.
    pub(super) fn count(&self, mut measure: Measure<'_>, census: &mut Census) {
        for i in 0..self.touched.summary_count() {
            for block in positions(self.touched.summary(i) | self.held.summary(i)).map(|p| i * 64 + p) {
                let touched = self.touched.word(block);
                if touched != 0 || !measure.holds_up_to(self.largest[block]) {
                    let waiting = touched | self.held.word(block);
                    measure.count_block(waiting, block * 64, &self.accumulated, census);
                }
            }
        }
    }

    /// All elements with `a != 0`.
    pub(super) fn remainder(&self) -> Elements {
        let mut remainder = Elements::new(self.id);
        for i in 0..self.touched.summary_count() {
            for block in positions(self.touched.summary(i) | self.held.summary(i)).map(|p| i * 64 + p) {
                for index in
                    positions(self.touched.word(block) | self.held.word(block)).map(|p| block * 64 + p)
                {
                    if self.accumulated[index] != 0.0 {
                        remainder.push(index as u32, self.accumulated[index]);
                    }
                }
            }
        }
        remainder
    }
}

/// Adds `deltas[i]` to `accumulated[indexes[i]]`, and the indexes of deltas other than zero to `set`.
///
/// Bits are collected in a register for as long as indexes stay in one word, and whole words are added at once. Any order of
/// indexes is right, ascending ones are fast.
fn add(accumulated: &mut [f32], set: &mut SparseBits, indexes: &[u32], deltas: &[f32]) {
    let Some(&first) = indexes.first() else { return };
    let (mut block, mut bits) = (first as usize / 64, 0);
    let mut at = 0;
    while at < indexes.len() {
        let (index, delta) = (indexes[at] as usize, deltas[at]);
        if index / 64 != block {
            set.add(block, bits);
            (block, bits) = (index / 64, 0);
        }
        if let Some(touched) = add_block(accumulated, &indexes[at..], &deltas[at..]) {
            bits |= touched;
            at += dense::BLOCK;
        } else {
            accumulated[index] += delta;
            bits |= u64::from(delta != 0.0) << (index % 64);
            at += 1;
        }
    }
    set.add(block, bits);
}

/// Adds the first 64 deltas where they are those of a word, and answers which are other than zero.
fn add_block(accumulated: &mut [f32], indexes: &[u32], deltas: &[f32]) -> Option<u64> {
    let indexes: &[u32; dense::BLOCK] = indexes.first_chunk()?;
    let is_likely = indexes[0].is_multiple_of(64) && indexes[63] == indexes[0] + 63;
    let start = is_likely.then_some(indexes[0] as usize)?;
    dense::add(indexes, deltas.first_chunk()?, accumulated.get_mut(start..)?.first_chunk_mut()?)
}

/// What the baseline would send in a clock.
#[derive(Default)]
struct Naive {
    sizer: IndexSizer,
    /// The last run of indexes, which may go on.
    run: Range<u32>,
}

impl Naive {
    /// Adds the elements of a word of `touched`.
    fn add(&mut self, touched: u64, block: usize) {
        let base = (block * 64) as u32;
        let mut rest = touched;
        while rest != 0 {
            let start = rest.trailing_zeros();
            let end = start + (rest >> start).trailing_ones();
            if self.run.end == base + start {
                self.run.end = base + end;
            } else {
                self.sizer.push_run(self.run.start, self.run.len() as u32);
                self.run = base + start..base + end;
            }
            rest &= u64::MAX.checked_shl(end).unwrap_or(0);
        }
    }

    /// Counts them.
    fn count(mut self, counters: &mut FilterCounters) {
        self.sizer.push_run(self.run.start, self.run.len() as u32);
        counters.elements_updated += self.sizer.count() as u64;
        if self.sizer.count() > 0 {
            counters.naive_payload_bytes += self.sizer.elements_len() as u64;
        }
    }
}
