//! What is looked at again and again: how much workers do and weigh, and what time it is.

use super::release::Release;
use super::{Supervisor, measure};
use crate::base::time::Instant;
use crate::machine::pool::seam::Input as PoolInput;
use crate::machine::supervisor::seam::Input;
use crate::shell::control::ToListener;
use crate::sys::cgroup::Group;
use crate::sys::family::Kin;
use crate::sys::{clock, family};
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
            next = next.min(pool.release.as_ref().map_or(Instant::NEVER, Release::deadline));
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
            self.clean_up();
        }
        self.look_at_the_clock(now);
        self.look_at_releases(now);
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

    fn look_at_releases(&mut self, now: Instant) {
        for (id, pool) in self.pools.iter_mut().filter(|(_, pool)| !pool.workers.is_empty()) {
            if pool.release.as_mut().is_some_and(|release| release.step(now)) {
                tracing::info!("pool {}: another release is in place", pool.name);
                let input = PoolInput::Released;
                self.inputs.push_back(Input::Pool { pool: *id, input });
            }
        }
    }

    /// What workers left behind that ended before it did.
    pub(super) fn clean_up(&self) {
        let workers = self.pools.values().flat_map(|pool| pool.workers.values());
        let known: Vec<i32> = workers
            .map(|worker| worker.child.pid())
            .chain(self.listener.as_ref().map(|listener| listener.child.pid()))
            .chain(self.actions.pids())
            .collect();
        family::reap(|pid| known.contains(&pid));
        if let Some(estate) = &self.estate {
            estate.sweep();
        }
    }

    fn weigh(&mut self, now: Instant) {
        let mut pools =
            self.pools.iter().filter(|(_, pool)| measure::is_wanted(&pool.garden)).peekable();
        if pools.peek().is_none() || !self.scales.is_due(now) {
            return;
        }
        let kin = Kin::look();
        for (id, pool) in pools {
            for (worker, it) in &pool.workers {
                if let Some(memory) =
                    self.scales.weigh(it.child.pid(), it.group.as_ref().map(Group::folder), &kin)
                {
                    let input = PoolInput::Weighed { worker: *worker, memory };
                    self.inputs.push_back(Input::Pool { pool: *id, input });
                }
            }
        }
    }
}
