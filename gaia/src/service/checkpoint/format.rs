//! What is in a checkpoint.
//!
//! Kind: time-free; the date is passed in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use datacenter::{Clock, Elements, ShardId, ShardTable, TableId};
use safetensors::View;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use wan::state::{OriginState, ReleasedTable, Remembered, ReplicaState};

use super::content::{Content, ContentError, excerpt, wrong};
use super::counts::Counts;
use super::seal::{BLANK, hex, is_intact, seal};
use super::subject::Subject;

/// The version of all that is said here. It changes when a file of today would be misread.
pub(super) const VERSION: &str = "1";

/// A checkpoint that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The replica.
    pub state: ReplicaState,
    /// What its server had counted, and what the processes before it.
    pub counts: Counts,
    /// When it was written, to the second.
    pub written_at: SystemTime,
    /// How large its file is.
    pub bytes: u64,
}

/// Why bytes are no checkpoint that can be used.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Something is cut off, or was changed.
    #[error("is damaged: its content is not what its checksum says")]
    Damaged,
    /// No checkpoint, or one with something missing.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Of another version of Gaia.
    #[error("is of version {found} of the format; this program reads version {VERSION}")]
    Version {
        /// Which one.
        found: String,
    },
    /// Of another job, or of another state of its settings.
    #[error("is of another job: the job's digest is {expected} here, {found} there")]
    Job {
        /// The beginning of its digest.
        found: String,
        /// The beginning of ours.
        expected: String,
    },
    /// Of another region, or another shard.
    #[error("is of {found}, not of {expected}")]
    Other {
        /// Which one.
        found: String,
        /// Which one is wanted.
        expected: String,
    },
    /// Numbers that make no sense together.
    #[error("is not consistent: {what}")]
    Inconsistent {
        /// What is wrong.
        what: String,
    },
}

/// What the metadata says of an origin.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    datacenter: String,
    life: u64,
    covered: u32,
    /// The clock that it has said to have completed.
    #[serde(default, skip_serializing_if = "is_zero")]
    heard: u32,
    /// The clock up to which all its updates are in the values.
    #[serde(default, skip_serializing_if = "is_zero")]
    included: u32,
    /// How many of the clocks up to `heard` it has said to have left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    left_out: u32,
    /// Whether it has left the job for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Writes `state` as a file, with what its server has counted.
///
/// The file takes as much memory as it has bytes, and for a moment once more as much as its largest
/// table.
///
/// # Panics
///
/// If `state` is not one of `subject`.
pub fn encode(subject: &Subject, state: &ReplicaState, counts: &Counts, written_at: SystemTime) -> Vec<u8> {
    let shapes = subject.shapes(state.shard);
    assert_eq!(state.values.len(), shapes.len(), "a replica has all tables");
    let mut tensors = Vec::new();
    let tables = || subject.tables.iter().zip(&shapes);
    for ((spec, shape), values) in tables().zip(&state.values) {
        tensors.push((spec.name.clone(), Tensor::floats(rows(shape), values)));
    }
    for remainder in &state.remainders {
        let name = &subject.tables[remainder.table.index()].name;
        tensors.push((indexes_name(name), Tensor::counts(vec![remainder.len()], &remainder.indexes)));
        tensors.push((remainder_name(name), Tensor::floats(vec![remainder.len()], &remainder.values)));
    }
    for remembered in &state.remembered {
        let place = remembered.table.index();
        let name = rule_name(&remembered.what, &subject.tables[place].name);
        tensors.push((name, Tensor::floats(rows(&shapes[place]), &remembered.values)));
    }
    for origin in &state.origins {
        let from = subject.name(origin.datacenter);
        for ((spec, shape), table) in tables().zip(&origin.tables) {
            tensors.push((released_name(from, &spec.name), Tensor::floats(rows(shape), &table.sums)));
            let slots = vec![shape.slots as usize];
            tensors.push((stamps_name(from, &spec.name), Tensor::counts(slots, &table.stamps)));
        }
    }
    let texts = texts(subject, state, counts, written_at);
    let texts = texts.into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
    let file = safetensors::serialize(tensors, Some(texts));
    let mut file = file.expect("the tensors of a replica fill their tables");
    let sealed = seal(&mut file);
    assert!(sealed, "there is a place for the checksum");
    file
}

