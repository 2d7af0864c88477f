//! The oracle's books: what the machine was told and what it ordered, kept without asking it.
//! `orders.rs` judges what it orders, `verdict.rs` what it leaves undone.

use super::cover::Cover;
use super::setting::target;
use super::span::Spans;
use super::window::Window;
use lychgate::base::time::Instant;
use lychgate::machine::pool::seam::{
    Exit, Failure, Figures, Input, Phase, Report, Standing, Trigger, Verb, WorkerId,
};
use lychgate::plan::Garden;
use std::collections::{BTreeMap, BTreeSet};

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: &'static str,
    pub(crate) text: String,
}

/// A worker as the oracle knows it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) born: Instant,
    pub(crate) phase: Phase,
    pub(crate) since: Instant,
    pub(crate) is_process: bool,
    pub(crate) is_ready: bool,
    /// The listener knows it.
    pub(crate) has_place: bool,
    pub(crate) is_emptied: bool,
    pub(crate) has_served: bool,
    /// It was adopted while it started: nobody knows whether it is ready.
    pub(crate) is_unproven: bool,
    pub(crate) retired_at: Option<Instant>,
    pub(crate) terminated_at: Option<Instant>,
    pub(crate) killed_at: Option<Instant>,
    /// Sent and not answered.
    pub(crate) ping: Option<Instant>,
    pub(crate) pinged_at: Option<Instant>,
    /// Something was answered since, as far as the figures tell.
    pub(crate) has_progress: bool,
    /// When it was last known to live.
    pub(crate) sign_at: Instant,
    /// When it was last known to have something to do.
    pub(crate) active_at: Instant,
    pub(crate) figures: Figures,
    /// Why it is to be recycled.
    pub(crate) reasons: BTreeSet<Trigger>,
    pub(crate) is_stopping: bool,
    pub(crate) is_orphan_ended: bool,
    /// It is recycled without overlap: the next one waits until it is gone.
    pub(crate) is_exclusive: bool,
}

impl Record {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            born: now,
            phase: Phase::Starting,
            since: now,
            is_process: false,
            is_ready: false,
            has_place: false,
            is_emptied: false,
            has_served: false,
            is_unproven: false,
            retired_at: None,
            terminated_at: None,
            killed_at: None,
            ping: None,
            pinged_at: None,
            has_progress: false,
            sign_at: now,
            active_at: now,
            figures: Figures::default(),
            reasons: BTreeSet::new(),
            is_stopping: false,
            is_orphan_ended: false,
            is_exclusive: false,
        }
    }

    /// On its way to serve, or serving.
    pub(crate) fn is_staying(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Admitted | Phase::Serving)
    }

    pub(crate) fn enter(&mut self, now: Instant, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }
}

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) now: Instant,
    pub(crate) garden: Garden,
    pub(crate) fault: Option<Fault>,
    /// The machine's account of itself is not looked at: what it does must be enough.
    pub(crate) is_blind: bool,
    pub(crate) cover: Cover,
    pub(crate) workers: BTreeMap<WorkerId, Record>,
    /// Gone, and the listener still knows them.
    pub(crate) ghosts: BTreeSet<WorkerId>,
    pub(crate) generation_max: Option<u32>,
    pub(crate) standing: Standing,
    pub(crate) told: Option<Standing>,
    pub(crate) is_planned: bool,
    pub(crate) is_over: bool,
    pub(crate) is_listener_up: bool,
    /// All is to end, and what drains by then.
    pub(crate) ending: Option<Instant>,
    pub(crate) window: Window,
    pub(crate) spans: Spans,
    pub(crate) step: Step,
    pub(crate) wanted: bool,
    pub(crate) waiting: u32,
    /// Since when requests wait without a break.
    pub(crate) waiting_since: Option<Instant>,
    pub(crate) deadlock_at: Option<Instant>,
    pub(crate) answered_at: Instant,
    /// What may be answered by a start each: ends of workers, and requests for one.
    pub(crate) claims: u32,
    pub(crate) starved_since: Option<Instant>,
    pub(crate) changed_at: Instant,
}

