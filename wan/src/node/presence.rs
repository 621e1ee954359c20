//! Who is there: who has been silent for too long, and which of two processes is the later.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use datacenter::{DatacenterId, ShardId};

use super::Node;
use super::timers::{Timer, TimerTable};
use crate::inbox::{PeerError, check_lives};
use crate::replica::{PeerState, Replica};

/// The number of a process that has started at `date`, in microseconds, and is later than the one that is `known`.
///
/// Where the clock is behind, a number that no other process takes that knows of the same one: two that began with the same
/// checkpoint, or heard of the same process before them, would pass for each other. The microseconds within a second tell them
/// apart.
pub fn life_after(known: u64, date: u64) -> u64 {
    if date > known { date } else { known.saturating_add(1 + date % 1_000_000) }
}

/// How long somebody may be silent before nobody waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// All workers of this datacenter.
    pub workers: Duration,
    /// A server of another datacenter, others of which are heard.
    pub server: Duration,
    /// Another datacenter.
    pub datacenter: Duration,
}

impl Grace {
    /// After so long without anything to say to a peer it is told that we are there.
    pub fn heartbeat(&self) -> Duration {
        self.server.min(self.datacenter) / 4
    }

    /// Who was heard within that is there: a heartbeat may be late, or lost with its connection.
    fn present(&self) -> Duration {
        2 * self.heartbeat()
    }

    /// Who was not heard for so long may be dead.
    fn doubt(&self) -> Duration {
        self.heartbeat() * 3 / 2
    }
}

/// Finds who has been silent for too long: when to look, and what is heard of datacenters beside
/// their links. When each peer was heard is noted with the peer.
#[derive(Debug)]
pub(super) struct FailureDetector {
    pub(super) grace: Option<Grace>,
    timers: TimerTable,
    /// Since when peers are listened for.
    pub(super) since: Option<Instant>,
    /// Since when nobody trains here.
    idle_since: Option<Instant>,
    /// By place of a datacenter: when a server of it answered that hosts none of our shards.
    sighted: Vec<Option<Instant>>,
    /// How many shards of datacenters have been looked at, for tests.
    #[cfg(test)]
    pub(super) looks: u64,
}

impl FailureDetector {
    pub(super) fn new(mirrors: usize) -> Self {
        Self {
            grace: None,
            timers: TimerTable::new(mirrors),
            since: None,
            idle_since: None,
            sighted: vec![None; mirrors],
            #[cfg(test)]
            looks: 0,
        }
    }

    pub(super) fn giving_up(self, grace: Grace) -> Self {
        Self { grace: Some(grace), ..self }
    }

    /// When nobody will have trained here for as long as workers are waited for.
    fn deserted_at(&self) -> Option<Instant> {
        self.idle_since.zip(self.grace).map(|(since, grace)| since + grace.workers)
    }

    /// Whether nobody has trained here for as long as workers are waited for.
    fn is_deserted(&self, now: Instant) -> bool {
        self.deserted_at().is_some_and(|until| until <= now)
    }

    /// Something has come of another datacenter: where nobody trains any more, the job may be at its end.
    pub(super) fn reconsider(&mut self, now: Instant) {
        if self.is_deserted(now) {
            self.timers.set(Timer::Workers, Some(now));
        }
    }
}

/// What is to become of what a datacenter has of a shard, if nothing is heard before.
struct Outlook {
    /// Nobody waits for it any more.
    over: Instant,
    /// It should be looked at again.
    look: Instant,
}

/// How another datacenter is, as far as one shard of it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is heard.
    Live,
    /// It has been silent for longer than it should be.
    Suspected,
    /// It is back and has not caught up: nobody waits for it until it has.
    Behind,
    /// It has stopped of its own will, and may come back.
    Stopped,
    /// It has been silent for longer than it may be: nobody waits for it.
    Gone,
    /// It has left for good, and is not let in any more.
    Left,
}

/// Nobody waits any more for what a datacenter has of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Which datacenter.
    pub datacenter: DatacenterId,
    /// Which shard of it.
    pub shard: ShardId,
    /// Whether it had not come at the start of the job.
    pub at_start: bool,
}

impl Node {
    /// A peer knows a later process of this server. If it has talked to us before, that one has taken our place. If not, our
    /// clock is behind that of the machine that was this server before, and we take a larger number, if there is one.
    pub(super) fn handle_later_life(&mut self, peer: usize, known: u64) -> PeerError {
        match self.peers[peer].heard_at {
            Some(_) => self.is_superseded = true,
            None => {
                let next = life_after(known, self.life);
                if let Err(absurd) = check_lives([next]) {
                    return absurd;
                }
                self.life = next;
                (0..self.replicas.len())
                    .for_each(|at| self.replicas.poll(at, |replica| replica.set_life(next)));
            }
        }
        PeerError::FormerLife
    }

