//! A region's processes: servers, workers, or all of them in one.
//!
//! Shards, workers and the WAN protocol are the same as in a simulation; only the drivers differ:
//! sockets instead of emulated links, and time that passes.
//!
//! - `setup`: what every process of a region starts from;
//! - `beginning`: what a server begins with;
//! - `orders`: what operators want of a server, above all that a region leaves for good;
//! - `server`: one server: its shards, its WAN socket, and the listener through which workers come;
//! - [`Connection`]: one worker at its tables, from joining its servers to leaving them, with
//!   `session` for how it reaches its shards and `notes` for what it tells of itself; `worker` is a
//!   learner that trains over one;
//! - `process`: puts these together and stops them in order, with `part` for which of them it has,
//!   `identities` for their certificates, and `report` for their status;
//! - `evaluation`: the region's copy of the model, scored while it is trained, and `output`:
//!   written when it is.
//!
//! Kind: driver.

pub mod admin;
mod beginning;
pub mod certificates;
pub mod checkpoint;
mod connection;
mod counting;
mod evaluation;
mod identities;
pub mod logs;
pub mod model_files;
mod notes;
mod orders;
mod output;
mod part;
pub mod participation;
pub mod preflight;
mod process;
mod report;
mod server;
mod session;
mod setup;
pub mod status;
mod worker;

use std::io;
use std::net::SocketAddr;

use datacenter::TableId;
use datacenter::lan::LanError;
use datacenter::local::SessionError;
use thiserror::Error;
use wan::replica::Misfit;

pub use self::connection::{CONFIG_VARIABLE, ConnectError, Connection, Held, WORKER_VARIABLE, Who};
pub(crate) use self::output::prepare as prepare_output;
pub use self::part::Part;
pub use self::process::{Outcome, run};
pub(crate) use self::report::short;
pub use self::setup::Setup;

use crate::job::strategy::TableError;
use crate::learning::application::{BuildError, StepError};
use crate::learning::models::EXTERNAL;
use crate::service::certificates::FilesError;
use crate::service::checkpoint::{LocationError, RestoreError};
use crate::service::preflight::why_not_listening;

