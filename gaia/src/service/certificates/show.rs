//! The certificates in a directory, and how they stand.
//!
//! Kind: driver.
//!
//! Works where the authority's key is not: a host of a region has `ca.pem`, `crl.pem` and its own
//! files.

use std::fs;
use std::path::{Path, PathBuf};

use datacenter::identity::{Certificate, Date, Revocations};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::{CertsError, Directory, SOON_DAYS};

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In use for a while yet.
    Good,
    /// In need of renewal.
    ExpiresSoon,
    /// From the future.
    NotYetValid,
    /// Over.
    Expired,
    /// In the revocation list.
    Revoked,
    /// Not a certificate that can be read.
    Unreadable,
}

impl State {
    /// The state in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::ExpiresSoon => "expires soon",
            Self::NotYetValid => "not yet valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Unreadable => "unreadable",
        }
    }

    fn of(certificate: &Certificate, now: Date) -> Self {
        if certificate.not_after < now {
            Self::Expired
        } else if certificate.not_before > now {
            Self::NotYetValid
        } else if certificate.not_after.days_since(now) < SOON_DAYS {
            Self::ExpiresSoon
        } else {
            Self::Good
        }
    }
}

/// A certificate file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// What it says, where it can be read.
    pub certificate: Option<Certificate>,
    /// How it stands.
    pub state: State,
}

impl Directory {
    /// All certificates of the directory, the authority's first, and when the next revocation list
    /// is due.
    ///
    /// # Errors
    ///
    /// When the directory or its revocation list cannot be read.
    pub fn show(&self, now: Date) -> Result<(Vec<Listed>, Option<Date>), CertsError> {
        let unreadable = |source| CertsError::Read { path: self.path().to_owned(), source };
        let entries = fs::read_dir(self.path()).map_err(unreadable)?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "pem") && path != self.list() {
                paths.push(path);
            }
        }
        paths.sort_by_key(|path| (*path != self.ca(), path.clone()));
        let revocations = self.revocations()?;
        let shown = paths.into_iter().map(|path| shown(path, &revocations, now)).collect();
        Ok((shown, revocations.next_update()))
    }

    fn revocations(&self) -> Result<Revocations, CertsError> {
        let path = self.list();
        if !path.exists() {
            return Ok(Revocations::default());
        }
        let damaged = |reason: String| CertsError::List { path: path.clone(), reason };
        let lists: Vec<CertificateRevocationListDer<'static>> =
            all(&path).map_err(|error| damaged(error.to_string()))?;
        let roots: Vec<CertificateDer<'static>> = all(&self.ca()).unwrap_or_default();
        Revocations::read(&lists, &roots).map_err(|error| damaged(error.to_string()))
    }
}

fn shown(path: PathBuf, revocations: &Revocations, now: Date) -> Listed {
    let der = CertificateDer::from_pem_file(&path).ok();
    let certificate = der.as_ref().and_then(|der| Certificate::read(der).ok());
    let state = match (&der, &certificate) {
        (Some(der), Some(_)) if revocations.contain(der) => State::Revoked,
        (_, Some(certificate)) => State::of(certificate, now),
        (_, None) => State::Unreadable,
    };
    Listed { path, certificate, state }
}

/// Everything of one kind in a PEM file.
fn all<T: PemObject>(path: &Path) -> Result<Vec<T>, rustls::pki_types::pem::Error> {
    T::pem_file_iter(path)?.collect()
}
