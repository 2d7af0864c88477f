//! What a pool knows, and what each fact changes in it.

use super::guard::Guard;
use super::seam::{
    Adopted, Exit, Failure, Input, Order, Phase, Report, Standing, Trigger, View, WorkerId,
};
use super::worker::Worker;
use crate::base::prng::Prng;
use crate::base::time::Instant;
use crate::machine::event::{Event, Kind};
use crate::plan::Garden;
use crate::plan::garden::Start;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// What the operator, or rapid-fail, made of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Running,
    Paused { limit: u32 },
    Stopped,
    Tripped,
}

/// All workers are to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) deadline: Instant,
    /// The deadline was brought forward: being late for it is no failure.
    pub(super) is_impatient: bool,
}

#[derive(Debug)]
pub(super) struct Life {
    pub(super) prng: Prng,
    pub(super) garden: Garden,
    pub(super) mode: Mode,
    pub(super) ending: Option<End>,
    pub(super) is_over: bool,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) generation: u32,
    /// Slots that are wanted.
    pub(super) slots: BTreeSet<u16>,
    pub(super) guard: Guard,
    /// No recycle begins before: the last one failed.
    pub(super) hold_until: Option<Instant>,
    pub(super) waiting: u32,
    /// Since when requests wait without a break that are not held on purpose.
    pub(super) waiting_since: Option<Instant>,
    pub(super) answered_at: Instant,
    pub(super) deadlock_at: Option<Instant>,
    /// A worker that had served was lost, and none has served since.
    pub(super) is_replacing: bool,
    pub(super) has_come_up: bool,
    pub(super) is_exhausted: bool,
    /// What the listener was told last.
    pub(super) stood: Option<(Standing, bool)>,
    pub(super) starts_total: u64,
    pub(super) recycles_total: u64,
}

impl Life {
    pub(super) fn new(seed: u64, garden: Garden) -> Self {
        Self {
            prng: Prng::new(seed),
            mode: if garden.autostart { Mode::Running } else { Mode::Stopped },
            garden,
            ending: None,
            is_over: false,
            workers: BTreeMap::new(),
            generation: 0,
            slots: BTreeSet::new(),
            guard: Guard::new(),
            hold_until: None,
            waiting: 0,
            waiting_since: None,
            answered_at: Instant(0),
            deadlock_at: None,
            is_replacing: false,
            has_come_up: false,
            is_exhausted: false,
            stood: None,
            starts_total: 0,
            recycles_total: 0,
        }
    }

    pub(super) fn record(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        match input {
            Input::Planned { garden, is_changed } => self.planned(now, *garden, is_changed, out),
            Input::Removed => self.end(Instant::NEVER),
            Input::Ending { deadline } => self.end(deadline),
            Input::MayStart => self.start(now, out),
            Input::MayNotStart => {
                if !core::mem::replace(&mut self.is_exhausted, true) {
                    self.tell(None, Kind::WorkersExhausted, out);
                }
            }
            Input::SpawnFailed { worker } => self.gone(now, worker, None, out),
            Input::Exited { worker, exit } => self.gone(now, worker, Some(exit), out),
            Input::Wanted => self.wanted(),
            Input::Measured { waiting, workers } => self.measured(now, waiting, &workers, out),
            Input::Scheduled => self.mark_all(Trigger::At, out),
            Input::Released => self.outdate(now, out),
            Input::Asked(verb) => self.asked(verb, out),
            Input::ListenerCame => self.listener_came(now, out),
            Input::Adopted(workers) => self.adopt(now, &workers, out),
            Input::Woken => {}
            Input::Spawned { worker }
            | Input::Ready { worker }
            | Input::Serving { worker }
            | Input::Emptied { worker }
            | Input::Spent { worker }
            | Input::Violated { worker }
            | Input::Weighed { worker, .. }
            | Input::Pinged { worker }
            | Input::Reported { worker, .. }
            | Input::OrphanEnded { worker } => self.heard_of(now, worker, &input, out),
        }
    }

    fn planned(&mut self, now: Instant, garden: Garden, is_changed: bool, out: &mut Vec<Order>) {
        self.garden = garden;
        if self.ending.take().is_some() {
            // It was in no configuration for a while; who knows what the listener forgot.
            self.is_over = false;
            self.stood = None;
        }
        if is_changed {
            self.outdate(now, out);
        }
    }

    fn end(&mut self, deadline: Instant) {
        self.ending = Some(match self.ending {
            None => End { deadline, is_impatient: false },
            Some(end) => End {
                deadline: end.deadline.min(deadline),
                is_impatient: end.is_impatient
                    || end.deadline < Instant::NEVER && deadline < end.deadline,
            },
        });
        let Some(End { deadline, .. }) = self.ending else { return };
        for worker in self.workers.values_mut() {
            if matches!(worker.phase(), Phase::Draining | Phase::Terminating) {
                worker.deadline = worker.deadline.min(deadline);
            }
        }
    }

