//! How large sums may become, and how small deltas get into them (time-free).
//!
//! Two things go wrong when a great many deltas are added to an f32, though each delta is a number.
//!
//! *Large ones overflow.* So no sum is let beyond [`MAX_SUM`], which is far from where f32 ends:
//! what one party has brought near that bound leaves room for everybody else's. Whoever's delta
//! would go beyond is refused. A delta that does not take a sum further from zero never is,
//! wherever the sum stands: a party that keeps to the rules is not refused for what others did.
//!
//! *Small ones vanish.* Next to one, f32 has steps of 1.2e-7; a delta of less than half a step,
//! rounded to nearest, is lost however often it comes. So sums are rounded to one of their two
//! neighbours in turn, as often to each as makes the sum right on average ([`Rounding`]). Sums that
//! are exact, such as those of integers, stay exact.

use crate::Elements;

/// The largest magnitude to which anybody may bring a sum, 2^96 or 7.9e28: 2^32 times less than f32
/// holds, so that what a few thousand parties have each brought to the bound is a number in sum. No
/// model that is of use has such values.
pub const MAX_SUM: f32 = f32::from_bits((127 + 96) << 23);

/// Whether `delta` may be added to `sum`: it brings the sum no further than `limit`, or no further
/// from zero than it is.
pub fn may_add(sum: f32, delta: f32, limit: f32) -> bool {
    (sum + delta).abs() <= limit.max(sum.abs())
}

/// The largest magnitude of `values`: zero for none, infinite or NaN if one is.
pub fn largest(values: &[f32]) -> f32 {
    f32::from_bits(largest_bits(values))
}

/// The same of all of `deltas`.
pub fn largest_of(deltas: &[Elements]) -> f32 {
    f32::from_bits(deltas.iter().map(|delta| largest_bits(&delta.values)).max().unwrap_or(0))
}

/// The larger of two magnitudes; infinite or NaN if one is.
pub(crate) fn larger(one: f32, other: f32) -> f32 {
    f32::from_bits(magnitude(one).max(magnitude(other)))
}

/// The magnitude of a value as bits, which order like the numbers, infinity and then NaN above all.
#[inline]
pub(crate) fn magnitude(value: f32) -> u32 {
    value.to_bits() & !SIGN
}

/// Magnitudes as bits order like the numbers, with infinity and then NaN above them all. A maximum
/// of integers has no branches and no order, so that the compiler makes vectors of it.
fn largest_bits(values: &[f32]) -> u32 {
    values.iter().fold(0, |most, value| most.max(value.to_bits() & !SIGN))
}

/// The bit of an `f32` that is its sign.
const SIGN: u32 = 1 << 31;

/// A bound on every sum of a shard, by which sums need not be looked at one by one: what they would
/// be if the largest value of all that was ever added had met in one element, with one sign.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reach(f64);

impl Reach {
    /// Takes in that deltas of which none is larger than `most` were added, at most one to each
    /// sum; or that sums are no larger.
    pub fn extend(&mut self, most: f32) {
        self.0 += f64::from(most);
    }

    /// Whether no sum can come beyond [`MAX_SUM`] when such deltas are added.
    pub fn has_room(self, most: f32) -> bool {
        // Some sums are made of a few others: a preview, what waits for a peer.
        16.0 * (self.0 + f64::from(most)) <= f64::from(MAX_SUM)
    }
}

/// Which of the two neighbours of a sum its rounding takes, for one addition to a table.
///
/// For one element over many additions, and for neighbouring elements in one, thresholds are spread
/// as evenly as can be: they are multiples of the golden ratio. So what rounding adds and takes
/// stays within a few steps of nothing, where thresholds that are drawn would stray as the root of
/// the number of additions. Nothing is drawn: the same additions in the same order give the same
/// values.
#[derive(Clone, Copy, Debug)]
pub struct Rounding(u32);

impl Rounding {
    /// That of the `count`-th addition.
    pub fn of(count: u64) -> Self {
        // 2^32 over the golden ratio.
        Self((count as u32).wrapping_mul(0x9e37_79b9))
    }

    /// Adds `deltas` to values that lie side by side, of which the first is element `first`. Where
    /// a delta is zero, the value stays what it is.
    pub fn add_to(self, values: &mut [f32], deltas: &[f32], first: u32) {
        for ((value, delta), index) in values.iter_mut().zip(deltas).zip(first..) {
            let sum = self.add(*value, *delta, index);
            *value = if *delta == 0.0 { *value } else { sum };
        }
    }

