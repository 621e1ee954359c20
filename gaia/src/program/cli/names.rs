//! `gaia names`: the names that the data of several regions has, as one file.

use std::path::Path;

use super::arguments::NamesArguments;
use super::{CommandError, ModelError, data, say};
use crate::job::Job;
use crate::job::config;
use crate::job::config::FileKind;
use crate::learning::application::ModelKinds;
use crate::learning::data::DataError;
use crate::learning::data::declared::{NamesFile, find};
use crate::learning::data::{DataFile, Declared};
use crate::settings::{ConfigError, Overrides};

pub(super) fn names(arguments: &NamesArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    arguments.out.check().map_err(CommandError::Place)?;
    let overrides = arguments.over.overrides()?;
    let mut merged: Option<NamesFile> = None;
    for file in &arguments.files {
        let found = found(file, &overrides, kinds)?;
        merged = Some(match merged {
            Some(names) => names.merge(found).map_err(|what| {
                ModelError::Data(DataError::Merge { file: DataFile::Path(file.clone()), what })
            })?,
            None => found,
        });
    }
    let merged = merged.expect("clap wants at least one file");
    for (what, names) in merged.vocabulary.summary() {
        say(&format!("{what}: {names}"));
    }
    arguments.out.write(&merged.to_json()).map_err(CommandError::Output)
}

/// The names in a file of names, or in the data of a file of settings.
fn found(file: &Path, overrides: &Overrides, kinds: &ModelKinds) -> Result<NamesFile, CommandError> {
    if file.extension().is_some_and(|extension| extension == "json") {
        return Ok(NamesFile::read(file).map_err(ModelError::Data)?);
    }
    let mut job: Job = match config::kind_of(file) {
        FileKind::Job => config::load_job(file, overrides, kinds)?.job,
        FileKind::Simulation => config::load_simulation(file, overrides, kinds)?.job,
        FileKind::Region | FileKind::Links => config::load_region(file, overrides, kinds)?.job,
    };
    // What is declared is made here, and need not be there yet.
    job.data.declared = Declared::default();
    let problems = data::problems(&job, file);
    if !problems.is_empty() {
        return Err(ConfigError { problems }.into());
    }
    Ok(find(&job.data, job.model.outcome()).map_err(ModelError::Data)?)
}
