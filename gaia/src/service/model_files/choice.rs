//! Which files make a model.
//!
//! Kind: time-free.

use std::collections::{BTreeMap, BTreeSet};

use super::heads::Head;
use super::read::ReadError;

/// Which model is wanted, where there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whose copy.
    pub region: Option<String>,
    /// The beginning of the job's digest, 16 digits. Where no file has it, others are taken, and
    /// that is noted.
    pub digest: Option<String>,
    /// At which clock; else the newest that all shards have in common.
    pub clock: Option<u32>,
    /// Of each shard its newest, at whatever clock that is.
    pub is_mixed: bool,
}

/// A way to put the model together: one file for each shard, and the clock that all of them had
/// completed.
pub(super) struct Candidate {
    pub(super) clock: u32,
    /// By shard; a whole model is a single one.
    pub(super) heads: Vec<Head>,
}

/// All ways to put the wanted model together, the best first; at least one.
pub(super) fn candidates(
    heads: Vec<Head>,
    wanted: &Wanted,
    notes: &mut Vec<String>,
) -> Result<Vec<Candidate>, ReadError> {
    let heads = of_one_model(heads, wanted, notes)?;
    let mut by_clock: BTreeMap<u32, BTreeMap<u16, Head>> = BTreeMap::new();
    let mut newest: BTreeMap<u16, Head> = BTreeMap::new();
    let mut count = 1;
    for head in heads {
        let (shard, shards) = head.shard.unwrap_or((0, 1));
        count = shards;
        if newest.get(&shard).is_none_or(|known| known.clock < head.clock) {
            newest.insert(shard, head.clone());
        }
        by_clock.entry(head.clock).or_default().entry(shard).or_insert(head);
    }
    let is_whole = |shards: &BTreeMap<u16, Head>| shards.len() == usize::from(count);
    let clocks_of = |shard: u16| {
        let clocks = by_clock.iter().filter(|(_, shards)| shards.contains_key(&shard));
        clocks.map(|(clock, _)| clock.to_string()).collect::<Vec<_>>().join(", ")
    };
    let lacks = |clock| {
        let clocks = (0..count).map(|shard| match clocks_of(shard) {
            none if none.is_empty() => format!("shard {shard}: none"),
            clocks => format!("shard {shard}: clock {clocks}"),
        });
        ReadError::Incomplete { clock, clocks: clocks.collect() }
    };
    if wanted.is_mixed {
        if !is_whole(&newest) {
            return Err(lacks(None));
        }
        let clock = newest.values().map(|head| head.clock).min().unwrap_or_default();
        return Ok(vec![Candidate { clock, heads: newest.into_values().collect() }]);
    }
    let missing = lacks(wanted.clock);
    let whole = by_clock
        .into_iter()
        .rev()
        .filter(|(clock, shards)| is_whole(shards) && wanted.clock.is_none_or(|wanted| wanted == *clock));
    let candidates: Vec<_> =
        whole.map(|(clock, shards)| Candidate { clock, heads: shards.into_values().collect() }).collect();
    if candidates.is_empty() { Err(missing) } else { Ok(candidates) }
}

/// Those of one region and one job.
fn of_one_model(
    mut heads: Vec<Head>,
    wanted: &Wanted,
    notes: &mut Vec<String>,
) -> Result<Vec<Head>, ReadError> {
    let all = |of: fn(&Head) -> &str, heads: &[Head]| -> BTreeSet<String> {
        heads.iter().map(|head| of(head).to_owned()).collect()
    };
    let regions = all(|head| &head.region, &heads);
    if let Some(region) = &wanted.region {
        heads.retain(|head| head.region == *region);
        if heads.is_empty() {
            return Err(ReadError::NoSuchRegion {
                wanted: region.clone(),
                found: regions.into_iter().collect(),
            });
        }
    } else if regions.len() > 1 {
        return Err(ReadError::SeveralRegions { found: regions.into_iter().collect() });
    }
    if let Some(digest) = &wanted.digest {
        if heads.iter().any(|head| head.digest == *digest) {
            heads.retain(|head| head.digest == *digest);
        } else if let Some(head) = heads.first() {
            notes.push(format!(
                "the files are of a job with the digest {}, and the settings here have {digest}: what was trained is \
                 not quite what they say",
                head.digest
            ));
        }
    }
    let kinds: BTreeSet<_> =
        heads.iter().map(|head| (&head.job, &head.digest, head.shard.map(|(_, shards)| shards))).collect();
    if kinds.len() > 1 {
        let found = kinds.iter().map(|(job, digest, shards)| match shards {
            Some(shards) => format!("{job}, digest {digest}, {shards} shards"),
            None => format!("{job}, digest {digest}, whole"),
        });
        return Err(ReadError::SeveralModels { found: found.collect() });
    }
    Ok(heads)
}
