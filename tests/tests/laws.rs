//! Laws 1 to 5 over random clusters of pure nodes, and proof that each check can fail.

use std::time::Duration;

use gaia_tests::mesh::{Mesh, MeshConfig, Sabotage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wan::policy::{Lead, Policy, Selection};

const SEEDS: u64 = 3000;

fn random_mesh(seed: u64) -> Mesh {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Mesh::new(MeshConfig::random(&mut rng), seed)
}

#[test]
fn the_laws_hold_over_random_clusters() {
    let (mut reads, mut held, mut updates) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut mesh = random_mesh(seed);
        if let Err(broken) = mesh.run() {
            panic!("seed {seed}: {broken}");
        }
        (reads, held, updates) = (reads + mesh.reads, held + mesh.held_reads, updates + mesh.updates);
    }
    // The mechanisms must have been at work, or the run shows nothing.
    assert!(held > reads / 100, "{held} of {reads} reads were held by a mirror");
    assert!(updates > SEEDS * 20, "{updates} updates");
}

/// A cluster in which every mechanism has work to do: slow links, tight barriers, a small lead.
fn strained(sabotage: Option<Sabotage>) -> MeshConfig {
    let selection = Selection::Everything;
    let barrier_max_delay = Some(Duration::ZERO);
    // Judged by what has come, a clock that came wrong would break law 4 before the end shows that it breaks law 1.
    let adds_up = matches!(sabotage, None | Some(Sabotage::IgnoreBarriers | Sabotage::IgnoreLead));
    let lead = if adds_up { Lead::Limit(2) } else { Lead::Unlimited };
    MeshConfig {
        datacenters: 3,
        workers: 2,
        shards: 2,
        clocks: 12,
        policy: Policy { selection, barrier_max_delay, lead },
        staleness: Some(0),
        max_delay: Duration::from_millis(200),
        rate_bytes_per_sec: 100,
        window_bytes: Some(1),
        duplicate: 0.1,
        cut_every: Duration::from_millis(700),
        sabotage,
    }
}

/// Over how many of 100 seeds the laws are found broken.
fn broken(sabotage: Option<Sabotage>, law: &str) -> usize {
    let run = |seed| Mesh::new(strained(sabotage), seed).run();
    (0..100).filter(|&seed| run(seed).is_err_and(|e| e.starts_with(law))).count()
}

#[test]
fn without_sabotage_the_strained_cluster_keeps_the_laws() {
    assert_eq!(broken(None, ""), 0);
}

#[test]
fn a_lost_update_is_noticed() {
    assert_eq!(broken(Some(Sabotage::DropUpdate), "law 1"), 100);
}

#[test]
fn a_doubled_update_is_noticed() {
    assert_eq!(broken(Some(Sabotage::ForgetDuplicates), "law 1"), 100);
}

#[test]
fn an_echo_is_noticed() {
    assert_eq!(broken(Some(Sabotage::Echo), "law 1"), 100);
}

#[test]
fn an_ignored_barrier_is_noticed() {
    let noticed = broken(Some(Sabotage::IgnoreBarriers), "law 4");
    assert!(noticed > 50, "{noticed}");
}

#[test]
fn an_ignored_lead_is_noticed() {
    assert!(broken(Some(Sabotage::IgnoreLead), "law 4") > 90);
}
