//! That no sum of a replica becomes too large to be a number, and who is refused when one would.
//!
//! Values are made of what each datacenter has contributed, so each answers for its own contribution, and for nothing else:
//! of an element, what it has released and what its filter still holds back. Its own server refuses the worker that would bring
//! that beyond [`MAX_SUM`], or beyond what `max_delta`, a figure or a multiple of what is usual, makes of it; a peer refuses the server that says that it has gone further
//! than any rounding or repeat would explain. Whatever others have done, all contributions fit into a value, so nobody is
//! refused for a sum that somebody else has brought near the end of what f32 holds.
//!
//! Kind: time-free.

use datacenter::message::Flush;
use datacenter::shard::{RequestError, Shard};
use datacenter::sums::{MAX_SUM, Reach, largest_of, may_add};
use datacenter::usual::UsualDelta;
use datacenter::{Elements, NonFinite, TableId};

use super::Replica;
use crate::inbox::PeerError;
use crate::ledger::Ledger;
use crate::message::{Origin, Update};

/// By how much a peer may say to have contributed more than its own server lets it: it adds in another order, and what it repeats
/// is in its ledger already.
const PEER_MARGIN: f32 = 4.0;

/// The most datacenters of which a sum of contributions may be: more than a job can have.
const MAX_CONTRIBUTORS: f32 = 256.0;

/// How much datacenters can contribute.
#[derive(Debug)]
pub(super) struct ContributionBounds {
    /// Of what each datacenter has contributed.
    pub(super) reach: Reach,
    /// By table: how much one datacenter can have contributed to an element.
    by_table: Vec<f32>,
    /// How many flushes one datacenter has at most, where a contribution is bounded by that many
    /// times what is usual here.
    max_flushes: Option<f32>,
}

impl ContributionBounds {
    /// The widest, for so many tables.
    pub(super) fn new(tables: usize) -> Self {
        Self { reach: Reach::default(), by_table: vec![MAX_SUM; tables], max_flushes: None }
    }

    /// The most that one datacenter can have contributed to an element of `table` of `shard`, as
    /// far as that is known.
    fn most(&self, table: TableId, shard: &Shard) -> Option<f32> {
        let fixed = *self.by_table.get(table.index())?;
        let usual = shard.usual(table).and_then(UsualDelta::largest_allowed);
        let usual = usual.zip(self.max_flushes).map(|(delta, flushes)| delta * flushes);
        Some(usual.map_or(fixed, |usual| usual.min(fixed)))
    }
}

impl Replica {
    /// The same, where no datacenter can have contributed more than this to an element, by table: because of what each worker may
    /// add in a clock.
    ///
    /// # Panics
    ///
    /// If there is not one for each table.
    #[must_use]
    pub fn with_max_contribution(mut self, max_contribution: Vec<f32>) -> Self {
        assert_eq!(max_contribution.len(), self.bounds.by_table.len(), "one for each table");
        self.bounds.by_table = max_contribution;
        self
    }

    /// The same, where no datacenter has more flushes than this: of tables whose workers are let add a multiple of the usual, none
    /// can have contributed more than that many times the largest such multiple that there has been here. A datacenter in which
    /// nothing is known of what is usual, as it has no workers or has just begun, takes anything.
    #[must_use]
    pub fn with_max_flushes(mut self, max_flushes: f32) -> Self {
        self.bounds.max_flushes = Some(max_flushes);
        self
    }

    /// Refuses a flush that makes sense, but would bring this datacenter's contribution to an element too far.
    pub(super) fn check_flushed_sums(&self, flush: &Flush, most: f32) -> Result<(), RequestError> {
        self.shard.check_whole_sums(flush, |table, index| {
            let (held, released) = (self.filter.accumulated(table), self.ledgers.own.sums(table));
            held[index as usize] + released.get(index as usize).copied().unwrap_or(0.0)
        })?;
        let may_be_anything = self.mirrors.is_empty() || self.shard.non_finite() == NonFinite::Pass;
        if may_be_anything || self.bounds.reach.has_room(most) {
            return Ok(());
        }
        for block in &flush.deltas {
            let table = block.table();
            let (held, released) = (self.filter.accumulated(table), self.ledgers.own.sums(table));
            let contributed = |index: u32| held[index as usize] + released[index as usize];
            let is_beyond = |(index, value): &(u32, f32)| !may_add(contributed(*index), *value, MAX_SUM);
            if let Some((index, value)) = block.indexed().find(is_beyond) {
                let place = (table, self.shard.shape(table)?.width);
                return Err(RequestError::sum_too_large(flush, place, (index, value, contributed(index))));
            }
        }
        Ok(())
    }

