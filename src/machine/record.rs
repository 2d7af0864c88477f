//! One line of the access log, from the listener's own facts: JSON or the combined format.

use crate::base::address::{Address, Peer};
use crate::base::ascii::push_decimal;
use crate::base::time::Instant;
use crate::http::date::Civil;
use crate::machine::shelf::Shelf;
use crate::plan::LogFormat;
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;

/// Longest excerpt of a client's text in a line; what is cut shows as `...`.
const EXCERPT_SIZE_MAX: usize = 1024;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a line needs of a request's head after the head is gone, in one vector.
#[derive(Debug, Default)]
pub struct Notes {
    text: Vec<u8>,
    ends: [u32; 6],
}

/// The parts of [`Notes`], in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Id,
    Method,
    Target,
    Host,
    Agent,
    Referer,
}

impl Notes {
    /// `parts` in the order of [`Part`]; missing ones are empty.
    pub fn new(mut text: Vec<u8>, parts: &[&[u8]]) -> Self {
        let mut ends = [0; 6];
        for (place, end) in ends.iter_mut().enumerate() {
            if let Some(part) = parts.get(place) {
                // The id is bounded where it is made; it is never cut.
                text.extend_from_slice(&part[..part.len().min(EXCERPT_SIZE_MAX)]);
                if part.len() > EXCERPT_SIZE_MAX {
                    text.extend_from_slice(b"...");
                }
            }
            *end = u32::try_from(text.len()).unwrap_or(u32::MAX);
        }
        Self { text, ends }
    }

    pub fn part(&self, part: Part) -> &[u8] {
        let place = part as usize;
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        &self.text[start..self.ends[place] as usize]
    }

    pub fn shelve(&mut self, shelf: &mut Shelf) {
        shelf.put(&mut self.text);
        self.ends = [0; 6];
    }
}

/// Everything a line says.
#[derive(Debug)]
pub struct Record<'a> {
    /// Unix time at the request's start, in nanoseconds.
    pub wall: u64,
    pub peer: Peer,
    pub notes: &'a Notes,
    pub version: &'static str,
    pub status: u16,
    /// Bytes of the response given to the connection, head included.
    pub bytes_out: u64,
    /// Payload bytes of the request's body.
    pub bytes_in: u64,
    pub duration: Duration,
    /// From the request's way to the server until the response head; `None` without a server.
    pub upstream: Option<Duration>,
    pub pool: Option<&'a str>,
    pub server: Option<&'a Address>,
    /// Why the answer is not the server's own; empty when it is.
    pub reason: &'static str,
}

impl Record<'_> {
    /// Appends the line, with its newline.
    pub fn write(&self, format: LogFormat, out: &mut Vec<u8>) {
        match format {
            LogFormat::Json => self.write_json(out),
            LogFormat::Combined => self.write_combined(out),
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        Civil::from_unix(self.wall / 1_000_000_000).push_iso(out, self.wall / 1_000_000 % 1000);
        out.extend_from_slice(b"\",\"client\":\"");
        push_peer(out, self.peer);
        push_text(out, "\",\"id\":\"", self.notes.part(Part::Id));
        push_text(out, "\",\"host\":\"", self.notes.part(Part::Host));
        push_text(out, "\",\"method\":\"", self.notes.part(Part::Method));
        push_text(out, "\",\"target\":\"", self.notes.part(Part::Target));
        out.extend_from_slice(b"\",\"status\":");
        push_decimal(out, u64::from(self.status));
        out.extend_from_slice(b",\"bytes_out\":");
        push_decimal(out, self.bytes_out);
        out.extend_from_slice(b",\"bytes_in\":");
        push_decimal(out, self.bytes_in);
        out.extend_from_slice(b",\"duration_us\":");
        push_decimal(out, micros(self.duration));
        if let Some(upstream) = self.upstream {
            out.extend_from_slice(b",\"upstream_us\":");
            push_decimal(out, micros(upstream));
        }
        if let Some(pool) = self.pool {
            push_text(out, ",\"pool\":\"", pool.as_bytes());
            out.push(b'"');
        }
        if let Some(server) = self.server {
            out.extend_from_slice(b",\"server\":\"");
            push_display(out, server);
            out.push(b'"');
        }
        if !self.reason.is_empty() {
            push_text(out, ",\"reason\":\"", self.reason.as_bytes());
            out.push(b'"');
        }
        push_text(out, ",\"agent\":\"", self.notes.part(Part::Agent));
        push_text(out, "\",\"referer\":\"", self.notes.part(Part::Referer));
        out.extend_from_slice(b"\"}\n");
    }

    fn write_combined(&self, out: &mut Vec<u8>) {
        push_peer(out, self.peer);
        out.extend_from_slice(b" - - [");
        Civil::from_unix(self.wall / 1_000_000_000).push_combined(out);
        push_text(out, "] \"", or_dash(self.notes.part(Part::Method)));
        push_text(out, " ", or_dash(self.notes.part(Part::Target)));
        push_text(out, " ", self.version.as_bytes());
        out.extend_from_slice(b"\" ");
        push_decimal(out, u64::from(self.status));
        out.push(b' ');
        push_decimal(out, self.bytes_out);
        push_text(out, " \"", or_dash(self.notes.part(Part::Referer)));
        push_text(out, "\" \"", or_dash(self.notes.part(Part::Agent)));
        out.extend_from_slice(b"\"\n");
    }
}

