//! What programs read: a comparison as JSON or CSV, written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::program::report::held;
use crate::simulator::results::{Comparison, Run};

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

    /// Writes `text`: to a file beside the final one, which is then renamed, so that nobody sees
    /// half a result.
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
    // The rename, too, should outlive a crash.
    fs::File::open(directory_of(&path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// The comparison as one JSON object; figures that are no numbers (a model that diverged) are
/// `null`.
pub fn json(comparison: &Comparison) -> String {
    let mut text =
        serde_json::to_string_pretty(comparison).expect("an outcome is plain data with string keys");
    text.push('\n');
    text
}

/// Reasons of holds that have a column whether or not there were any, so that files of different
/// runs have the same.
const REASONS: [&str; 4] = ["stale", "barrier", "mirror_clock", "network"];

/// The comparison as CSV with a header: a line for each point of each strategy's curve. What is so
/// of the whole run is on each of its lines; what is not there is empty.
pub fn csv(comparison: &Comparison) -> String {
    let seen = comparison.runs.iter().flat_map(|run| run.holds.keys().map(String::as_str));
    let mut reasons = REASONS.to_vec();
    for reason in seen {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let mut write = |fields: Vec<String>| writer.write_record(fields).expect("a line in memory");
    let held = reasons.iter().map(|reason| format!("run_held_{reason}_seconds"));
    write(COLUMNS.map(str::to_owned).into_iter().chain(held).collect());
    for run in &comparison.runs {
        let of_run = of_run(comparison, run);
        let held: Vec<_> = reasons.iter().map(|reason| number(run.holds.get(*reason).copied())).collect();
        for point in &run.curve {
            let of_point = [
                point.clock.to_string(),
                number(Some(point.seconds)),
                point.wan_bytes.to_string(),
                number(Some(point.objective)),
                run.metric.name.clone(),
                number(Some(point.metric)),
            ];
            let head = [comparison.job.clone(), comparison.seed.to_string(), run.strategy.clone()];
            write(head.into_iter().chain(of_point).chain(of_run.clone()).chain(held.clone()).collect());
        }
    }
    let bytes = writer.into_inner().expect("memory takes all that is written");
    String::from_utf8(bytes).expect("fields are text")
}

/// All columns but those of holds.
const COLUMNS: [&str; 22] = [
    "job",
    "seed",
    "strategy",
    "clock",
    "seconds",
    "wan_bytes",
    "objective",
    "metric_name",
    "metric_value",
    "target_metric",
    "target_value",
    "reached_target",
    "seconds_to_target",
    "wan_bytes_to_target",
    "run_clocks",
    "run_seconds",
    "run_seconds_per_clock",
    "run_wan_bytes",
    "run_wan_payload_bytes",
    "run_naive_wan_bytes",
    "run_filter_hit_share",
    "run_held_seconds",
];

/// Of these, the ones from `target_metric` on.
fn of_run(comparison: &Comparison, run: &Run) -> [String; 13] {
    let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    [
        comparison.target.metric.clone(),
        number(Some(comparison.target.value)),
        run.reached_target.to_string(),
        number(run.seconds_to_target),
        count(run.wan_bytes_to_target),
        run.clocks.to_string(),
        number(Some(run.seconds)),
        number(Some(run.clock_seconds)),
        run.wan_bytes.to_string(),
        run.wan_payload_bytes.to_string(),
        count(run.naive_wan_bytes),
        number(run.filter_hit_rate),
        number(Some(held(run))),
    ]
}

fn number(number: Option<f64>) -> String {
    // What is added makes 0 of -0, as which no tool reads it.
    number.filter(|number| number.is_finite()).map(|number| (number + 0.0).to_string()).unwrap_or_default()
}
