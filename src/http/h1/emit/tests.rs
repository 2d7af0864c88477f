//! What we send on: exact heads, and that we would take them ourselves.

use super::*;
use crate::http::h1::head::{self, HeadLimits, Scratch};
use crate::http::{Method, Version};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { head_size: 65536, header_count: 200, target_size: 8192 };
const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const FORWARDING: Forwarding<'_> = Forwarding {
    peer: b"192.0.2.1",
    peer_is_ipv6: false,
    protocol: b"http",
    request_id: b"id-1",
    start_micros: 1_700_000_000_000_000,
};

fn request_with(head: &[u8], forwarding: &Forwarding<'_>) -> String {
    let mut scratch = Scratch::new();
    let read = head::request(head, &LIMITS, &mut scratch).unwrap().unwrap();
    let mut out = b"before".to_vec();
    request(&mut out, &read, b"default", forwarding);
    String::from_utf8(out.split_off(6)).unwrap()
}

fn relayed(head: &str) -> String {
    request_with(head.as_bytes(), &FORWARDING)
}

/// What is between the first line and the fields that are ours.
fn passed(lines: &str) -> String {
    let out = relayed(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
    let rest = out.strip_prefix("GET / HTTP/1.1\r\nHost: h\r\n").expect("host first");
    rest[..rest.find("Via: 1.1 lychgate").expect("our Via")].into()
}

fn answered(
    head: &str,
    method: Method,
    coding: Coding,
    keep: Persistence,
    client: Version,
) -> String {
    let mut scratch = Scratch::new();
    let read = head::response(head.as_bytes(), method, &mut scratch).unwrap().unwrap();
    let mut out = Vec::new();
    response(&mut out, &read, coding, keep, client, DATE);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_whole_request() {
    assert_eq!(
        relayed(
            "\r\nPOST /a?b HTTP/1.1\r\nHost: a.example:80\r\nAccept:  */* \r\nX: y\r\n\
             Content-Length:\t007\r\nConnection: keep-alive\r\nUser-Agent: t\r\n\r\n"
        ),
        "POST /a?b HTTP/1.1\r\nHost: a.example:80\r\nAccept:  */* \r\nX: y\r\nUser-Agent: t\r\n\
         Content-Length: 7\r\nVia: 1.1 lychgate\r\nX-Forwarded-For: 192.0.2.1\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example:80\r\n\
         Forwarded: for=192.0.2.1;proto=http;host=\"a.example:80\"\r\nX-Request-Id: id-1\r\n\
         X-Request-Start: t=1700000000000000\r\n\r\n"
    );
}

#[test]
fn first_lines_and_hosts() {
    for (head, expected) in [
        ("GET http://a?q HTTP/1.1\r\nHost: b\r\n", "GET /?q HTTP/1.1\r\nHost: a\r\nVia: 1.1 "),
        ("OPTIONS * HTTP/1.1\r\nHost: b\r\n", "OPTIONS * HTTP/1.1\r\nHost: b\r\nVia: 1.1 "),
        ("OPTIONS http://a HTTP/1.1\r\nHost: b\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\nVia: 1.1 "),
        ("OPTIONS http://a/ HTTP/1.1\r\nHost: b\r\n", "OPTIONS / HTTP/1.1\r\nHost: a\r\nVia: 1.1 "),
        ("GET / HTTP/1.0\r\n", "GET / HTTP/1.1\r\nHost: default\r\nVia: 1.0 "),
        ("GET / HTTP/1.0\r\nhost: b\r\n", "GET / HTTP/1.1\r\nhost: b\r\nVia: 1.0 "),
        ("GET / HTTP/1.0\r\nExpect: 100-continue\r\n", "GET / HTTP/1.1\r\nHost: default\r\nVia: "),
    ] {
        let out = relayed(&format!("{head}\r\n"));
        assert!(out.starts_with(expected), "{head:?} became {out:?}");
        assert_eq!(out.to_ascii_lowercase().matches("\r\nhost:").count(), 1, "{out:?}");
    }
}

#[test]
fn what_ends_here_and_what_passes() {
    for (lines, expected) in [
        ("", ""),
        ("Content-Length: 0\r\n", "Content-Length: 0\r\n"),
        ("transfer-encoding:Chunked\r\nA: b\r\n", "A: b\r\nTransfer-Encoding: chunked\r\n"),
        ("Connection: close, X-Hop\r\nA: b\r\nx-hop: c\r\nD: e\r\n", "A: b\r\nD: e\r\n"),
        ("Connection: connection\r\nConnection: x-hop\r\nX-Hop: c\r\nA: b\r\n", "A: b\r\n"),
        ("X-Hop: c\r\nConnection: x-hop\r\nX-Hop: d\r\n", ""),
        (
            "TE: trailers\r\nTrailer: X\r\nKeep-Alive: 1\r\nProxy-Connection: a\r\n",
            "Trailer: X\r\n",
        ),
        ("Upgrade: websocket\r\n", ""),
        ("Connection: upgrade\r\nUpgrade: h2c\r\n", ""),
        (
            "Connection: upgrade, a\r\nUpgrade:  websocket\r\nA: b\r\nC: d\r\n",
            "C: d\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
        ),
        ("Expect: 100-continue\r\n", "Expect: 100-continue\r\n"),
        ("Connection: host, content-length\r\nContent-Length: 1\r\n", "Content-Length: 1\r\n"),
        ("Via: 1.0 a\r\n", "Via: 1.0 a\r\n"),
        // What says who the client is, is ours to say, however it is spelled.
        ("X-Forwarded-Proto: https\r\nX-FORWARDED-HOST: x\r\nX-Request-Start: t=1\r\n", ""),
        ("X_Forwarded_For: 1.1.1.1\r\nX-Forwarded_Proto: https\r\nx_request_id: a\r\n", ""),
        ("Content_Length: 3\r\nTransfer_Encoding: chunked\r\nProxy: x\r\n", ""),
        ("A_b: c\r\nUser-Agent: d\r\nEmpty:\r\n", "A_b: c\r\nUser-Agent: d\r\nEmpty:\r\n"),
    ] {
        assert_eq!(passed(lines), expected, "{lines:?}");
    }
}

#[test]
fn forwarding() {
    let field = |head: &str, forwarding: &Forwarding<'_>, name: &str| {
        let out = request_with(head.as_bytes(), forwarding);
        let mut lines = out.lines().filter_map(|line| line.strip_prefix(name));
        let line = lines.next().map(String::from);
        assert_eq!(lines.next(), None, "once only");
        line
    };
    let own = "for=192.0.2.1;proto=http;host=\"h\"";
    for (sent, expected) in [
        ("Forwarded: for=a\r\n", Some("for=a")),
        ("Forwarded: for=a;by=b , for=\"[::1]:80\"\r\n", Some("for=a;by=b , for=\"[::1]:80\"")),
        ("Forwarded: for=a\r\nForwarded: for=\"c,d\"\r\n", Some("for=a, for=\"c,d\"")),
        ("Forwarded: for=\"a\\\"b\"\r\n", Some("for=\"a\\\"b\"")),
        // Each of these could swallow or forge what follows.
        ("Forwarded: for=\"\r\n", None),
        ("Forwarded: for=a;by=\"\r\n", None),
        ("Forwarded: for=\"a\\\"\r\n", None),
        ("Forwarded: for=a\r\nForwarded: for=\"\r\n", None),
        ("Forwarded: for\r\n", None),
        ("Forwarded: for=\r\n", None),
        ("Forwarded: =a\r\n", None),
        ("Forwarded: for=a;\r\n", None),
        ("Forwarded: for=a,\r\n", None),
        ("Forwarded: for=a b\r\n", None),
        ("Forwarded: for=\"a\"b\r\n", None),
        ("Forwarded:\r\n", None),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{sent}\r\n");
        let expected = expected.map_or(own.into(), |list| format!("{list}, {own}"));
        assert_eq!(field(&head, &FORWARDING, "Forwarded: "), Some(expected), "{sent:?}");
    }
    let head = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: a,, b\r\nx-forwarded-for: c\r\n\r\n";
    let list = field(head, &FORWARDING, "X-Forwarded-For: ");
    assert_eq!(list.as_deref(), Some("a, b, c, 192.0.2.1"));
    let head = "GET / HTTP/1.0\r\nX-Forwarded-Host: x\r\n\r\n";
    assert_eq!(field(head, &FORWARDING, "X-Forwarded-Host: "), None);
    let v6 = Forwarding { peer: b"2001:db8::1", peer_is_ipv6: true, ..FORWARDING };
    let expected = "for=\"[2001:db8::1]\";proto=http";
    assert_eq!(field(head, &v6, "Forwarded: ").as_deref(), Some(expected));
    assert_eq!(field(head, &v6, "X-Forwarded-For: ").as_deref(), Some("2001:db8::1"));
    let unix = Forwarding { peer: b"unix", ..FORWARDING };
    assert_eq!(field(head, &unix, "Forwarded: ").as_deref(), Some("for=_unix;proto=http"));
}

#[test]
fn a_whole_response() {
    let head = "HTTP/1.0 200 Fine\r\nServer: s\r\ncontent-length: 007\r\nKeep-Alive: 5\r\n\
                Connection: keep-alive, x\r\nX: y\r\nZ: 1\r\n\r\n";
    let (keep, client) = (Persistence::KeepAlive, Version::Http11);
    assert_eq!(
        answered(head, Method::Get, Coding::AsIs, keep, client),
        "HTTP/1.1 200 Fine\r\nServer: s\r\nZ: 1\r\nContent-Length: 7\r\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nVia: 1.0 lychgate\r\n\r\n"
    );
}

#[test]
fn response_framing_and_connection() {
    use Coding::{AsIs, Chunked, UntilClose};
    use Persistence::{Close, KeepAlive};
    use Version::{Http10, Http11};
    let length = "Content-Length: 3\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let get = Method::Get;
    for (status, lines, method, coding, keep, client, framing, connection) in [
        (200, length, get, AsIs, KeepAlive, Http11, length, ""),
        (200, length, get, AsIs, Close, Http11, length, "Connection: close\r\n"),
        (200, length, get, AsIs, KeepAlive, Http10, length, "Connection: keep-alive\r\n"),
        (200, chunked, get, Chunked, KeepAlive, Http11, chunked, ""),
        (200, chunked, get, UntilClose, Close, Http10, "", "Connection: close\r\n"),
        (200, "", get, Chunked, KeepAlive, Http11, chunked, ""),
        (200, "", get, UntilClose, Close, Http10, "", "Connection: close\r\n"),
        (200, length, Method::Head, AsIs, KeepAlive, Http11, length, ""),
        (200, chunked, Method::Head, AsIs, KeepAlive, Http11, chunked, ""),
        (200, chunked, Method::Head, AsIs, Close, Http10, "", "Connection: close\r\n"),
        (200, "", Method::Head, AsIs, KeepAlive, Http11, "", ""),
        (304, length, get, AsIs, KeepAlive, Http11, length, ""),
        (204, length, get, AsIs, KeepAlive, Http11, "", ""),
        (204, chunked, get, AsIs, KeepAlive, Http11, "", ""),
        (103, "", get, AsIs, Close, Http11, "", ""),
        (
            426,
            "Upgrade: a\r\nContent-Length: 3\r\n",
            get,
            AsIs,
            KeepAlive,
            Http11,
            length,
            "Upgrade: a\r\nConnection: upgrade\r\n",
        ),
        (
            426,
            "Upgrade: a\r\nContent-Length: 3\r\n",
            get,
            AsIs,
            Close,
            Http11,
            length,
            "Upgrade: a\r\nConnection: upgrade, close\r\n",
        ),
        (426, length, get, AsIs, Close, Http11, length, "Connection: close\r\n"),
        (200, "Upgrade: a\r\nContent-Length: 3\r\n", get, AsIs, KeepAlive, Http11, length, ""),
        (
            101,
            "Upgrade: a\r\nConnection: upgrade\r\n",
            get,
            AsIs,
            KeepAlive,
            Http11,
            "",
            "Upgrade: a\r\nConnection: upgrade\r\n",
        ),
    ] {
        let head = format!("HTTP/1.1 {status} R\r\nDate: d\r\n{lines}\r\n");
        let via = if status == 103 || status == 101 { "" } else { framing };
        let expected =
            format!("HTTP/1.1 {status} R\r\nDate: d\r\n{via}Via: 1.1 lychgate\r\n{connection}\r\n");
        let out = answered(&head, method, coding, keep, client);
        assert_eq!(out, expected, "{method:?} {coding:?} {client:?}");
    }
    let head = "HTTP/1.1 100 Continue\r\n\r\n";
    let interim = answered(head, get, AsIs, KeepAlive, Http11);
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\nVia: 1.1 lychgate\r\n\r\n");
    let head = "HTTP/1.1 200\r\nDate: d\r\nContent-Length: 0\r\nConnection: date\r\n\r\n";
    assert!(answered(head, get, AsIs, KeepAlive, Http11).contains("Date: "));
}

#[test]
fn chunk_sizes() {
    for (size, text) in [
        (0, "0\r\n"),
        (9, "9\r\n"),
        (16, "10\r\n"),
        (0xabc, "abc\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        let mut out = Vec::new();
        chunk_size(&mut out, size);
        assert_eq!(out, text.as_bytes());
    }
}

fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        prop::sample::select(vec![
            "Keep-Alive: 1\r\n",
            "Proxy-Connection: a\r\n",
            "TE: trailers\r\n",
            "X-Nominated: a\r\n",
            "Connection: x-nominated\r\n",
            "Connection: upgrade, X-Nominated\r\n",
            "Upgrade: websocket\r\n",
            "Forwarded: for=\"\r\n",
            "Forwarded: for=a\r\n",
            "X-Forwarded-For: 1\r\n",
            "X_Forwarded_For: 1\r\n",
            "Date: d\r\n",
        ])
        .prop_map(String::from),
        "[A-Z][a-z]{0,20}:[ \t]{0,2}([!-~][ -~]{0,20})?[ \t]{0,2}\r\n".prop_filter(
            "known fields have rules",
            |line| !line.starts_with("Te:")
                && !line.starts_with("Host:")
                && !line.starts_with("Connection:")
        ),
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

/// `lines` were sent to us, `fields` we sent on.
fn assert_clean(fields: &Fields<'_, '_>, lines: &str, may_switch: bool) {
    let mut sent = lines.lines().filter(|line| line.starts_with("Connection:"));
    let nominates = sent.any(|line| line.to_ascii_lowercase().contains("x-nominated"));
    for (name, ..) in fields.iter() {
        let passes = match name.to_ascii_lowercase().as_slice() {
            b"keep-alive" | b"proxy-connection" | b"te" => false,
            b"x-nominated" => !nominates,
            b"upgrade" | b"connection" => may_switch,
            _ => true,
        };
        assert!(passes, "{:?} of {lines:?}", name.escape_ascii());
    }
}

proptest! {
    #[test]
    fn requests_that_we_send_are_ones_that_we_take(
        lines in lines(),
        framing in prop::sample::select(vec!["", "Content-Length: 007\r\n", "Transfer-Encoding: Chunked\r\n"]),
        target in "(/[!\"$-~]{0,30}|http://[a-z]{1,9}(:[0-9]{1,4})?(/[!\"$-~]{0,9})?)",
        is_old: bool,
    ) {
        let is_old = is_old && !framing.starts_with('T');
        let version = if is_old { "0" } else { "1" };
        let sent = format!("POST {target} HTTP/1.{version}\r\nHost: h\r\n{lines}{framing}\r\n");
        let mut scratch = Scratch::new();
        let first = head::request(sent.as_bytes(), &LIMITS, &mut scratch).unwrap().unwrap();
        let mut out = Vec::new();
        request(&mut out, &first, b"default", &FORWARDING);
        let mut scratch = Scratch::new();
        let second = head::request(&out, &LIMITS, &mut scratch).unwrap().unwrap();
        prop_assert_eq!(second.size, out.len());
        prop_assert_eq!(second.framing, first.framing);
        prop_assert_eq!(second.host, first.host);
        prop_assert_eq!(second.upgrade, first.upgrade);
        prop_assert_eq!(second.target.path(), first.target.path());
        prop_assert!(second.is_persistent);
        prop_assert_eq!(second.request_id, Some(&b"id-1"[..]));
        assert_clean(&second.fields, &lines, first.upgrade);
    }

    #[test]
    fn responses_that_we_send_are_ones_that_we_take(
        lines in lines(),
        framing in prop::sample::select(vec!["", "Content-Length: 007\r\n", "Transfer-Encoding: Chunked\r\n"]),
        status in prop::sample::select(vec![103u16, 200, 204, 205, 304, 404, 999]),
        is_head: bool,
        closes: bool,
    ) {
        let method = if is_head { Method::Head } else { Method::Get };
        let framing = if status < 200 { "" } else { framing };
        let sent = format!("HTTP/1.1 {status} Reason\r\n{lines}{framing}\r\n");
        let mut scratch = Scratch::new();
        let first = head::response(sent.as_bytes(), method, &mut scratch).unwrap().unwrap();
        let coding =
            if matches!(first.framing, Framing::Length(_)) { Coding::AsIs } else { Coding::Chunked };
        let keep = if closes { Persistence::Close } else { Persistence::KeepAlive };
        let mut out = Vec::new();
        response(&mut out, &first, coding, keep, Version::Http11, DATE);
        let mut scratch = Scratch::new();
        let second = head::response(&out, method, &mut scratch).unwrap().unwrap();
        let expected =
            if first.framing == Framing::UntilClose { Framing::Chunked } else { first.framing };
        prop_assert_eq!(second.size, out.len());
        prop_assert_eq!(second.status, status);
        prop_assert_eq!(second.framing, expected);
        prop_assert_eq!(second.is_persistent, !closes || status == 103);
        prop_assert!(second.has_date || status == 103);
        assert_clean(&second.fields, &lines, closes);
    }
}
