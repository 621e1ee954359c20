//! `gaia link`: links between real processes, until a signal ends them.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use wan::relay::{DirectionCounters, Relay, RelayCounters, RelayError, ServedRoute};

use super::arguments::LinkArguments;
use super::{CommandError, style};
use crate::human::{bit_rate, bytes};
use crate::job::config;
use crate::job::config::LinkFile;
use crate::program::report;
use crate::program::report::Destination;
use crate::service::preflight::why_not_listening;
use crate::settings::Overrides;

/// How often the counters are written.
const EVERY: Duration = Duration::from_secs(1);

/// Serves the links of a file until SIGINT or SIGTERM.
pub(super) fn link(arguments: &LinkArguments) -> Result<(), CommandError> {
    let mut overrides = Overrides::default();
    for (key, value) in &arguments.set {
        overrides.flag(&format!("--set {key}"), key, value);
    }
    let file = config::load_link_file(&arguments.file, &overrides)?;
    if let Some(place) = &arguments.counters {
        place.check().map_err(CommandError::Place)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::System)?.block_on(serve(arguments, file))
}

async fn serve(arguments: &LinkArguments, file: LinkFile) -> Result<(), CommandError> {
    // Before anything is promised: a signal that comes early finds us ready.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::System)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::System)?;
    let relay = Relay::start(file.links, file.seed).map_err(explained)?;
    let say = |text: &str| {
        if arguments.quiet { Ok(()) } else { Destination::Stdout.write(text).map_err(CommandError::Output) }
    };
    say(&routes(&relay))?;
    let write = || match &arguments.counters {
        Some(place) => place.write(&json(&relay)).map_err(CommandError::Output),
        None => Ok(()),
    };
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = tick.tick() => write()?,
        }
    }
    write()?;
    say(&table(&relay.counters()))
}

/// Addresses that are taken come with what to do about it, as `gaia check` says it of a region's.
fn explained(error: RelayError) -> CommandError {
    match error {
        RelayError::Listen(failures) => {
            let line = |(link, address, error): &(String, SocketAddr, io::Error)| {
                format!("{address} for {link}: {}", why_not_listening(error))
            };
            CommandError::Busy(failures.iter().map(line).collect())
        }
        error @ RelayError::Thread(_) => error.into(),
    }
}

/// One line for each route, with what its link does on the way to the target.
fn routes(relay: &Relay) -> String {
    let line = |route: &ServedRoute| {
        let [from, to] = &route.ends;
        let link = relay.link(&route.link, route.direction).expect("routes are those of the links");
        format!(
            "{from} -> {to}: {} -> {} ({}, {:?})\n",
            route.listen,
            route.target,
            bit_rate(link.rate_bytes_per_sec as f64),
            link.one_way_delay,
        )
    };
    relay.routes().iter().map(line).collect()
}

/// What each direction of each link has done.
fn table(counters: &[RelayCounters]) -> String {
    let header = ["link", "offered", "delivered", "bytes", "queue full", "lost", "outage", "twice", "other"];
    let rows = counters.iter().flat_map(|each| {
        let [one, other] = &each.ends;
        [(one, other, each.forward), (other, one, each.backward)].map(|(from, to, counters)| {
            let link = counters.link;
            let other = counters.oversized + counters.unroutable + counters.unsent;
            let figures: [&dyn Display; 8] = [
                &link.offered,
                &link.delivered,
                &bytes(link.delivered_bytes as f64),
                &link.dropped_queue_full,
                &link.dropped_loss,
                &link.dropped_outage,
                &link.duplicated,
                &other,
            ];
            (format!("{from} -> {to}"), figures.map(ToString::to_string))
        })
    });
    report::figures(&header, rows, style(io::stdout().is_terminal()))
}

/// The counters as a program reads them.
#[derive(Serialize)]
struct Counters {
    /// Since the start.
    seconds: f64,
    links: Vec<LinkLine>,
}

#[derive(Serialize)]
struct LinkLine {
    name: String,
    between: [String; 2],
    forward: DirectionLine,
    backward: DirectionLine,
}

#[derive(Serialize)]
struct DirectionLine {
    offered: u64,
    offered_bytes: u64,
    delivered: u64,
    delivered_bytes: u64,
    duplicated: u64,
    dropped_queue_full: u64,
    dropped_loss: u64,
    dropped_outage: u64,
    peak_backlog_bytes: u64,
    oversized: u64,
    unroutable: u64,
    unsent: u64,
}

impl From<DirectionCounters> for DirectionLine {
    fn from(counters: DirectionCounters) -> Self {
        let DirectionCounters { link, oversized, unroutable, unsent } = counters;
        Self {
            offered: link.offered,
            offered_bytes: link.offered_bytes,
            delivered: link.delivered,
            delivered_bytes: link.delivered_bytes,
            duplicated: link.duplicated,
            dropped_queue_full: link.dropped_queue_full,
            dropped_loss: link.dropped_loss,
            dropped_outage: link.dropped_outage,
            peak_backlog_bytes: link.peak_backlog_bytes,
            oversized,
            unroutable,
            unsent,
        }
    }
}

fn json(relay: &Relay) -> String {
    let line = |counters: RelayCounters| LinkLine {
        name: counters.name,
        between: counters.ends,
        forward: counters.forward.into(),
        backward: counters.backward.into(),
    };
    let counters = Counters {
        seconds: relay.elapsed().as_secs_f64(),
        links: relay.counters().into_iter().map(line).collect(),
    };
    let mut text = serde_json::to_string_pretty(&counters).expect("counters are plain data");
    text.push('\n');
    text
}