/// Reads what [`encode`] has written, if it is of `shard` and `subject`.
///
/// The tensors are:
///
/// | name | type and shape | what it is |
/// | --- | --- | --- |
/// | `<table>` | F32 `[slots, width]` | the values; slot `i` of shard `s` of `n` is row `i * n + s` |
/// | `remainder.<table>` | F32 `[n]` | what this region has accumulated and not released; it is part of the values |
/// | `indexes.<table>` | U32 `[n]` | where that belongs: `slot * width + column`, ascending |
/// | `rule.<what>.<table>` | F32 `[slots, width]` | what the rule of a table remembers, by its name for it: `velocity`, `squares`, `gradients`, `most-squares` |
/// | `released.<region>.<table>` | F32 `[slots, width]` | the sum of what a region has released |
/// | `stamps.<region>.<table>` | U32 `[slots]` | how many releases it had counted when a row became what it is there |
///
/// and the metadata, as text or JSON: `checkpoint`, the version of the format; `job`, `digest`,
/// `region`, `shard`, `shards`; `clock`; `tables`, their names in the job's order; `workers`, by
/// worker the clock of its last flush in the values; `origins`, of each region whose releases are
/// there its `life`, how many releases are `covered`, which clock it was `heard` to have completed,
/// up to which clock all its updates are `included`, how many clocks it has `left_out`, and whether
/// it has `left` the job for good; `counts`, what its server has counted of what costs money, which
/// files of earlier versions lack; `left_out`, how many of the clocks up to `clock` the region
/// itself has left out, if it has; `written_at`; and `sha256`, over everything. In shard 0 there
/// may be `vocabulary` too: what rows and columns stand for, for whoever uses the model.
///
/// # Errors
///
/// If it is anything else. Sizes are checked before memory is taken, and no bytes make this panic.
pub fn decode(subject: &Subject, shard: ShardId, file: &[u8]) -> Result<Checkpoint, DecodeError> {
    let content = Content::open(file);
    // A damaged file may be anything else as well; only a version that we do not know is told apart
    // before.
    if let Ok(content) = &content
        && let Ok(version) = content.text("checkpoint")
        && version != VERSION
    {
        return Err(DecodeError::Version { found: excerpt(version) });
    }
    if is_intact(file) == Some(false) {
        return Err(DecodeError::Damaged);
    }
    let content = content?;
    content.text("checkpoint")?;
    content.text("sha256")?;
    check_subject(&content, subject, shard)?;
    let mut names = content.names();
    let state = read_state(&content, subject, shard, &mut names)?;
    if let Some(name) = names.first() {
        return Err(ContentError::Unknown { name: excerpt(name) }.into());
    }
    let counts = match content.text("counts") {
        Ok(_) => content.json("counts", "counts by server and by shard", |_| true)?,
        Err(_) => Counts::default(),
    };
    let text = content.text("written_at")?;
    let written_at = humantime::parse_rfc3339(text).map_err(|_| wrong("written_at", text, "a date"))?;
    Ok(Checkpoint { state, counts, written_at, bytes: file.len() as u64 })
}

fn check_subject(content: &Content<'_>, subject: &Subject, shard: ShardId) -> Result<(), DecodeError> {
    let (found, expected) = (content.text("digest")?, hex(&subject.job_digest));
    if found != expected {
        let short = |digits: &str| digits.chars().take(16).collect();
        return Err(DecodeError::Job { found: short(found), expected: short(&expected) });
    }
    let found = (content.text("region")?, content.text("shard")?, content.text("shards")?);
    let expected = (subject.region.as_str(), &*shard.0.to_string(), &*subject.shards.to_string());
    if found != expected {
        let described = |(region, shard, shards): (&str, &str, &str)| {
            format!("shard {} of {} of {}", excerpt(shard), excerpt(shards), excerpt(region))
        };
        return Err(DecodeError::Other { found: described(found), expected: described(expected) });
    }
    Ok(())
}

