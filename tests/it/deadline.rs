//! Nobody may hold a connection for longer than the limits say: slow heads, slow bodies, slow
//! readers, silence.

use crate::harness::clock::now;
use crate::harness::engine::each;
use crate::harness::gate::PROMPT;
use crate::harness::origin::Origin;
use crate::harness::recipe::Recipe;
use std::time::{Duration, Instant};

/// The limit under test, and the precision of a timer on a busy machine.
const LIMIT: Duration = Duration::from_millis(400);

fn expect_on_time(start: Instant) {
    let took = start.elapsed();
    assert!(took + Duration::from_millis(50) >= LIMIT, "early: {took:?}");
    assert!(took < LIMIT + PROMPT, "late: {took:?}");
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_408() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).limit("head_timeout = \"400ms\"").start();
        let mut client = gate.client();
        let start = now();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n");
        let answer = client.answer();
        assert_eq!(answer.status(), 408);
        assert!(answer.text().starts_with("408 header-timeout\n"), "{answer:?}");
        expect_on_time(start);
        client.expect_end();
    });
}

#[test]
fn a_head_that_trickles_gains_no_time() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).limit("head_timeout = \"400ms\"").start();
        let mut client = gate.client();
        let start = now();
        client.reader.stream.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
        let answer = loop {
            // The wait between two pieces of the trickle is the read's own timeout.
            match client.reader.head() {
                Ok(answer) => break answer.unwrap(),
                Err(cause) => assert_eq!(cause.kind(), std::io::ErrorKind::WouldBlock, "{cause}"),
            }
            assert!(start.elapsed() < LIMIT + PROMPT, "a trickle kept it open");
            let _ = client.try_send("x");
        };
        assert_eq!(answer.status(), 408);
    });
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let limits = "idle_timeout = \"400ms\"\nhead_timeout = \"400ms\"";
        let gate = Recipe::relaying(engine, &[&origin]).limit(limits).start();
        let start = now();
        let mut silent = gate.client();
        // A fresh connection may be told why (408) or not; either way it ends.
        let rest = silent.reader.rest().unwrap_or_default();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{rest:?}");
        expect_on_time(start);
    });
}

#[test]
fn an_idle_kept_alive_connection_is_closed_quietly_in_time() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).limit("idle_timeout = \"400ms\"").start();
        let mut client = gate.client();
        assert_eq!(client.get("/").text(), "ok");
        let start = now();
        client.expect_end();
        expect_on_time(start);
    });
}

#[test]
fn requests_keep_a_connection_alive() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).limit("idle_timeout = \"400ms\"").start();
        let mut client = gate.client();
        let start = now();
        while start.elapsed() < 3 * LIMIT {
            assert_eq!(client.get("/").text(), "ok");
            client.expect_silence(Duration::from_millis(100));
        }
    });
}

#[test]
fn a_body_that_stalls_is_408_and_ends_the_upstream_request() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.head();
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).limit("body_timeout = \"400ms\"").start();
        let mut client = gate.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        let start = now();
        let answer = client.answer();
        assert_eq!(answer.status(), 408);
        assert!(answer.text().starts_with("408 body-timeout\n"), "{answer:?}");
        expect_on_time(start);
        client.expect_end();
        origin.wait_ended(1);
    });
}

#[test]
fn a_body_that_keeps_coming_may_take_its_time() {
    each(|engine| {
        let origin = Origin::start(|peer| while peer.request().is_some() && peer.answer("ok") {});
        let gate = Recipe::relaying(engine, &[&origin]).limit("body_timeout = \"400ms\"").start();
        let mut client = gate.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n");
        for _ in 0..12 {
            client.send("x");
            // The pace under test, not a wait for anything.
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(client.answer().text(), "ok");
    });
}

#[test]
fn a_reader_that_takes_nothing_is_cut_off() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(65536));
            while peer.send(&chunk) {}
        });
        let gate = Recipe::relaying(engine, &[&origin])
            .limit("body_timeout = \"400ms\"")
            .log("access = \"{dir}/access.json\"")
            .start();
        let mut client = gate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status(), 200);
        // It reads no more; the origin's script ends when the gate gives up.
        origin.wait_ended(1);
        let lines = gate.wait_access(1);
        assert_eq!(lines[0]["reason"], "send-rate", "{lines:?}");
        drop(client);
    });
}

#[test]
fn a_slow_but_sufficient_reader_gets_everything() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{}",
                "x".repeat(3_000_000)
            ));
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).limit("min_send_rate = 240").start();
        let mut client = gate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status(), 200);
        let mut size = 0;
        while size < 3_000_000 {
            size += client.reader.some(100_000).unwrap().len();
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(size, 3_000_000);
    });
}
