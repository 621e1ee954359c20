//! What a shard may send to a mirror, where an operator bounds it.
//!
//! Kind: time-passed.
//!
//! The problem: a threshold says which updates are worth the WAN, and not what they come to. An operator may have so
//! many Mbit/s beside other traffic, or so many dollars a day, and a model that is trained for weeks must keep to that
//! whatever its updates do.
//!
//! Two things keep it. Each mirror has an [`Account`], which is credited as time or clocks pass, and charged with all
//! that crosses the wire: payload when it is handed to the link, headers, control and repeats as the link's counters
//! show them. While it owes, no update leaves. That alone would let updates queue that others wait for; so a release is
//! fitted to what the account has until the next clock: the filter's [census](crate::filter) counts what each
//! threshold would ship, and [`Prices`] what that takes, as sizes before have shown.
//!
//! What is not spent is kept for `KEPT` and no longer, so that what leaves in any ten seconds is what they allow, and
//! a few per cent more at most. Statements of clocks are charged, and never wait.

use std::time::{Duration, Instant};

use crate::policy::{Budget, BudgetScope, Limit};
use crate::token_bucket::TokenBucket;

/// For how long what is not spent is kept: three per cent of ten seconds.
const KEPT: Duration = Duration::from_millis(300);

/// What crosses besides payload cannot be held back, and makes a debt of no more than the credit of so
/// long. And where that alone takes all there is, an update passes every so often all the same: others
/// may wait for it.
const LONGEST_DEBT: Duration = Duration::from_secs(10);

/// How much an update may hold: what comes in in so long, and at least about a packet.
const PIECE: Duration = Duration::from_millis(100);
const SMALLEST_PIECE_BYTES: f64 = 1200.0;

/// A threshold that is raised by no more than this is not in the way of anything.
pub const NOT_RAISED: f64 = 1.01;

/// Over how long it is told which part was used.
const TOLD_OVER: Duration = Duration::from_secs(10);

/// What a shard may still send to one mirror.
#[derive(Clone, Debug)]
pub struct Account {
    limit: Limit,
    /// Bytes.
    bucket: TokenBucket,
    /// The most that is owed for overhead.
    most_debt: f64,
    /// When an update was last paid, or there was an account to pay from for the first time.
    updated_at: Option<Instant>,
    used: Used,
}

/// Credit and what was spent, in windows of [`TOLD_OVER`].
#[derive(Clone, Debug, Default)]
struct Used {
    since: Option<Instant>,
    credited: f64,
    spent: f64,
    /// Of the last window that is over.
    last: Option<Spending>,
}

/// What was credited and spent in ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spending {
    /// Bytes that were allowed.
    pub credited: f64,
    /// Bytes on the wire.
    pub spent: f64,
    /// In how long.
    pub seconds: f64,
}

impl Spending {
    /// Both together, of the same time.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let (credited, spent) = (self.credited + other.credited, self.spent + other.spent);
        Self { credited, spent, seconds: self.seconds.max(other.seconds) }
    }
}

impl Account {
    /// An account that begins with nothing.
    pub fn new(limit: Limit) -> Self {
        let bucket = TokenBucket::new(0.0);
        Self { limit, bucket, most_debt: f64::INFINITY, updated_at: None, used: Used::default() }
    }

    /// Takes in the credit of the time that has passed, where so many `links` share the budget.
    pub fn fill(&mut self, now: Instant, links: f64) {
        if let Limit::BytesPerSec(rate) = self.limit {
            let rate = rate / links;
            self.most_debt = rate * LONGEST_DEBT.as_secs_f64();
            self.used.credited += self.bucket.refill(rate, rate * KEPT.as_secs_f64(), now);
            self.updated_at.get_or_insert(now);
        }
        self.used.turn(now);
    }

