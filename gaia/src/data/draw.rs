//! Seeded randomness that gives the same bits on every machine.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A generator for one purpose: streams of one seed are independent of each other.
pub(crate) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

/// A draw from the standard normal distribution, by Box and Muller's transform.
///
/// `rand_distr` has a faster one, but takes `exp` and `ln` from the platform, whose last bits differ between machines.
pub(crate) fn gaussian(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * libm::log(1.0 - random.random::<f64>())).sqrt();
    radius * libm::cos(std::f64::consts::TAU * random.random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussian_has_the_moments_of_a_standard_normal() {
        let mut random = stream(7, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| gaussian(&mut random)).collect();
        let moment = |power| draws.iter().map(|x| libm::pow(*x, power)).sum::<f64>() / draws.len() as f64;
        assert!(moment(1.0).abs() < 0.01, "mean {}", moment(1.0));
        assert!((moment(2.0) - 1.0).abs() < 0.02, "variance {}", moment(2.0));
        assert!((moment(4.0) - 3.0).abs() < 0.15, "fourth moment {}", moment(4.0));
    }

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, number| stream(seed, number).next_u64();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 2));
    }
}
