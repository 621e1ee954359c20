//! `gaia check`: everything that can be known before a run, each line ok or failed.

mod layout;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use datacenter::printable;
use futures_util::future::join_all;

use super::arguments::CheckArguments;
use super::{CommandError, Engine, data as files, with_causes};
use crate::human::{bit_rate, counted};
use crate::job::Job;
use crate::job::config;
use crate::job::config::FileKind;
use crate::job::region::Region;
use crate::job::scenario::Simulation;
use crate::learning::application::ModelKinds;
use crate::learning::data::DataScope;
use crate::learning::data::partition::idle_workers;
use crate::learning::data::preview;
use crate::learning::models::is_external;
use crate::program::report::Destination;
use crate::service::Part;
use crate::service::preflight::{self, Finding, PeerProbe};
use crate::settings::Problem;
use crate::settings::{ConfigError, Overrides};
use crate::simulator::check_fit;

/// What is known of a file so far.
struct Checked {
    findings: Vec<Finding>,
    /// For regions: whence to look at others.
    probe: Option<PeerProbe>,
}

/// Checks all files. Regions among them are looked at together, so that they see each other.
pub(super) fn check(
    arguments: &CheckArguments,
    engine: &dyn Engine,
    kinds: &ModelKinds,
) -> Result<(), CommandError> {
    let overrides = arguments.over.overrides()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    let mut files = Vec::new();
    for file in &arguments.files {
        let mut checked = runtime.block_on(check_file(file, &overrides, arguments, engine, kinds));
        if arguments.offline {
            checked.probe = None;
        }
        files.push((file, checked));
    }
    let wait = arguments.wait.unwrap_or(Duration::ZERO);
    if !wait.is_zero() && files.iter().any(|(_, checked)| checked.probe.is_some()) {
        let _ = writeln!(io::stderr(), "waiting for other regions to answer, at most {wait:?}");
    }
    runtime.block_on(join_all(files.iter_mut().map(async |(_, checked)| {
        if let Some(probe) = &checked.probe {
            checked.findings.extend(probe.look(wait).await);
        }
    })));
    let mut all_right = true;
    for (file, Checked { findings, .. }) in &files {
        all_right &= findings.iter().all(|finding| finding.found.is_ok());
        let text = layout::shown(&file.display().to_string(), findings);
        Destination::Stdout.write(&printable::lines(&text)).map_err(CommandError::Output)?;
    }
    if all_right { Ok(()) } else { Err(CommandError::Checked) }
}

async fn check_file(
    file: &Path,
    overrides: &Overrides,
    arguments: &CheckArguments,
    engine: &dyn Engine,
    kinds: &ModelKinds,
) -> Checked {
    let findings = match config::kind_of(file) {
        FileKind::Region => match config::load_region(file, overrides, kinds) {
            Ok(region) => return check_region(region, file, arguments).await,
            Err(error) => problems(&error, file),
        },
        FileKind::Simulation => match config::load_simulation(file, overrides, kinds) {
            Ok(simulation) => check_simulation(&simulation, file, engine),
            Err(error) => problems(&error, file),
        },
        FileKind::Job => match config::load_job(file, overrides, kinds) {
            Ok(job) => check_job(&job, file),
            Err(error) => problems(&error, file),
        },
        // The environment speaks of jobs.
        FileKind::Links => match config::load_link_file(file, &Overrides::default()) {
            Ok(links) => {
                let routes = links.links.iter().map(|link| link.routes.len()).sum::<usize>();
                vec![Finding::ok("settings", format!("{} links with {routes} routes", links.links.len()))]
            }
            Err(error) => problems(&error, file),
        },
    };
    Checked { findings, probe: None }
}

fn problems(error: &ConfigError, file: &Path) -> Vec<Finding> {
    error.problems.iter().map(|problem| Finding::failed("settings", message(problem, file))).collect()
}

/// The job's files that are not there.
fn missing(job: &Job, file: &Path) -> Vec<Finding> {
    let missing = files::problems(job, file);
    missing.iter().map(|problem| Finding::failed("data", message(problem, file))).collect()
}

