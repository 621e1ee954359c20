//! The shape of a model: tables of dense rows, and how their rows spread over shards.
//!
//! Row `r` lives on shard `r mod shards`, in slot `r div shards`. Every datacenter uses the same
//! function, so shard `i` holds the same rows everywhere, and neighbouring rows (popular items, in
//! many data sets) land on different shards. Inside a shard an element is named by its flat index
//! `slot * width + column`.

use std::ops::Range;

use crate::sums::largest;
use crate::{Rule, ShardId, TableId};

/// The most elements that one shard may hold of one table: flat indexes are 32 bits wide on the
/// wire.
pub const MAX_SHARD_ELEMENTS: u64 = u32::MAX as u64;

/// Which numbers a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// Any finite f32.
    #[default]
    Real,
    /// Whole numbers of at most [`MAX_WHOLE`] in magnitude, which are exact: counts. A worker's
    /// delta that is no whole number is refused, and so is one that would bring a value further;
    /// what crosses the WAN is whole too. Nothing is rounded, so whatever way deltas take, each
    /// value is the sum of what has arrived of them.
    Whole,
}

/// The largest magnitude of a whole number in a table, 2^24 or 16,777,216: values are kept as f32,
/// which has every whole number up to there, and not the next one.
///
/// A datacenter refuses its own workers' deltas by it, and not what others have added meanwhile. So
/// what all of them together add to an element has to stay within it, which counts of up to 2^24
/// things do by themselves.
pub const MAX_WHOLE: f32 = 16_777_216.0;

/// Whether `value` is a whole number of at most [`MAX_WHOLE`] in magnitude.
pub fn is_whole(value: f32) -> bool {
    // Anything else, NaN too, compares as false.
    value.abs() <= MAX_WHOLE && value.trunc() == value
}

/// A dense table of `rows x width` f32 values.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    /// The name by which people and checkpoints know it.
    pub name: String,
    /// How many rows.
    pub rows: u32,
    /// How many elements in a row.
    pub width: u32,
    /// What a server makes of what workers push. Default [`Rule::Add`].
    pub rule: Rule,
    /// Which numbers it holds. Default [`Numbers::Real`].
    pub numbers: Numbers,
}

impl TableSpec {
    /// A table of that name and shape, to which workers push changes.
    pub fn new(name: impl Into<String>, rows: u32, width: u32) -> Self {
        Self { name: name.into(), rows, width, rule: Rule::Add, numbers: Numbers::Real }
    }

    /// The same with another rule.
    #[must_use]
    pub fn with_rule(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    /// The same with whole numbers alone: counts, which are exact.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { numbers: Numbers::Whole, ..self }
    }

    /// Whether it holds whole numbers alone.
    pub fn is_whole(&self) -> bool {
        self.numbers == Numbers::Whole
    }
}

/// Which shard holds a row, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    shards: u16,
}

impl Placement {
    /// A placement over `shards` shards.
    ///
    /// # Panics
    ///
    /// If `shards` is zero: configuration is checked before it gets here.
    pub fn new(shards: u16) -> Self {
        assert!(shards > 0, "a model has at least one shard");
        Self { shards }
    }

    /// How many shards there are.
    pub fn shard_count(self) -> u16 {
        self.shards
    }

    /// The shard that holds `row`.
    pub fn shard_of(self, row: u32) -> ShardId {
        ShardId((row % u32::from(self.shards)) as u16)
    }

    /// The slot of `row` on its shard.
    pub fn slot_of(self, row: u32) -> u32 {
        row / u32::from(self.shards)
    }

    /// The row in `slot` of `shard`.
    pub fn row_at(self, shard: ShardId, slot: u32) -> u32 {
        slot * u32::from(self.shards) + u32::from(shard.0)
    }

    /// The rows in `slots` of `shard`, if they lie side by side.
    pub(crate) fn rows_at(self, shard: ShardId, slots: Range<u32>) -> Option<Range<u32>> {
        (self.shards == 1 || slots.len() == 1).then(|| {
            let first = self.row_at(shard, slots.start);
            first..first + slots.len() as u32
        })
    }

    /// The shard of `rows` and their slots there, if they lie side by side on one.
    pub(crate) fn slots_of(self, rows: Range<u32>) -> Option<(ShardId, Range<u32>)> {
        (self.shards == 1 || rows.len() == 1).then(|| {
            let first = self.slot_of(rows.start);
            (self.shard_of(rows.start), first..first + rows.len() as u32)
        })
    }

