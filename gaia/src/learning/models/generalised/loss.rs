//! What an example costs, and how that changes with what the model says of it.

use libm::{exp, log1p};

/// The loss of a generalised linear model, for an example whose outputs are `z` and whose outcome
/// is `y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// `(z - y)^2 / 2`; one output, `y` a quantity.
    Squared,
    /// `ln(1 + exp(-z))` where `y` is the class `positive`, else `ln(1 + exp(z))`; one output.
    Binary {
        /// The class that counts as one.
        positive: u32,
    },
    /// The sum of that over an output for each class, which is one against all others.
    OneAgainstRest {
        /// How many.
        classes: u32,
    },
}

/// `1 / (1 + exp(-z))`, without overflow.
pub(super) fn sigmoid(z: f64) -> f64 {
    let small = exp(-z.abs());
    if z < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) }
}

/// `ln(1 + exp(z))`, without overflow.
fn softplus(z: f64) -> f64 {
    z.max(0.0) + log1p(exp(-z.abs()))
}

impl Loss {
    /// How many outputs there are.
    pub(super) fn outputs(self) -> usize {
        match self {
            Self::Squared | Self::Binary { .. } => 1,
            Self::OneAgainstRest { classes } => classes as usize,
        }
    }

    /// What an example costs; `z` has shape `[outputs]`.
    pub(super) fn of(self, outcome: f32, z: &[f64]) -> f64 {
        match self {
            Self::Squared => 0.5 * (z[0] - f64::from(outcome)) * (z[0] - f64::from(outcome)),
            Self::Binary { positive } => softplus(if outcome == positive as f32 { -z[0] } else { z[0] }),
            Self::OneAgainstRest { .. } => {
                let of_class =
                    |(class, z): (usize, &f64)| softplus(if class == outcome as usize { -*z } else { *z });
                z.iter().enumerate().map(of_class).sum()
            }
        }
    }

    /// Puts the derivative by each output in its place; `z` has shape `[outputs]`.
    pub(super) fn derive(self, outcome: f32, z: &mut [f64]) {
        match self {
            Self::Squared => z[0] -= f64::from(outcome),
            Self::Binary { positive } => {
                z[0] = sigmoid(z[0]) - f64::from(u8::from(outcome == positive as f32));
            }
            Self::OneAgainstRest { .. } => {
                z.iter_mut().for_each(|z| *z = sigmoid(*z));
                z[outcome as usize] -= 1.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_the_losses() {
        let cases = [
            (Loss::Squared, 1.5, vec![0.25]),
            (Loss::Binary { positive: 1 }, 1.0, vec![-0.7]),
            (Loss::Binary { positive: 1 }, 0.0, vec![2.0]),
            (Loss::OneAgainstRest { classes: 3 }, 2.0, vec![0.1, -3.0, 1.0]),
        ];
        for (loss, outcome, z) in cases {
            let mut slopes = z.clone();
            loss.derive(outcome, &mut slopes);
            for output in 0..z.len() {
                let at = |step: f64| {
                    let mut z = z.clone();
                    z[output] += step;
                    loss.of(outcome, &z)
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - slopes[output]).abs() < 1e-8, "{loss:?}: {slope} {}", slopes[output]);
            }
        }
    }

    #[test]
    fn large_outputs_do_not_overflow() {
        let loss = Loss::Binary { positive: 1 };
        assert_eq!(loss.of(0.0, &[1e4]), 1e4);
        assert_eq!(loss.of(1.0, &[1e4]), 0.0);
        assert_eq!((sigmoid(-1e4), sigmoid(1e4), sigmoid(0.0)), (0.0, 1.0, 0.5));
    }
}
