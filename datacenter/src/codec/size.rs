//! The size of an index set in every encoding that can be counted, without encoding it (time-free).
//!
//! Indexes are looked at as gaps (how many are left out between neighbours), in blocks of
//! [`BLOCK`], which is also the block of the Rice encoding. A block without gaps, the common one in
//! dense data, costs a comparison.

use prost::encoding::encoded_len_varint;

use super::indexes::IndexEncoding;
use super::rice;

/// How many gaps share a Rice parameter: large enough that its five bits vanish, small enough to
/// follow density.
pub(super) const BLOCK: usize = 128;

/// Adds up what a set of indexes costs in each encoding, as the indexes are pushed in ascending
/// order.
///
/// ```
/// # use datacenter::{Elements, codec, codec::IndexSizer};
/// let mut sizer = IndexSizer::new();
/// sizer.push(7);
/// sizer.push_run(10, 100);
/// let elements = Elements {
///     indexes: std::iter::once(7).chain(10..110).collect(),
///     values: vec![1.0; 101],
///     ..Elements::default()
/// };
/// assert_eq!(sizer.elements_len(), codec::encoded_len(&elements));
/// ```
#[derive(Clone, Debug)]
pub struct IndexSizer {
    count: usize,
    first: u32,
    last: u32,
    /// Length of the run that is still open.
    run: u32,
    /// Bytes of the runs that are closed, with the gap that follows each.
    runs_bytes: usize,
    delta_bytes: usize,
    rice_bits: u64,
    gaps: [u32; BLOCK],
    /// How many of `gaps` are in use.
    pending: usize,
}

impl Default for IndexSizer {
    fn default() -> Self {
        Self::new()
    }
}

impl IndexSizer {
    /// The empty set.
    pub fn new() -> Self {
        Self {
            count: 0,
            first: 0,
            last: 0,
            run: 0,
            runs_bytes: 0,
            delta_bytes: 0,
            rice_bits: 0,
            gaps: [0; BLOCK],
            pending: 0,
        }
    }

    /// The set of `indexes`.
    ///
    /// # Panics
    ///
    /// If they do not strictly ascend.
    pub fn of(indexes: &[u32]) -> Self {
        assert!(is_strictly_ascending(indexes), "indexes strictly ascend");
        let mut sizer = Self::new();
        let Some((&first, rest)) = indexes.split_first() else {
            return sizer;
        };
        sizer.push(first);
        for block in rest.chunks(BLOCK) {
            let previous = sizer.last;
            sizer.last = block[block.len() - 1];
            sizer.count += block.len();
            if (sizer.last - previous) as usize == block.len() {
                sizer.add_contiguous(block.len() as u32);
            } else {
                write_gaps(previous, block, &mut sizer.gaps);
                sizer.pending = block.len();
                sizer.close_block();
            }
        }
        sizer
    }

    /// Adds `index`, which must be larger than all before it.
    pub fn push(&mut self, index: u32) {
        if self.count == 0 {
            self.first = index;
            self.run = 1;
        } else {
            debug_assert!(self.last < index, "indexes strictly ascend");
            self.push_gap(index.wrapping_sub(self.last).wrapping_sub(1));
        }
        self.count += 1;
        self.last = index;
    }

    /// Adds the `count` indexes from `start`, which must be larger than all before it.
    pub fn push_run(&mut self, start: u32, count: u32) {
        if count == 0 {
            return;
        }
        self.push(start);
        let mut gaps = count as usize - 1;
        while gaps > 0 {
            if self.pending == 0 && gaps >= BLOCK {
                self.add_contiguous(BLOCK as u32);
                gaps -= BLOCK;
                continue;
            }
            let filled = gaps.min(BLOCK - self.pending);
            self.gaps[self.pending..][..filled].fill(0);
            self.pending += filled;
            gaps -= filled;
            if self.pending == BLOCK {
                self.close_block();
            }
        }
        self.count += count as usize - 1;
        self.last = start + (count - 1);
    }

    /// How many indexes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The smallest encoding of those that can be counted; of equals, the one that is faster to
    /// read.
    pub fn encoding(&self) -> IndexEncoding {
        self.smallest().0
    }

