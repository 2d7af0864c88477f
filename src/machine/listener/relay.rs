//! The server's answer on its way to the client.

use super::Listener;
use super::client::{Duty, Exchange, Phase, Stage};
use super::pass::{Piece, pass, send_from};
use super::seam::{Effect, Ending, Outbox};
use crate::base::id::SocketId;
use crate::base::limits::{INTERIM_COUNT_MAX, RESPONSE_HEAD_SIZE_MAX};
use crate::base::time::Instant;
use crate::http::h1::body::Body;
use crate::http::h1::emit::{self, Coding, Persistence};
use crate::http::h1::head::{self, Response, Scratch};
use crate::http::{Framing, Version};
use crate::machine::cause::Cause;
use alloc::vec::Vec;

/// What reading a response head led to.
enum Progress {
    /// More bytes are needed.
    Wait,
    /// The body begins; so many bytes were the head.
    Body(usize),
    /// So many bytes were an interim response.
    Interim(usize),
    Tunnel(usize),
    Failed(Cause),
}

impl Listener {
    pub(super) fn link_received(&mut self, now: Instant, l: u32, bytes: &[u8], out: &mut Outbox) {
        let piece = Piece::received(bytes);
        match self.link(l).duty {
            Duty::Busy { client } => {
                self.answer_received(now, client, l, piece, out);
                self.settle(now, client, out);
            }
            // Nobody asked: an error message before closing, or worse.
            Duty::Idle => self.discard_idle(l, out),
            Duty::Checking => self.check_received(now, l, bytes, out),
            Duty::Connecting { .. } | Duty::Closing => {}
        }
    }

    fn answer_received(
        &mut self,
        now: Instant,
        c: u32,
        l: u32,
        piece: Piece<'_>,
        out: &mut Outbox,
    ) {
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(exchange) = &client.exchange else { return };
        let stage = exchange.stage;
        if exchange.is_holding
            && let Some(entrance) = exchange.slot.and_then(|slot| self.upstreams.entrance(slot))
            && let Some(place) = exchange.server
        {
            entrance.gate.answered(now, place);
        }
        // A head that comes in drops is one wait; only what follows it begins another.
        if stage != Stage::Sent {
            client.since = now;
        }
        match stage {
            Stage::Sent if self.link(l).held.is_empty() => {
                let rest = self.read_answer(now, c, l, piece, out);
                if !rest.is_empty() {
                    let mut held = self.shelf.take();
                    held.extend_from_slice(rest);
                    self.hold_answer(now, c, l, held, out);
                }
            }
            Stage::Sent => {
                let link = self.link_mut(l);
                let mut held = core::mem::take(&mut link.held);
                held.extend_from_slice(piece.bytes);
                let from = core::mem::replace(&mut link.scanned, held.len().saturating_sub(3));
                let mut rest = held.len();
                if head::end(&held, from).is_some() || held.len() > RESPONSE_HEAD_SIZE_MAX {
                    rest = self.read_answer(now, c, l, Piece::kept(&held), out).len();
                }
                held.drain(..held.len() - rest);
                self.hold_answer(now, c, l, held, out);
            }
            Stage::Answering => self.download(now, c, l, piece, out),
            Stage::Tunnel => self.tunnel_down(c, piece, out),
            Stage::Fresh | Stage::Waiting | Stage::Connecting => {}
        }
    }

    /// Keeps a partial response head.
    fn hold_answer(&mut self, now: Instant, c: u32, l: u32, mut held: Vec<u8>, out: &mut Outbox) {
        if held.is_empty() {
            self.shelf.put(&mut held);
        } else if held.len() > RESPONSE_HEAD_SIZE_MAX {
            self.fail(now, c, Cause::UpstreamInvalid, out);
        } else if let Some(link) = self.links.at_mut(l) {
            link.scanned = held.len().saturating_sub(3);
            link.held = held;
        }
    }

