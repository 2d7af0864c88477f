//! Recycling: which workers are to be replaced, why, and which of them is next. One at a time, and
//! only while nobody else is missing.

use super::life::{Life, tell};
use super::seam::{Order, Phase, Trigger, WorkerId};
use super::worker::Worker;
use crate::base::time::Instant;
use crate::machine::event::Kind;
use crate::plan::garden::Recycle;
use alloc::vec::Vec;
use core::time::Duration;

/// After a recycle that failed the next one waits at least so long; with the window of rapid-fail
/// so long that retries alone never trip a pool whose old workers serve well.
const HOLD_LEAST: Duration = Duration::from_secs(10);

/// What a worker's jitter is counted in.
const JITTER_WHOLE: u16 = 10_000;

impl Worker {
    /// When it is due for being old.
    pub(super) fn every_due(&self, settings: &Recycle) -> Instant {
        let Some(every) = settings.every.filter(|_| self.recycling.is_none()) else {
            return Instant::NEVER;
        };
        let whole = u32::from(JITTER_WHOLE);
        let jitter = u32::from(self.jitter_by(settings));
        let span = (every / whole).saturating_mul(whole.saturating_sub(jitter));
        self.since + span
    }

    /// What was drawn for it, within what holds now.
    fn jitter_by(&self, settings: &Recycle) -> u16 {
        self.jitter.min(u16::from(settings.jitter) * (JITTER_WHOLE / 100))
    }

    /// After how many requests it is due; 0 = never.
    pub(super) fn requests_limit(&self, settings: &Recycle) -> u64 {
        let limit = u128::from(settings.requests);
        let off = limit * u128::from(self.jitter_by(settings)) / u128::from(JITTER_WHOLE);
        u64::try_from(limit - off).unwrap_or(u64::MAX)
    }
}

impl Life {
    /// It is to be replaced; the first reason is the one that counts.
    pub(super) fn mark(&mut self, id: WorkerId, trigger: Trigger, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !worker.is_staying() || worker.recycling.is_some() {
            return;
        }
        worker.recycling = Some(trigger);
        if self.garden.recycle.log.contains(&trigger) {
            tell(Some(id), Kind::Recycling(trigger), out);
        }
    }

    pub(super) fn mark_all(&mut self, trigger: Trigger, out: &mut Vec<Order>) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            self.mark(id, trigger, out);
        }
    }

    /// Workers run what is no longer wanted: those that never served are not worth waiting for.
    pub(super) fn outdate(&mut self, now: Instant, out: &mut Vec<Order>) {
        if !self.garden.recycle.on_config_change {
            return;
        }
        // What failed before may go well now.
        self.hold_until = None;
        let starting: Vec<WorkerId> =
            self.workers.iter().filter(|(_, it)| it.is_starting()).map(|(id, _)| *id).collect();
        self.mark_all(Trigger::Config, out);
        for id in starting {
            self.kill(now, id, out);
        }
    }

    pub(super) fn weighed(&mut self, id: WorkerId, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get(&id) else { return };
        let (settings, memory) = (&self.garden.recycle, worker.memory);
        let reached = [
            (settings.private_memory, memory.private, Trigger::PrivateMemory),
            (settings.virtual_memory, memory.virtual_size, Trigger::VirtualMemory),
            (settings.memory_percent.into(), memory.percent.into(), Trigger::MemoryPercent),
        ]
        .into_iter()
        .find(|(limit, size, _)| *limit > 0 && size >= limit);
        if let Some((_, _, trigger)) = reached {
            self.mark(id, trigger, out);
        }
    }

    /// The listener says `Spent` of the limit that it was given; this one may be new, and an
    /// adopted worker's count may have passed it while nobody listened.
    pub(super) fn recycle_spent(&mut self, out: &mut Vec<Order>) {
        let limit = self.garden.recycle.requests;
        let is_spent = |it: &Worker| limit > 0 && it.figures.delivered >= limit;
        let spent: Vec<WorkerId> =
            self.workers.iter().filter(|(_, it)| is_spent(it)).map(|(id, _)| *id).collect();
        for id in spent {
            self.mark(id, Trigger::Requests, out);
        }
    }

    pub(super) fn recycle_old(&mut self, now: Instant, out: &mut Vec<Order>) {
        let settings = &self.garden.recycle;
        let is_due = |it: &Worker| it.is_serving() && now >= it.every_due(settings);
        let old: Vec<WorkerId> =
            self.workers.iter().filter(|(_, it)| is_due(it)).map(|(id, _)| *id).collect();
        for id in old {
            self.mark(id, Trigger::Every, out);
        }
    }

    /// The worker that is recycled next, if a recycle may begin: the oldest of those marked, while
    /// every slot that is wanted is served and nobody is being replaced already.
    pub(super) fn next_recycle(&self, now: Instant) -> Option<WorkerId> {
        let is_held = self.hold_until.is_some_and(|until| now < until);
        let is_full = self
            .slots
            .iter()
            .all(|slot| self.workers.iter().any(|(id, it)| id.slot == *slot && it.is_serving()));
        let is_calm = self.workers.values().all(|it| it.is_serving() || !it.is_staying());
        if is_held || !is_full || !is_calm || !self.is_open() {
            return None;
        }
        let marked =
            self.workers.iter().filter(|(_, it)| it.is_serving() && it.recycling.is_some());
        marked.map(|(id, _)| *id).min_by_key(|id| id.generation)
    }

    /// Old workers whose successors serve are retired; without overlap, old workers are retired
    /// before their successors start.
    pub(super) fn recycle(&mut self, now: Instant, out: &mut Vec<Order>) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            let is_staying = self.workers.get(&id).is_some_and(Worker::is_staying);
            let has_successor = self.workers.iter().any(|(other, it)| {
                other.slot == id.slot && other.generation > id.generation && it.is_serving()
            });
            if is_staying && has_successor {
                self.replaced(now, id, out);
            }
        }
        if !self.garden.recycle.overlap
            && let Some(id) = self.next_recycle(now)
        {
            self.replaced(now, id, out);
        }
    }

    fn replaced(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get(&id) else { return };
        self.recycles_total += u64::from(worker.recycling.is_some());
        if worker.is_starting() {
            return self.terminate(now, id, out);
        }
        self.retire(now, id, out);
        for worker in self.workers.values_mut().filter(|it| it.replaces == Some(id)) {
            worker.replaces = None;
        }
    }

    /// The successor did not come up: the old worker stays. What still holds is tried again later,
    /// what was asked for once is not.
    pub(super) fn recycle_failed(&mut self, now: Instant, old: WorkerId, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get(&old) else { return };
        let is_there = matches!(worker.phase(), Phase::Admitted | Phase::Serving);
        let Some(trigger) = worker.recycling.filter(|_| is_there) else { return };
        self.hold_until = Some(now + self.garden.rapid_fail.window.max(HOLD_LEAST));
        if matches!(trigger, Trigger::Demand | Trigger::At | Trigger::Unhealthy) {
            for worker in self.workers.values_mut().filter(|it| it.recycling == Some(trigger)) {
                worker.recycling = None;
            }
        }
        tell(Some(old), Kind::RecycleFailed(trigger), out);
    }
}
