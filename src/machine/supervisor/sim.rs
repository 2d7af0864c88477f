//! The supervisor's machine in a world of processes that fail to start, crash, hang and ignore
//! signals, checked against an oracle that knows only the world. What each pool does with its own
//! workers has a world of its own; here it is about the whole: listener, shares, and the end.

use super::starts::STARTS_MAX;
use super::*;
use crate::machine::event::Kind;
use crate::machine::pool::seam::{Exit, Figures, WorkerId};
use crate::plan::garden::Start;
use crate::plan::{Bind, Command, Garden};
use alloc::boxed::Box;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    ListenerReady(u32),
    ListenerExited(u32),
    Ready(PoolId, WorkerId),
    Serving(PoolId, WorkerId, u32),
    Emptied(PoolId, WorkerId, u32),
    Exited(PoolId, WorkerId),
    Wanted(PoolId),
    Reload,
    Shutdown,
}

/// A process that exists.
#[derive(Debug, Default)]
struct Alive {
    is_ready: bool,
    is_stubborn: bool,
    is_unkillable: bool,
    was_told: bool,
}

struct World {
    prng: Prng,
    now: Instant,
    machine: Supervisor,
    events: Vec<(Instant, Event)>,
    listener: Option<Alive>,
    /// Counts the listeners, and with them what each was told.
    incarnation: u32,
    workers: BTreeMap<(PoolId, WorkerId), Alive>,
    plan: BTreeMap<PoolId, Garden>,
    known: BTreeMap<PoolId, u32>,
    workers_max: u32,
    spawns: Vec<Instant>,
    exhausted: u32,
    asked: Vec<Instant>,
    finished: Option<Outcome>,
    is_calm: bool,
}

const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

fn garden(prng: &mut Prng) -> Garden {
    let mut garden = Garden::of(Command {
        argv: Vec::new(),
        bind: Bind::Port,
        working_directory: None,
        environment: Vec::new(),
        ready: None,
    });
    garden.workers = u16::try_from(1 + prng.below(3)).unwrap();
    garden.start = if prng.one_in(2) { Start::Always } else { Start::OnDemand };
    garden.lifecycle.startup_limit = SECOND * 5;
    garden.lifecycle.shutdown_limit = SECOND * 8;
    garden.health.ping_interval = None;
    garden
}

impl World {
    fn new(seed: u64, is_calm: bool) -> Self {
        let mut prng = Prng::new(seed);
        let workers_max = if is_calm { 100 } else { u32::try_from(1 + prng.below(12)).unwrap() };
        Self {
            prng,
            now: Instant(0),
            machine: Supervisor::new(seed),
            events: Vec::new(),
            listener: None,
            incarnation: 0,
            workers: BTreeMap::new(),
            plan: BTreeMap::new(),
            known: BTreeMap::new(),
            workers_max,
            spawns: Vec::new(),
            exhausted: 0,
            asked: Vec::new(),
            finished: None,
            is_calm,
        }
    }

