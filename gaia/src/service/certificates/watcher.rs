//! Reads the files of an identity again when they change.
//!
//! Kind: driver.
//!
//! A few calls of `stat` every some seconds, since that works on every file system and through the
//! symbolic links of mounted secrets. Key and certificate are two files and cannot change at once,
//! so a change is taken up only when nothing has changed since the last look.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datacenter::identity::{Date, Dates, Identity, PeerName};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::files::{FilesError, Loaded, TlsFiles, Warning};
use crate::human::with_causes;

/// For how long nothing may change before what has changed is read: certificate and key are written
/// one after the other.
const SETTLING: Duration = Duration::from_secs(1);

/// What a look at the files has led to.
#[derive(Debug)]
pub enum Reload {
    /// They are used from now on.
    Replaced(Vec<Warning>),
    /// They have changed and cannot be used; those from before still are.
    Kept(FilesError),
}

/// One file as `stat` sees it; nothing if it is not there.
type Stamp = Option<(SystemTime, u64)>;

/// Watches the files of an identity that is in use.
#[derive(Debug)]
pub struct Watcher {
    files: TlsFiles,
    identity: Identity,
    /// What was there when the files were last read.
    read: Vec<Stamp>,
    /// What was there at the last look.
    seen: Vec<Stamp>,
    /// Whether there was a revocation list when they could be used.
    had_list: bool,
    /// When the last warning about an end was given.
    warned: Option<Date>,
}

impl Watcher {
    /// Reads the files of `expected`, and watches them from then on.
    ///
    /// # Errors
    ///
    /// When they cannot be used.
    pub fn start(
        files: TlsFiles,
        expected: &PeerName,
        dates: Dates,
    ) -> Result<(Self, Vec<Warning>), FilesError> {
        // First, so that what changes while they are read is a change.
        let seen = stamps(&files);
        let Loaded { identity, warnings } = files.load(expected, dates)?;
        let had_list = has_list(&files);
        Ok((Self { files, identity, read: seen.clone(), seen, had_list, warned: None }, warnings))
    }

    /// What is in use, now and after every reload.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Looks whether the files have changed, and reads them if they have settled.
    pub fn look(&mut self) -> Option<Reload> {
        let now = stamps(&self.files);
        let settled = now == self.seen;
        self.seen = now;
        (settled && self.seen != self.read).then(|| self.reload())
    }

    /// Reads the files now.
    pub fn reload(&mut self) -> Reload {
        self.seen = stamps(&self.files);
        // Also if they turn out to be broken: they are not read again until they change.
        self.read.clone_from(&self.seen);
        if self.had_list && !has_list(&self.files) {
            // Somebody's accident should not make valid again what was revoked. A restart takes it
            // for what it is.
            let path = self.files.revocations.clone().unwrap_or_default();
            let remedy = "put it back, or restart if nothing is to be revoked any more".to_owned();
            return Reload::Kept(FilesError::Missing { path, remedy });
        }
        match self.files.reload(&self.identity) {
            Ok(warnings) => {
                self.had_list = has_list(&self.files);
                Reload::Replaced(warnings)
            }
            Err(error) => Reload::Kept(error),
        }
    }

    /// Whether the last look found changes that may not be all.
    fn is_unsettled(&self) -> bool {
        self.seen != self.read
    }

    /// Looks every so often, and again soon when something has changed, and reads at once when
    /// `hurry` is notified, as SIGHUP should do. Says what comes of it in the log; once a day also
    /// that a certificate ends soon. Never ends.
    pub async fn run(mut self, every: Duration, hurry: Arc<Notify>) {
        loop {
            let pause = if self.is_unsettled() { every.min(SETTLING) } else { every };
            let reload = tokio::select! {
                biased;
                () = hurry.notified() => Some(self.reload()),
                () = tokio::time::sleep(pause) => self.look(),
            };
            match reload {
                Some(Reload::Replaced(warnings)) => {
                    let certificate = self.identity.certificate();
                    info!(%certificate, not_after = %certificate.not_after, "certificates were read again");
                    // That one ends soon is said below.
                    let is_new = |warning: &&Warning| matches!(warning, Warning::Refused { .. });
                    warnings.iter().filter(is_new).for_each(|warning| warn!("{warning}"));
                    self.warned = None;
                }
                Some(Reload::Kept(error)) => {
                    let error = with_causes(&error);
                    warn!(%error, "certificates have changed and cannot be used; those from before still are");
                }
                None => {}
            }
            self.warn();
        }
    }

