//! What a comparison found: plain data that reports render and `--json` writes as it stands.
//!
//! Bytes are bytes on the wire (IP and UDP headers included) unless a name says payload; seconds
//! are virtual.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::filters::{FilterStatus, by_table};
use crate::job::strategy::Strategy;

/// The same job and seed under several strategies.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The job's name.
    pub job: String,
    /// The seed of every random choice.
    pub seed: u64,
    /// What every run was asked to reach.
    pub target: Target,
    /// One entry for each strategy whose run ended, in the order asked for.
    pub runs: Vec<Run>,
    /// Where `asp` missed the target: what it does with one setting changed. Not written where
    /// there is nothing to explain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Trial>,
    /// Those whose run broke; not written where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failure>,
}

impl Comparison {
    /// Whether `asp` missed a target that is not known to be out of reach of one datacenter as
    /// well.
    pub fn needs_explanation(&self) -> bool {
        let of = |strategy: Strategy| self.runs.iter().find(|run| run.strategy == strategy.name());
        self.target.value.is_finite()
            && of(Strategy::Asp).is_some_and(|asp| !asp.reached_target)
            && of(Strategy::Lan).is_none_or(|lan| lan.reached_target)
    }
}

/// A run of `asp` with other settings than the job's, to find out why it missed the target.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// What was changed.
    pub change: Change,
    /// Its run, judged by the same target.
    pub run: Run,
}

/// What a [`Trial`] takes away from `asp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Its filter: every threshold is zero, and everything is shipped.
    NoThreshold,
    /// Its lead: every region waits for the others at every clock.
    NoLead,
    /// Both.
    Neither,
}

/// A strategy that has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The strategy's name.
    pub strategy: String,
    /// Why its run broke, in words.
    pub reason: String,
}

/// The figure at which a run counts as done.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// `objective`, or the name of the application's metric.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

/// One strategy's run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The strategy's name.
    pub strategy: String,
    /// Whether every region's copy of the model reached the target in training: what the final
    /// exchange adds, when filters ship all that they still hold back, does not count.
    pub reached_target: bool,
    /// When the last region reached it.
    pub seconds_to_target: Option<f64>,
    /// WAN bytes sent until then.
    pub wan_bytes_to_target: Option<u64>,
    /// Length of the whole run.
    pub seconds: f64,
    /// All WAN bytes, over all links and both directions.
    pub wan_bytes: u64,
    /// Of these, indexes and values of updates, counted once.
    pub wan_payload_bytes: u64,
    /// What shipping every update of this run, summed per clock, would have cost on the wire;
    /// `null` where nothing was mirrored, and so nothing counted.
    pub naive_wan_bytes: Option<u64>,
    /// Clocks completed by the slowest region.
    pub clocks: u32,
    /// The training objective at the end, of the worst region's copy.
    pub objective: f64,
    /// The metric at the end, of the worst region's copy.
    pub metric: MetricValue,
    /// Seconds that a worker's reads were held, by reason, as the mean over workers. They add up to
    /// no more than the worker waited: where shards held a read for different reasons at the same
    /// time, these share the time.
    pub holds: BTreeMap<String, f64>,
    /// Seconds that a worker computed, as the mean over workers.
    pub computing_seconds: f64,
    /// The same as `holds`, region by region, and for which other region: which link or region
    /// costs the time.
    pub waits: Vec<RegionWait>,
    /// One entry for each directed pair of regions that exchanged anything.
    pub links: Vec<LinkBytes>,
    /// The objective over time: the start, then every clock that is scored, the last one among
    /// them. The last point is the end of the run, after the final exchange.
    pub curve: Vec<Point>,
    /// Mean virtual seconds of a clock.
    pub clock_seconds: f64,
    /// Share of updated elements that the significance filter shipped; `null` where nothing was
    /// mirrored.
    pub filter_hit_rate: Option<f64>,
    /// What the filter decided by, at every clock that is scored; not written where everything is
    /// shipped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<FilterPoint>,
}

/// What filters had come to when the last region had completed a clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FilterPoint {
    /// The clock.
    pub clock: u32,
    /// How many clocks there were from one release to the next, as the mean over the shards of all
    /// regions.
    pub release_every: f64,
    /// The same of each table.
    pub tables: Vec<TablePoint>,
}

/// What the filter of a table had come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TablePoint {
    /// Means over the shards of all regions, with elements in sum.
    #[serde(flatten)]
    pub filter: FilterStatus,
    /// Which share of the updated elements had been shipped by then.
    pub shipped_share: Option<f64>,
}

impl FilterPoint {
    /// What `filters`, of all shards of all regions, come to, which release `every` so many clocks;
    /// none where there are none.
    pub fn over(clock: u32, filters: &[FilterStatus], every: &[u32]) -> Option<Self> {
        let tables = by_table(filters).into_iter();
        let tables = tables.map(|filter| TablePoint { shipped_share: filter.shipped_share(), filter });
        let release_every = every.iter().map(|every| f64::from(*every)).sum::<f64>() / every.len() as f64;
        (!filters.is_empty()).then(|| Self { clock, release_every, tables: tables.collect() })
    }
}

/// For how long the reads of a region's workers were held for one cause.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegionWait {
    /// The region.
    pub region: String,
    /// The reason, as in [`Run::holds`].
    pub reason: String,
    /// The region that was waited for, where it was another one.
    pub waits_for: Option<String>,
    /// The mean over the region's workers.
    pub seconds: f64,
}

/// A named figure.
#[derive(Clone, Debug, Serialize)]
pub struct MetricValue {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Whether larger values are better.
    #[serde(skip)]
    pub larger_is_better: bool,
}

/// Bytes that crossed one directed link.
#[derive(Clone, Debug, Serialize)]
pub struct LinkBytes {
    /// The sending region.
    pub from: String,
    /// The receiving region.
    pub to: String,
    /// Indexes and values of updates, counted once.
    pub payload: u64,
    /// Envelopes, control messages, QUIC, UDP and IP headers, handshakes.
    pub framing: u64,
    /// Bytes sent again: after a loss, or after a connection broke.
    pub retransmitted: u64,
    /// All of them.
    pub total: u64,
}

/// One evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// When the last region completed the clock.
    pub seconds: f64,
    /// The clock.
    pub clock: u32,
    /// The objective of the worst region's copy.
    pub objective: f64,
    /// The metric of the worst region's copy.
    pub metric: f64,
    /// WAN bytes sent so far.
    pub wan_bytes: u64,
}
