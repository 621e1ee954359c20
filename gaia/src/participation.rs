//! Which regions took part in a model, and to which clock of each: what the end of a job, its exit code and its files say.
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
    /// Whether it has left the job for good, as somebody wanted: then nobody misses the rest.
    #[serde(default)]
    pub left: bool,
}

impl Participation {
    /// The regions whose updates are not all in the model, although they should be.
    pub fn lacking(&self) -> impl Iterator<Item = &RegionPart> {
        self.regions.iter().filter(|part| part.clock < self.clocks && !part.left)
    }

    /// What several servers of one process have of the same job: of each region what all of them have.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (part, other) in self.regions.iter_mut().zip(&other.regions) {
            part.clock = part.clock.min(other.clock);
            part.left &= other.left;
        }
        self
    }

    /// By region, the clock up to which it took part: as the metadata of a model has it.
    pub fn by_region(&self) -> BTreeMap<&str, u32> {
        self.regions.iter().map(|part| (part.datacenter.as_str(), part.clock)).collect()
    }

    /// "singapore (clock 7 of 20)", for each that is lacking.
    pub fn lacks(&self) -> String {
        let lacking = self
            .lacking()
            .map(|part| format!("{} (clock {} of {})", part.datacenter, part.clock, self.clocks));
        lacking.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Participation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.regions.iter().enumerate() {
            let (comma, left) =
                (if at > 0 { ", " } else { "" }, if part.left { " (left for good)" } else { "" });
            write!(f, "{comma}{} to clock {}{left}", part.datacenter, part.clock)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: [(&str, u32, bool); 3]) -> Participation {
        let part =
            |(name, clock, left): (&str, u32, bool)| RegionPart { datacenter: name.to_owned(), clock, left };
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
}
