//! The life cycles that the supervisor keeps: one listener process and one process for each
//! `command` pool. Facts about processes in, orders about processes out; it sees no descriptor,
//! no process id and no configuration text.
//!
//! ```text
//!            Spawned            Ready             shutdown: Drain          deadline: Stop
//! Absent ───▶ Starting ───────▶ Ready ──────────▶ Draining (listener) ───▶ Terminating
//!   ▲ back-off   │ deadline: Kill  │ shutdown, unwanted: Terminate              │ deadline: Kill
//!   └────────────┴── Exited ───────┴──────── Exited: gone ◀── Killing ◀─────────┘
//! ```

mod process;
#[cfg(test)]
mod sim;

use crate::base::time::Instant;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use process::{Phase, Process};

/// How long the listener may take until it serves: it starts threads and parses a configuration.
const LISTENER_STARTUP_LIMIT: Duration = Duration::from_secs(30);
/// How long the listener may take to end once it was told to end now.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone before it is killed again, or given up on.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// One command of the configuration; a changed command is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(pub u32);

/// A process that the supervisor keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Child {
    Listener,
    Command(CommandId),
}

/// A command that the configuration in force wants to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub id: CommandId,
    /// The command of the same pool before the reload; it goes on until this one is ready.
    pub replaces: Option<CommandId>,
    pub startup_limit: Duration,
    pub shutdown_limit: Duration,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A configuration came into force: exactly these commands are wanted from now on.
    Planned { commands: Vec<Wanted>, shutdown_limit: Duration },
    /// A `Spawn` was carried out.
    Spawned { child: Child },
    /// A `Spawn` failed; no process exists.
    SpawnFailed { child: Child },
    /// The listener serves; a command's process accepts connections.
    Ready { child: Child },
    /// The process is gone and reaped.
    Exited { child: Child },
    /// The operator asked to end. Asked again: to end now.
    ShutdownAsked,
    /// Nothing but time passed.
    Woken,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start a process; the very next input about the child is `Spawned` or `SpawnFailed`.
    Spawn { child: Child },
    /// Tell the listener, and every later one, that the command's pool is at this process.
    Serve { command: CommandId },
    /// Tell the listener that the command's pool has no process.
    Unserve { command: CommandId },
    /// Close all listening sockets; the listener finishes what runs and ends.
    Drain,
    /// The listener ends now.
    Stop,
    /// Ask the command's process group to end (SIGTERM).
    Terminate { command: CommandId },
    /// SIGKILL.
    Kill { child: Child, why: KillReason },
    /// The command is neither wanted nor running: its description may be dropped.
    Forget { command: CommandId },
    /// Nothing is left to do; the supervisor ends.
    Finish { outcome: Outcome },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// It was not ready in time.
    StartupLimit,
    /// It did not end in time.
    ShutdownLimit,
    /// The operator asked twice.
    Impatience,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Clean,
    /// The listener never became ready, so there was nothing to keep alive.
    NeverServed,
    /// A process could not be killed and was left behind.
    LeftBehind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    /// The listener finishes what runs.
    Draining,
    /// The commands end.
    Ending,
    /// Everything was killed.
    Killing,
    Finished,
}

#[derive(Debug)]
struct Command {
    process: Process,
    startup_limit: Duration,
    shutdown_limit: Duration,
    is_wanted: bool,
    /// The listener knows this process as its pool's.
    is_served: bool,
    /// Who takes over from this one.
    successor: Option<CommandId>,
}

/// The supervisor's decisions.
#[derive(Debug)]
pub struct Supervisor {
    mode: Mode,
    outcome: Outcome,
    shutdown_limit: Duration,
    listener: Process,
    has_served: bool,
    commands: BTreeMap<CommandId, Command>,
}

