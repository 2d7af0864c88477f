//! What a pool knows, and what people and plans change in it.

use super::guard::Guard;
use super::seam::{Failure, Input, Order, Phase, Standing, Trigger, View, WorkerId};
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

#[derive(Debug)]
pub(super) struct Life {
    pub(super) prng: Prng,
    pub(super) garden: Garden,
    pub(super) mode: Mode,
    /// All workers are to end; what drains, by then.
    pub(super) ending: Option<Instant>,
    pub(super) is_over: bool,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    pub(super) generation: u32,
    /// Slots that are wanted; of these, `kept` without demand.
    pub(super) slots: BTreeSet<u16>,
    pub(super) kept: BTreeSet<u16>,
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

pub(super) fn tell(worker: Option<WorkerId>, kind: Kind, out: &mut Vec<Order>) {
    out.push(Order::Tell(Event { kind, worker }));
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
            kept: BTreeSet::new(),
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
        let is_about_orphans = matches!(input, Input::Exited { .. } | Input::OrphanEnded { .. });
        if self.is_over && !is_about_orphans && !matches!(input, Input::Planned { .. }) {
            return;
        }
        match input {
            Input::Planned { garden, is_changed } => self.planned(now, *garden, is_changed, out),
            Input::Removed => self.end(Instant::NEVER),
            Input::Ending { deadline } => self.end(deadline),
            Input::MayStart => self.start(now, out),
            Input::MayNotStart => {
                if !core::mem::replace(&mut self.is_exhausted, true) {
                    tell(None, Kind::WorkersExhausted, out);
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
            Input::Adopted(legacy) => self.adopt(now, &legacy, out),
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
        for slot in core::mem::take(&mut self.kept) {
            if !self.workers.iter().any(|(id, it)| id.slot == slot && it.is_staying()) {
                self.slots.remove(&slot);
            }
        }
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
        let deadline = self.ending.unwrap_or(Instant::NEVER).min(deadline);
        self.ending = Some(deadline);
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

    pub(super) fn fail(&mut self, now: Instant, id: WorkerId, why: Failure, out: &mut Vec<Order>) {
        self.guard.failed(now, why);
        tell(Some(id), Kind::WorkerFailed(why), out);
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
            generation: self.generation,
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
