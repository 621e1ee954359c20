//! The sockets of a server.
//!
//! Kind: driver.

use std::net::{SocketAddr, UdpSocket};

use datacenter::causes::with_causes;
use tokio::net::TcpListener;
use tracing::info;
use wan::driver::address::Address;

use crate::service::ServiceError;
use crate::service::setup::Setup;

/// What the kernel may keep of a WAN socket's datagrams: a burst of a fast link while this process
/// is busy.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// The sockets of a server, opened before anything else so that a port that is taken shows at once.
pub(in crate::service) struct Sockets {
    pub(super) lan: Option<TcpListener>,
    pub(super) wan: UdpSocket,
    pub(super) for_workers: bool,
}

impl Sockets {
    /// Opens the sockets of server `index`. Where its workers are in the same process, its listener is
    /// for operators alone, and it does without where there can be none.
    pub(in crate::service) async fn open(
        setup: &Setup,
        index: u16,
        for_workers: bool,
    ) -> Result<Self, ServiceError> {
        let region = &setup.region;
        let at = usize::from(index);
        let listening = async {
            let (address, what) = match &region.server_listen {
                Some(listen) => (listen[at], "workers, servers.listen"),
                None => {
                    let address = own_address("servers.addresses", &region.server_addresses[at]).await?;
                    (address, "workers, servers.addresses")
                }
            };
            let listening = TcpListener::bind(address).await;
            listening.map_err(|error| ServiceError::Listen { address, what, error })
        };
        let lan = match listening.await {
            Ok(listener) => Some(listener),
            Err(error) if for_workers => return Err(error),
            Err(error) => {
                info!(server = index, error = %with_causes(&error), "`gaia leave` will not reach this server");
                None
            }
        };
        let wan = match &region.wan_listen {
            Some(listen) => bind(listen[at])?,
            // A region that only dials: any port, of both families where the machine has both.
            None => bind(SocketAddr::from(([0u16; 8], 0)))
                .or_else(|_| bind(SocketAddr::from(([0, 0, 0, 0], 0))))?,
        };
        Ok(Self { lan, wan, for_workers })
    }
}

fn bind(address: SocketAddr) -> Result<UdpSocket, ServiceError> {
    let opened = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // The system may allow less, and that is no reason not to run.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(UdpSocket::from(socket))
    };
    opened().map_err(|error| ServiceError::Listen { address, what: "other regions, wan.listen", error })
}

/// The address of this machine that a setting names.
pub(in crate::service) async fn own_address(
    key: &'static str,
    address: &Address,
) -> Result<SocketAddr, ServiceError> {
    let any = SocketAddr::from(([0u16; 8], 0));
    let found = |source| ServiceError::Name { key, found: address.to_string(), source };
    match address {
        Address::Socket(address) => Ok(*address),
        Address::Name(_) => Ok(address.resolve(any).await.map_err(found)?[0]),
    }
}
