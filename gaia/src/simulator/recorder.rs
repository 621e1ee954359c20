//! The objective over time: the model as of a clock, scored.
//!
//! Each datacenter has a copy of its own, and they differ. What is reported is the worst copy's
//! figure, at the time at which the last datacenter had that copy: a job is as far as its slowest
//! region.
//!
//! Every strategy is scored by the same cut through the run: *the copy as of clock `c`* is the
//! initial values, and of each region what it had done, and let others have, when it completed `c`.
//! That is
//!
//! ```text
//! initial + released by every region up to clock c + what the region's own filter holds back at clock c
//! ```
//!
//! and a region has it once it has completed `c` itself, and what the others released up to then
//! has arrived. Under `bsp`, `ssp` and `async` nothing is held back, so all copies are the same and
//! are the model that `lan` has at that clock, but for what late reads do to it; under `asp` a copy
//! lacks what the others' filters hold back. `lan` and `stretched` have one copy, in which a clock
//! is complete when its workers have flushed it; under `isolated` nothing is ever released.
//!
//! The live values at the moment at which a region completes `c` are no measure: they have the
//! region's own part of that clock, and not yet the others'. Where regions have different data
//! (labels, users) such a copy leans towards its own, the more the longer a clock is, and no
//! strategy but `lan` would ever get to the target, though one exchange later, which is when
//! workers read it under `bsp`, the copy is as good as `lan`'s. Nor do the live values treat
//! strategies alike: how much of the others' a copy has depends on how far regions may run apart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use datacenter::{Clock, Elements, Placement, TableId, TableSpec};
use wan::driver::server::Observer;
use wan::node::Node;
use wan::replica::Replica;

use crate::filters::FilterStatus;
use crate::learning::application::{Application, Evaluation, Model, ShardValues};
use crate::simulator::results::{FilterPoint, Point};

/// Scores models.
pub(super) struct Scorer<'a> {
    application: &'a dyn Application,
    placement: Placement,
    specs: &'a [TableSpec],
}

impl<'a> Scorer<'a> {
    pub(super) fn new(
        application: &'a dyn Application,
        specs: &'a [TableSpec],
        placement: Placement,
    ) -> Self {
        Self { application, placement, specs }
    }

    /// Scores the model with these shards, which are all there are.
    pub(super) fn score(&self, shards: &[ShardValues]) -> Evaluation {
        self.application.evaluate(&Model::of_shards(self.placement, self.specs, shards))
    }
}

/// Copies of the values of all shards that a node hosts, by shard id.
pub(super) fn copy_shards(node: &Node) -> Vec<(usize, ShardValues)> {
    node.replicas().iter().map(|replica| (replica.shard().id().index(), values(replica))).collect()
}

fn values(replica: &Replica) -> ShardValues {
    let shard = replica.shard();
    tables(replica).map(|table| shard.values(table).to_vec()).collect()
}

fn tables(replica: &Replica) -> impl Iterator<Item = TableId> {
    (0..replica.shard().table_count()).map(|table| TableId(table as u16))
}

/// The most models that wait for regions which have not completed their clock, and the most that
/// these take.
const MOST_CUTS: usize = 1024;
const MOST_CUT_BYTES: u64 = 1 << 30;

/// What models that wait to be scored take at most, where one has so many `elements` and regions
/// have so many `copies`.
pub(super) fn most_bytes(elements: u64, copies: u64, clocks: u64) -> u64 {
    // The values, and an index and a value of each that a region holds back.
    let of_cut = elements.saturating_mul(4u64.saturating_add(copies.saturating_mul(8)));
    let all = of_cut.saturating_mul(clocks.min(MOST_CUTS as u64));
    // However large one is, it is there, and the next one that crosses the bound.
    all.min(MOST_CUT_BYTES.saturating_add(of_cut.saturating_mul(2)))
}

/// Which clocks are scored: every so many, and the last one, at which a target that is reached is
/// reached in training. Where a region is far behind the others, fewer: every second of these,
/// every fourth, and so on. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct ScoredClocks {
    every: u32,
    end: u32,
    stride: Arc<AtomicU32>,
}

impl ScoredClocks {
    pub(super) fn new(every: u32, end: u32) -> Self {
        Self { every, end, stride: Arc::new(AtomicU32::new(1)) }
    }

