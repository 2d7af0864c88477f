//! Facts in no order and about anybody, as a broken supervisor or a lying listener would tell
//! them: the machine may be as wrong as they are, but it may not panic, spin or grow.

use super::dice::Dice;
use super::machine::Machine;
use super::setting::{garden, replan};
use lychgate::base::time::Instant;
use lychgate::machine::pool::seam::{
    Adopted, Exit, Figures, Input, Legacy, Memory, Order, Phase, Report, Standing, Verb, WorkerId,
};

/// Orders that one fact can call for: a few for each worker there can be.
const ORDERS_MAX: usize = 200;

/// Tells so many facts.
pub(crate) fn run<M: Machine>(dice: &mut Dice, mut machine: M, facts: usize) {
    let mut now = Instant(0);
    let mut known: Vec<WorkerId> = Vec::new();
    let mut plan = garden(dice);
    let first = Input::Planned { garden: Box::new(plan.clone()), is_changed: false };
    let mut next = Some(first);
    for _ in 0..facts {
        let input = next.take().unwrap_or_else(|| {
            if dice.percent(3) {
                plan = replan(dice, &plan);
                return Input::Planned { garden: Box::new(plan.clone()), is_changed: true };
            }
            fact(dice, now, &known)
        });
        let is_woken = input == Input::Woken;
        let mut out = Vec::new();
        machine.step(now, input, &mut out);
        assert!(out.len() <= ORDERS_MAX, "{} orders", out.len());
        assert!(!is_woken || machine.deadline() > now, "spins at {now:?}");
        for order in out {
            if let Order::Spawn { worker } = order {
                known.push(worker);
                known.drain(..known.len().saturating_sub(12));
                next = Some(Input::Spawned { worker });
            }
        }
        now = match dice.below(4) {
            0 => machine.deadline().min(now + core::time::Duration::from_mins(1)).max(now),
            1 => now + dice.ms(0, 4_000),
            _ => now,
        };
        machine.view(now);
    }
}

fn worker(dice: &mut Dice, known: &[WorkerId]) -> WorkerId {
    if known.is_empty() || dice.percent(3) {
        return WorkerId { slot: dice.small(0, 5), generation: u32::from(dice.small(0, 40)) };
    }
    dice.one_of(known)
}

fn fact(dice: &mut Dice, now: Instant, known: &[WorkerId]) -> Input {
    let worker = worker(dice, known);
    match dice.below(24) {
        0 => Input::Spawned { worker },
        1 => Input::SpawnFailed { worker },
        2 | 3 => Input::Ready { worker },
        4 | 5 => Input::Serving { worker },
        6 => Input::Emptied { worker },
        7 => Input::Exited { worker, exit: super::process::exit(dice) },
        8 => Input::Wanted,
        9 => measured(dice, now, worker),
        10 => Input::Spent { worker },
        11 => Input::Violated { worker },
        12 => {
            let size = dice.below(3) * super::setting::HEAVY;
            let percent = u8::try_from(dice.below(256)).unwrap_or(0);
            let memory = Memory { private: size, virtual_size: size, percent };
            Input::Weighed { worker, memory }
        }
        13 => Input::Pinged { worker },
        14 => {
            let reports = [Report::Stopping, Report::Recycle, Report::Unhealthy];
            Input::Reported { worker, report: dice.one_of(&reports) }
        }
        15 => Input::Scheduled,
        16 => Input::Released,
        17 => {
            let limit = u32::from(dice.small(0, 9));
            let verbs =
                [Verb::Recycle, Verb::Stop, Verb::Start, Verb::Pause { limit }, Verb::Resume];
            Input::Asked(dice.one_of(&verbs))
        }
        18 => Input::OrphanEnded { worker },
        19 => Input::ListenerCame,
        20 if dice.percent(20) => rare(dice, now, worker),
        21 => Input::MayNotStart,
        22 | 23 => Input::MayStart,
        _ => Input::Woken,
    }
}

fn measured(dice: &mut Dice, now: Instant, worker: WorkerId) -> Input {
    let figures = Figures {
        executing: u32::from(dice.small(0, 3)),
        delivered: dice.below(100),
        // A clock of another process may be ahead.
        answered: now + dice.ms(0, 10),
    };
    let waiting = u32::from(dice.small(0, 2));
    Input::Measured { waiting, workers: vec![(worker, figures); usize::from(dice.small(0, 3))] }
}

fn rare(dice: &mut Dice, now: Instant, worker: WorkerId) -> Input {
    let phases = [
        Phase::Starting,
        Phase::Admitted,
        Phase::Serving,
        Phase::Draining,
        Phase::Terminating,
        Phase::Killing,
        Phase::Orphaned,
    ];
    match dice.below(4) {
        0 => Input::Removed,
        1 => Input::Ending { deadline: now + dice.ms(0, 9_000) },
        2 => Input::Exited { worker, exit: Exit::Unknown },
        _ => {
            let phase = dice.one_of(&phases);
            let recycling = None;
            let adopted = Adopted { worker, phase, since: now, delivered: 3, recycling };
            let (standing, generation) = (Standing::Running, 1);
            Input::Adopted(Legacy { standing, generation, workers: vec![adopted; 2] })
        }
    }
}
