//! A thread of the data plane: carries completions from the engine to the machine and orders back,
//! and takes messages from the control side of the listener process. Decides nothing.

mod list;
mod message;
#[cfg(test)]
mod tests;

pub(in crate::shell) use list::keep_oldest;
pub use message::{Message, News, Peer, Report};

use crate::base::address::Address;
use crate::base::id::DoorId;
use crate::base::time::Instant;
use crate::machine::gate::Grant;
use crate::machine::listener::seam::{Effect, Input, Outbox};
use crate::machine::listener::{Listener, Shared};
use crate::plan::EngineChoice;
use crate::shell::control::AffinityKey;
use crate::shell::logs::AccessSender;
use crate::sys::clock;
use crate::sys::engine::{Buffer, Choice, Completion, Engine};
use crate::sys::errno::Error;
use crossbeam::channel::{Receiver, Sender, TryRecvError};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// What a thread is given for its life.
#[derive(Debug)]
pub struct Settings {
    pub thread: u16,
    pub engine: EngineChoice,
    pub seed: u64,
    pub affinity_key: AffinityKey,
    pub shared: Arc<Shared>,
    pub messages: Receiver<Message>,
    /// All threads of the process, this one among them.
    pub peers: Arc<[Peer]>,
    /// An eventfd, written after each message so that a sleeping engine looks.
    pub wake: OwnedFd,
    pub log: AccessSender,
    pub reports: Sender<Report>,
}

/// How often the machine hears of the wall clock, and how often a pause in accepting is logged.
const SECOND: Duration = Duration::from_secs(1);
/// What the arena may keep between turns; a rare large turn does not hold its memory for ever.
const ARENA_KEPT_MAX: usize = 1024 * 1024;

/// The body of a data thread: works until told to end, until drained, or until the engine fails.
/// A panic takes the whole process with it, because what the threads share may be half changed;
/// the supervisor starts a new one.
pub fn run(settings: Settings) {
    let _bomb = AbortOnPanic;
    let (thread, reports) = (settings.thread, settings.reports.clone());
    if let Err(error) = work(settings) {
        // Nobody listens any more only when the process is ending.
        let _ = reports.send(Report::Failed { thread, why: error.to_string() });
    }
}

fn work(settings: Settings) -> Result<(), Error> {
    let choice = match settings.engine {
        EngineChoice::Auto => Choice::Auto,
        EngineChoice::Uring => Choice::Uring,
        EngineChoice::Epoll => Choice::Epoll,
    };
    let (engine, fallback) = Engine::start(choice, settings.wake)?;
    let thread = settings.thread;
    let _ = settings.reports.send(Report::Started { thread, engine: engine.name(), fallback });
    let now = clock::now();
    let mut machine = Listener::new(now, settings.thread, settings.seed, settings.shared);
    machine.set_affinity_key(settings.affinity_key.0);
    machine.set_wall(clock::wall_origin());
    let mut data = Thread {
        number: thread,
        engine,
        machine,
        out: Outbox::default(),
        doors: Vec::new(),
        messages: settings.messages,
        peers: settings.peers,
        reports: settings.reports,
        log: settings.log,
        now,
        wall_due: now + SECOND,
        pause_logged: None,
        phase: Phase::Running,
    };
    let outcome = data.turns();
    data.log_lines();
    if data.phase == Phase::Drained {
        let _ = data.reports.send(Report::Drained { thread });
    }
    outcome
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Nothing is left but to carry out the last orders.
    Drained,
    Stopped,
}

/// A data thread at work.
struct Thread {
    number: u16,
    engine: Engine,
    machine: Listener,
    out: Outbox,
    /// Open now; shut when draining.
    doors: Vec<DoorId>,
    messages: Receiver<Message>,
    peers: Arc<[Peer]>,
    reports: Sender<Report>,
    log: AccessSender,
    /// One reading of the clock serves a turn.
    now: Instant,
    wall_due: Instant,
    pause_logged: Option<Instant>,
    phase: Phase,
}

