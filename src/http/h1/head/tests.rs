//! Heads, good and bad, whole and in pieces.

use super::*;
use crate::base::limits::CONNECTION_OPTIONS_MAX;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { head_size: 4096, header_count: 20, target_size: 1024 };

/// What matters of a request, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    size: usize,
    host: String,
    framing: Framing,
    is_persistent: bool,
    upgrade: bool,
}

type Outcome = Result<Option<Read>, Malformed>;

fn read(bytes: &[u8]) -> Outcome {
    read_within(bytes, &LIMITS)
}

fn read_within(bytes: &[u8], limits: &HeadLimits) -> Outcome {
    let mut scratch = Scratch::new();
    let read = request(bytes, limits, &mut scratch)?.map(|request| Read {
        size: request.size,
        host: String::from_utf8_lossy(request.host).into_owned(),
        framing: request.framing,
        is_persistent: request.is_persistent,
        upgrade: request.upgrade,
    });
    Ok(read)
}

/// The first outcome when bytes come one by one.
fn read_slowly(bytes: &[u8], limits: &HeadLimits) -> Outcome {
    let outcomes = (1..=bytes.len()).map(|size| read_within(&bytes[..size], limits));
    outcomes.into_iter().find(|outcome| *outcome != Ok(None)).unwrap_or(Ok(None))
}

