//! Requests of gardens: each takes a slot of a worker or waits for one, and gives it back exactly
//! once, in [`Listener::let_go`], however it ends.

use super::Listener;
use super::Role;
use super::client::{Duty, Stage};
use super::pass::Piece;
use super::seam::{Effect, Ending, Outbox};
use crate::base::id::ServerIndex;
use crate::base::time::Instant;
use crate::http::h1::head::Request;
use crate::machine::cause::Cause;
use crate::machine::gate::{Busy, Grant, Pumped, Taken, Ticket};
use crate::machine::upstream::Slot;
use crate::plan::Source;
use crate::plan::garden::{Garden, Reject};
use alloc::sync::Arc;
use core::time::Duration;

/// How long a worker that refused a connection is passed over.
const SUSPENSION: Duration = Duration::from_secs(1);
/// Connections that are tried for one request; nobody saw it as long as none is made.
const CONNECTS_MAX: u8 = 4;
/// Dead tickets of a thread in a queue before they are swept out.
const DEAD_MAX: u32 = 64;

impl Listener {
    /// Sends the request to a worker of the garden, or has it wait for one.
    pub(super) fn dispatch_to_garden(
        &mut self,
        now: Instant,
        c: u32,
        slot: Slot,
        request: &Request<'_, '_>,
        body: Piece<'_>,
        out: &mut Outbox,
    ) {
        let pin = self.pin(c, slot, request);
        let Some(exchange) = &mut self.client_mut(c).exchange else { return };
        exchange.slot = Some(slot);
        exchange.pin = pin;
        match self.take(now, slot, pin, None) {
            Ok(taken) => {
                self.hold(c, slot, taken, out);
                self.want_if_all_busy(slot, out);
                self.send(now, c, slot, taken.place, request, body, out);
            }
            Err(Busy::Wait) => {
                let mut replay = self.shelf.take();
                self.emit_head(now, c, request, &mut replay);
                replay.extend_from_slice(body.bytes);
                if let Some(exchange) = &mut self.client_mut(c).exchange {
                    exchange.replay = replay;
                }
                self.wait(now, c, slot, out);
            }
            Err(Busy::Stopped) => self.turn_down(now, c, Cause::PoolStopped, out),
            Err(Busy::Tripped) => self.turn_down(now, c, Cause::PoolTripped, out),
        }
    }

    fn take(
        &mut self,
        now: Instant,
        slot: Slot,
        pin: Option<u16>,
        avoided: Option<ServerIndex>,
    ) -> Result<Taken, Busy> {
        match &mut self.upstreams.at(slot).entrance {
            Some(entrance) => entrance.gate.take(now, &mut entrance.turn, pin, avoided),
            None => Err(Busy::Stopped),
        }
    }

    /// A slot was taken for the exchange.
    fn hold(&mut self, c: u32, slot: Slot, taken: Taken, out: &mut Outbox) {
        let Some(exchange) = &mut self.client_mut(c).exchange else { return };
        debug_assert!(!exchange.is_holding, "a slot at a time");
        exchange.is_holding = true;
        exchange.server = Some(taken.place);
        self.note_spent(slot, taken, out);
    }

    fn note_spent(&self, slot: Slot, taken: Taken, out: &mut Outbox) {
        if taken.is_spent {
            let pool = self.upstreams.view(slot).pool.name.clone();
            out.effects.push(Effect::Spent { pool, place: taken.place });
        }
    }

    /// Where slots are not counted no request ever waits for one, and this is what shows demand.
    fn want_if_all_busy(&self, slot: Slot, out: &mut Outbox) {
        let upstream = self.upstreams.view(slot);
        let (Some(entrance), Some(garden)) = (&upstream.entrance, self.garden(slot)) else {
            return;
        };
        if garden.slots == 0 && entrance.gate.is_all_busy() && entrance.gate.wants() {
            out.effects.push(Effect::Want { pool: upstream.pool.name.clone() });
        }
    }

    pub(super) fn garden(&self, slot: Slot) -> Option<&Garden> {
        match &self.upstreams.view(slot).pool.source {
            Source::Garden(garden) => Some(garden),
            Source::Servers(_) | Source::Invalid(_) => None,
        }
    }

    /// Leaves a ticket for the request that is kept in `replay`.
    fn wait(&mut self, now: Instant, c: u32, slot: Slot, out: &mut Outbox) {
        let (ticket, pin) = self.ticket(now, c);
        let Some(entrance) = &self.upstreams.view(slot).entrance else { return };
        if !entrance.gate.wait(ticket, pin) {
            return self.turn_down(now, c, Cause::QueueFull, out);
        }
        self.begin_waiting(c, slot);
    }

    /// Leaves a ticket before all others.
    fn put_back(&mut self, now: Instant, c: u32, slot: Slot) {
        let (ticket, _) = self.ticket(now, c);
        let Some(entrance) = &self.upstreams.view(slot).entrance else { return };
        entrance.gate.put_back(ticket);
        self.begin_waiting(c, slot);
    }

