//! Bounds what a socket sends, whatever connections would like to: for a network that is not ours alone.
//!
//! A token bucket in front of the socket. Congestion control finds the rate of a path; this is for the operator's word on how
//! much of it may be used. A datagram that finds the bucket empty waits in its connection, whose pacing adapts to that.
//!
//! Kind: driver, but for [`Bucket`], which is time-passed.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::Sleep;

use crate::transport::wire_bytes;

/// What may be sent at once after a pause: this long at the rate,
const BURST: Duration = Duration::from_millis(10);
/// and no less than what quinn hands over in one piece.
const MIN_BURST_BYTES: f64 = 64.0 * 1024.0;

/// A token bucket: it fills at the rate, and what is sent takes out as many bytes.
#[derive(Debug)]
struct Bucket {
    bytes_per_sec: f64,
    /// Below zero after a datagram that took more than there was.
    bytes: f64,
    at: Instant,
}

impl Bucket {
    fn new(bytes_per_sec: u64, now: Instant) -> Self {
        let mut bucket = Self { bytes_per_sec: bytes_per_sec.max(1) as f64, bytes: 0.0, at: now };
        bucket.bytes = bucket.burst();
        bucket
    }

    fn burst(&self) -> f64 {
        (self.bytes_per_sec * BURST.as_secs_f64()).max(MIN_BURST_BYTES)
    }

    /// How long to wait before something may be sent.
    fn wait(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.bytes = (self.bytes + passed * self.bytes_per_sec).min(self.burst());
        self.at = self.at.max(now);
        match self.bytes > 0.0 {
            true => Duration::ZERO,
            // A byte more than nothing, so that waiting ends.
            false => Duration::from_secs_f64((1.0 - self.bytes) / self.bytes_per_sec),
        }
    }

    fn take(&mut self, bytes: u64) {
        self.bytes -= bytes as f64;
    }
}

/// A socket that sends no faster than it may.
#[derive(Debug)]
pub(super) struct Cap {
    inner: Arc<dyn AsyncUdpSocket>,
    bucket: Arc<Mutex<Bucket>>,
}

impl Cap {
    /// `inner`, with `bytes_per_sec` on the wire at most.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, bytes_per_sec: u64) -> Arc<Self> {
        Arc::new(Self { inner, bucket: Arc::new(Mutex::new(Bucket::new(bytes_per_sec, now()))) })
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl AsyncUdpSocket for Cap {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let inner = self.inner.clone().create_io_poller();
        Box::pin(CapPoller { inner, bucket: self.bucket.clone(), sleep: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !lock(&self.bucket).wait(now()).is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.inner.try_send(transmit)?;
        let segment_bytes = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let segments = transmit.contents.chunks(segment_bytes);
        let bytes = segments.map(|segment| wire_bytes(transmit.destination.ip(), segment.len())).sum();
        lock(&self.bucket).take(bytes);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Wakes whoever wants to send once that is possible.
#[derive(Debug)]
struct CapPoller {
    inner: Pin<Box<dyn UdpPoller>>,
    bucket: Arc<Mutex<Bucket>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for CapPoller {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            let wait = lock(&self.bucket).wait(now());
            if wait.is_zero() {
                return self.inner.as_mut().poll_writable(context);
            }
            self.sleep = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
    fn no_more_than_a_burst_and_the_rate_pass() {
        let start = Instant::now();
        let rate = 1_000_000;
        let mut bucket = Bucket::new(rate, start);
        let (mut now, mut sent) = (start, 0u64);
        while now < start + Duration::from_secs(2) {
            match bucket.wait(now) {
                Duration::ZERO => {
                    bucket.take(1500);
                    sent += 1500;
                }
                wait => now += wait,
            }
        }
        let most = 2 * rate + MIN_BURST_BYTES as u64 + 1500;
        assert!((2 * rate..=most).contains(&sent), "{sent} of {most}");
        // A pause earns one burst, however long it is.
        let later = now + Duration::from_secs(100);
        let mut at_once = 0;
        while bucket.wait(later).is_zero() {
            bucket.take(1500);
            at_once += 1500;
        }
        assert!(at_once <= MIN_BURST_BYTES as u64 + 1500, "{at_once}");
    }
}
