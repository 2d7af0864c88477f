//! The supervisor process: one thread that waits for signals, children and messages, tells the
//! machine, and does what it orders. It never sees a byte that a client sent.

pub mod action;
mod command;
mod doors;
pub mod events;
pub mod measure;
pub mod notices;
mod order;
pub mod output;
mod probe;
pub mod release;
mod reload;
mod runtime;
pub mod schedule;
mod start;
pub mod tail;
pub mod texts;

use crate::base::address::Address;
use crate::base::time::Instant;
use crate::machine::supervisor::{self as machine, CommandId, Input, Outcome};
use crate::shell::config::Loaded;
use crate::shell::control::{Channel, FromListener, Heard, ToListener};
use crate::sys::clock;
use crate::sys::identity::Identity;
use crate::sys::notify::Notifier;
use crate::sys::poll::{self, Interest};
use crate::sys::process::Child;
use crate::sys::rlimit::Limit;
use crate::sys::signal::{Signals, Word};
use command::Slot;
use doors::Doors;
use runtime::Runtime;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// When a listener that follows a dead one looks at its sockets again, after its start. A dead
/// process's io_uring accepts are taken down some time after it (milliseconds, more under load),
/// and until then a new connection may wake them instead of the successor, which then would not
/// hear of it before the next one. Accepting anew takes what waits.
const SWEEPS: [Duration; 4] = [
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
];
/// Messages taken from the listener in one turn.
const FRAMES_PER_TURN: usize = 64;

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    /// The embedded quickstart; `greet` is called once when all is ready.
    Quickstart,
}

impl Origin {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Quickstart => "quickstart.toml".to_owned(),
        }
    }
}

/// The listener's process and the way to it.
#[derive(Debug)]
struct Listener {
    child: Child,
    /// `None`: it closed its end, and is about to be gone.
    channel: Option<Channel>,
}

#[derive(Debug)]
struct Supervisor {
    machine: machine::Supervisor,
    inputs: VecDeque<Input>,
    signals: Signals,
    notifier: Notifier,
    origin: Origin,
    loaded: Loaded,
    /// The text of the configuration in force, sealed.
    text: Arc<OwnedFd>,
    /// Counts configurations that came into force.
    revision: u64,
    /// The door of each listener of the plan.
    plan_doors: Vec<u16>,
    doors: Doors,
    threads: u16,
    identity: Option<Identity>,
    open_files: Option<Limit>,
    access_log: Option<Arc<OwnedFd>>,
    listener: Option<Listener>,
    /// See [`SWEEPS`]; the latest first.
    sweeps: Vec<Instant>,
    commands: BTreeMap<CommandId, Slot>,
    /// Where pools' processes are, as every listener is to know.
    served: BTreeMap<String, Address>,
    commands_named: u32,
    /// Made when the first application needs it.
    runtime: Option<Runtime>,
    /// Called once, when everything is ready for the first time.
    greet: Option<fn(&[String])>,
    outcome: Option<Outcome>,
    /// Keeps descriptor 3 taken: children get theirs under this number.
    _third: OwnedFd,
}

/// Who has something for us.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    ListenerExit,
    Listener,
    ListenerRoom,
    CommandExit(CommandId),
    CommandOutput(CommandId),
    CommandProbe(CommandId),
}

/// Runs until the operator ends it. `greet` is told the addresses once all is ready. The error
/// has been logged already when it is empty.
pub fn run(origin: Origin, loaded: Loaded, greet: Option<fn(&[String])>) -> Result<(), String> {
    let mut supervisor = Supervisor::start(origin, loaded, greet)?;
    supervisor.planned(&BTreeMap::new());
    let mut ready = Vec::new();
    loop {
        let now = clock::now();
        supervisor.settle(now);
        if let Some(outcome) = supervisor.outcome {
            return conclude(outcome);
        }
        supervisor.turn(now, &mut ready)?;
    }
}

