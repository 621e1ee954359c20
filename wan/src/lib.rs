//! Keeps datacenters approximately in step over a slow WAN.
//!
//! Each datacenter has a complete copy of the model. What crosses the WAN is decided here, by plain values:
//! [`filter`] holds updates back until they matter, [`outbox`] sums what waits for a peer, [`inbox`] applies what
//! comes exactly once, [`mirror_clock`] bounds how far a datacenter may lead, and barriers hold reads of rows that
//! are late. [`replica`] joins these for one shard, [`node`] for one server process: read that first.
//!
//! With the feature `net` (on by default) come the drivers: [`transport`] is QUIC with mutual TLS, [`driver`] moves a
//! node's messages over it. The crate [`emulation`] is a WAN in virtual time, made of models of links; [`relay`] puts the same
//! models between real processes.
//!
//! What is deliberately not here: models, data and configuration files, which are the `gaia` crate's.

pub mod anticipation;
pub mod bandwidth;
pub mod budget;
pub mod cadence;
pub mod decisions;
#[cfg(feature = "net")]
pub mod driver;
pub mod filter;
pub mod inbox;
pub mod ledger;
pub mod leeway;
pub mod message;
#[cfg(feature = "net")]
pub mod metrics;
pub mod mirror_clock;
pub mod node;
pub mod outbox;
pub mod policy;
pub mod rate_limit;
#[cfg(feature = "net")]
pub mod relay;
pub mod replica;
pub mod round_trip;
mod sample;
pub mod state;
mod token_bucket;
#[cfg(feature = "net")]
pub mod transport;
pub mod wire;
