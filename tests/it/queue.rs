//! The queue of a garden end to end: its length, its time, its order, who leaves it, and what is
//! said to those who do not get in. The application's own log says what reached it.

use crate::harness::client::Client;
use crate::harness::clock::{wait_for, wait_until};
use crate::harness::engine::{Engine, each};
use crate::harness::gate::{Gate, send};
use crate::harness::message::Message;
use crate::harness::program;
use crate::harness::recipe::Recipe;
use crate::harness::tree;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// A gate with two threads before a garden of `scripts/seen.py`; `keys` are further lines of its
/// pool and tables.
pub(crate) fn recipe(engine: Engine, keys: &str) -> Option<Recipe> {
    let python = program::python("http.server", "queue")?;
    let script = program::script("seen.py");
    let pool = format!(
        "[pool.app]\ncommand = [{python:?}, {script:?}]\n\
         environment = {{ SEEN = \"{{dir}}/seen\" }}\n{keys}\n"
    );
    Some(Recipe::new(engine).threads(2).with_our_identity().site("/", "app").text(&pool))
}

/// What the application has seen: method, path, slot, process.
pub(crate) fn seen(gate: &Gate) -> Vec<[String; 4]> {
    let text = fs::read_to_string(gate.path("seen")).unwrap_or_default();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    text.lines().map(|line| words(line).try_into().unwrap()).collect()
}

pub(crate) fn paths(gate: &Gate) -> Vec<String> {
    seen(gate).into_iter().map(|[_, path, ..]| path).collect()
}

pub(crate) fn pool(gate: &Gate) -> Value {
    gate.ask(&["pools"])[0].clone()
}

pub(crate) fn pids(gate: &Gate, state: &str) -> Vec<u32> {
    let all = gate.ask(&["workers", "app"]);
    let all = all.as_array().unwrap().iter().filter(|worker| worker["state"] == state);
    all.map(|worker| u32::try_from(worker["pid"].as_u64().unwrap()).unwrap()).collect()
}

/// Lets requests for `/held/NAME` go.
pub(crate) fn release(gate: &Gate, name: &str) {
    fs::write(gate.path(name), "").unwrap();
}

pub(crate) fn asking(gate: &Gate, path: &str) -> Client {
    let mut client = gate.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client
}

/// A request that the application has begun and holds until it is released.
pub(crate) fn holding(gate: &Gate, name: &str) -> Client {
    let client = asking(gate, &format!("/held/{name}"));
    let path = format!("/held/{name}");
    wait_until("it is held", || paths(gate).contains(&path));
    client
}

pub(crate) fn wait_waiting(gate: &Gate, count: u64) {
    wait_until(&format!("{count} wait"), || pool(gate)["waiting"] == count);
}

/// Nothing executes or waits any more.
pub(crate) fn wait_quiet(gate: &Gate) {
    wait_until("nothing executes or waits", || {
        let pool = pool(gate);
        pool["executing"] == 0 && pool["waiting"] == 0
    });
}

fn assert_refused(answer: &Message, word: &str) {
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(answer.text().starts_with(&format!("503 {word}\n")), "{answer:?}");
}

