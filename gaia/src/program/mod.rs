//! The program: its command line, what it shows, and three regions on one machine.

mod cli;
pub mod local_cluster;
pub mod progress;
pub mod report;
pub mod view;

pub use self::cli::Program;
