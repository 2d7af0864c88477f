//! Heads of any bytes: pieces read as the whole, and what we send on is a head that we would take
//! ourselves, with the same framing and nothing that ends at this hop.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lychgate::base::limits::HEADER_COUNT_MAX;
use lychgate::http::h1::emit::{self, Coding, Forwarding, Persistence};
use lychgate::http::h1::fields::Fields;
use lychgate::http::h1::head::{self, HeadLimits, Request, Response, Scratch};
use lychgate::http::target::normal_path;
use lychgate::http::{Framing, Method, Version};

const LIMITS: HeadLimits = HeadLimits { head_size: 1024, header_count: 20, target_size: 256 };
/// Wide enough for whatever we make of a head within [`LIMITS`].
const WIDE: HeadLimits =
    HeadLimits { head_size: 64 * 1024, header_count: HEADER_COUNT_MAX, target_size: 64 * 1024 };
const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const FORWARDING: Forwarding<'_> = Forwarding {
    peer: b"2001:db8::1",
    peer_is_ipv6: true,
    protocol: b"http",
    request_id: b"our-id",
    start_micros: 1_700_000_000_000_000,
};

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (flags, cut, bytes) = input;
    let cut = usize::from(cut).min(bytes.len());
    read_request(bytes, cut);
    read_response(bytes, cut, flags);
});

fn read_request(bytes: &[u8], cut: usize) {
    let (mut of_part, mut of_whole) = (Scratch::new(), Scratch::new());
    let part = head::request(&bytes[..cut], &LIMITS, &mut of_part);
    let whole = head::request(bytes, &LIMITS, &mut of_whole);
    match (&part, &whole) {
        (Ok(None), _) => {}
        (Ok(Some(part)), Ok(Some(whole))) => assert_eq!(part.size, whole.size),
        (Err(part), Err(whole)) => assert_eq!(part, whole),
        _ => panic!("a part reads as {part:?}, the whole as {whole:?}"),
    }
    if let Ok(Some(request)) = &whole {
        assert!(request.raw.ends_with(b"\r\n\r\n") && head::end(request.raw, 0).is_some());
        let mut scratch = Vec::new();
        if let Ok(path) = normal_path(request.target.path(), &mut scratch) {
            let path = path.to_vec();
            let mut scratch = Vec::new();
            assert_eq!(normal_path(&path, &mut scratch), Ok(&path[..]), "normal twice");
        }
        relay_request(request);
    }
}

fn relay_request(first: &Request<'_, '_>) {
    let mut out = Vec::new();
    emit::request(&mut out, first, b"default.example", &FORWARDING);
    let mut scratch = Scratch::new();
    let Ok(Some(second)) = head::request(&out, &WIDE, &mut scratch) else {
        panic!("we would not take {}", out.escape_ascii());
    };
    assert_eq!(second.size, out.len());
    assert_eq!(second.method_text, first.method_text);
    assert_eq!(second.framing, first.framing);
    assert_eq!(second.upgrade, first.upgrade);
    assert_eq!(second.version, Version::Http11);
    assert!(second.is_persistent);
    assert_eq!(second.request_id, Some(FORWARDING.request_id));
    let host = if first.host.is_empty() { b"default.example" } else { first.host };
    assert_eq!(second.host, host);
    assert_clean(&second.fields, first.upgrade);
    let last = second.fields.iter().filter(|(name, ..)| *name == b"Forwarded").last();
    let (_, value, _) = last.expect("our own element");
    assert!(value.starts_with(b"for=\"[2001:") || is_list(value), "{}", value.escape_ascii());
    // Sent on once more, it differs only in what each hop adds.
    let mut again = Vec::new();
    emit::request(&mut again, &second, b"", &FORWARDING);
    let mut scratch = Scratch::new();
    let third = head::request(&again, &WIDE, &mut scratch);
    assert!(third.is_ok_and(|third| third.is_some_and(|third| third.framing == first.framing)));
}

/// Whether quotes are closed before our element begins.
fn is_list(value: &[u8]) -> bool {
    let ours = value.windows(12).rposition(|part| part == b", for=\"[2001").unwrap_or(0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for byte in &value[..ours] {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
    }
    ours > 0 && !is_quoted
}

fn assert_clean(fields: &Fields<'_, '_>, may_switch: bool) {
    for (name, ..) in fields.iter() {
        let name = name.to_ascii_lowercase();
        let ends_here: &[&[u8]] = &[b"keep-alive", b"proxy-connection", b"te", b"proxy"];
        assert!(!ends_here.contains(&&name[..]));
        assert!(may_switch || (name != b"connection" && name != b"upgrade"));
    }
}

fn read_response(bytes: &[u8], cut: usize, flags: u8) {
    let method = if flags & 1 == 0 { Method::Get } else { Method::Head };
    let (mut of_part, mut of_whole) = (Scratch::new(), Scratch::new());
    let part = head::response(&bytes[..cut], method, &mut of_part);
    let whole = head::response(bytes, method, &mut of_whole);
    match (&part, &whole) {
        (Ok(None), _) | (Err(_), Err(_)) => {}
        (Ok(Some(part)), Ok(Some(whole))) => assert_eq!(part.size, whole.size),
        _ => panic!("a part reads as {part:?}, the whole as {whole:?}"),
    }
    if let Ok(Some(response)) = &whole {
        let client = if flags & 2 == 0 { Version::Http11 } else { Version::Http10 };
        relay_response(response, method, client, flags & 4 != 0);
    }
}

fn relay_response(first: &Response<'_, '_>, method: Method, client: Version, closes: bool) {
    let (coding, expected) = match (first.framing, client) {
        (Framing::Length(_), _) => (Coding::AsIs, first.framing),
        (_, Version::Http11) => (Coding::Chunked, Framing::Chunked),
        (_, Version::Http10) => (Coding::UntilClose, Framing::UntilClose),
    };
    let keep = if closes { Persistence::Close } else { Persistence::KeepAlive };
    let mut out = Vec::new();
    emit::response(&mut out, first, coding, keep, client, DATE);
    let mut scratch = Scratch::new();
    let Ok(Some(second)) = head::response(&out, method, &mut scratch) else {
        panic!("we would not take {}", out.escape_ascii());
    };
    assert_eq!(second.size, out.len());
    assert_eq!((second.status, second.framing), (first.status, expected));
    assert_eq!(second.upgrade, first.upgrade);
    assert!(second.has_date || second.status < 200);
    assert!(second.is_persistent != closes || second.status < 200);
    assert_clean(&second.fields, true);
}
