//! The supervisor's machine in a world of processes that fail to start, crash, hang and ignore
//! signals, checked against an oracle that knows only the world.

use super::*;
use crate::base::prng::Prng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Ready(Child, u32),
    Exited(Child, u32),
    Reload,
    Shutdown,
}

/// A process that exists; `incarnation` tells it from its predecessors.
#[derive(Debug)]
struct Alive {
    incarnation: u32,
    is_ready: bool,
    is_stubborn: bool,
    is_unkillable: bool,
    since: Instant,
    /// When it was last told to end, or killed.
    ordered_at: Option<Instant>,
    was_stopped: bool,
}

struct World {
    prng: Prng,
    now: Instant,
    machine: Supervisor,
    events: Vec<(Instant, Event)>,
    alive: BTreeMap<Child, Alive>,
    /// Pool to the command that the plan in force wants.
    plan: BTreeMap<u8, CommandId>,
    pool_of: BTreeMap<CommandId, u8>,
    /// What the listener was told.
    served: BTreeMap<u8, CommandId>,
    spawns: BTreeMap<Child, Vec<Instant>>,
    next_id: u32,
    incarnations: u32,
    asked: Vec<Instant>,
    finished: Option<Outcome>,
    is_calm: bool,
}

const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
const COMMAND_LIMIT: Duration = Duration::from_secs(15);

