//! What a run may let cross the WAN, by name.
//!
//! Those that mirror the model between datacenters are points in the space of [`wan::policy`];
//! `lan`, `stretched` and `isolated` differ in where workers and shards stand, which the simulation
//! arranges.

use std::fmt;
use std::str::FromStr;

use datacenter::{Numbers, TableSpec};
use wan::leeway::Leeway;
use wan::policy::{
    Budget, CustomSchedule, FilterConfig, Goal, Lead, Limit, Policy, Schedule, ScheduleFunction, Selection,
};

use crate::job::{AspGoal, Filter, FilterSchedule, Job};
use crate::learning::LearningRate;
use crate::settings::suggest::{NotOneOf, nearest};

/// A strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// All workers and the model in one datacenter: as fast as it gets.
    Lan,
    /// Approximate synchronous parallel: what Gaia is for.
    Asp,
    /// Mirrors that exchange every update and wait for each other at every clock: the naive
    /// baseline.
    Bsp,
    /// Mirrors that exchange every update and may run some clocks apart.
    Ssp,
    /// Mirrors that exchange every update and never wait.
    Async,
    /// Each region trains on its own data alone; nothing crosses the WAN.
    Isolated,
    /// One parameter server spread over the regions, workers pull and push over the WAN: the
    /// paper's Baseline.
    Stretched,
    /// `asp` without selective barriers.
    AspNoBarrier,
    /// `asp` whose reads return what the tables hold.
    AspNoAnticipation,
    /// `asp` without the mirror clock.
    AspNoMirrorClock,
    /// `asp` with neither: the filter alone.
    AspUnguarded,
}

impl Strategy {
    /// All of them, in the order in which people read them.
    pub const ALL: [Self; 11] = [
        Self::Lan,
        Self::Asp,
        Self::Bsp,
        Self::Ssp,
        Self::Async,
        Self::Isolated,
        Self::Stretched,
        Self::AspNoBarrier,
        Self::AspNoAnticipation,
        Self::AspNoMirrorClock,
        Self::AspUnguarded,
    ];

    /// Those by which regions mirror the model, and which real regions can run.
    pub const MIRRORING: [Self; 8] = [
        Self::Asp,
        Self::Bsp,
        Self::Ssp,
        Self::Async,
        Self::AspNoBarrier,
        Self::AspNoAnticipation,
        Self::AspNoMirrorClock,
        Self::AspUnguarded,
    ];

    /// Those that are compared unless a file or a flag says otherwise.
    pub const DEFAULT: [Self; 7] =
        [Self::Lan, Self::Asp, Self::Bsp, Self::Ssp, Self::Async, Self::Isolated, Self::Stretched];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Asp => "asp",
            Self::Bsp => "bsp",
            Self::Ssp => "ssp",
            Self::Async => "async",
            Self::Isolated => "isolated",
            Self::Stretched => "stretched",
            Self::AspNoBarrier => "asp-no-barrier",
            Self::AspNoAnticipation => "asp-no-anticipation",
            Self::AspNoMirrorClock => "asp-no-mirror-clock",
            Self::AspUnguarded => "asp-unguarded",
        }
    }

    /// What it is, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Lan => "all workers in one datacenter: as fast as it gets",
            Self::Asp => "approximate synchronous parallel: what Gaia is for",
            Self::Bsp => "every update, waiting at every clock: the naive baseline",
            Self::Ssp => "every update, a few clocks apart at most",
            Self::Async => "every update, never waiting",
            Self::Isolated => "each region alone: nothing crosses the WAN",
            Self::Stretched => "one server over all regions: the paper's Baseline",
            Self::AspNoBarrier => "asp without selective barriers",
            Self::AspNoAnticipation => "asp whose reads do not anticipate",
            Self::AspNoMirrorClock => "asp without the mirror clock",
            Self::AspUnguarded => "asp with neither: the filter alone",
        }
    }

    /// Whether it is one of [`Self::MIRRORING`].
    pub fn mirrors(self) -> bool {
        Self::MIRRORING.contains(&self)
    }

    /// What mirrors do under this strategy, or `None` where there are no mirrors.
    ///
    /// `tables` are those of the job's application, in order. See [`check_tables`] for names that
    /// match none.
    pub fn policy(self, job: &Job, tables: &[TableSpec]) -> Option<Policy> {
        let goal = if job.asp.soft_threshold { Goal::Fastest } else { Goal::Cheapest };
        let asp = || Policy {
            selection: Selection::Significant { filters: filters(job, tables), goal, leeway: leeway(job) },
            barrier_max_delay: job.asp.barrier_max_delay,
            lead: job.asp.lead,
            anticipates: job.asp.anticipation,
            release_every: job.asp.release_every,
            budget: job.asp.budget.map(|budget| of_a_shard(budget, job.shards)),
        };
        match self {
            Self::Lan | Self::Isolated | Self::Stretched => None,
            Self::Bsp => Some(Policy::naive(Lead::Limit(0))),
            Self::Ssp => Some(Policy::naive(Lead::Limit(job.ssp_lead))),
            Self::Async => Some(Policy::naive(Lead::Unlimited)),
            Self::Asp => Some(asp()),
            Self::AspNoBarrier => Some(Policy { barrier_max_delay: None, ..asp() }),
            Self::AspNoAnticipation => Some(Policy { anticipates: false, ..asp() }),
            Self::AspNoMirrorClock => Some(Policy { lead: Lead::Unlimited, ..asp() }),
            Self::AspUnguarded => Some(Policy { barrier_max_delay: None, lead: Lead::Unlimited, ..asp() }),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = NotOneOf;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        NotOneOf::find(name, Self::ALL, Self::name)
    }
}

