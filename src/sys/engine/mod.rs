//! Two engines behind one seam: `uring` (io_uring, kernel 6.1 and later) and `epoll`.
//!
//! An engine belongs to the thread that started it. The owner works in turns: it calls
//! [`Engine::turn`], which carries out the writes ordered since the last one and waits; then
//! [`Engine::next`] until nothing is left, giving orders in between. Bytes handed out by a
//! completion stand until the next turn's writes are carried out, so they can be forwarded without
//! a copy. No order fails on the spot: what becomes of it is told by a completion.

mod backlog;
mod calls;
mod epoll;
mod outgoing;
mod pages;
mod queueing;
mod slot;
mod store;
#[cfg(test)]
mod tests;
mod uring;

pub use crate::base::ending::Ending;

use crate::base::address::{Address, Peer};
use crate::base::id::{Arrival, DoorId, SocketId};
use crate::sys::errno::Error;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Duration;
use store::Store;

/// Which engine the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// io_uring if this system lets us, else epoll.
    Auto,
    Uring,
    Epoll,
}

/// Received bytes, to be seen by [`Engine::bytes`] until the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    source: u32,
    offset: u32,
    len: u32,
}

/// What happened. Nothing is told of a socket before `adopt` or `connect` named it, nor after
/// `Closed` or `Refused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// To be answered by `adopt` or `turn_away` before the next completion is asked for; else the
    /// connection is closed.
    Accepted {
        door: DoorId,
        arrival: Arrival,
        peer: Peer,
    },
    /// The kernel refused to accept, for want of descriptors or memory. The engine tries again
    /// when a socket closes or after [`ACCEPT_PAUSE`]. Told once until a connection was accepted.
    AcceptPaused {
        door: DoorId,
        errno: Errno,
    },
    Received {
        id: SocketId,
        buffer: Buffer,
    },
    Ended {
        id: SocketId,
    },
    Broken {
        id: SocketId,
    },
    Unwritable {
        id: SocketId,
    },
    Backlog {
        id: SocketId,
        bytes: usize,
    },
    Connected {
        id: SocketId,
    },
    Refused {
        id: SocketId,
    },
    Closed {
        id: SocketId,
        unsent: usize,
    },
    /// The eventfd given at the start was written.
    Woken,
}

/// What an engine counts; of the process's thread that owns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `io_uring_enter` or `epoll_wait` calls.
    pub enters: u64,
    /// Submission queue entries; 0 under epoll.
    pub submissions: u64,
    /// Completion queue entries, or epoll events.
    pub completions: u64,
    /// System calls beside `enters` (epoll: recv, send, accept, epoll_ctl ...).
    pub calls: u64,
    /// A receive found no provided buffer.
    pub buffers_exhausted: u64,
    /// Multishot operations armed again after the kernel ended them.
    pub rearms: u64,
    /// Sends that the kernel did not take whole at once.
    pub sends_short: u64,
    /// Times that a door stopped accepting for want of descriptors or memory.
    pub accepts_paused: u64,
}

/// How long a door rests after the kernel had no descriptor or memory for a connection.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that one socket may have waiting here. The owner is told of a backlog from its first
/// byte, so only one that goes on writing regardless gets there: the socket becomes unwritable.
pub const BACKLOG_SIZE_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub enum Engine {
    Uring(Box<uring::Uring>),
    Epoll(Box<epoll::Epoll>),
}

/// Gives each order to the engine that runs.
macro_rules! each {
    ($engine:expr, $inner:ident => $call:expr) => {
        match $engine {
            Engine::Uring($inner) => $call,
            Engine::Epoll($inner) => $call,
        }
    };
}

