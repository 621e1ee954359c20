//! What a certificate says.
//!
//! Kind: time-free.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    parse_x509_certificate,
};

use super::name::index_in;
use super::{Date, IdentityError, PeerName};
use crate::printable;

/// What people ask about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What its subject is called, such as "virginia server 0".
    pub common_name: String,
    /// All its DNS names.
    pub dns_names: Vec<String>,
    /// Its serial number, in hex.
    pub serial: String,
    /// The common name of who signed it.
    pub issuer: String,
    /// The first moment at which it is valid.
    pub not_before: Date,
    /// The last moment at which it is valid.
    pub not_after: Date,
}

impl Certificate {
    /// Reads a certificate, whether or not it names a peer.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Unreadable`].
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) = parse_x509_certificate(certificate)
            .map_err(|error| IdentityError::Unreadable { reason: error.to_string() })?;
        let common_name = |name: &x509_parser::x509::X509Name<'_>| {
            let first = name.iter_common_name().next().and_then(|name| name.as_str().ok());
            // Whoever made the certificate wrote it, and that may be anybody.
            printable::line(first.unwrap_or_default()).into_owned()
        };
        Ok(Self {
            common_name: common_name(parsed.subject()),
            dns_names: dns_names(&parsed),
            serial: hex(parsed.raw_serial()),
            issuer: common_name(parsed.issuer()),
            not_before: Date(parsed.validity().not_before.timestamp()),
            not_after: Date(parsed.validity().not_after.timestamp()),
        })
    }

    /// The only peer that it names.
    pub fn peer(&self) -> Option<PeerName> {
        one_peer(&self.dns_names)
    }

    /// Which processes of that peer it names, such as worker 2; none if it is for any of them.
    pub fn indexes(&self) -> Vec<u32> {
        let Some(peer) = self.peer() else { return Vec::new() };
        self.dns_names.iter().filter_map(|name| index_in(name, &peer)).collect()
    }

    /// Checks that it may be shown by process `index` of the peer that it names.
    ///
    /// # Errors
    ///
    /// With both sides' values, if it is another's.
    pub fn check_index(&self, index: u32) -> Result<(), String> {
        let indexes = self.indexes();
        if indexes.is_empty() || indexes.contains(&index) {
            return Ok(());
        }
        let role = self.peer().map_or("process", |peer| peer.role().as_str());
        let own: Vec<String> = indexes.iter().map(u32::to_string).collect();
        Err(format!(
            "you say that you are {role} {index}, your certificate is that of {role} {}",
            own.join(", ")
        ))
    }
}

/// "virginia.server.gaia (virginia server 0, serial 4c1f...)".
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer();
        // The common name says which process it is.
        let is_index = |name: &str| peer.as_ref().is_some_and(|peer| index_in(name, peer).is_some());
        let names: Vec<&str> =
            self.dns_names.iter().map(String::as_str).filter(|name| !is_index(name)).collect();
        let names = if names.is_empty() { "without a name".into() } else { names.join(", ") };
        write!(f, "{names} (")?;
        // Certificates of simulations have one name twice.
        if !self.common_name.is_empty() && self.common_name != names {
            write!(f, "{}, ", self.common_name)?;
        }
        write!(f, "serial {})", self.serial)
    }
}

/// The peer that a certificate names among its subject alternative names.
///
/// # Errors
///
/// When it cannot be read, or does not name exactly one peer.
pub fn name_in(certificate: &CertificateDer<'_>) -> Result<PeerName, IdentityError> {
    let found = Certificate::read(certificate)?.dns_names;
    one_peer(&found).ok_or(IdentityError::NotOnePeer { found })
}

/// Which datacenter and role is at the other end of an established connection, by the certificates
/// that it has shown: rustls's `peer_certificates()`, leaf first.
///
/// # Errors
///
/// When it has shown none, or, although signed by the authority, it does not name a peer.
pub fn peer_name_of(certificates: Option<&[CertificateDer<'_>]>) -> Result<PeerName, IdentityError> {
    name_in(certificates.and_then(<[_]>::first).ok_or(IdentityError::NoCertificate)?)
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives =
        certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    let dns = alternatives.flatten().filter_map(|name| match name {
        GeneralName::DNSName(dns) => Some(printable::line(dns).into_owned()),
        _ => None,
    });
    dns.collect()
}

/// Other names may stand beside it, such as the machine's; two peers in one certificate would be
/// ambiguous.
fn one_peer(names: &[String]) -> Option<PeerName> {
    let mut peers = names.iter().filter_map(|name| name.parse().ok());
    match (peers.next(), peers.next()) {
        (Some(peer), None) => Some(peer),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
