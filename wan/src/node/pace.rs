//! How much may be on its way to a peer, and how long what waits for it needs.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use super::{CONFIRM_DELAY, LONGEST_CONFIRM_DELAY, Node, QUIET_BYTES};
use crate::filter::Reachability;
use crate::outbox::{Outbox, UPDATE_TARGET_BYTES};
use crate::replica::Replica;

/// The window where neither rate nor round-trip time is known, and the least one where the link carries so much in
/// [`MIN_WINDOW`].
const MIN_WINDOW_BYTES: u64 = 256 * 1024;

/// Of a thin link the least window is what it carries in so long: the rest would queue in front of it, where control waits
/// behind it and nothing is summed any more.
const MIN_WINDOW: Duration = Duration::from_secs(2);

/// The largest window, whatever the path.
const MAX_WINDOW_BYTES: u64 = 64 * 1024 * 1024;

impl Node {
    /// How much may be on its way to `peer`: half as much again as the path holds, so that the measured rate can grow
    /// when the link does, and two updates on top.
    ///
    /// Where packets are lost, twice as much again: a hole holds back its stream, and the confirmation of all that came
    /// after it, for a round trip and a quarter and often two. A window that does not cover this limits the rate,
    /// and a rate measured under such a window makes the next window smaller still.
    pub fn window_bytes(&self, peer: usize) -> u64 {
        let path = &self.peers[peer].path;
        path.window_bytes.unwrap_or_else(|| {
            let rate = path.drain.bytes_per_sec();
            let paths = if path.is_lossy { 4.0 } else { 1.5 };
            let least = rate.map_or(MIN_WINDOW_BYTES, |rate| (rate * MIN_WINDOW.as_secs_f64()) as u64);
            // More than what is left unconfirmed for longer.
            let least = least.clamp(2 * QUIET_BYTES, MIN_WINDOW_BYTES);
            let updates = least.min(2 * UPDATE_TARGET_BYTES as u64);
            ((paths * path.held_bytes()) as u64 + updates).clamp(least, MAX_WINDOW_BYTES)
        })
    }

    /// Payload bytes on their way to `peer`.
    pub fn in_flight_bytes(&self, peer: usize) -> u64 {
        self.outboxes(peer).map(Outbox::in_flight_bytes).sum()
    }

    /// Payload bytes that wait to be sent to `peer`, roughly.
    pub fn waiting_bytes(&self, peer: usize) -> u64 {
        self.outboxes(peer).map(Outbox::waiting_bytes).sum()
    }

    /// Of these, those that go as fast as the link carries them.
    pub(super) fn pressing_bytes(&self, peer: usize) -> u64 {
        match self.peers[peer].transfer.is_bounded() {
            true => self.outboxes(peer).map(Outbox::waiting_delta_bytes).sum(),
            false => self.waiting_bytes(peer),
        }
    }

    /// How long the link to `peer` needs for what waits for it; zero where nothing waits.
    pub fn backlog(&self, peer: usize) -> Duration {
        let waiting = self.pressing_bytes(peer);
        if waiting == 0 {
            return Duration::ZERO;
        }
        // Of what is on its way, one path's worth is flying; the rest queues at the link ahead of what waits.
        let path = &self.peers[peer].path;
        let queued = self.in_flight_bytes(peer).saturating_sub(path.held_bytes() as u64);
        path.drain.time_for(waiting + queued)
    }

    /// How each mirror of a replica is reached, by which its soft threshold moves.
    pub(super) fn reached(&self, at: usize, now: Instant) -> Vec<Reachability> {
        match self.replicas[at].filter().follows_links() {
            true => (0..self.datacenters.len()).map(|mirror| self.reach(at, mirror, now)).collect(),
            false => Vec::new(),
        }
    }

    fn reach(&self, at: usize, mirror: usize, now: Instant) -> Reachability {
        let replica = &self.replicas[at];
        let is_host =
            |peer: &usize| self.peers[*peer].mirror == mirror && self.peers[*peer].shards.contains(&at);
        let host = (0..self.peers.len()).filter(is_host).find(|peer| self.peers[*peer].is_up());
        let Some(peer) = host.filter(|_| replica.is_waited_for(mirror)) else { return Reachability::Away };
        let link = &self.peers[peer];
        let returned_at = link.up.as_ref().map(|up| up.returned_at);
        let Some(heard) = link.heard_at.filter(|heard| now <= *heard + self.longest_silence(peer)) else {
            return Reachability::Away;
        };
        let backlog = self.backlog(peer);
        match replica.last_clock_at() {
            Some(before) if heard < before => Reachability::Unheard,
            before if returned_at >= before => Reachability::Returned { backlog },
            _ => Reachability::Heard { backlog },
        }
    }

    /// For how long what comes from a peer may stay unconfirmed: a second, or where that is little, until the next clock is stated.
    pub(super) fn confirm_delay(&self, peer: usize) -> Duration {
        if self.is_idle() {
            return Duration::ZERO;
        }
        let mirror = self.peers[peer].mirror;
        if self.is_paused(peer) {
            return CONFIRM_DELAY;
        }
        if self.shared(peer).map(|replica| replica.unconfirmed_bytes(mirror)).sum::<u64>() > QUIET_BYTES {
            return CONFIRM_DELAY;
        }
        // A clock may take longer than usual.
        let statement = |replica: &Replica| Some(replica.clock_length()? * replica.release_every() * 5 / 4);
        let statement = self.shared(peer).filter_map(statement).min();
        statement.unwrap_or_default().clamp(CONFIRM_DELAY, LONGEST_CONFIRM_DELAY)
    }

    /// Whether nobody trains at a peer.
    pub(super) fn is_paused(&self, peer: usize) -> bool {
        let mirror = self.peers[peer].mirror;
        self.shared(peer).all(|replica| replica.inbox(mirror).is_paused())
    }

    /// How long a peer that is there, and not held up, may be silent: it confirms what it gets, and tells of each clock.
    pub(super) fn longest_silence(&self, peer: usize) -> Duration {
        let mirror = self.peers[peer].mirror;
        let statement = self
            .shared(peer)
            .next()
            .and_then(|replica| Some(replica.clock_length()? * (1 + replica.unstated_by(mirror))));
        2 * (CONFIRM_DELAY.max(statement.unwrap_or_default()) + self.peers[peer].path.rtt)
    }

    pub(super) fn outboxes(&self, peer: usize) -> impl Iterator<Item = &Outbox> {
        let mirror = self.peers[peer].mirror;
        self.shared(peer).map(move |replica| replica.outbox(mirror))
    }
}
