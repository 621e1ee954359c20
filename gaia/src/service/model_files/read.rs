//! Reads a model.
//!
//! Kind: driver.

use std::collections::BTreeMap;

use datacenter::{Placement, ShardId};
use thiserror::Error;

use super::choice::{Candidate, Wanted, candidates};
use super::heads::{Head, Source, SourceError};
use super::{Table, Trained};
use crate::human::with_causes;
use crate::learning::data::Vocabulary;
use crate::service::checkpoint::{ContentError, Shard};

/// A model, and what is worth to be said of how it was found.
#[derive(Debug)]
pub struct Read {
    /// The model.
    pub model: Trained,
    /// The files that it was put together from.
    pub files: Vec<String>,
    /// Files that were passed over, and why.
    pub notes: Vec<String>,
}

/// Why there is no model.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Nothing could be looked for.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There are files, and none of them can be used.
    #[error("none of the files can be used{}", lines(problems))]
    Unusable {
        /// Each with its reason.
        problems: Vec<String>,
    },
    /// The region is not there.
    #[error("there is nothing of region {wanted}; there is {}", found.join(", "))]
    NoSuchRegion {
        /// Which one.
        wanted: String,
        /// Those that are.
        found: Vec<String>,
    },
    /// Somebody has to say which region.
    #[error("there are copies of several regions: {}; say which with --region", found.join(", "))]
    SeveralRegions {
        /// Which ones.
        found: Vec<String>,
    },
    /// Somebody has to say which files.
    #[error("there are several models; name the files of one{}", lines(found))]
    SeveralModels {
        /// Which ones.
        found: Vec<String>,
    },
    /// Shards are missing.
    #[error(
        "{}{}",
        match clock {
            Some(clock) => format!("not all shards are there at clock {clock}"),
            None => "there is no clock at which all shards are there; --mixed takes the newest of each".to_owned(),
        },
        lines(clocks)
    )]
    Incomplete {
        /// At which clock, if one was asked for.
        clock: Option<u32>,
        /// By shard, what is there.
        clocks: Vec<String>,
    },
}

fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\n  {text}")).collect()
}

/// Why a file is not the shard that it says it is.
#[derive(Debug, Error)]
enum ShardError {
    #[error("cannot be read")]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("is damaged: its content is not what its checksum says")]
    Damaged,
    #[error("has tables that do not fit those of the other shards")]
    Fit,
}

/// Reads the model that is wanted from `sources`. Where its newest files are damaged, those of the
/// clock before are taken, unless a clock was asked for.
///
/// # Errors
///
/// If there is none, or if it is not clear which one.
pub fn read(sources: &[Source], wanted: &Wanted) -> Result<Read, ReadError> {
    let mut notes = Vec::new();
    let mut heads = Vec::new();
    for source in sources {
        heads.extend(source.heads(&mut notes)?);
    }
    if heads.is_empty() {
        return Err(ReadError::Unusable { problems: notes });
    }
    for candidate in candidates(heads, wanted, &mut notes)? {
        match assemble(&candidate, &mut notes) {
            Ok(model) => {
                let files = candidate.heads.iter().map(|head| head.place.named(&head.entry.name)).collect();
                return Ok(Read { model, files, notes });
            }
            Err(problem) => notes.push(problem),
        }
    }
    Err(ReadError::Unusable { problems: notes })
}

/// What the models in `sources` stand for, each with the beginning of the digest of its job; those
/// are left out that say nothing of it.
///
/// # Errors
///
/// If nothing can be looked for.
pub fn vocabularies(sources: &[Source]) -> Result<Vec<(String, Vocabulary)>, ReadError> {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    for source in sources {
        for head in source.heads(&mut notes)? {
            let vocabulary = vocabulary(&head, &mut notes).map(|vocabulary| (head.digest, vocabulary));
            found.extend(vocabulary.filter(|new| !found.contains(new)));
        }
    }
    Ok(found)
}

