//! An authority and what it has issued, as files of one directory.
//!
//! Kind: driver.
//!
//! `ca.pem`, `ca.key`, `crl.pem`, `issued.json`, and `NAME.pem` and `NAME.key` for each process.
//! What is issued is recorded first and written afterwards, and a key before its certificate:
//! whatever is interrupted, nothing is valid that the record does not know, and no certificate is
//! there without its key.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use datacenter::identity::Date;
use thiserror::Error;

use super::record::{Entry, Record};
use super::write::{Readers, WriteError, write};
use super::{Authority, ProcessName, Validity};

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const LIST: &str = "crl.pem";
const RECORD: &str = "issued.json";

/// Why `gaia certs` did not do what it was asked for.
#[derive(Debug, Error)]
pub enum CertsError {
    /// Something would be lost.
    #[error("{path} exists already; {remedy}", path = path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// No authority is in this directory.
    #[error("there is no authority in {directory}; `gaia certs init` makes one", directory = directory.display())]
    NoAuthority {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// What was issued is not known.
    #[error(
        "{path} is missing; it lists what was issued and what is revoked, and without it everything \
         revoked would become valid: put it back from a backup",
        path = path.display()
    )]
    NoRecord {
        /// The record.
        path: PathBuf,
    },
    /// The record cannot be read.
    #[error("{path} is damaged", path = path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// How it is.
        source: serde_json::Error,
    },
    /// The revocation list cannot be used.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing was issued under this name or serial number.
    #[error("{name:?} is neither a name nor a serial number of an issued certificate{known}")]
    Unknown {
        /// What was given.
        name: String,
        /// Names that there are, as a sentence.
        known: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The authority cannot sign.
    #[error("cannot sign with the authority in {directory}", directory = directory.display())]
    Sign {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
}

impl CertsError {
    /// Whether the operator can put it right, as opposed to a disk that failed.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Exists { .. }
            | Self::NoAuthority { .. }
            | Self::NoRecord { .. }
            | Self::Record { .. }
            | Self::List { .. }
            | Self::Unknown { .. } => true,
            Self::Read { .. } | Self::Write(_) | Self::Sign { .. } => false,
        }
    }
}

/// What revoking a name did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// What was named.
    pub name: String,
    /// The serial numbers that are revoked now and were not before.
    pub serials: Vec<String>,
}

