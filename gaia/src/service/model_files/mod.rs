//! Trained models as files: put together from their shards, and written as one.
//!
//! What is read are checkpoints, the files that servers leave at the end (`output.directory`), and
//! what was written here before: safetensors all of them, told apart by their metadata. A model is
//! put together from the shards of one region at one clock; slot `i` of shard `s` of `n` is row `i
//! * n + s`.
//!
//! - `heads`: what files say that they are; `choice`: which of them make a model (time-free);
//! - `read`: reads those; `write`: one file for all tables, or for each (drivers).

mod choice;
mod heads;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use datacenter::TableSpec;
use thiserror::Error;

pub use self::choice::Wanted;
pub use self::heads::{Source, SourceError};
pub use self::read::{Read, ReadError, read, vocabularies};
pub use self::write::{Format, FormatError, WriteError, write};

use crate::learning::application::Model;
use crate::learning::data::Vocabulary;

/// A whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The job's name.
    pub job: String,
    /// The beginning of the job's digest, 16 hexadecimal digits.
    pub digest: String,
    /// Whose copy it is.
    pub region: String,
    /// The clock that all its shards had completed.
    pub clock: u32,
    /// By region, the clock up to which all its updates are in it; empty where the files do not
    /// say.
    pub regions: BTreeMap<String, u32>,
    /// By region, how many of these clocks it has left out, where it has.
    pub left_out: BTreeMap<String, u32>,
    /// What its rows and columns stand for, where the files say so.
    pub vocabulary: Option<Vocabulary>,
    /// The tables: in the job's order if the files say so, else by name.
    pub tables: Vec<Table>,
}

/// A table of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// How many rows.
    pub rows: usize,
    /// How many elements in a row.
    pub width: usize,
    /// Shape `[rows, width]`.
    pub values: Vec<f32>,
}

/// Files of another model than the one that they are to be.
#[derive(Debug, Error)]
#[error("the files have {found}; the job's model has {expected}")]
pub struct OtherModel {
    found: String,
    expected: String,
}

impl Trained {
    /// Gives the tables for a model of `specs`.
    pub(crate) fn into_tables(self, specs: &[TableSpec]) -> Result<Model, OtherModel> {
        let mut tables = self.tables;
        let found: Vec<_> =
            tables.iter().map(|table| format!("{} {} x {}", table.name, table.rows, table.width)).collect();
        let expected: Vec<_> =
            specs.iter().map(|spec| format!("{} {} x {}", spec.name, spec.rows, spec.width)).collect();
        let mut places = Vec::new();
        for shape in &expected {
            places.extend(found.iter().position(|found| found == shape));
        }
        if places.len() != specs.len() || tables.len() != specs.len() {
            return Err(OtherModel { found: found.join(", "), expected: expected.join(", ") });
        }
        let values = places.into_iter().map(|place| std::mem::take(&mut tables[place].values));
        Ok(Model::of_tables(specs, values))
    }
}
