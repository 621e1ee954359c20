//! Why a QUIC handshake failed or a connection was lost, for people.
//!
//! Kind: time-free.

use datacenter::identity::{Party, Refused, Shown};
use datacenter::printable;
use quinn::ConnectionError;

use crate::transport::Identity;

/// RFC 9001, section 4.8: a TLS alert is the low byte of an error code from 0x100 to 0x1ff.
const CRYPTO_ERRORS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Who refused whom, when a connection ended with `error`, after `shown` was seen; nothing if it ended otherwise.
pub(super) fn explain(identity: &Identity, error: &ConnectionError, shown: &Shown) -> Option<Refused> {
    match error {
        // Of rustls's error, quinn keeps the alert that it sends, and the sentence.
        ConnectionError::TransportError(ours) => Some(identity.explain_alert(
            Party::Us,
            alert(ours.code.into())?,
            &printable::line(&ours.reason),
            shown,
        )),
        ConnectionError::ConnectionClosed(theirs) => {
            let reason = said(&theirs.reason);
            Some(identity.explain_alert(Party::Them, alert(theirs.error_code.into())?, &reason, shown))
        }
        ConnectionError::VersionMismatch
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => None,
    }
}

/// What the other side has said, as it may be shown.
pub(crate) fn said(reason: &[u8]) -> String {
    printable::line_of(String::from_utf8_lossy(reason).into_owned())
}

/// How a connection was lost, in an operator's words.
pub(crate) fn lost(error: &ConnectionError) -> String {
    let quoted = |what: &str, reason: &[u8]| match said(reason) {
        reason if reason.is_empty() => what.to_owned(),
        reason => format!("{what}: \"{reason}\""),
    };
    match error {
        ConnectionError::TimedOut => {
            "nothing is heard from there: the process does not run, or the network between lets no UDP through".into()
        }
        ConnectionError::Reset => "the process there has started anew, and does not know the connection".into(),
        ConnectionError::ApplicationClosed(close) => quoted("it was closed by the other side", &close.reason),
        ConnectionError::ConnectionClosed(close) => {
            quoted(&format!("the other side gave it up ({})", close.error_code), &close.reason)
        }
        ConnectionError::TransportError(error) => {
            quoted(&format!("the other side does not keep to QUIC ({})", error.code), error.reason.as_bytes())
        }
        ConnectionError::LocallyClosed => "we closed it".into(),
        ConnectionError::VersionMismatch => "the other side speaks no version of QUIC that we do".into(),
        ConnectionError::CidsExhausted => error.to_string(),
    }
}

/// The same of a stream that could not be read.
pub(crate) fn not_read(error: &quinn::ReadError) -> String {
    match error {
        quinn::ReadError::ConnectionLost(error) => lost(error),
        error => error.to_string(),
    }
}

/// The same of a stream that could not be written.
pub(crate) fn not_written(error: &quinn::WriteError) -> String {
    match error {
        quinn::WriteError::ConnectionLost(error) => lost(error),
        error => error.to_string(),
    }
}

fn alert(code: u64) -> Option<u8> {
    CRYPTO_ERRORS.contains(&code).then_some(code.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn::ApplicationClose;

    use super::*;

    #[test]
    fn what_a_peer_says_cannot_forge_a_line() {
        let reason = Bytes::from_static(b"x\nvirginia INFO forged \x1b[31mred\xff");
        let close = ApplicationClose { error_code: 3u32.into(), reason };
        let told = lost(&ConnectionError::ApplicationClosed(close));
        assert_eq!(
            told,
            "it was closed by the other side: \"x\\nvirginia INFO forged \\u{1b}[31mred\u{fffd}\""
        );
        let close = ApplicationClose { error_code: 0u32.into(), reason: Bytes::new() };
        assert_eq!(lost(&ConnectionError::ApplicationClosed(close)), "it was closed by the other side");
        assert!(!lost(&ConnectionError::TimedOut).contains("timed out"));
    }
}
