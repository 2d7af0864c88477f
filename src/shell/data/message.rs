//! What the control side of the listener process and its data threads say to each other.

use crate::base::address::Address;
use crate::base::id::{DoorId, ServerIndex};
use crate::machine::gate::{Gate, Grant};
use crate::machine::listener::seam::Input;
use crate::machine::pool::seam::Standing;
use crate::machine::tally::Tally;
use crate::plan::Plan;
use crate::shell::control::RequestRow;
use crate::sys::engine::Counters;
use crate::sys::process;
use crossbeam::channel::Sender;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Control side to thread; `Granted` from other threads, too.
#[derive(Debug)]
pub enum Message {
    /// Start accepting on this listening socket.
    Open {
        door: DoorId,
        socket: OwnedFd,
    },
    /// Stop accepting on a door and close the socket.
    Shut {
        door: DoorId,
    },
    Plan {
        plan: Arc<Plan>,
        doors: Arc<[DoorId]>,
        gates: Arc<[Option<Arc<Gate>>]>,
    },
    /// What the thread that checks holds a server to be.
    Judged {
        pool: String,
        address: Address,
        is_well: bool,
    },
    News(News),
    /// A request that waits here, or waited, was granted a slot.
    Granted {
        pool: String,
        grant: Grant,
    },
    /// Requests that execute or wait, of one pool or all, at least so old; `Report::Listed`
    /// follows.
    List {
        token: u64,
        pool: Option<String>,
        older: Duration,
    },
    /// Stop accepting, finish what runs; `Report::Drained` follows, then the thread ends.
    Drain,
    /// End now.
    Stop,
    /// `Report::Counters` follows.
    Count,
}

/// What all threads are told of a garden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A worker has this place from now on. `Report::Known` follows.
    Admitted {
        pool: String,
        place: ServerIndex,
        slot: u16,
        generation: u32,
        address: Address,
    },
    /// The place is closed.
    Retired {
        pool: String,
        place: ServerIndex,
    },
    /// The worker is gone or released; its place is forgotten. `Report::Known` follows.
    Dismissed {
        pool: String,
        place: ServerIndex,
    },
    Stood {
        pool: String,
        standing: Standing,
    },
    Paged {
        pool: String,
        page: Option<Arc<[u8]>>,
    },
}

impl News {
    /// As the machine hears it.
    pub(super) fn input(self) -> Input<'static> {
        match self {
            Self::Admitted { pool, place, slot, generation, address } => {
                Input::Admitted { pool, place, slot, generation, address }
            }
            Self::Retired { pool, place } => Input::Retired { pool, place },
            Self::Dismissed { pool, place } => Input::Dismissed { pool, place },
            Self::Stood { pool, standing } => Input::Stood { pool, standing },
            Self::Paged { pool, page } => Input::Paged { pool, page },
        }
    }

    /// The place of which the control side is to be told that this thread knows.
    pub(super) fn acknowledged(&self) -> Option<(&str, ServerIndex)> {
        match self {
            Self::Admitted { pool, place, .. } | Self::Dismissed { pool, place } => {
                Some((pool, *place))
            }
            Self::Retired { .. } | Self::Stood { .. } | Self::Paged { .. } => None,
        }
    }
}

/// Thread to control side.
#[derive(Debug)]
pub enum Report {
    /// The engine runs; `fallback` names the cause when "auto" had to take epoll.
    Started {
        thread: u16,
        engine: &'static str,
        fallback: Option<String>,
    },
    /// The thread could not start or had to give up: what was attempted, on what, why, remedy.
    Failed {
        thread: u16,
        why: String,
    },
    Drained {
        thread: u16,
    },
    /// A check of this thread ended; the others are to be told.
    Judged {
        thread: u16,
        pool: String,
        address: Address,
        is_well: bool,
    },
    Counters {
        thread: u16,
        tally: Box<Tally>,
        engine: Box<Counters>,
    },
    /// One thread knows of a worker that has, or no longer has, this place.
    Known {
        pool: String,
        place: ServerIndex,
    },
    /// A request waits and no slot is free.
    Wanted {
        pool: String,
    },
    /// A closed place has nothing running any more.
    Emptied {
        pool: String,
        place: ServerIndex,
    },
    /// A worker was given as many requests as it was to have.
    Spent {
        pool: String,
        place: ServerIndex,
    },
    /// What a worker sent is not HTTP.
    Violated {
        pool: String,
        place: ServerIndex,
    },
    /// The oldest of what a thread was asked for, oldest first.
    Listed {
        token: u64,
        rows: Vec<RequestRow>,
    },
}

/// The way to a thread, for the control side and for other threads.
#[derive(Clone, Debug)]
pub struct Peer {
    pub messages: Sender<Message>,
    /// Rung after each message.
    pub bell: Arc<OwnedFd>,
}

impl Peer {
    /// A thread that has ended hears nothing, and has said why or is about to.
    pub fn tell(&self, message: Message) -> io::Result<()> {
        let _ = self.messages.send(message);
        process::ring(&self.bell)
    }
}
