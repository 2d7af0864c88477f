//! Reading heads: httparse finds the parts, the rules of an intermediary are ours. Whatever could
//! be read in two ways is refused.

use super::body::is_token;
use super::facts::{Facts, facts};
use super::fields::{Fields, Kind};
use crate::base::limits::{HEADER_COUNT_MAX, METHOD_SIZE_MAX, RESPONSE_HEAD_SIZE_MAX};
use crate::http::host::is_authority;
pub use crate::http::target::Target;
use crate::http::{Framing, Malformed, Method, Version};
use core::mem::MaybeUninit;
use httparse::Header;
use memchr::{memchr_iter, memmem};

/// What the operator allows a request's head to cost.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub head_size: usize,
    pub header_count: usize,
    pub target_size: usize,
}

/// Room for the fields of one head; lives on the caller's stack and costs nothing to make.
#[derive(Debug)]
pub struct Scratch<'b> {
    headers: [MaybeUninit<Header<'b>>; HEADER_COUNT_MAX],
    kinds: [Kind; HEADER_COUNT_MAX],
}

impl Scratch<'_> {
    pub const fn new() -> Self {
        Self {
            headers: [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX],
            kinds: [Kind::Other; HEADER_COUNT_MAX],
        }
    }
}

impl Default for Scratch<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// A request's head.
#[derive(Debug)]
pub struct Request<'b, 's> {
    /// The bytes of the head; the empty line ends them.
    pub raw: &'b [u8],
    /// Bytes of the head, the empty line included.
    pub size: usize,
    pub method: Method,
    pub method_text: &'b [u8],
    pub target: Target<'b>,
    pub version: Version,
    /// The authority in force, as sent; empty only for HTTP/1.0 without `Host`.
    pub host: &'b [u8],
    pub framing: Framing,
    /// `Content-Length` is there, be it 0.
    pub has_length: bool,
    pub is_persistent: bool,
    /// The client asks for another protocol, and may: HTTP/1.1, named by `Connection`, no body,
    /// and not one that would carry requests past us.
    pub upgrade: bool,
    pub expects_continue: bool,
    pub fields: Fields<'b, 's>,
    pub request_id: Option<&'b [u8]>,
    pub user_agent: &'b [u8],
    pub referer: &'b [u8],
}

/// A response's head.
#[derive(Debug)]
pub struct Response<'b, 's> {
    pub raw: &'b [u8],
    pub size: usize,
    pub version: Version,
    pub status: u16,
    /// Empty where it was left out or not ASCII.
    pub reason: &'b [u8],
    pub framing: Framing,
    /// What `Content-Length` says, even where no body follows (HEAD, 304).
    pub length: Option<u64>,
    /// What `Transfer-Encoding` says, even where no body follows (HEAD, 304).
    pub is_chunked: bool,
    pub is_persistent: bool,
    /// 101 with what RFC 9110 section 7.8 demands of it.
    pub upgrade: bool,
    pub fields: Fields<'b, 's>,
    pub has_date: bool,
}

