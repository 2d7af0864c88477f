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
    /// An extension of so many bytes, to be passed over.
    Extension {
        size: u64,
        seen: u32,
        is_quoted: bool,
        is_escaped: bool,
    },
    /// The LF behind a chunk's size.
    SizeLf {
        size: u64,
    },
    /// CR and LF behind a chunk's payload.
    DataCr,
    DataLf,
    Trailer {
        seen: u32,
        at: TrailerAt,
    },
    Done,
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
            State::Extension { size, seen, is_quoted, is_escaped } => {
                extension_byte(byte, size, seen, is_quoted, is_escaped)
            }
            State::SizeLf { size } => match (byte, size) {
                (b'\n', 0) => Some(State::Trailer { seen: 0, at: TrailerAt::Start }),
                (b'\n', size) => Some(State::Data(size)),
                _ => None,
            },
            State::DataCr => (byte == b'\r').then_some(State::DataLf),
            State::DataLf => (byte == b'\n').then_some(State::Size { size: 0, digits: 0 }),
            State::Trailer { seen, at } => trailer_byte(byte, seen, at),
            State::Data(_) | State::Done => None,
        }
    }
}

fn size_byte(byte: u8, size: u64, digits: u32) -> Option<State> {
    match byte {
        b'\r' if digits > 0 => Some(State::SizeLf { size }),
        b';' if digits > 0 => {
            Some(State::Extension { size, seen: 0, is_quoted: false, is_escaped: false })
        }
        _ => {
            let digit = (byte as char).to_digit(16)?;
            // 15 digits hold any size that can happen, and leave no overflow to think about.
            (digits < 15)
                .then_some(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
        }
    }
}

fn extension_byte(
    byte: u8,
    size: u64,
    seen: u32,
    is_quoted: bool,
    is_escaped: bool,
) -> Option<State> {
    if byte == b'\r' {
        return (!is_quoted).then_some(State::SizeLf { size });
    }
    let is_text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    if !is_text || seen >= CHUNK_HEADER_SIZE_MAX {
        return None;
    }
    let seen = seen + 1;
    if is_escaped {
        return Some(State::Extension { size, seen, is_quoted, is_escaped: false });
    }
    let is_quoted = is_quoted ^ (byte == b'"');
    Some(State::Extension { size, seen, is_quoted, is_escaped: is_quoted && byte == b'\\' })
}

fn trailer_byte(byte: u8, seen: u32, at: TrailerAt) -> Option<State> {
    if seen >= TRAILER_SIZE_MAX {
        return None;
    }
    let at = match (at, byte) {
        (TrailerAt::Start, b'\r') => TrailerAt::LastLf,
        (TrailerAt::LastLf, b'\n') => return Some(State::Done),
        (TrailerAt::Start | TrailerAt::Name, byte) if is_token(byte) => TrailerAt::Name,
        (TrailerAt::Name, b':') | (TrailerAt::Value, b'\t' | b' '..=b'~' | 0x80..) => {
            TrailerAt::Value
        }
        (TrailerAt::Value, b'\r') => TrailerAt::Lf,
        (TrailerAt::Lf, b'\n') => TrailerAt::Start,
        _ => return None,
    };
    Some(State::Trailer { seen: seen + 1, at })
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~')
        || byte.is_ascii_digit()
        || byte.is_ascii_uppercase()
}