    /// A clock has ended, of which each takes about `length`; there is a release at every `every`-th.
    pub fn end_clock(&mut self, length: Duration, every: u32, links: f64) {
        if let Limit::BytesPerClock(bytes) = self.limit {
            let bytes = bytes / links;
            let kept = most_clocks(length).max(every);
            let per_sec = bytes / length.clamp(SHORTEST_CLOCK, LONGEST_DEBT).as_secs_f64();
            self.most_debt = per_sec * LONGEST_DEBT.as_secs_f64();
            self.bucket.add(bytes, bytes * f64::from(kept));
            self.used.credited += bytes;
        }
    }

    /// An update was sent.
    pub fn spend(&mut self, bytes: f64) {
        self.bucket.spend(bytes);
        self.used.spent += bytes;
        self.updated_at = self.bucket.filled_at();
    }

    /// So much has crossed besides.
    pub fn spend_overhead(&mut self, bytes: f64) {
        self.bucket.spend(bytes.min((self.bucket.level() + self.most_debt).max(0.0)));
        self.used.spent += bytes;
    }

    /// Whether an update may be sent, as of when the account was filled: where time pays, while nothing is
    /// owed, or if none was sent for long. Clocks may wait for that very update, so where they pay, a debt
    /// is left to the releases that follow.
    pub fn may_spend(&self) -> bool {
        let waited = self.bucket.filled_at().zip(self.updated_at);
        self.bucket.level() >= 0.0
            || matches!(self.limit, Limit::BytesPerClock(_))
            || waited.is_some_and(|(now, since)| now.saturating_duration_since(since) >= LONGEST_DEBT)
    }

    /// What a release may take that is to last for `time`.
    pub fn due(&self, time: Duration, links: f64) -> f64 {
        match self.limit {
            Limit::BytesPerSec(rate) => self.bucket.level() + rate / links * time.as_secs_f64(),
            Limit::BytesPerClock(_) => self.bucket.level(),
        }
    }

    /// What comes in until the next release, where there is one at every `every`-th clock.
    pub fn income(&self, length: Duration, every: u32, links: f64) -> f64 {
        match self.limit {
            Limit::BytesPerSec(rate) => rate / links * length.saturating_mul(every).as_secs_f64(),
            Limit::BytesPerClock(bytes) => bytes / links * f64::from(every),
        }
    }

    /// When an update may be sent, if that is not now and time alone pays.
    pub fn next_at(&self, links: f64) -> Option<Instant> {
        let Limit::BytesPerSec(rate) = self.limit else { return None };
        if self.may_spend() {
            return None;
        }
        let wait = Duration::try_from_secs_f64(self.bucket.debt() / rate * links).unwrap_or(Duration::MAX);
        let paid_at = self.bucket.filled_at()?.checked_add(wait.max(Duration::from_millis(1)));
        let at_last = self.updated_at.and_then(|since| since.checked_add(LONGEST_DEBT));
        [paid_at, at_last].into_iter().flatten().min()
    }

    /// How many bytes an update should have.
    pub fn piece_bytes(&self, links: f64) -> f64 {
        match self.limit {
            Limit::BytesPerSec(rate) => (rate / links * PIECE.as_secs_f64()).max(SMALLEST_PIECE_BYTES),
            Limit::BytesPerClock(_) => f64::INFINITY,
        }
    }

    /// Of the last ten seconds that were looked at as a whole; none before.
    pub fn spending(&self) -> Option<Spending> {
        self.used.last
    }
}

impl Used {
    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        if seconds >= TOLD_OVER.as_secs_f64() {
            let last = Spending { credited: self.credited, spent: self.spent, seconds };
            *self = Self { since: Some(now), last: Some(last), ..Self::default() };
        }
    }
}

/// A clock is taken to be at least this long.
const SHORTEST_CLOCK: Duration = Duration::from_millis(1);

/// How many clocks there may be between two releases where a budget is in the way: no more than is kept, since what
/// several clocks allow cannot leave at once.
pub fn most_clocks(length: Duration) -> u32 {
    (KEPT.as_nanos() / length.max(SHORTEST_CLOCK).as_nanos()).max(1) as u32
}