/// What one step is about.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) is_granted: bool,
    pub(crate) wanted_start: bool,
    pub(crate) spawns: u32,
    pub(crate) is_woken: bool,
    /// Failures that the step must tell.
    pub(crate) owed: Vec<(WorkerId, Failure)>,
    /// Failures that it may tell.
    pub(crate) allowed: Vec<(WorkerId, Failure)>,
    pub(crate) has_tripped: bool,
    pub(crate) must_trip: bool,
    /// Started by the operator: whether it is still paused, is the machine's choice.
    pub(crate) is_started: bool,
}

impl Oracle {
    pub(crate) fn new(garden: Garden) -> Self {
        Self {
            now: Instant(0),
            spans: Spans::new(&garden),
            window: Window::new(&garden.rapid_fail),
            garden,
            fault: None,
            is_blind: false,
            cover: Cover::default(),
            workers: BTreeMap::new(),
            ghosts: BTreeSet::new(),
            generation_max: None,
            standing: Standing::Running,
            told: None,
            is_planned: false,
            is_over: false,
            is_listener_up: true,
            ending: None,
            step: Step::default(),
            wanted: false,
            waiting: 0,
            waiting_since: None,
            deadlock_at: None,
            answered_at: Instant(0),
            claims: 0,
            starved_since: None,
            changed_at: Instant(0),
        }
    }

    pub(crate) fn blame(&mut self, rule: &'static str, text: String) {
        if self.fault.is_none() {
            self.fault = Some(Fault { rule, text });
        }
    }

    pub(crate) fn require(&mut self, holds: bool, rule: &'static str, text: impl Fn() -> String) {
        if !holds && self.fault.is_none() {
            self.blame(rule, text());
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.ending.is_none() && !matches!(self.standing, Standing::Stopped | Standing::Tripped)
    }

    /// What the pool stands like, for people who count situations.
    pub(crate) fn circumstances(&self) -> &'static str {
        let is_overlapping = self.workers.values().filter(|it| it.is_staying()).count()
            > usize::from(self.garden.workers);
        match self.standing {
            _ if self.ending.is_some() => "ending",
            Standing::Running | Standing::Replacing if is_overlapping => "overlap",
            Standing::Running | Standing::Replacing => "running",
            Standing::Paused { .. } => "paused",
            Standing::Stopped => "stopped",
            Standing::Tripped => "tripped",
        }
    }

    pub(crate) fn heard(&mut self, now: Instant, input: &Input, wants_start: bool) {
        self.now = now;
        self.overdue();
        self.step = Step { wanted_start: wants_start, ..Step::default() };
        match input {
            Input::Planned { garden, is_changed } => self.planned(garden, *is_changed),
            Input::Removed => self.ending = Some(Instant::NEVER),
            Input::Ending { deadline } => self.ending = Some(*deadline),
            Input::MayStart => self.step.is_granted = true,
            Input::MayNotStart | Input::Scheduled | Input::Released => self.reminded(input),
            Input::Woken => self.step.is_woken = true,
            Input::Wanted => {
                self.wanted = true;
                self.claims += 1;
            }
            Input::Measured { waiting, workers } => self.measured(*waiting, workers),
            Input::Asked(verb) => self.asked(*verb),
            Input::ListenerCame => self.listener_came(),
            Input::Adopted(_) => {}
            Input::Spawned { worker }
            | Input::SpawnFailed { worker }
            | Input::Ready { worker }
            | Input::Serving { worker }
            | Input::Emptied { worker }
            | Input::Exited { worker, .. }
            | Input::Spent { worker }
            | Input::Violated { worker }
            | Input::Weighed { worker, .. }
            | Input::Pinged { worker }
            | Input::Reported { worker, .. }
            | Input::OrphanEnded { worker } => self.heard_of(*worker, input),
        }
    }

