//! `gaia certs`: an authority for one job, without anything else to install.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};
use datacenter::identity::{Date, Dates, PeerName, Role};

use super::CommandError;
use super::certs_arguments::{
    CertsCommand, InitArguments, IssueArguments, RenewArguments, RevokeArguments, ShowArguments,
};
use crate::certificates::{Directory, Listed, ProcessName, State, Validity};
use crate::report::Destination;

/// Does what was asked for; the answer goes to standard output.
pub(super) fn certs(command: &CertsCommand) -> Result<(), CommandError> {
    let now = Date::from(Dates::System.now());
    match command {
        CertsCommand::Init(arguments) => init(arguments, now),
        CertsCommand::Issue(arguments) => issue(arguments, now),
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

fn issue(arguments: &IssueArguments, now: Date) -> Result<(), CommandError> {
    let directory = Directory::new(&arguments.place.directory);
    let processes = processes(arguments)?;
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

/// The processes that are named one by one or counted.
fn processes(arguments: &IssueArguments) -> Result<Vec<ProcessName>, CommandError> {
    let datacenter = &arguments.datacenter;
    let name = |role, index| Ok(ProcessName::new(PeerName::new(datacenter, role)?, index));
    if let (Some(role), Some(index)) = (arguments.role, arguments.index) {
        return Ok(vec![name(role, index).map_err(CommandError::PeerName)?]);
    }
    let servers = (0..arguments.servers.unwrap_or(0)).map(|index| (Role::Server, index));
    let workers = (0..arguments.workers.unwrap_or(0)).map(|index| (Role::Worker, index));
    servers
        .chain(workers)
        .map(|(role, index)| name(role, index))
        .collect::<Result<_, _>>()
        .map_err(CommandError::PeerName)
}

fn written(directory: &Directory, processes: &[ProcessName]) -> String {
    let mut text = String::new();
    for process in processes {
        let (certificate, key) = (directory.certificate(process), directory.key(process));
        let _ = writeln!(text, "{} and {}: {}", certificate.display(), key.display(), process.peer());
    }
    text
}

fn table(certificates: &[Listed], now: Date) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["file", "name", "role", "serial", "not after", "days left", "state"]);
    for one in certificates {
        let file = one.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(certificate) = &one.certificate else {
            table.add_row([&file, "-", "-", "-", "-", "-", one.state.as_str()]);
            continue;
        };
        let (name, role) = match certificate.peer() {
            Some(peer) => (peer.to_string(), peer.role().as_str()),
            None => (certificate.common_name.clone(), if file == "ca.pem" { "authority" } else { "-" }),
        };
        let days = certificate.not_after.days_since(now);
        table.add_row([
            Cell::new(file),
            Cell::new(name),
            Cell::new(role),
            Cell::new(&certificate.serial),
            Cell::new(certificate.not_after),
            Cell::new(days).set_alignment(CellAlignment::Right),
            Cell::new(one.state.as_str()),
        ]);
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim()));
    lines.collect()
}

fn say(text: &str) -> Result<(), CommandError> {
    Destination::Stdout.write(text).map_err(CommandError::Output)
}
