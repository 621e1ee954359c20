//! Whether the ports of a region's processes are free on this machine, and names lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use datacenter::identity::Role;
use wan::driver::address::Address;

use super::Finding;
use crate::job::region::Region;
use crate::service::Part;
use crate::service::status::fetch::{Target, Url, fetch};

/// How long a process of our own may take to say that it is one.
const ADMIN_LIMIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// Somewhere that a process listens.
struct Port {
    transport: Transport,
    address: Address,
    key: &'static str,
    /// The server, where it is a server's WAN socket.
    wan_of: Option<u16>,
}

/// What is left open of the WAN's sockets, for whoever looks at peers.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) sockets: BTreeMap<u16, UdpSocket>,
    /// Processes of this region that run already.
    pub(super) running: Vec<String>,
}

/// Looks at the ports of `part`; those of the WAN stay open.
pub(super) async fn findings(region: &Region, part: Part) -> (Vec<Finding>, Open) {
    let mut open = Open { running: running(region).await, ..Open::default() };
    let (mut findings, mut free) = (Vec::new(), BTreeMap::<_, BTreeSet<_>>::new());
    let (mut seen, mut shared) = (BTreeSet::new(), false);
    for port in ports(region, part) {
        let name = port.transport.name();
        // A name that leads nowhere is a finding of its own.
        let Ok(addresses) = port.address.resolve(any()).await else { continue };
        let address = match port.address {
            Address::Socket(address) => address,
            Address::Name(_) => addresses[0],
        };
        if !seen.insert((port.transport, address)) {
            shared = true;
            continue;
        }
        match bind(port.transport, address) {
            Ok(socket) => {
                free.entry(name).or_default().insert(address.port());
                open.sockets.extend(port.wan_of.zip(socket));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !open.running.is_empty() => {
                let found = format!("{name} {address} is in use by this region, which runs");
                findings.push(Finding::ok("ports", found));
            }
            Err(error) => {
                findings.push(Finding::failed("ports", refused(&error, name, address, port.key)));
            }
        }
    }
    if !free.is_empty() {
        let listed = |(name, ports): (&&str, &BTreeSet<u16>)| {
            format!("{name} {}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", "))
        };
        let free = free.iter().map(listed).collect::<Vec<_>>().join("; ");
        findings.push(Finding::ok("ports", format!("free: {free}")));
    }
    if shared {
        let text =
            "several processes listen on the same address: each needs a machine, or a container, of its own";
        findings.push(Finding::ok("ports", text));
    }
    (findings, open)
}

fn refused(error: &io::Error, name: &str, address: SocketAddr, key: &str) -> String {
    let elsewhere = match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "; check each process where it runs, with --server N or --worker N"
        }
        _ => "",
    };
    format!("cannot listen on {name} {address} ({key}): {}{elsewhere}", why_not_listening(error))
}

/// Why a socket could not be opened, and what to do about it.
pub(crate) fn why_not_listening(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "it is in use; stop what listens there, or choose another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "it is no address of this machine; say where to listen, or run the process where the address is"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}; choose a port from 1024 on, or give the process the right to it")
        }
        _ => format!("{error}; choose another address"),
    }
}

fn bind(transport: Transport, address: SocketAddr) -> io::Result<Option<UdpSocket>> {
    match transport {
        Transport::Tcp => TcpListener::bind(address).map(|_| None),
        Transport::Udp => UdpSocket::bind(address).map(Some),
    }
}

fn ports(region: &Region, part: Part) -> Vec<Port> {
    let tcp = |address: Address, key| Port { transport: Transport::Tcp, address, key, wan_of: None };
    let mut ports = Vec::new();
    let servers = (0..region.servers).filter(|index| part.is(Role::Server, u32::from(*index)));
    for index in servers {
        let at = usize::from(index);
        ports.push(match &region.server_listen {
            Some(listen) => tcp(listen[at].into(), "servers.listen"),
            None => tcp(region.server_addresses[at].clone(), "servers.addresses"),
        });
        let wan = region.wan_listen.iter().map(|listen| listen[at].into());
        let (transport, key) = (Transport::Udp, "wan.listen");
        ports.extend(wan.map(|address| Port { transport, address, key, wan_of: Some(index) }));
        ports.extend(admin(region, &region.admin.servers, at).map(|address| tcp(address, "admin.servers")));
    }
    for index in (0..region.workers()).filter(|index| part.is(Role::Worker, *index)) {
        let admin = admin(region, &region.admin.workers, index as usize);
        ports.extend(admin.map(|address| tcp(address, "admin.workers")));
    }
    ports
}

fn admin(region: &Region, addresses: &Option<Vec<Address>>, at: usize) -> Option<Address> {
    let own = addresses.as_ref().map(|addresses| addresses[at].clone());
    region.admin.listen.map(Address::Socket).or(own)
}

/// The processes of this region that answer.
async fn running(region: &Region) -> Vec<String> {
    let addresses = region.admin.servers.iter().chain(&region.admin.workers).flatten();
    let target = |address: &Address| address.to_string().parse::<Url>().map(Target::from).ok();
    let targets: Vec<_> = addresses.filter_map(target).collect();
    let fetched = fetch(&targets, ADMIN_LIMIT).await;
    let ours = fetched.into_iter().filter_map(|fetched| fetched.status.ok());
    ours.filter(|status| status.datacenter == region.name).map(|status| status.role).collect()
}

/// Looks all names up.
pub(super) async fn names(region: &Region) -> Vec<Finding> {
    let of = |key: String, addresses: &[Address]| {
        addresses.iter().map(|address| (address.clone(), key.clone())).collect::<Vec<_>>()
    };
    let mut all = of("servers.addresses".to_owned(), &region.server_addresses);
    all.extend(of("admin.servers".to_owned(), region.admin.servers.as_deref().unwrap_or_default()));
    all.extend(of("admin.workers".to_owned(), region.admin.workers.as_deref().unwrap_or_default()));
    for peer in &region.peers {
        all.extend(of(format!("peers.{}.servers", peer.name), &peer.servers.concat()));
    }
    let (mut findings, mut seen) = (Vec::new(), BTreeSet::new());
    for (address, key) in all {
        if matches!(address, Address::Socket(_)) || !seen.insert(address.to_string()) {
            continue;
        }
        if let Err(error) = address.resolve(any()).await {
            let text = format!(
                "cannot look up {address} ({key}): {error}; correct it, or ask those who run the DNS"
            );
            findings.push(Finding::failed("names", text));
        }
    }
    let found = seen.len() - findings.len();
    if found > 0 {
        findings.push(Finding::ok("names", format!("{found} can be looked up")));
    }
    findings
}

/// Where a socket for both families would be.
fn any() -> SocketAddr {
    SocketAddr::from(([0u16; 8], 0))
}