/// Among how many links a budget is shared, where so many mirrors are there.
pub fn links(budget: Budget, mirrors: usize) -> f64 {
    match budget.scope {
        BudgetScope::Link => 1.0,
        BudgetScope::Region => mirrors.max(1) as f64,
    }
}

/// Weight of what was sent before in what is known of prices, at each update.
const MEMORY: f64 = 0.9;

/// What shipping takes, as it was seen of late.
#[derive(Clone, Copy, Debug)]
pub struct Prices {
    /// Sums over what was sent: elements, their payload, and what that was estimated to be.
    elements: f64,
    bytes: f64,
    estimated_bytes: f64,
    /// Bytes of an element, as estimated at the last release.
    estimate: f64,
}

impl Default for Prices {
    fn default() -> Self {
        Self { elements: 1.0, bytes: 2.0, estimated_bytes: 2.0, estimate: 2.0 }
    }
}

impl Prices {
    /// What an estimate may come to so that what is sent has `bytes` of payload.
    pub fn estimate_for(&self, bytes: f64) -> f64 {
        bytes * (self.estimated_bytes / self.bytes).clamp(0.1, 10.0)
    }

    /// About how many payload bytes so many elements take.
    pub fn of_elements(&self, elements: u64) -> f64 {
        self.bytes / self.elements * elements as f64
    }

    /// About how many elements so many payload bytes hold.
    pub fn elements_in(&self, bytes: f64) -> f64 {
        bytes * self.elements / self.bytes
    }

    /// An element that was released is estimated to take so many bytes.
    pub fn estimate(&mut self, element_bytes: f64) {
        self.estimate = element_bytes;
    }

    /// So many elements took `bytes` of payload.
    pub fn learn(&mut self, elements: usize, bytes: u64) {
        if elements > 0 && bytes > 0 {
            let add = |sum: &mut f64, more: f64| *sum = MEMORY * *sum + more;
            add(&mut self.elements, elements as f64);
            add(&mut self.bytes, bytes as f64);
            add(&mut self.estimated_bytes, elements as f64 * self.estimate);
        }
    }
}

/// What crosses a link besides payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overhead {
    handed_over: u64,
    /// By how much what was sent exceeds that, when it was last looked at: less than nothing while payload waits in the
    /// link.
    excess: i64,
    /// The most that it has been since the link came up, which is what was told.
    told: i64,
}

impl Overhead {
    /// So much payload was handed to the link.
    pub fn hand_over(&mut self, bytes: u64) {
        self.handed_over += bytes;
    }

    /// The link has come up: what was handed over to the one before and not sent never will be.
    pub fn restart(&mut self) {
        self.told = self.excess;
    }

