//! The figures by which regressions are judged.

use super::loss::{Loss, sigmoid};

/// What a model makes of some examples, summed up.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    loss: Loss,
    count: usize,
    /// The summed loss.
    sum: f64,
    correct: usize,
    /// The summed negative log-likelihood of the class, where classes have probabilities.
    surprise: f64,
    /// The mean of quantities, and the sum of squared deviations from it.
    mean: f64,
    deviations: f64,
    /// The output and whether the example is of the class that counts as one, where the ranking is
    /// wanted.
    ranked: Option<Vec<(f64, bool)>>,
}

/// The place of the largest; the first of equals.
pub(super) fn largest(z: &[f64]) -> usize {
    (1..z.len()).fold(0, |best, c| if z[c] > z[best] { c } else { best })
}

impl Scores {
    pub(super) fn new(loss: Loss, is_ranked: bool) -> Self {
        let ranked = is_ranked.then(Vec::new);
        Self { loss, count: 0, sum: 0.0, correct: 0, surprise: 0.0, mean: 0.0, deviations: 0.0, ranked }
    }

    /// Adds an example; `z` has shape `[outputs]`.
    pub(super) fn add(&mut self, outcome: f32, z: &[f64]) {
        self.count += 1;
        let loss = self.loss.of(outcome, z);
        self.sum += loss;
        match self.loss {
            Loss::Squared => {
                // Welford, Technometrics 4(3), 1962.
                let before = f64::from(outcome) - self.mean;
                self.mean += before / self.count as f64;
                self.deviations += before * (f64::from(outcome) - self.mean);
            }
            Loss::Binary { positive } => {
                let is_positive = outcome == positive as f32;
                self.correct += usize::from((z[0] > 0.0) == is_positive);
                self.surprise += loss;
                if let Some(ranked) = &mut self.ranked {
                    ranked.push((z[0], is_positive));
                }
            }
            Loss::OneAgainstRest { .. } => {
                self.correct += usize::from(largest(z) == outcome as usize);
                let all: f64 = z.iter().map(|&z| sigmoid(z)).sum();
                self.surprise -= libm::log(sigmoid(z[outcome as usize]) / all);
            }
        }
    }

    pub(super) fn mean_loss(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The root of the mean squared error.
    pub(super) fn rmse(&self) -> f64 {
        (2.0 * self.mean_loss()).sqrt()
    }

    /// One minus the mean squared error over the variance; minus infinity or NaN where there is none.
    pub(super) fn r2(&self) -> f64 {
        1.0 - 2.0 * self.sum / self.deviations
    }

    pub(super) fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count as f64
    }

    /// The mean negative log-likelihood of the class, in nats. Of one class against the rest,
    /// probabilities are those of the outputs, divided by their sum.
    pub(super) fn log_loss(&self) -> f64 {
        self.surprise / self.count as f64
    }

    /// The area under the receiver operating characteristic: the probability that an example of the
    /// class that counts as one has a larger output than one of the others, where equal outputs
    /// count half. NaN where all are of one class.
    pub(super) fn auc(&self) -> f64 {
        area(self.ranked.clone().unwrap_or_default())
    }
}

/// By ranks (Mann and Whitney, 1947): equal outputs share the mean of theirs.
fn area(mut ranked: Vec<(f64, bool)>) -> f64 {
    ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let positives = ranked.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
    let negatives = ranked.len() as f64 - positives;
    let (mut rank, mut sum) = (0.0, 0.0);
    for equal in ranked.chunk_by(|(a, _), (b, _)| a == b) {
        let mean = rank + (equal.len() as f64 + 1.0) / 2.0;
        sum += mean * equal.iter().filter(|(_, is_positive)| *is_positive).count() as f64;
        rank += equal.len() as f64;
    }
    (sum - positives * (positives + 1.0) / 2.0) / (positives * negatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let ranked = vec![(0.1, false), (0.4, true), (0.35, false), (0.8, true), (0.4, false), (-2.0, true)];
        let mut pairs = (0.0, 0.0);
        for (a, _) in ranked.iter().filter(|(_, is_positive)| *is_positive) {
            for (b, _) in ranked.iter().filter(|(_, is_positive)| !*is_positive) {
                pairs.0 += if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                };
                pairs.1 += 1.0;
            }
        }
        assert!((area(ranked) - pairs.0 / pairs.1).abs() < 1e-12);
        assert!(area(vec![(1.0, true)]).is_nan());
    }
}
