//! Mirrors that have come back, and are behind.
//!
//! What a mirror has to say when its link comes up may take long: a new process is given back what the one before it had
//! released before it ships anything, and after a long silence much has piled up. Nobody waits for that. From its hello until it
//! has caught up such a mirror is *excused*: neither the mirror clock nor its barriers hold anybody. It is told so, and takes the clock
//! of those who go on without it, so that they need not wait for it when it has caught up. Its process has begun with
//! nothing of us as well: so each of the two excuses the other.
//!
//! Kind: time-free.

use datacenter::Clock;

use super::Replica;
use super::mirror::Mirror;
use super::peer_state::Backlog;
use crate::message::Progress;
use crate::mirror_clock::UNHEARD_LEAD;
use crate::policy::Lead;

impl Replica {
    /// Waits no more for a mirror, which is at `clock`, until it has caught up. What was due before is due still.
    pub(super) fn excuse(&mut self, peer: usize, clock: Clock) {
        let state = &mut self.mirrors[peer].state;
        let due = state.backlog().map_or(clock.max(self.shard.clock()), |backlog| backlog.due);
        if due > Clock(0) {
            state.become_behind(Backlog { due, lag: u32::MAX });
        } else {
            // At the beginning of the job there is nothing to catch up with.
            state.become_caught_up();
        }
    }

    /// Whether a mirror is back and has not caught up: nobody waits for it.
    pub fn is_excused(&self, peer: usize) -> bool {
        self.mirrors[peer].state.is_behind()
    }

    /// Waits for a mirror again if it has caught up, or has nothing to say.
    ///
    /// What was due at its hello is here some time later, in which more has piled up: that is due next, and so on. Each time there
    /// is less of it, if the link can carry what the two ship. Where it cannot, the mirror is waited for all the same, as any
    /// whose link is slow: it would be excused for ever.
    pub(super) fn judge_catching_up(&mut self, peer: usize) {
        let mirror = &self.mirrors[peer];
        let Some(Backlog { due, lag: before }) = mirror.state.backlog() else { return };
        let (inbox, slack) = (&mirror.inbox, self.slack(mirror));
        let is_here = |clock: Clock| inbox.has_covered() && clock.lead_over(inbox.arrived_clock()) <= slack;
        let said = self.shard.clock().min(inbox.reported_clock());
        let lag = said.lead_over(inbox.arrived_clock());
        let left = match () {
            () if inbox.is_settled() => None,
            () if !is_here(due) => return,
            () if is_here(said) || lag >= before => None,
            () => Some(Backlog { due: said, lag }),
        };
        let state = &mut self.mirrors[peer].state;
        match left {
            Some(backlog) => state.become_behind(backlog),
            None => state.become_caught_up(),
        }
    }

    /// A mirror says how far it is. Where it does not wait for this side, nor has to when this side has caught up. It never has to
    /// where no lead is too much: then nothing is left out.
    pub(super) fn follow_if_excused(&mut self, peer: usize, progress: Progress) {
        let lead = progress.clock.lead_over(self.shard.clock());
        let is_bounded = self.lead != Lead::Unlimited;
        if is_bounded && progress.went_on && lead > self.slack(&self.mirrors[peer]) {
            self.shard.jump(progress.clock);
        }
    }

    /// Nobody has trained for long, and so nobody was waited for: takes the clock of those who have gone on.
    pub fn follow_those_ahead(&mut self) {
        let is_ahead = |mirror: &&Mirror| {
            let lead = mirror.inbox.reported_clock().lead_over(self.shard.clock());
            !mirror.state.is_away() && lead > self.slack(mirror)
        };
        let ahead = self.mirrors.iter().filter(is_ahead).map(|mirror| mirror.inbox.reported_clock());
        if let Some(clock) = ahead.max() {
            self.shard.jump(clock);
        }
    }

    /// By how much one of the two may lead the other without being far ahead.
    pub(super) fn slack(&self, mirror: &Mirror) -> u32 {
        mirror.lead.limit(self.lead).unwrap_or(0).max(UNHEARD_LEAD)
    }
}
