//! What is looked at again and again: how much workers do and weigh, and what time it is.

use super::{Supervisor, measure};
use crate::base::time::Instant;
use crate::machine::pool::seam::Input as PoolInput;
use crate::machine::supervisor::seam::Input;
use crate::shell::control::ToListener;
use crate::sys::clock;
use std::time::Duration;

/// Between two questions to the listener how much it does.
const MEASURE_PAUSE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// When the next look at anything is due.
    pub(super) fn next_round(&self) -> Instant {
        let mut next = Instant::NEVER;
        if self.is_measuring() {
            next = self.measure_at;
        }
        for pool in self.pools.values().filter(|pool| !pool.workers.is_empty()) {
            if measure::is_wanted(&pool.garden) {
                next = next.min(self.scales.deadline());
            }
            if !pool.garden.recycle.at.is_empty() {
                next = next.min(pool.schedule.deadline());
            }
        }
        next
    }

    pub(super) fn make_rounds(&mut self, now: Instant) {
        if self.is_measuring() && now >= self.measure_at {
            self.measure_at = now + MEASURE_PAUSE;
            self.tell(&ToListener::Measure, Vec::new());
        }
        self.look_at_the_clock(now);
        self.weigh(now);
    }

    /// Whether there is anything to be measured.
    fn is_measuring(&self) -> bool {
        self.listener.is_some() && self.pools.values().any(|pool| !pool.workers.is_empty())
    }

    fn look_at_the_clock(&mut self, now: Instant) {
        let wall = clock::wall_origin() + now.0;
        for (id, pool) in &mut self.pools {
            let at = &pool.garden.recycle.at;
            if !at.is_empty()
                && now >= pool.schedule.deadline()
                && pool.schedule.step(now, wall, &self.zone, at)
            {
                let input = PoolInput::Scheduled;
                self.inputs.push_back(Input::Pool { pool: *id, input });
            }
        }
    }

    fn weigh(&mut self, now: Instant) {
        let mut pools =
            self.pools.iter().filter(|(_, pool)| measure::is_wanted(&pool.garden)).peekable();
        if pools.peek().is_none() || !self.scales.is_due(now) {
            return;
        }
        for (id, pool) in pools {
            for (worker, it) in &pool.workers {
                if let Some(memory) = self.scales.weigh(it.child.pid(), None) {
                    let input = PoolInput::Weighed { worker: *worker, memory };
                    self.inputs.push_back(Input::Pool { pool: *id, input });
                }
            }
        }
    }
}
