//! What people do to the pool, and what befalls listener and supervisor; and the quiet end of a
//! run, in which everything must come to rest.

use super::machine::Machine;
use super::setting::{self, settling, target};
use super::world::{Event, SECOND, World};
use core::time::Duration;
use lychgate::machine::pool::seam::{Adopted, Exit, Input, Legacy, Phase, Verb};
use lychgate::plan::garden::Start;

/// After the last start of the operator everything that fails has failed.
const FORGIVEN: Duration = Duration::from_secs(25);
/// From the end of all requests to the end of idle workers, beside the time-out itself.
const LATE: Duration = Duration::from_secs(24);

impl<M: Machine> World<M> {
    /// What will happen, whatever the machine does.
    pub(crate) fn schedule(&mut self) {
        let noise = self.dice.range(8, 40) * 1_000;
        self.at(Duration::ZERO, Event::Request);
        self.at(SECOND, Event::Measure);
        self.at(SECOND * 2, Event::Weigh);
        let plans = [
            (Event::Operate, 60, 6),
            (Event::Replan, 30, 3),
            (Event::Schedule, 30, 2),
            (Event::Release, 30, 2),
            (Event::ListenerDies, 30, 2),
            (Event::SupervisorDies, 25, 2),
        ];
        for (event, times, most) in plans {
            if self.dice.percent(times) {
                for _ in 0..self.dice.range(1, most) {
                    let at = self.dice.ms(0, noise);
                    self.at(at, event);
                }
            }
        }
        if self.dice.percent(25) {
            self.ends_early = true;
            let at = self.dice.ms(1, noise);
            self.at(at, Event::Remove);
        }
        self.at(Duration::from_millis(noise), Event::Calm);
    }

    pub(crate) fn doing(&mut self, event: Event) {
        if self.is_calm && is_noise(event) {
            return;
        }
        match event {
            Event::Operate => self.operate(),
            Event::Replan => self.replan(),
            Event::Schedule => self.step(Input::Scheduled),
            Event::Release => self.step(Input::Released),
            Event::ListenerDies => self.listener_dies(),
            Event::ListenerCame => self.listener_came(),
            Event::SupervisorDies => self.supervisor_dies(),
            Event::Adopt => self.adopt(),
            Event::Remove => self.remove(),
            Event::Nudge => self.serve(),
            other => self.quiet(other),
        }
    }

    fn operate(&mut self) {
        if self.oracle.ending.is_some() {
            return;
        }
        let orphans = self.orphans();
        if !orphans.is_empty() && self.dice.percent(40) {
            let worker = self.dice.one_of(&orphans);
            self.oracle.cover.note("an orphan is ended");
            return self.step(Input::OrphanEnded { worker });
        }
        let limit = u32::from(self.dice.small(0, 6));
        let verbs = [
            (Verb::Recycle, "recycle"),
            (Verb::Recycle, "recycle"),
            (Verb::Stop, "stop"),
            (Verb::Start, "start"),
            (Verb::Pause { limit }, "pause"),
            (Verb::Resume, "resume"),
        ];
        let (verb, word) = self.dice.one_of(&verbs);
        let circumstances = self.oracle.circumstances();
        self.oracle.cover.note_in(word, circumstances);
        self.step(Input::Asked(verb));
        // Who stopped it, starts it again; who recycles, is impatient.
        if verb == Verb::Stop || verb == Verb::Recycle && self.dice.percent(30) {
            let after = self.dice.ms(0, 3_000);
            self.at(after, Event::Operate);
        }
    }

    fn replan(&mut self) {
        if self.oracle.ending.is_some() || self.is_headless {
            return;
        }
        let garden = setting::replan(&mut self.dice, &self.garden);
        self.garden = garden.clone();
        let is_changed = self.dice.percent(40);
        let circumstances = self.oracle.circumstances();
        self.oracle.cover.note_in("replanned", circumstances);
        self.say(|| format!("{garden:#?} {is_changed}"));
        self.step(Input::Planned { garden: Box::new(garden), is_changed });
    }

    fn listener_dies(&mut self) {
        if !self.door.is_up {
            return;
        }
        let circumstances = self.oracle.circumstances();
        self.oracle.cover.note_in("the listener dies", circumstances);
        self.say(|| String::from("the listener dies"));
        self.door.die();
        self.oracle.is_listener_up = false;
        let after = self.dice.ms(1, 2_000);
        self.at(after, Event::ListenerCame);
    }

    fn listener_came(&mut self) {
        self.door.is_up = true;
        self.step(Input::ListenerCame);
    }