/// The directory of an authority.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`, whether or not there is something in it yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.path.join(CA_CERTIFICATE)
    }

    /// The revocation list.
    pub fn list(&self) -> PathBuf {
        self.path.join(LIST)
    }

    /// The certificate of a process.
    pub fn certificate(&self, process: &ProcessName) -> PathBuf {
        self.path.join(format!("{process}.pem"))
    }

    /// The private key of a process.
    pub fn key(&self, process: &ProcessName) -> PathBuf {
        self.path.join(format!("{process}.key"))
    }

    /// Makes an authority and an empty revocation list. With `force`, in the place of another one,
    /// of which no certificate is accepted any more.
    ///
    /// # Errors
    ///
    /// See [`CertsError`].
    pub fn init(&self, validity: Validity, force: bool) -> Result<(), CertsError> {
        let key = self.path.join(CA_KEY);
        for path in [&key, &self.ca(), &self.path.join(RECORD)] {
            if path.exists() && !force {
                let remedy = "--force replaces the authority, and with it every certificate";
                return Err(CertsError::Exists { path: path.clone(), remedy });
            }
        }
        let unwritable = |source| CertsError::Read { path: self.path.clone(), source };
        fs::create_dir_all(&self.path).map_err(unwritable)?;
        let (authority, issued) = Authority::create(validity).map_err(|source| self.unsigned(source))?;
        self.publish(&authority, &mut Record::default(), validity.now)?;
        write(&key, &issued.key, Readers::Owner)?;
        write(&self.ca(), &issued.certificate, Readers::Everybody)?;
        Ok(())
    }

    /// Issues a certificate and key to each of `processes`; none if one of them has one and `force`
    /// is not given.
    ///
    /// # Errors
    ///
    /// See [`CertsError`].
    pub fn issue(
        &self,
        processes: &[ProcessName],
        validity: Validity,
        force: bool,
    ) -> Result<(), CertsError> {
        for process in processes {
            for path in [self.key(process), self.certificate(process)] {
                if path.exists() && !force {
                    let remedy = "`gaia certs renew` or --force replaces it";
                    return Err(CertsError::Exists { path, remedy });
                }
            }
        }
        let (authority, mut record, _lock) = self.open()?;
        for process in processes {
            let issued = authority.issue(process, validity).map_err(|source| self.unsigned(source))?;
            record.certificates.push(Entry {
                name: process.to_string(),
                serial: issued.serial,
                not_after: issued.not_after.0,
                revoked: None,
            });
            self.save(&record)?;
            write(&self.key(process), &issued.key, Readers::Owner)?;
            write(&self.certificate(process), &issued.certificate, Readers::Everybody)?;
        }
        self.publish(&authority, &mut record, validity.now)
    }

    /// Revokes everything that is valid under each of `names`, which may also be serial numbers or
    /// paths of certificate files; all or, if one is unknown, none.
    ///
    /// # Errors
    ///
    /// See [`CertsError`].
    pub fn revoke(&self, names: &[String], now: Date) -> Result<Vec<Revoked>, CertsError> {
        let (authority, mut record, _lock) = self.open()?;
        let mut all = Vec::new();
        for name in names {
            let file = Path::new(name).file_name().and_then(|file| file.to_str()).unwrap_or(name);
            let bare = file.strip_suffix(".pem").or_else(|| file.strip_suffix(".key")).unwrap_or(file);
            // Serial numbers as other programs show them: 4A:1F:...
            let serial = bare.replace(':', "").to_ascii_lowercase();
            let serials = record.revoke(bare, now).or_else(|| record.revoke(&serial, now));
            let serials = serials.ok_or_else(|| unknown(name, &record))?;
            all.push(Revoked { name: bare.to_owned(), serials });
        }
        self.publish(&authority, &mut record, now)?;
        Ok(all)
    }

    /// The processes whose newest certificate ends within `seconds`, or has ended. Those that are
    /// revoked are none: who wants them back issues or renews them by name.
    ///
    /// # Errors
    ///
    /// See [`CertsError`].
    pub fn due(&self, seconds: u64, now: Date) -> Result<Vec<ProcessName>, CertsError> {
        let (_, record, _lock) = self.open()?;
        let until = now.0.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
        let is_due = |process: &ProcessName| {
            record.newest(process).is_some_and(|entry| entry.revoked.is_none() && entry.not_after <= until)
        };
        Ok(record.processes().into_iter().filter(is_due).collect())
    }

    /// Checks that something was issued to each of `processes`.
    ///
    /// # Errors
    ///
    /// See [`CertsError`].
    pub fn known(&self, processes: &[ProcessName]) -> Result<(), CertsError> {
        let (_, record, _lock) = self.open()?;
        match processes.iter().find(|process| record.newest(process).is_none()) {
            Some(process) => Err(unknown(&process.to_string(), &record)),
            None => Ok(()),
        }
    }

    /// The authority and its record; nobody else changes them until the file is closed.
    fn open(&self) -> Result<(Authority, Record, File), CertsError> {
        let (certificate, key) = (self.ca(), self.path.join(CA_KEY));
        if !certificate.exists() || !key.exists() {
            return Err(CertsError::NoAuthority { directory: self.path.clone() });
        }
        let unreadable = |source| CertsError::Read { path: key.clone(), source };
        let lock = File::open(&key).map_err(unreadable)?;
        lock.lock().map_err(unreadable)?;
        let authority = Authority::load(&read(&certificate)?, &read(&key)?);
        let authority = authority.map_err(|source| self.unsigned(source))?;
        let path = self.path.join(RECORD);
        if !path.exists() {
            return Err(CertsError::NoRecord { path });
        }
        let record = serde_json::from_str(&read(&path)?);
        let record = record.map_err(|source| CertsError::Record { path, source })?;
        Ok((authority, record, lock))
    }

    fn save(&self, record: &Record) -> Result<(), CertsError> {
        let text = serde_json::to_string_pretty(record).expect("a record is plain data");
        Ok(write(&self.path.join(RECORD), &format!("{text}\n"), Readers::Everybody)?)
    }

    /// Signs the next revocation list.
    fn publish(&self, authority: &Authority, record: &mut Record, now: Date) -> Result<(), CertsError> {
        record.list_number += 1;
        self.save(record)?;
        let list = authority.revocation_list(&record.revoked(), record.list_number, now);
        let list = list.map_err(|source| self.unsigned(source))?;
        Ok(write(&self.list(), &list, Readers::Everybody)?)
    }

    fn unsigned(&self, source: rcgen::Error) -> CertsError {
        CertsError::Sign { directory: self.path.clone(), source }
    }
}

fn unknown(name: &str, record: &Record) -> CertsError {
    let names: Vec<_> = record.processes().iter().map(ToString::to_string).collect();
    let nearest = crate::settings::suggest::nearest(name, names.iter().map(String::as_str));
    let known = nearest.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default();
    CertsError::Unknown { name: name.to_owned(), known }
}

fn read(path: &Path) -> Result<String, CertsError> {
    fs::read_to_string(path).map_err(|source| CertsError::Read { path: path.to_owned(), source })
}
