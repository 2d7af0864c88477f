//! Reading heads: httparse finds the parts, the rules of an intermediary are ours. Whatever could
//! be read in two ways is refused.

use super::fields::{Fields, Kind, elements, is_token_text, kind_of};
use crate::base::ascii::decimal;
use crate::base::limits::{HEADER_COUNT_MAX, RESPONSE_HEAD_SIZE_MAX};
use crate::http::host::is_authority;
pub use crate::http::target::Target;
use crate::http::{Framing, Malformed, Method, Version};
use core::mem::MaybeUninit;
use httparse::Header;
use memchr::{memchr_iter, memmem};

/// Options that one `Connection` field may name.
const OPTIONS_MAX: usize = 32;

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
    /// The authority in force, as sent; empty for HTTP/1.0 without `Host`.
    pub host: &'b [u8],
    pub framing: Framing,
    pub is_persistent: bool,
    /// The client asks for another protocol, and may: HTTP/1.1, named by `Connection`, no body.
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
    pub reason: &'b [u8],
    pub framing: Framing,
    pub is_persistent: bool,
    /// 101 with what RFC 9110 section 7.8 demands of it.
    pub upgrade: bool,
    pub fields: Fields<'b, 's>,
    pub has_date: bool,
}

/// Position just after the empty line that ends a head, searched from `from`.
pub fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.min(bytes.len());
    memmem::find(&bytes[from..], b"\r\n\r\n").map(|at| from + at + 4)
}

/// What the fields together say.
#[derive(Debug)]
struct Facts<'b> {
    host: Option<&'b [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
    names_upgrade: bool,
    has_upgrade: bool,
    expects_continue: bool,
    has_date: bool,
    request_id: Option<&'b [u8]>,
    user_agent: &'b [u8],
    referer: &'b [u8],
}

/// Reads a request's head; `None` = not whole yet. One empty line before it is passed over
/// (RFC 9112 section 2.2).
pub fn request<'b, 's>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    scratch: &'s mut Scratch<'b>,
) -> Result<Option<Request<'b, 's>>, Malformed> {
    if bytes.starts_with(b"\r\n\r\n") {
        return Err(Malformed::BadRequest);
    }
    let Scratch { headers, kinds } = scratch;
    let count = limits.header_count.min(HEADER_COUNT_MAX);
    let mut parsed = httparse::Request::new(&mut []);
    let size = match parsed.parse_with_uninit_headers(bytes, &mut headers[..count]) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return incomplete(bytes, limits),
        Err(error) => return Err(malformed(error, bytes)),
    };
    if size > limits.head_size {
        return Err(Malformed::HeaderTooLarge);
    }
    let raw = &bytes[..size];
    let (Some(method_text), Some(target), Some(minor)) =
        (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Malformed::BadRequest);
    };
    if target.len() > limits.target_size {
        return Err(Malformed::UriTooLong);
    }
    check_lines(raw)?;
    let method = Method::from_text(method_text.as_bytes());
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    if method == Method::Connect {
        return Err(Malformed::NotImplemented);
    }
    let target = Target::parse(target.as_bytes(), method)?;
    let facts = facts(parsed.headers, kinds)?;
    let host = request_host(&facts, target, version)?;
    let framing = request_framing(&facts, version)?;
    let is_persistent = !facts.closes && (version == Version::Http11 || facts.keeps);
    let upgrade = version == Version::Http11
        && facts.names_upgrade
        && facts.has_upgrade
        && framing == Framing::Length(0);
    Ok(Some(Request {
        raw,
        size,
        method,
        method_text: method_text.as_bytes(),
        target,
        version,
        host,
        framing,
        is_persistent,
        upgrade,
        expects_continue: facts.expects_continue,
        fields: Fields::new(parsed.headers, kinds),
        request_id: facts.request_id,
        user_agent: facts.user_agent,
        referer: facts.referer,
    }))
}

fn incomplete<T>(bytes: &[u8], limits: &HeadLimits) -> Result<Option<T>, Malformed> {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    // Method and version are short; what makes a first line this long is the target.
    if line > limits.target_size + 64 {
        return Err(Malformed::UriTooLong);
    }
    if bytes.len() >= limits.head_size {
        return Err(Malformed::HeaderTooLarge);
    }
    Ok(None)
}

fn malformed(error: httparse::Error, bytes: &[u8]) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::HeaderTooLarge,
        httparse::Error::Version if has_other_version(bytes) => Malformed::VersionUnsupported,
        _ => Malformed::BadRequest,
    }
}

/// Whether the first line ends in a well-formed HTTP version, only not one of ours.
fn has_other_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or(bytes);
    let word = line.rsplit(|&byte| byte == b' ').next().unwrap_or(line);
    matches!(word, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// httparse takes a bare LF for a line's end; two readers may differ there, so we do not.
fn check_lines(raw: &[u8]) -> Result<(), Malformed> {
    let is_bare = |at: usize| at == 0 || raw[at - 1] != b'\r';
    if memchr_iter(b'\n', raw).any(is_bare) { Err(Malformed::BadRequest) } else { Ok(()) }
}

fn request_host<'b>(
    facts: &Facts<'b>,
    target: Target<'b>,
    version: Version,
) -> Result<&'b [u8], Malformed> {
    let host = match (facts.host, version) {
        (Some(host), _) => host,
        (None, Version::Http10) => b"",
        (None, Version::Http11) => return Err(Malformed::BadRequest),
    };
    if !host.is_empty() && !is_authority(host) {
        return Err(Malformed::BadRequest);
    }
    match target {
        Target::Absolute { authority, .. } => Ok(authority),
        Target::Origin(_) | Target::Asterisk => Ok(host),
    }
}

