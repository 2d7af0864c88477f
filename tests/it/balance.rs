//! Which of a pool's servers gets a request: in turn, not the one that fails, not the one that
//! fails its checks, and again the one that has come back.

use crate::harness::clock::wait_until;
use crate::harness::engine::each;
use crate::harness::origin::Origin;
use crate::harness::port::Port;
use crate::harness::recipe::Recipe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn servers_take_turns() {
    each(|engine| {
        let origins = [Origin::saying("a"), Origin::saying("b"), Origin::saying("c")];
        let gate = Recipe::relaying(engine, &origins.each_ref()).start();
        let mut client = gate.client();
        for _ in 0..30 {
            client.get("/");
        }
        for origin in &origins {
            assert_eq!(origin.seen().len(), 10);
        }
    });
}

#[test]
fn a_server_that_refuses_costs_no_request_and_is_left_alone() {
    each(|engine| {
        let origin = Origin::saying("alive");
        let nobody = Port::claim();
        let gate = Recipe::new(engine)
            .site("/", "app")
            .servers("app", &[&nobody.address(), &origin.address], "")
            .start();
        let mut client = gate.client();
        for _ in 0..20 {
            // Nothing was sent where nobody listens, so even a POST may go to the other.
            assert_eq!(client.post("/", b"order").text(), "alive");
        }
        assert_eq!(origin.seen().len(), 20);
    });
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    each(|engine| {
        let steady = Origin::saying("steady");
        let port = Port::claim();
        let gate = Recipe::new(engine)
            .site("/", "app")
            .servers("app", &[&port.address(), &steady.address], "")
            .start();
        for _ in 0..5 {
            assert_eq!(gate.get("/").text(), "steady");
        }
        let returned =
            Origin::start_at(
                &port,
                |peer| while peer.request().is_some() && peer.answer("back") {},
            );
        wait_until("the server that came back gets a request", || {
            assert_eq!(gate.get("/").status(), 200);
            !returned.seen().is_empty()
        });
    });
}

#[test]
fn a_request_that_was_not_answered_goes_elsewhere_only_if_it_may() {
    each(|engine| {
        let broken = Origin::start(|peer| {
            peer.request();
        });
        let steady = Origin::saying("steady");
        let gate = Recipe::relaying(engine, &[&broken, &steady]).start();
        for _ in 0..6 {
            assert_eq!(gate.get("/get").text(), "steady", "a GET is retried");
        }
        let gate = Recipe::relaying(engine, &[&broken, &steady]).start();
        let answers: Vec<u16> =
            (0..6).map(|_| gate.client().post("/post", b"x").status()).collect();
        assert!(answers.contains(&502) && answers.contains(&200), "{answers:?}");
        let twice = steady.seen().iter().filter(|seen| seen.target() == "/post").count();
        assert_eq!(twice, answers.iter().filter(|status| **status == 200).count());
    });
}

/// An application whose health can be switched.
fn switchable(text: &'static str) -> (Origin, Arc<AtomicBool>) {
    let healthy = Arc::new(AtomicBool::new(true));
    let health = Arc::clone(&healthy);
    let origin = Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            if request.target() == "/healthz" && !health.load(Ordering::SeqCst) {
                peer.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
            } else {
                peer.answer(text);
            }
        }
    });
    (origin, healthy)
}

const CHECK: &str = "check = { path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\", fall = 2, rise = 2 }";

fn checked(engine: crate::harness::engine::Engine, origins: &[&Origin]) -> Recipe {
    let addresses: Vec<&str> = origins.iter().map(|origin| origin.address.as_str()).collect();
    Recipe::new(engine)
        .site("/", "app")
        .text(&format!("[pool.app]\nservers = {addresses:?}\n{CHECK}"))
}

#[test]
fn a_server_that_fails_its_checks_gets_no_request_until_it_passes_again() {
    each(|engine| {
        let (first, first_health) = switchable("first");
        let (second, _second_health) = switchable("second");
        // Each thread checks for itself; with one there is one opinion.
        let gate = checked(engine, &[&first, &second]).start();
        let both = |wanted: bool| {
            let texts: Vec<String> = (0..8).map(|_| gate.get("/").text().to_owned()).collect();
            texts.iter().any(|text| text == "first") == wanted
        };
        wait_until("both serve", || both(true));
        first_health.store(false, Ordering::SeqCst);
        wait_until("the unhealthy one is left out", || both(false));
        for _ in 0..20 {
            assert_eq!(gate.get("/").text(), "second");
        }
        first_health.store(true, Ordering::SeqCst);
        wait_until("the recovered one serves again", || both(true));
    });
}

#[test]
fn a_pool_without_a_healthy_server_is_503_and_recovers() {
    each(|engine| {
        let (only, health) = switchable("only");
        let gate = checked(engine, &[&only]).start();
        wait_until("it serves", || gate.get("/").status() == 200);
        health.store(false, Ordering::SeqCst);
        wait_until("it is down", || gate.get("/").status() == 503);
        let answer = gate.get("/");
        assert!(answer.text().starts_with("503 upstream-down\n"), "{answer:?}");
        health.store(true, Ordering::SeqCst);
        wait_until("it is back", || gate.get("/").status() == 200);
    });
}

#[test]
fn checks_go_on_by_themselves_and_are_no_clients_requests() {
    each(|engine| {
        let (origin, _health) = switchable("ok");
        let gate =
            checked(engine, &[&origin]).threads(2).log("access = \"{dir}/access.json\"").start();
        wait_until("some checks", || origin.seen().len() >= 5);
        assert!(origin.targets().iter().all(|target| target == "/healthz"));
        gate.get("/mine");
        let lines = gate.wait_access(1);
        assert_eq!((lines.len(), &lines[0]["target"]), (1, &"/mine".into()));
    });
}
