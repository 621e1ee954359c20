//! The protocol of one server process: the shards that it hosts, and its links to peers.
//!
//! A driver owns a node, feeds it what arrives (`handle_*`) and asks it what to do (`poll_*`) until there is nothing.
//! Per peer, a node decides how much may be on its way (a window that fills the path and no more, so that what does
//! not fit keeps coalescing here instead of queueing in the transport), when a backlog is long enough for a selective
//! barrier, and when to confirm what has been applied.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use datacenter::message::{ReadReply, Request};
use datacenter::shard::RequestError;
use datacenter::{Clock, DatacenterId, ShardId};

use crate::bandwidth::DrainRate;
use crate::inbox::PeerError;
use crate::message::{Resume, ShardControl, Update};
use crate::outbox::Outgoing;
use crate::policy::Policy;
use crate::replica::Replica;

/// Applied payload that is confirmed at once, so that the sender's window keeps moving.
const CONFIRM_BYTES: u64 = 32 * 1024;

/// Less than that is confirmed along with the next message, or after this long.
const CONFIRM_DELAY: Duration = Duration::from_secs(1);

/// The window where neither rate nor round-trip time is known, and the least one.
const MIN_WINDOW_BYTES: u64 = 256 * 1024;

/// The largest window, whatever the path.
const MAX_WINDOW_BYTES: u64 = 64 * 1024 * 1024;

/// A peer of this process, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its datacenter.
    pub id: DatacenterId,
    /// The rate of the link towards it, where the operator states one.
    pub rate_bytes_per_sec: Option<u64>,
    /// How many payload bytes may be on their way to it; derived from the path where it is not set.
    pub window_bytes: Option<u64>,
}

/// One server process's shards and peers.
#[derive(Debug)]
pub struct Node {
    replicas: Vec<Replica>,
    peers: Vec<PeerLink>,
    barrier_max_delay: Option<Duration>,
    /// Replicas whose waiting reads should be looked at again.
    to_recheck: Vec<bool>,
    /// The clock after which the local workers are done, once it is known.
    finish: Option<Clock>,
}

#[derive(Debug)]
struct PeerLink {
    id: DatacenterId,
    is_up: bool,
    rtt: Duration,
    is_lossy: bool,
    window_bytes: Option<u64>,
    drain: DrainRate,
    /// A clock has completed since the backlog was last judged.
    judge_backlog: bool,
    confirm_at: Option<Instant>,
    /// Where the next round over the shards begins, so that no shard starves the others.
    next_shard: usize,
    sent: Sent,
}

/// What was handed to the link of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Payload bytes of updates, each counted once.
    pub payload_bytes: u64,
    /// Barriers raised: rows announced.
    pub announced_rows: u64,
}

impl Node {
    /// A node for `replicas`, each of which mirrors exactly `peers`, in this order.
    pub fn new(replicas: Vec<Replica>, peers: &[PeerConfig], policy: &Policy) -> Self {
        let peers = peers.iter().map(|config| PeerLink {
            id: config.id,
            is_up: false,
            rtt: Duration::ZERO,
            is_lossy: false,
            window_bytes: config.window_bytes,
            drain: DrainRate::new(config.rate_bytes_per_sec),
            judge_backlog: false,
            confirm_at: None,
            next_shard: 0,
            sent: Sent::default(),
        });
        Self {
            to_recheck: vec![false; replicas.len()],
            replicas,
            peers: peers.collect(),
            barrier_max_delay: policy.barrier_max_delay,
            finish: None,
        }
    }

