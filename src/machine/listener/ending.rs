//! How exchanges and connections end. Every exchange passes through [`Listener::record`] exactly
//! once; every connection is ended once and forgotten when the engine says that it is closed.

use super::client::{Duty, Phase, Stage};
use super::seam::{Effect, Ending, Outbox};
use super::{Listener, Role};
use crate::base::id::SocketId;
use crate::base::time::Instant;
use crate::http::Version;
use crate::machine::cause::Cause;
use crate::machine::record::{Record, wall};
use crate::plan::AccessLog;
use core::sync::atomic::Ordering;

/// Boxes of exchanges kept for the next ones.
const BOXES_MAX: usize = 1024;

impl Listener {
    /// The answer is handed over whole.
    pub(super) fn finish(&mut self, now: Instant, c: u32, l: u32, out: &mut Outbox) {
        let Some(exchange) = &mut self.client_mut(c).exchange else { return };
        exchange.link = None;
        let is_reusable = exchange.is_server_persistent && exchange.upload.is_done();
        self.release_link(now, l, is_reusable, out);
        self.conclude(now, c, out);
    }

    /// Both sides of an upgraded connection have ended.
    pub(super) fn finish_tunnel(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        self.drop_link(c, out);
        self.record(now, c, out);
        self.close_client(now, c, Ending::Flushed, out);
    }

    /// Ends the exchange on the client's side: the next request, or the end of the connection.
    /// The link is gone already.
    pub(super) fn conclude(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        let Some(exchange) = &self.client(c).exchange else { return };
        let is_persistent = exchange.is_persistent && !self.is_draining;
        let is_understood = exchange.cause.is_none_or(Cause::keeps_connection);
        // Where ending is our own wish, more requests may be on their way already.
        let is_read = exchange.upload.is_done() && exchange.is_farewell && is_understood;
        self.record(now, c, out);
        let client = self.client_mut(c);
        client.since = now;
        client.scanned = 0;
        if is_persistent && !client.is_ended {
            client.phase = Phase::Idle;
        } else if is_read && client.held.is_empty() {
            self.close_client(now, c, Ending::Flushed, out);
        } else {
            // Closing now, with bytes unread or on their way, would send a reset that could
            // overtake the answer.
            client.phase = Phase::Lingering;
            let id = client.socket;
            let mut held = core::mem::take(&mut client.held);
            self.shelf.put(&mut held);
            out.effects.push(Effect::End { id, how: Ending::Shutdown });
        }
    }

    /// Ends the exchange and the connection without (more of) an answer.
    pub(super) fn abandon(
        &mut self,
        now: Instant,
        c: u32,
        cause: Cause,
        how: Ending,
        out: &mut Outbox,
    ) {
        self.drop_link(c, out);
        if let Some(exchange) = &mut self.client_mut(c).exchange {
            exchange.cause = Some(cause);
            if !exchange.is_answering() {
                exchange.status = cause.status();
            }
        }
        self.record(now, c, out);
        self.close_client(now, c, how, out);
    }

    /// The client ended its direction.
    pub(super) fn client_ended(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        let client = self.client_mut(c);
        client.is_ended = true;
        match client.phase {
            // Nobody is owed anything: a partial head was no request.
            Phase::Idle | Phase::Head => {
                let how = if client.backlog > 0 { Ending::Flushed } else { Ending::Now };
                self.close_client(now, c, how, out);
            }
            Phase::Busy => self.client_left(now, c, out),
            Phase::Lingering => self.close_client(now, c, Ending::Flushed, out),
            Phase::Closing => {}
        }
    }

    /// A client that ends its direction while its request runs has left: that is all that a
    /// closed connection shows until something is written to it. Tunnels know half-closing.
    fn client_left(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        let Some(exchange) = &self.client(c).exchange else { return };
        if exchange.stage == Stage::Waiting && !self.is_leaving_looked_at(now, c) {
            return;
        }
        if exchange.stage != Stage::Tunnel {
            // It may still read, and an answer that ends with the connection would look whole.
            let how = if exchange.is_answering() { Ending::Reset } else { Ending::Now };
            return self.abandon(now, c, Cause::ClientGone, how, out);
        }
        if exchange.has_server_ended {
            return self.finish_tunnel(now, c, out);
        }
        if let Some(link) = exchange.link.and_then(|l| self.links.at(l)) {
            out.effects.push(Effect::End { id: link.socket, how: Ending::Shutdown });
        }
    }

    /// Reading from or writing to the client failed.
    pub(super) fn client_broken(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        match self.client(c).phase {
            Phase::Busy => self.abandon(now, c, Cause::ClientGone, Ending::Now, out),
            Phase::Closing => {}
            _ => self.close_client(now, c, Ending::Now, out),
        }
    }

    /// Orders the end of a client's connection. `Closed` will follow.
    pub(super) fn close_client(&mut self, now: Instant, c: u32, how: Ending, out: &mut Outbox) {
        let client = self.client_mut(c);
        debug_assert!(client.exchange.is_none(), "an exchange is recorded before its connection");
        client.phase = Phase::Closing;
        client.since = now;
        if how != Ending::Flushed {
            client.backlog = 0;
        }
        let id = client.socket;
        let mut held = core::mem::take(&mut client.held);
        self.shelf.put(&mut held);
        out.effects.push(Effect::End { id, how });
    }

