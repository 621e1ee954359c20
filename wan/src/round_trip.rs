//! The round-trip time of a path, without queues.
//!
//! What a connection measures includes what waits on the way, our own bulk above all. How far two regions may be apart and
//! how much a path holds follow from its length, though: with a queue counted in, a path that is too full would be given
//! more. A queue comes and goes, and the length of a path hardly ever changes; so the least of what was measured of late is
//! taken, and forgotten after a while, as a path may become longer.
//!
//! Kind: time-passed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// For how long a measurement counts: several times what our congestion controller takes to see a path without its queue.
pub const WINDOW: Duration = Duration::from_secs(30);

/// Measurements of so long are kept as one.
const BUCKET: Duration = Duration::from_secs(1);

/// The least round-trip time of the last [`WINDOW`], to a second.
#[derive(Clone, Debug, Default)]
pub struct LeastRoundTrip {
    /// When each bucket began, and the least in it; ascending, at most one a second.
    buckets: VecDeque<(Instant, Duration)>,
}

impl LeastRoundTrip {
    /// A round trip of `measured` was seen at `now`, which never goes back. Yields the least one.
    pub fn measure(&mut self, measured: Duration, now: Instant) -> Duration {
        match self.buckets.back_mut() {
            Some((began, least)) if now < *began + BUCKET => *least = measured.min(*least),
            _ => self.buckets.push_back((now, measured)),
        }
        while self.buckets.front().is_some_and(|(began, _)| *began + BUCKET + WINDOW <= now) {
            self.buckets.pop_front();
        }
        self.buckets.iter().map(|(_, least)| *least).min().unwrap_or(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_queue_does_not_count() {
        let (mut path, now) = (LeastRoundTrip::default(), start());
        assert_eq!(path.measure(80 * MS, now), 80 * MS);
        for second in 1..=30 {
            assert_eq!(path.measure(900 * MS, now + second * 1000 * MS), 80 * MS, "{second} s");
        }
        // A shorter path counts at once.
        assert_eq!(path.measure(70 * MS, now + 30_500 * MS), 70 * MS);
    }

    #[test]
    fn a_path_that_has_become_longer_is_believed_after_a_while() {
        let (mut path, now) = (LeastRoundTrip::default(), start());
        path.measure(80 * MS, now);
        let (mut last, mut believed_at) = (80 * MS, None);
        for tenth in 1..400_u32 {
            let least = path.measure(120 * MS, now + tenth * 100 * MS);
            assert!(path.buckets.len() <= 32, "{}", path.buckets.len());
            if least != last {
                (last, believed_at) = (least, Some(tenth * 100 * MS));
            }
        }
        assert_eq!((last, believed_at), (120 * MS, Some(WINDOW + BUCKET)));
    }
}
