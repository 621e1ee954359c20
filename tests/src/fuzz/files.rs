//! Files of which the bytes are the content.

use std::fs;

use tempfile::TempDir;

/// Stands between two files of an input. In the corpora it is a line of its own.
const SEPARATOR: &[u8] = b"\n%%\n";

/// The files in an input: at most `most`, the last of which may contain what separates the others.
pub(super) fn parts(data: &[u8], most: usize) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while parts.len() + 1 < most
        && let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    parts
}

/// A directory in memory, where the system has such: on a busy disk the fuzzers would do little
/// else than wait.
const IN_MEMORY: &str = "/dev/shm";

/// A directory with files of these names and contents, which is gone when it is dropped.
pub(super) fn directory<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> TempDir {
    let directory = tempfile::tempdir_in(IN_MEMORY).or_else(|_| tempfile::tempdir());
    let directory = directory.expect("a directory can be made");
    for (name, content) in files {
        fs::write(directory.path().join(name), content).expect("files can be written there");
    }
    directory
}
