//! A garden whose workers die, are replaced, paused and stopped under load: no answer is cut and
//! looks whole, nothing that must not be repeated is, and nothing is counted for ever.

use crate::harness::client::{Client, connect};
use crate::harness::clock::{PATIENCE, now, wait_until};
use crate::harness::engine::each;
use crate::harness::gate::Gate;
use crate::harness::message::{Body, Message};
use crate::harness::tree;
use crate::queue::{asking, paths, pids, pool, recipe, release, wait_quiet};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Sends a request on an open connection and reads its whole answer, as its framing says.
fn ask(client: &mut Client, method: &str, path: &str) -> io::Result<Message> {
    let body = if method == "POST" { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
    client.try_send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{body}"))?;
    let mut answer = client.reader.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    // An answer that ends with its connection could be cut without being seen.
    let framing = answer.framing(Body::UntilClose);
    assert_ne!(framing, Body::UntilClose, "{answer:?}");
    answer.body = client.reader.body(framing)?;
    Ok(answer)
}

/// What came of requests: how many, by kind and status; 0 = the connection ended.
type Results = Mutex<BTreeMap<(&'static str, u16), usize>>;

fn keep_asking(gate: &Gate, first: usize, is_over: &AtomicBool, results: &Results) {
    let piece: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(16);
    let mut client = Client::connect(&gate.address);
    for number in (first..).step_by(8) {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let (kind, method, path) = match number % 4 {
            0 => ("sized", "GET", format!("/pieces/8/{number}")),
            1 => ("chunked", "GET", format!("/chunks/8/{number}")),
            2 => ("plain", "GET", format!("/plain/{number}")),
            _ => ("post", "POST", format!("/post/{number}")),
        };
        let status = match ask(&mut client, method, &path) {
            Ok(answer) => {
                if answer.status() == 200 && matches!(kind, "sized" | "chunked") {
                    assert!(answer.body == piece.repeat(8), "{kind}: {} bytes", answer.body.len());
                }
                if answer.field("connection").is_some() {
                    client = Client::connect(&gate.address);
                }
                answer.status()
            }
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "{path}: no answer: {error}");
                client = Client::connect(&gate.address);
                0
            }
        };
        *results.lock().unwrap().entry((kind, status)).or_default() += 1;
    }
}

