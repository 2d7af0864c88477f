//! Where a message's body ends: counts bytes, looks at chunk framing, never copies or keeps any.

use crate::base::limits::{CHUNK_HEADER_SIZE_MAX, TRAILER_SIZE_MAX};
use crate::http::{Framing, Malformed};
use core::ops::Range;

/// The reader of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    framing: Framing,
    state: State,
    received: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Payload; so many bytes are left.
    Data(u64),
    /// Digits of a chunk's size; how many were seen.
    Size {
        size: u64,
        digits: u32,
    },
    /// An extension, of so many bytes until here.
    Extension {
        size: u64,
        seen: u32,
        at: ExtensionAt,
    },
    /// The LF behind a chunk's size.
    SizeLf {
        size: u64,
    },
    /// CR and LF behind a chunk's payload.
    DataCr,
    DataLf,
    /// Trailer fields, of so many bytes until here; `name` is the digest of one's name.
    Trailer {
        seen: u32,
        at: TrailerAt,
        name: u64,
    },
    Done,
}

/// RFC 9112 section 7.1.1: `;name`, `;name=token`, `;name="quoted"`, with white space around `;`
/// and `=`, though not at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExtensionAt {
    Start,
    Name,
    NameEnd,
    ValueStart,
    Value,
    Quoted,
    Escaped,
    QuoteEnd,
    ValueEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrailerAt {
    /// A name begins, or the empty line.
    Start,
    Name,
    Value,
    Lf,
    LastLf,
}

/// What a look at some bytes found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Bytes looked at that belong to the message.
    pub consumed: usize,
    /// The payload among them.
    pub data: Range<usize>,
}

impl Body {
    pub const fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(size) => State::Data(size),
            Framing::UntilClose => State::Data(u64::MAX),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
        };
        Self { framing, state, received: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Payload bytes so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Looks at the next bytes, up to the end of one run of payload; call again with the rest
    /// until all is consumed or the body is done.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Data(left) = self.state {
                return Ok(self.scan_data(bytes, at, left));
            }
            if self.state == State::Done {
                break;
            }
            self.state = self.framing_byte(bytes[at]).ok_or(Malformed::BadRequest)?;
            at += 1;
        }
        Ok(Scan { consumed: at, data: at..at })
    }

    fn scan_data(&mut self, bytes: &[u8], at: usize, left: u64) -> Scan {
        let here = (bytes.len() - at) as u64;
        let taken = here.min(left);
        self.received += taken;
        if self.framing != Framing::UntilClose {
            self.state = match (left - taken, self.framing) {
                (0, Framing::Chunked) => State::DataCr,
                (0, _) => State::Done,
                (rest, _) => State::Data(rest),
            };
        }
        #[expect(clippy::cast_possible_truncation, reason = "no more than bytes.len()")]
        let end = at + taken as usize;
        Scan { consumed: end, data: at..end }
    }

    /// The peer ended the connection: whether that ends the message.
    pub fn end(&mut self) -> Result<(), Malformed> {
        if self.framing == Framing::UntilClose {
            self.state = State::Done;
        }
        if self.is_done() { Ok(()) } else { Err(Malformed::BadRequest) }
    }

    /// The state after one byte of chunk framing; `None` = not allowed here.
    fn framing_byte(&self, byte: u8) -> Option<State> {
        match self.state {
            State::Size { size, digits } => size_byte(byte, size, digits),
            State::Extension { size, seen, at } => extension_byte(byte, size, seen, at),
            State::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => Some(State::Trailer { seen: 0, at: TrailerAt::Start, name: 0 }),
                (b'\n', size) => Some(State::Data(size)),
                _ => None,
            },
            State::DataCr => (byte == b'\r').then_some(State::DataLf),
            State::DataLf => (byte == b'\n').then_some(State::Size { size: 0, digits: 0 }),
            State::Trailer { seen, at, name } => trailer_byte(byte, seen, at, name),
            State::Data(_) | State::Done => None,
        }
    }
}

