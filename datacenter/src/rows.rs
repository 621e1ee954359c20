//! Rows of tables on their way between workers and shards: which they are, and their values.
//!
//! Inside a datacenter bytes are cheap and time is not, so rows travel as they lie in memory: slots
//! as ranges where they lie side by side, values whole and in order. A message of many rows is a
//! few [blocks](RowBlock), each within one piece of the [pool](crate::buffer).
//!
//! Kind: time-free.

use std::ops::Range;

use crate::buffer::{self, Buffer, PIECE};
use crate::sums::magnitude;
use crate::{Elements, TableId};

/// Slots of a shard, strictly ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slots {
    /// They lie side by side; also where there are fewer than two.
    Range(Range<u32>),
    /// They do not.
    List(Vec<u32>),
}

impl Default for Slots {
    fn default() -> Self {
        Self::Range(0..0)
    }
}

impl Slots {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last of them.
    pub fn last(&self) -> Option<u32> {
        match self {
            Self::Range(range) => range.clone().last(),
            Self::List(list) => list.last().copied(),
        }
    }

    /// The `place`-th of them.
    pub fn get(&self, place: usize) -> Option<u32> {
        match self {
            Self::Range(range) => range.clone().nth(place),
            Self::List(list) => list.get(place).copied(),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (range, list) = match self {
            Self::Range(range) => (range.clone(), &[][..]),
            Self::List(list) => (0..0, list.as_slice()),
        };
        range.chain(list.iter().copied())
    }

    /// Those that lie side by side, together.
    pub fn runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let (range, mut list) = match self {
            Self::Range(range) => (Some(range.clone()).filter(|range| !range.is_empty()), &[][..]),
            Self::List(list) => (None, list.as_slice()),
        };
        let of_list = std::iter::from_fn(move || {
            let (&first, _) = list.split_first()?;
            let length = (first..).zip(list).take_while(|(expected, slot)| expected == *slot).count();
            list = &list[length..];
            Some(first..first + length as u32)
        });
        range.into_iter().chain(of_list)
    }

    /// Appends a slot beyond the last.
    ///
    /// # Panics
    ///
    /// If it is not beyond it, as that is a bug of the caller.
    pub fn push(&mut self, slot: u32) {
        self.extend(slot..slot + 1);
    }

    /// Appends slots beyond the last, likewise.
    ///
    /// # Panics
    ///
    /// As [`push`](Self::push).
    pub fn extend(&mut self, slots: Range<u32>) {
        assert!(self.last().is_none_or(|last| last < slots.start), "slots ascend");
        match self {
            _ if slots.is_empty() => {}
            Self::Range(range) if range.start == range.end => *range = slots,
            Self::Range(range) if range.end == slots.start => range.end = slots.end,
            Self::Range(range) => *self = Self::List(range.clone().chain(slots).collect()),
            Self::List(list) => list.extend(slots),
        }
    }

    /// Appends all of `slots`, which are beyond the last.
    ///
    /// # Panics
    ///
    /// As [`push`](Self::push).
    pub fn append(&mut self, slots: &Self) {
        slots.runs().for_each(|run| self.extend(run));
    }

    /// Whether all of `others` are among them.
    pub fn contains_all(&self, others: &Self) -> bool {
        match (self, others) {
            (_, Self::Range(range)) if range.is_empty() => true,
            (Self::Range(all), others) => {
                let (first, last) = (others.get(0), others.last());
                first.is_some_and(|first| first >= all.start) && last.is_some_and(|last| last < all.end)
            }
            (Self::List(all), others) => {
                let mut rest = all.as_slice();
                others.iter().all(|slot| {
                    // What is asked for is mostly what comes, in order.
                    let place = match rest.first() {
                        Some(first) if *first == slot => 0,
                        _ => rest.partition_point(|known| *known < slot),
                    };
                    rest = &rest[place..];
                    rest.first() == Some(&slot)
                })
            }
        }
    }
}

impl From<Range<u32>> for Slots {
    fn from(slots: Range<u32>) -> Self {
        Self::Range(slots)
    }
}

impl FromIterator<u32> for Slots {
    /// # Panics
    ///
    /// If they do not ascend.
    fn from_iter<I: IntoIterator<Item = u32>>(slots: I) -> Self {
        let mut all = Self::default();
        slots.into_iter().for_each(|slot| all.push(slot));
        all
    }
}

impl From<Vec<u32>> for Slots {
    /// # Panics
    ///
    /// If they do not ascend.
    fn from(slots: Vec<u32>) -> Self {
        assert!(slots.is_sorted_by(|a, b| a < b), "slots ascend");
        match (slots.first(), slots.last()) {
            (Some(&first), Some(&last)) if last - first >= slots.len() as u32 => Self::List(slots),
            (Some(&first), Some(&last)) => Self::Range(first..last + 1),
            _ => Self::default(),
        }
    }
}

impl<const N: usize> From<[u32; N]> for Slots {
    fn from(slots: [u32; N]) -> Self {
        slots.to_vec().into()
    }
}

/// Whole rows of one table on one shard.
#[derive(Clone, Debug, PartialEq)]
pub struct RowBlock {
    table: TableId,
    slots: Slots,
    values: Buffer,
    /// The largest magnitude, as bits.
    most: u32,
}