/// Reads the tensors, and takes them from `names`.
fn read_state(
    content: &Content<'_>,
    subject: &Subject,
    shard: ShardId,
    names: &mut BTreeSet<String>,
) -> Result<ReplicaState, DecodeError> {
    let clock = content.json("clock", "a whole number, at least 0", |_| true)?;
    let left_out = match content.text("left_out") {
        Ok(_) => content.json("left_out", "a whole number, at least 0", |_| true)?,
        Err(_) => 0,
    };
    let count = subject.workers as usize;
    let allowed = format!("an array of {count} clocks");
    let workers: Vec<u32> = content.json("workers", &allowed, |workers: &Vec<_>| workers.len() == count)?;
    let shapes = subject.shapes(shard);
    let tables = || subject.tables.iter().zip(&shapes);
    let mut values = Vec::new();
    for (spec, shape) in tables() {
        values.push(content.floats(&spec.name, &rows(shape))?);
        names.remove(&spec.name);
    }
    let mut remainders = Vec::new();
    for (table, (spec, shape)) in (0..).map(TableId).zip(tables()) {
        if names.remove(&remainder_name(&spec.name)) {
            remainders.push(read_remainder(content, table, &spec.name, *shape)?);
            names.remove(&indexes_name(&spec.name));
        }
    }
    let mut remembered = Vec::new();
    for (table, (spec, shape)) in (0..).map(TableId).zip(tables()) {
        for what in spec.rule.memory() {
            let name = rule_name(what, &spec.name);
            let values = content.floats(&name, &rows(shape))?;
            names.remove(&name);
            remembered.push(Remembered { table, what: (*what).to_owned(), values });
        }
    }
    let mut origins: Vec<OriginState> = Vec::new();
    let most = subject.members.len();
    let known: Vec<Origin> =
        content.json("origins", "an array of regions", |known: &Vec<_>| known.len() <= most)?;
    for origin in known {
        let datacenter = subject.datacenter(&origin.datacenter);
        let is_next = |id| origins.last().is_none_or(|last| last.datacenter < id);
        let datacenter = datacenter.filter(|id| is_next(*id)).ok_or_else(|| {
            wrong("origins", &origin.datacenter, "the regions of the job, each once and in its order")
        })?;
        let mut released = Vec::new();
        for (spec, shape) in tables() {
            let (sums, stamps) =
                (released_name(&origin.datacenter, &spec.name), stamps_name(&origin.datacenter, &spec.name));
            released.push(ReleasedTable {
                sums: content.floats(&sums, &rows(shape))?,
                stamps: content.counts(&stamps, &[shape.slots as usize])?,
            });
            names.remove(&sums);
            names.remove(&stamps);
        }
        origins.push(OriginState {
            datacenter,
            life: origin.life,
            covered: origin.covered,
            heard_clock: Clock(origin.heard),
            included_clock: Clock(origin.included),
            left_out: origin.left_out,
            tables: released,
            has_departed: origin.left,
        });
    }
    let workers = workers.into_iter().map(Clock).collect();
    Ok(ReplicaState {
        shard,
        clock: Clock(clock),
        left_out,
        workers,
        values,
        remainders,
        remembered,
        origins,
    })
}

fn read_remainder(
    content: &Content<'_>,
    table: TableId,
    name: &str,
    shape: ShardTable,
) -> Result<Elements, DecodeError> {
    let inconsistent = |what| DecodeError::Inconsistent { what: format!("the remainder of {name} {what}") };
    let count = content.shape(&remainder_name(name))?.first().copied().unwrap_or(0);
    if count > shape.elements() {
        return Err(inconsistent("is larger than the table"));
    }
    let values = content.floats(&remainder_name(name), &[count])?;
    let indexes = content.counts(&indexes_name(name), &[count])?;
    let ascends = indexes.is_sorted_by(|one, next| one < next);
    if !ascends || indexes.last().is_some_and(|last| *last as usize >= shape.elements()) {
        return Err(inconsistent("has indexes that do not ascend inside of the table"));
    }
    Ok(Elements { table, indexes, values })
}

