//! Reading request heads and beginning exchanges.

use super::Listener;
use super::client::{Exchange, Phase};
use super::pass::Piece;
use super::seam::Outbox;
use crate::base::time::Instant;
use crate::http::Framing;
use crate::http::h1::body::Body;
use crate::http::h1::head::{self, HeadLimits, Request, Scratch};
use crate::http::target::normal_path;
use crate::machine::cause::Cause;
use crate::machine::record::Notes;
use crate::machine::route::Unrouted;
use crate::machine::upstream::Slot;
use crate::plan::{AccessLog, UnknownHost};
use alloc::boxed::Box;

/// A client's own request id is taken over up to this length.
const REQUEST_ID_SIZE_MAX: usize = 64;
const HEX: &[u8; 16] = b"0123456789abcdef";

impl Listener {
    /// Reads as many heads as can be begun: one, unless we answered it ourselves.
    pub(super) fn read_heads(&mut self, now: Instant, c: u32, fresh: Piece<'_>, out: &mut Outbox) {
        if self.client(c).held.is_empty() {
            let rest = self.read_from(now, c, fresh, out);
            self.keep_unread(now, c, rest.bytes);
            return;
        }
        let client = self.client_mut(c);
        let mut held = core::mem::take(&mut client.held);
        held.extend_from_slice(fresh.bytes);
        let scanned = client.scanned;
        client.scanned = held.len().saturating_sub(3);
        let is_whole = head::end(&held, scanned).is_some();
        let limit = self.limits.head_size;
        // Parsing a partial head again and again would cost the square of its pieces. The first
        // look, and one that will refuse the size, are always taken.
        if !is_whole && scanned > 0 && held.len() < limit {
            self.client_mut(c).held = held;
            return;
        }
        let rest = self.read_from(now, c, Piece::kept(&held), out).bytes.len();
        held.drain(..held.len() - rest);
        if held.is_empty() {
            self.shelf.put(&mut held);
        }
        let client = self.client_mut(c);
        debug_assert!(client.held.is_empty(), "nobody keeps bytes while held is out");
        client.held = held;
        self.note_partial(now, c);
    }

    fn keep_unread(&mut self, now: Instant, c: u32, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        self.keep_ahead(c, rest);
        self.note_partial(now, c);
    }

    /// A connection between requests that has bytes is reading a head.
    fn note_partial(&mut self, now: Instant, c: u32) {
        let client = self.client_mut(c);
        if client.phase == Phase::Idle && !client.held.is_empty() {
            client.phase = Phase::Head;
            client.since = now;
            client.scanned = client.held.len().saturating_sub(3);
        }
    }

