//! Everything that can be known of a region before it runs, each thing with its remedy where it is
//! not right: `gaia check`.
//!
//! What goes wrong in a deployment mostly shows at its start, one thing after the other, and at
//! somebody else's end: a port that is taken, a certificate for another name, a firewall, another
//! version of the job. So all of it is looked at first, from one place, and reported together.
//! [`local`] looks at this machine: data, certificates, ports, names, memory. [`PeerProbe`] looks
//! at the others, and lets them look at us: two regions that are checked at the same time see each
//! other before either runs.
//!
//! - `model`: data, memory, and the digest that regions compare;
//! - `certificates`, `ports`: what processes need of this machine;
//! - `peers`: asks the other regions, and `path` says what their answers mean.
//!
//! Kind: driver, but for `path`.

mod certificates;
mod model;
mod path;
mod peers;
mod ports;

use std::fmt;
use std::time::Duration;

use crate::human::with_causes;
use crate::job::region::Region;
use crate::service::{Part, Setup, prepare_output};

pub use self::peers::PeerProbe;
pub(crate) use self::ports::why_not_listening;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it was.
    pub subject: String,
    /// What was found, or else what is wrong and what to do about it.
    pub found: Result<String, String>,
}

impl Finding {
    /// It is right.
    pub fn ok(subject: &str, found: impl fmt::Display) -> Self {
        Self { subject: subject.to_owned(), found: Ok(found.to_string()) }
    }

    /// It is not.
    pub fn failed(subject: &str, wrong: impl fmt::Display) -> Self {
        Self { subject: subject.to_owned(), found: Err(wrong.to_string()) }
    }
}

/// What follows from the data, if it could be read.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// What regions compare.
    digest: Option<[u8; 32]>,
    /// How long a clock takes, where that is declared.
    clock_length: Option<Duration>,
}

/// Looks at what `part` of `region` needs of this machine.
pub async fn local(region: Region, part: Part) -> (Vec<Finding>, PeerProbe) {
    let mut findings = vec![Finding::ok("settings", settings(&region))];
    let mut known = Known::default();
    match Setup::new(region.clone(), Part::Region) {
        Ok(setup) => {
            let sizes: Vec<_> = setup.parts().into_iter().map(|(part, _)| part.len()).collect();
            findings.extend(model::findings(&setup, &sizes, part));
            let (digest, clock_length) = (Some(setup.digest), model::clock_length(&setup, &sizes));
            known = Known { digest, clock_length };
        }
        Err(error) => findings.push(Finding::failed("data", with_causes(&error))),
    }
    if let Some(directory) = region.output.as_ref().filter(|_| !matches!(part, Part::Worker(_))) {
        findings.push(match prepare_output(directory) {
            Ok(()) => Finding::ok("output", format!("{} can be written", directory.display())),
            Err(error) => Finding::failed("output", with_causes(&error)),
        });
    }
    if let Some(settings) = region.checkpoint.as_ref().filter(|_| !matches!(part, Part::Worker(_))) {
        findings.push(match super::checkpoint::prepare(settings) {
            Ok(()) => Finding::ok("checkpoint", format!("{} can be written", settings.location)),
            Err(error) => Finding::failed("checkpoint", with_causes(&error)),
        });
    }
    let (of_certificates, identities) = certificates::findings(&region, part);
    findings.extend(of_certificates);
    findings.extend(ports::names(&region).await);
    let (of_ports, open) = ports::findings(&region, part).await;
    findings.extend(of_ports);
    (findings, PeerProbe::open(region, part, known, identities, open))
}

fn settings(region: &Region) -> String {
    let plural = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}: {} of {}; {} has {} and {} of {}",
        region.job.name,
        plural(region.job.clocks.into(), "clock"),
        region.strategy,
        region.name,
        plural(region.servers.into(), "server"),
        region.workers(),
        plural(region.all_workers().into(), "worker"),
    )
}
