//! Where a route's datagrams go: an address, or a name that stands for some.
//!
//! Kind: driver.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    net::lookup_host,
    sync::{Notify, watch},
    time::sleep,
};

/// Names are not resolved more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// A target, as those see it who send to it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    address: watch::Receiver<Option<SocketAddr>>,
    doubts: Arc<Doubts>,
}

/// What was noticed of the address in use.
#[derive(Debug, Default)]
struct Doubts {
    raised: Notify,
    /// Nobody listens there.
    is_refused: AtomicBool,
}

/// Resolves a target's name, at first and whenever there are doubts.
pub(super) struct Resolver {
    name: String,
    address: watch::Sender<Option<SocketAddr>>,
    doubts: Arc<Doubts>,
}

/// The target `name`, and what has to run for it.
pub(super) fn target(name: &str) -> (Target, Resolver) {
    let (sender, address) = watch::channel(name.parse().ok());
    let doubts = Arc::new(Doubts::default());
    let resolver = Resolver { name: name.to_owned(), address: sender, doubts: doubts.clone() };
    (Target { address, doubts }, resolver)
}

impl Target {
    /// Its address, once it is known.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        *self.address.borrow()
    }

    /// Tells that nothing comes back.
    pub(super) fn is_silent(&self) {
        self.doubts.raised.notify_one();
    }

    /// Tells that nobody listens there.
    pub(super) fn is_refused(&self) {
        self.doubts.is_refused.store(true, Relaxed);
        self.doubts.raised.notify_one();
    }
}

impl Resolver {
    /// Runs as long as the target is of use.
    pub(super) async fn run(self) {
        if self.name.parse::<SocketAddr>().is_ok() {
            return;
        }
        let mut is_known = true;
        loop {
            match lookup_host(&self.name).await {
                Ok(found) => {
                    let found: Vec<_> = found.collect();
                    let refused = self.doubts.is_refused.swap(false, Relaxed);
                    let current = *self.address.borrow();
                    let address = choose(current, refused, &found);
                    if address.is_some() && address != current {
                        tracing::info!(target = self.name, address = ?address, "resolved");
                    }
                    is_known = address.is_some();
                    self.address.send_replace(address.or(current));
                }
                Err(error) => {
                    if is_known {
                        tracing::warn!(target = self.name, %error, "cannot be resolved; trying on");
                    }
                    is_known = false;
                }
            }
            sleep(PAUSE).await;
            if is_known {
                self.doubts.raised.notified().await;
            }
        }
    }
}

/// The address to use: the current one while the name stands for it, unless nobody listens there; then the next.
///
/// A silent address is kept, since silence may be that of the link.
fn choose(current: Option<SocketAddr>, is_refused: bool, found: &[SocketAddr]) -> Option<SocketAddr> {
    match found.iter().position(|address| Some(*address) == current) {
        Some(_) if !is_refused => current,
        Some(index) => Some(found[(index + 1) % found.len()]),
        None => found.first().copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_while_its_name_stands_for_it() {
        let [one, two, three] = ["127.0.0.1:1", "[::1]:1", "127.0.0.3:1"].map(|text| text.parse().unwrap());
        for (current, is_refused, found, expected) in [
            (None, false, vec![], None),
            (None, false, vec![one, two], Some(one)),
            (Some(two), false, vec![one, two], Some(two)),
            (Some(two), false, vec![one, three], Some(one)),
            (Some(one), true, vec![one, two], Some(two)),
            (Some(two), true, vec![one, two], Some(one)),
            (Some(one), true, vec![one], Some(one)),
            (Some(one), true, vec![], None),
        ] {
            assert_eq!(choose(current, is_refused, &found), expected, "{current:?} {is_refused} {found:?}");
        }
    }
}