    /// Parts the exchange from its server and ends that connection.
    pub(super) fn drop_link(&mut self, c: u32, out: &mut Outbox) {
        let link = self.client_mut(c).exchange.as_mut().and_then(|exchange| exchange.link.take());
        if let Some(l) = link {
            self.close_link(l, out);
        }
    }

    fn release_link(&mut self, now: Instant, l: u32, is_reusable: bool, out: &mut Outbox) {
        let link = self.links.at_mut(l).expect("a live link");
        let upstream = self.upstreams.at(link.slot);
        let limit = upstream.pool.upstream.idle_connections as usize;
        let server = upstream.server(link.server);
        let is_retired = server.is_retired || upstream.is_retired;
        let idle = &mut upstream.server(link.server).idle;
        let is_kept = is_reusable && link.backlog == 0 && !is_retired && !self.is_draining;
        if !is_kept || idle.len() >= limit {
            return self.close_link(l, out);
        }
        link.duty = Duty::Idle;
        link.since = now;
        if !link.is_reading {
            link.is_reading = true;
            out.effects.push(Effect::Recv { id: link.socket });
        }
        idle.push(l);
        self.tally.upstream_idle += 1;
    }

    /// An idle connection to a server is no good any more.
    pub(super) fn discard_idle(&mut self, l: u32, out: &mut Outbox) {
        let link = self.links.at(l).expect("a live link");
        let idle = &mut self.upstreams.at(link.slot).server(link.server).idle;
        if let Some(place) = idle.iter().position(|&other| other == l) {
            idle.remove(place);
            self.tally.upstream_idle -= 1;
        }
        self.close_link(l, out);
    }

    pub(super) fn close_link(&mut self, l: u32, out: &mut Outbox) {
        let link = self.links.at_mut(l).expect("a live link");
        link.duty = Duty::Closing;
        let id = link.socket;
        self.shelf.put(&mut link.held);
        out.effects.push(Effect::End { id, how: Ending::Now });
    }

    /// The engine has forgotten a connection to a server.
    pub(super) fn forget_link(&mut self, l: u32) {
        if let Some(mut link) = self.links.remove_at(l) {
            self.shelf.put(&mut link.held);
            self.upstreams.at(link.slot).connections -= 1;
            self.sockets.remove(link.socket.index, link.socket.generation);
        }
    }

    pub(super) fn closed(&mut self, id: SocketId, out: &mut Outbox) {
        match self.role(id) {
            Some(Role::Client(c)) => {
                self.clients.remove_at(c);
                self.sockets.remove(id.index, id.generation);
                self.shared.connections.fetch_sub(1, Ordering::Relaxed);
                self.tally.connections_open -= 1;
                self.notice_drained(out);
            }
            Some(Role::Link(l)) => self.forget_link(l),
            None => {}
        }
    }

    /// Takes the exchange off the client and writes its line.
    pub(super) fn record(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        self.let_go(c, out);
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(mut exchange) = client.exchange.take() else { return };
        if exchange.cause == Some(Cause::UpstreamInvalid)
            && let (Some(slot), Some(place)) = (exchange.slot, exchange.server)
            && self.upstreams.entrance(slot).is_some()
        {
            let pool = self.upstreams.view(slot).pool.name.clone();
            out.effects.push(Effect::Violate { pool, place });
        }
        if let Some(cause) = exchange.cause {
            self.tally.blame(cause);
        }
        let log = self.plan.as_ref().map(|plan| &plan.server.log);
        if let Some(log) = log.filter(|log| log.access != AccessLog::Off) {
            let upstream = exchange.slot.map(|slot| self.upstreams.view(slot));
            let place = exchange.server.map(|server| usize::from(server.0));
            let server = upstream
                .zip(place)
                .and_then(|(upstream, place)| upstream.servers.get(place))
                .and_then(|server| server.address.as_deref());
            let line = Record {
                wall: wall(self.wall, exchange.started),
                peer: client.peer,
                notes: &exchange.notes,
                version: match exchange.version {
                    Version::Http10 => "HTTP/1.0",
                    Version::Http11 => "HTTP/1.1",
                },
                status: exchange.status,
                bytes_out: exchange.bytes_out,
                bytes_in: exchange.upload.received(),
                duration: now.since(exchange.started),
                upstream: exchange.server.map(|_| exchange.answered.since(exchange.sent)),
                pool: upstream.map(|upstream| upstream.pool.name.as_str()),
                server,
                reason: exchange.cause.map_or("", Cause::word),
            };
            line.write(log.format, &mut out.log);
        }
        self.shelf.put(&mut exchange.replay);
        exchange.notes.shelve(&mut self.shelf);
        if self.boxes.len() < BOXES_MAX {
            self.boxes.push(exchange);
        }
        // The idle time of a connection counts from the end of its last exchange.
        client.since = now;
    }
}
