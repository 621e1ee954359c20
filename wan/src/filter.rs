//! The significance filter: which of a datacenter's updates are worth the WAN (time-free).
//!
//! The problem: most updates change a parameter by a fraction of its value, and the WAN is 15 to 60 times slower than
//! the network on which they arise. The idea (Gaia, NSDI 2017, section 3): add up what is not yet shipped, element by
//! element, and ship the sum once it matters. What is held back is never lost, only late.
//!
//! With `a` what has accumulated of this datacenter's own updates, `x` the current value (which includes `a`) and `t`
//! the shard's clock counted from one, an element with `a != 0` is shipped, and its `a` set to zero, when
//!
//! ```text
//! sig(a, x) > v_t * f        v_t: the hard threshold, by its schedule;  f <= 1: the soft factor of the peers that count
//! ```
//!
//! and where the threshold follows updates, as the [leeway](crate::leeway) bounds it.
//!
//! Where one bound serves a whole table and [`ValueFormat::Auto`](crate::policy::ValueFormat) is asked for, what is shipped of an
//! element is a multiple of a step, a power of two just below the bound: such values take a bit or two. The rest stays in `a`.
//!
//! Two laws hold at all times, and are tested as properties: what was shipped and `a` add up to what was offered; and
//! after each release nothing that stays behind is significant. Remote updates are never offered here.
//!
//! A value that is not finite is always significant, be it in `a` or in what `a` is measured by: a model that blew up
//! should be seen everywhere, not hidden in one place.
//!
//! Beside the real traffic each filter counts what the naive baseline would have sent: every element updated in
//! a clock, summed over the clock, as one payload of the same codec. Deltas of zero update nothing. With
//! [`Selection::Everything`] that is exactly what is shipped, but for elements whose updates cancel to zero within
//! a clock: a baseline that pays for them is charged here, the filter does not ship them.
//!
//! Cost: where updates lie densely and one bound serves a whole table, blocks of 64 elements are added, compared and compressed
//! at once: [`Filter::offer`] and [`Filter::release`] together take about a nanosecond an element in cache. Elsewhere an element
//! with `a != 0` takes about one to two nanoseconds to offer and five to fifteen to release, plus a look at one word for each 4096
//! elements of the model. Where one bound serves a whole table (`absolute`, `rms` of the table), a block of 64 elements
//! that was not updated in this clock costs one comparison. `rms` of the row reads the rows that have an element
//! waiting, `rms` of the table all its values once a clock: a sum kept up to date instead would depend on the order of
//! updates in its last bits, and need a hook on every write to the table.

mod bits;
mod census;
mod dense;
mod measure;
mod soft;
mod table;
mod threshold;
mod usual;

use std::iter::Sum;
use std::time::Duration;

use datacenter::{Clock, Elements, ShardTable, TableId};

use crate::leeway::Leeway;
use crate::policy::{FilterConfig, Goal, Selection, Significance};

pub use census::Fit;
pub use measure::{CustomSignificance, SignificanceFunction};
pub use soft::{Reachability, SoftThreshold, SoftThresholds};

use census::{Census, LEAST_THRESHOLD, Turns};
use measure::Measure;
use table::TableFilter;

/// What a filter has seen and let pass, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterCounters {
    /// Elements updated in a clock, summed over clocks.
    pub elements_updated: u64,
    /// Elements shipped, summed over clocks.
    pub elements_shipped: u64,
    /// Bytes of the payloads in which the naive baseline would have sent all updates to one peer.
    pub naive_payload_bytes: u64,
}

impl Sum for FilterCounters {
    fn sum<I: Iterator<Item = Self>>(counters: I) -> Self {
        counters.fold(Self::default(), |sum, one| Self {
            elements_updated: sum.elements_updated + one.elements_updated,
            elements_shipped: sum.elements_shipped + one.elements_shipped,
            naive_payload_bytes: sum.naive_payload_bytes + one.naive_payload_bytes,
        })
    }
}

