//! Tables of whole numbers: what is refused, so that they stay exact.
//!
//! Kind: time-free.

use super::{RequestError, Shard};
use crate::message::Flush;
use crate::table::{MAX_WHOLE, is_whole};
use crate::{Numbers, TableId};

impl Shard {
    /// The same whose tables hold these numbers.
    ///
    /// # Panics
    ///
    /// If there is not one for each table.
    #[must_use]
    pub fn with_numbers(self, numbers: &[Numbers]) -> Self {
        assert_eq!(numbers.len(), self.tables.len(), "one for each table");
        Self { numbers: numbers.to_vec(), ..self }
    }

    /// Whether a table holds whole numbers alone.
    pub fn is_whole(&self, table: TableId) -> bool {
        self.numbers.get(table.index()) == Some(&Numbers::Whole)
    }

    /// Refuses what would leave something in a table of whole numbers that is none.
    pub(super) fn check_whole(&self, flush: &Flush) -> Result<(), RequestError> {
        self.check_whole_sums(flush, |table, index| self.tables[table.index()].values[index as usize])
    }

    /// Refuses deltas to tables of whole numbers that are none, and those that would bring a sum
    /// beyond [`MAX_WHOLE`] and further from zero than it is; `sum` tells that of an element.
    ///
    /// # Errors
    ///
    /// With the first of them.
    pub fn check_whole_sums(
        &self,
        flush: &Flush,
        sum: impl Fn(TableId, u32) -> f32,
    ) -> Result<(), RequestError> {
        let (worker, clock) = (flush.worker, flush.clock);
        for block in flush.deltas.iter().filter(|block| self.is_whole(block.table())) {
            let (table, width) = (block.table(), self.shape(block.table())?.width);
            if let Some((index, value)) = block.indexed().find(|(_, value)| !is_whole(*value)) {
                let (slot, found) = (index / width, value.to_string());
                return Err(RequestError::NotWhole { worker, clock, table, slot, found });
            }
            let beyond = block.indexed().find(|(index, value)| !may_count(sum(table, *index), *value));
            if let Some((index, value)) = beyond {
                let (slot, found, sum) = (index / width, value.to_string(), sum(table, index).to_string());
                return Err(RequestError::WholeTooLarge { worker, clock, table, slot, found, sum });
            }
        }
        Ok(())
    }
}

/// Whether `sum` and `delta` make a whole number that is exact, or one no further from zero than
/// `sum`. An f32 would round what is just beyond.
fn may_count(sum: f32, delta: f32) -> bool {
    let [before, after] = [f64::from(sum), f64::from(sum) + f64::from(delta)];
    after.abs() <= f64::from(MAX_WHOLE).max(before.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, Elements, ShardId, ShardTable, WorkerId};

    const SHAPE: ShardTable = ShardTable { slots: 2, width: 2 };

    fn flush(table: u16, value: f32) -> Flush {
        let deltas = vec![Elements { table: TableId(table), indexes: vec![3], values: vec![value] }];
        Flush::of_elements(WorkerId(0), Clock(1), &deltas, &[SHAPE; 2])
    }

    #[test]
    fn what_is_not_whole_or_not_exact_is_refused_and_changes_nothing() {
        let initial = vec![vec![0.0; 4], vec![0.0, 0.0, 0.0, MAX_WHOLE - 2.0]];
        let shard = Shard::new(ShardId(0), &[SHAPE; 2], initial, 1, None);
        let mut shard = shard.with_numbers(&[Numbers::Real, Numbers::Whole]);
        let refused =
            |shard: &mut Shard, value| shard.handle_flush(&flush(1, value)).unwrap_err().to_string();
        assert_eq!(
            refused(&mut shard, 0.5),
            "worker 0 flushed a delta of 0.5 at clock 1: table 1, row in slot 1 of this shard; only whole numbers up to \
             16777216 may be added to this table"
        );
        assert_eq!(
            refused(&mut shard, 3.0),
            "worker 0 flushed a delta of 3 at clock 1, which would bring 16777214 beyond 16777216, up to which whole numbers \
             are exact: table 1, row in slot 1 of this shard"
        );
        for value in [f32::NAN, f32::INFINITY, 1e9, -1e9] {
            assert!(refused(&mut shard, value).contains("only whole numbers"), "{value}");
        }
        assert_eq!(shard.values(TableId(1))[3], MAX_WHOLE - 2.0);
        assert!(shard.handle_flush(&flush(1, 2.0)).is_ok() && shard.values(TableId(1))[3] == MAX_WHOLE);
        let mut other = Flush { clock: Clock(2), ..flush(0, 0.5) };
        assert!(shard.handle_flush(&other).is_ok(), "the other table takes anything");
        // What others have brought beyond is nobody's fault who brings it back.
        shard.apply(&flush(1, 4.0).elements()[0]);
        other = Flush { clock: Clock(3), ..flush(1, -2.0) };
        assert!(shard.handle_flush(&other).is_ok());
    }
}
