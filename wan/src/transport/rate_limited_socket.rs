//! Bounds what a socket sends, whatever connections would like to: for a network that is not ours
//! alone.
//!
//! A token bucket in front of the socket. Congestion control finds the rate of a path; this is for
//! the operator's word on how much of it may be used. A datagram that finds the bucket empty waits
//! in its connection, whose pacing adapts to that.
//!
//! Kind: driver, but for [`SocketLimit`], which is time-passed.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::Sleep;

use crate::token_bucket::TokenBucket;
use emulation::link::wire_bytes;

/// What may be sent at once after a pause: this long at the rate,
const BURST: Duration = Duration::from_millis(10);
/// and no less than what quinn hands over in one piece.
const MIN_BURST_BYTES: f64 = 64.0 * 1024.0;

/// What may be sent: a token bucket of bytes, which owes after a datagram that took more than there
/// was.
#[derive(Debug)]
struct SocketLimit {
    bytes_per_sec: f64,
    burst_bytes: f64,
    bucket: TokenBucket,
}

impl SocketLimit {
    fn new(bytes_per_sec: u64, now: Instant) -> Self {
        let bytes_per_sec = bytes_per_sec.max(1) as f64;
        let burst_bytes = (bytes_per_sec * BURST.as_secs_f64()).max(MIN_BURST_BYTES);
        let mut bucket = TokenBucket::new(burst_bytes);
        bucket.refill(bytes_per_sec, burst_bytes, now);
        Self { bytes_per_sec, burst_bytes, bucket }
    }

    /// How long to wait before something may be sent.
    fn wait(&mut self, now: Instant) -> Duration {
        self.bucket.refill(self.bytes_per_sec, self.burst_bytes, now);
        let bytes = self.bucket.level();
        match bytes > 0.0 {
            true => Duration::ZERO,
            // A byte more than nothing, so that waiting ends.
            false => Duration::from_secs_f64((1.0 - bytes) / self.bytes_per_sec),
        }
    }

    fn take(&mut self, bytes: u64) {
        self.bucket.spend(bytes as f64);
    }
}

/// A socket that sends no faster than it may.
#[derive(Debug)]
pub(super) struct RateLimitedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    limit: Arc<Mutex<SocketLimit>>,
}

impl RateLimitedSocket {
    /// `inner`, with `bytes_per_sec` on the wire at most.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, bytes_per_sec: u64) -> Arc<Self> {
        Arc::new(Self { inner, limit: Arc::new(Mutex::new(SocketLimit::new(bytes_per_sec, now()))) })
    }
}

fn lock(limit: &Mutex<SocketLimit>) -> MutexGuard<'_, SocketLimit> {
    limit.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl AsyncUdpSocket for RateLimitedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let inner = self.inner.clone().create_io_poller();
        Box::pin(RateLimitedPoller { inner, limit: self.limit.clone(), sleep: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !lock(&self.limit).wait(now()).is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.inner.try_send(transmit)?;
        let segment_bytes = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let segments = transmit.contents.chunks(segment_bytes);
        let bytes = segments.map(|segment| wire_bytes(transmit.destination.ip(), segment.len())).sum();
        lock(&self.limit).take(bytes);
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
struct RateLimitedPoller {
    inner: Pin<Box<dyn UdpPoller>>,
    limit: Arc<Mutex<SocketLimit>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for RateLimitedPoller {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            let wait = lock(&self.limit).wait(now());
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
        let mut limit = SocketLimit::new(rate, start);
        let (mut now, mut sent) = (start, 0u64);
        while now < start + Duration::from_secs(2) {
            match limit.wait(now) {
                Duration::ZERO => {
                    limit.take(1500);
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
        while limit.wait(later).is_zero() {
            limit.take(1500);
            at_once += 1500;
        }
        assert!(at_once <= MIN_BURST_BYTES as u64 + 1500, "{at_once}");
    }
}
