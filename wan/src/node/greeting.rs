//! Links that come up and go down, and what is said first on each.
//!
//! Kind: time-passed.

use std::time::Instant;

use datacenter::DatacenterId;

use super::{CONFIRM_DELAY, Node, PeerLink};
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
        let mut others =
            self.peers.iter().enumerate().filter(|(at, o)| *at != peer && o.mirror == mirror && o.is_up);
        let doubled = others.find_map(|(_, other)| {
            let (at, _) = shared.iter().find(|(at, _)| other.shards.contains(at))?;
            Some(PeerError::HostedTwice { shard: self.replicas[*at].shard().id(), by: other.id.index })
        });
        if let Some(doubled) = doubled {
            return Err(doubled);
        }
        for (at, resume) in &shared {
            self.change(*at, now, |replica| replica.handle_resume(mirror, *life, resume))?;
        }
        let link = &mut self.peers[peer];
        link.shards = shared.into_iter().map(|(at, _)| at).collect();
        (link.is_up, link.judge_backlog, link.next_shard) = (true, true, 0);
        link.confirm_at = Some(now + CONFIRM_DELAY);
        (link.heard_at, link.said_at, link.returned_at) = (Some(now), Some(now), Some(now));
        self.watch_mirror(mirror, now);
        self.handle_rtt(peer, self.peers[peer].rtt);
        for at in self.peers[peer].shards.clone() {
            self.depart_from(at, departed);
        }
        Ok(())
    }

    /// The link to `peer` is down. What it has not confirmed will be sent again.
    pub fn handle_down(&mut self, peer: usize) {
        let link = &mut self.peers[peer];
        link.is_up = false;
        link.confirm_at = None;
        link.drain.handle_down();
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
}
