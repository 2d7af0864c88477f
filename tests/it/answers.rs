//! What a client gets when there is no answer of an application to give: the status, the reason
//! word, the request's id, and whether the connection goes on.

use crate::harness::clock::PATIENCE;
use crate::harness::engine::each;
use crate::harness::message::Message;
use crate::harness::origin::Origin;
use crate::harness::port::Port;
use crate::harness::recipe::Recipe;
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::time::Duration;

/// An answer of the gate itself, as all of them look.
fn expect_refusal(answer: &Message, status: u16, reason: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    let id = answer.field("x-request-id").expect("an id").to_owned();
    assert!(!id.is_empty());
    assert_eq!(answer.text(), format!("{status} {reason}\nrequest {id}\n"));
    assert!(answer.field("content-type").unwrap().starts_with("text/plain"), "{answer:?}");
    assert!(answer.field("date").is_some(), "{answer:?}");
}

#[test]
fn a_path_without_route_is_404_and_the_connection_goes_on() {
    each(|engine| {
        let origin = Origin::saying("shop");
        let gate = Recipe::new(engine)
            .site("/shop", "shop")
            .servers("shop", &[&origin.address], "")
            .start();
        let mut client = gate.client();
        expect_refusal(&client.get("/elsewhere"), 404, "no-route");
        assert_eq!(client.get("/shop").text(), "shop");
    });
}

#[test]
fn an_unknown_host_is_404_or_421_as_configured() {
    each(|engine| {
        let origin = Origin::saying("shop");
        let site = "[[site]]\nname = \"s\"\nhosts = [\"shop.example\"]\n[[site.route]]\npath = \"/\"\npool = \"shop\"\n";
        for (line, status) in [("", 404), ("unknown_host = \"misdirected\"", 421)] {
            let gate = Recipe::new(engine)
                .server(line)
                .text(site)
                .servers("shop", &[&origin.address], "")
                .start();
            assert_eq!(gate.get("/").status(), status);
        }
        assert_eq!(origin.connections(), 0);
    });
}

#[test]
fn a_refused_connection_is_502() {
    each(|engine| {
        let nobody = Port::claim();
        let gate =
            Recipe::new(engine).site("/", "app").servers("app", &[&nobody.address()], "").start();
        let mut client = gate.client();
        let answer = client.get("/");
        expect_refusal(&answer, 502, "upstream-connect");
        assert_eq!(client.get("/").status(), 502, "the connection goes on");
    });
}

#[test]
fn a_missing_unix_socket_is_502() {
    each(|engine| {
        let gate = Recipe::new(engine)
            .site("/", "app")
            .servers("app", &["unix:/nonexistent/app.sock"], "")
            .start();
        expect_refusal(&gate.get("/"), 502, "upstream-connect");
    });
}

#[test]
fn a_server_that_never_accepts_is_given_up_in_time() {
    each(|engine| {
        let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        deaf.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        deaf.listen(0).unwrap();
        let address = deaf.local_addr().unwrap();
        let fill = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.connect_timeout(&address, Duration::from_millis(200)).map(|()| socket)
        };
        let mut filling = Vec::new();
        while let Ok(socket) = fill() {
            filling.push(socket);
        }
        let name = address.as_socket().unwrap().to_string();
        let gate = Recipe::new(engine)
            .site("/", "app")
            .servers("app", &[&name], "connect_timeout = \"300ms\"")
            .start();
        let answer = gate.get("/");
        assert!(matches!(answer.status(), 502 | 504), "{answer:?}");
        assert!(answer.text().contains("upstream-"), "{answer:?}");
    });
}

#[test]
fn a_server_that_leaves_before_answering_is_502() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        expect_refusal(&gate.client().post("/", b"x"), 502, "worker-lost");
        assert_eq!(origin.connections(), 1, "a POST that was seen is not sent again");
    });
}

#[test]
fn a_server_that_resets_before_answering_is_502() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.reset();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        expect_refusal(&gate.client().post("/", b"x"), 502, "worker-lost");
    });
}

