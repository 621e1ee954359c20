//! Identities in QUIC.
//!
//! Kind: time-free.
//!
//! Who a process is, and how it checks its peers, is [`datacenter::identity`]'s: the same certificates serve the LAN.
//! Here they become quinn's settings, and answer for quinn's connections.

use std::{sync::Arc, time::SystemTime};

pub use datacenter::identity::{Dates, Identity, IdentityError, PeerName, PeerNameError, Role};
use datacenter::identity::{Shown, peer_name_of};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::CertificateDer;

/// The application protocol; its number changes with the first incompatible message.
const ALPN: &[u8] = b"gaia/1";

const INITIAL_SUITE: &str = "TLS 1.3 with ring always has the suite of QUIC's first packets";

/// How to dial now.
pub(super) fn quic_client(identity: &Identity, shown: &Shown) -> Arc<QuicClientConfig> {
    Arc::new(QuicClientConfig::try_from(identity.client(ALPN, shown)).expect(INITIAL_SUITE))
}

/// How to accept now.
pub(super) fn quic_server(identity: &Identity, shown: &Shown) -> Arc<QuicServerConfig> {
    Arc::new(QuicServerConfig::try_from(identity.server(ALPN, shown)).expect(INITIAL_SUITE))
}

/// Judges the age of address validation tokens.
pub(super) struct TokenDates(pub(super) Dates);

impl quinn::TimeSource for TokenDates {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

/// Which datacenter and role is at the other end of an established connection.
///
/// # Errors
///
/// When the peer's certificate, although signed by the authority, does not name a peer.
pub fn peer_name(connection: &quinn::Connection) -> Result<PeerName, IdentityError> {
    peer_name_of(peer_chain(connection).as_deref())
}

/// The certificate at the other end of an established connection, for [`Identity::is_revoked`].
pub fn peer_certificate(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    peer_chain(connection)?.into_iter().next()
}

fn peer_chain(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    connection.peer_identity()?.downcast().ok().map(|chain| *chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_holder() {
        let name = PeerName::new("virginia", Role::Worker).unwrap();
        let identity = crate::transport::Authority::new(1).issue(&name);
        assert_eq!(identity.name(), &name);
    }
}
