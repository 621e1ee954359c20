//! The compact payload of elements: which they are, and their values (time-free).
//!
//! The problem: an update that the significance filter lets pass is a scattering of elements over a
//! large table, and written as (index, value) pairs half of the WAN bytes would be indexes. What is
//! dense, clustered or sparse also changes from table to table and from clock to clock.
//!
//! The idea: the index set and the values are two columns. The index set has six encodings, good
//! for different densities ([`IndexEncoding`]); the sizes of five are computed together in one
//! pass, without encoding, and the smallest is written. The sizes are exact, so a baseline that is
//! never sent can still be counted byte by byte ([`IndexSizer`]).
//!
//! Inside a datacenter that is all: [`encode`] is as fast as memory. Between datacenters bytes are
//! dear, and [`encode_compact`] also codes indexes and values to their entropy.
//!
//! ```text
//! payload  = header count [first body] values
//! header   = 1 byte: index encoding in the low four bits, value encoding in the high four
//! count    = varint (LEB128); where it is zero the payload ends here
//! first    = varint: the first index
//! body     = the other indexes, in the encoding of the header; `count` ends it
//! values   = count values in the order of their indexes, to the end of the payload
//! ```
//!
//! The table, and whether values are deltas, stand in the message around the payload. A set of rows
//! (read requests, selective barriers) is the same payload without values.
//!
//! What arrives is not trusted: every size is checked before memory is set aside for it, so a
//! payload of `n` bytes costs at most `16 * n` elements where it has values, and at most what the
//! caller has room for where it has none.

mod ans;
mod arithmetic;
mod grid;
mod indexes;
mod rice;
mod rows;
mod size;

use prost::encoding::encoded_len_varint;
use thiserror::Error;

use crate::rows::Slots;
use crate::{Elements, TableId};

pub use indexes::IndexEncoding;
pub use size::IndexSizer;

use indexes::Reader;

/// How values are written; the high four bits of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueEncoding {
    /// There are none: the payload is a set of indexes.
    Absent = 0,
    /// Four bytes, little-endian.
    F32 = 1,
    /// The upper two bytes of an f32, little-endian, where the lower two are zero; only between
    /// datacenters.
    Bf16 = 2,
    /// Multiples of a power of two, to their entropy; only between datacenters.
    Grid = 5,
    /// The same by tables of frequencies, for many values.
    GridTables = 6,
}

impl ValueEncoding {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Absent,
            1 => Self::F32,
            2 => Self::Bf16,
            5 => Self::Grid,
            6 => Self::GridTables,
            _ => return None,
        })
    }
}

/// Why a payload was refused. All of these are the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// It ends too early.
    #[error("payload ends before its {count} elements do")]
    Truncated {
        /// How many elements it announces; zero where it ends before that.
        count: u64,
    },
    /// A variable-length integer is cut off or too long.
    #[error("payload has a broken variable-length integer")]
    Varint,
    /// Bytes follow the last value.
    #[error("payload goes on for {bytes} bytes after its end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The header names no index encoding.
    #[error("payload has unknown index encoding {0}")]
    UnknownIndexEncoding(u8),
    /// The header names no value encoding.
    #[error("payload has unknown value encoding {0}")]
    UnknownValueEncoding(u8),
    /// The values are written in a way that is not understood here.
    #[error("payload has {found:?} values where {expected:?} is expected")]
    Values {
        /// How they are written.
        found: ValueEncoding,
        /// How they should be; elements may have others, too.
        expected: ValueEncoding,
    },
    /// The step of a grid is no f32, or a multiple of it is none.
    #[error("payload has multiples of 2^{exponent} that are no finite numbers")]
    Step {
        /// The power of two that the step is.
        exponent: i64,
    },
    /// Rows of this width are not possible, or too many columns for so few indexes.
    #[error("payload has rows of {width} elements, which its indexes do not repay")]
    Width {
        /// Elements of a row.
        width: u64,
    },
    /// The frequencies of a table do not add up.
    #[error("payload has a table of frequencies that do not add up")]
    Frequencies,
    /// A multiple of the step is too large.
    #[error("payload has a value of {magnitude} steps")]
    Magnitude {
        /// How many steps the value is from zero.
        magnitude: u64,
    },
    /// More elements than there are.
    #[error("payload announces {count} elements of a table with {capacity}")]
    TooMany {
        /// How many it announces.
        count: u64,
        /// How many there are.
        capacity: u32,
    },
    /// More indexes than the message may still name.
    #[error("payload announces {count} rows where at most {most} are left to be named")]
    NoRoom {
        /// How many it announces.
        count: u32,
        /// How many are left.
        most: usize,
    },
    /// An index beyond the table.
    #[error("payload names element {index} of a table with {capacity}")]
    OutOfRange {
        /// The index.
        index: u64,
        /// How many elements there are.
        capacity: u32,
    },
    /// Bits are set that belong to no index.
    #[error("payload has stray bits after its last index")]
    Padding,
}