    /// `value + delta`, of element `index`, rounded up or down.
    ///
    /// What is below 2^-52 of the sum, or 2^-29 of a step, is lost.
    #[inline]
    pub fn add(self, value: f32, delta: f32, index: u32) -> f32 {
        // Another multiple, so that elements do not go in step with additions.
        let threshold = self.0.wrapping_add(index.wrapping_mul(0x85eb_ca6b));
        // An f64 has 29 bits more. Adding up to as much as these hold carries into the others as
        // often as these say, in either sign; where they are zero, as they are in what is infinite
        // or NaN, it never does.
        let sum = (f64::from(value) + f64::from(delta)).to_bits() + u64::from(threshold >> 3);
        f64::from_bits(sum & !((1 << 29) - 1)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_for_whoever_goes_beyond() {
        let most = MAX_SUM;
        assert_eq!(most, 2f32.powi(96));
        assert!(may_add(0.0, most, most) && may_add(most, -1.0, most) && may_add(most, 1.0, most));
        assert!(!may_add(most, most, most) && !may_add(0.0, f32::MAX, most));
        assert!(!may_add(f32::MAX, f32::MAX, most) && !may_add(0.0, f32::NAN, most));
        // What others have done beyond it is nobody else's fault.
        assert!(may_add(4.0 * most, 1.0, most) && may_add(4.0 * most, -most, most));
        assert!(!may_add(4.0 * most, most, most));
    }

    #[test]
    fn sums_are_looked_at_only_where_one_could_be_too_large() {
        let mut reach = Reach::default();
        for _ in 0..1_000_000 {
            reach.extend(largest(&[-1e6, 3.0]));
        }
        let of = |values: [f32; 2]| {
            largest_of(&values.map(|value| Elements { values: vec![1.0, value], ..Elements::default() }))
        };
        assert_eq!(
            (largest_of(&[]), of([-3.0, 2.0]), of([f32::NEG_INFINITY, 0.0])),
            (0.0, 3.0, f32::INFINITY)
        );
        assert!(of([f32::NAN, f32::INFINITY]).is_nan());
        assert!(reach.has_room(of([1e6, 0.0])));
        assert!(!reach.has_room(1e28) && !reach.has_room(f32::NAN));
        reach.extend(1e28);
        assert!(!reach.has_room(0.0));
    }

    #[test]
    fn exact_sums_and_what_is_no_number_are_not_rounded() {
        for count in 0..1000 {
            let rounding = Rounding::of(count);
            for (value, delta) in [(1.0, 2.0), (-3.5, 0.25), (16_777_215.0, 1.0), (0.0, -0.0), (1.0, -1.0)] {
                assert_eq!(rounding.add(value, delta, count as u32), value + delta);
            }
            assert!(rounding.add(f32::INFINITY, f32::NEG_INFINITY, 7).is_nan());
            assert!(rounding.add(f32::from_bits(u32::MAX), 1.0, 7).is_nan());
            assert_eq!(rounding.add(f32::NEG_INFINITY, 1.0, 7), f32::NEG_INFINITY);
            assert!(rounding.add(f32::MAX, f32::MAX, 7).is_infinite());
        }
    }

    #[test]
    fn every_sum_is_one_of_its_two_neighbours() {
        for count in 0..100_000u64 {
            let (value, delta) = ((count as f32).sin() * 3.0, (count as f32 * 0.7).cos() * 1e-3);
            let sum = Rounding::of(count).add(value, delta, count as u32);
            let exact = f64::from(value) + f64::from(delta);
            let step = f64::from(sum.abs().next_up() - sum.abs());
            assert!((f64::from(sum) - exact).abs() < step, "{value} + {delta} = {sum}");
        }
    }

    #[test]
    fn small_deltas_add_up_however_many_there_are() {
        // (value, delta, every how many additions to the table it is this element)
        for (start, delta, every) in [
            (1.0f32, 2.5e-8f32, 1u64),
            (-1.0, 2.5e-8, 2),
            (1.0, -3e-9, 3),
            (100.0, 1e-9, 7),
            (0.75, 1e-8, 64),
        ] {
            let mut value = start;
            for count in 0..400_000u64 {
                value = Rounding::of(count * every).add(value, delta, 12_345);
            }
            let exact = f64::from(start) + 400_000.0 * f64::from(delta);
            let step = f64::from(start.abs().next_up() - start.abs());
            let off = (f64::from(value) - exact) / step;
            assert!(off.abs() < 8.0, "{start} + 400,000 * {delta}: {value} is {off} steps from {exact}");
        }
    }
}
