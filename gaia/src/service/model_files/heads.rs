//! What files say that they are.
//!
//! Kind: driver. Only the headers are read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use safetensors::tensor::Metadata;
use serde::Deserialize;
use thiserror::Error;

use crate::learning::data::DataRoot;
use crate::service::checkpoint::{Entry, MAX_HEADER_BYTES, Place};

/// Enough for nearly all headers.
const FIRST_BYTES: u64 = 1 << 16;

/// Where files are looked for: a directory or a place in a store with all below it, or a single
/// file.
#[derive(Clone, Debug)]
pub struct Source {
    place: Place,
    /// The folder, or the file.
    name: String,
}

/// Why nothing can be looked for.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Neither a path nor a URL of a store.
    #[error(
        "{text:?} is no place for files; allowed: a path, or a URL of a store such as \"s3://bucket/prefix\""
    )]
    Text {
        /// What it is.
        text: String,
    },
    /// It cannot be looked into.
    #[error("{place} cannot be read")]
    Read {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// There are no files of models.
    #[error("there are no safetensors files in {place}")]
    Nothing {
        /// Where.
        place: String,
    },
}

/// A file, as its header has it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) place: Place,
    pub(super) entry: Entry,
    pub(super) job: String,
    /// 16 digits.
    pub(super) digest: String,
    pub(super) region: String,
    /// Which shard of how many; none for a whole model.
    pub(super) shard: Option<(u16, u16)>,
    pub(super) clock: u32,
    /// By region, the clock up to which all its updates are there; empty where the file does not
    /// say.
    pub(super) regions: BTreeMap<String, u32>,
    /// By region, how many of these clocks it has left out, where it has.
    pub(super) left_out: BTreeMap<String, u32>,
    /// What rows and columns stand for, as it was written; none in most shards.
    pub(super) vocabulary: Option<String>,
}

impl Source {
    /// All below `root`.
    pub fn all(root: &DataRoot, folder: String) -> Self {
        Self { place: root.into(), name: folder }
    }

    /// What a user has named: a file, or else all in a directory or below a URL.
    ///
    /// # Errors
    ///
    /// If it is neither.
    pub fn named(text: &str) -> Result<Self, SourceError> {
        let root = DataRoot::parse(text, None);
        let root = root.ok_or_else(|| SourceError::Text { text: text.to_owned() })?;
        Ok(match &root {
            DataRoot::Directory(path) if !path.exists() => {
                let source = io::Error::new(io::ErrorKind::NotFound, "there is no such file or directory");
                return Err(SourceError::Read { place: text.to_owned(), source });
            }
            DataRoot::Directory(path) if !path.is_dir() => {
                let directory = match path.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Self { place: (&DataRoot::Directory(directory.to_owned())).into(), name }
            }
            DataRoot::Store(url) if url.path().ends_with(".safetensors") => {
                let mut folder = url.clone();
                let name = url.path().rsplit('/').next().unwrap_or_default().to_owned();
                if let Ok(mut segments) = folder.path_segments_mut() {
                    segments.pop();
                }
                Self { place: (&DataRoot::Store(folder)).into(), name }
            }
            DataRoot::Directory(_) | DataRoot::Store(_) => Self::all(&root, String::new()),
        })
    }

    /// The heads of all files here that are some of a model; of others why not goes to `problems`.
    pub(super) fn heads(&self, problems: &mut Vec<String>) -> Result<Vec<Head>, SourceError> {
        let shown =
            || if self.name.is_empty() { self.place.to_string() } else { self.place.named(&self.name) };
        let read = |source| SourceError::Read { place: shown(), source };
        let entries = if self.name.ends_with(".safetensors") {
            vec![self.place.look(&self.name).map_err(read)?]
        } else {
            self.place.list(&self.name).map_err(read)?
        };
        let mut heads = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.name.ends_with(".safetensors")) {
            let name = self.place.named(&entry.name);
            match texts(&self.place, &entry) {
                Ok(Some(texts)) => match head(&self.place, entry, &texts) {
                    Some(head) => heads.push(head),
                    None => problems
                        .push(format!("{name} is no file of a model: its metadata says nothing of it")),
                },
                Ok(None) => problems.push(format!("{name} is no safetensors file")),
                Err(error) => problems.push(format!("{name} cannot be read: {error}")),
            }
        }
        if heads.is_empty() && problems.is_empty() {
            return Err(SourceError::Nothing { place: shown() });
        }
        Ok(heads)
    }
}

