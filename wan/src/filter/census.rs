//! What a release would ship at any higher threshold, and what that would take (time-free).
//!
//! Each element that would be shipped is counted by how many times its threshold it is, in bins of 32 to an
//! octave: the upper bits of that number as an f32. What passes when the threshold is raised to the lower edge of a bin
//! are that bin and all above it. Of `m` elements out of a table's `n`, indexes take about the entropy of such a set,
//! `n H(m / n)` bits, and values what their format takes.

use crate::policy::ValueFormat;

/// What is below this cannot be raised to anything: a threshold of zero, say. Where a budget is kept, it is taken for
/// this.
pub(super) const LEAST_THRESHOLD: f64 = 1e-12;

/// Mantissa bits that tell bins apart, and octaves that have bins of their own. What is further above its threshold, or is
/// no number, is never held back.
const MANTISSA: u32 = 5;
const OCTAVES: u32 = 64;
const BINS: usize = (OCTAVES as usize) << MANTISSA;
/// The bits of an f32 below those, and what those are of one.
const SHIFT: u32 = 23 - MANTISSA;
const ONE: u32 = 127 << MANTISSA;

/// Of one table.
#[derive(Clone, Debug)]
pub(super) struct Census {
    counts: [u32; BINS],
    elements: f64,
    value_bits: f64,
}

/// To what a threshold is raised, and what is left of a release.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// By what thresholds are multiplied, one or more.
    pub raised: f64,
    /// Which share passes of what is no more than `full` times above that: all of it would be too much.
    pub share: f64,
    /// From how many times the raised threshold on everything passes.
    pub full: f64,
    /// How many elements pass, about.
    pub elements: u64,
    /// How many payload bytes they are estimated to take.
    pub bytes: f64,
}

impl Fit {
    /// Of a release that is not fitted to anything.
    pub(super) const NONE: Self = Self { raised: 1.0, share: 1.0, full: 1.0, elements: 0, bytes: 0.0 };
}

impl Census {
    /// Of a table of so many elements, whose values are shipped in a format.
    pub(super) fn new(elements: usize, values: ValueFormat) -> Self {
        let value_bits = match values {
            ValueFormat::Auto => 1.5,
            ValueFormat::Int8 => 6.0,
            ValueFormat::Bf16 => 16.0,
            ValueFormat::F32 => 32.0,
        };
        Self { counts: [0; BINS], elements: elements as f64, value_bits }
    }

    /// An element is so many times its threshold.
    pub(super) fn count(&mut self, times: f64) {
        let bits = (times as f32).to_bits() >> SHIFT;
        // What is no number, or negative, has the largest bits.
        let bin = (bits.saturating_sub(ONE) as usize).min(BINS - 1);
        self.counts[bin] += 1;
    }

    fn bytes(&self, passing: u64) -> f64 {
        if passing == 0 {
            return 0.0;
        }
        let passing = passing as f64;
        let part = (passing / self.elements).min(1.0);
        let side = |p: f64| if p > 0.0 { -p * libm::log2(p) } else { 0.0 };
        (self.elements * (side(part) + side(1.0 - part)) + passing * self.value_bits) / 8.0
    }
}

/// How far thresholds have to be raised, those of all tables alike, for what passes to take `allowed` payload bytes.
pub(super) fn fit(censuses: &[Census], allowed: f64) -> Fit {
    let mut passing = vec![0u64; censuses.len()];
    let mut fit = Fit { raised: edge(BINS), ..Fit::NONE };
    for bin in (0..BINS).rev() {
        for (passing, census) in passing.iter_mut().zip(censuses) {
            *passing += u64::from(census.counts[bin]);
        }
        if bin != BINS - 1 && censuses.iter().all(|census| census.counts[bin] == 0) {
            fit.raised = edge(bin);
            continue;
        }
        let of_tables = censuses.iter().zip(&passing).map(|(census, passing)| census.bytes(*passing));
        let (bytes, elements) = (of_tables.sum::<f64>(), passing.iter().sum::<u64>());
        let is_allowed = bytes <= allowed;
        // What is in the last bin has no edge above it.
        if !is_allowed && bin != BINS - 1 {
            let share = ((allowed - fit.bytes) / (bytes - fit.bytes)).max(0.0);
            let more = (share * (elements - fit.elements) as f64) as u64;
            let bytes = fit.bytes + share * (bytes - fit.bytes);
            let (raised, full) = (edge(bin), edge(bin + 1) / edge(bin));
            return Fit { raised, share, full, elements: fit.elements + more, bytes };
        }
        fit = Fit { raised: edge(bin), share: 1.0, full: 1.0, elements, bytes };
    }
    fit
}