    /// The replicas, for snapshots and status.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The peers, in the order in which `peer` arguments count them.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = DatacenterId> {
        self.peers.iter().map(|p| p.id)
    }

    /// What was handed to the link of `peer`.
    pub fn sent(&self, peer: usize) -> Sent {
        self.peers[peer].sent
    }

    /// A worker's request to one of the shards. Yields the answer of a read that can be answered at once.
    ///
    /// # Errors
    ///
    /// If it makes no sense; then nothing has changed.
    pub fn handle_request(
        &mut self,
        shard: ShardId,
        request: Request,
        now: Instant,
    ) -> Result<Option<ReadReply>, RequestError> {
        let at = self.position(shard).ok_or(RequestError::UnknownShard(shard))?;
        match request {
            Request::Read(read) => self.replicas[at].handle_read(read, now),
            Request::Flush(flush) => {
                if let Some(clock) = self.replicas[at].handle_flush(&flush)? {
                    let backlogs = (0..self.peers.len()).map(|peer| self.backlog(peer));
                    let backlog = backlogs.max().unwrap_or_default();
                    self.replicas[at].complete(clock, backlog, now);
                    self.to_recheck[at] = true;
                    self.peers.iter_mut().for_each(|peer| peer.judge_backlog = true);
                    if self.finish.is_some_and(|last| clock >= last) {
                        self.replicas[at].flush_filter();
                    }
                }
                Ok(None)
            }
        }
    }

    /// The next waiting read that may be answered.
    pub fn poll_reply(&mut self, now: Instant) -> Option<ReadReply> {
        for (replica, recheck) in self.replicas.iter_mut().zip(&mut self.to_recheck).filter(|(_, r)| **r) {
            match replica.poll_reply(now) {
                None => *recheck = false,
                reply => return reply,
            }
        }
        None
    }

    /// The link to `peer` is up; it has applied what `resumes` say of each shard of this node.
    ///
    /// # Errors
    ///
    /// If they make no sense: the link should be closed.
    pub fn handle_up(&mut self, peer: usize, resumes: &[Resume], now: Instant) -> Result<(), PeerError> {
        let is_missing = |shard: &ShardId| resumes.iter().all(|resume| resume.shard != *shard);
        if let Some(shard) = self.replicas.iter().map(|r| r.shard().id()).find(is_missing) {
            return Err(PeerError::NoResume(shard));
        }
        for resume in resumes {
            let at = self.position(resume.shard).ok_or(PeerError::UnknownShard(resume.shard))?;
            self.replicas[at].handle_resume(peer, resume)?;
        }
        let link = &mut self.peers[peer];
        (link.is_up, link.judge_backlog) = (true, true);
        link.confirm_at = Some(now + CONFIRM_DELAY);
        Ok(())
    }

    /// The link to `peer` is down. What it has not confirmed will be sent again.
    pub fn handle_down(&mut self, peer: usize) {
        let link = &mut self.peers[peer];
        link.is_up = false;
        link.confirm_at = None;
        link.drain.handle_down();
    }

    /// The path to `peer` has this round-trip time.
    pub fn handle_rtt(&mut self, peer: usize, rtt: Duration) {
        self.peers[peer].rtt = rtt;
        self.replicas.iter_mut().for_each(|r| r.handle_rtt(peer, rtt));
    }

    /// Whether the path to `peer` loses packets.
    pub fn handle_loss(&mut self, peer: usize, is_lossy: bool) {
        self.peers[peer].is_lossy = is_lossy;
    }

    /// An update from `peer`; `bytes` is the size of its payload.
    ///
    /// # Errors
    ///
    /// If it makes no sense: the link should be closed.
    pub fn handle_update(
        &mut self,
        peer: usize,
        update: &Update,
        bytes: u64,
        now: Instant,
    ) -> Result<(), PeerError> {
        let at = self.position(update.shard).ok_or(PeerError::UnknownShard(update.shard))?;
        self.replicas[at].handle_update(peer, update, bytes)?;
        self.to_recheck[at] = true;
        let delay = if self.finish.is_some() { Duration::ZERO } else { CONFIRM_DELAY };
        self.peers[peer].confirm_at.get_or_insert(now + delay);
        Ok(())
    }

    /// What `peer` says besides updates.
    ///
    /// # Errors
    ///
    /// If it makes no sense: the link should be closed.
    pub fn handle_control(
        &mut self,
        peer: usize,
        controls: &[ShardControl],
        now: Instant,
    ) -> Result<(), PeerError> {
        let mut confirmed = 0;
        for control in controls {
            let at = self.position(control.shard).ok_or(PeerError::UnknownShard(control.shard))?;
            confirmed += self.replicas[at].handle_control(peer, control)?;
            self.to_recheck[at] = true;
        }
        if confirmed > 0 {
            let busy = self.replicas.iter().any(|r| r.outbox(peer).waiting_bytes() > 0);
            let link = &mut self.peers[peer];
            link.drain.handle_confirmed(confirmed, busy, link.rtt, now);
        }
        Ok(())
    }

    /// What to tell `peer` of its updates in the hello.
    pub fn resumes(&self, peer: usize) -> Vec<Resume> {
        self.replicas.iter().map(|r| r.resume(peer)).collect()
    }

    /// The next update for `peer`, as long as its window has room.
    pub fn poll_update(&mut self, peer: usize) -> Option<Outgoing> {
        if !self.peers[peer].is_up {
            return None;
        }
        let may_number = self.in_flight_bytes(peer) < self.window_bytes(peer);
        let count = self.replicas.len();
        let first = self.peers[peer].next_shard;
        for at in (first..count).chain(0..first) {
            if let Some(outgoing) = self.replicas[at].poll_update(peer, may_number) {
                let link = &mut self.peers[peer];
                link.next_shard = (at + 1) % count;
                if !outgoing.is_repeat {
                    link.sent.payload_bytes += outgoing.bytes;
                }
                return Some(outgoing);
            }
        }
        None
    }

    /// What `peer` should hear now, all shards together; ask after [`poll_update`](Self::poll_update) has run dry, so
    /// that one message says everything. Empty if there is nothing worth a message yet.
    pub fn poll_control(&mut self, peer: usize, now: Instant) -> Vec<ShardControl> {
        if !self.peers[peer].is_up {
            return Vec::new();
        }
        let judge = std::mem::take(&mut self.peers[peer].judge_backlog);
        if judge && self.barrier_max_delay.is_some_and(|max_delay| self.backlog(peer) > max_delay) {
            let before = self.peers[peer].sent.announced_rows;
            let rows: u64 = self.replicas.iter_mut().map(|r| r.raise_barrier(peer)).sum();
            self.peers[peer].sent.announced_rows = before + rows;
        }
        let unconfirmed: u64 = self.replicas.iter().map(|r| r.unconfirmed_bytes(peer)).sum();
        let is_due = self.replicas.iter().any(|r| r.has_urgent_control(peer))
            || unconfirmed >= CONFIRM_BYTES
            || self.peers[peer].confirm_at.is_some_and(|at| at <= now);
        if !is_due {
            return Vec::new();
        }
        self.peers[peer].confirm_at = None;
        self.replicas.iter_mut().filter_map(|r| r.poll_control(peer)).collect()
    }

    /// When [`poll_control`](Self::poll_control) should be asked again for `peer` if nothing happens before.
    pub fn poll_timeout(&self, peer: usize) -> Option<Instant> {
        self.peers[peer].confirm_at.filter(|_| self.peers[peer].is_up)
    }

    /// The local workers are done with `clock`: as shards complete it, what the filter holds back is released, so that
    /// all mirrors end up equal. The last flushes may come before or after this.
    pub fn finish(&mut self, clock: Clock, now: Instant) {
        self.finish = Some(clock);
        let finished = self.replicas.iter_mut().filter(|r| r.shard().clock() >= clock);
        finished.for_each(Replica::flush_filter);
        for link in &mut self.peers {
            link.confirm_at = link.confirm_at.map(|_| now);
        }
    }

    /// Whether the last clock is complete, and every peer has confirmed everything.
    pub fn is_finished(&self) -> bool {
        self.finish.is_some_and(|clock| self.replicas.iter().all(|r| r.shard().clock() >= clock))
            && self.is_drained()
    }

    /// Whether every peer has confirmed everything that was released.
    pub fn is_drained(&self) -> bool {
        (0..self.peers.len()).all(|peer| self.replicas.iter().all(|r| r.outbox(peer).is_drained()))
    }

    /// How much may be on its way to `peer`: half as much again as the path holds, so that the measured rate can grow
    /// when the link does, and two updates on top.
    ///
    /// Where packets are lost, twice as much again: a hole holds back its stream, and the confirmation of all that came
    /// after it, for a round trip and a quarter and often two. A window that does not cover this limits the rate,
    /// and a rate measured under such a window makes the next window smaller still.
    pub fn window_bytes(&self, peer: usize) -> u64 {
        let link = &self.peers[peer];
        link.window_bytes.unwrap_or_else(|| {
            let path = link.drain.bytes_per_sec().unwrap_or(0.0) * link.rtt.as_secs_f64();
            let paths = if link.is_lossy { 4.0 } else { 1.5 };
            ((paths * path) as u64 + 2 * crate::outbox::UPDATE_TARGET_BYTES as u64)
                .clamp(MIN_WINDOW_BYTES, MAX_WINDOW_BYTES)
        })
    }

    fn in_flight_bytes(&self, peer: usize) -> u64 {
        self.replicas.iter().map(|r| r.outbox(peer).in_flight_bytes()).sum()
    }

    /// How long the link to `peer` needs for what waits for it; zero where nothing waits.
    fn backlog(&self, peer: usize) -> Duration {
        let waiting: u64 = self.replicas.iter().map(|r| r.outbox(peer).waiting_bytes()).sum();
        if waiting == 0 {
            return Duration::ZERO;
        }
        // Of what is on its way, one path's worth is flying; the rest queues at the link ahead of what waits.
        let link = &self.peers[peer];
        let flying = link.drain.bytes_per_sec().unwrap_or(0.0) * link.rtt.as_secs_f64();
        let queued = self.in_flight_bytes(peer).saturating_sub(flying as u64);
        link.drain.time_for(waiting + queued)
    }

    fn position(&self, shard: ShardId) -> Option<usize> {
        self.replicas.iter().position(|r| r.shard().id() == shard)
    }
}

#[cfg(test)]
mod tests;
