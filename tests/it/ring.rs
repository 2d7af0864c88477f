//! Where the kernel refuses io_uring: under a filter like a container runtime's, the gate says so
//! once and serves all the same.

use crate::harness::clock::wait_until;
use crate::harness::engine::{Engine, has_uring};
use crate::harness::gate::Gate;
use crate::harness::origin::Origin;
use crate::harness::recipe::Recipe;
use nix::sys::signal::Signal;

#[test]
fn auto_falls_back_to_epoll_with_one_line_that_names_the_cause() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            peer.answer(request.text());
        }
    });
    let gate = Recipe::relaying(Engine::Auto, &[&origin]).threads(2).without_ring().start();
    let line = gate.wait_log(&["io_uring", "epoll"]);
    assert!(line.contains("seccomp") || line.contains("not permitted"), "{line}");
    let mut client = gate.client();
    for size in [1, 1000, 300_000] {
        let body = vec![b'x'; size];
        assert!(client.post("/", &body).body == body);
    }
    let said = gate.log_text().lines().filter(|line| line.contains("io_uring")).count();
    assert_eq!(said, 1, "{}", gate.log_text());
    gate.rewrite(&gate.recipe.toml());
    gate.signal(Signal::SIGHUP);
    gate.wait_notice("RELOADING=1");
    gate.wait_notice("READY=1");
    assert_eq!(client.post("/", b"still").text(), "still");
}

#[test]
fn auto_takes_the_ring_where_it_may() {
    if !has_uring() {
        return;
    }
    let origin = Origin::saying("ok");
    let gate = Recipe::relaying(Engine::Auto, &[&origin]).start();
    assert_eq!(gate.get("/").text(), "ok");
    gate.signal(Signal::SIGUSR2);
    let line = gate.wait_log(&["\"submissions\""]);
    assert!(!line.contains("\"submissions\":0,"), "{line}");
}

#[test]
fn uring_alone_does_not_pretend() {
    let origin = Origin::saying("ok");
    let recipe = Recipe::relaying(Engine::Uring, &[&origin]).without_ring();
    let mut gate = Gate::launch(recipe);
    let line = gate.wait_log(&["io_uring"]);
    assert!(line.contains("seccomp") || line.contains("not permitted"), "{line}");
    assert!(line.contains("epoll") || gate.log_text().contains("auto"), "no remedy: {line}");
    // It may end or go on trying; it may not serve by other means.
    wait_until("ended, or silent", || !gate.is_running() || !serves(&gate));
}

fn serves(gate: &Gate) -> bool {
    crate::harness::client::connect(&gate.address).is_ok_and(|socket| {
        use std::io::{Read, Write};
        let mut socket = socket;
        socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let sent = socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok();
        sent && socket.read(&mut [0; 16]).is_ok_and(|size| size > 0)
    })
}
