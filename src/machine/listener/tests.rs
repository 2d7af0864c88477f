//! The plainest exchanges, step by step; everything else is the simulation's.

mod garden;

use super::seam::{Effect, Ending, Input, Outbox};
use super::{Listener, Shared};
use crate::base::address::{Address, Peer};
use crate::base::id::{Arrival, DoorId, PoolIndex, SocketId};
use crate::base::time::Instant;
use crate::plan::{
    AccessLog, Bind, Command, EngineChoice, Garden, Host, Level, Limits, Log, LogFormat, Plan,
    Pool, Route, Server, Site, Source, UnknownHost, Upstream,
};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

fn plan() -> Plan {
    let seconds = Duration::from_secs;
    Plan {
        server: Server {
            engine: EngineChoice::Auto,
            threads: 1,
            user: None,
            connections_max: 100,
            shutdown_limit: seconds(30),
            control: None,
            workers_max: 1000,
            unknown_host: UnknownHost::NotFound,
            limits: Limits {
                head_timeout: seconds(30),
                body_timeout: seconds(60),
                idle_timeout: seconds(120),
                send_rate_min: 240,
                head_size: 32 * 1024,
                header_count: 100,
                target_size: 8 * 1024,
                body_size: u64::MAX,
            },
            log: Log { access: AccessLog::Stdout, format: LogFormat::Json, level: Level::Info },
        },
        listeners: vec![],
        sites: vec![Site {
            name: "all".to_string(),
            hosts: vec![Host::Any],
            listeners: vec![0],
            routes: vec![Route { path: "/".to_string(), pool: PoolIndex(0) }],
        }],
        pools: vec![Pool {
            name: "app".to_string(),
            source: Source::Servers(vec![Address::Unix("/app".to_string())]),
            upstream: Upstream {
                connect_timeout: seconds(5),
                response_timeout: seconds(60),
                idle_connections: 8,
                idle_timeout: seconds(4),
            },
            check: None,
        }],
    }
}

/// One client, connected; its steps' orders as text.
struct Scene {
    listener: Listener,
    out: Outbox,
    now: Instant,
    client: SocketId,
}

impl Scene {
    fn new() -> Self {
        let mut listener = Listener::new(Instant(0), 0, 1, Arc::new(Shared::default()));
        let mut out = Outbox::default();
        let planned = Input::Planned {
            plan: Arc::new(plan()),
            doors: Arc::new([DoorId(0)]),
            gates: Arc::default(),
        };
        listener.step(Instant(0), planned, &mut out);
        assert_eq!(out.effects, []);
        let peer = Peer::Tcp("192.0.2.1:1".parse().unwrap());
        let accepted = Input::Accepted { door: DoorId(0), arrival: Arrival(0), peer };
        listener.step(Instant(0), accepted, &mut out);
        let [Effect::Adopt { id, .. }, Effect::Recv { .. }] = out.effects[..] else {
            panic!("{:?}", out.effects)
        };
        Self { listener, out, now: Instant(0), client: id }
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Effect> {
        self.out.effects.clear();
        self.out.bytes.clear();
        self.listener.step(self.now, input, &mut self.out);
        self.out.effects.clone()
    }

    fn sent(&self, place: usize) -> (SocketId, String) {
        let Effect::Send { to, range } = &self.out.effects[place] else {
            panic!("{:?}", self.out.effects)
        };
        let text = String::from_utf8_lossy(&self.out.bytes[range.clone()]);
        (*to, text.into_owned())
    }
}

#[test]
fn a_request_connects_and_the_next_one_reuses() {
    let mut scene = Scene::new();
    let client = scene.client;
    let request = b"GET /x HTTP/1.1\r\nHost: h\r\nX-Request-Id: r1\r\n\r\n";
    let effects = scene.step(Input::Received { id: client, bytes: request });
    let [Effect::Connect { id: server, .. }] = effects[..] else { panic!("{effects:?}") };
    let effects = scene.step(Input::Connected { id: server });
    assert_eq!(effects[0], Effect::Recv { id: server });
    let (to, text) = scene.sent(1);
    assert_eq!(to, server);
    assert_eq!(
        text,
        "GET /x HTTP/1.1\r\nHost: h\r\nVia: 1.1 lychgate\r\nX-Forwarded-For: 192.0.2.1\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\
         Forwarded: for=192.0.2.1;proto=http;host=\"h\"\r\nX-Request-Id: r1\r\n\
         X-Request-Start: t=0\r\n\r\n"
    );
    let answer = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nhi";
    let effects = scene.step(Input::Received { id: server, bytes: answer });
    assert_eq!(effects.len(), 1, "head and body in one write: {effects:?}");
    let (to, text) = scene.sent(0);
    assert_eq!(to, client);
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\nVia: 1.1 lychgate\r\n\r\nhi"
    );
    let effects = scene.step(Input::Received { id: client, bytes: request });
    assert_eq!(effects.len(), 1, "no connection is made: {effects:?}");
    assert_eq!(scene.sent(0).0, server);
}

