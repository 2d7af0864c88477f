//! The life cycles that the supervisor keeps: one listener process and the workers of all pools.
//! Facts about processes in, orders about processes out; it sees no descriptor, no process id and
//! no configuration text.
//!
//! ```text
//!                          listener                                   pools
//! Running ── asked to end: Drain ──▶ Draining ── it is gone ──▶ Ending ── all over ──▶ Finished
//!    asked again, at any time: everything is killed
//! ```

mod pools;
mod process;
pub mod seam;

use crate::base::time::Instant;
use crate::machine::pool::seam::{self as pool, View};
use alloc::vec::Vec;
use core::time::Duration;
use pools::Pools;
use process::{Phase, Process};
use seam::{Input, KillReason, Order, Outcome, PoolId};

/// How long the listener may take until it serves: it starts threads and parses a configuration.
const LISTENER_STARTUP_LIMIT: Duration = Duration::from_secs(30);
/// How long the listener may take to end once it was told to end now.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone before it is killed again, or given up on.
const KILL_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    /// The listener finishes what runs.
    Draining,
    /// The workers end.
    Ending,
    /// Everything was killed.
    Killing,
    Finished,
}

/// The supervisor's decisions.
#[derive(Debug)]
pub struct Supervisor {
    mode: Mode,
    outcome: Outcome,
    shutdown_limit: Duration,
    listener: Process,
    has_served: bool,
    pools: Pools,
    /// What is left of workers then is left to the kernel.
    give_up_at: Instant,
}

impl Supervisor {
    /// Nothing happens before the first `Planned`. `seed`: of the jitter of recycling.
    pub fn new(seed: u64) -> Self {
        Self {
            mode: Mode::Running,
            outcome: Outcome::Clean,
            shutdown_limit: Duration::ZERO,
            listener: Process::idle(),
            has_served: false,
            pools: Pools::new(seed),
            give_up_at: Instant::NEVER,
        }
    }

    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        self.record(now, input, out);
        self.settle(now, out);
        self.check();
    }

    /// When to be stepped with `Woken` if nothing happens before.
    pub fn deadline(&self) -> Instant {
        self.listener.deadline().min(self.pools.deadline()).min(self.give_up_at)
    }

    /// True when the listener serves, and every pool that keeps workers without demand has had
    /// them serving.
    pub fn is_ready(&self) -> bool {
        self.listener.is_ready() && self.pools.have_come_up()
    }

    /// True from the first request to end on.
    pub fn is_ending(&self) -> bool {
        self.mode != Mode::Running
    }

    /// `None`: no such pool.
    pub fn view(&self, pool: PoolId, now: Instant) -> Option<View> {
        self.pools.view(pool, now)
    }

    fn record(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        match input {
            Input::Planned { pools, workers_max, shutdown_limit } => {
                self.shutdown_limit = shutdown_limit;
                if self.mode == Mode::Running {
                    self.listener.want(now);
                    self.pools.plan(now, pools, workers_max, out);
                }
            }
            Input::ListenerAdopted => {
                self.listener.adopted(now);
                self.has_served = true;
            }
            Input::ListenerSpawned => self.listener.spawned(now + LISTENER_STARTUP_LIMIT),
            Input::ListenerReady => {
                if self.listener.became_ready(now) {
                    self.has_served = true;
                    self.pools.tell_all(now, &pool::Input::ListenerCame, out);
                }
            }
            Input::ListenerSpawnFailed | Input::ListenerExited => self.listener_died(now),
            Input::Pool { pool, input } => self.pools.tell(now, pool, input, out),
            Input::ShutdownAsked => self.shut_down(now, out),
            Input::Woken => self.pools.wake(now, out),
        }
    }

    fn listener_died(&mut self, now: Instant) {
        self.listener.died(now);
        if self.mode == Mode::Running && !self.has_served {
            self.outcome = Outcome::NeverServed;
            // What was started meanwhile is ended below.
            self.mode = Mode::Draining;
        }
    }

    fn shut_down(&mut self, now: Instant, out: &mut Vec<Order>) {
        match self.mode {
            Mode::Running => {
                self.mode = Mode::Draining;
                out.push(Order::Drain);
                self.listener.drain(now + self.shutdown_limit);
            }
            Mode::Draining | Mode::Ending => {
                self.mode = Mode::Killing;
                if self.listener.is_alive() {
                    self.listener.kill(now + KILL_LIMIT);
                    out.push(Order::KillListener { why: KillReason::Impatience });
                }
                self.end_pools(now, Duration::ZERO, out);
            }
            Mode::Killing | Mode::Finished => {}
        }
    }

    fn end_pools(&mut self, now: Instant, limit: Duration, out: &mut Vec<Order>) {
        let deadline = now + limit;
        // A kill, and one that did nothing.
        self.give_up_at = deadline + KILL_LIMIT * 2;
        self.pools.tell_all(now, &pool::Input::Ending { deadline }, out);
    }

    fn settle(&mut self, now: Instant, out: &mut Vec<Order>) {
        self.settle_listener(now, out);
        if self.mode == Mode::Draining && !self.listener.is_alive() {
            self.mode = Mode::Ending;
            self.end_pools(now, self.shutdown_limit, out);
        }
        if matches!(self.mode, Mode::Running | Mode::Draining) {
            self.pools.grant(now, out);
        }
        self.pools.forget(self.is_ending(), out);
        let is_late = now >= self.give_up_at;
        if is_late && !self.pools.is_empty() {
            self.outcome = Outcome::LeftBehind;
        }
        let is_alone = !self.listener.is_alive() && (self.pools.is_empty() || is_late);
        if is_alone && matches!(self.mode, Mode::Ending | Mode::Killing) {
            self.mode = Mode::Finished;
            self.give_up_at = Instant::NEVER;
            out.push(Order::Finish { outcome: self.outcome });
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
            Phase::Killing { .. } => self.kill_again(now, out),
            Phase::Absent { .. } | Phase::Spawning | Phase::Ready { .. } => {}
        }
    }

    /// SIGKILL did nothing in time (uninterruptible sleep): while running, it is tried again;
    /// at the end, the process is left to the kernel.
    fn kill_again(&mut self, now: Instant, out: &mut Vec<Order>) {
        if self.is_ending() {
            self.listener.forget();
            self.outcome = Outcome::LeftBehind;
        } else {
            self.listener.kill(now + KILL_LIMIT);
            out.push(Order::KillListener { why: KillReason::ShutdownLimit });
        }
    }

    fn check(&self) {
        let is_over = self.mode == Mode::Finished;
        assert!(!is_over || !self.listener.is_alive(), "finished with a listener");
        let is_left = self.outcome == Outcome::LeftBehind;
        assert!(!is_over || is_left || self.pools.is_empty(), "finished with pools");
    }
}
