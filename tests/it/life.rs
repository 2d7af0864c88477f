//! The life of the gate itself: start, reload, drain, the death of its parts, and what it tells
//! whoever started it.

use crate::harness::client::{Client, connect};
use crate::harness::clock::{now, wait_until};
use crate::harness::engine::{Engine, each};
use crate::harness::gate::{Gate, PROMPT, send};
use crate::harness::origin::{Conversation, Origin};
use crate::harness::port::Port;
use crate::harness::program;
use crate::harness::recipe::Recipe;
use crate::harness::tree;
use nix::sys::signal::Signal;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Output};
use std::sync::{Mutex, mpsc};

/// An origin that holds every answer back until told.
fn patient() -> (Origin, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |peer: &mut Conversation| {
        while peer.request().is_some() {
            // An end of the test without the word is an end too.
            if wait.lock().unwrap().recv().is_err() || !peer.answer("at last") {
                return;
            }
        }
    });
    (origin, go)
}

fn asking(gate: &Gate, origin: &Origin) -> Client {
    let mut client = gate.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request is with the application", || !origin.seen().is_empty());
    client
}

#[test]
fn sigterm_lets_running_requests_finish_and_refuses_new_connections() {
    each(|engine| {
        let (origin, go) = patient();
        let mut gate = Recipe::relaying(engine, &[&origin]).start();
        let mut idle = gate.client();
        let mut client = asking(&gate, &origin);
        gate.signal(Signal::SIGTERM);
        gate.wait_notice("STOPPING=1");
        wait_until("new connections are refused", || connect(&gate.address).is_err());
        idle.expect_end();
        assert!(gate.is_running(), "a request is still running");
        go.send(()).unwrap();
        let answer = client.answer();
        assert_eq!((answer.text(), answer.field("connection")), ("at last", Some("close")));
        client.expect_end();
        assert!(gate.wait_exit().success(), "{}", gate.log_text());
    });
}

#[test]
fn an_idle_gate_ends_at_once_and_leaves_no_process() {
    each(|engine| {
        let origin = Origin::saying("ok");
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut gate = Recipe::relaying(engine, &[&origin]).start();
            let mut client = gate.client();
            assert_eq!(client.get("/").text(), "ok");
            let listener = gate.listener_pid();
            let start = now();
            gate.signal(signal);
            assert!(gate.wait_exit().success(), "{}", gate.log_text());
            assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
            wait_until("the listener is gone", || tree::is_gone(listener));
            client.expect_end();
        }
    });
}

#[test]
fn a_second_sigterm_ends_it_now() {
    each(|engine| {
        let (origin, go) = patient();
        let mut gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = asking(&gate, &origin);
        gate.signal(Signal::SIGTERM);
        gate.wait_notice("STOPPING=1");
        let listener = gate.listener_pid();
        let start = now();
        gate.signal(Signal::SIGTERM);
        gate.wait_exit();
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        wait_until("the listener is gone", || tree::is_gone(listener));
        assert!(!client.reader.rest().is_ok_and(|rest| !rest.is_empty()));
        drop(go);
    });
}

#[test]
fn a_drain_is_cut_short_at_the_shutdown_limit() {
    each(|engine| {
        let (origin, go) = patient();
        let mut gate =
            Recipe::relaying(engine, &[&origin]).server("shutdown_limit = \"500ms\"").start();
        let _client = asking(&gate, &origin);
        let start = now();
        gate.signal(Signal::SIGTERM);
        gate.wait_exit();
        assert!(start.elapsed().as_millis() >= 450, "{:?}", start.elapsed());
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        drop(go);
    });
}

#[test]
fn a_reload_changes_routes_and_limits_between_requests() {
    each(|engine| {
        let (old, new) = (Origin::saying("old"), Origin::saying("new"));
        let gate = Recipe::relaying(engine, &[&old]).threads(2).start();
        let listener = gate.listener_pid();
        let mut client = gate.client();
        assert_eq!(client.get("/").text(), "old");
        gate.rewrite(&gate.recipe.toml().replace(&old.address, &new.address));
        gate.signal(Signal::SIGHUP);
        let notice = gate.wait_notice("RELOADING=1");
        assert!(notice.contains("MONOTONIC_USEC="), "{notice}");
        gate.wait_notice("READY=1");
        wait_until("the kept connection goes by the new plan", || client.get("/").text() == "new");
        wait_until("every thread goes by the new plan", || {
            (0..16).all(|_| gate.get("/").text() == "new")
        });
        assert_eq!(gate.listener_pid(), listener, "a reload restarts nothing");
    });
}

