//! Gaps as Golomb-Rice codes: the encoding of sparse sets (time-free).
//!
//! The gaps of a random sparse set are geometrically distributed, for which Rice codes come within
//! a few hundredths of a bit of the entropy: 1,000 elements out of 1,000,000 cost 11.5 bits each
//! (entropy 11.4; byte varints 14 to 15).
//!
//! A block of up to [`BLOCK`] gaps starts with its parameter `k` in five bits, so that dense and
//! sparse parts of a table each get their own. A gap `g` is `g >> k` zero bits, a one bit, and the
//! low `k` bits of `g`. Bits fill bytes from the lowest; the last byte is padded with zeros.

use super::CodecError;
use super::size::{BLOCK, write_gaps};

/// Bits that hold the parameter of a block.
const PARAMETER_BITS: u32 = 5;
/// The largest parameter that fits them; gaps have less than 32 bits.
const MAX_PARAMETER: u32 = 31;

/// The size of a block of gaps, in bits.
pub(super) fn block_bits(gaps: &[u32]) -> u64 {
    u64::from(PARAMETER_BITS) + best_parameter(gaps).1
}

/// The size of a block of `count` gaps that are all zero, in bits: the parameter is zero, and each
/// takes one.
pub(super) fn contiguous_bits(count: usize) -> u64 {
    u64::from(PARAMETER_BITS) + count as u64
}

/// Appends the body of `indexes`, of which the first is already written.
pub(super) fn write(indexes: &[u32], out: &mut Vec<u8>) {
    let Some((&first, rest)) = indexes.split_first() else {
        return;
    };
    let mut bits = BitWriter { out, buffer: 0, used: 0 };
    let mut gaps = [0; BLOCK];
    let mut previous = first;
    for block in rest.chunks(BLOCK) {
        write_gaps(previous, block, &mut gaps);
        previous = block[block.len() - 1];
        let gaps = &gaps[..block.len()];
        let (parameter, _) = best_parameter(gaps);
        bits.put(parameter, PARAMETER_BITS);
        for &gap in gaps {
            bits.put_unary(gap >> parameter);
            bits.put(gap & low_mask(parameter), parameter);
        }
    }
    bits.finish();
}

/// Reads a body of `count` indexes after `first` and appends them to `indexes`; returns how many
/// bytes it took.
///
/// The caller has made room for `count`, and checked that `first` is below `capacity`.
pub(super) fn read(
    bytes: &[u8],
    first: u32,
    count: u32,
    capacity: u32,
    indexes: &mut Vec<u32>,
) -> Result<usize, CodecError> {
    let truncated = CodecError::Truncated { count: u64::from(count) + 1 };
    let mut bits = BitReader { bytes, position: 0 };
    let mut previous = u64::from(first);
    let mut left = count as usize;
    while left > 0 {
        let block = left.min(BLOCK);
        left -= block;
        let parameter = bits.take(PARAMETER_BITS).ok_or_else(|| truncated.clone())?;
        for _ in 0..block {
            let gap = bits.take_code(parameter).ok_or_else(|| truncated.clone())?;
            previous += 1 + gap;
            if previous >= capacity.into() {
                return Err(CodecError::OutOfRange { index: previous, capacity });
            }
            indexes.push(previous as u32);
        }
    }
    bits.finish()
}

/// The parameter with which `gaps` take the fewest bits, and how many.
///
/// The cost is nearly convex in `k` and lowest near the logarithm of the mean, so a few steps from
/// there find it. Should they stop at a local minimum nothing breaks: sizes and bytes come from the
/// same function.
fn best_parameter(gaps: &[u32]) -> (u32, u64) {
    let count = gaps.len() as u64;
    let cost = |k: u32| count * u64::from(k + 1) + shifted_sum(gaps, k);
    let mean = shifted_sum(gaps, 0) / count;
    let mut k = mean.checked_ilog2().unwrap_or(0);
    let mut best = cost(k);
    while k > 0 && cost(k - 1) <= best {
        k -= 1;
        best = cost(k);
    }
    while k < MAX_PARAMETER && cost(k + 1) < best {
        k += 1;
        best = cost(k);
    }
    (k, best)
}

/// The gaps of a set of 32-bit indexes add up to less than 2^32, so the sum needs no wider type.
fn shifted_sum(gaps: &[u32], k: u32) -> u64 {
    u64::from(gaps.iter().fold(0u32, |sum, gap| sum.wrapping_add(gap >> k)))
}

fn low_mask(bits: u32) -> u32 {
    ((1u64 << bits) - 1) as u32
}

/// Appends bits, lowest first, four bytes at a time.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// The bits not yet appended; those above `used` are zero.
    buffer: u64,
    /// Always below 32 between calls.
    used: u32,
}

impl BitWriter<'_> {
    /// Appends the low `count <= 32` bits of `value`, whose other bits are zero.
    fn put(&mut self, value: u32, count: u32) {
        self.buffer |= u64::from(value) << self.used;
        self.used += count;
        if self.used >= 32 {
            self.out.extend_from_slice(&(self.buffer as u32).to_le_bytes());
            self.buffer >>= 32;
            self.used -= 32;
        }
    }

    /// Appends `zeros` zero bits and a one.
    fn put_unary(&mut self, mut zeros: u32) {
        while zeros >= 32 {
            self.put(0, 32);
            zeros -= 32;
        }
        self.put(1 << zeros, zeros + 1);
    }

    fn finish(self) {
        let bytes = self.used.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.buffer.to_le_bytes()[..bytes]);
    }
}

/// Takes bits, lowest first.
struct BitReader<'a> {
    bytes: &'a [u8],
    /// In bits.
    position: usize,
}

impl BitReader<'_> {
    /// At least 57 bits from the position on, lowest first; past the end they are zero.
    fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.position / 8..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => {
                let mut chunk = [0; 8];
                chunk[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(chunk)
            }
        };
        word >> (self.position % 8)
    }

    /// Moves on by `count` bits; `None` where that is past the end.
    fn advance(&mut self, count: u32) -> Option<()> {
        self.position += count as usize;
        (self.position <= self.bytes.len() * 8).then_some(())
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        let value = self.peek() as u32 & low_mask(count);
        self.advance(count)?;
        Some(value)
    }

    /// Takes one gap with parameter `k`. A hostile one may not fit in 32 bits; it stays far below
    /// 64.
    fn take_code(&mut self, k: u32) -> Option<u64> {
        let word = self.peek();
        let zeros = word.trailing_zeros();
        if zeros + 1 + k <= 56 {
            let low = (word >> (zeros + 1)) as u32 & low_mask(k);
            self.advance(zeros + 1 + k)?;
            return Some((u64::from(zeros) << k) | u64::from(low));
        }
        let mut zeros = 0;
        loop {
            let run = self.peek().trailing_zeros().min(56);
            self.advance(run)?;
            zeros += u64::from(run);
            if run < 56 {
                break;
            }
        }
        self.advance(1)?;
        // Only a payload of half a gigabyte could hold more zeros; as a gap it is beyond every
        // table.
        let zeros = zeros.min(u32::MAX.into());
        Some((zeros << k) | u64::from(self.take(k)?))
    }

    /// How many bytes were taken; the bits that pad the last one must be zero.
    fn finish(self) -> Result<usize, CodecError> {
        let padding = (8 - self.position % 8) % 8;
        let bytes = self.position.div_ceil(8);
        if padding > 0 && self.bytes[bytes - 1] >> (8 - padding) != 0 {
            return Err(CodecError::Padding);
        }
        Ok(bytes)
    }
}
