//! The configuration that is simulated: three pools, two doors, short limits.

use super::chance::{one_of, range};
use lychgate::base::address::Address;
use lychgate::base::id::{DoorId, PoolIndex};
use lychgate::base::prng::Prng;
use lychgate::plan::garden::Reject;
use lychgate::plan::{
    AccessLog, Bind, Check, Command, EngineChoice, Garden, Host, Level, Limits, Listener, Log,
    LogFormat, Plan, Pool, Route, Server, Site, Source, UnknownHost, Upstream,
};
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(3);
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);
pub(crate) const QUEUE_TIMEOUT: Duration = Duration::from_secs(3);
const DISCONNECT_CHECK: Duration = Duration::from_millis(400);
pub(crate) const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// How late a timeout may be: a tick of the wheel, what a tick rounds up, and 10 ms.
pub(crate) const LATENESS_MAX: Duration = Duration::from_millis(20);
pub(crate) const HEAD_SIZE: usize = 8 * 1024;
pub(crate) const TARGET_SIZE: usize = 2 * 1024;
pub(crate) const HEADER_COUNT: usize = 40;
pub(crate) const BODY_SIZE: u64 = 400_000;
pub(crate) const CHECK_PATH: &str = "/healthz";

/// The doors of the plan's two listeners: numbers that are no indexes.
pub(crate) const DOORS: [DoorId; 2] = [DoorId(7), DoorId(3)];
pub(crate) const POOL_APP: usize = 0;
pub(crate) const POOL_ONE: usize = 1;
pub(crate) const POOL_WORK: usize = 2;
const POOL_NAMES: [&str; 3] = ["app", "one", "work"];

/// What one run varies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) app_servers: u16,
    pub(crate) has_check: bool,
    pub(crate) connections_max: u32,
    pub(crate) send_rate_min: u32,
    pub(crate) is_misdirected: bool,
    pub(crate) idle_connections: u32,
    pub(crate) log: LogFormat,
    /// Of each worker of the garden.
    pub(crate) slots: u32,
    pub(crate) queue_limit: u32,
    pub(crate) disconnect_check: Option<Duration>,
    pub(crate) resets: bool,
    pub(crate) is_least_busy: bool,
}

impl Setting {
    pub(crate) fn draw(prng: &mut Prng) -> Self {
        Self {
            app_servers: u16::try_from(range(prng, 1, 3)).unwrap_or(1),
            has_check: prng.one_in(3),
            connections_max: if prng.one_in(10) { 2 } else { 1_000 },
            send_rate_min: one_of(prng, &[240, 240, 5_000]),
            is_misdirected: prng.one_in(2),
            idle_connections: one_of(prng, &[0, 1, 16]),
            log: one_of(prng, &[LogFormat::Json, LogFormat::Combined]),
            slots: one_of(prng, &[1, 1, 2, 3, 0]),
            queue_limit: one_of(prng, &[1, 3, 100]),
            disconnect_check: one_of(prng, &[None, Some(DISCONNECT_CHECK)]),
            resets: prng.one_in(5),
            is_least_busy: prng.one_in(3),
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let source = |pool: usize| match pool {
            POOL_APP => Source::Servers((0..self.app_servers).map(app_address).collect()),
            POOL_ONE => Source::Servers(vec![one_address()]),
            _ => Source::Garden(Box::new(self.garden())),
        };
        let pool = |at: usize| Pool {
            name: String::from(POOL_NAMES[at]),
            source: source(at),
            upstream: Upstream {
                connect_timeout: CONNECT_TIMEOUT,
                response_timeout: RESPONSE_TIMEOUT,
                idle_connections: self.idle_connections,
                idle_timeout: UPSTREAM_IDLE_TIMEOUT,
            },
            check: (at == POOL_ONE && self.has_check).then(check),
        };
        Plan {
            server: self.server(),
            listeners: DOORS.iter().map(|door| listener(*door)).collect(),
            sites: sites(),
            pools: (0..POOL_NAMES.len()).map(pool).collect(),
        }
    }

    fn garden(&self) -> Garden {
        let mut garden = Garden::of(command());
        garden.workers = 4;
        garden.slots = self.slots;
        garden.queue.limit = self.queue_limit;
        garden.queue.timeout = QUEUE_TIMEOUT;
        garden.queue.disconnect_check = self.disconnect_check;
        garden.queue.reject = if self.resets { Reject::Reset } else { Reject::Unavailable };
        garden
    }

    fn server(&self) -> Server {
        Server {
            engine: EngineChoice::Auto,
            threads: 1,
            user: None,
            connections_max: self.connections_max,
            shutdown_limit: Duration::from_mins(1),
            control: None,
            workers_max: 1000,
            unknown_host: if self.is_misdirected {
                UnknownHost::Misdirected
            } else {
                UnknownHost::NotFound
            },
            limits: Limits {
                head_timeout: HEAD_TIMEOUT,
                body_timeout: BODY_TIMEOUT,
                idle_timeout: IDLE_TIMEOUT,
                send_rate_min: self.send_rate_min,
                head_size: HEAD_SIZE,
                header_count: HEADER_COUNT,
                target_size: TARGET_SIZE,
                body_size: BODY_SIZE,
            },
            log: Log { access: AccessLog::Stdout, format: self.log, level: Level::Info },
        }
    }
}

/// Where a request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Pool(usize),
    /// No site serves the host.
    NoHost,
    /// The site has no such path.
    NoPath,
}

