//! How large the deltas of a table usually are, and from where on one is too large to be one of
//! them (time-free).
//!
//! What is too large for a delta depends on the model, on the data and on the learning rate, and
//! few people know a figure. What they know is that no healthy delta is a thousand times as large
//! as the others. So the root mean square of what workers have added lately is kept for each table,
//! over about [`WINDOW`] clocks of all workers, and a delta beyond a multiple of that is refused.
//! Elements that are zero say nothing, and do not count.
//!
//! At first nothing is known, and in the first [`WARM_UP`] clocks nothing is refused. Later the
//! mean follows deltas that grow, but an element counts as at most [`CLIP`] times the usual:
//! whoever is let in with a large delta does not make the next one usual.

/// Clocks of all workers in which nothing is refused.
pub const WARM_UP: u64 = 8;
/// Clocks of all workers over which the mean goes.
pub const WINDOW: u64 = 64;
/// As how many times the usual an element counts at most.
pub const CLIP: f64 = 8.0;

/// The usual magnitude of one table's deltas, and how many times that is allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct UsualDelta {
    times: f64,
    /// By how much what is known weighs less after each flush.
    keep: f64,
    /// Flushes that there have to be before anything is refused.
    warm_up: u64,
    flushes: u64,
    /// Sums over the elements that were not zero: their squares, and their number.
    squares: f64,
    elements: f64,
    largest: Option<f32>,
}

impl UsualDelta {
    /// Nothing is known yet; `times` the usual will be allowed, to each of `workers`.
    pub fn new(times: f32, workers: usize) -> Self {
        let workers = workers.max(1) as u64;
        let keep = 1.0 - 1.0 / (WINDOW * workers) as f64;
        let (warm_up, times) = (WARM_UP * workers, f64::from(times));
        Self { times, keep, warm_up, flushes: 0, squares: 0.0, elements: 0.0, largest: None }
    }

    /// The largest magnitude that is allowed now; none while too little is known.
    pub fn allowed(&self) -> Option<f32> {
        let usual = self.usual().filter(|_| self.flushes >= self.warm_up)?;
        // Beyond what f32 holds there is nothing to refuse.
        Some((self.times * usual).min(f64::from(f32::MAX)) as f32)
    }

    /// The largest magnitude that has been allowed at any time: deltas become smaller while a model
    /// is trained, and sums of them still have the first.
    pub fn largest_allowed(&self) -> Option<f32> {
        self.largest
    }

    /// Takes in deltas of one flush, which are added; they come in parts.
    pub fn observe<'a>(&mut self, parts: impl IntoIterator<Item = &'a [f32]>) {
        let most = match self.allowed() {
            Some(_) => CLIP * self.usual().unwrap_or(f64::INFINITY),
            None => f64::INFINITY,
        };
        let (mut squares, mut elements) = (0.0, 0u64);
        for part in parts {
            let (more, count) = squares_of(part, most);
            squares += more;
            elements += count;
        }
        if elements == 0 {
            return;
        }
        self.squares = self.keep * self.squares + squares;
        self.elements = self.keep * self.elements + elements as f64;
        self.flushes += 1;
        self.largest = match (self.largest, self.allowed()) {
            (Some(before), Some(now)) => Some(before.max(now)),
            (before, now) => before.or(now),
        };
    }

    fn usual(&self) -> Option<f64> {
        let usual = (self.squares / self.elements).sqrt();
        // None of nothing, and none where all was smaller than what has a square.
        (usual > 0.0).then_some(usual)
    }
}

/// The sum of squares of `values`, each counting as at most `most`, and how many are not zero.
fn squares_of(values: &[f32], most: f64) -> (f64, u64) {
    // Eight sums beside each other, so that no addition has to wait for the one before.
    let (mut squares, mut counts) = ([0.0; 8], [0u64; 8]);
    for chunk in values.chunks(8) {
        for ((square, count), value) in squares.iter_mut().zip(&mut counts).zip(chunk) {
            let magnitude = f64::from(value.abs()).min(most);
            *square += magnitude * magnitude;
            *count += u64::from(*value != 0.0);
        }
    }
    (squares.iter().sum(), counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many flushes of two workers with deltas of this size.
    fn after(flushes: u64, size: f32) -> UsualDelta {
        let mut usual = UsualDelta::new(1000.0, 2);
        (0..flushes).for_each(|_| usual.observe([&[size, 0.0, -size][..]]));
        usual
    }

    #[test]
    fn nothing_is_refused_before_something_is_known() {
        assert_eq!(after(15, 0.5).allowed(), None);
        assert_eq!(after(16, 0.5).allowed(), Some(500.0));
        assert_eq!(after(100, 0.0).allowed(), None, "zeros say nothing");
    }

    #[test]
    fn the_usual_follows_what_becomes_smaller_and_larger() {
        let mut usual = after(200, 1.0);
        (0..2000).for_each(|_| usual.observe([&[0.01][..]]));
        let allowed = usual.allowed().expect("it is warm");
        assert!((9.9..12.0).contains(&allowed), "{allowed}");
        assert_eq!(usual.largest_allowed(), Some(1000.0));
        (0..2000).for_each(|_| usual.observe([&[1.0][..]]));
        let allowed = usual.allowed().expect("it is warm");
        assert!((900.0..1000.1).contains(&allowed), "{allowed}");
    }

    #[test]
    fn one_large_delta_does_not_make_the_next_one_usual() {
        let mut usual = after(200, 1.0);
        usual.observe([&[999.0][..], &[999.0]]);
        let allowed = usual.allowed().expect("it is warm");
        assert!(allowed < 1500.0, "{allowed}");
    }

    #[test]
    fn extreme_deltas_leave_a_number() {
        for size in [f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)] {
            let allowed = after(100, size).allowed();
            assert!(allowed.is_none_or(f32::is_finite), "{size}: {allowed:?}");
        }
    }
}
