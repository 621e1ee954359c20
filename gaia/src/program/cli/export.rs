//! `gaia export`: a trained model as one file.

use std::path::Path;

use datacenter::printable;

use super::models_arguments::{ExportArguments, ModelArguments};
use super::{CommandError, ModelError};
use crate::human::bytes;
use crate::job::Job;
use crate::job::config;
use crate::job::config::FileKind;
use crate::job::region::CheckpointSettings;
use crate::job::region::Region;
use crate::learning::application::ModelKinds;
use crate::learning::data::DataRoot;
use crate::program::report::Destination;
use crate::service::checkpoint;
use crate::service::model_files::{self, Format, Read, Source, Wanted};
use crate::settings::{ConfigError, Problem};

pub(super) fn export(arguments: &ExportArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    let format: Format = arguments.out.display().to_string().parse().map_err(|error| {
        let message = format!("{error}");
        ConfigError::from(Problem { place: "--out".to_owned(), key: None, message })
    })?;
    Destination::File(arguments.out.clone()).check().map_err(CommandError::Place)?;
    let settings =
        arguments.config.as_deref().map(|file| About::load(file, &arguments.model, kinds)).transpose()?;
    let read = read(&arguments.model, settings.as_ref(), None)?;
    let files = model_files::write(&read.model, format, &arguments.out, arguments.table.as_deref());
    let mut text = String::new();
    let tables = read
        .model
        .tables
        .iter()
        .filter(|table| arguments.table.as_ref().is_none_or(|name| *name == table.name));
    let shapes: Vec<_> =
        tables.map(|table| format!("{} {} x {}", table.name, table.rows, table.width)).collect();
    for file in files.map_err(ModelError::Write)? {
        let length = std::fs::metadata(&file).map_or(0, |about| about.len());
        text.push_str(&format!("{}  {}\n", file.display(), bytes(length as f64)));
    }
    let model = &read.model;
    text.push_str(&format!(
        "{} of {} at clock {}: {}\n",
        model.job,
        model.region,
        model.clock,
        shapes.join(", ")
    ));
    Destination::Stdout.write(&printable::lines(&text)).map_err(CommandError::Output)
}

/// What a file of settings says of a model.
pub(super) struct About {
    pub(super) job: Job,
    pub(super) seed: u64,
    /// Where it is a region's file.
    pub(super) region: Option<Region>,
}

impl About {
    /// Reads the file of a region or of a job.
    pub(super) fn load(file: &Path, model: &ModelArguments, kinds: &ModelKinds) -> Result<Self, ConfigError> {
        let overrides = model.over.overrides()?;
        if config::kind_of(file) == FileKind::Job {
            let job = config::load_job(file, &overrides, kinds)?;
            return Ok(Self { job: job.job, seed: job.seed, region: None });
        }
        let region = config::load_region(file, &overrides, kinds)?;
        Ok(Self { job: region.job.clone(), seed: region.seed, region: Some(region) })
    }

    /// Where the model's files are: the checkpoints, if there are any, or the output of the job's
    /// end.
    fn sources(&self) -> Vec<Source> {
        let Some(region) = &self.region else { return Vec::new() };
        let folder = format!("{}/{}", region.job.name, region.name);
        let kept = region.checkpoint.as_ref().filter(|kept| has_files(kept, &folder));
        let kept = kept.map(|kept| Source::all(&kept.location, folder.clone()));
        let output = region
            .output
            .as_ref()
            .map(|output| Source::all(&DataRoot::Directory(output.clone()), String::new()));
        kept.or(output).into_iter().collect()
    }
}

fn has_files(kept: &CheckpointSettings, folder: &str) -> bool {
    // Whatever keeps us from looking is said by who reads.
    checkpoint::Place::from(&kept.location).list(folder).map_or(true, |entries| !entries.is_empty())
}

/// Where the files are that the arguments name, or else those of the settings.
pub(super) fn sources(
    arguments: &ModelArguments,
    about: Option<&About>,
) -> Result<Vec<Source>, CommandError> {
    let named = arguments.files.iter().map(|file| Source::named(file)).collect::<Result<Vec<_>, _>>();
    let mut sources = named.map_err(|error| ModelError::Read(error.into()))?;
    if let (true, Some(about)) = (sources.is_empty(), about) {
        sources = about.sources();
    }
    if sources.is_empty() { Err(ModelError::Nowhere.into()) } else { Ok(sources) }
}

/// Reads the model that the arguments name, and tells what was passed over; `digest` is that of the
/// job.
pub(super) fn read(
    arguments: &ModelArguments,
    about: Option<&About>,
    digest: Option<String>,
) -> Result<Read, CommandError> {
    let sources = sources(arguments, about)?;
    // A file that was named says itself whose it is; among several it is our region's that is
    // meant.
    let own = about.and_then(|about| about.region.as_ref()).map(|region| region.name.clone());
    let own = own.filter(|_| {
        arguments.files.is_empty() || arguments.files.len() > 1 || is_directory(&arguments.files[0])
    });
    let wanted = Wanted {
        region: arguments.region.clone().or(own),
        digest,
        clock: arguments.clock,
        is_mixed: arguments.mixed,
    };
    let read = model_files::read(&sources, &wanted).map_err(ModelError::Read)?;
    for note in &read.notes {
        super::say(&format!("note: {note}"));
    }
    Ok(read)
}

fn is_directory(text: &str) -> bool {
    !text.ends_with(".safetensors")
}
