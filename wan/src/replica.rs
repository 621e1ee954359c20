//! One shard and its mirrors: the way of an update, from a worker's flush to the peers and from a peer to the workers.
//!
//! A flush is added to the table and offered to the filter. When the shard's clock moves, the filter releases what is
//! significant into one outbox for each mirror. An update from a mirror is added to the table and to nothing else: it
//! is never offered to the filter here, so nothing echoes. Reads pass the shard's own rule (staleness) and the gate
//! of the mirrors (barriers, mirror clock).
//!
//! A replica without mirrors is a shard of a datacenter alone.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use datacenter::message::{Flush, Read, ReadReply, Wait};
use datacenter::shard::{Flushed, ReadGate, RequestError, Shard};
use datacenter::{Clock, DatacenterId, Elements, TableId, WorkerId};

use crate::filter::Filter;
use crate::inbox::{Inbox, PeerError};
use crate::message::{Barrier, Progress, Resume, ShardControl, Update};
use crate::mirror_clock::{derived_lead, lead_limit, leads_too_far};
use crate::outbox::{Outbox, Outgoing};
use crate::policy::{Lead, Policy};

/// Weight of a new sample in the average clock length.
const CLOCK_GAIN: f64 = 0.125;

/// A shard with its filter and its mirrors.
#[derive(Debug)]
pub struct Replica {
    shard: Shard,
    filter: Filter,
    mirrors: Vec<Mirror>,
    lead: Lead,
    last_clock_at: Option<Instant>,
    clock_length: Option<Duration>,
    released: Vec<Elements>,
}

/// Both directions of the exchange with one mirror.
#[derive(Debug)]
struct Mirror {
    peer: DatacenterId,
    outbox: Outbox,
    inbox: Inbox,
    rtt: Option<Duration>,
    derived_lead: Option<u32>,
    to_say: ToSay,
    /// Its process has stopped of its own will, having shipped all it had.
    has_left: bool,
}

