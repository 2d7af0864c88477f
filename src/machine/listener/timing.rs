//! What may take how long. Every socket has one key in the wheel; when it comes out, the real
//! deadline is computed from the facts, and the key goes back if that lies later.

use super::client::{Client, Duty, Exchange, Phase, Stage};
use super::seam::{Ending, Outbox};
use super::{Listener, Role};
use crate::base::id::SocketId;
use crate::base::time::Instant;
use crate::machine::cause::Cause;
use crate::plan::{Limits, Plan, Source};
use core::time::Duration;

/// How long a client whose last answer is on its way may go on sending before we close.
const LINGER_MAX: Duration = Duration::from_secs(5);
/// How long a drain waits for requests that are on their way on connections between two.
pub(super) const FAREWELL: Duration = Duration::from_millis(250);
/// A client that does not read is looked at so often.
const RATE_PERIOD: Duration = Duration::from_secs(2);
/// Its rate counts only after so long: the kernel tells of progress in large steps.
const RATE_GRACE: Duration = Duration::from_secs(20);

/// Until the first plan: nobody is let in before.
pub(super) const NO_LIMITS: Limits = Limits {
    head_timeout: LINGER_MAX,
    body_timeout: LINGER_MAX,
    idle_timeout: LINGER_MAX,
    send_rate_min: 0,
    head_size: 0,
    header_count: 0,
    target_size: 0,
    body_size: 0,
};

/// The shortest wait that can begin under a plan.
pub(super) fn shortest(plan: &Plan) -> Duration {
    let limits = &plan.server.limits;
    let of_pools = plan.pools.iter().flat_map(|pool| {
        let upstream = pool.upstream;
        let check = pool.check.as_ref().map_or(upstream.connect_timeout, |check| check.timeout);
        let queue = match &pool.source {
            Source::Garden(garden) => garden
                .queue
                .timeout
                .min(garden.queue.disconnect_check.unwrap_or(garden.queue.timeout)),
            Source::Servers(_) | Source::Invalid(_) => upstream.connect_timeout,
        };
        [upstream.connect_timeout, upstream.response_timeout, upstream.idle_timeout, check, queue]
    });
    [limits.head_timeout, limits.body_timeout, limits.idle_timeout, LINGER_MAX, RATE_PERIOD]
        .into_iter()
        .chain(of_pools)
        .min()
        .unwrap_or(LINGER_MAX)
}

impl Listener {
    /// Puts a socket's key into the wheel: at its deadline, or as early as a wait that begins
    /// next could end.
    pub(super) fn watch(&mut self, now: Instant, id: SocketId, deadline: Instant) {
        let at = deadline.min(now + self.shortest);
        self.wheel.insert(at, u64::from(id.generation) << 32 | u64::from(id.index));
    }

    /// Time passed.
    pub(super) fn woken(&mut self, now: Instant, out: &mut Outbox) {
        let mut due = core::mem::take(&mut self.due);
        due.clear();
        self.wheel.take_due(now, &mut due);
        for key in &due {
            #[expect(clippy::cast_possible_truncation, reason = "the halves were packed by watch")]
            let id = SocketId { index: *key as u32, generation: (key >> 32) as u32 };
            let deadline = match self.role(id) {
                Some(Role::Client(c)) => self.look_at_client(now, c, out),
                Some(Role::Link(l)) => self.look_at_link(now, l, out),
                None => continue,
            };
            self.watch(now, id, deadline);
        }
        self.due = due;
        if now >= self.pump_due {
            self.end_suspensions(now);
        }
        if now >= self.check_due {
            self.begin_checks(now, out);
        }
    }

    fn look_at_client(&mut self, now: Instant, c: u32, out: &mut Outbox) -> Instant {
        if let Some(deadline) = self.look_at_backlog(now, c, out) {
            return deadline;
        }
        let (deadline, cause) = self.client_deadline(now, c);
        if deadline > now {
            return deadline;
        }
        match self.client(c).phase {
            Phase::Idle if self.is_draining => self.close_client(now, c, Ending::Flushed, out),
            Phase::Idle | Phase::Lingering => self.close_client(now, c, Ending::Now, out),
            Phase::Head => self.refuse_unread(now, c, Cause::HeaderTimeout, out),
            Phase::Busy => self.exchange_timed_out(now, c, cause, out),
            Phase::Closing => {}
        }
        self.settle(now, c, out);
        Instant::NEVER
    }

    fn client_deadline(&self, now: Instant, c: u32) -> (Instant, Cause) {
        let limits = &self.limits;
        let client = self.client(c);
        match client.phase {
            Phase::Idle => {
                let due = (client.since + limits.idle_timeout).min(self.farewell_due);
                (due, Cause::IdleTimeout)
            }
            Phase::Head => (client.since + limits.head_timeout, Cause::HeaderTimeout),
            Phase::Busy => self.exchange_deadline(now, client),
            Phase::Lingering => (client.since + LINGER_MAX, Cause::IdleTimeout),
            Phase::Closing => (Instant::NEVER, Cause::IdleTimeout),
        }
    }

