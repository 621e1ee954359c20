//! Examples without classes, as sparse rows: with a quantity each, or with nothing but features.

use rand::seq::index;

use super::classification::{Slice, SparseRows, occurrences};
use super::draw::{Purpose, gaussian, stream};
use super::names::{Scaling, Vocabulary};

/// What the label of an example is to a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// A class: a whole number or a text.
    #[default]
    Class,
    /// A quantity: a number.
    Quantity,
    /// Nothing: it is passed over, and need not be there.
    Ignored,
}

/// Examples, each with its quantity where one was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// One row for each example.
    pub rows: SparseRows,
    /// The quantity of each; shape `[examples]`, or `[0]` where none was asked for.
    pub quantities: Vec<f32>,
}

impl Samples {
    /// How many examples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A data set of examples that have no classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Observations {
    /// What to train on; never empty.
    pub train: Samples,
    /// What to judge by.
    pub test: Option<Samples>,
    /// How many features an example has.
    pub features: u32,
    /// What the features are called, in order, where that is known.
    pub feature_names: Option<Vec<String>>,
    /// How features were standardised, if they were.
    pub scaling: Option<Scaling>,
    /// What is left of the training data, where only a part of it was kept.
    pub slice: Option<Slice>,
    /// Training examples that were drawn from all, ascending: every process of a job has the same,
    /// and their features, whatever else it keeps.
    pub sample: Vec<u32>,
}

impl Observations {
    /// What a model of these data stands for.
    pub fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Features {
            features: self.features,
            feature_names: self.feature_names.clone(),
            scaling: self.scaling.clone(),
        }
    }

    /// In how many training examples each feature is non-zero, whether they were kept or not; shape
    /// `[features]`.
    pub fn occurrences(&self) -> Vec<u32> {
        occurrences(&self.train.rows, self.slice.as_ref(), self.features)
    }
}

/// `most` of `count` examples, or all where there are no more, ascending; drawn without replacement.
pub(crate) fn draw_sample(count: usize, most: usize, seed: u64) -> Vec<u32> {
    let mut sample: Vec<u32> = match most {
        0 => Vec::new(),
        _ if count <= most => (0..count as u32).collect(),
        _ => {
            let random = &mut stream(seed, Purpose::Sample, 0);
            index::sample(random, count, most).into_iter().map(|index| index as u32).collect()
        }
    };
    sample.sort_unstable();
    sample
}

/// In which tenth of all each quantity is, by rank: what partitions go by that sort quantities out.
pub(crate) fn tenths(quantities: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..quantities.len() as u32).collect();
    order.sort_by(|&a, &b| quantities[a as usize].total_cmp(&quantities[b as usize]));
    let mut tenths = vec![0; quantities.len()];
    for (rank, &example) in order.iter().enumerate() {
        tenths[example as usize] = (rank as u64 * 10 / quantities.len() as u64) as u32;
    }
    tenths
}

/// What to plant: examples whose quantity is a linear function of their features, with noise. Every
/// count is at least one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearPlan {
    /// Training examples; a tenth of that many test examples come on top.
    pub(crate) examples: u32,
    pub(crate) features: u32,
    pub(crate) noise: f64,
}

/// Draws training and test examples: with standard normal `z`, features are `z`, the quantity is `1 +
/// x . w + noise z`, and the weights of features with an even index (from zero) are `z`, those of
/// others zero. A perfect model's test RMSE is `noise`.
pub(crate) fn draw_linear(plan: LinearPlan, seed: u64) -> (Samples, Samples) {
    let random = &mut stream(seed, Purpose::PlantedWeights, 0);
    let weight = |feature| if feature % 2 == 0 { gaussian(random) } else { 0.0 };
    let weights: Vec<f64> = (0..plan.features).map(weight).collect();
    let draw = |count: u32, number| {
        let random = &mut stream(seed, Purpose::PlantedExamples, number);
        let mut samples = Samples::default();
        for _ in 0..count {
            let row: Vec<f32> = weights.iter().map(|_| gaussian(random) as f32).collect();
            let mean: f64 = row.iter().zip(&weights).map(|(&x, w)| f64::from(x) * w).sum();
            samples.quantities.push((1.0 + mean + plan.noise * gaussian(random)) as f32);
            samples.rows.push((0..).zip(row));
        }
        samples
    };
    (draw(plan.examples, 0), draw((plan.examples / 10).max(1), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_drawn_once_each_and_alike_everywhere() {
        let sample = draw_sample(1000, 100, 3);
        assert!(sample.len() == 100 && sample.is_sorted_by(|a, b| a < b) && sample[99] < 1000);
        assert_eq!(sample, draw_sample(1000, 100, 3));
        assert_ne!(sample, draw_sample(1000, 100, 4));
        assert_eq!(draw_sample(3, 100, 3), [0, 1, 2]);
        assert!(draw_sample(3, 0, 3).is_empty());
    }

    #[test]
    fn tenths_have_a_tenth_each() {
        let quantities: Vec<f32> = (0..50).map(|i| ((i * 7) % 50) as f32).collect();
        let tenths = tenths(&quantities);
        assert!((0..50).all(|i| tenths[i] == quantities[i] as u32 / 5));
    }

    #[test]
    fn planted_quantities_are_linear_up_to_their_noise() {
        let plan = LinearPlan { examples: 400, features: 4, noise: 0.0 };
        let (train, test) = draw_linear(plan, 1);
        assert_eq!((train.len(), test.len(), train.quantities.len()), (400, 40, 400));
        // Without noise, four weights and an intercept fit all: differences along a feature that
        // counts for nothing are those of the others alone.
        let noisy = draw_linear(LinearPlan { noise: 0.5, ..plan }, 1).0;
        assert_eq!(noisy.rows.row(0).values[0], train.rows.row(0).values[0], "the first draw");
        assert_ne!(noisy.quantities, train.quantities);
        assert_eq!(draw_linear(plan, 1).0, train);
    }
}
