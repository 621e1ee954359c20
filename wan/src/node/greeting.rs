//! Links that come up and go down, and what is said first on each.
//!
//! Kind: time-passed.

use std::time::Instant;

use datacenter::DatacenterId;

use super::Node;
use super::peer_link::PeerLink;
use crate::inbox::{PeerError, check_lives};
use crate::message::Resume;

/// What a node says of itself when a link comes up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Its process.
    pub life: u64,
    /// The shards that it hosts, ascending, and what it has of each.
    pub resumes: Vec<Resume>,
    /// Datacenters that have left the job for good, as far as it knows.
    pub departed: Vec<DatacenterId>,
}

impl Node {
    /// What to tell a server of `datacenter` in the hello. No shards if that is not a configured datacenter; if it is named
    /// among those that have left for good, it is to be refused instead.
    pub fn greeting(&self, datacenter: DatacenterId) -> Greeting {
        let life = self.life;
        let Some(mirror) = self.datacenters().position(|id| id == datacenter) else {
            return Greeting { life, ..Greeting::default() };
        };
        let mut resumes: Vec<_> = self.replicas.iter().map(|replica| replica.resume(mirror)).collect();
        resumes.sort_by_key(|resume| resume.shard);
        Greeting { life, resumes, departed: self.departed().collect() }
    }

    /// The link to `peer` is up; it hosts the shards that its greeting names, and has of each what that says.
    ///
    /// # Errors
    ///
    /// If it makes no sense, or one of the two processes is not the latest of its server: the link should be closed.
    pub fn handle_up(&mut self, peer: usize, greeting: &Greeting, now: Instant) -> Result<(), PeerError> {
        let Greeting { life, resumes, departed } = greeting;
        self.check_departed(peer, departed)?;
        check_lives(resumes.iter().map(|resume| resume.life).chain([*life]))?;
        self.check_clocks(resumes.iter().flat_map(|resume| [resume.clock, resume.heard_clock]))?;
        let mirror = self.peers[peer].mirror;
        let shared = resumes.iter().filter_map(|resume| Some((self.position(resume.shard)?, resume)));
        let mut shared: Vec<(usize, &Resume)> = shared.collect();
        let has_departed = |at: usize| self.replicas[at].has_departed(mirror);
        if !shared.is_empty() && shared.iter().all(|(at, _)| has_departed(*at)) {
            return Err(PeerError::Departed(self.datacenters[mirror].id));
        }
        shared.retain(|(at, _)| !has_departed(*at));
        let Some(known) = shared.iter().map(|(_, resume)| resume.life).max() else {
            return Err(PeerError::NothingShared);
        };
        if known > self.life {
            return Err(self.handle_later_life(peer, known));
        }
        self.check_hosts(peer, *life, shared.iter().map(|(at, _)| *at))?;
        for (at, resume) in &shared {
            self.change(*at, now, |replica| replica.handle_resume(mirror, *life, resume))?;
        }
        self.replace_hosts(peer, shared.iter().map(|(at, _)| *at).collect());
        let delay = self.confirm_delay(peer);
        self.peers[peer].become_up(now + delay, now);
        self.watch_mirror(mirror, now);
        self.tell_rtt(peer);
        for at in self.peers[peer].shards.clone() {
            self.depart_from(at, departed);
        }
        self.note_beginning(now);
        Ok(())
    }

    /// The link to `peer` is down. What it has not confirmed will be sent again.
    pub fn handle_down(&mut self, peer: usize) {
        self.peers[peer].become_down();
    }

    /// The link to `peer` is down since its process has stopped of its own will, having shipped all it had: nobody waits
    /// for it.
    pub fn handle_left(&mut self, peer: usize) {
        self.handle_down(peer);
        let PeerLink { mirror, shards, .. } = &self.peers[peer];
        for &at in shards {
            self.replicas.change(at, |replica| replica.handle_left(*mirror));
        }
    }

    /// Refuses who says that it hosts a shard that another server hosts, unless its process is the later one. Between two that
    /// may both live, as where a region is configured in two ways, only one is talked to, and it is not the older.
    fn check_hosts(
        &self,
        peer: usize,
        life: u64,
        shared: impl Iterator<Item = usize> + Clone,
    ) -> Result<(), PeerError> {
        let mirror = self.peers[peer].mirror;
        for (_, other) in self.other_hosts(peer) {
            let doubled =
                |at: &usize| other.shards.contains(at) && self.replicas[*at].life_of(mirror) >= life;
            if let Some(at) = shared.clone().find(doubled) {
                return match self.replicas[at].life_of(mirror) > life {
                    true => Err(PeerError::FormerLife),
                    false => {
                        let shard = self.replicas[at].shard().id();
                        Err(PeerError::HostedTwice { shard, by: other.id.index })
                    }
                };
            }
        }
        Ok(())
    }

    /// Other servers of its datacenter are linked for what `peer` hosts now: they are dead, whether their links show it or not.
    fn replace_hosts(&mut self, peer: usize, shared: Vec<usize>) {
        let is_replaced = |other: &PeerLink| other.shards.iter().any(|at| shared.contains(at));
        let replaced = self.other_hosts(peer).filter(|(_, other)| is_replaced(other)).map(|(at, _)| at);
        for other in replaced.collect::<Vec<_>>() {
            self.peers[other].shards.retain(|at| !shared.contains(at));
            self.handle_down(other);
        }
        self.peers[peer].shards = shared;
    }

    fn other_hosts(&self, peer: usize) -> impl Iterator<Item = (usize, &PeerLink)> {
        let mirror = self.peers[peer].mirror;
        let links = self.peers.iter().enumerate();
        links.filter(move |(at, other)| *at != peer && other.mirror == mirror && other.is_up())
    }
}
