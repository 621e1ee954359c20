//! The trained tables as files, one for each shard of each region, in safetensors.
//!
//! A tensor is named after its table and has shape `[slots, width]`; slot `i` of shard `s` of `n`
//! is row `i * n + s`. The metadata says which shard of how many it is, at which clock, and up to
//! which clock of its own each region took part. That of shard 0 also says what rows and columns
//! stand for ([`crate::learning::data::Vocabulary`], as JSON), so that the model can be used
//! without the data that it was trained on.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use datacenter::Clock;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::{NamedTempFile, TempPath};

use super::ServiceError;
use super::setup::Setup;
use crate::learning::application::ShardValues;
use crate::service::participation::Participation;

/// Makes `directory`, and sees that a file can be written there: a result that is lost for it would
/// show only at the end.
pub(crate) fn prepare(directory: &Path) -> Result<(), ServiceError> {
    let tried = std::fs::create_dir_all(directory).and_then(|()| tempfile::tempfile_in(directory));
    tried
        .map(drop)
        .map_err(|source| ServiceError::OutputDirectory { path: directory.display().to_string(), source })
}

/// Files of a directory that appear together, once all of them are on disk, or not at all: where
/// one cannot, all that have its name or that of another are what they were before.
pub(super) struct Staged {
    directory: PathBuf,
    files: Vec<(NamedTempFile, PathBuf)>,
}

impl Staged {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), files: Vec::new() }
    }

    /// Writes a shard's tables, beside where they will be.
    pub(super) fn add_shard(
        &mut self,
        setup: &Setup,
        participation: &Participation,
        shard: u16,
        clock: Clock,
        tables: &ShardValues,
    ) -> Result<(), ServiceError> {
        let region = &setup.region;
        let name = format!("{}-{}-shard-{shard}.safetensors", region.job.name, region.name);
        let failed =
            |source| ServiceError::Output { path: self.directory.join(&name).display().to_string(), source };
        let file = serialize(setup, participation, shard, clock, tables).map_err(failed)?;
        self.add(&name, &file).map_err(|(path, source)| not_written(&path, source))
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<(), (PathBuf, io::Error)> {
        let path = self.directory.join(name);
        let write = || {
            let mut builder = tempfile::Builder::new();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                // As for any new file: the user's mask decides. The default is for secrets.
                builder.permissions(std::fs::Permissions::from_mode(0o666));
            }
            let mut beside = builder.prefix(".gaia-").tempfile_in(&self.directory)?;
            beside.write_all(content)?;
            beside.as_file().sync_all()?;
            Ok(beside)
        };
        match write() {
            Ok(beside) => self.files.push((beside, path)),
            Err(error) => return Err((path, error)),
        }
        Ok(())
    }

    /// Lets all of them appear; yields where they are.
    pub(super) fn publish(self) -> Result<Vec<PathBuf>, ServiceError> {
        self.rename_all().map_err(|(path, source)| not_written(&path, source))
    }

    fn rename_all(self) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let Self { directory, files } = self;
        let mut published = Published::default();
        for (beside, path) in files {
            if let Err(error) = published.put(&directory, beside, path.clone()) {
                return Err((path, published.take_back(error)));
            }
        }
        // The names, too, should outlive a crash of the machine.
        let synced = File::open(&directory).and_then(|directory| directory.sync_all());
        let paths: Vec<_> = published.0.into_iter().map(|(path, _)| path).collect();
        match synced {
            Ok(()) => Ok(paths),
            Err(source) => {
                let what = format!(
                    "all {} files of the model are there, but may be lost if the machine goes down now: {source}",
                    paths.len()
                );
                Err((directory, io::Error::new(source.kind(), what)))
            }
        }
    }
}

/// Files that are where they belong, with those that were there before; those go with this value.
#[derive(Default)]
struct Published(Vec<(PathBuf, Option<TempPath>)>);

