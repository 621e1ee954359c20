//! What is shown of a region's filters.
//!
//! Kind: time-free.

use wan::budget::NOT_RAISED;
use wan::cadence::in_words;

use super::paint::{Ink, Item, item};
use super::region::Region;
use crate::filters::{FilterStatus, by_table};
use crate::human::{magnitude, percent, times};
use crate::service::status::totals::sum;

/// A table with fewer of the updated elements than this share of them is left to `/status`.
const SMALL: f64 = 0.1;

/// By table "threshold 0.0031 (10x usual) 2.9 % shipped gain 1.7 (alike)", and after the last "a
/// release every 8 clocks"; nothing before something was released. Tables have their names where
/// there are several.
pub(super) fn filters(region: &Region<'_>) -> Vec<Vec<Item>> {
    let tables = by_table(region.shards().flat_map(|shard| &shard.filters));
    let all = sum(tables.iter().map(|filter| filter.updated_elements)) as f64;
    let is_shown = |filter: &&FilterStatus| filter.updated_elements as f64 > SMALL * all;
    let line = |filter| {
        let mut items = vec![threshold(filter, tables.len() > 1)?];
        items.extend(
            filter.shipped_share().map(|share| item(Ink::Normal, format!("{} shipped", percent(share)))),
        );
        items.extend(raised(filter));
        items.extend(filter.gain.map(|gain| {
            let words =
                filter.likeness.map(|likeness| format!(" ({})", in_words(likeness))).unwrap_or_default();
            vec![(Ink::Normal, format!("gain {}", magnitude(gain))), (Ink::Label, words)]
        }));
        Some(items)
    };
    let mut lines: Vec<_> = tables.iter().filter(is_shown).filter_map(line).collect();
    if let Some(last) = lines.last_mut() {
        last.extend(releases(region));
    }
    lines
}

fn threshold(filter: &FilterStatus, is_named: bool) -> Option<Item> {
    let significance = filter.significance_threshold?;
    let (figure, of) = match (filter.function.as_str(), filter.threshold) {
        ("usual-update", Some(threshold)) => {
            (magnitude(threshold), format!(" ({}x usual)", magnitude(significance)))
        }
        (_, Some(threshold)) => (magnitude(threshold), String::new()),
        ("relative", None) => (percent(significance), " of the value".to_owned()),
        ("row-rms", None) => (percent(significance), " of the row's rms".to_owned()),
        (custom, None) => (magnitude(significance), format!(" by {custom}")),
    };
    let name = if is_named { &filter.table } else { "threshold" };
    Some(vec![(Ink::Normal, format!("{name} {figure}")), (Ink::Label, of)])
}

/// "raised 2.5x by the budget"; nothing where that is not in the way.
fn raised(filter: &FilterStatus) -> Option<Item> {
    let raised = filter.raised.filter(|raised| *raised > NOT_RAISED)?;
    Some(vec![(Ink::Slow, format!("raised {}", times(raised))), (Ink::Label, " by the budget".to_owned())])
}

/// "a release every 4..8 clocks"; nothing where there is one at every clock.
fn releases(region: &Region<'_>) -> Option<Item> {
    let every = || region.shards().filter_map(|shard| shard.release_every);
    let (least, most) = (every().min()?, every().max()?);
    let clocks = if least == most { most.to_string() } else { format!("{least}..{most}") };
    (most > 1).then(|| item(Ink::Label, format!("a release every {clocks} clocks")))
}
