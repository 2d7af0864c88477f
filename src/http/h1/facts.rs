//! What the fields of one head say together, and the rules that any of them can break.

use super::fields::{Kind, elements, is_token_text, kind_of};
use crate::base::ascii::{decimal, trim};
use crate::base::limits::{CONNECTION_OPTIONS_MAX, HEADER_COUNT_MAX};
use crate::http::Malformed;
use httparse::Header;

#[derive(Debug, Default)]
pub(super) struct Facts<'b> {
    pub(super) host: Option<&'b [u8]>,
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
    pub(super) closes: bool,
    pub(super) keeps: bool,
    pub(super) expects_continue: bool,
    pub(super) has_date: bool,
    pub(super) request_id: Option<&'b [u8]>,
    pub(super) user_agent: &'b [u8],
    pub(super) referer: &'b [u8],
    options: usize,
    names_fields: bool,
    names_upgrade: bool,
    has_upgrade: bool,
    has_bad_upgrade: bool,
}

/// Looks through all fields once, noting kinds and what matters of their values.
pub(super) fn facts<'b>(
    headers: &[Header<'b>],
    kinds: &mut [Kind; HEADER_COUNT_MAX],
) -> Result<Facts<'b>, Malformed> {
    let mut facts = Facts::default();
    for (header, place) in headers.iter().zip(kinds.iter_mut()) {
        let kind = kind_of(header.name.as_bytes());
        *place = kind;
        if kind != Kind::Other {
            facts.note(kind, header.value)?;
        }
    }
    if facts.names_fields {
        nominate(headers, kinds);
    }
    Ok(facts)
}

impl<'b> Facts<'b> {
    /// Whether the protocol may change here: asked for, named by `Connection` (RFC 9110 section
    /// 7.8), and to one that we can tunnel.
    pub(super) fn upgrades(&self) -> bool {
        self.names_upgrade && self.has_upgrade && !self.has_bad_upgrade
    }

    fn note(&mut self, kind: Kind, value: &'b [u8]) -> Result<(), Malformed> {
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
            Kind::TransferEncoding => return Err(refused_coding(value)),
            Kind::Connection => return self.note_connection(value),
            Kind::Upgrade => {
                self.has_upgrade = true;
                self.has_bad_upgrade |= !is_tunnelled(value);
            }
            Kind::Expect => self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            Kind::Date => self.has_date = true,
            Kind::RequestId => self.request_id = Some(value),
            Kind::UserAgent => self.user_agent = value,
            Kind::Referer => self.referer = value,
            Kind::Other
            | Kind::HopByHop
            | Kind::Disguised
            | Kind::ForwardedFor
            | Kind::ForwardedOther
            | Kind::Forwarded
            | Kind::RequestStart => {}
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for option in elements(value) {
            self.options += 1;
            if !is_token_text(option) || self.options > CONNECTION_OPTIONS_MAX {
                return Err(Malformed::BadRequest);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keeps = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.names_upgrade = true;
            } else {
                self.names_fields = true;
            }
        }
        Ok(())
    }
}

/// Well-formed codings that are not ours to undo are 501, all else is 400: what is no list of
/// tokens, and chunked twice.
fn refused_coding(value: &[u8]) -> Malformed {
    let is_list = value.split(|&byte| byte == b',').all(|coding| is_token_text(trim(coding)));
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_list && elements(value).filter(is_chunked).count() < 2 {
        Malformed::NotImplemented
    } else {
        Malformed::BadRequest
    }
}

/// Whether all protocols of an `Upgrade` may run through a tunnel. HTTP/2 may not, nor what would
/// continue as HTTP under TLS: its requests would pass us unseen.
fn is_tunnelled(value: &[u8]) -> bool {
    let mut protocols = elements(value).peekable();
    protocols.peek().is_some()
        && protocols.all(|protocol| {
            let name = protocol.split(|&byte| byte == b'/').next().unwrap_or(protocol);
            let carries_requests = [&b"h2c"[..], b"h2", b"http", b"tls"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known));
            protocol.split(|&byte| byte == b'/').all(is_token_text) && !carries_requests
        })
}

/// Marks the fields that `Connection` names. A client may not talk us out of `Host`, nor a server
/// out of `Date`; what frames the message is written anew whatever its kind.
fn nominate(headers: &[Header<'_>], kinds: &mut [Kind; HEADER_COUNT_MAX]) {
    for place in 0..headers.len() {
        if kinds[place] != Kind::Connection {
            continue;
        }
        for option in elements(headers[place].value) {
            for (header, kind) in headers.iter().zip(kinds.iter_mut()) {
                let is_vital =
                    matches!(kind, Kind::Host | Kind::Connection | Kind::Upgrade | Kind::Date);
                if !is_vital && header.name.as_bytes().eq_ignore_ascii_case(option) {
                    *kind = Kind::HopByHop;
                }
            }
        }
    }
}
