//! One shard and its mirrors: the way of an update, from a worker's flush to the peers and from a peer to the workers.
//!
//! A flush is added to the table and offered to the filter. When the shard's clock moves, the filter releases what is
//! significant into one outbox for each mirror. An update from a mirror is added to the table and to nothing else: it
//! is never offered to the filter here, so nothing echoes. Reads pass the shard's own rule (staleness) and the gate
//! of the mirrors (barriers, mirror clock).
//!
//! What each datacenter has released is kept beside the values, in a [ledger](crate::ledger): by it, a replica that has lost
//! something gets it back (`recovery`).
//!
//! A replica without mirrors is a shard of a datacenter alone.
//!
//! Kind: time-passed.

mod absence;
mod anticipating;
mod catching_up;
mod clock_length;
mod departure;
mod greeting;
mod keeping;
mod left_out;
mod mirror;
mod peer_state;
mod preview;
mod recovery;
mod releases;
mod size;
mod spending;
mod sums;

use std::time::{Duration, Instant};

use datacenter::message::{Flush, Read, ReadReply};
use datacenter::shard::{RequestError, Shard};
use datacenter::{Clock, DatacenterId, Elements, TableId, WorkerId};

use self::clock_length::ClockLength;
use self::left_out::LeftOut;
use self::mirror::{Mirror, MirrorGate};
use self::recovery::Recovery;
use self::releases::Releases;
use self::spending::Spender;
use self::sums::ContributionBounds;
use crate::anticipation::Anticipation;
use crate::cadence::{Cadence, MOST_CLOCKS};
use crate::filter::{Filter, Reachability};
use crate::inbox::{Arrival, Inbox, PeerError, check_counts};
use crate::ledger::{Ledger, Ledgers};
use crate::message::{Progress, ShardControl, Update};
use crate::outbox::{Outbox, Outgoing};
use crate::policy::{Lead, Policy};

pub use self::keeping::Misfit;
pub(crate) use self::peer_state::PeerState;

/// A shard with its filter and its mirrors.
#[derive(Debug)]
pub struct Replica {
    shard: Shard,
    filter: Filter,
    mirrors: Vec<Mirror>,
    ledgers: Ledgers,
    bounds: ContributionBounds,
    releases: Releases,
    recovery: Recovery,
    left_out: LeftOut,
    lead: Lead,
    clock_length: ClockLength,
    anticipation: Option<Anticipation>,
    cadence: Cadence,
    spender: Option<Spender>,
}

impl Replica {
    /// A replica of `shard` under `policy`, mirrored by `peers`.
    ///
    /// # Panics
    ///
    /// If the policy has filters, but not one for each table.
    pub fn new(shard: Shard, policy: &Policy, peers: impl IntoIterator<Item = DatacenterId>) -> Self {
        let tables = (0..shard.table_count()).map(|t| TableId(t as u16));
        let shapes: Vec<_> =
            tables.map(|t| shard.shape(t).expect("the shard has the tables it counts")).collect();
        let mirror =
            |peer| Mirror::new(peer, Outbox::new(shard.id(), &shapes), Inbox::new(shard.id(), &shapes));
        let mirrors: Vec<_> = peers.into_iter().map(mirror).collect();
        let filter = Filter::new(&policy.selection, shapes.clone(), mirrors.len());
        let spender = policy.budget.map(|budget| Spender::new(budget, mirrors.len()));
        let anticipates = policy.anticipates && !mirrors.is_empty();
        let anticipation = anticipates.then(|| {
            let whole = (0..shapes.len()).map(|table| policy.selection.is_whole(table));
            Anticipation::new(&shapes, mirrors.len()).leaving_whole(whole)
        });
        let ledgers = mirrors.iter().map(|mirror| (mirror.peer, Ledger::new(&shapes))).collect();
        Self {
            mirrors,
            ledgers: Ledgers { own: Ledger::new(&shapes), mirrors: ledgers },
            bounds: ContributionBounds::new(shapes.len()),
            releases: Releases::new(),
            recovery: Recovery::new(),
            left_out: LeftOut::default(),
            filter,
            shard,
            lead: policy.lead,
            clock_length: ClockLength::default(),
            anticipation,
            cadence: Cadence::new(policy.release_every, policy.lead),
            spender,
        }
    }

    /// The shard: its clock, values and waiting reads.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The filter: its counters.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// What has been released of this datacenter's own updates of `table`, in sum, shape `[slots * width]`. With what the
    /// filter holds back it is all that its workers have added.
    pub fn released(&self, table: TableId) -> &[f32] {
        self.ledgers.own.sums(table)
    }