    fn ms(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.prng.below(below))
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.events.push((self.now + after, event));
    }

    /// Pools 0..6 come, go and change.
    fn reload(&mut self) {
        let mut pools = Vec::new();
        for id in (0..6).map(PoolId) {
            let choice = self.prng.below(4);
            if choice == 0 {
                self.plan.remove(&id);
                continue;
            }
            if choice == 1 || !self.plan.contains_key(&id) {
                let garden = garden(&mut self.prng);
                self.plan.insert(id, garden);
            }
            let garden = Box::new(self.plan[&id].clone());
            self.known.entry(id).or_default();
            let is_changed = choice == 1;
            pools.push(PoolPlan { id, garden, is_changed, legacy: None });
            let after = self.ms(4_000);
            self.schedule(after, Event::Wanted(id));
        }
        let (workers_max, shutdown_limit) = (self.workers_max, SHUTDOWN_LIMIT);
        self.step(Input::Planned { pools, workers_max, shutdown_limit });
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            assert!(self.finished.is_none(), "stepped after the end");
            let mut orders = Vec::new();
            self.machine.step(self.now, input, &mut orders);
            for order in orders {
                inputs.extend(self.obey(order));
            }
        }
    }

    fn obey(&mut self, order: Order) -> Option<Input> {
        assert!(self.finished.is_none(), "{order:?} after Finish");
        match order {
            Order::SpawnListener => return Some(self.spawn_listener()),
            Order::Drain => self.end_listener(40_000),
            Order::Stop => {
                self.listener.as_mut().unwrap().was_told = true;
                self.end_listener(4_000);
            }
            Order::KillListener { why } => {
                let listener = self.listener.as_mut().expect("killed nobody");
                let is_rude = listener.is_ready && why == KillReason::ShutdownLimit;
                assert!(!is_rude || listener.was_told, "killed without a word");
                listener.was_told = true;
                if !listener.is_unkillable {
                    let (after, event) = (self.ms(50), Event::ListenerExited(self.incarnation));
                    self.schedule(after, event);
                }
            }
            Order::Pool { pool, order } => return self.obey_pool(pool, &order),
            Order::Forget { pool } => {
                let left = self.workers.range((pool, FIRST)..).take_while(|it| it.0.0 == pool);
                assert_eq!(left.count(), 0, "forgot a living worker");
                let is_wanted = self.plan.contains_key(&pool);
                assert!(self.machine.is_ending() || !is_wanted, "forgot a pool");
                self.known.remove(&pool).expect("forgot it twice");
            }
            Order::Finish { outcome } => {
                let left = self.listener.is_some() || !self.workers.is_empty();
                assert_eq!(left, outcome == Outcome::LeftBehind, "{outcome:?}");
                self.finished = Some(outcome);
            }
        }
        None
    }

    fn obey_pool(&mut self, id: PoolId, order: &pool::Order) -> Option<Input> {
        assert!(self.known.contains_key(&id), "{order:?} of a pool that is forgotten");
        let later = match *order {
            pool::Order::Spawn { worker } => return Some(self.spawn(id, worker)),
            pool::Order::Admit { worker, .. } => {
                assert!(self.workers[&(id, worker)].is_ready, "admitted before it was ready");
                (100, Event::Serving(id, worker, self.incarnation))
            }
            pool::Order::Retire { worker } => {
                assert!(self.listener.is_some(), "nobody would say that it is empty");
                (5_000, Event::Emptied(id, worker, self.incarnation))
            }
            pool::Order::Terminate { worker } => {
                let alive = self.workers.get_mut(&(id, worker)).expect("asked nobody to end");
                alive.was_told = true;
                if alive.is_stubborn || alive.is_unkillable {
                    return None;
                }
                (3_000, Event::Exited(id, worker))
            }
            pool::Order::Kill { worker } => {
                let alive = self.workers.get_mut(&(id, worker)).expect("killed nobody");
                alive.was_told = true;
                if alive.is_unkillable {
                    return None;
                }
                (50, Event::Exited(id, worker))
            }
            pool::Order::Over => panic!("Over is told as Forget"),
            pool::Order::Tell(event) => {
                self.exhausted += u32::from(event.kind == Kind::WorkersExhausted);
                return None;
            }
            _ => return None,
        };
        let after = self.ms(later.0);
        self.schedule(after, later.1);
        None
    }

    fn spawn_listener(&mut self) -> Input {
        assert!(self.listener.is_none(), "two listeners");
        self.spawns.push(self.now);
        let recent = self.spawns.iter().filter(|t| self.now.since(**t) < SECOND * 10);
        assert!(recent.count() <= 10, "the listener is spawned in a storm");
        let is_spared = self.is_calm || self.spawns.len() == 1;
        if !is_spared && self.prng.one_in(6) {
            return Input::ListenerSpawnFailed;
        }
        self.incarnation += 1;
        let ready = self.ms(if is_spared { 2_000 } else { 40_000 });
        self.schedule(ready, Event::ListenerReady(self.incarnation));
        if !self.is_calm && self.prng.one_in(2) {
            let life = self.ms(30_000) + if is_spared { ready } else { Duration::ZERO };
            self.schedule(life, Event::ListenerExited(self.incarnation));
        }
        self.listener = Some(self.process(is_spared));
        Input::ListenerSpawned
    }

    fn process(&mut self, is_spared: bool) -> Alive {
        Alive {
            is_stubborn: !is_spared && self.prng.one_in(3),
            is_unkillable: !is_spared && self.prng.one_in(60),
            ..Alive::default()
        }
    }

    fn spawn(&mut self, id: PoolId, worker: WorkerId) -> Input {
        let starting = self.workers.values().filter(|it| !it.is_ready && !it.was_told).count();
        assert!(starting < STARTS_MAX, "too many starts at once");
        assert!(self.workers.len() < self.workers_max as usize, "too many workers");
        let about = |input| Input::Pool { pool: id, input };
        if !self.is_calm && self.prng.one_in(6) {
            return about(pool::Input::SpawnFailed { worker });
        }
        let (ready, life) = (self.ms(if self.is_calm { 2_000 } else { 8_000 }), self.ms(60_000));
        self.schedule(ready, Event::Ready(id, worker));
        if !self.is_calm && self.prng.one_in(3) {
            self.schedule(life, Event::Exited(id, worker));
        }
        let alive = self.process(self.is_calm);
        self.workers.insert((id, worker), alive);
        about(pool::Input::Spawned { worker })
    }

    fn end_listener(&mut self, within_ms: u64) {
        let Some(alive) = &self.listener else { return };
        if !alive.is_stubborn && !alive.is_unkillable {
            let (after, event) = (self.ms(within_ms), Event::ListenerExited(self.incarnation));
            self.schedule(after, event);
        }
    }

    fn happen(&mut self, event: Event) {
        let about = |pool, input| Input::Pool { pool, input };
        match event {
            Event::ListenerReady(incarnation) if incarnation == self.incarnation => {
                let Some(alive) = &mut self.listener else { return };
                alive.is_ready = true;
                self.step(Input::ListenerReady);
            }
            Event::ListenerExited(incarnation)
                if incarnation == self.incarnation
                    && self.listener.take_if(|alive| !alive.is_unkillable).is_some() =>
            {
                self.step(Input::ListenerExited);
            }
            Event::Ready(id, worker) => {
                let Some(alive) = self.workers.get_mut(&(id, worker)) else { return };
                alive.is_ready = true;
                self.step(about(id, pool::Input::Ready { worker }));
            }
            Event::Serving(id, worker, incarnation) if incarnation == self.incarnation => {
                self.step(about(id, pool::Input::Serving { worker }));
            }
            Event::Emptied(id, worker, incarnation) if incarnation == self.incarnation => {
                self.step(about(id, pool::Input::Emptied { worker }));
            }
            Event::Exited(id, worker) => {
                let alive = self.workers.get(&(id, worker));
                if alive.is_some_and(|alive| !alive.is_unkillable) {
                    self.workers.remove(&(id, worker));
                    let exit = Exit::Signal(9);
                    self.step(about(id, pool::Input::Exited { worker, exit }));
                }
            }
            Event::Wanted(id) => self.step(about(id, pool::Input::Wanted)),
            Event::Reload if self.asked.is_empty() => self.reload(),
            Event::Shutdown => {
                self.asked.push(self.now);
                self.step(Input::ShutdownAsked);
            }
            _ => {}
        }
    }

    /// To the next event or deadline.
    fn advance(&mut self) {
        let place = (0..self.events.len()).min_by_key(|place| self.events[*place].0);
        let event_at = place.map_or(Instant::NEVER, |place| self.events[place].0);
        let deadline = self.machine.deadline();
        if deadline < event_at {
            self.now = self.now.max(deadline);
            self.step(Input::Woken);
            assert!(self.finished.is_some() || self.machine.deadline() > self.now, "spins");
        } else if let Some(place) = place {
            let (at, event) = self.events.swap_remove(place);
            self.now = self.now.max(at);
            self.happen(event);
        }
        self.judge();
    }

    fn judge(&self) {
        if self.finished.is_some() {
            return;
        }
        assert_eq!(self.machine.alive() as usize, self.workers.len(), "lost count");
        if !self.machine.is_ending() && self.listener.is_none() {
            let wait = self.machine.deadline().0.saturating_sub(self.now.0);
            assert!(wait <= 10_000_000_000, "nobody starts the listener");
        }
        let bound = match self.asked.len() {
            0 => return,
            1 => SHUTDOWN_LIMIT * 2 + STOP_LIMIT + KILL_LIMIT * 2,
            _ => KILL_LIMIT,
        };
        let asked = self.asked[self.asked.len().min(2) - 1];
        assert!(self.now.since(asked) <= bound, "the shutdown takes too long");
    }
}

