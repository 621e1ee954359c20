//! One region, put together from what its processes say.
//!
//! Kind: time-free.

use std::collections::{BTreeMap, BTreeSet};

use super::Moment;
use crate::service::participation::RegionPart;
use crate::service::status::fetch::Fetched;
use crate::service::status::{
    LinkStatus, MirrorPresence, MissingWorker, Phase, ScoreStatus, ServerStatus, ShardStatus, Status,
    WorkerStatus,
};

/// The processes of one region.
pub(super) struct Region<'a> {
    pub(super) name: &'a str,
    /// Those that answered.
    pub(super) statuses: Vec<&'a Status>,
    /// What those last said that had come to their end, and do not answer any more.
    pub(super) ended: Vec<&'a Status>,
    /// Those that did not answer, and should.
    pub(super) silent: Vec<&'a Fetched>,
}

/// By how far a region leads another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lead {
    /// Of the shard that leads most.
    pub(super) clocks: u32,
    /// How much that one may.
    pub(super) limit: Option<u32>,
    /// Whether the other region has no workers, so that nobody waits for it.
    pub(super) is_idle: bool,
    /// For how many seconds some server of it has been silent, where nobody waits for that any
    /// more.
    pub(super) gone_seconds: Option<f64>,
    /// Whether the other region has left the job for good.
    pub(super) has_left: bool,
    /// It is back, and nobody waits for any shard of it until that has caught up.
    pub(super) is_behind: bool,
}

/// Reads of a region that are held for the same reason.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) workers: BTreeSet<u32>,
    /// The longest of them.
    pub(super) seconds: f64,
    pub(super) reason: String,
    pub(super) datacenter: Option<String>,
    /// Workers for which they wait, with by how many clocks these are behind.
    pub(super) stragglers: BTreeMap<u32, u32>,
}

/// The regions of a moment, in the order in which their first processes were asked for; then those
/// who never said which region they are of.
pub(super) fn regions(moment: &Moment) -> (Vec<Region<'_>>, Vec<&Fetched>) {
    let mut regions: Vec<Region<'_>> = Vec::new();
    let mut nameless = Vec::new();
    for fetched in &moment.fetched {
        let name = match (&fetched.status, &fetched.target.name) {
            (Ok(status), _) => status.datacenter.as_str(),
            (Err(_), Some((datacenter, _))) => datacenter,
            (Err(_), None) => {
                nameless.push(fetched);
                continue;
            }
        };
        let at = regions.iter().position(|region| region.name == name).unwrap_or_else(|| {
            regions.push(Region { name, statuses: vec![], ended: vec![], silent: vec![] });
            regions.len() - 1
        });
        match (&fetched.status, moment.ended.get(&fetched.target.url)) {
            (Ok(status), _) => regions[at].statuses.push(status),
            (Err(_), Some(last)) => regions[at].ended.push(last),
            (Err(_), None) => regions[at].silent.push(fetched),
        }
    }
    (regions, nameless)
}

