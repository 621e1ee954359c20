//! What a strategy decides about the WAN: which updates cross it, and how far a datacenter may lead.
//!
//! The strategies of Gaia are points in this space: `asp` filters, raises barriers and bounds the lead; `bsp` ships
//! every update and allows no lead; `ssp` allows some; `async` any.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datacenter::Numbers;

use crate::cadence::MOST_CLOCKS;
use crate::filter::CustomSignificance;
use crate::leeway::Leeway;

/// How the significance of an accumulated update is measured, element by element (Gaia, NSDI 2017, section 3).
///
/// `a` is what has accumulated and `x` the current value, which already includes `a`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Significance {
    /// `|a / x|`, the paper's function; where `x` is zero the update is significant.
    Relative,
    /// `|a|`.
    Absolute,
    /// `|a|` over the usual update: the root mean square of what one clock of this datacenter updates, as an average over
    /// clocks. A threshold in it depends neither on the model nor on how it is trained.
    UsualUpdate,
    /// `|a|` over the root mean square of the row's values; where that is zero the update is significant.
    RowRms,
    /// `|a|` over the root mean square of the values of this shard's part of the table.
    TableRms,
    /// A user's own.
    Custom(CustomSignificance),
}

impl Significance {
    /// Its name, as settings and reports write it.
    pub fn name(&self) -> &str {
        match self {
            Self::Relative => "relative",
            Self::Absolute => "absolute",
            Self::UsualUpdate => "usual-update",
            Self::RowRms => "row-rms",
            Self::TableRms => "table-rms",
            Self::Custom(custom) => custom.name(),
        }
    }
}

/// How the hard threshold moves with the shard's clock `t`, counted from one.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// `v0 / sqrt(t)`, the paper's (section 3).
    InverseSqrt,
    /// `v0`.
    Constant,
    /// `v0 * factors[t - 1]`; the last factor holds from then on. Shared by all shards and tables.
    Factors(Arc<[f64]>),
    /// From `v0` straight to `to` over the first `clocks` clocks, then `to`.
    Linear {
        /// The threshold at the end.
        to: f64,
        /// How many clocks that takes.
        clocks: u32,
    },
    /// `v0` times a user's own function.
    Custom(CustomSchedule),
}

/// By what the initial threshold is multiplied at each clock, for [`Schedule::Custom`]: a function, since a list of all
/// clocks of a long job would be as large as many a model.
pub trait ScheduleFunction: Send + Sync {
    /// A name by which the job's settings and reports can tell it from others; one with other parameters has another name.
    fn name(&self) -> String;

    /// The factor at `clock`, counted from zero; not negative, and the same on every machine.
    fn factor(&self, clock: u32) -> f64;
}

/// A user's schedule; equality goes by its name.
#[derive(Clone)]
pub struct CustomSchedule(Arc<dyn ScheduleFunction>);

impl CustomSchedule {
    /// Wraps `function`.
    pub fn new(function: impl ScheduleFunction + 'static) -> Self {
        Self(Arc::new(function))
    }

    /// The name of the function.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// The factor at `clock`, counted from zero.
    pub fn factor(&self, clock: u32) -> f64 {
        self.0.factor(clock)
    }
}

impl PartialEq for CustomSchedule {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for CustomSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CustomSchedule").field(&self.name()).finish()
    }
}

/// How precisely values cross the WAN. What is left over stays with the sender, and is shipped later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueFormat {
    /// As multiples of a power of two just below the threshold, where one threshold serves the whole table: a bit or two each.
    /// Elsewhere as they are.
    Auto,
    /// The same with a sixteenth of that step: values of up to eight thresholds take up to a byte each.
    Int8,
    /// Rounded to the eight bits of significand of a bf16, towards zero: two bytes each. As they are where what would be left over
    /// is significant by itself, and where updates that wait have been added up, which are no bf16s any more.
    Bf16,
    /// As they are.
    #[default]
    F32,
}

