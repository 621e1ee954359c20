//! Files that appear whole, and keys that nobody else can ever read.
//!
//! Kind: driver.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {path}", path = path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner: mode 0600 from the moment it is created.
    Owner,
    /// Everybody that the user's mask allows.
    Everybody,
}

/// Writes `text` beside `path`, then renames.
pub(super) fn write(path: &Path, text: &str, readers: Readers) -> Result<(), WriteError> {
    replace(path, text, readers).map_err(|source| WriteError { path: path.to_owned(), source })
}

fn replace(path: &Path, text: &str, readers: Readers) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    if let Some(permissions) = permissions(readers) {
        builder.permissions(permissions);
    }
    let mut file = builder.prefix(".gaia-").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename, too, should outlive a crash: a certificate without its key is of no use.
    fs::File::open(directory)?.sync_all()
}

/// The mode that the file is created with; the user's mask takes from it.
#[cfg(unix)]
fn permissions(readers: Readers) -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everybody => 0o644,
    };
    Some(Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn permissions(_: Readers) -> Option<Permissions> {
    None
}
