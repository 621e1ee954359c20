//! How a replica goes on without a datacenter that has left the job for good.
//!
//! Such a one is gone, and stays so: what it has left here is settled with the others as for any that is gone, but nothing
//! is kept for it, and what it may have had of our releases is not waited for.
//!
//! Kind: time-free.

use datacenter::DatacenterId;

use super::Replica;
use super::mirror::GivenBack;

impl Replica {
    /// A mirror has left for good. Does nothing where that is known.
    pub fn depart(&mut self, peer: usize) {
        if self.has_departed(peer) {
            return;
        }
        if !self.is_gone(peer) {
            self.give_up(peer);
        }
        let mirror = &mut self.mirrors[peer];
        mirror.state.become_departed();
        // What waits for it is dropped, and what is pushed from now on as well: this outbox is never opened again.
        mirror.outbox.restart();
        mirror.restoration.to_restate = None;
        mirror.restoration.ours = GivenBack::Done;
        for (other, mirror) in self.mirrors.iter_mut().enumerate() {
            if other != peer {
                mirror.to_say.departed.insert(peer);
                // The others may have had no use for what we had of it as long as they heard it.
                mirror.to_say.gone.insert(peer);
            }
        }
        self.advance_recovery(peer);
    }

    /// Whether a mirror has left for good.
    pub fn has_departed(&self, peer: usize) -> bool {
        self.mirrors[peer].state.has_departed()
    }

    /// The places of all that have.
    pub(super) fn departed(&self) -> impl Iterator<Item = usize> {
        (0..self.mirrors.len()).filter(|&place| self.has_departed(place))
    }

    /// What a mirror should hear of who has left for good.
    pub(super) fn departed_to_say(&mut self, peer: usize) -> Vec<DatacenterId> {
        let places = std::mem::take(&mut self.mirrors[peer].to_say.departed);
        places.into_iter().map(|place| self.mirrors[place].peer).collect()
    }
}
