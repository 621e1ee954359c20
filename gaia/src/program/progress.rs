//! How runs are going: bars on a terminal, now and then a line elsewhere. Always on standard error.
//!
//! Kind: driver. Observers are told of every clock, from several threads at once; what is shown is
//! limited by the bars' own drawing rate, or to one line for every tenth of a run.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::human::{bytes, counted, figure, rate, seconds};
use crate::job::strategy::Strategy;
use crate::simulator::results::Run;
use crate::simulator::{Observer, Progress};

/// The observer that suits standard error, or one that shows nothing.
pub fn observer(quiet: bool) -> Box<dyn Observer> {
    if quiet {
        Box::new(Silent)
    } else if io::stderr().is_terminal() {
        Box::new(Bars::default())
    } else {
        Box::new(Lines::new(io::stderr()))
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    /// What is worth a thought is no progress.
    fn remark(&self, remark: &str) {
        let _ = writeln!(io::stderr(), "note: {remark}");
    }

    fn run_started(&self, _: Strategy, _: &[String], _: u32) {}
    fn clock(&self, _: Strategy, _: &Progress) {}
    fn run_finished(&self, _: &Run) {}
}

/// For each run that is going on its name, and under it a bar for each region.
#[derive(Default)]
pub struct Bars {
    screen: MultiProgress,
    runs: Mutex<BTreeMap<&'static str, Barred>>,
}

struct Barred {
    title: ProgressBar,
    regions: Vec<Bar>,
}

struct Bar {
    bar: ProgressBar,
    /// The last objective heard of.
    objective: Option<f64>,
}

impl Observer for Bars {
    fn remark(&self, remark: &str) {
        let _ = self.screen.println(format!("note: {remark}"));
    }

    fn run_started(&self, strategy: Strategy, regions: &[String], clocks: u32) {
        let style = |template: &str| {
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            style.progress_chars("━╸─")
        };
        let bar = |length: u32, style: ProgressStyle, prefix: String| {
            let bar =
                self.screen.add(ProgressBar::new(u64::from(length)).with_style(style).with_prefix(prefix));
            bar.tick();
            bar
        };
        // Two runs must not get between each other's lines.
        let mut runs = lock(&self.runs);
        let title = bar(1, style("{prefix}"), strategy.to_string());
        let widest = regions.iter().map(|region| region.chars().count()).max().unwrap_or(0);
        let template = format!("  {{prefix:<{widest}}} {{wide_bar}} {{pos:>5}}/{{len}} {{msg}}");
        let region = |region: &String| Bar {
            bar: bar(clocks, style(&template), region.clone()).with_message(columns(None, 0.0, 0.0)),
            objective: None,
        };
        runs.insert(strategy.name(), Barred { title, regions: regions.iter().map(region).collect() });
    }

    fn clock(&self, strategy: Strategy, progress: &Progress) {
        let mut runs = lock(&self.runs);
        let run = runs.get_mut(strategy.name());
        let Some(bar) = run.and_then(|run| run.regions.get_mut(progress.region)) else {
            return;
        };
        bar.objective = progress.objective.or(bar.objective);
        bar.bar.set_message(columns(bar.objective, progress.wan_bytes_per_sec, progress.seconds));
        bar.bar.set_position(u64::from(progress.clock));
    }

    fn run_finished(&self, run: &Run) {
        if let Some(bars) = lock(&self.runs).remove(run.strategy.as_str()) {
            self.screen.remove(&bars.title);
            bars.regions.iter().for_each(|bar| self.screen.remove(&bar.bar));
        }
        // A terminal that has gone away is no reason to stop.
        let _ = self.screen.println(finished(run));
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // A run that failed leaves its bars behind.
        let _ = self.screen.clear();
    }
}

/// "objective 0.1523    1.20 MB/s      34.1 s", each in its place so that nothing jumps.
fn columns(objective: Option<f64>, wan_bytes_per_sec: f64, time: f64) -> String {
    let objective = objective.map_or_else(|| "-".to_owned(), figure);
    format!("objective {objective:<9} {:>9} {:>11}", rate(wan_bytes_per_sec), seconds(time))
}

/// A line for every tenth of a run, when its slowest region gets there.
pub struct Lines<W> {
    out: Mutex<W>,
    runs: Mutex<BTreeMap<&'static str, Lined>>,
}

struct Lined {
    clocks: u32,
    /// The last progress of each region.
    regions: Vec<Option<Progress>>,
    objectives: Vec<Option<f64>>,
    /// At which clock of the slowest region the next line is due.
    due: u32,
}

impl<W: Write + Send> Lines<W> {
    /// Writes lines to `out`.
    pub fn new(out: W) -> Self {
        Self { out: Mutex::new(out), runs: Mutex::default() }
    }

    fn line(&self, line: &str) {
        // Progress that nobody reads is no reason to stop.
        let _ = writeln!(lock(&self.out), "{line}");
    }
}

impl<W: Write + Send> Observer for Lines<W> {
    fn remark(&self, remark: &str) {
        self.line(&format!("note: {remark}"));
    }

    fn run_started(&self, strategy: Strategy, regions: &[String], clocks: u32) {
        let run = Lined {
            clocks,
            regions: vec![None; regions.len()],
            objectives: vec![None; regions.len()],
            due: clocks.div_ceil(10),
        };
        lock(&self.runs).insert(strategy.name(), run);
        let names = if regions.len() > 1 { regions.join(", ") } else { "one datacenter".to_owned() };
        self.line(&format!("{strategy}: {} in {names}", counted(clocks, "clock")));
    }

    fn clock(&self, strategy: Strategy, progress: &Progress) {
        let line = lock(&self.runs).get_mut(strategy.name()).and_then(|run| run.clock(progress));
        if let Some(line) = line {
            self.line(&format!("{strategy}: {line}"));
        }
    }

    fn run_finished(&self, run: &Run) {
        lock(&self.runs).remove(run.strategy.as_str());
        self.line(&finished(run));
    }
}

impl Lined {
    fn clock(&mut self, progress: &Progress) -> Option<String> {
        *self.regions.get_mut(progress.region)? = Some(*progress);
        if progress.objective.is_some() {
            self.objectives[progress.region] = progress.objective;
        }
        let slowest = self.regions.iter().map(|region| region.map_or(0, |progress| progress.clock)).min()?;
        // The end of the run has a line of its own.
        if slowest < self.due || slowest >= self.clocks {
            return None;
        }
        while self.due <= slowest {
            self.due += self.clocks.div_ceil(10);
        }
        let reached = self.regions.iter().flatten();
        let all = Progress {
            clock: slowest,
            seconds: reached.clone().map(|progress| progress.seconds).fold(0.0, f64::max),
            wan_bytes_per_sec: reached.map(|progress| progress.wan_bytes_per_sec).sum(),
            ..*progress
        };
        let worst = self.objectives.iter().flatten().copied().max_by(f64::total_cmp);
        Some(format!("clock {slowest}/{}, {}", self.clocks, message(worst, &all)))
    }
}

/// "at 34.1 s, objective 0.1523, WAN 1.20 MB/s".
fn message(objective: Option<f64>, progress: &Progress) -> String {
    let objective =
        objective.map(|objective| format!("objective {}, ", figure(objective))).unwrap_or_default();
    format!("{objective}WAN {}, at {}", rate(progress.wan_bytes_per_sec), seconds(progress.seconds))
}

/// "asp: 200 clocks in 1 min 48 s, objective 0.1525, WAN 1.92 MB".
fn finished(run: &Run) -> String {
    format!(
        "{}: {} in {}, objective {}, WAN {}",
        run.strategy,
        counted(run.clocks, "clock"),
        seconds(run.seconds),
        figure(run.objective),
        bytes(run.wan_bytes as f64)
    )
}

/// What another thread left behind when it panicked is still good enough to be shown.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(region: usize, clock: u32) -> Progress {
        Progress {
            region,
            clock,
            seconds: f64::from(clock) / 2.0,
            objective: clock.is_multiple_of(5).then(|| 1.0 / f64::from(clock) + region as f64),
            wan_bytes_per_sec: 1000.0,
        }
    }

    #[test]
    fn a_line_for_every_tenth_of_the_slowest_region() {
        let lines = Lines::new(Vec::new());
        lines.run_started(Strategy::Asp, &["here".to_owned(), "there".to_owned()], 50);
        for clock in 1..=50 {
            lines.clock(Strategy::Asp, &progress(0, clock));
            if clock > 10 {
                lines.clock(Strategy::Asp, &progress(1, clock - 10));
            }
            // Another run, or a region that was never announced, does no harm.
            lines.clock(Strategy::Bsp, &progress(0, clock));
            lines.clock(Strategy::Asp, &progress(9, clock));
        }
        let text = String::from_utf8(lines.out.into_inner().expect("no panic")).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 9, "{text}");
        assert_eq!(lines[0], "asp: 50 clocks in here, there");
        assert_eq!(lines[1], "asp: clock 5/50, objective 1.2000, WAN 2.00 kB/s, at 7.50 s");
        assert!(lines[8].starts_with("asp: clock 40/50, "), "{text}");
    }

    #[test]
    fn bars_and_lines_may_be_shared_between_threads() {
        for observer in [Box::new(Bars::default()) as Box<dyn Observer>, Box::new(Lines::new(io::sink()))] {
            std::thread::scope(|scope| {
                for strategy in [Strategy::Asp, Strategy::Bsp] {
                    let observer = &observer;
                    scope.spawn(move || {
                        observer.run_started(strategy, &["here".to_owned()], 20);
                        (1..=20).for_each(|clock| observer.clock(strategy, &progress(0, clock)));
                    });
                }
            });
        }
    }
}
