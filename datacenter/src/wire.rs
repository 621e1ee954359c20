//! Messages between workers and shards, as bytes.
//!
//! A frame is one protocol buffer (`proto/datacenter.proto`). Between processes of a datacenter a
//! [frame](Frame) ends with the values of whole rows, which are written from where they lie, and
//! long messages take several frames. Where workers and shards are a WAN apart, as those of a
//! stretched parameter server are, a message is one compact frame: index sets and elements inside
//! are the payload [`codec`]'s. Decoding checks everything against the shapes of the tables before
//! it allocates for it.

mod frame;
mod session;

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use crate::codec::{self, CodecError};
use crate::message::{Flush, Read, ReadReply, Request, RowGroup, Wait};
use crate::rows::{RowBlock, Slots};
use crate::{Clock, DatacenterId, Elements, ShardId, ShardTable, TableId, WorkerId};

#[allow(missing_docs, unreachable_pub, reason = "generated from the schema, which has the documentation")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/gaia.datacenter.v1.rs"));
}

pub use self::frame::Frame;
pub use self::session::{OperatorHello, Shapes, ToServer, ToWorker, VERSION, Welcome, WorkerHello};

/// What an envelope takes, roughly: ids, clocks and lengths.
const ENVELOPE_BYTES: usize = 24;

/// A frame that no correct peer sends.
#[derive(Debug, Error)]
pub enum WireError {
    /// Not a protocol buffer of the expected type.
    #[error("not a valid message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The payload inside is broken.
    #[error("{table}: {source}")]
    Payload {
        /// Of this table.
        table: TableId,
        /// What is wrong.
        source: CodecError,
    },
    /// A field has a value that means nothing.
    #[error("field {field} has no valid value")]
    Invalid {
        /// The field.
        field: &'static str,
    },
    /// A frame is longer than allowed.
    #[error("a frame of {found} bytes, at most {allowed} are allowed")]
    TooLong {
        /// Its length.
        found: u64,
        /// The limit.
        allowed: usize,
    },
}

/// Encodes a request.
pub fn encode_request(request: &Request) -> Bytes {
    request_message(request).encode_to_vec().into()
}

fn request_message(request: &Request) -> proto::Request {
    let (worker, clock, kind) = match request {
        Request::Flush(flush) => {
            let deltas = flush.elements().iter().map(block).collect();
            (flush.worker, flush.clock, proto::request::Kind::Flush(proto::Flush { deltas }))
        }
        Request::Read(Read { worker, clock, groups }) => {
            let groups = groups.iter().map(|g| proto::RowGroup {
                table: g.table.0.into(),
                since: g.since,
                slots: slots_bytes(&g.slots),
            });
            (*worker, *clock, proto::request::Kind::Read(proto::Read { groups: groups.collect() }))
        }
        Request::Leave(worker) => (*worker, Clock(0), proto::request::Kind::Leave(proto::Leave {})),
    };
    proto::Request { worker: worker.0, clock: clock.0, kind: Some(kind) }
}

/// The size of a request's payload: indexes, slots and values.
pub fn request_payload_len(request: &Request) -> usize {
    match request {
        Request::Flush(flush) => flush.elements().iter().map(codec::encoded_len).sum(),
        Request::Read(read) => read.groups.iter().map(|g| codec::encoded_slots_len(&g.slots)).sum(),
        Request::Leave(_) => 0,
    }
}

/// The size of an answer's payload, likewise.
pub fn reply_payload_len(reply: &ReadReply) -> usize {
    reply.blocks.iter().map(|b| codec::encoded_slots_len(b.slots()) + 4 * b.values().len()).sum()
}

/// About how many bytes [`encode_request`] makes, without making them.
pub fn request_len(request: &Request) -> usize {
    ENVELOPE_BYTES + request_payload_len(request)
}

/// About how many bytes [`encode_reply`] makes, likewise.
pub fn reply_len(reply: &ReadReply) -> usize {
    ENVELOPE_BYTES + reply_payload_len(reply)
}

/// Decodes a request to a shard with tables of these shapes.
///
/// # Errors
///
/// If it is not what [`encode_request`] makes for such a shard.
pub fn decode_request(frame: Bytes, shapes: &[ShardTable]) -> Result<Request, WireError> {
    request_of(proto::Request::decode(frame)?, shapes)
}

