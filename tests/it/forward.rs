//! What a request and an answer carry on the other side: who asked, by which way, under which id;
//! and what must not cross.

use crate::harness::engine::each;
use crate::harness::origin::Origin;
use crate::harness::recipe::Recipe;

#[test]
fn the_application_learns_who_asked_and_by_which_way() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("GET /a?b=c HTTP/1.1\r\nHost: shop.example:8080\r\nX-Own: 1\r\n\r\n");
        assert_eq!(client.answer().status(), 200);
        let seen = &origin.seen()[0];
        assert_eq!(seen.line, "GET /a?b=c HTTP/1.1");
        assert_eq!(seen.all("host"), ["shop.example:8080"]);
        assert_eq!(seen.all("x-own"), ["1"]);
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
        assert_eq!(seen.all("x-forwarded-host"), ["shop.example:8080"]);
        let forwarded = seen.all("forwarded").concat();
        for part in ["for=127.0.0.1", "proto=http", "host=\"shop.example:8080\""] {
            assert!(forwarded.contains(part), "{forwarded}");
        }
        assert!(seen.field("via").unwrap().starts_with("1.1 "), "{seen:?}");
        let start = seen.field("x-request-start").unwrap().strip_prefix("t=").unwrap();
        // Microseconds since 1970: sixteen digits until the year 2286.
        assert!(start.len() == 16 && start.bytes().all(|byte| byte.is_ascii_digit()), "{start}");
        assert_eq!(seen.all("x-request-id").len(), 1);
    });
}

#[test]
fn lists_are_appended_to_and_single_facts_are_ours() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send(
            "GET / HTTP/1.0\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: forged\r\nForwarded: for=192.0.2.1\r\nVia: 1.0 before\r\n\
             X-Request-Start: t=1\r\n\r\n",
        );
        assert_eq!(client.answer().status(), 200);
        let seen = &origin.seen()[0];
        assert_eq!(seen.all("x-forwarded-for").join(", "), "192.0.2.1, 127.0.0.1");
        assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
        assert_eq!(seen.all("x-forwarded-host"), ["a"]);
        assert!(seen.all("forwarded").join(", ").starts_with("for=192.0.2.1, for=127.0.0.1"));
        let via = seen.all("via").join(", ");
        assert!(via.starts_with("1.0 before, 1.0 "), "{via}");
        assert_eq!(seen.all("x-request-start").len(), 1);
        assert_ne!(seen.all("x-request-start"), ["t=1"]);
    });
}

#[test]
fn hop_by_hop_fields_end_here_in_both_directions() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            while peer.request().is_some() {
                peer.send(
                    "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\n\
                     X-Private: 1\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n\
                     X-Public: 1\r\nServer: app\r\nContent-Length: 2\r\n\r\nok",
                );
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
             X-Public: 1\r\n\r\n",
        );
        let answer = client.answer();
        let seen = &origin.seen()[0];
        for message in [&answer, seen] {
            for name in ["x-private", "keep-alive", "proxy-connection", "te", "upgrade"] {
                assert_eq!(message.field(name), None, "{name} in {message:?}");
            }
            assert_eq!(message.field("x-public"), Some("1"));
            let connection = message.field("connection").unwrap_or("keep-alive");
            assert_eq!(connection.to_lowercase(), "keep-alive");
        }
        assert_eq!(answer.field("server"), Some("app"));
        assert!(answer.field("via").is_some() && answer.field("date").is_some(), "{answer:?}");
        assert_eq!(client.get("/").text(), "ok", "the client's connection was never theirs to end");
    });
}

#[test]
fn a_connection_field_cannot_remove_what_framing_and_routing_need() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            while let Some(request) = peer.request() {
                peer.answer(&format!("{} {}", request.all("host").concat(), request.text()));
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: Host, Content-Length, X-Forwarded-For\r\n\
             Content-Length: 4\r\n\r\nbody",
        );
        let answer = client.answer();
        // Refusing it is as good as ignoring it.
        if answer.status() == 200 {
            assert_eq!(answer.text(), "a body");
            assert_eq!(origin.seen()[0].all("x-forwarded-for"), ["127.0.0.1"]);
        } else {
            assert_eq!(answer.status(), 400);
        }
    });
}

#[test]
fn fields_keep_their_order_and_repetitions() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            while peer.request().is_some() {
                peer.send("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX: 1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nA: 3\r\nCookie: x=\"y z\"\r\n\r\n");
        assert_eq!(client.answer().all("set-cookie"), ["a=1", "b=2"]);
        let seen = &origin.seen()[0];
        assert_eq!((seen.all("a"), seen.all("cookie")), (vec!["1", "3"], vec!["x=\"y z\""]));
    });
}

#[test]
fn every_request_has_one_id_in_the_application_and_in_the_log() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate =
            Recipe::relaying(engine, &[&origin]).log("access = \"{dir}/access.json\"").start();
        let mut client = gate.client();
        client.get("/1");
        client.get("/2");
        client.send("GET /3 HTTP/1.1\r\nHost: a\r\nX-Request-Id: from-the-client-7\r\n\r\n");
        client.answer();
        let ids: Vec<String> =
            origin.seen().iter().map(|seen| seen.all("x-request-id").join("|")).collect();
        let logged = gate.wait_access(3);
        let logged: Vec<&str> = logged.iter().map(|line| line["id"].as_str().unwrap()).collect();
        assert_eq!(ids, logged);
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[2], "from-the-client-7");
    });
}
