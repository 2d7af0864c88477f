//! Signs of life: pings to workers that are silent, deadlock (requests wait and nobody answers),
//! and workers that nobody needs any more.

use super::life::{Life, Mode, tell};
use super::seam::{Failure, Figures, Order, WorkerId};
use crate::base::time::Instant;
use crate::machine::event::Kind;
use crate::plan::garden::Health;
use alloc::vec::Vec;
use core::time::Duration;

/// Requests that wait this long want another worker, even if the listener's word for it was lost.
const LASTING: Duration = Duration::from_secs(1);

/// When a worker last gave a sign of life, and of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    alive: Instant,
    active: Instant,
    /// A ping that was not answered yet.
    ping: Option<Instant>,
}

/// What is to be done about a worker's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    Fine,
    Ask,
    Failed,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self { alive: now, active: now, ping: None }
    }

    /// It begins to serve.
    pub(super) fn begin(&mut self, now: Instant) {
        self.alive = now;
        self.active = now;
    }

    pub(super) fn answered_ping(&mut self, now: Instant) {
        self.ping = None;
        self.alive = now;
    }

    fn measured(&mut self, now: Instant, old: &Figures, new: &Figures) {
        let has_answered = new.answered > old.answered;
        if new.executing > 0 || new.delivered != old.delivered || has_answered {
            self.active = now;
        }
        if has_answered {
            // The listener's word; what it says about the future is not believed.
            let answered = new.answered.min(now);
            self.alive = self.alive.max(answered);
            self.ping = self.ping.filter(|sent| answered <= *sent);
        }
    }

    fn silence(&self, now: Instant, settings: &Health) -> Silence {
        match (self.ping, settings.ping_interval) {
            (_, None) => Silence::Fine,
            (Some(sent), _) if now >= sent + settings.ping_timeout => Silence::Failed,
            (None, Some(interval)) if now >= self.alive + interval => Silence::Ask,
            _ => Silence::Fine,
        }
    }

    /// When its silence has to be looked at again.
    pub(super) fn deadline(&self, settings: &Health) -> Instant {
        match (self.ping, settings.ping_interval) {
            (_, None) => Instant::NEVER,
            (Some(sent), _) => sent + settings.ping_timeout,
            (None, Some(interval)) => self.alive + interval,
        }
    }
}

impl Life {
    /// Figures are the only proof of idleness and of deadlock, so both are judged here and not by
    /// time: while there is no listener, nobody measures and nobody is blamed.
    pub(super) fn measured(
        &mut self,
        now: Instant,
        waiting: u32,
        workers: &[(WorkerId, Figures)],
        out: &mut Vec<Order>,
    ) {
        for (id, figures) in workers {
            let Some(worker) = self.workers.get_mut(id) else { continue };
            worker.pulse.measured(now, &worker.figures, figures);
            worker.figures = *figures;
            self.answered_at = self.answered_at.max(figures.answered.min(now));
        }
        self.waiting = waiting;
        self.waiting_since = match waiting {
            0 => None,
            _ if self.mode != Mode::Running => None,
            _ => self.waiting_since.or(Some(now)),
        };
        self.judge_deadlock(now, out);
        self.recycle_spent(out);
        self.end_idle(now, out);
        let is_lasting = self.waiting_since.is_some_and(|since| now >= since + LASTING);
        if waiting > 0 && (self.slots.is_empty() || is_lasting) {
            self.wanted();
        }
    }

    fn judge_deadlock(&mut self, now: Instant, out: &mut Vec<Order>) {
        let health = &self.garden.health;
        let (Some(interval), Some(waiting)) = (health.deadlock_interval, self.waiting_since) else {
            return;
        };
        let is_spared = self.deadlock_at.is_some_and(|at| now < at + health.deadlock_pause);
        if is_spared || now < waiting.max(self.answered_at) + interval {
            return;
        }
        let victims: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, it)| it.is_serving() && now >= it.phase_since() + interval)
            .map(|(id, _)| *id)
            .collect();
        if !victims.is_empty() {
            self.deadlock_at = Some(now);
        }
        for id in victims {
            self.end_failed(now, id, Failure::Deadlock, out);
        }
    }

    fn end_idle(&mut self, now: Instant, out: &mut Vec<Order>) {
        let Some(timeout) = self.garden.lifecycle.idle_timeout else { return };
        if self.waiting > 0 || self.ending.is_some() {
            return;
        }
        let serving = self.workers.iter().filter(|(_, it)| it.is_serving());
        let mut spare = serving.count().saturating_sub(usize::from(self.floor()));
        let idle: Vec<WorkerId> = self
            .workers
            .iter()
            .rev()
            .filter(|(id, it)| {
                let is_idle = it.figures.executing == 0 && now >= it.pulse.active + timeout;
                it.is_serving() && is_idle && it.recycling.is_none() && self.is_alone(**id)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            if spare == 0 {
                return;
            }
            spare -= 1;
            self.slots.remove(&id.slot);
            tell(Some(id), Kind::IdledOut, out);
            self.retire(now, id, out);
        }
    }

    /// Nobody else of its slot serves or is to serve.
    fn is_alone(&self, id: WorkerId) -> bool {
        !self
            .workers
            .iter()
            .any(|(other, it)| other.slot == id.slot && *other != id && it.is_staying())
    }

    pub(super) fn look_for_silence(&mut self, now: Instant, out: &mut Vec<Order>) {
        let health = &self.garden.health;
        let mut failed = Vec::new();
        for (id, worker) in &mut self.workers {
            if !worker.is_serving() {
                continue;
            }
            match worker.pulse.silence(now, health) {
                Silence::Fine => {}
                Silence::Ask => {
                    worker.pulse.ping = Some(now);
                    out.push(Order::Ping { worker: *id });
                }
                Silence::Failed => failed.push(*id),
            }
        }
        for id in failed {
            self.end_failed(now, id, Failure::PingTimeout, out);
        }
    }
}