    /// Whether one of the clocks after `last` up to `clock` is to be scored, of which `clock` is
    /// the one that was seen.
    fn is_due(&self, last: u32, clock: u32) -> bool {
        (clock / self.every > last / self.every || clock == self.end) && self.has(clock)
    }

    /// Whether `clock`, which was due, still is.
    fn has(&self, clock: u32) -> bool {
        clock == self.end || (clock / self.every).is_multiple_of(self.stride.load(Ordering::Relaxed))
    }

    /// Scores half as many from now on; none where only the last is left.
    fn thin_out(&self) -> Option<u32> {
        let stride = self.stride.load(Ordering::Relaxed);
        if stride > self.end / self.every {
            return None;
        }
        self.stride.store(stride * 2, Ordering::Relaxed);
        Some(stride * 2)
    }
}

/// What a datacenter's shard has to do with the model as of a clock.
pub(super) struct Part {
    shard: usize,
    /// Where it is mirrored, what it has released of its own updates, in sum; else its values.
    values: ShardValues,
    /// What it has not released.
    held_back: Vec<Elements>,
    /// What its filter has come to, and how often it releases.
    filters: Vec<FilterStatus>,
    release_every: u32,
}

impl Part {
    fn of(replica: &Replica, is_mirrored: bool, specs: &[TableSpec]) -> Self {
        let (values, held_back) = match is_mirrored {
            false => (values(replica), Vec::new()),
            true => (
                tables(replica).map(|table| replica.released(table).to_vec()).collect(),
                replica.filter().remainders(),
            ),
        };
        Self {
            shard: replica.shard().id().index(),
            values,
            held_back,
            filters: FilterStatus::of(replica, specs),
            release_every: replica.release_every(),
        }
    }
}

/// A server has completed a clock.
pub(super) struct Sample {
    pub(super) site: usize,
    pub(super) server: usize,
    pub(super) clock: Clock,
    pub(super) at: Duration,
    /// If this clock is to be scored.
    pub(super) parts: Option<Vec<Part>>,
}

/// What a server's task tells whoever scores.
pub(super) enum SampleEvent {
    /// It has completed a clock.
    Completed(Sample),
    /// It has completed a clock that is to be scored, and of all others what they released up to
    /// then has arrived.
    Arrived { clock: Clock, at: Duration },
}

/// Passes samples from a node's task to whoever scores them.
pub(super) struct Sampler {
    pub(super) site: usize,
    pub(super) server: usize,
    pub(super) is_mirrored: bool,
    pub(super) specs: Arc<[TableSpec]>,
    pub(super) scored: ScoredClocks,
    pub(super) last: u32,
    /// Clocks to be scored of which not everything has arrived from the others.
    pub(super) incomplete: VecDeque<Clock>,
    pub(super) start: Instant,
    pub(super) events: tokio::sync::mpsc::UnboundedSender<SampleEvent>,
}

impl Observer for Sampler {
    fn clock(&mut self, node: &Node, clock: Clock, now: Instant) {
        let is_due = self.scored.is_due(self.last, clock.0);
        self.last = clock.0;
        let part = |replica| Part::of(replica, self.is_mirrored, &self.specs);
        let parts = is_due.then(|| node.replicas().iter().map(part).collect());
        if is_due {
            self.incomplete.push_back(clock);
        }
        let Self { site, server, .. } = *self;
        self.send(SampleEvent::Completed(Sample { site, server, clock, at: self.at(now), parts }));
    }

    fn handled(&mut self, node: &Node, now: Instant) {
        if self.incomplete.is_empty() {
            return;
        }
        let mirrors = 0..node.datacenters().count();
        let arrived = |replica: &Replica| mirrors.clone().map(|at| replica.inbox(at).arrived_clock()).min();
        let arrived = node.replicas().iter().filter_map(arrived).min();
        while let Some(&clock) = self.incomplete.front()
            && arrived.is_none_or(|arrived| arrived >= clock)
        {
            self.incomplete.pop_front();
            self.send(SampleEvent::Arrived { clock, at: self.at(now) });
        }
    }
}