    /// A worker's deltas for one clock. Yields the shard's new clock if it moved; then [`complete`](Self::complete) is
    /// next.
    ///
    /// # Errors
    ///
    /// If the flush makes no sense; then nothing has changed.
    pub fn handle_flush(&mut self, flush: &Flush) -> Result<Option<Clock>, RequestError> {
        let Some(most) = self.shard.check_flush(flush)? else { return Ok(None) };
        self.check_flushed_sums(flush, most)?;
        self.bounds.reach.extend(most);
        self.left_out.train(flush.clock, self.shard.clock());
        if self.mirrors.is_empty() {
            return Ok(self.shard.add_flush(flush, most, None));
        }
        let mut changes = Vec::new();
        let moved = self.shard.add_flush(flush, most, Some(&mut changes));
        changes.iter().for_each(|change| self.filter.offer(change));
        Ok(moved)
    }

    /// Counts a worker among those that train here, at `clock` or later; yields its clock from then on. None if there is
    /// no such worker.
    pub fn join(&mut self, worker: WorkerId, clock: Clock) -> Option<Clock> {
        let joined = self.shard.join(worker, clock);
        let is_idle = self.shard.is_idle();
        self.mirrors.iter_mut().for_each(|m| m.outbox.set_paused(is_idle));
        joined
    }

    /// A worker trains no more. Yields the shard's new clock if it moved; then [`complete`](Self::complete) is next, and
    /// in any case [`settle`](Self::settle).
    pub fn leave(&mut self, worker: WorkerId) -> Option<Clock> {
        self.shard.remove_worker(worker)
    }

    /// Nobody waits for a worker until it resumes. Yields the shard's new clock if it moved; then as after
    /// [`leave`](Self::leave).
    pub fn suspend(&mut self, worker: WorkerId) -> Option<Clock> {
        self.shard.suspend(worker)
    }

    /// A worker is back; yields its clock from then on if it was suspended.
    pub fn resume_worker(&mut self, worker: WorkerId) -> Option<Clock> {
        let clock = self.shard.resume(worker)?;
        self.mirrors.iter_mut().for_each(|m| m.outbox.set_paused(false));
        Some(clock)
    }

    /// Where nobody trains any more, ships all that the filter holds back, and says so.
    pub fn settle(&mut self) {
        if self.shard.is_idle() {
            self.flush_filter();
            self.state_what_is_unstated();
            self.mirrors.iter_mut().for_each(|m| m.outbox.set_paused(true));
        }
    }

    /// Whether this shard's part of a job with so many clocks is done: they are complete here, and at every mirror that is not
    /// gone; nobody trains any more, and everything has arrived, both ways.
    pub fn is_settled(&self, end: Clock) -> bool {
        let has_all = |m: &Mirror| m.state.has_stopped() || (m.outbox.is_drained() && m.inbox.is_settled());
        let is_done = |m: &Mirror| m.state.is_gone() || (m.inbox.arrived_clock() >= end && has_all(m));
        self.recovery.has_first_values()
            && self.shard.is_idle()
            && self.shard.clock() >= end
            && (self.mirrors.is_empty() || self.filter.is_empty())
            && self.mirrors.iter().all(is_done)
            && self.has_asked_for_the_gone()
    }

    /// How many of the clocks up to the shard's nobody has trained: it took them for complete as others went on.
    pub fn left_out(&self) -> u32 {
        self.left_out.at(self.shard.clock())
    }

    /// Where nobody trains, takes `clock` for complete. Yields the shard's clock if it moved.
    pub fn follow(&mut self, clock: Clock) -> Option<Clock> {
        self.shard.is_idle().then(|| self.shard.jump(clock)).flatten()
    }

    /// The latest clock that this shard or a mirror of it has completed, as far as that has arrived.
    pub fn latest_clock(&self) -> Clock {
        let mirrors = self.mirrors.iter().map(|mirror| mirror.inbox.arrived_clock());
        mirrors.max().unwrap_or_default().max(self.shard.clock())
    }

    /// Whether every mirror that is not gone has confirmed everything that was released.
    pub fn is_drained(&self) -> bool {
        let nothing_to_say = |m: &Mirror| !m.outbox.is_open() && self.ledgers.own.newest() == 0;
        self.mirrors.iter().all(|m| m.state.is_away() || m.outbox.is_drained() || nothing_to_say(m))
    }

    /// A mirror's process has stopped of its own will: nobody waits for it.
    pub fn handle_left(&mut self, peer: usize) {
        self.mirrors[peer].state.become_stopped();
        self.lose_donor(peer);
        self.advance_recovery(peer);
    }