#[test]
fn the_queue_ends_at_its_limit_and_is_served_in_order() {
    each(|engine| {
        const LIMIT: usize = 1000;
        const LEAVING: usize = 100;
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let keys = "slots = 1\n[pool.app.queue]\ndisconnect_check = \"10ms\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        gate.wait_served("/");
        let before = tree::descriptors(gate.listener_pid());
        let held = holding(&gate, "go");
        let mut waiting = Vec::new();
        // One after the other into the queue, so that there is an order to be kept.
        for number in 0..LIMIT {
            let listed = (number % 100 == 0).then(|| pool(&gate)["waiting"].as_u64().unwrap());
            waiting.push(asking(&gate, &format!("/number/{number}")));
            if listed.is_some() {
                let count = u64::try_from(number + 1).unwrap();
                wait_waiting(&gate, count);
            }
        }
        wait_waiting(&gate, LIMIT as u64);
        let mut late = asking(&gate, "/late");
        let refused = late.answer();
        assert_refused(&refused, "queue-full");
        assert_eq!(refused.field("retry-after"), Some("5"));

        // Every tenth leaves, one in two of them with a reset.
        let mut staying = Vec::new();
        for (number, client) in waiting.into_iter().enumerate() {
            if number % (LIMIT / LEAVING) != 0 {
                staying.push((number, client));
            } else if number % 20 == 0 {
                client.reset();
            }
        }
        wait_waiting(&gate, (LIMIT - LEAVING) as u64);
        let mut next = asking(&gate, "/next");
        wait_waiting(&gate, (LIMIT - LEAVING + 1) as u64);
        release(&gate, "go");
        for (_, client) in &mut staying {
            assert_eq!(client.answer().status(), 200);
        }
        assert_eq!(next.answer().status(), 200);
        let got = paths(&gate);
        let left = |path: &String| {
            let number =
                path.strip_prefix("/number/").map(|number| number.parse::<usize>().unwrap());
            number.is_some_and(|number| number % 10 == 0)
        };
        assert!(!got.iter().any(left), "who left reached the application: {got:?}");
        assert!(!got.contains(&"/late".to_owned()));
        let numbers: Vec<usize> = got
            .iter()
            .filter_map(|path| path.strip_prefix("/number/"))
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(numbers.len(), LIMIT - LEAVING);
        // Within a batch sent at once, two threads may take them in as they like.
        for (place, number) in numbers.iter().enumerate() {
            let expected = staying[place].0;
            assert!(number.abs_diff(expected) <= 100, "{number} came where {expected} belongs");
        }
        assert_eq!(got.last().unwrap(), "/next");
        drop((held, staying, late, next));
        wait_quiet(&gate);
        gate.wait_descriptors(before + 4);
    });
}

#[test]
fn who_waits_is_served_in_order_of_arrival() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "slots = 1\n") else { return };
        let gate = recipe.start();
        let _held = holding(&gate, "go");
        let mut waiting = Vec::new();
        for number in 0..20 {
            waiting.push(asking(&gate, &format!("/number/{number}")));
            wait_waiting(&gate, number + 1);
        }
        release(&gate, "go");
        for client in &mut waiting {
            assert_eq!(client.answer().status(), 200);
        }
        let expected: Vec<String> = (0..20).map(|number| format!("/number/{number}")).collect();
        assert_eq!(paths(&gate)[1..], expected);
    });
}

#[test]
fn a_refusal_is_a_reset_where_that_is_wanted() {
    each(|engine| {
        let keys =
            "slots = 1\n[pool.app.queue]\nlimit = 1\nrestart_limit = 1\nreject = \"reset\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        let mut held = holding(&gate, "go");
        let mut waits = asking(&gate, "/waits");
        wait_waiting(&gate, 1);
        let error = asking(&gate, "/late").reader.head().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        release(&gate, "go");
        assert_eq!((held.answer().status(), waits.answer().status()), (200, 200));
        assert_eq!(paths(&gate), ["/held/go", "/waits"]);
    });
}

#[test]
fn who_waits_too_long_is_told() {
    each(|engine| {
        let keys = "slots = 1\n[pool.app.queue]\ntimeout = \"300ms\"\nretry_after = \"0s\"\n\
                    error_page = \"{dir}/page.html\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let toml = recipe.toml().replace("error_page = \"{dir}/page.html\"\n", "");
        let gate = Gate::launch_with(recipe, &toml);
        gate.wait_notice("READY=1");
        let mut held = holding(&gate, "go");
        let mut client = asking(&gate, "/waits");
        let refused = client.answer();
        assert_refused(&refused, "queue-timeout");
        assert_eq!(refused.field("retry-after"), None);

        // With a page of the pool's own; its connection is good for another request.
        fs::write(gate.path("page.html"), "<p>busy</p>").unwrap();
        gate.rewrite(&gate.recipe.toml());
        gate.ask(&["reload"]);
        wait_until("the page is shown", || {
            let refused = client.get("/waits");
            assert_eq!(refused.status(), 503);
            let is_page = refused.text() == "<p>busy</p>";
            assert!(!is_page || refused.field("content-type") == Some("text/html"), "{refused:?}");
            is_page
        });
        release(&gate, "go");
        assert_eq!(held.answer().status(), 200);
        assert_eq!(client.get("/then").status(), 200);
        assert_eq!(paths(&gate), ["/held/go", "/then"]);
        wait_quiet(&gate);
    });
}

