//! Settings as a user writes them: files, and flags over them.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use gaia::job::config::{kind_of, load_job, load_link_file, load_region, load_simulation};
use gaia::learning::models;
use gaia::settings::{ConfigError, Overrides};

use super::files::{directory, parts};

/// Flags are many times slower to merge than a file is to read.
const MAX_FLAGS: usize = 8;

/// The first byte chooses what is asked for. Then come the file, `job.toml` beside it, and flags,
/// `key=value` in each line.
pub fn config_files(data: &[u8]) {
    let Some((kind, files)) = data.split_first() else { return };
    let files = parts(files, 3);
    let directory = directory(["main.toml", "job.toml"].into_iter().zip(files.iter().copied()));
    let path = directory.path().join("main.toml");
    let flags = flags(files.get(2).copied().unwrap_or_default());
    kind_of(&path);
    match kind % 4 {
        0 => settings(&path, &flags, |path, flags| load_simulation(path, flags, &models::kinds())),
        1 => settings(&path, &flags, |path, flags| load_region(path, flags, &models::kinds())),
        2 => settings(&path, &flags, |path, flags| load_job(path, flags, &models::kinds())),
        _ => settings(&path, &flags, load_link_file),
    }
}

fn flags(text: &[u8]) -> Overrides {
    let mut overrides = Overrides::default();
    let text = String::from_utf8_lossy(text);
    for (key, value) in text.lines().take(MAX_FLAGS).filter_map(|line| line.split_once('=')) {
        overrides.flag(&format!("--set {key}"), key, value);
    }
    overrides
}

/// Whatever is wrong is told; and what is right is right again, and the same, when the file is
/// written anew: without comments, its keys sorted.
fn settings<T: Debug + PartialEq>(
    path: &Path,
    flags: &Overrides,
    load: impl Fn(&Path, &Overrides) -> Result<T, ConfigError>,
) {
    let first = match load(path, flags) {
        Ok(settings) => settings,
        Err(error) => {
            assert!(!error.problems.is_empty() && !error.to_string().is_empty());
            return;
        }
    };
    let text = fs::read_to_string(path).expect("it was read before");
    let table: toml::Table = text.parse().expect("what is accepted is TOML");
    fs::write(path, table.to_string()).expect("it was written before");
    match load(path, flags) {
        Ok(second) => assert_eq!(second, first),
        Err(error) => panic!("{error}\nof\n{table}"),
    }
}
