//! The control API: HTTP and JSON on a UNIX socket, for the command line and other programs of the
//! operator. A thread of the supervisor process speaks it and knows nothing: each request becomes
//! an [`Ask`], which the supervisor answers from its loop, in its own time.
//!
//! No byte that a client of the sites sent comes here; who may connect is root and the user as
//! whom the supervisor runs.

mod answer;
mod door;
mod follow;
mod request;
mod serve;

use crate::machine::pool::seam::Verb;
use crate::shell::view::{EventRow, Outcome, PoolRow, Requests, Status, WorkerRow};
use crate::sys::process;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// Asks that the supervisor has not taken yet; more are answered 503.
const ASKS_MAX: usize = 64;
/// Requests held by a pause for which no number was given.
pub const PAUSE_MAX: u32 = 1000;
/// Events in one answer at most.
pub const EVENTS_MAX: usize = 1000;

/// What an operator wants to know or to have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Status,
    Pools,
    /// Answered by `NotFound` if there is no such pool; so are the others that name one.
    Workers {
        pool: Option<String>,
    },
    Orphans,
    Requests {
        pool: Option<String>,
        older_ms: u64,
    },
    Verb {
        pool: String,
        verb: Verb,
    },
    EndOrphan {
        pid: i32,
    },
    Reload,
    /// Events with a greater sequence number, oldest first; the latest `limit` of them.
    Events {
        after: u64,
        limit: usize,
    },
    /// Events from now on.
    Follow,
}

/// What the supervisor says to it.
#[derive(Debug)]
pub enum Answer {
    Status(Status),
    Pools(Vec<PoolRow>),
    /// Also to `Orphans`.
    Workers(Vec<WorkerRow>),
    Requests(Requests),
    Events(Vec<EventRow>),
    /// Bounded: what does not fit is lost to this follower. Closed when it has gone.
    Follow(Receiver<EventRow>),
    Done(Outcome),
    /// 404: what does not exist.
    NotFound(String),
    /// 409: why that cannot be done as things are.
    Conflict(String),
    /// 503: who does not answer.
    Unavailable(String),
}

/// An ask and the way to answer it.
#[derive(Debug)]
pub struct Asked {
    pub ask: Ask,
    reply: oneshot::Sender<Answer>,
}

impl Asked {
    /// An ask, and where its answer comes.
    pub fn new(ask: Ask) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        (Self { ask, reply }, answer)
    }

    /// Never blocks. Who asked may have gone meanwhile; the answer is dropped then. Dropping this
    /// without an answer is told to them as a fault.
    pub fn answer(self, answer: Answer) {
        let _ = self.reply.send(answer);
    }

    /// Nobody waits for the answer any more.
    pub fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The supervisor's end: readable (poll(2)) when there may be something to take.
#[derive(Debug)]
pub struct Asks {
    receiver: Receiver<Asked>,
    bell: Arc<OwnedFd>,
}

impl Asks {
    /// The next ask, if there is one. To be called until there is none.
    pub fn next(&self) -> Option<Asked> {
        let mut count = [0; 8];
        // Emptied first, so that an ask that comes in between rings again. A bell that does not
        // ring has nothing to read (EAGAIN).
        let _ = nix::unistd::read(&*self.bell, &mut count);
        self.receiver.try_recv().ok()
    }
}

impl AsFd for Asks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The thread's end.
#[derive(Clone, Debug)]
struct Line {
    sender: Sender<Asked>,
    bell: Arc<OwnedFd>,
}

impl Line {
    /// `None`: the supervisor has too much to answer already, or is ending.
    fn ask(&self, ask: Ask) -> Option<oneshot::Receiver<Answer>> {
        let (asked, answer) = Asked::new(ask);
        match self.sender.try_send(asked) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return None,
        }
        process::ring(&self.bell).ok()?;
        Some(answer)
    }
}

/// Deadlines and maxima of the server.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at once; more wait in the socket's backlog.
    connections: usize,
    /// Of these, endless ones.
    followers: usize,
    /// From the connection's beginning to the end of its answer.
    exchange: Duration,
    /// For the supervisor.
    answer: Duration,
    /// A follower that takes nothing for so long is cut off.
    stall: Duration,
}

const LIMITS: Limits = Limits {
    connections: 32,
    followers: 16,
    exchange: Duration::from_secs(10),
    answer: Duration::from_secs(5),
    stall: Duration::from_mins(1),
};

/// The running server. Dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub struct Api {
    path: PathBuf,
    /// Its dropping is the word to end.
    ending: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Api {
    /// Listens on `path`, whose folder exists and is ours, with mode 0600. A socket that a dead
    /// supervisor left there is replaced. Signals are to be blocked before: the thread inherits
    /// the mask.
    pub fn start(path: &Path) -> Result<(Self, Asks), String> {
        Self::start_with(path, LIMITS)
    }

    fn start_with(path: &Path, limits: Limits) -> Result<(Self, Asks), String> {
        let listener = door::listen(path)?;
        let bell = process::event().map_err(|error| format!("making an eventfd: {error}"))?;
        let bell = Arc::new(bell);
        let (sender, receiver) = bounded(ASKS_MAX);
        let line = Line { sender, bell: Arc::clone(&bell) };
        let (ending, ended) = oneshot::channel();
        let thread = Builder::new()
            .name("control".into())
            .spawn(move || serve::run(&listener, &line, limits, ended))
            .map_err(|error| format!("starting the control thread: {error}"))?;
        let path = path.to_owned();
        Ok((Self { path, ending: Some(ending), thread: Some(thread) }, Asks { receiver, bell }))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // Nobody else listens here while this supervisor lives, so the file is ours.
        let _ = std::fs::remove_file(&self.path);
        self.ending = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
