//! One worker: its phase, since when, until when, and what is known about it.

use super::health::Pulse;
use super::seam::{Adopted, Figures, Memory, Phase, Trigger, WorkerId, WorkerView};
use crate::base::time::Instant;

#[derive(Debug)]
pub(super) struct Worker {
    phase: Phase,
    phase_since: Instant,
    /// When the phase ends if nothing happens.
    pub(super) deadline: Instant,
    pub(super) since: Instant,
    /// When it first served.
    pub(super) served_since: Option<Instant>,
    /// The listener was told of it, and not yet that it is gone.
    pub(super) has_place: bool,
    /// It announced that it ends.
    pub(super) is_stopping: bool,
    /// How it ends was told already.
    pub(super) is_told: bool,
    pub(super) has_violated: bool,
    pub(super) is_unhealthy: bool,
    pub(super) recycling: Option<Trigger>,
    /// It takes the place of this one.
    pub(super) replaces: Option<WorkerId>,
    /// Until when what it runs, and then itself, may take to end.
    pub(super) leave_by: Instant,
    /// By how many ten thousandths `every` and `requests` are shorter for it.
    pub(super) jitter: u16,
    pub(super) requests_max: u64,
    pub(super) figures: Figures,
    pub(super) memory: Memory,
    pub(super) pulse: Pulse,
}

impl Worker {
    pub(super) fn starting(now: Instant, deadline: Instant, jitter: u16) -> Self {
        Self {
            phase: Phase::Starting,
            phase_since: now,
            deadline,
            since: now,
            served_since: None,
            has_place: false,
            is_stopping: false,
            is_told: false,
            has_violated: false,
            is_unhealthy: false,
            recycling: None,
            replaces: None,
            leave_by: Instant::NEVER,
            jitter,
            requests_max: 0,
            figures: Figures::default(),
            memory: Memory::default(),
            pulse: Pulse::new(now),
        }
    }

    /// As an earlier supervisor left it; the listener serves what was admitted.
    pub(super) fn adopted(now: Instant, old: &Adopted) -> Self {
        let mut worker = Self::starting(now, Instant::NEVER, 0);
        worker.since = old.since.min(now);
        worker.figures.delivered = old.delivered;
        worker.phase = match old.phase {
            Phase::Admitted => Phase::Serving,
            phase => phase,
        };
        worker.has_place = !matches!(old.phase, Phase::Starting | Phase::Orphaned);
        worker.recycling = old.recycling;
        worker.is_told = old.phase == Phase::Orphaned;
        if worker.is_serving() {
            worker.served_since = Some(now);
        }
        worker
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn enter(&mut self, now: Instant, phase: Phase, deadline: Instant) {
        self.phase = phase;
        self.phase_since = now;
        self.deadline = deadline;
    }

    pub(super) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    pub(super) fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// On its way to serve, or serving.
    pub(super) fn is_staying(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Admitted | Phase::Serving)
    }

    pub(super) fn is_orphan(&self) -> bool {
        self.phase == Phase::Orphaned
    }

    /// Since when it is in its phase.
    pub(super) fn phase_since(&self) -> Instant {
        self.phase_since
    }

    pub(super) fn view(&self, worker: WorkerId) -> WorkerView {
        WorkerView {
            worker,
            phase: self.phase,
            since: self.since,
            phase_since: self.phase_since,
            figures: self.figures,
            memory: self.memory,
            recycling: self.recycling,
        }
    }
}
