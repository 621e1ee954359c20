//! Values that are small multiples of a power of two, coded to their entropy (time-free).
//!
//! What passes a significance filter lies just above its threshold. Rounded to multiples of a step,
//! which costs nothing as the rest stays behind, most of it is plus or minus one step: a bit and a
//! half of information where an f32 takes
//! 32. Sums of multiples are multiples, so what was added up while it waited is coded as well.
//!
//! The encoder is told of no step. It looks for the largest power of two that divides all values,
//! and where the multiples are small it writes that step once and then a sign and a magnitude for
//! each value, range-coded.
//!
//! ```text
//! values     = step stream [padding]
//! step       = varint: zigzag(exponent + 16) * 2 + (1 where a value is zero)
//! stream     = for each value its magnitude (less one, where none is zero), then its sign unless it is zero
//! padding    = zeros, until there is a byte for each 16 values
//! ```
//!
//! That is for fewer than 16384 values. More are coded in blocks by tables of their frequencies,
//! several times sooner: first the table and what it has no symbols for, range-coded, then the
//! symbols.
//!
//! ```text
//! values     = step block...
//! block      = varint(length of table) table varint(length of symbols) symbols
//! ```
//!
//! Without the padding a payload of a few bytes could stand for a whole table of equal values, and
//! a reader would have to set memory aside for it. Signs that are even alone fill twice as much.

use prost::encoding::encode_varint;

use super::CodecError;
use super::ans::{self, Frequencies};
use super::arithmetic::{Decoder, Encoder, NumberModel, Probability};
use super::indexes::Reader;

/// The largest multiple. Beyond it f32s are hardly longer, and below 2^24 every multiple is exact.
pub(super) const MAX_MAGNITUDE: u32 = 1 << 20;
/// How many values a byte of the stream may hold.
const MAX_VALUES_PER_BYTE: u32 = 16;
/// From how many values on tables are used: there they add less than two percent.
const TABLES_FROM: usize = 1 << 14;
/// How many values share a table: few enough to stay in the nearest cache.
const BLOCK: usize = 1 << 15;
/// The symbol of what is too large to have its own.
const ESCAPE: u32 = 255;
/// The exponent of the smallest positive f32, 2^-149.
const MIN_EXPONENT: i32 = -149;
/// The exponent of the largest power of two that is an f32.
const MAX_EXPONENT: i32 = 127;
/// The exponent that is written as zero: usual steps, 2^-48 to 2^15, then take one byte.
const USUAL_EXPONENT: i32 = -16;

/// Appends `values`, which are multiples of `step`. It is always possible.
pub(super) fn write(step: Step, values: &[f32], out: &mut Vec<u8>) -> bool {
    step.write(out);
    let start = out.len();
    let mut encoder = Encoder::new(out);
    let mut model = Model::new(step);
    for multiple in step.multiples(values) {
        model.put(&mut encoder, multiple);
    }
    encoder.finish();
    let padded_len = min_stream_len(values.len() as u32);
    if out.len() - start < padded_len {
        out.resize(start + padded_len, 0);
    }
    true
}

/// Appends `values`, which are multiples of `step`, by tables: sooner than [`write`], and about as
/// short where there are many. Whether it is worth it: few values, or so alike that they would take
/// too few bytes, are left to [`write`].
pub(super) fn write_by_tables(step: Step, values: &[f32], out: &mut Vec<u8>) -> bool {
    if values.len() < TABLES_FROM {
        return false;
    }
    step.write(out);
    let stream_start = out.len();
    let (mut symbols, mut escaped, mut stream, mut words) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for block in values.chunks(BLOCK) {
        symbols.clear();
        symbols.extend(step.multiples(block).map(|multiple| zigzag(multiple).min(ESCAPE) as u8));
        let frequencies = Frequencies::of(&symbols);
        stream.clear();
        let mut encoder = Encoder::new(&mut stream);
        frequencies.write(&mut encoder);
        if frequencies.has(ESCAPE as u8) {
            escaped.clear();
            escaped.extend(step.multiples(block).map(zigzag).filter(|number| *number >= ESCAPE));
            let mut model = NumberModel::new();
            escaped.iter().for_each(|number| model.put(&mut encoder, *number - ESCAPE));
        }
        encoder.finish();
        encode_varint(stream.len() as u64, out);
        out.extend_from_slice(&stream);
        stream.clear();
        ans::write(&symbols, &frequencies, &mut words, &mut stream);
        encode_varint(stream.len() as u64, out);
        out.extend_from_slice(&stream);
    }
    out.len() - stream_start >= min_stream_len(values.len() as u32)
}