/// The pool of a door, a host without port and a path: what the sites below mean.
pub(crate) fn place(door: DoorId, host: &str, path: &str) -> Place {
    if door == DOORS[1] {
        let is_known = host == "only.test" || host.ends_with(".sub.test");
        return if is_known { Place::Pool(POOL_APP) } else { Place::NoHost };
    }
    let first = path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
    let found = POOL_NAMES.iter().position(|name| *name == first);
    found.map_or(Place::NoPath, Place::Pool)
}

pub(crate) fn pool_name(pool: usize) -> &'static str {
    POOL_NAMES[pool]
}

/// The pool that an address belongs to.
pub(crate) fn pool_of(address: &Address) -> usize {
    if *address == one_address() {
        POOL_ONE
    } else if generation_of(address).is_some() {
        POOL_WORK
    } else {
        POOL_APP
    }
}

/// Where a worker of the garden listens.
pub(crate) fn work_address(generation: u32) -> Address {
    let port = 3_000 + u16::try_from(generation).unwrap_or(0);
    Address::Tcp(SocketAddr::from(([10, 2, 0, 1], port)))
}

/// Which worker of the garden listens there.
pub(crate) fn generation_of(address: &Address) -> Option<u32> {
    match address {
        Address::Tcp(tcp) if tcp.ip().to_string() == "10.2.0.1" => {
            Some(u32::from(tcp.port()) - 3_000)
        }
        _ => None,
    }
}

fn one_address() -> Address {
    Address::Unix(String::from("/run/one.sock"))
}

fn app_address(server: u16) -> Address {
    Address::Tcp(SocketAddr::from(([10, 1, 0, 1], 8_000 + server)))
}

fn listener(door: DoorId) -> Listener {
    let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 80 + door.0)));
    Listener { address, backlog: 16 }
}

fn check() -> Check {
    Check {
        path: String::from(CHECK_PATH),
        interval: Duration::from_millis(700),
        timeout: Duration::from_millis(300),
        fall: 2,
        rise: 1,
    }
}

fn command() -> Command {
    Command {
        argv: vec![String::from("work")],
        bind: Bind::Port,
        working_directory: None,
        environment: Vec::new(),
        ready: None,
    }
}

fn sites() -> Vec<Site> {
    let route = |path: &str, pool: usize| Route {
        path: String::from(path),
        pool: PoolIndex(u16::try_from(pool).unwrap_or(0)),
    };
    vec![
        Site {
            name: String::from("all"),
            hosts: vec![Host::Any],
            listeners: vec![0],
            routes: vec![
                route("/app", POOL_APP),
                route("/one", POOL_ONE),
                route("/work", POOL_WORK),
            ],
        },
        Site {
            name: String::from("some"),
            hosts: vec![
                Host::Exact(String::from("only.test")),
                Host::Suffix(String::from(".sub.test")),
            ],
            listeners: vec![1],
            routes: vec![route("/", POOL_APP)],
        },
    ]
}
