//! The pool, one situation at a time.

use super::*;
use crate::machine::event::{Event, Kind};
use crate::plan::garden::{Start, Trigger};
use crate::plan::{Bind, Command, Garden};
use alloc::boxed::Box;
use core::time::Duration;
use seam::{Adopted, Exit, Failure, Figures, Legacy, Memory, Phase, Report, Verb, WorkerId};

const SECOND: Duration = Duration::from_secs(1);

/// A pool whose starts are always granted and whose orders are obeyed at once, unless the test
/// says otherwise.
struct Bench {
    pool: Pool,
    now: Instant,
    orders: Vec<Order>,
}

fn garden(workers: u16, start: Start) -> Garden {
    let mut garden = Garden::of(Command {
        argv: Vec::new(),
        bind: Bind::Port,
        working_directory: None,
        environment: Vec::new(),
        ready: None,
    });
    (garden.workers, garden.start) = (workers, start);
    garden.recycle.every = None;
    garden.recycle.jitter = 0;
    garden.health.ping_interval = None;
    garden
}

fn id(slot: u16, generation: u32) -> WorkerId {
    WorkerId { slot, generation }
}

impl Bench {
    fn new(garden: Garden) -> Self {
        let mut bench =
            Self { pool: Pool::new(Instant(0), 1), now: Instant(0), orders: Vec::new() };
        bench.hear(Input::Planned { garden: Box::new(garden), is_changed: false });
        bench
    }

    /// What the fact makes the pool order, starts granted to it included.
    fn hear(&mut self, input: Input) -> Vec<Order> {
        let mut out = Vec::new();
        self.pool.step(self.now, input, &mut out);
        if self.pool.wants_start(self.now) {
            self.pool.step(self.now, Input::MayStart, &mut out);
        }
        self.orders.extend(out.iter().cloned());
        out
    }

    fn later(&mut self, wait: Duration) -> Vec<Order> {
        self.now = self.now + wait;
        self.hear(Input::Woken)
    }

    /// The worker starts, and serves.
    fn serve(&mut self, worker: WorkerId) -> Vec<Order> {
        self.hear(Input::Spawned { worker });
        self.hear(Input::Ready { worker });
        self.hear(Input::Serving { worker })
    }

    fn measure(&mut self, waiting: u32, workers: &[(WorkerId, Figures)]) -> Vec<Order> {
        self.hear(Input::Measured { waiting, workers: workers.to_vec() })
    }

    fn exit(&mut self, worker: WorkerId, code: i32) -> Vec<Order> {
        self.hear(Input::Exited { worker, exit: Exit::Code(code) })
    }

    fn phases(&self) -> Vec<(WorkerId, Phase)> {
        self.pool.view(self.now).workers.iter().map(|it| (it.worker, it.phase)).collect()
    }

    fn standing(&self) -> Standing {
        self.pool.view(self.now).standing
    }

    fn told(&self, kind: Kind) -> usize {
        let is_it =
            |order: &&Order| matches!(order, Order::Tell(Event { kind: it, .. }) if *it == kind);
        self.orders.iter().filter(is_it).count()
    }
}

fn spawned(orders: &[Order]) -> Option<WorkerId> {
    orders.iter().find_map(|order| match order {
        Order::Spawn { worker } => Some(*worker),
        _ => None,
    })
}

/// A garden of so many that all serve.
fn serving(garden: Garden) -> Bench {
    let workers = garden.workers;
    let mut bench = Bench::new(garden);
    for slot in 0..workers {
        bench.serve(id(slot, u32::from(slot) + 1));
    }
    bench.orders.clear();
    bench
}

#[test]
fn nobody_starts_before_a_request_waits_and_then_one_at_a_time() {
    let mut bench = Bench::new(garden(2, Start::OnDemand));
    assert!(bench.phases().is_empty());
    assert_eq!(spawned(&bench.hear(Input::Wanted)), Some(id(0, 1)));
    assert!(bench.pool.is_starting());
    assert_eq!(spawned(&bench.hear(Input::Wanted)), None, "one is on its way");
    bench.serve(id(0, 1));
    assert_eq!(spawned(&bench.hear(Input::Wanted)), Some(id(1, 2)));
    let stand = bench.orders.iter().rev().find(|order| matches!(order, Order::Stand { .. }));
    let full = Order::Stand { standing: Standing::Running, may_grow: false };
    assert_eq!(stand, Some(&full));
    bench.serve(id(1, 2));
    assert_eq!(spawned(&bench.hear(Input::Wanted)), None, "that is all there may be");
}

