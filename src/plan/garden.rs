//! `[pool.NAME]` with a command: the garden of workers that lychgate starts, watches and recycles.

use super::{Command, Probe};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// What a pool's workers are and how they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garden {
    pub command: Command,
    /// Requests that a worker must have answered before it serves; only paths.
    pub warm_up: Vec<String>,
    pub start: Start,
    /// False: the pool stays stopped until the operator starts it.
    pub autostart: bool,
    /// Workers at most; 0 = one for each CPU.
    pub workers: u16,
    /// Workers that idling leaves there.
    pub workers_min: u16,
    /// Requests at once of one worker; 0 = no limit.
    pub slots: u32,
    pub dispatch: Dispatch,
    pub affinity: Option<Affinity>,
    pub queue: Queue,
    pub lifecycle: Lifecycle,
    pub health: Health,
    pub recycle: Recycle,
    pub rapid_fail: RapidFail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    OnDemand,
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    RoundRobin,
    LeastBusy,
}

/// What pins a client to a slot of the garden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// A signed cookie of this name, set by us.
    Cookie(String),
    /// The value of this field; lower case.
    Header(String),
    ClientIp,
}

/// `[pool.NAME.queue]`: requests that wait for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub limit: u32,
    /// Instead of `limit`, while a crashed worker is replaced and no other serves.
    pub restart_limit: u32,
    pub timeout: Duration,
    /// How long a request waits before its client's leaving takes it out of the queue; `None` = it
    /// is never looked at.
    pub disconnect_check: Option<Duration>,
    pub reject: Reject,
    /// Of `Retry-After`, in whole seconds; 0 = no such field.
    pub retry_after: Duration,
    /// Path of a file that is sent as the body of the pool's 503; `None` = the built-in page.
    pub error_page: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    Unavailable,
    Reset,
}

/// `[pool.NAME.lifecycle]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    pub startup_limit: Duration,
    /// For what a retired worker still runs, and again from SIGTERM to SIGKILL at most.
    pub shutdown_limit: Duration,
    /// `None` = workers are not ended for being idle.
    pub idle_timeout: Option<Duration>,
    /// Failed workers are released, not killed.
    pub orphan: bool,
    /// With `{pid}`, `{reason}` and `{pool}` not yet put in; empty = none.
    pub orphan_command: Vec<String>,
    pub orphans_max: u16,
}

/// `[pool.NAME.health]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `None` = no pings.
    pub ping_interval: Option<Duration>,
    pub ping_timeout: Duration,
    /// The path asked; `None` = that of `ready`, else `OPTIONS *`.
    pub ping_path: Option<String>,
    /// `None` = deadlocks are not looked for.
    pub deadlock_interval: Option<Duration>,
    pub deadlock_pause: Duration,
}

/// `[pool.NAME.recycle]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recycle {
    /// `None` = off.
    pub every: Option<Duration>,
    /// Minutes since local midnight; sorted.
    pub at: Vec<u16>,
    /// Percent by which `every` and `requests` differ between the workers of a garden.
    pub jitter: u8,
    /// 0 = off.
    pub requests: u64,
    /// Bytes; 0 = off.
    pub private_memory: u64,
    /// Bytes; 0 = off.
    pub virtual_memory: u64,
    /// Of physical memory or of the control group's limit, whichever is less; 0 = off.
    pub memory_percent: u8,
    pub overlap: bool,
    pub on_config_change: bool,
    /// Which recycles are reported as events.
    pub log: Vec<Trigger>,
}

/// Why a worker is recycled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    Every,
    At,
    Requests,
    PrivateMemory,
    VirtualMemory,
    MemoryPercent,
    /// The operator asked.
    Demand,
    /// The pool's configuration or its release directory changed.
    Config,
    /// The worker asked, or its answers break the protocol.
    Unhealthy,
}

impl Trigger {
    pub const ALL: [Self; 9] = [
        Self::Every,
        Self::At,
        Self::Requests,
        Self::PrivateMemory,
        Self::VirtualMemory,
        Self::MemoryPercent,
        Self::Demand,
        Self::Config,
        Self::Unhealthy,
    ];

    /// As in `recycle.log` and in events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Every => "every",
            Self::At => "at",
            Self::Requests => "requests",
            Self::PrivateMemory => "private-memory",
            Self::VirtualMemory => "virtual-memory",
            Self::MemoryPercent => "memory-percent",
            Self::Demand => "demand",
            Self::Config => "config",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// `[pool.NAME.rapid_fail]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RapidFail {
    /// This many within `window` trip the pool; 0 = off.
    pub failures: u32,
    pub window: Duration,
    /// Run when the pool trips, with `{pool}` not yet put in; empty = none.
    pub command: Vec<String>,
}

impl Garden {
    /// What to ask a worker to learn that it lives; `None` = `OPTIONS *`.
    pub fn ping_path(&self) -> Option<&str> {
        let ready = || self.command.ready.as_ref().map(|Probe { path, .. }| path.as_str());
        self.health.ping_path.as_deref().or_else(ready)
    }
}

impl Garden {
    /// A garden with every setting at its default; a test holds it to the table of keys.
    pub fn of(command: Command) -> Self {
        const MINUTE: Duration = Duration::from_mins(1);
        Self {
            command,
            warm_up: Vec::new(),
            start: Start::OnDemand,
            autostart: true,
            workers: 1,
            workers_min: 0,
            slots: 0,
            dispatch: Dispatch::RoundRobin,
            affinity: None,
            queue: Queue {
                limit: 1000,
                restart_limit: 10,
                timeout: MINUTE * 2,
                disconnect_check: Some(Duration::from_secs(5)),
                reject: Reject::Unavailable,
                retry_after: Duration::from_secs(5),
                error_page: None,
            },
            lifecycle: Lifecycle {
                startup_limit: Duration::from_secs(90),
                shutdown_limit: Duration::from_secs(90),
                idle_timeout: Some(MINUTE * 20),
                orphan: false,
                orphan_command: Vec::new(),
                orphans_max: 2,
            },
            health: Health {
                ping_interval: Some(Duration::from_secs(30)),
                ping_timeout: Duration::from_secs(90),
                ping_path: None,
                deadlock_interval: Some(MINUTE * 3),
                deadlock_pause: MINUTE * 9,
            },
            recycle: Recycle {
                every: Some(MINUTE * 60 * 29),
                at: Vec::new(),
                jitter: 10,
                requests: 0,
                private_memory: 0,
                virtual_memory: 0,
                memory_percent: 0,
                overlap: true,
                on_config_change: true,
                log: Trigger::ALL.to_vec(),
            },
            rapid_fail: RapidFail { failures: 5, window: MINUTE * 5, command: Vec::new() },
        }
    }
}
