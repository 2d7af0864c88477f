//! A gate by one thread, step by step.

use super::*;
use alloc::vec::Vec;

const NOW: Instant = Instant(1_000);
const LATER: Instant = Instant(2_000);
const A: ServerIndex = ServerIndex(0);
const B: ServerIndex = ServerIndex(1);
const C: ServerIndex = ServerIndex(2);

/// A running gate, and the memory of one thread that uses it.
struct Scene {
    gate: Gate,
    turn: u16,
}

fn scene(slots: &[u32]) -> Scene {
    let gate = Gate::default();
    gate.stand(Standing::Running, 10, true);
    for (slot, slots) in (0..).zip(slots) {
        gate.open(ServerIndex(slot), slot, *slots, 0);
    }
    Scene { gate, turn: 0 }
}

fn ticket(serial: u32) -> Ticket {
    Ticket { thread: 3, client: SocketId { index: 7, generation: 1 }, serial }
}

impl Scene {
    fn take(&mut self, pin: Option<u16>) -> Result<ServerIndex, Busy> {
        self.gate.take(NOW, &mut self.turn, pin, None).map(|taken| taken.place)
    }

    /// Takes so many slots; how many of each of the first three places.
    fn take_many(&mut self, count: usize) -> [usize; 3] {
        let mut taken = [0; 3];
        for _ in 0..count {
            taken[usize::from(self.take(None).unwrap().0)] += 1;
        }
        taken
    }

    fn wait(&mut self, serials: impl IntoIterator<Item = u32>, pin: Option<u16>) {
        for serial in serials {
            assert!(self.gate.wait(ticket(serial), pin));
        }
    }

    fn pump_at(&mut self, now: Instant) -> Vec<(u32, ServerIndex)> {
        let mut granted = Vec::new();
        loop {
            match self.gate.pump(now, &mut self.turn) {
                Pumped::Granted(grant) => {
                    self.gate.leave();
                    granted.push((grant.ticket.serial, grant.taken.place));
                }
                Pumped::Emptied(place) => panic!("{place:?} is emptied"),
                Pumped::Nothing => return granted,
            }
        }
    }

    fn pump(&mut self) -> Vec<(u32, ServerIndex)> {
        self.pump_at(NOW)
    }

    /// Gives a slot back; who gets it.
    fn release(&mut self, place: ServerIndex) -> Vec<(u32, ServerIndex)> {
        assert!(!self.gate.release(place));
        self.pump()
    }
}

#[test]
fn slots_are_limited_and_waited_for_in_order() {
    let mut scene = scene(&[2]);
    assert_eq!(scene.take_many(2), [2, 0, 0]);
    assert_eq!(scene.take(None), Err(Busy::Wait));
    scene.wait([1, 2, 3], None);
    assert!(scene.pump().is_empty());
    assert_eq!(scene.release(A), [(1, A)]);
    assert_eq!(scene.release(A), [(2, A)]);
    // One slot is free between this thread's release and its pump, and somebody waits.
    assert!(!scene.gate.release(A));
    assert_eq!(scene.take(None), Err(Busy::Wait), "a newcomer overtook");
    assert_eq!(scene.pump(), [(3, A)]);
    assert_eq!(scene.gate.figures(A).delivered, 5);
}

#[test]
fn the_queue_is_bounded_but_for_who_is_put_back() {
    let mut scene = scene(&[]);
    scene.wait(0..10, None);
    assert!(!scene.gate.wait(ticket(10), None));
    assert_eq!(scene.gate.waiting(), 10);
    scene.gate.put_back(ticket(11));
    assert_eq!(scene.gate.waiting(), 11);
    scene.gate.open(A, 0, 1, 0);
    assert_eq!(scene.pump(), [(11, A)]);
    assert!(!scene.gate.wait(ticket(12), None));
    scene.gate.leave();
    assert!(scene.gate.wait(ticket(13), None));
}

