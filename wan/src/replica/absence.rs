//! How a replica goes on without a mirror of which nothing is heard: what that one has left here is settled with the others.
//!
//! Kind: time-free.

use super::{Replica, negated};
use crate::message::{Holdings, Origin};

impl Replica {
    /// A mirror has been silent for longer than it may: nobody waits for it any more. What it has left here is settled with
    /// the others.
    pub fn give_up(&mut self, peer: usize) {
        let mirror = &mut self.mirrors[peer];
        mirror.state.become_gone();
        // Neither would the naive baseline send it that.
        mirror.naive_payload_bytes = 0;
        // What came early of it may never have its turn. If it has after all, it comes again.
        let early = mirror.inbox.drop_early();
        mirror.numbering.is_void |= !early.is_empty();
        for update in early.iter().filter(|update| update.rows.is_none()) {
            update.deltas.iter().for_each(|delta| self.shard.apply(&negated(delta)));
        }
        for (other, mirror) in self.mirrors.iter_mut().enumerate() {
            if other != peer {
                mirror.to_say.gone.insert(peer);
            }
        }
        self.lose_donor(peer);
        self.advance_recovery(peer);
    }

    /// A mirror that was given up is heard again. It is waited for once it has caught up.
    pub fn take_up(&mut self, peer: usize) {
        self.mirrors[peer].state.become_heard();
        self.excuse(peer, self.mirrors[peer].inbox.reported_clock());
        // One that has nothing to say may say nothing.
        self.judge_catching_up(peer);
    }

    /// Whether a mirror has been given up.
    pub fn is_gone(&self, peer: usize) -> bool {
        self.mirrors[peer].state.is_gone()
    }

    /// A mirror says what it has of a datacenter that is gone for it: it gets what we have more, and is asked for what it has
    /// more.
    pub(super) fn handle_holdings(&mut self, peer: usize, theirs: Holdings) {
        let Some(place) = self.ledgers.place(theirs.origin).filter(|place| *place != peer) else { return };
        let ledger = &self.ledgers.mirrors[place].1;
        let mirror = &mut self.mirrors[peer];
        if mirror.forwarding.holdings.insert(place, theirs) != Some(theirs) || theirs.newest < ledger.newest()
        {
            mirror.outbox.hand_on(Origin::Other(theirs.origin), ledger.newer_than(theirs.covered));
        }
        let ours = self.holdings(place);
        let mirror = &mut self.mirrors[peer];
        if mirror.to_say.holdings_told.get(&place) != Some(&ours) {
            mirror.to_say.gone.insert(place);
        }
    }

    fn holdings(&self, place: usize) -> Holdings {
        let (origin, ledger) = &self.ledgers.mirrors[place];
        let covered = self.mirrors[place].inbox.arrived_count();
        Holdings { origin: *origin, covered, newest: ledger.newest() }
    }

    /// What a mirror should hear of datacenters that are gone.
    pub(super) fn holdings_to_say(&mut self, peer: usize) -> Vec<Holdings> {
        let places = std::mem::take(&mut self.mirrors[peer].to_say.gone);
        let said = places.into_iter().map(|place| (place, self.holdings(place)));
        let said: Vec<_> = said.collect();
        self.mirrors[peer].to_say.holdings_told.extend(said.iter().copied());
        said.into_iter().map(|(_, holdings)| holdings).collect()
    }

    /// Whether everything that mirrors had of datacenters that are gone has come.
    pub(super) fn has_asked_for_the_gone(&self) -> bool {
        let gone = || (0..self.mirrors.len()).filter(|&place| self.is_gone(place));
        let has_come = |place: usize| {
            let (origin, ledger) = &self.ledgers.mirrors[place];
            let (newest, arrived) = (ledger.newest(), self.mirrors[place].inbox.arrived_count());
            let is_coming =
                self.mirrors.iter().any(|m| !m.state.is_away() && m.forwarding.under_way.contains(origin));
            let others = self.mirrors.iter().filter(|m| !m.state.is_away());
            let has_all = |holdings: &Holdings| holdings.newest <= newest.max(arrived);
            others.map(|m| m.forwarding.holdings.get(&place)).all(|h| h.is_some_and(has_all)) && !is_coming
        };
        gone().all(has_come)
    }
}
