//! Why a handshake failed, for people.
//!
//! Kind: time-free.
//!
//! Whoever refuses knows everything; the refused one gets a number, TLS's alert, and over QUIC a
//! sentence. Both logs should tell an operator what to do, so both are brought into one form here:
//! who refused whom, one of few causes, and which certificate it was about. The same alert can mean
//! several things (rustls says `certificate_expired` also of a certificate from the future), and
//! then our own certificate tells them apart.

use std::fmt;

use rustls::{CertificateError, Error, pki_types::UnixTime};

use super::{Certificate, Date, PeerName};

/// What a handshake can fail for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The certificate is not signed by an authority that the other side trusts.
    UnknownAuthority,
    /// The certificate is too old.
    Expired,
    /// The certificate is not valid yet; often a clock is wrong.
    NotYetValid,
    /// The certificate is in a revocation list.
    Revoked,
    /// The certificate is somebody else's.
    Name,
    /// The certificate is for the right datacenter, and for another role.
    Role,
    /// No certificate was shown.
    NoCertificate,
    /// One side does not speak TLS.
    Plaintext,
    /// No version of TLS, or of our own protocol, in common.
    Protocol,
    /// Anything else.
    Other,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 10] = [
        Self::UnknownAuthority,
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::Name,
        Self::Role,
        Self::NoCertificate,
        Self::Plaintext,
        Self::Protocol,
        Self::Other,
    ];

    /// The cause as a label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::Name => "name",
            Self::Role => "role",
            Self::NoCertificate => "no_certificate",
            Self::Plaintext => "plaintext",
            Self::Protocol => "protocol",
            Self::Other => "other",
        }
    }

    /// Whether it is about a certificate that was shown.
    fn has_certificate(self) -> bool {
        match self {
            Self::UnknownAuthority
            | Self::Expired
            | Self::NotYetValid
            | Self::Revoked
            | Self::Name
            | Self::Role => true,
            Self::NoCertificate | Self::Plaintext | Self::Protocol | Self::Other => false,
        }
    }
}

/// One of the two sides of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// This process.
    Us,
    /// Its peer.
    Them,
}

/// A handshake that one side ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Who ended it.
    pub by: Party,
    /// What for.
    pub cause: Cause,
    /// The certificate of the other side, where it is known.
    pub certificate: Option<Box<Certificate>>,
    /// The particulars: names, dates.
    pub detail: String,
}

impl Refused {
    /// We ended it, with rustls's `error`, after having been `shown` a certificate or not.
    pub(super) fn by_us(error: &Error, shown: Option<Certificate>) -> Self {
        let (cause, detail) = match error {
            Error::InvalidCertificate(error) => judge(error, shown.as_ref()),
            Error::NoCertificatesPresented => {
                (Cause::NoCertificate, "a certificate is needed, and none was shown".into())
            }
            // What does not even look like TLS.
            Error::InvalidMessage(_) => {
                (Cause::Plaintext, "TLS is needed, and something else was sent".into())
            }
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => (Cause::Protocol, error.to_string()),
            error => (Cause::Other, error.to_string()),
        };
        Self { by: Party::Us, cause, certificate: shown.map(Box::new), detail }
    }

    /// One side ended it with TLS's `alert`, having been shown `certificate`; QUIC also brings a
    /// `reason`.
    ///
    /// The numbers are those of RFC 8446, section 6, and RFC 7301; what rustls means by each is in
    /// its `impl From<CertificateError> for AlertDescription`.
    pub(super) fn by_alert(
        by: Party,
        alert: u8,
        reason: &str,
        certificate: Option<Certificate>,
        now: Date,
    ) -> Self {
        let said =
            |text: &str| if reason.is_empty() { text.to_owned() } else { format!("{text} ({reason})") };
        let (cause, detail) = match alert {
            42 => {
                let meant = expected_name(reason);
                let cause = certificate.as_ref().map_or(Cause::Name, |one| name_or_role(meant.as_ref(), one));
                let detail = match meant {
                    Some(meant) => format!("{meant} was to be reached"),
                    None => said("another peer was to be reached"),
                };
                (cause, detail)
            }
            43 => (Cause::Role, said("it is for another purpose")),
            44 => (Cause::Revoked, "it is revoked".into()),
            45 => out_of_date(reason, certificate.as_ref(), now),
            48 | 51 => (Cause::UnknownAuthority, untrusted(certificate.as_ref())),
            116 => (Cause::NoCertificate, "a certificate is needed, and none was shown".into()),
            40 | 70 | 120 => (Cause::Protocol, said("no protocol in common")),
            other => (Cause::Other, said(&format!("TLS alert {other}"))),
        };
        Self { by, cause, certificate: certificate.map(Box::new), detail }
    }