    /// What a mirror is to this shard.
    pub(crate) fn peer_state(&self, peer: usize) -> PeerState {
        self.mirrors[peer].state
    }

    /// Whether a mirror's process has stopped of its own will.
    pub fn has_left(&self, peer: usize) -> bool {
        self.mirrors[peer].state.has_stopped()
    }

    /// By how much the shard may lead a mirror, where that is bounded and known.
    pub fn lead_limit(&self, peer: usize) -> Option<u32> {
        self.mirrors[peer].lead.limit(self.lead)
    }

    /// The shard has completed `clock`: ships what is significant, if it is [time to](crate::cadence). `reached` tells of each mirror how it is reached, by which
    /// the filter's soft threshold moves.
    pub fn complete(&mut self, clock: Clock, reached: impl IntoIterator<Item = Reachability>, now: Instant) {
        if self.mirrors.is_empty() {
            return;
        }
        self.measure_clock(now);
        if let Some(length) = self.clock_length.average() {
            self.filter.observe(reached, length);
        }
        let allowed = self.allowed_bytes(now);
        if !self.cadence.is_due(clock) {
            self.filter.hold();
            self.share_naive();
            self.anticipate_clock();
            return;
        }
        let shard = &self.shard;
        let values: Vec<&[f32]> = (0..shard.table_count()).map(|t| shard.values(TableId(t as u16))).collect();
        match allowed {
            None => self.filter.release(clock, &values, &mut self.releases.unshipped),
            Some(bytes) => {
                let fit = self.filter.release_within(bytes, clock, &values, &mut self.releases.unshipped);
                self.fitted(fit);
            }
        }
        self.anticipate_released(clock);
        self.releases.count_clock(clock);
        self.ship();
        self.anticipate_clock();
        self.cadence.state(clock, self.least_likeness());
        self.state_clock();
    }

    /// Tells mirrors that this shard's clock is complete.
    fn state_clock(&mut self) {
        let (clock, count) = (self.shard.clock(), self.releases.count);
        self.mirrors.iter_mut().for_each(|m| m.outbox.complete(clock, count));
    }

    /// Says at once what would be said with the next release.
    pub(super) fn state_what_is_unstated(&mut self) {
        if !self.mirrors.is_empty() && self.cadence.is_behind(self.shard.clock()) {
            self.cadence.state(self.shard.clock(), None);
            self.state_clock();
        }
    }

    /// A worker's read. Yields the answer if it may be given now.
    ///
    /// # Errors
    ///
    /// If the read makes no sense.
    pub fn handle_read(&mut self, read: Read, now: Instant) -> Result<Option<ReadReply>, RequestError> {
        let (shard, gate) = self.gated();
        shard.handle_read(read, now, &gate)
    }

    /// The next waiting read that may be answered.
    pub fn poll_reply(&mut self, now: Instant) -> Option<ReadReply> {
        let (shard, gate) = self.gated();
        shard.poll_reply(now, &gate)
    }

    /// The shard, and what its reads have to pass.
    fn gated(&mut self) -> (&mut Shard, MirrorGate<'_>) {
        let gate = MirrorGate {
            mirrors: &self.mirrors,
            own: self.shard.clock(),
            lead: self.lead,
            is_fetching: self.is_fetching(),
            anticipation: self.anticipation.as_ref().map(|anticipation| (anticipation, &self.filter)),
        };
        (&mut self.shard, gate)
    }

    /// Releases everything that the filter still holds back.
    fn flush_filter(&mut self) {
        if !self.mirrors.is_empty() && !self.filter.is_empty() {
            self.filter.flush_all(&mut self.releases.unshipped);
            self.anticipate_released(self.shard.clock());
            self.releases.count += 1;
            self.ship();
        }
    }

    /// A mirror's update. Yields whether it was new.
    ///
    /// # Errors
    ///
    /// If it makes no sense; then nothing has changed.
    pub fn handle_update(&mut self, peer: usize, update: &Update, bytes: u64) -> Result<bool, PeerError> {
        self.check_origin(peer, update)?;
        let most = self.check_updated_sums(peer, update)?;
        self.follow_stream(peer, update.stream)?;
        let mirror = &mut self.mirrors[peer];
        let arrival = mirror.inbox.handle_update(update)?;
        mirror.to_say.unconfirmed_bytes += bytes.max(1);
        self.bounds.reach.extend(most);
        if arrival != Arrival::Again && update.rows.is_none() {
            self.anticipate_arrived(peer, &update.deltas);
        }
        match arrival {
            Arrival::Again => return Ok(false),
            // Deltas may be added at any time; whole rows have their turn.
            Arrival::Early if update.rows.is_none() => {
                update.deltas.iter().for_each(|delta| self.shard.apply(delta));
            }
            Arrival::Early => {}
            Arrival::InOrder => {
                self.settle_update(peer, update, false);
                while let Some(early) = self.mirrors[peer].inbox.next_settled() {
                    self.settle_update(peer, &early, true);
                }
            }
        }
        self.advance_recovery(peer);
        Ok(true)
    }

