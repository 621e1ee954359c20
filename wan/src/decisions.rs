//! What a shard decides by itself, to be told when it changes (time-free).
//!
//! The problem: how rarely a shard releases, and what its reads expect of the other regions, follow from the updates, and
//! whoever watches a job asks what they have come to, and why. Both are looked at in every clock, and a line for each look would tell
//! nothing. So they are compared with what was told last, and a change is told once: how often is released, and gains whose sign
//! has changed, and whether a budget is in the way, no more often than every 16 clocks.

use std::cmp::Ordering;
use std::fmt;

use datacenter::{Clock, TableId};

use crate::budget::NOT_RAISED;
use crate::cadence::in_words;
use crate::replica::Replica;

/// How many clocks there are at least from one that tells of decisions to the next.
const APART: u32 = 16;

/// A decision that is another one than before, as a sentence with its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// What is decided.
    pub what: What,
    /// The shard's clock when that was seen.
    pub clock: Clock,
    /// How alike updates are, of each peer: of the table, or of the least alike one. None where that is not known.
    pub likeness: Option<f64>,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// At each so-many-th clock is released.
    ReleaseEvery(u32),
    /// Reads of a table add so many times what is unanswered.
    Gain(TableId, f32),
    /// A budget raises thresholds so many times; not at all by one.
    Raised(f64),
}

/// What a shard has come to at a clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    clock: Clock,
    every: u32,
    least_likeness: Option<f64>,
    /// By what a budget raises thresholds, where there is one.
    raised: Option<f64>,
    /// By table, where reads anticipate.
    gains: Vec<(f32, Option<f64>)>,
}

/// What was told of a shard.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// None before the first look, which tells nothing.
    told: Option<Standing>,
    /// The clock at which something was told last.
    told_at: Option<Clock>,
}

impl Standing {
    /// That of `replica` now.
    pub fn of(replica: &Replica) -> Self {
        let tables = (0..replica.shard().table_count()).map(|table| TableId(table as u16));
        let gains = replica.anticipation().map_or_else(Vec::new, |anticipation| {
            tables.map(|table| (anticipation.gain(table), replica.likeness(table))).collect()
        });
        Self {
            clock: replica.shard().clock(),
            every: replica.release_every(),
            least_likeness: replica.least_likeness(),
            raised: replica.raised(),
            gains,
        }
    }
}

impl Decisions {
    /// What is other than was told, where enough clocks have passed since.
    pub fn news(&mut self, now: Standing) -> Vec<Decision> {
        let Some(told) = &self.told else {
            self.told = Some(now);
            return Vec::new();
        };
        if self.told_at.is_some_and(|at| now.clock.lead_over(at) < APART) {
            return Vec::new();
        }
        let decision = |what, likeness| Decision { what, clock: now.clock, likeness };
        let release = decision(What::ReleaseEvery(now.every), now.least_likeness);
        let mut news = Vec::from_iter((now.every != told.every).then_some(release));
        let is_raised = |standing: &Standing| standing.raised.is_some_and(|raised| raised > NOT_RAISED);
        if is_raised(&now) != is_raised(told) {
            let raised = now.raised.filter(|_| is_raised(&now)).unwrap_or(1.0);
            news.push(Decision { what: What::Raised(raised), clock: now.clock, likeness: None });
        }
        for (table, ((gain, likeness), (before, _))) in
            (0..).map(TableId).zip(now.gains.iter().zip(&told.gains))
        {
            if sign(*gain) != sign(*before) {
                news.push(decision(What::Gain(table, *gain), *likeness));
            }
        }
        if !news.is_empty() {
            self.told_at = Some(now.clock);
            self.told = Some(now);
        }
        news
    }
}

fn sign(gain: f32) -> Option<Ordering> {
    gain.partial_cmp(&0.0)
}

impl Decision {
    /// Of which table it is, if it is of one.
    pub fn table(&self) -> Option<TableId> {
        match self.what {
            What::ReleaseEvery(_) | What::Raised(_) => None,
            What::Gain(table, _) => Some(table),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::ReleaseEvery(1) => f.write_str("releases at every clock")?,
            What::ReleaseEvery(every) => write!(f, "releases every {every} clocks")?,
            What::Gain(_, gain) if gain > 0.0 => write!(f, "reads add {gain:.2} times what is unanswered")?,
            What::Gain(_, gain) if gain < 0.0 => {
                write!(f, "reads leave out {:.2} of what is unanswered", -gain)?
            }
            What::Gain(..) => f.write_str("reads anticipate nothing")?,
            What::Raised(raised) if raised > NOT_RAISED => {
                write!(f, "the budget raises thresholds {raised:.2} times")?
            }
            What::Raised(_) => f.write_str("the budget is in nobody's way")?,
        }
        write!(f, " from {} on", self.clock)?;
        match self.likeness {
            Some(likeness) => write!(f, ": updates are {} ({likeness:.2})", in_words(likeness)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock, between how many is released, and by table gain and likeness.
    type At<'a> = (u32, u32, &'a [(f32, f64)]);

    /// What is told of a shard that comes to all this.
    fn told(clocks: &[At<'_>]) -> Vec<String> {
        let mut decisions = Decisions::default();
        let standing = |&(clock, every, gains): &At<'_>| Standing {
            clock: Clock(clock),
            every,
            raised: None,
            least_likeness: gains.iter().map(|(_, likeness)| *likeness).reduce(f64::min),
            gains: gains.iter().map(|(gain, likeness)| (*gain, Some(*likeness))).collect(),
        };
        let news = clocks.iter().flat_map(|at| decisions.news(standing(at)));
        news.map(|decision| decision.to_string()).collect()
    }

    #[test]
    fn a_change_is_told_once_and_with_its_reason() {
        let found = told(&[
            (1, 1, &[(0.0, 0.3)]),
            (2, 1, &[(0.0, 0.3)]),
            (120, 8, &[(0.0, 0.6)]),
            (137, 8, &[(1.2, 0.6)]),
            (154, 8, &[(1.9, 0.95)]),
            (155, 1, &[(-0.5, -0.12)]),
            (172, 1, &[(0.0, 0.02)]),
        ]);
        assert_eq!(
            found,
            [
                "releases every 8 clocks from clock 120 on: updates are alike (0.60)",
                "reads add 1.20 times what is unanswered from clock 137 on: updates are alike (0.60)",
                "releases at every clock from clock 155 on: updates are opposed (-0.12)",
                "reads leave out 0.50 of what is unanswered from clock 155 on: updates are opposed (-0.12)",
                "reads anticipate nothing from clock 172 on: updates are hardly alike (0.02)",
            ]
        );
    }

    #[test]
    fn what_goes_to_and_fro_is_not_told_at_every_clock() {
        let clocks: Vec<_> = (1..=64).map(|clock| (clock, 1 + clock % 2, &[][..])).collect();
        assert_eq!(told(&clocks).len(), 4, "of 63 changes");
    }

    #[test]
    fn where_it_begins_is_no_change() {
        assert_eq!(told(&[(300, 16, &[(1.5, 0.7)]), (400, 16, &[(1.5, 0.1)])]), [""; 0]);
    }
}