/// Position just after the empty line that ends a head, searched from `from`. An empty line after
/// a bare LF counts: it is for the parser to refuse, at once rather than at a timeout.
pub fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.min(bytes.len());
    let after = |line: &[u8]| memmem::find(&bytes[from..], line).map(|at| from + at + line.len());
    match (after(b"\n\r\n"), after(b"\n\n")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Reads a request's head; `None` = not whole yet. One empty line before it is passed over
/// (RFC 9112 section 2.2). However the bytes came in pieces, the outcome is the same.
pub fn request<'b, 's>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    scratch: &'s mut Scratch<'b>,
) -> Result<Option<Request<'b, 's>>, Malformed> {
    let bytes = &bytes[..bytes.len().min(limits.head_size)];
    if matches!(bytes, [b'\n', ..] | [b'\r', b'\n', b'\r' | b'\n', ..]) {
        return Err(Malformed::BadRequest);
    }
    let Scratch { headers, kinds } = scratch;
    let count = limits.header_count.min(HEADER_COUNT_MAX);
    let mut parsed = httparse::Request::new(&mut []);
    let size = match parsed.parse_with_uninit_headers(bytes, &mut headers[..count]) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return incomplete(bytes, limits),
        Err(error) => {
            check_first_line(bytes, limits)?;
            return Err(malformed(error, bytes, count));
        }
    };
    let (Some(method_text), Some(target), Some(minor)) =
        (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Malformed::BadRequest);
    };
    let raw = &bytes[..size];
    check_sizes(method_text.len(), target.len(), limits)?;
    check_lines(raw)?;
    let method = Method::from_text(method_text.as_bytes());
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    if method == Method::Connect {
        return Err(Malformed::NotImplemented);
    }
    let target = Target::parse(target.as_bytes(), method)?;
    let facts = facts(parsed.headers, kinds)?;
    let host = request_host(&facts, target, version)?;
    let framing = request_framing(&facts, version, method)?;
    let is_persistent = !facts.closes && (version == Version::Http11 || facts.keeps);
    Ok(Some(Request {
        raw,
        size,
        method,
        method_text: method_text.as_bytes(),
        target,
        version,
        host,
        framing,
        has_length: facts.length.is_some(),
        is_persistent,
        upgrade: version == Version::Http11 && facts.upgrades() && framing == Framing::Length(0),
        // RFC 9110 section 10.1.1: of HTTP/1.0 it must be ignored.
        expects_continue: facts.expects_continue && version == Version::Http11,
        fields: Fields::new(parsed.headers, kinds),
        request_id: facts.request_id,
        user_agent: facts.user_agent,
        referer: facts.referer,
    }))
}

/// What is wrong already with a head that is not whole yet, if anything.
fn incomplete<T>(bytes: &[u8], limits: &HeadLimits) -> Result<Option<T>, Malformed> {
    check_first_line(bytes, limits)?;
    check_lines(bytes)?;
    if bytes.len() >= limits.head_size { Err(Malformed::HeaderTooLarge) } else { Ok(None) }
}

/// Looks at the sizes of method and target, as far as they are there and well-formed, so that the
/// first fault decides and not the last byte that came.
fn check_first_line(bytes: &[u8], limits: &HeadLimits) -> Result<(), Malformed> {
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let method = line.iter().take_while(|&&byte| is_token(byte)).count();
    let rest = line[method..].strip_prefix(b" ").unwrap_or_default();
    let target = rest.iter().take_while(|byte| matches!(byte, b'!'..=b'~' | 0x80..)).count();
    check_sizes(method, target, limits)
}

/// A method longer than any is 501 (RFC 9112 section 3).
fn check_sizes(method: usize, target: usize, limits: &HeadLimits) -> Result<(), Malformed> {
    if method > METHOD_SIZE_MAX {
        return Err(Malformed::NotImplemented);
    }
    if target > limits.target_size { Err(Malformed::UriTooLong) } else { Ok(()) }
}

/// `count` fields were allowed.
fn malformed(error: httparse::Error, bytes: &[u8], count: usize) -> Malformed {
    match error {
        // The lines up to the field too many may have been wrong before.
        httparse::Error::TooManyHeaders if !has_bare_lf(bytes, count + 2) => {
            Malformed::HeaderTooLarge
        }
        httparse::Error::Version if has_other_version(bytes) => Malformed::VersionUnsupported,
        _ => Malformed::BadRequest,
    }
}

/// Whether the third word of the first line begins like an HTTP version that is not ours. No more
/// than what tells that may be there yet.
fn has_other_version(bytes: &[u8]) -> bool {
    let version = bytes.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, ..] => minor.is_ascii_digit(),
        [b'H', b'T', b'T', b'P', b'/', major, ..] => major.is_ascii_digit() && *major != b'1',
        _ => false,
    }
}

/// httparse takes a bare LF for a line's end; two readers may differ there, so we do not.
fn check_lines(bytes: &[u8]) -> Result<(), Malformed> {
    if has_bare_lf(bytes, usize::MAX) { Err(Malformed::BadRequest) } else { Ok(()) }
}

