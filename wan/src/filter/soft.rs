//! The soft threshold: idle bandwidth spent on updates below the hard threshold (time-free).
//!
//! The problem: the hard threshold says what must be shipped, and on a fast link leaves most of it idle, though every
//! update that arrives earlier helps. The paper (section 4) has a second, lower threshold for that. The idea here:
//! it is the hard one times a factor, and the factor probes like a congestion window. While what was released drains
//! within its clock the factor falls by an eighth a clock; once a queue remains it doubles, because what queues are
//! significant updates too; when a whole clock's worth waits the factor is back at one at once.

use std::time::Duration;

/// Below this part of a clock the backlog counts as drained: the links were idle.
const IDLE: f64 = 0.1;
/// From this part of a clock on the links are queueing. Between the two the factor rests.
const QUEUEING: f64 = 0.5;
/// What the factor is multiplied by after an idle clock.
const FALL: f64 = 0.875;
/// What the factor is multiplied by after a clock that left a queue.
const RISE: f64 = 2.0;

/// The factor between hard and soft threshold.
///
/// Always in `[min, 1]`, so the soft threshold is never above the hard one.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftThreshold {
    min: f64,
    factor: f64,
}

impl Default for SoftThreshold {
    /// A factor down to 1/64: below that nearly every update passes, and each further one matters less.
    fn default() -> Self {
        Self::new(1.0 / 64.0)
    }
}

impl SoftThreshold {
    /// A factor that starts at one and never falls below `min`.
    ///
    /// # Panics
    ///
    /// If `min` is not above zero and at most one.
    pub fn new(min: f64) -> Self {
        assert!(min > 0.0 && min <= 1.0, "the smallest factor is in (0, 1], not {min}");
        Self { min, factor: 1.0 }
    }

    /// What the hard threshold is to be multiplied by.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Takes in, once a clock, how long the links need for what waits (`backlog`), against how long the clock took.
    ///
    /// Where no time has passed, any backlog counts as a whole clock's.
    pub fn observe(&mut self, backlog: Duration, clock_length: Duration) {
        let load = if backlog.is_zero() { 0.0 } else { backlog.as_secs_f64() / clock_length.as_secs_f64() };
        self.factor = if load >= 1.0 {
            1.0
        } else if load >= QUEUEING {
            (self.factor * RISE).min(1.0)
        } else if load <= IDLE {
            (self.factor * FALL).max(self.min)
        } else {
            self.factor
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Duration = Duration::from_millis(100);

    fn after(loads: &[f64]) -> f64 {
        let mut soft = SoftThreshold::default();
        loads.iter().for_each(|load| soft.observe(CLOCK.mul_f64(*load), CLOCK));
        soft.factor()
    }

    #[test]
    fn it_falls_when_idle_rests_when_busy_and_rises_when_queueing() {
        assert_eq!(after(&[]), 1.0);
        assert_eq!(after(&[0.0]), 0.875);
        assert_eq!(after(&[0.0, 0.1, 0.3]), 0.765_625);
        assert_eq!(after(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.6]), 2.0 * 0.875f64.powi(6));
        assert_eq!(after(&[0.0, 0.5]), 1.0);
        assert_eq!(after(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), 1.0);
        assert_eq!(after(&[0.0; 100]), 1.0 / 64.0);
    }

    #[test]
    fn clocks_of_no_length_are_neither_idle_nor_a_division_by_zero() {
        let mut soft = SoftThreshold::default();
        soft.observe(Duration::ZERO, Duration::ZERO);
        assert_eq!(soft.factor(), 0.875);
        soft.observe(Duration::from_nanos(1), Duration::ZERO);
        assert_eq!(soft.factor(), 1.0);
    }

    /// A link that carries a fixed volume a clock, and updates of which a part `1 - factor / 2` passes.
    #[test]
    fn it_finds_the_rate_of_the_link() {
        for capacity in [0.3, 0.55, 0.7, 0.9] {
            let mut soft = SoftThreshold::default();
            let (mut queue, mut carried, mut worst) = (0.0f64, 0.0, 0.0f64);
            for clock in 0..1000 {
                soft.observe(CLOCK.mul_f64(queue / capacity), CLOCK);
                queue += 1.0 - soft.factor() / 2.0;
                let sent = queue.min(capacity);
                queue -= sent;
                if clock >= 100 {
                    carried += sent;
                    worst = worst.max(queue / capacity);
                }
            }
            if capacity < 0.5 {
                // Even the hard threshold alone is too much for this link: nothing is added to it.
                assert_eq!(soft.factor(), 1.0);
            } else {
                assert!(
                    carried / 900.0 > 0.85 * capacity,
                    "capacity {capacity}: carried {}",
                    carried / 900.0
                );
                assert!(worst < 1.5, "capacity {capacity}: {worst} clocks of backlog");
            }
        }
    }
}
