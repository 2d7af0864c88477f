//! Many seeds, and the proof that they meet what they are meant to meet.

use super::cover::Cover;
use super::dice::Dice;
use super::oracle::Fault;
use super::world::World;
use lychgate::base::time::Instant;
use lychgate::machine::pool::Pool;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 10_000;
/// Failures shown before the rest is not worth running.
const FAILURES_MAX: usize = 4;

const FAILURES: [&str; 9] = [
    "start-failed",
    "startup-timeout",
    "shutdown-timeout",
    "crash",
    "ping-timeout",
    "deadlock",
    "protocol-violation",
    "self-reported",
    "out-of-memory",
];
const TRIGGERS: [&str; 9] = [
    "every",
    "at",
    "requests",
    "private-memory",
    "virtual-memory",
    "memory-percent",
    "demand",
    "config",
    "unhealthy",
];
const VERBS: [&str; 5] = ["recycle", "stop", "start", "pause", "resume"];
const STANDINGS: [&str; 5] = ["running", "overlap", "paused", "stopped", "tripped"];
/// What must be met beside these.
const WANTED: &[(&str, &str)] = &[
    ("a process survives SIGKILL", ""),
    ("a request is refused", ""),
    ("an orphan is ended", ""),
    ("idled-out", ""),
    ("killed:", "deadlock"),
    ("killed:", "it does not get ready"),
    ("killed:", "it does not heed SIGTERM"),
    ("killed:", "it is recycled while it starts"),
    ("killed:", "it is silent"),
    ("killed:", "it survived SIGKILL"),
    ("killed:", "its end as an orphan was asked for"),
    ("terminated:", "the pool ends while it starts"),
    ("killed:", "the server ends"),
    ("orphaned:", "deadlock"),
    ("orphaned:", "ping-timeout"),
    ("orphaned:", "shutdown-timeout"),
    ("orphaned:", "startup-timeout"),
    ("overlapped recycle", ""),
    ("recycle-failed", ""),
    ("replanned", "overlap"),
    ("replanned", "running"),
    ("replanned", "stopped"),
    ("replanned", "tripped"),
    ("reported recycle", "running"),
    ("reported stopping", "overlap"),
    ("reported stopping", "running"),
    ("reported unhealthy", "running"),
    ("retired:", "idle"),
    ("retired:", "it recycles without overlap"),
    ("retired:", "it stops by itself"),
    ("retired:", "its replacement serves"),
    ("retired:", "the garden shrinks"),
    ("retired:", "the pool ends"),
    ("start denied", ""),
    ("the listener dies", "ending"),
    ("the listener dies", "overlap"),
    ("the listener dies", "paused"),
    ("the listener dies", "running"),
    ("the listener dies", "stopped"),
    ("the listener dies", "tripped"),
    ("the supervisor dies", "overlap"),
    ("the supervisor dies", "paused"),
    ("the supervisor dies", "running"),
    ("the supervisor dies", "stopped"),
    ("the supervisor dies", "tripped"),
    ("tripped", "overlap"),
    ("tripped", "paused"),
    ("tripped", "running"),
    ("worker-ended", ""),
    ("worker-orphaned", ""),
    ("worker-serving", ""),
    ("worker-started", ""),
];

/// Names the seed of a run that panics.
struct Seeded(u64);

impl Drop for Seeded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("LYCHGATE_TEST_SEED={} panicked", self.0));
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

pub(super) fn pool(seed: u64) -> Pool {
    Pool::new(Instant(0), seed)
}

fn simulate(seed: u64, is_traced: bool) -> Result<Cover, (Fault, String)> {
    let _seeded = Seeded(seed);
    World::new(Dice::new(seed), pool(seed), is_traced).run()
}

fn explain(seed: u64) -> String {
    match simulate(seed, true) {
        Ok(_) => format!("LYCHGATE_TEST_SEED={seed} fails once and then no more"),
        Err((fault, trace)) => {
            format!("{trace}\nLYCHGATE_TEST_SEED={seed}: {}: {}", fault.rule, fault.text)
        }
    }
}

/// Runs seeds from a counter until there are no more, or too many failed.
fn work(next: &AtomicU64, seeds: u64) -> (Cover, Vec<u64>) {
    let (mut cover, mut failures) = (Cover::default(), Vec::new());
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds || failures.len() >= FAILURES_MAX {
            return (cover, failures);
        }
        match simulate(seed, false) {
            Ok(met) => cover.absorb(&met),
            Err(_) => failures.push(seed),
        }
    }
}

fn wanted() -> Vec<(&'static str, &'static str)> {
    let mut wanted = WANTED.to_vec();
    wanted.extend(FAILURES.map(|failure| ("failed:", failure)));
    wanted.extend(TRIGGERS.map(|trigger| ("recycling:", trigger)));
    for verb in VERBS {
        wanted.extend(STANDINGS.map(|standing| (verb, standing)));
    }
    wanted
}

#[test]
fn a_pool_withstands_every_seed() {
    if let Some(seed) = number("LYCHGATE_TEST_SEED") {
        return say(&explain(seed));
    }
    let seeds = number("LYCHGATE_TEST_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&next, seeds))).collect();
        workers.into_iter().map(|worker| worker.join().expect("the machine panicked")).collect()
    });
    let (mut cover, mut failures) = (Cover::default(), Vec::new());
    for (met, failed) in results {
        cover.absorb(&met);
        failures.extend(failed);
    }
    say(&cover.to_string());
    failures.sort_unstable();
    if let Some(&first) = failures.first() {
        panic!("{}\nseeds that fail: {failures:?}", explain(first));
    }
    if seeds >= SEEDS {
        let missing: Vec<_> =
            wanted().into_iter().filter(|(what, where_)| !cover.has(what, where_)).collect();
        assert_eq!(missing, [], "never met in {seeds} seeds");
    }
}

#[test]
fn arbitrary_facts_break_nothing() {
    let runs = number("LYCHGATE_TEST_SEEDS").unwrap_or(SEEDS) / 5;
    for seed in 0..runs {
        let _seeded = Seeded(seed);
        let mut dice = Dice::new(seed);
        let facts = dice.small(10, 400);
        super::babble::run(&mut dice, pool(seed), facts.into());
    }
}
