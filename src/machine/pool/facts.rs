//! What facts about workers and listener change.

use super::life::{Life, Mode, tell};
use super::seam::{
    Exit, Failure, Input, Legacy, Order, Phase, Report, Standing, Trigger, WorkerId,
};
use super::settle::KILL_LIMIT;
use super::worker::Worker;
use crate::base::time::Instant;
use crate::machine::event::Kind;
use alloc::vec::Vec;

impl Life {
    pub(super) fn heard_of(
        &mut self,
        now: Instant,
        id: WorkerId,
        input: &Input,
        out: &mut Vec<Order>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match *input {
            Input::Spawned { .. } if worker.is_starting() => {
                self.starts_total += 1;
                tell(Some(id), Kind::WorkerStarted, out);
            }
            Input::Ready { .. } if worker.is_starting() => {
                worker.requests_max = worker.requests_limit(&self.garden.recycle);
                self.admit(now, id, out);
            }
            Input::Serving { .. } if worker.phase() == Phase::Admitted => {
                worker.enter(now, Phase::Serving, Instant::NEVER);
                worker.pulse.begin(now);
                let is_first = worker.served_since.is_none();
                worker.served_since = worker.served_since.or(Some(now));
                if is_first {
                    tell(Some(id), Kind::WorkerServing, out);
                }
            }
            Input::Emptied { .. } if worker.phase() == Phase::Draining => {
                self.terminate(now, id, out);
            }
            Input::Spent { .. } => self.mark(id, Trigger::Requests, out),
            Input::Violated { .. } => {
                let is_new = !core::mem::replace(&mut worker.has_violated, true);
                self.misbehaved(now, id, is_new.then_some(Failure::ProtocolViolation), out);
            }
            Input::Weighed { memory, .. } => {
                worker.memory = memory;
                self.weighed(id, out);
            }
            Input::Pinged { .. } => worker.pulse.answered_ping(now),
            Input::Reported { report: Report::Stopping, .. } => self.stopping(now, id, out),
            Input::Reported { report: Report::Recycle, .. } => self.misbehaved(now, id, None, out),
            Input::Reported { report: Report::Unhealthy, .. } => {
                let is_new = !core::mem::replace(&mut worker.is_unhealthy, true);
                self.misbehaved(now, id, is_new.then_some(Failure::SelfReported), out);
            }
            Input::OrphanEnded { .. } if worker.is_orphan() => self.kill(now, id, out),
            _ => {}
        }
    }

    /// It serves and is to be replaced, which may be a failure.
    fn misbehaved(
        &mut self,
        now: Instant,
        id: WorkerId,
        why: Option<Failure>,
        out: &mut Vec<Order>,
    ) {
        let phase = self.workers.get(&id).map(Worker::phase);
        if !matches!(phase, Some(Phase::Admitted | Phase::Serving)) {
            return;
        }
        if let Some(why) = why {
            self.fail(now, id, why, out);
        }
        self.mark(id, Trigger::Unhealthy, out);
    }

    /// It ends by its own wish: its slot is given up, and filled again if it is needed.
    fn stopping(&mut self, now: Instant, id: WorkerId, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.is_stopping = true;
        if !matches!(worker.phase(), Phase::Admitted | Phase::Serving) {
            return;
        }
        let lived = worker.served_since.map(|since| now.since(since)).unwrap_or_default();
        let has_heir = self
            .workers
            .iter()
            .any(|(other, it)| other.slot == id.slot && *other != id && it.is_staying());
        if !has_heir {
            self.slots.remove(&id.slot);
            self.guard.lost(now, lived);
        }
        self.retire(now, id, out);
    }

    /// There is no such process: it ended, or (no `exit`) there never was one.
    pub(super) fn gone(
        &mut self,
        now: Instant,
        id: WorkerId,
        exit: Option<Exit>,
        out: &mut Vec<Order>,
    ) {
        let Some(worker) = self.workers.remove(&id) else { return };
        if worker.has_place {
            out.push(Order::Dismiss { worker: id });
        }
        let failure = match exit {
            None => Failure::Spawn,
            Some(Exit::OutOfMemory) => Failure::OutOfMemory,
            Some(exit) => Failure::Crash(exit),
        };
        let is_clean = matches!(exit, Some(Exit::Code(0) | Exit::Unknown));
        let is_failure = match worker.phase() {
            Phase::Starting | Phase::Admitted | Phase::Serving => !(worker.is_stopping && is_clean),
            Phase::Draining => !is_clean,
            Phase::Terminating | Phase::Killing | Phase::Orphaned => false,
        };
        if is_failure {
            self.fail(now, id, failure, out);
        } else if !worker.is_told {
            tell(Some(id), Kind::WorkerEnded, out);
        }
        if worker.is_staying() {
            self.lost(now, worker.served_since, worker.replaces, out);
        }
    }

    /// A worker that was to stay does not.
    pub(super) fn lost(
        &mut self,
        now: Instant,
        served_since: Option<Instant>,
        replaces: Option<WorkerId>,
        out: &mut Vec<Order>,
    ) {
        let lived = served_since.map(|since| now.since(since)).unwrap_or_default();
        self.guard.lost(now, lived);
        if let Some(old) = replaces {
            self.recycle_failed(now, old, out);
        }
        self.is_replacing |= served_since.is_some();
    }

    pub(super) fn listener_came(&mut self, now: Instant, out: &mut Vec<Order>) {
        self.stood = None;
        self.stand(out);
        self.waiting = 0;
        self.waiting_since = None;
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            worker.has_place = false;
            match worker.phase() {
                Phase::Admitted | Phase::Serving => self.admit(now, id, out),
                // What it ran ended with the listener that had given it.
                Phase::Draining => self.terminate(now, id, out),
                _ => {}
            }
        }
    }

    pub(super) fn adopt(&mut self, now: Instant, legacy: &Legacy, out: &mut Vec<Order>) {
        self.mode = match legacy.standing {
            Standing::Running | Standing::Replacing => Mode::Running,
            Standing::Paused { limit } => Mode::Paused { limit },
            Standing::Stopped => Mode::Stopped,
            Standing::Tripped => Mode::Tripped,
        };
        self.generation = self.generation.max(legacy.generation);
        self.slots.clear();
        for old in &legacy.workers {
            if self.workers.contains_key(&old.worker) {
                continue;
            }
            // How its thresholds had been drawn is not known any more.
            let mut worker = Worker::adopted(now, old);
            worker.requests_max = worker.requests_limit(&self.garden.recycle);
            worker.leave_by = now + self.garden.lifecycle.shutdown_limit;
            worker.deadline = match worker.phase() {
                Phase::Draining => worker.leave_by,
                Phase::Terminating => self.terminate_by(now, worker.leave_by),
                Phase::Killing => now + KILL_LIMIT,
                _ => Instant::NEVER,
            };
            let is_starting = worker.is_starting();
            if worker.phase() == Phase::Draining {
                // That it is empty may have been told to nobody.
                out.push(Order::Retire { worker: old.worker });
            }
            if worker.is_staying() {
                self.slots.insert(old.worker.slot);
            }
            self.generation = self.generation.max(old.worker.generation);
            self.workers.insert(old.worker, worker);
            if is_starting {
                // Whether it ever gets ready was known to who watched it.
                self.kill(now, old.worker, out);
            }
        }
    }
}
