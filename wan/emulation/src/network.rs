//! An in-memory datagram network under quinn.
//!
//! Kind: driver.
//!
//! Each ordered pair of hosts has a [`Link`] of its own; a pair without one is not connected. A sent datagram
//! is offered to its link at once, which tells when it will arrive, and then waits in the receiver's queue
//! until that time. Every datagram goes into a [`Trace`], so that two runs can be compared by one number.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};

use crate::link::{DropCause, Fate, Link, LinkConfig, LinkCounters, wire_bytes};
use crate::{ExactTimer, VirtualClock, seed};

/// The largest UDP payload that fits an Ethernet frame over IPv4; larger datagrams vanish, as on a path that
/// must not fragment. It is how quinn finds the path's MTU.
const MAX_PAYLOAD_BYTES: usize = 1472;
/// How many datagrams quinn may hand over at once, which saves it work and changes nothing on the wire.
const MAX_SEGMENTS: usize = 10;

/// The address of host number `index` of a simulation: `10.x.y.z`, port 4433.
///
/// # Panics
///
/// From 2^24 - 1 hosts on, where the block of private addresses ends.
pub fn host_address(index: u32) -> SocketAddr {
    assert!(index < (1 << 24) - 1, "10.0.0.0/8 has no host number {index}");
    (Ipv4Addr::from_bits(0x0a00_0001 + index), 4433).into()
}

/// A network of hosts and directed links in virtual time. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    clock: VirtualClock,
    state: Arc<Mutex<NetworkState>>,
}

struct NetworkState {
    seed: u64,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    queues: BTreeMap<SocketAddr, ReceiveQueue>,
    /// Numbers datagrams in the order in which they were sent: ties in arrival time keep it.
    next_sequence: u64,
    trace: Trace,
}

struct ReceiveQueue {
    /// Ordered by the time of arrival.
    datagrams: BTreeMap<(Duration, u64), (SocketAddr, Bytes)>,
    /// Set to the earliest arrival.
    arrival: ExactTimer,
}

/// What has happened on a network, as one number: equal for two runs exactly when every datagram was sent at
/// the same time, between the same hosts, with the same length and fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The hash of all datagrams.
    pub hash: u64,
    /// How many there were.
    pub datagrams: u64,
}

impl Network {
    /// A network without hosts. `seed` decides the chances of every link that is added.
    pub fn new(clock: &VirtualClock, seed: u64) -> Self {
        let state = NetworkState {
            seed,
            links: BTreeMap::new(),
            queues: BTreeMap::new(),
            next_sequence: 0,
            trace: Trace { hash: FNV_OFFSET, datagrams: 0 },
        };
        Self { clock: clock.clone(), state: Arc::new(Mutex::new(state)) }
    }

    /// Adds the link from one host to another, or changes it from now on.
    ///
    /// # Panics
    ///
    /// If the configuration is not [valid](LinkConfig::validate).
    pub fn set_link(&self, from: IpAddr, to: IpAddr, config: LinkConfig) {
        let now = self.clock.now();
        let mut state = self.state();
        let seed = state.link_seed(from, to);
        match state.links.get_mut(&(from, to)) {
            Some(link) => link.reconfigure(now, config),
            None => drop(state.links.insert((from, to), Link::new(config, seed))),
        }
    }

    /// A socket at `address`.
    ///
    /// # Errors
    ///
    /// `AddrInUse` while another socket holds the address.
    pub fn bind(&self, address: SocketAddr) -> io::Result<Arc<EmulatedSocket>> {
        // Bound before the clock starts, or while it runs: either way nothing has arrived yet.
        let arrival = self.clock.timer(Duration::MAX);
        let mut state = self.state();
        if state.queues.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.queues.insert(address, ReceiveQueue { datagrams: BTreeMap::new(), arrival });
        drop(state);
        Ok(Arc::new(EmulatedSocket { network: self.clone(), address }))
    }

    /// What the link from one host to another has done so far; zero where there is no link.
    pub fn counters(&self, from: IpAddr, to: IpAddr) -> LinkCounters {
        self.state().links.get(&(from, to)).map(Link::counters).unwrap_or_default()
    }

    /// The directed pairs of hosts that a link joins.
    pub fn links(&self) -> BTreeSet<(IpAddr, IpAddr)> {
        self.state().links.keys().copied().collect()
    }

    /// All that has happened so far.
    pub fn trace(&self) -> Trace {
        self.state().trace
    }

