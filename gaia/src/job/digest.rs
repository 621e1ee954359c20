//! What regions compare before they exchange updates of a job.
//!
//! The settings are written as JSON with their fields in the order of their declaration, and
//! hashed. So the digest changes when a setting does, and when the settings that a version of the
//! program knows do: regions that run versions with different settings refuse each other, which is
//! what one wants of them. It does not change with the compiler.

use std::sync::Arc;

use datacenter::NonFinite;
use serde::{Serialize, Serializer};
use wan::filter::CustomSignificance;
use wan::policy::{
    Budget, BudgetScope, CustomSchedule, Lead, Limit, ReleaseEvery, Schedule, Significance, ValueFormat,
};

use super::Job;

impl Job {
    /// SHA-256 of everything that regions must agree on before they exchange updates of this job.
    ///
    /// Where the data lies is each region's own business and does not count.
    pub fn digest(&self, seed: u64, strategy: &str) -> [u8; 32] {
        let agreed = serde_json::to_vec(&(self, seed, strategy)).expect("settings are plain data");
        let digest = ring::digest::digest(&ring::digest::SHA256, &agreed);
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

// The protocol's own enums are not made to be written. These have the same variants, which the
// compiler checks.

#[derive(Serialize)]
#[serde(remote = "Lead")]
pub(super) enum LeadText {
    Limit(u32),
    Derived,
    Unlimited,
}

#[derive(Serialize)]
#[serde(remote = "NonFinite")]
pub(super) enum NonFiniteText {
    Refuse,
    Pass,
}

#[derive(Serialize)]
#[serde(remote = "Schedule")]
pub(super) enum ScheduleText {
    InverseSqrt,
    Constant,
    #[serde(serialize_with = "list")]
    Factors(Arc<[f64]>),
    Linear {
        to: f64,
        clocks: u32,
    },
    #[serde(serialize_with = "schedule_name")]
    Custom(CustomSchedule),
}

#[derive(Serialize)]
#[serde(remote = "ReleaseEvery")]
pub(super) enum ReleaseEveryText {
    Clocks(u32),
    Derived { most: u32 },
}

#[derive(Serialize)]
enum LimitText {
    BytesPerSec(f64),
    BytesPerClock(f64),
}

/// How much may be sent, and whether that is to each other region or to all.
pub(super) fn budget<S: Serializer>(budget: &Option<Budget>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = budget.map(|Budget { limit, scope }| {
        let limit = match limit {
            Limit::BytesPerSec(rate) => LimitText::BytesPerSec(rate),
            Limit::BytesPerClock(bytes) => LimitText::BytesPerClock(bytes),
        };
        (limit, scope == BudgetScope::Link)
    });
    text.serialize(serializer)
}

#[derive(Serialize)]
#[serde(remote = "ValueFormat")]
pub(super) enum ValueFormatText {
    Auto,
    Int8,
    Bf16,
    F32,
}

#[derive(Serialize)]
#[serde(remote = "Significance")]
pub(super) enum SignificanceText {
    Relative,
    Absolute,
    RowRms,
    TableRms,
    UsualUpdate,
    #[serde(serialize_with = "name")]
    Custom(CustomSignificance),
}

fn list<S: Serializer>(factors: &Arc<[f64]>, serializer: S) -> Result<S::Ok, S::Error> {
    factors.as_ref().serialize(serializer)
}

fn schedule_name<S: Serializer>(schedule: &CustomSchedule, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&schedule.name())
}

/// A user's own function is known by its name.
fn name<S: Serializer>(function: &CustomSignificance, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(function.name())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::DeltaBound;
    use crate::job::tests::job;
    use crate::learning::data::{DataRoot, DataScope, DataSettings, DataSource, HashedIds};

    #[test]
    fn regions_agree_on_everything_but_where_the_data_lies() {
        let digest = |job: &Job| job.digest(1, "asp");
        for place in ["/mnt", "s3://bucket/prefix"] {
            let root = DataRoot::parse(place, None).expect("a place");
            let elsewhere = Job { data: DataSettings { root, ..job().data }, ..job() };
            assert_eq!(digest(&job()), digest(&elsewhere));
        }
        assert_ne!(digest(&job()), job().digest(2, "asp"));
        assert_ne!(digest(&job()), job().digest(1, "bsp"));
        let differs = |change: &dyn Fn(&mut Job)| {
            let mut changed = job();
            change(&mut changed);
            assert_ne!(digest(&changed), digest(&job()), "{changed:?}");
        };
        differs(&|job: &mut Job| job.clocks = 11);
        differs(&|job: &mut Job| job.data.source = DataSource::Own);
        differs(&|job: &mut Job| job.data_scope = DataScope::Own);
        differs(&|job: &mut Job| job.non_finite = NonFinite::Pass);
        differs(&|job: &mut Job| job.max_delta.all = Some(DeltaBound::Magnitude(1.0)));
        differs(&|job: &mut Job| job.max_delta.all = Some(DeltaBound::TimesTheUsual(1000.0)));
        differs(&|job: &mut Job| {
            job.max_delta.tables = vec![("weights".to_owned(), Some(DeltaBound::Magnitude(1.0)))]
        });
        let ids = |users| HashedIds { users, items: 5, mean: 3.0, range: (1.0, 5.0) };
        differs(&|job: &mut Job| job.data.declared.hashed = Some(ids(7)));
        let [one, other] = [7, 8].map(|users| {
            let mut hashed = job();
            hashed.data.declared.hashed = Some(ids(users));
            digest(&hashed)
        });
        assert_ne!(one, other);
        differs(&|job: &mut Job| job.asp.soft_threshold = true);
        differs(&|job: &mut Job| job.asp.lead = Lead::Limit(3));
        differs(&|job: &mut Job| job.asp.filter.function = Significance::Absolute);
        differs(&|job: &mut Job| job.asp.filter.values = ValueFormat::Auto);
        differs(&|job: &mut Job| job.asp.filter.values = ValueFormat::Bf16);
        differs(&|job: &mut Job| job.asp.anticipation = true);
        for (limit, scope) in [
            (Limit::BytesPerSec(1e6), BudgetScope::Region),
            (Limit::BytesPerSec(1e6), BudgetScope::Link),
            (Limit::BytesPerClock(1e6), BudgetScope::Region),
        ] {
            differs(&|job: &mut Job| job.asp.budget = Some(Budget { limit, scope }));
        }
        differs(&|job: &mut Job| job.asp.release_every = ReleaseEvery::derived(None));
        differs(&|job: &mut Job| job.asp.filter.threshold = 0.010_000_000_000_000_002);
        differs(&|job: &mut Job| job.asp.barrier_max_delay = Some(Duration::from_nanos(200_000_001)));
    }

    #[test]
    fn the_digest_is_pinned() {
        // It may change with the settings, and with nothing else: regions must be able to agree
        // across builds.
        let hex: String = job().digest(1, "asp").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "f132d431a3200d0b8dca2f69f7315b903bbc0d4841e4b9b5e875d4e6ea3caaf5");
    }
}
