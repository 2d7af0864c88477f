//! Requests and answers on their way through: framing, order, reuse of connections, retries, and
//! what happens when one side leaves.

use crate::harness::client::Client;
use crate::harness::clock::wait_until;
use crate::harness::engine::each;
use crate::harness::message::Body;
use crate::harness::origin::{Conversation, Origin};
use crate::harness::recipe::Recipe;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::mpsc;

/// Answers with what it was sent.
fn echo(peer: &mut Conversation) {
    while let Some(request) = peer.request() {
        let head = format!(
            "HTTP/1.1 200 OK\r\nX-Method: {}\r\nContent-Length: {}\r\n\r\n",
            request.method(),
            request.body.len()
        );
        if !peer.send(head) || !peer.send(&request.body) {
            return;
        }
    }
}

#[test]
fn one_upstream_connection_serves_many_requests_of_many_clients() {
    each(|engine| {
        let origin = Origin::saying("hello");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        for round in 0..20 {
            let mut client = gate.client();
            for _ in 0..3 {
                assert_eq!(client.get("/").text(), "hello", "round {round}");
            }
        }
        assert_eq!(origin.seen().len(), 60);
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn unix_upstreams_serve_like_tcp_ones() {
    each(|engine| {
        let directory = tempfile::tempdir().unwrap();
        open_to_all(directory.path());
        let origin = Origin::start_unix(&directory.path().join("app.sock"), echo);
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        assert_eq!(client.post("/", b"by socket").text(), "by socket");
        assert_eq!(client.post("/", b"again").text(), "again");
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn clients_may_come_by_unix_socket() {
    each(|engine| {
        let origin = Origin::saying("hello");
        let gate = Recipe::relaying(engine, &[&origin]).listen("unix:{dir}/http.sock").start();
        let address = format!("unix:{}", gate.path("http.sock").display());
        let mut client = Client::connect(&address);
        assert_eq!(client.get("/").text(), "hello");
        assert_eq!(client.get("/").text(), "hello");
    });
}

fn open_to_all(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            while let Some(request) = peer.request() {
                peer.answer(&format!("{} {}", request.target(), request.text()));
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        let mut all = String::new();
        for number in 0..50 {
            write!(
                all,
                "POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\
                 GET /{number}x HTTP/1.1\r\nHost: a\r\n\r\n"
            )
            .unwrap();
        }
        client.send(all);
        for number in 0..50 {
            assert_eq!(client.answer().text(), format!("/{number} body"));
            assert_eq!(client.answer().text(), format!("/{number}x "));
        }
    });
}

#[test]
fn bodies_pass_in_both_framings_and_both_directions() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            while let Some(request) = peer.request() {
                assert_eq!(request.text(), "hello world");
                let chunked = request.target() == "/chunked";
                peer.send(if chunked {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                     6;name=\"va;lue\"\r\nhello \r\n005\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n"
                } else {
                    "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"
                });
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        for target in ["/chunked", "/length"] {
            client.send(format!(
                "POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                 6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n"
            ));
            assert_eq!(client.answer().text(), "hello world");
            assert_eq!(client.post(target, b"hello world").text(), "hello world");
        }
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn chunks_arriving_byte_by_byte_are_still_chunks() {
    each(|engine| {
        let origin = Origin::start(echo);
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                       6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n";
        for byte in request.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(client.answer().text(), "hello world");
        assert_eq!(client.post("/", b"next").text(), "next");
    });
}

#[test]
fn answers_without_a_body_do_not_swallow_the_next() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            while let Some(request) = peer.request() {
                peer.send(match request.target() {
                    "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                    "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                    "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
                    _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                });
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().field("content-length"), Some("1000"));
        client.send("HEAD /head-chunked HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status(), 200);
        assert_eq!(client.get("/204").status(), 204);
        assert_eq!(client.get("/304").field("content-length"), Some("1000"));
        assert_eq!(client.get("/").status(), 200);
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn interim_answers_pass_and_continue_is_the_applications_to_say() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            let request = peer.head().unwrap();
            assert_eq!(request.field("expect"), Some("100-continue"));
            peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            peer.send("HTTP/1.1 100 Continue\r\n\r\n");
            assert_eq!(peer.reader.body(Body::Length(5)).unwrap(), b"hello");
            peer.answer("done");
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        let hints = client.head();
        assert_eq!((hints.status(), hints.field("link")), (103, Some("</a>")));
        assert_eq!(client.head().status(), 100);
        client.send("hello");
        assert_eq!(client.answer().text(), "done");
    });
}

#[test]
fn a_refused_expectation_reaches_the_client_without_its_body() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.head().unwrap();
            peer.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text()), (417, "no"));
        // Whether the body still comes cannot be known, so the connection cannot go on.
        client.expect_end();
    });
}

#[test]
fn http_1_0_clients_get_no_chunks_no_interim_answers_and_their_own_keep_alive() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            while peer.request().is_some() {
                peer.send("HTTP/1.1 103 Early Hints\r\n\r\n");
                peer.send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                );
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("GET / HTTP/1.0\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
        assert_eq!(answer.field("transfer-encoding"), None);
        client.expect_end();

        let origin = Origin::saying("hello");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        for _ in 0..2 {
            client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            let answer = client.answer();
            assert_eq!(answer.text(), "hello");
            assert_eq!(
                answer.field("connection").map(str::to_lowercase).as_deref(),
                Some("keep-alive")
            );
        }
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.answer().text(), "hello");
        client.expect_end();
    });
}

#[test]
fn close_delimited_answers_become_chunks_and_the_client_stays() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end");
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        for _ in 0..2 {
            let answer = client.get("/");
            assert_eq!(answer.text(), "until the end");
            assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        }
        assert_eq!(origin.connections(), 2);
    });
}

