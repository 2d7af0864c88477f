//! The request's body on its way to the server.

use super::Listener;
use super::client::Stage;
use super::pass::{Piece, pass};
use super::seam::Outbox;
use crate::base::time::Instant;
use crate::http::Malformed;
use crate::http::h1::body::Body;
use crate::machine::cause::Cause;

/// Counts all of `bytes` that belong to the message; the rest is behind its end.
pub(super) fn scan_all(body: &mut Body, bytes: &[u8]) -> Result<usize, Malformed> {
    let mut taken = 0;
    while taken < bytes.len() && !body.is_done() {
        let scan = body.scan(&bytes[taken..])?;
        if scan.consumed == 0 {
            break;
        }
        taken += scan.consumed;
    }
    Ok(taken)
}

impl Listener {
    /// More of the body came while the exchange runs.
    pub(super) fn upload(&mut self, now: Instant, c: u32, piece: Piece<'_>, out: &mut Outbox) {
        let limit = self.limits.body_size;
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(exchange) = &mut client.exchange else { return };
        let taken = match scan_all(&mut exchange.upload, piece.bytes) {
            Ok(taken) => taken,
            Err(malformed) => return self.fail(now, c, Cause::Malformed(malformed), out),
        };
        if exchange.upload.received() > limit {
            return self.fail(now, c, Cause::BodyTooLarge, out);
        }
        let (body, ahead) = piece.split(taken);
        client.since = now;
        if matches!(exchange.stage, Stage::Connecting | Stage::Waiting) {
            // Reading is held while connecting, and when much of it waits, but what was on its way still comes.
            exchange.replay.extend_from_slice(body.bytes);
        } else {
            self.shelf.put(&mut exchange.replay);
            if let Some(link) = exchange.link.and_then(|l| self.links.at(l)) {
                pass(out, link.socket, body);
            }
        }
        self.keep_ahead(c, ahead.bytes);
    }

    /// What a client sent before it knew that the connection is upgraded.
    pub(super) fn tunnel_ahead(&mut self, c: u32, out: &mut Outbox) {
        let client = self.clients.at_mut(c).expect("a live client");
        let link = client.exchange.as_ref().and_then(|exchange| exchange.link);
        if let Some(link) = link.and_then(|l| self.links.at(l)) {
            pass(out, link.socket, Piece::kept(&client.held));
        }
        self.shelf.put(&mut client.held);
    }

    /// Bytes of an upgraded connection from the client.
    pub(super) fn tunnel_up(&mut self, now: Instant, c: u32, piece: Piece<'_>, out: &mut Outbox) {
        let client = self.clients.at_mut(c).expect("a live client");
        client.since = now;
        let link = client.exchange.as_ref().and_then(|exchange| exchange.link);
        if let Some(link) = link.and_then(|l| self.links.at(l)) {
            pass(out, link.socket, piece);
        }
    }
}