fn texts(
    subject: &Subject,
    state: &ReplicaState,
    counts: &Counts,
    written_at: SystemTime,
) -> BTreeMap<&'static str, String> {
    fn json<T: Serialize>(value: T) -> String {
        serde_json::to_string(&value).expect("plain data")
    }
    let origins = state.origins.iter().map(|origin| Origin {
        datacenter: subject.name(origin.datacenter).to_owned(),
        life: origin.life,
        covered: origin.covered,
        heard: origin.heard_clock.0,
        included: origin.included_clock.0,
        left_out: origin.left_out,
        left: origin.has_departed,
    });
    let workers: Vec<_> = state.workers.iter().map(|clock| clock.0).collect();
    let tables: Vec<_> = subject.tables.iter().map(|spec| &spec.name).collect();
    let mut texts = BTreeMap::from([
        ("checkpoint", VERSION.to_owned()),
        ("job", subject.job.clone()),
        ("digest", hex(&subject.job_digest)),
        ("region", subject.region.clone()),
        ("shard", state.shard.0.to_string()),
        ("shards", subject.shards.to_string()),
        ("clock", state.clock.0.to_string()),
        ("tables", json(tables)),
        ("workers", json(workers)),
        ("origins", json(origins.collect::<Vec<_>>())),
        ("counts", json(counts)),
        ("written_at", humantime::format_rfc3339_seconds(written_at).to_string()),
        ("sha256", String::from_utf8_lossy(&BLANK).into_owned()),
    ]);
    if state.left_out > 0 {
        texts.insert("left_out", state.left_out.to_string());
    }
    // Once for a model is enough.
    if let Some(vocabulary) = subject.vocabulary.as_ref().filter(|_| state.shard == ShardId(0)) {
        texts.insert("vocabulary", vocabulary.clone());
    }
    texts
}

fn rows(shape: &ShardTable) -> Vec<usize> {
    vec![shape.slots as usize, shape.width as usize]
}

fn remainder_name(table: &str) -> String {
    format!("remainder.{table}")
}

fn indexes_name(table: &str) -> String {
    format!("indexes.{table}")
}

fn rule_name(what: &str, table: &str) -> String {
    format!("rule.{what}.{table}")
}

fn released_name(datacenter: &str, table: &str) -> String {
    format!("released.{datacenter}.{table}")
}

fn stamps_name(datacenter: &str, table: &str) -> String {
    format!("stamps.{datacenter}.{table}")
}

/// Numbers that become bytes when they are written, and not before.
pub(crate) struct Tensor<'a> {
    shape: Vec<usize>,
    numbers: Numbers<'a>,
}

enum Numbers<'a> {
    Floats(&'a [f32]),
    Counts(&'a [u32]),
}

impl<'a> Tensor<'a> {
    pub(crate) fn floats(shape: Vec<usize>, numbers: &'a [f32]) -> Self {
        Self { shape, numbers: Numbers::Floats(numbers) }
    }

    fn counts(shape: Vec<usize>, numbers: &'a [u32]) -> Self {
        Self { shape, numbers: Numbers::Counts(numbers) }
    }
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.numbers {
            Numbers::Floats(_) => Dtype::F32,
            Numbers::Counts(_) => Dtype::U32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self.numbers {
            Numbers::Floats(numbers) => bytes(numbers, |number| number.to_le_bytes()),
            Numbers::Counts(numbers) => bytes(numbers, |number| number.to_le_bytes()),
        })
    }

    fn data_len(&self) -> usize {
        4 * match self.numbers {
            Numbers::Floats(numbers) => numbers.len(),
            Numbers::Counts(numbers) => numbers.len(),
        }
    }
}

/// The numbers one after the other; a plain copy where the machine has them in this order.
fn bytes<T: Copy>(numbers: &[T], of: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    let mut out = vec![0; 4 * numbers.len()];
    for (out, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
        *out = of(*number);
    }
    out
}
