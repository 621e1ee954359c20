//! Which worker of which region a program is, as `gaia worker -- PROGRAM` tells it.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Connection;
use crate::job::config;
use crate::job::region::Region;
use crate::learning::models;
use crate::service::ServiceError;
use crate::settings::{ConfigError, Overrides};

/// The region's file.
pub const CONFIG_VARIABLE: &str = "GAIA_CONFIG";
/// The worker's index among those of its region.
pub const WORKER_VARIABLE: &str = "GAIA_WORKER";

/// Why a program cannot be a worker.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody has said which worker it is.
    #[error(
        "{variable} is {found}; allowed: {allowed}, as gaia worker --config FILE --index N -- PROGRAM sets it"
    )]
    Variable {
        /// Which variable does not.
        variable: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        allowed: &'static str,
    },
    /// The region's file has problems.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot connect.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// What the environment and a caller say of a worker.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// The region's file; else `GAIA_CONFIG`.
    pub config: Option<PathBuf>,
    /// The index among the workers of the region; else `GAIA_WORKER`.
    pub worker: Option<u32>,
    /// Settings over the file's and the environment's, `key = value` as with `--set`.
    pub set: Vec<(String, String)>,
}

impl Who {
    /// The region's settings, `GAIA__...` variables over those of its file, and the worker's index.
    ///
    /// # Errors
    ///
    /// If nobody says which, or the settings have problems.
    pub fn load(&self) -> Result<(Region, u32), ConnectError> {
        let config = match &self.config {
            Some(config) => config.clone(),
            None => {
                variable(CONFIG_VARIABLE, "the file of a region (TOML)", |text| Some(PathBuf::from(text)))?
            }
        };
        let worker = match self.worker {
            Some(worker) => worker,
            None => variable(WORKER_VARIABLE, "a worker's index, from 0", |text| text.trim().parse().ok())?,
        };
        let mut overrides = Overrides::from_environment()?;
        self.set.iter().for_each(|(key, value)| overrides.flag(key, key, value));
        Ok((load(&config, &overrides)?, worker))
    }
}

fn load(config: &Path, overrides: &Overrides) -> Result<Region, ConfigError> {
    config::load_region(config, overrides, &models::kinds())
}

fn variable<T>(
    name: &'static str,
    allowed: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ConnectError> {
    let found = std::env::var(name).ok().filter(|text| !text.is_empty());
    found.as_deref().and_then(read).ok_or_else(|| {
        let found = found.map_or("not set".to_owned(), |text| format!("{text:?}"));
        ConnectError::Variable { variable: name, found, allowed }
    })
}

impl Connection {
    /// Connects as the worker that the environment says: see [`Who`].
    ///
    /// # Errors
    ///
    /// If it says nothing, or as [`connect`](Self::connect).
    pub async fn from_environment() -> Result<Self, ConnectError> {
        let (region, worker) = Who::default().load()?;
        Ok(Self::connect(region, worker).await?)
    }
}
