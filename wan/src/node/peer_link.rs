//! A server process of another datacenter, and the link to it.
//!
//! What holds of a link only as long as that is up is gone with it: what is to be confirmed over
//! it, when something was said, whose turn it is. What outlives a link is how its path is, when the
//! peer was heard, and what was handed over.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use super::{PeerConfig, Sent};
use crate::bandwidth::DrainRate;
use crate::budget::Overhead;
use crate::message::ServerId;
use crate::rate_limit::RateLimit;
use crate::round_trip::LeastRoundTrip;

/// A server process of another datacenter.
#[derive(Debug)]
pub(super) struct PeerLink {
    pub(super) id: ServerId,
    /// The place of its datacenter.
    pub(super) mirror: usize,
    /// The places of the replicas that are mirrored there, as its last hello had it.
    pub(super) shards: Vec<usize>,
    /// The link, while it is up.
    pub(super) up: Option<UpLink>,
    pub(super) path: PeerPath,
    pub(super) transfer: RateLimit,
    pub(super) overhead: Overhead,
    /// When something was last heard from it.
    pub(super) heard_at: Option<Instant>,
    pub(super) sent: Sent,
}

/// A link that is up.
#[derive(Debug)]
pub(super) struct UpLink {
    /// A clock has completed since the backlog was last judged.
    pub(super) judge_backlog: bool,
    pub(super) confirm_at: Option<Instant>,
    /// When the peer was heard for the first time after it had been away.
    pub(super) returned_at: Instant,
    /// When something was last said to the peer.
    pub(super) said_at: Instant,
    /// Where the next round over the shards begins, so that no shard starves the others.
    pub(super) next_shard: usize,
}

/// The path to a peer, which links come and go on.
#[derive(Debug)]
pub(super) struct PeerPath {
    /// The least round-trip time of late; zero while it is not known.
    pub(super) rtt: Duration,
    measured: LeastRoundTrip,
    pub(super) is_lossy: bool,
    /// How much may be on its way, where the operator says so.
    pub(super) window_bytes: Option<u64>,
    pub(super) drain: DrainRate,
}

impl PeerPath {
    /// A round-trip time was measured, with whatever queues there were.
    pub(super) fn handle_rtt(&mut self, measured: Duration, now: Instant) {
        self.rtt = self.measured.measure(measured, now);
    }

    /// What the path itself holds, in bytes of payload; zero while that is not known.
    pub(super) fn held_bytes(&self) -> f64 {
        self.drain.bytes_per_sec().unwrap_or(0.0) * self.rtt.as_secs_f64()
    }
}

impl PeerLink {
    /// A server of which nothing has been heard, of the datacenter at the place `mirror`.
    pub(super) fn new(id: ServerId, mirror: usize, config: &PeerConfig) -> Self {
        Self {
            id,
            mirror,
            shards: Vec::new(),
            up: None,
            path: PeerPath {
                rtt: Duration::ZERO,
                measured: LeastRoundTrip::default(),
                is_lossy: false,
                window_bytes: config.window_bytes,
                drain: DrainRate::new(config.rate_bytes_per_sec),
            },
            transfer: RateLimit::new(config.transfer_bytes_per_sec),
            overhead: Overhead::default(),
            heard_at: None,
            sent: Sent::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// The link is up; what has come with its hello is to be confirmed at `confirm_at`.
    pub(super) fn become_up(&mut self, confirm_at: Instant, now: Instant) {
        self.overhead.restart();
        self.heard_at = Some(now);
        self.up = Some(UpLink {
            judge_backlog: true,
            confirm_at: Some(confirm_at),
            returned_at: now,
            said_at: now,
            next_shard: 0,
        });
    }

    /// The link is down. What the peer has not confirmed will be sent again.
    pub(super) fn become_down(&mut self) {
        self.up = None;
        self.path.drain.handle_down();
    }
}

impl UpLink {
    /// Something has come that is to be confirmed at `due`, or before.
    pub(super) fn confirm_by(&mut self, due: Instant) {
        self.confirm_at = Some(self.confirm_at.map_or(due, |at| at.min(due)));
    }

    /// What is to be confirmed, if anything is, is so at `due`, or before.
    pub(super) fn hasten_confirmation(&mut self, due: Instant) {
        self.confirm_at = self.confirm_at.map(|at| at.min(due));
    }
}
