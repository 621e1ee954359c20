//! Files in an object store, for somebody who blocks.
//!
//! Kind: driver. Each operation has a thread with a small runtime of its own, as reading data has:
//! whoever asks may be in a runtime or not.

use std::fmt;
use std::io;
use std::sync::Arc;

use futures_util::TryStreamExt;
use object_store::path::{Path, PathPart};
use object_store::{Error, ObjectStore, ObjectStoreExt};
use url::Url;

use super::place::{Entry, too_large};
use crate::learning::data::store::{PUT_TIMEOUT, block_on, explain, start, store};

/// What lies in a store below a prefix.
#[derive(Clone)]
pub(super) struct Objects {
    source: Source,
}

#[derive(Clone)]
enum Source {
    /// Opened for each operation: its client belongs to that one's runtime.
    Url(Url),
    Given(Arc<dyn ObjectStore>),
}

type Opened = (Arc<dyn ObjectStore>, Path);

impl Objects {
    pub(super) fn at(url: Url) -> Self {
        Self { source: Source::Url(url) }
    }

    pub(super) fn of(store: Arc<dyn ObjectStore>) -> Self {
        Self { source: Source::Given(store) }
    }

    pub(super) fn put(&self, name: &str, content: Vec<u8>) -> io::Result<()> {
        let name = name.to_owned();
        self.ask(async move |(store, prefix)| {
            store.put(&below(&prefix, &name), content.into()).await?;
            Ok(Ok(()))
        })
    }

    pub(super) fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let folder = folder.to_owned();
        self.ask(async move |(store, prefix)| {
            let found: Vec<_> = store.list(Some(&below(&prefix, &folder))).try_collect().await?;
            let name = |path: &Path| {
                let words: Vec<_> =
                    path.prefix_match(&prefix)?.map(|word| word.as_ref().to_owned()).collect();
                Some(words.join("/"))
            };
            let entries =
                found.iter().filter_map(|meta| Some(Entry { name: name(&meta.location)?, bytes: meta.size }));
            Ok(Ok(entries.collect()))
        })
    }

    pub(super) fn length(&self, name: &str) -> io::Result<u64> {
        let name = name.to_owned();
        self.ask(async move |(store, prefix)| Ok(Ok(store.head(&below(&prefix, &name)).await?.size)))
    }

    pub(super) fn get(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let name = name.to_owned();
        self.ask(async move |(store, prefix)| {
            let found = store.get(&below(&prefix, &name)).await?;
            if found.meta.size > most {
                return Ok(Err(too_large(found.meta.size, most)));
            }
            Ok(Ok(found.bytes().await?.into()))
        })
    }

    pub(super) fn start_of(&self, name: &str, count: u64) -> io::Result<Vec<u8>> {
        let name = name.to_owned();
        self.ask(async move |(store, prefix)| {
            if count == 0 {
                return Ok(Ok(Vec::new()));
            }
            Ok(Ok(store.get_range(&below(&prefix, &name), 0..count).await?.into()))
        })
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        let name = name.to_owned();
        self.ask(async move |(store, prefix)| {
            store.delete(&below(&prefix, &name)).await?;
            Ok(Ok(()))
        })
    }

    /// Does `work` with the store.
    fn ask<T, W, F>(&self, work: W) -> io::Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Opened) -> F + Send + 'static,
        F: Future<Output = Result<io::Result<T>, Error>>,
    {
        let source = self.source.clone();
        let asking = start(move || {
            let asked = block_on(async {
                let opened = match &source {
                    Source::Given(store) => (store.clone(), Path::default()),
                    Source::Url(url) => {
                        let (store, prefix) = store(url, PUT_TIMEOUT)?;
                        (Arc::from(store), prefix)
                    }
                };
                work(opened).await
            });
            match (asked, source) {
                (Ok(answer), _) => answer,
                (Err(error), Source::Url(url)) => Err(explain(&url, &error)),
                (Err(error), Source::Given(_)) => Err(error.into()),
            }
        })?;
        asking.join().unwrap_or_else(|_| Err(io::Error::other("the request ended without a word")))
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Url(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Source::Given(store) => store.fmt(f),
        }
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The path of `name`, whose words have slashes between. A word is as the store has it: one with
/// `%` or `[`, which the store's client would write otherwise, may be listed, and then has to be
/// found. What cannot stand in a path, such as `..`, is written so that it can.
fn below(prefix: &Path, name: &str) -> Path {
    let words = name.split('/').filter(|word| !word.is_empty());
    let part = |word| PathPart::parse(word).unwrap_or_else(|_| PathPart::from(word));
    words.fold(prefix.clone(), |path, word| path.join(part(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_found() {
        for (name, expected) in [
            ("digits/virginia/x", "runs/digits/virginia/x"),
            ("a%20b/[1]~", "runs/a%20b/[1]~"),
            ("a//b/", "runs/a/b"),
            ("../x", "runs/%2E%2E/x"),
        ] {
            assert_eq!(below(&Path::from("runs"), name).as_ref(), expected);
        }
    }
}
