//! Messages between datacenters, as bytes (`proto/wan.proto`).
//!
//! Domain types know nothing of the wire; this module converts, and checks everything that comes from outside against
//! the shapes of the shards hosted here before it allocates for it.

mod probe;

use std::collections::BTreeSet;

use bytes::Bytes;
use datacenter::codec;
use datacenter::printable::line_of;
use datacenter::wire::WireError;
use datacenter::{Clock, DatacenterId, ShardId, ShardTable, TableId};
use prost::{Message, encoding};

use crate::message::{Barrier, Holdings, Origin, Progress, Resume, ShardControl, Update, WholeRows};
use crate::outbox::{Outgoing, UPDATE_TARGET_BYTES};

pub use probe::{
    CallBack, ProbeAnswer, ProbeReport, ProbeRequest, decode_probe_answer, decode_probe_report,
    decode_probe_request, encode_probe_answer, encode_probe_report, encode_probe_request,
};

#[allow(missing_docs, unreachable_pub, reason = "generated from the schema, which has the documentation")]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/gaia.wan.v1.rs"));
}

/// The version of the protocol between datacenters; the hello refuses any other.
pub const VERSION: u32 = 5;

/// The longest hello.
pub const MAX_HELLO_BYTES: usize = 4 * 1024 * 1024;

/// Shards that a hello may name: as many as a job may have. Empty messages take two bytes each, and some sixty times that
/// once they are decoded.
const MAX_HELLO_SHARDS: usize = 1024;

/// Datacenters that a job may have.
const MAX_DATACENTERS: usize = 64;

/// The field of a hello that names a shard.
const RESUMES_FIELD: u32 = 6;

/// Rows that one control frame announces at most: five bytes each at worst, it stays below what the control channel
/// carries.
const MAX_FRAME_SLOTS: usize = 32 * 1024;

/// What a shard takes in a control frame besides rows, counted in rows: its number, progress and confirmation.
const SHARD_SLOTS: usize = 16;

/// What is said of a datacenter that is gone, counted in rows.
const HOLDINGS_SLOTS: usize = 4;

/// What a barrier takes besides its rows, counted in rows.
const BARRIER_SLOTS: usize = 4;

/// What an envelope, or a block in it, takes besides elements, at most.
const ENVELOPE_BYTES: usize = 64;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Clocks, barriers and confirmations, and updates of a few packets.
    Control,
    /// Bulk.
    Data,
    /// No link: a look at the path.
    Probe,
}

/// First on each connection, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's protocol version.
    pub version: u32,
    /// The sender's name.
    pub datacenter: String,
    /// Which of its datacenter's servers it is.
    pub server: u16,
    /// What all regions must agree on, hashed.
    pub job_digest: Vec<u8>,
    /// What this connection is for.
    pub channel: Channel,
    /// Joins the two connections of a link.
    pub session: u64,
    /// Which process of its server the sender is: later ones have larger numbers.
    pub life: u64,
    /// The shards that the sender hosts, ascending, and what it has of each.
    pub resumes: Vec<Resume>,
    /// Datacenters that have left the job for good.
    pub departed: Vec<DatacenterId>,
}

/// The shapes of the tables of each shard: what decoding checks against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    shards: Vec<(ShardId, Vec<ShardTable>)>,
}

impl Shapes {
    /// The shapes of these shards.
    pub fn new(shards: Vec<(ShardId, Vec<ShardTable>)>) -> Self {
        Self { shards }
    }

    fn of(&self, shard: u32) -> Result<(ShardId, &[ShardTable]), WireError> {
        let found = self.shards.iter().find(|(id, _)| u32::from(id.0) == shard);
        found.map(|(id, tables)| (*id, tables.as_slice())).ok_or(WireError::Invalid { field: "shard" })
    }

    /// The longest frame that a correct peer could send: an update is closed once it reaches its target, so that it
    /// exceeds it by one row at most; each element takes four bytes and an index.
    pub fn max_update_bytes(&self) -> usize {
        let tables = self.shards.iter().flat_map(|(_, tables)| tables);
        let widest = tables.map(|table| table.width as usize).max().unwrap_or(0);
        let index_and_value = 5 + size_of::<f32>();
        let blocks = self.shards.iter().map(|(_, tables)| tables.len()).max().unwrap_or(0);
        let envelopes = blocks.saturating_add(1).saturating_mul(ENVELOPE_BYTES);
        widest.saturating_add(UPDATE_TARGET_BYTES).saturating_mul(index_and_value).saturating_add(envelopes)
    }
}

/// Encodes an update that an outbox has written the payloads of.
pub fn encode_outgoing(outgoing: &Outgoing) -> Bytes {
    encode_with(&outgoing.update, |entry| outgoing.payloads[entry].clone())
}

