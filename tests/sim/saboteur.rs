//! Proof that the judge is awake: the real machine with one thing done wrong on purpose, which a
//! few seeds must bring to light.

use super::machine::Machine;
use super::threads::Threads;
use super::world::World;
use lychgate::base::id::ServerIndex;
use lychgate::base::prng::Prng;
use lychgate::base::time::Instant;
use lychgate::machine::gate::Gate;
use lychgate::machine::listener::seam::{Effect, Ending, Input, Outbox};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What is done wrong, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// An order is forgotten.
    End,
    Recv,
    Hold,
    Send,
    TurnAway,
    Drained,
    /// An order is given twice.
    SendTwice,
    EndTwice,
    /// One ending for another.
    ResetAsNow,
    FlushedAsNow,
    ShutdownAsFlushed,
    /// A write goes too far, or begins too late.
    Long,
    Late,
    /// A write goes to another connection.
    Astray,
    /// Time is not listened to, or asked for without end.
    Deaf,
    Restless,
    /// A slot is never given back, or twice.
    LostSlot,
    TwiceFree,
    /// A place is open before the threads know its worker.
    EarlyServe,
    /// Who came last is served first.
    LastFirst,
    /// A grant never arrives.
    Grant,
    /// Nobody hears that a place is empty.
    Empty,
    /// A client's leaving is not heard.
    Ended,
}

const WRONGS: [Wrong; 23] = [
    Wrong::End,
    Wrong::Recv,
    Wrong::Hold,
    Wrong::Send,
    Wrong::TurnAway,
    Wrong::Drained,
    Wrong::SendTwice,
    Wrong::EndTwice,
    Wrong::ResetAsNow,
    Wrong::FlushedAsNow,
    Wrong::ShutdownAsFlushed,
    Wrong::Long,
    Wrong::Late,
    Wrong::Astray,
    Wrong::Deaf,
    Wrong::Restless,
    Wrong::LostSlot,
    Wrong::TwiceFree,
    Wrong::EarlyServe,
    Wrong::LastFirst,
    Wrong::Grant,
    Wrong::Empty,
    Wrong::Ended,
];

/// Seeds by which each must be found.
const SEEDS_MAX: u64 = 1_500;

struct Saboteur {
    machine: Threads,
    wrong: Wrong,
    prng: Prng,
    gate: Option<Arc<Gate>>,
}

impl Saboteur {
    /// Whether to do it this time: often enough to be met, seldom enough to look like a bug.
    fn is_time(&mut self) -> bool {
        self.prng.one_in(match self.wrong {
            Wrong::Drained
            | Wrong::LastFirst
            | Wrong::EarlyServe
            | Wrong::Empty
            | Wrong::ResetAsNow
            | Wrong::ShutdownAsFlushed
            | Wrong::Hold => 1,
            _ => 8,
        })
    }

    fn spoil(&mut self, effects: &mut Vec<Effect>) {
        let mut spoilt = Vec::new();
        let targets: Vec<_> = effects.iter().filter_map(written).collect();
        for effect in effects.drain(..) {
            if !is_concerned(self.wrong, &effect) || !self.is_time() {
                spoilt.push(effect);
                continue;
            }
            match (self.wrong, effect) {
                (Wrong::SendTwice | Wrong::EndTwice, effect) => {
                    spoilt.push(effect.clone());
                    spoilt.push(effect);
                }
                (Wrong::ResetAsNow | Wrong::FlushedAsNow, Effect::End { id, .. }) => {
                    spoilt.push(Effect::End { id, how: Ending::Now });
                }
                (Wrong::ShutdownAsFlushed, Effect::End { id, .. }) => {
                    spoilt.push(Effect::End { id, how: Ending::Flushed });
                }
                (Wrong::Long, Effect::Send { to, range }) => {
                    spoilt.push(Effect::Send { to, range: range.start..range.end + 1 });
                }
                (Wrong::Late, Effect::Forward { to, range }) => {
                    spoilt.push(Effect::Forward { to, range: range.start + 1..range.end });
                }
                (Wrong::Astray, Effect::Send { range, .. }) => {
                    spoilt.push(Effect::Send { to: targets[0], range });
                }
                // Forgotten.
                _ => {}
            }
        }
        *effects = spoilt;
    }
}

