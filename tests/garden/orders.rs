//! What the oracle says to each order: whether it may be given, by whom and now.

use super::oracle::{Oracle, Record};
use super::setting::target;
use super::window::Count;
use core::time::Duration;
use lychgate::base::time::Instant;
use lychgate::machine::event::{Event, Kind};
use lychgate::machine::pool::seam::{Failure, Order, Phase, Standing, WorkerId};

/// From SIGTERM to SIGKILL at least, and from one SIGKILL to the next.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

impl Oracle {
    pub(crate) fn ordered(&mut self, order: &Order) {
        let is_late = self.is_over && !matches!(order, Order::Kill { .. } | Order::Tell(_));
        self.require(!is_late, "after-over", || format!("{order:?} after Over"));
        match *order {
            Order::Spawn { worker } => self.spawn(worker),
            Order::Admit { worker, requests_max, .. } => self.admit(worker, requests_max),
            Order::Retire { worker } => self.retire(worker),
            Order::Dismiss { worker } => self.dismiss(worker),
            Order::Terminate { worker } => self.terminate(worker),
            Order::Kill { worker } => self.kill(worker),
            Order::Ping { worker } => self.ping(worker),
            Order::Orphan { worker, why } => self.orphan(worker, why),
            Order::Stand { standing, .. } => {
                self.told = Some(standing);
            }
            Order::Trip => self.trip(),
            Order::Tell(event) => self.tell(event),
            Order::Over => self.over(),
        }
    }

    fn live(&mut self, worker: WorkerId, what: &str) -> Option<Record> {
        let record = self.workers.get(&worker).filter(|record| record.is_process).cloned();
        let is_known = record.is_some();
        self.require(is_known, "stray", || format!("{what} of {worker:?}, which is no process"));
        record
    }

    fn spawn(&mut self, worker: WorkerId) {
        let now = self.now;
        self.step.spawns += 1;
        let is_granted = self.step.is_granted && self.step.spawns == 1 && self.step.wanted_start;
        self.require(is_granted, "unasked-start", || format!("{worker:?}"));
        self.require(self.is_running(), "start-while-stopped", || format!("{worker:?}"));
        let is_new = self.generation_max.is_none_or(|max| worker.generation > max);
        self.require(is_new, "generation", || format!("{worker:?} is not new"));
        self.generation_max = Some(worker.generation);
        self.require(worker.slot < self.garden.workers, "slot", || format!("{worker:?}"));
        let starting = self.workers.values().filter(|it| it.phase == Phase::Starting).count();
        self.require(starting == 0, "two-starts", || format!("{worker:?} beside another"));
        let alive = self.workers.values().filter(|it| it.phase != Phase::Orphaned).count();
        let most = usize::from(self.garden.workers) * 2 + 1;
        self.require(alive < most, "too-many", || format!("{} of {most}", alive + 1));
        self.require_vacancy(worker);
        self.require_cause(worker);
        self.workers.insert(worker, Record::new(now));
    }

    /// The slot is free, or its worker is to be replaced by overlap.
    fn require_vacancy(&mut self, worker: WorkerId) {
        let mut staying =
            self.workers.iter().filter(|(id, it)| id.slot == worker.slot && it.is_staying());
        let (first, second) = (staying.next(), staying.next());
        let is_vacant = second.is_none()
            && first.is_none_or(|(_, old)| self.garden.recycle.overlap && self.is_due(old));
        let is_replacement = first.is_some();
        let is_overlapping = self.garden.recycle.overlap;
        let leaving = |it: &Record| {
            !is_overlapping && it.is_exclusive && !it.is_staying() && it.phase != Phase::Orphaned
        };
        let predecessor =
            self.workers.iter().find(|(id, it)| id.slot == worker.slot && leaving(it));
        let overlaps =
            predecessor.map(|(old, _)| format!("{worker:?}, and {old:?} is still there"));
        self.require(is_vacant, "double-start", || format!("{worker:?}: the slot is taken"));
        if is_replacement {
            self.cover.note("overlapped recycle");
        }
        if let Some(text) = overlaps {
            self.blame("overlap", text);
        }
    }

