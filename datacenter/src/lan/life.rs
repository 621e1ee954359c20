//! Whether anybody is at the other end of a connection.
//!
//! TCP does not say that the other machine is gone: who only waits for it waits for ever. So each
//! side says something every [`HEARTBEAT`], and takes a silence of [`SILENCE`] for the end. Bytes
//! count and not frames, as a large frame on a slow LAN takes longer than that.
//!
//! Kind: driver.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// After so long without anything to send a frame is sent that says nothing.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

/// After so long without a byte the other side is taken to be gone: three heartbeats, of which two
/// may be late.
pub const SILENCE: Duration = Duration::from_secs(15);

/// When the last byte came. Clones share it, as a connection is read elsewhere than it is watched.
#[derive(Clone, Debug)]
pub(super) struct Heard(Arc<Mutex<Instant>>);

impl Heard {
    /// Of a connection that is made now.
    pub(super) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Something has come.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When something last came.
    pub(super) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once nothing has come for [`SILENCE`]. Whoever had no time to read must look for
    /// what has come before it asks this.
    pub(super) async fn silence(&self) {
        loop {
            let until = self.last() + SILENCE;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}
