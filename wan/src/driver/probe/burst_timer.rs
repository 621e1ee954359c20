//! How fast a burst arrives.
//!
//! Kind: time-passed.

use std::time::Duration;

use tokio::time::Instant;

/// How many bytes lie between two marks at least, which bounds their number.
const MARK_BYTES: u64 = 16 * 1024;

/// Times a burst. Its first half is the sender's search for the rate of the path; the later half
/// shows it.
#[derive(Debug, Default)]
pub struct BurstTimer {
    /// When so many bytes had arrived.
    marks: Vec<(Instant, u64)>,
    last: Option<Instant>,
    bytes: u64,
}

impl BurstTimer {
    /// `bytes` more have arrived at `now`.
    pub fn arrived(&mut self, now: Instant, bytes: u64) {
        self.bytes += bytes;
        self.last = Some(now);
        if self.marks.last().is_none_or(|(_, marked)| self.bytes >= marked + MARK_BYTES) {
            self.marks.push((now, self.bytes));
        }
    }

    /// How many have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of them came in the later half, and how long that took; none of a burst that came
    /// all at once.
    pub fn later_half(&self) -> Option<(u64, Duration)> {
        let (start, before) = self.marks.iter().find(|(_, bytes)| bytes * 2 >= self.bytes)?;
        let (bytes, time) = (self.bytes - before, self.last?.duration_since(*start));
        (bytes > 0 && !time.is_zero()).then_some((bytes, time))
    }
}

/// Bytes a second; none where nothing was timed.
pub(super) fn rate(bytes: u64, time: Duration) -> Option<f64> {
    (bytes > 0 && !time.is_zero()).then(|| bytes as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_later_half_shows_the_rate() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut burst_timer = BurstTimer::default();
        assert_eq!(burst_timer.later_half(), None);
        // Slowly at first, then 100 kB in each 10 ms.
        burst_timer.arrived(at(0), 100_000);
        assert_eq!(burst_timer.later_half(), None, "all at once");
        for step in 1..=4 {
            burst_timer.arrived(at(step * 100), 100_000);
        }
        for step in 1..=8 {
            burst_timer.arrived(at(400 + step * 10), 100_000);
        }
        let (bytes, time) = burst_timer.later_half().expect("it took a while");
        assert_eq!((bytes, time.as_millis()), (600_000, 60));
        assert_eq!(rate(bytes, time), Some(10_000_000.0));
        assert_eq!(rate(0, time), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_pieces_take_little_memory() {
        let mut burst_timer = BurstTimer::default();
        for _ in 0..100_000 {
            burst_timer.arrived(Instant::now(), 1);
        }
        assert_eq!((burst_timer.bytes(), burst_timer.marks.len()), (100_000, 7));
    }
}
