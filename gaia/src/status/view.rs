//! What a person sees of a job: regions, each with its clock, what holds it up, and its links.
//!
//! Kind: time-free, but for its terminal, which is a driver. What processes said goes into a [`History`]; a page is a
//! pure function of that and of the width. [`text`] prints it once; [`run`] keeps it on a terminal, until it is told to
//! end.

mod links;
mod page;
mod paint;
mod region;
mod terminal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use self::page::{Page, page};
pub use self::paint::Palette;
pub use self::terminal::{Ended, run};
use super::Status;
use super::fetch::{Fetched, Url};

/// Rates are means over this time: long enough that a clock of some seconds does not make them jump.
const WINDOW: Duration = Duration::from_secs(5);

/// What processes said at one moment.
#[derive(Debug)]
struct Moment {
    /// Since the history began.
    at: Duration,
    fetched: Vec<Fetched>,
}

impl Moment {
    fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.fetched.iter().filter_map(|fetched| fetched.status.as_ref().ok())
    }
}

/// What processes said lately, the last few seconds of it.
#[derive(Debug, Default)]
pub struct History {
    /// The first is about [`WINDOW`] before the last.
    moments: VecDeque<Moment>,
    /// Who has answered at some URL: region and role. So that one who no longer does has a name.
    names: BTreeMap<Url, (String, String)>,
}

impl History {
    /// What was fetched just now and never before: without rates.
    pub fn once(fetched: Vec<Fetched>) -> Self {
        let mut history = Self::default();
        history.push(Duration::ZERO, fetched);
        history
    }

    /// Adds what was fetched `at` some time after the history began.
    pub fn push(&mut self, at: Duration, mut fetched: Vec<Fetched>) {
        for fetched in &mut fetched {
            match &fetched.status {
                Ok(status) => {
                    let name = (status.datacenter.clone(), status.role.clone());
                    self.names.insert(fetched.target.url.clone(), name);
                }
                Err(_) => {
                    if fetched.target.name.is_none() {
                        fetched.target.name = self.names.get(&fetched.target.url).cloned();
                    }
                }
            }
        }
        self.moments.push_back(Moment { at, fetched });
        while self.moments.get(1).is_some_and(|second| at - second.at >= WINDOW) {
            self.moments.pop_front();
        }
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
