//! The files by which one process proves who it is.
//!
//! Kind: driver.
//!
//! Whatever is wrong with them would otherwise show as a peer's refusal, later and at the other end
//! of the world. So reading them asks the questions that a peer will ask, and names the file, the
//! certificate and the date.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use datacenter::identity::{
    Cause, Certificate, Credentials, Date, Dates, Identity, IdentityError, PeerName, Refused,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use thiserror::Error;

use super::{ProcessName, SOON_DAYS};
use crate::job::region::TlsSettings;

/// Where a process finds what proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authority; several while one succeeds another.
    pub ca: PathBuf,
    /// Its revocation list. If there is no such file, nothing is revoked; one that cannot be read
    /// is an error.
    pub revocations: Option<PathBuf>,
    /// Our certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a process cannot use its files.
#[derive(Debug, Error)]
pub enum FilesError {
    /// A file is not there.
    #[error("{path} is missing; {remedy}", path = path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What makes one.
        remedy: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no {expected} in PEM form", path = path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// The certificate is of another key.
    #[error("the key in {key} does not fit the certificate {found} in {certificate}; they are issued together", key = key.display(), certificate = certificate.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
        /// The certificate.
        found: Box<Certificate>,
    },
    /// The certificate is somebody else's.
    #[error("the certificate in {path} is for {found}, and this process is {expected}", path = path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// Whom it is for.
        found: PeerName,
        /// Who we are.
        expected: PeerName,
    },
    /// Every peer would refuse the certificate.
    #[error("certificate {certificate} in {path} cannot be used: {detail}; {remedy}", path = path.display(), detail = refused.detail)]
    Refused {
        /// The file.
        path: PathBuf,
        /// The certificate.
        certificate: Box<Certificate>,
        /// What they would say.
        refused: Refused,
        /// What to do about it.
        remedy: String,
    },
    /// A file has the right form, and what it says is wrong.
    #[error("{path} cannot be used", path = path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
}

/// What is allowed, and yet should be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Everybody on this machine can read the key.
    KeyIsOpen {
        /// Its file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A certificate ends soon.
    ExpiresSoon {
        /// Its file.
        path: PathBuf,
        /// The certificate.
        certificate: Box<Certificate>,
        /// Today.
        now: Date,
    },
    /// Peers refuse the certificate that we show, and go on showing, as there is no other.
    Refused {
        /// The file.
        path: PathBuf,
        /// The certificate, and what they say.
        refused: Refused,
    },
    /// There should be a newer revocation list. The old one counts.
    ListIsOld {
        /// Its file.
        path: PathBuf,
        /// When the next one was due.
        due: Date,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::KeyIsOpen { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "{path} is a private key that everybody can read (mode {mode:04o}); `chmod 600 {path}`"
                )
            }
            Self::ExpiresSoon { path, certificate, now } => {
                let (end, here) = (certificate.not_after, certificate.not_after.from_here(*now));
                let path = path.display();
                let ends = if certificate.not_after < *now { "expired" } else { "expires" };
                write!(f, "certificate {certificate} in {path} {ends} on {end}, {here}; `gaia certs renew`")
            }
            Self::Refused { path, refused } => {
                write!(f, "{}: no new connection can be made: {refused}", path.display())
            }
            Self::ListIsOld { path, due } => {
                let path = path.display();
                write!(
                    f,
                    "the revocation list {path} was to be followed by a newer one on {due}; it still counts"
                )
            }
        }
    }
}

/// What has been read.
#[derive(Debug)]
pub struct Loaded {
    /// Who we are.
    pub identity: Identity,
    /// What should be looked at.
    pub warnings: Vec<Warning>,
}

impl TlsFiles {
    /// The files of a process as `gaia certs` names them.
    pub fn in_directory(directory: &Path, process: &ProcessName) -> Self {
        let directory = super::Directory::new(directory);
        Self {
            ca: directory.ca(),
            revocations: Some(directory.list()),
            certificate: directory.certificate(process),
            key: directory.key(process),
        }
    }

    /// The files of a process as the settings of its region name them.
    pub fn of(settings: &TlsSettings, process: &ProcessName) -> Self {
        let named = |template: &str| {
            let name = template
                .replace("{datacenter}", process.peer().datacenter())
                .replace("{role}", process.peer().role().as_str())
                .replace("{index}", &process.index().to_string());
            settings.directory.join(name)
        };
        let directory = super::Directory::new(&settings.directory);
        Self {
            ca: directory.ca(),
            revocations: Some(directory.list()),
            certificate: named(&settings.certificate),
            key: named(&settings.key),
        }
    }

    /// The identity of `expected`, if the files prove it by `dates`.
    ///
    /// # Errors
    ///
    /// With the first thing that is wrong with them.
    pub fn load(&self, expected: &PeerName, dates: Dates) -> Result<Loaded, FilesError> {
        self.checked(self.credentials(expected)?, expected, dates)
    }

    /// Reads them again for an `identity` that is in use.
    ///
    /// A new certificate that peers would refuse is an error. Not so the one that is in use: the
    /// other files may be better than those from before, above all the revocation list.
    ///
    /// # Errors
    ///
    /// With the first thing that is wrong with them; then nothing changes.
    pub fn reload(&self, identity: &Identity) -> Result<Vec<Warning>, FilesError> {
        let credentials = self.credentials(identity.name())?;
        let loaded = self.checked(credentials.clone(), identity.name(), identity.dates());
        let warnings = match loaded {
            Ok(loaded) => loaded.warnings,
            Err(FilesError::Refused { path, certificate, refused, .. })
                if certificate.serial == identity.certificate().serial =>
            {
                vec![Warning::Refused { path, refused }]
            }
            Err(error) => return Err(error),
        };
        identity.replace(credentials).map_err(|error| self.blamed(error, identity.name()))?;
        Ok(warnings)
    }

