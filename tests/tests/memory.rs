//! What hostile bytes cost in memory: a multiple of their own length, however large the tables are.
//!
//! A program of its own, since what is counted is what all threads allocate.

use std::alloc::System;
use std::hint::black_box;

use bytes::Bytes;
use datacenter::wire::{Shapes, ToServer, ToWorker};
use datacenter::{ShardId, ShardTable};
use gaia_tests::fuzz::seeds;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use wan::wire;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// An empty message in a list takes two bytes, and some tens once it is decoded; a list that grows
/// allocates them twice.
const MOST_FOR_A_BYTE: usize = 100;
/// Rows may be named without values: as many as the LAN's tables below have, or as a control frame
/// may name. Each takes four bytes.
const MOST_FOR_ROWS: usize = 4 * 32 * 1024;
/// Long enough to tell a multiple from a constant.
const FRAME_BYTES: usize = 64 * 1024;

type Decoder<'a> = (&'static str, Box<dyn Fn(Bytes) + 'a>);

/// How many bytes `decode` allocates for `frame`, also those that it frees again.
fn allocated(decode: &dyn Fn(Bytes), frame: &[u8]) -> usize {
    let frame = Bytes::copy_from_slice(frame);
    let region = Region::new(ALLOCATOR);
    decode(frame);
    region.change().bytes_allocated
}

/// A field of protocol buffers that has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut field).expect("memory");
    field.extend_from_slice(content);
    field
}

/// Frames that are full of short fields of every number, by themselves and inside of others.
fn full_frames() -> Vec<Vec<u8>> {
    let fields = (1..8).flat_map(|number| [field(number, &[]), field(number, &[8, 1]), vec![number << 3, 1]]);
    let mut paths: Vec<Vec<u8>> = (1..8).map(|outer| vec![outer]).collect();
    // Deltas and groups of a request.
    paths.extend([vec![], vec![3, 2, 3], vec![3, 2, 4]]);
    let full = fields.map(|field| field.repeat(FRAME_BYTES / field.len()));
    let inside =
        |full: Vec<u8>, path: &[u8]| path.iter().rev().fold(full, |inner, outer| field(*outer, &inner));
    full.flat_map(|full| paths.iter().map(|path| inside(full.clone(), path)).collect::<Vec<_>>()).collect()
}

#[test]
fn decoding_costs_a_multiple_of_the_bytes() {
    let huge = ShardTable { slots: u32::MAX / 8, width: 8 };
    let remote = wire::Shapes::new(vec![(ShardId(0), vec![huge]), (ShardId(1), vec![huge; 2])]);
    let local = Shapes(vec![vec![ShardTable { slots: 1 << 14, width: 1 << 16 }]; 2]);
    let decoders: [Decoder<'_>; 5] = [
        ("update", Box::new(|frame| drop(black_box(wire::decode_update(frame, &remote))))),
        ("control", Box::new(|frame| drop(black_box(wire::decode_control(frame, &remote))))),
        ("hello", Box::new(|frame| drop(black_box(wire::decode_hello(frame))))),
        ("to a server", Box::new(|frame| drop(black_box(ToServer::decode(frame, &local))))),
        ("to a worker", Box::new(|frame| drop(black_box(ToWorker::decode(frame, &local))))),
    ];
    let mut frames = full_frames();
    frames.extend(seeds().into_iter().map(|(_, _, bytes)| bytes));
    for (what, decode) in &decoders {
        let mut most = 0;
        for frame in &frames {
            let bytes = allocated(decode, frame);
            let start = &frame[..frame.len().min(12)];
            let allowed = MOST_FOR_A_BYTE * frame.len() + MOST_FOR_ROWS;
            assert!(bytes <= allowed, "{what}: {bytes} for {} that begin with {start:02x?}", frame.len());
            most = most.max(bytes);
        }
        println!("{what}: {most} bytes");
    }
}