    fn planned(&mut self, garden: &Garden, is_changed: bool) {
        self.spans.widen(&Spans::new(garden));
        // What was kept without demand may be kept until it idles.
        let kept = target(&self.garden).saturating_sub(target(garden));
        self.claims += u32::try_from(kept).unwrap_or(0);
        self.garden = garden.clone();
        if !self.is_planned && !garden.autostart {
            self.standing = Standing::Stopped;
        }
        self.is_planned = true;
        self.changed_at = self.now;
        if is_changed && garden.recycle.on_config_change {
            self.remind(Trigger::Config);
        }
    }

    fn reminded(&mut self, input: &Input) {
        match input {
            Input::Scheduled => self.remind(Trigger::At),
            Input::Released if self.garden.recycle.on_config_change => self.remind(Trigger::Config),
            _ => {}
        }
    }

    /// All that live now are to be recycled.
    fn remind(&mut self, trigger: Trigger) {
        for record in self.workers.values_mut().filter(|record| record.is_staying()) {
            record.reasons.insert(trigger);
        }
    }

    fn asked(&mut self, verb: Verb) {
        let is_refusing = matches!(self.standing, Standing::Stopped | Standing::Tripped);
        match verb {
            Verb::Recycle if !is_refusing => self.remind(Trigger::Demand),
            Verb::Stop => self.standing = Standing::Stopped,
            Verb::Start => {
                if is_refusing {
                    self.standing = Standing::Running;
                }
                self.window.clear(!is_refusing);
                self.step.is_started = true;
            }
            Verb::Pause { limit } if !is_refusing => {
                self.waiting_since = None;
                self.standing = Standing::Paused { limit };
            }
            Verb::Resume if !is_refusing => self.standing = Standing::Running,
            Verb::Recycle | Verb::Pause { .. } | Verb::Resume => {}
        }
    }

    fn listener_came(&mut self) {
        self.ghosts.clear();
        self.told = None;
        self.is_listener_up = true;
        self.waiting_since = None;
        let now = self.now;
        for record in self.workers.values_mut() {
            record.has_place = false;
            record.active_at = now;
            record.sign_at = record.sign_at.max(now);
            if record.phase == Phase::Draining {
                // The requests that it ran died with the listener that had given them.
                record.is_emptied = true;
            }
        }
    }

    fn measured(&mut self, waiting: u32, workers: &[(WorkerId, Figures)]) {
        self.waiting = waiting;
        // What is held on purpose is no sign of a deadlock.
        let is_held = waiting == 0 || matches!(self.standing, Standing::Paused { .. });
        self.waiting_since = self.waiting_since.or(Some(self.now)).filter(|_| !is_held);
        for (worker, figures) in workers {
            let Some(record) = self.workers.get_mut(worker) else { continue };
            if figures.executing > 0 || figures.delivered != record.figures.delivered {
                record.active_at = self.now;
            }
            if figures.answered > record.figures.answered {
                record.has_progress = true;
                // What came before the ping says nothing about what came of it.
                record.ping = record.ping.filter(|ping| *ping > figures.answered);
                record.sign_at = record.sign_at.max(figures.answered);
                self.answered_at = self.answered_at.max(figures.answered);
            }
            record.figures = *figures;
            if self.spans.is_spent(figures.delivered) {
                record.reasons.insert(Trigger::Requests);
            }
        }
    }

