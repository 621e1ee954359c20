//! `gaia status`: who is at which clock, who waits for what and why, what each link carries and
//! saves.

use std::io::{self, IsTerminal};
use std::time::Duration;

use serde::Serialize;
use wan::driver::address::Address;

use super::arguments::StatusArguments;
use super::{CommandError, style};
use crate::human::with_causes;
use crate::job::config;
use crate::learning::application::ModelKinds;
use crate::program::report::Destination;
use crate::program::view::{self, History};
use crate::service::status::Status;
use crate::service::status::fetch::{Fetched, TIME_LIMIT, Target, fetch};
use crate::settings::Overrides;

/// How long a process may take while all others are shown again every second.
const WATCH_LIMIT: Duration = Duration::from_secs(1);

/// Asks the processes, and shows what they say.
pub(super) fn status(arguments: &StatusArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    let targets = targets(arguments, kinds)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    runtime.block_on(async {
        if arguments.watch { watch(&targets).await } else { once(&targets, arguments.json).await }
    })
}

/// Those to be asked, each once.
fn targets(arguments: &StatusArguments, kinds: &ModelKinds) -> Result<Vec<Target>, CommandError> {
    let mut targets: Vec<Target> = Vec::new();
    let mut ask = |target: Target| {
        if targets.iter().all(|known| known.url != target.url) {
            targets.push(target);
        }
    };
    for file in &arguments.files {
        let region = config::load_region(file, &Overrides::from_environment()?, kinds)?;
        let parts = |role: &'static str, addresses: Option<Vec<Address>>| {
            addresses
                .into_iter()
                .flatten()
                .enumerate()
                .map(move |(index, at)| (format!("{role}-{index}"), at))
        };
        for (role, address) in
            parts("server", region.admin.servers).chain(parts("worker", region.admin.workers))
        {
            let name = Some((region.name.clone(), role));
            let url = address.to_string().parse().expect("a checked address makes a URL");
            ask(Target { url, name });
        }
    }
    arguments.urls.iter().for_each(|url| ask(url.clone().into()));
    Ok(targets)
}

async fn once(targets: &[Target], as_json: bool) -> Result<(), CommandError> {
    let history = History::once(fetch(targets, TIME_LIMIT).await);
    let text = if as_json {
        json(history.latest())
    } else {
        view::text(&history, style(io::stdout().is_terminal()).width)
    };
    Destination::Stdout.write(&text).map_err(CommandError::Output)?;
    everybody_answers(history.latest())
}

fn everybody_answers(fetched: &[Fetched]) -> Result<(), CommandError> {
    let silent = fetched.iter().filter(|fetched| fetched.status.is_err()).count();
    if silent == 0 { Ok(()) } else { Err(CommandError::Silent { silent, asked: fetched.len() }) }
}

/// What `--json` says of one process: its status, or the reason that there is none.
#[derive(Serialize)]
struct Entry<'a> {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn json(fetched: &[Fetched]) -> String {
    fn entry(fetched: &Fetched) -> Entry<'_> {
        Entry {
            url: fetched.target.url.to_string(),
            status: fetched.status.as_ref().ok(),
            error: fetched.status.as_ref().err().map(|error| with_causes(error)),
        }
    }
    let entries: Vec<_> = fetched.iter().map(entry).collect();
    serde_json::to_string_pretty(&entries).expect("a status is plain data") + "\n"
}

async fn watch(targets: &[Target]) -> Result<(), CommandError> {
    if !io::stdout().is_terminal() {
        return Err(CommandError::NoTerminal);
    }
    let ended = view::run(|| fetch(targets, WATCH_LIMIT), terminated()).await;
    ended.map(|_| ()).map_err(CommandError::Terminal)
}

/// Asked to stop from outside, with the terminal still to be given back.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        // Keys still end it.
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::fetch::FetchError;
    use crate::service::status::made_up;

    #[test]
    fn json_tells_of_each_process_its_status_or_why_there_is_none() {
        let entries: serde_json::Value = serde_json::from_str(&json(&made_up::fetched(100))).expect("JSON");
        assert_eq!(entries[0]["url"], "http://127.0.0.1:7500");
        assert_eq!(entries[0]["status"]["datacenter"], "virginia");
        assert_eq!(entries[0]["status"]["phase"], "training");
        assert_eq!(entries[13]["error"], "no connection: connection refused");
    }

    #[test]
    fn a_region_that_runs_as_one_process_misses_nobody() {
        let mut fetched = made_up::fetched(100);
        fetched.truncate(5);
        for fetched in &mut fetched {
            fetched.status = Err(FetchError::TimedOut(TIME_LIMIT));
        }
        let silent = everybody_answers(History::once(fetched).latest());
        assert!(matches!(silent, Err(CommandError::Silent { silent: 5, asked: 5 })));
        let mut fetched = made_up::fetched(100);
        fetched.truncate(5);
        for fetched in &mut fetched {
            fetched.status = Err(FetchError::TimedOut(TIME_LIMIT));
        }
        fetched[0].status = Ok(made_up::whole_region());
        let history = History::once(fetched);
        assert!(everybody_answers(history.latest()).is_ok());
        assert_eq!(history.latest().len(), 1);
    }
}