    fn checked(
        &self,
        credentials: Credentials,
        expected: &PeerName,
        dates: Dates,
    ) -> Result<Loaded, FilesError> {
        let identity = Identity::new(credentials, dates).map_err(|error| self.blamed(error, expected))?;
        if identity.name() != expected {
            let (found, expected) = (identity.name().clone(), expected.clone());
            return Err(FilesError::OtherName { path: self.certificate.clone(), found, expected });
        }
        if let Some(refused) = identity.check_own() {
            let certificate = Box::new(identity.certificate());
            let (path, remedy) = (self.certificate.clone(), self.remedy(refused.cause));
            return Err(FilesError::Refused { path, certificate, refused, remedy });
        }
        let warnings = self.warnings(&identity);
        Ok(Loaded { identity, warnings })
    }

    /// What should be looked at, of files that can be used.
    pub fn warnings(&self, identity: &Identity) -> Vec<Warning> {
        let now = Date::from(identity.dates().now());
        let certificate = identity.certificate();
        let soon = certificate.not_after.days_since(now) < SOON_DAYS;
        let expires = soon.then(|| Warning::ExpiresSoon {
            path: self.certificate.clone(),
            certificate: Box::new(certificate),
            now,
        });
        let old = identity.next_revocation_list().filter(|due| *due < now).zip(self.revocations.clone());
        let old = old.map(|(due, path)| Warning::ListIsOld { path, due });
        self.open_key().into_iter().chain(expires).chain(old).collect()
    }

    fn credentials(&self, expected: &PeerName) -> Result<Credentials, FilesError> {
        let process = self.certificate.file_stem().unwrap_or_default().to_string_lossy();
        let issue = format!("`gaia certs issue` makes {process}.pem and .key for {expected}");
        let roots = some(&self.ca, "certificate", "it is the authority's, and the same for every process")?;
        let chain = some(&self.certificate, "certificate", &issue)?;
        let mut keys = some(&self.key, "private key", &issue)?;
        let revocations = match &self.revocations {
            Some(path) if path.exists() => some(path, "revocation list", "")?,
            Some(_) | None => Vec::new(),
        };
        Ok(Credentials { roots, chain, key: keys.swap_remove(0), revocations })
    }

    /// Finds the file that an error is about.
    fn blamed(&self, error: IdentityError, expected: &PeerName) -> FilesError {
        let certificate = || {
            let leaf = CertificateDer::from_pem_file(&self.certificate).ok()?;
            Certificate::read(&leaf).ok()
        };
        let path = match &error {
            IdentityError::Tls(rustls::Error::InconsistentKeys(_)) => {
                if let Some(found) = certificate() {
                    let (key, certificate) = (self.key.clone(), self.certificate.clone());
                    return FilesError::KeyMismatch { key, certificate, found: Box::new(found) };
                }
                &self.certificate
            }
            IdentityError::OtherName { found, .. } => {
                let (found, expected) = (found.clone(), expected.clone());
                return FilesError::OtherName { path: self.certificate.clone(), found, expected };
            }
            // rustls says this only of a key that it cannot read.
            IdentityError::Tls(rustls::Error::General(_)) => &self.key,
            IdentityError::Tls(_) | IdentityError::Roots(_) => &self.ca,
            IdentityError::Revocations(_) => self.revocations.as_ref().unwrap_or(&self.ca),
            IdentityError::NoCertificate
            | IdentityError::Unreadable { .. }
            | IdentityError::NotOnePeer { .. } => &self.certificate,
        };
        FilesError::Identity { path: path.clone(), source: error }
    }

    fn remedy(&self, cause: Cause) -> String {
        let process = self.certificate.file_stem().unwrap_or_default().to_string_lossy();
        let renew = format!("renew it with `gaia certs renew {process}`");
        match cause {
            Cause::UnknownAuthority => {
                format!("{} must be of the authority that signed it", self.ca.display())
            }
            Cause::NotYetValid => "set the clock of this machine".to_owned(),
            Cause::Expired
            | Cause::Revoked
            | Cause::Name
            | Cause::Role
            | Cause::NoCertificate
            | Cause::Plaintext
            | Cause::Protocol
            | Cause::Other => renew,
        }
    }

    /// Group is let be: where secrets are mounted for a group, as in Kubernetes, the group is ours.
    #[cfg(unix)]
    fn open_key(&self) -> Option<Warning> {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&self.key).ok()?.permissions().mode() & 0o7777;
        (mode & 0o004 != 0).then(|| Warning::KeyIsOpen { path: self.key.clone(), mode })
    }

    #[cfg(not(unix))]
    fn open_key(&self) -> Option<Warning> {
        None
    }
}

/// Everything of one kind in a PEM file, and at least one.
fn some<T: PemObject>(path: &Path, expected: &'static str, remedy: &str) -> Result<Vec<T>, FilesError> {
    let text = fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FilesError::Missing { path: path.to_owned(), remedy: remedy.to_owned() },
        _ => FilesError::Read { path: path.to_owned(), source },
    })?;
    let items: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&text).collect();
    match items {
        Ok(items) if !items.is_empty() => Ok(items),
        Ok(_) | Err(_) => Err(FilesError::NotPem { path: path.to_owned(), expected }),
    }
}