    fn exchange_deadline(&self, now: Instant, client: &Client) -> (Instant, Cause) {
        let limits = &self.limits;
        let Some(exchange) = &client.exchange else { return (Instant::NEVER, Cause::IdleTimeout) };
        let Some(slot) = exchange.slot else { return (Instant::NEVER, Cause::IdleTimeout) };
        let upstream = self.upstreams.view(slot).pool.upstream;
        let is_link_blocked =
            exchange.link.and_then(|l| self.links.at(l)).is_some_and(|link| link.backlog > 0);
        match exchange.stage {
            Stage::Fresh => (Instant::NEVER, Cause::IdleTimeout),
            Stage::Waiting => self.queue_deadline(now, client.is_ended, exchange),
            Stage::Connecting => (client.since + upstream.connect_timeout, Cause::UpstreamTimeout),
            Stage::Tunnel => (client.since + limits.idle_timeout, Cause::IdleTimeout),
            Stage::Sent if !exchange.is_upload_over() && !is_link_blocked => {
                (client.since + limits.body_timeout, Cause::BodyTimeout)
            }
            Stage::Sent | Stage::Answering => {
                (client.since + upstream.response_timeout, Cause::UpstreamTimeout)
            }
        }
    }

    /// A moment that ends the wait, or at which it is looked at for a client that has left.
    fn queue_deadline(
        &self,
        now: Instant,
        is_ended: bool,
        exchange: &Exchange,
    ) -> (Instant, Cause) {
        let garden = exchange.slot.and_then(|slot| self.garden(slot));
        let Some(queue) = garden.map(|garden| &garden.queue) else {
            return (now, Cause::PoolStopped);
        };
        let timeout = exchange.waiting_since + queue.timeout;
        let look = queue.disconnect_check.map(|check| exchange.waiting_since + check);
        match look {
            Some(look) if look < timeout && (is_ended || look > now) => (look, Cause::ClientGone),
            _ => (timeout, Cause::QueueTimeout),
        }
    }

    /// Whether the request in the queue has waited so long that its client's leaving ends it.
    pub(super) fn is_leaving_looked_at(&self, now: Instant, c: u32) -> bool {
        let Some(exchange) = &self.client(c).exchange else { return true };
        let (look, cause) = self.queue_deadline(now, true, exchange);
        look <= now && cause == Cause::ClientGone
    }

    /// A client that does not read: `None` when it does.
    fn look_at_backlog(&mut self, now: Instant, c: u32, out: &mut Outbox) -> Option<Instant> {
        let limits = &self.limits;
        let client = self.client(c);
        if client.backlog == 0 {
            return None;
        }
        let stalled = client.backlog_since + limits.body_timeout;
        // Averaged over the time that the client keeps us waiting, so that a slow server is not
        // the client's fault.
        let blocked = now.since(client.blocked_since);
        let due = u64::from(limits.send_rate_min).saturating_mul(blocked.as_secs());
        let is_slow = blocked >= RATE_GRACE && client.drained < due;
        if now < stalled && !is_slow {
            return Some(stalled.min(now + RATE_PERIOD));
        }
        if client.phase == Phase::Busy {
            self.abandon(now, c, Cause::SendRate, Ending::Reset, out);
        } else {
            self.tally.blame(Cause::SendRate);
            self.close_client(now, c, Ending::Reset, out);
        }
        Some(Instant::NEVER)
    }

    fn exchange_timed_out(&mut self, now: Instant, c: u32, cause: Cause, out: &mut Outbox) {
        let Some(exchange) = &self.client(c).exchange else { return };
        match exchange.stage {
            Stage::Tunnel => self.abandon(now, c, cause, Ending::Now, out),
            Stage::Waiting if cause == Cause::ClientGone => {
                self.abandon(now, c, cause, Ending::Now, out);
            }
            Stage::Waiting => self.turn_down(now, c, cause, out),
            Stage::Connecting => {
                self.drop_link(c, out);
                self.lost_before_answer(now, c, cause, out);
            }
            Stage::Fresh | Stage::Sent | Stage::Answering => self.fail(now, c, cause, out),
        }
    }

    fn look_at_link(&mut self, now: Instant, l: u32, out: &mut Outbox) -> Instant {
        let link = self.link(l);
        let pool = &self.upstreams.view(link.slot).pool;
        let deadline = match link.duty {
            Duty::Idle => link.since + pool.upstream.idle_timeout,
            Duty::Checking => match &pool.check {
                Some(check) => link.since + check.timeout,
                None => now,
            },
            // The exchange keeps the time.
            Duty::Connecting { .. } | Duty::Busy { .. } | Duty::Closing => return Instant::NEVER,
        };
        if deadline > now {
            return deadline;
        }
        if link.duty == Duty::Idle {
            self.discard_idle(l, out);
        } else {
            self.check_failed(now, l, out);
        }
        Instant::NEVER
    }
}