    /// An update has its turn; its deltas are in the values already if it came early.
    fn settle_update(&mut self, peer: usize, update: &Update, came_early: bool) {
        if let Some(rows) = &update.rows {
            return self.settle_rows(peer, rows, &update.deltas);
        }
        self.ledgers.mirrors[peer].1.life = self.mirrors[peer].numbering.life;
        for delta in &update.deltas {
            let first = self.recovery.first_of(delta, &self.ledgers.mirrors[peer].1, &self.shard);
            let known = self.ledgers.mirrors[peer].1.add(delta, update.count.max(1));
            match (came_early, known.is_empty()) {
                (true, true) => {}
                (false, true) => self.shard.apply(delta),
                (true, false) => self.shard.apply(&negated(&known)),
                (false, false) => {
                    self.shard.apply(delta);
                    self.shard.apply(&negated(&known));
                }
            }
            self.recovery.take_out_first(&first, &mut self.shard);
        }
    }

    /// What a mirror says besides updates, by which the shard's clock may move. Yields how many payload bytes it confirmed.
    ///
    /// # Errors
    ///
    /// If it makes no sense.
    pub fn handle_control(&mut self, peer: usize, control: &ShardControl) -> Result<u64, PeerError> {
        self.follow_stream(peer, control.stream)?;
        let mirror = &mut self.mirrors[peer];
        for barrier in &control.barriers {
            mirror.inbox.handle_barrier(barrier)?;
        }
        if let Some(progress) = control.progress {
            mirror.inbox.handle_progress(progress)?;
            // No shard is further behind what it does, whatever it says.
            mirror.lead.unstated = progress.unstated.min(MOST_CLOCKS - 1);
            self.follow_if_excused(peer, progress);
        }
        let mirror = &mut self.mirrors[peer];
        if let Some(seq) = control.returned {
            mirror.restoration.ours.become_promised(seq);
        }
        if control.wants_values {
            self.give_values(peer);
        }
        let mirror = &mut self.mirrors[peer];
        let confirmed = control.applied.filter(|_| control.applied_stream == mirror.outbox.stream());
        let confirmed = confirmed.map_or(Ok(0), |seq| mirror.outbox.handle_applied(seq))?;
        check_counts(control.gone.iter().flat_map(|holdings| [holdings.covered, holdings.newest]))?;
        control.gone.iter().for_each(|holdings| self.handle_holdings(peer, *holdings));
        self.advance_recovery(peer);
        Ok(confirmed)
    }

    /// The path to a mirror has this round-trip time. Yields whether the lead that is allowed has changed with it.
    pub fn handle_rtt(&mut self, peer: usize, rtt: Duration) -> bool {
        self.mirrors[peer].lead.handle_rtt(rtt, self.clock_length.average())
    }

    /// By how many clocks a mirror may be ahead of what it has stated.
    pub fn unstated_by(&self, peer: usize) -> u32 {
        self.mirrors[peer].lead.unstated
    }

    /// How many clocks there are from one release to the next.
    pub fn release_every(&self) -> u32 {
        self.cadence.every()
    }

    /// When the shard completed its last clock, if it has since this process started.
    pub fn last_clock_at(&self) -> Option<Instant> {
        self.clock_length.last_at()
    }

    /// Whether reads may be held for a mirror: it is not gone, has not left, and is not behind.
    pub fn is_waited_for(&self, peer: usize) -> bool {
        self.mirrors[peer].state.is_waited_for()
    }

    /// How long a clock takes, once that is known.
    pub fn clock_length(&self) -> Option<Duration> {
        self.clock_length.average()
    }

    /// The process of a mirror that was heard of last; zero for none.
    pub fn life_of(&self, peer: usize) -> u64 {
        self.mirrors[peer].numbering.life
    }

    /// The next update for a mirror: only repeats unless it `may_number` more, and no whole rows unless it `may_transfer`.
    pub fn poll_update(&mut self, peer: usize, may_number: bool, may_transfer: bool) -> Option<Outgoing> {
        let target = self.update_target_bytes(peer);
        let outbox = &mut self.mirrors[peer].outbox;
        let outgoing = match may_number {
            false => outbox.poll_repeat(),
            true => outbox.poll_update(self.releases.count, &self.ledgers, peer, may_transfer, target),
        }?;
        self.charge_update(peer, &outgoing);
        Some(outgoing)
    }

