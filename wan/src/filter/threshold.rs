//! The hard threshold as a function of the shard's clock (time-free).

use datacenter::Clock;

use crate::policy::{FilterConfig, Schedule};

impl FilterConfig {
    /// `v_t`: the hard threshold at the end of clock `t`, counted from one; zero counts as one.
    ///
    /// Linear schedules start at `v0` (at `t = 1`) and are at their end from `t = clocks + 1` on. An empty list of
    /// factors stays at `v0`. Only operations that IEEE 754 rounds exactly are used, so all machines agree.
    pub fn threshold_at(&self, t: Clock) -> f64 {
        let v0 = self.threshold;
        let before = t.0.saturating_sub(1);
        match &self.schedule {
            Schedule::InverseSqrt => v0 / f64::from(t.0.max(1)).sqrt(),
            Schedule::Constant => v0,
            Schedule::Factors(factors) => {
                let factor = factors.get(before as usize).or(factors.last());
                v0 * factor.copied().unwrap_or(1.0)
            }
            Schedule::Custom(schedule) => v0 * schedule.factor(before),
            Schedule::Linear { to, clocks } if before >= *clocks => *to,
            Schedule::Linear { to, clocks } => v0 + (to - v0) * (f64::from(before) / f64::from(*clocks)),
        }
    }
}
