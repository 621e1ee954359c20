//! The files of jobs, simulations, regions and links: which keys they have. How settings are read
//! is [`settings`](crate::settings)'s business. What comes out is a [`Simulation`], a [`Region`] or
//! a [`LinkFile`], in whose ranges all code may trust. `docs/CONFIGURATION.md` lists the keys.

mod agreement;
mod job;
mod kinds;
mod links;
mod region;
mod relay;
mod simulation;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use self::relay::LinkFile;
use crate::job::Job;
use crate::job::region::{Member, Region};
use crate::job::scenario::Simulation;
use crate::learning::application::ModelKinds;
use crate::settings::{ConfigError, Layers, Overrides, Problem, Reader};

/// What a file says, by the keys that stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A job over regions in virtual time.
    Simulation,
    /// One real region.
    Region,
    /// A job, shared by regions.
    Job,
    /// Links between real processes.
    Links,
}

impl FileKind {
    /// What it is called, and a shipped one.
    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Simulation => ("a simulation file", "configs/simulations/three-regions.toml"),
            Self::Region => ("a region file", "configs/regions/virginia.toml"),
            Self::Job => ("a job file", "configs/jobs/digits.toml"),
            Self::Links => ("a file of links", "configs/links/three-regions.toml"),
        }
    }
}

/// Tells what kind of file `path` is. One that cannot be read is taken for a simulation, whose
/// loader says what is wrong.
pub fn kind_of(path: &Path) -> FileKind {
    let keys = root_keys(path);
    let has = |wanted: &[&str]| wanted.iter().any(|wanted| keys.iter().any(|key| key == wanted));
    match () {
        () if has(&["datacenter", "servers", "wan", "peers", "tls", "admin"]) => FileKind::Region,
        () if has(&["job", "strategies", "compute", "lan"]) => FileKind::Simulation,
        () if has(&["data", "model"]) => FileKind::Job,
        () if has(&["links"]) => FileKind::Links,
        () => FileKind::Simulation,
    }
}

fn root_keys(path: &Path) -> Vec<String> {
    let layers = Layers::read(path, &Overrides::default(), NO_INCLUDE);
    layers.map(|layers| layers.root_keys()).unwrap_or_default()
}

/// Refuses a file that is plainly of another kind than `wanted`: a list of its keys, each unknown,
/// would be no help.
fn refuse_other_kinds(path: &Path, wanted: FileKind) -> Result<(), ConfigError> {
    let found = kind_of(path);
    // A key that these kinds have, and the wanted one has not; one that is there by mistake is a
    // problem of its own.
    let marks: &[&str] = match (wanted, found) {
        (FileKind::Region, FileKind::Simulation) => &["strategies", "regions", "lan", "link"],
        (FileKind::Region | FileKind::Links, FileKind::Job) => &["data"],
        (FileKind::Region, FileKind::Links) => &["links"],
        (FileKind::Simulation, FileKind::Region) => &["datacenter"],
        (FileKind::Simulation, FileKind::Job) => &["data"],
        (FileKind::Simulation, FileKind::Links) => &["links"],
        (FileKind::Links, FileKind::Region) => &["datacenter"],
        (FileKind::Links, FileKind::Simulation) => &["job"],
        _ => return Ok(()),
    };
    let keys = root_keys(path);
    if !keys.iter().any(|key| marks.contains(&key.as_str())) {
        return Ok(());
    }
    let ((found, _), (wanted, example)) = (found.described(), wanted.described());
    let message = format!("this is {found}; {wanted} is asked for, such as {example}");
    Err(Problem { place: path.display().to_string(), key: None, message }.into())
}

/// A job file, checked by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFile {
    /// What is trained.
    pub job: Job,
    /// The seed of every random choice. Default 1.
    pub seed: u64,
    /// Who takes part; empty for a job that only simulations use.
    pub members: Vec<Member>,
}

/// Reads and checks a job file, with `overrides` over it, whose keys begin with `job.` as
/// everywhere. Its model is one of `kinds`.
///
/// # Errors
///
/// Everything that is wrong with the settings, whoever said them.
pub fn load_job(path: &Path, overrides: &Overrides, kinds: &ModelKinds) -> Result<JobFile, ConfigError> {
    let layers = Layers::read_as(path, overrides, job::KEY)?;
    Reader::new(&layers).read(|s| {
        let (job, agreement) =
            s.section(job::KEY, |s| Some((job::job(s, None, kinds), agreement::agreement(s))))?;
        Some(JobFile { job: job?, seed: agreement.seed.unwrap_or(1), members: agreement.members? })
    })
}

/// Reads and checks a simulation file, with `overrides` over it. Its model is one of `kinds`.
///
/// # Errors
///
/// Everything that is wrong with the settings, whoever said them. Whether the data exists is not
/// asked here.
pub fn load_simulation(
    path: &Path,
    overrides: &Overrides,
    kinds: &ModelKinds,
) -> Result<Simulation, ConfigError> {
    refuse_other_kinds(path, FileKind::Simulation)?;
    let layers = Layers::read(path, overrides, job::KEY)?;
    Reader::new(&layers).read(|s| simulation::simulation(s, kinds))
}

/// Reads and checks a region file and the job file that it names, with `overrides` over both. Its
/// model is one of `kinds`.
///
/// # Errors
///
/// Everything that is wrong with the settings, whoever said them. Whether certificates, data and
/// peers are there is not asked here.
pub fn load_region(path: &Path, overrides: &Overrides, kinds: &ModelKinds) -> Result<Region, ConfigError> {
    refuse_other_kinds(path, FileKind::Region)?;
    let layers = Layers::read(path, overrides, job::KEY)?;
    Reader::new(&layers).read(|s| region::region(s, kinds))
}

/// Reads and checks a file of links between real processes, with the flags of `overrides` over it.
///
/// # Errors
///
/// Everything that is wrong with the settings. Whether the addresses are free is not asked here.
pub fn load_link_file(path: &Path, overrides: &Overrides) -> Result<LinkFile, ConfigError> {
    refuse_other_kinds(path, FileKind::Links)?;
    let layers = Layers::read(path, overrides, NO_INCLUDE)?;
    Reader::new(&layers).read(relay::link_file)
}

/// The include of files that have none: no key is empty.
const NO_INCLUDE: &str = "";