impl Sampler {
    fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    fn send(&self, event: SampleEvent) {
        // The receiver is gone only when the run is over.
        let _ = self.events.send(event);
    }
}

/// What there is to be joined.
pub(super) struct Layout<'a> {
    /// How many copies of the model there are.
    pub(super) models: usize,
    /// How many servers have a part of one.
    pub(super) servers: usize,
    /// The initial values, by shard, where datacenters mirror each other's shards and parts are
    /// what is added to them.
    pub(super) initial: Option<&'a [ShardValues]>,
    /// Which clocks are scored.
    pub(super) scored: ScoredClocks,
}

/// Joins samples into models, and scores of models into points.
///
/// Memory: for each clock that some regions have completed and others have not, one model, and what
/// each region holds back. Where a region is so far behind that these would be too many, every
/// other of them is given up.
pub(super) struct Recorder<'a> {
    layout: Layout<'a>,
    cuts: BTreeMap<u32, Cut>,
    points: Vec<Point>,
    filter: Vec<FilterPoint>,
    most_cut_bytes: u64,
}

/// The models as of a clock.
struct Cut {
    /// By model, or a single one where all have the same but for what is held back; each by shard.
    values: Vec<BTreeMap<usize, ShardValues>>,
    /// By model and shard.
    held_back: Vec<Vec<(usize, Elements)>>,
    /// Of all shards of all regions.
    filters: Vec<FilterStatus>,
    release_every: Vec<u32>,
    /// How many servers have not completed the clock.
    to_complete: usize,
    /// How many servers lack anything of others.
    to_arrive: usize,
    /// By model, once all have completed the clock.
    scores: Vec<Evaluation>,
    /// What `values` and `held_back` take.
    bytes: u64,
}

impl Cut {
    fn new(layout: &Layout<'_>) -> Self {
        let values = match layout.initial {
            Some(initial) => vec![initial.iter().cloned().enumerate().collect()],
            None => vec![BTreeMap::new(); layout.models],
        };
        let bytes = values.iter().flat_map(BTreeMap::values).map(bytes_of).sum();
        Self {
            values,
            bytes,
            held_back: vec![Vec::new(); layout.models],
            filters: Vec::new(),
            release_every: Vec::new(),
            to_complete: layout.servers,
            to_arrive: layout.servers,
            scores: Vec::new(),
        }
    }

    fn add(&mut self, part: Part, model: usize) {
        let Part { shard, values, held_back, filters, release_every } = part;
        self.filters.extend(filters);
        self.release_every.push(release_every);
        let common = self.values.len() - 1;
        let place = &mut self.values[model.min(common)];
        match place.get_mut(&shard) {
            None => {
                self.bytes += bytes_of(&values);
                _ = place.insert(shard, values);
            }
            Some(sums) => sums.iter_mut().zip(&values).for_each(|(sums, values)| add(sums, values)),
        }
        let held_bytes = |elements: &Elements| 8 * elements.indexes.len() as u64;
        self.bytes += held_back.iter().map(held_bytes).sum::<u64>();
        self.held_back[model].extend(held_back.into_iter().map(|elements| (shard, elements)));
    }

    fn score(&self, scorer: &Scorer<'_>) -> Vec<Evaluation> {
        let models: Vec<Vec<ShardValues>> =
            self.values.iter().map(|model| model.values().cloned().collect()).collect();
        let mut plain = vec![None; models.len()];
        let score = |(at, held_back): (usize, &Vec<(usize, Elements)>)| {
            let at = at.min(models.len() - 1);
            if held_back.is_empty() {
                // The same for all that have it.
                return *plain[at].get_or_insert_with(|| scorer.score(&models[at]));
            }
            let mut model = models[at].clone();
            for (shard, elements) in held_back {
                let table = &mut model[*shard][elements.table.index()];
                for (&index, &value) in elements.indexes.iter().zip(&elements.values) {
                    table[index as usize] += value;
                }
            }
            scorer.score(&model)
        };
        self.held_back.iter().enumerate().map(score).collect()
    }
}

fn bytes_of(values: &ShardValues) -> u64 {
    values.iter().map(|table| 4 * table.len() as u64).sum()
}

