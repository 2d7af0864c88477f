//! What the oracle says when a step is done: nothing is forgotten, nothing waits for ever, and the
//! machine's account of itself is true.

use super::machine::Machine;
use super::oracle::{Oracle, Record};
use super::orders::GRACE;
use super::window::Count;
use core::time::Duration;
use lychgate::base::time::Instant;
use lychgate::machine::pool::seam::{Phase, Standing, View, WorkerId};

/// The world wakes the machine a little late at most.
const LATE: Duration = Duration::from_millis(100);
/// The longest wait between two starts.
const BACKOFF: Duration = Duration::from_secs(10);
/// Between two measurements, with the lateness of both.
const MEASURE: Duration = Duration::from_millis(2_200);

impl Oracle {
    pub(crate) fn settled<M: Machine>(&mut self, machine: &M) {
        let now = self.now;
        let deadline = machine.deadline();
        let is_spinning = self.step.is_woken && deadline <= now;
        self.require(!is_spinning, "spins", || format!("woken, and to be woken at {deadline:?}"));
        if let Some((worker, failure)) = self.step.owed.first().copied() {
            self.blame("failure", format!("{failure:?} of {worker:?} is not counted"));
        }
        let is_missed = self.step.is_granted && self.step.wanted_start && self.step.spawns == 0;
        self.require(!is_missed, "start-refused", || String::from("wanted, granted, not done"));
        if self.step.must_trip && !self.step.has_tripped {
            self.blame("trip", format!("too late: {:?}", self.window));
        }
        if let Some(ghost) = self.ghosts.first().copied() {
            self.blame("lost-slot", format!("the listener still knows {ghost:?}, which is gone"));
        }
        for (worker, record) in self.workers.clone() {
            self.hurry(worker, &record);
            self.watch(worker, &record);
        }
        if !self.is_blind {
            self.compare(&machine.view(now), machine.alive());
            let mut records = self.workers.values();
            let starts = records.any(|it| it.phase == Phase::Starting);
            self.require(!starts || machine.is_starting(), "view", || {
                String::from("something starts, and it does not know")
            });
        }
        self.starve(machine.wants_start(now));
    }

    /// Before something is heard: had time been listened to, nothing would be late.
    pub(crate) fn overdue(&mut self) {
        for (worker, record) in self.workers.clone() {
            self.hurry(worker, &record);
        }
    }

    /// The view against the books.
    fn compare(&mut self, view: &View, alive: u32) {
        let seen: Vec<(WorkerId, Phase)> =
            view.workers.iter().map(|it| (it.worker, it.phase)).collect();
        let booked: Vec<(WorkerId, Phase)> =
            self.workers.iter().map(|(id, it)| (*id, it.phase)).collect();
        let ids = |list: &[(WorkerId, Phase)]| list.iter().map(|it| it.0).collect::<Vec<_>>();
        let is_complete = ids(&seen) == ids(&booked);
        self.require(is_complete, "forgotten", || format!("seen {seen:?}, there {booked:?}"));
        self.require(seen == booked, "phase", || format!("seen {seen:?}, told {booked:?}"));
        // What the next supervisor takes over, age and all.
        let ages = view
            .workers
            .iter()
            .all(|it| self.workers.get(&it.worker).is_some_and(|record| record.born == it.since));
        self.require(ages, "view", || format!("not since when they live: {:?}", view.workers));
        let living = booked.iter().filter(|it| it.1 != Phase::Orphaned).count();
        self.require(living == alive as usize, "view", || format!("{alive} alive of {booked:?}"));
        self.stand(view.standing);
    }

    fn stand(&mut self, seen: Standing) {
        if self.step.is_started && matches!(seen, Standing::Paused { .. }) {
            self.standing = seen;
        }
        let is_same = match (self.standing, seen) {
            _ if self.ending.is_some() => true,
            (Standing::Running, Standing::Running | Standing::Replacing) => true,
            (Standing::Stopped | Standing::Tripped, Standing::Stopped | Standing::Tripped) => {
                self.standing == seen || !self.step.has_tripped
            }
            (model, seen) => model == seen,
        };
        let model = self.standing;
        self.require(is_same, "standing", || format!("seen {seen:?}, is {model:?}"));
        let serving = self.workers.values().filter(|it| it.phase == Phase::Serving).count();
        let is_true = seen != Standing::Replacing || serving == 0;
        self.require(is_true, "standing", || format!("{seen:?}, and {serving} serve"));
        let told = self.told;
        let is_told = told.is_some_and(|told| told == seen) || self.ending.is_some();
        self.require(is_told || !self.is_listener_up, "untold", || {
            format!("told {told:?}, is {seen:?}")
        });
    }

