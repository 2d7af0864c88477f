//! Clients that belong to a slot of a garden, by a cookie, a field or their address, and gardens
//! that give the next request to who has least to do.

use crate::harness::client::Client;
use crate::harness::clock::wait_until;
use crate::harness::engine::each;
use crate::harness::gate::{Gate, send};
use crate::harness::message::Message;
use crate::queue::{asking, paths, pids, pool, recipe, release, seen, wait_quiet, wait_waiting};
use nix::sys::signal::Signal;

/// Asks with fields of one's own.
fn get(gate: &Gate, fields: &str) -> Message {
    let mut client = gate.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    let answer = client.answer();
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer
}

fn slot(answer: &Message) -> String {
    answer.text().split(' ').next().unwrap().to_owned()
}

fn process(answer: &Message) -> String {
    answer.text().split(' ').nth(1).unwrap().to_owned()
}

fn wait_serving(gate: &Gate, count: usize) {
    wait_until("all serve", || pids(gate, "serving").len() == count);
}

fn cookie(answer: &Message) -> Option<String> {
    let set = answer.field("set-cookie")?;
    Some(format!("Cookie: a=b; {}\r\n", set.split(';').next().unwrap()))
}

/// Replaces all workers by others.
fn recycle(gate: &Gate) {
    let old = pids(gate, "serving");
    gate.ask(&["recycle", "app"]);
    wait_until("all are recycled", || {
        let new = pids(gate, "serving");
        new.len() == old.len() && new.iter().all(|pid| !old.contains(pid))
    });
}

#[test]
fn a_cookie_ties_a_client_to_a_slot() {
    each(|engine| {
        let keys = "workers = 3\nmin_workers = 3\naffinity = { by = \"cookie\", name = \"tie\" }\n\
                    [pool.app.rapid_fail]\nfailures = 0\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        wait_serving(&gate, 3);
        let first: Vec<Message> = (0..6).map(|_| get(&gate, "")).collect();
        let mut slots: Vec<String> = first.iter().map(slot).collect();
        let tied: Vec<(String, String)> =
            first.iter().map(|answer| (slot(answer), cookie(answer).unwrap())).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots, ["0", "1", "2"]);
        let assert_tied = || {
            for (tie, cookie) in tied.iter().chain(&tied) {
                let answer = get(&gate, cookie);
                assert_eq!(slot(&answer), *tie);
                assert_eq!(answer.field("set-cookie"), None, "it is tied already");
            }
        };
        assert_tied();
        recycle(&gate);
        assert_tied();

        // What we did not sign ties nobody.
        let forged = ["Cookie: tie=1\r\n".to_owned(), tied[0].1.replace("=0-", "=1-")]
            .into_iter()
            .chain([tied[0].1.replace("\r\n", "0\r\n"), "Cookie: tie=\r\n".into()])
            .filter(|forged| *forged != tied[0].1);
        for forged in forged {
            let answers: Vec<Message> = (0..6).map(|_| get(&gate, &forged)).collect();
            assert!(answers.iter().any(|answer| slot(answer) != slot(&answers[0])), "{forged}");
            assert!(answers.iter().all(|answer| cookie(answer).is_some()), "{forged}");
        }
    });
}

#[test]
fn who_belongs_to_a_slot_that_is_gone_is_tied_to_another() {
    each(|engine| {
        // What comes back fails to start until it is released.
        let keys = "workers = 2\nmin_workers = 2\naffinity = { by = \"cookie\" }\n\
                    ready = { path = \"/held/ready\", timeout = \"60s\" }\n\
                    [pool.app.rapid_fail]\nfailures = 0\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        release(&gate, "ready");
        wait_serving(&gate, 2);
        let first = get(&gate, "");
        let tie = cookie(&first).unwrap();
        std::fs::remove_file(gate.path("ready")).unwrap();
        send(process(&first).parse().unwrap(), Signal::SIGKILL);
        wait_serving(&gate, 1);
        let other = get(&gate, &tie);
        assert_ne!(slot(&other), slot(&first));
        let tie = cookie(&other).expect("a tie to the slot that answered");
        release(&gate, "ready");
        wait_serving(&gate, 2);
        for _ in 0..6 {
            assert_eq!(slot(&get(&gate, &tie)), slot(&other), "it stays where it went");
        }
    });
}

#[test]
fn a_field_ties_its_value_to_a_slot() {
    each(|engine| {
        let keys = "workers = 3\nmin_workers = 3\n\
                    affinity = { by = \"header\", name = \"X-User\" }\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        wait_serving(&gate, 3);
        let users: Vec<String> = (0..12).map(|user| format!("X-User: {user}\r\n")).collect();
        let homes = || users.iter().map(|user| slot(&get(&gate, user))).collect::<Vec<_>>();
        let before = homes();
        assert!(before.iter().any(|home| *home != before[0]), "{before:?}");
        assert_eq!(homes(), before);
        recycle(&gate);
        assert_eq!(homes(), before);
        assert!(seen(&gate).len() >= 36);
        // Who has none goes anywhere.
        let slots: Vec<String> = (0..6).map(|_| slot(&get(&gate, ""))).collect();
        assert!(slots.iter().any(|slot| *slot != slots[0]), "{slots:?}");
    });
}

#[test]
fn an_address_ties_its_client_to_a_slot_and_to_its_queue() {
    each(|engine| {
        let keys = "workers = 2\nmin_workers = 2\nslots = 1\naffinity = { by = \"client-ip\" }\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        wait_serving(&gate, 2);
        let home = slot(&get(&gate, ""));
        for _ in 0..6 {
            assert_eq!(slot(&get(&gate, "")), home);
        }
        let mut clients = [asking(&gate, "/held/go"), asking(&gate, "/held/go")];
        // The other worker is free, and not theirs.
        wait_waiting(&gate, 1);
        recycle(&gate);
        release(&gate, "go");
        for client in &mut clients {
            assert_eq!(slot(&client.answer()), home);
        }
        assert_eq!(slot(&get(&gate, "")), home);
        wait_quiet(&gate);
    });
}

#[test]
fn who_has_least_to_do_gets_the_next_request() {
    each(|engine| {
        let keys = "workers = 2\nmin_workers = 2\ndispatch = \"least-busy\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        wait_serving(&gate, 2);
        let mut held: Vec<Client> = Vec::new();
        for count in 1..=4 {
            held.push(asking(&gate, "/held/go"));
            wait_until("it is held", || paths(&gate).len() == count);
        }
        let mut slots: Vec<String> = seen(&gate).into_iter().map(|[_, _, slot, _]| slot).collect();
        slots.sort_unstable();
        assert_eq!(slots, ["0", "0", "1", "1"]);
        release(&gate, "go");
        let mut answers = held.iter_mut().map(Client::answer);
        let idle = slot(&answers.next().unwrap());
        assert!(answers.all(|answer| answer.status() == 200));
        wait_quiet(&gate);
        let busy = asking(&gate, "/held/later");
        wait_until("it is held", || paths(&gate).len() == 5);
        let busy_slot = seen(&gate)[4][2].clone();
        for _ in 0..6 {
            assert_ne!(slot(&get(&gate, "")), busy_slot, "the other one is idle ({idle})");
        }
        assert_eq!(pool(&gate)["workers_alive"], 2);
        drop(busy);
    });
}
