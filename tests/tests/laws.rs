//! Laws 1 to 5 over random clusters of pure nodes, and proof that each check can fail.

use std::time::Duration;

use datacenter::message::Flush;
use datacenter::shard::Shard;
use datacenter::{Clock, DatacenterId, Elements, Numbers, ShardId, ShardTable, TableId, WorkerId};
use gaia_tests::mesh::{Mesh, MeshConfig, Sabotage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wan::leeway::Leeway;
use wan::policy::{FilterConfig, Goal, Lead, Policy, Schedule, Selection, Significance, ValueFormat};
use wan::replica::Replica;

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
    // Judged by what has come, a clock that came wrong would break law 4 before the end shows that
    // it breaks law 1.
    let adds_up = matches!(sabotage, None | Some(Sabotage::IgnoreBarriers | Sabotage::IgnoreLead));
    let lead = if adds_up { Lead::Limit(2) } else { Lead::Unlimited };
    MeshConfig {
        datacenters: 3,
        workers: 2,
        shards: 2,
        clocks: 12,
        scale: 1,
        policy: Policy { selection, barrier_max_delay, ..Policy::naive(lead) },
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

/// Law 1 in floats: a datacenter's values, and what a mirror has of its updates, for long runs of
/// updates that are small against the values.
mod small_updates {
    use super::*;

    const TABLE: TableId = TableId(0);
    const CLOCKS: u32 = 100_000;
    /// How many steps of an f32 a value may be off after any number of updates.
    const TOLERANCE: f64 = 40.0;

    /// Initial values, what the first datacenter adds in its first clock, and what it and the
    /// second add at each other: less than half a step of an f32 there, about one, and more. Where
    /// the first clock undoes what was there, the value is small and what the datacenter has
    /// contributed in sum is not.
    const CASES: [(f32, f32, f32, f32); 10] = [
        (1.0, 0.0, 2.5e-8, 0.0),
        (-1.0, 0.0, 2.5e-8, -1e-8),
        (1.0, 0.0, -2.9e-8, 2.9e-8),
        (0.999, 0.0, 5e-8, 1e-9),
        (100.0, 0.0, 3e-6, 1e-6),
        (0.0, 0.0, 1e-7, 1e-7),
        (1.0, 0.0, 3e-7, 2.5e-8),
        (3.0, 0.0, 1.2e-7, -1.1e-7),
        (-8.0, 8.0, 2.5e-8, 0.0),
        (-8.0, 8.0, 2.5e-8, -1e-8),
    ];

    /// What the datacenters add to a case in all clocks.
    fn added(case: usize) -> f64 {
        let (_, at_first, first, second) = CASES[case];
        let [at_first, first, second] = [at_first, first, second].map(f64::from);
        at_first + f64::from(CLOCKS - 1) * first + f64::from(CLOCKS) * second
    }

    fn selections() -> [Selection; 3] {
        let significant = |function, threshold| {
            let config = FilterConfig {
                function,
                threshold,
                schedule: Schedule::Constant,
                values: ValueFormat::F32,
                numbers: Numbers::Real,
            };
            Selection::Significant { filters: vec![config], goal: Goal::Cheapest, leeway: Leeway::default() }
        };
        [
            Selection::Everything,
            significant(Significance::Relative, 1e-5),
            significant(Significance::Absolute, 1e-3),
        ]
    }

    fn replica(at: u16, selection: Selection) -> Replica {
        let shape = ShardTable { slots: 2, width: CASES.len() as u32 / 2 };
        let initial = CASES.iter().map(|(initial, ..)| *initial).collect();
        let shard = Shard::new(ShardId(0), &[shape], vec![initial], 1, Some(0));
        let policy = Policy { selection, ..Policy::naive(Lead::Unlimited) };
        Replica::new(shard, &policy, [DatacenterId(1 - at)])
    }

    fn clock(replica: &mut Replica, clock: u32, deltas: impl Iterator<Item = f32>) {
        let mut elements = Elements::new(TABLE);
        (0..).zip(deltas).filter(|(_, delta)| *delta != 0.0).for_each(|(i, delta)| elements.push(i, delta));
        let shape = replica.shard().shape(TABLE).expect("it exists");
        let flush = Flush::of_elements(WorkerId(0), Clock(clock), &[elements], &[shape]);
        let moved = replica.handle_flush(&flush).expect("it makes sense").expect("there is one worker");
        replica.complete(moved, [], now());
    }

    #[expect(clippy::disallowed_methods, reason = "the time of day decides nothing")]
    fn now() -> std::time::Instant {
        std::time::Instant::now()
    }

    /// Their link comes up, between these processes of them.
    fn greet(replicas: &mut [Replica; 2], lives: [u64; 2]) {
        let resumes = [0, 1].map(|at| replicas[at].resume(0));
        for at in [0, 1] {
            replicas[at].handle_resume(0, lives[1 - at], &resumes[1 - at]).expect("it makes sense");
        }
    }

    /// Delivers all that waits, both ways.
    fn exchange(replicas: &mut [Replica; 2]) {
        for from in [0, 1] {
            while let Some(outgoing) = replicas[from].poll_update(0, true, true) {
                replicas[1 - from]
                    .handle_update(0, &outgoing.update, outgoing.bytes)
                    .expect("it makes sense");
            }
        }
        for from in [0, 1] {
            if let Some(control) = replicas[from].poll_control(0) {
                replicas[1 - from].handle_control(0, &control).expect("it makes sense");
            }
        }
    }

    /// By how many steps of an f32 at `magnitude` a value is off.
    fn off_beside(magnitude: f32, value: f32, expected: f64) -> f64 {
        let magnitude = magnitude.max(1e-3);
        (f64::from(value) - expected).abs() / f64::from(magnitude.next_up() - magnitude)
    }

    /// Values are what the datacenter began with, what all have contributed as it knows it, and
    /// what it holds back.
    fn check_parts(replica: &Replica, at: u32) {
        let (ledgers, held) = (replica.ledgers(), replica.filter().accumulated(TABLE));
        for (i, (initial, ..)) in CASES.iter().enumerate() {
            let of = |sums: &[f32]| f64::from(sums[i]);
            let parts = of(ledgers.own.sums(TABLE)) + of(ledgers.mirrors[0].1.sums(TABLE)) + of(held);
            // Its parts may be larger than it is.
            let value = replica.shard().values(TABLE)[i];
            let magnitude = value.abs().max(initial.abs());
            let off = off_beside(magnitude, value, f64::from(*initial) + parts);
            assert!(off <= TOLERANCE, "case {i} at clock {at}: the value is {off} steps from its parts");
        }
    }

    #[test]
    fn count_in_every_datacenter_and_never_drift() {
        for selection in selections() {
            let mut replicas = [replica(0, selection.clone()), replica(1, selection.clone())];
            greet(&mut replicas, [1, 1]);
            for at in 1..=CLOCKS {
                let first = |case: &(f32, f32, f32, f32)| if at == 1 { case.1 } else { case.2 };
                clock(&mut replicas[0], at, CASES.iter().map(first));
                clock(&mut replicas[1], at, CASES.iter().map(|(.., second)| *second));
                exchange(&mut replicas);
                if at % 1000 == 0 {
                    replicas.iter().for_each(|replica| check_parts(replica, at));
                }
            }
            for replica in &mut replicas {
                replica.leave(WorkerId(0));
                replica.settle();
            }
            exchange(&mut replicas);
            for (i, (initial, ..)) in CASES.iter().enumerate() {
                let [here, there] = [0, 1].map(|at| replicas[at].shard().values(TABLE)[i]);
                let sum = f64::from(*initial) + added(i);
                // A step is one of what was there, where that was undone in the first clock: what
                // else was added in it counts so much.
                let magnitude = here.abs().max(there.abs()).max(initial.abs());
                let off = |value, expected| off_beside(magnitude, value, expected);
                let (apart, lost) = (off(here, f64::from(there)), off(here, sum).max(off(there, sum)));
                let what = format!("case {i} under {selection:?}: {here} and {there} of {sum}");
                assert!(apart <= TOLERANCE, "{what}: {apart} steps apart");
                assert!(lost <= TOLERANCE, "{what}: {lost} steps from the sum");
            }
            recover(&mut replicas, &selection);
        }
    }

    /// The first datacenter loses everything, and has all of it again from the second.
    fn recover(replicas: &mut [Replica; 2], selection: &Selection) {
        replicas[0] = replica(0, selection.clone()).in_life(2).without_state();
        greet(replicas, [2, 1]);
        (0..4).for_each(|_| exchange(replicas));
        assert!(!replicas[0].is_fetching() && !replicas[0].is_recovering(), "it has everything");
        for (i, (initial, ..)) in CASES.iter().enumerate() {
            let value = replicas[0].shard().values(TABLE)[i];
            let sum = f64::from(*initial) + added(i);
            let lost = off_beside(value.abs().max(initial.abs()), value, sum);
            assert!(lost <= 2.0 * TOLERANCE, "case {i} under {selection:?}: {value} of {sum}: {lost} steps");
        }
    }
}
