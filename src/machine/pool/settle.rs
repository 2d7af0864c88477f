//! The one level-triggered decision: what time has brought, what is wanted, who goes, who comes.

use super::life::{Life, Mode, tell};
use super::seam::{Failure, Order, Phase, Standing, WorkerId};
use super::worker::Worker;
use crate::base::time::Instant;
use crate::machine::event::Kind;
use alloc::vec::Vec;
use core::time::Duration;

/// From SIGTERM to SIGKILL at least.
const TERMINATE_LEAST: Duration = Duration::from_secs(5);
/// How long the listener may take to take a worker in before it is told again.
const ADMIT_LIMIT: Duration = Duration::from_secs(10);
/// How long a killed process may take to be gone before it is killed again.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(5);

impl Life {
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Order>) {
        self.guard.settle(now, &self.garden.rapid_fail);
        self.hold_until = self.hold_until.filter(|until| now < *until);
        self.end_late(now, out);
        self.look_for_silence(now, out);
        self.recycle_old(now, out);
        self.trip(now, out);
        self.want_slots();
        self.end_surplus(now, out);
        self.end_late(now, out);
        self.recycle(now, out);
        self.note_capacity();
        self.stand(out);
        self.finish(out);
    }

    /// Every phase that waits for somebody ends in time. One worker may end several at once: when
    /// the server's end leaves no time between them.
    fn end_late(&mut self, now: Instant, out: &mut Vec<Order>) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            while self.workers.get(&id).is_some_and(|it| now >= it.deadline) {
                self.late(now, id, out);
            }
        }
    }

    fn late(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match worker.phase() {
            Phase::Starting => self.end_failed(now, id, Failure::StartupTimeout, out),
            Phase::Draining => self.terminate(now, id, out),
            Phase::Terminating if now >= worker.phase_since() + TERMINATE_LEAST => {
                self.end_failed(now, id, Failure::ShutdownTimeout, out);
            }
            // The server's end, or the operator's impatience, is not its failure.
            Phase::Terminating | Phase::Killing => self.kill(now, id, out),
            // It may have had no place then, or have died with what it was told.
            Phase::Admitted => self.admit(now, id, out),
            Phase::Serving | Phase::Orphaned => worker.deadline = Instant::NEVER,
        }
    }

    /// It failed and lives: released if it may be, else killed.
    pub(super) fn end_failed(
        &mut self,
        now: Instant,
        id: WorkerId,
        why: Failure,
        out: &mut Vec<Order>,
    ) {
        self.fail(now, id, why, out);
        let orphans = self.workers.values().filter(|it| it.is_orphan()).count();
        let may_orphan = self.garden.lifecycle.orphan
            && orphans < usize::from(self.garden.lifecycle.orphans_max)
            && self.ending.is_none();
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.is_told = true;
        let was_staying = worker.is_staying();
        let (served_since, replaces) = (worker.served_since, worker.replaces.take());
        if may_orphan {
            worker.enter(now, Phase::Orphaned, Instant::NEVER);
            if core::mem::take(&mut worker.has_place) {
                out.push(Order::Dismiss { worker: id });
            }
            out.push(Order::Orphan { worker: id, why });
            tell(Some(id), Kind::WorkerOrphaned(why), out);
        } else {
            self.kill(now, id, out);
        }
        if was_staying {
            self.lost(now, served_since, replaces, out);
        }
    }

    pub(super) fn admit(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.enter(now, Phase::Admitted, now + ADMIT_LIMIT);
        worker.has_place = true;
        let (requests_max, delivered) = (worker.requests_max, worker.figures.delivered);
        out.push(Order::Admit { worker: id, requests_max, delivered });
    }

    /// It takes nothing new; by `leave_by` it is to be gone.
    pub(super) fn retire(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Order>) {
        let end = self.ending.unwrap_or(Instant::NEVER);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.leave_by = now + self.garden.lifecycle.shutdown_limit;
        worker.enter(now, Phase::Draining, worker.leave_by.min(end));
        out.push(Order::Retire { worker: id });
    }

    pub(super) fn terminate(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get(&id) else { return };
        let leave_by = if worker.is_starting() {
            now + self.garden.lifecycle.shutdown_limit
        } else {
            worker.leave_by
        };
        let deadline = self.terminate_by(now, leave_by);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.enter(now, Phase::Terminating, deadline);
        out.push(Order::Terminate { worker: id });
    }

    pub(super) fn terminate_by(&self, now: Instant, leave_by: Instant) -> Instant {
        let end = self.ending.unwrap_or(Instant::NEVER);
        leave_by.max(now + TERMINATE_LEAST).min(end)
    }

    pub(super) fn kill(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.enter(now, Phase::Killing, now + KILL_LIMIT);
        if core::mem::take(&mut worker.has_place) {
            out.push(Order::Dismiss { worker: id });
        }
        out.push(Order::Kill { worker: id });
    }

    fn trip(&mut self, now: Instant, out: &mut Vec<Order>) {
        if self.is_open() && self.guard.has_tripped(now, &self.garden.rapid_fail) {
            self.mode = Mode::Tripped;
            self.stand(out);
            tell(None, Kind::PoolTripped, out);
            out.push(Order::Trip);
        }
    }

    fn want_slots(&mut self) {
        if !self.is_open() {
            self.slots.clear();
            self.kept.clear();
            return;
        }
        let workers = self.garden.workers;
        self.slots.retain(|slot| *slot < workers);
        while self.slots.len() < usize::from(self.floor()) {
            let Some(slot) = self.free_slot() else { return };
            self.slots.insert(slot);
            self.kept.insert(slot);
        }
    }

    /// The lowest slot that is not wanted; rather one that nobody still leaves.
    pub(super) fn free_slot(&self) -> Option<u16> {
        let free = || (0..self.garden.workers).filter(|slot| !self.slots.contains(slot));
        free().find(|slot| !self.is_inhabited(*slot)).or_else(|| free().next())
    }

    fn is_inhabited(&self, slot: u16) -> bool {
        self.workers.iter().any(|(id, it)| id.slot == slot && !it.is_orphan())
    }

    /// Whoever stays in a slot that is not wanted goes.
    fn end_surplus(&mut self, now: Instant, out: &mut Vec<Order>) {
        let surplus: Vec<(WorkerId, bool)> = self
            .workers
            .iter()
            .filter(|(id, it)| it.is_staying() && !self.slots.contains(&id.slot))
            .map(|(id, it)| (*id, it.is_starting()))
            .collect();
        for (id, is_starting) in surplus {
            if is_starting {
                self.terminate(now, id, out);
            } else {
                self.retire(now, id, out);
            }
        }
    }

    /// Where the next worker starts, and whom it replaces.
    pub(super) fn next_start(&self, now: Instant) -> Option<(u16, Option<WorkerId>)> {
        let most = u32::from(self.garden.workers) * 2 + 1;
        let may_start = self.is_open()
            && self.guard.may_start(now)
            && !self.is_starting()
            && self.alive() < most;
        if !may_start {
            return None;
        }
        let overlap = self.garden.recycle.overlap;
        let is_missing = |slot: &u16| {
            let mut inside = self.workers.iter().filter(|(id, _)| id.slot == *slot);
            // Without overlap two processes of a slot must never meet.
            inside.all(|(_, it)| it.is_orphan() || overlap && !it.is_staying())
        };
        if let Some(slot) = self.slots.iter().copied().find(is_missing) {
            return Some((slot, None));
        }
        self.next_recycle(now).filter(|_| overlap).map(|id| (id.slot, Some(id)))
    }

    pub(super) fn wants_start(&self, now: Instant) -> bool {
        self.next_start(now).is_some()
    }

    fn note_capacity(&mut self) {
        let serving = self.workers.values().filter(|it| it.is_serving()).count();
        self.is_replacing &= serving == 0 && !self.slots.is_empty();
        self.has_come_up |= !self.is_open() || serving >= usize::from(self.floor());
    }

    pub(super) fn standing(&self) -> Standing {
        match self.mode {
            Mode::Running if self.is_replacing => Standing::Replacing,
            Mode::Running => Standing::Running,
            Mode::Paused { limit } => Standing::Paused { limit },
            Mode::Stopped => Standing::Stopped,
            Mode::Tripped => Standing::Tripped,
        }
    }

    pub(super) fn stand(&mut self, out: &mut Vec<Order>) {
        let mut slots: Vec<u16> =
            self.workers.iter().filter(|(_, it)| it.is_staying()).map(|(id, _)| id.slot).collect();
        slots.dedup();
        let may_grow = self.is_open() && slots.len() < usize::from(self.garden.workers);
        let standing = self.standing();
        if self.stood != Some((standing, may_grow)) && self.ending.is_none() {
            self.stood = Some((standing, may_grow));
            out.push(Order::Stand { standing, may_grow });
        }
    }

    fn finish(&mut self, out: &mut Vec<Order>) {
        let is_done = self.ending.is_some() && self.workers.values().all(Worker::is_orphan);
        if is_done && !core::mem::replace(&mut self.is_over, true) {
            out.push(Order::Over);
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let mut deadline = Instant::NEVER;
        for worker in self.workers.values() {
            deadline = deadline.min(worker.deadline);
            if worker.is_serving() {
                deadline = deadline
                    .min(worker.pulse.deadline(&self.garden.health))
                    .min(worker.every_due(&self.garden.recycle));
            }
        }
        [self.guard.until(), self.hold_until].into_iter().flatten().fold(deadline, Instant::min)
    }

    pub(super) fn check(&self) {
        let starting = self.workers.values().filter(|it| it.is_starting()).count();
        assert!(starting <= 1, "two starts at once");
        for (id, worker) in &self.workers {
            let waits = !matches!(worker.phase(), Phase::Serving | Phase::Orphaned);
            assert!(!waits || worker.deadline < Instant::NEVER, "{id:?} may wait for ever");
            let is_idle = worker.is_staying() && !self.slots.contains(&id.slot);
            assert!(!is_idle, "{id:?} stays, and nobody wants it");
        }
        let is_left = self.workers.values().any(Worker::is_staying);
        assert!(!self.is_over || !is_left, "over too early");
    }
}
