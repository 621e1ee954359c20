//! The arguments of `gaia certs`, and the help that goes with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use datacenter::identity::Role;

use crate::service::certificates::ProcessName;
use crate::settings::units;

/// How long certificates of processes are valid: long enough not to be in the way, short enough to
/// notice that nobody renews them.
const LEAF_DAYS: u32 = 90;
/// The authority's: longer than any job.
const CA_DAYS: u32 = 3650;
const DAYS: std::ops::RangeInclusive<i64> = 1..=36500;

pub(super) const CERTS_EXAMPLES: &str = "\
Example, for the regions of these files:
  gaia certs init
  gaia certs issue --config regions/virginia.toml --config regions/ireland.toml
  gaia certs show

A process needs ca.pem, crl.pem, and its own NAME.pem and NAME.key. It
reads them again when they change: renewing needs no restart.";

const ISSUE_EXAMPLES: &str = "\
Examples:
  gaia certs issue --config regions/virginia.toml --config regions/ireland.toml
  gaia certs issue virginia server 0
  gaia certs issue virginia --servers 2 --workers 3
  gaia certs issue virginia operator 0 --days 7";

const RENEW_EXAMPLES: &str = "\
Examples:
  gaia certs renew
  gaia certs renew --within 60d
  gaia certs renew virginia-server-0 virginia-server-1

Every renewal makes a new key. What it replaces stays valid until its end,
unless it is revoked.";

const REVOKE_EXAMPLES: &str = "\
Examples:
  gaia certs revoke virginia-server-0
  gaia certs revoke 5e1c0a52f2f94c1c
  gaia certs revoke certs/virginia-server-0.pem

After a key has leaked: revoke, then renew, then bring crl.pem and the new
files to the processes.
  gaia certs revoke virginia-server-0
  gaia certs renew virginia-server-0";

const SHOW_NOTES: &str = "\
The exit code is 1 if something has expired. The authority's key is not
needed: it works on every host that has certificates.";

#[derive(Debug, Subcommand)]
pub(super) enum CertsCommand {
    /// Make a private authority and an empty revocation list
    Init(InitArguments),
    /// Issue a certificate and key to a process, or to all processes of a region
    Issue(IssueArguments),
    /// Replace certificates and keys that expire soon
    Renew(RenewArguments),
    /// Let certificates be refused from now on
    Revoke(RevokeArguments),
    /// Show certificates, and how long they are valid
    Show(ShowArguments),
}

#[derive(Args, Debug)]
pub(super) struct PlaceArguments {
    /// Where the authority and the certificates are
    #[arg(long, short, value_name = "DIR", default_value = "certs")]
    pub(super) directory: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct InitArguments {
    #[command(flatten)]
    pub(super) place: PlaceArguments,
    /// How long the authority is valid
    #[arg(long, value_name = "N", default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(DAYS))]
    pub(super) days: u32,
    /// Replace an authority; nothing that it issued is accepted any more
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Args, Debug)]
#[command(after_help = ISSUE_EXAMPLES)]
pub(super) struct IssueArguments {
    /// The datacenter, as in the regions of the job
    #[arg(required_unless_present = "config")]
    pub(super) datacenter: Option<String>,
    /// server, worker or operator
    #[arg(value_parser = role, required_unless_present_any = ["servers", "workers", "config"], conflicts_with_all = ["servers", "workers"], requires = "index")]
    pub(super) role: Option<Role>,
    /// Which of them, from 0
    #[arg(conflicts_with_all = ["servers", "workers"])]
    pub(super) index: Option<u32>,
    /// Issue to servers 0 to N-1 instead
    #[arg(long, value_name = "N")]
    pub(super) servers: Option<u32>,
    /// Issue to workers 0 to N-1 instead
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<u32>,
    /// Issue to all servers and workers of a region's file instead; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["datacenter", "role", "index", "servers", "workers"])]
    pub(super) config: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
    /// How long they are valid
    #[arg(long, value_name = "N", default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(DAYS))]
    pub(super) days: u32,
    /// Replace those that exist
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Args, Debug)]
#[command(after_help = RENEW_EXAMPLES)]
pub(super) struct RenewArguments {
    /// Which, by name, whenever they expire [default: all that expire soon]
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<ProcessName>,
    /// What soon is
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = units::days, conflicts_with = "names")]
    pub(super) within: Duration,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
    /// How long the new ones are valid
    #[arg(long, value_name = "N", default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(DAYS))]
    pub(super) days: u32,
}

#[derive(Args, Debug)]
#[command(after_help = REVOKE_EXAMPLES)]
pub(super) struct RevokeArguments {
    /// A name, for all that was issued under it; a serial number; or a certificate's file
    #[arg(value_name = "NAME", required = true)]
    pub(super) names: Vec<String>,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
}

#[derive(Args, Debug)]
#[command(after_help = SHOW_NOTES)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    pub(super) place: PlaceArguments,
}

fn role(word: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.as_str() == word);
    found.ok_or_else(|| "allowed: server, worker, operator".to_owned())
}