#[test]
fn fewer_may_wait_while_a_crashed_worker_is_replaced() {
    each(|engine| {
        let keys = "slots = 1\nready = { path = \"/held/ready\", timeout = \"60s\" }\n\
                    [pool.app.queue]\nrestart_limit = 2\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        let mut first = asking(&gate, "/first");
        wait_until("it is started", || paths(&gate) == ["/held/ready"]);
        release(&gate, "ready");
        assert_eq!(first.answer().status(), 200);
        fs::remove_file(gate.path("ready")).unwrap();
        send(pids(&gate, "serving")[0], Signal::SIGKILL);
        wait_until("it is replaced", || pool(&gate)["failures"] == 1);
        let mut waiting = [asking(&gate, "/one"), asking(&gate, "/two")];
        wait_waiting(&gate, 2);
        assert_refused(&gate.get("/three"), "queue-full");
        release(&gate, "ready");
        for client in &mut waiting {
            assert_eq!(client.answer().status(), 200);
        }
        let mut held = holding(&gate, "go");
        let mut waiting: Vec<Client> = (0..3).map(|_| asking(&gate, "/more")).collect();
        wait_waiting(&gate, 3);
        release(&gate, "go");
        assert_eq!(held.answer().status(), 200);
        for client in &mut waiting {
            assert_eq!(client.answer().status(), 200);
        }
    });
}

/// As zlib's crc32, of these bytes.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[test]
fn a_large_upload_waits_and_arrives_whole() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "slots = 1\n") else { return };
        let gate = recipe.start();
        let body: Vec<u8> = (0..10u32 << 20).map(|at| (at % 251) as u8).collect();
        let expected = format!(" {} {}", body.len(), crc32(&body));
        for expect in ["Expect: 100-continue\r\n", ""] {
            let name = format!("go{}", expect.len());
            let mut held = holding(&gate, &name);
            let mut client = gate.client();
            client.send(format!(
                "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{expect}\r\n",
                body.len()
            ));
            let mut writer = client.reader.stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                let write = || std::io::Write::write_all(&mut writer, &body).unwrap();
                if expect.is_empty() {
                    scope.spawn(write);
                    wait_waiting(&gate, 1);
                    release(&gate, &name);
                } else {
                    wait_waiting(&gate, 1);
                    client.expect_silence(Duration::from_millis(100));
                    release(&gate, &name);
                    assert_eq!(client.head().status(), 100);
                    scope.spawn(write);
                }
                let answer = client.answer();
                assert_eq!(answer.status(), 200, "{answer:?}");
                assert!(answer.text().ends_with(&expected), "{answer:?}, not {expected}");
            });
            assert_eq!(held.answer().status(), 200);
            assert_eq!(client.get("/again").status(), 200);
        }
        wait_quiet(&gate);
    });
}

#[test]
fn requests_pipelined_into_a_queue_are_answered_one_by_one_in_order() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "slots = 1\n") else { return };
        let gate = recipe.start();
        let mut held = holding(&gate, "go");
        let mut client = gate.client();
        for n in 0..30 {
            client.send(format!("GET /n/{n} HTTP/1.1\r\nHost: test\r\n\r\n"));
        }
        wait_waiting(&gate, 1);
        release(&gate, "go");
        for _ in 0..30 {
            assert_eq!(client.answer().status(), 200);
        }
        assert_eq!(held.answer().status(), 200);
        let expected: Vec<String> = (0..30).map(|n| format!("/n/{n}")).collect();
        assert_eq!(paths(&gate)[1..], expected);
        wait_quiet(&gate);
    });
}