/// A request with these lines after `Host: h`.
fn with(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

fn framing(lines: &str) -> Result<Framing, Malformed> {
    let head = with(lines);
    let whole = read(head.as_bytes());
    assert_eq!(whole, read_slowly(head.as_bytes(), &LIMITS), "{head:?}");
    whole.map(|read| read.expect("a whole head").framing)
}

#[test]
fn framing_of_requests() {
    for (lines, expected) in [
        ("", Framing::Length(0)),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("content-length:5\r\n", Framing::Length(5)),
        ("Content-Length: \t005 \t\r\n", Framing::Length(5)),
        ("Content-Length: 18446744073709551615\r\n", Framing::Length(u64::MAX)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("TRANSFER-ENCODING:\tChunked \r\n", Framing::Chunked),
        // Neither a name in disguise nor a nomination changes where the body ends.
        ("Content_Length: 5\r\n", Framing::Length(0)),
        ("Transfer_Encoding: chunked\r\n", Framing::Length(0)),
        ("Connection: content-length\r\nContent-Length: 5\r\n", Framing::Length(5)),
        ("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked),
    ] {
        assert_eq!(framing(lines), Ok(expected), "{lines:?}");
    }
}

#[test]
fn doubtful_framing_is_refused() {
    for lines in [
        // CL.TE and TE.CL.
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        // CL.CL, even where they agree.
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\ncontent-length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,\r\n",
        // No number, or one that others read otherwise.
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5_0\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 5;a\r\n",
        "Content-Length: \"5\"\r\n",
        "Content-Length: \u{665}\r\n",
        "Content-Length: 18446744073709551616\r\n",
        // TE.TE.
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked;a\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: chun\u{212a}ed\r\n",
        // Names that are nearly one.
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "Transfer-Encoding\r\n : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "A: b\r\n\tTransfer-Encoding: chunked\r\n",
        "A: b\rTransfer-Encoding: chunked\r\n",
        "A: b\nTransfer-Encoding: chunked\r\n",
        "A: b\r\r\nTransfer-Encoding: chunked\r\n",
        ": chunked\r\n",
        "\u{0}Transfer-Encoding: chunked\r\n",
        "Trans\u{0}fer-Encoding: chunked\r\n",
        "no colon\r\n",
        "nocolon\r\n",
    ] {
        assert_eq!(framing(lines), Err(Malformed::BadRequest), "{lines:?}");
    }
    for coding in ["gzip", "identity", "gzip, chunked", "chunked, gzip", "xchunked"] {
        let lines = format!("Transfer-Encoding: {coding}\r\n");
        assert_eq!(framing(&lines), Err(Malformed::NotImplemented), "{coding}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(old), Err(Malformed::BadRequest));
    let trace = b"TRACE / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(read(trace), Err(Malformed::BadRequest));
}

#[test]
fn first_lines() {
    let all = |line: &str| {
        let head = format!("{line}Host: h\r\n\r\n");
        let whole = read(head.as_bytes());
        assert_eq!(whole, read_slowly(head.as_bytes(), &LIMITS), "{head:?}");
        whole.map(|read| read.map(|read| read.host))
    };
    for good in ["GET / HTTP/1.1\r\n", "get /a?b HTTP/1.1\r\n", "M-SEARCH /~%20{ HTTP/1.1\r\n"] {
        assert_eq!(all(good), Ok(Some("h".to_string())), "{good:?}");
    }
    assert_eq!(all("\r\nGET / HTTP/1.1\r\n"), Ok(Some("h".to_string())));
    assert_eq!(all("OPTIONS * HTTP/1.1\r\n"), Ok(Some("h".to_string())));
    assert_eq!(all("GET http://other:80/ HTTP/1.1\r\n"), Ok(Some("other:80".to_string())));
    let long = "M".repeat(METHOD_SIZE_MAX + 1);
    for (line, malformed) in [
        ("\r\n\r\nGET / HTTP/1.1\r\n", Malformed::BadRequest),
        ("\nGET / HTTP/1.1\r\n", Malformed::BadRequest),
        ("\r\n\nGET / HTTP/1.1\r\n", Malformed::BadRequest),
        ("\rGET / HTTP/1.1\r\n", Malformed::BadRequest),
        (" GET / HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET  / HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET /  HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET\t/ HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET /\tHTTP/1.1\r\n", Malformed::BadRequest),
        ("GET / HTTP/1.1 \r\n", Malformed::BadRequest),
        ("GET / HTTP/1.1\n", Malformed::BadRequest),
        ("GET / HTTP/1.1\r", Malformed::BadRequest),
        ("GET /\r\n", Malformed::BadRequest),
        ("GET / a HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET / http/1.1\r\n", Malformed::BadRequest),
        ("GET / HTTP/1\r\n", Malformed::BadRequest),
        ("GET / HTTP/1.x\r\n", Malformed::BadRequest),
        ("GET / HTTP/11\r\n", Malformed::BadRequest),
        ("GET / HTTX/1.1\r\n", Malformed::BadRequest),
        ("G(T / HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET /\u{e9} HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET /a#b HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET /\u{7f} HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET /\u{0} HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET * HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET a HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET h:80 HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET ftp://h/ HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET http://u@h/ HTTP/1.1\r\n", Malformed::BadRequest),
        ("GET http:///a HTTP/1.1\r\n", Malformed::BadRequest),
        ("CONNECT h:80 HTTP/1.1\r\n", Malformed::NotImplemented),
        (&format!("{long} / HTTP/1.1\r\n"), Malformed::NotImplemented),
        ("GET / HTTP/2.0\r\n", Malformed::VersionUnsupported),
        ("GET / HTTP/0.9\r\n", Malformed::VersionUnsupported),
        ("GET / HTTP/1.2\r\n", Malformed::VersionUnsupported),
        ("GET / HTTP/2\r\n", Malformed::VersionUnsupported),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Malformed::VersionUnsupported),
    ] {
        assert_eq!(all(line), Err(malformed), "{line:?}");
    }
}

#[test]
fn hosts() {
    let host = |version: &str, lines: &str| {
        let head = format!("GET / HTTP/{version}\r\n{lines}\r\n");
        read(head.as_bytes()).map(|read| read.expect("a whole head").host)
    };
    assert_eq!(host("1.1", "hOST: a.example:80 \r\n").as_deref(), Ok("a.example:80"));
    assert_eq!(host("1.0", "").as_deref(), Ok(""));
    assert_eq!(host("1.0", "Host: a\r\n").as_deref(), Ok("a"));
    for lines in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: u@a\r\n",
        "Host: http://a\r\n",
        "Host: a/b\r\n",
        "Host: a:b\r\n",
        "Host: a%2eb\r\n",
    ] {
        assert_eq!(host("1.1", lines), Err(Malformed::BadRequest), "{lines:?}");
        if !lines.is_empty() {
            assert_eq!(host("1.0", lines), Err(Malformed::BadRequest), "{lines:?}");
        }
    }
    let absolute = b"GET http://a/ HTTP/1.1\r\n\r\n";
    assert_eq!(read(absolute), Err(Malformed::BadRequest), "Host is needed all the same");
    let absolute = b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n";
    assert_eq!(read(absolute).unwrap().unwrap().host, "a");
}

/// At every place in a value, so that each way of looking at many bytes at once is met.
#[test]
fn control_bytes_are_refused_everywhere() {
    for byte in (0..=31).chain([127]).filter(|&byte| byte != b'\t') {
        for place in 0..70 {
            let mut value = vec![b'v'; 70];
            value[place] = byte;
            for [before, after] in [
                [&b"GET / HTTP/1.1\r\nHost: h\r\nA: "[..], b"\r\n\r\n"],
                [b"GET /", b" HTTP/1.1\r\nHost: h\r\n\r\n"],
                [b"GET / HTTP/1.1\r\nHost: h\r\nA", b": b\r\n\r\n"],
            ] {
                let head = [before, &value, after].concat();
                assert_eq!(read(&head), Err(Malformed::BadRequest), "{}", head.escape_ascii());
            }
            let answer = [b"HTTP/1.1 200 ", &value[..], b"\r\n\r\n"].concat();
            assert!(response(&answer, Method::Get, &mut Scratch::new()).is_err());
        }
    }
}

#[test]
fn persistence_and_upgrades() {
    for (version, lines, is_persistent, upgrade) in [
        ("1.1", "", true, false),
        ("1.1", "Connection: Close\r\n", false, false),
        ("1.1", "Connection: keep-alive, close\r\n", false, false),
        ("1.1", "Connection: a\r\nConnection: ,, close\r\n", false, false),
        ("1.0", "", false, false),
        ("1.0", "Connection: Keep-Alive\r\n", true, false),
        ("1.0", "Connection: keep-alive, close\r\n", false, false),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true, true),
        ("1.1", "Connection: keep-alive, upgrade\r\nUpgrade: a/1, b\r\n", true, true),
        ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", false, false),
        ("1.1", "Upgrade: websocket\r\n", true, false),
        ("1.1", "Connection: upgrade\r\n", true, false),
        ("1.1", "Connection: upgrade\r\nUpgrade:\r\n", true, false),
        ("1.1", "Connection: upgrade\r\nUpgrade: a b\r\n", true, false),
        // What would carry requests past us.
        ("1.1", "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\n", true, false),
        ("1.1", "Connection: upgrade\r\nUpgrade: websocket, H2C\r\n", true, false),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n", true, false),
        ("1.1", "Connection: upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n", true, false),
        // A body and another protocol: where does the one end?
        ("1.1", "Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n", true, false),
        ("1.1", "Connection: upgrade\r\nUpgrade: a\r\nTransfer-Encoding: chunked\r\n", true, false),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
        let read = read(head.as_bytes()).unwrap().unwrap();
        assert_eq!((read.is_persistent, read.upgrade), (is_persistent, upgrade), "{head:?}");
    }
    for bad in ["Connection: a b\r\n", "Connection: \"close\"\r\n", "Connection: close;q=1\r\n"] {
        assert_eq!(framing(bad), Err(Malformed::BadRequest), "{bad:?}");
    }
    let many = "Connection: a\r\n".repeat(CONNECTION_OPTIONS_MAX + 1);
    let limits = HeadLimits { header_count: 100, ..LIMITS };
    assert_eq!(read_within(with(&many).as_bytes(), &limits), Err(Malformed::BadRequest));
}

#[test]
fn expectations() {
    let expects = |version: &str, value: &str| {
        let head = format!("POST / HTTP/{version}\r\nHost: h\r\nExpect: {value}\r\n\r\n");
        let mut scratch = Scratch::new();
        request(head.as_bytes(), &LIMITS, &mut scratch).unwrap().unwrap().expects_continue
    };
    assert!(expects("1.1", "100-Continue"));
    assert!(!expects("1.1", "more"));
    assert!(!expects("1.0", "100-continue"));
}

#[test]
fn sizes_are_bounded() {
    let target = |size: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(size - 1));
    let value = |size: usize| {
        let head = with("A: ").len();
        format!("POST / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "a".repeat(size - head - 2))
    };
    let count = |count: usize| with(&"A: b\r\n".repeat(count - 1));
    for (good, bad, malformed) in [
        (target(1024), target(1025), Malformed::UriTooLong),
        (value(4096), value(4097), Malformed::HeaderTooLarge),
        (count(20), count(21), Malformed::HeaderTooLarge),
    ] {
        assert!(read(good.as_bytes()).is_ok_and(|read| read.is_some()));
        for lead in ["", "\r\n"] {
            let bad = format!("{lead}{bad}");
            assert_eq!(read(bad.as_bytes()), Err(malformed));
            assert_eq!(read_slowly(bad.as_bytes(), &LIMITS), Err(malformed));
        }
    }
    assert_eq!(value(4096).len(), 4096);
    for lead in ["", "\r\n"] {
        let bad = format!("{lead}{}", count(21).replacen("A: b\r\n", "A: b\n", 1));
        assert_eq!(read(bad.as_bytes()), Err(Malformed::BadRequest));
        assert_eq!(read_slowly(bad.as_bytes(), &LIMITS), Err(Malformed::BadRequest));
    }
    // Not even a whole first line.
    assert_eq!(read(&target(1500).as_bytes()[..1200]), Err(Malformed::UriTooLong));
    assert_eq!(read("a".repeat(65).as_bytes()), Err(Malformed::NotImplemented));
}

fn answer(head: &str, method: Method) -> Result<Option<(u16, Framing, bool, bool)>, Malformed> {
    let mut scratch = Scratch::new();
    let answer = response(head.as_bytes(), method, &mut scratch)?;
    Ok(answer.map(|answer| (answer.status, answer.framing, answer.is_persistent, answer.upgrade)))
}

#[test]
fn responses() {
    let get = |head: &str| answer(head, Method::Get).map(|answer| answer.expect("a whole head"));
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", (200, Framing::UntilClose, true, false)),
        ("HTTP/1.1 200\r\n\r\n", (200, Framing::UntilClose, true, false)),
        ("HTTP/1.1 200 \r\n\r\n", (200, Framing::UntilClose, true, false)),
        ("HTTP/1.0 200 OK\r\n\r\n", (200, Framing::UntilClose, false, false)),
        (
            "HTTP/1.1 299 \u{e9}\r\nContent-Length: 3\r\n\r\n",
            (299, Framing::Length(3), true, false),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (200, Framing::Length(0), true, false)),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            (200, Framing::Chunked, false, false),
        ),
        ("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", (204, Framing::Length(0), true, false)),
        // A body that cannot be but is announced may come late, into the next answer.
        ("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", (204, Framing::Length(0), false, false)),
        (
            "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
            (204, Framing::Length(0), false, false),
        ),
        ("HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n", (304, Framing::Length(0), true, false)),
        ("HTTP/1.1 205 R\r\nContent-Length: 0\r\n\r\n", (205, Framing::Length(0), true, false)),
        ("HTTP/1.1 100 Continue\r\n\r\n", (100, Framing::Length(0), true, false)),
        ("HTTP/1.1 101 S\r\nUpgrade: a\r\n\r\n", (101, Framing::Length(0), true, false)),
        (
            "HTTP/1.1 101 S\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
            (101, Framing::Length(0), true, true),
        ),
    ] {
        assert_eq!(get(head), Ok(expected), "{head:?}");
        for cut in 0..head.len() {
            if head.is_char_boundary(cut) {
                assert_eq!(answer(&head[..cut], Method::Get), Ok(None), "{:?}", &head[..cut]);
            }
        }
    }
    for framing in ["Content-Length: 3", "Transfer-Encoding: chunked", "A: b"] {
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
        let bodiless = Ok(Some((200, Framing::Length(0), true, false)));
        assert_eq!(answer(&head, Method::Head), bodiless, "{framing}");
    }
}