impl Engine {
    /// Starts an engine on the calling thread. `wake` is an eventfd that the engine drains. With
    /// the engine comes, when `Auto` had to take epoll, the cause: one sentence for the log.
    pub fn start(choice: Choice, wake: OwnedFd) -> Result<(Self, Option<String>), Error> {
        // Two writes may be told of twice and are read at once: the second read must not wait.
        let nonblocking = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
        fcntl(&wake, nonblocking).map_err(|errno| Error::new("fcntl", errno))?;
        if choice == Choice::Epoll {
            return Ok((Self::Epoll(Box::new(epoll::Epoll::start(wake)?)), None));
        }
        match uring::Uring::start() {
            Ok(mut engine) => {
                engine.watch(wake);
                Ok((Self::Uring(Box::new(engine)), None))
            }
            Err(error) if choice == Choice::Auto => {
                let engine = Self::Epoll(Box::new(epoll::Epoll::start(wake)?));
                Ok((engine, Some(error.to_string())))
            }
            Err(error) => Err(error),
        }
    }

    /// As the configuration writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "uring",
            Self::Epoll(_) => "epoll",
        }
    }

    /// Accepts on a listening socket. A door that is open already gets the new socket instead.
    pub fn open(&mut self, door: DoorId, socket: OwnedFd) {
        each!(self, engine => engine.open(door, socket));
    }

    /// Accepts no more on a door and closes its socket. What the kernel had accepted for us is
    /// still told.
    pub fn shut(&mut self, door: DoorId) {
        each!(self, engine => engine.shut(door));
    }

    /// Names the connection that the last completion told of. The name must be free.
    pub fn adopt(&mut self, arrival: Arrival, id: SocketId) {
        each!(self, engine => engine.adopt(arrival, id));
    }

    /// Closes the connection that the last completion told of.
    pub fn turn_away(&mut self, arrival: Arrival) {
        each!(self, engine => engine.turn_away(arrival));
    }

    /// Delivers what arrives, until `hold`.
    pub fn recv(&mut self, id: SocketId) {
        each!(self, engine => engine.recv(id));
    }

    /// Delivers nothing more until `recv`.
    pub fn hold(&mut self, id: SocketId) {
        each!(self, engine => engine.hold(id));
    }

    /// Writes a range of the arena that the coming turn is given.
    pub fn send(&mut self, id: SocketId, range: Range<usize>) {
        let offset = u32::try_from(range.start).expect("an arena is below 4 GiB");
        let len = u32::try_from(range.len()).expect("an arena is below 4 GiB");
        each!(self, engine => engine.queue(id, store::arena(), offset, len));
    }

    /// Writes a range of received bytes.
    pub fn forward(&mut self, id: SocketId, buffer: Buffer, range: Range<usize>) {
        assert!(range.end <= buffer.len as usize);
        let start = u32::try_from(range.start).expect("within a block");
        let len = u32::try_from(range.len()).expect("within a block");
        each!(self, engine => engine.queue(id, buffer.source, buffer.offset + start, len));
    }

    /// Connects a new socket. The name must be free.
    pub fn connect(&mut self, id: SocketId, address: &Address) {
        each!(self, engine => engine.connect(id, address));
    }

    /// Ends a connection once what was ordered for it before is carried out. A harder ending may
    /// follow a softer one. A connect that this ends is told of as `Closed`, even if it failed.
    pub fn end(&mut self, id: SocketId, how: Ending) {
        each!(self, engine => engine.end(id, how));
    }

    /// Carries out what was ordered, then waits until something happened or `timeout` is over
    /// (`None` = no limit). Bytes of earlier completions are gone afterwards.
    pub fn turn(&mut self, arena: &[u8], timeout: Option<Duration>) -> Result<(), Error> {
        each!(self, engine => engine.turn(arena, timeout))
    }

    /// The next thing that happened; `None` ends the turn.
    #[expect(clippy::should_implement_trait, reason = "orders are given between two calls")]
    pub fn next(&mut self) -> Option<Completion> {
        each!(self, engine => engine.next())
    }

    pub fn bytes(&self, buffer: Buffer) -> &[u8] {
        self.store().bytes(buffer.source, buffer.offset, buffer.len)
    }

    pub fn counters(&self) -> &Counters {
        each!(self, engine => &engine.counters)
    }

    fn store(&self) -> &Store {
        each!(self, engine => &engine.store)
    }
}
