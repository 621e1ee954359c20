//! A WAN inside one process: virtual time, and a datagram network under quinn that runs on it.
//!
//! Behaviour over slow links takes minutes to show, and depends on the machine when sockets and timers
//! are real. Here the unmodified QUIC stack runs over a [`Network`], whose links are models
//! ([`link::Link`]) of rate, distance, jitter, loss, reordering, duplication, queues and outages, on a
//! [`VirtualClock`] that jumps from event to event: a simulated minute costs a second or less.
//!
//! It is of use to any program that speaks QUIC through [`quinn`]: as a dependency of its tests, with
//! [`EmulatedSocket`] in the place of its UDP sockets and [`VirtualClock`] in that of its runtime.
//! `examples/two_hosts.rs` is a request over 80 ms and 1 % of loss.
//!
//! # What it promises
//!
//! - *The same seed gives the same packets at the same nanoseconds*, on every machine: compare the
//!   [`Trace`]s of two runs.
//! - A link carries `rate * time` bytes exactly; arrivals and [`VirtualClock`]'s own timers are exact,
//!   quinn's are rounded up to a millisecond, as in production.
//! - What happens to the n-th datagram of a link depends on nothing that other links carry.
//! - A run that stalls ends: [`VirtualClock::run`] has a deadline in virtual time.
//!
//! # What a simulation must not do
//!
//! It would leave virtual time, or depend on the machine:
//!
//! - read `std::time::Instant::now` or `SystemTime::now`; ask [`VirtualClock::now`] or tokio's clock;
//! - use threads, `spawn_blocking` or real sockets: while they work, virtual time runs ahead of them;
//! - write `tokio::select!` without `biased`, whose order is otherwise random;
//! - iterate over a `HashMap`;
//! - draw from a generator without a seed, quinn's included: connection ids, and the keys of endpoints.
//!
//! [`link`] and [`seed`] alone are plain values, without the feature `net`.

#[cfg(feature = "net")]
mod clock;
pub mod link;
#[cfg(feature = "net")]
mod network;
#[cfg(feature = "net")]
mod schedule;
pub mod seed;

#[cfg(feature = "net")]
pub use clock::{ExactTimer, OutOfTime, VirtualClock};
#[cfg(feature = "net")]
pub use network::{EmulatedSocket, Network, Trace, host_address};
