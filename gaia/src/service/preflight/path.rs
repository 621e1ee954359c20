//! What the answer of a peer means.
//!
//! Kind: time-free.

use std::net::SocketAddr;
use std::time::Duration;

use wan::driver::probe::{Probe, ProbeError};
use wan::mirror_clock::derived_lead;
use wan::policy::Lead;
use wan::wire::CallBack;

use super::Finding;
use crate::human::{bit_rate, seconds, with_causes};
use crate::service::short;

/// Clocks that differ by more than this make certificates begin or end at the wrong time, and logs
/// hard to read.
const MOST_SKEW_MILLIS: i64 = 5000;

/// What is known on our side of a path between two servers.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The peer's region.
    pub(super) peer: String,
    /// Which of its servers.
    pub(super) their_server: u16,
    /// Which of ours.
    pub(super) our_server: u16,
    /// Where that one listens.
    pub(super) listen: Option<SocketAddr>,
    /// Whether this was looked at from there, and not from another port.
    pub(super) is_from_there: bool,
    /// Our digest, if the data could be read.
    pub(super) digest: Option<[u8; 32]>,
    /// How far regions may be apart.
    pub(super) lead: Lead,
    /// How long a clock takes, where that is declared.
    pub(super) clock_length: Option<Duration>,
}

impl Path {
    pub(super) fn subject(&self) -> String {
        format!("{} {}", self.peer, self.their_server)
    }

    /// What a probe has found.
    pub(super) fn findings(&self, probe: &Probe) -> Vec<Finding> {
        let subject = &self.subject();
        let mut findings = vec![Finding::ok(subject, self.answer(probe))];
        if let Some(ours) = self.digest.filter(|ours| ours[..] != probe.hello.job_digest) {
            let (ours, theirs) = (short(&ours), short(&probe.hello.job_digest));
            let text = format!(
                "it has another job: its digest is {theirs}, ours {ours}; compare the job files, and the data, which \
                 gives the tables their shapes"
            );
            findings.push(Finding::failed(subject, text));
        }
        if probe.clock_ahead_millis.saturating_abs() > MOST_SKEW_MILLIS {
            let text = format!("{}; set both by NTP, as certificates go by them", clock(probe));
            findings.push(Finding::failed(subject, text));
        }
        if let CallBack::Failed(problem) = &probe.call_back {
            let port =
                self.listen.map(|listen| format!(" to UDP port {}", listen.port())).unwrap_or_default();
            let text = format!(
                "it does not reach us: {problem}; look at the address that it has of us (peers in its file) and at what \
                 lets packets in{port}: firewall, security group, NAT"
            );
            findings.push(Finding::failed(subject, text));
        }
        findings
    }

    fn answer(&self, probe: &Probe) -> String {
        let mut parts = vec![format!(
            "{} answers our server {} in {}",
            probe.address,
            self.our_server,
            seconds(probe.round_trip.as_secs_f64())
        )];
        parts.push(match (probe.rate_there, probe.rate_back) {
            (Some(there), Some(back)) => format!("{} there, {} back", bit_rate(there), bit_rate(back)),
            (Some(there), None) => format!("{} there", bit_rate(there)),
            (None, Some(back)) => format!("{} back", bit_rate(back)),
            (None, None) => "rate not measured, as it was a moment ago".to_owned(),
        });
        parts.push(clock(probe));
        if self.digest.is_some_and(|ours| ours[..] == probe.hello.job_digest) {
            parts.push("same job".to_owned());
        }
        match probe.call_back {
            CallBack::Reached => parts.push("it reaches us".to_owned()),
            CallBack::NoAddress => parts.push("it waits for us to dial".to_owned()),
            CallBack::NotTried | CallBack::Failed(_) => {}
        }
        if probe.linked {
            parts.push("linked".to_owned());
        }
        if !self.is_from_there
            && let Some(listen) = self.listen
        {
            parts.push(format!("asked from another port, as UDP {} was not free", listen.port()));
        }
        parts.push(self.lead(probe.round_trip));
        parts.join("; ")
    }

    fn lead(&self, round_trip: Duration) -> String {
        match (self.lead, derived_lead(Some(round_trip), self.clock_length), self.clock_length) {
            (Lead::Limit(limit), ..) => format!("DS {limit}"),
            (Lead::Unlimited, ..) => "no DS".to_owned(),
            (Lead::Derived, Some(derived), Some(clock)) => {
                format!("DS {derived} with clocks of {}", seconds(clock.as_secs_f64()))
            }
            (Lead::Derived, ..) => "DS follows from the first clocks".to_owned(),
        }
    }

