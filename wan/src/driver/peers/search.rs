//! How often a peer is looked for, and at what price.
//!
//! To dial is dear where nobody answers: a connection sends its first packets again and again, 1228 bytes each, and a
//! link that is down for an hour would have cost megabytes. So who has not answered a handshake is *knocked* at, which costs
//! 50 bytes, and dialled once it answers. Should something on the way let handshakes pass and no knocks, it is dialled now
//! and then all the same, with few packets.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

/// The first pause before trying again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest, where somebody answers.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest between two knocks.
const LONGEST_SILENT_PAUSE: Duration = Duration::from_secs(10);
/// How long somebody who does not answer knocks is not dialled.
const BLIND: Duration = Duration::from_secs(1200);
/// A link that lasted this long was a good one: when it breaks, the pauses begin anew.
const STABLE: Duration = Duration::from_secs(10);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// To dial.
    Dial,
    /// To see whether anybody is there, and to dial then.
    Knock,
    /// To dial although nobody seems to be there, with few packets.
    DialBlindly,
}

/// The search for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Search {
    pause: Duration,
    /// When it was dialled last, if it did not answer.
    silent_since: Option<Instant>,
}

impl Search {
    pub(super) fn new() -> Self {
        Self { pause: FIRST_PAUSE, silent_since: None }
    }

    pub(super) fn attempt(&self, now: Instant) -> Attempt {
        match self.silent_since {
            None => Attempt::Dial,
            Some(since) if now >= since + BLIND => Attempt::DialBlindly,
            Some(_) => Attempt::Knock,
        }
    }

    /// It was dialled, or had a link, and somebody `is_silent`: no packet came back in time.
    pub(super) fn tried(&mut self, is_silent: bool, now: Instant) {
        self.silent_since = is_silent.then_some(now);
    }

    /// A link has ended that had lasted for so long.
    pub(super) fn had_link(&mut self, lasted: Duration, is_silent: bool, now: Instant) {
        if lasted >= STABLE {
            self.pause = FIRST_PAUSE;
        }
        self.tried(is_silent, now);
    }

    /// How long to wait before the next attempt.
    pub(super) fn pause(&mut self) -> Duration {
        let longest = if self.silent_since.is_some() { LONGEST_SILENT_PAUSE } else { LONGEST_PAUSE };
        let pause = self.pause.min(longest);
        self.pause = (2 * pause).min(longest);
        pause
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_is_knocked_at_and_dialled_now_and_then() {
        let (mut search, start) = (Search::new(), Instant::now());
        assert_eq!(search.attempt(start), Attempt::Dial);
        search.tried(false, start);
        assert_eq!(search.attempt(start), Attempt::Dial, "it has answered");
        search.tried(true, start);
        assert_eq!(search.attempt(start + BLIND / 2), Attempt::Knock);
        assert_eq!(search.attempt(start + BLIND), Attempt::DialBlindly);
        search.tried(true, start + BLIND);
        assert_eq!(search.attempt(start + BLIND), Attempt::Knock);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_good_link() {
        let (mut search, start) = (Search::new(), Instant::now());
        let pauses: Vec<_> = (0..8).map(|_| search.pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        search.had_link(STABLE - Duration::from_millis(1), true, start);
        assert_eq!([search.pause(), search.pause(), search.pause()].map(|p| p.as_secs()), [5, 10, 10]);
        search.tried(false, start);
        assert_eq!(search.pause().as_secs(), 5);
        search.had_link(STABLE, false, start);
        assert_eq!(search.pause(), FIRST_PAUSE);
    }
}
