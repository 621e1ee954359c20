//! A complete parameter server for the LAN of one datacenter.
//!
//! Read [`shard::Shard`] first: it holds tables, keeps the vector clock of its workers and decides
//! when a read may be answered. [`client::Client`] is the worker's side: a cache of rows and a
//! buffer of deltas. [`rows`] are what they say to each other. [`rule`] is what a server makes of what
//! workers push. [`codec`] is how elements
//! look on a wire. All of these are plain values without I/O; [`local`] moves their messages inside
//! one process, [`lan`] between processes, and [`identity`] is who may connect to whom (feature
//! `net`, on by default).
//!
//! What is deliberately not here: anything between datacenters. The `wan` crate puts its conditions
//! on reads through [`shard::ReadGate`], and hears of every local update from the driver that owns
//! both.

pub mod buffer;
pub mod causes;
pub mod client;
pub mod clock;
pub mod codec;
#[cfg(feature = "net")]
pub mod identity;
mod ids;
#[cfg(feature = "net")]
pub mod lan;
#[cfg(feature = "net")]
pub mod local;
pub mod message;
#[cfg(feature = "net")]
pub mod metrics;
pub mod prefix;
pub mod printable;
#[cfg(feature = "net")]
pub mod refusals;
pub mod rows;
pub mod rule;
pub mod shard;
pub mod sums;
pub mod table;
#[cfg(feature = "net")]
pub mod throttle;
pub mod usual;
pub mod wire;

pub use ids::{Clock, DatacenterId, ShardId, TableId, WorkerId};
pub use rule::Rule;
pub use table::{Elements, NonFinite, Numbers, Placement, ShardTable, TableSpec, all_finite, shard_tables};