/// The metadata of a file; none if it is no safetensors file.
fn texts(place: &Place, entry: &Entry) -> io::Result<Option<BTreeMap<String, String>>> {
    let mut start = place.start_of(entry, FIRST_BYTES)?;
    let Some(length) = start.first_chunk().map(|length| u64::from_le_bytes(*length)) else {
        return Ok(None);
    };
    if length > MAX_HEADER_BYTES {
        return Ok(None);
    }
    if start.len() as u64 == FIRST_BYTES && FIRST_BYTES < 8 + length {
        start = place.start_of(entry, 8 + length)?;
    }
    let Some(header) = start.get(8..8 + length as usize) else { return Ok(None) };
    let Ok(header) = serde_json::from_slice::<Metadata>(header) else { return Ok(None) };
    let texts = header.metadata().iter().flatten();
    Ok(Some(texts.map(|(key, text)| (key.clone(), text.clone())).collect()))
}

fn head(place: &Place, entry: Entry, texts: &BTreeMap<String, String>) -> Option<Head> {
    let shard = match (texts.get("shard"), texts.get("shards")) {
        (None, None) => None,
        (shard, shards) => {
            let shard = (shard?.parse().ok()?, shards?.parse().ok()?);
            (shard.0 < shard.1).then_some(Some(shard))?
        }
    };
    Some(Head {
        place: place.clone(),
        entry,
        job: texts.get("job")?.clone(),
        digest: texts.get("digest")?.chars().take(16).collect(),
        region: texts.get("region")?.clone(),
        shard,
        clock: texts.get("clock")?.parse().ok()?,
        regions: regions(texts),
        left_out: left_out(texts),
        vocabulary: texts.get("vocabulary").cloned(),
    })
}

/// Which regions took part, as a result says it, or a checkpoint of its origins.
fn regions(texts: &BTreeMap<String, String>) -> BTreeMap<String, u32> {
    #[derive(Deserialize)]
    struct Origin {
        datacenter: String,
        #[serde(default)]
        included: u32,
    }
    if let Some(regions) = texts.get("regions") {
        return serde_json::from_str(regions).unwrap_or_default();
    }
    let origins = texts.get("origins").and_then(|origins| serde_json::from_str::<Vec<Origin>>(origins).ok());
    let others = origins.iter().flatten().map(|origin| (origin.datacenter.clone(), origin.included));
    let mut regions: BTreeMap<_, _> = others.collect();
    let clock = texts.get("clock").and_then(|clock| clock.parse().ok());
    if let (Some(region), Some(clock), Some(_)) = (texts.get("region"), clock, origins) {
        regions.insert(region.clone(), clock);
    }
    regions
}

/// Which regions have left out clocks, and how many: a result says it by region, a checkpoint of
/// itself and of each origin.
fn left_out(texts: &BTreeMap<String, String>) -> BTreeMap<String, u32> {
    #[derive(Deserialize)]
    struct Origin {
        datacenter: String,
        #[serde(default)]
        heard: u32,
        #[serde(default)]
        included: u32,
        #[serde(default)]
        left_out: u32,
    }
    let own = texts.get("left_out");
    if let Some(by_region) = own.and_then(|text| serde_json::from_str(text).ok()) {
        return by_region;
    }
    let origins = texts.get("origins").and_then(|origins| serde_json::from_str::<Vec<Origin>>(origins).ok());
    let others = origins.into_iter().flatten().map(|origin| {
        // It was said of the clock that was heard; those whose updates are not included may be the
        // ones.
        let beyond = origin.heard.saturating_sub(origin.included);
        (origin.datacenter, origin.left_out.saturating_sub(beyond))
    });
    let own = own.and_then(|text| text.parse().ok()).zip(texts.get("region"));
    let own = own.map(|(left_out, region)| (region.clone(), left_out));
    others.chain(own).filter(|(_, left_out)| *left_out > 0).collect()
}
