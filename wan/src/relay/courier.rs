//! Sends datagrams on when they are due.
//!
//! Kind: driver.
//!
//! It is a thread and no task: tokio's timers are a millisecond apart, in which a link of 100 Mbit/s carries eight
//! datagrams. A thread that waits for a condition wakes up within a tenth of that.

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
use crate::link::Link;

/// A datagram under way, with the socket that it will leave through.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) socket: Arc<UdpSocket>,
    /// Where to; nothing where the socket is connected.
    pub(super) to: Option<SocketAddr>,
    pub(super) payload: Bytes,
}

/// The thread that delivers; it ends when this is dropped.
pub(super) struct Courier {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// Where datagrams are handed in.
pub(super) struct Desk {
    start: Instant,
    state: Mutex<State>,
    /// There is something that is due earlier than all else, or the end.
    changed: Condvar,
}

struct State {
    lanes: Lanes<Parcel>,
    is_closed: bool,
}

impl Courier {
    /// Starts a courier over the lanes of `links`, whose time begins now.
    pub(super) fn start(links: Vec<Link>) -> io::Result<Self> {
        let state = Mutex::new(State { lanes: Lanes::new(links), is_closed: false });
        let desk = Arc::new(Desk { start: Instant::now(), state, changed: Condvar::new() });
        let thread = thread::Builder::new().name("relay".to_owned()).spawn({
            let desk = desk.clone();
            move || desk.deliver()
        })?;
        Ok(Self { desk, thread: Some(thread) })
    }

    pub(super) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.desk.state().is_closed = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the courier does not panic");
        }
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Courier")
    }
}

impl Desk {
    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Hands in a datagram of `wire_bytes`.
    pub(super) fn send(&self, lane: LaneId, wire_bytes: u64, parcel: Parcel) {
        let is_next = self.with_lanes(|lanes, now| lanes.send(now, lane, wire_bytes, parcel));
        if is_next {
            self.changed.notify_one();
        }
    }

    /// Looks at the lanes, at a time that never goes back from one look to the next.
    pub(super) fn with_lanes<T>(&self, look: impl FnOnce(&mut Lanes<Parcel>, Duration) -> T) -> T {
        let mut state = self.state();
        let now = self.now();
        look(&mut state.lanes, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the lanes")
    }

    fn deliver(&self) {
        let mut state = self.state();
        while !state.is_closed {
            let now = self.now();
            if let Some((lane, parcel)) = state.lanes.take_due(now) {
                // Sent without the lock: those who hand in do not wait for the kernel.
                drop(state);
                let sent = parcel.send();
                state = self.state();
                if let Err(error) = sent {
                    state.lanes.count_unsent(lane);
                    tracing::debug!(%error, to = ?parcel.to, "could not send a datagram on");
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

impl Parcel {
    fn send(&self) -> io::Result<usize> {
        // Not through tokio, which would have to be told of the socket's readiness by its reactor first. The socket
        // does not block; a full buffer is an error like others.
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