/// Why a process did not do its work.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The data cannot be used, or no model be made of it.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The job has a setting that does not fit the tables of its model.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The job has more shards than rows.
    #[error("job.shards: found {found}; allowed: at most {rows}, the rows of the largest table")]
    Shards {
        /// What the job says.
        found: u16,
        /// The most there may be.
        rows: u32,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] FilesError),
    /// The model is trained by a program of its user's.
    #[error("{EXTERNAL}")]
    External,
    /// The system does not deliver signals.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// A socket could not be opened.
    #[error("cannot listen on {address} ({what}): {}", why_not_listening(error))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What for, and which setting says so.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// An address that is a name, where one to listen on is needed.
    #[error("{key}: cannot listen on {found:?}, which is not an address of this machine: {source}")]
    Name {
        /// The setting.
        key: &'static str,
        /// What it says.
        found: String,
        /// What the lookup said.
        source: io::Error,
    },
    /// There is no such process in the region.
    #[error("there is no {role} {index} in {region}, which has {count}, counted from 0")]
    Index {
        /// `server` or `worker`.
        role: &'static str,
        /// What was asked for.
        index: u32,
        /// The region.
        region: String,
        /// How many there are.
        count: u32,
    },
    /// A worker lost its shards.
    #[error("worker {worker}: {source}")]
    Session {
        /// Which one.
        worker: u32,
        /// Why.
        source: SessionError,
    },
    /// The model failed, as often as it was tried.
    #[error("worker {worker}: the model failed at clock {clock}")]
    Step {
        /// Which one.
        worker: u32,
        /// At which clock, counted from zero.
        clock: u32,
        /// What the model says.
        source: StepError,
    },
    /// A connection that its worker asks something of has ended, in order.
    #[error(
        "worker {worker} has left the servers of {region}: it was asked to stop, or the region leaves the job for good"
    )]
    Ended {
        /// Which one.
        worker: u32,
        /// Whose servers.
        region: String,
    },
    /// A table that does not exist was asked for.
    #[error("there is no {found}: the job has {tables} tables")]
    NoTable {
        /// Which one.
        found: TableId,
        /// How many there are.
        tables: usize,
    },
    /// A row that does not exist was asked for.
    #[error("table `{table}` has no row {row}; allowed: 0 to {}", rows - 1)]
    NoRow {
        /// The table's name.
        table: String,
        /// Which one.
        row: u32,
        /// How many there are.
        rows: u32,
    },
    /// The values of a row were asked for that was never read.
    #[error("row {row} of table `{table}` was never read")]
    Unread {
        /// The table's name.
        table: String,
        /// Which one.
        row: u32,
    },
    /// What is added does not have the shape of the rows that it is added to.
    #[error(
        "what is added to {} rows of table `{table}` has shape {found:?}; allowed: {expected:?}, [rows, width]",
        expected[0]
    )]
    DeltaShape {
        /// The table's name.
        table: String,
        /// What it has.
        found: [usize; 2],
        /// What it should have.
        expected: [usize; 2],
    },
    /// All clocks of the job are completed.
    #[error("the job has {clocks} clocks (job.clocks), and all are completed")]
    NoMoreClocks {
        /// How many there are.
        clocks: u32,
    },
    /// The result was asked for before the last clock.
    #[error("{clock} of the job's {clocks} clocks are completed; the result is there after the last one")]
    ClocksLeft {
        /// How many are completed.
        clock: u32,
        /// How many there are.
        clocks: u32,
    },
    /// A server has forgotten what it had.
    #[error("worker {worker}: {reason}")]
    Forgotten {
        /// Which one.
        worker: u32,
        /// Who has forgotten what.
        reason: String,
    },
    /// A connection inside the region failed for good.
    #[error(transparent)]
    Lan(#[from] LanError),
    /// There are checkpoints, and none can be used.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// No checkpoint can be kept where they should be.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A checkpoint is not one of this server's shards.
    #[error("shard {shard}: {misfit}")]
    Misfit {
        /// Which one.
        shard: u16,
        /// What differs.
        misfit: Misfit,
    },
    /// The system has no room for another thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// Another process is this server now.
    #[error("another process of this server has started later, and has taken its place")]
    Superseded,
    /// The task that has a server's shards has ended, which is a bug: what it had is lost.
    #[error(
        "a server has ended by itself, and what it had is lost: this is a bug, of which the log says more"
    )]
    Died,
    /// Its region is not let in any more.
    #[error("{reason}")]
    Left {
        /// As others say.
        reason: String,
    },
    /// Another region and this one will never let each other in as they are.
    #[error("regions that cannot train together: {reason}; the job has not begun")]
    Refused {
        /// Who refuses whom, and what differs.
        reason: String,
    },
    /// A last checkpoint could not be written.
    #[error(
        "the last checkpoint of shard {shard} could not be written: {problem}; {}",
        match safe {
            Some(clock) => format!("the checkpoints of clock {clock} are safe, and what was trained after it is lost with this \
                                    region unless others have it"),
            None => "no checkpoint is safe".to_owned(),
        }
    )]
    NotKept {
        /// The shard.
        shard: u16,
        /// Why.
        problem: String,
        /// The clock that is safe on all shards of the server, if any is.
        safe: Option<u32>,
    },
    /// The process was stopped, and a worker of its region did not end its clock in time.
    #[error("stopped without the last clock of {0}")]
    Unfinished(String),
    /// The process was stopped, and could not hand over everything in time.
    #[error("stopped before everything had been handed over: {0}")]
    Undelivered(String),
    /// Results could not be written.
    #[error("output.directory: {path} is no directory in which files can be written")]
    OutputDirectory {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A result could not be written.
    #[error("cannot write {path}")]
    Output {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl ServiceError {
    /// Whether a model has diverged: what was to be added is NaN or infinite.
    pub fn is_divergence(&self) -> bool {
        matches!(self, Self::Session { source: SessionError::NotFinite(_), .. })
    }

    /// Whether it has to be put right in the input: settings, data, certificates, ports.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Build(_)
            | Self::External
            | Self::Table(_)
            | Self::Shards { .. }
            | Self::Certificates(_)
            | Self::Listen { .. }
            | Self::Name { .. }
            | Self::OutputDirectory { .. }
            | Self::Restore(_)
            | Self::Location(_)
            | Self::Misfit { .. }
            | Self::Refused { .. }
            | Self::Index { .. }
            | Self::NoTable { .. }
            | Self::NoRow { .. }
            | Self::Unread { .. }
            | Self::DeltaShape { .. }
            | Self::NoMoreClocks { .. }
            | Self::ClocksLeft { .. } => true,
            Self::Signals(_)
            | Self::Session { .. }
            | Self::Step { .. }
            | Self::Ended { .. }
            | Self::Forgotten { .. }
            | Self::Lan(_)
            | Self::Thread(_)
            | Self::Superseded
            | Self::Died
            | Self::Left { .. }
            | Self::NotKept { .. }
            | Self::Unfinished(_)
            | Self::Undelivered(_)
            | Self::Output { .. } => false,
        }
    }
}
