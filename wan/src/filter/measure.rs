//! The significance functions, as loops over blocks of elements (time-free).
//!
//! All built-in functions have the form `|a| / scale > v`, where the scale is `|x|`, one, or a root mean square. It is
//! decided as `|a| > v * scale`, in f64, which needs no division and makes a scale of zero significant for every `a`.

use std::fmt;
use std::sync::Arc;

use datacenter::{Elements, Numbers};

use super::bits::positions;
use super::census::{Census, Turns};
use super::dense;
use crate::policy::{FilterConfig, Significance, ValueFormat};

/// A significance function of one's own.
///
/// Law: the answer depends on the arguments alone, so that a run can be repeated.
pub trait SignificanceFunction: Send + Sync {
    /// Its name. Two functions with one name are taken to be the same.
    fn name(&self) -> &str;

    /// How significant the accumulated update `a` of element `index` is, whose current value is `x`.
    ///
    /// `index` is flat, `slot * width + column`. An answer that is not a number is significant at any threshold.
    fn significance(&self, a: f32, x: f32, index: u32) -> f64;
}

/// A shared [`SignificanceFunction`], equal to those with the same name.
#[derive(Clone)]
pub struct CustomSignificance(Arc<dyn SignificanceFunction>);

impl CustomSignificance {
    /// Wraps `function`.
    pub fn new(function: impl SignificanceFunction + 'static) -> Self {
        Self(Arc::new(function))
    }

    /// The name of the function.
    pub fn name(&self) -> &str {
        self.0.name()
    }
}

impl PartialEq for CustomSignificance {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for CustomSignificance {}

impl fmt::Debug for CustomSignificance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CustomSignificance").field(&self.name()).finish()
    }
}

/// What a release held back in a block of 64 elements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// Which elements.
    pub(super) bits: u64,
    /// The largest `|a|` of them.
    pub(super) largest: f32,
}

/// By what a release decided: see [`TableFigures`](super::TableFigures).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decided {
    pub(super) significance_threshold: Option<f64>,
    pub(super) threshold: Option<f64>,
    pub(super) step: Option<f32>,
}

/// How many steps of `values = "int8"` are one of `values = "auto"`.
const INT8_STEPS: f32 = 16.0;

/// What is shipped of an element: always towards zero, so that no more is ever shipped than was made, and a process that dies with
/// what is left over has lost that much and no more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rounding {
    /// All of it.
    None,
    /// As many steps as are whole.
    Steps(f32),
    /// What the upper two bytes hold.
    Bf16,
}

impl Rounding {
    fn round(self, a: f32) -> f32 {
        match self {
            Self::None => a,
            Self::Steps(step) => (a / step).trunc() * step,
            // What is too small for eight bits, or no number, would become another.
            Self::Bf16 if a.is_normal() => f32::from_bits(a.to_bits() & 0xffff_0000),
            Self::Bf16 => a,
        }
    }

    fn step(self) -> Option<f32> {
        match self {
            Self::Steps(step) => Some(step),
            Self::None | Self::Bf16 => None,
        }
    }
}

/// Decides what one release of one table holds back. Blocks must come in ascending order.
pub(super) enum Measure<'a> {
    /// Nothing.
    Everything,
    /// What is at most `threshold * scale`; of the rest, what rounding leaves over.
    Uniform { threshold: f64, scale: f64, rounding: Rounding },
    /// What is at most `threshold * |x|`.
    Relative { threshold: f64, values: &'a [f32], rounding: Rounding },
    /// What is at most `threshold` times the root mean square of its row.
    RowRms {
        threshold: f64,
        values: &'a [f32],
        width: usize,
        /// Where the row ends that was last looked at; zero for none.
        row_end: usize,
        /// The root mean square of that row.
        scale: f64,
        rounding: Rounding,
    },
    /// What a user's function puts at or below `threshold`.
    Custom { threshold: f64, values: &'a [f32], function: &'a dyn SignificanceFunction, rounding: Rounding },
}

