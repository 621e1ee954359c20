//! Reads what regions agree on beside the job itself, which stands in the job's table too: the
//! seed, the strategy, and who takes part.

use std::collections::BTreeSet;

use crate::job::region::Member;
use crate::job::strategy::Strategy;
use crate::settings::Section;
use crate::settings::kind::{name, parsed, whole};

/// What a job's table says beside the job; a simulation has keys of its own for it, which win.
#[derive(Default)]
pub(super) struct Agreement {
    pub(super) seed: Option<u64>,
    pub(super) strategy: Option<Strategy>,
    /// `None` if they could not be read; empty if none are named.
    pub(super) members: Option<Vec<Member>>,
}

/// More than a simulation has been tried with.
pub(super) const MOST_REGIONS: usize = 64;
/// Every worker has a connection to every server of its region.
const MOST_WORKERS: u32 = 1024;

/// Reads them from the table of a job.
pub(super) fn agreement(s: &Section<'_>) -> Agreement {
    let seed = s.optional("seed", whole(0..=u64::MAX));
    let mirroring = || Strategy::MIRRORING.into_iter().map(Strategy::name);
    let strategy = s.optional("strategy", parsed(mirroring()).only("", |found: &Strategy| found.mirrors()));
    Agreement { seed, strategy, members: members(s) }
}

fn members(s: &Section<'_>) -> Option<Vec<Member>> {
    let mut names = BTreeSet::new();
    let members = s.sections("regions", |s| {
        let name = s.required("name", name());
        let workers = s.required("workers", whole(1..=MOST_WORKERS));
        let name = new_name(s, name?, &mut names)?;
        Some(Member { name, workers: workers? })
    });
    if members.len() > MOST_REGIONS {
        let found = members.len();
        s.problem("regions", format!("found {found} regions; allowed: 1 to {MOST_REGIONS}"));
        return None;
    }
    members.into_iter().collect()
}

/// Checks that no other region has the name.
pub(super) fn new_name(s: &Section<'_>, name: String, names: &mut BTreeSet<String>) -> Option<String> {
    if !names.insert(name.clone()) {
        s.problem("name", format!("found {name:?} a second time; allowed: a name that no other region has"));
        return None;
    }
    Some(name)
}