    /// Why a probe came to nothing, and what to do.
    pub(super) fn failed(&self, error: &ProbeError) -> Finding {
        let text = match error {
            ProbeError::Silent { address } => format!(
                "{error}: either nothing runs there yet (`gaia check --wait 5min` at both ends waits for the other), or \
                 UDP port {} is closed to us on the way: firewall, security group",
                address.port()
            ),
            ProbeError::Certificate(_) | ProbeError::Closed { .. } | ProbeError::Connect(_) => {
                with_causes(error)
            }
        };
        Finding::failed(&self.subject(), format!("server {}: {text}", self.our_server))
    }
}

/// Whose clock is ahead, in words. What a round trip blurs is no difference.
fn clock(probe: &Probe) -> String {
    let (ahead, blur) = (probe.clock_ahead_millis, probe.round_trip.as_millis() as i64 / 2 + 2);
    let by = seconds(ahead.unsigned_abs() as f64 / 1000.0);
    match ahead {
        ahead if ahead.saturating_abs() <= blur => "clocks agree".to_owned(),
        1.. => format!("its clock is {by} ahead"),
        _ => format!("its clock is {by} behind"),
    }
}

#[cfg(test)]
mod tests {
    use wan::wire::{Channel, Hello};

    use super::*;

    fn path() -> Path {
        Path {
            peer: "ireland".to_owned(),
            their_server: 1,
            our_server: 1,
            listen: Some("10.0.0.1:7111".parse().unwrap()),
            is_from_there: true,
            digest: Some([7; 32]),
            lead: Lead::Derived,
            clock_length: Some(Duration::from_millis(500)),
        }
    }

    fn probe() -> Probe {
        Probe {
            address: "10.1.0.1:7211".parse().unwrap(),
            hello: Hello {
                version: 1,
                datacenter: "ireland".to_owned(),
                server: 1,
                job_digest: vec![7; 32],
                channel: Channel::Probe,
                session: 1,
                life: 1,
                departed: Vec::new(),
                resumes: Vec::new(),
            },
            round_trip: Duration::from_millis(72),
            clock_ahead_millis: 20,
            linked: false,
            rate_there: Some(12_000_000.0),
            rate_back: Some(11_500_000.0),
            call_back: CallBack::Reached,
        }
    }

    #[test]
    fn a_good_path_is_one_line() {
        let expected = "10.1.0.1:7211 answers our server 1 in 72.0 ms; 96.0 Mbit/s there, 92.0 Mbit/s back; \
                        clocks agree; same job; it reaches us; DS 3 with clocks of 0.50 s";
        assert_eq!(path().findings(&probe()), [Finding::ok("ireland 1", expected)]);
        let beside_a_run = Path { is_from_there: false, clock_length: None, ..path() };
        let linked = Probe { linked: true, rate_there: None, rate_back: None, ..probe() };
        let expected = "10.1.0.1:7211 answers our server 1 in 72.0 ms; rate not measured, as it was a moment ago; \
                        clocks agree; same job; it reaches us; linked; asked from another port, as UDP 7111 was not \
                        free; DS follows from the first clocks";
        assert_eq!(beside_a_run.findings(&linked), [Finding::ok("ireland 1", expected)]);
        for (lead, expected) in [(Lead::Limit(4), "; DS 4"), (Lead::Unlimited, "; no DS")] {
            let findings = Path { lead, ..path() }.findings(&probe());
            assert!(findings[0].found.as_ref().unwrap().ends_with(expected), "{findings:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_path_is_said_with_its_remedy() {
        let mut wrong = Probe {
            clock_ahead_millis: -6500,
            call_back: CallBack::Failed("nothing answers at 10.0.0.1:7111 over UDP".to_owned()),
            ..probe()
        };
        wrong.hello.job_digest = vec![8; 32];
        let failed = path().findings(&wrong);
        let failed: Vec<_> = failed.iter().filter_map(|finding| finding.found.as_ref().err()).collect();
        assert_eq!(
            failed,
            [
                "it has another job: its digest is 0808080808080808, ours 0707070707070707; compare the job files, and \
                 the data, which gives the tables their shapes",
                "its clock is 6.50 s behind; set both by NTP, as certificates go by them",
                "it does not reach us: nothing answers at 10.0.0.1:7111 over UDP; look at the address that it has of us \
                 (peers in its file) and at what lets packets in to UDP port 7111: firewall, security group, NAT",
            ]
        );
        let silent = ProbeError::Silent { address: "10.1.0.1:7211".parse().unwrap() };
        let text = path().failed(&silent).found.unwrap_err();
        assert!(text.starts_with("server 1: nothing answers at 10.1.0.1:7211 over UDP: either"), "{text}");
        assert!(
            text.ends_with("UDP port 7211 is closed to us on the way: firewall, security group"),
            "{text}"
        );
    }
}
