//! Settings as a user writes them: files, environment and flags in, settings or problems out.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::learning::models;

mod anything;
mod deserialize;
mod documentation;
mod job_files;
mod link_files;
mod links;
mod overrides;
mod region_files;

mod settings;
mod wrong;

/// Everything that must be there.
const SMALLEST: &str = r#"
name = "tiny"
[[regions]]
name = "here"
[compute]
examples_per_second = 10
[job]
clocks = 3
[job.data]
format = "csv"
path = "data"
train = "train.csv"
[job.model]
kind = "softmax"
batch = 4
learning_rate.initial = 0.1
"#;

const TRIANGLE: &str = r#"
[[regions]]
name = "there"
[[regions]]
name = "far-away"
[link]
rate = "8 Mbit/s"
loss = "1 %"
outages = [{ start = "1s", length = "1s" }]
[[links]]
between = ["here", "there"]
one_way_delay = "10 ms"
[[links]]
between = ["there", "far-away"]
one_way_delay = "1 s"
queue = "2 bdp"
outages = [{ start = "10s", length = "5s" }]
[[links]]
between = ["here", "far-away"]
one_way_delay = "100 ms"
queue = "64 KiB"
[[links]]
from = "here"
to = "far-away"
rate = "16 Mbit/s"
one_way_delay = "300 ms"
"#;

fn shipped() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/simulations");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the shipped files are there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

fn overrides(variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Overrides {
    let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut overrides = Overrides::from_variables(Some(variables.collect())).expect("text");
    flags.iter().for_each(|(key, value)| overrides.flag(&format!("--set {key}"), key, value));
    overrides
}

/// Loads a simulation of a built-in model.
fn load_simulation(path: &Path, overrides: &Overrides) -> Result<Simulation, ConfigError> {
    super::load_simulation(path, overrides, &models::kinds())
}

/// Loads a region that trains a built-in model.
fn load_region(path: &Path, overrides: &Overrides) -> Result<Region, ConfigError> {
    super::load_region(path, overrides, &models::kinds())
}

/// Loads `text` as a file of its own; messages call it `x.toml`.
fn load_with(text: &str, overrides: &Overrides) -> Result<Simulation, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.toml");
    fs::write(&path, text).expect("a file");
    let prefix = format!("{}/", directory.path().display());
    load_simulation(&path, overrides).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn load(text: &str) -> Result<Simulation, String> {
    load_with(text, &Overrides::default())
}

#[track_caller]
fn problems(text: &str) -> Vec<String> {
    let error = load(text).expect_err("something is wrong");
    let lines: Vec<_> = error.lines().map(|line| line.trim().to_owned()).collect();
    if lines.len() > 1 { lines[1..].to_vec() } else { lines }
}