#[test]
fn clients_that_come_and_leave_cost_nothing_that_stays() {
    each(|engine| {
        const ROUNDS: usize = 30;
        const CROWD: usize = 200;
        let keys = "slots = 1\n[pool.app.queue]\nlimit = 100\ndisconnect_check = \"10ms\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        let mut held = holding(&gate, "go");
        let listener = gate.listener_pid();
        let flood = || {
            for round in 0..ROUNDS {
                let crowd: Vec<Client> = (0..CROWD).map(|_| asking(&gate, "/flood")).collect();
                let (leave, vanish) = crowd.into_iter().partition::<Vec<_>, _>(|_| round % 2 == 0);
                drop(leave);
                vanish.into_iter().for_each(Client::reset);
            }
            wait_waiting(&gate, 0);
        };
        flood();
        let (before, open) = (tree::resident(listener), tree::descriptors(listener));
        flood();
        flood();
        let after = tree::resident(listener);
        assert!(after < before + (4 << 20), "grew from {before} to {after} bytes");
        gate.wait_descriptors(open);
        release(&gate, "go");
        assert_eq!(held.answer().status(), 200);
        assert_eq!(gate.get("/").status(), 200);
        assert_eq!(paths(&gate), ["/held/go", "/"]);
        wait_quiet(&gate);
    });
}

#[test]
fn a_reload_without_the_pool_refuses_those_that_wait() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "slots = 1\n") else { return };
        let gate = recipe.start();
        let mut held = holding(&gate, "go");
        let mut waiting: Vec<Client> = (0..10).map(|_| asking(&gate, "/waits")).collect();
        wait_waiting(&gate, 10);
        let worker = pids(&gate, "serving")[0];
        let toml = gate.recipe.toml();
        let without = toml[..toml.find("[[site]]").unwrap()].to_owned();
        gate.rewrite(&format!(
            "{without}[[site]]\nname = \"other\"\n[[site.route]]\npath = \"/\"\npool = \"other\"\n\
             [pool.other]\nservers = [\"127.0.0.1:9\"]\n"
        ));
        gate.ask(&["reload"]);
        for client in &mut waiting {
            assert_eq!(client.answer().status(), 503);
        }
        release(&gate, "go");
        assert_eq!(held.answer().status(), 200, "what runs is finished");
        wait_until("its worker is gone", || tree::is_gone(worker));

        gate.rewrite(&toml);
        gate.ask(&["reload"]);
        gate.wait_served("/back");
        assert!(!paths(&gate).contains(&"/waits".to_owned()));
        wait_quiet(&gate);
    });
}

#[test]
fn a_listener_killed_with_requests_waiting_leaves_a_garden_that_serves() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "slots = 1\n") else { return };
        let gate = recipe.start();
        let held = holding(&gate, "go");
        let mut waiting: Vec<Client> = (0..10).map(|_| asking(&gate, "/waits")).collect();
        wait_waiting(&gate, 10);
        let (worker, old) = (pids(&gate, "serving")[0], gate.listener_pid());
        send(old, Signal::SIGKILL);
        waiting.iter_mut().for_each(Client::expect_end);
        let new =
            wait_for("another listener", || Some(gate.listener_pid()).filter(|pid| *pid != old));
        assert!(!tree::is_gone(new));
        release(&gate, "go");
        assert_eq!(gate.get("/after").status(), 200);
        assert_eq!(pids(&gate, "serving"), [worker], "it is the same worker");
        assert_eq!(paths(&gate), ["/held/go", "/after"]);
        drop(held);
        wait_quiet(&gate);
    });
}
