//! Session affinity: which slot of its garden a request belongs to, and the cookie that says so.

use super::Listener;
use super::pass::send_from;
use super::seam::Outbox;
use crate::base::address::Peer;
use crate::base::limits::WORKERS_MAX;
use crate::http::h1::head::Request;
use crate::machine::record::push_peer;
use crate::machine::upstream::{Slot, affinity};
use crate::plan::garden::Affinity;

impl Listener {
    /// The slot that a request is pinned to. Notes when the answer may have to pin the client.
    pub(super) fn pin(&mut self, c: u32, slot: Slot, request: &Request<'_, '_>) -> Option<u16> {
        let garden = self.garden(slot)?;
        let upstream = self.upstreams.view(slot);
        let fields = || request.fields.iter().map(|(name, value, _)| (name, value));
        match garden.affinity.as_ref()? {
            Affinity::Cookie(name) => {
                let pool = upstream.pool.name.as_str();
                // Where the number of workers is the machine's to find out, it is not known here.
                let bound = match usize::from(garden.workers) {
                    0 => WORKERS_MAX,
                    count => count,
                };
                let pin = fields()
                    .filter(|(field, _)| field.eq_ignore_ascii_case(b"cookie"))
                    .flat_map(|(_, value)| affinity::cookies(value, name))
                    .filter_map(|value| affinity::slot_of(value, &self.affinity_key, pool))
                    .find(|slot| usize::from(*slot) < bound);
                if let Some(exchange) = &mut self.client_mut(c).exchange {
                    exchange.sets_cookie = true;
                }
                pin
            }
            Affinity::Header(name) => {
                let is_it = |field: &[u8]| field.eq_ignore_ascii_case(name.as_bytes());
                let value = fields().find(|(field, _)| is_it(field))?.1;
                affinity::rendezvous(value, self.served_slots(slot))
            }
            Affinity::ClientIp => {
                let peer = self.client(c).peer;
                if peer == Peer::Unix {
                    return None;
                }
                let mut text = core::mem::take(&mut self.scratch);
                text.clear();
                push_peer(&mut text, peer);
                let pin = affinity::rendezvous(&text, self.served_slots(slot));
                self.scratch = text;
                pin
            }
        }
    }

    /// Slots of the garden whose workers take requests.
    fn served_slots(&self, slot: Slot) -> impl Iterator<Item = u16> {
        let open = self.upstreams.view(slot).servers.iter().filter(|server| !server.is_retired);
        open.filter_map(|server| server.worker).map(|worker| worker.slot)
    }

    /// Puts the cookie into the head of the answer, which was just written, unless the client has
    /// it: who was served by another slot, its own being gone, stays there.
    pub(super) fn push_cookie(&mut self, c: u32, out: &mut Outbox) {
        let client = self.clients.at_mut(c).expect("a live client");
        let Some(exchange) = client.exchange.as_mut().filter(|exchange| exchange.sets_cookie)
        else {
            return;
        };
        let (Some(slot), Some(place)) = (exchange.slot, exchange.server) else { return };
        let upstream = self.upstreams.view(slot);
        let worker = upstream.servers.get(usize::from(place.0)).and_then(|server| server.worker);
        let (Some(worker), crate::plan::Source::Garden(garden)) = (worker, &upstream.pool.source)
        else {
            return;
        };
        if exchange.pin == Some(worker.slot) {
            return;
        }
        let Some(Affinity::Cookie(name)) = &garden.affinity else { return };
        let end = out.bytes.len();
        // In front of the empty line.
        out.bytes.truncate(end - 2);
        out.bytes.extend_from_slice(b"Set-Cookie: ");
        out.bytes.extend_from_slice(name.as_bytes());
        out.bytes.push(b'=');
        affinity::push_value(&mut out.bytes, &self.affinity_key, &upstream.pool.name, worker.slot);
        out.bytes.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax\r\n\r\n");
        exchange.bytes_out += (out.bytes.len() - end) as u64;
        send_from(out, client.socket, end);
    }
}
