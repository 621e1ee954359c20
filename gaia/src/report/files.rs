//! What programs read: a comparison as JSON or CSV, written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::outcome::Comparison;
use crate::report::held;

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, written `-`.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// A result that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct OutputError {
    path: PathBuf,
    source: io::Error,
}

impl From<&str> for Destination {
    fn from(text: &str) -> Self {
        if text == "-" { Self::Stdout } else { Self::File(PathBuf::from(text)) }
    }
}

impl Destination {
    /// Whether a file could be written there, as far as that can be known before there is a result.
    ///
    /// # Errors
    ///
    /// If there is no such directory, or a directory of that name, or nothing can be written there.
    pub fn check(&self) -> Result<(), OutputError> {
        let Self::File(path) = self else { return Ok(()) };
        let error = |kind: io::ErrorKind, message: &str| OutputError {
            path: path.clone(),
            source: io::Error::new(kind, message.to_owned()),
        };
        if path.is_dir() {
            return Err(error(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        if !directory_of(path).is_dir() {
            return Err(error(io::ErrorKind::NotFound, "there is no such directory"));
        }
        if path.exists() && !path.is_file() {
            // A pipe or a device: to open it would already mean something to its reader.
            return Ok(());
        }
        // What will be done in the end, but for the name.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let trial = tempfile::Builder::new().prefix(".gaia-").tempfile_in(directory_of(&target));
        trial.map(drop).map_err(|source| OutputError { path: path.clone(), source })
    }

    /// Whether `other` is the same place, by whatever name.
    pub fn is_same(&self, other: &Self) -> bool {
        let place = |path: &Path| {
            let directory = fs::canonicalize(directory_of(path)).ok()?;
            fs::canonicalize(path).ok().or_else(|| Some(directory.join(path.file_name()?)))
        };
        match (self, other) {
            (Self::File(one), Self::File(two)) => {
                one == two || place(one).is_some_and(|at| Some(at) == place(two))
            }
            _ => self == other,
        }
    }

    /// Writes `text`: to a file beside the final one, which is then renamed, so that nobody sees half a result.
    ///
    /// # Errors
    ///
    /// Whatever the system says. A closed standard output is no error: its reader has seen enough.
    pub fn write(&self, text: &str) -> Result<(), OutputError> {
        match self {
            Self::Stdout => match io::stdout().lock().write_all(text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(OutputError { path: "standard output".into(), source: error })
                }
                Ok(()) | Err(_) => Ok(()),
            },
            Self::File(path) => {
                replace(path, text).map_err(|source| OutputError { path: path.clone(), source })
            }
        }
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays a link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if path.exists() && !path.is_file() {
        // A pipe or a device cannot be replaced.
        return fs::OpenOptions::new().write(true).open(&path)?.write_all(text.as_bytes());
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As for any new file: the user's mask decides. The default is for secrets.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.prefix(".gaia-").tempfile_in(directory_of(&path))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// The comparison as one JSON object; figures that are no numbers (a model that diverged) are `null`.
pub fn json(comparison: &Comparison) -> String {
    let mut text =
        serde_json::to_string_pretty(comparison).expect("an outcome is plain data with string keys");
    text.push('\n');
    text
}

/// One line of the CSV.
#[derive(Serialize)]
struct Line<'a> {
    job: &'a str,
    seed: u64,
    target_metric: &'a str,
    target_value: Option<f64>,
    strategy: &'a str,
    reached_target: bool,
    seconds_to_target: Option<f64>,
    wan_bytes_to_target: Option<u64>,
    seconds: f64,
    wan_bytes: u64,
    wan_payload_bytes: u64,
    naive_wan_bytes: Option<u64>,
    clocks: u32,
    clock_seconds: Option<f64>,
    objective: Option<f64>,
    metric_name: &'a str,
    metric_value: Option<f64>,
    filter_hit_rate: Option<f64>,
    held_seconds: f64,
    /// "reason=seconds" for each reason.
    holds: String,
}

/// The comparison as CSV with a header, one line for each strategy; what is not there is empty.
pub fn csv(comparison: &Comparison) -> String {
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    for run in &comparison.runs {
        let holds: Vec<_> = run.holds.iter().map(|(reason, seconds)| format!("{reason}={seconds}")).collect();
        let line = Line {
            job: &comparison.job,
            seed: comparison.seed,
            target_metric: &comparison.target.metric,
            target_value: finite(comparison.target.value),
            strategy: &run.strategy,
            reached_target: run.reached_target,
            seconds_to_target: run.seconds_to_target,
            wan_bytes_to_target: run.wan_bytes_to_target,
            seconds: run.seconds,
            wan_bytes: run.wan_bytes,
            wan_payload_bytes: run.wan_payload_bytes,
            naive_wan_bytes: run.naive_wan_bytes,
            clocks: run.clocks,
            clock_seconds: finite(run.clock_seconds),
            objective: finite(run.objective),
            metric_name: &run.metric.name,
            metric_value: finite(run.metric.value),
            filter_hit_rate: run.filter_hit_rate.and_then(finite),
            held_seconds: held(run),
            holds: holds.join(" "),
        };
        writer.serialize(line).expect("a line of plain fields in memory");
    }
    let bytes = writer.into_inner().expect("memory takes all that is written");
    String::from_utf8(bytes).expect("fields are text")
}
