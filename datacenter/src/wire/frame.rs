//! Frames that end with the values of rows.
//!
//! Kind: time-free.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::{Room, WireError, proto, slots_bytes, table_of};
use crate::buffer::{self, Buffer, Guard};
use crate::rows::RowBlock;
use crate::{ShardTable, TableId};

/// The field of values in messages between processes; the last one there is.
const VALUES: u32 = 15;

/// A message as bytes, of which the values of rows are still where they were.
#[derive(Clone, Debug)]
pub struct Frame {
    head: Bytes,
    values: Option<Buffer>,
}

impl Frame {
    /// A message without values, or with values beside it.
    pub(super) fn new(message: &impl Message, values: Option<Buffer>) -> Self {
        let mut head = Vec::with_capacity(message.encoded_len() + 16);
        message.encode_raw(&mut head);
        let values = values.filter(|values| !values.is_empty());
        if let Some(values) = &values {
            let length = size_of_val(&values[..]) as u64;
            head.reserve(key_len(VALUES) + encoded_len_varint(length));
            encode_key(VALUES, WireType::LengthDelimited, &mut head);
            encode_varint(length, &mut head);
        }
        Self { head: head.into(), values }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends it to `out`.
    pub fn write(&self, out: &mut BytesMut) {
        out.reserve(self.len());
        out.put_slice(&self.head);
        out.put_slice(self.tail());
    }

    /// The same in one piece.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.write(&mut out);
        out.freeze()
    }

    fn tail(&self) -> &[u8] {
        self.values.as_ref().map_or(&[], AsRef::as_ref)
    }
}

/// Blocks as a frame has them, with their values, which lie side by side or are copied together.
pub(super) fn rows(blocks: &[RowBlock]) -> (Vec<proto::Rows>, Option<Buffer>) {
    let rows =
        blocks.iter().map(|b| proto::Rows { table: b.table().0.into(), slots: slots_bytes(b.slots()) });
    let Some((first, others)) = blocks.split_first() else { return (Vec::new(), None) };
    let joined = others.iter().try_fold(first.values().clone(), |all, block| all.joined(block.values()));
    let copied = || Buffer::new(blocks.iter().flat_map(|block| block.values().iter().copied()).collect());
    (rows.collect(), Some(joined.unwrap_or_else(copied)))
}

/// The blocks of a frame to or from a shard with tables of these shapes, which share one buffer.
pub(super) fn blocks(
    rows: &[proto::Rows],
    values: &[u8],
    shapes: &[ShardTable],
    guard: Option<Guard>,
) -> Result<Vec<RowBlock>, WireError> {
    let mut room = Room::new(shapes);
    let read = |rows: &proto::Rows| {
        let (table, shape) = table_of(rows.table, shapes)?;
        let slots = room.slots(&rows.slots, table, shape)?;
        Ok((table, slots.len() * shape.width as usize, slots))
    };
    let rows: Vec<(TableId, usize, _)> = rows.iter().map(read).collect::<Result<_, WireError>>()?;
    let expected = rows.iter().map(|(_, elements, _)| *elements as u64).sum::<u64>();
    if values.len() as u64 != expected * size_of::<f32>() as u64 {
        return Err(WireError::Invalid { field: "values" });
    }
    let values = Buffer::holding(values_of(values), guard);
    let mut end = 0;
    let block = |(table, elements, slots): (TableId, usize, _)| {
        let start = end;
        end += elements;
        RowBlock::new(table, slots, values.slice(start..end))
    };
    Ok(rows.into_iter().map(block).collect())
}

/// Values from bytes; a last incomplete one is left out.
pub(super) fn values_of(bytes: &[u8]) -> Vec<f32> {
    let mut values = buffer::with_capacity(bytes.len() / size_of::<f32>());
    values.extend(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)));
    values
}
