//! The listener's process. Every phase that waits for somebody has a deadline.

use crate::base::time::Instant;
use crate::machine::backoff::Backoff;
use core::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No process; the next may start at this time.
    Absent {
        from: Instant,
    },
    /// The start is ordered; the answer comes in the same turn.
    Spawning,
    Starting {
        deadline: Instant,
    },
    Ready {
        since: Instant,
    },
    Draining {
        deadline: Instant,
    },
    Terminating {
        deadline: Instant,
    },
    Killing {
        deadline: Instant,
    },
}

#[derive(Debug)]
pub(super) struct Process {
    phase: Phase,
    backoff: Backoff,
}

impl Process {
    /// Neither there nor wanted.
    pub(super) fn idle() -> Self {
        Self { phase: Phase::Absent { from: Instant::NEVER }, backoff: Backoff::default() }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Absent { .. })
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// When the phase ends if nothing happens.
    pub(super) fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Absent { from } => from,
            Phase::Spawning | Phase::Ready { .. } => Instant::NEVER,
            Phase::Starting { deadline }
            | Phase::Draining { deadline }
            | Phase::Terminating { deadline }
            | Phase::Killing { deadline } => deadline,
        }
    }

    /// It may start now, unless it waits out a back-off.
    pub(super) fn want(&mut self, now: Instant) {
        if self.phase == (Phase::Absent { from: Instant::NEVER }) {
            self.phase = Phase::Absent { from: now };
        }
    }

    /// True once, when the time to start has come.
    pub(super) fn take_start(&mut self, now: Instant) -> bool {
        let is_due = matches!(self.phase, Phase::Absent { from } if from <= now);
        if is_due {
            self.phase = Phase::Spawning;
        }
        is_due
    }

    pub(super) fn spawned(&mut self, deadline: Instant) {
        if self.phase == Phase::Spawning {
            self.phase = Phase::Starting { deadline };
        }
    }

    /// False when nobody waited for it any more.
    pub(super) fn became_ready(&mut self, now: Instant) -> bool {
        let is_awaited = matches!(self.phase, Phase::Starting { .. });
        if is_awaited {
            self.phase = Phase::Ready { since: now };
        }
        is_awaited
    }

    /// It serves already, since nobody knows when.
    pub(super) fn adopted(&mut self, now: Instant) {
        if !self.is_alive() {
            self.phase = Phase::Ready { since: now };
        }
    }

    pub(super) fn drain(&mut self, deadline: Instant) {
        if matches!(self.phase, Phase::Starting { .. } | Phase::Ready { .. }) {
            self.phase = Phase::Draining { deadline };
        }
    }

    pub(super) fn terminate(&mut self, deadline: Instant) {
        self.phase = Phase::Terminating { deadline };
    }

    pub(super) fn kill(&mut self, deadline: Instant) {
        self.phase = Phase::Killing { deadline };
    }

    pub(super) fn died(&mut self, now: Instant) {
        let lived = match self.phase {
            Phase::Ready { since } => now.since(since),
            _ => Duration::ZERO,
        };
        if self.is_alive() {
            self.phase = Phase::Absent { from: now + self.backoff.died(lived) };
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self) {
        self.phase = Phase::Absent { from: Instant::NEVER };
    }
}
