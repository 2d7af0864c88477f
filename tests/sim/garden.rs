//! The garden's control side: workers that come, are retired, die and go, the pool's standing, and
//! grants that are carried between threads, late. With it what must hold of gate and queue.

use super::act::{Act, Answer, Leave};
use super::chance::{hop, one_of, percent, range};
use super::engine::Note;
use super::ledger::Ledger;
use super::link::{Link, LinkNo, Phase, Side};
use super::machine::Machine;
use super::setting::{POOL_WORK, Setting, generation_of, pool_name, work_address};
use super::world::{Actor, Event, World};
use lychgate::base::id::ServerIndex;
use lychgate::machine::gate::{Gate, Grant, Pumped};
use lychgate::machine::listener::seam::Input;
use lychgate::machine::pool::seam::Standing;
use lychgate::plan::garden::Dispatch;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What happens to the garden.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doing {
    /// A worker of the slot is told to the threads; it may replace another.
    Come(u16, Option<u32>),
    /// All threads know it: its gate opens.
    Open(u32),
    Retire(u32),
    Dismiss(u32),
    Grant(Grant),
    /// Some worker is replaced, or dies.
    Recycle,
    Kill,
    Stand(Standing),
}

/// A turn in a worker's life that the oracle has to hear of in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Open,
    Empty,
}

#[derive(Debug)]
struct Worker {
    place: ServerIndex,
    slot: u16,
    generation: u32,
    replaces: Option<u32>,
    is_alive: bool,
    is_opened: bool,
    is_closed: bool,
    is_emptied: bool,
    is_gone: bool,
}

#[derive(Debug)]
pub(crate) struct Garden {
    pub(crate) gate: Arc<Gate>,
    workers: Vec<Worker>,
    turn: u16,
    /// On their way to their threads.
    grants: Vec<Grant>,
    /// Requests that wait, by when they were first seen to.
    order: Vec<(u32, u64)>,
    /// Requests that did more than wait already: they may be put back before all others.
    begun: BTreeSet<u32>,
}

/// Workers at once.
const WORKERS_MAX: usize = 6;

impl Garden {
    pub(crate) fn new(setting: &Setting) -> Self {
        let gate = Arc::new(Gate::default());
        gate.stand(Standing::Running, setting.queue_limit, true);
        gate.choose_by(if setting.is_least_busy {
            Dispatch::LeastBusy
        } else {
            Dispatch::RoundRobin
        });
        Self {
            gate,
            workers: Vec::new(),
            turn: 0,
            grants: Vec::new(),
            order: Vec::new(),
            begun: BTreeSet::new(),
        }
    }

    fn worker(&mut self, generation: u32) -> Option<&mut Worker> {
        self.workers.get_mut(usize::try_from(generation).ok()?)
    }

    fn note(&mut self, generation: u32, turn: Turn) {
        if let Some(worker) = self.worker(generation) {
            match turn {
                Turn::Open => worker.is_opened = true,
                Turn::Empty => worker.is_emptied = true,
            }
        }
    }

    /// The gate said that a place is empty: true once, and only of one that was closed.
    fn empty(&mut self, place: ServerIndex) -> Result<u32, String> {
        let worker = self.workers.iter_mut().rev().find(|worker| worker.place == place);
        let worker = worker.ok_or("a place that nobody had is empty")?;
        if !worker.is_closed || worker.is_emptied {
            return Err(format!("{worker:?} is said to be empty"));
        }
        worker.is_emptied = true;
        Ok(worker.generation)
    }

    /// Whether a connection to this worker may be made; false = its kernel refuses it.
    pub(super) fn connect(&mut self, generation: u32) -> Result<bool, String> {
        let worker = self.worker(generation).ok_or("a worker that never was")?;
        if !worker.is_opened || worker.is_emptied {
            return Err(format!("{worker:?} is given a request"));
        }
        Ok(worker.is_alive)
    }

    fn some_open(&self, which: u64) -> Option<u32> {
        let open: Vec<u32> = self
            .workers
            .iter()
            .filter(|worker| worker.is_opened && !worker.is_closed && worker.is_alive)
            .map(|worker| worker.generation)
            .collect();
        let count = u64::try_from(open.len()).ok().filter(|count| *count > 0)?;
        open.get(usize::try_from(which % count).ok()?).copied()
    }