    /// A start has a reason: the target, a recycle, a death, or a request.
    fn require_cause(&mut self, worker: WorkerId) {
        let is_replacement =
            self.workers.iter().any(|(id, it)| id.slot == worker.slot && it.is_staying());
        let staying = self.workers.values().filter(|it| it.is_staying()).count();
        if is_replacement || staying < target(&self.garden) || self.waiting > 0 {
            return;
        }
        if self.claims > 0 {
            self.claims -= 1;
        } else {
            self.blame("groundless-start", format!("{worker:?}: nobody needs it"));
        }
    }

    fn admit(&mut self, worker: WorkerId, requests_max: u64) {
        let Some(record) = self.live(worker, "Admit") else { return };
        let is_time = match record.phase {
            Phase::Starting => record.is_ready,
            Phase::Admitted | Phase::Serving if !record.has_place => true,
            Phase::Admitted => self.is_by_now(Some(record.since), GRACE * 2),
            _ => false,
        };
        self.require(is_time, "early-serve", || format!("Admit of {worker:?}: {record:?}"));
        self.require(self.told.is_some(), "stand-first", || format!("Admit of {worker:?}"));
        let wanted = self.garden.recycle.requests;
        let least = self.spans.requests_least(wanted);
        let is_right =
            requests_max <= wanted && requests_max >= least && (requests_max == 0) == (wanted == 0);
        // To a listener that came back it may be said as to the last one.
        let is_first = record.phase == Phase::Starting;
        self.require(is_right || !is_first, "requests-max", || {
            format!("{worker:?}: {requests_max} of {wanted}")
        });
        let now = self.now;
        if let Some(record) = self.workers.get_mut(&worker) {
            record.has_place = true;
            record.enter(now, Phase::Admitted);
        }
    }

    fn retire(&mut self, worker: WorkerId) {
        let Some(record) = self.live(worker, "Retire") else { return };
        if record.phase == Phase::Draining && self.changed_at == self.now {
            // A new supervisor repeats what its predecessor ordered.
            return;
        }
        let is_time = matches!(record.phase, Phase::Admitted | Phase::Serving);
        self.require(is_time, "stray", || format!("Retire of {worker:?}: {record:?}"));
        match self.retire_excuse(worker, &record) {
            Some(excuse) => self.cover.note_in("retired:", excuse),
            None => self.blame("dip", format!("Retire of {worker:?}: {record:?}")),
        }
        let is_due = self.is_due(&record);
        if self.is_running() && (is_due || !self.is_idle(&record)) {
            self.claims += 1;
        }
        let is_exclusive = self.is_running() && is_due && !self.garden.recycle.overlap;
        let now = self.now;
        if let Some(record) = self.workers.get_mut(&worker) {
            record.retired_at = Some(now);
            record.is_exclusive = is_exclusive;
            record.enter(now, Phase::Draining);
        }
    }

