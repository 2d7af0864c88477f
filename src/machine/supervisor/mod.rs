//! The life cycles that the supervisor keeps: one listener process and the workers of all pools.
//! Facts about processes in, orders about processes out; it sees no descriptor, no process id and
//! no configuration text.
//!
//! ```text
//!            Spawned            Ready             shutdown: Drain          deadline: Stop
//! Absent ───▶ Starting ───────▶ Ready ──────────▶ Draining ──────────────▶ Terminating
//!   ▲ back-off   │ deadline: Kill  │                    │                       │ deadline: Kill
//!   └────────────┴── Exited ───────┴─ gone: the pools' workers end ◀── Killing ◀─┘
//! ```

mod process;
pub mod seam;
#[cfg(test)]
mod sim;
mod starts;

use crate::base::prng::Prng;
use crate::base::time::Instant;
use crate::machine::pool::Pool;
use crate::machine::pool::seam::{self as pool, View};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use process::{Phase, Process};
use seam::{Input, KillReason, Order, Outcome, PoolId, PoolPlan};

/// How long the listener may take until it serves: it starts threads and parses a configuration.
const LISTENER_STARTUP_LIMIT: Duration = Duration::from_secs(30);
/// How long the listener may take to end once it was told to end now.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone before it is killed again, or given up on.
const KILL_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    /// The listener finishes what runs; workers stay, for they run it.
    Draining,
    /// The workers end; what is left at this time is left behind.
    Ending {
        give_up: Instant,
    },
    /// Everything was killed.
    Killing {
        give_up: Instant,
    },
    Finished,
}

#[derive(Debug)]
struct Member {
    pool: Pool,
    is_wanted: bool,
    /// It was told that it must wait, and has not been told otherwise.
    is_denied: bool,
}

/// The supervisor's decisions.
#[derive(Debug)]
pub struct Supervisor {
    prng: Prng,
    mode: Mode,
    outcome: Outcome,
    shutdown_limit: Duration,
    workers_max: u32,
    listener: Process,
    has_served: bool,
    pools: BTreeMap<PoolId, Member>,
    /// Whose turn it was to start a worker.
    turn: PoolId,
}

