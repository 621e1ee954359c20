//! The directions of a relay's links, and what is under way on them.
//!
//! Kind: time-passed.

use std::{collections::BTreeMap, time::Duration};

use super::{Direction, DirectionCounters};
use emulation::link::{Fate, Link, LinkConfig, MAX_WIRE_BYTES};

/// One direction of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneId(usize);

impl LaneId {
    pub(super) fn new(link: usize, direction: Direction) -> Self {
        Self(2 * link + usize::from(direction == Direction::Backward))
    }
}

/// All lanes of a relay. `P` is what is carried; a duplicate is a clone of it.
#[derive(Debug)]
pub(super) struct Lanes<P> {
    lanes: Vec<Lane>,
    /// By arrival; the sequence number keeps what arrives at the same time in the order in which it was sent.
    under_way: BTreeMap<(Duration, u64), (LaneId, P)>,
    next_sequence: u64,
}

#[derive(Debug)]
struct Lane {
    link: Link,
    oversized: u64,
    unroutable: u64,
    unsent: u64,
}

impl<P: Clone> Lanes<P> {
    /// Lanes over `links`: of each link the one forward, then the one backward.
    pub(super) fn new(links: Vec<Link>) -> Self {
        let lane = |link| Lane { link, oversized: 0, unroutable: 0, unsent: 0 };
        Self { lanes: links.into_iter().map(lane).collect(), under_way: BTreeMap::new(), next_sequence: 0 }
    }

    /// Sends `datagram`, which takes `wire_bytes` on the wire, at `now`; true if it will be the
    /// next to arrive.
    pub(super) fn send(&mut self, now: Duration, id: LaneId, wire_bytes: u64, datagram: P) -> bool {
        let lane = &mut self.lanes[id.0];
        if wire_bytes > MAX_WIRE_BYTES {
            lane.oversized += 1;
            return false;
        }
        let Fate::Delivered { at, again_at } = lane.link.offer(now, wire_bytes) else {
            return false;
        };
        let is_next = self.next_at().is_none_or(|next| at.min(again_at.unwrap_or(at)) < next);
        if let Some(again_at) = again_at {
            // Behind its original where both arrive at once: that has the smaller sequence number.
            self.under_way.insert((again_at, self.next_sequence + 1), (id, datagram.clone()));
        }
        self.under_way.insert((at, self.next_sequence), (id, datagram));
        self.next_sequence += 2;
        is_next
    }

    /// When the next datagram arrives.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.under_way.first_key_value().map(|(&(at, _), _)| at)
    }

    /// A datagram that has arrived by `now`, the earliest one.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<(LaneId, P)> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Counts a datagram that had nowhere to go.
    pub(super) fn count_unroutable(&mut self, id: LaneId) {
        self.lanes[id.0].unroutable += 1;
    }

    /// Counts a datagram that arrived and could not be handed on.
    pub(super) fn count_unsent(&mut self, id: LaneId) {
        self.lanes[id.0].unsent += 1;
    }

    pub(super) fn config(&self, id: LaneId) -> &LinkConfig {
        self.lanes[id.0].link.config()
    }

    pub(super) fn reconfigure(&mut self, now: Duration, id: LaneId, config: LinkConfig) {
        self.lanes[id.0].link.reconfigure(now, config);
    }

    pub(super) fn counters(&self, id: LaneId) -> DirectionCounters {
        let lane = &self.lanes[id.0];
        DirectionCounters {
            link: lane.link.counters(),
            oversized: lane.oversized,
            unroutable: lane.unroutable,
            unsent: lane.unsent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A link of 1 MB/s and 10 ms forward, and 20 ms backward.
    fn lanes(change: impl Fn(&mut LinkConfig)) -> (Lanes<u32>, LaneId, LaneId) {
        let link = |delay| {
            let mut config = LinkConfig::clean(1_000_000, delay);
            change(&mut config);
            Link::new(config, 7)
        };
        let lanes = Lanes::new(vec![link(10 * MS), link(20 * MS)]);
        (lanes, LaneId::new(0, Direction::Forward), LaneId::new(0, Direction::Backward))
    }

    fn arrivals(lanes: &mut Lanes<u32>) -> Vec<(Duration, u32)> {
        let mut arrivals = Vec::new();
        while let Some(at) = lanes.next_at() {
            assert!(lanes.take_due(at - Duration::from_nanos(1)).is_none(), "nothing arrives early");
            arrivals.push((at, lanes.take_due(at).expect("it is due").1));
        }
        arrivals
    }

    #[test]
    fn lanes_are_independent_and_datagrams_come_in_the_order_of_their_arrival() {
        let (mut lanes, forward, backward) = lanes(|_| {});
        assert!(lanes.send(Duration::ZERO, backward, 1000, 1));
        assert!(lanes.send(Duration::ZERO, forward, 1000, 2), "it overtakes what goes the long way");
        assert!(!lanes.send(Duration::ZERO, forward, 1000, 3));
        assert_eq!(arrivals(&mut lanes), [(11 * MS, 2), (12 * MS, 3), (21 * MS, 1)]);
    }

    #[test]
    fn a_duplicate_follows_its_original() {
        let (mut lanes, forward, _) = lanes(|config| config.duplicate = 1.0);
        lanes.send(Duration::ZERO, forward, 500, 1);
        lanes.send(Duration::ZERO, forward, 500, 2);
        let found: Vec<_> = arrivals(&mut lanes).into_iter().map(|(_, datagram)| datagram).collect();
        assert_eq!(found, [1, 1, 2, 2]);
        assert_eq!(lanes.counters(forward).link.duplicated, 2);
    }

    #[test]
    fn what_no_path_carries_is_not_offered() {
        let (mut lanes, forward, _) = lanes(|_| {});
        assert!(!lanes.send(Duration::ZERO, forward, MAX_WIRE_BYTES + 1, 1));
        assert!(lanes.send(Duration::ZERO, forward, MAX_WIRE_BYTES, 2));
        let counters = lanes.counters(forward);
        assert_eq!((counters.oversized, counters.link.offered), (1, 1));
    }

    #[test]
    fn what_is_under_way_arrives_though_the_link_is_cut() {
        let (mut lanes, forward, _) = lanes(|_| {});
        lanes.send(Duration::ZERO, forward, 1000, 1);
        let cut = LinkConfig { loss: 1.0, ..lanes.config(forward).clone() };
        lanes.reconfigure(5 * MS, forward, cut);
        lanes.send(6 * MS, forward, 1000, 2);
        assert_eq!(arrivals(&mut lanes), [(11 * MS, 1)]);
        assert_eq!(lanes.counters(forward).link.dropped_loss, 1);
    }
}
