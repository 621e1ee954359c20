//! The score of a model that tells classes apart.

use ndarray::{Array2, Axis};

use super::{Evaluation, Metric};
use crate::learning::data::{Classification, Examples};

/// How many examples are scored at a time: what they take stays small, however many there are.
const PIECE: usize = 1024;

impl Evaluation {
    /// The mean negative log-likelihood of what there is of the training data, plus `penalty`, and
    /// the accuracy on the test data, or else on the training data.
    ///
    /// `probabilities` tells those of all classes for some examples; shape `[indexes, classes]`. Of
    /// equally likely classes the first counts as the model's choice.
    pub fn of_classes(
        data: &Classification,
        penalty: f64,
        probabilities: impl Fn(&Examples, &[u32]) -> Array2<f32>,
    ) -> Self {
        let score = |examples: &Examples, which: &[u32]| {
            let (mut loss, mut correct) = (0.0, 0);
            for piece in which.chunks(PIECE) {
                let classes = piece.iter().map(|&index| examples.classes[index as usize] as usize);
                for (row, class) in probabilities(examples, piece).axis_iter(Axis(0)).zip(classes) {
                    let best = (1..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
                    correct += usize::from(best == class);
                    // A NaN stays one: who diverges shall be seen to.
                    loss -= libm::log(f64::from(row[class]));
                }
            }
            (loss / which.len() as f64, correct as f64 / which.len() as f64)
        };
        let all = |examples: &Examples| (0..examples.len() as u32).collect::<Vec<_>>();
        let kept = data.slice.as_ref().map_or_else(|| all(&data.train), |slice| slice.kept.clone());
        let (loss, trained) = score(&data.train, &kept);
        let accuracy = data.test.as_ref().map_or(trained, |test| score(test, &all(test)).1);
        Self { objective: loss + penalty, metric: Metric::accuracy(accuracy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learning::data::{Name, SparseRows};

    #[test]
    fn likelihood_is_of_training_and_accuracy_of_test_data() {
        let examples = |classes: &[u32]| {
            let mut rows = SparseRows::default();
            classes.iter().for_each(|_| rows.push([(0, 1.0)]));
            Examples { rows, classes: classes.to_vec() }
        };
        let data = Classification {
            train: examples(&[0; 3000]),
            test: Some(examples(&[0, 1, 1, 1])),
            features: 1,
            labels: (0..2).map(Name::Number).collect(),
            feature_names: None,
            scaling: None,
            slice: None,
        };
        let quarter = |_: &Examples, which: &[u32]| {
            Array2::from_shape_fn([which.len(), 2], |(_, class)| [0.25, 0.75][class])
        };
        let found = Evaluation::of_classes(&data, 0.5, quarter);
        assert!((found.objective - (libm::log(4.0) + 0.5)).abs() < 1e-9);
        assert_eq!(found.metric, Metric::accuracy(0.75));
        let broken = |_: &Examples, which: &[u32]| Array2::from_elem([which.len(), 2], f32::NAN);
        assert!(Evaluation::of_classes(&data, 0.0, broken).objective.is_nan());
    }
}