    fn start(&mut self, now: Instant, out: &mut Vec<Order>) {
        self.is_exhausted = false;
        let Some((slot, old)) = self.next_start(now) else { return };
        self.generation = self.generation.wrapping_add(1);
        let id = WorkerId { slot, generation: self.generation };
        let jitter = self.draw_jitter();
        let deadline = now + self.garden.lifecycle.startup_limit;
        let mut worker = Worker::starting(now, deadline, jitter);
        worker.replaces = old;
        self.workers.insert(id, worker);
        out.push(Order::Spawn { worker: id });
    }

    fn draw_jitter(&mut self) -> u16 {
        let bound = u64::from(self.garden.recycle.jitter.min(100)) * 100;
        u16::try_from(self.prng.below(bound.max(1))).unwrap_or(0)
    }

    /// A request waits and no slot is free: one worker more, unless one is on its way already.
    pub(super) fn wanted(&mut self) {
        if self.mode != Mode::Running || self.ending.is_some() {
            return;
        }
        let is_coming = self
            .slots
            .iter()
            .any(|slot| !self.workers.iter().any(|(id, it)| id.slot == *slot && it.is_serving()));
        if !is_coming && let Some(slot) = self.free_slot() {
            self.slots.insert(slot);
        }
    }

    fn heard_of(&mut self, now: Instant, id: WorkerId, input: &Input, out: &mut Vec<Order>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match *input {
            Input::Spawned { .. } if worker.is_starting() => {
                self.starts_total += 1;
                self.tell(Some(id), Kind::WorkerStarted, out);
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
                    self.tell(Some(id), Kind::WorkerServing, out);
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
    fn gone(&mut self, now: Instant, id: WorkerId, exit: Option<Exit>, out: &mut Vec<Order>) {
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
            self.tell(Some(id), Kind::WorkerEnded, out);
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

    fn listener_came(&mut self, now: Instant, out: &mut Vec<Order>) {
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

    fn adopt(&mut self, now: Instant, workers: &[Adopted], out: &mut Vec<Order>) {
        self.slots.clear();
        for old in workers {
            if self.workers.contains_key(&old.worker) {
                continue;
            }
            let jitter = self.draw_jitter();
            let mut worker = Worker::adopted(now, old, jitter);
            worker.requests_max = worker.requests_limit(&self.garden.recycle);
            worker.leave_by = now + self.garden.lifecycle.shutdown_limit;
            worker.deadline = match worker.phase() {
                Phase::Draining => worker.leave_by,
                Phase::Terminating => self.terminate_by(now, worker.leave_by),
                Phase::Killing => now + super::settle::KILL_LIMIT,
                _ => Instant::NEVER,
            };
            let is_starting = worker.is_starting();
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

    pub(super) fn fail(&mut self, now: Instant, id: WorkerId, why: Failure, out: &mut Vec<Order>) {
        self.guard.failed(now, why);
        self.tell(Some(id), Kind::WorkerFailed(why), out);
    }

    pub(super) fn tell(&self, worker: Option<WorkerId>, kind: Kind, out: &mut Vec<Order>) {
        out.push(Order::Tell(Event { kind, worker }));
    }

    /// Workers that are kept without demand.
    pub(super) fn floor(&self) -> u16 {
        match self.garden.start {
            Start::Always => self.garden.workers,
            Start::OnDemand => self.garden.workers_min.min(self.garden.workers),
        }
    }

    /// Workers may start and stay.
    pub(super) fn is_open(&self) -> bool {
        self.ending.is_none() && matches!(self.mode, Mode::Running | Mode::Paused { .. })
    }

    pub(super) fn is_starting(&self) -> bool {
        self.workers.values().any(Worker::is_starting)
    }

    pub(super) fn alive(&self) -> u32 {
        let alive = self.workers.values().filter(|it| !it.is_orphan()).count();
        u32::try_from(alive).unwrap_or(u32::MAX)
    }

    pub(super) fn has_come_up(&self) -> bool {
        self.has_come_up
    }

    pub(super) fn view(&self, now: Instant) -> View {
        View {
            standing: self.standing(),
            workers: self.workers.iter().map(|(id, it)| it.view(*id)).collect(),
            waiting: self.waiting,
            failures: self.guard.count(now, &self.garden.rapid_fail),
            failures_total: self.guard.total(),
            last_failure: self.guard.last(),
            starts_total: self.starts_total,
            recycles_total: self.recycles_total,
            backoff_until: self.guard.until().filter(|until| now < *until),
        }
    }
}
