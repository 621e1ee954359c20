//! What is known of the paths by which peers come that dial us.
//!
//! A connection's controller and first windows are chosen with its first packet, and only its certificate tells later whose
//! it is. So there are three answers, each as good as can be had: a peer that dials from an address where we know it to be
//! gets the settings of its path; anybody else those that suit all peers, and once its certificate has named it, the windows
//! of its path. What cannot follow then is what a controller starts from, and that is soon measured.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use datacenter::DatacenterId;
use quinn::{Connection, VarInt};

use crate::transport::{Carries, Path, Settings};

/// The paths to peers, for connections that they open.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    by_address: BTreeMap<SocketAddr, Path>,
    by_peer: BTreeMap<DatacenterId, Path>,
}

impl Paths {
    /// From now on, `path` is the one to this datacenter.
    pub fn know(&mut self, datacenter: DatacenterId, path: Path) {
        self.by_peer.insert(datacenter, path);
    }

    /// From now on, who dials from `address` comes by `path`.
    pub fn know_address(&mut self, address: SocketAddr, path: Path) {
        self.by_address.insert(canonical(address), path);
    }

    /// The path from `address`, if anything is known of it before somebody has said who it is.
    fn from(&self, address: SocketAddr) -> Option<Path> {
        self.by_address.get(&canonical(address)).copied()
    }

    /// Where peers are known to be.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.by_address.keys().copied()
    }

    /// The settings of a connection that somebody opens from `address`.
    pub fn accepted(&self, address: SocketAddr, carries: Carries) -> Settings {
        match self.from(address) {
            Some(path) => path.accepted(carries),
            None => Path::accepted_from_any(&self.by_peer.values().copied().collect::<Vec<_>>(), carries),
        }
    }

    /// The path of a connection, now that its certificate has said whose it is; the connection gets its windows.
    pub fn settle(&self, connection: &Connection, datacenter: DatacenterId) -> Path {
        if let Some(path) = self.from(connection.remote_address()) {
            return path;
        }
        let Some(path) = self.by_peer.get(&datacenter).copied() else { return Path::default() };
        let settings = path.accepted(Carries::Updates);
        connection.set_send_window(settings.send_window_bytes);
        let window = VarInt::from_u64(settings.connection_window_bytes).unwrap_or(VarInt::MAX);
        connection.set_receive_window(window);
        path
    }
}

/// A socket for both families sees IPv4 in mapped addresses.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::transport::Congestion;

    const UPDATES: Carries = Carries::Updates;

    #[test]
    fn an_address_tells_more_than_nothing_and_all_peers_more_than_none() {
        let path = |rate, millis| Path {
            rate_bytes_per_sec: Some(rate),
            round_trip: Some(Duration::from_millis(millis)),
            congestion: Congestion::Cubic,
            ..Path::default()
        };
        let (near, far) = (path(125_000_000, 10), path(12_500_000, 200));
        let mut paths = Paths::default();
        let somewhere: SocketAddr = "192.0.2.7:9".parse().unwrap();
        assert_eq!(paths.accepted(somewhere, UPDATES), Path::default().accepted(UPDATES));
        paths.know(DatacenterId(1), near);
        assert_eq!(paths.accepted(somewhere, UPDATES), near.accepted(UPDATES));
        paths.know(DatacenterId(2), far);
        let any = paths.accepted(somewhere, UPDATES);
        assert_eq!(any, Path::accepted_from_any(&[near, far], UPDATES));
        assert_eq!((any.congestion, any.send_window_bytes), (Congestion::Cubic, 10_000_000));
        paths.know_address("10.0.0.1:4433".parse().unwrap(), far);
        assert_eq!(paths.accepted("[::ffff:10.0.0.1]:4433".parse().unwrap(), UPDATES), far.accepted(UPDATES));
        assert_eq!(paths.accepted("10.0.0.1:4434".parse().unwrap(), UPDATES), any);
    }
}