    /// Refuses an update that is not finite, or by which somebody would have contributed more than anybody can. What is outside the
    /// tables is left to the inbox. Yields the largest magnitude in it.
    pub(super) fn check_updated_sums(&self, peer: usize, update: &Update) -> Result<f32, PeerError> {
        let most = largest_of(&update.deltas);
        let mut of_whole = update.deltas.iter().filter(|delta| self.shard.is_whole(delta.table));
        if let Some((table, (index, found))) =
            of_whole.find_map(|delta| delta.fractional().map(|found| (delta.table, found)))
        {
            return Err(PeerError::NotWhole { table, index, found: found.to_string() });
        }
        if self.shard.non_finite() == NonFinite::Pass {
            return Ok(most);
        }
        if !most.is_finite() {
            let found = |delta: &Elements| delta.non_finite().map(|found| (delta.table, found));
            if let Some((table, (index, found))) = update.deltas.iter().find_map(found) {
                return Err(PeerError::NotFinite { table, index, found: found.to_string() });
            }
        }
        let bounds = update.deltas.iter().filter_map(|delta| self.bounds.most(delta.table, &self.shard));
        let has_own_bound = bounds.fold(MAX_SUM, f32::min) < MAX_SUM;
        if has_own_bound || !self.bounds.reach.has_room(most) {
            update.deltas.iter().try_for_each(|delta| self.check_contribution(peer, update, delta))?;
        }
        Ok(most)
    }

    fn check_contribution(&self, peer: usize, update: &Update, delta: &Elements) -> Result<(), PeerError> {
        let table = delta.table;
        let Some(most) = self.bounds.most(table, &self.shard) else { return Ok(()) };
        let allowed = most * PEER_MARGIN;
        let origin = update.rows.as_ref().map(|rows| rows.origin);
        let ledger = &self.ledgers.mirrors[peer].1;
        let mut elements = delta.indexes.iter().zip(&delta.values);
        let beyond = elements.find(|(index, value)| match origin {
            None => !is_plausible(ledger, (table, **index), **value, allowed),
            Some(Origin::All) => value.abs() > allowed * MAX_CONTRIBUTORS,
            Some(Origin::Sender | Origin::Receiver | Origin::Other(_)) => value.abs() > allowed,
        });
        let Some((&index, &value)) = beyond else { return Ok(()) };
        let (origin, contributed) = match origin {
            None => {
                let sum = ledger.sums(table).get(index as usize).copied().unwrap_or(0.0);
                (self.mirrors[peer].peer.to_string(), sum + value)
            }
            Some(Origin::Sender) => (self.mirrors[peer].peer.to_string(), value),
            Some(Origin::Receiver) => ("this datacenter".to_owned(), value),
            Some(Origin::Other(other)) => (other.to_string(), value),
            Some(Origin::All) => ("all of them".to_owned(), value),
        };
        let [found, contributed, allowed] = [value, contributed, allowed].map(|number| format!("{number:e}"));
        Err(PeerError::TooMuch { table, index, found, origin, contributed, allowed })
    }
}

