//! `gaia check`: everything that can be known before a run, each line ok or failed.

use std::path::Path;

use super::arguments::CheckArguments;
use super::{CommandError, Engine, data, with_causes};
use crate::config::{self, Overrides};
use crate::report::Destination;
use crate::report::human::bit_rate;
use crate::scenario::Simulation;

/// What was looked at, and what was found; `Err` is what to put right.
type Line = (String, Result<String, String>);

/// Checks all files; prints as it goes, since loading data takes a while.
pub(super) fn check(arguments: &CheckArguments, engine: &dyn Engine) -> Result<(), CommandError> {
    let overrides = arguments.over.overrides()?;
    let mut all_right = true;
    for file in &arguments.files {
        let lines = check_file(file, &overrides, engine);
        all_right &= lines.iter().all(|(_, found)| found.is_ok());
        Destination::Stdout.write(&shown(file, &lines)).map_err(CommandError::Output)?;
    }
    if all_right { Ok(()) } else { Err(CommandError::Checked) }
}

fn check_file(file: &Path, overrides: &Overrides, engine: &dyn Engine) -> Vec<Line> {
    let simulation = match config::load_simulation(file, overrides) {
        Ok(simulation) => simulation,
        Err(error) => {
            let line = |problem: config::Problem| ("settings".to_owned(), Err(message(&problem, file)));
            return error.problems.into_iter().map(line).collect();
        }
    };
    let mut lines = vec![("settings".to_owned(), Ok(settings(&simulation)))];
    if simulation.regions.len() > 1 {
        lines.push(("links".to_owned(), Ok(links(&simulation))));
    }
    let remarks = simulation.remarks(&simulation.strategies);
    lines.extend(remarks.into_iter().map(|remark| ("note".to_owned(), Ok(remark))));
    let missing = data::problems(&simulation.job, file);
    if missing.is_empty() {
        // Reading the data tells more than that it is there.
        let found = engine.check(&simulation).map_err(|error| with_causes(&error));
        lines.push(("data".to_owned(), found));
    } else {
        lines.extend(missing.into_iter().map(|problem| ("data".to_owned(), Err(message(&problem, file)))));
    }
    lines
}

/// The problem without the name of the file, which stands above it.
fn message(problem: &config::Problem, file: &Path) -> String {
    let text = problem.to_string();
    let Some(rest) = text.strip_prefix(&file.display().to_string()) else {
        return text;
    };
    match rest.strip_prefix(": ") {
        Some(message) => message.to_owned(),
        None => format!("line {}", rest.trim_start_matches(':')),
    }
}

fn settings(simulation: &Simulation) -> String {
    let strategies: Vec<_> = simulation.strategies.iter().map(|strategy| strategy.name()).collect();
    format!(
        "{} with {} workers in {}; {} clocks; {}",
        simulation.job.name,
        simulation.worker_count(),
        simulation.regions.iter().map(|region| region.name.as_str()).collect::<Vec<_>>().join(", "),
        simulation.job.clocks,
        strategies.join(", ")
    )
}

fn links(simulation: &Simulation) -> String {
    let mut rates: Vec<_> = simulation.links.iter().map(|(_, _, link)| link.rate_bytes_per_sec).collect();
    let mut delays: Vec<_> = simulation.links.iter().map(|(_, _, link)| link.one_way_delay).collect();
    rates.sort_unstable();
    delays.sort_unstable();
    let rates: Vec<_> = rates.into_iter().map(|bytes| bit_rate(bytes as f64)).collect();
    let delays: Vec<_> = delays.into_iter().map(|delay| format!("{delay:?}")).collect();
    format!("{}, {} one way", span(&rates), span(&delays))
}

/// "least to most" of what is sorted.
fn span(sorted: &[String]) -> String {
    match sorted {
        [least, .., most] if least != most => format!("{least} to {most}"),
        [least, ..] => least.clone(),
        [] => String::new(),
    }
}

fn shown(file: &Path, lines: &[Line]) -> String {
    let mut text = format!("{}\n", file.display());
    for (subject, found) in lines {
        let (verdict, message) = match found {
            Ok(message) => ("ok", message),
            Err(message) => ("failed", message),
        };
        text.push_str(&format!("  {verdict:<7} {subject:<9} {message}\n"));
    }
    text
}