const FIRST: WorkerId = WorkerId { slot: 0, generation: 0 };

#[test]
fn a_world_of_failing_processes_is_kept_and_ended() {
    let mut exhausted = 0;
    for seed in 0..700 {
        let mut world = World::new(seed, false);
        world.reload();
        for _ in 0..world.prng.below(6) {
            let after = world.ms(60_000);
            world.schedule(after, Event::Reload);
        }
        let first = world.ms(80_000);
        world.schedule(first, Event::Shutdown);
        if world.prng.one_in(2) {
            let again = first + world.ms(30_000);
            world.schedule(again, Event::Shutdown);
        }
        for _ in 0..100_000 {
            if world.finished.is_some() {
                break;
            }
            world.advance();
        }
        assert!(world.finished.is_some(), "SEED={seed}: never ended");
        exhausted += world.exhausted;
    }
    assert!(exhausted > 50, "the bound of all workers was hardly ever met");
}

#[test]
fn in_a_calm_world_every_pool_has_what_it_keeps() {
    for seed in 0..300 {
        let mut world = World::new(seed, true);
        world.reload();
        for _ in 0..3 {
            let after = world.ms(20_000);
            world.schedule(after, Event::Reload);
        }
        while world.now < Instant(0) + SECOND * 120 && !world.events.is_empty() {
            world.advance();
        }
        assert!(world.machine.is_ready(), "SEED={seed}");
        for (id, garden) in &world.plan {
            let there = world.workers.keys().filter(|it| it.0 == *id).count();
            let kept = if garden.start == Start::Always { usize::from(garden.workers) } else { 0 };
            assert!(there >= kept, "SEED={seed}: {id:?} has {there} of {kept}");
        }
        let unwanted = world.workers.keys().filter(|it| !world.plan.contains_key(&it.0));
        assert_eq!(unwanted.count(), 0, "SEED={seed}");
    }
}