/// A setting of a job that does not fit the tables of its application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There is no such table.
    #[error("{key}.{table}: the model has no such table; it has {}{}", known.join(", "), suggestion(table, known))]
    Unknown {
        /// Where the job has settings for tables.
        key: &'static str,
        /// The name in the job.
        table: String,
        /// The names of the application's tables.
        known: Vec<String>,
    },
    /// Changes are bounded, and are not what workers push.
    #[error(
        "job.max_delta: bounds changes, and to table `{table}` workers push gradients, of which its rule \"{rule}\" makes \
         changes; allowed: job.tables.{table}.max_delta = \"off\""
    )]
    Gradients {
        /// The table.
        table: String,
        /// Its rule.
        rule: &'static str,
    },
}

fn suggestion(table: &str, known: &[String]) -> String {
    nearest(table, known.iter().map(String::as_str))
        .map(|meant| format!("; did you mean `{meant}`?"))
        .unwrap_or_default()
}

/// Checks that every table with settings of its own in `job` is one of `tables`, and that these can
/// be.
///
/// # Errors
///
/// With the first that is not, or cannot.
pub fn check_tables(job: &Job, tables: &[TableSpec]) -> Result<(), TableError> {
    let filters = job.asp.tables.iter().map(|(name, _)| ("job.asp.tables", name));
    let bounds = job.max_delta.tables.iter().map(|(name, _)| ("job.tables", name));
    let is_unknown = |(_, name): &(&str, &String)| tables.iter().all(|table| table.name != **name);
    if let Some((key, name)) = filters.chain(bounds).find(is_unknown) {
        let known = tables.iter().map(|table| table.name.clone()).collect();
        return Err(TableError::Unknown { key, table: name.clone(), known });
    }
    let takes_gradients =
        |table: &&TableSpec| !table.rule.takes_changes() && job.max_delta.of(&table.name).is_some();
    match tables.iter().find(takes_gradients) {
        Some(table) => Err(TableError::Gradients { table: table.name.clone(), rule: table.rule.name() }),
        None => Ok(()),
    }
}

impl ScheduleFunction for LearningRate {
    fn name(&self) -> String {
        format!("{self:?}")
    }

    fn factor(&self, clock: u32) -> f64 {
        self.factor(clock)
    }
}

/// What may be held back at first: a tenth of what is by default, whatever the goal, since nothing
/// is known then that would make more of it safe.
fn leeway(job: &Job) -> Leeway {
    Leeway::beginning_with(AspGoal::Balanced.threshold(job.model.training().steps_per_clock()) / 10.0)
}

/// The part of a budget that each of so many shards has: they are about equally large.
fn of_a_shard(budget: Budget, shards: u16) -> Budget {
    let shards = f64::from(shards.max(1));
    let limit = match budget.limit {
        Limit::BytesPerSec(rate) => Limit::BytesPerSec(rate / shards),
        Limit::BytesPerClock(bytes) => Limit::BytesPerClock(bytes / shards),
    };
    Budget { limit, ..budget }
}

fn filters(job: &Job, tables: &[TableSpec]) -> Vec<FilterConfig> {
    let of = |table: &TableSpec| {
        let named = job.asp.tables.iter().find(|(name, _)| *name == table.name);
        let filter = resolve(named.map_or(&job.asp.filter, |(_, filter)| filter), job);
        FilterConfig { numbers: table.numbers, ..filter }
    };
    tables.iter().map(of).collect()
}

