//! The encodings of an index set, written and read (time-free).

use std::ops::Range;

use prost::encoding::{decode_varint, encode_varint};

use super::size::{BLOCK, write_gaps};
use super::{CodecError, ValueEncoding, rice, rows};

/// How the indexes after the first are written; the low four bits of the header.
///
/// In the order of how fast they are to read, which also resolves ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexEncoding {
    /// No bytes: the set has no gaps.
    Dense = 0,
    /// Runs of neighbours: `length - 1` of the first as a varint, then for each other the number of
    /// indexes left out before it, less one, and its `length - 1`.
    Runs = 1,
    /// A bit for each index after the first and up to the last, lowest bit first.
    Bitmap = 2,
    /// For each index the number of those left out before it, as a varint.
    Delta = 3,
    /// The same numbers as Golomb-Rice codes, with a parameter for each block of 128.
    Rice = 4,
    /// Gaps between rows, and the columns within them, range-coded; only between datacenters.
    Rows = 5,
}

impl IndexEncoding {
    /// All encodings, in their order.
    pub const ALL: [Self; 6] = [Self::Dense, Self::Runs, Self::Bitmap, Self::Delta, Self::Rice, Self::Rows];

    pub(super) fn from_bits(bits: u8) -> Option<Self> {
        Self::ALL.get(usize::from(bits)).copied()
    }
}

/// Appends what stands before the body.
pub(super) fn write_head(encoding: IndexEncoding, values: ValueEncoding, indexes: &[u32], out: &mut Vec<u8>) {
    write_head_of((encoding, values), indexes.len(), indexes.first().copied(), out);
}

/// The same, of as many indexes.
pub(super) fn write_head_of(
    (encoding, values): (IndexEncoding, ValueEncoding),
    count: usize,
    first: Option<u32>,
    out: &mut Vec<u8>,
) {
    out.push(encoding as u8 | (values as u8) << 4);
    encode_varint(count as u64, out);
    if let Some(first) = first.filter(|_| count > 0) {
        encode_varint(first.into(), out);
    }
}

/// Appends everything but the values.
pub(super) fn write(encoding: IndexEncoding, values: ValueEncoding, indexes: &[u32], out: &mut Vec<u8>) {
    write_head(encoding, values, indexes, out);
    if !indexes.is_empty() {
        write_body(encoding, indexes, out);
    }
}

/// Appends the indexes after the first one, which there is.
pub(super) fn write_body(encoding: IndexEncoding, indexes: &[u32], out: &mut Vec<u8>) {
    match encoding {
        IndexEncoding::Dense => {}
        IndexEncoding::Runs => write_runs(indexes, out),
        IndexEncoding::Bitmap => write_bitmap(indexes, out),
        IndexEncoding::Delta => write_delta(indexes, out),
        IndexEncoding::Rice => rice::write(indexes, out),
        IndexEncoding::Rows => rows::write(indexes, 1, out),
    }
}

/// Reads the first of `count` indexes without gaps, all below `capacity`.
pub(super) fn read_range(
    count: u32,
    capacity: u32,
    reader: &mut Reader<'_>,
) -> Result<Range<u32>, CodecError> {
    if count == 0 {
        return Ok(0..0);
    }
    let first = reader.varint()?;
    match first.saturating_add(u64::from(count) - 1) {
        last if last < capacity.into() => Ok(first as u32..last as u32 + 1),
        index => Err(CodecError::OutOfRange { index, capacity }),
    }
}

/// Reads the first index and the body of a set of `count` indexes, all below `capacity`.
pub(super) fn read(
    encoding: IndexEncoding,
    count: u32,
    capacity: u32,
    reader: &mut Reader<'_>,
) -> Result<Vec<u32>, CodecError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let first = reader.varint()?;
    let last = first.saturating_add(u64::from(count) - 1);
    if last >= capacity.into() {
        return Err(CodecError::OutOfRange { index: last, capacity });
    }
    let bytes_at_least = match encoding {
        IndexEncoding::Dense => 0,
        IndexEncoding::Runs | IndexEncoding::Rows => 1,
        IndexEncoding::Bitmap | IndexEncoding::Rice => (count as usize - 1).div_ceil(8),
        IndexEncoding::Delta => count as usize - 1,
    };
    if reader.remaining() < bytes_at_least {
        return Err(CodecError::Truncated { count: count.into() });
    }
    let mut indexes = Vec::with_capacity(count as usize);
    let set = Unread { first: first as u32, count, capacity };
    match encoding {
        IndexEncoding::Dense => indexes.extend(set.first..=last as u32),
        IndexEncoding::Runs => read_runs(set, reader, &mut indexes)?,
        IndexEncoding::Bitmap => read_bitmap(set, reader, &mut indexes)?,
        IndexEncoding::Delta => read_delta(set, reader, &mut indexes)?,
        IndexEncoding::Rice => {
            indexes.push(set.first);
            let taken = rice::read(reader.bytes, set.first, count - 1, capacity, &mut indexes)?;
            reader.take(taken)?;
        }
        IndexEncoding::Rows => rows::read(set, reader, &mut indexes)?,
    }
    Ok(indexes)
}

/// A set whose body is still to be read.
#[derive(Clone, Copy)]
pub(super) struct Unread {
    /// The first index, below `capacity`.
    pub(super) first: u32,
    /// How many indexes, at least one.
    pub(super) count: u32,
    /// What all indexes must stay below.
    pub(super) capacity: u32,
}

