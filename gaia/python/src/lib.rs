//! What the Python package `gaia` stands on: one worker's [`Connection`], for the sources in
//! `python/gaia`.
//!
//! Every wait is a task of the runtime's, which is looked at without the GIL, and whether a signal
//! has come every [`LOOK`]. A wait that is interrupted is not given up: its task goes on, and the next
//! call waits for it first. So no interrupt costs anything that was added.

mod buffers;
mod errors;
mod job;

use pyo3::prelude::*;

/// The compiled half of `gaia`.
#[pymodule]
mod _gaia {
    #[pymodule_export]
    use super::job::Job;
}
