//! Whether each process can show who it is.

use datacenter::identity::{Date, Dates, Identity, PeerName, Role};

use super::Finding;
use crate::human::with_causes;
use crate::job::region::Region;
use crate::service::Part;
use crate::service::certificates::{FilesError, ProcessName, TlsFiles, Warning};

/// Looks at the certificates that `part` needs; yields the servers' identities, for those that have
/// one.
pub(super) fn findings(region: &Region, part: Part) -> (Vec<Finding>, Vec<(u16, Identity)>) {
    let mut findings = Vec::new();
    let mut identities = Vec::new();
    let mut ends = Vec::new();
    let mut without = Vec::new();
    for (role, index) in processes(region, part) {
        let peer = PeerName::new(&region.name, role).expect("configuration checks region names");
        let process = ProcessName::new(peer.clone(), index);
        let loaded = match TlsFiles::of(&region.tls, &process).load(&peer, Dates::System) {
            Ok(loaded) => loaded,
            // `gaia run` has its workers inside, which show nothing to anybody.
            Err(FilesError::Missing { .. }) if part == Part::Region && role == Role::Worker => {
                without.push(index.to_string());
                continue;
            }
            Err(error) => {
                findings.push(Finding::failed(&process.to_string(), with_causes(&error)));
                continue;
            }
        };
        for warning in &loaded.warnings {
            findings.push(match warning {
                Warning::KeyIsOpen { .. } | Warning::Refused { .. } => {
                    Finding::failed(&process.to_string(), warning)
                }
                Warning::ExpiresSoon { .. } | Warning::ListIsOld { .. } => {
                    Finding::ok(&process.to_string(), warning)
                }
            });
        }
        ends.push(loaded.identity.certificate().not_after);
        if role == Role::Server {
            identities.push((index as u16, loaded.identity));
        }
    }
    if let Some(first) = ends.iter().min() {
        let (count, here) = (ends.len(), first.from_here(Date::from(Dates::System.now())));
        let can = format!("{count} can be shown; the first to expire does so on {first}, {here}");
        findings.push(Finding::ok("certificates", can));
    }
    if !without.is_empty() {
        let text = format!(
            "none for worker {}: needed where workers run by themselves, not for `gaia run`",
            without.join(", ")
        );
        findings.push(Finding::ok("certificates", text));
    }
    (findings, identities)
}

/// The processes that show a certificate to somebody.
fn processes(region: &Region, part: Part) -> Vec<(Role, u32)> {
    let servers = (0..region.servers).map(|index| (Role::Server, u32::from(index)));
    // Without other regions and with a plaintext LAN nobody asks; servers listen to both all the
    // same.
    let workers =
        (0..region.workers()).filter(|_| !region.tls.plaintext_lan).map(|index| (Role::Worker, index));
    servers.chain(workers).filter(|(role, index)| part.is(*role, *index)).collect()
}
