//! Why a read had to wait.

use std::time::Duration;

use datacenter::message::Wait;

use crate::service::setup::Setup;

/// One reason for which the servers have held a read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The reason's name, as metrics and reports write it: `stale`, `barrier`, `mirror_clock` or
    /// `fetching`.
    pub why: &'static str,
    /// The region that was waited for, where it was another.
    pub region: Option<String>,
    /// For how long.
    pub time: Duration,
}

impl Held {
    /// What servers have told of one read, the longest first; those of no length are left out.
    pub(super) fn all(setup: &Setup, held: Vec<(Wait, Duration)>) -> Vec<Self> {
        let held = held.into_iter().filter(|(_, time)| !time.is_zero());
        let held = held.map(|(wait, time)| {
            let region = match wait {
                Wait::Barrier(peer) | Wait::MirrorClock(peer) => Some(setup.name(peer).to_owned()),
                Wait::Stale | Wait::Fetching => None,
            };
            Self { why: wait.name(), region, time }
        });
        let mut held: Vec<_> = held.collect();
        held.sort_by_key(|held| std::cmp::Reverse(held.time));
        held
    }
}