/// What a table is filtered by now, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TableFigures<'a> {
    /// The settings that they follow from.
    pub config: &'a FilterConfig,
    /// What the significance of an element had to exceed at the last release that decided: the hard threshold times the soft
    /// factor. None before the first.
    pub significance_threshold: Option<f64>,
    /// What `|a|` had to exceed then, where that is the same for the whole table (`absolute`, `table-rms`, `usual-update`).
    pub threshold: Option<f64>,
    /// Of what values were multiples then, where they were rounded.
    pub step: Option<f32>,
    /// By how much a clock usually updates an element, where that is measured and there has been one.
    pub usual_update: Option<f64>,
    /// Of this table.
    pub counters: FilterCounters,
}

/// The filter of one shard: what has accumulated in each of its tables.
#[derive(Debug)]
pub struct Filter {
    tables: Vec<TableFilter>,
    /// One for each table; `None` ships everything.
    configs: Option<Vec<FilterConfig>>,
    soft: Option<SoftThresholds>,
    /// What bounds thresholds that follow updates.
    leeway: Leeway,
}

impl Filter {
    /// A filter for a shard with tables of these shapes, and so many peers.
    ///
    /// # Panics
    ///
    /// If `selection` does not have one filter for each table: jobs are checked before they get here.
    pub fn new(selection: &Selection, shapes: Vec<ShardTable>, peers: usize) -> Self {
        let (configs, soft, leeway) = match selection {
            Selection::Everything => (None, None, Leeway::default()),
            Selection::Significant { filters, goal, leeway } => {
                assert_eq!(filters.len(), shapes.len(), "one filter for each table");
                let soft = match goal {
                    Goal::Fastest => Some(SoftThresholds::new(peers)),
                    Goal::Cheapest => None,
                };
                (Some(filters.clone()), soft, *leeway)
            }
        };
        let tables = (0..).zip(shapes).map(|(id, shape)| {
            let config = configs.as_ref().map(|configs: &Vec<FilterConfig>| &configs[usize::from(id)]);
            let follows_updates = config.is_some_and(|config| config.function == Significance::UsualUpdate);
            TableFilter::new(TableId(id), shape, follows_updates)
        });
        Self { tables: tables.collect(), configs, soft, leeway }
    }

    /// Adds a worker's deltas to what has accumulated, each as what its value has changed by: where a value has coarse steps
    /// that is not quite what the worker said, and what peers are to add is what was added here.
    ///
    /// # Panics
    ///
    /// If the table or an index does not exist. Decoding checks them, so that is our own bug.
    pub fn offer(&mut self, deltas: &Elements) {
        self.tables[deltas.table.index()].offer(deltas);
    }

    /// Ends a clock at which nothing is released.
    pub fn hold(&mut self) {
        for table in self.tables.iter_mut().filter(|table| !table.is_idle()) {
            table.end_clock();
            table.hold();
        }
    }

    /// Ends clock `t` (counted from one): appends what is significant to `out`, at most one entry for each table.
    ///
    /// `values` are the current values of each table, `[slots * width]`, with all that was offered added to them.
    ///
    /// # Panics
    ///
    /// If `values` do not fit the shapes of the tables.
    pub fn release(&mut self, t: Clock, values: &[&[f32]], out: &mut Vec<Elements>) {
        self.end_clock(values);
        self.release_raised(t, values, Fit::NONE, out);
    }

    /// The same where what is released is to take about `allowed` bytes of payload: thresholds are raised as far as it
    /// takes, those of all tables alike. Costs a second look at what has accumulated.
    ///
    /// # Panics
    ///
    /// Likewise.
    pub fn release_within(
        &mut self,
        allowed: f64,
        t: Clock,
        values: &[&[f32]],
        out: &mut Vec<Elements>,
    ) -> Fit {
        self.end_clock(values);
        let Some(configs) = &self.configs else {
            self.release_raised(t, values, Fit::NONE, out);
            return Fit::NONE;
        };
        let mut censuses = Vec::with_capacity(self.tables.len());
        for ((table, config), values) in self.tables.iter().zip(configs).zip(values) {
            let mut census = Census::new(table.shape().elements(), config.values);
            let threshold = self.threshold(config, t).max(LEAST_THRESHOLD);
            table.count(
                Measure::new(config, threshold, table.usual_update(), values, table.shape().width),
                &mut census,
            );
            censuses.push(census);
        }
        let fit = census::fit(&censuses, allowed);
        self.release_raised(t, values, fit, out);
        fit
    }