/// Whether a datacenter that has contributed what is in `ledger` can have contributed `value` more. Updates that come early are
/// each compared with the ledger as it is, so what one of them may be is bounded too: then those that may be early are, in sum.
fn is_plausible(ledger: &Ledger, (table, index): (TableId, u32), value: f32, allowed: f32) -> bool {
    let Some(&sum) = ledger.sums(table).get(index as usize) else { return true };
    value.abs() <= 2.0 * allowed && may_add(sum, value, allowed)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests {
    use std::time::Instant;

    use datacenter::{Clock, DatacenterId, ShardId, ShardTable, WorkerId};
    use proptest::prelude::*;

    use super::*;
    use crate::message::WholeRows;
    use crate::policy::{Lead, Policy, Selection};

    const TABLE: TableId = TableId(0);
    const SHAPE: ShardTable = ShardTable { slots: 2, width: 2 };
    const HOSTILE: usize = 0;
    const HONEST: usize = 1;

    /// A replica of one worker that keeps to the rules and one that does not, with a mirror of each kind.
    fn replica() -> Replica {
        let selection = Selection::Everything;
        let policy = Policy { selection, ..Policy::naive(Lead::Unlimited) };
        let shard = Shard::new(ShardId(0), &[SHAPE], vec![vec![1.0; 4]], 2, None);
        Replica::new(shard, &policy, [1, 2].map(DatacenterId))
    }

    fn elements(index: u32, value: f32) -> Vec<Elements> {
        vec![Elements { table: TABLE, indexes: vec![index], values: vec![value] }]
    }

    fn flush(worker: u32, clock: u32, index: u32, value: f32) -> Flush {
        Flush::of_elements(WorkerId(worker), Clock(clock), &elements(index, value), &[SHAPE])
    }

    fn update(seq: u64, index: u32, value: f32) -> Update {
        Update { seq, count: seq as u32, deltas: elements(index, value), ..Update::default() }
    }

    fn rows(seq: u64, slot: u32, value: f32, origin: Origin) -> Update {
        let deltas = vec![Elements {
            indexes: vec![2 * slot, 2 * slot + 1],
            values: vec![value; 2],
            ..Elements::default()
        }];
        let rows = WholeRows { origin, stamps: vec![vec![seq as u32]], is_last: false, life: 0 };
        Update { seq, count: seq as u32, deltas, rows: Some(rows), ..Update::default() }
    }

    /// Everything that a replica keeps, ships or would write.
    fn all_values(replica: &mut Replica) -> Vec<f32> {
        let state = replica.state(DatacenterId(0));
        let mut all: Vec<f32> = state.values.into_iter().flatten().collect();
        all.extend(state.remainders.into_iter().flat_map(|held| held.values));
        all.extend(state.origins.into_iter().flat_map(|o| o.tables).flat_map(|table| table.sums));
        all.extend(replica.shard().values(TABLE));
        for peer in [HOSTILE, HONEST] {
            while let Some(outgoing) = replica.poll_update(peer, true, true) {
                all.extend(outgoing.update.deltas.iter().flat_map(|delta| &delta.values));
            }
        }
        all
    }

    #[derive(Clone, Debug)]
    enum Step {
        Flush(u32, f32),
        Update { early: bool, index: u32, value: f32 },
        Rows { slot: u32, value: f32, origin: Origin },
        Release,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let most = MAX_SUM;
        let large = prop_oneof![Just(most), Just(most / 3.0), Just(4.0 * most), Just(1e38), Just(f32::MAX)];
        let value =
            || (large.clone(), any::<bool>()).prop_map(|(value, sign)| if sign { value } else { -value });
        let origin = prop_oneof![
            Just(Origin::All),
            Just(Origin::Sender),
            Just(Origin::Receiver),
            Just(Origin::Other(DatacenterId(2)))
        ];
        let step = prop_oneof![
            (0..4u32, value()).prop_map(|(index, value)| Step::Flush(index, value)),
            (any::<bool>(), 0..4u32, value()).prop_map(|(early, index, value)| Step::Update {
                early,
                index,
                value
            }),
            (0..2u32, value(), origin).prop_map(|(slot, value, origin)| Step::Rows { slot, value, origin }),
            Just(Step::Release),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        /// Whatever one worker and one mirror do, everything stays finite, and nobody else is refused.
        #[test]
        fn whoever_goes_beyond_is_refused_and_nobody_else(steps in steps()) {
            let (mut replica, now) = (replica().without_state(), Instant::now());
            let (mut hostile_clock, mut hostile_seq) = (0, 0);
            for (step, clock) in steps.into_iter().zip(1..) {
                match step {
                    Step::Flush(index, value) => {
                        hostile_clock += 1;
                        let _ = replica.handle_flush(&flush(1, hostile_clock, index, value));
                    }
                    Step::Update { early, index, value } => {
                        let seq = hostile_seq + 1 + u64::from(early);
                        let taken = replica.handle_update(HOSTILE, &update(seq, index, value), 1);
                        hostile_seq = replica.inbox(HOSTILE).applied_through();
                        prop_assert!(taken.is_ok() || value.abs() > MAX_SUM / 4.0);
                    }
                    Step::Rows { slot, value, origin } => {
                        let _ = replica.handle_update(HOSTILE, &rows(hostile_seq + 1, slot, value, origin), 1);
                        hostile_seq = replica.inbox(HOSTILE).applied_through();
                    }
                    Step::Release => replica.complete(Clock(clock), [], now),
                }
                for index in 0..4 {
                    let seq = replica.inbox(HONEST).applied_through() + 1;
                    prop_assert_eq!(replica.handle_update(HONEST, &update(seq, index, -0.25), 1), Ok(true));
                }
                prop_assert!(replica.handle_flush(&flush(0, clock, clock % 4, 0.5)).is_ok());
                let all = all_values(&mut replica);
                prop_assert!(all.iter().all(|value| value.is_finite()), "{all:?}");
            }
        }
    }

    #[test]
    fn a_mirror_is_refused_for_more_than_it_can_have_contributed_and_nothing_changes() {
        let mut replica = replica().with_max_contribution(vec![10.0]);
        assert_eq!(replica.handle_update(HOSTILE, &update(1, 3, 30.0), 1), Ok(true));
        let refused = replica.handle_update(HOSTILE, &update(2, 3, 30.0), 1).unwrap_err();
        let told = "its update of table 0 has 3e1 for element 3, to which datacenter 1 would have contributed 6e1, \
                    and no datacenter contributes more than 4e1";
        assert_eq!(refused.to_string(), told);
        for origin in [Origin::Sender, Origin::Receiver, Origin::Other(DatacenterId(2))] {
            let refused = replica.handle_update(HOSTILE, &rows(2, 1, -41.0, origin), 1);
            assert!(matches!(refused, Err(PeerError::TooMuch { .. })), "{refused:?}");
        }
        assert_eq!(replica.shard().values(TABLE), [1.0, 1.0, 1.0, 31.0]);
        assert_eq!(replica.inbox(HOSTILE).applied_through(), 1);
        assert_eq!(replica.handle_update(HOSTILE, &update(2, 3, 10.0), 1), Ok(true));
    }

    /// What others take back of it makes no room: the sums by which a replica recovers have nothing of theirs.
    #[test]
    fn a_worker_is_refused_for_more_than_its_datacenter_can_have_contributed() {
        let mut replica = replica();
        let most = 0.75 * MAX_SUM;
        assert!(replica.handle_flush(&flush(1, 1, 3, most)).is_ok());
        assert_eq!(replica.handle_update(HONEST, &update(1, 3, -most), 1), Ok(true));
        let refused = replica.handle_flush(&flush(1, 2, 3, most)).unwrap_err();
        assert!(matches!(refused, RequestError::SumTooLarge { .. }), "{refused}");
        assert_eq!(replica.shard().values(TABLE), [1.0, 1.0, 1.0, 0.0]);
        assert!(replica.handle_flush(&flush(1, 2, 3, -most)).is_ok());
    }

    #[test]
    fn a_mirror_is_refused_for_more_than_many_times_what_is_usual_here() {
        let policy = Policy::naive(Lead::Unlimited);
        let shard = Shard::new(ShardId(0), &[SHAPE], vec![vec![0.0; 4]], 2, None)
            .with_max_times_usual(vec![Some(10.0)]);
        let replica = Replica::new(shard, &policy, [1, 2].map(DatacenterId));
        // No more than 50 flushes of ten times what is usual, four times.
        let mut replica = replica.without_state().with_max_flushes(50.0);
        // Here nothing is usual yet.
        assert_eq!(replica.handle_update(HONEST, &update(1, 3, 1e6), 1), Ok(true));
        for clock in 1..=8 {
            for worker in 0..2 {
                assert!(replica.handle_flush(&flush(worker, clock, 0, 1.0)).is_ok());
            }
        }
        assert_eq!(replica.handle_update(HOSTILE, &update(1, 3, 1999.0), 1), Ok(true));
        let refused = replica.handle_update(HOSTILE, &update(2, 3, 2.0), 1).unwrap_err();
        let told = "its update of table 0 has 2e0 for element 3, to which datacenter 1 would have contributed 2.001e3, \
                    and no datacenter contributes more than 2e3";
        assert_eq!(refused.to_string(), told);
        let refused = replica.handle_update(HOSTILE, &rows(2, 1, -2001.0, Origin::Sender), 1);
        assert!(matches!(refused, Err(PeerError::TooMuch { .. })), "{refused:?}");
        assert_eq!(replica.shard().values(TABLE), [16.0, 0.0, 0.0, 1_001_999.0]);
        // Deltas become smaller, and what has been contributed stays what it is.
        for clock in 9..=2000 {
            assert!(replica.handle_flush(&flush(clock % 2, clock, 0, 1e-3)).is_ok());
        }
        assert_eq!(replica.handle_update(HOSTILE, &update(2, 3, 0.5), 1), Ok(true));
    }

    proptest! {
        /// Workers whose deltas are scattered and become smaller, and a mirror of the same kind that is cut off for a while
        /// and then says all at once: a bound of a thousand times never trips.
        #[test]
        fn a_usual_run_is_never_refused(seed in proptest::num::u64::ANY, cut in 1..400u32) {
            let policy = Policy::naive(Lead::Unlimited);
            let shard = Shard::new(ShardId(0), &[SHAPE], vec![vec![0.0; 4]], 2, None)
                .with_max_times_usual(vec![Some(1000.0)]);
            let clocks = 400;
            let mut replica =
                Replica::new(shard, &policy, [DatacenterId(1)]).without_state().with_max_flushes(4.0 * clocks as f32);
            let mut random = seed;
            // Magnitudes over three decades, many of them zero.
            let mut draw = || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let bits = (random >> 33) as u32;
                match bits % 4 {
                    0 => 0.0,
                    _ => 10f32.powi((bits >> 8) as i32 % 4 - 3) * if bits & 4 == 0 { 1.0 } else { -1.0 },
                }
            };
            let (mut waiting, mut seq) = (0.0, 0);
            for clock in 1..=clocks {
                let falls = 1.0 / (clock as f32).sqrt();
                for worker in 0..2 {
                    prop_assert!(replica.handle_flush(&flush(worker, clock, clock % 4, draw() * falls)).is_ok());
                }
                waiting += 2.0 * draw() * falls;
                if clock < cut && clock != clocks {
                    continue;
                }
                seq += 1;
                let taken = replica.handle_update(0, &update(seq, 3, std::mem::take(&mut waiting)), 1);
                prop_assert_eq!(taken, Ok(true));
            }
        }
    }

    #[test]
    fn no_replica_begins_from_what_is_no_number() {
        let mut poisoned = replica();
        poisoned.complete(Clock(1), [], Instant::now());
        let good = poisoned.state(DatacenterId(0));
        assert!(replica().restored(good.clone(), DatacenterId(0)).is_ok());
        let fault = "it has values that are NaN, infinite or too large";
        for value in [f32::NAN, f32::INFINITY, -f32::INFINITY, f32::MAX] {
            let mut bad = good.clone();
            bad.values[0][2] = value;
            assert_eq!(replica().restored(bad, DatacenterId(0)).map(|_| ()).unwrap_err().what, fault);
            let mut bad = good.clone();
            bad.origins[1].tables[0].sums[2] = value;
            assert_eq!(replica().restored(bad, DatacenterId(0)).map(|_| ()).unwrap_err().what, fault);
            let bad = crate::state::ReplicaState { remainders: elements(2, value), ..good.clone() };
            assert_eq!(replica().restored(bad, DatacenterId(0)).map(|_| ()).unwrap_err().what, fault);
        }
    }
}
