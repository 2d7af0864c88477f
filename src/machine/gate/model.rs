//! Every order in which threads can meet at a gate, walked through by loom:
//! `RUSTFLAGS="--cfg gate_model" cargo test --release --lib gate::model`

use super::*;
use alloc::vec::Vec;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

const NOW: Instant = Instant(1_000);
const A: ServerIndex = ServerIndex(0);
const B: ServerIndex = ServerIndex(1);

/// What a thread's pumps brought: tickets granted, in order, and places emptied.
#[derive(Debug, Default)]
struct Met {
    granted: Vec<Grant>,
    emptied: Vec<ServerIndex>,
}

impl Met {
    fn and(mut self, other: Self) -> Self {
        self.granted.extend(other.granted);
        self.emptied.extend(other.emptied);
        self
    }

    fn serials(&self) -> Vec<u32> {
        self.granted.iter().map(|grant| grant.ticket.serial).collect()
    }
}

fn ticket(serial: u32) -> Ticket {
    Ticket { thread: 0, client: SocketId { index: 0, generation: 0 }, serial }
}

fn pump_at(gate: &Gate, now: Instant) -> Met {
    let mut met = Met::default();
    loop {
        match gate.pump(now, &mut 0) {
            Pumped::Granted(grant) => {
                gate.leave();
                met.granted.push(grant);
            }
            Pumped::Emptied(place) => met.emptied.push(place),
            Pumped::Nothing => return met,
        }
    }
}

fn pump(gate: &Gate) -> Met {
    pump_at(gate, NOW)
}

fn wait(gate: &Gate, serial: u32, pin: Option<u16>) -> Met {
    assert!(gate.wait(ticket(serial), pin));
    pump(gate)
}

fn release(gate: &Gate, place: ServerIndex) -> Met {
    let emptied = if gate.release(place) { [place].to_vec() } else { Vec::new() };
    Met { granted: Vec::new(), emptied }.and(pump(gate))
}

fn close(gate: &Gate, place: ServerIndex) -> Met {
    let emptied = if gate.close(place) { [place].to_vec() } else { Vec::new() };
    Met { granted: Vec::new(), emptied }.and(pump(gate))
}

/// A running gate for two workers.
fn gate() -> Arc<Gate> {
    let gate = Gate::with_places(2);
    gate.stand(Standing::Running, 10, true);
    Arc::new(gate)
}

fn walk(scene: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(scene);
}

fn beside(gate: &Arc<Gate>, act: impl FnOnce(&Gate) -> Met + 'static) -> JoinHandle<Met> {
    let gate = Arc::clone(gate);
    thread::spawn(move || act(&gate))
}

/// All have pumped: a further pump must find nothing to do.
fn settled(gate: &Gate) {
    let late = pump(gate);
    assert!(late.granted.is_empty() && late.emptied.is_empty(), "nobody pumped: {late:?}");
}

#[test]
fn a_slot_given_back_meets_a_ticket_left_meanwhile() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 1, 0);
        gate.take(NOW, &mut 0, None, None).unwrap();
        let other = beside(&gate, |gate| wait(gate, 1, None));
        let met = release(&gate, A).and(other.join().unwrap());
        assert_eq!(met.serials(), [1]);
        assert_eq!(gate.figures(A).executing, 1);
        settled(&gate);
    });
}

#[test]
fn two_that_wait_get_one_slot_each_in_turn() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 1, 0);
        gate.take(NOW, &mut 0, None, None).unwrap();
        let one = beside(&gate, |gate| wait(gate, 1, None));
        let two = beside(&gate, |gate| wait(gate, 2, None));
        let met = release(&gate, A).and(one.join().unwrap()).and(two.join().unwrap());
        assert_eq!(met.granted.len(), 1, "{met:?}");
        settled(&gate);
        let last = release(&gate, A);
        assert_eq!(met.granted.len() + last.granted.len(), 2);
        assert_ne!(met.serials(), last.serials());
    });
}

#[test]
fn two_tickets_and_two_slots_meet_whoever_holds_a_slot_for_nothing() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 1, 0);
        gate.open(B, 1, 1, 0);
        gate.take(NOW, &mut 0, None, None).unwrap();
        gate.take(NOW, &mut 0, None, None).unwrap();
        assert!(gate.wait(ticket(1), None));
        let one = beside(&gate, |gate| release(gate, A));
        let two = beside(&gate, |gate| wait(gate, 2, None));
        let met = release(&gate, B).and(one.join().unwrap()).and(two.join().unwrap());
        assert_eq!(met.granted.len(), 2, "{met:?}");
        settled(&gate);
    });
}

