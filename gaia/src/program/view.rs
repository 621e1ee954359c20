//! What a person sees of a job: regions, each with its clock, what holds it up, and its links.
//!
//! Kind: time-free, but for its terminal, which is a driver. What processes said goes into a
//! [`History`]; a page is a pure function of that and of the width. [`text`] prints it once;
//! [`run`] keeps it on a terminal, until it is told to end.

mod filters;
mod kept;
mod links;
mod page;
mod paint;
mod region;
mod terminal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use self::page::{Page, page};
pub use self::paint::Palette;
pub use self::terminal::{Ended, run};
use crate::service::status::fetch::{Fetched, Url};
use crate::service::status::totals::Totals;
use crate::service::status::{Status, WHOLE_REGION};

/// Rates are means over this time: long enough that a clock of some seconds does not make them
/// jump.
const WINDOW: Duration = Duration::from_secs(5);

/// What processes said at one moment.
#[derive(Debug)]
struct Moment {
    /// Since the history began.
    at: Duration,
    fetched: Vec<Fetched>,
    /// Of those that do not answer, who had said before that it was at its end: the last that it
    /// said.
    ended: BTreeMap<Url, Status>,
    /// What had crossed between regions by then, as far as anybody has said so far.
    totals: Totals,
}

impl Moment {
    /// Of those that answer.
    fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.fetched.iter().filter_map(|fetched| fetched.status.as_ref().ok())
    }

    /// Also of those that have ended.
    fn known(&self) -> impl Iterator<Item = &Status> {
        self.statuses().chain(self.ended.values())
    }
}

/// What processes said lately, the last few seconds of it.
#[derive(Debug, Default)]
pub struct History {
    /// The first is about [`WINDOW`] before the last.
    moments: VecDeque<Moment>,
    /// What was last answered at some URL. So that one who no longer answers has a name, and an end
    /// that it had spoken of is not taken for a crash.
    last: BTreeMap<Url, Status>,
    /// So that nothing that was counted is taken back.
    totals: Totals,
}

impl History {
    /// What was fetched just now and never before: without rates.
    pub fn once(fetched: Vec<Fetched>) -> Self {
        let mut history = Self::default();
        history.push(Duration::ZERO, fetched);
        history
    }

    /// Adds what was fetched `at` some time after the history began.
    ///
    /// Processes that do not answer are left out where one process has all roles of their region: a
    /// region's file has addresses for both ways to run it.
    pub fn push(&mut self, at: Duration, mut fetched: Vec<Fetched>) {
        for fetched in &fetched {
            if let Ok(status) = &fetched.status {
                self.last.insert(fetched.target.url.clone(), status.clone());
                self.totals.add(status);
            }
        }
        let is_whole = |status: &&Status| status.role == WHOLE_REGION;
        let whole: BTreeSet<_> =
            self.last.values().filter(is_whole).map(|status| status.datacenter.as_str()).collect();
        let mut ended = BTreeMap::new();
        fetched.retain_mut(|fetched| {
            if fetched.status.is_ok() {
                return true;
            }
            let url = &fetched.target.url;
            let last = self.last.get(url);
            if let Some(last) = last {
                fetched.target.name = Some((last.datacenter.clone(), last.role.clone()));
            }
            if let Some(last) = last.filter(|last| last.phase.is_end()) {
                ended.insert(url.clone(), last.clone());
            }
            let is_itself = last.is_some_and(|last| last.role == WHOLE_REGION);
            let region = fetched.target.name.as_ref().map(|(region, _)| region.as_str());
            is_itself || !region.is_some_and(|region| whole.contains(region))
        });
        ended.retain(|url, _| fetched.iter().any(|fetched| fetched.target.url == *url));
        self.moments.push_back(Moment { at, fetched, ended, totals: self.totals.clone() });
        while self.moments.get(1).is_some_and(|second| at - second.at >= WINDOW) {
            self.moments.pop_front();
        }
    }

    /// What came of asking lately, without those that are left out.
    pub fn latest(&self) -> &[Fetched] {
        self.now().map_or(&[], |moment| &moment.fetched)
    }

    fn now(&self) -> Option<&Moment> {
        self.moments.back()
    }

    /// An earlier moment, and how long ago it was; none where there is only one.
    fn before(&self) -> Option<(&Moment, f64)> {
        let (first, last) = (self.moments.front()?, self.moments.back()?);
        let seconds = (last.at - first.at).as_secs_f64();
        (seconds > 0.0).then_some((first, seconds))
    }

    /// Whether it is updated as time goes by.
    fn is_live(&self) -> bool {
        self.moments.len() > 1
    }
}

/// All of it as plain text of lines no longer than `width`, for a pipe or a terminal.
pub fn text(history: &History, width: u16) -> String {
    let page = page(history, width, Palette::Plain);
    let mut text = String::new();
    for line in page.head.iter().chain(&page.body) {
        text.push_str(line.to_string().trim_end());
        text.push('\n');
    }
    text
}