    /// All is over.
    pub(super) fn rest(&self) -> Result<(), String> {
        let waiting = self.gate.waiting();
        if waiting > 0 || !self.grants.is_empty() {
            return Err(format!("all is over, and {waiting} wait"));
        }
        for worker in &self.workers {
            let executing = self.gate.figures(worker.place).executing;
            if executing > 0 {
                return Err(format!("all is over, and {executing} run on {worker:?}"));
            }
            if worker.is_opened && worker.is_closed && !worker.is_emptied {
                return Err(format!("nobody heard that {worker:?} is empty"));
            }
        }
        Ok(())
    }

    /// Slots taken are those of requests under way and of grants under way, no more and no less.
    fn check_slots(
        &self,
        slots: u32,
        links: &[Link],
        open: &[LinkNo],
        actors: &[Actor],
        ledger: &Ledger,
    ) -> Result<(), String> {
        for worker in &self.workers {
            let executing = self.gate.figures(worker.place).executing;
            if slots > 0 && executing > slots {
                return Err(format!("{executing} of {slots} slots are taken of {worker:?}"));
            }
            let mut known = self.grants.iter().filter(|g| g.taken.place == worker.place).count();
            let mut unclear = 0;
            for no in open {
                let Side::Server(address) = &links[*no].side else { continue };
                let generation = generation_of(address).and_then(|g| usize::try_from(g).ok());
                let of = generation.and_then(|generation| self.workers.get(generation));
                if of.is_none_or(|of| of.place != worker.place) {
                    continue;
                }
                match is_busy(&links[*no], &actors[*no], ledger) {
                    Some(true) => known += 1,
                    Some(false) => {}
                    None => unclear += 1,
                }
            }
            let executing = executing as usize;
            if executing < known || executing > known + unclear {
                return Err(format!(
                    "{executing} slots are taken where {known} to {} are used of {worker:?}",
                    known + unclear
                ));
            }
        }
        Ok(())
    }

