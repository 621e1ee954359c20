//! The mirror clock: a shard must not lead its slowest live mirror by more than `DS` clocks (Gaia, NSDI 2017, section 3).
//!
//! The paper compares the clocks that servers announce. We compare with a mirror's clock *as far as its data has
//! arrived here*, so that a clock that outran its updates on the control queue does not count.
//!
//! **Derived `DS`.** Between healthy regions that run in step, a mirror's clock `c` is known here one one-way delay
//! after it was completed, and regions may be out of phase by a clock. A lead of `1 + ceil(rtt / clock_length)`
//! therefore occurs without any fault; one more clock absorbs jitter. So `DS = 2 + ceil(rtt / clock_length)`, for
//! each peer by its own round-trip time; a healthy link never blocks, and a link that cannot carry the traffic blocks
//! once data is late by more than about one round trip.
//!
//! A mirror that states its clock more rarely than it completes clocks says by how many it may be ahead, which is added.
//!
//! Kind: time-free.

use std::time::Duration;

use datacenter::Clock;

use crate::policy::Lead;

/// The largest derived `DS`: with very short clocks, a bound must stay a bound.
pub const MAX_DERIVED_LEAD: u32 = 256;

/// The derived `DS` towards a peer of which nothing has been measured: what it would be without any distance.
pub const UNHEARD_LEAD: u32 = 2;

/// The derived `DS` towards a peer; `None` while nothing has been measured.
pub fn derived_lead(rtt: Option<Duration>, clock_length: Option<Duration>) -> Option<u32> {
    let (rtt, clock) = (rtt?, clock_length?);
    if clock.is_zero() {
        return Some(MAX_DERIVED_LEAD);
    }
    let round_trip_clocks = rtt.as_nanos().div_ceil(clock.as_nanos());
    Some(
        u32::try_from(round_trip_clocks)
            .map_or(MAX_DERIVED_LEAD, |n| n.saturating_add(2))
            .min(MAX_DERIVED_LEAD),
    )
}

/// By how many clocks a shard may lead a mirror, which may be ahead of what it states by `unstated`; `None` where that is not
/// bounded.
pub fn lead_limit(lead: Lead, derived: Option<u32>, unstated: u32) -> Option<u32> {
    match lead {
        Lead::Limit(limit) => Some(limit),
        // A mirror that has not been heard of yet is waited for like one that is next door.
        Lead::Derived => Some(derived.unwrap_or(UNHEARD_LEAD).saturating_add(unstated)),
        Lead::Unlimited => None,
    }
}

/// What bounds by how much a shard may lead one mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeadBound {
    rtt: Option<Duration>,
    derived: Option<u32>,
    /// By how many clocks the mirror may be ahead of what it states.
    pub(crate) unstated: u32,
}

impl LeadBound {
    /// By how many clocks the shard may lead; `None` where that is not bounded.
    pub(crate) fn limit(&self, lead: Lead) -> Option<u32> {
        lead_limit(lead, self.derived, self.unstated)
    }

    /// The path to the mirror has this round-trip time. Yields whether the derived lead has
    /// changed.
    pub(crate) fn handle_rtt(&mut self, rtt: Duration, clock_length: Option<Duration>) -> bool {
        self.rtt = Some(rtt);
        let before = self.derived;
        self.handle_clock_length(clock_length);
        self.derived != before
    }

    /// A clock takes so long now.
    pub(crate) fn handle_clock_length(&mut self, clock_length: Option<Duration>) {
        self.derived = derived_lead(self.rtt, clock_length);
    }
}

/// Whether a shard at `own` leads a mirror whose data has arrived up to `mirror` by more than `limit`.
pub fn leads_too_far(own: Clock, mirror: Clock, limit: Option<u32>) -> bool {
    limit.is_some_and(|limit| own.lead_over(mirror) > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_lead_covers_the_round_trip_in_clocks() {
        let ms = Duration::from_millis;
        let table =
            [(160, 1000, 3), (160, 160, 3), (160, 100, 4), (330, 20, 19), (0, 50, 2), (100_000, 1, 256)];
        for (rtt, clock, expected) in table {
            assert_eq!(derived_lead(Some(ms(rtt)), Some(ms(clock))), Some(expected), "{rtt} ms, {clock} ms");
        }
        assert_eq!(derived_lead(None, Some(ms(5))), None);
        assert_eq!(derived_lead(Some(ms(5)), Some(Duration::ZERO)), Some(MAX_DERIVED_LEAD));
    }

    #[test]
    fn a_lead_up_to_the_limit_is_allowed() {
        assert_eq!(lead_limit(Lead::Derived, Some(3), 7), Some(10));
        assert_eq!(
            (lead_limit(Lead::Limit(1), None, 7), lead_limit(Lead::Unlimited, None, 7)),
            (Some(1), None)
        );
        for (own, mirror, lead, derived, held) in [
            (5, 5, Lead::Limit(0), None, false),
            (6, 5, Lead::Limit(0), None, true),
            (8, 5, Lead::Limit(3), None, false),
            (9, 5, Lead::Limit(3), None, true),
            (7, 5, Lead::Derived, None, false),
            (8, 5, Lead::Derived, None, true),
            (9, 5, Lead::Derived, Some(3), true),
            (900, 5, Lead::Unlimited, Some(3), false),
            (1, 5, Lead::Limit(0), None, false),
        ] {
            let limit = lead_limit(lead, derived, 0);
            assert_eq!(leads_too_far(Clock(own), Clock(mirror), limit), held, "{own} over {mirror}");
        }
    }
}
