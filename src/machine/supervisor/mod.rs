//! The life cycles that the supervisor keeps: one listener process and the workers of all pools.
//! Facts about processes in, orders about processes out; it sees no descriptor, no process id and
//! no configuration text.

pub mod seam;

use crate::base::time::Instant;
use crate::machine::pool::Pool;
use crate::machine::pool::seam::View;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use seam::{Input, Order, PoolId};

/// The supervisor's decisions.
#[derive(Debug)]
pub struct Supervisor {
    pools: BTreeMap<PoolId, Pool>,
}

impl Supervisor {
    /// Nothing happens before the first `Planned`. `seed`: of the jitter of recycling.
    pub fn new(_seed: u64) -> Self {
        Self { pools: BTreeMap::new() }
    }

    pub fn step(&mut self, _now: Instant, _input: Input, _out: &mut Vec<Order>) {}

    /// When to be stepped with `Woken` if nothing happens before.
    pub fn deadline(&self) -> Instant {
        Instant::NEVER
    }

    /// True when the listener serves, and every pool that keeps workers without demand has had
    /// them serving.
    pub fn is_ready(&self) -> bool {
        false
    }

    /// True from the first request to end on.
    pub fn is_ending(&self) -> bool {
        false
    }

    /// `None`: no such pool.
    pub fn view(&self, pool: PoolId, now: Instant) -> Option<View> {
        self.pools.get(&pool).map(|pool| pool.view(now))
    }
}