impl Published {
    /// Puts a file to `path`, and what was there aside.
    fn put(&mut self, directory: &Path, beside: NamedTempFile, path: PathBuf) -> io::Result<()> {
        let former = match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => Some(aside(directory, &path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match beside.persist(&path) {
            Ok(_) => {
                self.0.push((path, former));
                Ok(())
            }
            Err(failed) => match former.map(|former| former.persist(&path)) {
                Some(Err(lost)) => Err(kept(failed.error, &path, lost)),
                Some(Ok(())) | None => Err(failed.error),
            },
        }
    }

    /// Brings back what was there: a part of a model is worse than none, as somebody may take it
    /// for all. Yields `error` with whatever else goes wrong.
    fn take_back(self, error: io::Error) -> io::Error {
        self.0.into_iter().rev().fold(error, |error, (path, former)| match former {
            Some(former) => match former.persist(&path) {
                Ok(()) => error,
                Err(lost) => kept(error, &path, lost),
            },
            None => match std::fs::remove_file(&path) {
                Ok(()) => error,
                Err(source) => {
                    let what = format!("{error}; and {} cannot be taken away: {source}", path.display());
                    io::Error::new(error.kind(), what)
                }
            },
        })
    }
}

/// Gives the file at `path` another name beside it, under which it is found until it is known to be
/// needed no more.
fn aside(directory: &Path, path: &Path) -> io::Result<TempPath> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let prefix = format!(".gaia-{name}-");
    // With a second name there is a file at `path` at all times; not all file systems have that.
    let move_to = |place: &Path| match std::fs::hard_link(path, place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => std::fs::rename(path, place),
        linked => linked,
    };
    Ok(tempfile::Builder::new().prefix(&prefix).make_in(directory, move_to)?.into_temp_path())
}

/// `error`, and that the former file of `path` is not there again, but still has the name under
/// which it was put aside.
fn kept(error: io::Error, path: &Path, lost: tempfile::PathPersistError) -> io::Error {
    let (source, aside) = (lost.error, lost.path);
    let place = aside.keep().map_or_else(|_| "nowhere".to_owned(), |place| place.display().to_string());
    let what = format!("{error}; and the former {} is {place} now: {source}", path.display());
    io::Error::new(error.kind(), what)
}

fn not_written(path: &Path, source: io::Error) -> ServiceError {
    ServiceError::Output { path: path.display().to_string(), source }
}

fn serialize(
    setup: &Setup,
    participation: &Participation,
    shard: u16,
    clock: Clock,
    tables: &ShardValues,
) -> io::Result<Vec<u8>> {
    let region = &setup.region;
    let bytes: Vec<Vec<u8>> =
        tables.iter().map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let shapes = &setup.shapes.0[usize::from(shard)];
    let views = setup.specs.iter().zip(shapes).zip(&bytes).map(|((spec, shape), bytes)| {
        let shape = vec![shape.slots as usize, shape.width as usize];
        let view = TensorView::new(Dtype::F32, shape, bytes).expect("a shard's values fill its tables");
        (spec.name.clone(), view)
    });
    let mut metadata = BTreeMap::from([
        ("job", region.job.name.clone()),
        ("digest", super::report::short(&setup.digest)),
        ("region", region.name.clone()),
        ("shard", shard.to_string()),
        ("shards", region.job.shards.to_string()),
        ("clock", clock.0.to_string()),
        ("regions", serde_json::to_string(&participation.by_region()).expect("plain data")),
    ]);
    let left_out = participation.left_out();
    if !left_out.is_empty() {
        metadata.insert("left_out", serde_json::to_string(&left_out).expect("plain data"));
    }
    // Once for a model is enough.
    if let Some(vocabulary) = vocabulary_beside(shard, || setup.vocabulary()) {
        metadata.insert("vocabulary", vocabulary);
    }
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    safetensors::serialize(views, Some(metadata)).map_err(|error| io::Error::other(error.to_string()))
}

/// The vocabulary that goes beside `shard`. It is as long as all names together, and a warning
/// where that is too long: whoever does not need it does not have it made.
fn vocabulary_beside(shard: u16, make: impl FnOnce() -> Option<String>) -> Option<String> {
    (shard == 0).then(make).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn staged(directory: &Path) -> Staged {
        let mut staged = Staged::new(directory);
        for shard in 0..4 {
            staged.add(&format!("shard-{shard}"), &[shard; 10]).unwrap();
        }
        staged
    }

    #[test]
    fn what_was_there_stays_where_the_new_files_cannot_be() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path();
        let former = |shard: u8| directory.join(format!("shard-{shard}"));
        for shard in [0, 1, 3] {
            std::fs::write(former(shard), [100 + shard]).unwrap();
        }
        std::fs::create_dir_all(former(2).join("taken")).unwrap();
        let (path, _) = staged(directory).rename_all().unwrap_err();
        assert_eq!(path, former(2));
        for shard in [0, 1, 3] {
            assert_eq!(
                std::fs::read(former(shard)).unwrap(),
                [100 + shard],
                "shard {shard} of the former model"
            );
        }
        assert_eq!(names(directory).len(), 4, "nothing else is left: {:?}", names(directory));

        std::fs::remove_dir_all(former(2)).unwrap();
        assert_eq!(staged(directory).publish().unwrap().len(), 4);
        assert_eq!(names(directory).len(), 4, "the former model has gone: {:?}", names(directory));
        assert_eq!(std::fs::read(former(0)).unwrap(), [0; 10]);
    }

    #[test]
    fn names_are_written_out_once_for_a_model() {
        let mut made = 0;
        for shard in 0..4 {
            let beside = vocabulary_beside(shard, || {
                made += 1;
                Some("names".to_owned())
            });
            assert_eq!(beside.is_some(), shard == 0);
        }
        assert_eq!(made, 1);
    }

    #[test]
    fn files_appear_together_or_not_at_all() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path();
        let unfinished = staged(directory);
        assert!(!directory.join("shard-0").exists(), "none is there before all are");
        // As where the disk is full before the last of them is written.
        drop(unfinished);
        assert_eq!(names(directory), [""; 0]);

        // The third has no place.
        std::fs::create_dir_all(directory.join("shard-2/taken")).unwrap();
        let (path, _) = staged(directory).rename_all().unwrap_err();
        assert_eq!(path, directory.join("shard-2"));
        assert_eq!(names(directory), ["shard-2"], "what was there is all that is");

        std::fs::remove_dir_all(directory.join("shard-2")).unwrap();
        let paths = staged(directory).publish().unwrap();
        assert_eq!(paths.len(), 4);
        assert_eq!(names(directory).len(), 4);
        assert_eq!(std::fs::read(&paths[3]).unwrap(), [3; 10]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&paths[0]).unwrap().permissions().mode();
            assert_ne!(mode & 0o044, 0, "others may read it: {mode:o}");
        }
    }
}