    fn heard_of(&mut self, worker: WorkerId, input: &Input) {
        let now = self.now;
        let Some(record) = self.workers.get_mut(&worker) else { return };
        match *input {
            Input::Spawned { .. } => record.is_process = true,
            Input::SpawnFailed { .. } => {
                self.workers.remove(&worker);
                self.step.owed.push((worker, Failure::Spawn));
                self.claims += 1;
            }
            Input::Ready { .. } => record.is_ready = true,
            Input::Serving { .. } if record.phase == Phase::Admitted => {
                record.enter(now, Phase::Serving);
                record.has_served = true;
                self.wanted = false;
                record.sign_at = now;
                record.active_at = now;
            }
            Input::Emptied { .. } => record.is_emptied = true,
            Input::Exited { exit, .. } => self.exited(worker, exit),
            Input::Spent { .. } => _ = record.reasons.insert(Trigger::Requests),
            Input::Violated { .. } => {
                record.reasons.insert(Trigger::Unhealthy);
                self.step.allowed.push((worker, Failure::ProtocolViolation));
                if record.phase == Phase::Serving && !record.is_stopping {
                    self.step.owed.push((worker, Failure::ProtocolViolation));
                }
            }
            Input::Weighed { memory, .. } => {
                let limits = &self.garden.recycle;
                for (limit, is_reached, trigger) in [
                    (limits.private_memory, memory.private, Trigger::PrivateMemory),
                    (limits.virtual_memory, memory.virtual_size, Trigger::VirtualMemory),
                    (limits.memory_percent.into(), memory.percent.into(), Trigger::MemoryPercent),
                ] {
                    if limit > 0 && is_reached >= limit {
                        record.reasons.insert(trigger);
                    }
                }
            }
            Input::Pinged { .. } => {
                record.ping = None;
                record.sign_at = now;
            }
            Input::Reported { report, .. } => match report {
                Report::Stopping => record.is_stopping = true,
                Report::Recycle => _ = record.reasons.insert(Trigger::Unhealthy),
                Report::Unhealthy => {
                    record.reasons.insert(Trigger::Unhealthy);
                    self.step.allowed.push((worker, Failure::SelfReported));
                    if record.phase == Phase::Serving && !record.is_stopping {
                        self.step.owed.push((worker, Failure::SelfReported));
                    }
                }
            },
            Input::OrphanEnded { .. } => record.is_orphan_ended = true,
            _ => {}
        }
    }

    fn exited(&mut self, worker: WorkerId, exit: Exit) {
        let Some(record) = self.workers.remove(&worker) else { return };
        let failure = match exit {
            Exit::OutOfMemory => Failure::OutOfMemory,
            exit => Failure::Crash(exit),
        };
        let was_announced = record.is_stopping && matches!(exit, Exit::Code(0) | Exit::Unknown);
        match record.phase {
            Phase::Starting | Phase::Admitted | Phase::Serving if !was_announced => {
                self.step.owed.push((worker, failure));
                self.claims += 1;
            }
            Phase::Starting | Phase::Admitted | Phase::Serving => self.claims += 1,
            Phase::Draining | Phase::Terminating => self.step.allowed.push((worker, failure)),
            Phase::Killing | Phase::Orphaned => {}
        }
        if record.has_place {
            self.ghosts.insert(worker);
        }
    }

    /// A new supervisor took over: what the old one only had in its head is gone.
    pub(crate) fn adopted(&mut self, now: Instant) {
        self.window.clear(false);
        self.wanted = false;
        self.waiting = 0;
        self.waiting_since = None;
        self.starved_since = None;
        self.deadlock_at = None;
        self.told = None;
        self.changed_at = now;
        for record in self.workers.values_mut() {
            record.ping = None;
            record.pinged_at = None;
            record.sign_at = now;
            record.active_at = now;
            record.since = now;
            record.is_stopping = false;
            record.figures = Figures::default();
            match record.phase {
                Phase::Starting => record.is_unproven = true,
                Phase::Admitted => record.phase = Phase::Serving,
                Phase::Draining => record.retired_at = Some(now),
                Phase::Terminating => record.terminated_at = Some(now),
                Phase::Killing => record.killed_at = Some(now),
                Phase::Serving | Phase::Orphaned => {}
            }
        }
    }
}
