//! The built-in applications: [`Softmax`] regression, a multi-layer [`Perceptron`], matrix
//! [`Factorisation`], [linear](LinearKind) and [logistic](LogisticKind) regression,
//! [k-means](KMeansKind) and topic models ([`Lda`]).
//!
//! A further kind, `external`, is trained by programs of its users.
//!
//! Their arithmetic gives the same bits on every machine: sums run in a stated order (see `lanes`
//! and [`linalg`](crate::learning::linalg)), `exp` and `ln` come from the `libm` crate, and every
//! random choice has a seed.

mod batches;
mod classes;
mod clusters;
mod external;
mod factorisation;
mod generalised;
mod lanes;
pub mod lda;
mod local_rows;
mod perceptron;
mod softmax;
#[cfg(test)]
mod tests;

pub use self::clusters::{KMeansKind, KMeansSettings};
pub use self::external::{
    EXTERNAL, ExternalKind, ExternalSettings, ExternalTable, InitialValues, is_external,
};
pub(crate) use self::factorisation::MOST_RANK;
pub use self::factorisation::{Factorisation, FactorisationKind, FactorisationSettings};
pub use self::generalised::{
    ClassMetric, LinearKind, LinearSettings, LogisticKind, LogisticSettings, Optimiser, QuantityMetric,
};
pub(crate) use self::lda::MOST_TOPICS;
pub use self::lda::{Lda, LdaKind, LdaSettings};
pub use self::perceptron::{Perceptron, PerceptronKind, PerceptronSettings};
pub use self::softmax::{Softmax, SoftmaxKind, SoftmaxSettings};

use crate::learning::application::ModelKinds;

/// The built-in kinds.
pub fn kinds() -> ModelKinds {
    ModelKinds::none()
        .with(SoftmaxKind)
        .with(PerceptronKind)
        .with(FactorisationKind)
        .with(LinearKind)
        .with(LogisticKind)
        .with(KMeansKind)
        .with(LdaKind)
        .with(ExternalKind)
}