    fn warn(&mut self) {
        let now = Date::from(self.identity.dates().now());
        if self.warned.is_none_or(|last| now.days_since(last) >= 1) {
            self.warned = Some(now);
            for warning in self.files.warnings(&self.identity) {
                warn!("{warning}");
            }
        }
    }
}

fn has_list(files: &TlsFiles) -> bool {
    files.revocations.as_ref().is_some_and(|path| path.exists())
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let TlsFiles { ca, certificate, key, revocations } = files;
    let paths: Vec<&PathBuf> = [ca, certificate, key].into_iter().chain(revocations).collect();
    paths.into_iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, later, process, region};
    use super::*;

    fn start(directory: &super::super::Directory) -> Watcher {
        let name = process("virginia-server-0");
        let files = TlsFiles::in_directory(directory.path(), &name);
        Watcher::start(files, name.peer(), Dates::Fixed(NOW.0.unsigned_abs())).unwrap().0
    }

    #[test]
    fn a_renewal_is_taken_up_once_it_has_settled() {
        let (_temporary, directory) = region();
        let mut watcher = start(&directory);
        let (identity, before) = (watcher.identity().clone(), watcher.identity().certificate().serial);
        assert!(watcher.look().is_none());
        directory.issue(&[process("virginia-server-0")], later(0, 60), true).unwrap();
        assert!(watcher.look().is_none(), "it may still be changing");
        assert!(matches!(watcher.look(), Some(Reload::Replaced(_))));
        assert_ne!(identity.certificate().serial, before, "clones see it");
        assert!(watcher.look().is_none());
    }

    #[test]
    fn what_is_broken_is_not_taken_up() {
        let (_temporary, directory) = region();
        let mut watcher = start(&directory);
        let before = watcher.identity().certificate();
        let (key, list) = (directory.key(&process("virginia-server-0")), directory.list());
        let good = fs::read(&key).unwrap();
        fs::write(&key, "half").unwrap();
        let Reload::Kept(error) = watcher.reload() else { panic!("it is broken") };
        assert!(error.to_string().ends_with("virginia-server-0.key holds no private key in PEM form"));
        assert!(watcher.look().is_none(), "once is enough");
        fs::write(&key, good).unwrap();
        assert!(matches!(watcher.reload(), Reload::Replaced(_)));
        assert_eq!(watcher.identity().certificate(), before);

        fs::remove_file(&list).unwrap();
        for _ in 0..2 {
            assert!(
                matches!(watcher.reload(), Reload::Kept(FilesError::Missing { path, .. }) if path == list)
            );
        }
    }

    #[test]
    fn a_list_is_taken_up_although_it_names_ourselves() {
        let (_temporary, directory) = region();
        let mut watcher = start(&directory);
        let other = std::fs::read(directory.certificate(&process("virginia-worker-0"))).unwrap();
        let other = rustls::pki_types::pem::PemObject::from_pem_slice(&other).unwrap();
        directory.revoke(&["virginia-server-0".into(), "virginia-worker-0".into()], NOW).unwrap();
        let Reload::Replaced(warnings) = watcher.reload() else { panic!("the list is good") };
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(warning.to_string().ends_with(": it is revoked"), "{warning}");
        assert!(watcher.identity().is_revoked(&other));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_counts_soon_after_the_look_that_found_it() {
        let (_temporary, directory) = region();
        let watcher = start(&directory);
        let mut generations = watcher.identity().clone().generations();
        let started = tokio::time::Instant::now();
        let every = Duration::from_secs(5);
        let watching = tokio::spawn(watcher.run(every, Arc::default()));
        // Just after a look.
        tokio::time::sleep(every + Duration::from_millis(1)).await;
        directory.revoke(&["virginia-worker-0".into()], NOW).unwrap();
        generations.changed().await.unwrap();
        assert_eq!(started.elapsed(), 2 * every + SETTLING);
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_hangup_hurries() {
        let (_temporary, directory) = region();
        let watcher = start(&directory);
        let identity = watcher.identity().clone();
        let mut generations = identity.generations();
        let hurry = Arc::new(Notify::new());
        let watching = tokio::spawn(watcher.run(Duration::from_secs(3600), hurry.clone()));
        hurry.notify_one();
        generations.changed().await.unwrap();
        watching.abort();
    }
}
