//! What a replica keeps for each of its mirrors (time-free).

use std::collections::{BTreeMap, BTreeSet};

use datacenter::message::Wait;
use datacenter::rows::Slots;
use datacenter::shard::ReadGate;
use datacenter::{Clock, DatacenterId, TableId};

use super::peer_state::PeerState;
use crate::anticipation::Anticipation;
use crate::filter::Filter;
use crate::inbox::Inbox;
use crate::message::{Barrier, Holdings, Progress};
use crate::mirror_clock::{LeadBound, leads_too_far};
use crate::outbox::Outbox;
use crate::policy::Lead;

/// Both directions of the exchange with one mirror.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) peer: DatacenterId,
    pub(super) state: PeerState,
    /// What it said of itself when its link came up last; none before the first time.
    pub(super) last_hello: Option<LastHello>,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    pub(super) numbering: Numbering,
    pub(super) lead: LeadBound,
    pub(super) to_say: ToSay,
    pub(super) before: HeardBefore,
    pub(super) restoration: Restoration,
    pub(super) forwarding: Forwarding,
    /// Payload that the naive baseline would have for it, and that no link has been charged with
    /// yet.
    pub(super) naive_payload_bytes: u64,
}

/// Whose numbers of updates count.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    /// The mirror's process, when it was heard of last; zero for none.
    pub(super) life: u64,
    /// The process of the mirror that our numbers count for; zero for none.
    pub(super) counted_for: u64,
    /// Rows of the mirror have come from others: sums of its that wait for us have them too, and it
    /// must begin anew.
    pub(super) is_void: bool,
}

/// What processes before ours had heard of the mirror, or this one in former streams.
#[derive(Debug, Default)]
pub(super) struct HeardBefore {
    /// The clock that the mirror had told, as far as a checkpoint says.
    pub(super) clock: Clock,
    /// How many clocks up to that one the mirror had left out.
    pub(super) left_out: u32,
    /// The mirror's clock as far as its data had arrived.
    pub(super) included: Clock,
}

/// How the mirror and this side give each other back what a process of either has lost.
#[derive(Debug)]
pub(super) struct Restoration {
    /// Our own releases from before our process started, as far as the mirror has them.
    pub(super) ours: GivenBack,
    /// The mirror has been given values in our present numbers, at least those that wait.
    pub(super) has_values: bool,
    /// Rows with later releases than this are to be sent whole, once the mirror has returned ours.
    pub(super) to_restate: Option<u32>,
}

/// Whether a mirror has given back what it has of our releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenBack {
    /// It has not.
    Awaited,
    /// It says that it will have done so with this update.
    With(u64),
    /// It has, or there was nothing to give back.
    Done,
}

impl GivenBack {
    pub(super) fn is_done(self) -> bool {
        self == Self::Done
    }

    /// The mirror says with which update it will have given back everything.
    pub(super) fn become_promised(&mut self, seq: u64) {
        if !self.is_done() {
            *self = Self::With(seq);
        }
    }

    /// The mirror's numbers begin anew, and what it said in the old ones means nothing.
    pub(super) fn become_void(&mut self) {
        if !self.is_done() {
            *self = Self::Awaited;
        }
    }

    /// Every update up to `through` is here.
    pub(super) fn become_done_with(&mut self, through: u64) {
        if matches!(*self, Self::With(seq) if seq <= through) {
            *self = Self::Done;
        }
    }
}

/// What the mirror has of datacenters that are gone, and gives to others.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// What the mirror says that it has, by the places of those datacenters.
    pub(super) holdings: BTreeMap<usize, Holdings>,
    /// Datacenters of which more rows are on their way from the mirror.
    pub(super) under_way: BTreeSet<DatacenterId>,
}

/// What a mirror said of itself when its link came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastHello {
    /// The clock that its shard had completed.
    pub(super) clock: Clock,
    /// Whether it knew of all that its datacenter had released, and so could give others values.
    pub(super) is_whole: bool,
}