    /// Whether another process of this server has started later: nobody talks to this one any more.
    pub fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    /// Goes on without whoever has been silent for too long; yields who that is now. Ask
    /// [`poll_judgement`](Self::poll_judgement) when to call it again; before that it costs nothing, once the job has begun.
    pub fn judge(&mut self, now: Instant) -> Vec<GivenUp> {
        if self.detector.since.is_none() {
            self.detector.since = Some(now);
            (0..self.datacenters.len()).for_each(|mirror| self.watch_mirror(mirror, now));
            self.watch_workers(now);
        }
        let mut given_up = Vec::new();
        let Some(grace) = self.detector.grace else { return given_up };
        self.note_beginning(now);
        // Until then it depends on who is there, and not on time alone.
        let at_start = !self.has_begun();
        if !at_start && self.detector.timers.next().is_none_or(|at| at > now) {
            return given_up;
        }
        for mirror in 0..self.datacenters.len() {
            if self.detector.timers.expire(Timer::Mirror(mirror), now) || at_start {
                let shards = self.judge_mirror(mirror, grace, now);
                let datacenter = self.datacenters[mirror].id;
                given_up.extend(shards.into_iter().map(|shard| GivenUp { datacenter, shard, at_start }));
            }
        }
        self.note_beginning(now);
        if self.detector.timers.expire(Timer::Workers, now) {
            self.end_if_deserted(now);
        }
        given_up
    }

    /// Yields of which shards nobody waits for it any more.
    fn judge_mirror(&mut self, mirror: usize, grace: Grace, now: Instant) -> Vec<ShardId> {
        let mut given_up = Vec::new();
        let mut next: Option<Instant> = None;
        for at in 0..self.replicas.len() {
            #[cfg(test)]
            {
                self.detector.looks += 1;
            }
            if self.replicas[at].is_gone(mirror) {
                continue;
            }
            match self.outlook(at, mirror, grace, now) {
                Some(Outlook { over, .. }) if over <= now => {
                    self.change(at, now, |replica| replica.give_up(mirror));
                    given_up.push(self.replicas[at].shard().id());
                }
                Some(Outlook { look, .. }) => next = next.map(|next| next.min(look)).or(Some(look)),
                None => {}
            }
        }
        self.detector.timers.set(Timer::Mirror(mirror), next);
        given_up
    }

    /// Something has happened that may bring nearer when nobody waits for a datacenter any more.
    pub(super) fn watch_mirror(&mut self, mirror: usize, now: Instant) {
        self.detector.timers.set(Timer::Mirror(mirror), Some(now));
    }

    /// Workers have come, or the last one of a shard has gone.
    pub(super) fn watch_workers(&mut self, now: Instant) {
        match self.is_idle() {
            false => self.detector.idle_since = None,
            true => _ = self.detector.idle_since.get_or_insert(now),
        }
        self.detector.timers.set(Timer::Workers, self.detector.deserted_at());
    }

    /// Somebody begins to train again: where nobody has for long, and so nobody was waited for, that is at the clock of those who
    /// have gone on.
    pub(super) fn follow_if_deserted(&mut self, now: Instant) {
        if self.detector.is_deserted(now) {
            self.detector.idle_since = None;
            for at in 0..self.replicas.len() {
                self.change(at, now, Replica::follow_those_ahead);
            }
        }
    }

    /// Where nobody has trained for long and others are at the end of the job, so is this datacenter: nobody waits for workers
    /// that do not come back.
    fn end_if_deserted(&mut self, now: Instant) {
        if !self.detector.is_deserted(now) {
            return;
        }
        for at in 0..self.replicas.len() {
            self.replicas.change(at, Replica::settle);
            let end = self.end.filter(|end| self.replicas[at].latest_clock() >= *end);
            if let Some(end) = end.filter(|end| self.replicas[at].shard().clock() < *end) {
                let moved = self.replicas.change(at, |replica| replica.follow(end));
                self.complete(at, moved, now);
            }
        }
    }

    /// When [`judge`](Self::judge) has something to look at.
    pub fn poll_judgement(&self) -> Option<Instant> {
        self.detector.grace.and_then(|_| self.detector.timers.next())
    }

