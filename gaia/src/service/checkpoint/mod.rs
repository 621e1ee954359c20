//! Checkpoints: what a server knows of its shards, kept outside of it.
//!
//! A server that dies takes with it the values of its shards, what its filter holds back, and what
//! the other regions have released so far. With checkpoints it begins again where the newest one
//! was made, and the rest comes from the mirrors.
//!
//! A checkpoint is one file for one shard at one clock, in safetensors, so that other tools open
//! it: see [`decode`] for what is in it. Files lie in a directory or in an object store, at
//! `<job>/<region>/shard-<i>/clock-<c>.safetensors`, and appear there whole or not at all. A
//! [`Keeper`] writes them beside the training and deletes those that newer ones have replaced; an
//! [`Archive`] finds the newest that can be used.
//!
//! There is nothing in a checkpoint about where workers are in their data, nor about step sizes:
//! both follow from the clock alone. A worker that goes on at clock `c` draws the examples that it
//! would have drawn, and takes steps of the size that it would have taken. Only what AdaGrad adds
//! up stays with the worker: one whose process starts anew begins with zero there, and so with
//! larger steps for a while, whether or not there are checkpoints.
//!
//! Beside the state a checkpoint has what its server has [counted](Counts) of what costs money.
//!
//! - `subject`: whose state it is, `counts`, and `seal`, `content`, `format`, `tables`: the bytes
//!   (time-free);
//! - `schedule`: when it is time for the next (time-passed);
//! - `place`, `objects`: directories and stores; `archive`: a region's checkpoints there; `keeper`:
//!   writes them (drivers).

mod archive;
mod content;
mod counts;
mod format;
mod keeper;
mod objects;
mod place;
mod schedule;
mod seal;
mod subject;
mod tables;
#[cfg(test)]
mod tests;

use std::io;

use thiserror::Error;

pub use self::archive::{Archive, Begun, PassedOver, RestoreError, Unusable};
pub use self::content::ContentError;
pub(crate) use self::content::MAX_HEADER_BYTES;
pub use self::counts::{Counts, LinkCounts, ServerCounts, ShardCounts};
pub(crate) use self::format::Tensor;
pub use self::format::{Checkpoint, DecodeError, decode, encode};
pub use self::keeper::Keeper;
pub(crate) use self::place::write as write_beside;
pub use self::place::{Entry, Place};
pub use self::schedule::Schedule;
pub use self::seal::seal;
pub use self::subject::Subject;
pub(crate) use self::tables::Shard;

use crate::job::region::CheckpointSettings;

/// Sees that files can be written where they are to be kept: one that is lost for it would show
/// only when it is needed.
///
/// # Errors
///
/// If they cannot.
pub fn prepare(settings: &CheckpointSettings) -> Result<(), LocationError> {
    let place = Place::from(&settings.location);
    place.prepare().map_err(|source| LocationError { place: place.to_string(), source })
}

/// A place where no checkpoint can be kept.
#[derive(Debug, Error)]
#[error("checkpoint.location: files cannot be written to {place}")]
pub struct LocationError {
    /// Where.
    pub place: String,
    /// Why not.
    pub source: io::Error,
}
