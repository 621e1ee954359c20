//! Datacenters that leave the job for good, as far as all shards here are concerned.
//!
//! Kind: time-free.

use datacenter::DatacenterId;

use super::Node;
use super::peer_link::PeerLink;
use crate::inbox::PeerError;

impl Node {
    /// A datacenter has left the job for good: nobody waits for it, nothing is kept for it, and it is not let in again.
    /// The others are told. Yields whether that is news.
    pub fn depart(&mut self, datacenter: DatacenterId) -> bool {
        let Some(mirror) = self.datacenters().position(|id| id == datacenter) else { return false };
        let mut is_news = false;
        for at in 0..self.replicas.len() {
            is_news |= !self.replicas[at].has_departed(mirror);
            self.replicas.change(at, |replica| replica.depart(mirror));
        }
        self.has_departures |= is_news;
        for peer in
            (0..self.peers.len()).filter(|peer| self.peers[*peer].mirror == mirror).collect::<Vec<_>>()
        {
            self.handle_down(peer);
        }
        is_news
    }

    /// The link to `peer` is down since its datacenter leaves for good, and it has shipped all it had. Others of its servers
    /// may have something to ship yet.
    pub fn handle_goodbye(&mut self, peer: usize) {
        self.handle_down(peer);
        let PeerLink { mirror, shards, .. } = &self.peers[peer];
        for &at in shards {
            self.replicas.change(at, |replica| replica.depart(*mirror));
        }
        self.has_departures = true;
    }

    /// Somebody says of a replica's shard that datacenters have left for good.
    pub(super) fn depart_from(&mut self, at: usize, departed: &[DatacenterId]) {
        for mirror in departed.iter().filter_map(|id| self.datacenters.iter().position(|d| d.id == *id)) {
            if !self.replicas[at].has_departed(mirror) {
                self.replicas.change(at, |replica| replica.depart(mirror));
                self.has_departures = true;
            }
        }
    }

    /// Whether somebody has left for good since this was asked.
    pub fn poll_departures(&mut self) -> bool {
        std::mem::take(&mut self.has_departures)
    }

    /// Whether a peer that was linked has nothing more to say here, as its datacenter has left for good.
    pub fn is_departed(&self, peer: usize) -> bool {
        let PeerLink { mirror, shards, .. } = &self.peers[peer];
        !shards.is_empty() && shards.iter().all(|at| self.replicas[*at].has_departed(*mirror))
    }

    /// The datacenters that have left the job for good, as far as all shards here are concerned.
    pub fn departed(&self) -> impl Iterator<Item = DatacenterId> {
        let places = (0..self.datacenters.len()).filter(|place| self.has_departed(*place));
        places.map(|place| self.datacenters[place].id)
    }

    pub(super) fn has_departed(&self, mirror: usize) -> bool {
        !self.replicas.is_empty() && self.replicas.iter().all(|replica| replica.has_departed(mirror))
    }

    /// Refuses who says of somebody whom nobody knows that it has left for good: of us as well, who are not told in this way.
    pub(super) fn check_departed(&self, peer: usize, departed: &[DatacenterId]) -> Result<(), PeerError> {
        let theirs = self.datacenters[self.peers[peer].mirror].id;
        let is_known = |id: &DatacenterId| self.datacenters().any(|known| known == *id);
        let unknown = departed.iter().find(|id| !is_known(id) || **id == theirs);
        unknown.map_or(Ok(()), |id| Err(PeerError::UnknownOrigin(*id)))
    }
}
