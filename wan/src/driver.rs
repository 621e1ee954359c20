//! Moves a node's messages over QUIC.
//!
//! One task owns the [`Node`](crate::node::Node): [`server`] waits for one event, applies it, and sends what came out.
//! [`peers`] keeps a link to each peer, dialling or accepting, for as long as it is wanted; [`hello`] is what both
//! sides check before they talk, and [`probe`] a look at the path that makes no link; [`link`] runs an established link until it breaks, and [`paths`] knows how
//! to treat connections that peers open. A broken link is routine: it ends
//! in an event, and the next hello resumes where the last one left off.
//!
//! Kind: driver.

pub mod address;
pub mod frames;
mod handshake_limiter;
pub mod hello;
pub mod job_settings;
pub mod link;
pub mod link_registry;
pub mod names;
pub mod paths;
pub mod peers;
pub mod probe;
pub mod queue;
pub mod remote;
pub mod server;
