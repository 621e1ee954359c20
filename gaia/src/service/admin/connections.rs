//! Who is served, and who has to go when somebody else comes.
//!
//! Kind: time-passed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A connection that is served.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) since: Instant,
    /// Whether its request has come: until then it is idle.
    pub(super) has_asked: Arc<AtomicBool>,
    pub(super) task: AbortHandle,
}

/// The connections that are served, in the order in which they came.
#[derive(Debug)]
pub(super) struct Connections {
    taken: VecDeque<Connection>,
    most: usize,
    patience: Duration,
}

impl Connections {
    /// At most `most`; one that has asked is safe from others for `patience`.
    pub(super) fn new(most: usize, patience: Duration) -> Self {
        Self { taken: VecDeque::new(), most, patience }
    }

    /// Makes room for one more: ends the oldest connection that is idle, or the oldest of all if it
    /// has had its time.
    ///
    /// # Errors
    ///
    /// If there is no room, with the time when there will be.
    pub(super) fn free(&mut self, now: Instant) -> Result<(), Instant> {
        self.taken.retain(|connection| !connection.task.is_finished());
        if self.taken.len() < self.most {
            return Ok(());
        }
        let idle = self.taken.iter().position(|connection| !connection.has_asked.load(Ordering::Relaxed));
        let until = self.taken.front().map_or(now, |oldest| oldest.since + self.patience);
        let surplus = idle.or((until <= now).then_some(0)).ok_or(until)?;
        if let Some(connection) = self.taken.remove(surplus) {
            connection.task.abort();
        }
        Ok(())
    }

    pub(super) fn take(&mut self, connection: Connection) {
        self.taken.push_back(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_says_nothing_goes_first() {
        let patience = Duration::from_secs(1);
        let (mut connections, start) = (Connections::new(3, patience), Instant::now());
        let mut tasks = Vec::new();
        let mut take = |connections: &mut Connections, has_asked| {
            let task = tokio::spawn(std::future::pending::<()>());
            let has_asked = Arc::new(AtomicBool::new(has_asked));
            connections.take(Connection { since: start, has_asked, task: task.abort_handle() });
            tasks.push(task);
        };
        for has_asked in [true, false, false] {
            assert_eq!(connections.free(start), Ok(()));
            take(&mut connections, has_asked);
        }
        // The second and the third are idle.
        for _ in 0..2 {
            assert_eq!(connections.free(start), Ok(()));
            take(&mut connections, true);
        }
        assert_eq!(connections.free(start), Err(start + patience));
        assert_eq!(connections.free(start + patience), Ok(()));
        tokio::task::yield_now().await;
        let ended: Vec<_> = tasks.iter().map(tokio::task::JoinHandle::is_finished).collect();
        assert_eq!(ended, [true, true, true, false, false]);
    }
}