impl Supervisor {
    /// Steps the machine with all that was heard, and obeys.
    fn settle(&mut self, now: Instant) {
        if now >= self.machine.deadline() {
            self.inputs.push_back(Input::Woken);
        }
        let mut orders = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            if self.outcome.is_some() {
                return;
            }
            self.machine.step(now, input, &mut orders);
            for order in orders.drain(..) {
                self.obey(now, order);
            }
        }
        if self.machine.is_ready()
            && let Some(greet) = self.greet.take()
        {
            let addresses: Vec<String> =
                self.plan_doors.iter().map(|door| self.doors.bound(*door)).collect();
            greet(&addresses);
        }
    }

    fn turn(&mut self, now: Instant, ready: &mut Vec<bool>) -> Result<(), String> {
        let (sources, watched) = self.watched();
        let probes =
            self.commands.values().filter_map(|slot| slot.running.as_ref()?.probe.as_ref());
        let deadline =
            probes.map(probe::Probe::deadline).fold(self.machine.deadline(), Instant::min);
        let deadline = self.sweeps.last().map_or(deadline, |sweep| deadline.min(*sweep));
        let timeout = (deadline != Instant::NEVER).then(|| deadline.since(now));
        poll::wait(&watched, timeout, ready).map_err(|error| format!("waiting: {error}"))?;
        drop(watched);
        let now = clock::now();
        let told: Vec<Source> =
            sources.into_iter().zip(&*ready).filter(|(_, is)| **is).map(|(s, _)| s).collect();
        for source in &told {
            self.hear(now, *source);
        }
        self.probe(now, &told);
        self.sweep(now);
        Ok(())
    }

    fn sweep(&mut self, now: Instant) {
        let before = self.sweeps.len();
        self.sweeps.retain(|sweep| *sweep > now);
        if self.sweeps.len() < before && !self.machine.is_ending() {
            let doors = self.plan_doors.clone();
            self.tell_open(&doors);
        }
    }

    fn watched(&self) -> (Vec<Source>, Vec<(BorrowedFd<'_>, Interest)>) {
        let mut all = vec![(Source::Signals, (self.signals.as_fd(), Interest::Read))];
        if let Some(listener) = &self.listener {
            if let Some(channel) = &listener.channel {
                all.push((Source::Listener, (channel.as_fd(), Interest::Read)));
                if channel.wants_write() {
                    all.push((Source::ListenerRoom, (channel.as_fd(), Interest::Write)));
                }
            }
            // After its last words.
            all.push((Source::ListenerExit, (listener.child.as_fd(), Interest::Read)));
        }
        for (id, slot) in &self.commands {
            let Some(running) = &slot.running else { continue };
            if let Some(output) = &running.output {
                all.push((Source::CommandOutput(*id), (output.as_fd(), Interest::Read)));
            }
            if let Some(watched) = running.probe.as_ref().and_then(probe::Probe::watched) {
                all.push((Source::CommandProbe(*id), watched));
            }
            all.push((Source::CommandExit(*id), (running.child.as_fd(), Interest::Read)));
        }
        all.into_iter().unzip()
    }

    fn hear(&mut self, now: Instant, source: Source) {
        match source {
            Source::Signals => {
                while let Ok(Some(word)) = self.signals.read() {
                    self.hear_operator(now, word);
                }
            }
            Source::Listener => self.hear_listener(),
            Source::ListenerRoom => {
                let flushed = self.channel().map(Channel::flush);
                if let Some(Err(error)) = flushed {
                    self.lose_listener(&error.to_string());
                }
            }
            Source::ListenerExit => self.listener_exited(now),
            Source::CommandOutput(id) => self.read_output(now, id),
            Source::CommandExit(id) => self.command_exited(now, id),
            Source::CommandProbe(_) => {}
        }
    }

    fn hear_operator(&mut self, now: Instant, word: Word) {
        match word {
            Word::End => {
                if !self.machine.is_ending() {
                    tracing::info!(
                        "ending: no more connections, what runs has {:?} (server.shutdown_limit)",
                        self.loaded.plan.server.shutdown_limit
                    );
                    self.notify("STOPPING=1");
                }
                self.inputs.push_back(Input::ShutdownAsked);
                // Each request is a step of its own, and so is what it leads to.
                self.settle(now);
            }
            Word::Reload => self.reload(),
            Word::ReopenLogs => self.reopen_log(),
            Word::Count => self.tell(&ToListener::Count, Vec::new()),
        }
    }

    fn hear_listener(&mut self) {
        for _ in 0..FRAMES_PER_TURN {
            let Some(channel) = self.channel() else { return };
            match channel.hear() {
                Heard::Nothing => return,
                Heard::Gone => return self.end_listener(),
                Heard::Lost(why) => return self.lose_listener(&why),
                Heard::Word(word) => self.hear_word(word),
            }
        }
    }

    fn hear_word(&mut self, word: FromListener) {
        match word {
            FromListener::Started { engine, fallback, threads } => match fallback {
                None => tracing::info!("listener: {threads} threads on {engine}"),
                Some(cause) => tracing::warn!("listener: {threads} threads on {engine}: {cause}"),
            },
            FromListener::Configured { revision } => {
                if revision == self.revision {
                    self.configured();
                }
            }
            FromListener::Failed { why } => tracing::error!("listener: {why}"),
            FromListener::Drained => tracing::info!("listener: nothing is left to finish"),
            FromListener::Counters { json } => tracing::info!("counters: {json}"),
            word => tracing::debug!("listener: {word:?}"),
        }
    }

    fn configured(&mut self) {
        self.inputs.push_back(Input::Ready { child: machine::Child::Listener });
        if !self.machine.is_ending() {
            let status = format!("STATUS=Serving {}", self.origin.name());
            self.notify(&format!("READY=1\n{status}"));
        }
    }

    /// Without a channel it is of no use: it ends by itself, or is ended.
    fn lose_listener(&mut self, why: &str) {
        tracing::warn!("listener: the control channel is lost: {why}");
        self.end_listener();
    }

    fn end_listener(&mut self) {
        let Some(listener) = &mut self.listener else { return };
        listener.channel = None;
        // At the end it closes the channel by itself, and is about to exit.
        if !self.machine.is_ending()
            && let Err(error) = listener.child.kill()
        {
            tracing::error!("listener: killing its process: {error}");
        }
    }

    fn listener_exited(&mut self, now: Instant) {
        let Some(listener) = &self.listener else { return };
        match listener.child.try_wait() {
            Ok(None) => return,
            Ok(Some(ended)) if self.machine.is_ending() => {
                tracing::debug!("listener: ended: {ended}");
            }
            Ok(Some(ended)) => tracing::error!("listener: it died: {ended}"),
            Err(error) => tracing::error!("listener: waiting for it: {error}"),
        }
        self.listener = None;
        // The next one starts at once, or later, when nothing is left of this one.
        self.sweeps = SWEEPS.iter().rev().map(|after| now + *after).collect();
        self.inputs.push_back(Input::Exited { child: machine::Child::Listener });
    }

    fn command_exited(&mut self, now: Instant, id: CommandId) {
        let Some(slot) = self.commands.get_mut(&id) else { return };
        let Some(running) = &mut slot.running else { return };
        let ended = match running.child.try_wait() {
            Ok(None) => return,
            Ok(Some(ended)) => ended.to_string(),
            Err(error) => format!("waiting for it: {error}"),
        };
        let pool = slot.pool.clone();
        if let Some(output) = &mut running.output {
            let log = |line: &str| tracing::info!("pool {pool}: {line}");
            if output.read(now, log) {
                output.finish(now, &mut |line| tracing::info!("pool {pool}: {line}"));
            }
        }
        let pid = running.child.pid();
        if running.is_ending || self.machine.is_ending() {
            tracing::info!("pool {pool}: process {pid} ended: {ended}");
        } else {
            tracing::warn!(
                "pool {pool}: process {pid} ended by itself: {ended}. It is started again; what it \
                 wrote before says why, if anything does"
            );
        }
        slot.clear();
        self.inputs.push_back(Input::Exited { child: machine::Child::Command(id) });
    }

    fn read_output(&mut self, now: Instant, id: CommandId) {
        let Some(slot) = self.commands.get_mut(&id) else { return };
        let Some(running) = &mut slot.running else { return };
        let pool = &slot.pool;
        let is_open = running
            .output
            .as_mut()
            .is_some_and(|output| output.read(now, |line| tracing::info!("pool {pool}: {line}")));
        if !is_open {
            running.output = None;
        }
    }

    fn probe(&mut self, now: Instant, told: &[Source]) {
        for (id, slot) in &mut self.commands {
            let Some(running) = &mut slot.running else { continue };
            let Some(probe) = &mut running.probe else { continue };
            let is_told =
                told.iter().any(|source| matches!(source, Source::CommandProbe(of) if of == id));
            if probe.step(now, is_told) {
                running.probe = None;
                let (pool, pid) = (&slot.pool, running.child.pid());
                tracing::info!("pool {pool}: process {pid} is ready on {}", running.address);
                self.inputs.push_back(Input::Ready { child: machine::Child::Command(*id) });
            }
        }
    }

    fn channel(&mut self) -> Option<&mut Channel> {
        self.listener.as_mut()?.channel.as_mut()
    }

    /// Tells the listener, if there is one; one that cannot be told is lost.
    fn tell(&mut self, word: &ToListener, descriptors: Vec<Arc<OwnedFd>>) {
        let told = self.channel().map(|channel| channel.tell(word, descriptors));
        if let Some(Err(error)) = told {
            self.lose_listener(&error.to_string());
        }
    }

    fn notify(&self, words: &str) {
        if let Err(error) = self.notifier.tell(words) {
            tracing::warn!("telling the service manager (NOTIFY_SOCKET): {error}");
        }
    }
}

fn conclude(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Clean => {
            tracing::info!("ended");
            Ok(())
        }
        Outcome::NeverServed => {
            Err("starting: the listener ended before it served. The lines before say why".into())
        }
        Outcome::LeftBehind => {
            Err("ending: a process could not be killed and is left behind".into())
        }
    }
}
