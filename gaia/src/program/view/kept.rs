//! What is shown of a region's checkpoints.
//!
//! Kind: time-free.

use super::paint::{Ink, Item, item};
use super::region::Region;
use crate::human::{bytes, seconds};
use crate::service::status::CheckpointStatus;
use crate::service::status::totals::sum;

/// "clock 110 3.70 s ago 41.6 kB 2 failed: no space left on device"; nothing where no checkpoints
/// are made.
///
/// Clock and age are those of the shard that would fall back furthest.
pub(super) fn kept(region: &Region<'_>) -> Vec<Item> {
    let shards: Vec<&CheckpointStatus> =
        region.shards().filter_map(|shard| shard.checkpoint.as_ref()).collect();
    if shards.is_empty() {
        return Vec::new();
    }
    let mut items = Vec::new();
    let kept: Vec<_> = shards.iter().filter_map(|shard| shard.kept.as_ref()).collect();
    match kept.iter().map(|kept| kept.clock).min().filter(|_| kept.len() == shards.len()) {
        Some(clock) => {
            let age = kept.iter().map(|kept| kept.age_seconds).fold(0.0, f64::max);
            let size = sum(kept.iter().map(|kept| kept.bytes));
            items.push(vec![
                (Ink::Normal, format!("clock {clock}")),
                (Ink::Label, format!("   {} ago   {}", seconds(age), bytes(size as f64))),
            ]);
        }
        None => items.push(item(Ink::Label, "nothing yet")),
    }
    let failures = sum(shards.iter().map(|shard| shard.failures));
    let problem = shards.iter().find_map(|shard| shard.problem.as_ref());
    match problem {
        Some(problem) => items.push(item(Ink::Bad, format!("{failures} failed: {problem}"))),
        None if failures > 0 => items.push(item(Ink::Slow, format!("{failures} failed, and no more"))),
        None => {}
    }
    items
}
