//! How settings are read: raw first, then checked.
//!
//! A file is TOML; the environment (`GAIA__JOB__CLOCKS=50`) and flags (`--set job.clocks=50`) go
//! over it. Whatever is wrong is reported at once, each problem with its place, its key, what was
//! found and what is allowed. Which settings there are is the business of whoever reads a
//! [`Section`]: of [`job::config`](crate::job::config) for files, and of each
//! [`ModelKind`](crate::learning::application::ModelKind) for what stands under `[job.model]`.

mod deserialize;
mod document;
pub mod kind;
mod layers;
pub(crate) mod paths;
mod problem;
mod reader;
pub mod suggest;
pub mod units;

pub(crate) use self::layers::Layers;
pub(crate) use self::layers::SEPARATOR;
pub use self::layers::{ENVIRONMENT_PREFIX, Overrides};
pub use self::problem::{ConfigError, Problem};
pub(crate) use self::reader::Reader;
pub use self::reader::Section;