    fn supervisor_dies(&mut self) {
        if self.is_headless || self.oracle.ending.is_some() || !self.door.is_up {
            return;
        }
        let circumstances = self.oracle.circumstances();
        self.oracle.cover.note_in("the supervisor dies", circumstances);
        self.is_headless = true;
        let after = self.dice.ms(0, 2_000);
        self.at(after, Event::Adopt);
    }

    /// The next supervisor knows what the last one wrote down, and finds out who has died.
    fn adopt(&mut self) {
        if !self.is_headless {
            return;
        }
        self.is_headless = false;
        let view = self.machine.view(self.now);
        let workers: Vec<Adopted> = view
            .workers
            .iter()
            .map(|it| Adopted {
                worker: it.worker,
                phase: it.phase,
                since: it.since,
                delivered: it.figures.delivered,
                recycling: None,
            })
            .collect();
        let seed = self.dice.below(1 << 16);
        self.machine = self.machine.anew(self.now, seed);
        self.is_grant_due = false;
        let standing = self.oracle.standing;
        let garden = Box::new(self.garden.clone());
        self.oracle.adopted(self.now);
        self.say(|| format!("a new supervisor, {standing:?}"));
        // Until it is told of the workers, it cannot know them.
        self.is_unsettled = true;
        self.step(Input::Planned { garden, is_changed: false });
        self.is_unsettled = false;
        let generation = view.generation;
        self.step(Input::Adopted(Legacy { standing, generation, workers }));
        for worker in core::mem::take(&mut self.died_unseen) {
            self.step(Input::Exited { worker, exit: Exit::Unknown });
        }
        self.step(Input::Woken);
        if !self.door.is_up {
            self.listener_came();
        }
    }

    fn remove(&mut self) {
        if self.is_headless {
            let again = self.dice.ms(100, 900);
            return self.at(again, Event::Remove);
        }
        let limit = self.oracle.spans.shutdown.most;
        if self.dice.percent(50) {
            self.step(Input::Removed);
        } else {
            let deadline = self.now + self.dice.ms(0, 8_000);
            self.step(Input::Ending { deadline });
        }
        self.at(limit * 2 + SECOND * 12, Event::Finis);
    }

    /// The stages of the quiet end, one after the other.
    fn quiet(&mut self, stage: Event) {
        match stage {
            Event::Calm => self.calm(),
            Event::Restart => {
                self.step(Input::Asked(Verb::Start));
                self.step(Input::Asked(Verb::Resume));
                self.at(SECOND * 2, Event::Recycle);
            }
            Event::Recycle => {
                self.recycled_at = self.now;
                self.step(Input::Asked(Verb::Recycle));
                self.step(Input::Asked(Verb::Recycle));
                let after = settling(&self.garden);
                self.at(after, Event::Rest);
            }
            Event::Rest => {
                let kept = target(&self.garden).max(1);
                self.oracle.at_rest(kept, false, self.recycled_at);
                let is_stale = self.door.queue.iter().any(|came| *came + SECOND * 10 < self.now);
                self.oracle.require(!is_stale, "stalled", || String::from("requests wait"));
                self.at(Duration::ZERO, Event::Hush);
            }
            Event::Hush => {
                self.is_hushed = true;
                let idle = self.garden.lifecycle.idle_timeout.unwrap_or_default();
                self.at(idle + LATE, Event::Still);
            }
            Event::Still => {
                let is_exact = self.garden.lifecycle.idle_timeout.is_some()
                    || self.garden.start == Start::Always;
                let kept = target(&self.garden);
                self.oracle.at_rest(kept, is_exact, self.recycled_at);
                let left = self.oracle.workers.values();
                let is_clean = left.clone().all(|it| it.phase != Phase::Killing);
                self.oracle.require(is_clean, "unsettled", || String::from("a kill lasts"));
                self.at(Duration::ZERO, Event::Remove);
            }
            Event::Finis => {
                self.oracle.blame("never-over", String::from("it was to end"));
            }
            _ => {}
        }
    }

    fn calm(&mut self) {
        if self.ends_early {
            return;
        }
        self.say(|| String::from("from now on nothing goes wrong"));
        self.is_calm = true;
        for process in self.processes.values_mut() {
            process.fate.calm();
        }
        if self.is_headless {
            self.adopt();
        }
        if !self.door.is_up {
            self.listener_came();
        }
        let garden = setting::calm(&self.garden);
        self.garden = garden.clone();
        self.step(Input::Planned { garden: Box::new(garden), is_changed: false });
        self.at(FORGIVEN, Event::Restart);
    }
}

fn is_noise(event: Event) -> bool {
    matches!(
        event,
        Event::Operate
            | Event::Replan
            | Event::Schedule
            | Event::Release
            | Event::ListenerDies
            | Event::SupervisorDies
            | Event::Adopt
            | Event::ListenerCame
    )
}