    /// The outbox to a mirror: its backlog and progress.
    pub fn outbox(&self, peer: usize) -> &Outbox {
        &self.mirrors[peer].outbox
    }

    /// The inbox from a mirror: its clock and holds.
    pub fn inbox(&self, peer: usize) -> &Inbox {
        &self.mirrors[peer].inbox
    }

    /// Announces to a mirror what waits for it. Yields how many rows that are.
    pub fn raise_barrier(&mut self, peer: usize) -> u64 {
        let mirror = &mut self.mirrors[peer];
        let barriers = mirror.outbox.announce();
        let rows = barriers.iter().map(|b| b.slots.len() as u64).sum();
        mirror.to_say.barriers.extend(barriers);
        rows
    }

    /// Whether there is anything that a mirror should hear without delay: progress or barriers.
    pub fn has_urgent_control(&self, peer: usize) -> bool {
        let mirror = &self.mirrors[peer];
        let say = &mirror.to_say;
        self.progress(peer) != say.progress_told
            || mirror.outbox.returned() != say.returned_told
            || !say.barriers.is_empty()
            || !say.gone.is_empty()
            || !say.departed.is_empty()
            || self.wants_values_of(peer)
    }

    /// How far this side is, for a mirror.
    fn progress(&self, peer: usize) -> Progress {
        let mut progress = self.mirrors[peer].outbox.progress();
        if progress.last_seq.is_some() && !self.filter.is_empty() {
            // A process that has begun from a checkpoint has workers only later, and ships by then what was held back.
            progress.last_seq = None;
        }
        let (left_out, unstated) =
            (self.left_out(), (self.cadence.unstated() + self.clocks_to_pay()).min(MOST_CLOCKS - 1));
        Progress { went_on: self.is_excused(peer), left_out, unstated, ..progress }
    }

    /// Payload bytes that have come from a mirror since it was last told how far they are applied.
    pub fn unconfirmed_bytes(&self, peer: usize) -> u64 {
        self.mirrors[peer].to_say.unconfirmed_bytes
    }

    /// Everything that a mirror should hear, if anything.
    pub fn poll_control(&mut self, peer: usize) -> Option<ShardControl> {
        let gone = self.holdings_to_say(peer);
        let departed = self.departed_to_say(peer);
        let progress = self.progress(peer);
        let wants_values = self.wants_values_of(peer);
        let mirror = &mut self.mirrors[peer];
        let applied = mirror.inbox.applied_through();
        let returned = mirror.outbox.returned();
        let say = &mut mirror.to_say;
        let control = ShardControl {
            shard: self.shard.id(),
            stream: mirror.outbox.stream(),
            progress: (progress != say.progress_told).then_some(progress),
            barriers: std::mem::take(&mut say.barriers),
            applied: (applied != say.applied_told).then_some(applied),
            applied_stream: mirror.inbox.stream(),
            returned: returned.filter(|_| returned != say.returned_told),
            gone,
            departed,
            wants_values,
        };
        say.is_asked_for_values |= wants_values;
        if control.applied.is_some() {
            // What has come early is confirmed when what is missing before it has come.
            say.unconfirmed_bytes = 0;
        }
        (say.progress_told, say.applied_told) = (progress, applied);
        say.returned_told = returned;
        (!control.is_empty()).then_some(control)
    }

    /// Moves what the filter released into the ledger and every outbox.
    fn ship(&mut self) {
        self.share_naive();
        self.releases.ship(&mut self.ledgers.own, &mut self.mirrors);
    }

    fn share_naive(&mut self) {
        self.releases.share_naive(self.filter.counters().naive_payload_bytes, &mut self.mirrors);
    }

    /// Payload that the naive baseline would have handed to the link of a mirror since this was last asked.
    pub fn take_naive_payload_bytes(&mut self, peer: usize) -> u64 {
        std::mem::take(&mut self.mirrors[peer].naive_payload_bytes)
    }

    fn measure_clock(&mut self, now: Instant) {
        self.clock_length.measure(now);
        for mirror in &mut self.mirrors {
            mirror.lead.handle_clock_length(self.clock_length.average());
        }
    }
}

fn negated(deltas: &Elements) -> Elements {
    Elements { values: deltas.values.iter().map(|value| -value).collect(), ..deltas.clone() }
}
