//! The supervisor process: one thread that waits for signals, children and messages, tells the
//! machine, and does what it orders. It never sees a byte that a client sent.

pub mod action;
pub mod adopt;
mod carry;
pub mod doors;
pub mod events;
mod garden;
mod hear;
mod heir;
mod home;
mod listener;
mod lists;
pub mod measure;
pub mod notices;
mod operator;
mod order;
pub mod output;
mod place;
mod probe;
mod proof;
pub mod release;
mod reload;
mod report;
mod rounds;
mod save;
pub mod schedule;
mod start;
pub mod state;
mod strays;
pub mod tail;
pub mod texts;
mod verbs;
mod worker;

use crate::base::time::Instant;
use crate::machine::pool::seam::WorkerId;
use crate::machine::supervisor::Supervisor as Machine;
use crate::machine::supervisor::seam::{Input, Outcome, PoolId};
use crate::shell::api::{Api, Asks};
use crate::shell::config::Loaded;
use crate::shell::control::{AffinityKey, Channel, ToListener};
use crate::sys::cgroup::Estate;
use crate::sys::clock;
use crate::sys::identity::Identity;
use crate::sys::notices::Notices;
use crate::sys::notify::Notifier;
use crate::sys::poll::{self, Interest};
use crate::sys::process::Child;
use crate::sys::rlimit::Limit;
use crate::sys::signal::{Signals, Word};
use action::Actions;
use doors::Doors;
use events::Events;
use garden::Pool;
use home::Home;
use jiff::tz::TimeZone;
use listener::Listener;
use measure::Scales;
use operator::Operator;
use save::Paper;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use strays::Leavers;
use worker::Told;

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

#[derive(Debug)]
struct Supervisor {
    machine: Machine,
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
    /// See [`listener::SWEEPS`]; the latest first.
    sweeps: Vec<Instant>,
    /// Died and was started again so often.
    listener_restarts: u64,
    pools: BTreeMap<PoolId, Pool>,
    pools_named: u32,
    /// When the listener is asked next how much it does.
    measure_at: Instant,
    home: Home,
    paper: Paper,
    /// Of an earlier supervisor, until the first plan.
    legacy: heir::Estate,
    /// Of its pools that are no more.
    leavers: Leavers,
    /// Its listener and the way to it, and the engine of that.
    inheritance: Option<(Child, Channel, String)>,
    /// Where each worker gets a control group of its own.
    estate: Option<Estate>,
    /// Of cookies that pin clients to slots, over the lives of listeners.
    affinity_key: AffinityKey,
    /// What workers say of themselves.
    notices: Notices,
    events: Events,
    /// What operators ask; the thread that hears them ends with the other.
    asks: Asks,
    _api: Api,
    operator: Operator,
    scales: Scales,
    zone: TimeZone,
    /// The operator's commands that run.
    actions: Actions,
    since: Instant,
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
    Notices,
    Asks,
    Action,
    ListenerExit,
    Listener,
    ListenerRoom,
    Worker(PoolId, WorkerId, Told),
}

/// Runs until the operator ends it. `control` is the path of the control socket, over what the
/// configuration says. `greet` is told the addresses once all is ready. The error
/// has been logged already when it is empty.
pub fn run(
    origin: Origin,
    loaded: Loaded,
    control: Option<PathBuf>,
    greet: Option<fn(&[String])>,
) -> Result<(), String> {
    let mut supervisor = Supervisor::start(origin, loaded, control, greet)?;
    supervisor.planned();
    supervisor.take_listener();
    let mut ready = Vec::new();
    loop {
        let now = clock::now();
        supervisor.settle(now);
        if let Some(outcome) = supervisor.outcome {
            supervisor.end_leavers(Instant::NEVER);
            supervisor.home.take_back();
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
                self.paper.outdate(now);
                self.obey(now, order);
            }
        }
        for pool in self.pools.values_mut() {
            pool.gone.clear();
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
        let deadline = self.deadline();
        let timeout = (deadline != Instant::NEVER).then(|| deadline.since(now));
        poll::wait(&watched, timeout, ready).map_err(|error| format!("waiting: {error}"))?;
        drop(watched);
        let now = clock::now();
        let told: Vec<Source> =
            sources.into_iter().zip(&*ready).filter(|(_, is)| **is).map(|(s, _)| s).collect();
        for source in told {
            self.hear(now, source);
        }
        self.ask_again(now);
        self.sweep(now);
        self.make_rounds(now);
        self.write_down(now);
        if now >= self.actions.deadline() {
            self.actions.step(now);
        }
        self.operator.lists.expire(now);
        self.end_leavers(now);
        Ok(())
    }

    fn deadline(&self) -> Instant {
        let workers = self.pools.values().flat_map(|pool| pool.workers.values());
        let asked = workers.map(worker::Worker::deadline);
        let own = [
            self.machine.deadline(),
            self.operator.lists.deadline(),
            self.sweeps.last().copied().unwrap_or(Instant::NEVER),
            self.next_round(),
            self.paper.deadline(),
            self.actions.deadline(),
            self.leavers.deadline(),
        ];
        own.into_iter().chain(asked).fold(Instant::NEVER, Instant::min)
    }

    fn watched(&self) -> (Vec<Source>, Vec<(BorrowedFd<'_>, Interest)>) {
        let mut all = vec![
            (Source::Signals, (self.signals.as_fd(), Interest::Read)),
            (Source::Notices, (self.notices.as_fd(), Interest::Read)),
            (Source::Asks, (self.asks.as_fd(), Interest::Read)),
        ];
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
        all.extend(self.actions.watched().into_iter().map(|watched| (Source::Action, watched)));
        for (id, pool) in &self.pools {
            for worker in pool.workers.values() {
                let watched = worker.watched().into_iter();
                all.extend(
                    watched.map(|(told, watched)| (Source::Worker(*id, worker.id, told), watched)),
                );
            }
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
            Source::Notices => self.hear_notices(),
            Source::Asks => self.hear_asks(now),
            Source::Action => self.actions.step(now),
            Source::Listener => self.hear_listener(now),
            Source::ListenerRoom => self.flush_listener(),
            Source::ListenerExit => self.listener_exited(now),
            Source::Worker(pool, worker, told) => self.hear_worker(now, pool, worker, told),
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
            Word::Reload => {
                // Told in the log already.
                let _ = self.reload();
            }
            Word::ReopenLogs => self.reopen_log(),
            Word::Count => self.tell(&ToListener::Count, Vec::new()),
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
