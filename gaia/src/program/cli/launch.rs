//! `gaia worker ... -- PROGRAM`: starts what trains a model of the kind `external`, and tells it who it
//! is.
//!
//! The program inherits the environment, and gets on top of it
//!
//! | variable | what it says |
//! | --- | --- |
//! | `GAIA_CONFIG` | the region's file, absolute |
//! | `GAIA_WORKER` | its index among the workers of the region |
//! | `GAIA_REGION` | the region's name |
//! | `GAIA__...` | settings that the command line has put over the file's |
//! | `RANK`, `WORLD_SIZE` | its index among the workers of all regions, and how many these are |
//! | `LOCAL_RANK`, `LOCAL_WORLD_SIZE` | its index among those that this command starts, and how many |
//! | `GROUP_RANK`, `GROUP_WORLD_SIZE` | its region's index in the job's file, and how many regions there are |
//!
//! The latter are what `torchrun` calls them.
//!
//! Kind: driver.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal as Number, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CommandError;
use super::arguments::WorkerArguments;
use crate::job::region::Region;
use crate::service::{CONFIG_VARIABLE, WORKER_VARIABLE};
use crate::settings::{ENVIRONMENT_PREFIX, SEPARATOR};

/// A program that trains in the place of workers, from `first` on.
pub(super) struct Launch<'a> {
    region: &'a Region,
    arguments: &'a WorkerArguments,
    first: u32,
}

/// Why a program did not train to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    #[error("cannot wait for {program}")]
    Wait { program: String, source: io::Error },
    /// It has said why itself.
    #[error("worker {worker}: {program} has ended with {status}")]
    Failed { worker: u32, program: String, status: ExitStatus, code: u8 },
}

impl LaunchError {
    /// What this process ends with: as the program did.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Start { .. } => super::INPUT,
            Self::Wait { .. } => super::FAILED,
            Self::Failed { code, .. } => *code,
        }
    }
}

/// The signals that are passed on. An interrupt from a terminal reaches the program by itself: twice
/// would mean that it is to end at once.
struct Signals {
    terminate: Signal,
    hangup: Signal,
    interrupt: Signal,
    has_terminal: bool,
}

impl Signals {
    fn listen() -> Result<Self, CommandError> {
        let listen = |kind| signal(kind).map_err(CommandError::System);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            has_terminal: io::IsTerminal::is_terminal(&io::stdin()),
        })
    }

    async fn next(&mut self) -> Number {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Number::TERM,
                _ = self.hangup.recv() => return Number::HUP,
                _ = self.interrupt.recv() => if !self.has_terminal {
                    return Number::INT;
                },
            }
        }
    }
}

impl<'a> Launch<'a> {
    /// Programs for as many workers as `arguments` ask for, of which `first` is the first.
    pub(super) fn new(region: &'a Region, arguments: &'a WorkerArguments, first: u32) -> Self {
        Self { region, arguments, first }
    }

    /// Starts them and waits for all of them. Where one fails, the others are asked to stop.
    pub(super) async fn run(&self) -> Result<(), CommandError> {
        let mut signals = Signals::listen()?;
        let count = self.arguments.spawn.unwrap_or(1);
        let program = self.arguments.command[0].to_string_lossy().into_owned();
        let start = |local| {
            let started = self.command(local, count)?.spawn();
            started.map_err(|source| LaunchError::Start { program: program.clone(), source }.into())
        };
        let mut children: Vec<Option<Child>> = Vec::new();
        for local in 0..count {
            match start(local) {
                Ok(child) => children.push(Some(child)),
                Err(error) => {
                    pass(&children, Number::TERM);
                    return Err(error);
                }
            }
        }
        let mut failed = None;
        while children.iter().any(Option::is_some) {
            let (local, ended) = tokio::select! {
                ended = next_end(&mut children) => ended,
                signal = signals.next() => {
                    pass(&children, signal);
                    continue;
                }
            };
            children[local] = None;
            let status = ended.map_err(|source| LaunchError::Wait { program: program.clone(), source })?;
            if !status.success() && failed.is_none() {
                let (worker, program) = (self.first + local as u32, program.clone());
                failed = Some(LaunchError::Failed { worker, program, status, code: exit_code(status) });
                pass(&children, Number::TERM);
            }
        }
        failed.map_or(Ok(()), |failed| Err(failed.into()))
    }

    /// The program with its environment.
    fn command(&self, local: u32, count: u32) -> Result<Command, CommandError> {
        let Self { region, arguments, first } = self;
        let config = std::path::absolute(&arguments.region.config).map_err(CommandError::System)?;
        let [program, rest @ ..] = &arguments.command[..] else { unreachable!("clap wants a program") };
        let mut command = Command::new(program);
        command.args(rest).envs(self.settings());
        let index = first + local;
        let group = region.members.iter().position(|member| member.name == region.name).unwrap_or(0);
        command.env(CONFIG_VARIABLE, config).env("GAIA_REGION", &region.name);
        let numbers = [
            (WORKER_VARIABLE, index),
            ("RANK", region.first_worker() + index),
            ("WORLD_SIZE", region.all_workers()),
            ("LOCAL_RANK", local),
            ("LOCAL_WORLD_SIZE", count),
            ("GROUP_RANK", group as u32),
            ("GROUP_WORLD_SIZE", region.members.len() as u32),
        ];
        command.envs(numbers.map(|(name, number)| (name, number.to_string())));
        Ok(command)
    }

    /// What stands over the file on the command line, as the environment has it.
    fn settings(&self) -> Vec<(OsString, OsString)> {
        let over = &self.arguments.region.over;
        let one = |key: &str, value: &str| {
            let name = format!("{ENVIRONMENT_PREFIX}{SEPARATOR}{}", key.replace('.', SEPARATOR));
            (name.to_uppercase().into(), value.into())
        };
        let flags = over.set.iter().map(|(key, value)| one(key, value));
        // A relative path is relative to the working directory, in the program too.
        let data = over.data_path.iter().map(|path| one("job.data.path", path));
        let seed = over.seed.iter().map(|seed| one("seed", seed));
        flags.chain(data).chain(seed).collect()
    }
}

/// The next of them that ends, with its place.
async fn next_end(children: &mut [Option<Child>]) -> (usize, io::Result<ExitStatus>) {
    let running = children.iter_mut().enumerate();
    let running = running.filter_map(|(local, child)| Some((local, child.as_mut()?)));
    let waits = running.map(|(local, child)| Box::pin(async move { (local, child.wait().await) }));
    futures_util::future::select_all(waits).await.0
}

/// Passes a signal on to all that run.
fn pass(children: &[Option<Child>], signal: Number) {
    let ids = children.iter().flatten().filter_map(Child::id);
    for pid in ids.filter_map(|id| Pid::from_raw(id as i32)) {
        // It may end at the same moment.
        let _ = kill_process(pid, signal);
    }
}

/// What shells make of how a program has ended.
fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code > 0).unwrap_or(super::FAILED)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_program_ends_this_one_as_shells_would_say() {
        for (raw, code) in [(1 << 8, 1), (3 << 8, 3), (255 << 8, 255), (15, 143), (9, 137)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), code);
        }
    }
}