/// Reads `count` values that were written by tables, and are the rest of the payload.
pub(super) fn read_by_tables(reader: &mut Reader<'_>, count: u32) -> Result<Vec<f32>, CodecError> {
    let step = Step::read(reader)?;
    if reader.remaining() < min_stream_len(count) {
        return Err(CodecError::Truncated { count: count.into() });
    }
    let [first, second] = powers(step.exponent);
    let mut values = Vec::with_capacity(count as usize);
    let mut symbols = vec![0; BLOCK.min(count as usize)];
    let mut left = count as usize;
    while left > 0 {
        let symbols = &mut symbols[..left.min(BLOCK)];
        left -= symbols.len();
        let mut decoder = Decoder::new(take_part(reader)?);
        let frequencies = Frequencies::read(&mut decoder)?;
        ans::read(take_part(reader)?, &frequencies, symbols)?;
        let begin = values.len();
        values.extend(symbols.iter().map(|symbol| unzigzag((*symbol).into()) as f32 * first * second));
        if frequencies.has(ESCAPE as u8) {
            let mut model = NumberModel::new();
            let escapes =
                symbols.iter().zip(&mut values[begin..]).filter(|(symbol, _)| u32::from(**symbol) == ESCAPE);
            for (_, value) in escapes {
                let number = u64::from(model.take(&mut decoder)) + u64::from(ESCAPE);
                let magnitude = number.div_ceil(2);
                if magnitude > MAX_MAGNITUDE.into() {
                    return Err(CodecError::Magnitude { magnitude });
                }
                *value = unzigzag(number as u32) as f32 * first * second;
            }
        }
        decoder.finish(0, count)?;
    }
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(CodecError::Step { exponent: step.exponent.into() })
    }
}

/// Takes a length and as many bytes.
fn take_part<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], CodecError> {
    let len = reader.varint()?;
    reader.take(usize::try_from(len).unwrap_or(usize::MAX))
}

/// Reads `count` values, which are the rest of the payload.
pub(super) fn read(reader: &mut Reader<'_>, count: u32) -> Result<Vec<f32>, CodecError> {
    let step = Step::read(reader)?;
    let padded_len = min_stream_len(count);
    let bytes = reader.take(reader.remaining())?;
    if bytes.len() < padded_len {
        return Err(CodecError::Truncated { count: count.into() });
    }
    let mut decoder = Decoder::new(bytes);
    let mut model = Model::new(step);
    let [first, second] = powers(step.exponent);
    let mut values = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let value = model.take(&mut decoder)? as f32 * first * second;
        if !value.is_finite() {
            return Err(CodecError::Step { exponent: step.exponent.into() });
        }
        values.push(value);
    }
    decoder.finish(padded_len, count)?;
    Ok(values)
}

/// The least length of the stream of `count` values.
pub(super) fn min_stream_len(count: u32) -> usize {
    count.div_ceil(MAX_VALUES_PER_BYTE) as usize
}

/// What values are multiples of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The step is two to this power.
    exponent: i32,
    /// Whether a value is zero. Seldom, and magnitudes less one are smaller.
    has_zero: bool,
}

impl Step {
    /// The largest power of two whose multiples `values` are; `None` where multiples would be too
    /// large, a zero has a sign, or something is no number. Then only f32s give back the same bits.
    pub(super) fn of(values: &[f32]) -> Option<Self> {
        let (mut exponent, mut largest, mut has_zero, mut has_negative_zero) = (i32::MAX, 0, false, false);
        // Without an early exit, and all in integers of 32 bits, so that it vectorises.
        for value in values {
            let bits = value.to_bits();
            let size = bits & 0x7fff_ffff;
            has_zero |= size == 0;
            has_negative_zero |= bits == 0x8000_0000;
            largest = largest.max(size as i32);
            exponent = exponent.min(trailing_exponent(size));
        }
        if has_negative_zero || exponent == i32::MAX {
            return None;
        }
        // Infinity and NaN have larger bits than every number; a power of two has only its
        // exponent.
        let limit = exponent + MAX_MAGNITUDE.ilog2() as i32;
        let largest = f32::from_bits(largest as u32);
        let is_small = largest.is_finite()
            && (limit > MAX_EXPONENT || f64::from(largest) <= f64::from_bits(((1023 + limit) as u64) << 52));
        is_small.then_some(Self { exponent, has_zero })
    }