#[test]
fn an_answer_that_is_not_http_is_502() {
    each(|engine| {
        let table = [
            "hello\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        ];
        for bytes in table {
            let origin = Origin::start(move |peer| {
                peer.request();
                peer.send(bytes);
                peer.wait_end();
            });
            let gate = Recipe::relaying(engine, &[&origin]).start();
            expect_refusal(&gate.client().post("/", b"x"), 502, "upstream-invalid");
            origin.wait_ended(1);
        }
    });
}

#[test]
fn a_server_that_does_not_answer_is_504() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.wait_end();
        });
        let gate =
            Recipe::relaying(engine, &[&origin]).upstream("response_timeout = \"300ms\"").start();
        expect_refusal(&gate.get("/"), 504, "upstream-timeout");
        origin.wait_ended(1);
        assert_eq!(origin.connections(), 1, "a slow server is not asked twice");
    });
}

#[test]
fn an_answer_that_stalls_is_cut_visibly() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            peer.wait_end();
        });
        let gate =
            Recipe::relaying(engine, &[&origin]).upstream("response_timeout = \"300ms\"").start();
        let mut client = gate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status(), 200);
        let rest = client.reader.rest();
        assert!(rest.as_ref().map_or(true, |rest| rest == b"half"), "{rest:?}");
        origin.wait_ended(1);
    });
}

#[test]
fn bodies_beyond_the_limit_are_413() {
    each(|engine| {
        let origin = Origin::saying("passed");
        let gate = Recipe::relaying(engine, &[&origin]);
        let gate = gate.limit("body_size = \"1KiB\"").start();
        assert_eq!(gate.client().post("/", &[b'x'; 1024]).status(), 200);
        let mut client = gate.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n");
        expect_refusal(&client.answer(), 413, "body-too-large");
        client.expect_end();
        let mut client = gate.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("200\r\n{0}\r\n201\r\n{0}x\r\n0\r\n\r\n", "x".repeat(512)));
        expect_refusal(&client.answer(), 413, "body-too-large");
        client.expect_end();
    });
}

#[test]
fn heads_beyond_the_limits_are_414_and_431() {
    each(|engine| {
        let origin = Origin::saying("passed");
        let gate = Recipe::relaying(engine, &[&origin])
            .limit("target_size = \"1KiB\"\nhead_size = \"4KiB\"\nheader_count = 10")
            .start();
        let fields = |count: usize| "X: 1\r\n".repeat(count);
        let table = [
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1023)), 200),
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1024)), 414),
            (format!("GET /{}", "x".repeat(2000)), 414),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(3000)), 200),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(4096)), 431),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(8000)), 431),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(9)), 200),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(10)), 431),
        ];
        for (request, status) in table {
            let mut client = gate.client();
            client.send(&request);
            let answer = client.answer();
            assert_eq!(answer.status(), status, "{} bytes: {answer:?}", request.len());
            if status != 200 {
                client.expect_end();
            }
        }
    });
}

#[test]
fn a_refusal_of_head_has_no_body() {
    each(|engine| {
        let gate =
            Recipe::new(engine).site("/shop", "shop").servers("shop", &["127.0.0.1:9"], "").start();
        let mut client = gate.client();
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status(), 404);
        // A body would be taken for the head of this answer.
        assert_eq!(client.get("/").status(), 404);
    });
}

#[test]
fn a_refused_upload_does_not_lose_its_answer_to_a_reset() {
    each(|engine| {
        let gate =
            Recipe::new(engine).site("/shop", "shop").servers("shop", &["127.0.0.1:9"], "").start();
        let mut client = gate.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n");
        let body = vec![b'x'; 4_000_000];
        let mut writer = client.reader.stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            use std::io::Write;
            writer.set_write_timeout(Some(PATIENCE)).unwrap();
            // It may be stopped; what counts is that the answer is there to be read.
            let _ = writer.write_all(&body);
        });
        expect_refusal(&client.answer(), 404, "no-route");
        writing.join().unwrap();
    });
}
