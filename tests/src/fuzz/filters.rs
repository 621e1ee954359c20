//! The significance filter: nothing is lost, and nothing significant stays behind.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use datacenter::{Clock, Elements, Numbers, ShardTable, TableId};
use wan::filter::{Filter, Reachability};
use wan::leeway::Leeway;
use wan::policy::{FilterConfig, Goal, Schedule, Selection, Significance, ValueFormat};

use super::operations::operations;

/// A few elements, and just more than the filter looks at with one word.
const SHAPES: [ShardTable; 2] = [ShardTable { slots: 7, width: 3 }, ShardTable { slots: 42, width: 100 }];

#[derive(Arbitrary, Debug)]
struct Setup {
    everything: bool,
    fastest: bool,
    filters: [Choice; 2],
}

/// A filter: its function, how its threshold moves, and the threshold in sixteenths.
#[derive(Arbitrary, Debug)]
struct Choice {
    function: u8,
    schedule: u8,
    sixteenths: u8,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Offer {
        table: bool,
        first: u16,
        step: u8,
        values: [i8; 4],
    },
    OfferMany {
        value: i8,
    },
    /// Another datacenter's update, or one that makes a value no number.
    Remote {
        table: bool,
        index: u16,
        value: f32,
    },
    Observe {
        backlog_millis: u16,
        clock_millis: u16,
    },
    Release,
    /// The same, fitted to so many bytes.
    ReleaseWithin {
        bytes: u16,
    },
    FlushAll,
    /// What a checkpoint keeps goes into another filter.
    Restore,
}

impl Choice {
    fn config(&self) -> FilterConfig {
        use Significance::{Absolute, Relative, RowRms, TableRms, UsualUpdate};
        let schedule = match self.schedule % 4 {
            0 => Schedule::InverseSqrt,
            1 => Schedule::Constant,
            2 => Schedule::Factors([1.0, 0.25, 2.0].into()),
            _ => Schedule::Linear { to: 0.0, clocks: 5 },
        };
        FilterConfig {
            function: [Relative, Absolute, RowRms, TableRms, UsualUpdate][usize::from(self.function % 5)]
                .clone(),
            threshold: f64::from(self.sixteenths) / 16.0,
            schedule,
            values: [ValueFormat::F32, ValueFormat::Auto, ValueFormat::Int8, ValueFormat::Bf16]
                [usize::from(self.schedule / 4 % 4)],
            numbers: Numbers::Real,
        }
    }
}

/// A setup, and a list of operations.
pub fn filters(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let Ok(setup) = bytes.arbitrary::<Setup>() else { return };
    let mut model = Model::new(&setup);
    operations(&mut bytes).into_iter().for_each(|operation| model.apply(operation));
    model.apply(Operation::FlushAll);
    assert!(model.filter.remainders().is_empty());
}

struct Model {
    selection: Selection,
    filter: Filter,
    clock: Clock,
    /// By table: current values, and what was offered and not shipped.
    values: Vec<Vec<f32>>,
    waiting: Vec<Vec<f32>>,
}