#[test]
fn a_stale_connection_is_replaced_once_then_the_answer_is_502() {
    let mut scene = Scene::new();
    let client = scene.client;
    let request = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let effects = scene.step(Input::Received { id: client, bytes: request });
    let [Effect::Connect { id: first, .. }] = effects[..] else { panic!("{effects:?}") };
    scene.step(Input::Connected { id: first });
    scene.step(Input::Received { id: first, bytes: answer });
    scene.step(Input::Received { id: client, bytes: request });
    let effects = scene.step(Input::Ended { id: first });
    let [Effect::End { id, how: Ending::Now }, Effect::Connect { id: second, .. }] = effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(id, first);
    scene.step(Input::Connected { id: second });
    scene.step(Input::Broken { id: second });
    let (to, text) = scene.sent(1);
    assert_eq!(to, client);
    assert!(text.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{text}");
    assert!(text.contains("502 worker-lost\nrequest "), "{text}");
    assert!(!text.contains("Connection: close"), "the request was read whole: {text}");
}

#[test]
fn every_wait_ends_by_the_clock_alone() {
    let mut scene = Scene::new();
    let client = scene.client;
    scene.step(Input::Received { id: client, bytes: b"GET /x HT" });
    let mut looks = 0;
    while scene.now < Instant(0) + Duration::from_secs(31) {
        scene.now = scene.listener.deadline();
        let effects = scene.step(Input::Woken);
        looks += 1;
        if !effects.is_empty() {
            break;
        }
    }
    let passed = scene.now.since(Instant(0));
    assert!(passed >= Duration::from_secs(30) && passed < Duration::from_millis(30_010));
    assert!(looks < 30, "the wheel is not looked at without need: {looks}");
    assert!(scene.sent(0).1.starts_with("HTTP/1.1 408 "));
    assert_eq!(scene.out.effects[1], Effect::End { id: client, how: Ending::Shutdown });
}

#[test]
fn a_head_in_drops_is_one_wait() {
    let mut scene = Scene::new();
    let client = scene.client;
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let effects = scene.step(Input::Received { id: client, bytes: request });
    let [Effect::Connect { id: server, .. }] = effects[..] else { panic!("{effects:?}") };
    scene.step(Input::Connected { id: server });
    let head = b"HTTP/1.1 200 OK\r\nX-Long: 0123456789012345678901234567890123456789012345678901";
    for (second, byte) in (1..=61).zip(head) {
        scene.now = Instant(0) + Duration::from_secs(second);
        scene.step(Input::Woken);
        if scene.out.effects.iter().any(|effect| matches!(effect, Effect::Send { .. })) {
            break;
        }
        scene.step(Input::Received { id: server, bytes: core::slice::from_ref(byte) });
    }
    assert!(scene.sent(0).1.starts_with("HTTP/1.1 504 "), "{:?}", scene.out.effects);
}

#[test]
fn an_idle_connection_is_small() {
    let size = size_of::<super::client::Client>();
    assert!(size <= 512, "a kilobyte is promised, engine and wheel included: {size}");
}

#[test]
fn one_machine_checks_and_the_others_are_told() {
    let mut plan = plan();
    plan.pools[0].check = Some(crate::plan::Check {
        path: "/ok".to_string(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        fall: 1,
        rise: 1,
    });
    let shared = Arc::new(Shared::default());
    let mut out = Outbox::default();
    let mut start = || {
        let mut listener = Listener::new(Instant(0), 0, 1, Arc::clone(&shared));
        let (plan, doors) = (Arc::new(plan.clone()), Arc::new([DoorId(0)]));
        listener.step(Instant(0), Input::Planned { plan, doors, gates: Arc::default() }, &mut out);
        out.effects.clear();
        listener.step(Instant(0), Input::Woken, &mut out);
        (listener, core::mem::take(&mut out.effects))
    };
    let (mut checker, begun) = start();
    let (other, nothing) = start();
    assert_eq!(nothing, []);
    assert_eq!(other.deadline(), Instant::NEVER);
    let [Effect::Connect { id, .. }] = begun[..] else { panic!("{begun:?}") };
    checker.step(Instant(0), Input::Refused { id }, &mut out);
    let [Effect::Judge { pool, address, is_well: false, has_changed: true }] = &out.effects[..]
    else {
        panic!("{:?}", out.effects)
    };
    let mut scene = Scene::new();
    let judged = Input::Judged { pool: pool.clone(), address: (**address).clone(), is_well: false };
    scene.step(judged);
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    scene.step(Input::Received { id: scene.client, bytes: request });
    assert!(scene.sent(0).1.contains("503 upstream-down\n"), "{}", scene.sent(0).1);
}

#[test]
fn a_drain_waits_a_moment_for_a_request_that_is_on_its_way() {
    let mut scene = Scene::new();
    let client = scene.client;
    assert_eq!(scene.step(Input::Draining), [], "the connection may have been asked already");
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let effects = scene.step(Input::Received { id: client, bytes: request });
    let [Effect::Connect { id: server, .. }] = effects[..] else { panic!("{effects:?}") };
    scene.step(Input::Connected { id: server });
    let answer = b"HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n";
    let effects = scene.step(Input::Received { id: server, bytes: answer });
    let (to, text) = scene.sent(0);
    assert_eq!(to, client);
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    assert!(effects.contains(&Effect::End { id: client, how: Ending::Shutdown }), "{effects:?}");
}

#[test]
fn a_drain_ends_connections_on_which_nothing_comes() {
    let mut scene = Scene::new();
    let client = scene.client;
    assert_eq!(scene.step(Input::Draining), []);
    let mut effects = Vec::new();
    while effects.is_empty() && scene.now < Instant(0) + Duration::from_secs(1) {
        scene.now = scene.listener.deadline();
        effects = scene.step(Input::Woken);
    }
    assert_eq!(effects, [Effect::End { id: client, how: Ending::Flushed }]);
    assert!(scene.now >= Instant(0) + super::timing::FAREWELL, "{:?}", scene.now);
    let effects = scene.step(Input::Closed { id: client, unsent: 0 });
    assert_eq!(effects, [Effect::Drained]);
}

#[test]
fn a_pool_that_becomes_a_command_forgets_the_server_it_had() {
    let mut scene = Scene::new();
    let mut plan = plan();
    plan.pools[0].source = Source::Garden(Box::new(Garden::of(Command {
        argv: vec!["app".to_string()],
        bind: Bind::Unix,
        working_directory: None,
        environment: vec![],
        ready: None,
    })));
    scene.step(Input::Planned {
        plan: Arc::new(plan),
        doors: Arc::new([DoorId(0)]),
        gates: Arc::default(),
    });
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    scene.step(Input::Received { id: scene.client, bytes: request });
    let (_, text) = scene.sent(0);
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("start-failed"), "{text}");
}