impl<'a> Region<'a> {
    /// Of all processes of which anything is known.
    pub(super) fn known(&self) -> impl Iterator<Item = &'a Status> {
        self.statuses.iter().chain(&self.ended).copied()
    }

    /// Whether all of it has come to its end.
    pub(super) fn is_over(&self) -> bool {
        self.silent.is_empty() && self.known().all(|status| status.phase.is_end())
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = &'a ServerStatus> {
        self.known().flat_map(|status| &status.servers)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = &'a ShardStatus> {
        self.servers().flat_map(|server| &server.shards)
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &'a WorkerStatus> {
        self.known().flat_map(|status| &status.workers)
    }

    /// The links of its servers, each with the server's index.
    pub(super) fn links(&self) -> impl Iterator<Item = (&'a ServerStatus, &'a LinkStatus)> {
        self.servers().flat_map(|server| server.links.iter().map(move |link| (server, link)))
    }

    /// Of its slowest and of its fastest shard; of its workers where no server answers.
    pub(super) fn clocks(&self) -> Option<(u32, u32)> {
        let span = |clocks: &mut dyn Iterator<Item = u32>| {
            clocks.fold(None, |span: Option<(u32, u32)>, clock| {
                Some(span.map_or((clock, clock), |(least, most)| (least.min(clock), most.max(clock))))
            })
        };
        span(&mut self.shards().map(|shard| shard.clock))
            .or_else(|| span(&mut self.workers().map(|worker| worker.clock)))
    }

    /// Of a region whose servers have finished: by region, its part in the model, as all of its
    /// servers have it.
    pub(super) fn parts(&self) -> BTreeMap<&'a str, RegionPart> {
        let mut parts: BTreeMap<&str, RegionPart> = BTreeMap::new();
        for part in
            self.known().filter(|status| status.phase == Phase::Finished).flat_map(|status| &status.regions)
        {
            let known = parts.entry(&part.datacenter).or_insert_with(|| part.clone());
            *known = known.clone().and(part);
        }
        parts
    }

    /// How many clocks its job has.
    pub(super) fn job_clocks(&self) -> Option<u32> {
        self.known().map(|status| status.job.clocks).max().filter(|clocks| *clocks > 0)
    }

    /// How many of its processes are in each phase. One that said that it was finished is that for
    /// ever.
    pub(super) fn phases(&self) -> BTreeMap<Phase, usize> {
        let mut phases = BTreeMap::new();
        let finished = self.ended.iter().filter(|status| status.phase == Phase::Finished);
        for status in self.statuses.iter().chain(finished) {
            *phases.entry(status.phase).or_default() += 1;
        }
        phases
    }

    /// How many of its processes were stopped, and are gone.
    pub(super) fn stopped(&self) -> usize {
        self.ended.iter().filter(|status| status.phase != Phase::Finished).count()
    }

    /// What its processes wait for, and which ones.
    pub(super) fn waiting_for(&self) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut waiting: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for status in &self.statuses {
            for awaited in &status.waiting_for {
                waiting.entry(awaited.as_str()).or_default().push(status.role.as_str());
            }
        }
        waiting
    }

    pub(super) fn leads(&self) -> BTreeMap<&'a str, Lead> {
        let mut leads: BTreeMap<&str, Lead> = BTreeMap::new();
        for mirror in self.shards().flat_map(|shard| &shard.mirrors) {
            let gone = mirror.presence == MirrorPresence::Gone;
            let has_left = mirror.presence == MirrorPresence::Left;
            let found = Lead {
                clocks: mirror.lead,
                limit: mirror.lead_limit,
                is_idle: mirror.idle,
                gone_seconds: gone.then_some(mirror.silent_seconds),
                has_left,
                is_behind: mirror.presence == MirrorPresence::Behind,
            };
            let lead = leads.entry(&mirror.datacenter).or_insert_with(|| found.clone());
            let is_idle = lead.is_idle && found.is_idle;
            let gone_seconds = lead.gone_seconds.into_iter().chain(found.gone_seconds).reduce(f64::max);
            let has_left = lead.has_left || has_left;
            let is_behind = lead.is_behind && found.is_behind;
            if found.clocks > lead.clocks {
                *lead = found;
            }
            (lead.is_idle, lead.gone_seconds, lead.has_left) = (is_idle, gone_seconds, has_left);
            lead.is_behind = is_behind;
        }
        leads
    }

    /// The longest first.
    pub(super) fn held(&self) -> Vec<Held> {
        let mut held: Vec<Held> = Vec::new();
        let servers = self.statuses.iter().flat_map(|status| &status.servers);
        let shards = servers.flat_map(|server| &server.shards);
        for (shard, hold) in shards.flat_map(|shard| shard.holds.iter().map(move |hold| (shard, hold))) {
            let same = |held: &Held| held.reason == hold.reason && held.datacenter == hold.datacenter;
            let at = held.iter().position(same).unwrap_or_else(|| {
                held.push(Held {
                    workers: BTreeSet::new(),
                    seconds: 0.0,
                    reason: hold.reason.clone(),
                    datacenter: hold.datacenter.clone(),
                    stragglers: BTreeMap::new(),
                });
                held.len() - 1
            });
            let held = &mut held[at];
            held.workers.insert(hold.worker);
            held.seconds = held.seconds.max(hold.seconds);
            for straggler in shard.slowest_workers.iter().filter(|_| hold.reason == "stale") {
                let clocks = held.stragglers.entry(straggler.worker).or_default();
                *clocks = straggler.clocks.max(*clocks);
            }
        }
        held.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        held
    }

    /// The workers that some of its servers do not hear of, each as the server has it that has
    /// missed it longest.
    pub(super) fn missing(&self) -> BTreeMap<u32, &'a MissingWorker> {
        let mut missing: BTreeMap<u32, &MissingWorker> = BTreeMap::new();
        let servers = self.statuses.iter().flat_map(|status| &status.servers);
        for found in servers.flat_map(|server| &server.missing_workers) {
            let known = missing.entry(found.worker).or_insert(found);
            if found.seconds > known.seconds {
                *known = found;
            }
        }
        missing
    }

    pub(super) fn score(&self) -> Option<&'a ScoreStatus> {
        self.workers().find_map(|worker| worker.score.as_ref())
    }

    /// The workers that its servers count, or those that answer where no server does.
    pub(super) fn worker_count(&self) -> usize {
        let connected: BTreeSet<_> = self.servers().flat_map(|server| &server.workers).collect();
        if connected.is_empty() { self.workers().count() } else { connected.len() }
    }

    /// What its workers computed and waited, in seconds.
    pub(super) fn work(&self) -> (f64, f64) {
        self.workers().fold((0.0, 0.0), |(compute, wait), worker| {
            (compute + worker.compute_seconds, wait + worker.wait_seconds)
        })
    }
}
