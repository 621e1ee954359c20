//! What a certificate says.
//!
//! Kind: time-free.

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::{IdentityError, PeerName};

/// The peer that a certificate names among its subject alternative names.
///
/// # Errors
///
/// When it cannot be read, or does not name exactly one peer.
pub fn name_in(certificate: &CertificateDer<'_>) -> Result<PeerName, IdentityError> {
    let unreadable = |reason: String| IdentityError::Unreadable { reason };
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|error| unreadable(error.to_string()))?;
    let names = parsed.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
    let found: Vec<String> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some((*dns).to_owned()),
            _ => None,
        })
        .collect();
    // Other names may stand beside it, such as the machine's; two peers in one certificate would be
    // ambiguous.
    let mut peers = found.iter().filter_map(|name| name.parse().ok());
    match (peers.next(), peers.next()) {
        (Some(peer), None) => Ok(peer),
        _ => Err(IdentityError::NotOnePeer { found }),
    }
}

/// Which datacenter and role is at the other end of an established connection, by the certificates that it has shown:
/// rustls's `peer_certificates()`, leaf first.
///
/// # Errors
///
/// When it has shown none, or, although signed by the authority, it does not name a peer.
pub fn peer_name_of(certificates: Option<&[CertificateDer<'_>]>) -> Result<PeerName, IdentityError> {
    name_in(certificates.and_then(<[_]>::first).ok_or(IdentityError::NoCertificate)?)
}