impl Saboteur {
    fn is_unheard(&mut self, input: &Input<'_>) -> bool {
        let is_meant = match self.wrong {
            Wrong::Grant => matches!(input, Input::Granted { .. }),
            Wrong::Ended => matches!(input, Input::Ended { .. }),
            _ => false,
        };
        is_meant && self.is_time()
    }

    fn open_early(&mut self, place: (ServerIndex, u16)) {
        if let (Wrong::EarlyServe, Some(gate)) = (self.wrong, &self.gate) {
            gate.open(place.0, place.1, 1, 0);
        }
    }

    /// What a gate with a mistake in it would have come to.
    fn spoil_gate(&mut self) {
        let Some(gate) = self.gate.clone() else { return };
        let busy = (0..8).map(ServerIndex).find(|place| gate.figures(*place).executing > 0);
        match (self.wrong, busy) {
            (Wrong::LostSlot, Some(_)) if self.is_time() => {
                // As if its owner had forgotten it.
                let _ = gate.take(Instant(0), &mut 0, None, None);
            }
            (Wrong::TwiceFree, Some(place)) if self.is_time() => {
                gate.release(place);
            }
            (Wrong::LastFirst, _) if gate.waiting() > 1 => {
                let mut tickets = Vec::new();
                gate.sweep(|ticket| {
                    tickets.push(ticket);
                    true
                });
                for ticket in tickets.into_iter().rev() {
                    gate.put_back(ticket);
                    gate.leave();
                }
            }
            _ => {}
        }
    }
}

fn admitted(input: &Input<'_>) -> Option<(ServerIndex, u16)> {
    if let Input::Admitted { place, slot, .. } = input { Some((*place, *slot)) } else { None }
}

fn written(effect: &Effect) -> Option<lychgate::base::id::SocketId> {
    if let Effect::Send { to, .. } = effect { Some(*to) } else { None }
}

fn is_concerned(wrong: Wrong, effect: &Effect) -> bool {
    match wrong {
        Wrong::End | Wrong::EndTwice => matches!(effect, Effect::End { .. }),
        Wrong::Recv => matches!(effect, Effect::Recv { .. }),
        Wrong::Hold => matches!(effect, Effect::Hold { .. }),
        Wrong::Send | Wrong::SendTwice | Wrong::Long | Wrong::Astray => {
            matches!(effect, Effect::Send { .. })
        }
        Wrong::Late => matches!(effect, Effect::Forward { .. }),
        Wrong::TurnAway => matches!(effect, Effect::TurnAway { .. }),
        Wrong::Drained => matches!(effect, Effect::Drained),
        Wrong::ResetAsNow => matches!(effect, Effect::End { how: Ending::Reset, .. }),
        Wrong::FlushedAsNow => matches!(effect, Effect::End { how: Ending::Flushed, .. }),
        Wrong::ShutdownAsFlushed => matches!(effect, Effect::End { how: Ending::Shutdown, .. }),
        Wrong::Empty => matches!(effect, Effect::Empty { .. }),
        _ => false,
    }
}

impl Machine for Saboteur {
    fn step(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        if let Input::Planned { gates, .. } = &input {
            self.gate = gates.last().cloned().flatten();
        }
        let (place, is_unheard) = (admitted(&input), self.is_unheard(&input));
        if let Some(place) = place {
            self.open_early(place);
        }
        if !is_unheard {
            self.machine.step(now, input, out);
        }
        self.spoil(&mut out.effects);
        self.spoil_gate();
    }

    fn rest(&self) -> Result<(), String> {
        self.machine.rest()
    }

    fn in_garden(&self, now: Instant) -> Vec<(u32, &'static str)> {
        self.machine.in_garden(now)
    }

    fn deadline(&self) -> Instant {
        match self.wrong {
            Wrong::Deaf => Instant::NEVER,
            Wrong::Restless => Instant(0),
            _ => self.machine.deadline(),
        }
    }
}

#[test]
fn every_wrong_is_found() {
    let mut missed = Vec::new();
    for wrong in WRONGS {
        let found = (0..SEEDS_MAX).find(|&seed| {
            let machine =
                Saboteur { machine: Threads::new(seed), wrong, prng: Prng::new(seed), gate: None };
            let world = World::new(seed, false, machine);
            // Told of what it never ordered, the machine may well stop at its own assertions.
            !matches!(catch_unwind(AssertUnwindSafe(|| world.run())), Ok(Ok(_)))
        });
        super::tests::say(&format!("{wrong:?} is found by seed {found:?}"));
        if found.is_none() {
            missed.push(wrong);
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}
