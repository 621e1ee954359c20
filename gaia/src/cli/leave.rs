//! `gaia leave`: a region leaves the job for good.
//!
//! Kind: driver.

use std::fmt::Write as _;

use datacenter::identity::{Dates, Identity, PeerName, Role};
use datacenter::lan::LanError;
use datacenter::lan::operator::{Answer, Asked, ask};
use futures_util::future::join_all;

use super::CommandError;
use super::arguments::LeaveArguments;
use crate::certificates::{ProcessName, TlsFiles};
use crate::config::{self, ConfigError, Problem};
use crate::region::Region;
use crate::report::Destination;
use crate::report::human::with_causes;
use crate::service::ServiceError;

/// Tells the servers of a region that it, or another one, leaves for good.
pub(super) fn leave(arguments: &LeaveArguments) -> Result<(), CommandError> {
    let region = config::load_region(&arguments.config, &arguments.over.overrides()?)?;
    check(&region, &arguments.leaving)?;
    let peer = PeerName::new(&region.name, Role::Operator).map_err(CommandError::PeerName)?;
    let files = TlsFiles::of(&region.tls, &ProcessName::new(peer.clone(), arguments.index));
    let loaded = files.load(&peer, Dates::System).map_err(ServiceError::Certificates)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    runtime.block_on(tell(&region, &loaded.identity, &arguments.leaving))
}

fn check(region: &Region, leaving: &str) -> Result<(), ConfigError> {
    let members: Vec<_> = region.members.iter().map(|member| member.name.as_str()).collect();
    if members.contains(&leaving) {
        return Ok(());
    }
    let message = format!("found {leaving:?}; allowed: a region of the job, {}", members.join(", "));
    Err(Problem { place: "REGION".to_owned(), key: None, message }.into())
}

/// What came of asking a server.
type Reached = Result<(Asked, Answer), LanError>;

/// Asks all servers, and if none objects, has each of those that answer do it.
async fn tell(region: &Region, identity: &Identity, leaving: &str) -> Result<(), CommandError> {
    let addresses: Vec<String> = region.server_addresses.iter().map(ToString::to_string).collect();
    let asked = join_all(addresses.iter().map(|address| ask(identity, &region.name, address, leaving))).await;
    let server = |index: usize| format!("server {index} of {} at {}", region.name, addresses[index]);
    let objections: Vec<String> =
        asked.iter().enumerate().filter_map(|(i, a)| Some((server(i), objection(a)?))).map(joined).collect();
    if !objections.is_empty() {
        return Err(CommandError::NotTold(super::one_or_many(&objections, "servers object")));
    }
    let silent: Vec<String> = asked
        .iter()
        .enumerate()
        .filter_map(|(i, a)| Some((server(i), with_causes(a.as_ref().err()?))))
        .map(joined)
        .collect();
    if silent.len() == asked.len() {
        return Err(CommandError::NotTold(super::one_or_many(&silent, "servers cannot be reached")));
    }
    if leaving == region.name && !silent.is_empty() {
        let silent = super::one_or_many(&silent, "servers cannot be reached");
        return Err(CommandError::NotTold(format!(
            "{silent}\na region that leaves by its own command hands over what all of its servers have; where one does not \
             come back, run this with the settings of another region"
        )));
    }
    let confirmed = join_all(asked.into_iter().map(|asked| async { asked?.0.confirm().await })).await;
    let (mut told, mut untold) = (String::new(), Vec::new());
    for (index, confirmed) in confirmed.into_iter().enumerate() {
        let _ = match confirmed {
            Ok(Answer::Done { before: false }) => writeln!(told, "{}: told", server(index)),
            Ok(Answer::Done { before: true }) => writeln!(told, "{}: knew it", server(index)),
            Ok(Answer::Problem(problem)) => {
                untold.push(joined((server(index), problem)));
                Ok(())
            }
            Err(error) => {
                untold.push(joined((server(index), with_causes(&error))));
                Ok(())
            }
        };
    }
    match leaving == region.name {
        true => told.push_str("its processes end when the other regions have all that it has\n"),
        false => {
            _ = writeln!(told, "{leaving} has left for good: the other regions hear of it from these servers")
        }
    }
    Destination::Stdout.write(&told).map_err(CommandError::Output)?;
    if untold.is_empty() {
        return Ok(());
    }
    Err(CommandError::Untold(super::one_or_many(&untold, "servers were not told")))
}

/// Why a server that answers will not do it.
fn objection(asked: &Reached) -> Option<String> {
    match asked {
        Ok((_, Answer::Done { .. })) => None,
        Ok((_, Answer::Problem(problem))) => Some(problem.clone()),
        Err(error @ (LanError::Refused { .. } | LanError::Certificate(_) | LanError::Handshake(_))) => {
            Some(with_causes(error))
        }
        Err(_) => None,
    }
}

fn joined((server, what): (String, String)) -> String {
    format!("{server}: {what}")
}
