//! Where a peer is: an address, or a name that is looked up each time anew.
//!
//! Kind: driver.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::driver::names::Names;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// As a number.
    Socket(SocketAddr),
    /// As a name, `host:port`. Names move, so it is looked up before each try.
    Name(String),
}

impl Address {
    /// What it stands for now, as a socket at `local` can reach it: one for both families speaks of IPv4 in mapped
    /// addresses.
    ///
    /// # Errors
    ///
    /// If the name cannot be looked up, or has no address of the socket's family.
    pub async fn resolve(&self, local: SocketAddr) -> io::Result<Vec<SocketAddr>> {
        self.resolve_with(&Names::System, local).await
    }

    /// The same, where `names` know what names stand for.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub async fn resolve_with(&self, names: &Names, local: SocketAddr) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = match self {
            Self::Socket(address) => vec![*address],
            Self::Name(name) => names.look_up(name).await?,
        };
        let reachable: Vec<_> = found.iter().filter_map(|address| in_family(*address, local)).collect();
        if reachable.is_empty() {
            let families = "it has no address of the family of our own socket";
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{families}, {local}")));
        }
        Ok(reachable)
    }
}

fn in_family(address: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
    match (address, local) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => Some(address),
        (SocketAddr::V6(v6), SocketAddr::V4(_)) => {
            let v4 = v6.ip().to_ipv4_mapped()?;
            Some(SocketAddr::new(IpAddr::V4(v4), v6.port()))
        }
        // Only a socket bound to all addresses takes both families.
        (SocketAddr::V4(v4), SocketAddr::V6(bound)) => {
            let is_dual = *bound.ip() == Ipv6Addr::UNSPECIFIED;
            is_dual.then(|| SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port()))
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Socket))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_put_as_the_socket_can_reach_them() {
        let table = [
            ("10.0.0.1:5", "0.0.0.0:1", Some("10.0.0.1:5")),
            ("10.0.0.1:5", "[::]:1", Some("[::ffff:10.0.0.1]:5")),
            ("10.0.0.1:5", "[2001:db8::2]:1", None),
            ("[2001:db8::1]:5", "[::]:1", Some("[2001:db8::1]:5")),
            ("[2001:db8::1]:5", "0.0.0.0:1", None),
            ("[::ffff:10.0.0.1]:5", "0.0.0.0:1", Some("10.0.0.1:5")),
        ];
        for (address, local, expected) in table {
            let found = in_family(address.parse().unwrap(), local.parse().unwrap());
            assert_eq!(found, expected.map(|e| e.parse().unwrap()), "{address} from {local}");
        }
    }

    #[test]
    fn what_is_no_number_is_a_name() {
        let number: Address = "[::1]:4433".parse().unwrap();
        assert_eq!(number, Address::Socket("[::1]:4433".parse().unwrap()));
        let name: Address = "ireland.example.net:4433".parse().unwrap();
        assert_eq!(name.to_string(), "ireland.example.net:4433");
        assert!(matches!(name, Address::Name(_)));
    }
}