fn resolve(filter: &Filter, job: &Job) -> FilterConfig {
    let schedule = match &filter.schedule {
        FilterSchedule::Plain(schedule) => schedule.clone(),
        FilterSchedule::LearningRate => {
            Schedule::Custom(CustomSchedule::new(job.model.training().learning_rate.clone()))
        }
    };
    FilterConfig {
        function: filter.function.clone(),
        threshold: filter.threshold,
        schedule,
        values: filter.values,
        numbers: Numbers::Real,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datacenter::Clock;
    use wan::policy::{Significance, ValueFormat};

    use super::*;
    use crate::job::tests::job;

    fn table(name: &str) -> TableSpec {
        TableSpec::new(name, 1, 1)
    }

    #[test]
    fn names_are_read_back() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
        }
        let error = "asp-no-bariers".parse::<Strategy>().unwrap_err();
        assert!(error.to_string().ends_with("did you mean `asp-no-barrier`?"), "{error}");
    }

    #[test]
    fn naive_mirrors_ship_everything_and_differ_in_their_lead() {
        let job = job();
        for (strategy, lead) in [
            (Strategy::Bsp, Lead::Limit(0)),
            (Strategy::Ssp, Lead::Limit(job.ssp_lead)),
            (Strategy::Async, Lead::Unlimited),
        ] {
            let policy = Policy::naive(lead);
            assert_eq!(strategy.policy(&job, &[table("w")]), Some(policy));
        }
        for strategy in Strategy::ALL {
            assert_eq!(strategy.policy(&job, &[table("w")]).is_some(), strategy.mirrors(), "{strategy}");
        }
    }

    #[test]
    fn asp_resolves_a_filter_for_each_table() {
        let mut job = job();
        // However long a job is, nothing grows with it.
        job.clocks = u32::MAX;
        let tied = Filter {
            function: Significance::Absolute,
            threshold: 0.5,
            schedule: FilterSchedule::LearningRate,
            values: ValueFormat::F32,
        };
        job.asp.tables = vec![("items".to_owned(), tied)];
        let policy = Strategy::Asp.policy(&job, &[table("users"), table("items")]).expect("asp mirrors");
        let Selection::Significant { filters, goal, .. } = policy.selection else { panic!("asp filters") };
        assert_eq!(goal, Goal::Cheapest);
        assert_eq!(filters[0].schedule, Schedule::InverseSqrt);
        let rate = &job.model.training().learning_rate;
        for clock in 0..5 {
            assert_eq!(filters[1].threshold_at(Clock(clock + 1)), 0.5 * rate.factor(clock));
        }
        let Schedule::Custom(schedule) = &filters[1].schedule else { panic!("tied to the rate") };
        assert_eq!(schedule.name(), format!("{rate:?}"));
        assert_eq!(policy.barrier_max_delay, Some(Duration::from_millis(200)));
        assert_eq!(policy.lead, Lead::Derived);
    }

    #[test]
    fn filters_know_which_tables_hold_whole_numbers() {
        let tables = [table("counts").whole(), table("weights")];
        let policy = Strategy::Asp.policy(&job(), &tables).expect("asp mirrors");
        let Selection::Significant { filters, .. } = policy.selection else { panic!("asp filters") };
        assert_eq!([filters[0].numbers, filters[1].numbers], [Numbers::Whole, Numbers::Real]);
    }

    #[test]
    fn ablations_drop_what_they_name() {
        let job = job();
        let of = |strategy: Strategy| {
            let policy = strategy.policy(&job, &[table("w")]).expect("asp mirrors");
            (policy.barrier_max_delay.is_some(), policy.lead)
        };
        assert_eq!(of(Strategy::Asp), (true, Lead::Derived));
        assert_eq!(of(Strategy::AspNoBarrier), (false, Lead::Derived));
        assert_eq!(of(Strategy::AspNoMirrorClock), (true, Lead::Unlimited));
        assert_eq!(of(Strategy::AspUnguarded), (false, Lead::Unlimited));
    }

    #[test]
    fn a_filter_for_no_table_is_an_error_that_names_those_there_are() {
        let mut job = job();
        let filter = job.asp.filter.clone();
        job.asp.tables = vec![("item".to_owned(), filter)];
        let error = check_tables(&job, &[table("users"), table("items")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "job.asp.tables.item: the model has no such table; it has users, items; did you mean `items`?"
        );
        job.asp.tables.clear();
        job.max_delta.tables = vec![("user".to_owned(), None)];
        let error = check_tables(&job, &[table("users"), table("items")]).unwrap_err();
        assert!(error.to_string().starts_with("job.tables.user: the model has no such table"), "{error}");
    }
}