    /// Every waiting phase ends.
    fn hurry(&mut self, worker: WorkerId, record: &Record) {
        let spans = self.spans;
        let (since, limit) = match record.phase {
            Phase::Starting => (record.since, spans.startup.most),
            Phase::Draining if record.is_emptied => (record.since.max(self.now), Duration::ZERO),
            Phase::Draining => (record.since, spans.shutdown.most),
            Phase::Terminating => (record.since, spans.shutdown.most.max(GRACE)),
            Phase::Killing => (record.killed_at.unwrap_or(record.since), GRACE),
            Phase::Admitted | Phase::Serving | Phase::Orphaned => return,
        };
        let is_forgotten = self.now > since + limit + LATE;
        let overstays = record.phase == Phase::Draining && record.is_emptied;
        self.require(!is_forgotten, "waits-forever", || format!("{worker:?}: {record:?}"));
        self.require(!overstays, "overstays", || format!("{worker:?} is empty: {record:?}"));
    }

    fn watch(&mut self, worker: WorkerId, record: &Record) {
        let spans = self.spans;
        let is_ended = record.is_orphan_ended && record.phase == Phase::Orphaned;
        self.require(!is_ended, "forgotten", || format!("{worker:?} is to be ended"));
        if record.phase != Phase::Serving {
            return;
        }
        self.require(record.has_place, "lost-slot", || {
            format!("{worker:?} serves, and the listener does not know it")
        });
        let patience = spans.ping.most + spans.silence.most + MEASURE;
        let is_alive = self.now <= record.sign_at + patience;
        self.require(is_alive, "mute-lives", || format!("{worker:?}: {record:?}"));
        let Some(waiting) = self.waiting_since else { return };
        let since = waiting.max(self.answered_at).max(record.since);
        let is_spared =
            self.deadlock_at.is_some_and(|at| self.now < at + spans.pause.most + MEASURE);
        let is_stuck = self.now > since + spans.deadlock.most + MEASURE;
        self.require(!is_stuck || is_spared, "deadlock-lives", || format!("{worker:?}"));
    }

    /// Requests wait, nobody is there, and nobody is wanted.
    fn starve(&mut self, wants_start: bool) {
        let living = self.workers.values().filter(|it| it.phase != Phase::Orphaned).count();
        let is_open = self.is_running() && !matches!(self.standing, Standing::Paused { .. });
        let is_starved = is_open && (self.waiting > 0 || self.wanted) && living == 0;
        self.starved_since = match self.starved_since {
            since if is_starved && !wants_start => since.or(Some(self.now)),
            _ => None,
        };
        let is_helped = self.starved_since.is_none_or(|since| self.now <= since + BACKOFF + LATE);
        self.require(is_helped, "stalled", || String::from("requests wait, and nobody starts"));
    }

    /// The end of a run in which nothing goes wrong any more.
    pub(crate) fn at_rest(&mut self, kept: usize, is_exact: bool, before: Instant) {
        let books: Vec<_> = self.workers.iter().map(|(id, it)| (*id, it.phase, it.born)).collect();
        let serving = books.iter().filter(|it| it.1 == Phase::Serving).count();
        let is_enough = if is_exact { serving == kept } else { serving >= kept };
        self.require(is_enough, "capacity", || format!("{kept} are to serve: {books:?}"));
        let is_done = books
            .iter()
            .all(|it| matches!(it.1, Phase::Serving | Phase::Orphaned | Phase::Killing));
        self.require(is_done, "unsettled", || format!("{books:?}"));
        let old = books.iter().find(|it| it.1 == Phase::Serving && it.2 < before);
        self.require(old.is_none(), "unrecycled", || format!("{old:?} is older than {before:?}"));
        let tripped = self.window.count(self.now) == Count::Must && self.is_running();
        self.require(!tripped, "trip", || String::from("never"));
    }
}
