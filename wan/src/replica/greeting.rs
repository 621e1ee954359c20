//! What two replicas say of themselves when their link comes up, and what follows from it for how they go on.
//!
//! Kind: time-free.

use datacenter::Clock;

use super::mirror::{GivenBack, LastHello, Mirror, ToSay};
use super::{Replica, negated};
use crate::inbox::{PeerError, check_counts};
use crate::message::{Origin, Resume};

/// The number of no stream.
const VOID: u32 = u32::MAX;

impl Replica {
    /// Whether workers may come: its values are there, and each mirror has said how far it is, or is not waited for. Then the
    /// shard's clock is that of the others. Workers that came sooner would wait here, and all other regions for what they do not
    /// do on the shards of other servers.
    pub fn is_ready(&self) -> bool {
        self.recovery.has_values() && !self.mirrors.iter().any(|m| m.state.is_connecting())
    }

    /// Whether the job has begun, as far as this shard knows: it, or a mirror of it, has completed a clock.
    pub fn knows_of_clocks(&self) -> bool {
        let said = |m: &Mirror| m.last_hello.map_or(Clock(0), |hello| hello.clock);
        let of = |m: &Mirror| m.heard_clock().max(said(m)).max(m.included_clock());
        self.shard.clock() > Clock(0) || self.mirrors.iter().any(|m| of(m) > Clock(0))
    }

    /// The clock of a mirror up to which all its updates are in the values.
    pub fn included_clock(&self, peer: usize) -> Clock {
        self.mirrors[peer].included_clock()
    }

    /// How many of the clocks up to [that](Self::included_clock) a mirror has left out, at least. It says it of the clock that it
    /// has completed: of those whose updates have yet to come it may be all.
    pub fn included_left_out(&self, peer: usize) -> u32 {
        let mirror = &self.mirrors[peer];
        mirror.heard_left_out().saturating_sub(mirror.heard_clock().lead_over(mirror.included_clock()))
    }

    /// What this side has, for the hello to a mirror. To ask for it changes nothing: most hellos lead to no link.
    pub fn resume(&self, peer: usize) -> Resume {
        let (mirror, (_, ledger)) = (&self.mirrors[peer], &self.ledgers.mirrors[peer]);
        let lost_after = self.recovery.lost_after().filter(|_| !mirror.restoration.ours.is_done());
        Resume {
            life: mirror.numbering.life,
            stream: if mirror.numbering.is_void { VOID } else { mirror.inbox.stream() },
            covered: mirror.inbox.arrived_count(),
            newest: ledger.newest(),
            lost_after,
            clock: self.shard.clock(),
            heard_clock: mirror.heard_clock(),
            heard_left_out: mirror.heard_left_out(),
            went_on: mirror.state.is_gone() || mirror.state.is_behind(),
            is_whole: self.is_whole(),
            ..mirror.inbox.resume()
        }
    }

    /// The link to a mirror's process `life` is up, which has what `resume` says. Yields the shard's clock if it moved, as the
    /// others have gone on without this one.
    ///
    /// # Errors
    ///
    /// If the mirror claims what was never sent, or its process has been replaced.
    pub fn handle_resume(
        &mut self,
        peer: usize,
        life: u64,
        resume: &Resume,
    ) -> Result<Option<Clock>, PeerError> {
        if life < self.mirrors[peer].numbering.life {
            return Err(PeerError::FormerLife);
        }
        check_counts([resume.newest, resume.covered, resume.clock.0, resume.heard_clock.0])?;
        check_counts([resume.heard_left_out])?;
        // Its process waits for what this hello says of our clock.
        self.state_what_is_unstated();
        let mirror = &mut self.mirrors[peer];
        let continues = resume.life == self.releases.life
            && mirror.numbering.counted_for == life
            && mirror.numbering.life == life
            && resume.stream == mirror.outbox.stream();
        let barriers = if continues { mirror.outbox.handle_resume(resume)? } else { Vec::new() };
        let is_another = mirror.numbering.life != life;
        if is_another {
            mirror.numbering.life = life;
            self.begin_stream(peer, 0);
        }
        if !continues {
            self.number_anew(peer, life, resume);
        }
        let before = self.shard.clock();
        self.follow_clock(peer, resume);
        let was_gone = self.is_gone(peer);
        let mirror = &mut self.mirrors[peer];
        mirror.state.become_linked();
        mirror.last_hello = Some(LastHello { clock: resume.clock, is_whole: resume.is_whole });
        if was_gone || is_another && (resume.lost_after.is_some() || self.knows_of(peer)) {
            self.excuse(peer, resume.clock);
        }
        if !resume.is_whole {
            self.lose_donor(peer);
        }
        self.recovery.choose_donor(&self.mirrors);
        let known = resume.newest.max(resume.covered);
        self.count_above(known, self.mirrors[peer].restoration.ours.is_done());
        if self.recovery.lost_after().is_some_and(|after| resume.newest <= after) {
            self.mirrors[peer].restoration.ours = GivenBack::Done;
        }
        // Whatever was said on the old connection may be lost: all of it is said again.
        let gone = (0..self.mirrors.len()).filter(|&other| other != peer && self.is_gone(other));
        let (gone, departed) = (gone.collect(), self.departed().collect());
        self.mirrors[peer].to_say =
            ToSay { barriers, unconfirmed_bytes: 1, gone, departed, ..ToSay::default() };
        self.advance_recovery(peer);
        Ok(Some(self.shard.clock()).filter(|now| *now > before))
    }

