//! All that a replica is, taken out of it and put into another: what checkpoints are made of.
//!
//! Kind: time-free.

use datacenter::sums::{MAX_SUM, largest};
use datacenter::{Clock, DatacenterId, Elements, NonFinite, ShardTable, TableId, WorkerId};
use thiserror::Error;

use super::Replica;
use super::left_out::LeftOut;
use super::recovery::Former;
use crate::inbox::{MAX_COUNT, MAX_LIFE};
use crate::ledger::Ledger;
use crate::state::{OriginState, Remembered, ReplicaState};

/// A state does not fit the replica that is to begin from it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the state does not fit the shard: {what}")]
pub struct Misfit {
    /// What differs.
    pub what: &'static str,
}

impl Replica {
    /// The same, in the state that an earlier process of the datacenter `here` was in.
    ///
    /// # Errors
    ///
    /// If the state is not one of such a shard.
    pub fn restored(mut self, state: ReplicaState, here: DatacenterId) -> Result<Self, Misfit> {
        let tables = (0..self.shard.table_count() as u16).map(TableId);
        let shapes: Vec<_> = tables.filter_map(|table| self.shard.shape(table).ok()).collect();
        self.check_state(&state, &shapes)?;
        // Of our own releases: how many the state covers, and the process that released the last.
        let (mut covered, mut written_by, mut departed) = (0, 0, Vec::new());
        for mut origin in state.origins {
            let place = self.ledgers.place(origin.datacenter);
            departed.extend(place.filter(|_| origin.has_departed));
            let ledger = self.restore_ledger(&mut origin, &shapes)?;
            match place {
                Some(place) => self.restore_mirror(place, &origin, ledger),
                None if origin.datacenter == here => {
                    self.ledgers.own = ledger;
                    (covered, written_by) = (origin.covered, origin.life);
                }
                None => return misfit("it has releases of a datacenter that is no mirror"),
            }
        }
        if !self.mirrors.is_empty() {
            self.restore_held(state.remainders, (covered, written_by), state.clock);
        }
        for (table, values) in (0..).map(TableId).zip(state.values) {
            self.shard.overwrite(table, values);
        }
        for Remembered { table, what, values } in &state.remembered {
            if !largest(values).is_finite() || !self.shard.remember(*table, what, values) {
                return misfit("a rule of its tables remembers something else");
            }
        }
        let flushed = state.workers.iter().max().copied().unwrap_or_default();
        self.left_out = LeftOut::restored(state.left_out, state.clock.max(flushed));
        self.shard = self.shard.restored(state.clock, &state.workers);
        self.begin_again();
        departed.into_iter().for_each(|place| self.depart(place));
        Ok(self)
    }

    /// Refuses a state of another shard, or one that no process can have been in.
    fn check_state(&self, state: &ReplicaState, shapes: &[ShardTable]) -> Result<(), Misfit> {
        if state.shard != self.shard.id() {
            return misfit("it is another shard's");
        }
        if state.workers.len() != self.shard.worker_count() {
            return misfit("it has another number of workers");
        }
        if state.values.len() != shapes.len() {
            return misfit("it has other tables");
        }
        if state.values.iter().zip(shapes).any(|(values, shape)| values.len() != shape.elements()) {
            return misfit("a table has another size");
        }
        let is_inside = |remainder: &Elements| {
            let shape = shapes.get(remainder.table.index());
            let last = remainder.indexes.last().map_or(0, |last| *last as usize);
            remainder.indexes.len() == remainder.values.len()
                && shape.is_some_and(|shape| last < shape.elements().max(1))
        };
        if !state.remainders.iter().all(is_inside) {
            return misfit("something is held back outside its tables");
        }
        if self.shard.non_finite() == NonFinite::Refuse && !is_finite(state) {
            return misfit("it has values that are NaN, infinite or too large");
        }
        if state.clock.0 > MAX_COUNT || state.left_out > MAX_COUNT {
            return misfit("its clock is larger than any");
        }
        Ok(())
    }

    /// What one datacenter has released.
    fn restore_ledger(&mut self, origin: &mut OriginState, shapes: &[ShardTable]) -> Result<Ledger, Misfit> {
        let tables = std::mem::take(&mut origin.tables);
        let Some(mut ledger) = Ledger::from_state(tables, shapes) else {
            return misfit("what was released has another size");
        };
        ledger.life = origin.life;
        for table in (0..shapes.len() as u16).map(TableId) {
            self.bounds.reach.extend(largest(ledger.sums(table)));
        }
        let clocks = [origin.heard_clock.0, origin.included_clock.0, origin.left_out];
        if [ledger.newest(), origin.covered].iter().chain(&clocks).any(|count| *count > MAX_COUNT) {
            return misfit("it speaks of more clocks or releases than there can be");
        }
        if origin.life > MAX_LIFE {
            return misfit("it speaks of a process that started later than any");
        }
        Ok(ledger)
    }

    /// What a mirror has released, and how far it was.
    fn restore_mirror(&mut self, place: usize, origin: &OriginState, ledger: Ledger) {
        let mirror = &mut self.mirrors[place];
        mirror.inbox.set_arrived(Clock(0), origin.covered);
        mirror.before.clock = origin.heard_clock;
        mirror.before.left_out = origin.left_out;
        mirror.before.included = origin.included_clock;
        self.ledgers.mirrors[place].1 = ledger;
    }

