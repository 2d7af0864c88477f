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
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    let some = |known: &[u8], kind| if is(known) { kind } else { Kind::Other };
    match name.len() {
        2 => some(b"te", Kind::HopByHop),
        4 if is(b"host") => Kind::Host,
        4 => some(b"date", Kind::Date),
        6 => some(b"expect", Kind::Expect),
        7 if is(b"upgrade") => Kind::Upgrade,
        7 => some(b"referer", Kind::Referer),
        9 => some(b"forwarded", Kind::Forwarded),
        10 if is(b"connection") => Kind::Connection,
        10 if is(b"user-agent") => Kind::UserAgent,
        10 => some(b"keep-alive", Kind::HopByHop),
        12 => some(b"x-request-id", Kind::RequestId),
        14 => some(b"content-length", Kind::ContentLength),
        15 if is(b"x-forwarded-for") => Kind::ForwardedFor,
        15 => some(b"x-request-start", Kind::RequestStart),
        16 if is(b"x-forwarded-host") => Kind::ForwardedOther,
        16 => some(b"proxy-connection", Kind::HopByHop),
        17 if is(b"transfer-encoding") => Kind::TransferEncoding,
        17 => some(b"x-forwarded-proto", Kind::ForwardedOther),
        _ => Kind::Other,
    }
}

/// The elements of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1).
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

pub(super) fn is_token_text(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token(byte))
}