    /// So much has been sent in all. Yields how much of it is overhead, and was not told before.
    pub fn observe(&mut self, wire_bytes: u64) -> u64 {
        self.excess = wire_bytes as i64 - self.handed_over as i64;
        let news = self.excess - self.told;
        self.told = self.told.max(self.excess);
        news.max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 100_000.0;
    const CLOCK: Duration = Duration::from_millis(400);

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_leaves_in_any_ten_seconds_is_what_they_allow_and_a_little_more_at_most() {
        let start = start();
        for links in [1.0, 2.0] {
            let mut account = Account::new(Limit::BytesPerSec(RATE));
            let mut sent: Vec<(u64, f64)> = Vec::new();
            for millis in 0..60_000 {
                account.fill(start + Duration::from_millis(millis), links);
                // Something to send comes in bursts, and for ten seconds nothing does.
                while account.may_spend() && millis % 5000 < 4000 && !(20_000..30_000).contains(&millis) {
                    let bytes = account.piece_bytes(links) * 1.02;
                    account.spend(bytes);
                    sent.push((millis, bytes));
                }
            }
            for from in (0..50_000).step_by(100) {
                let window = from..from + 10_000;
                let bytes: f64 =
                    sent.iter().filter(|(at, _)| window.contains(at)).map(|(_, bytes)| bytes).sum();
                assert!(bytes <= 1.05 * 10.0 * RATE / links, "{bytes} in {window:?}");
            }
        }
    }

    #[test]
    fn a_clock_is_credited_when_it_ends_and_what_it_did_not_spend_is_not_kept() {
        let mut account = Account::new(Limit::BytesPerClock(1000.0));
        account.end_clock(CLOCK, 1, 1.0);
        account.end_clock(CLOCK, 1, 1.0);
        assert_eq!(account.due(CLOCK, 1.0), 1000.0);
        account.spend(1600.0);
        assert!(account.may_spend() && account.next_at(1.0).is_none(), "only clocks pay");
        assert_eq!(account.due(CLOCK, 1.0), -600.0);
        account.end_clock(CLOCK, 1, 1.0);
        assert_eq!(account.due(CLOCK, 1.0), 400.0);
        (0..9).for_each(|_| account.end_clock(CLOCK, 4, 1.0));
        assert_eq!(account.due(CLOCK, 1.0), 4000.0, "what a release of four clocks may take");
        account.spend(4000.0);
        let short = Duration::from_millis(100);
        (0..9).for_each(|_| account.end_clock(short, 1, 2.0));
        assert_eq!(
            account.due(short, 2.0),
            3.0 * 500.0,
            "as many as are in what is kept, shared by two links"
        );
        assert_eq!([CLOCK, short, Duration::ZERO].map(most_clocks), [1, 3, 300]);
    }

    #[test]
    fn updates_are_paid_in_full_and_overhead_makes_a_bounded_debt() {
        let start = start();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut account = Account::new(Limit::BytesPerSec(RATE));
        account.fill(start, 1.0);
        account.spend_overhead(1e9);
        account.fill(at(11), 1.0);
        assert!(account.may_spend(), "ten seconds are enough");
        account.fill(at(20), 1.0);
        account.spend(50.0 * RATE);
        account.fill(at(29), 1.0);
        assert!(!account.may_spend());
        // Whatever is owed, one passes after ten seconds, and then none for as long.
        assert_eq!(account.next_at(1.0), Some(at(30)));
        account.fill(at(30), 1.0);
        assert!(account.may_spend() && account.next_at(1.0).is_none());
        account.spend(1000.0);
        assert!(!account.may_spend());
        account.fill(at(39), 1.0);
        assert!(!account.may_spend());
    }

    #[test]
    fn when_it_may_spend_again_is_told() {
        let start = start();
        let mut account = Account::new(Limit::BytesPerSec(RATE));
        account.fill(start, 2.0);
        assert_eq!(account.next_at(2.0), None);
        account.spend(50_000.0);
        assert_eq!(account.next_at(2.0), Some(start + Duration::from_secs(1)));
        account.fill(start + Duration::from_secs(1), 2.0);
        assert!(account.may_spend());
    }

    #[test]
    fn overhead_is_told_once_and_not_while_payload_waits_in_the_link() {
        let mut overhead = Overhead::default();
        assert_eq!(overhead.observe(3000), 3000, "a handshake");
        overhead.hand_over(10_000);
        assert_eq!([4000, 13_000, 13_400].map(|sent| overhead.observe(sent)), [0, 0, 400]);
        overhead.hand_over(5000);
        assert_eq!(overhead.observe(15_000), 0);
        // It breaks: 3,600 bytes were never sent, and go again.
        overhead.restart();
        overhead.hand_over(5000);
        assert_eq!([18_000, 20_600].map(|sent| overhead.observe(sent)), [0, 600]);
    }

    #[test]
    fn prices_follow_what_is_sent() {
        let mut prices = Prices::default();
        for _ in 0..40 {
            prices.estimate(2.0);
            prices.learn(100, 300);
        }
        assert!((prices.of_elements(100) - 300.0).abs() < 1.0);
        assert!((prices.elements_in(300.0) - 100.0).abs() < 1.0);
        assert!((prices.estimate_for(300.0) - 200.0).abs() < 1.0);
        prices.learn(0, 100);
        prices.learn(100, 0);
        assert!(prices.estimate_for(300.0).is_finite());
    }
}
