//! The faults of a soak: which, when and for how long, all from a seed.
//!
//! Kind: time-free. Any number of faults may be under way at a time, but
//! - nobody is struck again before they have had time to come back,
//! - the servers of one region at most are being lost. Two that go at the same moment may take with
//!   them what each had released to the other alone; replicas would be equal all the same, but what
//!   they learn is not what it was.

#![allow(unreachable_pub, reason = "a module of one test")]

use std::fmt;
use std::time::Duration;

use gaia::program::local_cluster::{Process, WORKERS};
use gaia::service::Part;
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub const REGIONS: [&str; 3] = ["virginia", "ireland", "singapore"];
pub const SERVERS: u16 = 2;

/// Between the beginning of one fault and that of the next.
const PAUSE_MILLIS: std::ops::Range<u64> = 2_000..6_000;
/// Until who is back has what it lacks, so that losing another loses nothing for good.
const RETURN: Duration = Duration::from_secs(6);

/// One process, or all of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub region: &'static str,
    pub part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again; `disk` says that the region's checkpoints are lost too.
    Kill { target: Target, disk: bool },
    /// SIGTERM, and started again that long after its end.
    Restart(Target),
    /// SIGSTOP, then SIGCONT.
    Freeze(Target),
    /// What one region sends to another is lost.
    Cut { from: &'static str, to: &'static str, both: bool },
}

/// A fault that begins at `at` and is put right after `lasts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Duration,
    pub fault: Fault,
    pub lasts: Duration,
}

impl Target {
    pub fn includes(self, process: &Process) -> bool {
        self.region == process.region && self.part.is_none_or(|part| part == process.part)
    }

    fn overlaps(self, other: Self) -> bool {
        let parts = self.part.is_none() || other.part.is_none() || self.part == other.part;
        self.region == other.region && parts
    }

    fn has_servers(self) -> bool {
        !matches!(self.part, Some(Part::Worker(_)))
    }
}

impl Fault {
    /// The region whose servers lose what they knew.
    pub fn loses_servers_of(self) -> Option<&'static str> {
        match self {
            Self::Kill { target, .. } | Self::Restart(target) if target.has_servers() => Some(target.region),
            Self::Kill { .. } | Self::Restart(_) | Self::Freeze(_) | Self::Cut { .. } => None,
        }
    }

    fn target(self) -> Option<Target> {
        match self {
            Self::Kill { target, .. } | Self::Restart(target) | Self::Freeze(target) => Some(target),
            Self::Cut { .. } => None,
        }
    }

    fn excludes(self, other: Self) -> bool {
        if let (Some(one), Some(two)) = (self.loses_servers_of(), other.loses_servers_of())
            && one != two
        {
            return true;
        }
        match (self, other) {
            (Self::Cut { from, to, .. }, Self::Cut { from: start, to: end, .. }) => {
                (from, to) == (start, end) || (from, to) == (end, start)
            }
            _ => match (self.target(), other.target()) {
                (Some(one), Some(two)) => one.overlaps(two),
                _ => false,
            },
        }
    }

    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let region = REGIONS[rng.random_range(0..3)];
        let server = Some(Part::Server(rng.random_range(0..SERVERS)));
        let worker = Some(Part::Worker(rng.random_range(0..WORKERS)));
        let either = if rng.random_bool(0.5) { server } else { worker };
        let target = |part| Target { region, part };
        let other = REGIONS.into_iter().filter(|other| *other != region).nth(rng.random_range(0..2));
        let to = other.expect("there are two others");
        match rng.random_range(0..8) {
            0 => Self::Kill { target: target(server), disk: false },
            1 => Self::Kill { target: target(server), disk: true },
            2 => Self::Kill { target: target(worker), disk: false },
            3 => Self::Kill { target: target(None), disk: false },
            4 => Self::Restart(target(either)),
            5 => Self::Freeze(target(either)),
            6 => Self::Cut { from: region, to, both: false },
            _ => Self::Cut { from: region, to, both: true },
        }
    }

    /// Mostly shorter than the time of grace, one in four times longer.
    fn draw_length(rng: &mut ChaCha8Rng) -> Duration {
        let millis = if rng.random_bool(0.75) { 300..4_000 } else { 4_000..18_000 };
        Duration::from_millis(rng.random_range(millis))
    }
}

/// Faults for `length`.
pub fn story(seed: u64, length: Duration) -> Vec<Event> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut events: Vec<Event> = Vec::new();
    let mut at = Duration::ZERO;
    while at < length {
        let event = Event { at, fault: Fault::draw(&mut rng), lasts: Fault::draw_length(&mut rng) };
        let is_over = |earlier: &Event| earlier.at + earlier.lasts + RETURN <= at;
        if events.iter().all(|earlier| is_over(earlier) || !event.fault.excludes(earlier.fault)) {
            events.push(event);
            at += Duration::from_millis(rng.random_range(PAUSE_MILLIS));
        } else {
            // Another one, a bit later: some time there is one that may be.
            at += Duration::from_millis(200);
        }
    }
    events
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Some(part) => write!(f, "{} of {}", part.role(), self.region),
            None => write!(f, "all of {}", self.region),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { target, disk: false } => write!(f, "kill {target}"),
            Self::Kill { target, disk: true } => {
                write!(f, "kill {target}, and lose the region's checkpoints")
            }
            Self::Restart(target) => write!(f, "stop {target} in order"),
            Self::Freeze(target) => write!(f, "freeze {target}"),
            Self::Cut { from, to, both } => {
                write!(f, "cut {from} {} {to}", if *both { "<->" } else { "->" })
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, for {:.1} s", self.fault, self.lasts.as_secs_f64())
    }
}
