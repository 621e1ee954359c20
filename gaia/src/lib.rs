//! Gaia trains one machine-learning model over many datacenters as if they were one LAN.
//!
//! This crate puts the parameter server ([`datacenter`]) and the WAN between datacenters ([`wan`]) together, and runs
//! models on them.
//!
//! To train a model of your own: implement [`Application`](application::Application) and its
//! [`Learner`](application::Learner); make a [`ModelKind`](application::ModelKind) of it, which reads its part of a job's
//! file; and give that to [`Program`]. What you have then is the whole `gaia` program: `compare` shows in virtual time what
//! the WAN does to the model, `check` looks at the files of your regions, `run` is one region, and `evaluate` and
//! `export` are for what has been trained.

pub mod admin;
pub mod application;
pub mod applications;
pub mod certificates;
pub mod checkpoint;
mod cli;
pub mod config;
pub mod data;
pub mod job;
pub mod linalg;
pub mod logs;
pub mod outcome;
pub mod participation;
mod paths;
pub mod preflight;
pub mod progress;
pub mod region;
pub mod rehearsal;
pub mod report;
pub mod scenario;
mod seeds;
pub mod sequential;
pub mod service;
pub mod simulation;
pub mod status;
pub mod strategy;
pub mod suggest;
pub mod trained;

pub use ndarray;

pub use self::cli::Program;
