//! The first centers: k-means++ on a sample of the training data.
//!
//! k-means++ (Arthur and Vassilvitskii, SODA 2007) draws each next center from the examples with
//! probabilities that are as the squares of their distances to the nearest center so far. That takes a
//! pass over all examples for each center, and the examples of a job lie with many workers. So every
//! process draws the same sample of the training data from the job's seed (see `Input::observations`),
//! keeps its features beside those of its own part, and finds the same centers on it, with the same
//! bits: regions need not exchange any. Of several candidates for each center the one is taken that
//! leaves the least inertia (the greedy variant of the same paper), and of several seedings, each
//! refined by a few passes over the sample (Bradley and Fayyad, ICML 1998), the best.

use rand::{Rng, RngExt};

use super::{Centers, KMeansSettings, square};
use crate::learning::data::{Observations, Purpose, SparseRow, stream};

/// Passes over the sample that refine a seeding.
const PASSES: usize = 10;

/// The first centers; shape `[clusters, features]`.
pub(super) fn seeds(settings: &KMeansSettings, data: &Observations, seed: u64) -> Vec<f32> {
    let sample = Sample::new(data);
    let clusters = settings.clusters as usize;
    let mut best = (f64::INFINITY, Vec::new());
    for start in 0..u64::from(settings.starts) {
        let random = &mut stream(seed, Purpose::Centers, start);
        let found = sample.refined(sample.plus_plus(clusters, random));
        if found.0 < best.0 {
            best = found;
        }
    }
    best.1
}

struct Sample<'a> {
    rows: Vec<SparseRow<'a>>,
    /// `|x|^2` of each.
    squares: Vec<f64>,
    features: usize,
}

impl<'a> Sample<'a> {
    fn new(data: &'a Observations) -> Self {
        let rows: Vec<_> = data.sample.iter().map(|&index| data.train.rows.row(index as usize)).collect();
        let squares = rows.iter().map(|row| square(*row)).collect();
        Self { rows, squares, features: data.features as usize }
    }

    /// The squares of the distances of all rows to the one at `place`; `scratch` has shape `[features]`
    /// and is zero, before and after.
    fn distances(&self, place: usize, scratch: &mut [f64]) -> Vec<f64> {
        let center = self.rows[place];
        let entries = || center.features.iter().zip(center.values);
        entries().for_each(|(&feature, &value)| scratch[feature as usize] = f64::from(value));
        let distance = |(row, square): (&SparseRow<'_>, &f64)| {
            let products = row.features.iter().zip(row.values);
            let product: f64 = products.map(|(&feature, &x)| f64::from(x) * scratch[feature as usize]).sum();
            (square - 2.0 * product + self.squares[place]).max(0.0)
        };
        let distances = self.rows.iter().zip(&self.squares).map(distance).collect();
        entries().for_each(|(&feature, _)| scratch[feature as usize] = 0.0);
        distances
    }

    /// The places of as many rows as there are clusters.
    fn plus_plus(&self, clusters: usize, random: &mut impl Rng) -> Vec<usize> {
        let candidates = 2 + libm::log(clusters as f64) as usize;
        let mut scratch = vec![0.0; self.features];
        let mut chosen = vec![random.random_range(0..self.rows.len())];
        let mut nearest = self.distances(chosen[0], &mut scratch);
        while chosen.len() < clusters {
            let total: f64 = nearest.iter().sum();
            let mut best = (f64::INFINITY, 0, Vec::new());
            for _ in 0..candidates {
                let place = draw(&nearest, total, random);
                let mut distances = self.distances(place, &mut scratch);
                distances.iter_mut().zip(&nearest).for_each(|(new, old)| *new = new.min(*old));
                let left: f64 = distances.iter().sum();
                if left < best.0 {
                    best = (left, place, distances);
                }
            }
            chosen.push(best.1);
            nearest = best.2;
        }
        chosen
    }

    /// The inertia of centers that began at these rows, and the centers; shape `[clusters, features]`.
    fn refined(&self, places: Vec<usize>) -> (f64, Vec<f32>) {
        let mut values = vec![0.0; places.len() * self.features];
        for (center, place) in values.chunks_exact_mut(self.features).zip(&places) {
            let SparseRow { features, values } = self.rows[*place];
            features.iter().zip(values).for_each(|(&feature, &value)| center[feature as usize] = value);
        }
        let mut centers = Centers::new(places.len(), self.features);
        for pass in 0.. {
            for (cluster, center) in values.chunks_exact(self.features).enumerate() {
                centers.put(cluster, center.iter().copied());
            }
            let (inertia, means) = self.pass(&mut centers, &values);
            if pass == PASSES {
                return (inertia, values);
            }
            values = means;
        }
        unreachable!("the last pass returns")
    }

    /// The inertia, and the means of what is nearest to each center; a center to which nothing is stays.
    fn pass(&self, centers: &mut Centers, before: &[f32]) -> (f64, Vec<f32>) {
        let mut sums = vec![0.0; before.len()];
        let mut counts = vec![0u32; centers.clusters];
        let mut inertia = 0.0;
        for row in &self.rows {
            let (cluster, distance) = centers.nearest(*row);
            let sums = &mut sums[cluster as usize * self.features..][..self.features];
            let entries = row.features.iter().zip(row.values);
            entries.for_each(|(&feature, &value)| sums[feature as usize] += f64::from(value));
            counts[cluster as usize] += 1;
            inertia += distance;
        }
        let mean = |(at, (sum, before)): (usize, (&f64, &f32))| match counts[at / self.features] {
            0 => *before,
            count => (sum / f64::from(count)) as f32,
        };
        (inertia, sums.iter().zip(before).enumerate().map(mean).collect())
    }
}

/// A place that is drawn by these weights; any where all are zero.
fn draw(weights: &[f64], total: f64, random: &mut impl Rng) -> usize {
    let at = random.random::<f64>() * total;
    let mut sum = 0.0;
    for (place, weight) in weights.iter().enumerate() {
        sum += weight;
        if at < sum {
            return place;
        }
    }
    // Rounding, or fewer different rows than clusters.
    random.random_range(0..weights.len())
}