impl Model {
    fn new(setup: &Setup) -> Self {
        let goal = if setup.fastest { Goal::Fastest } else { Goal::Cheapest };
        let filters = setup.filters.iter().map(Choice::config).collect();
        let selection = match setup.everything {
            true => Selection::Everything,
            false => Selection::Significant { filters, goal, leeway: Leeway::default() },
        };
        let zeros = || SHAPES.iter().map(|shape| vec![0.0; shape.elements()]).collect::<Vec<_>>();
        let filter = Filter::new(&selection, SHAPES.to_vec(), 1);
        Self { selection, filter, clock: Clock(0), values: zeros(), waiting: zeros() }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Offer { table, first, step, values } => {
                let table = usize::from(table);
                let indexes = (0..).map(|i| usize::from(first) + i * (usize::from(step) + 1));
                let fits = |(index, _): &(usize, i8)| *index < SHAPES[table].elements();
                self.offer(table, indexes.zip(values).take_while(fits));
            }
            Operation::OfferMany { value } => {
                self.offer(1, (0..SHAPES[1].elements()).map(|index| (index, value)));
            }
            Operation::Remote { table, index, value } => {
                let values = &mut self.values[usize::from(table)];
                let index = usize::from(index) % values.len();
                values[index] += value;
            }
            Operation::Observe { backlog_millis, clock_millis } => {
                let time = |millis: u16| Duration::from_millis(millis.into());
                // The lowest bits say how the peer is reached.
                let backlog = time(backlog_millis);
                let reach = match clock_millis % 8 {
                    0 => Reachability::Away,
                    1 => Reachability::Unheard,
                    2 => Reachability::Returned { backlog },
                    _ => Reachability::Heard { backlog },
                };
                self.filter.observe([reach], time(clock_millis));
                assert!(self.filter.soft_factor() > 0.0 && self.filter.soft_factor() <= 1.0);
            }
            Operation::Release => self.release(None),
            Operation::ReleaseWithin { bytes } => self.release(Some(f64::from(bytes) / 16.0)),
            Operation::FlushAll => {
                let mut out = Vec::new();
                self.filter.flush_all(&mut out);
                self.ship(&out);
                assert!(self.waiting.iter().flatten().all(|a| *a == 0.0), "the last flush leaves nothing");
            }
            Operation::Restore => {
                let remainders = self.filter.remainders();
                self.filter = Filter::new(&self.selection, SHAPES.to_vec(), 1);
                remainders.iter().for_each(|remainder| self.filter.restore(remainder));
                self.check_remainders();
            }
        }
    }

    fn offer(&mut self, table: usize, elements: impl Iterator<Item = (usize, i8)>) {
        let mut delta = Elements::new(TableId(table as u16));
        // Of the size of thresholds, or nothing would ever be held.
        for (index, value) in elements.map(|(index, value)| (index, value / 8)) {
            delta.push(index as u32, f32::from(value));
            self.values[table][index] += f32::from(value);
            self.waiting[table][index] += f32::from(value);
        }
        self.filter.offer(&delta);
    }

    fn release(&mut self, allowed: Option<f64>) {
        self.clock = self.clock.next();
        let factor = self.filter.soft_factor();
        let values: Vec<&[f32]> = self.values.iter().map(Vec::as_slice).collect();
        let (mut out, before) = (Vec::new(), self.filter.counters());
        let most = match allowed {
            None => {
                self.filter.release(self.clock, &values, &mut out);
                1.0
            }
            Some(bytes) => {
                let fit = self.filter.release_within(bytes, self.clock, &values, &mut out);
                assert!(fit.raised >= 1.0 && fit.full >= 1.0 && (0.0..=1.0).contains(&fit.share), "{fit:?}");
                fit.raised * fit.full
            }
        };
        let shipped: usize = out.iter().map(Elements::len).sum();
        assert_eq!(self.filter.counters().elements_shipped, before.elements_shipped + shipped as u64);
        self.ship(&out);
        self.check_remainders();
        match &self.selection {
            Selection::Everything => assert!(self.waiting.iter().flatten().all(|a| *a == 0.0)),
            Selection::Significant { filters, .. } => {
                for (table, config) in filters.iter().enumerate() {
                    self.check_held(table, config, config.threshold_at(self.clock) * factor * most);
                }
            }
        }
    }

    /// What was shipped is all that was waiting of the element, but for less than half of it where
    /// values are rounded.
    fn ship(&mut self, out: &[Elements]) {
        assert!(out.is_sorted_by(|a, b| a.table < b.table), "at most one entry for each table");
        for delta in out {
            assert!(!delta.is_empty() && delta.indexes.is_sorted_by(|a, b| a < b));
            for (index, value) in delta.indexes.iter().zip(&delta.values) {
                let waiting = &mut self.waiting[delta.table.index()][*index as usize];
                let rest = *waiting - *value;
                assert!(
                    *value != 0.0 && (rest == 0.0 || 2.0 * rest.abs() < waiting.abs() && rest * *value > 0.0)
                );
                *waiting = rest;
            }
        }
    }

    fn check_remainders(&self) {
        let mut kept: Vec<Vec<f32>> = self.waiting.iter().map(|waiting| vec![0.0; waiting.len()]).collect();
        for remainder in self.filter.remainders() {
            let kept = &mut kept[remainder.table.index()];
            remainder.indexes.iter().zip(&remainder.values).for_each(|(i, v)| kept[*i as usize] = *v);
        }
        assert_eq!(kept, self.waiting);
    }

    fn check_held(&self, table: usize, config: &FilterConfig, threshold: f64) {
        for (a, x) in self.waiting[table].iter().zip(&self.values[table]).filter(|(a, _)| **a != 0.0) {
            let scale = match config.function {
                Significance::Relative => f64::from(x.abs()),
                Significance::Absolute => 1.0,
                _ => continue,
            };
            assert!(scale.is_finite() && f64::from(a.abs()) <= threshold * scale, "{a} of {x} is held");
        }
    }
}
