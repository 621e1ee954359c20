//! k-means clustering by Lloyd's algorithm.
//!
//! Of `n` examples `x`, shape `[features]`, and `k` centers `c`, the objective is the inertia a row,
//!
//! ```text
//! (1 / n) sum_i min_j |x_i - c_j|^2
//! ```
//!
//! Each pass assigns every example to its nearest center (of equally near ones the first), then makes
//! each center the mean of what was assigned to it (Lloyd, IEEE Trans. Inf. Theory 28(2), 1982).
//!
//! Means do not add up over workers, but sums and counts do. Tables `sums`, shape `[k, features]`, and
//! `counts`, shape `[1, k]`, hold those of all examples by their *last* assignment, and a center is
//! their quotient. A worker remembers to which cluster each of its examples was assigned, and adds to
//! the tables what has changed: an example that changes its cluster is added to one and subtracted
//! from the other. So whatever the staleness, the tables hold every example that was visited just
//! once, as some center that was up to date lately had it; nothing oscillates, and once no example
//! changes, nothing is sent. Counts are exact below 2^24.
//!
//! What a worker remembers is lost with its process. The next one takes the assignment to the centers
//! that it reads for what the tables have of its examples, if their counts say that they have them;
//! what differs (examples that changed just then) stays in the tables, and weighs as much as so many
//! examples do.
//!
//! Table `seeds`, shape `[k, features]`, is never changed: it has the first centers, which stand for
//! those of clusters to which nothing is assigned.

mod kind;
mod learner;
mod seeding;

use std::sync::{Arc, OnceLock};

use datacenter::{TableId, TableSpec};
use ndarray::ArrayView2;

use self::learner::ClusterLearner;
use super::lanes::{padded, sparse_product};
use crate::learning::application::{Application, Evaluation, Judgement, Learner, Metric, Model};
use crate::learning::data::partition::{Attributes, partition};
use crate::learning::data::{Observations, Partition, Samples, Slice, SparseRow, Vocabulary};

pub use self::kind::{KMeansKind, KMeansSettings};

const SUMS: TableId = TableId(0);
const COUNTS: TableId = TableId(1);
const SEEDS: TableId = TableId(2);

/// k-means on a data set.
struct KMeans {
    settings: KMeansSettings,
    data: Observations,
    partition: Partition,
    seed: u64,
    /// The first centers, once they are asked for; shape `[k, features]`.
    seeds: OnceLock<Vec<f32>>,
}

/// Whether a cluster has examples: counts are whole numbers, but for those beyond 2^24.
fn has_examples(count: f32) -> bool {
    count >= 0.5
}

/// `|x|^2`.
fn square(row: SparseRow<'_>) -> f64 {
    row.values.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

/// Centers as nearest ones are found by.
#[derive(Clone, Debug)]
struct Centers {
    clusters: usize,
    /// Shape `[features, stride]`, where a row has as many elements as there are clusters, padded.
    transposed: Vec<f32>,
    /// `|c|^2`; shape `[clusters]`.
    squares: Vec<f64>,
    /// `x . c` for each center; shape `[stride]`.
    products: Vec<f32>,
}

impl Centers {
    /// All at zero.
    fn new(clusters: usize, features: usize) -> Self {
        let stride = padded(clusters);
        Self {
            clusters,
            transposed: vec![0.0; features * stride],
            squares: vec![0.0; clusters],
            products: vec![0.0; stride],
        }
    }

    /// Puts center `cluster` where these coordinates are; shape `[features]`.
    fn put(&mut self, cluster: usize, coordinates: impl Iterator<Item = f32>) {
        let mut square = 0.0;
        for (row, value) in self.transposed.chunks_exact_mut(self.products.len()).zip(coordinates) {
            row[cluster] = value;
            square += f64::from(value) * f64::from(value);
        }
        self.squares[cluster] = square;
    }

    /// Puts centers where tables have them; `seed` is asked for those without examples.
    fn load<'a>(
        &mut self,
        sums: ArrayView2<'_, f32>,
        counts: &[f32],
        mut seed: impl FnMut(usize) -> &'a [f32],
    ) {
        for (cluster, (sums, &count)) in sums.rows().into_iter().zip(counts).enumerate() {
            if has_examples(count) {
                self.put(cluster, sums.iter().map(|sum| sum / count));
            } else {
                self.put(cluster, seed(cluster).iter().copied());
            }
        }
    }

    /// The nearest center, and the square of its distance.
    fn nearest(&mut self, row: SparseRow<'_>) -> (u32, f64) {
        self.products.fill(0.0);
        sparse_product(row.features, row.values, &self.transposed, &mut self.products);
        let mut best = (0, f64::INFINITY);
        for (cluster, (square, product)) in self.squares.iter().zip(&self.products).enumerate() {
            let distance = square - 2.0 * f64::from(*product);
            if distance < best.1 {
                best = (cluster as u32, distance);
            }
        }
        (best.0, (best.1 + square(row)).max(0.0))
    }
}