    /// Nobody overtakes who waited before, but for those that were put back.
    fn check_order(&mut self, seen: &[(u32, &'static str)], step: u64) -> Result<(), String> {
        let states: BTreeMap<u32, &str> = seen.iter().copied().collect();
        let is_waiting = |mark: &u32| states.get(mark) == Some(&"waiting");
        for mark in states.keys().filter(|mark| !is_waiting(mark)) {
            if !self.begun.insert(*mark) {
                continue;
            }
            let since =
                self.order.iter().find(|(waits, _)| waits == mark).map_or(step, |(_, at)| *at);
            let passed = self.order.iter().filter(|(waits, at)| is_waiting(waits) && *at < since);
            let count = passed.count();
            if count > self.grants.len() {
                return Err(format!("{mark} overtook {count} that waited before"));
            }
        }
        self.order.retain(|(mark, _)| is_waiting(mark));
        for mark in states.keys().filter(|mark| is_waiting(mark)) {
            // Who was put back stands before all, wherever it stood.
            if !self.begun.contains(mark) && self.order.iter().all(|(known, _)| known != mark) {
                self.order.push((*mark, step));
            }
        }
        Ok(())
    }
}

/// Whether a request is under way on a connection; `None` where the server has confused it.
fn is_busy(link: &Link, actor: &Actor, ledger: &Ledger) -> Option<bool> {
    let Actor::Server(server) = actor else { return Some(link.phase == Phase::Connecting) };
    match link.phase {
        Phase::Connecting => return Some(true),
        Phase::Open => {}
        Phase::Ending(_) | Phase::Closed => return Some(false),
    }
    let Some((mark, attempt)) = server.last() else { return Some(false) };
    let request = &ledger.requests[&mark];
    let record = &request.attempts[attempt];
    let is_meant_well = matches!(
        request.acts[attempt.min(1)],
        Act::Answer(Answer { cut: None, .. }) | Act::Upgrade
    );
    if record.is_bad && is_meant_well {
        return None;
    }
    let is_given = record.to.is_some_and(|to| link.up.left >= to);
    let is_over = is_given && (!record.needs_fin || link.has_ended);
    Some(!is_over || matches!(request.acts[attempt.min(1)], Act::Upgrade))
}

impl<M: Machine> World<M> {
    pub(super) fn schedule_garden(&mut self) {
        let latest = one_of(&mut self.prng, &[1, 300, 1_500, 1_500, 9_000]);
        for slot in 0..2 {
            let come = self.prng.below(latest) * 1_000_000;
            self.at(come, Event::Tend(Doing::Come(slot, None)));
        }
        for (times, doing) in [(60, Doing::Recycle), (60, Doing::Recycle), (40, Doing::Kill)] {
            if percent(&mut self.prng, times) {
                let at = self.prng.below(4_000) * 1_000_000;
                self.at(at, Event::Tend(doing));
            }
        }
        if percent(&mut self.prng, 30) {
            let at = self.prng.below(3_000) * 1_000_000;
            let paused = Standing::Paused { limit: self.setting.queue_limit };
            let standing = one_of(&mut self.prng, &[Standing::Stopped, paused]);
            self.at(at, Event::Tend(Doing::Stand(standing)));
            let span = range(&mut self.prng, 10, 2_000) * 1_000_000;
            self.at(at + span, Event::Tend(Doing::Stand(Standing::Running)));
        }
    }

    pub(super) fn tend(&mut self, doing: Doing) {
        match doing {
            Doing::Come(slot, replaces) => self.come(slot, replaces),
            Doing::Open(generation) => self.open(generation),
            Doing::Retire(generation) => self.retire(generation),
            Doing::Dismiss(generation) => self.dismiss(generation),
            Doing::Grant(grant) => {
                self.garden.grants.retain(|other| other.ticket != grant.ticket);
                self.engine.step(Input::Granted { pool: pool(), grant });
            }
            Doing::Recycle => {
                let which = self.prng.draw();
                if let Some(generation) = self.garden.some_open(which)
                    && let Some(worker) = self.garden.worker(generation)
                {
                    let slot = worker.slot;
                    self.ledger.cover.note("worker recycled");
                    self.come(slot, Some(generation));
                }
            }
            Doing::Kill => {
                let which = self.prng.draw();
                if let Some(generation) = self.garden.some_open(which) {
                    self.ledger.cover.note("worker killed");
                    self.die(generation);
                }
            }
            Doing::Stand(standing) => self.stand(standing),
        }
    }

    fn come(&mut self, slot: u16, replaces: Option<u32>) {
        let workers = &self.garden.workers;
        let is_held = |worker: &Worker| !worker.is_gone || worker.is_opened && !worker.is_emptied;
        if workers.iter().filter(|worker| !worker.is_gone).count() >= WORKERS_MAX {
            return;
        }
        let is_taken =
            |place| workers.iter().any(|worker| worker.place == place && is_held(worker));
        let Some(place) = self.garden.gate.vacancy(is_taken) else { return };
        let generation = u32::try_from(workers.len()).unwrap_or(0);
        self.garden.workers.push(Worker {
            place,
            slot,
            generation,
            replaces,
            is_alive: true,
            is_opened: false,
            is_closed: false,
            is_emptied: false,
            is_gone: false,
        });
        let address = work_address(generation);
        self.engine.step(Input::Admitted { pool: pool(), place, slot, generation, address });
        self.soon_tend(Doing::Open(generation));
    }

    fn soon_tend(&mut self, doing: Doing) {
        let hop = hop(&mut self.prng);
        self.at(self.engine.now.0 + hop, Event::Tend(doing));
    }

    fn open(&mut self, generation: u32) {
        let slots = self.setting.slots;
        let Some(worker) = self.garden.worker(generation) else { return };
        if !worker.is_alive || worker.is_closed {
            return;
        }
        let (place, slot, replaces) = (worker.place, worker.slot, worker.replaces);
        self.engine.notes.push(Note::Worker(generation, Turn::Open));
        self.garden.gate.open(place, slot, slots, 0);
        self.pump_gate();
        if let Some(old) = replaces {
            self.soon_tend(Doing::Retire(old));
        }
    }

    fn retire(&mut self, generation: u32) {
        if self.close(generation)
            && let Some(worker) = self.garden.worker(generation)
        {
            let place = worker.place;
            self.engine.step(Input::Retired { pool: pool(), place });
            self.pump_gate();
        }
    }

    /// Closes the worker's place, once.
    fn close(&mut self, generation: u32) -> bool {
        let gate = Arc::clone(&self.garden.gate);
        let Some(worker) = self.garden.worker(generation) else { return false };
        if std::mem::replace(&mut worker.is_closed, true) {
            return false;
        }
        if gate.close(worker.place) {
            self.engine.notes.push(Note::Worker(generation, Turn::Empty));
        }
        true
    }

    fn die(&mut self, generation: u32) {
        let Some(worker) = self.garden.worker(generation) else { return };
        if !std::mem::replace(&mut worker.is_alive, false) {
            return;
        }
        let slot = worker.slot;
        self.ledger.deaths.push(self.engine.now);
        self.end_process(generation);
        let seen = range(&mut self.prng, 0, 500) * 1_000_000;
        self.at(self.engine.now.0 + seen, Event::Tend(Doing::Dismiss(generation)));
        let again = seen + range(&mut self.prng, 1, 1_000) * 1_000_000;
        self.at(self.engine.now.0 + again, Event::Tend(Doing::Come(slot, None)));
    }

    /// The kernel closes what the process had open.
    fn end_process(&mut self, generation: u32) {
        for no in self.engine.open().collect::<Vec<LinkNo>>() {
            let link = &self.engine.links[no];
            let is_its = matches!(&link.side, Side::Server(address)
                if generation_of(address) == Some(generation));
            if !is_its || link.is_peer_gone {
                continue;
            }
            if link.phase == Phase::Connecting {
                self.soon(Event::Refused(no));
            } else {
                let how = one_of(&mut self.prng, &[Leave::Close, Leave::Reset]);
                // The end of an answer that ends with its connection looks no different.
                self.leave(no, if self.ends_by_fin(no) { Leave::Reset } else { how });
            }
        }
    }

    fn ends_by_fin(&self, no: LinkNo) -> bool {
        let Actor::Server(server) = &self.actors[no] else { return false };
        let last = server.last();
        last.is_some_and(|(mark, at)| self.ledger.requests[&mark].attempts[at].needs_fin)
    }

    fn dismiss(&mut self, generation: u32) {
        let Some(worker) = self.garden.worker(generation) else { return };
        if std::mem::replace(&mut worker.is_gone, true) {
            return;
        }
        worker.is_alive = false;
        let place = worker.place;
        self.end_process(generation);
        self.close(generation);
        self.engine.step(Input::Dismissed { pool: pool(), place });
        self.pump_gate();
    }

    fn stand(&mut self, standing: Standing) {
        let is_stopped = standing == Standing::Stopped;
        self.ledger.cover.note(if is_stopped { "pool stopped" } else { "pool runs or pauses" });
        self.ledger.is_stopped = is_stopped;
        self.ledger.stops.push(self.engine.now);
        self.garden.gate.stand(standing, self.setting.queue_limit, true);
        self.engine.step(Input::Stood { pool: pool(), standing });
        self.pump_gate();
    }

    /// As the control side of the process does.
    fn pump_gate(&mut self) {
        let gate = Arc::clone(&self.garden.gate);
        loop {
            match gate.pump(self.engine.now, &mut self.garden.turn) {
                Pumped::Granted(grant) => self.engine.notes.push(Note::Grant(grant)),
                Pumped::Emptied(place) => self.engine.notes.push(Note::Empty(place)),
                Pumped::Nothing => return,
            }
        }
    }

    /// Sees to what was noted about the garden.
    pub(super) fn attend_garden(&mut self, note: &Note) {
        match *note {
            Note::Grant(grant) => {
                self.ledger.cover.note("grant carried");
                self.garden.grants.push(grant);
                self.soon_tend(Doing::Grant(grant));
            }
            Note::Worker(generation, turn) => {
                self.garden.note(generation, turn);
                if turn == Turn::Empty {
                    self.soon_tend(Doing::Dismiss(generation));
                }
            }
            Note::Empty(place) => match self.garden.empty(place) {
                Ok(generation) => {
                    self.ledger.cover.note("worker emptied");
                    self.soon_tend(Doing::Dismiss(generation));
                }
                Err(why) => self.engine.blame(why),
            },
            Note::Want => {
                self.ledger.cover.note("worker wanted");
                let slot = u16::try_from(self.prng.below(4)).unwrap_or(0);
                let latest = one_of(&mut self.prng, &[10, 800, 5_000]);
                let at = self.engine.now.0 + range(&mut self.prng, 1, latest) * 1_000_000;
                self.at(at, Event::Tend(Doing::Come(slot, None)));
            }
            Note::Full => self.ledger.full.push(self.engine.now),
            _ => {}
        }
    }

    /// What must hold of the garden at the end of a turn.
    pub(super) fn watch_garden(&mut self) -> Result<(), String> {
        if self.ledger.is_stopped {
            self.ledger.stops.push(self.engine.now);
        }
        let seen = self.engine.machine.in_garden(self.engine.now);
        let waiting = seen.iter().filter(|(_, state)| *state == "waiting").count();
        if waiting != self.garden.gate.waiting() as usize {
            let counted = self.garden.gate.waiting();
            return Err(format!("{waiting} wait and {counted} are counted"));
        }
        if waiting > 0 {
            self.ledger.cover.note("request waits");
        }
        self.garden.check_order(&seen, self.steps)?;
        let open: Vec<LinkNo> = self.engine.open().collect();
        let links = &self.engine.links;
        self.garden.check_slots(self.setting.slots, links, &open, &self.actors, &self.ledger)
    }
}

fn pool() -> String {
    String::from(pool_name(POOL_WORK))
}