#[test]
fn doubtful_responses_are_refused() {
    for head in [
        "HTTP/1.1 103 Early\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 100 Go\r\nTransfer-Encoding: chunked\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\nHTTP/1.1 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\r\n",
        "HTTP/1.1 200 OK\r\n\n",
        "HTTP/1.1 200\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 304 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert!(answer(head, Method::Get).is_err(), "{head:?}");
        let is_refused = |size| answer(&head[..size], Method::Get).is_err();
        assert!((1..=head.len()).any(is_refused), "{head:?}");
    }
    let head = |size: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(size - 24));
    assert!(
        answer(&head(RESPONSE_HEAD_SIZE_MAX), Method::Get).is_ok_and(|answer| answer.is_some())
    );
    let long = head(RESPONSE_HEAD_SIZE_MAX + 1);
    assert!(answer(&long, Method::Get).is_err());
    assert!(answer(&long[..RESPONSE_HEAD_SIZE_MAX], Method::Get).is_err());
}

#[test]
fn ends() {
    assert_eq!(end(b"a\r\n\r\nb", 0), Some(5));
    assert_eq!(end(b"a\r\n\r\nb", 1), Some(5));
    assert_eq!(end(b"a\r\n\r\nb", 2), Some(5), "a bare LF before it is looked for too");
    assert_eq!(end(b"a\r\n\r\nb", 3), None);
    assert_eq!(end(b"a\n\nb\r\n\r\n", 0), Some(3));
    assert_eq!(end(b"a\n\r\nb", 0), Some(4));
    assert_eq!(end(b"a\r\n\r", 0), None);
    assert_eq!(end(b"", 9), None);
}