    /// They speak TLS and we do not, if the first bytes that they sent are a record of TLS.
    pub fn in_plaintext(first: &[u8]) -> Option<Self> {
        // RFC 8446, section 5.1: the types alert and handshake, then a version that is 3.x forever.
        let is_record = matches!(first, [0x15 | 0x16, 0x03, 0x00..=0x04, ..]);
        is_record.then(|| Self {
            by: Party::Them,
            cause: Cause::Plaintext,
            certificate: None,
            detail: "they speak TLS, and we do not".into(),
        })
    }

    /// The same, seen from the other side.
    pub(super) fn turned(self) -> Self {
        let by = match self.by {
            Party::Us => Party::Them,
            Party::Them => Party::Us,
        };
        Self { by, ..self }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.by, &self.certificate) {
            (Party::Us, Some(theirs)) if self.cause.has_certificate() => {
                write!(f, "we refused their certificate {theirs}: {}", self.detail)
            }
            (Party::Them, Some(ours)) if self.cause.has_certificate() => {
                write!(f, "they refused our certificate {ours}: {}", self.detail)
            }
            (Party::Us, _) => write!(f, "we refused them: {}", self.detail),
            (Party::Them, _) => write!(f, "they refused us: {}", self.detail),
        }
    }
}

impl std::error::Error for Refused {}

/// What we hold against a certificate.
fn judge(error: &CertificateError, shown: Option<&Certificate>) -> (Cause, String) {
    match error {
        // An authority of the same name and another key is unknown too.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            (Cause::UnknownAuthority, untrusted(shown))
        }
        CertificateError::ExpiredContext { time, not_after } => {
            (Cause::Expired, expired(date(*not_after), date(*time)))
        }
        CertificateError::Expired => (Cause::Expired, "it has expired".into()),
        CertificateError::NotValidYetContext { time, not_before } => {
            let (from, now) = (date(*not_before), date(*time));
            let here = from.from_here(now);
            (Cause::NotYetValid, format!("it is valid from {from} on, {here}; is a clock wrong?"))
        }
        CertificateError::NotValidYet => (Cause::NotYetValid, "it is not valid yet".into()),
        CertificateError::Revoked => (Cause::Revoked, "it is revoked".into()),
        CertificateError::NotValidForNameContext { expected, .. } => {
            let expected = expected.to_str();
            let cause =
                shown.map_or(Cause::Name, |shown| name_or_role(expected.parse().ok().as_ref(), shown));
            (cause, format!("{expected} was to be reached"))
        }
        CertificateError::NotValidForName => (Cause::Name, "another peer was to be reached".into()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            (Cause::Role, error.to_string())
        }
        error => (Cause::Other, error.to_string()),
    }
}

/// An alert says the same of a certificate from the past and of one from the future.
fn out_of_date(reason: &str, certificate: Option<&Certificate>, now: Date) -> (Cause, String) {
    match certificate {
        Some(one) if one.not_before > now || reason.contains("not valid yet") => {
            (Cause::NotYetValid, format!("it is valid from {} on; is a clock wrong?", one.not_before))
        }
        Some(one) if one.not_after < now => (Cause::Expired, expired(one.not_after, now)),
        Some(one) => {
            let text = format!("it is valid from {} to {}", one.not_before, one.not_after);
            (Cause::Expired, format!("{text}, and by their clock that is over; is a clock wrong?"))
        }
        None => (Cause::Expired, "it has expired".into()),
    }
}

