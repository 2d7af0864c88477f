//! What the control side tells about gardens: workers that come, are retired and go, and what the
//! pool does with requests.

use super::Listener;
use super::client::{Duty, Stage};
use super::seam::Outbox;
use crate::base::address::Address;
use crate::base::id::ServerIndex;
use crate::base::time::Instant;
use crate::machine::cause::Cause;
use crate::machine::pool::seam::{Standing, WorkerId};
use crate::machine::upstream::Slot;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Listener {
    pub(super) fn admitted(
        &mut self,
        pool: &str,
        place: ServerIndex,
        worker: WorkerId,
        address: Address,
        out: &mut Outbox,
    ) {
        let Some(slot) = self.upstreams.garden(pool) else { return };
        self.close_idle(slot, place, out);
        let Some(server) = self.upstreams.at(slot).place(place) else { return };
        server.address = Some(Arc::new(address));
        server.worker = Some(worker);
        server.is_retired = false;
    }

    pub(super) fn retired(&mut self, pool: &str, place: ServerIndex, out: &mut Outbox) {
        let Some(slot) = self.upstreams.garden(pool) else { return };
        if let Some(server) = self.upstreams.at(slot).place(place) {
            server.is_retired = true;
        }
        self.close_idle(slot, place, out);
    }

    fn close_idle(&mut self, slot: Slot, place: ServerIndex, out: &mut Outbox) {
        let Some(server) = self.upstreams.at(slot).place(place) else { return };
        let idle = core::mem::take(&mut server.idle);
        self.tally.upstream_idle = self.tally.upstream_idle.saturating_sub(idle.len() as u64);
        for l in idle {
            self.close_link(l, out);
        }
    }

    pub(super) fn dismissed(
        &mut self,
        now: Instant,
        pool: &str,
        place: ServerIndex,
        out: &mut Outbox,
    ) {
        self.retired(pool, place, out);
        let Some(slot) = self.upstreams.garden(pool) else { return };
        let of_worker =
            self.links.iter().filter(|(.., link)| link.slot == slot && link.server == place);
        let concerned = of_worker.filter_map(|(.., link)| match link.duty {
            Duty::Busy { client } | Duty::Connecting { client } => Some(client),
            Duty::Idle | Duty::Checking | Duty::Closing => None,
        });
        for c in concerned.collect::<Vec<u32>>() {
            self.worker_gone(now, c, out);
            self.settle(now, c, out);
        }
        if let Some(server) = self.upstreams.at(slot).place(place) {
            server.address = None;
            server.worker = None;
        }
    }

    fn worker_gone(&mut self, now: Instant, c: u32, out: &mut Outbox) {
        let Some(exchange) = &self.client(c).exchange else { return };
        if exchange.stage == Stage::Connecting {
            self.drop_link(c, out);
            self.lost_before_answer(now, c, Cause::WorkerLost, out);
        } else {
            self.server_lost(now, c, out);
        }
    }

    /// Those that wait are refused where the pool takes nothing any more.
    pub(super) fn stood(&mut self, now: Instant, pool: &str, standing: Standing, out: &mut Outbox) {
        let cause = match standing {
            Standing::Running | Standing::Replacing | Standing::Paused { .. } => return,
            Standing::Stopped => Cause::PoolStopped,
            Standing::Tripped => Cause::PoolTripped,
        };
        if let Some(slot) = self.upstreams.garden(pool) {
            self.clear_queue(now, cause, |_, of| of == slot, out);
        }
    }

    /// A reload took gardens away: nobody will ever open their gates again.
    pub(super) fn clear_queues(&mut self, now: Instant, out: &mut Outbox) {
        let is_gone = |this: &Self, slot| this.upstreams.view(slot).is_retired;
        self.clear_queue(now, Cause::PoolStopped, is_gone, out);
    }

    fn clear_queue(
        &mut self,
        now: Instant,
        cause: Cause,
        is_meant: impl Fn(&Self, Slot) -> bool,
        out: &mut Outbox,
    ) {
        let waiting = self.clients.iter().filter_map(|(c, _, client)| {
            let exchange = client.exchange.as_ref()?;
            let slot = exchange.slot.filter(|_| exchange.stage == Stage::Waiting)?;
            is_meant(self, slot).then_some(c)
        });
        for c in waiting.collect::<Vec<u32>>() {
            self.turn_down(now, c, cause, out);
            self.settle(now, c, out);
        }
    }

    pub(super) fn paged(&mut self, pool: &str, page: Option<Arc<[u8]>>) {
        let Some(slot) = self.upstreams.garden(pool) else { return };
        if let Some(entrance) = &mut self.upstreams.at(slot).entrance {
            entrance.page = page;
        }
    }
}
