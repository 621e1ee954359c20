//! Certificates that are no longer to be trusted, before their time.
//!
//! Kind: time-free.
//!
//! rustls asks the lists during a handshake. We ask them afterwards as well, for connections that
//! were there first.

use std::collections::BTreeSet;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use thiserror::Error;
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use super::Date;

/// Why a revocation list cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RevocationError {
    /// It is no revocation list.
    #[error("it cannot be read: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// None of the authorities has signed it.
    #[error("it is of {issuer:?}, and none of our authorities has signed it")]
    NotOurs {
        /// Who is said to have.
        issuer: String,
    },
}

/// What several lists say together.
///
/// Lists are optional. An authority without one has revoked nothing, and one that is out of date
/// still says what it says: refusing everybody would stop a run because somebody forgot a date.
#[derive(Debug, Default)]
pub struct Revocations {
    /// Issuer and serial number, both as they are encoded.
    revoked: BTreeSet<(Vec<u8>, Vec<u8>)>,
    next_update: Option<Date>,
}

impl Revocations {
    /// Reads lists of the authorities `roots`.
    ///
    /// # Errors
    ///
    /// When one is no list, or is signed by none of them.
    pub fn read(
        lists: &[CertificateRevocationListDer<'_>],
        roots: &[CertificateDer<'_>],
    ) -> Result<Self, RevocationError> {
        let mut revocations = Self::default();
        for list in lists {
            let (_, list) = parse_x509_crl(list)
                .map_err(|error| RevocationError::Unreadable { reason: error.to_string() })?;
            let is_signed_by = |root: &CertificateDer<'_>| {
                parse_x509_certificate(root)
                    .is_ok_and(|(_, root)| list.verify_signature(root.public_key()).is_ok())
            };
            if !roots.iter().any(is_signed_by) {
                return Err(RevocationError::NotOurs { issuer: list.issuer().to_string() });
            }
            let issuer = list.issuer().as_raw();
            revocations.revoked.extend(
                list.iter_revoked_certificates()
                    .map(|one| (issuer.to_vec(), number(one.raw_serial()).to_vec())),
            );
            let next = list.next_update().map(|time| Date(time.timestamp()));
            revocations.next_update = [revocations.next_update, next].into_iter().flatten().min();
        }
        Ok(revocations)
    }

    /// Whether one of the lists names `certificate`. One that cannot be read is in no list, and in
    /// no handshake either.
    pub fn contain(&self, certificate: &CertificateDer<'_>) -> bool {
        parse_x509_certificate(certificate).is_ok_and(|(_, certificate)| {
            let issuer = certificate.issuer().as_raw().to_vec();
            self.revoked.contains(&(issuer, number(certificate.raw_serial()).to_vec()))
        })
    }

    /// When the first of the lists is out of date.
    pub fn next_update(&self) -> Option<Date> {
        self.next_update
    }
}

/// A number without the zero bytes in front, which not everybody writes.
fn number(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}