/// What the mirror has been told, and what it has not.
#[derive(Debug, Default)]
struct ToSay {
    progress_told: Progress,
    applied_told: u64,
    barriers: Vec<Barrier>,
    unconfirmed_bytes: u64,
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
        let mirrors = peers.into_iter().map(|peer| Mirror {
            peer,
            outbox: Outbox::new(shard.id(), &shapes),
            inbox: Inbox::new(shard.id(), &shapes),
            rtt: None,
            derived_lead: None,
            to_say: ToSay::default(),
            has_left: false,
        });
        Self {
            mirrors: mirrors.collect(),
            filter: Filter::new(&policy.selection, shapes),
            shard,
            lead: policy.lead,
            last_clock_at: None,
            clock_length: None,
            released: Vec::new(),
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

    /// A worker's deltas for one clock. Yields the shard's new clock if it moved; then [`complete`](Self::complete) is
    /// next.
    ///
    /// # Errors
    ///
    /// If the flush makes no sense; then nothing has changed.
    pub fn handle_flush(&mut self, flush: &Flush) -> Result<Option<Clock>, RequestError> {
        let Flushed::Now(moved) = self.shard.handle_flush(flush)? else { return Ok(None) };
        if !self.mirrors.is_empty() {
            flush.deltas.iter().for_each(|delta| self.filter.offer(delta));
        }
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

    /// Where nobody trains any more, ships all that the filter holds back, and says so.
    pub fn settle(&mut self) {
        if self.shard.is_idle() {
            self.flush_filter();
            self.mirrors.iter_mut().for_each(|m| m.outbox.set_paused(true));
        }
    }

    /// Whether nobody trains here, every mirror that is not gone for good has all there is, and so has this shard of
    /// theirs, who do not train any more either.
    pub fn is_settled(&self) -> bool {
        let is_settled = |m: &Mirror| m.has_left || (m.outbox.is_drained() && m.inbox.is_settled());
        self.shard.is_idle() && self.mirrors.iter().all(is_settled)
    }

    /// The latest clock that this shard or a mirror of it has completed, as far as that has arrived.
    pub fn latest_clock(&self) -> Clock {
        let mirrors = self.mirrors.iter().map(|mirror| mirror.inbox.arrived_clock());
        mirrors.max().unwrap_or_default().max(self.shard.clock())
    }

    /// Whether every mirror that is not gone for good has confirmed everything that was released.
    pub fn is_drained(&self) -> bool {
        self.mirrors.iter().all(|m| m.has_left || m.outbox.is_drained())
    }

    /// A mirror's process has stopped of its own will: nobody waits for it.
    pub fn handle_left(&mut self, peer: usize) {
        self.mirrors[peer].has_left = true;
    }

    /// Whether a mirror's process has stopped of its own will.
    pub fn has_left(&self, peer: usize) -> bool {
        self.mirrors[peer].has_left
    }

    /// By how much the shard may lead a mirror, where that is bounded and known.
    pub fn lead_limit(&self, peer: usize) -> Option<u32> {
        lead_limit(self.lead, self.mirrors[peer].derived_lead)
    }

    /// The shard has completed `clock`: ships what is significant. `backlog` is how long the slowest link needs for what
    /// waits, by which the filter's soft threshold moves.
    pub fn complete(&mut self, clock: Clock, backlog: Duration, now: Instant) {
        if self.mirrors.is_empty() {
            return;
        }
        self.measure_clock(now);
        if let Some(length) = self.clock_length {
            self.filter.observe(backlog, length);
        }
        let shard = &self.shard;
        let values: Vec<&[f32]> = (0..shard.table_count()).map(|t| shard.values(TableId(t as u16))).collect();
        self.filter.release(clock, &values, &mut self.released);
        self.ship();
        self.mirrors.iter_mut().for_each(|m| m.outbox.complete(clock));
    }

    /// A worker's read. Yields the answer if it may be given now.
    ///
    /// # Errors
    ///
    /// If the read makes no sense.
    pub fn handle_read(&mut self, read: Read, now: Instant) -> Result<Option<ReadReply>, RequestError> {
        let gate = MirrorGate { mirrors: &self.mirrors, own: self.shard.clock(), lead: self.lead };
        self.shard.handle_read(read, now, &gate)
    }

    /// The next waiting read that may be answered.
    pub fn poll_reply(&mut self, now: Instant) -> Option<ReadReply> {
        let gate = MirrorGate { mirrors: &self.mirrors, own: self.shard.clock(), lead: self.lead };
        self.shard.poll_reply(now, &gate)
    }

    /// Releases everything that the filter still holds back.
    fn flush_filter(&mut self) {
        if !self.mirrors.is_empty() {
            self.filter.flush_all(&mut self.released);
            self.ship();
        }
    }

    /// A mirror's update. Yields whether it was new.
    ///
    /// # Errors
    ///
    /// If it makes no sense; then nothing has changed.
    pub fn handle_update(&mut self, peer: usize, update: &Update, bytes: u64) -> Result<bool, PeerError> {
        let mirror = &mut self.mirrors[peer];
        let is_new = mirror.inbox.handle_update(update.seq, &update.deltas)?;
        if is_new {
            update.deltas.iter().for_each(|delta| self.shard.apply(delta));
        }
        mirror.to_say.unconfirmed_bytes += bytes.max(1);
        Ok(is_new)
    }

    /// What a mirror says besides updates. Yields how many payload bytes it confirmed.
    ///
    /// # Errors
    ///
    /// If it makes no sense.
    pub fn handle_control(&mut self, peer: usize, control: &ShardControl) -> Result<u64, PeerError> {
        let mirror = &mut self.mirrors[peer];
        for barrier in &control.barriers {
            mirror.inbox.handle_barrier(barrier)?;
        }
        if let Some(progress) = control.progress {
            mirror.inbox.handle_progress(progress)?;
        }
        Ok(control.applied.map_or(Ok(0), |seq| mirror.outbox.handle_applied(seq))?)
    }

    /// The link to a mirror is up, and the mirror has applied what `resume` says.
    ///
    /// # Errors
    ///
    /// If the mirror claims what was never sent.
    pub fn handle_resume(&mut self, peer: usize, resume: &Resume) -> Result<(), PeerError> {
        let mirror = &mut self.mirrors[peer];
        let barriers = mirror.outbox.handle_resume(resume)?;
        // Whatever was said on the old connection may be lost: say all of it again.
        mirror.has_left = false;
        mirror.to_say = ToSay { barriers, unconfirmed_bytes: 1, ..ToSay::default() };
        Ok(())
    }

    /// The path to a mirror has this round-trip time.
    pub fn handle_rtt(&mut self, peer: usize, rtt: Duration) {
        let clock_length = self.clock_length;
        let mirror = &mut self.mirrors[peer];
        mirror.rtt = Some(rtt);
        mirror.derived_lead = derived_lead(mirror.rtt, clock_length);
    }

    /// What this side has applied of a mirror's updates, for the hello.
    pub fn resume(&self, peer: usize) -> Resume {
        self.mirrors[peer].inbox.resume()
    }

    /// The next update for a mirror; only repeats of numbered ones unless `may_number`.
    pub fn poll_update(&mut self, peer: usize, may_number: bool) -> Option<Outgoing> {
        let outbox = &mut self.mirrors[peer].outbox;
        (may_number || outbox.has_repeat()).then(|| outbox.poll_update()).flatten()
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
        mirror.outbox.progress() != mirror.to_say.progress_told || !mirror.to_say.barriers.is_empty()
    }

    /// Payload bytes applied from a mirror that it has not been told of.
    pub fn unconfirmed_bytes(&self, peer: usize) -> u64 {
        self.mirrors[peer].to_say.unconfirmed_bytes
    }

    /// Everything that a mirror should hear, if anything.
    pub fn poll_control(&mut self, peer: usize) -> Option<ShardControl> {
        let mirror = &mut self.mirrors[peer];
        let (progress, applied) = (mirror.outbox.progress(), mirror.inbox.applied_through());
        let say = &mut mirror.to_say;
        let control = ShardControl {
            shard: self.shard.id(),
            progress: (progress != say.progress_told).then_some(progress),
            barriers: std::mem::take(&mut say.barriers),
            applied: (applied != say.applied_told).then_some(applied),
        };
        (say.progress_told, say.applied_told, say.unconfirmed_bytes) = (progress, applied, 0);
        (!control.is_empty()).then_some(control)
    }

    /// Moves what the filter released into every outbox.
    fn ship(&mut self) {
        for delta in self.released.drain(..) {
            self.mirrors.iter_mut().for_each(|m| m.outbox.push(&delta));
        }
    }

    fn measure_clock(&mut self, now: Instant) {
        if let Some(last) = self.last_clock_at.replace(now) {
            let sample = now.saturating_duration_since(last);
            let length = self.clock_length.get_or_insert(sample);
            *length = length.mul_f64(1.0 - CLOCK_GAIN) + sample.mul_f64(CLOCK_GAIN);
        }
        for mirror in &mut self.mirrors {
            mirror.derived_lead = derived_lead(mirror.rtt, self.clock_length);
        }
    }
}

/// The mirrors' conditions on local reads.
struct MirrorGate<'a> {
    mirrors: &'a [Mirror],
    own: Clock,
    lead: Lead,
}

impl ReadGate for MirrorGate<'_> {
    fn why_all_held(&self) -> Option<Wait> {
        let ahead = |m: &&Mirror| {
            let is_over = leads_too_far(self.own, m.inbox.arrived_clock(), self.lead, m.derived_lead);
            is_over && !m.has_left && !m.inbox.is_settled()
        };
        // The slowest mirror is the reason; of equally slow ones the first.
        let slowest = self.mirrors.iter().filter(ahead).min_by_key(|m| m.inbox.arrived_clock());
        slowest.map(|m| Wait::MirrorClock(m.peer))
    }

    fn why_rows_held(&self, table: TableId, slots: &[u32]) -> Option<Wait> {
        let holds = |m: &&Mirror| !m.has_left && m.inbox.holds_any(table, slots);
        self.mirrors.iter().find(holds).map(|m| Wait::Barrier(m.peer))
    }
}