/// Appends the payload of `elements` to `out`.
///
/// # Panics
///
/// If the indexes do not strictly ascend, or there is not one value for each.
pub fn encode(elements: &Elements, out: &mut Vec<u8>) {
    let Elements { indexes, values, .. } = elements;
    assert_eq!(indexes.len(), values.len(), "elements have one value for each index");
    let sizer = IndexSizer::of(indexes);
    out.reserve(sizer.elements_len());
    indexes::write(sizer.encoding(), ValueEncoding::F32, indexes, out);
    write_f32(values, out);
}

/// The length in bytes of what [`encode`] appends.
///
/// # Panics
///
/// If the indexes do not strictly ascend.
pub fn encoded_len(elements: &Elements) -> usize {
    IndexSizer::of(&elements.indexes).elements_len()
}

/// Appends the smallest payload of `elements` to `out`, of a table whose rows have `width`
/// elements.
///
/// Values that are small multiples of a common power of two are coded to their entropy, and so are
/// indexes, by rows and the columns within them. It takes several times as long as [`encode`],
/// which only a WAN repays. Indexes without rows have a `width` of one.
///
/// # Panics
///
/// If the indexes do not strictly ascend, there is not one value for each, or `width` is zero.
pub fn encode_compact(elements: &Elements, width: u32, out: &mut Vec<u8>) {
    let Elements { indexes, values, .. } = elements;
    assert_eq!(indexes.len(), values.len(), "elements have one value for each index");
    let (encoding, body) = compact_indexes(indexes, width);
    let write_indexes = |values: ValueEncoding, out: &mut Vec<u8>| {
        indexes::write_head(encoding, values, indexes, out);
        out.extend_from_slice(&body);
    };
    let start = out.len();
    let is_bf16 = !values.is_empty() && values.iter().all(|value| value.to_bits() & 0xffff == 0);
    // A grid that takes as much as halves is as good.
    let repaid_below = if is_bf16 { 2 * values.len() + 1 } else { 4 * values.len() };
    if let Some(step) = grid::Step::of(values) {
        for encoding in [ValueEncoding::GridTables, ValueEncoding::Grid] {
            write_indexes(encoding, out);
            let values_start = out.len();
            let is_written = match encoding {
                ValueEncoding::GridTables => grid::write_by_tables(step, values, out),
                _ => grid::write(step, values, out),
            };
            if is_written && out.len() - values_start < repaid_below {
                return;
            }
            out.truncate(start);
        }
    }
    if is_bf16 {
        write_indexes(ValueEncoding::Bf16, out);
        out.extend(values.iter().flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes()));
    } else {
        write_indexes(ValueEncoding::F32, out);
        write_f32(values, out);
    }
}

/// The length in bytes of what [`encode_compact`] appends, which has to be written to know.
///
/// # Panics
///
/// Like [`encode_compact`].
pub fn compact_len(elements: &Elements, width: u32) -> usize {
    let mut out = Vec::new();
    encode_compact(elements, width, &mut out);
    out.len()
}

/// The smallest encoding of `indexes` with its body.
fn compact_indexes(indexes: &[u32], width: u32) -> (IndexEncoding, Vec<u8>) {
    let sizer = IndexSizer::of(indexes);
    let counted = sizer.encoding();
    let mut best = (counted, Vec::new());
    if indexes.is_empty() {
        return best;
    }
    indexes::write_body(counted, indexes, &mut best.1);
    // A body of two bytes is a length and a width.
    if best.1.len() > 2 && indexes.len() <= rows::MAX_COUNT {
        let widths = [1, width];
        for &width in if width == 1 { &widths[..1] } else { &widths } {
            if rows::is_suited(indexes, width) {
                let mut body = Vec::new();
                rows::write(indexes, width, &mut body);
                if body.len() < best.1.len() {
                    best = (IndexEncoding::Rows, body);
                }
            }
        }
    }
    best
}

/// Reads the payload of elements of `table`, of which this shard holds `capacity` elements.
///
/// # Errors
///
/// Whatever `bytes` are: where they are not exactly one payload of ascending indexes below
/// `capacity`.
pub fn decode(bytes: &[u8], table: TableId, capacity: u32) -> Result<Elements, CodecError> {
    let (header, mut reader) = Header::read(bytes, capacity)?;
    let count = header.count;
    let values_len = match header.values {
        ValueEncoding::F32 => count as usize * size_of::<f32>(),
        ValueEncoding::Bf16 => count as usize * size_of::<u16>(),
        ValueEncoding::Grid | ValueEncoding::GridTables => grid::min_stream_len(count),
        found @ ValueEncoding::Absent => {
            return Err(CodecError::Values { found, expected: ValueEncoding::F32 });
        }
    };
    if reader.remaining() < values_len {
        return Err(CodecError::Truncated { count: count.into() });
    }
    let indexes = indexes::read(header.indexes, count, capacity, &mut reader)?;
    let values = match header.values {
        ValueEncoding::Grid if count > 0 => grid::read(&mut reader, count)?,
        ValueEncoding::GridTables if count > 0 => grid::read_by_tables(&mut reader, count)?,
        ValueEncoding::Bf16 => read_bf16(reader.take(count as usize * size_of::<u16>())?),
        _ => read_f32(reader.take(count as usize * size_of::<f32>())?),
    };
    reader.finish()?;
    Ok(Elements { table, indexes, values })
}

