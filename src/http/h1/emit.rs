//! Writing heads. Fields that pass unchanged are copied as the runs of lines they came in; what
//! ends at this hop is left out, what is ours is added at the end.

use super::fields::{Fields, Kind, elements, is_forwarded_list};
use super::head::{Request, Response};
use crate::base::ascii::push_decimal;
use crate::http::target::Target;
use crate::http::{Framing, Version};
use alloc::vec::Vec;

const TRANSFER_ENCODING: &[u8] = b"Transfer-Encoding: chunked\r\n";

/// How a response's body goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As the server said: by length, or none.
    AsIs,
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    KeepAlive,
    Close,
}

/// What a request's fields are to say about its way here.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The client's address without port, IPv6 without brackets; `unix` for a UNIX socket.
    pub peer: &'a [u8],
    pub peer_is_ipv6: bool,
    /// `http` or `https`.
    pub protocol: &'a [u8],
    pub request_id: &'a [u8],
    /// Unix time in microseconds.
    pub start_micros: u64,
}

/// Copies the lines of a head whose kinds are kept, in runs.
fn push_fields(
    out: &mut Vec<u8>,
    raw: &[u8],
    fields: &Fields<'_, '_>,
    keeps: impl Fn(Kind) -> bool,
) {
    let origin = raw.as_ptr() as usize;
    let end = raw.len() - 2;
    let mut run: Option<usize> = None;
    for (name, _, kind) in fields.iter() {
        let line = name.as_ptr() as usize - origin;
        match (run, keeps(kind)) {
            (None, true) => run = Some(line),
            (Some(start), false) => {
                out.extend_from_slice(&raw[start..line]);
                run = None;
            }
            _ => {}
        }
    }
    if let Some(start) = run {
        out.extend_from_slice(&raw[start..end]);
    }
}

