//! How much memory processes have, and whether it grows.
//!
//! Kind: time-passed.

#![allow(unreachable_pub, reason = "a module of one test")]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// By then a process has all it needs: its data, its tables, its links.
const EARLY: std::ops::Range<Duration> = Duration::from_secs(15)..Duration::from_secs(30);
/// Those that did not live so long say nothing about growth.
const OLD: Duration = Duration::from_secs(60);

/// What a process had early, and what it has had at most in its last seconds.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    pub early_bytes: u64,
    pub late_bytes: u64,
    pub age: Duration,
}

/// What is sampled of the lives of processes, each by a name of its own.
#[derive(Default)]
pub struct Memory {
    lives: BTreeMap<String, Vec<(Duration, u64)>>,
}

impl Memory {
    /// Notes what the process `id` has, where the system says so.
    pub fn sample(&mut self, life: String, age: Duration, id: u32) {
        if let Some(bytes) = resident_bytes(id) {
            self.lives.entry(life).or_default().push((age, bytes));
        }
    }

    /// The most that any process has had.
    pub fn peak_bytes(&self) -> u64 {
        self.lives.values().flatten().map(|(_, bytes)| *bytes).max().unwrap_or(0)
    }

    /// Of each process that lived for long.
    pub fn growth(&self) -> Vec<(&str, Growth)> {
        let of = |(life, samples): (_, &Vec<(Duration, u64)>)| {
            let (age, _) = *samples.last()?;
            let most = |from: Duration, to: Duration| {
                samples.iter().filter(|(age, _)| (from..=to).contains(age)).map(|(_, bytes)| *bytes).max()
            };
            let late_bytes = most(age.saturating_sub(EARLY.end - EARLY.start), age)?;
            let early_bytes = most(EARLY.start, EARLY.end)?;
            (age >= OLD).then_some((life, Growth { early_bytes, late_bytes, age }))
        };
        self.lives.iter().map(|(life, samples)| (life.as_str(), samples)).filter_map(of).collect()
    }
}

fn resident_bytes(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