#[test]
fn a_newcomer_gets_a_slot_or_is_granted_one() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 1, 0);
        gate.take(NOW, &mut 0, None, None).unwrap();
        let other = beside(&gate, |gate| match gate.take(NOW, &mut 0, None, None) {
            Ok(taken) => release(gate, taken.place),
            Err(_) => wait(gate, 1, None),
        });
        let met = release(&gate, A).and(other.join().unwrap());
        assert_eq!(gate.figures(A).executing as usize, met.granted.len());
        settled(&gate);
    });
}

#[test]
fn a_worker_that_comes_meets_who_waits() {
    walk(|| {
        let gate = gate();
        let other = beside(&gate, |gate| wait(gate, 1, None));
        gate.open(A, 0, 0, 0);
        let met = pump(&gate).and(other.join().unwrap());
        assert_eq!(met.serials(), [1]);
        settled(&gate);
    });
}

#[test]
fn a_pool_that_resumes_meets_who_waits() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 0, 0);
        gate.stand(Standing::Paused { limit: 10 }, 10, true);
        let other = beside(&gate, |gate| wait(gate, 1, None));
        gate.stand(Standing::Running, 10, true);
        let met = pump(&gate).and(other.join().unwrap());
        assert_eq!(met.serials(), [1]);
        settled(&gate);
    });
}

#[test]
fn a_closed_place_empties_once_whoever_leaves_it_last() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 2, 0);
        gate.take(NOW, &mut 0, None, None).unwrap();
        gate.take(NOW, &mut 0, None, None).unwrap();
        let one = beside(&gate, |gate| release(gate, A));
        let two = beside(&gate, |gate| release(gate, A));
        let met = close(&gate, A).and(one.join().unwrap()).and(two.join().unwrap());
        assert_eq!(met.emptied, [A]);
        assert!(gate.is_empty(A));
    });
}

#[test]
fn a_place_closed_under_a_pump_empties_once_and_loses_nobody() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 1, 0);
        gate.take(NOW, &mut 0, None, None).unwrap();
        assert!(gate.wait(ticket(1), None));
        // Both look at the ticket; who comes second holds a slot for nothing.
        let one = beside(&gate, |gate| release(gate, A));
        let two = beside(&gate, |gate| pump(gate));
        let mut met = close(&gate, A).and(one.join().unwrap()).and(two.join().unwrap());
        for grant in core::mem::take(&mut met.granted) {
            met = met.and(release(&gate, grant.taken.place));
        }
        assert_eq!(met.emptied, [A]);
        settled(&gate);
    });
}

#[test]
fn who_is_pinned_to_a_place_that_closes_goes_elsewhere() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 1, 0);
        gate.take(NOW, &mut 0, None, None).unwrap();
        gate.open(B, 1, 1, 0);
        let other = beside(&gate, |gate| wait(gate, 1, Some(0)));
        let met = close(&gate, A).and(other.join().unwrap());
        assert_eq!(met.serials(), [1]);
        assert_eq!(met.granted[0].taken.place, B);
        settled(&gate);
    });
}

#[test]
fn a_suspension_ends_for_clocks_that_are_behind() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 1, 0);
        gate.suspend(A, NOW + core::time::Duration::from_nanos(1));
        let other = beside(&gate, |gate| wait(gate, 1, None));
        let met = pump_at(&gate, Instant(NOW.0 + 1)).and(other.join().unwrap());
        assert_eq!(met.serials(), [1]);
    });
}

#[test]
fn a_sweep_hides_no_ticket_from_a_slot() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 1, 0);
        gate.take(NOW, &mut 0, None, None).unwrap();
        assert!(gate.wait(ticket(1), None) && gate.wait(ticket(2), None));
        gate.leave();
        let other = beside(&gate, |gate| release(gate, A));
        assert!(gate.sweep(|ticket| ticket.serial == 1));
        let met = pump(&gate).and(other.join().unwrap());
        // The dead one may have been granted before the sweep saw it.
        assert_eq!(met.granted.len(), 1);
        settled(&gate);
    });
}

#[test]
fn a_worker_is_spent_once() {
    walk(|| {
        let gate = gate();
        gate.open(A, 0, 0, 2);
        let take = |gate: &Gate| Met {
            granted: [Grant {
                ticket: ticket(0),
                taken: gate.take(NOW, &mut 0, None, None).unwrap(),
            }]
            .to_vec(),
            emptied: Vec::new(),
        };
        let (one, two) = (beside(&gate, take), beside(&gate, take));
        let met = take(&gate).and(one.join().unwrap()).and(two.join().unwrap());
        assert_eq!(met.granted.iter().filter(|grant| grant.taken.is_spent).count(), 1);
    });
}
