//! Writing heads. Fields that pass unchanged are copied as the runs of lines they came in; what
//! ends at this hop is left out, what is ours is added at the end.

use super::fields::{Fields, Kind, elements};
use super::head::{Request, Response};
use crate::base::ascii::push_decimal;
use crate::http::target::Target;
use crate::http::{Framing, Version};
use alloc::vec::Vec;

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
        Kind::Connection
        | Kind::HopByHop
        | Kind::Upgrade
        | Kind::ForwardedFor
        | Kind::ForwardedOther
        | Kind::Forwarded
        | Kind::RequestId
        | Kind::RequestStart => false,
        _ => true,
    });
    if request.upgrade {
        push_upgrade(out, &request.fields);
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

fn push_upgrade(out: &mut Vec<u8>, fields: &Fields<'_, '_>) {
    for (name, value, kind) in fields.iter() {
        if kind == Kind::Upgrade {
            out.extend_from_slice(name);
            push_line(out, b": ", value);
        }
    }
    out.extend_from_slice(b"Connection: upgrade\r\n");
}

fn push_forwarding(out: &mut Vec<u8>, request: &Request<'_, '_>, forwarding: &Forwarding<'_>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    push_lists(out, &request.fields, Kind::ForwardedFor);
    push_line(out, forwarding.peer, b"");
    push_line(out, b"X-Forwarded-Proto: ", forwarding.protocol);
    if !request.host.is_empty() {
        push_line(out, b"X-Forwarded-Host: ", request.host);
    }
    out.extend_from_slice(b"Forwarded: ");
    push_lists(out, &request.fields, Kind::Forwarded);
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

/// The client's own lists of one kind, each element followed by a comma.
fn push_lists(out: &mut Vec<u8>, fields: &Fields<'_, '_>, wanted: Kind) {
    for (_, value, kind) in fields.iter() {
        if kind == wanted {
            for element in elements(value) {
                out.extend_from_slice(element);
                out.extend_from_slice(b", ");
            }
        }
    }
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
    let has_no_length = is_interim || response.status == 204;
    push_fields(out, response.raw, &response.fields, |kind| match kind {
        Kind::Connection | Kind::HopByHop | Kind::Upgrade => false,
        Kind::ContentLength => !has_no_length && coding == Coding::AsIs,
        Kind::TransferEncoding => {
            !has_no_length && coding != Coding::UntilClose && client == Version::Http11
        }
        _ => true,
    });
    if coding == Coding::Chunked && response.framing == Framing::UntilClose {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if !is_interim && !response.has_date {
        push_line(out, b"Date: ", date);
    }
    out.extend_from_slice(match response.version {
        Version::Http11 => b"Via: 1.1 lychgate\r\n",
        Version::Http10 => b"Via: 1.0 lychgate\r\n",
    });
    if response.upgrade {
        push_upgrade(out, &response.fields);
    } else if !is_interim {
        match (persistence, client) {
            (Persistence::Close, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (Persistence::KeepAlive, Version::Http10) => {
                out.extend_from_slice(b"Connection: keep-alive\r\n");
            }
            (Persistence::KeepAlive, Version::Http11) => {}
        }
    }
    out.extend_from_slice(b"\r\n");
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