#[test]
fn requests_go_round_robin_past_who_is_closed() {
    let mut scene = scene(&[0, 0, 0]);
    assert_eq!(scene.take_many(99), [33, 33, 33]);
    assert!(!scene.gate.close(B));
    assert_eq!(scene.take_many(100), [50, 0, 50]);
}

#[test]
fn the_least_busy_is_chosen() {
    let mut scene = scene(&[0, 0, 2]);
    scene.gate.choose_by(Dispatch::LeastBusy);
    assert_eq!(scene.take_many(9), [3, 4, 2]);
    assert!(!scene.gate.release(C));
    assert_eq!(scene.take(None), Ok(C));
}

#[test]
fn a_request_goes_to_the_slot_that_it_is_pinned_to() {
    let mut scene = scene(&[1, 1]);
    assert_eq!(scene.take(Some(1)), Ok(B));
    assert_eq!(scene.take(Some(1)), Err(Busy::Wait));
    scene.wait([1], Some(1));
    assert!(scene.pump().is_empty(), "its slot is full, another is not");
    // Who is not pinned does not wait behind it.
    scene.wait([2], None);
    assert_eq!(scene.pump(), [(2, A)]);
    assert_eq!(scene.release(B), [(1, B)]);
}

#[test]
fn who_is_pinned_goes_elsewhere_when_nobody_serves_the_slot() {
    let mut scene = scene(&[1, 1]);
    assert_eq!(scene.take(Some(7)).map(|_| ()), Ok(()));
    assert_eq!(scene.take(None).map(|_| ()), Ok(()));
    scene.wait([1], Some(0));
    scene.wait([2], Some(200));
    assert!(!scene.gate.close(A));
    assert!(scene.pump().is_empty());
    // Its successor has the slot, in another place.
    scene.gate.open(C, 0, 1, 0);
    assert_eq!(scene.pump(), [(1, C)]);
    assert_eq!(scene.release(B), [(2, B)]);
    scene.wait([3], Some(0));
    assert!(!scene.gate.close(C));
    assert_eq!(scene.release(B), [(3, B)]);
}

#[test]
fn nobody_waits_for_ever_for_others() {
    let mut scene = scene(&[1]);
    scene.take(None).unwrap();
    scene.wait([10, 11, 12], Some(0));
    scene.wait([20, 21, 22], None);
    scene.wait([30], Some(1));
    scene.wait([40], Some(2));
    let mut order = Vec::new();
    for _ in 0..8 {
        let granted = scene.release(A);
        assert_eq!(granted.len(), 1);
        order.push(granted[0].0);
    }
    let at = |serial: u32| order.iter().position(|one| *one == serial).unwrap();
    assert!(at(10) < at(11) && at(11) < at(12) && at(20) < at(21) && at(21) < at(22));
    assert!(order[..3].contains(&10) && order[..3].contains(&20), "{order:?}");
    assert!(order[..3].contains(&30) && order[..6].contains(&40), "{order:?}");
}

#[test]
fn who_is_suspended_is_left_out_until_then() {
    let mut scene = scene(&[1, 1]);
    scene.gate.suspend(A, LATER);
    assert_eq!(scene.take(Some(0)), Ok(B));
    assert_eq!(scene.take(None), Err(Busy::Wait));
    scene.wait([1], None);
    assert!(scene.pump().is_empty());
    assert_eq!(scene.pump_at(LATER), [(1, A)]);
    // It is over for a clock that is behind, too.
    assert_eq!(scene.release(A), []);
    assert_eq!(scene.take(Some(0)), Ok(A));
    assert_eq!(scene.gate.suspended.load(SeqCst), 0);
}

#[test]
fn suspensions_of_one_place_are_one() {
    let mut scene = scene(&[0]);
    scene.gate.suspend(A, LATER);
    scene.gate.suspend(A, NOW);
    assert_eq!(scene.take(None), Err(Busy::Wait));
    assert!(scene.gate.close(A));
    scene.gate.open(A, 0, 0, 0);
    assert_eq!(scene.take(None), Ok(A), "its successor is suspended");
    assert_eq!(scene.gate.suspended.load(SeqCst), 0);
}

