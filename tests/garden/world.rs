//! The world around one pool's machine: processes, a listener with clients, and everything that
//! happens to them in virtual time. `obey.rs` carries out orders, `doing.rs` is what people do.

use super::cover::Cover;
use super::dice::Dice;
use super::door::Door;
use super::machine::Machine;
use super::oracle::{Fault, Oracle};
use super::process::Process;
use super::setting::{self, HEAVY, Rates};
use core::time::Duration;
use lychgate::base::time::Instant;
use lychgate::machine::pool::seam::{Exit, Input, Memory, Phase, Report, WorkerId};
use lychgate::plan::Garden;
use std::collections::{BTreeMap, VecDeque};

/// Something that happens at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Ready(WorkerId),
    Die(WorkerId, Exit),
    Answer(WorkerId),
    Report(WorkerId, Report),
    Violate(WorkerId),
    /// The listener says that it serves, or is empty; in its life of that number.
    Confirm(WorkerId, u32),
    Empty(WorkerId, u32),
    Request,
    Finish(WorkerId, u32),
    Measure,
    Weigh,
    Grant,
    /// The listener was told how it stands, and looks at its queue.
    Nudge,
    ListenerDies,
    ListenerCame,
    SupervisorDies,
    Adopt,
    Operate,
    Replan,
    Schedule,
    Release,
    Remove,
    /// The stages of the quiet end.
    Calm,
    Restart,
    Recycle,
    Rest,
    Hush,
    Still,
    Finis,
}

/// Steps after which a run is said never to end.
const STEPS_MAX: u32 = 200_000;
pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct World<M> {
    pub(crate) machine: M,
    pub(crate) now: Instant,
    pub(crate) dice: Dice,
    pub(crate) garden: Garden,
    pub(crate) rates: Rates,
    pub(crate) oracle: Oracle,
    pub(crate) processes: BTreeMap<WorkerId, Process>,
    pub(crate) door: Door,
    pub(crate) events: BTreeMap<(Instant, u32), Event>,
    sequence: u32,
    steps: u32,
    pub(crate) is_grant_due: bool,
    /// No supervisor: facts are lost, but for processes that are gone when the next one looks.
    pub(crate) is_headless: bool,
    pub(crate) died_unseen: Vec<WorkerId>,
    pub(crate) busyness: u64,
    pub(crate) is_unsettled: bool,
    pub(crate) is_calm: bool,
    pub(crate) is_hushed: bool,
    pub(crate) ends_early: bool,
    pub(crate) recycled_at: Instant,
    pub(crate) end: Option<Instant>,
    trace: Option<VecDeque<String>>,
}

impl<M: Machine> World<M> {
    pub(crate) fn new(dice: Dice, machine: M, is_traced: bool) -> Self {
        let mut dice = dice;
        let garden = setting::garden(&mut dice);
        let rates = Rates::draw(&mut dice);
        Self {
            machine,
            now: Instant(0),
            oracle: Oracle::new(garden.clone()),
            busyness: dice.one_of(&[0, 1, 1, 3, 8]),
            dice,
            garden,
            rates,
            processes: BTreeMap::new(),
            door: Door::new(),
            events: BTreeMap::new(),
            sequence: 0,
            steps: 0,
            is_grant_due: false,
            is_headless: false,
            died_unseen: Vec::new(),
            is_unsettled: false,
            is_calm: false,
            is_hushed: false,
            ends_early: false,
            recycled_at: Instant(0),
            end: None,
            trace: is_traced.then(VecDeque::new),
        }
    }

    /// Runs to the end and returns what was met, or which rule was broken.
    pub(crate) fn run(mut self) -> Result<Cover, (Fault, String)> {
        let garden = Box::new(self.garden.clone());
        self.say(|| format!("{garden:#?}"));
        self.step(Input::Planned { garden, is_changed: false });
        self.step(Input::ListenerCame);
        self.schedule();
        while self.oracle.fault.is_none() && self.end.is_none() {
            self.advance();
        }
        let trace = self.trace.map(Vec::from).unwrap_or_default().join("\n");
        match self.oracle.fault {
            Some(fault) => Err((fault, trace)),
            None => Ok(self.oracle.cover),
        }
    }