#[test]
fn connection_close_is_honoured_on_either_side() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        assert_eq!(client.get("/").text(), "ok");
        origin.wait_ended(1);
        let answer = client.get("/");
        assert_eq!((answer.text(), answer.field("connection")), ("ok", None));
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().field("connection"), Some("close"));
        client.expect_end();
    });
}

/// Answers one request on its first connection, then leaves at the sight of the next.
fn fickle(peer: &mut Conversation) {
    peer.request();
    peer.answer("first");
    if peer.number == 1 {
        peer.request();
        return;
    }
    while peer.request().is_some() {
        peer.answer("later");
    }
}

#[test]
fn a_stale_upstream_connection_is_retried_for_get() {
    each(|engine| {
        let origin = Origin::start(fickle);
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        assert_eq!(client.get("/1").text(), "first");
        assert_eq!(client.get("/2").text(), "first");
        assert_eq!(origin.targets(), ["/1", "/2", "/2"]);
    });
}

#[test]
fn a_stale_upstream_connection_is_not_retried_for_post() {
    each(|engine| {
        let origin = Origin::start(fickle);
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        assert_eq!(client.get("/1").text(), "first");
        let answer = client.post("/2", b"order");
        assert_eq!(answer.status(), 502, "{answer:?}");
        assert!(answer.text().starts_with("502 worker-lost\n"), "{answer:?}");
        assert_eq!(origin.targets(), ["/1", "/2"]);
    });
}

#[test]
fn a_closed_idle_upstream_connection_is_noticed_before_it_is_used() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.answer("ok");
            peer.end_first();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        for count in 1..=3 {
            assert_eq!(client.post("/", b"order").status(), 200);
            origin.wait_ended(count);
        }
    });
}

#[test]
fn idle_upstream_connections_are_closed_in_time() {
    each(|engine| {
        let origin = Origin::saying("ok");
        let gate =
            Recipe::relaying(engine, &[&origin]).upstream("idle_timeout = \"200ms\"").start();
        let mut client = gate.client();
        assert_eq!(client.get("/").text(), "ok");
        origin.wait_ended(1);
        assert_eq!(client.get("/").text(), "ok");
        assert_eq!(origin.connections(), 2);
    });
}

#[test]
fn bytes_after_an_answer_spoil_the_upstream_connection_not_the_client() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            while peer.request().is_some() {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            }
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        for _ in 0..5 {
            assert_eq!(client.get("/").text(), "ok");
        }
        assert_eq!(origin.connections(), 5);
    });
}

#[test]
fn an_early_answer_to_an_unfinished_upload_is_delivered() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.head().unwrap();
            peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nsome");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text()), (403, "no"));
        // The rest of the body may come or not; either way nobody is left hanging.
        let _ = client.try_send(vec![b'x'; 1_000_000 - 4]);
        drop(client);
        origin.wait_ended(1);
    });
}

#[test]
fn a_truncated_answer_never_looks_whole() {
    each(|engine| {
        let table = [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
        ];
        for bytes in table {
            let origin = Origin::start(move |peer| {
                peer.request();
                peer.send(bytes);
            });
            let gate = Recipe::relaying(engine, &[&origin]).start();
            let mut client = gate.client();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            // Cut in the head, by a reset, or in the body: anything but a whole answer.
            if let Ok(Some(head)) = client.reader.head() {
                let body = client.reader.body(head.framing(Body::Length(0)));
                assert!(head.status() == 502 || body.is_err(), "{bytes:?} became {body:?}");
            }
        }
    });
}

#[test]
fn a_truncated_answer_to_an_http_1_0_client_ends_in_a_reset() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert!(client.reader.rest().is_err(), "a quiet end would make half an answer whole");
    });
}

#[test]
fn a_client_that_resets_ends_its_upstream_request() {
    each(|engine| {
        let (told, heard) = mpsc::channel();
        let told = Mutex::new(told);
        let origin = Origin::start(move |peer| {
            peer.request();
            told.lock().unwrap().send(()).unwrap();
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
        heard.recv().unwrap();
        client.reset();
        origin.wait_ended(1);
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_answer_ends_it() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while peer.send("4\r\nmore\r\n") {}
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status(), 200);
        drop(client);
        origin.wait_ended(1);
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_upload_ends_the_request() {
    each(|engine| {
        let (told, heard) = mpsc::channel();
        let told = Mutex::new(told);
        let origin = Origin::start(move |peer| {
            peer.head();
            told.lock().unwrap().send(()).unwrap();
            assert!(peer.reader.body(Body::Length(1000)).is_err(), "half a body is not a body");
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
        heard.recv().unwrap();
        drop(client);
        origin.wait_ended(1);
    });
}

#[test]
fn a_client_that_ends_its_direction_while_its_request_runs_has_left() {
    each(|engine| {
        let origin = Origin::start(|peer| {
            peer.request();
            peer.wait_end();
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_until("the application has it", || !origin.seen().is_empty());
        client.end_sending();
        client.expect_end();
        origin.wait_ended(1);
    });
}

#[test]
fn many_clients_at_once_each_get_their_own_answer() {
    each(|engine| {
        let origin = Origin::start(echo);
        let gate = Recipe::relaying(engine, &[&origin]).threads(2).start();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let gate = &gate;
                scope.spawn(move || {
                    let mut client = gate.client();
                    for round in 0..50 {
                        let text = format!("client {number} round {round}").repeat(1 + round * 7);
                        assert_eq!(client.post("/", text.as_bytes()).text(), text);
                    }
                });
            }
        });
    });
}