fn empty() -> Input {
    let (pools, workers_max) = (Vec::new(), 10);
    Input::Planned { pools, workers_max, shutdown_limit: SHUTDOWN_LIMIT }
}

#[test]
fn a_listener_that_never_serves_ends_the_supervisor() {
    let mut world = World::new(1, true);
    world.step(empty());
    world.happen(Event::ListenerExited(1));
    assert_eq!(world.finished, Some(Outcome::NeverServed));
}

#[test]
fn the_listener_starts_again_at_once_and_then_backs_off() {
    let mut world = World::new(1, true);
    world.step(empty());
    for wait_ms in [0u64, 100, 200] {
        world.happen(Event::ListenerReady(world.incarnation));
        let died = world.now;
        world.happen(Event::ListenerExited(world.incarnation));
        while world.listener.is_none() {
            world.advance();
        }
        assert_eq!(world.now.since(died), Duration::from_millis(wait_ms));
    }
}

/// `count` pools that keep one worker each.
fn keepers(count: u32) -> Vec<PoolPlan> {
    let plan = |id| {
        let mut garden = garden(&mut Prng::new(1));
        (garden.workers, garden.start) = (1, Start::Always);
        PoolPlan { id: PoolId(id), garden: Box::new(garden), is_changed: false, legacy: None }
    };
    (0..count).map(plan).collect()
}

fn spawns(orders: &[Order]) -> Vec<u32> {
    let spawn = |order: &Order| match order {
        Order::Pool { pool, order: pool::Order::Spawn { .. } } => Some(pool.0),
        _ => None,
    };
    orders.iter().filter_map(spawn).collect()
}