fn add(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

impl<'a> Recorder<'a> {
    pub(super) fn new(layout: Layout<'a>) -> Self {
        let (cuts, most_cut_bytes) = (BTreeMap::new(), MOST_CUT_BYTES);
        Self { layout, cuts, points: Vec::new(), filter: Vec::new(), most_cut_bytes }
    }

    /// A server has completed `clock`, with these parts of `model`. Yields all models' scores if it
    /// was the last one.
    pub(super) fn complete(
        &mut self,
        clock: Clock,
        parts: Vec<Part>,
        model: usize,
        scorer: &Scorer<'_>,
    ) -> Option<&[Evaluation]> {
        if !self.layout.scored.has(clock.0) {
            return None;
        }
        let cut = self.cuts.entry(clock.0).or_insert_with(|| Cut::new(&self.layout));
        parts.into_iter().for_each(|part| cut.add(part, model));
        cut.to_complete -= 1;
        if cut.to_complete > 0 {
            return None;
        }
        cut.scores = cut.score(scorer);
        let filters = std::mem::take(&mut cut.filters);
        self.filter.extend(FilterPoint::over(clock.0, &filters, &cut.release_every));
        // Only when the last part has arrived everywhere is not known yet.
        (cut.values, cut.held_back, cut.bytes) = (Vec::new(), Vec::new(), 0);
        Some(&cut.scores)
    }

    /// Gives up every other of the clocks that wait for regions to complete them, if they are too
    /// many; yields of how many clocks that are to be scored one is from now on, if that has
    /// changed.
    pub(super) fn thin_out(&mut self) -> Option<u32> {
        let mut stride = None;
        while self.is_crowded()
            && let Some(thinner) = self.layout.scored.thin_out()
        {
            stride = Some(thinner);
            let scored = &self.layout.scored;
            // Those that all have completed only wait for the time at which all have them.
            self.cuts.retain(|clock, cut| cut.to_complete == 0 || scored.has(*clock));
        }
        stride
    }

    fn is_crowded(&self) -> bool {
        let open = self.cuts.values().filter(|cut| cut.to_complete > 0);
        let (count, bytes) = open.fold((0, 0), |(count, bytes), cut| (count + 1, bytes + cut.bytes));
        // One alone is not too many.
        count > MOST_CUTS || (count > 1 && bytes > self.most_cut_bytes)
    }

    /// Another server has everything as of `clock`. Adds a point if it was the last one.
    pub(super) fn arrive(&mut self, clock: Clock, at: Duration, wan_bytes: u64) {
        let Some(cut) = self.cuts.get_mut(&clock.0) else { return };
        cut.to_arrive -= 1;
        if cut.to_arrive == 0 {
            self.points.push(point(at, clock.0, &cut.scores, wan_bytes));
            self.cuts.remove(&clock.0);
        }
    }

    /// The points so far, in the order of time, and what filters had come to.
    pub(super) fn finish(self) -> (Vec<Point>, Vec<FilterPoint>) {
        (self.points, self.filter)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learning::application::{Learner, Metric, Model};
    use crate::simulator::results::TablePoint;

    const CLOCKS: u32 = 40_000;

    /// Region 0 of two runs ahead of region 1 for as long as it likes; yields the recorder, the
    /// clocks at which it thinned out, and how many models waited at most.
    fn lagging(most_cut_bytes: u64) -> (Recorder<'static>, Vec<u32>, usize) {
        let initial: &'static [ShardValues] = Vec::leak(vec![vec![vec![0.0; 256]]]);
        let scored = ScoredClocks::new(1, CLOCKS);
        let layout = Layout { models: 2, servers: 2, initial: Some(initial), scored: scored.clone() };
        let mut recorder = Recorder { most_cut_bytes, ..Recorder::new(layout) };
        let (mut strides, mut most) = (Vec::new(), 0);
        for clock in 1..=CLOCKS {
            if !scored.is_due(clock - 1, clock) {
                continue;
            }
            let cut = recorder.cuts.entry(clock).or_insert_with(|| Cut::new(&recorder.layout));
            cut.add(part(FilterStatus::default(), 1), 0);
            cut.to_complete -= 1;
            strides.extend(recorder.thin_out());
            most = most.max(recorder.cuts.len());
        }
        (recorder, strides, most)
    }

    /// A model of one value, that is never trained.
    struct Nothing;

    impl Application for Nothing {
        fn tables(&self) -> Vec<TableSpec> {
            vec![TableSpec::new("weights", 1, 1)]
        }

        fn initialise(&self, _: TableId, _: u32, _: &mut [f32]) {}

        fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
            vec![Vec::new(); parts]
        }

        fn learner(&self, _: Vec<u32>, _: f64, _: u64) -> Box<dyn Learner + '_> {
            unreachable!("nobody trains")
        }

        fn evaluate(&self, _: &Model) -> Evaluation {
            let metric = Metric { name: "accuracy", value: 1.0, larger_is_better: true, best: None };
            Evaluation { objective: 1.0, metric }
        }
    }

    fn part(filter: FilterStatus, release_every: u32) -> Part {
        let values = vec![vec![1.0; 256]];
        Part { shard: 0, values, held_back: Vec::new(), filters: vec![filter], release_every }
    }

    #[test]
    fn models_that_wait_for_a_region_are_bounded() {
        let (recorder, strides, most) = lagging(MOST_CUT_BYTES);
        assert_eq!((strides.as_slice(), most), (&[2, 4, 8, 16, 32, 64][..], MOST_CUTS));
        let kept: Vec<u32> = recorder.cuts.keys().copied().collect();
        assert!(kept.iter().all(|clock| clock.is_multiple_of(64) || *clock == CLOCKS), "{kept:?}");
        assert_eq!(kept.last(), Some(&CLOCKS), "the last one is scored in any case");
        // A kilobyte each.
        let (recorder, _, most) = lagging(100 << 10);
        assert_eq!(most, 100);
        assert!(recorder.cuts.values().map(|cut| cut.bytes).sum::<u64>() <= 100 << 10);
        // Not even two fit: it goes on, with the last alone.
        let (recorder, _, most) = lagging(1);
        assert_eq!((most, recorder.cuts.keys().copied().collect::<Vec<_>>()), (1, vec![CLOCKS]));
    }

    #[test]
    fn what_filters_have_come_to_is_told_at_each_clock_that_is_scored() {
        let layout = Layout { models: 2, servers: 2, initial: None, scored: ScoredClocks::new(1, CLOCKS) };
        let application = Nothing;
        let specs = application.tables();
        let scorer = Scorer::new(&application, &specs, Placement::new(1));
        let mut recorder = Recorder::new(layout);
        let filter = |threshold, shipped_elements| FilterStatus {
            table: "weights".to_owned(),
            threshold: Some(threshold),
            updated_elements: 50,
            shipped_elements,
            ..FilterStatus::default()
        };
        let one = |recorder: &mut Recorder<'_>, model, filter, every| {
            recorder.complete(Clock(1), vec![part(filter, every)], model, &scorer);
        };
        one(&mut recorder, 0, filter(0.1, 1), 8);
        assert!(recorder.filter.is_empty(), "not all have completed it");
        one(&mut recorder, 1, filter(0.3, 3), 16);
        let (_, found) = recorder.finish();
        let tables = vec![TablePoint {
            filter: FilterStatus { updated_elements: 100, ..filter(0.2, 4) },
            shipped_share: Some(0.04),
        }];
        assert_eq!(found, [FilterPoint { clock: 1, release_every: 12.0, tables }]);
    }

    #[test]
    fn what_is_given_up_does_not_come_back() {
        let (mut recorder, _, _) = lagging(100 << 10);
        let open = recorder.cuts.len();
        let given_up = (1..CLOCKS).find(|clock| !recorder.layout.scored.has(*clock)).expect("most are");
        recorder.arrive(Clock(given_up), Duration::ZERO, 0);
        assert_eq!((recorder.cuts.len(), recorder.points.len()), (open, 0));
    }

    #[test]
    fn what_models_take_that_wait_is_foreseen() {
        assert_eq!(most_bytes(1000, 3, 10), 10 * 28_000);
        assert_eq!(most_bytes(1000, 3, 1_000_000), 1024 * 28_000);
        assert_eq!(most_bytes(1 << 30, 3, 1_000_000), MOST_CUT_BYTES + 2 * 28 * (1 << 30));
        assert_eq!(most_bytes(u64::MAX, 3, 9), u64::MAX);
    }
}