/// Appends the payload of a set of indexes without values, such as row slots, to `out`.
///
/// # Panics
///
/// If `indexes` do not strictly ascend.
pub fn encode_indexes(indexes: &[u32], out: &mut Vec<u8>) {
    let sizer = IndexSizer::of(indexes);
    out.reserve(sizer.indexes_len());
    indexes::write(sizer.encoding(), ValueEncoding::Absent, indexes, out);
}

/// The length in bytes of what [`encode_indexes`] appends.
///
/// # Panics
///
/// If `indexes` do not strictly ascend.
pub fn encoded_indexes_len(indexes: &[u32]) -> usize {
    IndexSizer::of(indexes).indexes_len()
}

/// The same as [`encode_indexes`], where a range is never written out.
pub fn encode_slots(slots: &Slots, out: &mut Vec<u8>) {
    match slots {
        Slots::Range(range) => {
            let head = (IndexEncoding::Dense, ValueEncoding::Absent);
            indexes::write_head_of(head, range.len(), Some(range.start), out);
        }
        Slots::List(list) => encode_indexes(list, out),
    }
}

/// The length in bytes of what [`encode_slots`] appends.
pub fn encoded_slots_len(slots: &Slots) -> usize {
    match slots {
        Slots::Range(range) => {
            let first = if range.is_empty() { 0 } else { encoded_len_varint(range.start.into()) };
            1 + encoded_len_varint(range.len() as u64) + first
        }
        Slots::List(list) => encoded_indexes_len(list),
    }
}

/// Reads a set of at most `most` indexes below `capacity`, strictly ascending.
///
/// # Errors
///
/// As [`decode_slots`].
pub fn decode_indexes(bytes: &[u8], capacity: u32, most: usize) -> Result<Vec<u32>, CodecError> {
    Ok(match decode_slots(bytes, capacity, most)? {
        Slots::Range(range) => range.collect(),
        Slots::List(list) => list,
    })
}

/// The same, where a range is never written out.
///
/// A few bytes can name a whole table, and a message hold many sets: `most` is what the caller has
/// room for.
///
/// # Errors
///
/// Whatever `bytes` are: where they are not exactly one payload of at most `most` ascending indexes
/// below `capacity`.
pub fn decode_slots(bytes: &[u8], capacity: u32, most: usize) -> Result<Slots, CodecError> {
    let (header, mut reader) = Header::read(bytes, capacity)?;
    let Header { count, values: found, .. } = header;
    if found != ValueEncoding::Absent {
        return Err(CodecError::Values { found, expected: ValueEncoding::Absent });
    }
    if count as usize > most {
        return Err(CodecError::NoRoom { count, most });
    }
    let slots = match header.indexes {
        IndexEncoding::Dense => indexes::read_range(count, capacity, &mut reader)?.into(),
        encoding => indexes::read(encoding, count, capacity, &mut reader)?.into(),
    };
    reader.finish()?;
    Ok(slots)
}

/// What stands before the indexes.
struct Header {
    indexes: IndexEncoding,
    values: ValueEncoding,
    /// How many elements, at most as many as there are.
    count: u32,
}

impl Header {
    fn read(bytes: &[u8], capacity: u32) -> Result<(Self, Reader<'_>), CodecError> {
        let (&header, body) = bytes.split_first().ok_or(CodecError::Truncated { count: 0 })?;
        let (low, high) = (header & 0x0f, header >> 4);
        let indexes = IndexEncoding::from_bits(low).ok_or(CodecError::UnknownIndexEncoding(low))?;
        let values = ValueEncoding::from_bits(high).ok_or(CodecError::UnknownValueEncoding(high))?;
        let mut reader = Reader::new(body);
        let count = reader.varint()?;
        match u32::try_from(count) {
            Ok(count) if count <= capacity => Ok((Self { indexes, values, count }, reader)),
            _ => Err(CodecError::TooMany { count, capacity }),
        }
    }
}

fn write_f32(values: &[f32], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + size_of_val(values), 0);
    for (bytes, value) in out[start..].as_chunks_mut().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
}

fn read_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn read_bf16(bytes: &[u8]) -> Vec<f32> {
    let upper = bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes));
    upper.map(|upper| f32::from_bits(u32::from(upper) << 16)).collect()
}

#[cfg(test)]
mod tests;
