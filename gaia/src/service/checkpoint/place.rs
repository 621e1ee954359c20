//! Where files lie that appear whole or not at all: a directory, or a place in an object store.
//!
//! Kind: driver. Everything here blocks.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::objects::Objects;
use crate::learning::data::DataRoot;

/// A directory, or what corresponds to one in an object store.
///
/// Files in it have names of several words with slashes between, as in
/// `digits/virginia/shard-3/clock-000120.safetensors`.
#[derive(Clone, Debug)]
pub struct Place(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Directory(PathBuf),
    Objects(Objects),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// How the names begin of files that are being written.
const PARTIAL: &str = ".partial-";
/// The name of what is written to see whether that is possible.
const TRIAL: &str = ".trial";
/// Directories deeper than this are not looked into.
const DEEPEST: usize = 4;

impl From<&DataRoot> for Place {
    fn from(root: &DataRoot) -> Self {
        Self(match root {
            DataRoot::Directory(directory) => Kind::Directory(directory.clone()),
            DataRoot::Store(url) => Kind::Objects(Objects::at(url.clone())),
        })
    }
}

impl Place {
    /// All of a store that is at hand.
    pub fn of_store(store: std::sync::Arc<dyn object_store::ObjectStore>) -> Self {
        Self(Kind::Objects(Objects::of(store)))
    }

    /// Sees that files can be written here; makes the directory.
    ///
    /// # Errors
    ///
    /// If they cannot.
    pub fn prepare(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Directory(directory) => {
                fs::create_dir_all(directory)?;
                tempfile::tempfile_in(directory).map(drop)
            }
            Kind::Objects(objects) => {
                objects.put(TRIAL, vec![b'\n'])?;
                objects.remove(TRIAL)
            }
        }
    }

    /// Writes a file, over one of the same name if there is one. It is on disk when this returns,
    /// and it is there whole or, if this fails, as it was before.
    ///
    /// # Errors
    ///
    /// Whatever the system or the store says.
    pub fn put(&self, name: &str, content: Vec<u8>) -> io::Result<()> {
        match &self.0 {
            Kind::Directory(directory) => write(directory, name, |file| file.write_all(&content)),
            Kind::Objects(objects) => objects.put(name, content),
        }
    }

    /// Writes a small file that may be lost when the machine crashes, and never is half there.
    /// Object stores, where every file costs money, do without.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub fn note(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let Kind::Directory(directory) = &self.0 else { return Ok(()) };
        let path = directory.join(name);
        let folder = path.parent().expect("it is in the directory");
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(folder)?;
        file.write_all(content)?;
        file.persist(&path)?;
        Ok(())
    }

    /// The files whose names begin with the words of `folder`, in order; none if there is no such
    /// folder.
    ///
    /// # Errors
    ///
    /// Whatever the system or the store says.
    pub fn list(&self, folder: &str) -> io::Result<Vec<Entry>> {
        let mut entries = match &self.0 {
            Kind::Directory(directory) => {
                let mut entries = Vec::new();
                list(&directory.join(folder), folder, DEEPEST, &mut entries)?;
                entries
            }
            Kind::Objects(objects) => objects.list(folder)?,
        };
        entries.sort_unstable();
        Ok(entries)
    }

    /// Looks at a file.
    ///
    /// # Errors
    ///
    /// If there is none, and whatever the system or the store says.
    pub fn look(&self, name: &str) -> io::Result<Entry> {
        let bytes = match &self.0 {
            Kind::Directory(directory) => fs::metadata(directory.join(name))?.len(),
            Kind::Objects(objects) => objects.length(name)?,
        };
        Ok(Entry { name: name.to_owned(), bytes })
    }

    /// Reads a file, if it has at most `most` bytes.
    ///
    /// # Errors
    ///
    /// If it has more, and whatever the system or the store says.
    pub fn get(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        match &self.0 {
            Kind::Directory(directory) => read(&directory.join(name), most),
            Kind::Objects(objects) => objects.get(name, most),
        }
    }

    /// Reads the first `count` bytes of a file, or all there are.
    ///
    /// # Errors
    ///
    /// Whatever the system or the store says.
    pub fn start_of(&self, entry: &Entry, count: u64) -> io::Result<Vec<u8>> {
        let count = count.min(entry.bytes);
        match &self.0 {
            Kind::Directory(directory) => {
                let mut start = Vec::new();
                File::open(directory.join(&entry.name))?.take(count).read_to_end(&mut start)?;
                Ok(start)
            }
            Kind::Objects(objects) => objects.start_of(&entry.name, count),
        }
    }

    /// Deletes a file.
    ///
    /// # Errors
    ///
    /// Whatever the system or the store says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match &self.0 {
            Kind::Directory(directory) => fs::remove_file(directory.join(name)),
            Kind::Objects(objects) => objects.remove(name),
        }
    }

    /// Deletes what processes that died have left half written in `folder`. A store has nothing of
    /// the kind.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub fn sweep(&self, folder: &str) -> io::Result<()> {
        let Kind::Directory(directory) = &self.0 else { return Ok(()) };
        let entries = match fs::read_dir(directory.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What people call a file here.
    pub fn named(&self, name: &str) -> String {
        match &self.0 {
            Kind::Directory(directory) => directory.join(name).display().to_string(),
            Kind::Objects(objects) => format!("{objects}/{name}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Directory(directory) => directory.display().fmt(f),
            Kind::Objects(objects) => objects.fmt(f),
        }
    }
}

/// Writes `directory/name` by `fill`: beside its place, and renamed when all of it is on disk.
pub(crate) fn write(
    directory: &Path,
    name: &str,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let path = directory.join(name);
    let folder = path.parent().expect("it is in the directory");
    let is_new = !folder.is_dir();
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As for any new file: the user's mask decides. The default is for secrets.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.prefix(PARTIAL).tempfile_in(folder)?;
    fill(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    // The rename, too, should outlive a crash of the machine, and so should the folders around it.
    let mut folder = Some(folder);
    while let Some(at) = folder {
        File::open(at)?.sync_all()?;
        folder = at.parent().filter(|_| is_new && at != directory);
    }
    Ok(())
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large(length, most));
    }
    let mut content = Vec::with_capacity(length as usize);
    file.take(most).read_to_end(&mut content)?;
    Ok(content)
}

pub(super) fn too_large(length: u64, most: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {length} bytes, expected are at most {most}"))
}

/// Adds the files below `directory` to `entries`, as `folder/name`.
fn list(directory: &Path, folder: &str, depth: usize, entries: &mut Vec<Entry>) -> io::Result<()> {
    let found = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    for entry in found {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let about = match fs::metadata(entry.path()) {
            // Another process cleans up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            about => about?,
        };
        if about.is_file() {
            entries.push(Entry { name, bytes: about.len() });
        } else if about.is_dir() && depth > 1 {
            list(&entry.path(), &name, depth - 1, entries)?;
        }
    }
    Ok(())
}