/// What the mirror has been told, and what it has not.
#[derive(Debug, Default)]
pub(super) struct ToSay {
    pub(super) progress_told: Progress,
    pub(super) applied_told: u64,
    pub(super) returned_told: Option<u64>,
    pub(super) barriers: Vec<Barrier>,
    pub(super) unconfirmed_bytes: u64,
    /// It has been asked for values on this link.
    pub(super) is_asked_for_values: bool,
    /// Places of datacenters of which it is to hear what we have.
    pub(super) gone: BTreeSet<usize>,
    /// What we had of these when it was last told.
    pub(super) holdings_told: BTreeMap<usize, Holdings>,
    /// Places of datacenters of which it is to hear that they have left for good.
    pub(super) departed: BTreeSet<usize>,
}

impl Mirror {
    pub(super) fn new(peer: DatacenterId, outbox: Outbox, inbox: Inbox) -> Self {
        Self {
            peer,
            state: PeerState::Connecting,
            last_hello: None,
            outbox,
            inbox,
            numbering: Numbering::default(),
            lead: LeadBound::default(),
            to_say: ToSay::default(),
            before: HeardBefore::default(),
            restoration: Restoration { ours: GivenBack::Done, has_values: false, to_restate: None },
            forwarding: Forwarding::default(),
            naive_payload_bytes: 0,
        }
    }

    /// The clock that it is known to have completed, whichever process of ours has heard it.
    pub(super) fn heard_clock(&self) -> Clock {
        self.before.clock.max(self.inbox.reported_clock())
    }

    /// How many of the clocks that it is known to have completed it has left out, whichever process of ours has heard it.
    pub(super) fn heard_left_out(&self) -> u32 {
        self.before.left_out.max(self.inbox.reported_left_out())
    }

    /// Its clock up to which all its updates are in the values.
    pub(super) fn included_clock(&self) -> Clock {
        self.before.included.max(self.inbox.arrived_clock())
    }

    /// Whether it could give this side what all datacenters have released.
    pub(super) fn may_give_values(&self) -> bool {
        self.last_hello.is_some_and(|hello| hello.is_whole) && !self.state.is_away()
    }

    /// Whether all that its datacenter had released when its link came up is here, where `own` is this shard's clock.
    pub(super) fn is_caught_up(&self, own: Clock) -> bool {
        let arrived = self.inbox.arrived_clock();
        let is_here = self.last_hello.is_some_and(|hello| arrived >= hello.clock);
        let was_whole = self.last_hello.is_some_and(|hello| hello.is_whole);
        // One that lacks some of it says so, and ships it once others have given it back. At the beginning there is nothing.
        let is_all = was_whole || own == Clock(0) || self.inbox.has_covered() || self.inbox.is_settled();
        self.restoration.ours.is_done() && is_here && is_all
    }
}

/// The mirrors' conditions on local reads.
pub(super) struct MirrorGate<'a> {
    pub(super) mirrors: &'a [Mirror],
    pub(super) own: Clock,
    pub(super) lead: Lead,
    pub(super) is_fetching: bool,
    /// What reads anticipate, and by what the filter holds back.
    pub(super) anticipation: Option<(&'a Anticipation, &'a Filter)>,
}

impl ReadGate for MirrorGate<'_> {
    fn why_all_held(&self, reader: Clock) -> Option<Wait> {
        if self.is_fetching {
            return Some(Wait::Fetching);
        }
        // A shard that has jumped ahead of a worker does not hold it for what it will need at a later clock only: shards that
        // have jumped to different clocks would each wait for what the worker has yet to flush to the others.
        let own = self.own.min(reader);
        let ahead = |m: &&Mirror| {
            let is_over = leads_too_far(own, m.inbox.arrived_clock(), m.lead.limit(self.lead));
            is_over && m.state.is_waited_for() && !m.inbox.is_settled()
        };
        // The slowest mirror is the reason; of equally slow ones the first.
        let slowest = self.mirrors.iter().filter(ahead).min_by_key(|m| m.inbox.arrived_clock());
        slowest.map(|m| Wait::MirrorClock(m.peer))
    }

    fn why_rows_held(&self, table: TableId, slots: &Slots) -> Option<Wait> {
        let holds = |m: &&Mirror| m.state.is_waited_for() && m.inbox.holds_any(table, slots);
        self.mirrors.iter().find(holds).map(|m| Wait::Barrier(m.peer))
    }

    fn adjust(&self, table: TableId, slot: u32, row: &mut [f32]) {
        if let Some((anticipation, filter)) = self.anticipation {
            anticipation.adjust(table, slot, filter.accumulated(table), row);
        }
    }
}
