//! The listener's process: started, told everything, heard, started again.

use super::Supervisor;
use super::adopt::output_name;
use super::worker::{Stream, Worker};
use crate::base::time::Instant;
use crate::machine::pool::seam::{Figures, Input as PoolInput, WorkerId};
use crate::machine::supervisor::seam::{Input, PoolId};
use crate::shell::control::{
    Channel, FromListener, Heard, PoolFigures, ToListener, Worker as Named,
};
use crate::sys::fdpass;
use crate::sys::process::{Child, Launch, Program};
use std::io::{stderr, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// When a listener that follows a dead one looks at its sockets again, after its start. A dead
/// process's io_uring accepts are taken down some time after it (milliseconds, more under load),
/// and until then a new connection may wake them instead of the successor, which then would not
/// hear of it before the next one. Accepting anew takes what waits.
pub(super) const SWEEPS: [Duration; 4] = [
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
];
/// Messages taken from the listener in one turn.
const FRAMES_PER_TURN: usize = 64;
/// The name under which the listener is left where it awaits our successor.
const HEIR: &str = "heir";
/// What the listener needs of our environment.
const ENVIRONMENT: [&str; 5] = ["RUST_LOG", "RUST_BACKTRACE", "JOURNAL_STREAM", "NO_COLOR", "TZ"];
/// The allocator would ask for huge pages: two megabytes of memory for the first byte of each, so
/// that idle connections seem to cost kilobytes. docs/decisions/004 has the measurement.
const ALLOCATOR_OPTION: (&str, &str) = ("MIMALLOC_ALLOW_THP", "0");

/// The listener's process and the way to it.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) child: Child,
    /// `None`: it closed its end, and is about to be gone.
    pub(super) channel: Option<Channel>,
    pub(super) engine: String,
    /// It has said that it serves.
    pub(super) is_ready: bool,
}

impl Listener {
    /// It serves already.
    pub(super) fn adopted(child: Child, channel: Channel, engine: String) -> Self {
        Self { child, channel: Some(channel), engine, is_ready: true }
    }
}

impl Supervisor {
    pub(super) fn spawn_listener(&mut self) -> Result<(), String> {
        let say = |error: std::io::Error| format!("starting the listener: {error}");
        let (ours, theirs) = fdpass::pair().map_err(say)?;
        let argv = ["lychgate", "listener"].map(str::to_owned);
        let environment: Vec<(String, String)> = ENVIRONMENT
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .chain([(ALLOCATOR_OPTION.0.to_owned(), ALLOCATOR_OPTION.1.to_owned())])
            .collect();
        let (out, err) = (stdout(), stderr());
        let launch = Launch {
            program: Program::Ourselves,
            argv: &argv,
            environment: &environment,
            directory: Some("/"),
            stdout: out.as_fd(),
            stderr: err.as_fd(),
            third: Some(theirs.as_fd()),
            identity: None,
            open_files: None,
            umask: None,
            leads_group: true,
            entrance: None,
            ends_with_parent: false,
            wants_listen_pid: false,
        };
        let child = launch.start().map_err(|why| format!("starting the listener: {why}"))?;
        tracing::info!("listener: process {} started", child.pid());
        let channel = Some(Channel::new(ours));
        self.listener = Some(Listener { child, channel, engine: String::new(), is_ready: false });
        let identity = self.identity.clone();
        let (threads, affinity_key) = (self.threads, self.affinity_key.clone());
        self.tell(&ToListener::Begin { threads, identity, affinity_key }, Vec::new());
        self.tell_log();
        self.tell_configuration();
        let doors = self.plan_doors.clone();
        self.tell_open(&doors);
        self.leave_heir();
        Ok(())
    }

    /// Leaves with the listener what the next supervisor needs, should this one die.
    pub(super) fn leave_heir(&mut self) {
        let path = self.home.heir();
        match fdpass::listen(&path) {
            Ok(heir) => {
                let word = ToListener::Keep { name: HEIR.to_owned() };
                self.tell(&word, vec![Arc::new(heir)]);
            }
            Err(error) => tracing::warn!(
                "making {}: {error}. A supervisor after this one cannot take over",
                path.display()
            ),
        }
        let workers = self.pools.values().flat_map(|pool| {
            let kept = |worker: &Worker| worker.streams.iter().map(Stream::kept).collect();
            pool.workers.values().map(move |it| (output_name(&pool.name, it.id), kept(it)))
        });
        let all: Vec<(String, Vec<Arc<OwnedFd>>)> = workers.collect();
        for (name, streams) in all {
            self.tell(&ToListener::Keep { name }, streams);
        }
    }

    pub(super) fn tell_log(&mut self) {
        let descriptors = self.access_log.iter().map(Arc::clone).collect();
        self.tell(&ToListener::Log, descriptors);
    }

    /// The plan, and the pages of its pools.
    pub(super) fn tell_configuration(&mut self) {
        let (revision, doors) = (self.revision, self.plan_doors.clone());
        let name = self.origin.name();
        let text = Arc::clone(&self.text);
        self.tell(&ToListener::Configure { revision, name, doors }, vec![text]);
        let planned = self.pools.values().filter(|pool| pool.is_planned);
        let pages: Vec<_> = planned.map(|pool| (pool.name.clone(), pool.page.clone())).collect();
        for (pool, page) in pages {
            self.tell(&ToListener::Page { pool }, page.into_iter().collect());
        }
    }

