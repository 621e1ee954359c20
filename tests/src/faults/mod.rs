//! Faults on purpose: scenarios as data, and a cluster of pure nodes to which they happen.
//!
//! [`scenario::SCENARIOS`] tells what happens to whom. [`cluster::Cluster`] lets it happen, in no
//! real time, under a policy, a network and moments that a seed draws, and judges what comes of it:
//! everybody who can goes on, all replicas agree in the end, and nothing is lost but what
//! [`account`] says may be.

pub mod account;
pub mod cluster;
pub mod random;
pub mod scenario;
