//! The life of one pool's workers, transport unseen.
//!
//! ```text
//!         Spawned     Ready: Admit   Serving       Retire        Emptied: Terminate     late: Kill
//! (Spawn) ──▶ Starting ──▶ Admitted ──▶ Serving ──▶ Draining ──────────▶ Terminating ──▶ Killing
//!                │                         │                                  │            │ again
//!                └────── late, silent, deadlocked: Kill, or Orphan ───────────┘            ▼
//!                        Exited: gone, from every phase                                  Exited
//! ```
//!
//! A pool wants *slots*: those it keeps without demand, and one more each time requests wait and
//! nobody is free. What is in a slot that is wanted is replaced when it is lost; idling and the
//! worker's own wish give a slot up.

mod facts;
mod guard;
mod health;
mod life;
mod recycle;
pub mod seam;
mod settle;
#[cfg(test)]
mod tests;
mod verbs;
mod worker;

use crate::base::time::Instant;
use alloc::vec::Vec;
use life::Life;
use seam::{Input, Order, Standing, View};

/// One pool: which of its workers live, serve, leave and follow each other.
#[derive(Debug)]
pub struct Pool {
    seed: u64,
    /// `None`: there is no plan yet.
    life: Option<Life>,
}

impl Pool {
    /// A pool without workers; its first input must be `Planned`. `seed`: of the jitter.
    pub fn new(_now: Instant, seed: u64) -> Self {
        Self { seed, life: None }
    }

    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        let life = match (&mut self.life, input) {
            (Some(life), input) => {
                life.record(now, input, out);
                life
            }
            (life, Input::Planned { garden, .. }) => life.insert(Life::new(self.seed, *garden)),
            (None, _) => return,
        };
        life.settle(now, out);
        life.check();
    }

    /// When to be stepped with `Woken` if nothing happens before.
    pub fn deadline(&self) -> Instant {
        self.life.as_ref().map_or(Instant::NEVER, Life::deadline)
    }

    /// Whether `MayStart` would be answered by `Spawn`.
    pub fn wants_start(&self, now: Instant) -> bool {
        self.life.as_ref().is_some_and(|life| life.wants_start(now))
    }

    /// A worker is ordered or there, and not proven ready.
    pub fn is_starting(&self) -> bool {
        self.life.as_ref().is_some_and(Life::is_starting)
    }

    /// Processes, orphans not counted.
    pub fn alive(&self) -> u32 {
        self.life.as_ref().map_or(0, Life::alive)
    }

    /// What it keeps without demand has served once, or is not to.
    pub fn has_come_up(&self) -> bool {
        self.life.as_ref().is_none_or(Life::has_come_up)
    }

    pub fn view(&self, now: Instant) -> View {
        match &self.life {
            Some(life) => life.view(now),
            None => View {
                standing: Standing::Stopped,
                generation: 0,
                workers: Vec::new(),
                waiting: 0,
                failures: 0,
                failures_total: 0,
                last_failure: None,
                starts_total: 0,
                recycles_total: 0,
                backoff_until: None,
            },
        }
    }
}