impl Supervisor {
    /// Nothing happens before the first `Planned`. `seed`: of the jitter of recycling.
    pub fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed),
            mode: Mode::Running,
            outcome: Outcome::Clean,
            shutdown_limit: Duration::ZERO,
            workers_max: 0,
            listener: Process::idle(),
            has_served: false,
            pools: BTreeMap::new(),
            turn: PoolId(0),
        }
    }

    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        self.record(now, input, out);
        self.settle(now, out);
        self.check();
    }

    /// When to be stepped with `Woken` if nothing happens before.
    pub fn deadline(&self) -> Instant {
        let give_up = match self.mode {
            Mode::Ending { give_up } | Mode::Killing { give_up } => give_up,
            Mode::Running | Mode::Draining | Mode::Finished => Instant::NEVER,
        };
        let pools = self.pools.values().map(|member| member.pool.deadline());
        pools.fold(self.listener.deadline().min(give_up), Instant::min)
    }

    /// True when the listener serves, and every pool that keeps workers without demand has had
    /// them serving.
    pub fn is_ready(&self) -> bool {
        let mut wanted = self.pools.values().filter(|member| member.is_wanted);
        self.listener.is_ready() && wanted.all(|member| member.pool.has_come_up())
    }

    /// True from the first request to end on.
    pub fn is_ending(&self) -> bool {
        self.mode != Mode::Running
    }

    /// `None`: no such pool.
    pub fn view(&self, pool: PoolId, now: Instant) -> Option<View> {
        self.pools.get(&pool).map(|member| member.pool.view(now))
    }

    /// Processes of all pools, orphans not counted.
    pub fn alive(&self) -> u32 {
        self.pools.values().map(|member| member.pool.alive()).sum()
    }

    fn record(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        match input {
            Input::Planned { pools, workers_max, shutdown_limit } => {
                self.workers_max = workers_max;
                self.shutdown_limit = shutdown_limit;
                self.plan(now, pools, out);
            }
            Input::ListenerAdopted => {
                self.has_served = true;
                self.listener.adopted(now);
            }
            Input::ListenerSpawned => self.listener.spawned(now + LISTENER_STARTUP_LIMIT),
            Input::ListenerReady => {
                if self.listener.became_ready(now) {
                    self.has_served = true;
                    self.tell_all(now, &pool::Input::ListenerCame, out);
                }
            }
            Input::ListenerSpawnFailed | Input::ListenerExited => self.listener_died(now, out),
            Input::Pool { pool, input } => self.feed(now, pool, input, out),
            Input::ShutdownAsked => self.shut_down(now, out),
            Input::Woken => {}
        }
    }

    fn wake(&mut self, now: Instant, out: &mut Vec<Order>) {
        let due = |member: &Member| member.pool.deadline() <= now;
        let late: Vec<PoolId> =
            self.pools.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id).collect();
        for id in late {
            self.feed(now, id, pool::Input::Woken, out);
        }
    }

    fn plan(&mut self, now: Instant, plans: Vec<PoolPlan>, out: &mut Vec<Order>) {
        if self.mode != Mode::Running {
            return;
        }
        self.listener.want(now);
        for member in self.pools.values_mut() {
            member.is_wanted = false;
        }
        for PoolPlan { id, garden, is_changed, legacy } in plans {
            let is_new = !self.pools.contains_key(&id);
            let seed = self.prng.draw();
            let member = self.pools.entry(id).or_insert_with(|| Member {
                pool: Pool::new(now, seed),
                is_wanted: true,
                is_denied: false,
            });
            member.is_wanted = true;
            self.feed(now, id, pool::Input::Planned { garden, is_changed }, out);
            if let Some(legacy) = legacy.filter(|_| is_new) {
                self.feed(now, id, pool::Input::Adopted(legacy), out);
            }
        }
        let unwanted: Vec<PoolId> =
            self.pools.iter().filter(|(_, it)| !it.is_wanted).map(|(id, _)| *id).collect();
        for id in unwanted {
            self.feed(now, id, pool::Input::Removed, out);
        }
    }

    fn tell_all(&mut self, now: Instant, input: &pool::Input, out: &mut Vec<Order>) {
        let ids: Vec<PoolId> = self.pools.keys().copied().collect();
        for id in ids {
            self.feed(now, id, input.clone(), out);
        }
    }

    /// Tells a pool a fact and passes on what it orders. Without a listener nothing runs on a
    /// worker that retires, and nobody else would say so.
    fn feed(&mut self, now: Instant, id: PoolId, input: pool::Input, out: &mut Vec<Order>) {
        let has_listener = self.listener.is_alive();
        let mut inputs = VecDeque::from([input]);
        let mut orders = Vec::new();
        while let Some(input) = inputs.pop_front() {
            let Some(member) = self.pools.get_mut(&id) else { return };
            member.pool.step(now, input, &mut orders);
            for order in orders.drain(..) {
                match order {
                    pool::Order::Over => {
                        self.pools.remove(&id);
                        out.push(Order::Forget { pool: id });
                    }
                    pool::Order::Retire { worker } if !has_listener => {
                        inputs.push_back(pool::Input::Emptied { worker });
                    }
                    order => out.push(Order::Pool { pool: id, order }),
                }
            }
        }
    }

    fn listener_died(&mut self, now: Instant, out: &mut Vec<Order>) {
        self.listener.died(now);
        self.empty_all(now, out);
        if self.mode == Mode::Running && !self.has_served {
            self.outcome = Outcome::NeverServed;
            self.end_pools(now, out);
        }
    }

    /// What retired workers still ran has ended with the listener, which cannot say so any more.
    fn empty_all(&mut self, now: Instant, out: &mut Vec<Order>) {
        let ids: Vec<PoolId> = self.pools.keys().copied().collect();
        for id in ids {
            let workers = self.view(id, now).map(|view| view.workers).unwrap_or_default();
            for shown in workers.iter().filter(|shown| shown.phase == pool::Phase::Draining) {
                self.feed(now, id, pool::Input::Emptied { worker: shown.worker }, out);
            }
        }
    }

    fn shut_down(&mut self, now: Instant, out: &mut Vec<Order>) {
        match self.mode {
            Mode::Running => {
                self.mode = Mode::Draining;
                out.push(Order::Drain);
                self.listener.drain(now + self.shutdown_limit);
            }
            Mode::Draining | Mode::Ending { .. } => {
                self.mode = Mode::Killing { give_up: now + KILL_LIMIT };
                if self.listener.is_alive() {
                    self.listener.kill(now + KILL_LIMIT);
                    out.push(Order::KillListener { why: KillReason::Impatience });
                }
                self.tell_all(now, &pool::Input::Ending { deadline: now }, out);
            }
            Mode::Killing { .. } | Mode::Finished => {}
        }
    }

    fn end_pools(&mut self, now: Instant, out: &mut Vec<Order>) {
        let deadline = now + self.shutdown_limit;
        self.mode = Mode::Ending { give_up: deadline + KILL_LIMIT };
        self.tell_all(now, &pool::Input::Ending { deadline }, out);
    }

    fn settle(&mut self, now: Instant, out: &mut Vec<Order>) {
        self.settle_listener(now, out);
        self.wake(now, out);
        if self.mode == Mode::Draining && !self.listener.is_alive() {
            self.end_pools(now, out);
        }
        self.grant_starts(now, out);
        if let Mode::Ending { give_up } | Mode::Killing { give_up } = self.mode {
            if now >= give_up && !self.pools.is_empty() {
                self.outcome = Outcome::LeftBehind;
                self.pools.clear();
            }
            if !self.listener.is_alive() && self.pools.is_empty() {
                self.mode = Mode::Finished;
                out.push(Order::Finish { outcome: self.outcome });
            }
        }
    }

    fn settle_listener(&mut self, now: Instant, out: &mut Vec<Order>) {
        if !self.listener.is_alive() {
            if self.mode == Mode::Running && self.listener.take_start(now) {
                out.push(Order::SpawnListener);
            }
            if self.mode != Mode::Running {
                self.listener.forget();
            }
            return;
        }
        if now < self.listener.deadline() {
            return;
        }
        match self.listener.phase() {
            Phase::Starting { .. } => {
                self.listener.kill(now + KILL_LIMIT);
                out.push(Order::KillListener { why: KillReason::StartupLimit });
            }
            Phase::Draining { .. } => {
                self.listener.terminate(now + STOP_LIMIT);
                out.push(Order::Stop);
            }
            Phase::Terminating { .. } => {
                self.listener.kill(now + KILL_LIMIT);
                out.push(Order::KillListener { why: KillReason::ShutdownLimit });
            }
            // SIGKILL did nothing in time (uninterruptible sleep): while running, it is tried
            // again; at the end, the process is left to the kernel.
            Phase::Killing { .. } if self.mode == Mode::Running => {
                self.listener.kill(now + KILL_LIMIT);
                out.push(Order::KillListener { why: KillReason::ShutdownLimit });
            }
            Phase::Killing { .. } => {
                self.listener.forget();
                self.outcome = Outcome::LeftBehind;
            }
            Phase::Absent { .. } | Phase::Spawning | Phase::Ready { .. } => {}
        }
    }

    fn check(&self) {
        let is_over = self.mode == Mode::Finished;
        assert!(!is_over || self.pools.is_empty(), "finished with pools");
        assert!(!is_over || !self.listener.is_alive(), "finished with a listener");
    }
}