impl World {
    fn new(seed: u64, is_calm: bool) -> Self {
        Self {
            prng: Prng::new(seed),
            now: Instant(0),
            machine: Supervisor::new(),
            events: Vec::new(),
            alive: BTreeMap::new(),
            plan: BTreeMap::new(),
            pool_of: BTreeMap::new(),
            served: BTreeMap::new(),
            spawns: BTreeMap::new(),
            next_id: 0,
            incarnations: 0,
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

    /// Pools 0..4 come, go and change.
    fn reload(&mut self) {
        let mut wanted = Vec::new();
        for pool in 0..4u8 {
            let old = self.plan.get(&pool).copied();
            let choice = self.prng.below(4);
            let id = match (old, choice) {
                (_, 0) => {
                    self.plan.remove(&pool);
                    continue;
                }
                (Some(old), 1 | 2) => old,
                _ => {
                    self.next_id += 1;
                    CommandId(self.next_id)
                }
            };
            self.plan.insert(pool, id);
            self.pool_of.insert(id, pool);
            wanted.push(Wanted {
                id,
                replaces: old.filter(|old| *old != id),
                startup_limit: Duration::from_secs(5),
                shutdown_limit: COMMAND_LIMIT,
            });
        }
        self.step(Input::Planned { commands: wanted, shutdown_limit: SHUTDOWN_LIMIT });
    }

    fn step(&mut self, input: Input) {
        let mut inputs = alloc::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            assert!(self.finished.is_none(), "stepped after the end");
            let mut orders = Vec::new();
            self.machine.step(self.now, input, &mut orders);
            for order in orders {
                if let Some(answer) = self.obey(order) {
                    inputs.push_back(answer);
                }
            }
        }
    }

    fn obey(&mut self, order: Order) -> Option<Input> {
        assert!(self.finished.is_none(), "{order:?} after Finish");
        match order {
            Order::Spawn { child } => return Some(self.spawn(child)),
            Order::Serve { command } => {
                assert!(self.alive[&Child::Command(command)].is_ready, "served before ready");
                self.served.insert(self.pool_of[&command], command);
            }
            Order::Unserve { command } => {
                let pool = self.pool_of[&command];
                let told = self.served.remove(&pool);
                assert_eq!(told, Some(command), "unserved what was not served");
                let lives = self.alive.contains_key(&Child::Command(command));
                let is_kept = self.plan.contains_key(&pool) && !self.machine.is_ending();
                assert!(!lives || !is_kept, "a pool lost its process to a reload");
            }
            Order::Drain => self.end_later(Child::Listener, 40_000),
            Order::Stop => {
                if let Some(alive) = self.alive.get_mut(&Child::Listener) {
                    alive.was_stopped = true;
                }
                self.end_later(Child::Listener, 4_000);
            }
            Order::Terminate { command } => {
                self.told(Child::Command(command));
                self.end_later(Child::Command(command), 30_000);
            }
            Order::Kill { child, why } => {
                self.told(child);
                let alive = &self.alive[&child];
                let is_drained = child == Child::Listener && alive.is_ready;
                let is_rude = is_drained && why == KillReason::ShutdownLimit && !alive.was_stopped;
                assert!(!is_rude, "killed a draining listener that was not told to stop");
                if !alive.is_unkillable {
                    let event = Event::Exited(child, alive.incarnation);
                    let after = self.ms(50);
                    self.schedule(after, event);
                }
            }
            Order::Forget { command } => {
                let alive = self.alive.get(&Child::Command(command));
                assert!(alive.is_none_or(|a| a.is_unkillable), "forgot a living process");
                assert!(self.machine.is_ending() || !self.plan.values().any(|id| *id == command));
            }
            Order::Finish { outcome } => {
                let left = !self.alive.is_empty();
                assert_eq!(left, outcome == Outcome::LeftBehind, "{outcome:?}");
                self.finished = Some(outcome);
            }
        }
        None
    }

    fn spawn(&mut self, child: Child) -> Input {
        assert!(!self.alive.contains_key(&child), "two of {child:?}");
        let times = self.spawns.entry(child).or_default();
        times.push(self.now);
        let recent = times.iter().filter(|t| self.now.since(**t) < Duration::from_secs(10));
        assert!(recent.count() <= 10, "{child:?} spawned in a storm");
        let is_first = child == Child::Listener && self.spawns[&child].len() == 1;
        let is_spared = self.is_calm || is_first;
        if !is_spared && self.prng.one_in(6) {
            return Input::SpawnFailed { child };
        }
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let is_unkillable = !is_spared && self.prng.one_in(60);
        let is_stubborn = !is_spared && self.prng.one_in(3);
        let alive = Alive {
            incarnation,
            is_ready: false,
            is_stubborn,
            is_unkillable,
            since: self.now,
            ordered_at: None,
            was_stopped: false,
        };
        self.alive.insert(child, alive);
        let slow = if is_spared { 2_000 } else { 8_000 };
        let ready = self.ms(slow);
        if is_spared || !self.prng.one_in(8) {
            self.schedule(ready, Event::Ready(child, incarnation));
        }
        if !self.is_calm && self.prng.one_in(2) {
            let life = self.ms(30_000) + if is_first { ready } else { Duration::ZERO };
            self.schedule(life, Event::Exited(child, incarnation));
        }
        Input::Spawned { child }
    }

    fn told(&mut self, child: Child) {
        if let Some(alive) = self.alive.get_mut(&child) {
            alive.ordered_at = Some(self.now);
        }
    }

    fn end_later(&mut self, child: Child, within_ms: u64) {
        let Some(alive) = self.alive.get(&child) else { return };
        if !alive.is_stubborn && !alive.is_unkillable {
            let event = Event::Exited(child, alive.incarnation);
            let after = self.ms(within_ms);
            self.schedule(after, event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ready(child, incarnation) => {
                let Some(alive) = self.alive.get_mut(&child) else { return };
                if alive.incarnation == incarnation {
                    alive.is_ready = true;
                    self.step(Input::Ready { child });
                }
            }
            Event::Exited(child, incarnation) => {
                let is_it = self.alive.get(&child).is_some_and(|a| a.incarnation == incarnation);
                if is_it && !self.alive[&child].is_unkillable {
                    self.alive.remove(&child);
                    self.step(Input::Exited { child });
                }
            }
            Event::Reload => {
                if self.asked.is_empty() {
                    self.reload();
                }
            }
            Event::Shutdown => {
                self.asked.push(self.now);
                self.step(Input::ShutdownAsked);
            }
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
        if !self.machine.is_ending() && !self.alive.contains_key(&Child::Listener) {
            let wait = self.machine.deadline().0.saturating_sub(self.now.0);
            assert!(wait <= 10_000_000_000, "nobody starts the listener");
        }
        for (child, alive) in &self.alive {
            let limit = match (child, alive.ordered_at) {
                _ if self.machine.is_ending() => continue,
                (_, Some(_)) => COMMAND_LIMIT,
                _ if alive.is_ready => continue,
                (Child::Listener, None) => LISTENER_STARTUP_LIMIT,
                (Child::Command(_), None) => Duration::from_secs(5),
            };
            let waits = self.now.since(alive.ordered_at.unwrap_or(alive.since));
            assert!(waits <= limit, "{child:?} is waited for without end");
        }
        for (pool, command) in &self.served {
            let lives = self.alive.contains_key(&Child::Command(*command));
            assert!(lives || self.machine.is_ending(), "pool {pool} is served by nobody");
        }
        for (pool, command) in &self.plan {
            let alive = self.alive.get(&Child::Command(*command));
            if alive.is_none() && !self.machine.is_ending() {
                assert!(self.machine.deadline() < Instant::NEVER, "nobody starts pool {pool}");
            }
        }
        let bound = match self.asked.len() {
            0 => return,
            1 => SHUTDOWN_LIMIT + STOP_LIMIT + KILL_LIMIT + COMMAND_LIMIT + KILL_LIMIT,
            _ => KILL_LIMIT * 2,
        };
        let asked = self.asked[self.asked.len().min(2) - 1];
        assert!(self.now.since(asked) <= bound, "the shutdown takes too long");
    }
}

#[test]
fn a_world_of_failing_processes_is_kept_and_ended() {
    for seed in 0..3_000 {
        let mut world = World::new(seed, false);
        world.reload();
        for _ in 0..world.prng.below(6) {
            let after = world.ms(120_000);
            world.schedule(after, Event::Reload);
        }
        let first = world.ms(150_000);
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
    }
}

#[test]
fn in_a_calm_world_every_pool_is_served_by_what_the_plan_wants() {
    for seed in 0..500 {
        let mut world = World::new(seed, true);
        world.reload();
        for _ in 0..5 {
            let after = world.ms(20_000);
            world.schedule(after, Event::Reload);
        }
        while !world.events.is_empty() || world.machine.deadline() < Instant::NEVER {
            world.advance();
        }
        assert_eq!(world.served, world.plan, "SEED={seed}");
        let wanted: Vec<Child> = world.plan.values().map(|id| Child::Command(*id)).collect();
        let alive: Vec<Child> = world.alive.keys().copied().collect();
        assert!(world.machine.is_ready());
        assert_eq!(alive.len(), wanted.len() + 1, "SEED={seed}: {alive:?}");
    }
}

#[test]
fn a_listener_that_never_serves_ends_the_supervisor() {
    let mut world = World::new(1, true);
    world.step(Input::Planned { commands: Vec::new(), shutdown_limit: SHUTDOWN_LIMIT });
    let incarnation = world.alive[&Child::Listener].incarnation;
    world.happen(Event::Exited(Child::Listener, incarnation));
    assert_eq!(world.finished, Some(Outcome::NeverServed));
}

#[test]
fn the_listener_starts_again_at_once_and_then_backs_off() {
    let mut world = World::new(1, true);
    world.step(Input::Planned { commands: Vec::new(), shutdown_limit: SHUTDOWN_LIMIT });
    for wait_ms in [0u64, 100, 200] {
        let incarnation = world.alive[&Child::Listener].incarnation;
        world.happen(Event::Ready(Child::Listener, incarnation));
        let died = world.now;
        world.happen(Event::Exited(Child::Listener, incarnation));
        while !world.alive.contains_key(&Child::Listener) {
            world.advance();
        }
        assert_eq!(world.now.since(died), Duration::from_millis(wait_ms));
    }
}
