//! `gaia evaluate`: what a trained model is worth, and what it predicts.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use datacenter::printable;
use serde::Serialize;

use super::export::{About, read, sources};
use super::models_arguments::EvaluateArguments;
use super::{CommandError, ModelError, data, style};
use crate::human::figure;
use crate::learning::application::{Application, Evaluation, Model, ModelKinds};
use crate::learning::data::{DataFile, DataRoot};
use crate::learning::data::{Name, Vocabulary};
use crate::learning::models::is_external;
use crate::program::report::Destination;
use crate::service::checkpoint::write_beside;
use crate::service::model_files;
use crate::service::short;
use crate::settings::{ConfigError, Problem};

/// What was found; `--json` writes it as it stands.
#[derive(Debug, Serialize)]
struct Found {
    /// The job's name, whose copy, and at which clock.
    job: String,
    region: String,
    clock: u32,
    /// The beginning of the job's digest.
    digest: String,
    /// Where the model was read.
    files: Vec<String>,
    /// The training objective; of a model that was judged by other data, theirs.
    objective: Option<f64>,
    metric: Figure,
    /// The objective on the test data, where there are any.
    test_objective: Option<f64>,
    /// How many of them there are.
    test_examples: Option<usize>,
    /// The files that stand for the test data.
    data: Vec<String>,
    /// Of those, how many are left out: the model knows nothing of whom they are about.
    left_out: u64,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    value: Option<f64>,
}

pub(super) fn evaluate(arguments: &EvaluateArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    for place in arguments.json.iter().chain(&arguments.predictions) {
        // Better now than after the data has been read.
        place.check().map_err(CommandError::Place)?;
    }
    if let (Some(json), Some(predictions)) = (&arguments.json, &arguments.predictions)
        && json.is_same(predictions)
    {
        return Err(problem("--predictions", "goes where --json goes; allowed: two different places").into());
    }
    let about = About::load(&arguments.config, &arguments.model, kinds)?;
    if is_external(&about.job.model) {
        return Err(ModelError::External.into());
    }
    let files = arguments.data.iter().map(|text| data_file(text)).collect::<Result<Vec<_>, _>>()?;
    let known = known(arguments, &about, &files)?;
    if files.is_empty() || known.is_none() {
        let problems = data::problems(&about.job, &arguments.config);
        if !problems.is_empty() {
            return Err(ConfigError { problems }.into());
        }
    }
    let (application, left_out) = build(&about, known.as_ref(), &files)?;
    let specs = application.tables();
    let vocabulary = application.vocabulary();
    let digest = about.region.as_ref().map(|region| short(&region.digest(&specs, vocabulary.as_deref())));
    let found = read(&arguments.model, Some(&about), digest)?;
    let (job, region) = (found.model.job.clone(), found.model.region.clone());
    let (clock, digest) = (found.model.clock, found.model.digest.clone());
    let tables = found.model.into_tables(&specs).map_err(ModelError::Other)?;

    let judgement = application.judge(&tables);
    if judgement.is_none() && !files.is_empty() {
        return Err(ModelError::NothingToJudge.into());
    }
    // Of other data both figures are theirs.
    let evaluation = match judgement {
        Some(judgement) if !files.is_empty() => judgement.evaluation,
        _ => application.evaluate(&tables),
    };
    let Evaluation { objective, metric } = evaluation;
    let finite = |value: f64| value.is_finite().then_some(value);
    let found = Found {
        job,
        region,
        clock,
        digest,
        files: found.files,
        objective: finite(objective),
        metric: Figure { name: metric.name, value: finite(metric.value) },
        test_objective: judgement.and_then(|judgement| finite(judgement.evaluation.objective)),
        test_examples: judgement.map(|judgement| judgement.examples),
        data: files.iter().map(ToString::to_string).collect(),
        left_out,
    };
    if let Some(place) = &arguments.predictions {
        predict(&*application, &tables, place)?;
    }
    tell(arguments, &found)
}

/// What the model's files say that its rows and columns stand for: of several jobs' files, those of
/// `about`.
fn known(
    arguments: &EvaluateArguments,
    about: &About,
    files: &[DataFile],
) -> Result<Option<Vocabulary>, CommandError> {
    let found =
        model_files::vocabularies(&sources(&arguments.model, Some(about))?).map_err(ModelError::Read)?;
    let mut all = found.into_iter();
    let Some((digest, first)) = all.next() else { return Ok(None) };
    let Some(region) = about.region.as_ref().filter(|_| all.len() > 0) else { return Ok(Some(first)) };
    let fitting = std::iter::once((digest, first.clone())).chain(all).find(|(digest, vocabulary)| {
        let application = build(about, Some(vocabulary), files);
        application.is_ok_and(|(application, _)| {
            let vocabulary = application.vocabulary();
            short(&region.digest(&application.tables(), vocabulary.as_deref())) == *digest
        })
    });
    Ok(Some(fitting.map_or(first, |(_, vocabulary)| vocabulary)))
}

