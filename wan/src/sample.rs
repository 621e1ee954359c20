//! A sample of a table's elements, by which its statistics cost the same however large it is (time-free).
//!
//! Blocks of 64 neighbours are in the sample or not, as a hash of their place says: all of a small table, about [`MOST_BLOCKS`]
//! of a large one. Every datacenter and every run takes the same.

/// About how many blocks of a table are in its sample at most.
const MOST_BLOCKS: usize = 4096;

/// That a block is not in the sample.
const OUTSIDE: u32 = u32::MAX;

/// Which elements of a table are looked at, and their places among those that are.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// By block of the table: its place in the sample; none where all are in it.
    places: Option<Vec<u32>>,
    elements: usize,
}

impl Sample {
    /// Of a table with so many elements.
    pub(crate) fn of(elements: usize) -> Self {
        let blocks = elements.div_ceil(64);
        if blocks <= MOST_BLOCKS {
            return Self { places: None, elements };
        }
        let mut count = 0;
        let mut place = |block: usize| {
            // The golden ratio spreads blocks over the range of numbers as evenly as can be.
            let hash = (block as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let is_inside = hash * (blocks as u64) < (MOST_BLOCKS as u64) << 32;
            let place = if is_inside { count } else { OUTSIDE };
            count += u32::from(is_inside);
            place
        };
        let places = (0..blocks).map(&mut place).collect();
        Self { places: Some(places), elements: count as usize * 64 }
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.elements
    }

    /// The place of the first element of a block, if the block is in the sample.
    pub(crate) fn block(&self, block: usize) -> Option<usize> {
        match &self.places {
            None => Some(block * 64),
            Some(places) => {
                Some(places[block]).filter(|place| *place != OUTSIDE).map(|place| place as usize * 64)
            }
        }
    }

    /// The place of an element, if it is in the sample.
    pub(crate) fn element(&self, index: usize) -> Option<usize> {
        self.block(index / 64).map(|place| place + index % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_tables_are_looked_at_whole_and_of_large_ones_as_much_as_of_the_largest() {
        for elements in [0, 1, 63, 64, 65, 64 * MOST_BLOCKS] {
            let sample = Sample::of(elements);
            assert_eq!(sample.len(), elements);
            assert!((0..elements).all(|index| sample.element(index) == Some(index)));
        }
        for blocks in [MOST_BLOCKS + 1, 3 * MOST_BLOCKS, 50 * MOST_BLOCKS + 17] {
            let sample = Sample::of(64 * blocks - 5);
            let places: Vec<_> = (0..64 * blocks - 5).filter_map(|index| sample.element(index)).collect();
            assert!(
                (MOST_BLOCKS * 63..=MOST_BLOCKS * 66).contains(&places.len()),
                "{} of {blocks}",
                places.len()
            );
            assert!(places.iter().copied().eq(0..places.len()), "each has a place of its own");
            assert!(places.len() <= sample.len());
        }
    }
}
