//! The certificates of a job: made by `gaia certs`, read by every process.
//!
//! TLS between processes needs an authority that they all trust, and nothing else of a public key
//! infrastructure. So one directory holds it all: the authority, one certificate and key for each
//! process, and the list of those that are no longer to be trusted.
//!
//! - [`Authority`] signs; it does no I/O.
//! - [`Directory`] keeps its work in files: what `gaia certs` does.
//! - [`TlsFiles`] are the files of one process. Reading them checks everything that a peer would
//!   refuse later, and says which file, which certificate and which date is wrong. [`Watcher`]
//!   reads them again when they change.

mod authority;
mod directory;
mod files;
#[cfg(test)]
mod handshakes;
mod process;
mod record;
mod show;
#[cfg(test)]
mod tests;
mod watcher;
mod write;

pub use authority::{Authority, Issued, Validity};
pub use directory::{CertsError, Directory, Revoked};
pub use files::{FilesError, Loaded, TlsFiles, Warning};
pub use process::{ProcessError, ProcessName};
pub use show::{Listed, State};
pub use watcher::{Reload, Watcher};

/// Seconds of a day.
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// From how many days before its end on a certificate is due for renewal.
pub const SOON_DAYS: i64 = 14;