    /// How many of `rows` rows `shard` holds.
    pub fn slot_count(self, shard: ShardId, rows: u32) -> u32 {
        let (shards, shard) = (u32::from(self.shards), u32::from(shard.0));
        rows / shards + u32::from(shard < rows % shards)
    }
}

/// One shard's part of one table: `slots x width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardTable {
    /// How many rows of the table this shard holds.
    pub slots: u32,
    /// How many elements in a row.
    pub width: u32,
}

impl ShardTable {
    /// How many elements: `slots * width`.
    pub fn elements(self) -> usize {
        self.slots as usize * self.width as usize
    }
}

/// The shapes of all tables on `shard`, in the order of `specs`.
pub fn shard_tables(specs: &[TableSpec], placement: Placement, shard: ShardId) -> Vec<ShardTable> {
    specs.iter().map(|t| ShardTable { slots: placement.slot_count(shard, t.rows), width: t.width }).collect()
}

/// What becomes of deltas that are NaN or infinite: one of them in a table is soon in all of its
/// rows, in every datacenter, and never goes away again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// They are refused, with all that came with them.
    #[default]
    Refuse,
    /// They are added like any others: for who wants to see what comes of it.
    Pass,
}

/// Whether none of `values` is NaN or infinite.
pub fn all_finite(values: &[f32]) -> bool {
    largest(values).is_finite()
}

/// What a value that is not finite is called.
pub(crate) fn what_is(value: f32) -> &'static str {
    if value.is_nan() { "NaN" } else { "infinite" }
}

/// Some elements of one table of one shard, by flat index.
///
/// It carries deltas (to be added) and values (to be read) alike; the message it stands in says
/// which.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Elements {
    /// The table.
    pub table: TableId,
    /// Flat indexes `slot * width + column`, strictly ascending.
    pub indexes: Vec<u32>,
    /// One value for each index.
    pub values: Vec<f32>,
}

impl Elements {
    /// No elements of `table`.
    pub fn new(table: TableId) -> Self {
        Self { table, indexes: Vec::new(), values: Vec::new() }
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.indexes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indexes.is_empty()
    }

    /// The first element that is NaN or infinite, if one is.
    pub fn non_finite(&self) -> Option<(u32, f32)> {
        if all_finite(&self.values) {
            return None;
        }
        self.indexes.iter().copied().zip(self.values.iter().copied()).find(|(_, value)| !value.is_finite())
    }

    /// The first element that is no whole number of any size, if one is.
    pub fn fractional(&self) -> Option<(u32, f32)> {
        let mut elements = self.indexes.iter().copied().zip(self.values.iter().copied());
        // What is infinite or NaN has a fraction that is NaN.
        elements.find(|(_, value)| value.fract() != 0.0 || !value.is_finite())
    }

    /// Appends an element; indexes must come in ascending order.
    pub fn push(&mut self, index: u32, value: f32) {
        debug_assert!(self.indexes.last().is_none_or(|last| *last < index), "indexes ascend");
        self.indexes.push(index);
        self.values.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_those_that_are_exact() {
        for value in [0.0, -0.0, 1.0, -3.0, MAX_WHOLE, -MAX_WHOLE] {
            assert!(is_whole(value), "{value}");
        }
        for value in [0.5, -1e-9, 8_388_607.5, 16_777_218.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!is_whole(value), "{value}");
        }
        assert_eq!(MAX_WHOLE + 1.0, MAX_WHOLE, "the next one is no f32");
        assert!(TableSpec::new("counts", 1, 1).whole().is_whole() && !TableSpec::new("w", 1, 1).is_whole());
    }

    #[test]
    fn values_that_are_no_numbers_are_found_wherever_they_stand() {
        let finite = [0.0, -0.0, 1.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::MIN];
        assert!(all_finite(&[]) && all_finite(&finite));
        for (value, what) in [
            (f32::NAN, "NaN"),
            (-f32::NAN, "NaN"),
            (f32::INFINITY, "infinite"),
            (f32::NEG_INFINITY, "infinite"),
            (f32::from_bits(0x7f80_0001), "NaN"),
        ] {
            assert_eq!(what_is(value), what);
            for at in 0..40 {
                let mut elements = Elements::new(TableId(0));
                (0..40).for_each(|i| elements.push(3 * i, finite[i as usize % finite.len()]));
                assert_eq!(elements.non_finite(), None);
                elements.values[at] = value;
                let (index, found) = elements.non_finite().expect("one is none");
                assert_eq!((index, found.to_bits()), (3 * at as u32, value.to_bits()));
            }
        }
    }
}