impl<'a> Measure<'a> {
    /// The measure by `config` at `threshold` for a table whose values are `values`, `[slots * width]`, and of which a clock
    /// usually updates elements by `usual`.
    pub(super) fn new(
        config: &'a FilterConfig,
        threshold: f64,
        usual: Option<f64>,
        values: &'a [f32],
        width: u32,
    ) -> Self {
        let uniform = |scale: f64| {
            // Of whole numbers a whole part is shipped. Without the low bits of a bf16 one is still whole.
            let least = if config.numbers == Numbers::Whole { 1.0 } else { 0.0 };
            let steps =
                |part: f32| step_of(threshold * scale).map(|step| Rounding::Steps((step / part).max(least)));
            let rounding = match config.values {
                ValueFormat::Auto => steps(1.0).unwrap_or(Rounding::None),
                ValueFormat::Int8 => steps(INT8_STEPS).unwrap_or(Rounding::None),
                ValueFormat::Bf16 => Rounding::Bf16,
                ValueFormat::F32 => Rounding::None,
            };
            Self::Uniform { threshold, scale, rounding }
        };
        let rounding = if config.values == ValueFormat::Bf16 { Rounding::Bf16 } else { Rounding::None };
        match &config.function {
            Significance::Absolute => uniform(1.0),
            Significance::UsualUpdate => uniform(usual.unwrap_or(0.0)),
            Significance::TableRms => uniform(root_mean_square(values)),
            Significance::Relative => Self::Relative { threshold, values, rounding },
            Significance::RowRms => {
                let width = width as usize;
                Self::RowRms { threshold, values, width, row_end: 0, scale: 0.0, rounding }
            }
            Significance::Custom(custom) => {
                Self::Custom { threshold, values, function: &*custom.0, rounding }
            }
        }
    }

    /// By what it decides; none where it holds nothing back.
    pub(super) fn decided(&self) -> Option<Decided> {
        let by = |threshold: &f64| Decided { significance_threshold: Some(*threshold), ..Decided::default() };
        match self {
            Self::Everything => None,
            Self::Uniform { threshold, scale, rounding } => {
                Some(Decided { threshold: Some(threshold * scale), step: rounding.step(), ..by(threshold) })
            }
            Self::Relative { threshold, .. }
            | Self::RowRms { threshold, .. }
            | Self::Custom { threshold, .. } => Some(by(threshold)),
        }
    }

    /// Whether every `|a| <= largest` is held back, wherever it is.
    pub(super) fn holds_up_to(&self, largest: f32) -> bool {
        match self {
            Self::Uniform { threshold, scale, .. } => is_held(largest, *threshold, *scale),
            Self::Everything | Self::Relative { .. } | Self::RowRms { .. } | Self::Custom { .. } => false,
        }
    }

    /// Counts what is not held back, of the elements `base + p` for each bit `p` of `waiting`.
    pub(super) fn count_block(
        &mut self,
        waiting: u64,
        base: usize,
        accumulated: &[f32],
        census: &mut Census,
    ) {
        match self {
            Self::Everything => {}
            Self::Uniform { threshold, scale, .. } => {
                count_block(waiting, base, accumulated, census, |_, a| times(a, *threshold, *scale));
            }
            Self::Relative { threshold, values, .. } => {
                count_block(waiting, base, accumulated, census, |i, a| {
                    times(a, *threshold, f64::from(values[i]).abs())
                });
            }
            Self::RowRms { threshold, values, width, row_end, scale, .. } => {
                count_block(waiting, base, accumulated, census, |i, a| {
                    if i >= *row_end {
                        (*scale, *row_end) = row_scale(values, *width, i);
                    }
                    times(a, *threshold, *scale)
                });
            }
            Self::Custom { threshold, values, function, .. } => {
                count_block(waiting, base, accumulated, census, |i, a| {
                    match a.is_finite() && values[i].is_finite() {
                        true => function.significance(a, values[i], i as u32) / *threshold,
                        false => f64::INFINITY,
                    }
                });
            }
        }
    }

