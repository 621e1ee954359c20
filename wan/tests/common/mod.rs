//! Two or more hosts of an emulated WAN, and what tests do with them.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this")]

use std::{cell::Cell, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use emulation::link::LinkConfig;
use emulation::{EmulatedSocket, Network, Trace, VirtualClock, host_address};
use quinn::Connection;
use wan::transport::{
    Authority, ControlReceiver, ControlSender, Endpoint, EndpointConfig, Entropy, Path, PeerName, Role,
};

/// Hosts that are all linked to each other.
pub struct World {
    pub clock: VirtualClock,
    pub network: Network,
    pub endpoints: Vec<Endpoint>,
    pub path: Path,
}

/// The name of host `index`.
pub fn name(index: u32) -> PeerName {
    PeerName::new(&format!("region-{index}"), Role::Server).unwrap()
}

impl World {
    /// Hosts with the same link between each pair in both directions; `path` is what they are told of it.
    pub fn new(clock: &VirtualClock, seed: u64, hosts: u32, link: &LinkConfig, path: Path) -> Self {
        let network = Network::new(clock, seed);
        let authority = Authority::new(seed);
        let mut endpoints = Vec::new();
        for index in 0..hosts {
            let socket: Arc<EmulatedSocket> = network.bind(host_address(index)).unwrap();
            let config = EndpointConfig {
                identity: authority.issue(&name(index)),
                entropy: Entropy::Seeded(seed).derive(u64::from(index)),
                accept: path.data(),
            };
            endpoints.push(Endpoint::new(config, socket, Arc::new(clock.clone())).unwrap());
            for other in (0..hosts).filter(|&other| other != index) {
                network.set_link(host_address(index).ip(), host_address(other).ip(), link.clone());
            }
        }
        Self { clock: clock.clone(), network, endpoints, path }
    }

    /// A data connection between two hosts, as both see it.
    pub async fn connect(&self, from: u32, to: u32) -> (Connection, Connection) {
        self.connect_with(from, to, &self.path.data()).await
    }

    /// A control connection between two hosts, as both see it.
    pub async fn connect_control(&self, from: u32, to: u32) -> (Connection, Connection) {
        self.connect_with(from, to, &self.path.control()).await
    }

    pub async fn connect_with(
        &self,
        from: u32,
        to: u32,
        settings: &wan::transport::Settings,
    ) -> (Connection, Connection) {
        let (dialer, acceptor) = (&self.endpoints[from as usize], &self.endpoints[to as usize]);
        let accepted = async {
            let incoming = acceptor.incoming().await.unwrap();
            acceptor.accept(incoming, settings).unwrap().await.unwrap()
        };
        let peer = name(to);
        let (dialed, accepted) =
            tokio::join!(biased; dialer.connect(host_address(to), &peer, settings), accepted);
        (dialed.unwrap(), accepted)
    }

    pub fn ip(&self, index: u32) -> IpAddr {
        host_address(index).ip()
    }

    pub fn trace(&self) -> Trace {
        self.network.trace()
    }
}

/// How a bulk transfer went.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// From the first byte written to the last byte read.
    pub took: Duration,
    pub bytes: u64,
}

impl Transfer {
    /// Payload over what the link could have carried in the time.
    pub fn share(&self, rate_bytes_per_sec: u64) -> f64 {
        self.bytes as f64 / (rate_bytes_per_sec as f64 * self.took.as_secs_f64())
    }
}

/// Sends `bytes` in all over `streams` streams.
pub async fn transfer(
    clock: &VirtualClock,
    from: &Connection,
    to: &Connection,
    streams: usize,
    bytes: u64,
) -> Transfer {
    transfer_watched(clock, from, to, streams, bytes, &Rc::new(Cell::new(0))).await
}

/// Like [`transfer`]; `received` shows the bytes read so far.
pub async fn transfer_watched(
    clock: &VirtualClock,
    from: &Connection,
    to: &Connection,
    streams: usize,
    bytes: u64,
    received: &Rc<Cell<u64>>,
) -> Transfer {
    let start = clock.now();
    let chunk = bytes::Bytes::from(vec![7u8; 64 * 1024]);
    let share = bytes / streams as u64;
    let mut writers = Vec::new();
    for _ in 0..streams {
        let (from, chunk) = (from.clone(), chunk.clone());
        writers.push(tokio::spawn(async move {
            let mut stream = from.open_uni().await.unwrap();
            let mut left = share;
            while left > 0 {
                let part = chunk.slice(..chunk.len().min(left as usize));
                left -= part.len() as u64;
                stream.write_chunk(part).await.unwrap();
            }
            stream.finish().unwrap();
            let _ = stream.stopped().await;
        }));
    }
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut readers = Vec::new();
            for _ in 0..streams {
                let mut stream = to.accept_uni().await.unwrap();
                let received = received.clone();
                readers.push(tokio::task::spawn_local(async move {
                    while let Some(chunk) = stream.read_chunk(usize::MAX, true).await.unwrap() {
                        received.set(received.get() + chunk.bytes.len() as u64);
                    }
                }));
            }
            for reader in readers {
                reader.await.unwrap();
            }
        })
        .await;
    let took = clock.now() - start;
    for writer in writers {
        writer.await.unwrap();
    }
    Transfer { took, bytes: share * streams as u64 }
}

/// The link of most tests: 100 Mbit/s over 80 ms.
pub const RATE_BYTES_PER_SEC: u64 = 12_500_000;
pub const ONE_WAY: Duration = Duration::from_millis(80);
pub const BDP_BYTES: u64 = 2_000_000;

pub fn long_link(queue_bdp: f64, loss: f64) -> LinkConfig {
    let mut link = LinkConfig::clean(RATE_BYTES_PER_SEC, ONE_WAY);
    link.queue_bytes = (queue_bdp * BDP_BYTES as f64) as u64;
    link.loss = loss;
    link
}

pub fn long_path() -> Path {
    Path { rate_bytes_per_sec: Some(RATE_BYTES_PER_SEC), round_trip: Some(2 * ONE_WAY), ..Path::default() }
}

/// Sends `count` messages of 60 bytes, one each 100 ms; returns how long each took, in the order of sending.
pub async fn control_delays(
    clock: &VirtualClock,
    from: &Connection,
    to: &Connection,
    data: Option<Connection>,
    count: u32,
) -> Vec<Duration> {
    let data = tokio::sync::watch::channel(data).1;
    let sender = ControlSender::new(from.clone(), from.open_uni().await.unwrap(), data);
    let (sending_clock, start) = (clock.clone(), clock.now());
    let interval = Duration::from_millis(100);
    let sending = tokio::spawn(async move {
        for number in 0..count {
            let mut message = [0; 60];
            message[..4].copy_from_slice(&number.to_be_bytes());
            sender.send(bytes::Bytes::copy_from_slice(&message)).await.unwrap();
            sending_clock.sleep_until(start + interval * (number + 1)).await;
        }
    });
    let mut receiver = ControlReceiver::new(to.clone(), to.accept_uni().await.unwrap());
    let mut delays = vec![None; count as usize];
    while let Some(message) = receiver.recv().await.unwrap() {
        let number = u32::from_be_bytes(message[..4].try_into().unwrap());
        let delay = clock.now() - (start + interval * number);
        assert!(delays[number as usize].replace(delay).is_none(), "message {number} came twice");
    }
    sending.await.unwrap();
    delays.into_iter().map(|delay| delay.expect("every message arrives")).collect()
}
