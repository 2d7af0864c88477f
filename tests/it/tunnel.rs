//! Upgraded connections: bytes both ways, unseen, until a side ends or nothing moves.

use crate::harness::client::Client;
use crate::harness::engine::each;
use crate::harness::gate::Gate;
use crate::harness::origin::{Conversation, Origin};
use crate::harness::recipe::Recipe;

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n";

fn agree(peer: &mut Conversation) {
    let request = peer.head().unwrap();
    assert_eq!(request.field("upgrade"), Some("echo/1"));
    assert!(request.field("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\n");
}

fn echo(peer: &mut Conversation) {
    agree(peer);
    while let Ok(bytes) = peer.reader.some(65536) {
        if bytes.is_empty() || !peer.send(bytes) {
            return;
        }
    }
}

fn open(gate: &Gate) -> Client {
    let mut client = gate.client();
    client.send(ASK);
    let answer = client.head();
    assert_eq!(answer.status(), 101, "{answer:?}");
    assert_eq!(answer.field("upgrade"), Some("echo/1"));
    client
}

#[test]
fn bytes_pass_both_ways_after_101() {
    each(|engine| {
        let origin = Origin::start(echo);
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = open(&gate);
        for size in [1, 100, 70_000] {
            // What looks like HTTP is none here.
            let bytes = b"GET / HTTP/1.1\r\n\r\n".repeat(size);
            let mut writer = client.reader.stream.try_clone().unwrap();
            let sent = bytes.clone();
            let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &sent));
            assert!(client.reader.take(bytes.len()).unwrap() == bytes, "{size}");
            writing.join().unwrap().unwrap();
        }
        client.end_sending();
        client.expect_end();
        origin.wait_ended(1);
    });
}

#[test]
fn bytes_sent_right_behind_the_heads_are_not_lost() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.head().unwrap();
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\nhello",
            );
            assert_eq!(peer.reader.take(5).unwrap(), b"early");
            peer.send("bye");
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send(format!("{ASK}early"));
        assert_eq!(client.head().status(), 101);
        assert_eq!(client.reader.rest().unwrap(), b"hellobye");
        origin.wait_ended(1);
    });
}

#[test]
fn one_direction_may_end_before_the_other() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            agree(peer);
            let all = peer.reader.rest().unwrap();
            peer.send(format!("{} bytes", all.len()));
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = open(&gate);
        client.send(vec![b'x'; 300_000]);
        client.end_sending();
        assert_eq!(client.reader.rest().unwrap(), b"300000 bytes");
    });
}

#[test]
fn a_silent_tunnel_ends_in_time() {
    each(|engine| {
        let origin = Origin::start(echo);
        let gate = Recipe::relaying(engine, &[&origin]).limit("idle_timeout = \"300ms\"").start();
        let mut client = open(&gate);
        client.send("ping");
        assert_eq!(client.reader.take(4).unwrap(), b"ping");
        client.expect_end();
        origin.wait_ended(1);
    });
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    each(|engine| {
        let origin = Origin::saying("no tunnel here");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send(ASK);
        assert_eq!(client.answer().text(), "no tunnel here");
        assert_eq!(client.get("/").text(), "no tunnel here");
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_refused() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.head().unwrap();
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            );
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let answer = gate.client().post("/", b"x");
        assert_eq!(answer.status(), 502, "{answer:?}");
        assert!(answer.text().starts_with("502 upstream-invalid\n"), "{answer:?}");
    });
}

#[test]
fn a_tunnel_ends_when_either_side_is_gone() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            agree(peer);
            if peer.reader.some(1).is_ok_and(|byte| byte == b"r") {
                peer.reset();
            } else {
                peer.wait_end();
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = open(&gate);
        client.send("r");
        client.expect_end();
        let mut client = open(&gate);
        client.send("w");
        client.reset();
        origin.wait_ended(2);
    });
}
