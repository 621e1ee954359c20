//! Whole blocks of 64 elements, with the widest vector instructions that the processor has (time-free).
//!
//! Nothing here depends on which those are: elements are added, compared and moved each by itself, and of numbers that are
//! compared no order is seen. What is not a block as a whole goes one by one, with the same results.

use datacenter::Elements;
use fearless_simd::{Level, dispatch, prelude::*};

use super::measure::Kept;

/// How many elements a block has.
pub(super) const BLOCK: usize = 64;

/// Lanes of the widest vector of f32 that there is.
const MOST_LANES: usize = 16;

/// Where `indexes` follow each other, adds `deltas` to what has `accumulated`, and answers which are other than zero.
pub(super) fn add(
    indexes: &[u32; BLOCK],
    deltas: &[f32; BLOCK],
    accumulated: &mut [f32; BLOCK],
) -> Option<u64> {
    dispatch!(Level::new(), simd => add_with(simd, indexes, deltas, accumulated))
}

#[inline(always)]
fn add_with<S: Simd>(
    simd: S,
    indexes: &[u32; BLOCK],
    deltas: &[f32; BLOCK],
    accumulated: &mut [f32; BLOCK],
) -> Option<u64> {
    let others = (indexes[0]..).zip(indexes).fold(0, |others, (expected, index)| others | (expected ^ index));
    if others != 0 {
        return None;
    }
    let lanes = S::f32s::LEN;
    let mut zeros = 0;
    let blocks = accumulated.chunks_exact_mut(lanes).zip(deltas.chunks_exact(lanes));
    for (place, (accumulated, deltas)) in blocks.enumerate() {
        let deltas = S::f32s::from_slice(simd, deltas);
        (S::f32s::from_slice(simd, accumulated) + deltas).store_slice(accumulated);
        zeros |= deltas.simd_eq(S::f32s::splat(simd, 0.0)).to_bitmask() << (place * lanes);
    }
    // What is no number is not zero.
    Some(!zeros)
}

/// What a comparison with a limit finds in a block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compared {
    /// What is neither zero nor held.
    pub(super) passes: u64,
    /// What is at most the limit, but not zero.
    pub(super) held: Kept,
}