/// Appends the head for the server: HTTP/1.1, origin form.
pub fn request(
    out: &mut Vec<u8>,
    request: &Request<'_, '_>,
    default_host: &[u8],
    forwarding: &Forwarding<'_>,
) {
    out.extend_from_slice(request.method_text);
    out.push(b' ');
    request.target.push_origin(request.method, out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let is_absolute = matches!(request.target, Target::Absolute { .. });
    if is_absolute || request.host.is_empty() {
        let host = if request.host.is_empty() { default_host } else { request.host };
        push_line(out, b"Host: ", host);
    }
    let is_host_kept = !is_absolute && !request.host.is_empty();
    push_fields(out, request.raw, &request.fields, |kind| match kind {
        Kind::Host => is_host_kept,
        // RFC 9110 section 10.1.1: a client of HTTP/1.0 knows no interim answer.
        Kind::Expect => request.version == Version::Http11,
        Kind::ContentLength
        | Kind::TransferEncoding
        | Kind::Connection
        | Kind::HopByHop
        | Kind::Disguised
        | Kind::Upgrade
        | Kind::ForwardedFor
        | Kind::ForwardedOther
        | Kind::Forwarded
        | Kind::RequestId
        | Kind::RequestStart => false,
        _ => true,
    });
    match request.framing {
        Framing::Chunked => out.extend_from_slice(TRANSFER_ENCODING),
        Framing::Length(size) if size > 0 || request.has_length => push_length(out, size),
        Framing::Length(_) | Framing::UntilClose => {}
    }
    if request.upgrade && push_upgrade(out, &request.fields) {
        out.extend_from_slice(b"Connection: upgrade\r\n");
    }
    out.extend_from_slice(match request.version {
        Version::Http11 => b"Via: 1.1 lychgate\r\n",
        Version::Http10 => b"Via: 1.0 lychgate\r\n",
    });
    push_forwarding(out, request, forwarding);
    out.extend_from_slice(b"\r\n");
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Returns whether there was any.
fn push_upgrade(out: &mut Vec<u8>, fields: &Fields<'_, '_>) -> bool {
    let start = out.len();
    for (name, value, _) in fields.iter().filter(|(.., kind)| *kind == Kind::Upgrade) {
        out.extend_from_slice(name);
        push_line(out, b": ", value);
    }
    out.len() > start
}

/// Written anew, so that the next reader sees the number that we count by.
fn push_length(out: &mut Vec<u8>, size: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, size);
    out.extend_from_slice(b"\r\n");
}

fn push_forwarding(out: &mut Vec<u8>, request: &Request<'_, '_>, forwarding: &Forwarding<'_>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    push_addresses(out, &request.fields);
    push_line(out, forwarding.peer, b"");
    push_line(out, b"X-Forwarded-Proto: ", forwarding.protocol);
    if !request.host.is_empty() {
        push_line(out, b"X-Forwarded-Host: ", request.host);
    }
    out.extend_from_slice(b"Forwarded: ");
    push_forwarded(out, &request.fields);
    if forwarding.peer_is_ipv6 {
        out.extend_from_slice(b"for=\"[");
        out.extend_from_slice(forwarding.peer);
        out.extend_from_slice(b"]\"");
    } else if forwarding.peer == b"unix" {
        // RFC 7239 section 6.3: an identifier of our own begins with an underscore.
        out.extend_from_slice(b"for=_unix");
    } else {
        out.extend_from_slice(b"for=");
        out.extend_from_slice(forwarding.peer);
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(forwarding.protocol);
    if !request.host.is_empty() {
        // Quoted always: a port's colon is no token character. An authority holds no quotes.
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(request.host);
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\nX-Request-Id: ");
    out.extend_from_slice(forwarding.request_id);
    out.extend_from_slice(b"\r\nX-Request-Start: t=");
    push_decimal(out, forwarding.start_micros);
    out.extend_from_slice(b"\r\n");
}

/// The client's own lists of addresses, each element followed by a comma.
fn push_addresses(out: &mut Vec<u8>, fields: &Fields<'_, '_>) {
    for (_, value, _) in fields.iter().filter(|(.., kind)| *kind == Kind::ForwardedFor) {
        for element in elements(value) {
            push_element(out, element);
        }
    }
}

/// The client's own `Forwarded`, unless any of it is malformed: an open quote at its end would
/// swallow what we append.
fn push_forwarded(out: &mut Vec<u8>, fields: &Fields<'_, '_>) {
    let lists = || fields.iter().filter(|(.., kind)| *kind == Kind::Forwarded);
    if lists().all(|(_, value, _)| is_forwarded_list(value)) {
        for (_, value, _) in lists() {
            push_element(out, value);
        }
    }
}

fn push_element(out: &mut Vec<u8>, element: &[u8]) {
    out.extend_from_slice(element);
    out.extend_from_slice(b", ");
}

/// Appends the head for the client. `date` is put in where the server gave none.
pub fn response(
    out: &mut Vec<u8>,
    response: &Response<'_, '_>,
    coding: Coding,
    persistence: Persistence,
    client: Version,
    date: &[u8],
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(response.status));
    out.push(b' ');
    push_line(out, response.reason, b"");
    let is_interim = response.status < 200;
    push_fields(out, response.raw, &response.fields, |kind| {
        !matches!(
            kind,
            Kind::Connection
                | Kind::HopByHop
                | Kind::Upgrade
                | Kind::ContentLength
                | Kind::TransferEncoding
        )
    });
    // RFC 9110 section 8.6, RFC 9112 section 6.1: neither of them in 1xx and 204.
    if !is_interim && response.status != 204 {
        push_framing(out, response, coding, client);
    }
    if !is_interim && !response.has_date {
        push_line(out, b"Date: ", date);
    }
    out.extend_from_slice(match response.version {
        Version::Http11 => b"Via: 1.1 lychgate\r\n",
        Version::Http10 => b"Via: 1.0 lychgate\r\n",
    });
    // RFC 9110 section 15.5.22: 426 must name the protocols that it wants.
    let names_upgrade =
        (response.upgrade || response.status == 426) && push_upgrade(out, &response.fields);
    out.extend_from_slice(match (persistence, client) {
        _ if response.upgrade => b"Connection: upgrade\r\n",
        _ if is_interim => b"",
        (Persistence::Close, _) if names_upgrade => b"Connection: upgrade, close\r\n",
        (Persistence::Close, _) => b"Connection: close\r\n",
        (Persistence::KeepAlive, Version::Http10) => b"Connection: keep-alive\r\n",
        (Persistence::KeepAlive, Version::Http11) if names_upgrade => b"Connection: upgrade\r\n",
        (Persistence::KeepAlive, Version::Http11) => b"",
    });
    out.extend_from_slice(b"\r\n");
}

fn push_framing(out: &mut Vec<u8>, response: &Response<'_, '_>, coding: Coding, client: Version) {
    match (coding, response.length) {
        (Coding::Chunked, _) => out.extend_from_slice(TRANSFER_ENCODING),
        (Coding::AsIs, Some(size)) => push_length(out, size),
        // Of HEAD and 304: what GET would have got.
        (Coding::AsIs, None) if response.is_chunked && client == Version::Http11 => {
            out.extend_from_slice(TRANSFER_ENCODING);
        }
        (Coding::AsIs | Coding::UntilClose, _) => {}
    }
}

/// Appends a chunk's size line.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(HEX[size >> (4 * digit) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
