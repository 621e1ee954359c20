//! Ratings drawn from a planted truth, for simulations at any size without a licence.
//!
//! The truth has the form of the model that is to find it (matrix factorisation with biases): with
//! standard normal `z`, a rating is `3.5 + 0.4 z_u + 0.4 z_i + 0.6 (x_u . y_i) / sqrt(rank) + noise
//! * z`, `x` and `y` vectors of standard normals. Mean and spread are about those of MovieLens.
//! Ratings are neither rounded nor clipped, so a perfect model's test RMSE is `noise`.
//!
//! Users are drawn uniformly, items by the law of Zipf and Mandelbrot: the item at place `k` of the
//! ranking has weight `(k + items / 50) ^ -1.2`, and ranks are dealt out to items at random. As in
//! MovieLens, the best-known item of a few thousand has about one in a hundred ratings, a tenth of
//! the items has half of them, and a long tail has few. A pair may be drawn more than once, as when
//! someone rates again.

use rand::{Rng, RngExt, seq::SliceRandom};

use super::draw::{Purpose, gaussian, stream};
use super::ratings::{RatingList, Ratings};

const MEAN: f64 = 3.5;
const BIAS_DEVIATION: f64 = 0.4;
const INTERACTION_DEVIATION: f64 = 0.6;
const POPULARITY_EXPONENT: f64 = 1.2;
const POPULARITY_SHIFT: f64 = 0.02;

/// What to plant; every count is at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) users: u32,
    pub(crate) items: u32,
    pub(crate) rank: u32,
    /// Training ratings; a tenth of that many test ratings come on top.
    pub(crate) ratings: u32,
    pub(crate) noise: f64,
}

/// Draws training and test ratings; the same seed gives the same bits on every machine.
pub(crate) fn draw(plan: Plan, seed: u64) -> Ratings {
    let truth = Truth {
        users: Side::draw(plan.users, plan.rank, &mut stream(seed, Purpose::PlantedUsers, 0)),
        items: Side::draw(plan.items, plan.rank, &mut stream(seed, Purpose::PlantedItems, 0)),
        popularity: Popularity::draw(plan.items, &mut stream(seed, Purpose::PlantedPopularity, 0)),
        noise: plan.noise,
    };
    Ratings {
        train: truth.ratings(plan.ratings, &mut stream(seed, Purpose::PlantedTraining, 0)),
        test: Some(truth.ratings((plan.ratings / 10).max(1), &mut stream(seed, Purpose::PlantedTest, 0))),
        users: plan.users,
        items: plan.items,
        vocabulary: None,
        repeated: 0,
        shared_rows: None,
    }
}

struct Truth {
    users: Side,
    items: Side,
    popularity: Popularity,
    noise: f64,
}

impl Truth {
    fn ratings(&self, count: u32, random: &mut impl Rng) -> RatingList {
        let mut list = RatingList::default();
        for _ in 0..count {
            let user = random.random_range(0..self.users.biases.len() as u32);
            let item = self.popularity.item(random.random());
            list.push(user, item, (self.mean(user, item) + self.noise * gaussian(random)) as f32);
        }
        list
    }

    fn mean(&self, user: u32, item: u32) -> f64 {
        let pairs = self.users.factors(user).iter().zip(self.items.factors(item));
        let interaction: f64 = pairs.map(|(x, y)| x * y).sum::<f64>() / (self.users.rank as f64).sqrt();
        let biases = self.users.biases[user as usize] + self.items.biases[item as usize];
        MEAN + BIAS_DEVIATION * biases + INTERACTION_DEVIATION * interaction
    }
}

/// All users or all items.
struct Side {
    rank: usize,
    /// Shape `[count]`.
    biases: Vec<f64>,
    /// Shape `[count, rank]`.
    factors: Vec<f64>,
}

impl Side {
    fn draw(count: u32, rank: u32, random: &mut impl Rng) -> Self {
        let (count, rank) = (count as usize, rank as usize);
        let mut normals = |n| (0..n).map(|_| gaussian(random)).collect();
        Self { rank, biases: normals(count), factors: normals(count * rank) }
    }

    fn factors(&self, index: u32) -> &[f64] {
        &self.factors[index as usize * self.rank..][..self.rank]
    }
}

/// How often each item is drawn.
struct Popularity {
    /// Weights summed up to and including each place of the ranking; shape `[items]`.
    sums: Vec<f64>,
    /// The item at each place of the ranking; shape `[items]`.
    items: Vec<u32>,
}

impl Popularity {
    fn draw(count: u32, random: &mut impl Rng) -> Self {
        let mut items: Vec<u32> = (0..count).collect();
        items.shuffle(random);
        let mut sum = 0.0;
        let mut add = |place: u32| {
            sum += libm::pow(f64::from(place) + POPULARITY_SHIFT * f64::from(count), -POPULARITY_EXPONENT);
            sum
        };
        Self { sums: (1..=count).map(&mut add).collect(), items }
    }

    /// The item at `quantile`, at least zero and below one.
    fn item(&self, quantile: f64) -> u32 {
        let total = self.sums.last().copied().unwrap_or_default();
        let place = self.sums.partition_point(|sum| *sum <= quantile * total);
        self.items[place.min(self.items.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { users: 200, items: 300, rank: 4, ratings: 20_000, noise: 0.5 };

    #[test]
    fn it_looks_like_ratings() {
        let ratings = draw(PLAN, 1);
        let test = ratings.test.unwrap();
        assert_eq!((ratings.train.len(), test.len()), (20_000, 2_000));
        assert!((ratings.train.mean() - MEAN).abs() < 0.3);
        let variance =
            ratings.train.values.iter().map(|v| (f64::from(*v) - ratings.train.mean()).powi(2)).sum::<f64>()
                / 2e4;
        // 0.4^2 + 0.4^2 + 0.6^2 + 0.5^2 = 0.93, but popular items weigh more than others.
        assert!((0.6..1.3).contains(&variance), "variance {variance}");

        let mut counts = vec![0u32; 300];
        ratings.train.items.iter().for_each(|&item| counts[item as usize] += 1);
        counts.sort_unstable();
        let top: u32 = counts[270..].iter().sum();
        assert!((8_000..14_000).contains(&top), "a tenth of the items has {top} of 20000 ratings");
    }

    #[test]
    fn the_bits_are_the_same_everywhere() {
        assert_eq!(draw(PLAN, 1), draw(PLAN, 1));
        assert_ne!(draw(PLAN, 1).train, draw(PLAN, 2).train);
        // Written down once (x86-64, Linux): no other machine may give anything else.
        let first: Vec<_> = draw(PLAN, 1).train.iter().take(2).map(|(u, i, v)| (u, i, v.to_bits())).collect();
        assert_eq!(first, [(83, 242, 1_078_382_048), (27, 282, 1_084_581_738)]);
    }
}