#[test]
fn a_worker_that_failed_the_request_is_avoided() {
    let scene = scene(&[0, 0]);
    let take = |pin| scene.gate.take(NOW, &mut 1, pin, Some(A)).map(|taken| taken.place);
    assert_eq!([take(None), take(Some(0))], [Ok(B), Ok(B)]);
    assert!(!scene.gate.close(B));
    assert_eq!(take(Some(0)), Err(Busy::Wait));
}

#[test]
fn a_closed_place_empties_once() {
    let mut scene = scene(&[0, 0]);
    assert!(scene.gate.close(A), "nothing ran on it");
    assert!(!scene.gate.close(A), "told twice");
    scene.take_many(2);
    assert!(!scene.gate.close(B));
    assert_eq!(scene.take(None), Err(Busy::Wait));
    assert!(!scene.gate.release(B));
    assert!(!scene.gate.is_empty(B));
    assert!(scene.gate.release(B));
    assert!(!scene.gate.close(B), "told twice");
    assert!(scene.gate.is_empty(B));
    let places = [A, B, C].map(|taken| scene.gate.vacancy(|place| place == taken));
    assert_eq!(places, [Some(B), Some(A), Some(A)]);
}

#[test]
fn a_full_gate_has_no_vacancy() {
    let gate = Gate::with_places(2);
    gate.open(A, 0, 0, 0);
    gate.open(B, 1, 0, 0);
    assert_eq!(gate.vacancy(|_| false), None);
    assert!(gate.close(B));
    assert_eq!(gate.vacancy(|_| false), Some(B));
    assert_eq!(gate.vacancy(|place| place == B), None);
}

#[test]
fn a_pool_that_does_not_run_refuses_or_holds() {
    let mut scene = scene(&[0]);
    scene.gate.stand(Standing::Stopped, 10, true);
    assert_eq!(scene.take(None), Err(Busy::Stopped));
    scene.gate.stand(Standing::Tripped, 10, true);
    assert_eq!(scene.take(None), Err(Busy::Tripped));
    scene.gate.stand(Standing::Paused { limit: 1 }, 1, true);
    assert_eq!(scene.take(None), Err(Busy::Wait));
    scene.wait([1], None);
    assert!(!scene.gate.wait(ticket(2), None), "the pause has its own limit");
    assert!(scene.pump().is_empty());
    scene.gate.stand(Standing::Replacing, 10, true);
    assert_eq!(scene.pump(), [(1, A)]);
    assert_eq!(scene.take(None), Ok(A));
}

#[test]
fn another_worker_is_asked_for_once_until_the_answer() {
    let scene = scene(&[0]);
    assert!(scene.gate.wants() && !scene.gate.wants());
    scene.gate.open(B, 1, 0, 0);
    assert!(scene.gate.wants() && !scene.gate.wants());
    scene.gate.stand(Standing::Running, 10, false);
    assert!(!scene.gate.wants(), "the garden is full grown");
    scene.gate.stand(Standing::Running, 10, true);
    assert!(scene.gate.wants());
}

#[test]
fn a_garden_is_short_when_somebody_waits_and_nothing_is_free() {
    let mut scene = scene(&[1, 1]);
    scene.take(Some(0)).unwrap();
    scene.wait([1], Some(0));
    assert!(scene.pump().is_empty() && !scene.gate.is_short(NOW), "it waits for its own slot");
    scene.take(Some(1)).unwrap_err();
    scene.wait([2, 3], None);
    assert_eq!(scene.pump(), [(2, B)]);
    assert!(scene.gate.is_short(NOW));
    scene.gate.stand(Standing::Paused { limit: 10 }, 10, true);
    assert!(!scene.gate.is_short(NOW), "they wait for the operator");
    scene.gate.stand(Standing::Running, 10, true);
    assert!(scene.gate.common.pop().is_some() && scene.gate.lines()[0].pop().is_some());
    assert!(!scene.gate.is_short(NOW), "those that wait are being told of their slots");
}

