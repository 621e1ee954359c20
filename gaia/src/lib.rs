//! Gaia trains one machine-learning model over many datacenters as if they were one LAN.
//!
//! This crate puts the parameter server ([`datacenter`]) and the WAN between datacenters ([`wan`]) together, and runs
//! models on them. To train a model of your own, implement [`application::Application`]; to see what the WAN does to
//! it, give it to [`simulation::run_one`].

pub mod admin;
pub mod application;
pub mod applications;
pub mod certificates;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod job;
pub mod logs;
mod model;
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