    fn state(&self) -> MutexGuard<'_, NetworkState> {
        self.state.lock().expect("no one panics while holding the network")
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl NetworkState {
    fn link_seed(&self, from: IpAddr, to: IpAddr) -> u64 {
        let label = |address: IpAddr| match address {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => seed::derive((v6.to_bits() >> 64) as u64, &[v6.to_bits() as u64]),
        };
        seed::derive(self.seed, &[label(from), label(to)])
    }

    fn send(&mut self, now: Duration, from: SocketAddr, to: SocketAddr, payload: Bytes) {
        let fate = self.fate(now, from, to, payload.len());
        let arrivals = match fate {
            Some(Fate::Delivered { at, again_at }) => [Some(at), again_at],
            Some(Fate::Dropped(_)) | None => [None, None],
        };
        self.trace.add(now, from, to, payload.len(), fate);
        for at in arrivals.into_iter().flatten() {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            // A datagram to a closed port arrives, and is nobody's.
            if let Some(queue) = self.queues.get_mut(&to) {
                queue.insert(at, sequence, from, payload.clone());
            }
        }
    }

    /// Nothing when the network does not carry the datagram at all: it is too large, or there is no link.
    fn fate(&mut self, now: Duration, from: SocketAddr, to: SocketAddr, length: usize) -> Option<Fate> {
        if length > MAX_PAYLOAD_BYTES {
            return None;
        }
        let link = self.links.get_mut(&(from.ip(), to.ip()))?;
        Some(link.offer(now, wire_bytes(to.ip(), length)))
    }
}

impl ReceiveQueue {
    fn insert(&mut self, at: Duration, sequence: u64, from: SocketAddr, payload: Bytes) {
        let is_first = self.datagrams.first_key_value().is_none_or(|(&(first, _), _)| at < first);
        self.datagrams.insert((at, sequence), (from, payload));
        if is_first {
            self.arrival.reset(at);
        }
    }

    fn take_due(&mut self, now: Duration) -> Option<(SocketAddr, Bytes)> {
        let first = self.datagrams.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Wakes the caller at the next arrival.
    fn register(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let next = self.datagrams.first_key_value().map_or(Duration::MAX, |(&(at, _), _)| at);
        self.arrival.reset(next);
        self.arrival.poll(context)
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

impl Trace {
    fn add(&mut self, now: Duration, from: SocketAddr, to: SocketAddr, length: usize, fate: Option<Fate>) {
        let (code, at) = match fate {
            None => (0, Duration::ZERO),
            Some(Fate::Dropped(DropCause::QueueFull)) => (1, Duration::ZERO),
            Some(Fate::Dropped(DropCause::Loss)) => (2, Duration::ZERO),
            Some(Fate::Dropped(DropCause::Outage)) => (3, Duration::ZERO),
            Some(Fate::Delivered { at, again_at: None }) => (4, at),
            Some(Fate::Delivered { at, again_at: Some(again_at) }) => (5, at + again_at),
        };
        self.datagrams += 1;
        self.mix(now.as_nanos() as u64);
        self.mix_address(from);
        self.mix_address(to);
        self.mix(length as u64);
        self.mix(code);
        self.mix(at.as_nanos() as u64);
    }

    fn mix_address(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(v4) => self.mix(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => {
                self.mix((v6.to_bits() >> 64) as u64);
                self.mix(v6.to_bits() as u64);
            }
        }
        self.mix(u64::from(address.port()));
    }

    /// FNV-1a over words instead of bytes, turned so that high bits come down.
    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(FNV_PRIME).rotate_left(23);
    }
}

/// A UDP socket of one host of a [`Network`]; the address is free again when it is dropped.
#[derive(Debug)]
pub struct EmulatedSocket {
    network: Network,
    address: SocketAddr,
}

impl Drop for EmulatedSocket {
    fn drop(&mut self) {
        self.network.state().queues.remove(&self.address);
    }
}

impl quinn::AsyncUdpSocket for EmulatedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn quinn::UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let now = self.network.clock.now();
        let contents = Bytes::copy_from_slice(transmit.contents);
        let segment_bytes = transmit.segment_size.unwrap_or(contents.len()).max(1);
        let mut state = self.network.state();
        for start in (0..contents.len()).step_by(segment_bytes) {
            let end = contents.len().min(start + segment_bytes);
            state.send(now, self.address, transmit.destination, contents.slice(start..end));
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let now = self.network.clock.now();
        let mut state = self.network.state();
        let queue =
            state.queues.get_mut(&self.address).expect("a socket's queue lives as long as the socket");
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((from, payload)) = queue.take_due(now) else {
                break;
            };
            // Like a kernel, cuts off what does not fit.
            let length = payload.len().min(buffer.len());
            buffer[..length].copy_from_slice(&payload[..length]);
            *meta = RecvMeta { addr: from, len: length, stride: length, ecn: None, dst_ip: None };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        match queue.register(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => unreachable!("all that was due has been taken"),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        MAX_SEGMENTS
    }

    /// False, or quinn never looks for an MTU above 1200.
    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl quinn::UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