/// Encodes an update of tables whose widths are not known.
pub fn encode_update(update: &Update) -> Bytes {
    encode_with(update, |entry| {
        let mut payload = Vec::new();
        codec::encode_compact(&update.deltas[entry], 1, &mut payload);
        payload.into()
    })
}

/// Encodes an update with `payload(i)` for the elements of its entry `i`.
fn encode_with(update: &Update, payload: impl Fn(usize) -> Bytes) -> Bytes {
    let stamps = |entry: usize| {
        update.rows.as_ref().and_then(|rows| rows.stamps.get(entry)).cloned().unwrap_or_default()
    };
    let deltas = update.deltas.iter().enumerate().map(|(entry, delta)| proto::Block {
        table: delta.table.0.into(),
        elements: payload(entry),
        stamps: stamps(entry),
    });
    let rows_of = update.rows.as_ref().map(|rows| match rows.origin {
        Origin::All => proto::update::RowsOf::All(proto::All {}),
        Origin::Sender => proto::update::RowsOf::Sender(proto::Sender {}),
        Origin::Receiver => proto::update::RowsOf::Receiver(proto::Receiver {}),
        Origin::Other(id) => proto::update::RowsOf::Other(id.0.into()),
    });
    let update = proto::Update {
        shard: update.shard.0.into(),
        seq: update.seq,
        clock: update.clock.0,
        count_ahead: i64::from(update.count) - i64::from(update.clock.0),
        stream: update.stream,
        deltas: deltas.collect(),
        is_last: update.rows.as_ref().is_some_and(|rows| rows.is_last),
        life: update.rows.as_ref().map_or(0, |rows| rows.life),
        rows_of,
    };
    update.encode_to_vec().into()
}

/// Decodes an update; yields it with the size of its payload.
///
/// # Errors
///
/// If it is not what [`encode_update`] makes for such shards.
pub fn decode_update(frame: Bytes, shapes: &Shapes) -> Result<(Update, u64), WireError> {
    let update = proto::Update::decode(frame)?;
    let (shard, tables) = shapes.of(update.shard)?;
    let payload_bytes = update.deltas.iter().map(|b| b.elements.len() as u64).sum();
    let mut deltas: Vec<datacenter::Elements> = Vec::new();
    for block in &update.deltas {
        let shape = tables.get(block.table as usize).ok_or(WireError::Invalid { field: "table" })?;
        let table = TableId(block.table as u16);
        if deltas.last().is_some_and(|last| last.table >= table) {
            return Err(WireError::Invalid { field: "table" });
        }
        let elements = codec::decode(&block.elements, table, shape.elements() as u32)
            .map_err(|source| WireError::Payload { table, source })?;
        deltas.push(elements);
    }
    let stamps = update.deltas.into_iter().map(|block| block.stamps);
    let rows = match update.rows_of {
        None => None,
        Some(rows_of) => {
            let origin = match rows_of {
                proto::update::RowsOf::All(_) => Origin::All,
                proto::update::RowsOf::Sender(_) => Origin::Sender,
                proto::update::RowsOf::Receiver(_) => Origin::Receiver,
                proto::update::RowsOf::Other(id) => Origin::Other(datacenter_id(id)?),
            };
            Some(WholeRows { origin, stamps: stamps.collect(), is_last: update.is_last, life: update.life })
        }
    };
    let count = ahead_of(update.clock, update.count_ahead, "count_ahead")?;
    let (stream, seq, clock) = (update.stream, update.seq, Clock(update.clock));
    Ok((Update { shard, stream, seq, clock, count, deltas, rows }, payload_bytes))
}

fn ahead_of(clock: u32, ahead: i64, field: &'static str) -> Result<u32, WireError> {
    let count = i64::from(clock).checked_add(ahead);
    count.and_then(|count| u32::try_from(count).ok()).ok_or(WireError::Invalid { field })
}

fn datacenter_id(id: u32) -> Result<DatacenterId, WireError> {
    u16::try_from(id).map(DatacenterId).map_err(|_| WireError::Invalid { field: "datacenter" })
}

/// A control message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// What the sender says of shards.
    pub shards: Vec<ShardControl>,
    /// Whether it asks the dialer to open the data connection.
    pub wants_data: bool,
}

/// Encodes a control message that asks for the data connection.
pub fn encode_wants_data() -> Bytes {
    proto::Control { shards: Vec::new(), wants_data: true }.encode_to_vec().into()
}

