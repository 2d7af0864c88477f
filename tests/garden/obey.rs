//! The world does what the machine orders, as well as processes and the listener let it.

use super::machine::Machine;
use super::process::{Fate, Process, exit};
use super::setting::Rates;
use super::world::{Event, World};
use core::time::Duration;
use lychgate::machine::pool::seam::{Exit, Input, Order, WorkerId};

impl<M: Machine> World<M> {
    pub(crate) fn obey(&mut self, order: &Order) -> Option<Input> {
        match *order {
            Order::Spawn { worker } => return Some(self.spawn(worker)),
            Order::Admit { worker, requests_max, .. } => {
                if self.door.is_up {
                    self.door.admit(worker, requests_max);
                    let life = self.door.life;
                    self.soon(Event::Confirm(worker, life));
                }
                self.tempt(worker);
            }
            Order::Retire { worker } => {
                self.close(worker);
                self.tempt(worker);
            }
            Order::Dismiss { worker } => _ = self.door.places.remove(&worker),
            Order::Terminate { worker } => self.terminate(worker),
            Order::Kill { worker } => self.kill(worker),
            Order::Ping { worker } => {
                let process = self.processes.get(&worker);
                if process.is_some_and(|process| !process.is_mute(self.now)) {
                    let after = self.dice.ms(0, 250);
                    self.at(after, Event::Answer(worker));
                }
            }
            Order::Stand { standing, may_grow } if self.door.is_up => {
                self.door.stand(standing, may_grow);
                self.at(Duration::ZERO, Event::Nudge);
            }
            Order::Over => self.over(),
            Order::Stand { .. } | Order::Orphan { .. } | Order::Trip | Order::Tell(_) => {}
        }
        None
    }

    fn spawn(&mut self, worker: WorkerId) -> Input {
        let rates = if self.is_calm { Rates::CALM } else { self.rates };
        if self.dice.percent(rates.spawn_fails) {
            return Input::SpawnFailed { worker };
        }
        let fate = Fate::draw(&mut self.dice, &rates);
        if let Some(after) = fate.ready_after {
            self.at(after, Event::Ready(worker));
        }
        if let Some((after, exit)) = fate.dies_after {
            self.at(after, Event::Die(worker, exit));
        }
        if let Some((after, report)) = fate.reports {
            self.at(after, Event::Report(worker, report));
        }
        if let Some(after) = fate.violates_after {
            self.at(after, Event::Violate(worker));
        }
        let process = Process { fate, born: self.now, kills: 0, is_leaving: false };
        self.processes.insert(worker, process);
        Input::Spawned { worker }
    }

    /// An order is a moment at which processes like to die.
    fn tempt(&mut self, worker: WorkerId) {
        if !self.is_calm && self.dice.percent(self.rates.dies_at_order) {
            let exit = exit(&mut self.dice);
            let after = self.dice.ms(0, 80);
            self.at(after, Event::Die(worker, exit));
        }
    }

    fn close(&mut self, worker: WorkerId) {
        let Some(place) = self.door.places.get_mut(&worker) else { return };
        place.is_open = false;
        place.is_closed = true;
        if place.executing == 0 {
            let life = self.door.life;
            self.soon(Event::Empty(worker, life));
        }
    }

    fn terminate(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.is_leaving = true;
        if let Some(after) = process.fate.term {
            let code = self.dice.one_of(&[Exit::Code(0), Exit::Code(143), Exit::Signal(15)]);
            self.at(after, Event::Die(worker, code));
        }
        self.tempt(worker);
    }

    fn kill(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        process.is_leaving = true;
        process.kills += 1;
        if process.fate.ignores_kill && process.kills == 1 {
            return self.oracle.cover.note("a process survives SIGKILL");
        }
        let after = self.dice.ms(0, 50);
        self.at(after, Event::Die(worker, Exit::Signal(9)));
    }

    fn over(&mut self) {
        let left = self.processes.len() - self.orphans().len();
        self.oracle.require(left == 0, "forgotten", || format!("Over, and {left} processes live"));
        self.end = Some(self.now);
    }
}