    fn retire_excuse(&self, worker: WorkerId, record: &Record) -> Option<&'static str> {
        let serving = |it: &Record| it.phase == Phase::Serving;
        let is_replaced = self.workers.iter().any(|(id, it)| {
            id.slot == worker.slot && id.generation > worker.generation && serving(it)
        });
        let mut slots: Vec<u16> =
            self.workers.iter().filter(|(_, it)| serving(it)).map(|(id, _)| id.slot).collect();
        slots.dedup();
        let is_wanted = self.is_due(record);
        let kept = target(&self.garden);
        let cases = [
            (!self.is_running(), "the pool ends"),
            (is_replaced && is_wanted, "its replacement serves"),
            (!self.garden.recycle.overlap && is_wanted, "it recycles without overlap"),
            (record.is_stopping, "it stops by itself"),
            (self.is_silent(record), "it is silent"),
            (self.is_deadlocked(), "deadlock"),
            (worker.slot >= self.garden.workers, "the garden shrinks"),
            (slots.len() > usize::from(self.garden.workers), "the garden shrinks"),
            (self.is_idle(record) && slots.len() > kept, "idle"),
        ];
        cases.iter().find(|(holds, _)| *holds).map(|(_, excuse)| *excuse)
    }

    /// It has a reason to be recycled.
    fn is_due(&self, record: &Record) -> bool {
        !record.reasons.is_empty() || self.now >= record.born + self.spans.every_least()
    }

    pub(crate) fn is_idle(&self, record: &Record) -> bool {
        record.phase == Phase::Serving
            && record.figures.executing == 0
            && self.now >= record.active_at + self.spans.idle.least
    }

    /// Asked for a sign of life, and none came in time.
    pub(crate) fn is_silent(&self, record: &Record) -> bool {
        record.ping.is_some_and(|ping| self.now >= ping + self.spans.silence.least)
    }

    pub(crate) fn is_deadlocked(&self) -> bool {
        self.waiting_since.is_some_and(|since| {
            self.now >= since.max(self.answered_at) + self.spans.deadlock.least
        })
    }

    fn dismiss(&mut self, worker: WorkerId) {
        if let Some(record) = self.workers.get_mut(&worker) {
            record.has_place = false;
        } else {
            let is_ghost = self.ghosts.remove(&worker);
            let is_known = self.generation_max.is_some_and(|max| worker.generation <= max);
            self.require(is_ghost || is_known, "stray", || format!("Dismiss of {worker:?}"));
        }
    }

    fn is_by_now(&self, since: Option<Instant>, limit: Duration) -> bool {
        since.is_some_and(|since| self.now >= since + limit)
    }

    fn is_end_due(&self) -> bool {
        self.ending.is_some_and(|deadline| self.now >= deadline)
    }

    fn terminate(&mut self, worker: WorkerId) {
        let Some(record) = self.live(worker, "Terminate") else { return };
        let is_over = self.is_by_now(record.retired_at, self.spans.shutdown.least);
        let is_time = match record.phase {
            Phase::Starting => {
                let excuse = self.kill_excuse(worker, &record);
                self.cover.note_in("terminated:", excuse.unwrap_or_default());
                excuse.is_some()
            }
            Phase::Draining => record.is_emptied || is_over || self.is_end_due(),
            _ => false,
        };
        self.require(is_time, "rude", || format!("Terminate of {worker:?}: {record:?}"));
        let now = self.now;
        if let Some(record) = self.workers.get_mut(&worker) {
            if record.phase == Phase::Starting {
                self.claims += 1;
            }
            record.terminated_at = Some(now);
            record.enter(now, Phase::Terminating);
        }
    }

    fn kill_excuse(&self, worker: WorkerId, record: &Record) -> Option<&'static str> {
        let is_starting = record.phase == Phase::Starting;
        let is_slow = self.is_by_now(Some(record.born), self.spans.startup.least);
        let is_surplus = worker.slot >= self.garden.workers;
        let cases = [
            (is_starting && is_slow, "it does not get ready"),
            (is_starting && !self.is_running(), "the pool ends while it starts"),
            (is_starting && self.is_due(record), "it is recycled while it starts"),
            (is_starting && (is_surplus || self.changed_at > record.born), "it starts in vain"),
            (is_starting && record.is_unproven, "it was adopted while it started"),
            (self.is_by_now(record.terminated_at, GRACE), "it does not heed SIGTERM"),
            (self.is_by_now(record.killed_at, GRACE), "it survived SIGKILL"),
            (record.retired_at.is_some() && self.is_end_due(), "the server ends"),
            (record.terminated_at.is_some() && self.is_end_due(), "the server ends"),
            (record.is_orphan_ended, "its end as an orphan was asked for"),
            (record.phase == Phase::Serving && self.is_silent(record), "it is silent"),
            (record.phase == Phase::Serving && self.is_deadlocked(), "deadlock"),
            (record.phase == Phase::Draining && self.is_silent(record), "it is silent"),
            (record.phase == Phase::Draining && self.is_deadlocked(), "deadlock"),
        ];
        cases.iter().find(|(holds, _)| *holds).map(|(_, excuse)| *excuse)
    }

    fn kill(&mut self, worker: WorkerId) {
        let Some(record) = self.live(worker, "Kill") else { return };
        match self.kill_excuse(worker, &record) {
            Some(excuse) => self.cover.note_in("killed:", excuse),
            None => self.blame("early-kill", format!("Kill of {worker:?}: {record:?}")),
        }
        self.end_alive(worker, Phase::Killing);
    }

    /// It fails while its process lives.
    fn end_alive(&mut self, worker: WorkerId, phase: Phase) {
        let now = self.now;
        let Some(record) = self.workers.get_mut(&worker) else { return };
        if record.is_staying() {
            self.claims += 1;
        }
        record.enter(now, phase);
        if phase == Phase::Killing {
            record.killed_at = Some(now);
        }
    }

    fn ping(&mut self, worker: WorkerId) {
        let Some(record) = self.live(worker, "Ping") else { return };
        let is_time =
            record.phase == Phase::Serving && (record.ping.is_none() || record.has_progress);
        self.require(is_time, "ping", || format!("of {worker:?}: {record:?}"));
        let last = record.pinged_at;
        let is_rare = last.is_none() || self.is_by_now(last, self.spans.ping.least);
        self.require(is_rare, "ping", || format!("of {worker:?}, again too soon"));
        let now = self.now;
        if let Some(record) = self.workers.get_mut(&worker) {
            record.ping = Some(now);
            record.pinged_at = Some(now);
            record.has_progress = false;
        }
    }

    fn orphan(&mut self, worker: WorkerId, why: Failure) {
        let Some(record) = self.live(worker, "Orphan") else { return };
        let is_wanted = self.garden.lifecycle.orphan && record.phase != Phase::Orphaned;
        self.require(is_wanted, "orphan", || format!("{worker:?}: {record:?}"));
        let orphans = self.workers.values().filter(|it| it.phase == Phase::Orphaned).count();
        let most = usize::from(self.garden.lifecycle.orphans_max);
        self.require(orphans < most, "orphans-max", || format!("{} of {most}", orphans + 1));
        let has_failed = self.kill_excuse(worker, &record).is_some();
        self.require(has_failed, "orphan", || format!("{worker:?} has not failed: {record:?}"));
        self.cover.note_in("orphaned:", why.word());
        self.end_alive(worker, Phase::Orphaned);
    }

    fn trip(&mut self) {
        self.step.has_tripped = true;
        self.cover.note_in("tripped", self.circumstances());
        let is_due = self.window.count(self.now) != Count::MustNot;
        self.require(is_due && self.is_running(), "trip", || String::from("too early"));
        self.standing = Standing::Tripped;
    }

    fn tell(&mut self, event: Event) {
        match event.kind {
            Kind::WorkerFailed(failure) => self.failed(event.worker, failure),
            Kind::Recycling(trigger) => {
                let is_wanted = self.garden.recycle.log.contains(&trigger);
                self.require(is_wanted, "event", || format!("{trigger:?} is not to be told"));
                self.cover.note_in("recycling:", trigger.word());
            }
            Kind::PoolTripped => {
                let is_so = self.step.has_tripped || self.window.count(self.now) != Count::MustNot;
                self.require(is_so, "trip", || String::from("told, and it is not time"));
            }
            kind => self.cover.note(kind.word()),
        }
    }

    fn failed(&mut self, worker: Option<WorkerId>, failure: Failure) {
        self.cover.note_in("failed:", failure.word());
        let Some(worker) = worker else {
            return self.blame("event", format!("{failure:?} of nobody"));
        };
        let is_it = |owed: &(WorkerId, Failure)| *owed == (worker, failure);
        let is_owed = self.step.owed.iter().position(is_it);
        if let Some(place) = is_owed {
            self.step.owed.swap_remove(place);
        }
        let is_allowed = is_owed.is_some() || self.step.allowed.iter().any(is_it);
        let is_seen = self.workers.get(&worker).is_some_and(|it| self.is_seen(it, failure));
        self.require(is_allowed || is_seen, "failure", || {
            format!("{failure:?} of {worker:?} is not true")
        });
        if failure == Failure::Deadlock {
            let is_again = self
                .deadlock_at
                .is_some_and(|at| at != self.now && self.now < at + self.spans.pause.least);
            self.require(!is_again, "deadlock-pause", || format!("{worker:?}"));
            self.deadlock_at = Some(self.now);
        }
        self.window.failed(self.now);
        if self.is_running() && self.window.count(self.now) == Count::Must {
            self.step.must_trip = true;
        }
    }

    fn is_seen(&self, record: &Record, failure: Failure) -> bool {
        match failure {
            Failure::StartupTimeout => {
                !record.has_served && self.now >= record.born + self.spans.startup.least
            }
            Failure::ShutdownTimeout => {
                let since = record.terminated_at.or(record.retired_at);
                self.is_end_due() || self.is_by_now(since, self.spans.shutdown.least.min(GRACE))
            }
            Failure::PingTimeout => self.is_silent(record),
            Failure::Deadlock => self.is_deadlocked(),
            _ => false,
        }
    }

    fn over(&mut self) {
        let is_so = self.ending.is_some();
        self.require(is_so, "over", || String::from("and nobody asked for it"));
        let left = self.workers.values().filter(|it| it.phase != Phase::Orphaned).count();
        self.require(left == 0, "forgotten", || format!("Over, and {left} live"));
        self.is_over = true;
    }
}