    /// One of the two processes is another than before: our numbers begin anew, and what it lacks goes by row.
    fn number_anew(&mut self, peer: usize, life: u64, resume: &Resume) {
        let was_recovering = self.is_recovering();
        let mirror = &mut self.mirrors[peer];
        // Where nobody had anything before, what waits is all there is.
        let is_first = mirror.numbering.counted_for == 0 && resume.newest == 0 && !was_recovering;
        (mirror.numbering.counted_for, mirror.restoration.has_values) = (life, false);
        if !is_first {
            mirror.outbox.restart();
            mirror.restoration.to_restate = Some(resume.covered);
        }
        if let Some(after) = resume.lost_after {
            mirror.outbox.hand_on(Origin::Receiver, self.ledgers.mirrors[peer].1.newer_than(after));
            mirror.outbox.return_all();
        }
    }

    /// A mirror's numbers begin anew.
    fn begin_stream(&mut self, peer: usize, stream: u32) {
        let mirror = &mut self.mirrors[peer];
        mirror.restoration.ours.become_void();
        mirror.numbering.is_void = false;
        mirror.forwarding.under_way.clear();
        // What was confirmed in the old numbers says nothing of the new.
        mirror.to_say.applied_told = 0;
        mirror.before.included = mirror.included_clock();
        for early in mirror.inbox.restart(stream).iter().filter(|update| update.rows.is_none()) {
            early.deltas.iter().for_each(|delta| self.shard.apply(&negated(delta)));
        }
        self.recovery.restart_preview(peer, &mut self.shard);
    }

    /// Whether something of a mirror has come, or may have come to a process before this one.
    fn knows_of(&self, peer: usize) -> bool {
        self.is_recovering()
            || self.ledgers.mirrors[peer].1.newest() > 0
            || self.mirrors[peer].inbox.arrived_count() > 0
    }

    /// A mirror says something in the numbers of `stream`.
    pub(super) fn follow_stream(&mut self, peer: usize, stream: u32) -> Result<(), PeerError> {
        let mirror = &self.mirrors[peer];
        let known = mirror.inbox.stream();
        if stream > known {
            self.begin_stream(peer, stream);
            if self.knows_of(peer) {
                self.excuse(peer, self.mirrors[peer].inbox.reported_clock());
            }
        } else if stream < known || mirror.numbering.is_void {
            return Err(PeerError::VoidStream { found: stream, known });
        }
        Ok(())
    }

    /// Takes the clock of the others, where they have gone on without this one for longer than they would have waited.
    fn follow_clock(&mut self, peer: usize, resume: &Resume) {
        if !self.mirrors[peer].restoration.ours.is_done() && !self.left_out.has_trained() {
            // Workers say again what was not confirmed to them. What is in the mirror's clock was taken all the same.
            self.shard.presume_flushed(resume.heard_clock);
            self.left_out.presume(resume.heard_left_out, resume.heard_clock);
        }
        let mirror = &self.mirrors[peer];
        let comes_back = self.is_recovering() && mirror.last_hello.is_none();
        let slack = self.slack(mirror);
        // Nor does it go back behind what the others have heard of it.
        let clock = if comes_back { resume.clock.max(resume.heard_clock) } else { resume.clock };
        let is_behind = clock.lead_over(self.shard.clock()) > slack;
        if is_behind && (comes_back || resume.went_on || mirror.state.is_gone()) {
            self.shard.jump(clock);
        }
    }

    /// Counts on above what a mirror has of ours: an earlier process released it.
    fn count_above(&mut self, known: u32, has_returned: bool) {
        let is_new = |after: &u32| known > self.releases.count || (known > *after && !has_returned);
        let Some(after) = self.recovery.lost_after().filter(is_new) else { return };
        // Also where this process has counted further meanwhile: the mirror would take some of that for what it has itself.
        self.releases.count = self.releases.count.max(known) + 1;
        self.ledgers.own.restamp(after, self.releases.count);
    }
}