#[test]
fn a_request_in_flight_survives_a_reload() {
    each(|engine| {
        let (origin, go) = patient();
        let other = Origin::saying("other");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = asking(&gate, &origin);
        gate.rewrite(&gate.recipe.toml().replace(&origin.address, &other.address));
        gate.signal(Signal::SIGHUP);
        gate.wait_notice("RELOADING=1");
        gate.wait_notice("READY=1");
        go.send(()).unwrap();
        assert_eq!(client.answer().text(), "at last");
        wait_until("the next goes by the new plan", || client.get("/").text() == "other");
    });
}

#[test]
fn a_bad_file_changes_nothing_and_says_so() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        assert_eq!(client.get("/").text(), "ok");
        let toml = gate.recipe.toml();
        gate.rewrite(&format!(
            "{}\n[pool.other]\nserver = []\n",
            toml.replace("path = \"/\"", "path = \"x\"")
        ));
        gate.signal(Signal::SIGHUP);
        // Every fault, each with its line.
        let line = gate.wait_log(&["lychgate.toml:", "server"]);
        assert!(line.contains("servers"), "did you mean: {line}");
        gate.wait_log(&["lychgate.toml:", "path"]);
        assert_eq!(client.get("/").text(), "ok");
        assert_eq!(gate.get("/").text(), "ok");
        // And it still takes a good one.
        gate.rewrite(&toml.replace("path = \"/\"", "path = \"/moved\""));
        gate.signal(Signal::SIGHUP);
        wait_until("the good file is in force", || {
            gate.get("/moved").status() == 200 && gate.get("/").status() == 404
        });
    });
}

#[test]
fn a_reload_opens_and_closes_listeners() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).threads(2).start();
        let second = Port::claim();
        let toml = gate.recipe.toml();
        let mut client = gate.client();
        assert_eq!(client.get("/").text(), "ok");
        gate.rewrite(&format!("{toml}\n[[listen]]\naddress = \"{}\"\n", second.address()));
        gate.signal(Signal::SIGHUP);
        wait_until("the new listener serves", || {
            connect(&second.address()).is_ok()
                && Client::connect(&second.address()).get("/").status() == 200
        });
        assert_eq!(client.get("/").text(), "ok");
        gate.rewrite(&toml.replace(&gate.address, &second.address()));
        gate.signal(Signal::SIGHUP);
        wait_until("the old listener is closed", || connect(&gate.address).is_err());
        assert_eq!(Client::connect(&second.address()).get("/").text(), "ok");
    });
}

#[test]
fn a_killed_listener_is_replaced_and_refuses_nobody() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).threads(2).start();
        let mut client = gate.client();
        assert_eq!(client.get("/").text(), "ok");
        let listener = gate.listener_pid();
        send(listener, Signal::SIGKILL);
        wait_until("it is dead", || tree::is_gone(listener));
        // From that moment on: what connects now waits in the socket for the successor.
        for _ in 0..20 {
            assert_eq!(gate.get("/").text(), "ok");
        }
        assert_ne!(gate.listener_pid(), listener);
        gate.wait_log(&["listener"]);
    });
}

#[test]
fn processes_that_were_paused_go_on() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).threads(2).start();
        let mut client = gate.client();
        assert_eq!(client.get("/").text(), "ok");
        let listener = gate.listener_pid();
        for pid in [listener, gate.pid()] {
            // Ends waits that no signal handler would (signal(7)): epoll_wait, io_uring_enter.
            for _ in 0..3 {
                send(pid, Signal::SIGSTOP);
                wait_until("it is paused", || tree::status(pid, "State").starts_with('T'));
                client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                send(pid, Signal::SIGCONT);
                assert_eq!(client.answer().text(), "ok");
            }
        }
        assert_eq!(gate.listener_pid(), listener, "{}", gate.log_text());
        gate.signal(Signal::SIGHUP);
        gate.wait_notice("RELOADING=1");
    });
}

#[test]
fn a_supervisors_death_stops_nobody_and_its_successor_takes_over() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let mut gate = Recipe::relaying(engine, &[&origin]).start();
        assert_eq!(gate.get("/").text(), "ok");
        let listener = gate.listener_pid();
        let mut client = gate.client();
        gate.kill_supervisor();
        assert_eq!(client.get("/").text(), "ok");
        assert_eq!(gate.get("/").text(), "ok");
        gate.succeed();
        assert_eq!(gate.ask(&["status"])["listener"]["pid"], listener);
        assert_eq!(client.get("/").text(), "ok");
        drop(client);
        gate.signal(Signal::SIGTERM);
        assert!(gate.wait_exit().success());
        wait_until("the listener ends too", || tree::is_gone(listener));
        assert!(connect(&gate.address).is_err());
    });
}

