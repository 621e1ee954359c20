//! Who is there: who has been silent for too long, and which of two processes is the later.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use super::Node;
use crate::inbox::{PeerError, check_lives};
use crate::replica::Replica;

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
    pub(super) fn heartbeat(&self) -> Duration {
        self.server.min(self.datacenter) / 4
    }
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
                self.replicas.iter_mut().for_each(|replica| replica.set_life(self.life));
            }
        }
        PeerError::FormerLife
    }

    /// Whether another process of this server has started later: nobody talks to this one any more.
    pub fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    /// Goes on without whoever has been silent for too long. Ask [`poll_judgement`](Self::poll_judgement) when to call it again.
    pub fn judge(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        let Some(grace) = self.grace else { return };
        for at in 0..self.replicas.len() {
            for mirror in 0..self.datacenters.len() {
                let is_over = self.given_up_at(at, mirror, grace, now).is_some_and(|until| until <= now);
                if is_over && !self.replicas[at].is_gone(mirror) {
                    self.replicas[at].give_up(mirror);
                    self.to_recheck[at] = true;
                }
            }
        }
        match self.is_idle() {
            false => self.idle_since = None,
            true => self.end_if_deserted(now),
        }
    }

    /// Whether nobody has trained here for as long as workers are waited for.
    fn is_deserted(&self, now: Instant) -> bool {
        let until = self.idle_since.zip(self.grace).map(|(since, grace)| since + grace.workers);
        until.is_some_and(|until| until <= now)
    }

    /// Somebody begins to train again: where nobody has for long, and so nobody was waited for, that is at the clock of those who
    /// have gone on.
    pub(super) fn follow_if_deserted(&mut self, now: Instant) {
        if self.is_deserted(now) {
            self.idle_since = None;
            for at in 0..self.replicas.len() {
                self.moving(at, now, Replica::follow_those_ahead);
            }
        }
    }

    /// Where nobody has trained for long and others are at the end of the job, so is this datacenter: nobody waits for workers
    /// that do not come back.
    fn end_if_deserted(&mut self, now: Instant) {
        self.idle_since.get_or_insert(now);
        if !self.is_deserted(now) {
            return;
        }
        for at in 0..self.replicas.len() {
            self.replicas[at].settle();
            let end = self.end.filter(|end| self.replicas[at].latest_clock() >= *end);
            if let Some(end) = end.filter(|end| self.replicas[at].shard().clock() < *end) {
                let moved = self.replicas[at].follow(end);
                self.complete(at, moved, now);
            }
        }
    }

    /// When [`judge`](Self::judge) has something to judge if nothing is heard before.
    pub fn poll_judgement(&self, now: Instant) -> Option<Instant> {
        let grace = self.grace?;
        let mirrors =
            (0..self.replicas.len()).flat_map(|at| (0..self.datacenters.len()).map(move |m| (at, m)));
        let awaited = mirrors.filter(|&(at, mirror)| !self.replicas[at].is_gone(mirror));
        let until = awaited.filter_map(|(at, mirror)| self.given_up_at(at, mirror, grace, now));
        let idle = self.idle_since.map(|since| since + grace.workers).filter(|at| *at > now);
        until.chain(idle).min()
    }

    /// When nobody waits any more for what a datacenter has of a shard, unless it is heard before.
    fn given_up_at(&self, at: usize, mirror: usize, grace: Grace, now: Instant) -> Option<Instant> {
        let of_it = || self.peers.iter().filter(|peer| peer.mirror == mirror);
        let heard = of_it().filter(|peer| peer.shards.contains(&at)).filter_map(|peer| peer.heard_at).max();
        let others = of_it().filter_map(|peer| peer.heard_at).max();
        let is_there = others.is_some_and(|heard| now < heard + grace.server);
        let limit = if is_there { grace.server } else { grace.datacenter };
        Some(heard.or(self.since)? + limit)
    }

    /// How another datacenter, by its place, is as far as a replica goes, and since when nothing was heard of it.
    pub fn presence(&self, at: usize, mirror: usize, now: Instant) -> (Presence, Option<Duration>) {
        let hosts = self.peers.iter().filter(|peer| peer.mirror == mirror && peer.shards.contains(&at));
        let heard = hosts.clone().filter_map(|peer| peer.heard_at).max().or(self.since);
        let silent = heard.map(|heard| now.saturating_duration_since(heard));
        let is_up = hosts.clone().any(|peer| peer.is_up);
        let late = self.grace.map_or(Duration::MAX, |grace| 2 * grace.heartbeat());
        let presence = match () {
            () if self.replicas[at].has_departed(mirror) => Presence::Left,
            () if self.replicas[at].is_gone(mirror) => Presence::Gone,
            () if self.replicas[at].has_left(mirror) => Presence::Stopped,
            () if !is_up || silent.is_some_and(|silent| silent > late) => Presence::Suspected,
            () if self.replicas[at].is_excused(mirror) => Presence::Behind,
            () => Presence::Live,
        };
        (presence, silent)
    }

    pub(super) fn heard(&mut self, peer: usize, now: Instant) {
        let longest = self.longest_silence(peer);
        let link = &mut self.peers[peer];
        let before = link.heard_at.replace(now);
        if before.is_none_or(|before| now > before + longest) {
            link.returned_at = Some(now);
        }
        for &at in &link.shards {
            if self.replicas[at].is_gone(link.mirror) && !self.replicas[at].has_departed(link.mirror) {
                self.replicas[at].take_up(link.mirror);
            }
        }
    }

    pub(super) fn heartbeat_at(&self, peer: usize) -> Option<Instant> {
        Some(self.peers[peer].said_at? + self.grace?.heartbeat())
    }
}
