//! How many examples a step takes, and how many steps a clock has: what models that are trained by
//! mini-batches have in common in a job's file.

use crate::settings::Section;
use crate::settings::kind::whole;

/// Examples of a mini-batch; a worker takes no more than it has.
const MOST_BATCH: u32 = 10_000_000;
/// Examples of several mini-batches, which may be more than there are: a worker has all of a
/// clock's at hand.
const MOST_DRAWN: u64 = 1_000_000;

/// Examples of a mini-batch, and mini-batches of a clock.
pub(super) fn batches(s: &Section<'_>) -> Option<(u32, u32)> {
    let batch = s.required("batch", whole(1..=MOST_BATCH));
    let batches = s.or("batches", 1, whole(1..=u32::MAX));
    let drawn = u64::from(batch?) * u64::from(batches);
    if batches > 1 && drawn > MOST_DRAWN {
        let message = format!(
            "found {batches}, which makes {drawn} examples a clock; allowed: 1, or batch * batches at most {MOST_DRAWN}"
        );
        s.problem("batches", message);
        return None;
    }
    Some((batch?, batches))
}
