//! The protocol of one server process: the shards that it hosts, and its links to peers.
//!
//! A driver owns a node, feeds it what arrives (`handle_*`) and asks it what to do (`poll_*`) until there is nothing.
//! Per peer, a node decides how much may be on its way (a window that fills the path and no more, so that what does
//! not fit keeps coalescing here instead of queueing in the transport), when a backlog is long enough for a selective
//! barrier, and when to confirm what has been applied.
//!
//! Kind: time-passed.

mod departure;
mod greeting;
mod pace;
mod parts;
mod peer_link;
mod presence;
mod replicas;
mod start;
mod timers;
mod workers;

use std::time::{Duration, Instant};

use datacenter::{Clock, DatacenterId, ShardId};

use crate::budget::Spending;
use crate::inbox::{PeerError, check_lives};
use crate::message::{ServerId, ShardControl, Update};
use crate::outbox::{Outbox, Outgoing};
use crate::policy::Policy;
use crate::replica::Replica;

use self::peer_link::{PeerLink, UpLink};
use self::presence::FailureDetector;
use self::replicas::Replicas;

pub use self::greeting::Greeting;
pub use self::parts::Part;
pub use self::presence::{GivenUp, Grace, Presence, life_after};
pub use self::start::StartPolicy;

/// Applied payload that is confirmed at once, so that the sender's window keeps moving.
const CONFIRM_BYTES: u64 = 32 * 1024;

/// Less than that is confirmed along with the next message, or after this long.
const CONFIRM_DELAY: Duration = Duration::from_secs(1);

/// So little, to which a packet would add something, waits for the next statement of a clock, and at most for so long.
const QUIET_BYTES: u64 = 2 * 1024;
const LONGEST_CONFIRM_DELAY: Duration = Duration::from_secs(10);

/// Servers of one datacenter: no more than there can be shards to share out among them.
const MAX_SERVERS: usize = 1024;

/// Another datacenter, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Which one.
    pub id: DatacenterId,
    /// The rate of the link towards it, where the operator states one.
    pub rate_bytes_per_sec: Option<u64>,
    /// How many payload bytes may be on their way to each of its servers; derived from the path where it is not set.
    pub window_bytes: Option<u64>,
    /// How many payload bytes of whole rows, by which it gets back what it has lost, each of its servers is sent in a second;
    /// as many as the link carries where it is not set.
    pub transfer_bytes_per_sec: Option<u64>,
}

/// One server process's shards and peers.
#[derive(Debug)]
pub struct Node {
    replicas: Replicas,
    /// The other datacenters; the replicas count their mirrors in the same order.
    datacenters: Vec<PeerConfig>,
    peers: Vec<PeerLink>,
    barrier_max_delay: Option<Duration>,
    /// The last clock of the job, if it has one.
    end: Option<Clock>,
    life: u64,
    /// Another process of this server has started later: this one is to stop.
    is_superseded: bool,
    detector: FailureDetector,
    start: StartPolicy,
    /// Since when the job has begun, as far as is known here.
    begun_at: Option<Instant>,
    /// Somebody has left for good since that was asked for.
    has_departures: bool,
}

/// What was handed to the link of one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Payload bytes of updates, each counted once.
    pub payload_bytes: u64,
    /// Barriers raised: rows announced.
    pub announced_rows: u64,
    /// Payload that the naive baseline would have handed to it: every update, while the peer is there.
    pub naive_payload_bytes: u64,
}

impl Node {
    /// A node for `replicas`, each of which is mirrored in exactly `datacenters`, in this order.
    pub fn new(mut replicas: Vec<Replica>, datacenters: &[PeerConfig], policy: &Policy) -> Self {
        // Of those that begin from checkpoints, some may be from before somebody has left for good.
        for mirror in 0..datacenters.len() {
            if replicas.iter().any(|replica| replica.has_departed(mirror)) {
                replicas.iter_mut().for_each(|replica| replica.depart(mirror));
            }
        }
        Self {
            replicas: Replicas::new(replicas),
            detector: FailureDetector::new(datacenters.len()),
            has_departures: false,
            datacenters: datacenters.to_vec(),
            peers: Vec::new(),
            barrier_max_delay: policy.barrier_max_delay,
            end: None,
            life: 1,
            is_superseded: false,
            start: StartPolicy::default(),
            begun_at: None,
        }
    }

    /// The same, of a process that is not the first of its server: later ones have larger numbers.
    #[must_use]
    pub fn in_life(self, life: u64) -> Self {
        let replicas = self.replicas.map(|replica| replica.in_life(life));
        Self { life, replicas, ..self }
    }

    /// The same, going on without peers that are silent for too long.
    #[must_use]
    pub fn giving_up(self, grace: Grace) -> Self {
        Self { detector: self.detector.giving_up(grace), ..self }
    }

