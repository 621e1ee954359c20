//! QUIC between datacenters: everything below the protocol.
//!
//! Kind: driver.
//!
//! Two datacenters keep two QUIC connections: one for control and one for data. Flow control, congestion
//! control and quinn's limit on gaps are per connection, so a connection of its own is what lets control
//! never wait behind data.
//!
//! - [`Identity`] and [`PeerName`]: mutual TLS 1.3, whose certificates name a datacenter and a role.
//!   [`Authority`] issues them for simulations.
//! - [`Path`] derives every setting of a connection from the link's rate and round-trip time, [`Settings`].
//! - [`Steady`] is our congestion controller; [`Congestion`] chooses it or one of quinn's.
//! - [`ControlSender`] and [`ControlReceiver`] get small messages through in time although packets are lost.
//! - [`Endpoint`] puts these together over any socket, real or emulated, with the bytes on the wire counted
//!   by [`CountingSocket`].
//!
//! What is deliberately not here: what is said over the connections.

mod authority;
mod congestion;
mod control;
mod counting_socket;
mod endpoint;
mod entropy;
mod identity;
mod rate_limited_socket;
mod refused;
mod settings;

pub use authority::Authority;
pub use congestion::{Steady, SteadyConfig};
// What `ControlReceiver` decides, without its connection: for the fuzzers, which need no network.
#[doc(hidden)]
pub use control::Arrivals;
pub use control::{ControlError, ControlReceiver, ControlSender, MAX_CONTROL_BYTES};
pub use counting_socket::{CountingSocket, PACKET_HEADER_BYTES, Traffic, bulk_wire_bytes};
pub use datacenter::identity::{Cause, Certificate, Credentials, Party, Refused, Shown};
pub use endpoint::{DialError, Endpoint, EndpointConfig, Farewell, carries};
pub use entropy::Entropy;
pub use identity::{
    Dates, Identity, IdentityError, PeerName, PeerNameError, Role, peer_certificate, peer_name,
};
pub(crate) use refused::{lost, not_read, not_written, said};
pub use settings::{Carries, Congestion, Path, Settings};
