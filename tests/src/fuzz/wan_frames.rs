//! Frames between datacenters.

use bytes::Bytes;
use datacenter::{ShardId, ShardTable};
use wan::message::ShardControl;
use wan::transport::MAX_CONTROL_BYTES;
use wan::wire::{self, Shapes};

use super::{assert_same, reread};

/// The rows that a control frame names at most (`docs/PROTOCOL.md`, "Limits").
const MAX_FRAME_SLOTS: usize = 32 * 1024;

/// Two shards: small tables, and one whose rows must never be set aside because somebody names
/// them.
fn shapes() -> Shapes {
    let small = vec![ShardTable { slots: 100, width: 4 }, ShardTable { slots: 3, width: 1 }];
    let huge = vec![ShardTable { slots: 1 << 28, width: 1 }, ShardTable { slots: 40, width: 5 }];
    Shapes::new(vec![(ShardId(1), small), (ShardId(300), huge)])
}

/// Bytes as each kind of frame.
pub fn wan_frames(data: &[u8]) {
    let shapes = shapes();
    let decode_update = |frame| wire::decode_update(frame, &shapes).map(|(update, _)| update);
    if let Some(update) = reread(data, decode_update, wire::encode_update) {
        let elements: usize = update.deltas.iter().map(|delta| delta.len()).sum();
        assert!(elements <= data.len() / 4);
        assert!(update.deltas.is_sorted_by(|a, b| a.table < b.table), "one block for each table");
    }
    if data.len() <= MAX_CONTROL_BYTES {
        control(data, &shapes);
    }
    if let Some(hello) = reread(data, wire::decode_hello, wire::encode_hello) {
        assert!(hello.resumes.is_sorted_by(|a, b| a.shard < b.shard));
        let beyond: usize = hello.resumes.iter().map(|resume| resume.beyond.len()).sum();
        assert!(beyond + hello.resumes.len() <= data.len());
    }
    reread(data, wire::decode_probe_request, |request| wire::encode_probe_request(*request));
    reread(data, wire::decode_probe_answer, |answer| wire::encode_probe_answer(*answer));
    reread(data, wire::decode_probe_report, wire::encode_probe_report);
}

/// Control messages may be written as several frames, so that they are compared by what they say of
/// whom.
fn control(data: &[u8], shapes: &Shapes) {
    let Ok(first) = wire::decode_control(Bytes::copy_from_slice(data), shapes) else { return };
    let first = first.shards;
    let named: usize = first.iter().flat_map(|c| &c.barriers).map(|barrier| barrier.slots.len()).sum();
    assert!(named <= MAX_FRAME_SLOTS, "{named} rows in {} bytes", data.len());
    let mut second = Vec::new();
    for frame in wire::encode_control(&first) {
        assert!(frame.len() <= MAX_CONTROL_BYTES, "a frame of {} bytes", frame.len());
        let part = wire::decode_control(frame, shapes);
        second.extend(part.expect("what was accepted is accepted when it is written anew").shards);
    }
    assert_same(&statements(&first), &statements(&second));
}

/// Shard, table, first number and slot of a row that is announced.
type Announced = (u16, u16, u64, u32);

/// Everything but the cut into frames: rows one by one, and the rest without them.
fn statements(controls: &[ShardControl]) -> (Vec<ShardControl>, Vec<Announced>) {
    let rows = controls.iter().flat_map(|control| {
        control.barriers.iter().flat_map(move |barrier| {
            let row = move |slot: &u32| (control.shard.0, barrier.table.0, barrier.from_seq, *slot);
            barrier.slots.iter().map(row)
        })
    });
    let rest = controls.iter().map(|control| ShardControl { barriers: Vec::new(), ..control.clone() });
    (rest.filter(|control| !control.is_empty()).collect(), rows.collect())
}