    /// The same for a job that is done when everybody has completed `clock`; workers that leave before that are expected
    /// back.
    #[must_use]
    pub fn ending_at(self, clock: Clock) -> Self {
        Self { end: Some(clock), ..self }
    }

    /// The place of a peer among those that `peer` arguments count; a new one for a peer that is not known yet. None if it is
    /// not of a configured datacenter, or there are more of it than there are shards to share.
    pub fn peer(&mut self, id: ServerId) -> Option<usize> {
        self.known_peer(id).or_else(|| {
            let mirror = self.datacenters.iter().position(|d| d.id == id.datacenter)?;
            let config = &self.datacenters[mirror];
            if self.peers.iter().filter(|peer| peer.mirror == mirror).count() >= MAX_SERVERS {
                return None;
            }
            self.peers.push(PeerLink::new(id, mirror, config));
            Some(self.peers.len() - 1)
        })
    }

    /// The place of a peer that has been heard of.
    pub fn known_peer(&self, id: ServerId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id == id)
    }

    /// The replicas, for snapshots and status.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// The other datacenters, in the order in which the replicas count their mirrors.
    pub fn datacenters(&self) -> impl ExactSizeIterator<Item = DatacenterId> {
        self.datacenters.iter().map(|d| d.id)
    }

    /// The peers that have been heard of, in the order in which `peer` arguments count them.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = ServerId> {
        self.peers.iter().map(|p| p.id)
    }

    /// The replicas that are mirrored at `peer`, as its last hello had it.
    pub fn shared(&self, peer: usize) -> impl Iterator<Item = &Replica> {
        self.peers[peer].shards.iter().map(|&at| &self.replicas[at])
    }

    /// Whether the link to `peer` is up.
    pub fn is_up(&self, peer: usize) -> bool {
        self.peers[peer].is_up()
    }

    /// The round-trip time of the path to `peer`, as short as it was of late; zero while it is not known.
    pub fn rtt(&self, peer: usize) -> Duration {
        self.peers[peer].path.rtt
    }

    /// What the link to `peer` has been seen to drain, in bytes of payload a second, or what was configured.
    pub fn drain_bytes_per_sec(&self, peer: usize) -> Option<f64> {
        self.peers[peer].path.drain.bytes_per_sec()
    }

    /// What was handed to the link of `peer`.
    pub fn sent(&self, peer: usize) -> Sent {
        self.peers[peer].sent
    }

    /// Refuses clocks that the job does not have.
    fn check_clocks(&self, clocks: impl IntoIterator<Item = Clock>) -> Result<(), PeerError> {
        let Some(end) = self.end else { return Ok(()) };
        let beyond = clocks.into_iter().find(|clock| *clock > end);
        beyond.map_or(Ok(()), |found| Err(PeerError::BeyondEnd { found, end }))
    }

    fn complete(&mut self, at: usize, moved: Option<Clock>, now: Instant) {
        let Some(clock) = moved else { return };
        let reached = self.reached(at, now);
        self.replicas.change(at, |replica| replica.complete(clock, reached, now));
        self.links_up().for_each(|up| up.judge_backlog = true);
    }

    /// Does something to a replica that reads may have waited for, and by which its clock may move.
    fn change<T>(&mut self, at: usize, now: Instant, act: impl FnOnce(&mut Replica) -> T) -> T {
        let before = self.replicas[at].shard().clock();
        let outcome = self.replicas.change(at, act);
        self.complete_since(at, before, now);
        self.detector.reconsider(now);
        outcome
    }

    fn complete_since(&mut self, at: usize, before: Clock, now: Instant) {
        let after = self.replicas[at].shard().clock();
        self.complete(at, Some(after).filter(|after| *after > before), now);
    }

    /// The first values of a shard are there, as [`Replica::begin_with`] has it.
    ///
    /// # Panics
    ///
    /// If the shard is not hosted here, or they do not fit it.
    pub fn begin_with(&mut self, shard: ShardId, values: &[Vec<f32>]) {
        let at = self.position(shard).expect("first values are drawn for hosted shards");
        self.replicas.change(at, |replica| replica.begin_with(values));
    }

    /// Whether workers may come: the values are there, it is known how far every other datacenter is, or that it is not there, and
    /// nobody is waited for at the start of the job.
    pub fn is_ready(&self) -> bool {
        let is_waiting = self.detector.grace.is_some() && !self.has_begun();
        !is_waiting && self.replicas.iter().all(Replica::is_ready)
    }

    /// Whether nobody trains on any shard here.
    pub fn is_idle(&self) -> bool {
        self.replicas.iter().all(|replica| replica.shard().is_idle())
    }

    /// A round-trip time of the path to `peer` was measured, with whatever queues there were.
    pub fn handle_rtt(&mut self, peer: usize, measured: Duration, now: Instant) {
        self.peers[peer].path.handle_rtt(measured, now);
        self.tell_rtt(peer);
    }

    /// The replicas that are mirrored at `peer` hear how far away it is.
    fn tell_rtt(&mut self, peer: usize) {
        let link = &self.peers[peer];
        for &at in &link.shards {
            if self.replicas.poll(at, |replica| replica.handle_rtt(link.mirror, link.path.rtt)) {
                self.replicas.change(at, |_| {});
            }
        }
    }

    /// Whether anything bounds what may be sent, so that [`handle_sent`](Self::handle_sent) should be told.
    pub fn has_budget(&self) -> bool {
        self.replicas.iter().any(|replica| replica.raised().is_some())
    }

    /// What the budgets of the shards that `peer` mirrors allowed for it of late, and what of that was spent; none without a
    /// budget, or before ten seconds have passed.
    pub fn spending(&self, peer: usize) -> Option<Spending> {
        let mirror = self.peers[peer].mirror;
        self.shared(peer).filter_map(|replica| replica.spending(mirror)).reduce(Spending::and)
    }

    /// So many bytes have ever been sent to `peer`, on the wire: what is more than was handed over is charged to the budgets of
    /// the shards that it mirrors.
    pub fn handle_sent(&mut self, peer: usize, wire_bytes: u64) {
        let link = &mut self.peers[peer];
        let share = link.overhead.observe(wire_bytes) as f64 / link.shards.len().max(1) as f64;
        for &at in &link.shards {
            self.replicas.poll(at, |replica| replica.charge(link.mirror, share));
        }
    }

    /// Whether the path to `peer` loses packets.
    pub fn handle_loss(&mut self, peer: usize, is_lossy: bool) {
        self.peers[peer].path.is_lossy = is_lossy;
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
        let at = self.shared_position(peer, update.shard)?;
        self.check_clocks([update.clock])?;
        check_lives(update.rows.iter().map(|rows| rows.life))?;
        if self.replicas[at].has_departed(self.peers[peer].mirror) {
            return Ok(());
        }
        let mirror = self.peers[peer].mirror;
        self.change(at, now, |replica| replica.handle_update(mirror, update, bytes))?;
        self.heard(peer, now);
        let due = now + self.confirm_delay(peer);
        if let Some(up) = &mut self.peers[peer].up {
            up.confirm_by(due);
        }
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
            self.check_departed(peer, &control.departed)?;
            self.check_clocks(control.progress.map(|progress| progress.clock))?;
            let at = self.shared_position(peer, control.shard)?;
            if self.replicas[at].has_departed(self.peers[peer].mirror) {
                continue;
            }
            // First, so that what is said of its releases is heard as of one who is gone.
            self.depart_from(at, &control.departed);
            let mirror = self.peers[peer].mirror;
            confirmed += self.change(at, now, |replica| replica.handle_control(mirror, control))?;
        }
        self.heard(peer, now);
        if self.is_paused(peer) {
            // The peer waits for nothing else, and may want to go.
            if let Some(up) = &mut self.peers[peer].up {
                up.hasten_confirmation(now + CONFIRM_DELAY);
            }
        }
        if confirmed > 0 {
            // What waits for want of budget says nothing of the link.
            let mirror = self.peers[peer].mirror;
            let waits_for_budget = self.shared(peer).any(|replica| replica.is_held_back(mirror));
            let busy = self.pressing_bytes(peer) > 0 && !waits_for_budget;
            let path = &mut self.peers[peer].path;
            path.drain.handle_confirmed(confirmed, busy, path.rtt, now);
        }
        Ok(())
    }

    /// The next update for `peer`, as long as its window has room.
    pub fn poll_update(&mut self, peer: usize, now: Instant) -> Option<Outgoing> {
        if !self.is_up(peer) {
            return None;
        }
        let may_number = self.in_flight_bytes(peer) < self.window_bytes(peer);
        let link = &mut self.peers[peer];
        let up = link.up.as_mut()?;
        let may_transfer = link.transfer.may_spend(now);
        let (count, first) = (link.shards.len(), up.next_shard);
        for turn in (first..count).chain(0..first) {
            let poll = |replica: &mut Replica| {
                // Asked in any case, as that looks at the time: when to ask again goes by it.
                let may_spend = replica.may_spend(link.mirror, now);
                replica.poll_update(link.mirror, may_number && may_spend, may_transfer)
            };
            if let Some(outgoing) = self.replicas.poll(link.shards[turn], poll) {
                up.next_shard = (turn + 1) % count;
                link.overhead.hand_over(outgoing.bytes);
                if !outgoing.is_repeat {
                    link.sent.payload_bytes += outgoing.bytes;
                }
                if !outgoing.is_repeat && outgoing.update.rows.is_some() {
                    link.transfer.spend(outgoing.bytes);
                }
                return Some(outgoing);
            }
        }
        None
    }

    /// What `peer` should hear now, all shards together; ask after [`poll_update`](Self::poll_update) has run dry, so
    /// that one message says everything. Empty if there is nothing worth a message yet.
    pub fn poll_control(&mut self, peer: usize, now: Instant) -> Vec<ShardControl> {
        let Some(up) = &mut self.peers[peer].up else { return Vec::new() };
        let judge = std::mem::take(&mut up.judge_backlog);
        self.charge_naive(peer);
        if judge && self.barrier_max_delay.is_some_and(|max_delay| self.backlog(peer) > max_delay) {
            let link = &mut self.peers[peer];
            for &at in &link.shards {
                link.sent.announced_rows += self.replicas.poll(at, |r| r.raise_barrier(link.mirror));
            }
        }
        let mirror = self.peers[peer].mirror;
        let unconfirmed: u64 = self.shared(peer).map(|r| r.unconfirmed_bytes(mirror)).sum();
        let is_due = self.shared(peer).any(|r| r.has_urgent_control(mirror))
            || unconfirmed >= CONFIRM_BYTES
            || self.peers[peer].up.as_ref().is_some_and(|up| up.confirm_at.is_some_and(|at| at <= now));
        let is_silent = self.heartbeat_at(peer).is_some_and(|at| at <= now);
        if !is_due && !is_silent {
            return Vec::new();
        }
        let PeerLink { up, shards, .. } = &mut self.peers[peer];
        if let Some(up) = up {
            up.confirm_at = None;
        }
        let say = |&at: &usize| self.replicas.poll(at, |replica| replica.poll_control(mirror));
        let mut controls: Vec<_> = shards.iter().filter_map(say).collect();
        if controls.is_empty() && is_silent {
            // What has been said before does no harm.
            controls.extend(self.shared(peer).next().map(|replica| ShardControl {
                shard: replica.shard().id(),
                stream: replica.outbox(mirror).stream(),
                applied: Some(replica.inbox(mirror).applied_through()),
                applied_stream: replica.inbox(mirror).stream(),
                ..ShardControl::default()
            }));
        }
        if let Some(up) = self.peers[peer].up.as_mut().filter(|_| !controls.is_empty()) {
            up.said_at = now;
        }
        controls
    }

    /// Counts at the link what the naive baseline would have handed to it: here, so that it counts at one link of its
    /// datacenter, at the one that would carry it.
    fn charge_naive(&mut self, peer: usize) {
        let link = &mut self.peers[peer];
        for &at in &link.shards {
            let take = |replica: &mut Replica| replica.take_naive_payload_bytes(link.mirror);
            link.sent.naive_payload_bytes += self.replicas.poll(at, take);
        }
    }

    /// When [`poll_update`](Self::poll_update) and [`poll_control`](Self::poll_control) should be asked again for `peer` if
    /// nothing happens before.
    pub fn poll_timeout(&self, peer: usize) -> Option<Instant> {
        let link = &self.peers[peer];
        let up = link.up.as_ref()?;
        let transfer_at = link.transfer.next_at().filter(|_| self.outboxes(peer).any(Outbox::has_rows));
        // While the window is full, a confirmation is what there is to wait for.
        let has_window = self.in_flight_bytes(peer) < self.window_bytes(peer);
        let budget_at = self.shared(peer).filter_map(|replica| replica.spends_again_at(link.mirror)).min();
        let budget_at = budget_at.filter(|_| has_window);
        let awaited = [up.confirm_at, self.heartbeat_at(peer), transfer_at, budget_at];
        awaited.into_iter().flatten().min()
    }

    /// Whether the job is done: here, and at every mirror that is not gone, and everything has arrived both ways.
    pub fn is_settled(&self) -> bool {
        self.replicas.iter().all(|replica| replica.is_settled(self.end.unwrap_or_default()))
    }

    /// Whether every mirror that is not gone has confirmed everything that was released.
    pub fn is_drained(&self) -> bool {
        self.replicas.iter().all(Replica::is_drained)
    }

    /// The links that are up.
    fn links_up(&mut self) -> impl Iterator<Item = &mut UpLink> {
        self.peers.iter_mut().filter_map(|peer| peer.up.as_mut())
    }

    /// The place of a shard that is mirrored at `peer`.
    fn shared_position(&self, peer: usize, shard: ShardId) -> Result<usize, PeerError> {
        let at = self.position(shard).filter(|at| self.peers[peer].shards.contains(at));
        at.ok_or(PeerError::UnknownShard(shard))
    }

    fn position(&self, shard: ShardId) -> Option<usize> {
        self.replicas.iter().position(|r| r.shard().id() == shard)
    }
}

#[cfg(test)]
mod tests;