/// The filter of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterConfig {
    /// The significance function.
    pub function: Significance,
    /// `v0`, the initial hard threshold: 0.01 is the paper's 1 %.
    pub threshold: f64,
    /// How the threshold moves.
    pub schedule: Schedule,
    /// How precisely values are shipped.
    pub values: ValueFormat,
    /// Which numbers the table holds. Of [`Numbers::Whole`] whole ones are shipped, whatever `values` says: steps are one or more,
    /// and below one a threshold holds nothing back; reads do not anticipate.
    pub numbers: Numbers,
}

/// What idle bandwidth is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// The soft threshold spends idle bandwidth on updates below the hard one.
    Fastest,
    /// Only the hard threshold decides: the fewest bytes.
    #[default]
    Cheapest,
}

/// By how many clocks a shard may lead its slowest live mirror (`DS` in the paper).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// At most this many.
    Limit(u32),
    /// Derived from measured round-trip time and clock length, so that a healthy link never blocks.
    Derived,
    /// Any number: no mirror clock.
    Unlimited,
}

/// At which clocks a shard releases ([`cadence`](crate::cadence)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseEvery {
    /// Each so-many-th; at most 32, and no more than half of a bounded lead: under `Lead::Limit(0)` each.
    Clocks(u32),
    /// Rarely where updates are alike, but at every so many at least.
    Derived {
        /// The most clocks between two releases.
        most: u32,
    },
}

impl ReleaseEvery {
    /// [`Derived`](Self::Derived), where a clock is so many steps of training; where that is not known, many. What a region learns
    /// alone is the less what all learn together the more steps it takes, and where a clock is a step or two, it is short.
    pub fn derived(steps_per_clock: Option<u32>) -> Self {
        let most = steps_per_clock.map_or(LEAST_DERIVED_CLOCKS, |steps| MOST_CLOCKS / steps.max(1));
        Self::Derived { most: most.max(LEAST_DERIVED_CLOCKS) }
    }
}

/// How far apart derived releases may be, however many steps a clock is.
const LEAST_DERIVED_CLOCKS: u32 = 8;

/// What a shard may send while it trains ([`budget`](crate::budget)): all that crosses the wire, headers included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// How much.
    pub limit: Limit,
    /// To whom.
    pub scope: BudgetScope,
}

/// How much may be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many bytes a second.
    BytesPerSec(f64),
    /// So many bytes in each clock.
    BytesPerClock(f64),
}

/// To whom so much may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BudgetScope {
    /// To each other datacenter.
    Link,
    /// To all of them together.
    #[default]
    Region,
}

/// Which updates are shipped at a clock.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// All of them: the naive mirrors.
    Everything,
    /// Those that pass the significance filter; one entry for each table of the job.
    Significant {
        /// The filters, by table.
        filters: Vec<FilterConfig>,
        /// Whether idle bandwidth may carry more.
        goal: Goal,
        /// What bounds thresholds that follow updates at first.
        leeway: Leeway,
    },
}

/// A strategy, as far as the WAN is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Which updates cross the WAN.
    pub selection: Selection,
    /// When a backlog takes longer than this to drain, the indexes of what waits go ahead of the values
    /// (selective barrier); `None` for no barriers.
    pub barrier_max_delay: Option<Duration>,
    /// How far a shard may lead.
    pub lead: Lead,
    /// Whether reads anticipate what the others will have done ([`anticipation`](crate::anticipation)).
    pub anticipates: bool,
    /// How often a shard releases.
    pub release_every: ReleaseEvery,
    /// What each shard may send; `None` for as much as its filter lets pass.
    pub budget: Option<Budget>,
}

impl Selection {
    /// Whether table `index` holds whole numbers alone; where everything is shipped it does not matter.
    pub(crate) fn is_whole(&self, index: usize) -> bool {
        match self {
            Self::Everything => false,
            Self::Significant { filters, .. } => {
                filters.get(index).is_some_and(|filter| filter.numbers == Numbers::Whole)
            }
        }
    }
}

impl Policy {
    /// Ships every update, announces and anticipates nothing: the naive mirrors.
    pub fn naive(lead: Lead) -> Self {
        Self {
            selection: Selection::Everything,
            barrier_max_delay: None,
            lead,
            anticipates: false,
            release_every: ReleaseEvery::Clocks(1),
            budget: None,
        }
    }
}
