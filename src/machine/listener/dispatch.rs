//! Getting a request to a server: an idle connection or a new one, and the second try.

use super::Listener;
use super::Role;
use super::client::{Duty, Link, Stage};
use super::pass::{COPY_SIZE_MAX, Piece, pass, send_from};
use super::seam::{Effect, Outbox};
use crate::base::address::Peer;
use crate::base::id::ServerIndex;
use crate::base::time::Instant;
use crate::http::h1::emit::{self, Forwarding};
use crate::http::h1::head::Request;
use crate::machine::cause::Cause;
use crate::machine::record::{Part, push_peer};
use crate::machine::upstream::{Slot, Unavailable};
use alloc::vec::Vec;

impl Listener {
    /// Chooses a server of the pool and sends it the request, with `body` as far as it came.
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        c: u32,
        slot: Slot,
        request: &Request<'_, '_>,
        body: Piece<'_>,
        out: &mut Outbox,
    ) {
        let upstream = self.upstreams.at(slot);
        if upstream.entrance.is_some() {
            return self.dispatch_to_garden(now, c, slot, request, body, out);
        }
        let server = match upstream.choose(now, None) {
            Ok(server) => server,
            Err(Unavailable::NotStarted) => return self.refuse(now, c, Cause::StartFailed, out),
            Err(Unavailable::Down) => return self.refuse(now, c, Cause::UpstreamDown, out),
            Err(Unavailable::Invalid) => return self.refuse(now, c, Cause::PoolInvalid, out),
        };
        self.send(now, c, slot, server, request, body, out);
    }

    /// Sends a request on its way to this server.
    #[expect(clippy::too_many_arguments, reason = "one call, on the hot path, of plain values")]
    pub(super) fn send(
        &mut self,
        now: Instant,
        c: u32,
        slot: Slot,
        server: ServerIndex,
        request: &Request<'_, '_>,
        body: Piece<'_>,
        out: &mut Outbox,
    ) {
        if let Some(l) = self.take_idle(slot, server) {
            let start = out.bytes.len();
            self.emit_head(now, c, request, &mut out.bytes);
            self.send_on_idle(now, c, l, request, body, start, out);
        } else {
            let mut replay = self.shelf.take();
            self.emit_head(now, c, request, &mut replay);
            replay.extend_from_slice(body.bytes);
            if let Some(exchange) = &mut self.client_mut(c).exchange {
                exchange.replay = replay;
            }
            self.connect(now, c, slot, server, out);
        }
    }

    pub(super) fn emit_head(
        &mut self,
        now: Instant,
        c: u32,
        request: &Request<'_, '_>,
        into: &mut Vec<u8>,
    ) {
        let start_micros = self.wall.saturating_add(now.0) / 1000;
        let client = self.clients.at(c).expect("a live client");
        let Some(exchange) = &client.exchange else { return };
        let mut peer = core::mem::take(&mut self.scratch);
        peer.clear();
        push_peer(&mut peer, client.peer);
        let forwarding = Forwarding {
            peer: &peer,
            peer_is_ipv6: matches!(client.peer, Peer::Tcp(core::net::SocketAddr::V6(_))),
            protocol: b"http",
            request_id: exchange.notes.part(Part::Id),
            start_micros,
        };
        emit::request(into, request, b"localhost", &forwarding);
        self.scratch = peer;
    }

    #[expect(clippy::too_many_arguments, reason = "one call, on the hot path, of plain values")]
    fn send_on_idle(
        &mut self,
        now: Instant,
        c: u32,
        l: u32,
        request: &Request<'_, '_>,
        body: Piece<'_>,
        start: usize,
        out: &mut Outbox,
    ) {
        self.tally.upstream_reuses += 1;
        let link = self.links.at_mut(l).expect("a live link");
        link.duty = Duty::Busy { client: c };
        link.since = now;
        let is_small = body.bytes.len() <= COPY_SIZE_MAX;
        if is_small {
            out.bytes.extend_from_slice(body.bytes);
        }
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(exchange) = &mut client.exchange else { return };
        exchange.slot = Some(link.slot);
        exchange.server = Some(link.server);
        exchange.link = Some(l);
        exchange.is_reused = true;
        exchange.stage = Stage::Sent;
        exchange.sent = now;
        if request.method.is_idempotent() && exchange.upload.is_done() && is_small {
            exchange.replay = self.shelf.take();
            exchange.replay.extend_from_slice(&out.bytes[start..]);
        }
        send_from(out, link.socket, start);
        if !is_small {
            pass(out, link.socket, body);
        }
    }

    pub(super) fn take_idle(&mut self, slot: Slot, server: ServerIndex) -> Option<u32> {
        let l = self.upstreams.at(slot).place(server)?.idle.pop()?;
        self.tally.upstream_idle -= 1;
        Some(l)
    }

    /// Makes a connection for the request that waits in `replay`.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        c: u32,
        slot: Slot,
        server: ServerIndex,
        out: &mut Outbox,
    ) {
        let link = self.open_link(now, slot, server, Duty::Connecting { client: c }, out);
        let client = self.client_mut(c);
        client.since = now;
        let Some(exchange) = &mut client.exchange else { return };
        exchange.slot = Some(slot);
        exchange.server = Some(server);
        exchange.link = link;
        exchange.is_reused = false;
        exchange.stage = Stage::Connecting;
        match (link, exchange.is_holding) {
            (Some(_), _) => {}
            (None, true) => self.lost_in_garden(now, c, slot, Cause::UpstreamConnect, out),
            (None, false) => self.refuse(now, c, Cause::StartFailed, out),
        }
    }

    /// Orders a new connection to a server; `None` when it has no address.
    pub(super) fn open_link(
        &mut self,
        now: Instant,
        slot: Slot,
        server: ServerIndex,
        duty: Duty,
        out: &mut Outbox,
    ) -> Option<u32> {
        let address = self.upstreams.at(slot).place(server)?.address.clone()?;
        self.tally.upstream_connects += 1;
        self.upstreams.at(slot).connections += 1;
        let socket = self.name(Role::Link(u32::MAX));
        let (l, _) = self.links.insert(Link {
            socket,
            slot,
            server,
            duty,
            since: now,
            held: Vec::new(),
            scanned: 0,
            backlog: 0,
            is_reading: false,
        });
        if let Some(role) = self.sockets.at_mut(socket.index) {
            *role = Role::Link(l);
        }
        self.watch(now, socket, Instant::NEVER);
        out.effects.push(Effect::Connect { id: socket, address });
        Some(l)
    }

    pub(super) fn connected(&mut self, now: Instant, l: u32, out: &mut Outbox) {
        let link = self.links.at_mut(l).expect("a live link");
        link.since = now;
        let socket = link.socket;
        match link.duty {
            Duty::Connecting { client } => {
                link.duty = Duty::Busy { client };
                link.is_reading = true;
                out.effects.push(Effect::Recv { id: socket });
                self.send_replay(now, client, l, out);
                self.settle(now, client, out);
            }
            Duty::Checking => self.ask(l, out),
            Duty::Busy { .. } | Duty::Idle | Duty::Closing => {}
        }
    }

    pub(super) fn send_replay(&mut self, now: Instant, c: u32, l: u32, out: &mut Outbox) {
        let socket = self.link(l).socket;
        let client = self.clients.at_mut(c).expect("a live client");
        client.since = now;
        let Some(exchange) = &mut client.exchange else { return };
        exchange.stage = Stage::Sent;
        exchange.sent = now;
        pass(out, socket, Piece::kept(&exchange.replay));
        if !exchange.method.is_idempotent() || !exchange.upload.is_done() || exchange.is_last_try()
        {
            self.shelf.put(&mut exchange.replay);
        }
    }

    /// A connection could not be made; the engine has forgotten its id.
    pub(super) fn connect_failed(&mut self, now: Instant, l: u32, out: &mut Outbox) {
        let duty = self.link(l).duty;
        if matches!(duty, Duty::Checking) {
            self.conclude_check(now, l, false, out);
        }
        self.forget_link(l);
        match duty {
            Duty::Connecting { client } => {
                self.unlink(client);
                self.lost_before_answer(now, client, Cause::UpstreamConnect, out);
                self.settle(now, client, out);
            }
            Duty::Checking | Duty::Busy { .. } | Duty::Idle | Duty::Closing => {}
        }
    }

    /// The server was lost before a byte of its answer: another try, or the answer is `cause`.
    /// The link is gone already.
    pub(super) fn lost_before_answer(
        &mut self,
        now: Instant,
        c: u32,
        cause: Cause,
        out: &mut Outbox,
    ) {
        let Some(exchange) = &self.client(c).exchange else { return };
        let (Some(slot), Some(failed)) = (exchange.slot, exchange.server) else { return };
        if exchange.is_holding {
            return self.lost_in_garden(now, c, slot, cause, out);
        }
        let was_fresh = !exchange.is_reused;
        let may_retry = !exchange.is_retry && !exchange.replay.is_empty();
        if was_fresh {
            self.upstreams.at(slot).server(failed).health.failed(now);
        }
        if may_retry
            && let Ok(server) = self.upstreams.at(slot).choose(now, Some(failed))
            // A kept connection that had gone stale says nothing about its server.
            && (server != failed || !was_fresh)
        {
            self.tally.retries += 1;
            if let Some(exchange) = &mut self.client_mut(c).exchange {
                exchange.is_retry = true;
            }
            return self.connect(now, c, slot, server, out);
        }
        self.refuse(now, c, cause, out);
    }

    /// The exchange has no server any more.
    pub(super) fn unlink(&mut self, c: u32) {
        if let Some(exchange) = self.clients.at_mut(c).and_then(|client| client.exchange.as_mut()) {
            exchange.link = None;
        }
    }
}
