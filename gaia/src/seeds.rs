//! Labels of the seeds that are derived from a job's, in simulations and for real alike: the same
//! worker draws the same mini-batches in both.

/// What a derived seed is for.
pub(crate) mod purpose {
    pub(crate) const NETWORK: u64 = 1;
    pub(crate) const AUTHORITY: u64 = 2;
    pub(crate) const ENDPOINT: u64 = 3;
    pub(crate) const DIAL: u64 = 4;
    pub(crate) const LEARNER: u64 = 5;
    pub(crate) const JITTER: u64 = 6;
}