    /// Reads heads, interim ones and the final one, and the body behind it. Returns the part of
    /// a head that is not whole yet.
    fn read_answer<'b>(
        &mut self,
        now: Instant,
        c: u32,
        l: u32,
        mut piece: Piece<'b>,
        out: &mut Outbox,
    ) -> &'b [u8] {
        while !piece.bytes.is_empty() {
            match self.read_answer_head(now, c, piece.bytes, out) {
                Progress::Wait => return piece.bytes,
                Progress::Interim(size) => piece = piece.split(size).1,
                Progress::Body(size) => {
                    self.download(now, c, l, piece.split(size).1, out);
                    return &[];
                }
                Progress::Tunnel(size) => {
                    self.tunnel_ahead(c, out);
                    self.tunnel_down(c, piece.split(size).1, out);
                    return &[];
                }
                Progress::Failed(cause) => {
                    self.fail(now, c, cause, out);
                    return &[];
                }
            }
        }
        &[]
    }

    fn read_answer_head(
        &mut self,
        now: Instant,
        c: u32,
        bytes: &[u8],
        out: &mut Outbox,
    ) -> Progress {
        let date = self.date(now);
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(exchange) = &mut client.exchange else { return Progress::Wait };
        let mut scratch = Scratch::new();
        let response = match head::response(bytes, exchange.method, &mut scratch) {
            Ok(Some(response)) => response,
            Ok(None) => return Progress::Wait,
            Err(_) => return Progress::Failed(Cause::UpstreamInvalid),
        };
        client.since = now;
        if response.status == 101 {
            if !exchange.is_upgrade || !response.upgrade {
                return Progress::Failed(Cause::UpstreamInvalid);
            }
            self.tally.tunnels += 1;
            self.tally.answered(101);
            exchange.stage = Stage::Tunnel;
            exchange.status = 101;
            exchange.answered = now;
            exchange.is_persistent = false;
            send_head(out, client.socket, exchange, &response, Persistence::KeepAlive, &date);
            self.shelf.put(&mut exchange.replay);
            return Progress::Tunnel(response.size);
        }
        if response.status < 200 {
            exchange.interim_count += 1;
            if exchange.interim_count > INTERIM_COUNT_MAX {
                return Progress::Failed(Cause::UpstreamInvalid);
            }
            // A byte of the answer was seen: no second try any more.
            self.shelf.put(&mut exchange.replay);
            if exchange.version == Version::Http11 {
                send_head(out, client.socket, exchange, &response, Persistence::KeepAlive, &date);
            }
            return Progress::Interim(response.size);
        }
        begin_answer(exchange, &response, now);
        exchange.is_persistent &= !self.is_draining;
        let keep = if exchange.is_persistent { Persistence::KeepAlive } else { Persistence::Close };
        send_head(out, client.socket, exchange, &response, keep, &date);
        self.shelf.put(&mut exchange.replay);
        self.tally.answered(response.status);
        if let (Some(slot), Some(server)) = (exchange.slot, exchange.server) {
            self.upstreams.at(slot).server(server).health.answered();
        }
        if exchange.sets_cookie {
            self.push_cookie(c, out);
        }
        Progress::Body(response.size)
    }

    /// Bytes of the response's body.
    fn download(&mut self, now: Instant, c: u32, l: u32, piece: Piece<'_>, out: &mut Outbox) {
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(exchange) = &mut client.exchange else { return };
        let mut taken = 0;
        while taken < piece.bytes.len() && !exchange.download.is_done() {
            let (_, rest) = piece.split(taken);
            let Ok(scan) = exchange.download.scan(rest.bytes) else {
                return self.fail(now, c, Cause::UpstreamInvalid, out);
            };
            if scan.consumed == 0 {
                break;
            }
            match (exchange.download.framing(), exchange.coding) {
                // Chunked from a server to a client that knows no chunks.
                (Framing::Chunked, Coding::UntilClose) => {
                    exchange.bytes_out += scan.data.len() as u64;
                    pass(out, client.socket, rest.range(scan.data));
                }
                // Until close from a server: a client that knows chunks gets one a piece.
                (Framing::UntilClose, Coding::Chunked) => {
                    exchange.bytes_out += scan.data.len() as u64;
                    let start = out.bytes.len();
                    emit::chunk_size(&mut out.bytes, scan.data.len());
                    send_from(out, client.socket, start);
                    pass(out, client.socket, rest.range(scan.data));
                    let start = out.bytes.len();
                    out.bytes.extend_from_slice(b"\r\n");
                    send_from(out, client.socket, start);
                }
                // As it came, framing and all: passed on below in one piece.
                _ => exchange.bytes_out += scan.consumed as u64,
            }
            taken += scan.consumed;
        }
        let (body, rest) = piece.split(taken);
        if is_verbatim(exchange) {
            pass(out, client.socket, body);
        }
        if exchange.download.is_done() {
            // A server that says more than its answer is not trusted with another request.
            exchange.is_server_persistent &= rest.bytes.is_empty();
            self.finish(now, c, l, out);
        }
    }

    fn tunnel_down(&mut self, c: u32, piece: Piece<'_>, out: &mut Outbox) {
        let client = self.clients.at_mut(c).expect("a live client");
        if let Some(exchange) = &mut client.exchange {
            exchange.bytes_out += piece.bytes.len() as u64;
        }
        pass(out, client.socket, piece);
    }

    /// The server ended its direction.
    pub(super) fn link_ended(&mut self, now: Instant, l: u32, out: &mut Outbox) {
        match self.link(l).duty {
            Duty::Busy { client } => {
                self.server_ended(now, client, l, out);
                self.settle(now, client, out);
            }
            Duty::Idle => self.discard_idle(l, out),
            Duty::Checking => self.check_failed(now, l, out),
            Duty::Connecting { .. } | Duty::Closing => {}
        }
    }

    fn server_ended(&mut self, now: Instant, c: u32, l: u32, out: &mut Outbox) {
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(exchange) = &mut client.exchange else { return };
        match exchange.stage {
            Stage::Tunnel => {
                exchange.has_server_ended = true;
                if client.is_ended {
                    return self.finish_tunnel(now, c, out);
                }
                out.effects.push(Effect::End { id: client.socket, how: Ending::Shutdown });
            }
            Stage::Answering if exchange.download.end().is_ok() => {
                if exchange.coding == Coding::Chunked {
                    let start = out.bytes.len();
                    out.bytes.extend_from_slice(b"0\r\n\r\n");
                    send_from(out, client.socket, start);
                }
                exchange.is_server_persistent = false;
                self.finish(now, c, l, out);
            }
            _ => self.server_lost(now, c, out),
        }
    }

    pub(super) fn link_broken(&mut self, now: Instant, l: u32, out: &mut Outbox) {
        match self.link(l).duty {
            Duty::Busy { client } => {
                self.server_lost(now, client, out);
                self.settle(now, client, out);
            }
            Duty::Idle => self.discard_idle(l, out),
            Duty::Checking => self.check_failed(now, l, out),
            Duty::Connecting { .. } | Duty::Closing => {}
        }
    }

    /// The server takes no more of the request. Its answer may be on its way all the same: what
    /// is left of the upload is thrown away and the answer awaited.
    pub(super) fn link_unwritable(&mut self, now: Instant, l: u32, out: &mut Outbox) {
        match self.link(l).duty {
            Duty::Busy { client: c } => {
                self.link_mut(l).backlog = 0;
                let client = self.clients.at_mut(c).expect("a live client");
                if let Some(exchange) = &mut client.exchange {
                    exchange.is_upload_dead = !exchange.upload.is_done();
                    exchange.is_persistent &= exchange.upload.is_done();
                    exchange.is_server_persistent = false;
                }
                self.settle(now, c, out);
            }
            Duty::Idle => self.discard_idle(l, out),
            Duty::Checking => self.check_failed(now, l, out),
            Duty::Connecting { .. } | Duty::Closing => {}
        }
    }

    /// The server is gone in the middle of the exchange.
    pub(super) fn server_lost(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        let Some(exchange) = &self.client(c).exchange else { return };
        let link = exchange.link;
        let is_untouched = exchange.stage == Stage::Sent
            && exchange.interim_count == 0
            && link.is_some_and(|l| self.link(l).held.is_empty());
        if is_untouched {
            self.drop_link(c, out);
            self.lost_before_answer(now, c, Cause::WorkerLost, out);
        } else {
            self.fail(now, c, Cause::WorkerLost, out);
        }
        debug_assert_ne!(self.client(c).phase, Phase::Head);
    }
}

