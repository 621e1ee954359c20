//! The fuzz targets over their committed corpora, and over mutations of them: what fuzzing has
//! found stays found.
//!
//! `docs/TESTING.md` tells how to fuzz, and what to do with what is found.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use gaia_tests::fuzz::{TARGETS, Target, seeds};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The longest input that mutations make.
const MAX_BYTES: usize = 8192;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The entries of a target's corpus, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = directory().join("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut corpus: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().expect("files have names").to_string_lossy().into_owned();
            (name, fs::read(path).expect("a readable file"))
        })
        .collect();
    corpus.sort();
    corpus
}

/// Runs `target`, and says with which bytes if it panics.
fn run(target: &Target, bytes: &[u8], from: &str) {
    if let Err(panic) = panic::catch_unwind(|| (target.run)(bytes)) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{} panicked on {hex}, made of {from}", target.name);
        panic::resume_unwind(panic);
    }
}

/// A few changes like those that libFuzzer makes.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 32));
        match rng.random_range(0..7) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.insert(at, rng.random()),
            2 => bytes.truncate(at.max(1)),
            3 => {
                let part = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, part);
            }
            4 => {
                let from = rng.random_range(0..=other.len());
                bytes.splice(at..end, other[from..].iter().take(64).copied());
            }
            choice => {
                if let Some(byte) = bytes.get_mut(at) {
                    let extreme = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)];
                    *byte = if choice == 5 { *byte ^ (1 << rng.random_range(0..8)) } else { extreme };
                }
            }
        }
    }
    bytes.truncate(MAX_BYTES);
}

fn smoke(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("it is a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    run(target, &[], "nothing");
    for (entry, bytes) in &corpus {
        run(target, bytes, entry);
    }
    for (number, (entry, bytes)) in (0..).zip(&corpus) {
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        for _ in 0..target.mutations {
            let mut bytes = bytes.clone();
            let (_, other) = &corpus[rng.random_range(0..corpus.len())];
            mutate(&mut bytes, other, &mut rng);
            run(target, &bytes, entry);
        }
    }
}

/// One test for each target, so that they run side by side.
macro_rules! smoke {
    ($($target:ident),*) => {
        $(
            #[test]
            fn $target() {
                smoke(stringify!($target));
            }
        )*

        #[test]
        fn every_target_has_its_test_and_its_program() {
            let tests = [$(stringify!($target)),*];
            let manifest = fs::read_to_string(directory().join("Cargo.toml")).expect("the manifest is there");
            for target in TARGETS {
                assert!(tests.contains(&target.name), "{} has no smoke test", target.name);
                assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
                let program = directory().join("fuzz_targets").join(target.name).with_extension("rs");
                assert!(program.exists(), "{}", program.display());
            }
        }
    };
}

smoke!(
    admin_requests,
    certificates,
    checkpoints,
    config_files,
    control_copies,
    data_files,
    filters,
    lan_frames,
    mirrors,
    object_names,
    payloads,
    shards,
    status_answers,
    units,
    wan_frames
);

#[test]
fn corpora_are_small() {
    let entries = TARGETS.iter().flat_map(|target| corpus(target.name));
    let bytes: usize = entries.map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 300_000, "{bytes} bytes");
}

/// Writes the seeds into the corpora: `cargo test -p gaia-tests --test fuzz -- --ignored`.
#[test]
#[ignore = "writes into the source tree; for after a format has changed"]
fn seeds_are_written() {
    for (target, name, bytes) in seeds() {
        let directory = directory().join("corpus").join(target);
        fs::create_dir_all(&directory).expect("the corpus can be written");
        fs::write(directory.join(name), bytes).expect("the corpus can be written");
    }
}