    fn end_clock(&mut self, values: &[&[f32]]) {
        assert_eq!(values.len(), self.tables.len(), "values of each table");
        for (table, values) in self.tables.iter_mut().zip(values) {
            assert_eq!(values.len(), table.shape().elements(), "values fill the table");
            if !table.is_idle() {
                table.end_clock();
            }
        }
    }

    /// What the significance of an element has to exceed at clock `t`.
    fn threshold(&self, config: &FilterConfig, t: Clock) -> f64 {
        let threshold = config.threshold_at(t) * self.soft_factor();
        match config.function {
            Significance::UsualUpdate => self.leeway.bound(threshold),
            _ => threshold,
        }
    }

    fn release_raised(&mut self, t: Clock, values: &[&[f32]], fit: Fit, out: &mut Vec<Elements>) {
        let raised = |threshold: f64| match fit.raised > 1.0 {
            true => threshold.max(LEAST_THRESHOLD) * fit.raised,
            false => threshold,
        };
        let thresholds = self.configs.iter().flatten().map(|config| raised(self.threshold(config, t)));
        let thresholds: Vec<f64> = thresholds.collect();
        for (i, (table, values)) in self.tables.iter_mut().zip(values).enumerate() {
            if table.is_idle() {
                continue;
            }
            let measure = match &self.configs {
                None => Measure::Everything,
                Some(configs) => {
                    let (usual, width) = (table.usual_update(), table.shape().width);
                    Measure::new(&configs[i], thresholds[i], usual, values, width)
                }
            };
            table.release(measure, Turns::new(fit, t.0), out);
        }
    }

    /// What has accumulated in a table, `[slots * width]`.
    pub fn accumulated(&self, table: TableId) -> &[f32] {
        self.tables[table.index()].accumulated()
    }

    /// What a table is filtered by now; none where everything is shipped.
    pub fn figures(&self, table: TableId) -> Option<TableFigures<'_>> {
        let config = self.configs.as_ref()?.get(table.index())?;
        Some(self.tables[table.index()].figures(config))
    }

    /// Whether nothing has accumulated.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(TableFilter::is_idle)
    }

    /// Appends all that has accumulated to `out`, significant or not: the last flush of a job.
    pub fn flush_all(&mut self, out: &mut Vec<Elements>) {
        for table in &mut self.tables {
            table.release(Measure::Everything, Turns::ALL, out);
        }
    }

    /// Tells the soft threshold, once a clock, how each peer is reached, just before the clock's release; `clock_length` is
    /// how long the clock took. Without a soft threshold ([`Goal::Cheapest`]) nothing changes.
    pub fn observe(&mut self, reached: impl IntoIterator<Item = Reachability>, clock_length: Duration) {
        if let Some(soft) = &mut self.soft {
            soft.observe(reached, clock_length);
        }
    }

    /// A clock has ended: thresholds that follow updates are bounded by [how alike](Leeway::end_clock) those are found.
    pub fn give_leeway(&mut self, likeness: Option<f64>, opposed: bool) {
        self.leeway.end_clock(likeness, opposed);
    }

    /// Whether what is released depends on how peers are reached.
    pub fn follows_links(&self) -> bool {
        self.soft.is_some()
    }

    /// By what the hard threshold is multiplied now: above zero and at most one.
    pub fn soft_factor(&self) -> f64 {
        self.soft.as_ref().map_or(1.0, SoftThresholds::factor)
    }

    /// What the filter has seen and let pass, of all tables.
    pub fn counters(&self) -> FilterCounters {
        self.tables.iter().map(TableFilter::counters).sum()
    }

    /// What has accumulated and not been released, for a checkpoint: at most one entry for each table.
    pub fn remainders(&self) -> Vec<Elements> {
        self.tables.iter().map(TableFilter::remainder).filter(|r| !r.is_empty()).collect()
    }

    /// Adds `remainder` to what has accumulated without counting it as an update.
    ///
    /// It comes from [`Self::remainders`] of a checkpoint, or is what a lossy encoding of values left over.
    ///
    /// # Panics
    ///
    /// If the table or an index does not exist.
    pub fn restore(&mut self, remainder: &Elements) {
        self.tables[remainder.table.index()].restore(remainder);
    }
}

#[cfg(test)]
mod tests;