impl RowBlock {
    /// Rows in `slots` of `table`, with `values` of shape `[slots, width]`.
    ///
    /// # Panics
    ///
    /// If the values do not fill a row in each slot.
    pub fn new(table: TableId, slots: impl Into<Slots>, values: impl Into<Buffer>) -> Self {
        let (slots, values) = (slots.into(), values.into());
        let fills = match slots.len() {
            0 => values.is_empty(),
            rows => !values.is_empty() && values.len().is_multiple_of(rows),
        };
        assert!(fills, "values fill the rows");
        let most = values.iter().fold(0, |most, value| most.max(magnitude(*value)));
        Self { table, slots, values, most }
    }

    /// The table.
    pub fn table(&self) -> TableId {
        self.table
    }

    /// Which rows, at least one where they come from a [`Client`](crate::client::Client) or
    /// another process.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Their values, shape `[slots, width]`.
    pub fn values(&self) -> &Buffer {
        &self.values
    }

    /// How many elements each row has.
    pub fn width(&self) -> usize {
        self.values.len() / self.slots.len().max(1)
    }

    /// The largest magnitude: infinite or NaN if one of the values is.
    pub fn largest(&self) -> f32 {
        f32::from_bits(self.most)
    }

    /// Rows that lie side by side, together with their values.
    pub fn runs(&self) -> impl Iterator<Item = (Range<u32>, &[f32])> {
        let (width, mut rest) = (self.width(), &self.values[..]);
        self.slots.runs().map(move |slots| {
            let (values, others) = rest.split_at(slots.len() * width);
            rest = others;
            (slots, values)
        })
    }

    /// Values with their flat indexes `slot * width + column`.
    pub fn indexed(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        let width = self.width() as u32;
        self.runs().flat_map(move |(slots, values)| (slots.start * width..).zip(values.iter().copied()))
    }

    /// Appends the elements that are not zero to `elements`.
    pub(crate) fn non_zero(&self, elements: &mut Elements) {
        let mut push = |(index, value)| {
            if value != 0.0 {
                elements.push(index, value);
            }
        };
        self.indexed().for_each(&mut push);
    }
}

/// Builds blocks, each within one piece.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    done: Vec<RowBlock>,
    /// Blocks whose values are in `values` from there on.
    open: Vec<(TableId, Slots, usize, u32)>,
    values: Vec<f32>,
    /// Values that are to come, as far as that is known.
    expected: usize,
    /// Whether the last block takes no more.
    is_ended: bool,
}

impl Blocks {
    /// For about so many values.
    pub(crate) fn expecting(values: usize) -> Self {
        Self { expected: values, ..Self::default() }
    }

    /// Appends rows that lie side by side, beyond those that are there of the same table; `fill`
    /// appends the values of those that it is told, and tells the largest magnitude as bits.
    pub(crate) fn append(
        &mut self,
        table: TableId,
        width: usize,
        slots: Range<u32>,
        mut fill: impl FnMut(Range<u32>, &mut Vec<f32>) -> u32,
    ) {
        let mut from = slots.start;
        while from < slots.end {
            let room = self.room(width) / width.max(1);
            let part = from..slots.end.min(from.saturating_add(room.min(u32::MAX as usize) as u32));
            let before = self.values.len();
            let most = fill(part.clone(), &mut self.values);
            debug_assert_eq!(self.values.len() - before, part.len() * width, "as many as are asked for");
            from = part.end;
            let is_ended = std::mem::take(&mut self.is_ended);
            match self.open.last_mut() {
                Some((of, slots, _, largest)) if *of == table && !is_ended => {
                    slots.extend(part);
                    *largest = most.max(*largest);
                }
                _ => self.open.push((table, part.into(), before, most)),
            }
        }
    }

    /// What is appended from now on stands in a block of its own, whatever its table.
    pub(crate) fn end_block(&mut self) {
        self.is_ended = true;
    }

    /// For how many values there is room in the piece, at least for a row's.
    fn room(&mut self, width: usize) -> usize {
        let free = self.values.capacity() - self.values.len();
        if free >= width.max(1) {
            return free;
        }
        self.close();
        let wanted = self.expected.clamp(width, PIECE.max(width));
        self.values = buffer::with_capacity(wanted);
        self.values.capacity()
    }

    fn close(&mut self) {
        self.expected = self.expected.saturating_sub(self.values.len());
        let values = Buffer::new(std::mem::take(&mut self.values));
        let mut end = values.len();
        let first = self.done.len();
        while let Some((table, slots, start, most)) = self.open.pop() {
            self.done.push(RowBlock { table, slots, values: values.slice(start..end), most });
            end = start;
        }
        self.done[first..].reverse();
    }

    /// All blocks, in order.
    pub(crate) fn finish(mut self) -> Vec<RowBlock> {
        self.close();
        self.done
    }
}

/// Rows of the elements of one table, `width` wide: those that are not named are zero.
pub(crate) fn of_elements(elements: &Elements, width: u32) -> Option<RowBlock> {
    let mut slots = Slots::default();
    let mut values: Vec<f32> = Vec::new();
    for (&index, &value) in elements.indexes.iter().zip(&elements.values) {
        let (slot, column) = (index / width, index % width);
        if slots.last() != Some(slot) {
            slots.push(slot);
            values.resize(slots.len() * width as usize, 0.0);
        }
        let row = values.len() - width as usize;
        values[row + column as usize] = value;
    }
    (!slots.is_empty()).then(|| RowBlock::new(elements.table, slots, values))
}

#[cfg(test)]
mod tests;
