//! `gaia run`, `gaia server`, `gaia worker`: the processes of a region.
//!
//! Kind: driver.

use std::io::{self, Write};
use std::str::FromStr;

use super::arguments::{RegionArguments, ServerArguments, WorkerArguments};
use super::launch::Launch;
use super::{CommandError, data};
use crate::human::with_causes;
use crate::job::config;
use crate::job::region::LogFormat;
use crate::job::region::Region;
use crate::learning::application::ModelKinds;
use crate::learning::models::is_external;
use crate::service::logs;
use crate::service::{self, Outcome, Part};
use crate::settings::{ConfigError, Problem};

pub(super) fn run(arguments: &RegionArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    process(arguments, kinds, Part::Region.role(), |_| Ok(Part::Region))
}

pub(super) fn server(arguments: &ServerArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    process(&arguments.region, kinds, "server".to_owned(), |region| {
        let count = region.servers.into();
        let index = index(arguments.index.as_deref(), "server", &region.name, count)?;
        Ok(Part::Server(index.try_into().expect("it is below a count of as many bits")))
    })
}

pub(super) fn worker(arguments: &WorkerArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    if !arguments.command.is_empty() {
        return launch(arguments, kinds);
    }
    process(&arguments.region, kinds, "worker".to_owned(), |region| {
        index(arguments.index.as_deref(), "worker", &region.name, region.workers()).map(Part::Worker)
    })
}

/// Starts the program that trains in the place of a worker.
fn launch(arguments: &WorkerArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    let RegionArguments { config, over } = &arguments.region;
    let region = config::load_region(config, &over.overrides()?, kinds)?;
    if !is_external(&region.job.model) {
        let kind = region.job.model.kind();
        let message = format!(
            "found {kind:?}, which gaia worker trains by itself; allowed beside a program: \"external\""
        );
        let place = config.display().to_string();
        return Err(
            ConfigError::from(Problem { place, key: Some("job.model.kind".to_owned()), message }).into()
        );
    }
    let workers = region.workers();
    let first = index(arguments.index.as_deref(), "worker", &region.name, workers)?;
    let count = arguments.spawn.unwrap_or(1);
    if count > workers - first {
        let message = format!(
            "found {count}; allowed: at most {}, as {} has {workers} workers and the first of these is {first}",
            workers - first,
            region.name
        );
        return Err(ConfigError::from(Problem { place: "--spawn".to_owned(), key: None, message }).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::Runtime)?.block_on(Launch::new(&region, arguments, first).run())
}

/// Runs a part of a region. From where the settings are known, an error is told as they ask for it.
fn process(
    arguments: &RegionArguments,
    kinds: &ModelKinds,
    role: String,
    part: impl FnOnce(&Region) -> Result<Part, ConfigError>,
) -> Result<(), CommandError> {
    let region = config::load_region(&arguments.config, &arguments.over.overrides()?, kinds)?;
    let format = region.log;
    let mut process = logs::Process { region: region.name.clone(), role };
    let done = part(&region).map_err(CommandError::from).and_then(|part| {
        process.role = part.role();
        let problems = data::problems(&region.job, &arguments.config);
        if problems.is_empty() { start(region, part) } else { Err(ConfigError { problems }.into()) }
    });
    done.map_err(|error| match format {
        LogFormat::Text => error,
        LogFormat::Json => {
            // There is nobody to tell if that fails.
            let _ = writeln!(io::stderr(), "{}", logs::json_error(&process, &with_causes(&error)));
            CommandError::Logged(error.code())
        }
    })
}

fn start(region: Region, part: Part) -> Result<(), CommandError> {
    // Workers compute in threads of their own; two more for sockets do on any machine.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    let outcome = runtime.block_on(service::run(region, part));
    // The process ends in a moment, and whatever still runs ends with it: threads of workers that
    // wait for a timer would panic in a runtime that is shut down.
    std::mem::forget(runtime);
    let Outcome::Finished { score, lacks } = outcome? else { return Ok(()) };
    if let Some(score) = score {
        let (clock, objective, metric, value) = (score.clock, score.objective, score.metric, score.value);
        // Nobody may be reading, and the job is done all the same.
        let _ = writeln!(io::stdout(), "clock {clock}: objective {objective:.6}, {metric} {value:.4}");
    }
    lacks.map_or(Ok(()), |lacks| Err(CommandError::Lacking(lacks)))
}

/// Which of the `count` processes of `role` this is: as somebody said, or as the host is called.
fn index(said: Option<&str>, role: &str, region: &str, count: u32) -> Result<u32, ConfigError> {
    let found = match said {
        Some(said) => said.trim().to_owned(),
        None => index_of_host::<u32>()?.to_string(),
    };
    found.parse().ok().filter(|index| *index < count).ok_or_else(|| {
        let allowed = match count {
            1 => format!("0, as {region} has one {role}"),
            _ => format!("a whole number from 0 to {}, as {region} has {count} {role}s", count - 1),
        };
        let message = format!("found {found}; allowed: {allowed}");
        Problem { place: "--index".to_owned(), key: None, message }.into()
    })
}

/// The number at the end of the host's name, as a StatefulSet numbers its pods.
fn index_of_host<T: FromStr>() -> Result<T, ConfigError> {
    let name = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let name = name.or_else(|| std::fs::read_to_string("/etc/hostname").ok()).unwrap_or_default();
    trailing_number(name.trim()).ok_or_else(|| {
        let message = format!(
            "missing; allowed: a number from 0, or a host whose name ends with one, such as gaia-server-1 (this is {:?})",
            name.trim()
        );
        Problem { place: "--index".to_owned(), key: None, message }.into()
    })
}

fn trailing_number<T: FromStr>(name: &str) -> Option<T> {
    let (_, number) = name.rsplit_once('-')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_none_is_answered_with_those_that_are() {
        assert_eq!(index(Some("2"), "worker", "virginia", 3), Ok(2));
        for found in ["-1", "3", "4294967296", "two", ""] {
            let error = index(Some(found), "worker", "virginia", 3).expect_err(found);
            let expected = format!(
                "--index: found {found}; allowed: a whole number from 0 to 2, as virginia has 3 workers"
            );
            assert_eq!(error.to_string(), expected);
        }
        let error = index(Some("1"), "server", "virginia", 1).expect_err("there is but one");
        assert_eq!(error.to_string(), "--index: found 1; allowed: 0, as virginia has one server");
    }

    #[test]
    fn the_index_may_come_from_the_host() {
        for (name, index) in
            [("gaia-server-1", Some(1)), ("w-12", Some(12)), ("gaia", None), ("node7", None), ("a-b", None)]
        {
            assert_eq!(trailing_number::<u16>(name), index, "{name}");
        }
    }
}
