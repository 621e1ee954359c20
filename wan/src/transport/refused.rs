//! Why a QUIC handshake failed, for people.
//!
//! Kind: time-free.

use datacenter::identity::{Party, Refused, Shown};
use quinn::ConnectionError;

use crate::transport::Identity;

/// RFC 9001, section 4.8: a TLS alert is the low byte of an error code from 0x100 to 0x1ff.
const CRYPTO_ERRORS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Who refused whom, when a connection ended with `error`, after `shown` was seen; nothing if it ended otherwise.
pub(super) fn explain(identity: &Identity, error: &ConnectionError, shown: &Shown) -> Option<Refused> {
    match error {
        // Of rustls's error, quinn keeps the alert that it sends, and the sentence.
        ConnectionError::TransportError(ours) => {
            Some(identity.explain_alert(Party::Us, alert(ours.code.into())?, &ours.reason, shown))
        }
        ConnectionError::ConnectionClosed(theirs) => {
            let reason = String::from_utf8_lossy(&theirs.reason);
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

fn alert(code: u64) -> Option<u8> {
    CRYPTO_ERRORS.contains(&code).then_some(code.to_le_bytes()[0])
}