    fn ticket(&mut self, now: Instant, c: u32) -> (Ticket, Option<u16>) {
        self.serial = self.serial.wrapping_add(1);
        let (thread, serial) = (self.thread, self.serial);
        let client = self.client_mut(c);
        let ticket = Ticket { thread, client: client.socket, serial };
        let Some(exchange) = &mut client.exchange else { return (ticket, None) };
        exchange.serial = serial;
        exchange.waiting_since = now;
        (ticket, exchange.pin)
    }

    fn begin_waiting(&mut self, c: u32, slot: Slot) {
        let Some(exchange) = &mut self.client_mut(c).exchange else { return };
        exchange.stage = Stage::Waiting;
        exchange.server = None;
        self.pump_later(slot);
    }

    /// The exchange gives back the slot that it holds, or leaves the queue.
    pub(super) fn let_go(&mut self, c: u32, out: &mut Outbox) {
        let Some(exchange) = &mut self.client_mut(c).exchange else { return };
        let (Some(slot), place) = (exchange.slot, exchange.server) else { return };
        if exchange.stage == Stage::Waiting {
            exchange.stage = Stage::Fresh;
            self.leave_queue(slot);
        } else if let (true, Some(place)) = (exchange.is_holding, place) {
            exchange.is_holding = false;
            self.release(slot, place, out);
        }
    }

    fn leave_queue(&mut self, slot: Slot) {
        let Some(entrance) = &mut self.upstreams.at(slot).entrance else { return };
        entrance.gate.leave();
        entrance.dead += 1;
        let (dead, gate) = (entrance.dead, Arc::clone(&entrance.gate));
        let limit = self.garden(slot).map_or(0, |garden| garden.queue.limit);
        if dead <= DEAD_MAX.max(limit) {
            return;
        }
        let is_mine = |ticket: Ticket| ticket.thread == self.thread;
        let is_dead = |ticket| is_mine(ticket) && self.waiting_at(slot, ticket).is_none();
        if gate.sweep(is_dead)
            && let Some(entrance) = &mut self.upstreams.at(slot).entrance
        {
            entrance.dead = 0;
        }
        self.pump_later(slot);
    }

    fn release(&mut self, slot: Slot, place: ServerIndex, out: &mut Outbox) {
        let upstream = self.upstreams.at(slot);
        let Some(entrance) = &upstream.entrance else { return };
        if entrance.gate.release(place) {
            out.effects.push(Effect::Empty { pool: upstream.pool.name.clone(), place });
        }
        self.pump_later(slot);
    }

    /// Has the gate pumped at the end of the step, when everybody is where the step put them.
    pub(super) fn pump_later(&mut self, slot: Slot) {
        if let Some(entrance) = &mut self.upstreams.at(slot).entrance
            && !core::mem::replace(&mut entrance.is_pump_due, true)
        {
            self.pumps.push(slot);
        }
    }

    pub(super) fn pump_all(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(slot) = self.pumps.pop() {
            if let Some(entrance) = &mut self.upstreams.at(slot).entrance {
                entrance.is_pump_due = false;
            }
            self.pump(now, slot, out);
        }
    }

    fn pump(&mut self, now: Instant, slot: Slot, out: &mut Outbox) {
        loop {
            let upstream = self.upstreams.at(slot);
            let Some(entrance) = &mut upstream.entrance else { return };
            let pool = || upstream.pool.name.clone();
            match entrance.gate.pump(now, &mut entrance.turn) {
                Pumped::Granted(grant) if grant.ticket.thread == self.thread => {
                    self.granted(now, slot, grant, out);
                }
                Pumped::Granted(grant) => out.effects.push(Effect::Grant { pool: pool(), grant }),
                Pumped::Emptied(place) => out.effects.push(Effect::Empty { pool: pool(), place }),
                Pumped::Nothing => break,
            }
        }
        let upstream = self.upstreams.view(slot);
        let Some(entrance) = &upstream.entrance else { return };
        if entrance.gate.is_short(now) && entrance.gate.wants() {
            out.effects.push(Effect::Want { pool: upstream.pool.name.clone() });
        }
    }

    /// A slot was taken for a request that waits on this thread, or has left.
    pub(super) fn granted(&mut self, now: Instant, slot: Slot, grant: Grant, out: &mut Outbox) {
        let Some(c) = self.waiting_at(slot, grant.ticket) else {
            return self.decline(slot, grant, out);
        };
        if let Some(entrance) = &self.upstreams.view(slot).entrance {
            entrance.gate.leave();
        }
        if let Some(exchange) = &mut self.client_mut(c).exchange {
            exchange.stage = Stage::Fresh;
        }
        self.hold(c, slot, grant.taken, out);
        if self.client(c).is_ended {
            self.abandon(now, c, Cause::ClientGone, Ending::Now, out);
        } else {
            self.send_kept(now, c, slot, grant.taken.place, out);
        }
        self.settle(now, c, out);
    }

