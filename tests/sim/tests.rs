//! Many seeds, and the proof that they meet what they are meant to meet.

use super::cover::Cover;
use super::world::World;
use lychgate::base::time::Instant;
use lychgate::machine::listener::{Listener, Shared};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 2_000;
/// Failures shown before the rest is not worth running.
const FAILURES_MAX: usize = 8;

/// Names the seed of a run that panics.
struct Seeded(u64);

impl Drop for Seeded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("SEED={} panicked", self.0));
        }
    }
}

pub(super) fn say(line: &str) {
    // A message that cannot be written is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub(super) fn listener(seed: u64) -> Listener {
    let mut machine = Listener::new(Instant(0), seed, Arc::new(Shared::default()));
    machine.set_wall(1_700_000_000_000_000_000);
    machine
}

fn simulate(seed: u64, is_traced: bool) -> Result<Cover, String> {
    let _seeded = Seeded(seed);
    World::new(seed, is_traced, listener(seed)).run().map_err(|why| format!("SEED={seed}: {why}"))
}

/// Runs seeds from a counter until there are no more, or too many failed.
fn work(next: &AtomicU64, seeds: u64) -> (Cover, Vec<String>) {
    let (mut cover, mut failures) = (Cover::default(), Vec::new());
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds || failures.len() >= FAILURES_MAX {
            return (cover, failures);
        }
        match simulate(seed, false) {
            Ok(met) => cover.absorb(&met),
            Err(why) => failures.push(why),
        }
    }
}

#[test]
fn the_data_plane_withstands_every_seed() {
    if let Some(seed) = number("SEED") {
        let cover = simulate(seed, true).unwrap_or_else(|why| panic!("{why}"));
        return say(&cover.to_string());
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| work(&next, seeds))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a machine panicked")).collect()
    });
    let (mut cover, mut failures) = (Cover::default(), Vec::new());
    for (met, failed) in results {
        cover.absorb(&met);
        failures.extend(failed);
    }
    say(&cover.to_string());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
