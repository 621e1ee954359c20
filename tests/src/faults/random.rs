//! Stories that nobody has thought of: any faults in any order, as many at once as a job is to
//! survive without losing more than `docs/OPERATIONS.md` says.
//!
//! What it says that a job does not survive is not in them:
//!
//! - A flush whose word was lost with its server is said again, and counts twice if only a region
//!   that is away by then knows better: so nobody goes away while a server is down, or just before,
//!   and stays away when that is back.
//! - What is on no disk and in no process is lost: of two datacenters one keeps its disk.
//! - A process asks its mirrors for what the one before it has released, and knows nothing of those
//!   before that: so no server dies twice while somebody else is away.

use rand::RngExt;

use super::scenario::{Fault, Scenario, When};

/// How many may be away at the same time.
const AT_ONCE: usize = 2;
/// How long those who hear each other again take to exchange what they have, and somewhat more, in
/// milliseconds.
const SETTLES: u64 = 600;

/// Somebody is away from one moment to another, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Outage {
    who: Who,
    from: u64,
    until: u64,
    /// The worse of two ways: its disk is empty, another takes its place, only one way is cut, what
    /// comes makes no sense.
    is_bad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Server(usize, u16),
    Frozen(usize, u16),
    Datacenter(usize),
    Link(usize, usize),
    Worker(usize, u32),
    Disk(usize),
    Connection(usize, usize),
}

impl Outage {
    fn random(scenario: &Scenario, rng: &mut impl RngExt) -> Self {
        let site = rng.random_range(0..scenario.datacenters);
        let other = (site + rng.random_range(1..scenario.datacenters)) % scenario.datacenters;
        let server = rng.random_range(0..scenario.servers);
        let who = match rng.random_range(0..12) {
            0..4 => Who::Server(site, server),
            4..6 => Who::Frozen(site, server),
            6 => Who::Datacenter(site),
            7..9 => Who::Link(site, other),
            9 => Who::Worker(site, rng.random_range(0..2)),
            10 => Who::Disk(site),
            _ => Who::Connection(site, other),
        };
        let from = rng.random_range(0..6000);
        let lasts = if rng.random_bool(0.3) { 1500..2500 } else { 30..500 };
        Self { who, from, until: from + rng.random_range(lasts), is_bad: rng.random_bool(0.4) }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.from < other.until + SETTLES && other.from < self.until + SETTLES
    }

    /// Whether somebody cannot be heard.
    fn is_loss(&self) -> bool {
        matches!(self.who, Who::Server(..) | Who::Frozen(..) | Who::Datacenter(_) | Who::Link(..))
    }

    /// The datacenter a process of which is away.
    fn host(&self) -> Option<usize> {
        match self.who {
            Who::Server(site, _) | Who::Frozen(site, _) | Who::Datacenter(site) => Some(site),
            Who::Link(..) | Who::Worker(..) | Who::Disk(_) | Who::Connection(..) => None,
        }
    }

    /// The datacenter a process of which dies, or is taken the place of.
    fn dies_at(&self) -> Option<usize> {
        self.host().filter(|_| !matches!(self.who, Who::Frozen(..)) || self.is_bad)
    }

    fn is_of(&self, site: usize) -> bool {
        match self.who {
            Who::Link(one, other) | Who::Connection(one, other) => one == site || other == site,
            Who::Server(of, _) | Who::Frozen(of, _) | Who::Datacenter(of) => of == site,
            Who::Worker(of, _) | Who::Disk(of) => of == site,
        }
    }

    /// Whether what a datacenter has of some shards is nowhere meanwhile.
    fn loses_disk(&self) -> bool {
        self.is_bad && matches!(self.who, Who::Server(..) | Who::Datacenter(_))
    }

    /// Whether both may be in one story of so many datacenters.
    fn goes_with(&self, other: &Self, datacenters: usize) -> bool {
        let is_same = match (self.who, other.who) {
            (Who::Link(a, b), Who::Link(c, d)) => (a, b) == (c, d) || (a, b) == (d, c),
            (one, of) => one == of || (self.host().is_some() && self.host() == other.host()),
        };
        let collide = is_same && self.overlaps(other);
        let lose_all = datacenters == 2 && self.loses_disk() && other.loses_disk() && self.overlaps(other);
        !(collide || lose_all || self.is_outlived_by(other) || other.is_outlived_by(self))
    }

