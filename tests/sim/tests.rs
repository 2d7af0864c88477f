//! Many seeds, and the proof that they meet what they are meant to meet.

use super::cover::Cover;
use super::fault::FAULTS;
use super::threads::Threads;
use super::world::World;
use lychgate::base::prng::Prng;
use lychgate::base::time::Instant;
use lychgate::machine::listener::{Listener, Shared};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 2_000;
/// What must be met on the way, beside every malformed request of the list.
const WANTED: &[&str] = &[
    "100 came",
    "100 said",
    "204 said",
    "304 said",
    "HTTP/1.0 answer said",
    "answer cut by FIN",
    "answer cut by reset",
    "answer in chunks said",
    "answer stalls",
    "answer until close said",
    "answer with length said",
    "client asks for upgrade",
    "client closes early",
    "client expects 100",
    "client half-closes in its answer",
    "client speaks before the upgrade",
    "client talks on through an early answer",
    "client half-closes after its requests",
    "client half-closes early",
    "client let in",
    "client resets early",
    "client stays idle",
    "client stopped reading",
    "client talks on after the end",
    "client turned away",
    "connect never ends",
    "connect refused",
    "drain",
    "drained",
    "early answer came",
    "early answer said",
    "garbage said",
    "grant carried",
    "health check",
    "health check failed",
    "idle connection ended in time",
    "other 1xx came",
    "pool stopped",
    "pool-stopped",
    "queue-full",
    "queue-timeout",
    "own 400",
    "own 404",
    "own 408",
    "own 413",
    "own 414",
    "own 421",
    "own 431",
    "own 501",
    "own 502",
    "own 503",
    "own 504",
    "own 505",
    "reload",
    "request retried",
    "request waits",
    "server closes an idle connection",
    "server connection fresh",
    "server connection reused",
    "server drops the request",
    "server never answers",
    "server's answer came whole",
    "slow body",
    "slow head",
    "too much said",
    "trailers arrived",
    "unanswered: drained before it came",
    "unanswered: drained before its turn",
    "unanswered: idle too long before it came",
    "unanswered: its answer was cut",
    "unanswered: the client does not read",
    "unanswered: the client left",
    "unanswered: the client went on after asking to close",
    "unanswered: turned down by reset",
    "upgraded",
    "very much sent ahead",
    "worker emptied",
    "worker killed",
    "worker recycled",
    "worker wanted",
];
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
    let mut machine = Listener::new(Instant(0), 0, seed, Arc::new(Shared::default()));
    machine.set_wall(1_700_000_000_000_000_000);
    machine
}

fn simulate(seed: u64, is_traced: bool) -> Result<Cover, String> {
    let _seeded = Seeded(seed);
    World::new(seed, is_traced, Threads::new(seed))
        .run()
        .map_err(|why| format!("SEED={seed}: {why}"))
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
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&next, seeds))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a machine panicked")).collect()
    });
    let (mut cover, mut failures) = (Cover::default(), Vec::new());
    for (met, failed) in results {
        cover.absorb(&met);
        failures.extend(failed);
    }
    say(&cover.to_string());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if seeds >= SEEDS {
        let faults = FAULTS.iter().map(|fault| fault.name);
        let wanted: Vec<&str> = WANTED.iter().copied().chain(faults).collect();
        assert_eq!(cover.missing(&wanted), Vec::<&str>::new(), "never met in {seeds} seeds");
    }
}

#[test]
fn arbitrary_doings_break_nothing() {
    let runs = number("RUNS").unwrap_or(3_000);
    for seed in number("SEED").map_or(0..runs, |seed| seed..seed + 1) {
        let _seeded = Seeded(seed);
        let mut prng = Prng::new(seed);
        let size = 20 + prng.below(2_000);
        let bytes: Vec<u8> =
            (0..size).map(|_| u8::try_from(prng.below(256)).unwrap_or(0)).collect();
        let done = super::ops::run(listener(seed), &bytes);
        assert_eq!(done, Ok(()), "SEED={seed}");
    }
}
