//! Tables of whole numbers: what every datacenter holds in the end is exactly what was added.

use gaia_tests::mesh::{Mesh, MeshConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wan::policy::{Selection, Significance, ValueFormat};

const SEEDS: u64 = 400;

/// Over random clusters whose links misbehave, with every significance function and every format of
/// values, budgets and thresholds of any size: no read sees a fraction, no peer is sent one, and
/// when all has arrived each copy is the sum of all deltas, to the unit.
#[test]
fn whole_numbers_stay_whole_and_none_is_lost() {
    let (mut of_functions, mut of_formats, mut anticipating) = (Vec::new(), Vec::new(), 0);
    for seed in 0..SEEDS {
        let mut config = MeshConfig::random(&mut ChaCha8Rng::seed_from_u64(seed));
        let Selection::Significant { filters, .. } = &mut config.policy.selection else { continue };
        filters.iter_mut().for_each(|filter| filter.numbers = datacenter::Numbers::Whole);
        of_functions.push(filters[0].function.name().to_owned());
        of_formats.push(filters[0].values);
        anticipating += u32::from(config.policy.anticipates);
        if let Err(broken) = Mesh::new(config, seed).run() {
            panic!("seed {seed}: {broken}");
        }
    }
    for function in [Significance::Absolute, Significance::Relative, Significance::UsualUpdate] {
        assert!(of_functions.iter().any(|name| name == function.name()), "{function:?} was never tried");
    }
    for format in [ValueFormat::Auto, ValueFormat::Int8, ValueFormat::Bf16, ValueFormat::F32] {
        assert!(of_formats.contains(&format), "{format:?} was never tried");
    }
    assert!(anticipating > 50, "{anticipating}");
}