/// Encodes control messages: one frame, or several where barriers name very many rows.
pub fn encode_control(controls: &[ShardControl]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut frame = proto::Control::default();
    let mut room = MAX_FRAME_SLOTS;
    for control in controls {
        let fixed = SHARD_SLOTS + HOLDINGS_SLOTS * (control.gone.len() + control.departed.len());
        if room < fixed {
            frames.push(std::mem::take(&mut frame).encode_to_vec().into());
            room = MAX_FRAME_SLOTS;
        }
        room -= fixed;
        let mut shard = proto::ShardControl {
            shard: control.shard.0.into(),
            progress: control.progress.map(|p| proto::Progress {
                clock: p.clock.0,
                covered_behind: p.clock.lead_over(p.covered),
                covered_seq: p.covered_seq,
                pauses: p.pauses,
                last_seq: p.last_seq,
                went_on: p.went_on,
                left_out: p.left_out,
                unstated: p.unstated,
                covered_count_ahead: i64::from(p.covered_count) - i64::from(p.covered.0),
            }),
            barriers: Vec::new(),
            applied: control.applied,
            applied_stream: control.applied_stream,
            returned: control.returned,
            gone: control.gone.iter().map(encode_holdings).collect(),
            stream: control.stream,
            departed: encode_departed(&control.departed),
            wants_values: control.wants_values,
        };
        for barrier in &control.barriers {
            for slots in barrier.slots.chunks(MAX_FRAME_SLOTS - BARRIER_SLOTS) {
                if slots.len() + BARRIER_SLOTS > room {
                    let rest = proto::ShardControl {
                        shard: shard.shard,
                        stream: shard.stream,
                        ..Default::default()
                    };
                    frame.shards.push(std::mem::replace(&mut shard, rest));
                    frames.push(std::mem::take(&mut frame).encode_to_vec().into());
                    room = MAX_FRAME_SLOTS;
                }
                room -= slots.len() + BARRIER_SLOTS;
                shard.barriers.push(encode_barrier(barrier, slots));
            }
        }
        frame.shards.push(shard);
    }
    frames.push(frame.encode_to_vec().into());
    frames
}

fn encode_barrier(barrier: &Barrier, slots: &[u32]) -> proto::Barrier {
    let mut bytes = Vec::with_capacity(codec::encoded_indexes_len(slots));
    codec::encode_indexes(slots, &mut bytes);
    proto::Barrier { table: barrier.table.0.into(), slots: bytes.into(), from_seq: barrier.from_seq }
}

/// Decodes a control message.
///
/// # Errors
///
/// If it is not what [`encode_control`] or [`encode_wants_data`] makes for such shards.
pub fn decode_control(frame: Bytes, shapes: &Shapes) -> Result<Control, WireError> {
    let control = proto::Control::decode(frame)?;
    let mut room = MAX_FRAME_SLOTS;
    if control.shards.windows(2).any(|pair| pair[0].shard >= pair[1].shard) {
        return Err(WireError::Invalid { field: "shards" });
    }
    let shards = control.shards.into_iter().map(|c| decode_shard_control(c, shapes, &mut room));
    Ok(Control { shards: shards.collect::<Result<_, _>>()?, wants_data: control.wants_data })
}

/// `room` is how many rows the frame may still name.
fn decode_shard_control(
    control: proto::ShardControl,
    shapes: &Shapes,
    room: &mut usize,
) -> Result<ShardControl, WireError> {
    let (shard, tables) = shapes.of(control.shard)?;
    if control.gone.len() > MAX_DATACENTERS {
        return Err(WireError::Invalid { field: "gone" });
    }
    let progress = control.progress.map(|p| {
        let covered =
            p.clock.checked_sub(p.covered_behind).ok_or(WireError::Invalid { field: "covered_behind" })?;
        Ok::<_, WireError>(Progress {
            covered_count: ahead_of(covered, p.covered_count_ahead, "covered_count_ahead")?,
            clock: Clock(p.clock),
            covered: Clock(covered),
            covered_seq: p.covered_seq,
            pauses: p.pauses,
            last_seq: p.last_seq,
            went_on: p.went_on,
            left_out: p.left_out,
            unstated: p.unstated,
        })
    });
    let barriers = control.barriers.iter().map(|b| {
        let shape = tables.get(b.table as usize).ok_or(WireError::Invalid { field: "table" })?;
        let table = TableId(b.table as u16);
        let slots = codec::decode_indexes(&b.slots, shape.slots, *room)
            .map_err(|source| WireError::Payload { table, source })?;
        *room -= slots.len();
        Ok::<_, WireError>(Barrier { table, slots, from_seq: b.from_seq })
    });
    Ok(ShardControl {
        shard,
        stream: control.stream,
        progress: progress.transpose()?,
        barriers: barriers.collect::<Result<_, _>>()?,
        applied: control.applied,
        applied_stream: control.applied_stream,
        returned: control.returned,
        gone: control.gone.iter().map(decode_holdings).collect::<Result<_, _>>()?,
        departed: decode_departed(&control.departed)?,
        wants_values: control.wants_values,
    })
}