/// Who passes of those of whom a share does: each so-many-th, and others at the next clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    share: f64,
    /// From how many times their threshold on all pass.
    pub(super) full: f64,
    sum: f64,
}

impl Turns {
    /// All pass.
    pub(super) const ALL: Self = Self { share: 1.0, full: 1.0, sum: 0.0 };

    /// A share of those for whom a release has no room, at a clock.
    pub(super) fn new(fit: Fit, clock: u32) -> Self {
        // The golden ratio spreads clocks over all places, however many they are.
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        Self { share: fit.share, full: fit.full, sum: (f64::from(clock) * GOLDEN).fract() }
    }

    /// Whether some do not.
    pub(super) fn are_needed(&self) -> bool {
        self.share < 1.0
    }

    /// Whether the next one does.
    pub(super) fn next(&mut self) -> bool {
        self.sum += self.share;
        let passes = self.sum >= 1.0;
        self.sum -= f64::from(u8::from(passes));
        passes
    }
}

/// The least that is counted in a bin.
fn edge(bin: usize) -> f64 {
    f64::from(f32::from_bits((bin as u32 + ONE) << SHIFT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(times: &[f64]) -> Census {
        let mut census = Census::new(1024, ValueFormat::Auto);
        times.iter().for_each(|times| census.count(*times));
        census
    }

    #[test]
    fn thresholds_are_raised_as_far_as_they_have_to_be() {
        let times: Vec<f64> = (0..512).map(|i| 1.01 + f64::from(i) / 16.0).collect();
        let censuses = [census(&times)];
        let all = fit(&censuses, f64::INFINITY);
        assert_eq!((all.raised, all.elements), (1.0, 512));
        let mut last = all;
        for part in [0.9, 0.5, 0.2] {
            let found = fit(&censuses, part * all.bytes);
            assert!(found.bytes <= part * all.bytes && found.raised > last.raised, "{found:?}");
            let passing = times.iter().filter(|times| **times > found.raised).count() as u64;
            assert!(passing >= found.elements && passing - found.elements < 32, "{found:?}: {passing}");
            last = found;
        }
        // However alike they are.
        let found = fit(&[census(&[3.0; 512])], 0.25 * all.bytes);
        assert!((0.2..0.3).contains(&found.share) && found.elements.abs_diff(128) < 10, "{found:?}");
        assert!((2.9..=3.0).contains(&found.raised));
    }

    #[test]
    fn what_is_no_number_passes_whatever_is_allowed() {
        let censuses = [census(&[f64::NAN, f64::INFINITY, 1e30, 2.0, -f64::NAN])];
        for allowed in [0.0, -1.0, f64::NAN] {
            let found = fit(&censuses, allowed);
            assert_eq!(found.elements, 4, "{found:?}");
            assert!((1.9..=2.0).contains(&found.raised), "the one that is a number does not");
            assert_eq!(found.share, 0.0);
        }
    }

    #[test]
    fn tables_are_raised_alike() {
        let censuses = [census(&[1.5; 100]), census(&[3.0; 100])];
        let found = fit(&censuses, censuses[0].bytes(100) + 1.0);
        assert!((100..105).contains(&found.elements), "{found:?}");
        assert!((1.4..=1.5).contains(&found.raised), "{found:?}");
        assert_eq!(fit(&[], 0.0).raised, 1.0);
    }

    #[test]
    fn a_share_passes_and_everybody_at_some_clock() {
        let mut passed = [0; 50];
        for clock in 0..100 {
            let mut turns = Turns::new(Fit { share: 0.1, ..Fit::NONE }, clock);
            let passing: Vec<usize> = (0..50).filter(|_| turns.next()).collect();
            assert!((4..=6).contains(&passing.len()), "{passing:?}");
            passing.iter().for_each(|at| passed[*at] += 1);
        }
        assert!(passed.iter().all(|times| (5..=15).contains(times)), "{passed:?}");
        let (mut all, mut none) = (Turns::ALL, Turns::new(Fit { share: 0.0, ..Fit::NONE }, 7));
        assert!((0..50).all(|_| all.next()) && !all.are_needed() && !(0..50).any(|_| none.next()));
    }

    #[test]
    fn a_set_takes_its_entropy_and_values_their_bits() {
        let census = Census::new(1 << 20, ValueFormat::F32);
        let bits = 8.0 * census.bytes(1 << 10) / 1024.0;
        assert!((43.0..44.0).contains(&bits), "{bits}: ten for the part, 1.44 for the rest, 32");
        assert_eq!(8.0 * census.bytes(1 << 20), 32.0 * f64::from(1 << 20));
    }
}
