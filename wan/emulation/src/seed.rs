//! Seeds for the many generators of one run.
//!
//! Kind: time-free.
//!
//! A run has one seed and many sources of randomness: each directed link, each endpoint, each certificate.
//! When they drew from one generator, a packet more on one link would move the losses of all others. So each
//! has a generator of its own, seeded by what it is for.

/// The seed of one of the run's generators: `seed` is the run's, `labels` say which generator it is.
///
/// Different labels give unrelated seeds, and the order of labels counts. The function is part of what "same
/// seed, same run" means, and so must never change.
pub fn derive(seed: u64, labels: &[u64]) -> u64 {
    // Turned, so that a seed and a label that are equal do not cancel out.
    labels
        .iter()
        .fold(scramble(seed), |state, &label| scramble(scramble(label).wrapping_add(state.rotate_left(32))))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that spreads every bit over all
/// others.
fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_and_their_order_tell_seeds_apart() {
        let mut seeds = BTreeSet::new();
        for seed in 0..4 {
            seeds.insert(derive(seed, &[]));
            for a in 0..8 {
                seeds.insert(derive(seed, &[a]));
                for b in 0..8 {
                    seeds.insert(derive(seed, &[a, b]));
                }
            }
        }
        assert_eq!(seeds.len(), 4 * (1 + 8 + 64));
    }

    #[test]
    fn the_function_is_pinned() {
        assert_eq!(scramble(0), 0xe220_a839_7b1d_cdaf, "the first output of SplitMix64 from zero");
    }
}