fn encode_departed(departed: &[DatacenterId]) -> Vec<u32> {
    let departed: BTreeSet<u32> = departed.iter().map(|id| id.0.into()).collect();
    departed.into_iter().collect()
}

fn decode_departed(departed: &[u32]) -> Result<Vec<DatacenterId>, WireError> {
    if !departed.is_sorted_by(|one, next| one < next) {
        return Err(WireError::Invalid { field: "departed" });
    }
    departed.iter().map(|id| datacenter_id(*id)).collect()
}

fn encode_holdings(holdings: &Holdings) -> proto::Holdings {
    proto::Holdings {
        datacenter: holdings.origin.0.into(),
        covered: holdings.covered,
        newest_ahead: holdings.newest.saturating_sub(holdings.covered),
    }
}

fn decode_holdings(holdings: &proto::Holdings) -> Result<Holdings, WireError> {
    let newest = holdings.covered.checked_add(holdings.newest_ahead);
    Ok(Holdings {
        origin: datacenter_id(holdings.datacenter)?,
        covered: holdings.covered,
        newest: newest.ok_or(WireError::Invalid { field: "newest_ahead" })?,
    })
}

/// Encodes a hello.
pub fn encode_hello(hello: &Hello) -> Bytes {
    let channel = match hello.channel {
        Channel::Control => proto::Channel::Control,
        Channel::Data => proto::Channel::Data,
        Channel::Probe => proto::Channel::Probe,
    };
    let resumes = hello.resumes.iter().map(|r| proto::Resume {
        shard: r.shard.0.into(),
        through: r.through,
        beyond: r.beyond.clone(),
        life: r.life,
        covered: r.covered,
        newest: r.newest,
        lost_after: r.lost_after,
        clock: r.clock.0,
        heard_clock: r.heard_clock.0,
        heard_left_out: r.heard_left_out,
        went_on: r.went_on,
        is_whole: r.is_whole,
        stream: r.stream,
    });
    proto::Hello {
        version: hello.version,
        datacenter: hello.datacenter.clone(),
        job_digest: hello.job_digest.clone().into(),
        channel: channel.into(),
        session: hello.session,
        resumes: resumes.collect(),
        server: hello.server.into(),
        life: hello.life,
        departed: encode_departed(&hello.departed),
    }
    .encode_to_vec()
    .into()
}

/// How often a message has a field, without decoding any.
fn count_fields(mut message: &[u8], field: u32) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !message.is_empty() {
        let (found, wire_type) = encoding::decode_key(&mut message)?;
        count += usize::from(found == field);
        encoding::skip_field(wire_type, found, &mut message, encoding::DecodeContext::default())?;
    }
    Ok(count)
}

/// Decodes a hello.
///
/// # Errors
///
/// If it is not what [`encode_hello`] makes.
pub fn decode_hello(frame: Bytes) -> Result<Hello, WireError> {
    if count_fields(&frame, RESUMES_FIELD)? > MAX_HELLO_SHARDS {
        return Err(WireError::Invalid { field: "resumes" });
    }
    let hello = proto::Hello::decode(frame)?;
    let channel = match hello.channel() {
        proto::Channel::Unspecified => return Err(WireError::Invalid { field: "channel" }),
        proto::Channel::Control => Channel::Control,
        proto::Channel::Data => Channel::Data,
        proto::Channel::Probe => Channel::Probe,
    };
    let resumes = hello.resumes.into_iter().map(|r| {
        let shard = ShardId(u16::try_from(r.shard).map_err(|_| WireError::Invalid { field: "shard" })?);
        Ok::<_, WireError>(Resume {
            shard,
            life: r.life,
            through: r.through,
            beyond: r.beyond,
            covered: r.covered,
            newest: r.newest,
            lost_after: r.lost_after,
            clock: Clock(r.clock),
            heard_clock: Clock(r.heard_clock),
            heard_left_out: r.heard_left_out,
            went_on: r.went_on,
            is_whole: r.is_whole,
            stream: r.stream,
        })
    });
    let resumes = resumes.collect::<Result<Vec<_>, _>>()?;
    if resumes.windows(2).any(|pair| pair[0].shard >= pair[1].shard) {
        return Err(WireError::Invalid { field: "resumes" });
    }
    Ok(Hello {
        server: u16::try_from(hello.server).map_err(|_| WireError::Invalid { field: "server" })?,
        version: hello.version,
        datacenter: line_of(hello.datacenter),
        job_digest: hello.job_digest.to_vec(),
        channel,
        session: hello.session,
        life: hello.life,
        departed: decode_departed(&hello.departed)?,
        resumes,
    })
}

#[cfg(test)]
mod tests;