#[test]
fn requests_that_go_on_waiting_are_heard_even_if_the_word_for_them_was_lost() {
    let mut bench = Bench::new(garden(2, Start::OnDemand));
    assert_eq!(spawned(&bench.measure(1, &[])), Some(id(0, 1)));
    bench.serve(id(0, 1));
    assert_eq!(spawned(&bench.measure(1, &[])), None, "they may be new ones");
    bench.now = bench.now + SECOND;
    assert_eq!(spawned(&bench.measure(1, &[])), Some(id(1, 2)));
}

#[test]
fn a_recycle_overlaps_and_a_garden_rolls() {
    let mut bench = serving(garden(2, Start::Always));
    assert_eq!(spawned(&bench.hear(Input::Asked(Verb::Recycle))), Some(id(0, 3)));
    bench.hear(Input::Asked(Verb::Recycle));
    assert_eq!(bench.told(Kind::Recycling(Trigger::Demand)), 2, "two recycles are one");
    bench.hear(Input::Spawned { worker: id(0, 3) });
    assert_eq!(bench.hear(Input::Ready { worker: id(0, 3) }).len(), 1, "admitted, nobody retired");
    let orders = bench.hear(Input::Serving { worker: id(0, 3) });
    assert!(orders.contains(&Order::Retire { worker: id(0, 1) }));
    assert_eq!(spawned(&orders), Some(id(1, 4)), "the next one in turn");
    assert_eq!(
        bench.hear(Input::Emptied { worker: id(0, 1) }),
        [Order::Terminate { worker: id(0, 1) }]
    );
    bench.exit(id(0, 1), 0);
    bench.serve(id(1, 4));
    bench.hear(Input::Emptied { worker: id(1, 2) });
    bench.exit(id(1, 2), 143);
    assert_eq!(bench.phases(), [(id(0, 3), Phase::Serving), (id(1, 4), Phase::Serving)]);
    let view = bench.pool.view(bench.now);
    assert_eq!((view.recycles_total, view.failures_total, view.starts_total), (2, 0, 4));
}

#[test]
fn the_old_worker_stays_when_its_successor_fails_and_asking_again_tries_again() {
    let mut bench = serving(garden(1, Start::Always));
    bench.hear(Input::Asked(Verb::Recycle));
    bench.hear(Input::SpawnFailed { worker: id(0, 2) });
    assert_eq!(bench.told(Kind::RecycleFailed(Trigger::Demand)), 1);
    assert_eq!(spawned(&bench.later(SECOND * 3600)), None, "what was asked for once");
    assert_eq!(bench.phases(), [(id(0, 1), Phase::Serving)]);
    assert_eq!(spawned(&bench.hear(Input::Asked(Verb::Recycle))), Some(id(0, 3)));
}

#[test]
fn a_limit_that_still_holds_is_tried_again_too_seldom_to_trip_the_pool() {
    let mut settings = garden(1, Start::Always);
    settings.recycle.private_memory = 100;
    settings.rapid_fail.failures = 2;
    let mut bench = serving(settings);
    let memory = Memory { private: 100, ..Memory::default() };
    let mut next = spawned(&bench.hear(Input::Weighed { worker: id(0, 1), memory }));
    for _ in 0..20 {
        let worker = next.expect("tried again");
        assert_eq!(spawned(&bench.hear(Input::SpawnFailed { worker })), None);
        // The back-off of starts ends before the hold of recycles does.
        next = (0..2).find_map(|_| {
            bench.now = bench.pool.deadline();
            spawned(&bench.hear(Input::Woken))
        });
    }
    assert_eq!(bench.standing(), Standing::Running);
    assert_eq!(bench.told(Kind::RecycleFailed(Trigger::PrivateMemory)), 20);
}

#[test]
fn without_overlap_two_processes_of_a_slot_never_meet() {
    let mut settings = garden(2, Start::Always);
    settings.recycle.overlap = false;
    let mut bench = serving(settings);
    let orders = bench.hear(Input::Asked(Verb::Recycle));
    assert!(orders.contains(&Order::Retire { worker: id(0, 1) }));
    assert!(!orders.contains(&Order::Retire { worker: id(1, 2) }), "one at a time");
    bench.hear(Input::Emptied { worker: id(0, 1) });
    assert_eq!(spawned(&bench.exit(id(0, 1), 0)), Some(id(0, 3)));
    let orders = bench.serve(id(0, 3));
    assert!(orders.contains(&Order::Retire { worker: id(1, 2) }));
}

