//! What a pool's machine hears and orders: the whole conversation about the life of workers. It
//! knows no process id, no address and no transport.

pub use crate::plan::garden::Trigger;

use crate::base::time::Instant;
use crate::machine::event::Event;
use crate::plan::Garden;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A worker: its slot of the garden, stable over recycling, and its generation, which no other
/// worker of the pool ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId {
    pub slot: u16,
    pub generation: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Killed by the kernel for want of memory.
    OutOfMemory,
    /// It was adopted, and the kernel does not tell.
    Unknown,
}

/// Why a worker counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No process could be made, or the program not be executed.
    Spawn,
    StartupTimeout,
    ShutdownTimeout,
    /// It ended by itself, in any way.
    Crash(Exit),
    PingTimeout,
    Deadlock,
    ProtocolViolation,
    SelfReported,
    OutOfMemory,
}

/// Where in its life a worker is. A worker that is gone has no phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The process is ordered or there, and not proven ready.
    Starting,
    /// Ready; the listener is told and has not confirmed yet.
    Admitted,
    Serving,
    /// Takes nothing new; finishes what runs.
    Draining,
    /// SIGTERM was sent.
    Terminating,
    /// SIGKILL was sent.
    Killing,
    /// Released after a failure.
    Orphaned,
}

/// What the listener does with requests of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Running,
    /// Like running, but `queue.restart_limit` holds: a crashed worker is replaced, none serves.
    Replacing,
    /// Requests wait at the door, at most so many.
    Paused {
        limit: u32,
    },
    /// Refused: by the operator.
    Stopped,
    /// Refused: rapid-fail.
    Tripped,
}

/// What the listener says about one worker; counts since the worker was admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub executing: u32,
    pub delivered: u64,
    /// When the last byte of any response came.
    pub answered: Instant,
}

/// What the kernel says about one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes, anonymous and swapped.
    pub private: u64,
    pub virtual_size: u64,
    /// Of physical memory or the control group's limit, of `private`.
    pub percent: u8,
}

/// What a worker says of itself (NOTIFY_SOCKET).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// `STOPPING=1`: it ends by its own wish; a clean exit after it is no failure.
    Stopping,
    /// `X_LYCHGATE_RECYCLE=…`
    Recycle,
    /// `X_LYCHGATE_UNHEALTHY=…`, `WATCHDOG=trigger`
    Unhealthy,
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Recycle,
    Stop,
    Start,
    /// Requests wait, at most so many.
    Pause {
        limit: u32,
    },
    Resume,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The settings in force from now on. `is_changed`: workers were started in a way that no
    /// longer holds. `workers` is resolved: never 0.
    Planned {
        garden: Box<Garden>,
        is_changed: bool,
    },
    /// The pool is in no configuration any more: end all workers.
    Removed,
    /// It is this pool's turn to start a worker: answers `Pool::wants_start`.
    MayStart,
    /// `server.max_workers` is reached; asked again when a worker of any pool is gone.
    MayNotStart,
    Spawned {
        worker: WorkerId,
    },
    /// Nothing exists.
    SpawnFailed {
        worker: WorkerId,
    },
    /// Proven: it listens where it was told, `ready.path` answers, it was warmed up.
    Ready {
        worker: WorkerId,
    },
    /// The listener gives it requests from now on.
    Serving {
        worker: WorkerId,
    },
    /// After `Retire`: the listener has nothing running on it.
    Emptied {
        worker: WorkerId,
    },
    /// The process is gone and reaped.
    Exited {
        worker: WorkerId,
        exit: Exit,
    },
    /// A request waits and no slot is free.
    Wanted,
    /// Once a second, from the listener: requests that wait, and all workers it knows.
    Measured {
        waiting: u32,
        workers: Vec<(WorkerId, Figures)>,
    },
    /// The number of requests given with `Admit` was delivered.
    Spent {
        worker: WorkerId,
    },
    /// What it sent is not HTTP.
    Violated {
        worker: WorkerId,
    },
    Weighed {
        worker: WorkerId,
        memory: Memory,
    },
    /// Answers `Ping`; a failed ping says nothing, time does.
    Pinged {
        worker: WorkerId,
    },
    Reported {
        worker: WorkerId,
        report: Report,
    },
    /// A time of `recycle.at` has come.
    Scheduled,
    /// The command's program or working directory resolves to another place.
    Released,
    Asked(Verb),
    /// The operator ends an orphan.
    OrphanEnded {
        worker: WorkerId,
    },
    /// A listener that knows nothing serves (again): every serving worker is to be admitted anew.
    ListenerCame,
    /// From an earlier supervisor, before anything else about the pool but `Planned`.
    Adopted(Legacy),
    /// The whole server ends: no starts; what drains is to be ended by `deadline`.
    Ending {
        deadline: Instant,
    },
    /// Nothing but time passed.
    Woken,
}

/// What an earlier supervisor left of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legacy {
    pub standing: Standing,
    /// The highest that a worker ever had.
    pub generation: u32,
    pub workers: Vec<Adopted>,
}

/// A worker that an earlier supervisor left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    pub worker: WorkerId,
    pub phase: Phase,
    /// When it was started.
    pub since: Instant,
    /// Requests that it had been given when the listener counted last.
    pub delivered: u64,
    /// It was being replaced for this reason.
    pub recycling: Option<Trigger>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start a process, and prove it ready; the very next input about it is `Spawned` or
    /// `SpawnFailed`.
    Spawn {
        worker: WorkerId,
    },
    /// Tell the listener to give it requests; `Serving` follows. After so many requests
    /// (0 = never) `Spent` follows.
    Admit {
        worker: WorkerId,
        requests_max: u64,
        /// What it was given before.
        delivered: u64,
    },
    /// Tell the listener to give it nothing more; `Emptied` follows.
    Retire {
        worker: WorkerId,
    },
    /// It is gone or released: the listener forgets it, and what still runs on it fails.
    Dismiss {
        worker: WorkerId,
    },
    /// SIGTERM.
    Terminate {
        worker: WorkerId,
    },
    /// SIGKILL to all that it started.
    Kill {
        worker: WorkerId,
    },
    /// Ask it for a sign of life; `Pinged` follows if it answers.
    Ping {
        worker: WorkerId,
    },
    /// Released: run `lifecycle.orphan_command`.
    Orphan {
        worker: WorkerId,
        why: Failure,
    },
    /// What the listener does with the pool's requests. `may_grow`: it may ask for another worker.
    Stand {
        standing: Standing,
        may_grow: bool,
    },
    /// Rapid-fail: run `rapid_fail.command`.
    Trip,
    Tell(Event),
    /// After `Removed` or `Ending`: no worker is left but orphans.
    Over,
}

/// One worker, for people and for the next supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    pub worker: WorkerId,
    pub phase: Phase,
    /// When it was started, and when the phase began.
    pub since: Instant,
    pub phase_since: Instant,
    pub figures: Figures,
    pub memory: Memory,
    /// It is being replaced for this reason.
    pub recycling: Option<Trigger>,
}

/// The whole pool, for people and for the next supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub standing: Standing,
    /// The highest that a worker ever had.
    pub generation: u32,
    /// By slot, then generation.
    pub workers: Vec<WorkerView>,
    pub waiting: u32,
    /// Within the window of rapid-fail.
    pub failures: u32,
    pub failures_total: u64,
    pub last_failure: Option<(Instant, Failure)>,
    pub starts_total: u64,
    pub recycles_total: u64,
    /// The next start waits for this.
    pub backoff_until: Option<Instant>,
}
