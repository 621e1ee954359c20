//! The objective over time: copies of the model as its shards complete a clock, scored.
//!
//! Each datacenter has a copy of its own, and they differ. What is reported is the worst copy's figure, at the time at
//! which the last datacenter completed the clock: a job is as far as its slowest region.
//!
//! A copy is scored the moment its own shards complete a clock, before what others did in that clock has crossed the WAN.
//! That is how far the copy is at that time, and the same for all strategies that mirror: `bsp` has no handicap against
//! `asp`, though one clock's exchange later its copies would be better. They are scored then too, at the next point; the
//! difference is below what times to the target are exact to anyway, the clocks between two points. `lan` and
//! `stretched` have one copy, in which a clock is complete when it is scored.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datacenter::{Clock, Placement, TableId, TableSpec};
use wan::driver::server::Observer;
use wan::node::Node;

use crate::application::{Application, Evaluation};
use crate::model::{ShardValues, Snapshot};
use crate::outcome::Point;

/// Scores models.
pub(super) struct Scorer<'a> {
    application: &'a dyn Application,
    placement: Placement,
    widths: Vec<usize>,
}

impl<'a> Scorer<'a> {
    pub(super) fn new(application: &'a dyn Application, specs: &[TableSpec], placement: Placement) -> Self {
        let widths = specs.iter().map(|spec| spec.width as usize).collect();
        Self { application, placement, widths }
    }

    /// Scores the model with these shards, which are all there are.
    pub(super) fn score(&self, shards: &[ShardValues]) -> Evaluation {
        let snapshot = Snapshot::new(self.placement, &self.widths, shards);
        self.application.evaluate(&snapshot)
    }
}

/// Copies of the values of all shards that a node hosts, by shard id.
pub(super) fn copy_shards(node: &Node) -> Vec<(usize, ShardValues)> {
    let copies = node.replicas().iter().map(|replica| {
        let shard = replica.shard();
        let tables = (0..shard.table_count()).map(|t| shard.values(TableId(t as u16)).to_vec());
        (shard.id().index(), tables.collect())
    });
    copies.collect()
}

/// A copy of a node's shards at a clock.
pub(super) struct Sample {
    pub(super) site: usize,
    pub(super) server: usize,
    pub(super) clock: Clock,
    pub(super) at: Duration,
    pub(super) shards: Vec<(usize, ShardValues)>,
    /// Whether this clock is to be scored.
    pub(super) is_due: bool,
}

/// Passes samples from a node's task to whoever scores them.
pub(super) struct Sampler {
    pub(super) site: usize,
    pub(super) server: usize,
    pub(super) every: u32,
    /// The last clock, which is scored in any case: a target that is reached there is reached in training.
    pub(super) end: u32,
    pub(super) last: u32,
    pub(super) start: Instant,
    pub(super) samples: tokio::sync::mpsc::UnboundedSender<Sample>,
}

impl Observer for Sampler {
    fn clock(&mut self, node: &Node, clock: Clock, now: Instant) {
        let is_due = clock.0 / self.every > self.last / self.every || clock.0 == self.end;
        self.last = clock.0;
        let shards = if is_due { copy_shards(node) } else { Vec::new() };
        let at = now.saturating_duration_since(self.start);
        // The receiver is gone only when the run is over.
        let _ = self.samples.send(Sample { site: self.site, server: self.server, clock, at, shards, is_due });
    }
}

/// Joins samples into models, and scores of models into points.
pub(super) struct Recorder {
    models: usize,
    shards: usize,
    /// By clock and model.
    parts: BTreeMap<(u32, usize), BTreeMap<usize, ShardValues>>,
    scores: BTreeMap<u32, Vec<Evaluation>>,
    points: Vec<Point>,
}

impl Recorder {
    pub(super) fn new(models: usize, shards: usize) -> Self {
        Self { models, shards, parts: BTreeMap::new(), scores: BTreeMap::new(), points: Vec::new() }
    }

    /// Takes a sample of `model`. Yields the model's score if this was its last shard, and adds a point once all
    /// models have reached the clock.
    pub(super) fn take(
        &mut self,
        sample: Sample,
        model: usize,
        wan_bytes: u64,
        scorer: &Scorer<'_>,
    ) -> Option<Evaluation> {
        let clock = sample.clock.0;
        let parts = self.parts.entry((clock, model)).or_default();
        parts.extend(sample.shards);
        if parts.len() < self.shards {
            return None;
        }
        let shards: Vec<ShardValues> = self.parts.remove(&(clock, model))?.into_values().collect();
        let score = scorer.score(&shards);
        let scores = self.scores.entry(clock).or_default();
        scores.push(score);
        if scores.len() == self.models
            && let Some(scores) = self.scores.remove(&clock)
        {
            self.points.push(point(sample.at, clock, &scores, wan_bytes));
        }
        Some(score)
    }

    /// The points so far, in the order of time.
    pub(super) fn into_points(self) -> Vec<Point> {
        self.points
    }
}

/// The worst of several scores, at a time.
pub(super) fn point(at: Duration, clock: u32, scores: &[Evaluation], wan_bytes: u64) -> Point {
    let objective = scores.iter().map(|s| s.objective).fold(f64::NEG_INFINITY, worse);
    let larger_is_better = scores.first().is_some_and(|s| s.metric.larger_is_better);
    let metrics = scores.iter().map(|s| s.metric.value);
    let metric = match larger_is_better {
        true => -metrics.map(|m| -m).fold(f64::NEG_INFINITY, worse),
        false => metrics.fold(f64::NEG_INFINITY, worse),
    };
    Point { seconds: at.as_secs_f64(), clock, objective, metric, wan_bytes }
}

/// The larger, where a NaN is larger than everything.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
