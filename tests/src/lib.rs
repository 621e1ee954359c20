//! Cluster harness: the laws of the design as properties over simulated links.
//!
//! [`mesh::Mesh`] joins the pure nodes of several datacenters by links that delay, reorder,
//! duplicate and cut, and checks the laws after every event. It can also be told to sabotage one
//! mechanism, which shows that the checks would notice. [`stack::Stack`] joins the same nodes by
//! the real drivers and the real QUIC, over an emulated network in virtual time, and judges them by
//! what passes between the links and the nodes. [`fuzz`] has what the fuzzers run.

pub mod faults;
pub mod fuzz;
pub mod laws;
pub mod mesh;
pub mod queue;
pub mod site;
pub mod stack;