fn size_byte(byte: u8, size: u64, digits: u32) -> Option<State> {
    match byte {
        b'\r' if digits > 0 => Some(State::SizeLf { size }),
        b';' if digits > 0 => Some(State::Extension { size, seen: 0, at: ExtensionAt::Start }),
        _ => {
            let digit = (byte as char).to_digit(16)?;
            // 15 digits hold any size that can happen, and leave no overflow to think about.
            (digits < 15)
                .then_some(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
        }
    }
}

fn extension_byte(byte: u8, size: u64, seen: u32, at: ExtensionAt) -> Option<State> {
    use ExtensionAt as At;
    if byte == b'\r' {
        let is_whole = matches!(at, At::Name | At::Value | At::QuoteEnd);
        return is_whole.then_some(State::SizeLf { size });
    }
    if seen >= CHUNK_HEADER_SIZE_MAX {
        return None;
    }
    let at = match (at, byte) {
        (At::Quoted, b'"') => At::QuoteEnd,
        (At::Quoted, b'\\') => At::Escaped,
        (At::ValueStart, b'"') | (At::Quoted | At::Escaped, b'\t' | b' '..=b'~' | 0x80..) => {
            At::Quoted
        }
        (At::Start | At::Name, _) if is_token(byte) => At::Name,
        (At::ValueStart | At::Value, _) if is_token(byte) => At::Value,
        (At::Name | At::NameEnd, b'=') => At::ValueStart,
        (At::Name | At::NameEnd | At::Value | At::QuoteEnd | At::ValueEnd, b';') => At::Start,
        (At::Start | At::ValueStart, b' ' | b'\t') => at,
        (At::Name | At::NameEnd, b' ' | b'\t') => At::NameEnd,
        (At::Value | At::QuoteEnd | At::ValueEnd, b' ' | b'\t') => At::ValueEnd,
        _ => return None,
    };
    Some(State::Extension { size, seen: seen + 1, at })
}

fn trailer_byte(byte: u8, seen: u32, at: TrailerAt, name: u64) -> Option<State> {
    if seen >= TRAILER_SIZE_MAX {
        return None;
    }
    let seen = seen + 1;
    let at = match (at, byte) {
        (TrailerAt::Start | TrailerAt::Name, _) if is_token(byte) => {
            let name = if at == TrailerAt::Start {
                digest_byte(DIGEST, byte)
            } else {
                digest_byte(name, byte)
            };
            return Some(State::Trailer { seen, at: TrailerAt::Name, name });
        }
        (TrailerAt::Start, b'\r') => TrailerAt::LastLf,
        (TrailerAt::LastLf, b'\n') => return Some(State::Done),
        (TrailerAt::Name, b':') if !REFUSED_TRAILERS.contains(&name) => TrailerAt::Value,
        (TrailerAt::Value, b'\t' | b' '..=b'~' | 0x80..) => TrailerAt::Value,
        (TrailerAt::Value, b'\r') => TrailerAt::Lf,
        (TrailerAt::Lf, b'\n') => TrailerAt::Start,
        _ => return None,
    };
    Some(State::Trailer { seen, at, name: 0 })
}

/// Digests of the trailer names that no sender may use (RFC 9110 section 6.5.1), for whoever
/// merges trailers into the head would change the message: where it ends, where it goes, who sent
/// it, how it is read. A name that only shares a digest with one is refused too, and does no harm.
const REFUSED_TRAILERS: [u64; 22] = [
    digest(b"authorization"),
    digest(b"connection"),
    digest(b"content-encoding"),
    digest(b"content-length"),
    digest(b"content-range"),
    digest(b"content-type"),
    digest(b"cookie"),
    digest(b"expect"),
    digest(b"forwarded"),
    digest(b"host"),
    digest(b"keep-alive"),
    digest(b"max-forwards"),
    digest(b"proxy-connection"),
    digest(b"te"),
    digest(b"trailer"),
    digest(b"transfer-encoding"),
    digest(b"upgrade"),
    digest(b"x-forwarded-for"),
    digest(b"x-forwarded-host"),
    digest(b"x-forwarded-proto"),
    digest(b"x-request-id"),
    digest(b"x-request-start"),
];

/// Of no bytes (FNV-1a).
const DIGEST: u64 = 0xcbf2_9ce4_8422_2325;

/// Case does not matter, nor `_` in place of `-`.
const fn digest_byte(digest: u64, byte: u8) -> u64 {
    let byte = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    (digest ^ byte as u64).wrapping_mul(0x100_0000_01b3)
}

const fn digest(mut name: &[u8]) -> u64 {
    let mut sum = DIGEST;
    while let [first, rest @ ..] = name {
        sum = digest_byte(sum, *first);
        name = rest;
    }
    sum
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~')
        || byte.is_ascii_digit()
        || byte.is_ascii_uppercase()
}

#[cfg(test)]
mod tests;
