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
            // At the beginning of the job there is nothing to catch up with.
            _ if due == Clock(0) => CatchingUp::Done,
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

    /// Stops waiting for a mirror that has not caught up, until it has.
    pub fn excuse(&mut self, peer: usize) {
        let mirror = &mut self.mirrors[peer];
        if let CatchingUp::Awaited(due) = mirror.catching_up {
            mirror.catching_up = CatchingUp::Excused(due);
        }
    }

    /// A mirror has caught up once what it was behind with when its link came up is here, but for as much as it may be behind at any
    /// time; or if it has nothing to say. How far we have come since does not count: a link that is always that late would keep it
    /// excused for ever.
    pub(super) fn judge_catching_up(&mut self, peer: usize) {
        let mirror = &self.mirrors[peer];
        let (CatchingUp::Awaited(due) | CatchingUp::Excused(due)) = mirror.catching_up else { return };
        let slack = self.slack(mirror).unwrap_or(UNHEARD_LEAD);
        let lag = due.lead_over(mirror.inbox.arrived_clock());
        if (mirror.inbox.has_covered() && lag <= slack) || mirror.inbox.is_settled() {
            self.mirrors[peer].catching_up = CatchingUp::Done;
        }
    }

    /// By how much one of the two may lead the other, where that is bounded.
    fn slack(&self, mirror: &Mirror) -> Option<u32> {
        lead_limit(self.lead, mirror.derived_lead).map(|limit| limit.max(UNHEARD_LEAD))
    }

    /// The clock of mirrors that have gone on without this one, if there are any: those who wait are one beyond what they may be at
    /// most.
    pub(super) fn clock_of_those_ahead(&self) -> Option<Clock> {
        let is_ahead = |mirror: &&Mirror| {
            let lead = mirror.inbox.reported_clock().lead_over(self.shard.clock());
            self.slack(mirror).is_some_and(|slack| lead > slack + 1)
        };
        let ahead = self.mirrors.iter().filter(|mirror| !mirror.is_away()).filter(is_ahead);
        ahead.map(|mirror| mirror.inbox.reported_clock()).max()
    }
}
