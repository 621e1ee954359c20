//! `gaia leave`: a region leaves the job for good.
//!
//! Kind: driver.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};

use datacenter::identity::{Dates, Identity, PeerName, Role};
use datacenter::lan::LanError;
use datacenter::lan::operator::{Answer, Asked, ask};
use futures_util::future::join_all;

use super::CommandError;
use super::arguments::LeaveArguments;
use crate::human::with_causes;
use crate::job::config;
use crate::job::region::Region;
use crate::learning::application::ModelKinds;
use crate::program::report::Destination;
use crate::service::certificates::{ProcessName, TlsFiles};
use crate::service::{Part, ServiceError, Setup};
use crate::settings::{ConfigError, Problem};

/// Whether somebody wants it done who knows that it cannot be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consent {
    /// It is not to be done; only what would happen is to be said.
    DryRun,
    /// It is asked for on the terminal.
    Asked,
    /// The command line has it.
    Given,
}

/// Who is to leave which job, and who says so.
struct Order {
    region: Region,
    identity: Identity,
    leaving: String,
    job_digest: Vec<u8>,
}

/// Tells the servers of a region that it, or another one, leaves for good.
pub(super) fn leave(arguments: &LeaveArguments, kinds: &ModelKinds) -> Result<(), CommandError> {
    let is_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    let consent = consent(arguments, is_terminal)?;
    let region = config::load_region(&arguments.config, &arguments.over.overrides()?, kinds)?;
    check(&region, &arguments.leaving)?;
    let peer = PeerName::new(&region.name, Role::Operator).map_err(CommandError::PeerName)?;
    let files = TlsFiles::of(&region.tls, &ProcessName::new(peer.clone(), arguments.index));
    let loaded = files.load(&peer, Dates::System).map_err(ServiceError::Certificates)?;
    let job_digest = match &arguments.job {
        Some(digest) => digest.0.clone(),
        // A server needs least of the data.
        None => Setup::new(region.clone(), Part::Server(0)).map_err(CommandError::NoDigest)?.digest.into(),
    };
    let leaving = arguments.leaving.clone();
    let order = Order { region, identity: loaded.identity, leaving, job_digest };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    let mut asked = runtime.block_on(order.ask_all())?;
    match consent {
        Consent::DryRun => {
            return Destination::Stdout.write(&order.would(&asked)).map_err(CommandError::Output);
        }
        Consent::Asked => {
            // Servers do not wait for as long as people think.
            drop(asked);
            let is_confirmed = is_confirmed(&order, &mut io::stdin().lock(), &mut io::stderr());
            if !is_confirmed.map_err(CommandError::Terminal)? {
                return Err(CommandError::NotConfirmed(order.leaving));
            }
            asked = runtime.block_on(order.ask_all())?;
        }
        Consent::Given => {}
    }
    runtime.block_on(order.tell(asked))
}

fn consent(arguments: &LeaveArguments, is_terminal: bool) -> Result<Consent, CommandError> {
    match (arguments.dry_run, arguments.yes) {
        (true, _) => Ok(Consent::DryRun),
        (false, true) => Ok(Consent::Given),
        (false, false) if is_terminal => Ok(Consent::Asked),
        (false, false) => Err(CommandError::NobodyToAsk),
    }
}

fn check(region: &Region, leaving: &str) -> Result<(), ConfigError> {
    let members: Vec<_> = region.members.iter().map(|member| member.name.as_str()).collect();
    if members.contains(&leaving) {
        return Ok(());
    }
    let message = format!("found {leaving:?}; allowed: a region of the job, {}", members.join(", "));
    Err(Problem { place: "REGION".to_owned(), key: None, message }.into())
}

