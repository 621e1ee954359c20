//! A WAN inside one process: virtual time, and a datagram network under quinn that runs on it.
//!
//! Kind: driver.
//!
//! Behaviour over slow links takes minutes to show, and depends on the machine when sockets and timers are
//! real. Here the unmodified QUIC stack runs over [`Network`], whose links are [`crate::link::Link`]s, on a
//! [`VirtualClock`] that jumps from event to event: a simulated minute costs a second or less, and the same
//! seed gives the same packets at the same nanoseconds.
//!
//! What a simulation must not do, because it would leave virtual time or depend on the machine:
//!
//! - read `std::time::Instant::now` or `SystemTime::now`; ask [`VirtualClock::now`] or tokio's clock;
//! - use threads, `spawn_blocking` or real sockets: while they work, virtual time runs ahead of them;
//! - write `tokio::select!` without `biased`, whose order is otherwise random;
//! - iterate over a `HashMap`.

mod clock;
mod network;
mod schedule;

pub use clock::{ExactTimer, OutOfTime, VirtualClock};
pub use network::{EmulatedSocket, Network, Trace, host_address};
