//! The data plane: one machine per listener thread. Facts about sockets in, orders about sockets
//! out; see [`seam`] for both.

pub mod seam;

use crate::base::time::Instant;
use crate::machine::tally::Tally;
use alloc::sync::Arc;
use core::sync::atomic::AtomicU32;
use seam::{Input, Outbox};

/// What the machines of all listener threads of one process share; atomics only.
#[derive(Debug, Default)]
pub struct Shared {
    /// Client connections of all threads, against `max_connections`.
    pub connections: AtomicU32,
}

/// The data plane of one thread.
#[derive(Debug)]
pub struct Listener {
    tally: Tally,
}

impl Listener {
    /// `seed` must differ between threads; `thread` 0 does the active checks for all.
    pub fn new(_now: Instant, _seed: u64, _thread: u16, _shared: Arc<Shared>) -> Self {
        Self { tally: Tally::default() }
    }

    /// Unix time in nanoseconds at [`Instant`] zero; told at start and about once a second.
    pub fn set_wall(&mut self, _origin: u64) {}

    /// Hears one fact and leaves its orders in `out`.
    pub fn step(&mut self, _now: Instant, _input: Input<'_>, _out: &mut Outbox) {}

    /// When to be stepped with `Woken` if nothing happens before.
    pub fn deadline(&self) -> Instant {
        Instant::NEVER
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}