/// Has the region's name typed: a key that is pressed too often would confirm too much.
fn is_confirmed(order: &Order, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<bool> {
    let leaving = &order.leaving;
    write!(output, "{}It cannot be undone. Type {leaving} to have it done: ", order.consequence())?;
    output.flush()?;
    let mut typed = String::new();
    input.read_line(&mut typed)?;
    Ok(typed.trim() == leaving)
}

/// What came of asking a server.
type Reached = Result<(Asked, Answer), LanError>;

impl Order {
    /// Asks all servers whether it can be done.
    async fn ask_all(&self) -> Result<Vec<Reached>, CommandError> {
        let Self { region, identity, leaving, job_digest } = self;
        let addresses: Vec<String> = region.server_addresses.iter().map(ToString::to_string).collect();
        let ask = |address| ask(identity, &region.name, address, leaving, job_digest);
        let asked = join_all(addresses.iter().map(|address| ask(address))).await;
        let told = |(index, what): (usize, String)| joined((self.server(index), what));
        let objections: Vec<String> =
            asked.iter().enumerate().filter_map(|(i, a)| Some((i, objection(a)?))).map(told).collect();
        if !objections.is_empty() {
            return Err(CommandError::NotTold(super::one_or_many(&objections, "servers object")));
        }
        let silent: Vec<String> = asked
            .iter()
            .enumerate()
            .filter_map(|(i, a)| Some((i, with_causes(a.as_ref().err()?))))
            .map(told)
            .collect();
        if silent.len() == asked.len() {
            return Err(CommandError::NotTold(super::one_or_many(&silent, "servers cannot be reached")));
        }
        if self.is_own() && !silent.is_empty() {
            let silent = super::one_or_many(&silent, "servers cannot be reached");
            return Err(CommandError::NotTold(format!(
                "{silent}\na region that leaves by its own command hands over what all of its servers have; where one does \
                 not come back, run this with the settings of another region"
            )));
        }
        Ok(asked)
    }

    /// Has each of those that answered do it.
    async fn tell(&self, asked: Vec<Reached>) -> Result<(), CommandError> {
        let confirmed = join_all(asked.into_iter().map(|asked| async { asked?.0.confirm().await })).await;
        let confirmed = confirmed.into_iter().enumerate().map(|(index, answer)| (self.server(index), answer));
        let (told, untold) = outcome(&self.leaving, self.is_own(), confirmed);
        Destination::Stdout.write(&told).map_err(CommandError::Output)?;
        if untold.is_empty() {
            return Ok(());
        }
        Err(CommandError::Untold(super::one_or_many(&untold, "servers were not told")))
    }

    /// What each server that was asked would be told, and what would come of it.
    fn would(&self, asked: &[Reached]) -> String {
        let mut text = String::new();
        for (index, asked) in asked.iter().enumerate() {
            let what = match asked {
                Ok((_, Answer::Done { before: true })) => "knows it already".to_owned(),
                Ok(_) => "would be told".to_owned(),
                Err(error) => format!("could not be told: {}", with_causes(error)),
            };
            let _ = writeln!(text, "{}: {what}", self.server(index));
        }
        text + &self.consequence() + "Nothing has been changed.\n"
    }

    fn consequence(&self) -> String {
        let leaving = &self.leaving;
        let job = &self.region.job.name;
        match self.is_own() {
            true => format!(
                "Region {leaving} would leave job {job} for good: it would hand over all that it has, and its processes \
                 would end.\n"
            ),
            false => format!(
                "Region {leaving} would leave job {job} for good: nobody would wait for it, and its processes, where they \
                 live, would be refused and end.\n"
            ),
        }
    }

    /// Whether the region leaves by its own command.
    fn is_own(&self) -> bool {
        self.leaving == self.region.name
    }

    fn server(&self, index: usize) -> String {
        format!("server {index} of {} at {}", self.region.name, self.region.server_addresses[index])
    }
}

/// What has been done by these servers, each with what it answered, and who has not done it and
/// why.
fn outcome(
    leaving: &str,
    is_own: bool,
    confirmed: impl Iterator<Item = (String, Result<Answer, LanError>)>,
) -> (String, Vec<String>) {
    let (mut told, mut untold) = (String::new(), Vec::new());
    for (server, answer) in confirmed {
        match answer {
            Ok(Answer::Done { before: false }) => told += &format!("{server}: told\n"),
            Ok(Answer::Done { before: true }) => told += &format!("{server}: knew it\n"),
            Ok(Answer::Problem(problem)) => untold.push(joined((server, problem))),
            Err(error) => untold.push(joined((server, with_causes(&error)))),
        }
    }
    match is_own {
        // Nothing has happened, as far as anybody knows.
        _ if told.is_empty() => {}
        true => told += "its processes end when the other regions have all that it has\n",
        false => {
            told +=
                &format!("{leaving} has left for good: the other regions hear of it from these servers\n");
        }
    }
    (told, untold)
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::program::cli::arguments::{Arguments, Command};

    fn arguments(more: &[&str]) -> Result<LeaveArguments, clap::Error> {
        let parsed =
            Arguments::try_parse_from([&["gaia", "leave", "oslo", "--config", "x.toml"], more].concat())?;
        let Command::Leave(arguments) = parsed.command else { panic!("it is the command") };
        Ok(arguments)
    }

    #[test]
    fn nobody_leaves_by_accident() {
        let consent = |more: &[&str], is_terminal| consent(&arguments(more).unwrap(), is_terminal);
        assert_eq!(consent(&[], true).unwrap(), Consent::Asked);
        for is_terminal in [true, false] {
            assert_eq!(consent(&["--yes"], is_terminal).unwrap(), Consent::Given);
            assert_eq!(consent(&["--dry-run"], is_terminal).unwrap(), Consent::DryRun);
        }
        let refused = consent(&[], false).unwrap_err();
        assert!(refused.to_string().contains("--yes") && refused.code() == 2, "{refused}");
        assert!(arguments(&["--dry-run", "--yes"]).is_err());
    }

    #[test]
    fn nobody_is_said_to_have_left_whom_no_server_let_go() {
        let lost = || Err(LanError::from(io::Error::from(io::ErrorKind::ConnectionReset)));
        let problem = || Ok(Answer::Problem("the job has ended".to_owned()));
        let outcome = |is_own, answers: Vec<Result<Answer, LanError>>| {
            let servers = ["server 0".to_owned(), "server 1".to_owned()];
            outcome("oslo", is_own, servers.into_iter().zip(answers))
        };
        for is_own in [false, true] {
            let (told, untold) = outcome(is_own, vec![lost(), problem()]);
            assert_eq!((told.as_str(), untold.len()), ("", 2), "{untold:?}");
            assert_eq!(untold[1], "server 1: the job has ended");
            let (told, untold) = outcome(is_own, vec![Ok(Answer::Done { before: false }), lost()]);
            assert!(told.starts_with("server 0: told\n") && told.lines().count() == 2, "{told}");
            assert!(untold.len() == 1 && untold[0].starts_with("server 1: "), "{untold:?}");
        }
        let (told, untold) = outcome(false, vec![lost(), Ok(Answer::Done { before: true })]);
        assert!(told.contains("server 1: knew it\noslo has left for good") && untold.len() == 1, "{told}");
    }

    #[test]
    fn a_digest_is_as_status_shows_it() {
        let digest = arguments(&["--job", "00ff7e0102030405"]).unwrap().job.unwrap();
        assert_eq!(digest.0, [0, 0xff, 0x7e, 1, 2, 3, 4, 5]);
        for wrong in ["00ff", "00ff7e010203040", "00ff7e010203040x", "00ff7e01020304é"] {
            let error = arguments(&["--job", wrong]).unwrap_err().to_string();
            assert!(error.contains("allowed: 16 to 64 hexadecimal digits"), "{error}");
        }
    }
}