    /// Whether somebody else goes away while a process is down, or just before, and stays away when
    /// it is back.
    fn is_outlived_by(&self, other: &Self) -> bool {
        let is_elsewhere = self.dies_at().is_some_and(|site| other.dies_at() != Some(site));
        is_elsewhere
            && other.is_loss()
            && self.from < other.from + SETTLES
            && other.from < self.until + SETTLES
            && self.until < other.until + SETTLES
    }

    fn faults(&self) -> Vec<(u64, Fault)> {
        let Self { from, until, is_bad, .. } = *self;
        match self.who {
            Who::Server(site, server) => {
                let returns = if is_bad { Fault::ReturnEmpty } else { Fault::Return };
                vec![(from, Fault::Kill((site, server))), (until, returns((site, server)))]
            }
            Who::Frozen(site, server) => {
                let replaced = is_bad.then(|| (from.midpoint(until), Fault::Return((site, server))));
                let frozen = [(from, Fault::Freeze((site, server))), (until, Fault::Thaw((site, server)))];
                frozen.into_iter().chain(replaced).collect()
            }
            Who::Datacenter(site) => {
                let returns = if is_bad { Fault::ReturnDatacenterEmpty } else { Fault::ReturnDatacenter };
                vec![(from, Fault::KillDatacenter(site)), (until, returns(site))]
            }
            Who::Link(one, other) => {
                let cut = if is_bad { Fault::CutOneWay } else { Fault::Cut };
                vec![(from, cut(one, other)), (until, Fault::Heal(one, other))]
            }
            Who::Worker(site, worker) => {
                vec![(from, Fault::KillWorker(site, worker)), (until, Fault::ReturnWorker(site, worker))]
            }
            Who::Disk(site) => vec![(from, Fault::FillDisk(site)), (until, Fault::FreeDisk(site))],
            Who::Connection(one, other) => {
                let breaks = if is_bad { Fault::Garble } else { Fault::Break };
                vec![(from, breaks(one, other)), (until, breaks(one, other))]
            }
        }
    }
}

/// A random story of three to eight outages for datacenters as `scenario` has them, those to which
/// nothing happens in it, and how many times the grace these may wait at most.
pub fn story(scenario: &Scenario, rng: &mut impl RngExt) -> (Vec<(When, Fault)>, Vec<usize>, u32) {
    let wanted = rng.random_range(3..9);
    let mut outages: Vec<Outage> = Vec::new();
    for _ in 0..200 {
        if outages.len() == wanted {
            break;
        }
        let next = Outage::random(scenario, rng);
        let losses = outages.iter().filter(|other| other.is_loss() && other.overlaps(&next)).count();
        if outages.iter().all(|other| other.goes_with(&next, scenario.datacenters))
            && (!next.is_loss() || losses < AT_ONCE)
        {
            outages.push(next);
            if dies_twice(scenario, &outages) {
                outages.pop();
            }
        }
    }
    let mut faults: Vec<(u64, Fault)> = outages.iter().flat_map(Outage::faults).collect();
    faults.sort_by_key(|(at, _)| *at);
    let begins = When::At(rng.random_range(5..40));
    let mut last = faults.first().map_or(0, |(at, _)| *at);
    let mut story = Vec::new();
    for (at, fault) in faults {
        let when = if story.is_empty() { begins } else { When::After(at - last) };
        story.push((when, fault));
        last = at;
    }
    let is_spared = |site: &usize| !outages.iter().any(|outage| outage.is_of(*site));
    let graces = outages.iter().filter(|outage| outage.is_loss()).count() as u32;
    (story, (0..scenario.datacenters).filter(is_spared).collect(), graces.max(1))
}

/// Whether a server of some datacenter dies twice while somebody else is away.
fn dies_twice(scenario: &Scenario, outages: &[Outage]) -> bool {
    outages.iter().filter(|outage| outage.is_loss()).any(|away| {
        (0..scenario.datacenters).any(|site| {
            let dies = |outage: &&Outage| outage.dies_at() == Some(site) && outage.overlaps(away);
            away.dies_at() != Some(site) && outages.iter().filter(dies).count() > 1
        })
    })
}
