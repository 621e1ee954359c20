//! Gaia trains one machine-learning model over many datacenters as if they were one LAN.
//!
//! This crate puts the parameter server ([`datacenter`]) and the WAN between datacenters ([`wan`])
//! together, and runs models on them. Its rooms, each of which knows of those before it alone:
//!
//! - [`settings`]: how settings are read, and how problems are told;
//! - [`learning`]: what an application is, the built-in models, and data;
//! - [`job`]: what is trained, where and how: jobs, regions, simulations, strategies, and their
//!   files;
//! - [`simulator`]: a job over regions in virtual time, and [`service`]: a region's processes, with
//!   their checkpoints, certificates and status;
//! - [`program`]: the command line, reports and views.
//!
//! # From a model of your own to a deployed region
//!
//! 1. Implement [`Application`](learning::application::Application) and its
//!    [`Learner`](learning::application::Learner): tables, how examples are split, a step, a score.
//! 2. Make a [`ModelKind`](learning::application::ModelKind) of it, which reads its part of a job's
//!    file into a type of serde's, and gets the job's data from an
//!    [`Input`](learning::application::Input).
//! 3. Give that to [`Program`]: `Program::new().with(MyKind).main()` is the whole `gaia` program
//!    with one more `job.model.kind`.
//! 4. `compare` shows in virtual time what the WAN does to the model; `demo --job` trains it in
//!    three regions of real processes on one machine.
//! 5. With your program in the place of `gaia` in every command: copy `configs/regions` and adapt
//!    the addresses, `certs init` and `certs issue --config` make certificates, `check` looks at all
//!    of it, and `run --config virginia.toml` is one region. `docs/OPERATIONS.md` goes through it
//!    step by step; `deploy/` has containers, Kubernetes and systemd. `evaluate` and `export` are for
//!    what has been trained.
//!
//! `tests/outside` is a complete crate of this kind.

pub mod filters;
mod human;
pub mod job;
pub mod learning;
pub mod program;
#[cfg(test)]
mod rooms;
mod seeds;
pub mod service;
pub mod settings;
pub mod simulator;

pub use ndarray;

pub use self::program::Program;