#[test]
fn a_retired_worker_has_its_time_and_is_then_ended() {
    let mut bench = serving(garden(1, Start::Always));
    bench.hear(Input::Asked(Verb::Stop));
    assert_eq!(bench.phases(), [(id(0, 1), Phase::Draining)]);
    let worker = id(0, 1);
    assert_eq!(bench.later(SECOND * 89), []);
    assert_eq!(bench.later(SECOND), [Order::Terminate { worker }]);
    let orders = bench.later(SECOND * 5);
    assert!(orders.contains(&Order::Kill { worker }), "{orders:?}");
    assert!(orders.contains(&Order::Dismiss { worker }), "{orders:?}");
    assert_eq!(bench.told(Kind::WorkerFailed(Failure::ShutdownTimeout)), 1);
    assert_eq!(bench.later(SECOND * 5), [Order::Kill { worker }], "and again");
    assert_eq!(bench.exit(worker, 0), []);
    assert!(bench.phases().is_empty());
}

#[test]
fn failures_trip_the_pool_and_the_operator_starts_it_again() {
    let mut settings = garden(1, Start::Always);
    settings.rapid_fail.failures = 3;
    let mut bench = Bench::new(settings);
    for generation in 1..=3 {
        assert_eq!(bench.standing(), Standing::Running);
        bench.later(SECOND);
        bench.hear(Input::SpawnFailed { worker: id(0, generation) });
    }
    assert_eq!(bench.standing(), Standing::Tripped);
    assert!(bench.orders.contains(&Order::Trip));
    assert_eq!(spawned(&bench.later(SECOND * 3600)), None);
    assert_eq!(spawned(&bench.hear(Input::Asked(Verb::Start))), Some(id(0, 4)));
    assert_eq!(bench.pool.view(bench.now).failures, 0);
}

#[test]
fn a_crash_is_replaced_at_once_and_shortens_the_queue_until_somebody_serves() {
    let mut bench = serving(garden(1, Start::OnDemand));
    bench.hear(Input::Wanted);
    bench.serve(id(0, 1));
    bench.later(SECOND);
    let orders = bench.exit(id(0, 1), 1);
    assert!(orders.contains(&Order::Dismiss { worker: id(0, 1) }));
    assert_eq!(spawned(&orders), Some(id(0, 2)), "though nobody waits");
    assert_eq!(bench.standing(), Standing::Replacing);
    bench.serve(id(0, 2));
    assert_eq!(bench.standing(), Standing::Running);
    assert_eq!(bench.told(Kind::WorkerFailed(Failure::Crash(Exit::Code(1)))), 1);
}

#[test]
fn who_says_that_it_stops_does_not_fail() {
    let mut bench = serving(garden(1, Start::OnDemand));
    bench.hear(Input::Wanted);
    bench.serve(id(0, 1));
    let orders = bench.hear(Input::Reported { worker: id(0, 1), report: Report::Stopping });
    assert_eq!(orders[0], Order::Retire { worker: id(0, 1) });
    assert_eq!(spawned(&bench.exit(id(0, 1), 0)), None, "nobody needs another one");
    assert_eq!(bench.pool.view(bench.now).failures_total, 0);
    assert_eq!(spawned(&bench.hear(Input::Wanted)), Some(id(0, 2)));
}

#[test]
fn silence_is_asked_about_and_then_punished() {
    let mut settings = garden(1, Start::Always);
    settings.health.ping_interval = Some(SECOND * 30);
    settings.health.ping_timeout = SECOND * 10;
    let mut bench = serving(settings);
    let (worker, ping) = (id(0, 1), [Order::Ping { worker: id(0, 1) }]);
    bench.now = bench.now + SECOND * 20;
    let busy = Figures { delivered: 1, answered: bench.now, executing: 0 };
    bench.measure(0, &[(worker, busy)]);
    assert_eq!(bench.later(SECOND * 29), [], "requests are a sign of life");
    assert_eq!(bench.later(SECOND), ping);
    bench.hear(Input::Pinged { worker });
    assert_eq!(bench.later(SECOND * 30), ping);
    assert_eq!(bench.later(SECOND * 9), []);
    let orders = bench.later(SECOND);
    assert!(orders.contains(&Order::Kill { worker }), "{orders:?}");
    assert_eq!(spawned(&orders), Some(id(0, 2)));
    assert_eq!(bench.told(Kind::WorkerFailed(Failure::PingTimeout)), 1);
}