/// Whether a LF among the first `count` has no CR before it.
fn has_bare_lf(bytes: &[u8], count: usize) -> bool {
    memchr_iter(b'\n', bytes).take(count).any(|at| at == 0 || bytes[at - 1] != b'\r')
}

fn request_host<'b>(
    facts: &Facts<'b>,
    target: Target<'b>,
    version: Version,
) -> Result<&'b [u8], Malformed> {
    let host = match (facts.host, version) {
        (Some(host), _) if is_authority(host) => host,
        (None, Version::Http10) => b"",
        (Some(_), _) | (None, Version::Http11) => return Err(Malformed::BadRequest),
    };
    match target {
        Target::Absolute { authority, .. } => Ok(authority),
        Target::Origin(_) | Target::Asterisk => Ok(host),
    }
}

fn request_framing(
    facts: &Facts<'_>,
    version: Version,
    method: Method,
) -> Result<Framing, Malformed> {
    let framing = match (facts.is_chunked, facts.length) {
        (true, Some(_)) => return Err(Malformed::BadRequest),
        (true, None) if version == Version::Http10 => return Err(Malformed::BadRequest),
        (true, None) => Framing::Chunked,
        (false, length) => Framing::Length(length.unwrap_or(0)),
    };
    // RFC 9110 section 9.3.8: TRACE has no content, and a server may not look for any.
    if method == Method::Trace && framing != Framing::Length(0) {
        return Err(Malformed::BadRequest);
    }
    Ok(framing)
}

/// Reads a response's head; `method` is the request's.
pub fn response<'b, 's>(
    bytes: &'b [u8],
    method: Method,
    scratch: &'s mut Scratch<'b>,
) -> Result<Option<Response<'b, 's>>, Malformed> {
    let bytes = &bytes[..bytes.len().min(RESPONSE_HEAD_SIZE_MAX)];
    if matches!(bytes, [first, ..] if *first != b'H') {
        return Err(Malformed::BadRequest);
    }
    let Scratch { headers, kinds } = scratch;
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let size = match config.parse_response_with_uninit_headers(&mut parsed, bytes, headers) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) if bytes.len() < RESPONSE_HEAD_SIZE_MAX => {
            check_lines(bytes)?;
            return Ok(None);
        }
        Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed::BadRequest),
    };
    let raw = &bytes[..size];
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Malformed::BadRequest);
    };
    if status < 100 {
        return Err(Malformed::BadRequest);
    }
    check_lines(raw)?;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let facts = facts(parsed.headers, kinds)?;
    let framing = response_framing(&facts, version, status, method)?;
    // A server that announces a body where none can be may well send it, late, into the next
    // client's answer.
    let is_sound = status != 204 || !says_body(&facts);
    let is_persistent = is_sound && !facts.closes && (version == Version::Http11 || facts.keeps);
    Ok(Some(Response {
        raw,
        size,
        version,
        status,
        reason: parsed.reason.unwrap_or("").as_bytes(),
        framing,
        length: facts.length,
        is_chunked: facts.is_chunked,
        is_persistent,
        upgrade: status == 101 && facts.upgrades(),
        fields: Fields::new(parsed.headers, kinds),
        has_date: facts.has_date,
    }))
}

fn says_body(facts: &Facts<'_>) -> bool {
    facts.is_chunked || facts.length.is_some_and(|length| length > 0)
}

fn response_framing(
    facts: &Facts<'_>,
    version: Version,
    status: u16,
    method: Method,
) -> Result<Framing, Malformed> {
    if facts.is_chunked && (facts.length.is_some() || version == Version::Http10) {
        return Err(Malformed::BadRequest);
    }
    if status < 200 && says_body(facts) {
        // What follows an interim response is the next head; a body there would be taken for it.
        return Err(Malformed::BadRequest);
    }
    let is_bodiless = method == Method::Head || status < 200 || status == 204 || status == 304;
    Ok(match (is_bodiless, facts.is_chunked, facts.length) {
        (true, ..) => Framing::Length(0),
        (false, true, _) => Framing::Chunked,
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::UntilClose,
    })
}

#[cfg(test)]
mod tests;