impl Supervisor {
    /// Nothing happens before the first `Planned`.
    pub fn new() -> Self {
        Self {
            mode: Mode::Running,
            outcome: Outcome::Clean,
            shutdown_limit: Duration::ZERO,
            listener: Process::idle(),
            has_served: false,
            commands: BTreeMap::new(),
        }
    }

    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        self.record(now, input, out);
        self.settle(now, out);
        self.check();
    }

    /// When to be stepped with `Woken` if nothing happens before.
    pub fn deadline(&self) -> Instant {
        let commands = self.commands.values().map(|command| command.process.deadline());
        commands.fold(self.listener.deadline(), Instant::min)
    }

    /// True when every wanted command and the listener are ready.
    pub fn is_ready(&self) -> bool {
        self.listener.is_ready()
            && self.commands.values().all(|c| !c.is_wanted || c.process.is_ready())
    }

    /// True from the first request to end on.
    pub fn is_ending(&self) -> bool {
        self.mode != Mode::Running
    }

    fn record(&mut self, now: Instant, input: Input, out: &mut Vec<Order>) {
        match input {
            Input::Planned { commands, shutdown_limit } => {
                self.shutdown_limit = shutdown_limit;
                self.plan(now, &commands);
            }
            Input::Spawned { child } => {
                let limit = match child {
                    Child::Listener => Some(LISTENER_STARTUP_LIMIT),
                    Child::Command(id) => self.commands.get(&id).map(|c| c.startup_limit),
                };
                if let (Some(process), Some(limit)) = (self.process(child), limit) {
                    process.spawned(now + limit);
                }
            }
            Input::Ready { child } => self.ready(now, child, out),
            Input::SpawnFailed { child } | Input::Exited { child } => self.died(now, child, out),
            Input::ShutdownAsked => self.shut_down(now, out),
            Input::Woken => {}
        }
    }

    fn process(&mut self, child: Child) -> Option<&mut Process> {
        match child {
            Child::Listener => Some(&mut self.listener),
            Child::Command(id) => self.commands.get_mut(&id).map(|command| &mut command.process),
        }
    }

    fn plan(&mut self, now: Instant, wanted: &[Wanted]) {
        if self.mode != Mode::Running {
            return;
        }
        self.listener.want(now);
        for command in self.commands.values_mut() {
            command.is_wanted = false;
        }
        for want in wanted {
            if let Some(replaced) = want.replaces {
                // Whoever waited for the replaced one waits for its successor now.
                for (id, command) in &mut self.commands {
                    if *id == replaced || command.successor == Some(replaced) {
                        command.successor = Some(want.id);
                    }
                }
            }
            let command = self.commands.entry(want.id).or_insert_with(|| Command {
                process: Process::idle(),
                startup_limit: want.startup_limit,
                shutdown_limit: want.shutdown_limit,
                is_wanted: true,
                is_served: false,
                successor: None,
            });
            command.is_wanted = true;
            command.startup_limit = want.startup_limit;
            command.shutdown_limit = want.shutdown_limit;
            command.process.want(now);
        }
    }

    fn ready(&mut self, now: Instant, child: Child, out: &mut Vec<Order>) {
        let Some(process) = self.process(child) else { return };
        if !process.became_ready(now) {
            return;
        }
        match child {
            Child::Listener => self.has_served = true,
            Child::Command(id) => {
                let is_wanted = self.commands.get(&id).is_some_and(|c| c.is_wanted);
                if !is_wanted {
                    return;
                }
                // The listener knows one process a pool: from here on it is this one.
                for old in self.commands.values_mut().filter(|c| c.successor == Some(id)) {
                    old.is_served = false;
                }
                if let Some(command) = self.commands.get_mut(&id) {
                    command.is_served = true;
                }
                out.push(Order::Serve { command: id });
            }
        }
    }

    fn died(&mut self, now: Instant, child: Child, out: &mut Vec<Order>) {
        let Some(process) = self.process(child) else { return };
        process.died(now);
        match child {
            Child::Listener => {
                if self.mode == Mode::Running && !self.has_served {
                    self.outcome = Outcome::NeverServed;
                    self.mode = Mode::Ending;
                }
            }
            Child::Command(id) => {
                let Some(command) = self.commands.get_mut(&id) else { return };
                if core::mem::take(&mut command.is_served) {
                    out.push(Order::Unserve { command: id });
                }
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
            Mode::Draining | Mode::Ending => {
                self.mode = Mode::Killing;
                let commands = self.commands.iter_mut().map(|(id, command)| {
                    command.is_served = false;
                    (Child::Command(*id), &mut command.process)
                });
                for (child, process) in commands.chain([(Child::Listener, &mut self.listener)]) {
                    if process.is_alive() {
                        process.kill(now + KILL_LIMIT);
                        out.push(Order::Kill { child, why: KillReason::Impatience });
                    }
                }
            }
            Mode::Killing | Mode::Finished => {}
        }
    }

    fn settle(&mut self, now: Instant, out: &mut Vec<Order>) {
        self.settle_listener(now, out);
        if self.mode == Mode::Draining && !self.listener.is_alive() {
            self.mode = Mode::Ending;
        }
        self.settle_commands(now, out);
        let is_alone = !self.listener.is_alive() && self.commands.is_empty();
        if is_alone && matches!(self.mode, Mode::Ending | Mode::Killing) {
            self.mode = Mode::Finished;
            out.push(Order::Finish { outcome: self.outcome });
        }
    }

    fn settle_listener(&mut self, now: Instant, out: &mut Vec<Order>) {
        let child = Child::Listener;
        if !self.listener.is_alive() {
            if self.mode == Mode::Running && self.listener.take_start(now) {
                out.push(Order::Spawn { child });
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
                out.push(Order::Kill { child, why: KillReason::StartupLimit });
            }
            Phase::Draining { .. } => {
                self.listener.terminate(now + STOP_LIMIT);
                out.push(Order::Stop);
            }
            Phase::Terminating { .. } => {
                self.listener.kill(now + KILL_LIMIT);
                out.push(Order::Kill { child, why: KillReason::ShutdownLimit });
            }
            Phase::Killing { .. } => self.kill_again(now, child, out),
            Phase::Absent { .. } | Phase::Spawning | Phase::Ready { .. } => {}
        }
    }

    /// SIGKILL did nothing in time (uninterruptible sleep): while running, it is tried again;
    /// at the end, the process is left to the kernel.
    fn kill_again(&mut self, now: Instant, child: Child, out: &mut Vec<Order>) {
        let is_last = matches!(self.mode, Mode::Ending | Mode::Killing | Mode::Draining);
        let Some(process) = self.process(child) else { return };
        if is_last {
            process.forget();
            self.outcome = Outcome::LeftBehind;
        } else {
            process.kill(now + KILL_LIMIT);
            out.push(Order::Kill { child, why: KillReason::ShutdownLimit });
        }
    }

    fn settle_commands(&mut self, now: Instant, out: &mut Vec<Order>) {
        let ids: Vec<CommandId> = self.commands.keys().copied().collect();
        for id in ids {
            let keep = match self.mode {
                Mode::Running => self.is_needed(id),
                // Nobody is served any more by what is not up; what is up may have requests.
                Mode::Draining => self.commands[&id].process.is_ready(),
                Mode::Ending | Mode::Killing | Mode::Finished => false,
            };
            self.settle_command(now, id, keep, out);
        }
    }

    /// Wanted, or the last of its pool that serves until its successor does.
    fn is_needed(&self, id: CommandId) -> bool {
        let command = &self.commands[&id];
        if command.is_wanted {
            return true;
        }
        let successor = command.successor.and_then(|next| self.commands.get(&next));
        command.is_served && successor.is_some_and(|next| next.is_wanted)
    }

    fn settle_command(&mut self, now: Instant, id: CommandId, keep: bool, out: &mut Vec<Order>) {
        if self.commands[&id].process.is_alive() {
            self.settle_alive(now, id, keep, out);
        }
        let may_start = keep && self.mode == Mode::Running;
        let Some(command) = self.commands.get_mut(&id) else { return };
        if command.process.is_alive() {
            return;
        }
        if !may_start {
            self.commands.remove(&id);
            out.push(Order::Forget { command: id });
        } else if command.process.take_start(now) {
            out.push(Order::Spawn { child: Child::Command(id) });
        }
    }

    fn settle_alive(&mut self, now: Instant, id: CommandId, keep: bool, out: &mut Vec<Order>) {
        let child = Child::Command(id);
        let Some(command) = self.commands.get_mut(&id) else { return };
        let is_late = now >= command.process.deadline();
        match command.process.phase() {
            Phase::Starting { .. } if keep && is_late => {
                command.process.kill(now + KILL_LIMIT);
                out.push(Order::Kill { child, why: KillReason::StartupLimit });
            }
            Phase::Starting { .. } | Phase::Ready { .. } if !keep => {
                if core::mem::take(&mut command.is_served) {
                    out.push(Order::Unserve { command: id });
                }
                command.process.terminate(now + command.shutdown_limit);
                out.push(Order::Terminate { command: id });
            }
            Phase::Terminating { .. } if is_late => {
                command.process.kill(now + KILL_LIMIT);
                out.push(Order::Kill { child, why: KillReason::ShutdownLimit });
            }
            Phase::Killing { .. } if is_late => self.kill_again(now, child, out),
            _ => {}
        }
    }

    fn check(&self) {
        let is_over = self.mode == Mode::Finished;
        assert!(!is_over || self.commands.is_empty(), "finished with commands");
        for command in self.commands.values() {
            assert!(!command.is_served || command.process.is_ready(), "served but not ready");
        }
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}
