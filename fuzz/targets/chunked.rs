//! The chunk scanner in any pieces against a plain decoder of whole lines.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lychgate::base::limits::{CHUNK_HEADER_SIZE_MAX, TRAILER_SIZE_MAX};
use lychgate::http::Framing;
use lychgate::http::h1::body::Body;

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Payload, and bytes consumed.
    Done(Vec<u8>, usize),
    /// Not at its end. What stands in a line that is not whole, the plain decoder cannot judge.
    Partial(Vec<u8>),
    Bad,
}

fuzz_target!(|input: ([u8; 8], &[u8])| {
    let (pieces, wire) = input;
    let scanned = scan(wire, &pieces);
    assert_eq!(scanned, scan(wire, &[255]), "pieces matter");
    match (decode(wire), scanned) {
        (Outcome::Partial(_), Outcome::Bad) => {}
        (plain, scanned) => assert_eq!(plain, scanned),
    }
});

fn scan(wire: &[u8], pieces: &[u8]) -> Outcome {
    let mut body = Body::new(Framing::Chunked);
    let mut payload = Vec::new();
    let mut pieces = pieces.iter().cycle();
    let mut at = 0;
    while at < wire.len() && !body.is_done() {
        let piece = usize::from(*pieces.next().expect("endless")).max(1);
        let end = wire.len().min(at + piece);
        while at < end && !body.is_done() {
            let Ok(scan) = body.scan(&wire[at..end]) else { return Outcome::Bad };
            assert!(scan.consumed > 0 && scan.data.end <= scan.consumed);
            payload.extend_from_slice(&wire[at..end][scan.data]);
            at += scan.consumed;
        }
    }
    assert_eq!(body.received(), payload.len() as u64);
    assert_eq!(body.end().is_ok(), body.is_done());
    if body.is_done() { Outcome::Done(payload, at) } else { Outcome::Partial(payload) }
}

/// The line at `at` without its end, and where the next begins; `Err` = not whole yet.
fn line(wire: &[u8], at: usize) -> Result<(&[u8], usize), ()> {
    let rest = &wire[at..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n").ok_or(())?;
    Ok((&rest[..end], at + end + 2))
}

fn decode(wire: &[u8]) -> Outcome {
    let mut payload = Vec::new();
    let mut at = 0;
    loop {
        let Ok((text, next)) = line(wire, at) else { return Outcome::Partial(payload) };
        let Some(size) = chunk_size(text) else { return Outcome::Bad };
        at = next;
        if size == 0 {
            break;
        }
        let here = size.min((wire.len() - at) as u64) as usize;
        payload.extend_from_slice(&wire[at..at + here]);
        at += here;
        match &wire[at..] {
            [] | [b'\r'] => return Outcome::Partial(payload),
            [b'\r', b'\n', ..] => at += 2,
            _ => return Outcome::Bad,
        }
    }
    let start = at;
    loop {
        let Ok((text, next)) = line(wire, at) else { return Outcome::Partial(payload) };
        if next - start > TRAILER_SIZE_MAX as usize || (!text.is_empty() && !is_trailer(text)) {
            return Outcome::Bad;
        }
        at = next;
        if text.is_empty() {
            return Outcome::Done(payload, at);
        }
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let line: String = line.iter().copied().map(char::from).collect();
    let (digits, extensions) = match line.split_once(';') {
        Some((digits, extensions)) => (digits, Some(extensions)),
        None => (line.as_str(), None),
    };
    let is_number =
        (1..=15).contains(&digits.len()) && digits.chars().all(|digit| digit.is_ascii_hexdigit());
    let is_extended = extensions.is_none_or(|text| {
        text.chars().count() <= CHUNK_HEADER_SIZE_MAX as usize && are_extensions(text)
    });
    if is_number && is_extended { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// `name`, `name=token` or `name="quoted"`, between semicolons.
fn are_extensions(text: &str) -> bool {
    let blank = |c: char| c == ' ' || c == '\t';
    let text = text.trim_start_matches(blank);
    let (name, rest) = token(text);
    if name.is_empty() || rest.is_empty() {
        return !name.is_empty();
    }
    let spaced = rest.trim_start_matches(blank);
    let Some(value) = spaced.strip_prefix('=') else { return next_extension(spaced) };
    let value = value.trim_start_matches(blank);
    let rest = match value.strip_prefix('"') {
        Some(quoted) => match after_quoted(quoted) {
            Some(rest) => rest,
            None => return false,
        },
        None if token(value).0.is_empty() => return false,
        None => token(value).1,
    };
    rest.is_empty() || next_extension(rest.trim_start_matches(blank))
}

fn next_extension(rest: &str) -> bool {
    rest.strip_prefix(';').is_some_and(are_extensions)
}

fn after_quoted(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some(&text[at + 1..]),
            '\\' if !is_text(chars.next()?.1) => return None,
            c if !is_text(c) => return None,
            _ => {}
        }
    }
    None
}

fn is_text(c: char) -> bool {
    c == '\t' || (c >= ' ' && c != '\u{7f}')
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

fn is_trailer(line: &[u8]) -> bool {
    let line: String = line.iter().copied().map(char::from).collect();
    let (name, rest) = token(&line);
    let known = name.to_ascii_lowercase().replace('_', "-");
    let is_refused = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
        "x-request-start",
    ]
    .contains(&known.as_str());
    !name.is_empty()
        && !is_refused
        && rest.strip_prefix(':').is_some_and(|v| v.chars().all(is_text))
}