async fn check_region(region: Region, file: &Path, arguments: &CheckArguments) -> Checked {
    let part = match (arguments.server, arguments.worker) {
        (Some(server), _) => Part::Server(server),
        (None, Some(worker)) => Part::Worker(worker),
        (None, None) => Part::Region,
    };
    if let Err(error) = part.check(&region) {
        return Checked { findings: vec![Finding::failed("settings", error)], probe: None };
    }
    // These name the key; whatever else is wrong with the data shows when it is read.
    let missing = missing(&region.job, file);
    let job = region.job.clone();
    let (mut findings, probe) = preflight::local(region, part).await;
    let is_data = |finding: &Finding| finding.subject == "data" && finding.found.is_ok();
    if let Some(place) = findings.iter().position(is_data) {
        findings.splice(place + 1..place + 1, rows(&job));
    }
    if !missing.is_empty() {
        findings.retain(|finding| finding.subject != "data");
        findings.splice(1..1, missing);
    }
    Checked { findings, probe: Some(probe) }
}

fn check_simulation(simulation: &Simulation, file: &Path, engine: &dyn Engine) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("settings", settings(simulation))];
    if simulation.regions.len() > 1 {
        findings.push(Finding::ok("links", links(simulation)));
    }
    let remarks = simulation.remarks(&simulation.strategies);
    findings.extend(remarks.into_iter().map(|remark| Finding::ok("note", remark)));
    let missing = missing(&simulation.job, file);
    if missing.is_empty() {
        // Reading the data tells more than that it is there.
        match engine.check(simulation) {
            Ok(found) => {
                findings.push(Finding::ok("data", found.summary));
                findings.extend(rows(&simulation.job));
                findings.extend(found.remarks.into_iter().map(|remark| Finding::ok("note", remark)));
            }
            Err(error) => findings.push(Finding::failed("data", with_causes(&error))),
        }
    }
    findings.extend(missing);
    findings
}

fn check_job(file: &config::JobFile, path: &Path) -> Vec<Finding> {
    let members: Vec<_> = file.members.iter().map(|m| format!("{} {}", m.workers, m.name)).collect();
    let who = if members.is_empty() { String::new() } else { format!("; workers: {}", members.join(", ")) };
    let mut findings = vec![Finding::ok(
        "settings",
        format!("{}: {}{who}", file.job.name, counted(file.job.clocks, "clock")),
    )];
    let missing = missing(&file.job, path);
    if missing.is_empty() {
        match model(file) {
            Ok((model, remarks)) => {
                findings.push(Finding::ok("data", model));
                findings.extend(rows(&file.job));
                findings.extend(remarks.into_iter().map(|remark| Finding::ok("note", remark)));
            }
            Err(error) => findings.push(Finding::failed("data", error)),
        }
    }
    findings.extend(missing);
    findings
}

/// The model of a job in a few words, and what is worth a thought; or why there is none.
fn model(file: &config::JobFile) -> Result<(String, Vec<String>), String> {
    let application = file.job.input(file.seed).application().map_err(|error| with_causes(&error))?;
    check_fit(&file.job, application.as_ref()).map_err(|error| with_causes(&error))?;
    let tables = application.tables();
    let shapes = tables.iter().map(|t| format!("{} {} x {}", t.name, t.rows, t.width));
    let workers = file.members.iter().map(|member| member.workers as usize).sum::<usize>();
    // Of a model that another program trains, nobody here knows the data.
    let is_shared = file.job.data_scope == DataScope::Shared && !is_external(&file.job.model);
    let parts = if is_shared && workers > 0 { application.partition(workers) } else { Vec::new() };
    let idle = idle_workers(&parts.iter().map(Vec::len).collect::<Vec<_>>());
    let remarks = application.remarks().into_iter().chain(idle).collect();
    Ok((format!("model: {}", shapes.collect::<Vec<_>>().join(", ")), remarks))
}

/// The first rows of the training data as they are understood; the data itself has been found
/// sound.
fn rows(job: &Job) -> Vec<Finding> {
    let rows = preview(&job.data, job.model.outcome()).unwrap_or_default();
    rows.iter().map(|row| Finding::ok("rows", row)).collect()
}

/// The problem without the name of the file, which stands above it.
fn message(problem: &Problem, file: &Path) -> String {
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
        "{} with {} in {}; {}; {}",
        simulation.job.name,
        counted(simulation.worker_count(), "worker"),
        simulation.regions.iter().map(|region| region.name.as_str()).collect::<Vec<_>>().join(", "),
        counted(simulation.job.clocks, "clock"),
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