/// Compares magnitudes with `limit`: what is no number passes, and below zero nothing is held.
pub(super) fn compare(accumulated: &[f32; BLOCK], limit: f32) -> Compared {
    dispatch!(Level::new(), simd => compare_with(simd, accumulated, limit, #[inline(always)] |_, _, _, _| {}))
}

/// Moves what passes `limit`, all of it, from `accumulated`, whose first element has the index `base`, to `out`.
pub(super) fn ship(accumulated: &mut [f32; BLOCK], base: u32, limit: f32, out: &mut Elements) -> Kept {
    dispatch!(Level::new(), simd => ship_with(simd, accumulated, base, limit, out))
}

/// Tells `each`, by its place, of every vector of which something passes: the vector, what does not pass, and which bits pass.
#[inline(always)]
fn compare_with<S: Simd>(
    simd: S,
    accumulated: &[f32; BLOCK],
    limit: f32,
    mut each: impl FnMut(usize, S::f32s, S::mask32s, u64),
) -> Compared {
    let lanes = S::f32s::LEN;
    let (zero, limit) = (S::f32s::splat(simd, 0.0), S::f32s::splat(simd, limit));
    let (mut passes, mut held, mut largest) = (0, 0, zero);
    for (place, values) in accumulated.chunks_exact(lanes).enumerate() {
        let a = S::f32s::from_slice(simd, values);
        let magnitude = a.abs();
        let (is_small, is_zero) = (magnitude.simd_le(limit), a.simd_eq(zero));
        let stays = is_small | is_zero;
        largest = largest.max(stays.select(magnitude, zero));
        held |= (is_small & !is_zero).to_bitmask() << (place * lanes);
        let passing = (!stays).to_bitmask();
        passes |= passing << (place * lanes);
        if passing != 0 {
            each(place, a, stays, passing);
        }
    }
    let largest = largest.as_slice().iter().fold(0.0f32, |largest, a| largest.max(*a));
    Compared { passes, held: Kept { bits: held, largest } }
}

#[inline(always)]
fn ship_with<S: Simd>(
    simd: S,
    accumulated: &mut [f32; BLOCK],
    base: u32,
    limit: f32,
    out: &mut Elements,
) -> Kept {
    let lanes = S::f32s::LEN;
    let zero = S::f32s::splat(simd, 0.0);
    let places: [u32; MOST_LANES] = std::array::from_fn(|lane| lane as u32);
    let first = S::u32s::from_slice(simd, &places[..lanes]) + S::u32s::splat(simd, base);
    // Vectors are written whole, and what is behind their passing elements by the next.
    let mut indexes = [0; BLOCK + MOST_LANES];
    let mut values = [0.0; BLOCK + MOST_LANES];
    let mut count = 0;
    let before = *accumulated;
    let compared = compare_with(
        simd,
        &before,
        limit,
        #[inline(always)]
        |place, a: S::f32s, stays: S::mask32s, passing: u64| {
            let index = first + S::u32s::splat(simd, (place * lanes) as u32);
            index.compress(!stays).store_slice(&mut indexes[count..][..lanes]);
            a.compress(!stays).store_slice(&mut values[count..][..lanes]);
            stays.select(a, zero).store_slice(&mut accumulated[place * lanes..][..lanes]);
            count += passing.count_ones() as usize;
        },
    );
    out.indexes.extend_from_slice(&indexes[..count]);
    out.values.extend_from_slice(&values[..count]);
    compared.held
}

#[cfg(test)]
mod tests {
    use datacenter::TableId;
    use proptest::prelude::*;

    use super::*;

    /// Zeros of both signs, what is no number, and what is near a limit of one.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            Just(0.0f32),
            Just(-0.0),
            Just(1.0),
            Just(1.0f32.next_up()),
            Just(f32::NAN),
            Just(f32::NEG_INFINITY),
            Just(f32::MIN_POSITIVE / 4.0),
            -3.0f32..3.0,
        ]
    }

    fn block() -> impl Strategy<Value = [f32; BLOCK]> {
        proptest::collection::vec(value(), BLOCK).prop_map(|values| values.try_into().expect("as many"))
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn a_block_is_shipped_as_one_by_one(
            before in block(),
            limit in prop_oneof![Just(-1.0f32), Just(0.0), Just(1.0), Just(f32::MAX)],
        ) {
            let (mut expected, mut kept, mut after) = (Elements::new(TableId(0)), Kept::default(), before);
            let mut passes = 0u64;
            for (place, a) in after.iter_mut().enumerate().filter(|(_, a)| **a != 0.0) {
                if a.abs() <= limit {
                    kept.bits |= 1 << place;
                    kept.largest = kept.largest.max(a.abs());
                } else {
                    passes |= 1 << place;
                    expected.push(128 + place as u32, *a);
                    *a = 0.0;
                }
            }
            let compared = compare(&before, limit);
            prop_assert_eq!((compared.passes, compared.held.bits), (passes, kept.bits));
            prop_assert_eq!(compared.held.largest.to_bits(), kept.largest.to_bits());
            let (mut found, mut out) = (before, Elements::new(TableId(0)));
            let held = ship(&mut found, 128, limit, &mut out);
            prop_assert_eq!((held.bits, held.largest.to_bits()), (kept.bits, kept.largest.to_bits()));
            prop_assert_eq!(bits(&found), bits(&after));
            prop_assert_eq!((&out.indexes, bits(&out.values)), (&expected.indexes, bits(&expected.values)));
        }

        #[test]
        fn a_block_is_added_to_as_one_by_one(before in block(), deltas in block(), odd in 0usize..80) {
            let mut indexes: [u32; BLOCK] = std::array::from_fn(|place| 64 + place as u32);
            if let Some(index) = indexes.get_mut(odd) {
                *index += 7;
            }
            let (mut found, mut expected) = (before, before);
            let touched = add(&indexes, &deltas, &mut found);
            if odd < BLOCK {
                prop_assert_eq!((touched, bits(&found)), (None, bits(&before)));
            } else {
                expected.iter_mut().zip(deltas).for_each(|(a, delta)| *a += delta);
                let others = (0..BLOCK).filter(|place| deltas[*place] != 0.0);
                prop_assert_eq!(touched, Some(others.fold(0, |set, place| set | 1 << place)));
                let same = found.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
                prop_assert!(same, "{found:?} {expected:?}");
            }
        }
    }
}