    /// Moves what is not held back, of the elements `base + p` for each bit `p` of `waiting`, from `accumulated` to
    /// `out`, and leaves zeros. Of what is just above its threshold pass those whose turn it is.
    pub(super) fn release_block(
        &mut self,
        waiting: u64,
        base: usize,
        accumulated: &mut [f32],
        out: &mut Elements,
        turns: &mut Turns,
    ) -> Kept {
        if let Some(kept) = self.release_dense(waiting, base, accumulated, out, turns) {
            return kept;
        }
        let block = Block { waiting, base, turns };
        match self {
            Self::Everything => block.release(accumulated, out, Rounding::None, |_, _, _| false),
            Self::Uniform { threshold, scale, rounding } => {
                block.release(accumulated, out, *rounding, |_, a, times| {
                    is_held(a, *threshold * times, *scale)
                })
            }
            Self::Relative { threshold, values, rounding } => {
                block.release(accumulated, out, *rounding, |i, a, times| {
                    is_held(a, *threshold * times, f64::from(values[i]).abs())
                })
            }
            Self::RowRms { threshold, values, width, row_end, scale, rounding } => {
                block.release(accumulated, out, *rounding, |i, a, times| {
                    if i >= *row_end {
                        (*scale, *row_end) = row_scale(values, *width, i);
                    }
                    is_held(a, *threshold * times, *scale)
                })
            }
            Self::Custom { threshold, values, function, rounding } => {
                block.release(accumulated, out, *rounding, |i, a, times| {
                    a.is_finite()
                        && values[i].is_finite()
                        && function.significance(a, values[i], i as u32) <= *threshold * times
                })
            }
        }
    }
}

/// How many elements of a block have to wait for all 64 to be looked at at once.
const DENSE: u32 = 16;

impl Measure<'_> {
    /// The same where one bound serves the whole block, most of the block waits and nothing has to take turns. What does not
    /// wait is zero, and left alone as such.
    fn release_dense(
        &self,
        waiting: u64,
        base: usize,
        accumulated: &mut [f32],
        out: &mut Elements,
        turns: &mut Turns,
    ) -> Option<Kept> {
        if waiting.count_ones() < DENSE || turns.are_needed() {
            return None;
        }
        let (limit, rounding) = match *self {
            Self::Everything => (-1.0, Rounding::None),
            Self::Uniform { threshold, scale, rounding } => (largest_held(threshold, scale), rounding),
            Self::Relative { .. } | Self::RowRms { .. } | Self::Custom { .. } => return None,
        };
        let values = accumulated[base..].first_chunk_mut()?;
        if rounding == Rounding::None {
            return Some(dense::ship(values, base as u32, limit, out));
        }
        let dense::Compared { passes, held } = dense::compare(values, limit);
        let block = Block { waiting: passes, base, turns };
        let rest = block.release(accumulated, out, rounding, |_, a, _| a.abs() <= limit);
        Some(Kept { bits: held.bits | rest.bits, largest: held.largest.max(rest.largest) })
    }
}

/// The largest magnitude that [`is_held`], so that comparing two f32 decides the same; negative where none is.
fn largest_held(threshold: f64, scale: f64) -> f32 {
    let bound = threshold * scale;
    if !(bound >= 0.0 && scale <= f64::MAX) {
        return -1.0;
    }
    let nearest = bound.min(f64::from(f32::MAX)) as f32;
    if f64::from(nearest) > bound { nearest.next_down() } else { nearest }
}

/// Counts what `times` puts above one: how many times its threshold an element is.
fn count_block(
    waiting: u64,
    base: usize,
    accumulated: &[f32],
    census: &mut Census,
    mut times: impl FnMut(usize, f32) -> f64,
) {
    for index in positions(waiting).map(|position| base + position) {
        let a = accumulated[index];
        if a == 0.0 {
            continue;
        }
        let times = times(index, a);
        // What is no number is not held.
        let is_held = times <= 1.0;
        if !is_held {
            census.count(times);
        }
    }
}

