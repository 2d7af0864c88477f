//! The fields of a head, with the kinds that an intermediary has business with.

use super::body::is_token;
use crate::base::ascii::trim;
use crate::base::limits::HEADER_COUNT_MAX;
use httparse::Header;

/// What a field is to an intermediary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Passed on as it is.
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    /// Ends at the next hop, by RFC 9110 section 7.6.1 or because `Connection` names it.
    HopByHop,
    /// One of these spelled with `_`: CGI and its heirs cannot tell `X_Forwarded_For` from ours.
    Disguised,
    Expect,
    ForwardedFor,
    /// `X-Forwarded-Proto` and `-Host`: ours replace them.
    ForwardedOther,
    Forwarded,
    RequestId,
    RequestStart,
    UserAgent,
    Referer,
    Date,
}

/// The fields of one head.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'b, 's> {
    headers: &'s [Header<'b>],
    kinds: &'s [Kind; HEADER_COUNT_MAX],
}

impl<'b, 's> Fields<'b, 's> {
    pub(super) fn new(headers: &'s [Header<'b>], kinds: &'s [Kind; HEADER_COUNT_MAX]) -> Self {
        Self { headers, kinds }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8], Kind)> + use<'b, 's> {
        let kinds = self.kinds;
        self.headers
            .iter()
            .zip(kinds)
            .map(|(header, kind)| (header.name.as_bytes(), header.value, *kind))
    }
}

/// The kind of a field, by its name.
pub(super) fn kind_of(name: &[u8]) -> Kind {
    let is = |known: &[u8]| is_like(name, known);
    let some = |known: &[u8], kind| if is(known) { kind } else { Kind::Other };
    match name.len() {
        2 => some(b"te", Kind::HopByHop),
        4 if is(b"host") => Kind::Host,
        4 => some(b"date", Kind::Date),
        // CGI makes the environment's HTTP_PROXY of it; no client may set that.
        5 => some(b"proxy", Kind::HopByHop),
        6 => some(b"expect", Kind::Expect),
        7 if is(b"upgrade") => Kind::Upgrade,
        7 => some(b"referer", Kind::Referer),
        9 => some(b"forwarded", Kind::Forwarded),
        10 if is(b"connection") => Kind::Connection,
        10 if is(b"user-agent") => plain(name, Kind::UserAgent),
        10 => plain(name, some(b"keep-alive", Kind::HopByHop)),
        12 => plain(name, some(b"x-request-id", Kind::RequestId)),
        14 => plain(name, some(b"content-length", Kind::ContentLength)),
        15 if is(b"x-forwarded-for") => plain(name, Kind::ForwardedFor),
        15 => plain(name, some(b"x-request-start", Kind::RequestStart)),
        16 if is(b"x-forwarded-host") => plain(name, Kind::ForwardedOther),
        16 => plain(name, some(b"proxy-connection", Kind::HopByHop)),
        17 if is(b"transfer-encoding") => plain(name, Kind::TransferEncoding),
        17 => plain(name, some(b"x-forwarded-proto", Kind::ForwardedOther)),
        _ => Kind::Other,
    }
}

/// Whether a name is the known one (in lower case), apart from case and `_` in place of `-`.
fn is_like(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len()
        && name.iter().zip(known).all(|(&byte, &known)| {
            byte.to_ascii_lowercase() == known || (byte == b'_' && known == b'-')
        })
}

fn plain(name: &[u8], kind: Kind) -> Kind {
    if kind != Kind::Other && name.contains(&b'_') { Kind::Disguised } else { kind }
}

/// The elements of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1).
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

pub(super) fn is_token_text(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token(byte))
}

/// Whether a value is a list of RFC 7239 section 4: `for=_x;host="a:80", for="[::1]"`.
pub(super) fn is_forwarded_list(value: &[u8]) -> bool {
    let mut rest = value;
    loop {
        let Some(after) = forwarded_pair(trim(rest)) else { return false };
        match trim(after) {
            [] => return true,
            [b';' | b',', more @ ..] => rest = more,
            _ => return false,
        }
    }
}

/// What is behind one `token=value`.
fn forwarded_pair(text: &[u8]) -> Option<&[u8]> {
    let name = text.iter().position(|&byte| !is_token(byte)).filter(|&size| size > 0)?;
    let value = text[name..].strip_prefix(b"=")?;
    let Some(mut quoted) = value.strip_prefix(b"\"") else {
        let size = value.iter().position(|&byte| !is_token(byte)).unwrap_or(value.len());
        return (size > 0).then(|| &value[size..]);
    };
    loop {
        match quoted {
            [b'"', after @ ..] => return Some(after),
            [b'\\', _, after @ ..] | [_, after @ ..] => quoted = after,
            [] => return None,
        }
    }
}