#[test]
fn a_garden_where_all_execute_something_is_busy() {
    let mut scene = scene(&[0, 0, 0]);
    assert!(scene.gate.close(C));
    scene.take(None).unwrap();
    assert!(!scene.gate.is_all_busy());
    scene.take(None).unwrap();
    assert!(scene.gate.is_all_busy());
    scene.gate.stand(Standing::Running, 10, false);
    assert!(!scene.gate.is_all_busy());
}

#[test]
fn a_worker_is_spent_once_and_not_by_who_never_came() {
    let scene = scene(&[]);
    let gate = &scene.gate;
    gate.open(A, 0, 0, 3);
    let spent = || gate.take(NOW, &mut 0, None, None).unwrap().is_spent;
    assert!(!spent() && !spent());
    assert!(!gate.decline(A));
    assert_eq!(gate.figures(A).delivered, 1);
    assert!(!spent() && spent() && !spent());
    gate.answered(LATER, A);
    let figures = Figures { executing: 4, delivered: 4, answered: LATER };
    assert_eq!(gate.figures(A), figures);
}

#[test]
fn dead_tickets_are_swept_and_the_others_keep_their_order() {
    let mut scene = scene(&[1]);
    scene.take(None).unwrap();
    scene.wait([1, 2, 3, 4], None);
    scene.wait([5, 6], Some(0));
    scene.gate.put_back(ticket(7));
    let dead = [1, 3, 5, 7];
    for _ in dead {
        scene.gate.leave();
    }
    assert!(scene.gate.sweep(|ticket| dead.contains(&ticket.serial)));
    scene.wait([8], None);
    assert!(scene.gate.sweep(|ticket| ticket.serial == 9));
    assert!(scene.gate.common.pop().is_some_and(|ticket| ticket.serial == 2));
    scene.gate.leave();
    let order: Vec<_> = (0..4).flat_map(|_| scene.release(A)).map(|(serial, _)| serial).collect();
    assert_eq!(order, [6, 4, 8]);
    assert_eq!(scene.gate.waiting(), 0);
}

#[test]
fn a_crowd_of_threads_loses_nothing() {
    extern crate std;
    let gate = Gate::default();
    gate.stand(Standing::Running, 1_000, true);
    gate.open(A, 0, 2, 0);
    gate.open(B, 1, 1, 0);
    let served = AtomicU32::new(0);
    let serve = |turn: &mut u16, first: Taken| {
        // Whoever holds a slot serves those that wait, too, as a listener thread would be told.
        let mut held = Vec::from([first.place]);
        while let Some(place) = held.pop() {
            served.fetch_add(1, SeqCst);
            assert!(!gate.release(place));
            while let Pumped::Granted(grant) = gate.pump(NOW, turn) {
                gate.leave();
                held.push(grant.taken.place);
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (gate, serve) = (&gate, &serve);
            scope.spawn(move || {
                let mut turn = thread;
                for serial in 0..5_000 {
                    let pin = (serial % 3 == 0).then_some(thread % 3);
                    if let Ok(taken) = gate.take(NOW, &mut turn, pin, None) {
                        serve(&mut turn, taken);
                        continue;
                    }
                    assert!(gate.wait(ticket(serial), pin));
                    while let Pumped::Granted(grant) = gate.pump(NOW, &mut turn) {
                        gate.leave();
                        serve(&mut turn, grant.taken);
                    }
                }
            });
        }
    });
    assert_eq!(served.load(SeqCst), 20_000);
    assert_eq!(gate.waiting(), 0);
    assert_eq!([A, B].map(|place| gate.figures(place).executing), [0, 0]);
}