fn request_framing(facts: &Facts<'_>, version: Version) -> Result<Framing, Malformed> {
    match (facts.is_chunked, facts.length) {
        (true, Some(_)) => Err(Malformed::BadRequest),
        (true, None) if version == Version::Http10 => Err(Malformed::BadRequest),
        (true, None) => Ok(Framing::Chunked),
        (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// Reads a response's head; `method` is the request's.
pub fn response<'b, 's>(
    bytes: &'b [u8],
    method: Method,
    scratch: &'s mut Scratch<'b>,
) -> Result<Option<Response<'b, 's>>, Malformed> {
    let Scratch { headers, kinds } = scratch;
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let size = match config.parse_response_with_uninit_headers(&mut parsed, bytes, headers) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) if bytes.len() <= RESPONSE_HEAD_SIZE_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Malformed::BadRequest),
    };
    let raw = &bytes[..size];
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Malformed::BadRequest);
    };
    if !bytes.starts_with(b"HTTP/") || !(100..1000).contains(&status) {
        return Err(Malformed::BadRequest);
    }
    check_lines(raw)?;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let facts = facts(parsed.headers, kinds)?;
    let framing = response_framing(&facts, version, status, method)?;
    let is_persistent = !facts.closes && (version == Version::Http11 || facts.keeps);
    Ok(Some(Response {
        raw,
        size,
        version,
        status,
        reason: parsed.reason.unwrap_or("").as_bytes(),
        framing,
        is_persistent,
        upgrade: status == 101 && facts.names_upgrade && facts.has_upgrade,
        fields: Fields::new(parsed.headers, kinds),
        has_date: facts.has_date,
    }))
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
    let is_bodiless = method == Method::Head || status < 200 || status == 204 || status == 304;
    Ok(match (is_bodiless, facts.is_chunked, facts.length) {
        (true, ..) => Framing::Length(0),
        (false, true, _) => Framing::Chunked,
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::UntilClose,
    })
}

/// Looks through all fields once, noting kinds and what matters of their values.
fn facts<'b>(
    headers: &[Header<'b>],
    kinds: &mut [Kind; HEADER_COUNT_MAX],
) -> Result<Facts<'b>, Malformed> {
    let mut facts = Facts {
        host: None,
        length: None,
        is_chunked: false,
        closes: false,
        keeps: false,
        names_upgrade: false,
        has_upgrade: false,
        expects_continue: false,
        has_date: false,
        request_id: None,
        user_agent: b"",
        referer: b"",
    };
    let mut has_nominations = false;
    for (header, place) in headers.iter().zip(kinds.iter_mut()) {
        let kind = kind_of(header.name.as_bytes());
        *place = kind;
        if kind != Kind::Other {
            has_nominations |= facts.note(kind, header.value)?;
        }
    }
    if has_nominations {
        nominate(headers, kinds);
    }
    Ok(facts)
}

impl<'b> Facts<'b> {
    /// Returns whether `Connection` names a field.
    fn note(&mut self, kind: Kind, value: &'b [u8]) -> Result<bool, Malformed> {
        match kind {
            Kind::Host if self.host.is_some() => return Err(Malformed::BadRequest),
            Kind::Host => self.host = Some(value),
            Kind::ContentLength if self.length.is_some() => return Err(Malformed::BadRequest),
            Kind::ContentLength => {
                self.length = Some(decimal(value).ok_or(Malformed::BadRequest)?);
            }
            Kind::TransferEncoding if self.is_chunked => return Err(Malformed::BadRequest),
            Kind::TransferEncoding if value.eq_ignore_ascii_case(b"chunked") => {
                self.is_chunked = true;
            }
            Kind::TransferEncoding if is_token_text(value) => {
                return Err(Malformed::NotImplemented);
            }
            Kind::TransferEncoding => return Err(Malformed::BadRequest),
            Kind::Connection => return self.note_connection(value),
            Kind::Upgrade => self.has_upgrade = !value.is_empty(),
            Kind::Expect => self.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            Kind::Date => self.has_date = true,
            Kind::RequestId => self.request_id = Some(value),
            Kind::UserAgent => self.user_agent = value,
            Kind::Referer => self.referer = value,
            Kind::Other
            | Kind::HopByHop
            | Kind::ForwardedFor
            | Kind::ForwardedOther
            | Kind::Forwarded
            | Kind::RequestStart => {}
        }
        Ok(false)
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<bool, Malformed> {
        let mut has_nominations = false;
        for (count, option) in elements(value).enumerate() {
            if !is_token_text(option) || count >= OPTIONS_MAX {
                return Err(Malformed::BadRequest);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keeps = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.names_upgrade = true;
            } else {
                has_nominations = true;
            }
        }
        Ok(has_nominations)
    }
}

/// Marks the fields that `Connection` names. Those that say where the message goes or ends stay:
/// a client may not talk us out of them.
fn nominate(headers: &[Header<'_>], kinds: &mut [Kind; HEADER_COUNT_MAX]) {
    for place in 0..headers.len() {
        if kinds[place] != Kind::Connection {
            continue;
        }
        for option in elements(headers[place].value) {
            for (header, kind) in headers.iter().zip(kinds.iter_mut()) {
                let is_named = header.name.as_bytes().eq_ignore_ascii_case(option);
                let is_vital = matches!(
                    kind,
                    Kind::Host | Kind::ContentLength | Kind::TransferEncoding | Kind::Connection
                );
                if is_named && !is_vital && *kind != Kind::Upgrade {
                    *kind = Kind::HopByHop;
                }
            }
        }
    }
}
