//! `gaia certs`: an authority for one job, without anything else to install.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};
use datacenter::identity::{Date, Dates, PeerName, Role};

use super::CommandError;
use super::certs_arguments::{
    CertsCommand, InitArguments, IssueArguments, RenewArguments, RevokeArguments, ShowArguments,
};
use crate::job::config;
use crate::job::region::Region;
use crate::learning::application::ModelKinds;
use crate::program::report::Destination;
use crate::service::certificates::{Directory, Listed, ProcessName, State, Validity};
use crate::settings::Overrides;

/// Does what was asked for; the answer goes to standard output.
pub(super) fn certs(command: &CertsCommand, kinds: &ModelKinds) -> Result<(), CommandError> {
    let now = Date::from(Dates::System.now());
    match command {
        CertsCommand::Init(arguments) => init(arguments, now),
        CertsCommand::Issue(arguments) => issue(arguments, now, kinds),
        CertsCommand::Renew(arguments) => renew(arguments, now),
        CertsCommand::Revoke(arguments) => revoke(arguments, now),
        CertsCommand::Show(arguments) => show(arguments, now),
    }
}

fn init(arguments: &InitArguments, now: Date) -> Result<(), CommandError> {
    let directory = Directory::new(&arguments.place.directory);
    directory.init(Validity { now, days: arguments.days }, arguments.force)?;
    let place = directory.path().display();
    say(&format!(
        "{place}/ca.pem   the authority's certificate: every process needs it
{place}/ca.key   its private key: keep it off the machines that run jobs, and keep a backup
{place}/crl.pem  the revocation list, empty: every process should have the newest
"
    ))
}

fn issue(arguments: &IssueArguments, now: Date, kinds: &ModelKinds) -> Result<(), CommandError> {
    let directory = Directory::new(&arguments.place.directory);
    let processes = processes(arguments, kinds)?;
    directory.issue(&processes, Validity { now, days: arguments.days }, arguments.force)?;
    say(&written(&directory, &processes))
}

fn renew(arguments: &RenewArguments, now: Date) -> Result<(), CommandError> {
    let directory = Directory::new(&arguments.place.directory);
    let processes = if arguments.names.is_empty() {
        directory.due(arguments.within.as_secs(), now)?
    } else {
        directory.known(&arguments.names)?;
        arguments.names.clone()
    };
    if processes.is_empty() {
        let within = humantime::format_duration(arguments.within);
        return say(&format!("nothing expires within {within}\n"));
    }
    directory.issue(&processes, Validity { now, days: arguments.days }, true)?;
    say(&written(&directory, &processes))
}

fn revoke(arguments: &RevokeArguments, now: Date) -> Result<(), CommandError> {
    let directory = Directory::new(&arguments.place.directory);
    let mut text = String::new();
    for revoked in directory.revoke(&arguments.names, now)? {
        let _ = match revoked.serials.as_slice() {
            [] => writeln!(text, "{}: nothing that is not revoked or expired already", revoked.name),
            serials => writeln!(text, "{}: revoked {}", revoked.name, serials.join(", ")),
        };
    }
    let list = directory.list();
    let _ = writeln!(text, "{}: bring it to every process, which reads it without a restart", list.display());
    say(&text)
}

fn show(arguments: &ShowArguments, now: Date) -> Result<(), CommandError> {
    let directory = Directory::new(&arguments.place.directory);
    let (certificates, next_list) = directory.show(now)?;
    let mut text = table(&certificates, now);
    if let Some(next) = next_list.filter(|next| *next < now) {
        let _ = writeln!(text, "\nThe revocation list is old: a newer one was due on {next}.");
    }
    say(&text)?;
    let expired: Vec<_> = certificates.iter().filter(|one| one.state == State::Expired).collect();
    if expired.is_empty() { Ok(()) } else { Err(CommandError::Expired(expired.len())) }
}

/// The processes that are named one by one, counted, or those of regions' files.
fn processes(arguments: &IssueArguments, kinds: &ModelKinds) -> Result<Vec<ProcessName>, CommandError> {
    let Some(datacenter) = &arguments.datacenter else { return of_regions(arguments, kinds) };
    if let (Some(role), Some(index)) = (arguments.role, arguments.index) {
        let peer = PeerName::new(datacenter, role).map_err(CommandError::PeerName)?;
        return Ok(vec![ProcessName::new(peer, index)]);
    }
    counted(datacenter, arguments.servers.unwrap_or(0), arguments.workers.unwrap_or(0))
}

/// Servers and workers of a datacenter, by their numbers.
fn counted(datacenter: &str, servers: u32, workers: u32) -> Result<Vec<ProcessName>, CommandError> {
    let peer = |role| PeerName::new(datacenter, role).map_err(CommandError::PeerName);
    let (server, worker) = (peer(Role::Server)?, peer(Role::Worker)?);
    let servers = (0..servers).map(|index| ProcessName::new(server.clone(), index));
    let workers = (0..workers).map(|index| ProcessName::new(worker.clone(), index));
    Ok(servers.chain(workers).collect())
}

/// All that the regions' files name, each once.
fn of_regions(arguments: &IssueArguments, kinds: &ModelKinds) -> Result<Vec<ProcessName>, CommandError> {
    let mut processes = Vec::new();
    for file in &arguments.config {
        let region: Region = config::load_region(file, &Overrides::from_environment()?, kinds)?;
        // Where the LAN is trusted, workers have nobody to show a certificate to.
        let workers = if region.tls.plaintext_lan { 0 } else { region.workers() };
        processes.extend(counted(&region.name, region.servers.into(), workers)?);
    }
    let mut known = BTreeSet::new();
    processes.retain(|process: &ProcessName| known.insert(process.to_string()));
    Ok(processes)
}

fn written(directory: &Directory, processes: &[ProcessName]) -> String {
    let mut text = String::new();
    for process in processes {
        let (certificate, key) = (directory.certificate(process), directory.key(process));
        let _ = writeln!(text, "{} and {}: {}", certificate.display(), key.display(), process.peer());
    }
    text
}

/// One line for each, of no more than 80 columns where a datacenter's name is not a long one. Whom
/// a certificate names is said where its file's name does not say it.
fn table(certificates: &[Listed], now: Date) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["file", "serial", "not after", "days left", "state"]);
    for one in certificates {
        let file = one.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(certificate) = &one.certificate else {
            table.add_row([&file, "-", "-", "-", one.state.as_str()]);
            continue;
        };
        let named = certificate.peer().map(|peer| peer.to_string());
        let expected = file.strip_suffix(".pem").and_then(|process| process.parse::<ProcessName>().ok());
        let expected = expected.map(|process| process.peer().to_string());
        let state = match (named, certificate.dns_names.join(", ")) {
            (named, _) if named == expected => one.state.as_str().to_owned(),
            (Some(named), _) => format!("{}, of {named}", one.state.as_str()),
            (None, names) => format!("{}, of {names:?}", one.state.as_str()),
        };
        let days = certificate.not_after.days_since(now);
        table.add_row([
            Cell::new(file),
            Cell::new(&certificate.serial),
            Cell::new(certificate.not_after),
            Cell::new(days).set_alignment(CellAlignment::Right),
            Cell::new(state),
        ]);
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim()));
    lines.collect()
}

fn say(text: &str) -> Result<(), CommandError> {
    Destination::Stdout.write(text).map_err(CommandError::Output)
}