fn expired(not_after: Date, now: Date) -> String {
    format!("it expired on {not_after}, {}", not_after.from_here(now))
}

fn untrusted(certificate: Option<&Certificate>) -> String {
    let issuer = certificate.map(|certificate| format!(" '{}'", certificate.issuer)).unwrap_or_default();
    format!("its issuer{issuer} is not a trusted authority")
}

/// Whether a certificate is for another role of the datacenter that was meant, or for somebody
/// else.
fn name_or_role(meant: Option<&PeerName>, shown: &Certificate) -> Cause {
    match (meant, shown.peer()) {
        (Some(meant), Some(found)) if meant.datacenter() == found.datacenter() => Cause::Role,
        _ => Cause::Name,
    }
}

/// The name that the peer meant to reach, out of rustls's sentence: `... not valid for name
/// "a.server.gaia"; ...`.
fn expected_name(reason: &str) -> Option<PeerName> {
    let (_, rest) = reason.split_once("for name \"")?;
    rest.split_once('"')?.0.parse().ok()
}

fn date(time: UnixTime) -> Date {
    Date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Date = Date(1_767_225_600);

    fn ours(from: i64, to: i64) -> Certificate {
        Certificate {
            common_name: "virginia server 0".into(),
            dns_names: vec!["virginia.server.gaia".into()],
            serial: "4c1f".into(),
            issuer: "Gaia authority 1a2b".into(),
            not_before: Date(NOW.0 + from * Date::DAY_SECONDS),
            not_after: Date(NOW.0 + to * Date::DAY_SECONDS),
        }
    }

    fn theirs(alert: u8, reason: &str, ours: Certificate) -> Refused {
        Refused::by_alert(Party::Them, alert, reason, Some(ours), NOW)
    }

    #[test]
    fn an_alert_is_explained_by_our_certificate() {
        let name =
            "certificate not valid for name \"virginia.worker.gaia\"; certificate is only valid for ...";
        for (alert, reason, (from, to), cause, message) in [
            (
                48,
                "",
                (-1, 9),
                Cause::UnknownAuthority,
                "its issuer 'Gaia authority 1a2b' is not a trusted authority",
            ),
            (45, "", (-90, -19), Cause::Expired, "it expired on 2025-12-13, 19 days ago"),
            (45, "", (2, 9), Cause::NotYetValid, "it is valid from 2026-01-03 on; is a clock wrong?"),
            (
                45,
                "",
                (-1, 9),
                Cause::Expired,
                "it is valid from 2025-12-31 to 2026-01-10, and by their clock that is over; is a clock wrong?",
            ),
            (44, "", (-1, 9), Cause::Revoked, "it is revoked"),
            (42, "", (-1, 9), Cause::Name, "another peer was to be reached"),
            (42, name, (-1, 9), Cause::Role, "virginia.worker.gaia was to be reached"),
        ] {
            let refused = theirs(alert, reason, ours(from, to));
            assert_eq!(refused.cause, cause, "{alert}");
            let certificate = "virginia.server.gaia (virginia server 0, serial 4c1f)";
            assert_eq!(refused.to_string(), format!("they refused our certificate {certificate}: {message}"));
        }
        let protocol = theirs(120, "peer doesn't support any known protocol", ours(-1, 9));
        assert_eq!(
            protocol.to_string(),
            "they refused us: no protocol in common (peer doesn't support any known protocol)"
        );
    }

    #[test]
    fn a_record_of_tls_is_recognised() {
        assert!(Refused::in_plaintext(&[0x15, 3, 3, 0, 2, 2, 50]).is_some());
        assert!(Refused::in_plaintext(&[0, 0, 0, 12, 8, 1]).is_none());
        assert!(Refused::in_plaintext(&[0x15]).is_none());
    }

    #[test]
    fn labels_are_all_different() {
        let labels: std::collections::BTreeSet<_> = Cause::ALL.map(Cause::as_str).into_iter().collect();
        assert_eq!(labels.len(), Cause::ALL.len());
    }
}