/// Whether `|a| > threshold * scale` does not hold and all three are numbers; `a` and `scale` also finite.
///
/// Written so that every comparison with something that is not a number answers "not held".
fn is_held(a: f32, threshold: f64, scale: f64) -> bool {
    let magnitude = f64::from(a).abs();
    magnitude <= threshold * scale && magnitude <= f64::MAX && scale <= f64::MAX
}

/// How many times `threshold * scale` the magnitude of `a` is.
fn times(a: f32, threshold: f64, scale: f64) -> f64 {
    f64::from(a).abs() / (threshold * scale)
}

/// The root mean square of the row that element `i` is in, and where that row ends.
fn row_scale(values: &[f32], width: usize, i: usize) -> (f64, usize) {
    let row = i / width;
    let end = (row + 1) * width;
    (root_mean_square(&values[row * width..end]), end)
}

/// The elements of a block of 64 that wait.
struct Block<'a> {
    waiting: u64,
    base: usize,
    turns: &'a mut Turns,
}

impl Block<'_> {
    /// `is_held(index, a, times)` says whether `a` is at most so many times its threshold.
    fn release(
        self,
        accumulated: &mut [f32],
        out: &mut Elements,
        rounding: Rounding,
        mut is_held: impl FnMut(usize, f32, f64) -> bool,
    ) -> Kept {
        let Self { waiting, base, turns } = self;
        let some_wait = turns.are_needed();
        let mut kept = Kept::default();
        for position in positions(waiting) {
            let index = base + position;
            let a = accumulated[index];
            if a == 0.0 {
                // Updates cancelled out.
                continue;
            }
            if is_held(index, a, 1.0) || some_wait && is_held(index, a, turns.full) && !turns.next() {
                kept.bits |= 1 << position;
                kept.largest = kept.largest.max(a.abs());
            } else {
                // What rounding leaves over waits, and what waits is not significant.
                let rounded = rounding.round(a);
                let shipped = if rounded == a || is_held(index, a - rounded, 1.0) { rounded } else { a };
                out.push(index as u32, shipped);
                accumulated[index] = 0.0;
                if shipped != a && a.is_finite() {
                    accumulated[index] = a - shipped;
                    kept.bits |= 1 << position;
                    kept.largest = kept.largest.max(accumulated[index].abs());
                }
            }
        }
        kept
    }
}

/// The step in which values are shipped that pass a threshold of `limit`: the largest power of two that is no larger. None
/// where that is too small, or too large, for sums of steps to be exact.
fn step_of(limit: f64) -> Option<f32> {
    let exponent = limit.is_normal().then(|| ((limit.to_bits() >> 52) as i32 & 0x7ff) - 1023)?;
    (-100..=60).contains(&exponent).then(|| f32::from_bits(((exponent + 127) as u32) << 23))
}

/// `sqrt(mean of x^2)`; zero for no values. The order of summation is fixed: eight interleaved sums, in f64.
pub(super) fn root_mean_square(values: &[f32]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let mut sums = [0.0f64; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*x) * f64::from(*x);
    }
    (sums.iter().sum::<f64>() / values.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_largest_that_is_held_decides_as_the_product_does(
            threshold in prop_oneof![-1.0..4.0f64, 0.0..1e-44f64, any::<f64>()],
            scale in prop_oneof![Just(1.0), 0.0..4.0f64, any::<f64>()],
            a in any::<f32>(),
        ) {
            let limit = largest_held(threshold, scale);
            for a in [a, limit, limit.next_up(), limit.next_down(), f32::MAX, f32::INFINITY, f32::NAN] {
                if a != 0.0 {
                    let expected = is_held(a, threshold, scale);
                    prop_assert_eq!(a.abs() <= limit, expected, "{} {} {}", a, threshold, scale);
                }
            }
        }
    }
}