#[test]
fn a_deadlock_needs_requests_that_wait_and_nobody_who_answers() {
    let mut settings = garden(1, Start::Always);
    settings.lifecycle.orphan = true;
    let mut bench = serving(settings);
    let mut figures = Figures { executing: 1, delivered: 1, answered: Instant(0) };
    for second in 0..=300u64 {
        bench.now = Instant(0) + SECOND * u32::try_from(second).unwrap();
        if second == 100 {
            figures.answered = bench.now;
        }
        let orders = bench.measure(1, &[(id(0, 1), figures)]);
        let is_due = second == 280;
        let orphan = Order::Orphan { worker: id(0, 1), why: Failure::Deadlock };
        assert_eq!(orders.contains(&orphan), is_due, "after {second} s: {orders:?}");
        if is_due {
            assert_eq!(spawned(&orders), Some(id(0, 2)));
            break;
        }
    }
    bench.serve(id(0, 2));
    assert_eq!(bench.pool.alive(), 1, "an orphan does not count");
    assert!(
        bench
            .hear(Input::OrphanEnded { worker: id(0, 1) })
            .contains(&Order::Kill { worker: id(0, 1) })
    );
}

#[test]
fn idle_workers_end_down_to_what_is_kept() {
    let mut settings = garden(3, Start::Always);
    let mut bench = serving(settings.clone());
    (settings.start, settings.workers_min) = (Start::OnDemand, 1);
    bench.hear(Input::Planned { garden: Box::new(settings), is_changed: false });
    let mut figures = [1, 2, 3].map(|n| (id(n - 1, n.into()), Figures::default()));
    figures[1].1.executing = 1;
    bench.now = bench.now + SECOND * 1200;
    let orders = bench.measure(0, &figures);
    let retired: Vec<_> =
        orders.iter().filter(|order| matches!(order, Order::Retire { .. })).collect();
    let ends = [2, 0].map(|slot| Order::Retire { worker: id(slot, u32::from(slot) + 1) });
    assert_eq!(retired, ends.iter().collect::<Vec<_>>());
    assert_eq!(bench.told(Kind::IdledOut), 2);
    assert_eq!(spawned(&orders), None);
}

#[test]
fn a_new_listener_is_told_everything_again() {
    let mut bench = serving(garden(2, Start::Always));
    bench.hear(Input::Asked(Verb::Pause { limit: 7 }));
    let orders = bench.hear(Input::ListenerCame);
    let (standing, may_grow) = (Standing::Paused { limit: 7 }, false);
    assert_eq!(
        orders,
        [
            Order::Stand { standing, may_grow },
            Order::Admit { worker: id(0, 1), requests_max: 0, delivered: 0 },
            Order::Admit { worker: id(1, 2), requests_max: 0, delivered: 0 },
        ]
    );
}

#[test]
fn what_an_earlier_supervisor_left_goes_on() {
    let mut pool = Pool::new(Instant(0), 1);
    let mut out = Vec::new();
    let garden = Box::new(garden(3, Start::OnDemand));
    pool.step(Instant(0), Input::Planned { garden, is_changed: false }, &mut out);
    let phases = [Phase::Serving, Phase::Starting, Phase::Draining, Phase::Orphaned];
    let adopted = |(slot, phase)| Adopted {
        worker: id(slot, 10 + u32::from(slot)),
        phase,
        since: Instant(0),
        delivered: 0,
        recycling: None,
    };
    let workers = (0..).zip(phases).map(adopted).collect();
    let legacy = Legacy { standing: Standing::Running, generation: 0, workers };
    out.clear();
    pool.step(Instant(0), Input::Adopted(legacy), &mut out);
    assert_eq!(out[0], Order::Kill { worker: id(1, 11) }, "nobody watches its start any more");
    out.clear();
    pool.step(Instant(0), Input::MayStart, &mut out);
    assert_eq!(spawned(&out), Some(id(1, 14)), "generations go on");
    assert_eq!(pool.alive(), 4);
}

