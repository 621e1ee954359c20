//! Mirrors that have come back, and are behind.
//!
//! What a mirror has to say when its link comes up may take long: a new process is given back what the one before it had
//! released before it ships anything, and after a long silence much has piled up. Nobody waits for that longer than for one of whom
//! nothing is heard. From the instant at which it would have been given up it is *excused*: neither the mirror clock nor its
//! barriers hold anybody, until it has caught up.
//!
//! Kind: time-free.

use datacenter::Clock;

use super::Replica;
use super::mirror::Mirror;
use crate::mirror_clock::{UNHEARD_LEAD, lead_limit};

/// How a mirror stands whose link has come up, and which was the later clock of the two then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CatchingUp {
    /// It has caught up with that.
    #[default]
    Done,
    /// It has not, and is waited for.
    Awaited(Clock),
    /// It has not, and is not waited for until it has.
    Excused(Clock),
}

impl Mirror {
    /// Whether reads may be held for it.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.is_away() && !self.is_excused()
    }

    pub(super) fn is_excused(&self) -> bool {
        matches!(self.catching_up, CatchingUp::Excused(_))
    }
}

impl Replica {
    /// The link to a mirror has come up, which is at `clock`. One that was not waited for before is not now.
    pub(super) fn begin_catching_up(&mut self, peer: usize, clock: Clock, was_waited_for: bool) {
        let due = clock.max(self.shard.clock());
        self.mirrors[peer].catching_up = match was_waited_for {
            true => CatchingUp::Awaited(due),
            false => CatchingUp::Excused(due),
        };
    }

    /// Whether a mirror has not caught up since its link came up.
    pub fn is_catching_up(&self, peer: usize) -> bool {
        self.mirrors[peer].catching_up != CatchingUp::Done
    }

    /// Whether a mirror has not caught up, and is not waited for until it has.
    pub fn is_excused(&self, peer: usize) -> bool {
        self.mirrors[peer].is_excused()
    }

    /// A mirror that has not caught up could have been silent as long as it takes to give it up: nobody waits for it until it
    /// has.
    pub fn excuse(&mut self, peer: usize) {
        let mirror = &mut self.mirrors[peer];
        if let CatchingUp::Awaited(due) = mirror.catching_up {
            mirror.catching_up = CatchingUp::Excused(due);
        }
    }

    /// Waits for a mirror again once it is no more behind than it may be: behind us, or, if it is the slower one, behind what it
    /// says of itself.
    pub(super) fn judge_catching_up(&mut self, peer: usize) {
        let mirror = &self.mirrors[peer];
        let (CatchingUp::Awaited(due) | CatchingUp::Excused(due)) = mirror.catching_up else { return };
        let inbox = &mirror.inbox;
        let derived = mirror.derived_lead.unwrap_or(UNHEARD_LEAD);
        let slack = lead_limit(self.lead, mirror.derived_lead).unwrap_or(0).max(derived);
        let clock = self.shard.clock().min(inbox.reported_clock().max(due));
        if inbox.has_covered() && clock.lead_over(inbox.arrived_clock()) <= slack {
            self.mirrors[peer].catching_up = CatchingUp::Done;
        }
    }

    /// The clock of mirrors that have gone on without this one, if there are any: those who wait are not that far ahead.
    pub(super) fn clock_of_those_ahead(&self) -> Option<Clock> {
        let is_ahead = |mirror: &&Mirror| {
            let lead = mirror.inbox.reported_clock().lead_over(self.shard.clock());
            lead_limit(self.lead, mirror.derived_lead).is_some_and(|limit| lead > limit.max(UNHEARD_LEAD))
        };
        let ahead = self.mirrors.iter().filter(|mirror| !mirror.is_away()).filter(is_ahead);
        ahead.map(|mirror| mirror.inbox.reported_clock()).max()
    }
}