    /// What the filter held back at `clock`, when a process had made the first `covered` of the
    /// releases that are in our own ledger.
    fn restore_held(&mut self, held: Vec<Elements>, (covered, written_by): (u32, u64), clock: Clock) {
        for remainder in &held {
            self.bounds.reach.extend(largest(&remainder.values));
            self.filter.restore(remainder);
        }
        let base = self.ledgers.own.clone();
        self.releases.count = base.newest().max(covered).max(clock.0);
        let forked = base.newer_than(covered).collect();
        self.recovery.former = Some(Former { base, after: covered, held, written_by, forked });
    }

    /// All that this replica of datacenter `here` is: what its next process may begin from, if it [may be kept](Self::may_be_kept).
    pub fn state(&self, here: DatacenterId) -> ReplicaState {
        let tables = (0..self.shard.table_count() as u16).map(TableId);
        let mut values: Vec<Vec<f32>> = tables.map(|table| self.shard.values(table).to_vec()).collect();
        let early = self.mirrors.iter().flat_map(|mirror| mirror.inbox.early());
        for delta in early.filter(|update| update.rows.is_none()).flat_map(|update| &update.deltas) {
            for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
                values[delta.table.index()][index as usize] -= value;
            }
        }
        for (values, rest) in values.iter_mut().zip(self.recovery.preview_rest()) {
            values.iter_mut().zip(rest).for_each(|(value, rest)| *value -= rest);
        }
        let own = OriginState {
            datacenter: here,
            life: self.releases.life,
            covered: self.recovery.lost_after().unwrap_or(self.releases.count),
            heard_clock: Clock(0),
            included_clock: Clock(0),
            left_out: 0,
            tables: self.ledgers.own.to_state(),
            has_departed: false,
        };
        let others =
            self.mirrors.iter().zip(&self.ledgers.mirrors).map(|(mirror, (id, ledger))| OriginState {
                datacenter: *id,
                life: ledger.life,
                covered: mirror.inbox.arrived_count(),
                heard_clock: mirror.heard_clock(),
                included_clock: mirror.included_clock(),
                left_out: mirror.heard_left_out(),
                tables: ledger.to_state(),
                has_departed: mirror.state.has_departed(),
            });
        let mut origins: Vec<_> =
            if self.mirrors.is_empty() { Vec::new() } else { others.chain([own]).collect() };
        origins.sort_by_key(|origin| origin.datacenter);
        let workers = (0..self.shard.worker_count() as u32).map(WorkerId);
        let remembered = self.shard.remembered().map(|(table, what, values)| Remembered {
            table,
            what: what.to_owned(),
            values: values.to_vec(),
        });
        ReplicaState {
            remembered: remembered.collect(),
            shard: self.shard.id(),
            clock: self.shard.clock(),
            left_out: self.left_out(),
            workers: workers.filter_map(|worker| self.shard.flushed(worker)).collect(),
            values,
            remainders: if self.mirrors.is_empty() { Vec::new() } else { self.filter.remainders() },
            origins,
        }
    }
}

fn misfit<T>(what: &'static str) -> Result<T, Misfit> {
    Err(Misfit { what })
}

/// Whether all values of a state are numbers, and none is larger than contributions can make it.
fn is_finite(state: &ReplicaState) -> bool {
    let released = state.origins.iter().flat_map(|origin| &origin.tables).map(|table| &table.sums);
    let held = state.remainders.iter().map(|remainder| &remainder.values);
    state.values.iter().chain(released).chain(held).all(|values| largest(values) <= MOST)
}

/// Far beyond what contributions come to, and far from where f32 ends.
const MOST: f32 = MAX_SUM * 1e9;

#[cfg(test)]
mod tests {
    use datacenter::message::Flush;
    use datacenter::shard::Shard;
    use datacenter::{Rule, ShardId, WorkerId};

    use super::*;
    use crate::policy::{Lead, Policy};

    const SHAPE: ShardTable = ShardTable { slots: 2, width: 1 };
    const HERE: DatacenterId = DatacenterId(0);

    fn replica() -> Replica {
        let shard = Shard::new(ShardId(0), &[SHAPE], vec![vec![0.0; 2]], 1, None);
        let shard = shard.with_rules(&[Rule::Adagrad { rate: 0.5 }]);
        Replica::new(shard, &Policy::naive(Lead::Unlimited), [DatacenterId(1)])
    }

    fn flush(clock: u32, gradient: f32) -> Flush {
        let mut delta = Elements::new(TableId(0));
        delta.push(1, gradient);
        Flush::of_elements(WorkerId(0), Clock(clock), &[delta], &[SHAPE])
    }

    #[test]
    fn a_rule_goes_on_where_it_was_and_mirrors_are_told_its_changes() {
        let mut first = replica();
        first.handle_flush(&flush(1, 3.0)).expect("it makes sense");
        let state = first.state(HERE);
        let held: Vec<f32> = state.remainders.iter().flat_map(|held| held.values.clone()).collect();
        assert_eq!(
            (state.values[0][1], held.as_slice()),
            (-0.5, &[-0.5][..]),
            "the change, and not the gradient"
        );
        let mut again = replica().restored(state.clone(), HERE).expect("it is of such a shard");
        again.handle_flush(&flush(2, 4.0)).expect("it makes sense");
        assert!((again.shard().values(TableId(0))[1] + 0.9).abs() < 1e-6);
        let mut other = state;
        other.remembered[0].what = "velocity".to_owned();
        assert!(replica().restored(other, HERE).is_err());
    }
}
