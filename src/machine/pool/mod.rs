//! The life of one pool's workers, transport unseen.

pub mod seam;

use crate::base::prng::Prng;
use crate::base::time::Instant;
use alloc::vec::Vec;
use seam::{Input, Order, Standing, View};

/// One pool: which of its workers live, serve, leave and follow each other.
#[derive(Debug)]
pub struct Pool {
    _prng: Prng,
}

impl Pool {
    /// A pool without workers; its first input must be `Planned`.
    pub fn new(_now: Instant, seed: u64) -> Self {
        Self { _prng: Prng::new(seed) }
    }

    pub fn step(&mut self, _now: Instant, _input: Input, _out: &mut Vec<Order>) {}

    /// When to be stepped with `Woken` if nothing happens before.
    pub fn deadline(&self) -> Instant {
        Instant::NEVER
    }

    /// Whether `MayStart` would be answered by `Spawn`.
    pub fn wants_start(&self, _now: Instant) -> bool {
        false
    }

    /// A worker is ordered or there, and not proven ready.
    pub fn is_starting(&self) -> bool {
        false
    }

    /// Processes, orphans not counted.
    pub fn alive(&self) -> u32 {
        0
    }

    pub fn view(&self, _now: Instant) -> View {
        View {
            standing: Standing::Running,
            workers: Vec::new(),
            waiting: 0,
            failures: 0,
            failures_total: 0,
            last_failure: None,
            starts_total: 0,
            recycles_total: 0,
            backoff_until: None,
        }
    }
}
