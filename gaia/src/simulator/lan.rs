//! What messages inside a datacenter cost: every machine's port has a rate, every message a delay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use emulation::VirtualClock;
use emulation::link::{Fate, Link, LinkConfig};
use tokio::sync::mpsc;

use crate::job::scenario::LanSettings;

/// One direction of a server's ports, which all workers share.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Link>>);

impl Wire {
    /// So many ports, over which shards are spread evenly.
    pub(super) fn new(settings: LanSettings, ports: u64) -> Self {
        let rate = settings.rate_bytes_per_sec.saturating_mul(ports);
        let config = LinkConfig::clean(rate, settings.one_way_delay);
        // A switch that drops is not what is simulated here; workers wait for answers, which bounds
        // the queue.
        Self(Arc::new(Mutex::new(Link::new(LinkConfig { queue_bytes: u64::MAX, ..config }, 0))))
    }

    fn arrival(&self, now: Duration, bytes: usize) -> Duration {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).offer(now, bytes as u64) {
            Fate::Delivered { at, .. } => at,
            Fate::Dropped(cause) => unreachable!("a link without loss and with endless queue: {cause:?}"),
        }
    }
}

/// Carries messages from `from` to `to`, each as long after it was sent as `wire` takes for its
/// `bytes`.
pub(super) async fn carry<T>(
    clock: VirtualClock,
    wire: Wire,
    bytes: impl Fn(&T) -> usize,
    mut from: mpsc::Receiver<T>,
    to: mpsc::Sender<T>,
) {
    let mut under_way: VecDeque<(Duration, T)> = VecDeque::new();
    loop {
        let next = async {
            match under_way.front() {
                Some((at, _)) => clock.sleep_until(*at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = from.recv() => match message {
                Some(message) => {
                    let at = wire.arrival(clock.now(), bytes(&message));
                    under_way.push_back((at, message));
                }
                None => break,
            },
            () = next => {
                let Some((_, message)) = under_way.pop_front() else { continue };
                if to.send(message).await.is_err() {
                    return;
                }
            }
        }
    }
    for (at, message) in under_way {
        clock.sleep_until(at).await;
        if to.send(message).await.is_err() {
            return;
        }
    }
}