fn vocabulary(head: &Head, notes: &mut Vec<String>) -> Option<Vocabulary> {
    let read = Vocabulary::from_json(head.vocabulary.as_ref()?);
    read.map_err(|error| {
        let file = head.place.named(&head.entry.name);
        notes.push(format!("what {file} says of its rows and columns cannot be read: {error}"));
    })
    .ok()
}

/// Puts the shards together; an error names the file.
fn assemble(candidate: &Candidate, notes: &mut Vec<String>) -> Result<Trained, String> {
    let first = candidate.heads.first().expect("a model has a shard");
    let mut model = Trained {
        job: first.job.clone(),
        digest: first.digest.clone(),
        region: first.region.clone(),
        clock: candidate.clock,
        regions: regions(&candidate.heads),
        left_out: left_out(&candidate.heads),
        vocabulary: None,
        tables: Vec::new(),
    };
    model.vocabulary = candidate.heads.iter().find_map(|head| vocabulary(head, notes));
    let mut shards = Vec::new();
    for head in &candidate.heads {
        shards.push(shard(head).map_err(|error| said(head, &error))?);
    }
    let count = candidate.heads.len();
    let placement = Placement::new(count as u16);
    for (place, (tables, head)) in shards.into_iter().zip(&candidate.heads).enumerate() {
        if place == 0 {
            model.tables = tables.iter().map(empty).collect();
        }
        let fits = tables.len() == model.tables.len()
            && tables.iter().zip(&model.tables).all(|(a, b)| (&a.name, a.width) == (&b.name, b.width));
        if !fits {
            return Err(said(head, &ShardError::Fit));
        }
        for (table, shard) in model.tables.iter_mut().zip(&tables) {
            table.rows += shard.rows;
            // Up to the last row of this shard.
            let rows = shard.rows.checked_sub(1).map_or(0, |last| last * count + place + 1);
            if table.values.len() < rows * table.width {
                table.values.resize(rows * table.width, 0.0);
            }
            for (slot, row) in (0..).zip(shard.values.chunks_exact(table.width.max(1))) {
                let start = placement.row_at(ShardId(place as u16), slot) as usize * table.width;
                table.values[start..start + table.width].copy_from_slice(row);
            }
        }
    }
    let is_whole = |table: &Table| table.values.len() == table.rows * table.width;
    if model.tables.iter().all(is_whole) { Ok(model) } else { Err(said(first, &ShardError::Fit)) }
}

/// By region, the clock that all shards have of it.
fn regions(heads: &[Head]) -> BTreeMap<String, u32> {
    let mut all = heads.first().map(|head| head.regions.clone()).unwrap_or_default();
    for head in heads {
        all.retain(|region, _| head.regions.contains_key(region));
        all.iter_mut().for_each(|(region, clock)| *clock = head.regions[region].min(*clock));
    }
    all
}

/// By region that has left out clocks, how many any shard has of it.
fn left_out(heads: &[Head]) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for (region, left_out) in heads.iter().flat_map(|head| &head.left_out) {
        let most: &mut u32 = all.entry(region.clone()).or_default();
        *most = (*most).max(*left_out);
    }
    all
}

/// A table of that name and width.
fn empty(table: &Table) -> Table {
    Table { name: table.name.clone(), rows: 0, width: table.width, values: Vec::new() }
}

fn said(head: &Head, error: &ShardError) -> String {
    format!("{} {}", head.place.named(&head.entry.name), with_causes(error))
}

/// Reads the tables of one file.
fn shard(head: &Head) -> Result<Vec<Table>, ShardError> {
    let file = head.place.get(&head.entry.name, head.entry.bytes)?;
    let shard = Shard::open(&file)?;
    if shard.is_damaged() {
        return Err(ShardError::Damaged);
    }
    let mut tables = Vec::new();
    for name in shard.tables()? {
        let (rows, width, values) = shard.table(&name)?;
        tables.push(Table { name, rows, width, values });
    }
    Ok(tables)
}
