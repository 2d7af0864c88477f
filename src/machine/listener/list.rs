//! The list of requests that execute or wait, for people.

use super::Listener;
use super::client::Stage;
use crate::base::address::Peer;
use crate::base::time::Instant;
use crate::machine::pool::seam::WorkerId;
use crate::machine::record::Part;
use core::time::Duration;

/// One request. Texts are the client's own bytes, cut where they are long; they may be no UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// As in `X-Request-Id`.
    pub id: &'a [u8],
    pub pool: &'a str,
    /// `None` = it waits, or the pool is no garden.
    pub worker: Option<WorkerId>,
    pub client: Peer,
    pub method: &'a [u8],
    pub host: &'a [u8],
    pub target: &'a [u8],
    /// "waiting", "connecting", "sent", "answering" or "tunnel".
    pub state: &'static str,
    pub elapsed: Duration,
}

impl Listener {
    /// Shows each request that executes or waits, of one pool or all, that is at least so old; in
    /// no order.
    pub fn list(
        &self,
        now: Instant,
        pool: Option<&str>,
        older: Duration,
        mut each: impl FnMut(Listed<'_>),
    ) {
        for (_, _, client) in self.clients.iter() {
            let Some(exchange) = &client.exchange else { continue };
            let Some(slot) = exchange.slot else { continue };
            let upstream = self.upstreams.view(slot);
            let name = upstream.pool.name.as_str();
            let place = exchange.server.map(|place| usize::from(place.0));
            let worker = place.and_then(|place| upstream.servers.get(place)?.worker);
            let elapsed = now.since(exchange.started);
            if elapsed < older || pool.is_some_and(|pool| pool != name) {
                continue;
            }
            each(Listed {
                id: exchange.notes.part(Part::Id),
                pool: name,
                worker,
                client: client.peer,
                method: exchange.notes.part(Part::Method),
                host: exchange.notes.part(Part::Host),
                target: exchange.notes.part(Part::Target),
                state: state(exchange.stage),
                elapsed,
            });
        }
    }
}

fn state(stage: Stage) -> &'static str {
    match stage {
        Stage::Waiting => "waiting",
        Stage::Fresh | Stage::Connecting => "connecting",
        Stage::Sent => "sent",
        Stage::Answering => "answering",
        Stage::Tunnel => "tunnel",
    }
}
