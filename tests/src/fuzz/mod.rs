//! What the fuzzers run: functions from bytes to nothing, which panic where a law is broken.
//!
//! libFuzzer feeds them bytes in `tests/fuzz`, and `tests/tests/fuzz.rs` the committed corpora and
//! mutations of them, so that an ordinary `cargo test` keeps what fuzzing has found. There are
//! three kinds:
//!
//! - decoders: whatever the bytes are, they are refused or understood; what is understood is
//!   written anew and understood as the same; and what it takes in memory is bounded by the bytes
//!   and by the shapes that both sides know;
//! - what operators and strangers write: files, quantities, names in a store, requests and answers
//!   over HTTP; likewise, with a file of its own for each part of the input;
//! - state machines: the bytes are a list of operations, run on the real thing and on a model that
//!   is too simple to be wrong.
//!
//! A new target is a function here, a line in [`TARGETS`], and an entry in `tests/fuzz/Cargo.toml`
//! with its three lines of program. `docs/TESTING.md` tells how to run it.

mod admin_requests;
mod certificates;
mod checkpoints;
mod config_files;
mod control_copies;
mod data_files;
mod files;
mod filters;
mod lan_frames;
mod mirrors;
mod object_names;
mod operations;
mod payloads;
mod seeds;
mod shards;
mod status_answers;
mod units;
mod wan_frames;

use std::fmt::Debug;

use bytes::Bytes;

pub use self::admin_requests::admin_requests;
pub use self::certificates::certificates;
pub use self::checkpoints::checkpoints;
pub use self::config_files::config_files;
pub use self::control_copies::control_copies;
pub use self::data_files::data_files;
pub use self::filters::filters;
pub use self::lan_frames::lan_frames;
pub use self::mirrors::mirrors;
pub use self::object_names::object_names;
pub use self::payloads::payloads;
pub use self::seeds::seeds;
pub use self::shards::shards;
pub use self::status_answers::status_answers;
pub use self::units::units;
pub use self::wan_frames::wan_frames;

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its program and of its corpus.
    pub name: &'static str,
    /// What it runs.
    pub run: fn(&[u8]),
    /// With how many mutations of each entry of its corpus the smoke test runs it: as many as a few
    /// seconds have room for.
    pub mutations: usize,
}

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    Target { name: "admin_requests", run: admin_requests, mutations: 200 },
    Target { name: "certificates", run: certificates, mutations: 500 },
    Target { name: "checkpoints", run: checkpoints, mutations: 1000 },
    Target { name: "config_files", run: config_files, mutations: 200 },
    Target { name: "control_copies", run: control_copies, mutations: 1000 },
    Target { name: "data_files", run: data_files, mutations: 1000 },
    Target { name: "filters", run: filters, mutations: 100 },
    Target { name: "lan_frames", run: lan_frames, mutations: 5000 },
    Target { name: "mirrors", run: mirrors, mutations: 200 },
    Target { name: "object_names", run: object_names, mutations: 50 },
    Target { name: "payloads", run: payloads, mutations: 5000 },
    Target { name: "shards", run: shards, mutations: 1000 },
    Target { name: "status_answers", run: status_answers, mutations: 500 },
    Target { name: "units", run: units, mutations: 5000 },
    Target { name: "wan_frames", run: wan_frames, mutations: 5000 },
];

/// Decodes `frame`, and what it says once more after it is written anew. Yields what it says, if
/// anything.
fn reread<T: Debug + PartialEq, E: Debug>(
    frame: &[u8],
    decode: impl Fn(Bytes) -> Result<T, E>,
    encode: impl Fn(&T) -> Bytes,
) -> Option<T> {
    let first = decode(Bytes::copy_from_slice(frame)).ok()?;
    let written = encode(&first);
    let second = decode(written.clone()).expect("what was accepted is accepted when it is written anew");
    assert_same(&first, &second);
    assert_eq!(encode(&second), written, "what is written anew stays as it is");
    Some(first)
}

/// Equality in which a NaN equals itself.
fn assert_same<T: Debug + PartialEq>(a: &T, b: &T) {
    if a != b {
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
    }
}