#[test]
fn few_start_at_once_in_turn_and_no_more_than_the_server_may_have() {
    let (mut machine, mut out) = (Supervisor::new(1), Vec::new());
    let pools = keepers(8);
    let plan = Input::Planned { pools, workers_max: 6, shutdown_limit: SHUTDOWN_LIMIT };
    machine.step(Instant(0), plan, &mut out);
    assert_eq!(spawns(&out), [1, 2, 3, 4]);
    let worker = WorkerId { slot: 0, generation: 1 };
    let mut told = |input: fn(WorkerId) -> pool::Input, pool| {
        let mut out = Vec::new();
        let pool = PoolId(pool);
        machine.step(Instant(0), Input::Pool { pool, input: input(worker) }, &mut out);
        out
    };
    assert_eq!(spawns(&told(|worker| pool::Input::Ready { worker }, 1)), [5]);
    assert_eq!(spawns(&told(|worker| pool::Input::Ready { worker }, 2)), [6]);
    let full = told(|worker| pool::Input::Ready { worker }, 3);
    assert!(spawns(&full).is_empty());
    let count = |orders: &[Order]| {
        let is_said = |order: &&Order| {
            matches!(order, Order::Pool { order: pool::Order::Tell(event), .. }
                if event.kind == Kind::WorkersExhausted)
        };
        orders.iter().filter(is_said).count()
    };
    assert_eq!(count(&full), 2, "said once of each pool that waits");
    assert_eq!(count(&told(|worker| pool::Input::Ready { worker }, 4)), 0, "and not again");
    let freed = told(|worker| pool::Input::Exited { worker, exit: Exit::Code(1) }, 1);
    assert_eq!(spawns(&freed), [7], "the next in turn, not the one that failed");
}

#[test]
fn an_adopted_listener_is_neither_started_nor_told_of_its_workers_again() {
    let (mut machine, mut out) = (Supervisor::new(1), Vec::new());
    machine.step(Instant(0), Input::ListenerAdopted, &mut out);
    let mut pools = keepers(1);
    let worker = WorkerId { slot: 0, generation: 7 };
    let (phase, since, delivered) = (pool::Phase::Serving, Instant(0), 3);
    let adopted = pool::Adopted { worker, phase, since, delivered, recycling: None };
    let (standing, generation) = (pool::Standing::Running, 7);
    pools[0].legacy = Some(pool::Legacy { standing, generation, workers: vec![adopted] });
    let plan = Input::Planned { pools, workers_max: 6, shutdown_limit: SHUTDOWN_LIMIT };
    machine.step(Instant(0), plan, &mut out);
    let is_stand =
        |order: &Order| matches!(order, Order::Pool { order: pool::Order::Stand { .. }, .. });
    assert!(out.iter().all(is_stand), "{out:?}");
    assert!(machine.is_ready());
    let figures = machine.view(PoolId(0), Instant(0)).unwrap().workers[0].figures;
    assert_eq!(figures, Figures { delivered: 3, ..Figures::default() });
}

#[test]
fn a_worker_that_drains_is_ended_at_once_when_its_listener_is_gone() {
    let (mut machine, mut out) = (Supervisor::new(1), Vec::new());
    machine.step(Instant(0), Input::ListenerAdopted, &mut out);
    let mut pools = keepers(1);
    let worker = |generation| WorkerId { slot: 0, generation };
    let adopted = |generation, phase| pool::Adopted {
        worker: worker(generation),
        phase,
        since: Instant(0),
        delivered: 3,
        recycling: None,
    };
    // Its successor serves, and it is being emptied.
    let workers = vec![adopted(7, pool::Phase::Draining), adopted(8, pool::Phase::Serving)];
    let (standing, generation) = (pool::Standing::Running, 8);
    pools[0].legacy = Some(pool::Legacy { standing, generation, workers });
    let plan = Input::Planned { pools, workers_max: 6, shutdown_limit: SHUTDOWN_LIMIT };
    machine.step(Instant(0), plan, &mut out);
    machine.step(Instant(0), Input::ShutdownAsked, &mut out);
    out.clear();
    machine.step(Instant(0), Input::ListenerExited, &mut out);
    for generation in [7, 8] {
        let order = pool::Order::Terminate { worker: worker(generation) };
        assert!(out.contains(&Order::Pool { pool: PoolId(0), order }), "{generation}: {out:?}");
    }
}
