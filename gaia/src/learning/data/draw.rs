//! Seeded randomness that gives the same bits on every machine.

use datacenter::TableId;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is drawn: each has generators of its own, so that none repeats the draws of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Factors of planted users.
    PlantedUsers,
    /// Factors of planted items.
    PlantedItems,
    /// How popular planted items are.
    PlantedPopularity,
    /// Planted ratings to train on.
    PlantedTraining,
    /// Planted ratings to test with.
    PlantedTest,
    /// Which worker has which example.
    Partition,
    /// Initial values of a row, by table and row.
    InitialRow,
    /// The order of examples, by epoch.
    Order,
    /// Weights of planted quantities.
    PlantedWeights,
    /// Planted examples: to train on, and to test with.
    PlantedExamples,
    /// Examples that every process has.
    Sample,
    /// First centers of clusters.
    Centers,
    /// The words of planted topics, by topic.
    PlantedTopics,
}

/// Tells these generators from those that the simulation derives of the same seed.
const DOMAIN: u64 = 0x6761_6961_6461_7461;

/// The generator of `purpose` with a number; all of one seed are independent of each other.
pub(crate) fn stream(seed: u64, purpose: Purpose, number: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(emulation::seed::derive(seed, &[DOMAIN, purpose as u64, number]))
}

/// A draw from the standard normal distribution, by Box and Muller's transform.
///
/// `rand_distr` has a faster one, but takes `exp` and `ln` from the platform, whose last bits
/// differ between machines.
pub(crate) fn gaussian(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * libm::log(1.0 - random.random::<f64>())).sqrt();
    radius * libm::cos(std::f64::consts::TAU * random.random::<f64>())
}

/// Fills a row of a table with draws from the normal distribution of mean zero, as initial values:
/// the same on every machine for the same seed, table and row.
pub fn normal_row(seed: u64, table: TableId, row: u32, deviation: f64, out: &mut [f32]) {
    let mut random = stream(seed, Purpose::InitialRow, u64::from(table.0) << 32 | u64::from(row));
    out.iter_mut().for_each(|value| *value = (deviation * gaussian(&mut random)) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussian_has_the_moments_of_a_standard_normal() {
        let mut random = stream(7, Purpose::Order, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| gaussian(&mut random)).collect();
        let moment = |power| draws.iter().map(|x| libm::pow(*x, power)).sum::<f64>() / draws.len() as f64;
        assert!(moment(1.0).abs() < 0.01, "mean {}", moment(1.0));
        assert!((moment(2.0) - 1.0).abs() < 0.02, "variance {}", moment(2.0));
        assert!((moment(4.0) - 3.0).abs() < 0.15, "fourth moment {}", moment(4.0));
    }

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, purpose, number| stream(seed, purpose, number).next_u64();
        let order = first(1, Purpose::Order, 2);
        assert_eq!(order, first(1, Purpose::Order, 2));
        for other in [(1, Purpose::Order, 3), (2, Purpose::Order, 2), (1, Purpose::InitialRow, 2)] {
            assert_ne!(order, first(other.0, other.1, other.2), "{other:?}");
        }
    }
}
