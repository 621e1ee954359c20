//! Sends datagrams on when they are due.
//!
//! Kind: driver.
//!
//! It is a thread and no task: tokio's timers are a millisecond apart, in which a link of 100
//! Mbit/s carries eight datagrams. A thread that waits for a condition wakes up within a tenth of
//! that.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{net::UdpSocket, time::Instant};

use super::lanes::{LaneId, Lanes};
use emulation::link::Link;

/// A datagram under way, with the socket that it will leave through.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) socket: Arc<UdpSocket>,
    /// Where to; nothing where the socket is connected.
    pub(super) to: Option<SocketAddr>,
    pub(super) payload: Bytes,
}

/// The thread that delivers; it ends when this is dropped.
pub(super) struct DelayLine {
    queue: Arc<DelayQueue>,
    thread: Option<JoinHandle<()>>,
}

/// Where datagrams are handed in.
pub(super) struct DelayQueue {
    start: Instant,
    state: Mutex<LineState>,
    /// There is something that is due earlier than all else, or the end.
    changed: Condvar,
}

struct LineState {
    lanes: Lanes<Datagram>,
    is_closed: bool,
}

impl DelayLine {
    /// Starts a delay line over the lanes of `links`, whose time begins now.
    pub(super) fn start(links: Vec<Link>) -> io::Result<Self> {
        let state = Mutex::new(LineState { lanes: Lanes::new(links), is_closed: false });
        let queue = Arc::new(DelayQueue { start: Instant::now(), state, changed: Condvar::new() });
        let thread = thread::Builder::new().name("relay".to_owned()).spawn({
            let queue = queue.clone();
            move || queue.deliver()
        })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(super) fn queue(&self) -> &Arc<DelayQueue> {
        &self.queue
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        self.queue.state().is_closed = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the delay line does not panic");
        }
    }
}

impl fmt::Debug for DelayLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DelayLine")
    }
}

impl DelayQueue {
    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Hands in a datagram of `wire_bytes`.
    pub(super) fn send(&self, lane: LaneId, wire_bytes: u64, datagram: Datagram) {
        let is_next = self.with_lanes(|lanes, now| lanes.send(now, lane, wire_bytes, datagram));
        if is_next {
            self.changed.notify_one();
        }
    }

    /// Looks at the lanes, at a time that never goes back from one look to the next.
    pub(super) fn with_lanes<T>(&self, look: impl FnOnce(&mut Lanes<Datagram>, Duration) -> T) -> T {
        let mut state = self.state();
        let now = self.now();
        look(&mut state.lanes, now)
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().expect("no one panics while holding the lanes")
    }

    fn deliver(&self) {
        let mut state = self.state();
        while !state.is_closed {
            let now = self.now();
            if let Some((lane, datagram)) = state.lanes.take_due(now) {
                // Sent without the lock: those who hand in do not wait for the kernel.
                drop(state);
                let sent = datagram.send();
                state = self.state();
                if let Err(error) = sent {
                    state.lanes.count_unsent(lane);
                    tracing::debug!(%error, to = ?datagram.to, "could not send a datagram on");
                }
                continue;
            }
            const POISONED: &str = "no one panics while holding the lanes";
            state = match state.lanes.next_at() {
                Some(at) => self.changed.wait_timeout(state, at - now).expect(POISONED).0,
                None => self.changed.wait(state).expect(POISONED),
            };
        }
    }
}

impl Datagram {
    fn send(&self) -> io::Result<usize> {
        // Not through tokio, which would have to be told of the socket's readiness by its reactor
        // first. The socket does not block; a full buffer is an error like others.
        let socket = SockRef::from(&*self.socket);
        let send = || match self.to {
            Some(to) => socket.send_to(&self.payload, &to.into()),
            None => socket.send(&self.payload),
        };
        match send() {
            // The fate of an earlier datagram, which the system tells instead of sending this one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => send(),
            result => result,
        }
    }
}