impl KMeans {
    fn clusters(&self) -> usize {
        self.settings.clusters as usize
    }

    fn centers(&self, model: &Model) -> Centers {
        let mut centers = Centers::new(self.clusters(), self.data.features as usize);
        centers.load(model.table(SUMS), model.row(COUNTS, 0), |cluster| model.row(SEEDS, cluster as u32));
        centers
    }

    /// The inertia a row of the samples with these indexes.
    fn inertia(centers: &mut Centers, samples: &Samples, indexes: &mut dyn Iterator<Item = usize>) -> f64 {
        let (mut sum, mut count) = (0.0, 0u64);
        for index in indexes {
            sum += centers.nearest(samples.rows.row(index)).1;
            count += 1;
        }
        sum / count as f64
    }

    fn metric(value: f64) -> Metric {
        Metric { name: "inertia", value, larger_is_better: false, best: Some(0.0) }
    }
}

impl Application for KMeans {
    fn tables(&self) -> Vec<TableSpec> {
        let (clusters, features) = (self.settings.clusters, self.data.features);
        vec![
            TableSpec::new("sums", clusters, features),
            TableSpec::new("counts", 1, clusters),
            TableSpec::new("seeds", clusters, features),
        ]
    }

    fn initialise(&self, table: TableId, row: u32, out: &mut [f32]) {
        if table != SEEDS {
            return;
        }
        let seeds = self.seeds.get_or_init(|| seeding::seeds(&self.settings, &self.data, self.seed));
        out.copy_from_slice(&seeds[row as usize * out.len()..][..out.len()]);
    }

    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        let keys = vec![0; self.data.train.len()];
        partition(self.partition, Attributes { keys: &keys, labels: &keys }, parts, self.seed)
    }

    /// # Panics
    ///
    /// If an example's features were not kept.
    fn learner(&self, examples: Vec<u32>, share: f64, seed: u64) -> Box<dyn Learner + '_> {
        if let Some(slice) = &self.data.slice {
            let is_kept = |example| slice.kept.binary_search(example).is_ok();
            assert!(examples.iter().all(is_kept), "a worker trains on its own slice");
        }
        Box::new(ClusterLearner::new(self, examples, share, seed))
    }

    /// Of the training data, what was kept is scored.
    fn evaluate(&self, model: &Model) -> Evaluation {
        let mut centers = self.centers(model);
        let train = &self.data.train;
        let objective = match &self.data.slice {
            None => Self::inertia(&mut centers, train, &mut (0..train.len())),
            Some(Slice { kept, .. }) => {
                Self::inertia(&mut centers, train, &mut kept.iter().map(|&index| index as usize))
            }
        };
        let test = self.data.test.as_ref();
        let judged = test.map(|test| Self::inertia(&mut centers, test, &mut (0..test.len())));
        Evaluation { objective, metric: Self::metric(judged.unwrap_or(objective)) }
    }

    fn judge(&self, model: &Model) -> Option<Judgement> {
        let test = self.data.test.as_ref()?;
        let inertia = Self::inertia(&mut self.centers(model), test, &mut (0..test.len()));
        let evaluation = Evaluation { objective: inertia, metric: Self::metric(inertia) };
        Some(Judgement { evaluation, examples: test.len() })
    }

    /// The cluster, counted from zero, and the square of the distance to its center.
    fn predicted(&self) -> Vec<String> {
        ["cluster", "squared_distance"].map(str::to_owned).into()
    }

    fn predict(&self, model: &Model, each: &mut dyn FnMut(&[f64])) {
        let mut centers = self.centers(model);
        let samples = self.data.test.as_ref().unwrap_or(&self.data.train);
        for index in 0..samples.len() {
            let (cluster, distance) = centers.nearest(samples.rows.row(index));
            each(&[f64::from(cluster), distance]);
        }
    }

    fn vocabulary(&self) -> Option<Arc<Vocabulary>> {
        Some(Arc::new(self.data.vocabulary()))
    }
}