/// Sends a response's head on to the client. Until a final head chooses another, the exchange's
/// coding is as the server said, which is right for those that come before it.
fn send_head(
    out: &mut Outbox,
    to: SocketId,
    exchange: &mut Exchange,
    response: &Response<'_, '_>,
    keep: Persistence,
    date: &[u8],
) {
    let start = out.bytes.len();
    emit::response(&mut out.bytes, response, exchange.coding, keep, exchange.version, date);
    exchange.bytes_out += (out.bytes.len() - start) as u64;
    send_from(out, to, start);
}

fn begin_answer(exchange: &mut Exchange, response: &Response<'_, '_>, now: Instant) {
    exchange.stage = Stage::Answering;
    exchange.status = response.status;
    exchange.answered = now;
    exchange.download = Body::new(response.framing);
    exchange.is_server_persistent =
        response.is_persistent && response.framing != Framing::UntilClose;
    exchange.coding = match (response.framing, exchange.version) {
        (Framing::Length(_), _) => Coding::AsIs,
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => Coding::Chunked,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Coding::UntilClose,
    };
    // An answer before the request was read whole is the last one: what is left of the request
    // cannot be told from the next.
    exchange.is_persistent &= exchange.upload.is_done() && exchange.coding != Coding::UntilClose;
}

fn is_verbatim(exchange: &Exchange) -> bool {
    !matches!(
        (exchange.download.framing(), exchange.coding),
        (Framing::Chunked, Coding::UntilClose) | (Framing::UntilClose, Coding::Chunked)
    )
}