fn request_of(request: proto::Request, shapes: &[ShardTable]) -> Result<Request, WireError> {
    let (worker, clock) = (WorkerId(request.worker), Clock(request.clock));
    Ok(match request.kind.ok_or(WireError::Invalid { field: "kind" })? {
        proto::request::Kind::Flush(flush) => {
            let deltas = flush.deltas.iter().map(|b| elements(b, shapes)).collect::<Result<Vec<_>, _>>()?;
            if !deltas.is_sorted_by(|a, b| a.table < b.table) {
                return Err(WireError::Invalid { field: "deltas" });
            }
            Request::Flush(Flush::of_elements(worker, clock, &deltas, shapes))
        }
        proto::request::Kind::Read(read) => {
            let mut room = Room::new(shapes);
            let groups = read.groups.iter().map(|g| {
                let (table, shape) = table_of(g.table, shapes)?;
                Ok(RowGroup { table, since: g.since, slots: room.slots(&g.slots, table, shape)? })
            });
            Request::Read(Read { worker, clock, groups: groups.collect::<Result<_, WireError>>()? })
        }
        proto::request::Kind::Leave(proto::Leave {}) => Request::Leave(worker),
    })
}

/// Encodes an answer.
pub fn encode_reply(reply: &ReadReply) -> Bytes {
    reply_message(reply).encode_to_vec().into()
}

fn reply_message(reply: &ReadReply) -> proto::ReadReply {
    let blocks = reply.blocks.iter().map(|b| proto::RowBlock {
        table: b.table().0.into(),
        slots: slots_bytes(b.slots()),
        values: Bytes::from_owner(b.values().clone()),
    });
    proto::ReadReply {
        shard: reply.shard.0.into(),
        worker: reply.worker.0,
        clock: reply.clock.0,
        version: reply.version,
        blocks: blocks.collect(),
        held: held_message(&reply.held),
    }
}

fn held_message(held: &[(Wait, Duration)]) -> Vec<proto::Held> {
    let of = |&(why, time): &(Wait, Duration)| {
        let (reason, peer) = match why {
            Wait::Stale => (proto::Reason::Stale, 0),
            Wait::Barrier(peer) => (proto::Reason::Barrier, peer.0),
            Wait::MirrorClock(peer) => (proto::Reason::MirrorClock, peer.0),
            Wait::Fetching => (proto::Reason::Fetching, 0),
        };
        proto::Held { reason: reason.into(), peer: peer.into(), nanos: time.as_nanos() as u64 }
    };
    held.iter().map(of).collect()
}

fn held_of(held: &[proto::Held]) -> Result<Vec<(Wait, Duration)>, WireError> {
    let of = |h: &proto::Held| {
        let peer = DatacenterId(u16::try_from(h.peer).map_err(|_| WireError::Invalid { field: "peer" })?);
        let why = match h.reason() {
            proto::Reason::Unspecified => return Err(WireError::Invalid { field: "reason" }),
            proto::Reason::Stale => Wait::Stale,
            proto::Reason::Barrier => Wait::Barrier(peer),
            proto::Reason::MirrorClock => Wait::MirrorClock(peer),
            proto::Reason::Fetching => Wait::Fetching,
        };
        Ok((why, Duration::from_nanos(h.nanos)))
    };
    held.iter().map(of).collect()
}

/// Decodes an answer of one of the shards whose tables have these shapes, by shard.
///
/// # Errors
///
/// If it is not what [`encode_reply`] makes for such a shard.
pub fn decode_reply(frame: Bytes, shapes: &[Vec<ShardTable>]) -> Result<ReadReply, WireError> {
    reply_of(&proto::ReadReply::decode(frame)?, shapes)
}

fn reply_of(reply: &proto::ReadReply, shapes: &[Vec<ShardTable>]) -> Result<ReadReply, WireError> {
    let shapes = shapes.get(reply.shard as usize).ok_or(WireError::Invalid { field: "shard" })?;
    let mut room = Room::new(shapes);
    let blocks = reply.blocks.iter().map(|b| {
        let (table, shape) = table_of(b.table, shapes)?;
        let slots = room.slots(&b.slots, table, shape)?;
        if b.values.len() as u64 != slots.len() as u64 * u64::from(shape.width) * 4 {
            return Err(WireError::Invalid { field: "values" });
        }
        Ok(RowBlock::new(table, slots, frame::values_of(&b.values)))
    });
    Ok(ReadReply {
        shard: ShardId(u16::try_from(reply.shard).map_err(|_| WireError::Invalid { field: "shard" })?),
        worker: WorkerId(reply.worker),
        clock: Clock(reply.clock),
        version: reply.version,
        held: held_of(&reply.held)?,
        blocks: blocks.collect::<Result<_, WireError>>()?,
        is_last: true,
    })
}