#[test]
fn the_listener_is_unprivileged() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let listener = gate.listener_pid();
        assert_eq!(tree::status(listener, "NoNewPrivs"), "1");
        if nix::unistd::geteuid().is_root() {
            assert!(!tree::uids(listener).contains(&0), "{:?}", tree::uids(listener));
            assert_eq!(tree::status(listener, "CapEff").trim_matches('0'), "");
            assert_eq!(tree::status(listener, "CapPrm").trim_matches('0'), "");
        } else {
            assert_eq!(tree::uids(listener), tree::uids(std::process::id()));
        }
    });
}

#[test]
fn the_capabilities_of_the_unit_are_enough() {
    const UNIT: &str = include_str!("../../config/systemd/lychgate.service");
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root || program::find("setpriv", "capabilities").is_none() {
        return;
    }
    let named = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let set = named.split_whitespace().fold("-all".to_owned(), |set, name| {
        set + ",+" + &name.strip_prefix("CAP_").unwrap().to_lowercase()
    });
    // Without the last one nobody can look into a worker, and it is believed.
    let less = set.clone() + ",-sys_ptrace";
    for set in [set, less] {
        let pool = "[pool.app]\ncommand = [\"{self}\", \"demo\"]\nbind = \"port\"\n\
                    [pool.app.lifecycle]\nstartup_limit = \"5s\"\n";
        let mut recipe = Recipe::new(Engine::Epoll).site("/", "app").text(pool);
        recipe.capabilities = Some(set);
        let gate = Gate::start(recipe);
        assert_eq!(gate.get("/").status(), 200);
        assert_eq!(gate.ask(&["recycle", "app"])["text"], "pool app recycles its workers");
    }
}

#[test]
fn the_service_manager_may_listen_on_an_abstract_address() {
    let origin = Origin::saying("ok");
    let name = format!("lychgate-test-notify-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(PROMPT)).unwrap();
    let recipe =
        Recipe::relaying(Engine::Epoll, &[&origin]).env("NOTIFY_SOCKET", &format!("@{name}"));
    let _gate = Gate::launch(recipe);
    let mut piece = [0; 1024];
    loop {
        let size = manager.recv(&mut piece).expect("a word before the deadline");
        if String::from_utf8_lossy(&piece[..size]).lines().any(|line| line == "READY=1") {
            break;
        }
    }
}

fn lychgate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lychgate")).args(args).output().unwrap()
}

#[test]
fn check_exits_0_for_a_good_file_1_with_all_faults_and_2_for_misuse() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gate.toml");
    let path = file.to_str().unwrap();
    let good =
        Recipe::new(Engine::Auto).site("/", "app").servers("app", &["127.0.0.1:9"], "").toml();
    std::fs::write(&file, &good).unwrap();
    assert_eq!(lychgate(&["check", path]).status.code(), Some(0));
    let bad =
        good.replace("threads = 1", "threads = 1\nmax_conections = 5").replace("/\"", "nowhere\"");
    std::fs::write(&file, bad).unwrap();
    let output = lychgate(&["check", path]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("gate.toml:4:") && said.contains("max_connections"), "{said}");
    assert!(said.contains("path"), "every fault at once: {said}");
    assert_eq!(lychgate(&["check", "/nonexistent.toml"]).status.code(), Some(1));
    assert_eq!(lychgate(&["check"]).status.code(), Some(2));
    assert_eq!(lychgate(&["conjure"]).status.code(), Some(2));
    assert_eq!(lychgate(&["--version"]).status.code(), Some(0));
    assert_eq!(lychgate(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_start_that_cannot_succeed_fails_with_its_cause() {
    let origin = Origin::saying("ok");
    let recipe = Recipe::relaying(Engine::Auto, &[&origin]);
    let address = recipe.port.address();
    let _taken = TcpListener::bind(&address).unwrap();
    let mut gate = Gate::launch(recipe);
    assert_eq!(gate.wait_exit().code(), Some(1));
    gate.wait_log(&[&address, "another program"]);

    let mut gate = Gate::launch(Recipe::new(Engine::Auto).site("/", "missing"));
    assert_eq!(gate.wait_exit().code(), Some(1));
    gate.wait_log(&["lychgate.toml:", "missing"]);
}
