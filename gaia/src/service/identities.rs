//! Who a process is: the certificates of its parts, taken up anew when their files change.
//!
//! Kind: driver.

use std::sync::Arc;
use std::time::Duration;

use datacenter::identity::{Dates, Identity, PeerName, Role};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::warn;

use super::ServiceError;
use super::part::Part;
use crate::job::region::Region;
use crate::service::certificates::{ProcessName, TlsFiles, Watcher};

/// How often certificates are looked at. What has changed is read a moment later, once it has
/// settled, so that a revocation counts within 10 s of its list's arrival.
const LOOK_AT_CERTIFICATES: Duration = Duration::from_secs(5);

/// Who this process is, by the certificates of its parts. They are watched, and replaced when their
/// files change.
pub(super) struct Identities {
    servers: Vec<(u16, Identity)>,
    pub(super) worker: Option<Identity>,
}

impl Identities {
    pub(super) fn load(region: &Region, part: Part) -> Result<Self, ServiceError> {
        let hurry = Arc::new(Notify::new());
        let load = |role, index| {
            let peer = PeerName::new(&region.name, role).expect("configuration checks region names");
            let files = TlsFiles::of(&region.tls, &ProcessName::new(peer.clone(), index));
            let (watcher, warnings) = Watcher::start(files, &peer, Dates::System)?;
            for warning in warnings {
                warn!("{warning}");
            }
            let identity = watcher.identity().clone();
            tokio::spawn(watcher.run(LOOK_AT_CERTIFICATES, hurry.clone()));
            Ok::<_, ServiceError>(identity)
        };
        let servers = part.servers(region).into_iter();
        let servers = servers
            .map(|index| Ok((index, load(Role::Server, index.into())?)))
            .collect::<Result<_, ServiceError>>()?;
        let worker = match part {
            Part::Worker(index) if !region.tls.plaintext_lan => Some(load(Role::Worker, index)?),
            Part::Region | Part::Server(_) | Part::Worker(_) => None,
        };
        let mut hangup = signal(SignalKind::hangup()).map_err(ServiceError::Signals)?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                hurry.notify_waiters();
            }
        });
        Ok(Self { servers, worker })
    }

    pub(super) fn server(&self, index: u16) -> Option<&Identity> {
        self.servers.iter().find_map(|(known, identity)| (*known == index).then_some(identity))
    }

    pub(super) fn all(&self) -> Vec<Identity> {
        self.servers.iter().map(|(_, identity)| identity.clone()).chain(self.worker.clone()).collect()
    }
}