/// Pieces of heads, good and bad, in any order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        "Host: h\r\n",
        "Host: h\r\n",
        "A: b\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Connection: close, a\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: websocket\r\n",
        "A: bare\n",
        " fold\r\n",
        "A\u{e9}: b\r\n",
        "E:\r\n",
        "\r\n",
    ]);
    let firsts = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "\r\nPOST /a?b HTTP/1.1\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n",
        "GET / HTTP/2.0\r\n",
        "GET / HTTP/2\n",
        "GET / HTTP/1.1\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT h:1 HTTP/1.1\r\n",
        "GET http://a/b HTTP/1.1\r\n",
        "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n",
        "GET /\u{e9} HTTP/1.1\r\n",
    ]);
    (firsts, prop::collection::vec(lines, 0..9)).prop_map(|(first, lines)| {
        let mut head = first.as_bytes().to_vec();
        head.extend(lines.iter().flat_map(|line| line.bytes()));
        head.extend_from_slice(b"\r\n");
        head
    })
}

proptest! {
    #[test]
    fn pieces_read_as_the_whole(head in soup(), noise in any::<Option<(u8, prop::sample::Index)>>()) {
        let mut head = head;
        if let Some((byte, place)) = noise {
            let place = place.index(head.len());
            head[place] = byte;
        }
        let limits = HeadLimits { head_size: 100, header_count: 5, target_size: 40 };
        prop_assert_eq!(read_within(&head, &limits), read_slowly(&head, &limits));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = response(&bytes, Method::Get, &mut Scratch::new());
    }
}
