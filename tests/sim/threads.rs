//! The machines of two listener threads as one: they share the connection count and the gates, and
//! each has half of the ids. What one finds out by checks the other is told.

use super::machine::Machine;
use lychgate::base::id::SocketId;
use lychgate::base::time::Instant;
use lychgate::machine::listener::seam::{Effect, Input, Outbox};
use lychgate::machine::listener::{Listener, Shared};
use std::sync::Arc;
use std::time::Duration;

/// Ids of the second thread begin here.
const SECOND: u32 = 1 << 16;

#[derive(Debug)]
pub(crate) struct Threads {
    machines: [Listener; 2],
    /// Which of them accepts next.
    turn: usize,
    drained: usize,
}

impl Threads {
    pub(crate) fn new(seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let machine = |thread: u16| {
            let seed = seed ^ u64::from(thread) << 32;
            let mut machine = Listener::new(Instant(0), thread, seed, Arc::clone(&shared));
            machine.set_wall(1_700_000_000_000_000_000);
            machine
        };
        Self { machines: [machine(0), machine(1)], turn: 0, drained: 0 }
    }

    fn pass(&mut self, thread: usize, now: Instant, input: Input<'_>, out: &mut Outbox) {
        // Apart, for both know sockets by the same ids.
        let mut before = std::mem::take(&mut out.effects);
        self.machines[thread].step(now, input, out);
        let mut judged = Vec::new();
        for effect in &mut out.effects {
            if let Effect::Judge { pool, address, is_well, .. } = effect {
                judged.push((pool.clone(), (**address).clone(), *is_well));
            }
            if let Some(id) = id_of(effect) {
                id.index += SECOND * u32::try_from(thread).unwrap_or(0);
            }
        }
        before.append(&mut out.effects);
        out.effects = before;
        for (pool, address, is_well) in judged {
            let other = Input::Judged { pool, address, is_well };
            self.machines[1 - thread].step(now, other, out);
        }
        let drained = &mut self.drained;
        out.effects.retain(|effect| {
            let is_drained = matches!(effect, Effect::Drained);
            *drained += usize::from(is_drained);
            // Over only when both are.
            !is_drained || *drained == 2
        });
    }

    fn tell(&mut self, now: Instant, out: &mut Outbox, input: impl Fn() -> Input<'static>) {
        for thread in 0..2 {
            self.pass(thread, now, input(), out);
        }
    }
}

fn id_of(effect: &mut Effect) -> Option<&mut SocketId> {
    match effect {
        Effect::Adopt { id, .. }
        | Effect::Recv { id }
        | Effect::Hold { id }
        | Effect::Connect { id, .. }
        | Effect::End { id, .. }
        | Effect::Send { to: id, .. }
        | Effect::Forward { to: id, .. } => Some(id),
        _ => None,
    }
}

/// The thread of a socket, and its id there.
fn home(id: SocketId) -> (usize, SocketId) {
    let is_second = id.index >= SECOND;
    let index = if is_second { id.index - SECOND } else { id.index };
    (usize::from(is_second), SocketId { index, ..id })
}

impl Machine for Threads {
    fn step(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Accepted { .. } => {
                self.turn = 1 - self.turn;
                self.pass(self.turn, now, input, out);
            }
            Input::Received { id, bytes } => {
                let (thread, id) = home(id);
                self.pass(thread, now, Input::Received { id, bytes }, out);
            }
            Input::Ended { id } => {
                let (thread, id) = home(id);
                self.pass(thread, now, Input::Ended { id }, out);
            }
            Input::Broken { id } => {
                let (thread, id) = home(id);
                self.pass(thread, now, Input::Broken { id }, out);
            }
            Input::Unwritable { id } => {
                let (thread, id) = home(id);
                self.pass(thread, now, Input::Unwritable { id }, out);
            }
            Input::Backlog { id, bytes } => {
                let (thread, id) = home(id);
                self.pass(thread, now, Input::Backlog { id, bytes }, out);
            }
            Input::Connected { id } => {
                let (thread, id) = home(id);
                self.pass(thread, now, Input::Connected { id }, out);
            }
            Input::Refused { id } => {
                let (thread, id) = home(id);
                self.pass(thread, now, Input::Refused { id }, out);
            }
            Input::Closed { id, unsent } => {
                let (thread, id) = home(id);
                self.pass(thread, now, Input::Closed { id, unsent }, out);
            }
            Input::Granted { ref grant, .. } => {
                self.pass(usize::from(grant.ticket.thread), now, input, out);
            }
            Input::Planned { plan, doors, gates } => self.tell(now, out, || Input::Planned {
                plan: Arc::clone(&plan),
                doors: Arc::clone(&doors),
                gates: Arc::clone(&gates),
            }),
            Input::Admitted { pool, place, slot, generation, address } => {
                self.tell(now, out, || Input::Admitted {
                    pool: pool.clone(),
                    place,
                    slot,
                    generation,
                    address: address.clone(),
                });
            }
            Input::Retired { pool, place } => {
                self.tell(now, out, || Input::Retired { pool: pool.clone(), place });
            }
            Input::Dismissed { pool, place } => {
                self.tell(now, out, || Input::Dismissed { pool: pool.clone(), place });
            }
            Input::Stood { pool, standing } => {
                self.tell(now, out, || Input::Stood { pool: pool.clone(), standing });
            }
            Input::Paged { pool, page } => {
                self.tell(now, out, || Input::Paged { pool: pool.clone(), page: page.clone() });
            }
            Input::Draining => self.tell(now, out, || Input::Draining),
            Input::Woken => self.tell(now, out, || Input::Woken),
            Input::Judged { .. } => {}
        }
    }

    fn deadline(&self) -> Instant {
        let [one, two] = &self.machines;
        one.deadline().min(two.deadline())
    }

    fn rest(&self) -> Result<(), String> {
        self.machines.iter().try_for_each(Machine::rest)
    }

    fn in_garden(&self, now: Instant) -> Vec<(u32, &'static str)> {
        let mut all = Vec::new();
        for machine in &self.machines {
            machine.list(now, Some("work"), Duration::ZERO, |row| {
                let target = String::from_utf8_lossy(row.target);
                let digits = target.split_once("/work/m").map_or("", |(_, rest)| rest);
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                if let Ok(mark) = digits[..end].parse() {
                    all.push((mark, row.state));
                }
            });
        }
        all
    }
}