impl Thread {
    fn turns(&mut self) -> Result<(), Error> {
        while self.phase == Phase::Running {
            let deadline = self.machine.deadline();
            let timeout = (deadline < Instant::NEVER).then(|| deadline.since(self.now));
            self.turn(timeout)?;
        }
        if self.phase == Phase::Drained {
            // The last endings were ordered but not carried out.
            self.turn(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.engine.turn(&self.out.bytes, timeout)?;
        self.out.bytes.clear();
        self.out.bytes.shrink_to(ARENA_KEPT_MAX);
        self.now = clock::now();
        if self.now >= self.wall_due {
            self.wall_due = self.now + SECOND;
            self.machine.set_wall(clock::wall_origin());
        }
        while let Some(completion) = self.engine.next() {
            self.hear(completion);
        }
        if self.machine.deadline() <= self.now {
            self.step(Input::Woken);
        }
        self.log_lines();
        Ok(())
    }

    fn log_lines(&mut self) {
        if !self.out.log.is_empty() {
            self.log.submit(&mut self.out.log);
        }
    }

    fn hear(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { door, arrival, peer } => {
                self.step(Input::Accepted { door, arrival, peer });
            }
            Completion::Received { id, buffer } => {
                let bytes = self.engine.bytes(buffer);
                self.machine.step(self.now, Input::Received { id, bytes }, &mut self.out);
                self.carry_out(Some(buffer));
            }
            Completion::Ended { id } => self.step(Input::Ended { id }),
            Completion::Broken { id } => self.step(Input::Broken { id }),
            Completion::Unwritable { id } => self.step(Input::Unwritable { id }),
            Completion::Backlog { id, bytes } => self.step(Input::Backlog { id, bytes }),
            Completion::Connected { id } => self.step(Input::Connected { id }),
            Completion::Refused { id } => self.step(Input::Refused { id }),
            Completion::Closed { id, unsent } => self.step(Input::Closed { id, unsent }),
            Completion::AcceptPaused { door, errno } => self.report_pause(door, errno),
            Completion::Woken => self.read_messages(),
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.machine.step(self.now, input, &mut self.out);
        self.carry_out(None);
    }

    /// Carries the machine's orders out, at once: a `Forward` means the bytes just heard.
    fn carry_out(&mut self, current: Option<Buffer>) {
        let engine = &mut self.engine;
        let report = |report| {
            // Nobody listens any more only when the process is ending.
            let _ = self.reports.send(report);
        };
        for effect in self.out.effects.drain(..) {
            match effect {
                Effect::Adopt { arrival, id } => engine.adopt(arrival, id),
                Effect::TurnAway { arrival } => engine.turn_away(arrival),
                Effect::Recv { id } => engine.recv(id),
                Effect::Hold { id } => engine.hold(id),
                Effect::Send { to, range } => engine.send(to, range),
                Effect::Forward { to, range } => {
                    let buffer = current.expect("the machine forwards only what it just received");
                    engine.forward(to, buffer, range);
                }
                Effect::Connect { id, address } => engine.connect(id, &address),
                Effect::End { id, how } => engine.end(id, how),
                Effect::Judge { pool, address, is_well, has_changed } => {
                    if has_changed {
                        tell_verdict(&pool, &address, is_well);
                    }
                    let (thread, address) = (self.number, Address::clone(&address));
                    report(Report::Judged { thread, pool, address, is_well });
                }
                Effect::Grant { pool, grant } => pass_grant(&self.peers, pool, grant),
                Effect::Want { pool } => report(Report::Wanted { pool }),
                Effect::Empty { pool, place } => report(Report::Emptied { pool, place }),
                Effect::Spent { pool, place } => report(Report::Spent { pool, place }),
                Effect::Violate { pool, place } => report(Report::Violated { pool, place }),
                Effect::Drained => self.phase = Phase::Drained,
            }
        }
    }

    fn read_messages(&mut self) {
        while self.phase == Phase::Running {
            match self.messages.try_recv() {
                Ok(message) => self.obey(message),
                Err(TryRecvError::Empty) => break,
                // The control side is gone, and with it whoever could ever stop this thread.
                Err(TryRecvError::Disconnected) => self.phase = Phase::Stopped,
            }
        }
    }

    fn obey(&mut self, message: Message) {
        match message {
            Message::Open { door, socket } => {
                self.doors.retain(|open| *open != door);
                self.doors.push(door);
                self.engine.open(door, socket);
            }
            Message::Shut { door } => {
                self.doors.retain(|open| *open != door);
                self.engine.shut(door);
            }
            Message::Plan { plan, doors, gates } => {
                self.step(Input::Planned { plan, doors, gates });
            }
            Message::Judged { pool, address, is_well } => {
                self.step(Input::Judged { pool, address, is_well });
            }
            Message::News(news) => {
                let known = news.acknowledged().map(|(pool, place)| (pool.to_owned(), place));
                self.step(news.input());
                if let Some((pool, place)) = known {
                    let _ = self.reports.send(Report::Known { pool, place });
                }
            }
            Message::Granted { pool, grant } => self.step(Input::Granted { pool, grant }),
            Message::List { token, pool, older } => {
                let rows = list::rows(&self.machine, self.now, pool.as_deref(), older);
                let _ = self.reports.send(Report::Listed { token, rows });
            }
            Message::Drain => {
                for door in self.doors.drain(..) {
                    self.engine.shut(door);
                }
                self.step(Input::Draining);
            }
            Message::Stop => self.phase = Phase::Stopped,
            Message::Count => {
                let tally = Box::new(*self.machine.tally());
                let engine = Box::new(*self.engine.counters());
                let report = Report::Counters { thread: self.number, tally, engine };
                // Nobody listens any more only when the process is ending.
                let _ = self.reports.send(report);
            }
        }
    }

    /// At most a line a second: a shortage comes and goes with every connection that closes.
    fn report_pause(&mut self, door: DoorId, errno: Errno) {
        if self.pause_logged.is_some_and(|at| self.now.since(at) < SECOND) {
            return;
        }
        self.pause_logged = Some(self.now);
        tracing::warn!(
            thread = self.number,
            door = door.0,
            "accepting connections: {} ({errno:?}). Raise the limit on open files (LimitNOFILE=) \
             or lower max_connections; connections wait in the kernel meanwhile",
            errno.desc(),
        );
    }
}

/// To the thread whose request was granted a slot.
fn pass_grant(peers: &[Peer], pool: String, grant: Grant) {
    let thread = grant.ticket.thread;
    let peer = peers.get(usize::from(thread)).expect("tickets name threads of this process");
    if let Err(error) = peer.tell(Message::Granted { pool, grant }) {
        // It hears the message with the next that wakes it.
        tracing::error!(thread, "waking a thread: {error}");
    }
}

fn tell_verdict(pool: &str, address: &Address, is_well: bool) {
    if is_well {
        tracing::info!("pool {pool}: {address} passes its checks again and is used");
    } else {
        tracing::warn!(
            "pool {pool}: {address} failed its checks and is not used until it passes them again"
        );
    }
}

/// Ends the process when dropped by a panic.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