impl Unread {
    /// `index` where it is below the capacity.
    pub(super) fn check(&self, index: u64) -> Result<u32, CodecError> {
        if index < self.capacity.into() {
            Ok(index as u32)
        } else {
            Err(CodecError::OutOfRange { index, capacity: self.capacity })
        }
    }
}

fn write_runs(indexes: &[u32], out: &mut Vec<u8>) {
    let mut start = indexes[0];
    let mut last = start;
    for &index in &indexes[1..] {
        if index != last + 1 {
            encode_varint((last - start).into(), out);
            encode_varint((index - last - 2).into(), out);
            start = index;
        }
        last = index;
    }
    encode_varint((last - start).into(), out);
}

fn read_runs(set: Unread, reader: &mut Reader<'_>, indexes: &mut Vec<u32>) -> Result<(), CodecError> {
    let mut start = set.first;
    let mut left = u64::from(set.count);
    loop {
        let length = reader.varint()?.saturating_add(1);
        if length > left {
            return Err(CodecError::TooMany { count: length, capacity: left as u32 });
        }
        let last = set.check(u64::from(start) + (length - 1))?;
        indexes.extend(start..=last);
        left -= length;
        if left == 0 {
            return Ok(());
        }
        start = set.check(reader.varint()?.saturating_add(u64::from(last) + 2))?;
    }
}

fn write_bitmap(indexes: &[u32], out: &mut Vec<u8>) {
    let (first, last) = (indexes[0], indexes[indexes.len() - 1]);
    // One word at a time stays in a register; a read and a write of memory for each bit would wait
    // on each other.
    let (mut word, mut word_index) = (0u64, 0);
    for &index in &indexes[1..] {
        let bit = index - first - 1;
        while bit / 64 > word_index {
            out.extend_from_slice(&word.to_le_bytes());
            word = 0;
            word_index += 1;
        }
        word |= 1 << (bit % 64);
    }
    let tail_bits = last - first - word_index * 64;
    out.extend_from_slice(&word.to_le_bytes()[..tail_bits.div_ceil(8) as usize]);
}

fn read_bitmap(set: Unread, reader: &mut Reader<'_>, indexes: &mut Vec<u32>) -> Result<(), CodecError> {
    indexes.push(set.first);
    let mut left = set.count - 1;
    let mut base = u64::from(set.first) + 1;
    while left > 0 {
        let (mut word, mut bytes) = reader.peek_word();
        if bytes == 0 {
            return Err(CodecError::Truncated { count: set.count.into() });
        }
        if word.count_ones() >= left {
            // The last word: what follows its last bit's byte are already the values.
            bytes = nth_bit(word, left) as usize / 8 + 1;
            word &= u64::MAX >> (64 - 8 * bytes);
            if word.count_ones() > left {
                return Err(CodecError::Padding);
            }
        }
        reader.take(bytes)?;
        // Indexes ascend, so it is enough to check the last one of the word.
        set.check(base + u64::from(word.checked_ilog2().unwrap_or(0)))?;
        push_bits(word, base as u32, indexes);
        left -= word.count_ones();
        base += 64;
    }
    Ok(())
}

/// The position of the `n`th set bit of `word`, which has as many; `n` counts from one.
fn nth_bit(mut word: u64, n: u32) -> u32 {
    for _ in 1..n {
        word &= word - 1;
    }
    word.trailing_zeros()
}

/// Appends the positions of the bits of `word`, the lowest of which is `base`.
fn push_bits(mut word: u64, base: u32, indexes: &mut Vec<u32>) {
    while word != 0 {
        indexes.push(base + word.trailing_zeros());
        word &= word - 1;
    }
}

fn write_delta(indexes: &[u32], out: &mut Vec<u8>) {
    let mut gaps = [0; BLOCK];
    let mut previous = indexes[0];
    for block in indexes[1..].chunks(BLOCK) {
        write_gaps(previous, block, &mut gaps);
        previous = block[block.len() - 1];
        for &gap in &gaps[..block.len()] {
            encode_varint(gap.into(), out);
        }
    }
}

fn read_delta(set: Unread, reader: &mut Reader<'_>, indexes: &mut Vec<u32>) -> Result<(), CodecError> {
    indexes.push(set.first);
    let mut previous = set.first;
    for _ in 1..set.count {
        previous = set.check(reader.varint()?.saturating_add(u64::from(previous) + 1))?;
        indexes.push(previous);
    }
    Ok(())
}

/// What is left of a payload.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn varint(&mut self) -> Result<u64, CodecError> {
        decode_varint(&mut self.bytes).map_err(|_| CodecError::Varint)
    }

    /// Takes the next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(CodecError::Truncated { count: 0 })?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next eight bytes, or those that are left with zeros after them, and how many there are.
    fn peek_word(&self) -> (u64, usize) {
        let available = self.bytes.len().min(8);
        let mut word = [0; 8];
        word[..available].copy_from_slice(&self.bytes[..available]);
        (u64::from_le_bytes(word), available)
    }

    /// That nothing is left.
    pub(super) fn finish(self) -> Result<(), CodecError> {
        match self.bytes.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Trailing { bytes }),
        }
    }
}