fn or_dash(text: &[u8]) -> &[u8] {
    if text.is_empty() { b"-" } else { text }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A client's text, made harmless: what would end the string or is not printable ASCII is
/// escaped as JSON does, bytes beyond ASCII as if they were Latin-1.
fn push_text(out: &mut Vec<u8>, before: &str, text: &[u8]) {
    out.extend_from_slice(before.as_bytes());
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.iter().all(is_plain) {
        out.extend_from_slice(text);
        return;
    }
    for byte in text {
        if is_plain(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }
}

/// The address without port, as `X-Forwarded-For` has it.
pub fn push_peer(out: &mut Vec<u8>, peer: Peer) {
    match peer {
        Peer::Tcp(core::net::SocketAddr::V4(address)) => {
            for (place, octet) in address.ip().octets().iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                push_decimal(out, u64::from(*octet));
            }
        }
        Peer::Tcp(core::net::SocketAddr::V6(address)) => push_display(out, address.ip()),
        Peer::Unix => out.extend_from_slice(b"unix"),
    }
}

fn push_display(out: &mut Vec<u8>, value: &dyn core::fmt::Display) {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Writing to a vector cannot fail.
    let _ = write!(Bytes(out), "{value}");
}

/// Unix time in nanoseconds of a moment, `origin` being that of [`Instant`] zero.
pub const fn wall(origin: u64, at: Instant) -> u64 {
    origin.saturating_add(at.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn record<'a>(notes: &'a Notes, server: &'a Address) -> Record<'a> {
        Record {
            wall: 1_795_249_713_123_456_789,
            peer: Peer::Tcp("192.0.2.7:4711".parse().unwrap()),
            notes,
            version: "HTTP/1.1",
            status: 502,
            bytes_out: 123,
            bytes_in: 4,
            duration: Duration::from_micros(1500),
            upstream: Some(Duration::from_micros(900)),
            pool: Some("shop"),
            server: Some(server),
            reason: "worker-lost",
        }
    }

    #[test]
    fn a_line_is_one_line_whatever_the_client_sent() {
        let parts: [&[u8]; 6] = [b"id1", b"GET", b"/a\"b\\\n\xff", b"h", b"ag\x1bent", b""];
        let notes = Notes::new(Vec::new(), &parts);
        let server = Address::Tcp("127.0.0.1:9".parse().unwrap());
        let mut line = Vec::new();
        record(&notes, &server).write(LogFormat::Json, &mut line);
        let text = String::from_utf8(line).unwrap();
        assert_eq!(
            text,
            "{\"time\":\"2026-11-21T08:28:33.123Z\",\"client\":\"192.0.2.7\",\"id\":\"id1\",\
             \"host\":\"h\",\"method\":\"GET\",\"target\":\"/a\\u0022b\\u005c\\u000a\\u00ff\",\
             \"status\":502,\"bytes_out\":123,\"bytes_in\":4,\"duration_us\":1500,\
             \"upstream_us\":900,\"pool\":\"shop\",\"server\":\"127.0.0.1:9\",\
             \"reason\":\"worker-lost\",\"agent\":\"ag\\u001bent\",\"referer\":\"\"}\n"
        );
        let mut line = Vec::new();
        record(&notes, &server).write(LogFormat::Combined, &mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "192.0.2.7 - - [21/Nov/2026:08:28:33 +0000] \
             \"GET /a\\u0022b\\u005c\\u000a\\u00ff HTTP/1.1\" 502 123 \"-\" \"ag\\u001bent\"\n"
        );
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let target = [b'a'; 5000];
        let notes = Notes::new(Vec::new(), &[b"id", b"GET", &target]);
        assert_eq!(notes.part(Part::Target).len(), EXCERPT_SIZE_MAX + 3);
        assert!(notes.part(Part::Target).ends_with(b"..."));
        assert_eq!(notes.part(Part::Host), b"");
    }
}