    /// Returns what was not read.
    fn read_from<'b>(
        &mut self,
        now: Instant,
        c: u32,
        mut piece: Piece<'b>,
        out: &mut Outbox,
    ) -> Piece<'b> {
        let limits = HeadLimits {
            head_size: self.limits.head_size,
            header_count: self.limits.header_count,
            target_size: self.limits.target_size,
        };
        while !piece.bytes.is_empty() {
            let client = self.client(c);
            if !matches!(client.phase, Phase::Idle | Phase::Head) || client.backlog > 0 {
                break;
            }
            let mut scratch = Scratch::new();
            match head::request(piece.bytes, &limits, &mut scratch) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    let (_, body) = piece.split(request.size);
                    let taken = self.begin(now, c, &request, body, out);
                    piece = body.split(taken).1;
                }
                Err(malformed) => {
                    self.refuse_unread(now, c, Cause::Malformed(malformed), out);
                    return piece.split(piece.bytes.len()).1;
                }
            }
        }
        if matches!(self.client(c).phase, Phase::Lingering | Phase::Closing) {
            return piece.split(piece.bytes.len()).1;
        }
        piece
    }

    /// Answers what never became a request.
    pub(super) fn refuse_unread(&mut self, now: Instant, c: u32, cause: Cause, out: &mut Outbox) {
        self.tally.requests += 1;
        let id = self.request_id(None);
        let notes = Notes::new(self.shelf.take(), &[&id.0[..id.1]]);
        let exchange = self.box_up(Exchange::new(now, notes));
        let client = self.client_mut(c);
        client.phase = Phase::Busy;
        client.exchange = Some(exchange);
        self.refuse(now, c, cause, out);
    }

    /// Begins an exchange; returns how many bytes of its body were taken from `body`.
    fn begin(
        &mut self,
        now: Instant,
        c: u32,
        request: &Request<'_, '_>,
        body: Piece<'_>,
        out: &mut Outbox,
    ) -> usize {
        self.tally.requests += 1;
        self.begin_exchange(now, c, request);
        let taken = match self.check_upload(c, request, body.bytes) {
            Ok(taken) => taken,
            Err(cause) => {
                self.refuse(now, c, cause, out);
                return body.bytes.len();
            }
        };
        match self.route(c, request) {
            Ok(slot) => self.dispatch(now, c, slot, request, body.split(taken).0, out),
            Err(cause) => self.refuse(now, c, cause, out),
        }
        taken
    }

    fn begin_exchange(&mut self, now: Instant, c: u32, request: &Request<'_, '_>) {
        let id = self.request_id(request.request_id);
        let id = &id.0[..id.1];
        let is_logged =
            self.plan.as_ref().is_some_and(|plan| plan.server.log.access != AccessLog::Off);
        let text = self.shelf.take();
        // The list of requests shows the first four, logged or not.
        let parts = [
            id,
            request.method_text,
            request.target.text(),
            request.host,
            request.user_agent,
            request.referer,
        ];
        let notes = Notes::new(text, if is_logged { &parts } else { &parts[..4] });
        let mut exchange = self.box_up(Exchange::new(now, notes));
        exchange.method = request.method;
        exchange.version = request.version;
        exchange.is_persistent = request.is_persistent && !self.is_draining;
        exchange.is_farewell = !request.is_persistent;
        exchange.is_upgrade = request.upgrade;
        exchange.upload = Body::new(request.framing);
        let client = self.client_mut(c);
        client.phase = Phase::Busy;
        client.since = now;
        client.scanned = 0;
        client.exchange = Some(exchange);
    }

    /// Puts an exchange into a box that served before, if there is one.
    fn box_up(&mut self, exchange: Exchange) -> Box<Exchange> {
        match self.boxes.pop() {
            Some(mut place) => {
                *place = exchange;
                place
            }
            None => Box::new(exchange),
        }
    }

    /// Looks through what came of the body with the head, before anything is passed on.
    fn check_upload(
        &mut self,
        c: u32,
        request: &Request<'_, '_>,
        bytes: &[u8],
    ) -> Result<usize, Cause> {
        let limit = self.limits.body_size;
        if matches!(request.framing, Framing::Length(size) if size > limit) {
            return Err(Cause::BodyTooLarge);
        }
        let Some(exchange) = &mut self.client_mut(c).exchange else { return Ok(0) };
        let taken =
            super::upload::scan_all(&mut exchange.upload, bytes).map_err(Cause::Malformed)?;
        if exchange.upload.received() > limit {
            return Err(Cause::BodyTooLarge);
        }
        Ok(taken)
    }

    fn route(&mut self, c: u32, request: &Request<'_, '_>) -> Result<Slot, Cause> {
        let mut scratch = core::mem::take(&mut self.scratch);
        scratch.clear();
        let found = match normal_path(request.target.path(), &mut scratch) {
            Ok(path) => Ok(self.router.find(self.client(c).door, request.host, path)),
            Err(malformed) => Err(Cause::Malformed(malformed)),
        };
        self.scratch = scratch;
        match found? {
            Ok(pool) => self.upstreams.slot(usize::from(pool.0)).ok_or(Cause::NoRoute),
            Err(Unrouted::Path) => Err(Cause::NoRoute),
            Err(Unrouted::Host) => {
                let unknown = self.plan.as_ref().map(|plan| plan.server.unknown_host);
                let is_misdirected = unknown == Some(UnknownHost::Misdirected);
                Err(if is_misdirected { Cause::Misdirected } else { Cause::NoRoute })
            }
        }
    }

    /// The client's own id where it is harmless, else 128 random bits in hexadecimal.
    fn request_id(&mut self, sent: Option<&[u8]>) -> ([u8; REQUEST_ID_SIZE_MAX], usize) {
        let mut id = [0; REQUEST_ID_SIZE_MAX];
        let is_harmless = |id: &[u8]| {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
            !id.is_empty() && id.len() <= REQUEST_ID_SIZE_MAX && id.iter().all(plain)
        };
        if let Some(sent) = sent.filter(|sent| is_harmless(sent)) {
            id[..sent.len()].copy_from_slice(sent);
            return (id, sent.len());
        }
        for half in 0..2 {
            let mut bits = self.prng.draw();
            for digit in &mut id[half * 16..half * 16 + 16] {
                *digit = HEX[(bits & 15) as usize];
                bits >>= 4;
            }
        }
        (id, 32)
    }
}