/// The model's application, to be judged by `files`, or by the job's own data where there are none;
/// and how many examples are left out.
fn build(
    about: &About,
    known: Option<&Vocabulary>,
    files: &[DataFile],
) -> Result<(Box<dyn Application>, u64), CommandError> {
    let input = match files {
        [] => about.job.input(about.seed).known(known),
        files => about.job.input(about.seed).judging(known, files),
    };
    let application = input.application().map_err(ModelError::Build)?;
    Ok((application, input.left_out()))
}

fn tell(arguments: &EvaluateArguments, found: &Found) -> Result<(), CommandError> {
    if let Some(place) = &arguments.json {
        let json = serde_json::to_string_pretty(found).expect("plain data") + "\n";
        place.write(&printable::json(&json)).map_err(CommandError::Output)?;
    }
    // A model's file may be anybody's.
    let text = printable::lines(&table(found)).into_owned();
    let places = arguments.json.iter().chain(&arguments.predictions);
    if places.into_iter().any(|place| *place == Destination::Stdout) {
        // Standard output is for the program that reads it.
        let _ = io::stderr().write_all(text.as_bytes());
        return Ok(());
    }
    Destination::Stdout.write(&text).map_err(CommandError::Output)
}

fn table(found: &Found) -> String {
    let style = style(io::stdout().is_terminal());
    let shown = |value: Option<f64>| figure(value.unwrap_or(f64::NAN));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_width(style.width);
    let mut row = |name: String, value: String| {
        table.add_row([name, value]);
    };
    let metric = (found.metric.name.to_owned(), shown(found.metric.value));
    if found.data.is_empty() {
        row("objective".to_owned(), shown(found.objective));
        row(metric.0, metric.1);
        if let Some(examples) = found.test_examples {
            row("objective of test data".to_owned(), shown(found.test_objective));
            row("test examples".to_owned(), examples.to_string());
        }
    } else {
        row("objective".to_owned(), shown(found.objective));
        row(metric.0, metric.1);
        row("examples".to_owned(), found.test_examples.unwrap_or(0).to_string());
        if found.left_out > 0 {
            row("left out, of nobody known".to_owned(), found.left_out.to_string());
        }
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let of = if found.data.is_empty() { String::new() } else { format!(", on {}", found.data.join(" and ")) };
    format!("{} of {} at clock {}{of}\n{}\n", found.job, found.region, found.clock, table.trim_fmt())
}

/// Writes what the model predicts as CSV.
fn predict(application: &dyn Application, model: &Model, place: &Destination) -> Result<(), CommandError> {
    if application.predicted().is_empty() {
        return Err(ModelError::NoPredictions.into());
    }
    let fill = |out: &mut dyn Write| {
        let mut out = csv::Writer::from_writer(BufWriter::with_capacity(1 << 16, out));
        out.write_record(application.predicted())?;
        let mut failed = None;
        application.predict(model, &mut |figures| {
            if failed.is_none() {
                let cells =
                    figures.iter().enumerate().map(|(column, figure)| cell(application, column, *figure));
                failed = out.write_record(cells).err();
            }
        });
        match failed {
            Some(error) => Err(error.into()),
            None => out.flush(),
        }
    };
    let written = match place {
        Destination::Stdout => match fill(&mut io::stdout().lock()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        },
        Destination::File(path) => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            write_beside(directory.unwrap_or(Path::new(".")), &name, |file: &mut File| fill(file))
        }
    };
    written.map_err(|source| ModelError::Predictions(source).into())
}

/// A figure in words: a name, or a number as short as it can be.
fn cell(application: &dyn Application, column: usize, figure: f64) -> String {
    if let Some(names) = application.predicted_names(column) {
        return match names.get(figure as usize) {
            Some(Name::Number(number)) => number.to_string(),
            Some(Name::Text(text)) => text.to_string(),
            None => String::new(),
        };
    }
    // They are 32-bit floats, or whole numbers that these may not hold.
    let short = figure as f32;
    match f64::from(short) == figure {
        true if figure.fract() != 0.0 => short.to_string(),
        _ => figure.to_string(),
    }
}

fn data_file(text: &str) -> Result<DataFile, ConfigError> {
    match DataRoot::parse(text, None) {
        Some(DataRoot::Directory(path)) => Ok(DataFile::Path(path)),
        Some(DataRoot::Store(url)) => Ok(DataFile::Object(Box::new(url))),
        None => Err(problem("--data", &format!("found {text:?}; allowed: a path, or a URL of a store"))),
    }
}

fn problem(place: &str, message: &str) -> ConfigError {
    Problem { place: place.to_owned(), key: None, message: message.to_owned() }.into()
}
