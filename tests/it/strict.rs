//! What a strict intermediary must not let through: whatever two parsers could read in two ways
//! is answered with an error, ends the connection, and never reaches an application.

use crate::harness::engine::each;
use crate::harness::origin::Origin;
use crate::harness::recipe::Recipe;

/// Each ends with a second request that must never be answered.
const AMBIGUOUS: &[(&str, &str)] = &[
    (
        "length and coding",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding and length",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "two equal lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "two lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 3\r\n\r\nabc",
    ),
    ("length list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n"),
    ("signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n"),
    ("negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    ("hexadecimal length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x0\r\n\r\n"),
    ("length with a space", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\n"),
    ("empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
    (
        "length beyond 64 bits",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
    ),
    (
        "coding in HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding twice",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("empty coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    (
        "coding with a control byte",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    ("space before colon", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n\r\n"),
    ("tab before colon", "GET / HTTP/1.1\r\nHost: a\r\nX\t: 0\r\n\r\n"),
    ("folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
    ("folded first line", "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"),
    ("bare LF after a field", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n"),
    ("bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    ("bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n"),
    ("zero byte in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n"),
    ("control byte in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\x072\r\n\r\n"),
    ("no field name", "GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    ("odd byte in a name", "GET / HTTP/1.1\r\nHost: a\r\nX(1): 1\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\nX: 1\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("host with userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("host with a bad port", "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"),
    ("userinfo in the target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("other scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("asterisk for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("fragment", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("control byte in the target", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bytes beyond ASCII in the target", "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("space before the line", " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("odd byte in the method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bad escape", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("escaped zero byte", "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("no version", "GET /\r\nHost: a\r\n\r\n"),
    ("lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("not HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
];

/// What follows a head that announced chunks; the application may have seen the head.
const CHUNKS: &[(&str, &str)] = &[
    ("no digits", "\r\n\r\n"),
    ("prefix", "0x1\r\na\r\n0\r\n\r\n"),
    ("sign", "+1\r\na\r\n0\r\n\r\n"),
    ("space before the size", " 1\r\na\r\n0\r\n\r\n"),
    ("bare LF after the size", "1\na\r\n0\r\n\r\n"),
    ("bare LF after the data", "1\r\na\n0\r\n\r\n"),
    ("data longer than said", "1\r\nab\r\n0\r\n\r\n"),
    ("size beyond 64 bits", "10000000000000000\r\na\r\n0\r\n\r\n"),
    ("bare CR in an extension", "1;a\rb\r\na\r\n0\r\n\r\n"),
    ("bare LF in an extension", "1;a\nb\r\na\r\n0\r\n\r\n"),
    ("bare LF in a trailer", "1\r\na\r\n0\r\nX: 1\n\r\n"),
    ("folded trailer", "1\r\na\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
    ("length in a trailer", "1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n"),
];

const FOLLOWING: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn ambiguous_heads_are_refused_and_end_the_connection() {
    each(|engine| {
        let origin = Origin::saying("passed");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        for (name, head) in AMBIGUOUS {
            let mut client = gate.client();
            client.send(format!("{head}{FOLLOWING}"));
            let answer = client.answer();
            assert_eq!(answer.status(), 400, "{name}: {}", answer.text());
            assert_eq!(answer.field("connection"), Some("close"), "{name}");
            client.expect_end();
        }
        assert_eq!(origin.targets(), [""; 0], "an application saw what it must not");
    });
}

#[test]
fn ambiguous_heads_are_refused_however_they_are_split() {
    each(|engine| {
        let origin = Origin::saying("passed");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        for (name, head) in AMBIGUOUS {
            let mut client = gate.client();
            for piece in format!("{head}{FOLLOWING}").as_bytes().chunks(3) {
                if client.try_send(piece).is_err() {
                    break; // refused before its end, which is as good
                }
            }
            assert_eq!(client.answer().status(), 400, "{name}");
        }
        assert_eq!(origin.targets(), [""; 0]);
    });
}

#[test]
fn odd_chunks_end_the_connection_and_nothing_after_them_is_a_request() {
    each(|engine| {
        // It answers only what arrives whole, so a broken body never gets an answer from it.
        let origin = Origin::saying("passed");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        for (name, chunks) in CHUNKS {
            let mut client = gate.client();
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            client.send(format!("{head}{chunks}{FOLLOWING}"));
            let answer = client.answer();
            assert_eq!(answer.status(), 400, "{name}: {}", answer.text());
            client.expect_end();
        }
        assert!(origin.targets().iter().all(|target| target == "/"), "{:?}", origin.targets());
    });
}

#[test]
fn what_is_not_implemented_says_so() {
    each(|engine| {
        let origin = Origin::saying("passed");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let table = [
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ];
        for (request, status) in table {
            let mut client = gate.client();
            client.send(request);
            assert_eq!(client.answer().status(), status, "{request}");
            client.expect_end();
        }
        assert_eq!(origin.targets(), [""; 0]);
    });
}

#[test]
fn what_is_unusual_but_clear_is_relayed() {
    each(|engine| {
        let origin = Origin::saying("passed");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let table = [
            ("\r\nGET /empty-line HTTP/1.1\r\nHost: a\r\n\r\n", "/empty-line"),
            ("GET http://b/absolute?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", "/absolute?x=1"),
            ("GET http://b HTTP/1.1\r\nHost: b\r\n\r\n", "/"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*"),
            ("GET /tab HTTP/1.1\r\nHost:\ta\t\r\n\r\n", "/tab"),
            ("GET /v6 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "/v6"),
            ("GET /escapes/%7Ea%2Fb?%zz HTTP/1.1\r\nHost: a\r\n\r\n", "/escapes/%7Ea%2Fb?%zz"),
            ("BREW /method HTTP/1.1\r\nHost: a\r\n\r\n", "/method"),
            ("GET /obs HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n", "/obs"),
            ("GET /empty HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", "/empty"),
        ];
        for (request, target) in table {
            let mut client = gate.client();
            client.send(request);
            assert_eq!(client.answer().status(), 200, "{request}");
            assert_eq!(origin.targets().last().map(String::as_str), Some(target), "{request}");
        }
    });
}

#[test]
fn the_targets_authority_wins_over_the_host_field() {
    each(|engine| {
        let origin = Origin::saying("passed");
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("GET http://named.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n");
        assert_eq!(client.answer().status(), 200);
        assert_eq!(origin.seen()[0].all("host"), ["named.example"]);
    });
}
