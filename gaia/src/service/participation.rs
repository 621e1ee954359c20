//! Which regions took part in a model, and to which clock of each: what the end of a job, its exit
//! code and its files say.
//!
//! Kind: time-free.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The parts of all regions in a job of so many clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Participation {
    /// How many clocks the job has.
    pub clocks: u32,
    /// By region, in the order of the job.
    pub regions: Vec<RegionPart>,
}

/// One region's part in a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionPart {
    /// The region.
    pub datacenter: String,
    /// All its updates up to this clock of its own are in the model.
    pub clock: u32,
    /// How many of the clocks up to that one it has left out: it was away, and went on where the
    /// others were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
    /// Whether it has left the job for good, as somebody wanted: then nobody misses the rest.
    #[serde(default)]
    pub left: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl RegionPart {
    /// What two servers have of the same region: what both have.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            clock: self.clock.min(other.clock),
            left_out: self.left_out.max(other.left_out),
            left: self.left && other.left,
            ..self
        }
    }

    /// "20", or "20, 7 of them left out".
    fn clocks(&self) -> String {
        match self.left_out {
            0 => self.clock.to_string(),
            left_out => format!("{}, {left_out} of them left out", self.clock),
        }
    }
}

impl Participation {
    /// The regions that have not trained all clocks of the job, or whose updates are not all in the
    /// model, although they should be.
    pub fn lacking(&self) -> impl Iterator<Item = &RegionPart> {
        self.regions.iter().filter(|part| (part.clock < self.clocks || part.left_out > 0) && !part.left)
    }

    /// What several servers of one process have of the same job: of each region what all of them
    /// have.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.regions =
            self.regions.into_iter().zip(&other.regions).map(|(part, other)| part.and(other)).collect();
        self
    }

    /// By region, the clock up to which it took part: as the metadata of a model has it.
    pub fn by_region(&self) -> BTreeMap<&str, u32> {
        self.regions.iter().map(|part| (part.datacenter.as_str(), part.clock)).collect()
    }

    /// By region that has left out clocks, how many: as the metadata of a model has it.
    pub fn left_out(&self) -> BTreeMap<&str, u32> {
        let parts = self.regions.iter().filter(|part| part.left_out > 0);
        parts.map(|part| (part.datacenter.as_str(), part.left_out)).collect()
    }

    /// "singapore (clock 7 of 20)", "ireland (clock 20 of 20, 3 of them left out)", for each that
    /// is lacking.
    pub fn lacks(&self) -> String {
        let lacking = self.lacking().map(|part| {
            let left_out = match part.left_out {
                0 => String::new(),
                left_out => format!(", {left_out} of them left out"),
            };
            format!("{} (clock {} of {}{left_out})", part.datacenter, part.clock, self.clocks)
        });
        lacking.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Participation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.regions.iter().enumerate() {
            let (comma, left) =
                (if at > 0 { ", " } else { "" }, if part.left { " (left for good)" } else { "" });
            write!(f, "{comma}{} to clock {}{left}", part.datacenter, part.clocks())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: [(&str, u32, bool); 3]) -> Participation {
        let part = |(name, clock, left): (&str, u32, bool)| RegionPart {
            datacenter: name.to_owned(),
            clock,
            left_out: 0,
            left,
        };
        Participation { clocks: 20, regions: parts.map(part).into() }
    }

    #[test]
    fn a_result_lacks_whoever_was_given_up_and_not_whoever_was_to_leave() {
        let all = of([("virginia", 20, false), ("ireland", 20, false), ("singapore", 20, false)]);
        assert_eq!((all.lacking().count(), all.lacks()), (0, String::new()));
        let some = of([("virginia", 20, false), ("ireland", 3, true), ("singapore", 7, false)]);
        assert_eq!(some.lacks(), "singapore (clock 7 of 20)");
        assert_eq!(
            some.to_string(),
            "virginia to clock 20, ireland to clock 3 (left for good), singapore to clock 7"
        );
        assert_eq!(all.clone().and(&some).lacks(), "ireland (clock 3 of 20), singapore (clock 7 of 20)");
        assert_eq!(some.by_region()["singapore"], 7);
    }
    #[test]
    fn a_result_lacks_whoever_has_left_out_clocks() {
        let mut some = of([("virginia", 20, false), ("ireland", 20, false), ("singapore", 7, true)]);
        (some.regions[1].left_out, some.regions[2].left_out) = (3, 2);
        assert_eq!(some.lacks(), "ireland (clock 20 of 20, 3 of them left out)");
        assert_eq!(
            some.to_string(),
            "virginia to clock 20, ireland to clock 20, 3 of them left out, \
             singapore to clock 7, 2 of them left out (left for good)"
        );
        // Another server of the process has heard of fewer.
        let other = of([("virginia", 20, false), ("ireland", 20, false), ("singapore", 7, true)]);
        assert_eq!(other.and(&some).left_out(), BTreeMap::from([("ireland", 3), ("singapore", 2)]));
        let known = serde_json::to_string(&some.regions[0]).expect("plain data");
        assert_eq!(known, r#"{"datacenter":"virginia","clock":20,"left":false}"#, "as before");
    }
}
