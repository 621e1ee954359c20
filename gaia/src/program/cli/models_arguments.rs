//! The arguments of the commands that read trained models.

use std::path::PathBuf;

use clap::Args;

use super::arguments::{OverArguments, destination};
use crate::program::report::Destination;

const EXPORT_EXAMPLES: &str = "\
Examples:
  gaia export --config regions/virginia.toml --out model.safetensors
  gaia export out --region virginia --out model.npy
  gaia export s3://bucket/checkpoints/digits/ireland --clock 100 --out weights.csv --table weights

Files are checkpoints, and what servers write at the end (output.directory). The
newest clock that all shards have in common is taken. npy and csv have a table in
each file: of several, the names stand before the ending (model-users.npy).";

const EVALUATE_EXAMPLES: &str = "\
Examples:
  gaia evaluate --config regions/virginia.toml
  gaia evaluate --config regions/virginia.toml out --predictions predictions.csv
  gaia evaluate --config jobs/digits.toml model.safetensors --data new.csv --json -

The objective is that of the training data, as in a run, and the metric that of
the test data. --data puts another file in the place of the test data, in the
job's own format (idx: twice, images and then labels); both are then of that file.";

/// Which model.
#[derive(Args, Debug)]
pub(super) struct ModelArguments {
    /// Files of a model, or directories and stores that hold them [default: the checkpoints of
    /// --config, or its output]
    pub(super) files: Vec<String>,
    #[command(flatten)]
    pub(super) over: OverArguments,
    /// Of checkpoints: the clock [default: the newest that all shards have in common]
    #[arg(long, value_name = "N", conflicts_with = "mixed")]
    pub(super) clock: Option<u32>,
    /// Of checkpoints: take the newest of each shard, though they are of different clocks
    #[arg(long)]
    pub(super) mixed: bool,
    /// Whose copy, where there are several [default: the region of --config]
    #[arg(long, value_name = "NAME")]
    pub(super) region: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// The region's file (TOML), which says where the files are
    #[arg(long, value_name = "FILE", required_unless_present = "files")]
    pub(super) config: Option<PathBuf>,
    /// Where the tables go; how its name ends says in which format: .safetensors, .npy or .csv
    #[arg(long, short, value_name = "OUT")]
    pub(super) out: PathBuf,
    /// Only this table
    #[arg(long, value_name = "NAME")]
    pub(super) table: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = EVALUATE_EXAMPLES)]
pub(super) struct EvaluateArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// The region's file, or the job's (TOML), which say what the model is
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Evaluate on this file in the place of the job's test data; a path or a URL
    #[arg(long, value_name = "FILE")]
    pub(super) data: Vec<String>,
    /// Write what the model predicts for each example of these data, as CSV; `-` is standard output
    #[arg(long, value_name = "OUT", value_parser = destination)]
    pub(super) predictions: Option<Destination>,
    /// Write the result as JSON; `-` is standard output
    #[arg(long, value_name = "OUT", value_parser = destination)]
    pub(super) json: Option<Destination>,
}
