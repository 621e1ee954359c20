//! A route: the port that clients send to, and a session for each of them.
//!
//! Kind: driver.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    task::AbortHandle,
    time::{interval, sleep},
};

use super::{
    MAX_SESSIONS,
    delay_line::{Datagram, DelayQueue},
    lanes::LaneId,
    target::{Resolver, Target, target},
};
use emulation::link::wire_bytes;

/// A session without datagrams for so long is forgotten: longer than a QUIC connection lives in silence.
const IDLE: Duration = Duration::from_secs(180);
/// A target that has not answered for so long may have moved. Far above the round trips that links have.
const SILENT: Duration = Duration::from_secs(5);
/// How often sessions are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// No UDP datagram is larger.
const BUFFER_BYTES: usize = 65_535;
/// What is asked for as a socket's buffers, against bursts; the system may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// After an error of a socket, so that one that lasts takes no whole core.
const PAUSE: Duration = Duration::from_millis(10);

/// One route.
pub(super) struct Route {
    shared: Arc<RouteState>,
    resolver: Resolver,
    sessions: BTreeMap<SocketAddr, Session>,
}

/// What a route's sessions share.
struct RouteState {
    queue: Arc<DelayQueue>,
    listener: Arc<UdpSocket>,
    target: Target,
    /// The lane of clients' datagrams.
    there: LaneId,
    /// The lane of answers.
    back: LaneId,
}

/// One client address.
struct Session {
    socket: Arc<UdpSocket>,
    target: SocketAddr,
    last_sent: Duration,
    /// Since when the client has sent without an answer.
    unanswered_since: Option<Duration>,
    /// When the last answer came, in nanoseconds from the start; zero before the first one.
    answered_nanos: Arc<AtomicU64>,
    answers: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// A UDP socket with large buffers, bound to `address`.
pub(super) fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // The two families are two routes: what takes the port of one should not keep it from the other.
        socket.set_only_v6(true)?;
    }
    // As large as the system allows; smaller ones work as well, until a burst.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

impl Route {
    /// A route from `listener` to `target`; clients' datagrams go over the first of `lanes`, answers over the second.
    pub(super) fn new(
        queue: &Arc<DelayQueue>,
        listener: Arc<UdpSocket>,
        to: &str,
        lanes: [LaneId; 2],
    ) -> Self {
        let (target, resolver) = target(to);
        let [there, back] = lanes;
        let shared = RouteState { queue: queue.clone(), listener, target, there, back };
        Self { shared: Arc::new(shared), resolver, sessions: BTreeMap::new() }
    }

    /// Serves the route until the task is aborted.
    pub(super) async fn run(self) {
        let Self { shared, resolver, mut sessions } = self;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut sweep = interval(SWEEP);
        let serve = async {
            loop {
                tokio::select! {
                    biased;
                    _ = sweep.tick() => {
                        let now = shared.queue.now();
                        sessions.retain(|_, session| !session.is_idle(now));
                    }
                    received = shared.listener.recv_from(&mut buffer) => match received {
                        Ok((length, client)) => shared.forward(&mut sessions, client, &buffer[..length]),
                        Err(error) => {
                            tracing::debug!(%error, "could not receive from clients");
                            sleep(PAUSE).await;
                        }
                    },
                }
            }
        };
        tokio::join!(resolver.run(), serve);
    }
}

impl RouteState {
    /// Sends a client's datagram over the link.
    fn forward(
        self: &Arc<Self>,
        sessions: &mut BTreeMap<SocketAddr, Session>,
        client: SocketAddr,
        payload: &[u8],
    ) {
        let Some(session) = self.session(sessions, client) else {
            self.queue.with_lanes(|lanes, _| lanes.count_unroutable(self.there));
            return;
        };
        if session.is_unanswered(self.queue.now()) {
            self.target.is_silent();
        }
        let datagram =
            Datagram { socket: session.socket.clone(), to: None, payload: Bytes::copy_from_slice(payload) };
        self.queue.send(self.there, wire_bytes(client.ip(), payload.len()), datagram);
    }

    /// The session of `client`, made anew if there is none or if the target has moved.
    fn session<'a>(
        self: &Arc<Self>,
        sessions: &'a mut BTreeMap<SocketAddr, Session>,
        client: SocketAddr,
    ) -> Option<&'a mut Session> {
        let target = self.target.address()?;
        if sessions.get(&client).is_none_or(|session| session.target != target) {
            if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(&client) {
                tracing::debug!(%client, "no session left");
                return None;
            }
            match self.open(client, target) {
                Ok(session) => drop(sessions.insert(client, session)),
                Err(error) => {
                    tracing::warn!(%client, %target, %error, "cannot send to the target");
                    return None;
                }
            }
        }
        sessions.get_mut(&client)
    }

    fn open(self: &Arc<Self>, client: SocketAddr, target: SocketAddr) -> io::Result<Session> {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = Arc::new(socket((any, 0).into())?);
        // Connected, so that only the target's answers come back, and that nobody listens there is told. It takes no
        // time with UDP.
        socket2::SockRef::from(&*socket).connect(&target.into())?;
        let answered_nanos = Arc::new(AtomicU64::new(0));
        let answers = self.clone().answers(socket.clone(), client, target, answered_nanos.clone());
        Ok(Session {
            socket,
            target,
            last_sent: self.queue.now(),
            unanswered_since: None,
            answered_nanos,
            answers: tokio::spawn(answers).abort_handle(),
        })
    }

    /// Sends the target's answers back to `client`.
    async fn answers(
        self: Arc<Self>,
        socket: Arc<UdpSocket>,
        client: SocketAddr,
        target: SocketAddr,
        answered_nanos: Arc<AtomicU64>,
    ) {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match socket.recv(&mut buffer).await {
                Ok(length) => {
                    answered_nanos.store(self.queue.now().as_nanos() as u64, Relaxed);
                    let payload = Bytes::copy_from_slice(&buffer[..length]);
                    let datagram = Datagram { socket: self.listener.clone(), to: Some(client), payload };
                    self.queue.send(self.back, wire_bytes(target.ip(), length), datagram);
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::ConnectionRefused {
                        tracing::debug!(%target, "nobody listens there");
                        self.target.is_refused();
                    } else {
                        tracing::debug!(%target, %error, "could not receive from the target");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Session {
    /// Notes that the client sends at `now`; true if it has done so for long without an answer.
    fn is_unanswered(&mut self, now: Duration) -> bool {
        self.last_sent = now;
        let answered = Duration::from_nanos(self.answered_nanos.load(Relaxed));
        let since = self.unanswered_since.filter(|since| *since > answered).unwrap_or(now);
        self.unanswered_since = Some(since);
        now - since > SILENT
    }

    fn is_idle(&self, now: Duration) -> bool {
        let answered = Duration::from_nanos(self.answered_nanos.load(Relaxed));
        now.saturating_sub(self.last_sent.max(answered)) > IDLE
    }
}