    /// When nobody waits any more for what a datacenter has of a shard, unless it is heard before. A server that is silent while
    /// others of its datacenter are heard is dead, and these are as well off without it; where all are silent, they may just not
    /// be reached.
    fn outlook(&self, at: usize, mirror: usize, grace: Grace, now: Instant) -> Option<Outlook> {
        let Some(begun_at) = self.begun_at else {
            let over = self.starts_without_at().filter(|_| !self.is_linked(at, mirror))?;
            return Some(Outlook { over, look: over });
        };
        let of_it = || self.peers.iter().filter(|peer| peer.mirror == mirror);
        let hosts = of_it().filter(|peer| peer.shards.contains(&at));
        // Whoever was waited for at the start has as long from then on.
        let heard =
            hosts.filter_map(|peer| peer.heard_at).max().map_or(begun_at, |heard| heard.max(begun_at));
        let others = of_it().filter(|peer| !peer.shards.contains(&at)).filter_map(|peer| peer.heard_at).max();
        let until = others.max(self.detector.sighted[mirror]).map(|heard| heard + grace.present());
        Some(match until.filter(|until| now < *until) {
            Some(until) => {
                let over = heard + grace.server;
                // With them, the reason may go to wait so long.
                let look = if grace.datacenter < grace.server { over.min(until) } else { over };
                Outlook { over, look }
            }
            None => Outlook { over: heard + grace.datacenter, look: heard + grace.datacenter },
        })
    }

    /// Whether a server of a datacenter has been silent for so long that it may be dead: others of it, which host none of our
    /// shards, should be [asked](Self::handle_sighted) whether they are there. One that was never heard may just take long to start.
    pub fn is_doubtful(&self, datacenter: DatacenterId, now: Instant) -> bool {
        let Some(mirror) = self.datacenters().position(|id| id == datacenter) else { return false };
        let Some(grace) = self.detector.grace else { return false };
        (0..self.replicas.len()).any(|at| {
            let replica = &self.replicas[at];
            let hosts = self.peers.iter().filter(|peer| peer.mirror == mirror && peer.shards.contains(&at));
            let heard = hosts.filter_map(|peer| peer.heard_at).max();
            let is_silent = heard.is_some_and(|heard| now >= heard + grace.doubt());
            is_silent && !replica.peer_state(mirror).is_away()
        })
    }

    /// A server of a datacenter that hosts none of our shards has answered.
    pub fn handle_sighted(&mut self, datacenter: DatacenterId, now: Instant) {
        let mirror = self.datacenters().position(|id| id == datacenter);
        if let Some(mirror) = mirror {
            self.detector.sighted[mirror] = Some(now);
            self.watch_mirror(mirror, now);
        }
    }

    /// How another datacenter, by its place, is as far as a replica goes, and since when nothing was heard of it.
    pub fn presence(&self, at: usize, mirror: usize, now: Instant) -> (Presence, Option<Duration>) {
        let hosts = self.peers.iter().filter(|peer| peer.mirror == mirror && peer.shards.contains(&at));
        let heard = hosts.clone().filter_map(|peer| peer.heard_at).max().or(self.detector.since);
        let silent = heard.map(|heard| now.saturating_duration_since(heard));
        let is_up = hosts.clone().any(|peer| peer.is_up());
        let late = self.detector.grace.map_or(Duration::MAX, |grace| grace.present());
        let is_suspected = !is_up || silent.is_some_and(|silent| silent > late);
        let presence = match self.replicas[at].peer_state(mirror) {
            PeerState::Departed => Presence::Left,
            PeerState::Gone { .. } => Presence::Gone,
            PeerState::Stopped { .. } => Presence::Stopped,
            PeerState::Connecting | PeerState::Live | PeerState::CatchingUp(_) if is_suspected => {
                Presence::Suspected
            }
            PeerState::CatchingUp(_) => Presence::Behind,
            PeerState::Connecting | PeerState::Live => Presence::Live,
        };
        (presence, silent)
    }

    /// Something has come of a peer. Costs next to nothing for one of which something comes all the time.
    pub(super) fn heard(&mut self, peer: usize, now: Instant) {
        let longest = self.longest_silence(peer);
        let link = &mut self.peers[peer];
        let before = link.heard_at.replace(now);
        if let Some(up) = link.up.as_mut().filter(|_| before.is_none_or(|before| now > before + longest)) {
            up.returned_at = now;
        }
        let Some(grace) = self.detector.grace else { return };
        if before.is_some_and(|before| now < before + grace.present()) {
            return;
        }
        let mirror = self.peers[peer].mirror;
        self.watch_mirror(mirror, now);
        for at in self.peers[peer].shards.clone() {
            if matches!(self.replicas[at].peer_state(mirror), PeerState::Gone { .. }) {
                self.change(at, now, |replica| replica.take_up(mirror));
            }
        }
    }

    pub(super) fn heartbeat_at(&self, peer: usize) -> Option<Instant> {
        Some(self.peers[peer].up.as_ref()?.said_at + self.detector.grace?.heartbeat())
    }
}
