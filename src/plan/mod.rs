//! Floor 1, pure: what the operator wants, checked. A [`Plan`] holds no doubt: every value is in
//! range, every name resolved, every default applied. `Option` stands only where "absent" differs
//! from every value.

pub mod check;
pub mod diff;
pub mod fault;
pub mod garden;
pub mod keys;
pub mod raw;
pub mod units;

pub use garden::Garden;

use crate::base::address::Address;
use crate::base::id::PoolIndex;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub server: Server,
    pub listeners: Vec<Listener>,
    pub sites: Vec<Site>,
    /// Sorted by name; at most [`crate::base::limits::POOLS_MAX`].
    pub pools: Vec<Pool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    Auto,
    Uring,
    Epoll,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub engine: EngineChoice,
    /// Listener threads; 0 = one per CPU.
    pub threads: u16,
    /// Identity of the listener when started as root; `None` = not set, so the default applies.
    pub user: Option<String>,
    pub connections_max: u32,
    /// What a drain may take before it is cut short.
    pub shutdown_limit: Duration,
    /// Path of the control socket; `None` = not set, so the default applies.
    pub control: Option<String>,
    /// Workers at once, over all pools.
    pub workers_max: u32,
    /// Answer to a host that no site serves.
    pub unknown_host: UnknownHost,
    pub limits: Limits,
    pub log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownHost {
    NotFound,
    Misdirected,
}

/// `[server.limits]`: what one client may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    /// Bytes per second; 0 = off.
    pub send_rate_min: u32,
    pub head_size: usize,
    pub header_count: usize,
    pub target_size: usize,
    /// Bytes; `u64::MAX` = no limit (written "0").
    pub body_size: u64,
}

/// `[server.log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub access: AccessLog,
    pub format: LogFormat,
    /// Of the operational log: "error" | "warn" | "info" | "debug".
    pub level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Stdout,
    File(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Combined,
}

/// `[[listen]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: Address,
    pub backlog: u32,
}

/// `[[site]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub name: String,
    /// Never empty: no `hosts` in the file means [`Host::Any`].
    pub hosts: Vec<Host>,
    /// Places in [`Plan::listeners`]; never empty.
    pub listeners: Vec<u16>,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Any,
    /// Lower case, without port.
    Exact(String),
    /// `*.shop.example` is kept as `.shop.example`, lower case.
    Suffix(String),
}

/// `[[site.route]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Starts with `/`; matches whole segments; in normal form; no trailing slash but for `/`.
    pub path: String,
    pub pool: PoolIndex,
}

/// `[pool.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: String,
    pub source: Source,
    pub upstream: Upstream,
    pub check: Option<Check>,
}

/// Where a pool's servers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// They run already. Never empty.
    Servers(Vec<Address>),
    /// The supervisor starts them; the listener is told of each that is ready.
    Garden(Box<Garden>),
    /// This pool's part of the configuration is refused; the fault, as told to the operator.
    Invalid(String),
}

/// How a worker's process is started: a garden whose command differs has to be recycled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Never empty; `{port}`, `{socket}`, `{fd}` and `{self}` (the running lychgate binary) not yet
    /// put in.
    pub argv: Vec<String>,
    pub bind: Bind,
    /// `None` = the supervisor's own.
    pub working_directory: Option<String>,
    /// Sorted by name.
    pub environment: Vec<(String, String)>,
    /// Asked after the process listens; `None` = listening is enough.
    pub ready: Option<Probe>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    Port,
    Unix,
    Fd,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub path: String,
    pub timeout: Duration,
}

/// `[pool.NAME.upstream]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub connect_timeout: Duration,
    /// To the first byte of the response head, and between two pieces of its body.
    pub response_timeout: Duration,
    /// Kept per server and listener thread.
    pub idle_connections: u32,
    pub idle_timeout: Duration,
}

/// `check = { ... }`: active health checks of running servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub fall: u32,
    pub rise: u32,
}
