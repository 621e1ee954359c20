//! The built-in applications: [`Softmax`] regression, a multi-layer [`Perceptron`] and matrix
//! [`Factorisation`].
//!
//! Their arithmetic gives the same bits on every machine: sums run in a stated order (see `lanes`
//! and [`linalg`](crate::learning::linalg)), `exp` and `ln` come from the `libm` crate, and every
//! random choice has a seed.

mod batches;
mod classes;
mod factorisation;
mod lanes;
mod local_rows;
mod perceptron;
mod softmax;
#[cfg(test)]
mod tests;

pub(crate) use self::factorisation::MOST_RANK;
pub use self::factorisation::{Factorisation, FactorisationKind, FactorisationSettings};
pub use self::perceptron::{Perceptron, PerceptronKind, PerceptronSettings};
pub use self::softmax::{Softmax, SoftmaxKind, SoftmaxSettings};

use crate::learning::application::ModelKinds;

/// The built-in kinds.
pub fn kinds() -> ModelKinds {
    ModelKinds::none().with(SoftmaxKind).with(PerceptronKind).with(FactorisationKind)
}