    pub(super) fn tell_open(&mut self, doors: &[u16]) {
        for (sockets, descriptors) in self.doors.batches(doors) {
            self.tell(&ToListener::Open { sockets }, descriptors);
        }
    }

    pub(super) fn channel(&mut self) -> Option<&mut Channel> {
        self.listener.as_mut()?.channel.as_mut()
    }

    /// Tells the listener, if there is one; one that cannot be told is lost.
    pub(super) fn tell(&mut self, word: &ToListener, descriptors: Vec<Arc<OwnedFd>>) {
        let told = self.channel().map(|channel| channel.tell(word, descriptors));
        if let Some(Err(error)) = told {
            self.lose_listener(&error.to_string());
        }
    }

    pub(super) fn flush_listener(&mut self) {
        let flushed = self.channel().map(Channel::flush);
        if let Some(Err(error)) = flushed {
            self.lose_listener(&error.to_string());
        }
    }

    pub(super) fn hear_listener(&mut self, now: Instant) {
        for _ in 0..FRAMES_PER_TURN {
            let Some(channel) = self.channel() else { return };
            match channel.hear() {
                Heard::Nothing => return,
                Heard::Gone => return self.end_listener(),
                Heard::Lost(why) => return self.lose_listener(&why),
                Heard::Word(word) => self.hear_word(now, word),
            }
        }
    }

    fn hear_word(&mut self, _now: Instant, word: FromListener) {
        match word {
            FromListener::Started { engine, fallback, threads } => {
                match fallback {
                    None => tracing::info!("listener: {threads} threads on {engine}"),
                    Some(cause) => {
                        tracing::warn!("listener: {threads} threads on {engine}: {cause}");
                    }
                }
                if let Some(listener) = &mut self.listener {
                    listener.engine = engine;
                }
            }
            FromListener::Configured { revision } => {
                if revision == self.revision {
                    self.configured();
                }
            }
            FromListener::Failed { why } => tracing::error!("listener: {why}"),
            FromListener::Drained => tracing::info!("listener: nothing is left to finish"),
            FromListener::Counters { json } => tracing::info!("counters: {json}"),
            FromListener::Serving { pool, worker } => {
                self.hear_about(&pool, PoolInput::Serving { worker: id(worker) });
            }
            FromListener::Emptied { pool, worker } => {
                self.hear_about(&pool, PoolInput::Emptied { worker: id(worker) });
            }
            FromListener::Spent { pool, worker } => {
                self.hear_about(&pool, PoolInput::Spent { worker: id(worker) });
            }
            FromListener::Violated { pool, worker } => {
                self.hear_about(&pool, PoolInput::Violated { worker: id(worker) });
            }
            FromListener::Wanted { pool } => self.hear_about(&pool, PoolInput::Wanted),
            FromListener::Listed { token, rows, is_last } => {
                self.operator.lists.hear(token, rows, is_last);
            }
            FromListener::Measured { pools, .. } => self.hear_figures(pools),
            word => tracing::debug!("listener: {word:?}"),
        }
    }

    fn hear_figures(&mut self, pools: Vec<PoolFigures>) {
        for PoolFigures { pool, waiting, workers } in pools {
            let each = workers.into_iter().map(|figures| {
                let answered = Instant(figures.answered);
                let (executing, delivered) = (figures.executing, figures.delivered);
                (id(figures.worker), Figures { executing, delivered, answered })
            });
            let workers = each.collect();
            self.hear_about(&pool, PoolInput::Measured { waiting, workers });
        }
    }

    /// What the listener says about a pool; one that is not there any more does not care.
    fn hear_about(&mut self, pool: &str, input: PoolInput) {
        if let Some(pool) = self.pool_named(pool) {
            self.inputs.push_back(Input::Pool { pool, input });
        }
    }

    pub(super) fn pool_named(&self, name: &str) -> Option<PoolId> {
        self.pools.iter().find(|(_, pool)| pool.name == name).map(|(id, _)| *id)
    }

    fn configured(&mut self) {
        if let Some(listener) = &mut self.listener
            && !std::mem::replace(&mut listener.is_ready, true)
        {
            self.inputs.push_back(Input::ListenerReady);
        }
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

    pub(super) fn listener_exited(&mut self, now: Instant) {
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
        self.operator.lists.lose();
        self.listener_restarts += 1;
        // The next one starts at once, or later, when nothing is left of this one.
        self.sweeps = SWEEPS.iter().rev().map(|after| now + *after).collect();
        self.inputs.push_back(Input::ListenerExited);
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        let before = self.sweeps.len();
        self.sweeps.retain(|sweep| *sweep > now);
        if self.sweeps.len() < before && !self.machine.is_ending() {
            let doors = self.plan_doors.clone();
            self.tell_open(&doors);
        }
    }
}

fn id(worker: Named) -> WorkerId {
    WorkerId { slot: worker.slot, generation: worker.generation }
}

/// As the listener calls it.
pub(super) fn named(worker: WorkerId) -> Named {
    Named { slot: worker.slot, generation: worker.generation }
}