    /// Nobody waits with the ticket any more.
    fn decline(&mut self, slot: Slot, grant: Grant, out: &mut Outbox) {
        self.note_spent(slot, grant.taken, out);
        let place = grant.taken.place;
        let upstream = self.upstreams.at(slot);
        let Some(entrance) = &mut upstream.entrance else { return };
        entrance.dead = entrance.dead.saturating_sub(1);
        if entrance.gate.decline(place) {
            out.effects.push(Effect::Empty { pool: upstream.pool.name.clone(), place });
        }
        self.pump_later(slot);
    }

    /// The client whose request waits with this ticket.
    fn waiting_at(&self, slot: Slot, ticket: Ticket) -> Option<u32> {
        let Some(Role::Client(c)) = self.role(ticket.client) else { return None };
        let exchange = self.clients.at(c)?.exchange.as_ref()?;
        let is_it = exchange.stage == Stage::Waiting
            && exchange.serial == ticket.serial
            && exchange.slot == Some(slot)
            && ticket.thread == self.thread;
        is_it.then_some(c)
    }

    /// Sends the request that is kept in `replay` to the worker of which it holds a slot.
    fn send_kept(
        &mut self,
        now: Instant,
        c: u32,
        slot: Slot,
        place: ServerIndex,
        out: &mut Outbox,
    ) {
        let Some(exchange) = &self.client(c).exchange else { return };
        // What was lost once may have been lost on a connection that had gone stale.
        if exchange.is_retry {
            return self.connect(now, c, slot, place, out);
        }
        let Some(l) = self.take_idle(slot, place) else {
            return self.connect(now, c, slot, place, out);
        };
        self.tally.upstream_reuses += 1;
        let link = self.link_mut(l);
        link.duty = Duty::Busy { client: c };
        link.since = now;
        if let Some(exchange) = &mut self.client_mut(c).exchange {
            exchange.link = Some(l);
            exchange.is_reused = true;
        }
        self.send_replay(now, c, l, out);
    }

    /// The worker was lost before a byte of its answer: another one, or the answer is `cause`.
    /// The link is gone already.
    pub(super) fn lost_in_garden(
        &mut self,
        now: Instant,
        c: u32,
        slot: Slot,
        cause: Cause,
        out: &mut Outbox,
    ) {
        let is_retired = self.upstreams.view(slot).is_retired;
        let Some(exchange) = &mut self.client_mut(c).exchange else { return };
        let Some(failed) = exchange.server else { return };
        let (was_connecting, pin) = (exchange.stage == Stage::Connecting, exchange.pin);
        let may_repeat = if was_connecting {
            exchange.refusals += 1;
            exchange.refusals < CONNECTS_MAX
        } else {
            !core::mem::replace(&mut exchange.is_retry, true)
        };
        let may_repeat = may_repeat && !exchange.replay.is_empty() && !is_retired;
        if was_connecting {
            self.suspend(now, slot, failed);
        }
        self.let_go(c, out);
        if !may_repeat {
            return self.refuse(now, c, cause, out);
        }
        self.tally.retries += 1;
        match self.take(now, slot, pin, Some(failed)) {
            Ok(taken) => {
                self.hold(c, slot, taken, out);
                self.send_kept(now, c, slot, taken.place, out);
            }
            Err(Busy::Wait) => self.put_back(now, c, slot),
            Err(Busy::Stopped) => self.turn_down(now, c, Cause::PoolStopped, out),
            Err(Busy::Tripped) => self.turn_down(now, c, Cause::PoolTripped, out),
        }
    }

    fn suspend(&mut self, now: Instant, slot: Slot, place: ServerIndex) {
        let Some(entrance) = &mut self.upstreams.at(slot).entrance else { return };
        let until = now + SUSPENSION;
        entrance.gate.suspend(place, until);
        // Nobody gives a slot back when it ends.
        entrance.pump_at = until;
        self.pump_due = self.pump_due.min(until);
    }

    /// Time passed: pumps where a suspension has ended.
    pub(super) fn end_suspensions(&mut self, now: Instant) {
        self.pump_due = Instant::NEVER;
        for slot in self.upstreams.slots() {
            let Some(entrance) = &mut self.upstreams.at(slot).entrance else { continue };
            if entrance.pump_at <= now {
                entrance.pump_at = Instant::NEVER;
                self.pump_later(slot);
            } else {
                self.pump_due = self.pump_due.min(entrance.pump_at);
            }
        }
    }

    /// The pool does not take the request: answers 503, or resets where that is wanted.
    pub(super) fn turn_down(&mut self, now: Instant, c: u32, cause: Cause, out: &mut Outbox) {
        let slot = self.client(c).exchange.as_ref().and_then(|exchange| exchange.slot);
        let garden = slot.and_then(|slot| self.garden(slot));
        if garden.is_some_and(|garden| garden.queue.reject == Reject::Reset) {
            self.abandon(now, c, cause, Ending::Reset, out);
        } else {
            self.refuse(now, c, cause, out);
        }
    }
}