    /// The length in bytes of the payload of these indexes alone.
    pub fn indexes_len(&self) -> usize {
        let head = 1 + encoded_len_varint(self.count as u64);
        if self.count == 0 { head } else { head + encoded_len_varint(self.first.into()) + self.smallest().1 }
    }

    /// The length in bytes of the payload of elements with these indexes.
    pub fn elements_len(&self) -> usize {
        self.indexes_len() + self.count * size_of::<f32>()
    }

    /// The length in bytes of the body in `encoding`; `None` where it cannot express the set, or is
    /// not counted.
    pub(super) fn body_len(&self, encoding: IndexEncoding) -> Option<usize> {
        let mut closed;
        let sizer = if self.pending == 0 {
            self
        } else {
            closed = self.clone();
            closed.close_block();
            &closed
        };
        let span = (sizer.last - sizer.first) as usize;
        match encoding {
            IndexEncoding::Dense => (sizer.count == 0 || span + 1 == sizer.count).then_some(0),
            IndexEncoding::Runs => Some(sizer.runs_bytes + varint_len(sizer.run.saturating_sub(1))),
            IndexEncoding::Bitmap => Some(span.div_ceil(8)),
            IndexEncoding::Delta => Some(sizer.delta_bytes),
            IndexEncoding::Rice => Some(sizer.rice_bits.div_ceil(8) as usize),
            // It adapts, so its size is known only when it is written.
            IndexEncoding::Rows => None,
        }
    }

    fn smallest(&self) -> (IndexEncoding, usize) {
        let sizes = IndexEncoding::ALL.map(|encoding| (encoding, self.body_len(encoding)));
        let mut best = (IndexEncoding::Dense, usize::MAX);
        for (encoding, size) in sizes {
            if let Some(size) = size
                && size < best.1
            {
                best = (encoding, size);
            }
        }
        best
    }

    fn push_gap(&mut self, gap: u32) {
        self.gaps[self.pending] = gap;
        self.pending += 1;
        if self.pending == BLOCK {
            self.close_block();
        }
    }

    /// Accounts for the gaps collected so far as one block.
    fn close_block(&mut self) {
        let gaps = &self.gaps[..self.pending];
        if gaps.iter().fold(0, |all, gap| all | gap) == 0 {
            self.add_contiguous(self.pending as u32);
        } else {
            self.delta_bytes += gaps.iter().map(|gap| varint_len(*gap)).sum::<usize>();
            self.rice_bits += rice::block_bits(gaps);
            for &gap in gaps {
                if gap > 0 {
                    self.runs_bytes += varint_len(self.run - 1) + varint_len(gap - 1);
                    self.run = 0;
                }
                self.run += 1;
            }
        }
        self.pending = 0;
    }

    /// Accounts for a block of `count` gaps that are all zero.
    fn add_contiguous(&mut self, count: u32) {
        self.delta_bytes += count as usize;
        self.rice_bits += rice::contiguous_bits(count as usize);
        self.run += count;
    }
}

/// Writes how many indexes are left out before each of `block`, which follows `previous`.
pub(super) fn write_gaps(previous: u32, block: &[u32], gaps: &mut [u32; BLOCK]) {
    gaps[0] = block[0] - previous - 1;
    for (gap, pair) in gaps[1..].iter_mut().zip(block.windows(2)) {
        *gap = pair[1].wrapping_sub(pair[0]).wrapping_sub(1);
    }
}

/// The length of a varint of 32 bits, written as a sum so that the loop over a block vectorises.
fn varint_len(value: u32) -> usize {
    1 + usize::from(value >= 1 << 7)
        + usize::from(value >= 1 << 14)
        + usize::from(value >= 1 << 21)
        + usize::from(value >= 1 << 28)
}

/// Without an early exit, so that it vectorises: the answer is expected to be yes.
fn is_strictly_ascending(indexes: &[u32]) -> bool {
    indexes.windows(2).fold(true, |ascending, pair| ascending & (pair[0] < pair[1]))
}
