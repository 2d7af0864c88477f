//! A thread of the data plane: carries completions from the engine to the machine and orders back,
//! and takes messages from the control side of the listener process. Decides nothing.

use crate::base::address::Address;
use crate::base::id::{DoorId, ServerIndex};
use crate::machine::listener::Shared;
use crate::machine::tally::Tally;
use crate::plan::{EngineChoice, Plan};
use crate::shell::logs::AccessSender;
use crate::sys::engine::Counters;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a thread is given for its life.
#[derive(Debug)]
pub struct Settings {
    pub thread: u16,
    pub engine: EngineChoice,
    pub seed: u64,
    pub shared: Arc<Shared>,
    pub messages: crossbeam::channel::Receiver<Message>,
    /// An eventfd, written after each message so that a sleeping engine looks.
    pub wake: OwnedFd,
    pub log: AccessSender,
    pub reports: crossbeam::channel::Sender<Report>,
}

/// Control side to thread.
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
    },
    Served {
        pool: String,
        server: ServerIndex,
        address: Option<Address>,
    },
    /// Stop accepting, finish what runs; `Report::Drained` follows, then the thread ends.
    Drain,
    /// End now.
    Stop,
    /// `Report::Counters` follows.
    Count,
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
    Counters {
        thread: u16,
        tally: Box<Tally>,
        engine: Box<Counters>,
    },
}
