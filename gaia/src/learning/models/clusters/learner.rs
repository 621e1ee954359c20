//! One worker's examples, and to which cluster each was assigned last.

use rand::seq::SliceRandom;

use super::{COUNTS, Centers, KMeans, SEEDS, SUMS, has_examples};
use crate::learning::application::{Learner, RowSet, StepError, Tables, Work};
use crate::learning::data::{Purpose, stream};

/// An example that has not been assigned yet.
const NOWHERE: u32 = u32::MAX;

pub(super) struct ClusterLearner<'a> {
    application: &'a KMeans,
    /// In the order in which they are visited.
    examples: Vec<u32>,
    /// The last cluster of each; shape `[examples]`.
    assigned: Vec<u32>,
    /// How many examples train the model, of all workers.
    total: f64,
    has_begun: bool,
    centers: Centers,
    /// The seeds that have been declared for this clock.
    seeds: Vec<u32>,
    /// What changes; shapes `[clusters, features]` and `[clusters]`.
    sums: Vec<f64>,
    counts: Vec<f64>,
    /// Whether a cluster changes; shape `[clusters]`.
    is_touched: Vec<bool>,
}

impl<'a> ClusterLearner<'a> {
    pub(super) fn new(application: &'a KMeans, mut examples: Vec<u32>, share: f64, seed: u64) -> Self {
        let (clusters, features) = (application.clusters(), application.data.features as usize);
        examples.shuffle(&mut stream(seed, Purpose::Order, 0));
        Self {
            assigned: vec![NOWHERE; examples.len()],
            total: if share > 0.0 { examples.len() as f64 / share } else { f64::INFINITY },
            examples,
            has_begun: false,
            centers: Centers::new(clusters, features),
            seeds: Vec::new(),
            sums: vec![0.0; clusters * features],
            counts: vec![0.0; clusters],
            is_touched: vec![false; clusters],
            application,
        }
    }

    /// Puts the centers where the tables have them; false where seeds have been asked for first.
    fn load(&mut self, tables: &mut dyn Tables) -> bool {
        let counts = tables.row(COUNTS, 0);
        let is_empty = |cluster: &u32| !has_examples(counts[*cluster as usize]);
        let missing =
            (0..counts.len() as u32).filter(is_empty).filter(|cluster| !self.seeds.contains(cluster));
        let missing: Vec<u32> = missing.collect();
        if !missing.is_empty() {
            tables.extend(SEEDS, &missing);
            self.seeds.extend(missing);
            return false;
        }
        self.centers.load(tables.rows(SUMS), counts, |cluster| tables.row(SEEDS, cluster as u32));
        true
    }

    /// Before the first assignment at `clock`: takes over what a process before this one has left in
    /// the tables, if anything.
    fn begin(&mut self, clock: u32, tables: &dyn Tables) {
        self.has_begun = true;
        let found: f64 = tables.row(COUNTS, 0).iter().map(|&count| f64::from(count)).sum();
        if clock == 0 || found < self.total - 0.5 * self.examples.len() as f64 {
            return;
        }
        let rows = &self.application.data.train.rows;
        for (&example, assigned) in self.examples.iter().zip(&mut self.assigned) {
            *assigned = self.centers.nearest(rows.row(example as usize)).0;
        }
    }

    /// Assigns the example at `place`, and notes what that changes.
    fn visit(&mut self, place: usize) {
        let row = self.application.data.train.rows.row(self.examples[place] as usize);
        let (cluster, _) = self.centers.nearest(row);
        let before = std::mem::replace(&mut self.assigned[place], cluster);
        if before == cluster {
            return;
        }
        let features = self.application.data.features as usize;
        for (cluster, sign) in [(before, -1.0), (cluster, 1.0)] {
            if cluster == NOWHERE {
                continue;
            }
            let cluster = cluster as usize;
            let sums = &mut self.sums[cluster * features..][..features];
            let entries = row.features.iter().zip(row.values);
            entries.for_each(|(&feature, &value)| sums[feature as usize] += sign * f64::from(value));
            self.counts[cluster] += sign;
            self.is_touched[cluster] = true;
        }
    }

    /// Adds all changes to the tables and forgets them.
    fn add_changes(&mut self, tables: &mut dyn Tables) {
        if !self.is_touched.contains(&true) {
            return;
        }
        let features = self.application.data.features as usize;
        let mut delta = Vec::with_capacity(features);
        for (cluster, sums) in self.sums.chunks_exact_mut(features).enumerate() {
            if std::mem::take(&mut self.is_touched[cluster]) {
                delta.clear();
                delta.extend(sums.iter().map(|&sum| sum as f32));
                tables.add(SUMS, cluster as u32, &delta);
                sums.fill(0.0);
            }
        }
        let counts: Vec<f32> = self.counts.iter().map(|&count| count as f32).collect();
        tables.add(COUNTS, 0, &counts);
        self.counts.fill(0.0);
    }
}

impl Learner for ClusterLearner<'_> {
    fn rows(&mut self, _clock: u32, rows: &mut RowSet) {
        let clusters = self.application.settings.clusters;
        rows.insert_all(SUMS, clusters);
        rows.insert(COUNTS, 0);
        self.seeds.clear();
        if !self.has_begun {
            rows.insert_all(SEEDS, clusters);
            self.seeds.extend(0..clusters);
        }
    }

    fn step(&mut self, clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        if !self.load(tables) {
            return Ok(Work::examples(0));
        }
        if !self.has_begun {
            self.begin(clock, tables);
        }
        let all = self.examples.len();
        let count = self.application.settings.batch.map_or(all, |batch| (batch as usize).min(all));
        let first = u64::from(clock).saturating_mul(count as u64);
        for offset in 0..count as u64 {
            self.visit(((first + offset) % all as u64) as usize);
        }
        self.add_changes(tables);
        Ok(Work::examples(count as u64))
    }
}
