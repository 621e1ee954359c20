//! A set of elements, cheap to walk in order when it is sparse (time-free).
//!
//! One bit for each element, in words of 64, and one bit for each word that is not zero. Elements are grouped by word
//! rather than by row: rows are as narrow as one element and as wide as a table, words always fit a register.

/// A set of numbers below a fixed bound.
#[derive(Clone, Debug)]
pub(super) struct SparseBits {
    words: Vec<u64>,
    /// Bit `i % 64` of entry `i / 64`: whether `words[i]` is not zero.
    summary: Vec<u64>,
}

impl SparseBits {
    /// The empty set of numbers below `bound`.
    pub(super) fn new(bound: usize) -> Self {
        let words = bound.div_ceil(64);
        Self { words: vec![0; words], summary: vec![0; words.div_ceil(64)] }
    }

    /// How many summary words there are, each standing for 4096 numbers.
    pub(super) fn summary_count(&self) -> usize {
        self.summary.len()
    }

    /// Which of the words from `64 * i` on are not zero.
    pub(super) fn summary(&self, i: usize) -> u64 {
        self.summary[i]
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.summary.iter().all(|word| *word == 0)
    }

    /// The word of the numbers from `64 * i` on.
    pub(super) fn word(&self, i: usize) -> u64 {
        self.words[i]
    }

    /// Adds the numbers of `bits` to word `i`.
    pub(super) fn add(&mut self, i: usize, bits: u64) {
        self.words[i] |= bits;
        self.summary[i / 64] |= u64::from(bits != 0) << (i % 64);
    }

    /// Makes `bits` word `i`, and returns what it was.
    pub(super) fn replace(&mut self, i: usize, bits: u64) -> u64 {
        let mask = 1 << (i % 64);
        let summary = &mut self.summary[i / 64];
        *summary = if bits == 0 { *summary & !mask } else { *summary | mask };
        std::mem::replace(&mut self.words[i], bits)
    }
}

/// The positions of the bits of `word`, ascending.
pub(super) fn positions(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = word.checked_ilog2().map(|_| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        position
    })
}