    /// How many steps each value is.
    fn multiples(self, values: &[f32]) -> impl Iterator<Item = i32> {
        let [first, second] = powers(-self.exponent);
        values.iter().map(move |value| to_integer(value * first * second))
    }

    fn write(self, out: &mut Vec<u8>) {
        let exponent = self.exponent - USUAL_EXPONENT;
        encode_varint(u64::from(zigzag(exponent)) << 1 | u64::from(self.has_zero), out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let step = reader.varint()?;
        let zigzag = step >> 1;
        let exponent = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let exponent = exponent + i64::from(USUAL_EXPONENT);
        if !(i64::from(MIN_EXPONENT)..=i64::from(MAX_EXPONENT)).contains(&exponent) {
            return Err(CodecError::Step { exponent });
        }
        Ok(Self { exponent: exponent as i32, has_zero: step & 1 == 1 })
    }
}

/// What the signs and magnitudes were so far.
struct Model {
    /// The least magnitude that is coded: it is subtracted.
    least: u32,
    magnitudes: NumberModel,
    /// Whether a value is negative, by whether the one before it was.
    signs: [Probability; 2],
    was_negative: bool,
}

impl Model {
    fn new(step: Step) -> Self {
        Self {
            least: u32::from(!step.has_zero),
            magnitudes: NumberModel::new(),
            signs: [Probability::EVEN; 2],
            was_negative: false,
        }
    }

    fn put(&mut self, encoder: &mut Encoder<'_>, multiple: i32) {
        self.magnitudes.put(encoder, multiple.unsigned_abs() - self.least);
        if multiple != 0 {
            let is_negative = multiple < 0;
            encoder.put(&mut self.signs[usize::from(self.was_negative)], is_negative);
            self.was_negative = is_negative;
        }
    }

    fn take(&mut self, decoder: &mut Decoder<'_>) -> Result<i32, CodecError> {
        let magnitude = u64::from(self.magnitudes.take(decoder)) + u64::from(self.least);
        if magnitude > MAX_MAGNITUDE.into() {
            return Err(CodecError::Magnitude { magnitude });
        }
        let magnitude = magnitude as i32;
        if magnitude == 0 {
            return Ok(0);
        }
        self.was_negative = decoder.take(&mut self.signs[usize::from(self.was_negative)]);
        Ok(if self.was_negative { -magnitude } else { magnitude })
    }
}

/// Small numbers for those near zero: 0, -1, 1, -2, 2.
fn zigzag(number: i32) -> u32 {
    (number << 1 ^ number >> 31) as u32
}

fn unzigzag(number: u32) -> i32 {
    (number >> 1) as i32 ^ -((number & 1) as i32)
}

/// The exponent of the largest power of two that divides the f32 with these bits, whose sign is
/// cleared.
fn trailing_exponent(bits: u32) -> i32 {
    let biased = (bits >> 23) as i32;
    let is_normal = i32::from(biased > 0);
    let mantissa = (bits & 0x007f_ffff) as i32 | is_normal << 23;
    // The exponent of the lowest bit as a float is its position, without an instruction that counts
    // zeros.
    let lowest = (mantissa & -mantissa) as f32;
    let position = (lowest.to_bits() >> 23) as i32 - 127;
    if bits == 0 { i32::MAX } else { position + biased - is_normal + MIN_EXPONENT }
}

/// Two powers of two whose product is two to the power of `exponent`, which alone may be no f32.
///
/// Multiplied by the first the multiples of a grid are ordinary floats, so that both products are
/// exact.
fn powers(exponent: i32) -> [f32; 2] {
    let half = exponent / 2;
    [half, exponent - half].map(|exponent| f32::from_bits(((127 + exponent) as u32) << 23))
}

/// The integer that `value` is, at most [`MAX_MAGNITUDE`] in size.
///
/// Next to 1.5 * 2^23 floats are integers, and their low bits count; a cast would check for what
/// cannot be, and does not vectorise.
fn to_integer(value: f32) -> i32 {
    const NEAR: f32 = 12_582_912.0;
    (value + NEAR).to_bits() as i32 - NEAR.to_bits() as i32
}

#[cfg(test)]
mod tests;
