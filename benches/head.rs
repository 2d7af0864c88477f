//! What one relayed request costs the pure floors, piece by piece: heads read and written, chunk
//! framing, paths and routes, the timer wheel. `cargo bench --bench head`

use core::hint::black_box;
use core::time::Duration;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lychgate::base::id::{DoorId, PoolIndex};
use lychgate::base::time::Instant;
use lychgate::base::timers::Wheel;
use lychgate::http::h1::body::Body;
use lychgate::http::h1::emit::{self, Coding, Forwarding, Persistence};
use lychgate::http::h1::head::{self, HeadLimits, Scratch};
use lychgate::http::target::normal_path;
use lychgate::http::{Framing, Method, Version};
use lychgate::machine::route::Router;
use lychgate::plan::{
    AccessLog, EngineChoice, Host, Level, Limits, Log, LogFormat, Plan, Route, Server, Site,
    UnknownHost,
};

/// As a browser behind a load generator sends it: seven fields.
const REQUEST: &[u8] = b"GET /catalogue/items?page=2&sort=price HTTP/1.1\r\n\
    Host: shop.example:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Connection: keep-alive\r\n\r\n";

/// As wrk sends it.
const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.26.3\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 1234\r\n\
    Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    ETag: \"2d-432a5e4a73a80\"\r\n\
    Connection: keep-alive\r\n\r\n";

const LIMITS: HeadLimits =
    HeadLimits { head_size: 32 * 1024, header_count: 100, target_size: 8 * 1024 };
const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const FORWARDING: Forwarding<'_> = Forwarding {
    peer: b"192.0.2.1",
    peer_is_ipv6: false,
    protocol: b"http",
    request_id: b"0123456789abcdef0123456789abcdef",
    start_micros: 1_700_000_000_000_000,
};

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    for (name, bytes) in [("request", REQUEST), ("request_small", SMALL)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut scratch = Scratch::new();
                let request = head::request(black_box(bytes), &LIMITS, &mut scratch);
                black_box(request.map(|request| request.map(|request| request.size)))
            });
        });
    }
    group.bench_function("response", |b| {
        b.iter(|| {
            let mut scratch = Scratch::new();
            let response = head::response(black_box(RESPONSE), Method::Get, &mut scratch);
            black_box(response.map(|response| response.map(|response| response.size)))
        });
    });
    group.bench_function("end_of_partial", |b| {
        b.iter(|| black_box(head::end(black_box(&REQUEST[..REQUEST.len() - 1]), 0)));
    });
    group.finish();
}

fn emits(c: &mut Criterion) {
    let mut group = c.benchmark_group("emit");
    let mut out = Vec::with_capacity(4096);
    for (name, bytes) in [("request", REQUEST), ("request_small", SMALL)] {
        let mut scratch = Scratch::new();
        let request = head::request(bytes, &LIMITS, &mut scratch).ok().flatten().expect("whole");
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                emit::request(&mut out, black_box(&request), b"default", black_box(&FORWARDING));
                black_box(out.len())
            });
        });
    }
    let mut scratch = Scratch::new();
    let response =
        head::response(RESPONSE, Method::Get, &mut scratch).ok().flatten().expect("whole");
    group.bench_function("response", |b| {
        b.iter(|| {
            out.clear();
            let (keep, client) = (Persistence::KeepAlive, Version::Http11);
            emit::response(&mut out, black_box(&response), Coding::AsIs, keep, client, DATE);
            black_box(out.len())
        });
    });
    group.finish();
}

/// All that the http floor does for one relayed request with a small answer.
fn relay(c: &mut Criterion) {
    let mut out = Vec::with_capacity(8192);
    c.bench_function("relay", |b| {
        b.iter(|| {
            out.clear();
            let mut scratch = Scratch::new();
            if let Ok(Some(request)) = head::request(black_box(REQUEST), &LIMITS, &mut scratch) {
                emit::request(&mut out, &request, b"default", &FORWARDING);
            }
            let mut scratch = Scratch::new();
            if let Ok(Some(response)) =
                head::response(black_box(RESPONSE), Method::Get, &mut scratch)
            {
                let (keep, client) = (Persistence::KeepAlive, Version::Http11);
                emit::response(&mut out, &response, Coding::AsIs, keep, client, DATE);
            }
            black_box(out.len())
        });
    });
}

fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked");
    for size in [1, 16, 1024, 16 * 1024] {
        let mut wire = Vec::new();
        for _ in 0..(64 * 1024 / size).min(4096) {
            emit::chunk_size(&mut wire, size);
            wire.resize(wire.len() + size, b'x');
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(format!("chunks_of_{size}"), |b| {
            b.iter(|| {
                let mut body = Body::new(Framing::Chunked);
                let mut rest = black_box(&wire[..]);
                while let Ok(scan) = body.scan(rest) {
                    rest = &rest[scan.consumed..];
                    if body.is_done() {
                        break;
                    }
                }
                black_box(body.received())
            });
        });
    }
    group.finish();
}

fn paths(c: &mut Criterion) {
    let mut group = c.benchmark_group("normal_path");
    let mut scratch = Vec::new();
    for (name, path) in [
        ("plain", &b"/catalogue/items/1234567/pictures"[..]),
        ("encoded", b"/catalogue/%69tems/../items/a%20b"),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(normal_path(black_box(path), &mut scratch).map(<[u8]>::len)));
        });
    }
    group.finish();
}

fn plan(routes: u16) -> Plan {
    let seconds = Duration::from_secs;
    let limits = Limits {
        head_timeout: seconds(30),
        body_timeout: seconds(60),
        idle_timeout: seconds(120),
        send_rate_min: 240,
        head_size: LIMITS.head_size,
        header_count: LIMITS.header_count,
        target_size: LIMITS.target_size,
        body_size: u64::MAX,
    };
    let site = |n: u16| Site {
        name: format!("site {n}"),
        hosts: vec![Host::Exact(format!("site{n}.example"))],
        listeners: vec![0],
        routes: (0..routes / 100)
            .map(|m| Route { path: format!("/team{m}/app"), pool: PoolIndex(n) })
            .collect(),
    };
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
            limits,
            log: Log { access: AccessLog::Off, format: LogFormat::Json, level: Level::Info },
        },
        listeners: vec![lychgate::plan::Listener {
            address: lychgate::base::address::Address::Unix("/door".into()),
            backlog: 1,
        }],
        sites: (0..100).map(site).collect(),
        pools: vec![],
    }
}

fn routes(c: &mut Criterion) {
    let door = DoorId(0);
    let mut group = c.benchmark_group("route");
    for count in [100, 5000] {
        let router = Router::new(&plan(count), &[door]);
        let (host, path) = (&b"site42.example:8080"[..], &b"/team0/app/page"[..]);
        assert_eq!(router.find(door, host, path), Ok(PoolIndex(42)));
        group.bench_function(format!("{count}_routes"), |b| {
            b.iter(|| black_box(router.find(door, black_box(host), black_box(path))));
        });
    }
    group.finish();
}

fn wheel(c: &mut Criterion) {
    let mut due = Vec::new();
    c.bench_function("wheel_insert_and_take", |b| {
        let mut wheel = Wheel::new(Instant(0));
        let mut now = 0u64;
        b.iter(|| {
            now += 1_000_000;
            wheel.insert(Instant(now + 1_000_000_000), black_box(7));
            wheel.take_due(Instant(now), &mut due);
            due.clear();
            black_box(wheel.next())
        });
    });
}

criterion_group!(benches, heads, emits, relay, chunks, paths, routes, wheel);
criterion_main!(benches);
