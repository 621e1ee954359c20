//! Where data lies: in a directory, or in an object store.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::settings::paths::tidy;

/// Where the files of a data source are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataRoot {
    /// A directory.
    Directory(PathBuf),
    /// A place in an object store or below a web address, such as `s3://bucket/prefix`; it has a
    /// host and carries no secrets.
    Store(Url),
}

/// A file of a data source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataFile {
    /// On disk.
    Path(PathBuf),
    /// In a store. Boxed, since files are part of errors, and a URL is large.
    Object(Box<Url>),
}

impl DataRoot {
    /// The schemes of URLs that can be read.
    pub const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "abfs", "abfss", "http", "https"];

    /// Reads what a user wrote: a URL with one of the schemes, or else a path, relative to
    /// `directory` where there is one. A URL that cannot be used, or that has a password, a query
    /// or a fragment, is nothing.
    pub fn parse(text: &str, directory: Option<&Path>) -> Option<Self> {
        if text.is_empty() || text.contains('\0') {
            return None;
        }
        if !text.contains("://") {
            return Some(Self::Directory(
                directory.map_or_else(|| text.into(), |directory| tidy(&directory.join(text))),
            ));
        }
        let url = Url::parse(text).ok()?;
        let is_known =
            Self::SCHEMES.contains(&url.scheme()) && url.host_str().is_some_and(|host| !host.is_empty());
        // Files and logs are no place for secrets, and a query would be that of one object.
        let is_plain = url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        (is_known && is_plain).then_some(Self::Store(url))
    }

    /// The file `name` there.
    pub fn file(&self, name: &Path) -> DataFile {
        match self {
            Self::Directory(directory) => DataFile::Path(tidy(&directory.join(name))),
            Self::Store(url) => {
                let mut url = url.clone();
                let mut segments = url.path_segments_mut().expect("a URL with a host has a path");
                segments.pop_if_empty();
                for component in name.components() {
                    match component {
                        Component::Normal(part) => drop(segments.push(&part.to_string_lossy())),
                        Component::ParentDir => drop(segments.pop()),
                        // There is no other root than the store's.
                        Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
                    }
                }
                drop(segments);
                DataFile::Object(Box::new(url))
            }
        }
    }
}

impl From<PathBuf> for DataRoot {
    fn from(directory: PathBuf) -> Self {
        Self::Directory(directory)
    }
}

impl fmt::Display for DataRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Store(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for DataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Object(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        let shown = |text: &str| DataRoot::parse(text, Some(Path::new("/etc"))).map(|root| root.to_string());
        for (text, expected) in [
            ("data", Some("/etc/data")),
            ("/data", Some("/data")),
            ("s3://bucket", Some("s3://bucket")),
            ("s3://Bucket/a b/", Some("s3://Bucket/a%20b/")),
            ("gs://bucket/prefix", Some("gs://bucket/prefix")),
            (
                "abfss://container@account.dfs.core.windows.net/x",
                Some("abfss://container@account.dfs.core.windows.net/x"),
            ),
            ("http://127.0.0.1:8000/x", Some("http://127.0.0.1:8000/x")),
            ("ftp://host/x", None),
            ("s3:///x", None),
            ("https://user:secret@host/x", None),
            ("https://host/x?token=secret", None),
            ("https://host/x#y", None),
            ("http://host:port/x", None),
            ("", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn files_are_below_their_root() {
        for (root, name, expected) in [
            ("/data", "train.csv", "/data/train.csv"),
            ("/data", "/elsewhere/train.csv", "/elsewhere/train.csv"),
            ("s3://bucket", "train.csv", "s3://bucket/train.csv"),
            ("s3://bucket/", "train.csv", "s3://bucket/train.csv"),
            ("s3://bucket/a/b", "c/train 1.csv", "s3://bucket/a/b/c/train%201.csv"),
            ("s3://bucket/a/b/", "../train.csv", "s3://bucket/a/train.csv"),
            ("http://host:1", "./x", "http://host:1/x"),
        ] {
            let root = DataRoot::parse(root, None).expect(root);
            assert_eq!(root.file(Path::new(name)).to_string(), expected);
        }
    }
}
