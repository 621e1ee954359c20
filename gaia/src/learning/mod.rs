//! Models: what an application is, the built-in ones, and the data that they are trained on.
//!
//! This room knows nothing of networks, processes and clocks of the wall: it has no asynchronous
//! code. Read [`application`] first.

pub mod application;
pub mod data;
mod learning_rate;
pub mod linalg;
pub mod models;
pub mod sequential;

pub use self::learning_rate::{Decay, LearningRate};