    pub(crate) fn at(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    pub(crate) fn soon(&mut self, event: Event) {
        let after = if self.dice.percent(60) { self.dice.ms(0, 5) } else { self.dice.ms(0, 60) };
        self.at(after, event);
    }

    /// To the next event or deadline.
    fn advance(&mut self) {
        let event = self.events.first_key_value().map_or(Instant::NEVER, |(key, _)| key.0);
        let deadline = if self.is_headless { Instant::NEVER } else { self.machine.deadline() };
        if deadline < event {
            let late = if self.dice.percent(20) { self.dice.ms(0, 40) } else { Duration::ZERO };
            self.now = self.now.max((deadline + late).min(event));
            self.step(Input::Woken);
        } else if let Some(((at, _), event)) = self.events.pop_first() {
            self.now = self.now.max(at);
            self.happen(event);
        } else {
            self.oracle.blame("stalled", String::from("nothing is left to happen"));
        }
    }

    pub(crate) fn say(&mut self, line: impl Fn() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= 120 {
                trace.pop_front();
            }
            trace.push_back(format!("{:>9} ms  {}", self.now.0 / 1_000_000, line()));
        }
    }

    /// One fact, and all that follows from it at once.
    pub(crate) fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if self.oracle.fault.is_some() || self.is_headless || self.end.is_some() {
                return;
            }
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.oracle.blame("spins", String::from("the run does not end"));
            }
            let wants = self.machine.wants_start(self.now);
            if !matches!(input, Input::Planned { .. }) {
                self.say(|| format!("{input:?}"));
            }
            self.oracle.heard(self.now, &input, wants);
            let mut orders = Vec::new();
            self.machine.step(self.now, input, &mut orders);
            for order in orders {
                self.say(|| format!("    {order:?}"));
                self.oracle.ordered(&order);
                inputs.extend(self.obey(&order));
            }
            if !self.is_unsettled {
                self.oracle.settled(&self.machine);
            }
        }
        let wants_start = !self.is_headless && self.machine.wants_start(self.now);
        if wants_start && !self.is_grant_due {
            self.is_grant_due = true;
            let after = if self.dice.percent(80) { Duration::ZERO } else { self.dice.ms(0, 400) };
            self.at(after, Event::Grant);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ready(worker) => {
                if self.processes.contains_key(&worker) {
                    self.step(Input::Ready { worker });
                }
            }
            Event::Die(worker, exit) => self.die(worker, exit),
            Event::Answer(worker) => {
                if self.processes.contains_key(&worker) {
                    self.step(Input::Pinged { worker });
                }
            }
            Event::Report(worker, report) => self.report(worker, report),
            Event::Violate(worker) => self.violate(worker),
            Event::Confirm(worker, life) => {
                if self.door.life == life && self.door.open(worker) {
                    self.step(Input::Serving { worker });
                    self.serve();
                }
            }
            Event::Empty(worker, life) => {
                if self.door.life == life && self.door.places.contains_key(&worker) {
                    self.step(Input::Emptied { worker });
                }
            }
            Event::Request => self.request(),
            Event::Finish(worker, life) => self.finish(worker, life),
            Event::Measure => self.measure(),
            Event::Weigh => self.weigh(),
            Event::Grant => self.grant(),
            other => self.doing(other),
        }
    }

    fn die(&mut self, worker: WorkerId, exit: Exit) {
        let Some(process) = self.processes.get(&worker) else { return };
        if self.is_calm && !process.is_leaving {
            return;
        }
        self.processes.remove(&worker);
        if self.is_headless {
            self.died_unseen.push(worker);
        }
        self.step(Input::Exited { worker, exit });
        // What ran on it fails.
        if let Some(place) = self.door.places.get_mut(&worker) {
            place.executing = 0;
            if place.is_closed {
                let life = self.door.life;
                self.soon(Event::Empty(worker, life));
            }
        }
    }

    fn report(&mut self, worker: WorkerId, report: Report) {
        let is_calm = self.is_calm;
        let Some(process) = self.processes.get_mut(&worker).filter(|_| !is_calm) else { return };
        if report == Report::Stopping {
            process.is_leaving = true;
            let exit = self.dice.one_of(&[Exit::Code(0), Exit::Code(0), Exit::Code(3)]);
            let after = self.dice.ms(0, 2_000);
            self.at(after, Event::Die(worker, exit));
        }
        let what = match report {
            Report::Stopping => "reported stopping",
            Report::Recycle => "reported recycle",
            Report::Unhealthy => "reported unhealthy",
        };
        let circumstances = self.oracle.circumstances();
        self.oracle.cover.note_in(what, circumstances);
        self.step(Input::Reported { worker, report });
    }

    fn violate(&mut self, worker: WorkerId) {
        let is_known = self.door.places.get(&worker).is_some_and(|place| place.is_open);
        if is_known && !self.is_calm {
            self.step(Input::Violated { worker });
        }
    }

    fn request(&mut self) {
        if self.is_hushed {
            return;
        }
        let again = match self.busyness {
            _ if self.is_calm => Duration::from_millis(500),
            0 => self.dice.ms(2_000, 12_000),
            busyness => self.dice.ms(1, 1_600 / busyness),
        };
        self.at(again, Event::Request);
        let limit = self.garden.queue.limit;
        if self.door.arrive(self.now, limit) {
            self.serve();
        } else if self.door.is_up {
            self.oracle.cover.note("a request is refused");
        }
    }

    /// Requests that wait are given to workers; if some go on waiting, another one is asked for.
    pub(crate) fn serve(&mut self) {
        while let Some(worker) = self.door.give(self.garden.slots) {
            let is_right = self.processes.contains_key(&worker)
                && self.oracle.workers.get(&worker).is_some_and(|it| it.is_ready || it.is_unproven);
            self.oracle.require(is_right || self.is_headless, "early-serve", || {
                format!("a request is given to {worker:?}")
            });
            let life = self.door.life;
            let after = if self.is_calm || self.dice.percent(90) {
                self.dice.ms(1, 300)
            } else {
                self.dice.ms(1, 9_000)
            };
            self.at(after, Event::Finish(worker, life));
            let spent = self.door.places.get(&worker);
            if spent.is_some_and(|it| it.delivered == it.requests_max && it.delivered > 0) {
                self.step(Input::Spent { worker });
            }
        }
        if self.door.wants(self.garden.slots) {
            self.step(Input::Wanted);
        }
    }

    fn finish(&mut self, worker: WorkerId, life: u32) {
        let Some(process) = self.processes.get(&worker) else { return };
        if self.door.life != life || process.is_mute(self.now) {
            return;
        }
        let Some(place) = self.door.places.get_mut(&worker) else { return };
        if place.executing == 0 {
            return;
        }
        place.executing -= 1;
        place.answered = self.now;
        if place.is_closed && place.executing == 0 {
            self.soon(Event::Empty(worker, life));
        }
        self.serve();
    }

    fn measure(&mut self) {
        let after = SECOND + self.dice.ms(0, 20);
        self.at(after, Event::Measure);
        if self.door.is_up {
            let waiting = u32::try_from(self.door.queue.len()).unwrap_or(u32::MAX);
            let workers = self.door.figures();
            self.step(Input::Measured { waiting, workers });
        }
    }

    fn weigh(&mut self) {
        self.at(SECOND * 2, Event::Weigh);
        for (worker, process) in self.processes.clone() {
            let is_heavy = !self.is_calm && process.is_heavy(self.now);
            if !is_heavy && self.dice.percent(70) {
                continue;
            }
            let size = if is_heavy { HEAVY * 2 } else { HEAVY / 2 };
            let percent = if is_heavy { 90 } else { 10 };
            let memory = Memory { private: size, virtual_size: size, percent };
            self.step(Input::Weighed { worker, memory });
        }
    }

    fn grant(&mut self) {
        self.is_grant_due = false;
        if self.is_headless || !self.machine.wants_start(self.now) {
            return;
        }
        if !self.is_calm && self.dice.percent(self.rates.start_denied) {
            self.is_grant_due = true;
            let again = self.dice.ms(100, 1_500);
            self.at(again, Event::Grant);
            self.oracle.cover.note("start denied");
            return self.step(Input::MayNotStart);
        }
        self.step(Input::MayStart);
    }

    pub(crate) fn orphans(&self) -> Vec<WorkerId> {
        let is_orphan = |phase: Phase| phase == Phase::Orphaned;
        let orphans = self.oracle.workers.iter().filter(|(_, it)| is_orphan(it.phase));
        orphans.map(|(id, _)| *id).collect()
    }
}