fn block(elements: &Elements) -> proto::Block {
    let mut bytes = Vec::with_capacity(codec::encoded_len(elements));
    codec::encode(elements, &mut bytes);
    proto::Block { table: elements.table.0.into(), elements: bytes.into() }
}

fn slots_bytes(slots: &Slots) -> Bytes {
    let mut bytes = Vec::new();
    codec::encode_slots(slots, &mut bytes);
    bytes.into()
}

fn elements(block: &proto::Block, shapes: &[ShardTable]) -> Result<Elements, WireError> {
    let (table, shape) = table_of(block.table, shapes)?;
    codec::decode(&block.elements, table, shape.elements() as u32)
        .map_err(|source| WireError::Payload { table, source })
}

/// How many more rows a message may name: each row of a table once, in whichever of its sets.
struct Room(Vec<usize>);

impl Room {
    fn new(shapes: &[ShardTable]) -> Self {
        Self(shapes.iter().map(|shape| shape.slots as usize).collect())
    }

    fn slots(&mut self, bytes: &[u8], table: TableId, shape: ShardTable) -> Result<Slots, WireError> {
        let left = &mut self.0[table.index()];
        let slots = codec::decode_slots(bytes, shape.slots, *left)
            .map_err(|source| WireError::Payload { table, source })?;
        *left -= slots.len();
        Ok(slots)
    }
}

fn table_of(table: u32, shapes: &[ShardTable]) -> Result<(TableId, ShardTable), WireError> {
    let shape = shapes.get(table as usize).ok_or(WireError::Invalid { field: "table" })?;
    Ok((TableId(table as u16), *shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [ShardTable; 2] = [ShardTable { slots: 10, width: 3 }, ShardTable { slots: 4, width: 1 }];

    #[test]
    fn requests_and_replies_survive_the_wire() {
        let mut delta = Elements::new(TableId(0));
        delta.push(4, 1.5);
        delta.push(29, -2.0);
        let flush = Request::Flush(Flush::of_elements(WorkerId(3), Clock(7), &[delta], &SHAPES));
        let groups = vec![
            RowGroup { table: TableId(0), since: 5, slots: [0, 1, 9].into() },
            RowGroup { table: TableId(1), since: 0, slots: [2].into() },
        ];
        let read = Request::Read(Read { worker: WorkerId(0), clock: Clock(0), groups });
        for request in [flush, read, Request::Leave(WorkerId(3))] {
            assert_eq!(decode_request(encode_request(&request), &SHAPES).unwrap(), request);
        }
        let reply = ReadReply {
            shard: ShardId(2),
            worker: WorkerId(1),
            clock: Clock(9),
            version: 77,
            blocks: vec![RowBlock::new(TableId(0), [9], vec![1.0, 2.0, 3.0])],
            held: vec![(Wait::MirrorClock(DatacenterId(2)), Duration::from_millis(30))],
            is_last: true,
        };
        let shards = vec![vec![], vec![], SHAPES.to_vec()];
        assert_eq!(decode_reply(encode_reply(&reply), &shards).unwrap(), reply);
        assert!(decode_reply(encode_reply(&reply), &shards[..2]).is_err(), "no such shard");
    }

    #[test]
    fn a_message_that_names_rows_again_and_again_is_refused() {
        let group = RowGroup { table: TableId(0), since: 0, slots: (0..10).into() };
        let read = |groups| {
            let read = Read { worker: WorkerId(0), clock: Clock(0), groups };
            decode_request(encode_request(&Request::Read(read)), &SHAPES)
        };
        assert!(read(vec![group.clone()]).is_ok());
        assert!(matches!(read(vec![group; 2]), Err(WireError::Payload { table: TableId(0), .. })));
    }

    #[test]
    fn what_does_not_fit_the_tables_is_refused() {
        let slots = [4].into();
        let groups = vec![RowGroup { table: TableId(1), since: 0, slots }];
        let read = encode_request(&Request::Read(Read { worker: WorkerId(0), clock: Clock(0), groups }));
        assert!(matches!(decode_request(read.clone(), &SHAPES), Err(WireError::Payload { .. })));
        assert!(matches!(decode_request(read, &SHAPES[..1]), Err(WireError::Invalid { field: "table" })));
        assert!(matches!(decode_request(Bytes::new(), &SHAPES), Err(WireError::Invalid { field: "kind" })));
        assert!(matches!(decode_reply(Bytes::from_static(b"\xff"), &[]), Err(WireError::Malformed(_))));
    }
}