#[test]
fn a_pool_is_what_it_was_under_an_earlier_supervisor() {
    let adopt = |standing, autostart, workers| {
        let (mut pool, mut out) = (Pool::new(Instant(0), 1), Vec::new());
        let mut garden = Box::new(garden(1, Start::Always));
        garden.autostart = autostart;
        pool.step(Instant(0), Input::Planned { garden, is_changed: false }, &mut out);
        let legacy = Legacy { standing, generation: 7, workers };
        out.clear();
        pool.step(Instant(0), Input::Adopted(legacy), &mut out);
        (pool, out)
    };
    for standing in [Standing::Stopped, Standing::Tripped] {
        let (mut pool, out) = adopt(standing, true, Vec::new());
        assert_eq!(out, [Order::Stand { standing, may_grow: false }]);
        assert!(!pool.wants_start(Instant(0)));
        pool.step(Instant(0), Input::Asked(Verb::Start), &mut Vec::new());
        let mut out = Vec::new();
        pool.step(Instant(0), Input::MayStart, &mut out);
        assert_eq!(spawned(&out), Some(id(0, 8)), "nobody has a generation of before");
        assert_eq!(pool.view(Instant(0)).generation, 8);
    }
    let paused = Standing::Paused { limit: 3 };
    assert_eq!(adopt(paused, true, Vec::new()).0.view(Instant(0)).standing, paused);
    // Started by the operator, whatever the configuration says of the beginning.
    let recycling = Some(Trigger::Demand);
    let (worker, phase) = (id(0, 5), Phase::Serving);
    let adopted = Adopted { worker, phase, since: Instant(0), delivered: 9, recycling };
    let (mut pool, out) = adopt(Standing::Running, false, vec![adopted]);
    assert!(!out.contains(&Order::Retire { worker }), "{out:?}");
    let mut out = Vec::new();
    pool.step(Instant(0), Input::MayStart, &mut out);
    assert_eq!(spawned(&out), Some(id(0, 8)), "what was begun goes on: {out:?}");
    // A listener that is new to all goes on counting, too.
    out.clear();
    pool.step(Instant(0), Input::ListenerCame, &mut out);
    assert!(out.contains(&Order::Admit { worker, requests_max: 0, delivered: 9 }), "{out:?}");
}

#[test]
fn a_changed_plan_replaces_what_serves_and_restarts_what_does_not_yet() {
    let mut bench = Bench::new(garden(2, Start::Always));
    bench.serve(id(0, 1));
    bench.hear(Input::Spawned { worker: id(1, 2) });
    let garden = Box::new(garden(2, Start::Always));
    let orders = bench.hear(Input::Planned { garden, is_changed: true });
    assert!(orders.contains(&Order::Kill { worker: id(1, 2) }));
    assert_eq!(spawned(&orders), Some(id(1, 3)));
    assert_eq!(spawned(&bench.serve(id(1, 3))), Some(id(0, 4)));
    bench.exit(id(1, 2), 0);
    assert_eq!(bench.pool.view(bench.now).failures_total, 0);
}

#[test]
fn the_end_is_over_when_nobody_is_left() {
    let mut bench = serving(garden(1, Start::Always));
    let deadline = bench.now + SECOND * 2;
    assert_eq!(bench.hear(Input::Ending { deadline }), [Order::Retire { worker: id(0, 1) }]);
    let orders = bench.later(SECOND * 2);
    assert!(orders.contains(&Order::Kill { worker: id(0, 1) }), "{orders:?}");
    assert_eq!(bench.told(Kind::WorkerFailed(Failure::ShutdownTimeout)), 0, "not its failure");
    assert!(bench.exit(id(0, 1), 0).contains(&Order::Over));
}

#[test]
fn jitter_makes_the_workers_of_a_garden_differ_within_bounds() {
    let mut settings = garden(8, Start::Always);
    (settings.recycle.requests, settings.recycle.jitter) = (1000, 20);
    let mut bench = Bench::new(settings);
    for slot in 0..8 {
        bench.serve(id(slot, u32::from(slot) + 1));
    }
    let mut limits: Vec<u64> = bench
        .orders
        .iter()
        .filter_map(|order| match order {
            Order::Admit { requests_max, .. } => Some(*requests_max),
            _ => None,
        })
        .collect();
    assert_eq!(limits.len(), 8);
    assert!(limits.iter().all(|limit| (800..=1000).contains(limit)), "{limits:?}");
    limits.sort_unstable();
    limits.dedup();
    assert!(limits.len() > 4, "{limits:?}");
}
