//! Paths as people would write them.
//!
//! Kind: driver: it looks for symbolic links.

use std::path::{Component, Path, PathBuf};

/// The same path without detours: `configs/regions/../jobs/digits.toml` is
/// `configs/jobs/digits.toml`. Not behind a symbolic link, where `..` leads elsewhere.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                let is_plain = matches!(tidy.components().next_back(), Some(Component::Normal(_)));
                // A directory that is not there leads nowhere either way.
                if is_plain && !tidy.is_symlink() {
                    tidy.pop();
                } else if tidy.has_root() && tidy.parent().is_none() {
                    // Nothing is above the root.
                } else {
                    tidy.push("..");
                }
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => tidy.push(component),
        }
    }
    if tidy.as_os_str().is_empty() { ".".into() } else { tidy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detours_are_left_out() {
        for (path, expected) in [
            ("configs/regions/../jobs/digits.toml", "configs/jobs/digits.toml"),
            ("./regions/./../../data//", "../data"),
            ("../../a", "../../a"),
            ("/a/b/../../c", "/c"),
            ("/../../a", "/a"),
            ("a/..", "."),
            (".", "."),
        ] {
            assert_eq!(tidy(Path::new(path)), Path::new(expected), "{path}");
        }
    }

    #[test]
    fn a_symbolic_link_is_no_detour() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(directory.path().join("far/away")).expect("a directory");
        std::os::unix::fs::symlink("far/away", directory.path().join("link")).expect("a link");
        let path = directory.path().join("link/../file");
        assert_eq!(tidy(&path), path, "that is far/file");
        assert_eq!(tidy(&directory.path().join("far/../file")), directory.path().join("file"));
    }
}