#[test]
fn workers_killed_under_load_cut_nothing_that_looks_whole() {
    each(|engine| {
        const KILLS: usize = 10;
        let keys = "workers = 2\nmin_workers = 2\nslots = 4\n[pool.app.rapid_fail]\nfailures = 0\n\
                    [pool.app.queue]\nrestart_limit = 1000\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        wait_until("two workers", || pids(&gate, "serving").len() == 2);
        let (is_over, results) = (AtomicBool::new(false), Results::default());
        std::thread::scope(|scope| {
            for first in 0..8 {
                let (gate, is_over, results) = (&gate, &is_over, &results);
                scope.spawn(move || keep_asking(gate, first, is_over, results));
            }
            for round in 0..KILLS {
                let answered = || results.lock().unwrap().values().sum::<usize>();
                let before = answered();
                wait_until("some are answered", || answered() > before + 50);
                let serving = pids(&gate, "serving");
                if let Some(victim) = serving.get(round % 2).or(serving.first()) {
                    // It may be gone since it was listed.
                    let _ = kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL);
                }
                wait_until("two workers", || pids(&gate, "serving").len() == 2);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let results = results.into_inner().unwrap();
        for ((kind, status), count) in &results {
            // Cut in the middle (0), lost before the first byte (502); a plain answer is one write,
            // and who loses two workers in a row is told.
            assert!(matches!(status, 200 | 502 | 0), "{count} {kind} got {status}: {results:?}");
        }
        let lost = |kind| results.get(&(kind, 502)).copied().unwrap_or_default();
        let repeated = lost("sized") + lost("chunked") + lost("plain");
        assert!(repeated <= KILLS / 5, "what may be repeated is: {results:?}");
        let mut posts: Vec<String> =
            paths(&gate).into_iter().filter(|path| path.starts_with("/post/")).collect();
        let count = posts.len();
        posts.sort_unstable();
        posts.dedup();
        assert_eq!(posts.len(), count, "a POST was executed twice");
        assert!(count > 0);
        wait_quiet(&gate);
        assert_eq!(gate.get("/").status(), 200);
    });
}

#[test]
fn a_tunnel_holds_its_old_worker_until_the_limit() {
    each(|engine| {
        let keys = "start = \"always\"\n[pool.app.lifecycle]\nshutdown_limit = \"3s\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        wait_until("a worker", || pids(&gate, "serving").len() == 1);
        let old = pids(&gate, "serving")[0];
        let mut client = gate.client();
        client.send(
            "GET /tunnel HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        );
        assert_eq!(client.head().status(), 101);
        let start = now();
        gate.ask(&["recycle", "app"]);
        wait_until("it is replaced", || {
            let new = pids(&gate, "serving");
            new.len() == 1 && new != [old]
        });
        client.send("still here");
        assert_eq!(client.reader.take(10).unwrap(), b"still here");
        assert_eq!(pids(&gate, "draining"), [old]);
        assert_ne!(gate.get("/").text().split(' ').nth(1).unwrap(), old.to_string());
        client.expect_end();
        assert!(start.elapsed() >= Duration::from_secs(3), "ended after {:?}", start.elapsed());
        wait_until("the old one is gone", || tree::is_gone(old));
        assert_eq!(pool(&gate)["failures"], 0);
        wait_quiet(&gate);
    });
}

/// Asks until it is over; counts answers by status.
fn load(gate: &Gate, is_over: &AtomicBool, counts: &[AtomicUsize; 2]) {
    let mut client = Client::connect(&gate.address);
    while !is_over.load(Ordering::Relaxed) {
        let answer = client.get("/plain");
        match answer.status() {
            200 => counts[0].fetch_add(1, Ordering::Relaxed),
            503 => counts[1].fetch_add(1, Ordering::Relaxed),
            _ => panic!("{answer:?}"),
        };
        if answer.field("connection").is_some() {
            client = Client::connect(&gate.address);
        }
    }
}

#[test]
fn a_pool_paused_and_stopped_under_load_counts_to_nothing_again() {
    each(|engine| {
        let keys = "workers = 2\nslots = 1\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        gate.wait_served("/");
        let (is_over, counts) = (AtomicBool::new(false), [0, 0].map(AtomicUsize::new));
        let count = |kind: usize| counts[kind].load(Ordering::Relaxed);
        let more = |what: &str, kind: usize| {
            let before = count(kind);
            wait_until(what, || count(kind) > before + 20);
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| load(&gate, &is_over, &counts));
            }
            for _ in 0..3 {
                more("served", 0);
                gate.ask(&["pause", "app"]);
                wait_until("all wait", || pool(&gate)["waiting"] == 8);
                let (served, refused) = (count(0), count(1));
                gate.ask(&["resume", "app"]);
                more("served again", 0);
                assert!(count(0) > served);
                assert_eq!(count(1), refused, "a pause refuses nobody");
                gate.ask(&["recycle", "app"]);
                more("served meanwhile", 0);
                gate.ask(&["stop", "app"]);
                more("refused", 1);
                gate.ask(&["start", "app"]);
            }
            more("served", 0);
            is_over.store(true, Ordering::Relaxed);
        });
        wait_quiet(&gate);
        assert_eq!(pool(&gate)["failures"], 0);
    });
}

#[test]
fn what_ends_in_whatever_way_gives_its_slot_back() {
    each(|engine| {
        let keys = "slots = 8\n[pool.app.queue]\ndisconnect_check = \"10ms\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        gate.wait_served("/");
        let before = tree::descriptors(gate.listener_pid());
        for round in 0..40 {
            let name = format!("{round}");
            let clients: Vec<Client> =
                (0..16).map(|_| asking(&gate, &format!("/held/{name}"))).collect();
            for (place, mut client) in clients.into_iter().enumerate() {
                match place % 4 {
                    0 => client.reset(),
                    1 => client.end_sending(),
                    2 => drop(client),
                    _ => {
                        release(&gate, &name);
                        assert_eq!(client.answer().status(), 200);
                    }
                }
            }
        }
        wait_quiet(&gate);
        gate.wait_descriptors(before + 8);
        let start = now();
        while start.elapsed() < PATIENCE && connect(&gate.address).is_err() {}
        assert_eq!(gate.get("/").status(), 200);
    });
}
