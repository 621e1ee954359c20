//! `gaia run`, `gaia server`, `gaia worker`: the processes of a region.
//!
//! Kind: driver.

use std::io::{self, Write};
use std::str::FromStr;

use super::arguments::{RegionArguments, ServerArguments, WorkerArguments};
use super::{CommandError, data};
use crate::config::{self, ConfigError, Problem};
use crate::region::Region;
use crate::service::{self, Outcome, Part};

pub(super) fn run(arguments: &RegionArguments) -> Result<(), CommandError> {
    start(load(arguments)?, Part::Region)
}

pub(super) fn server(arguments: &ServerArguments) -> Result<(), CommandError> {
    let index = arguments.index.map_or_else(index_of_host, Ok)?;
    start(load(&arguments.region)?, Part::Server(index))
}

pub(super) fn worker(arguments: &WorkerArguments) -> Result<(), CommandError> {
    let index = arguments.index.map_or_else(index_of_host, Ok)?;
    start(load(&arguments.region)?, Part::Worker(index))
}

/// Reads the settings of a region, and checks that the data's files are there.
fn load(arguments: &RegionArguments) -> Result<Region, CommandError> {
    let region = config::load_region(&arguments.config, &arguments.over.overrides()?)?;
    let problems = data::problems(&region.job, &arguments.config);
    if problems.is_empty() { Ok(region) } else { Err(ConfigError { problems }.into()) }
}

fn start(region: Region, part: Part) -> Result<(), CommandError> {
    // Workers compute in threads of their own; two more for sockets do on any machine.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    let outcome = runtime.block_on(service::run(region, part));
    runtime.shutdown_background();
    if let Outcome::Finished(Some(score)) = outcome? {
        let (clock, objective, metric, value) = (score.clock, score.objective, score.metric, score.value);
        // Nobody may be reading, and the job is done all the same.
        let _ = writeln!(io::stdout(), "clock {clock}: objective {objective:.6}, {metric} {value:.4}");
    }
    Ok(())
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
    fn the_index_may_come_from_the_host() {
        for (name, index) in
            [("gaia-server-1", Some(1)), ("w-12", Some(12)), ("gaia", None), ("node7", None), ("a-b", None)]
        {
            assert_eq!(trailing_number::<u16>(name), index, "{name}");
        }
    }
}
