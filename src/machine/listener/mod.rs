//! The data plane: one machine per listener thread. Facts about sockets in, orders about sockets
//! out; see [`seam`] for both. A step records the fact with whoever it concerns, lets that
//! connection settle (read on or hold, begin the next request) and checks the bookkeeping.
//!
//! ```text
//!  Accepted ─▶ client ─▶ heads ─▶ dispatch ─▶ link to a server
//!                 ▲                               │
//!                 └──── answer ◀── relay ◀────────┘        ending, timing: for everybody
//! ```

mod answer;
mod check;
mod client;
mod dispatch;
mod ending;
mod garden;
mod heads;
pub mod list;
mod pass;
mod pin;
mod queue;
mod relay;
pub mod seam;
mod settle;
#[cfg(test)]
mod tests;
mod timing;
mod upload;

pub use list::Listed;

use crate::base::address::Peer;
use crate::base::id::{Arrival, DoorId, SocketId};
use crate::base::prng::Prng;
use crate::base::slab::Slab;
use crate::base::time::Instant;
use crate::base::timers::Wheel;
use crate::http::date::Civil;
use crate::machine::gate::Gate;
use crate::machine::pool::seam::WorkerId;
use crate::machine::route::Router;
use crate::machine::shelf::Shelf;
use crate::machine::tally::Tally;
use crate::machine::upstream::{Slot, Upstreams};
use crate::plan::{Limits, Plan};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use client::{Client, Duty, Exchange, Link, Phase, Stage};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use pass::Piece;
use seam::{Effect, Input, Outbox};

/// What the machines of all listener threads of one process share; atomics only.
#[derive(Debug, Default)]
pub struct Shared {
    /// Client connections of all threads, against `max_connections`.
    pub connections: AtomicU32,
    /// A machine has taken it upon itself to do the active checks.
    has_checker: AtomicBool,
}

/// Keys of one moment that are looked at without the list growing, so that the first crowd of
/// timeouts allocates nothing between requests.
const DUE_ROOM: usize = 1024;

/// Whose socket it is; the number is the place among its kind.
#[derive(Clone, Copy, Debug)]
enum Role {
    Client(u32),
    Link(u32),
}

/// The data plane of one thread.
pub struct Listener {
    thread: u16,
    shared: Arc<Shared>,
    plan: Option<Arc<Plan>>,
    /// The plan's, copied: its `Arc` is shared with other threads, and counting references on it
    /// a request would make them wait for each other.
    limits: Limits,
    router: Router,
    upstreams: Upstreams,
    sockets: Slab<Role>,
    clients: Slab<Client>,
    links: Slab<Link>,
    wheel: Wheel,
    /// The shortest timeout of the plan: no key may sleep longer, for its owner's next wait may
    /// be this short.
    shortest: Duration,
    /// When the next active check is due.
    check_due: Instant,
    is_checker: bool,
    is_draining: bool,
    is_drained: bool,
    /// When a drain ends the connections between requests.
    farewell_due: Instant,
    /// Unix time in nanoseconds at [`Instant`] zero.
    wall: u64,
    date: [u8; 29],
    date_second: u64,
    prng: Prng,
    shelf: Shelf,
    #[expect(clippy::vec_box, reason = "the boxes are what is kept: they go to clients whole")]
    boxes: Vec<Box<Exchange>>,
    /// Reused by whoever needs a moment's memory.
    scratch: Vec<u8>,
    due: Vec<u64>,
    tally: Tally,
    affinity_key: [u8; 32],
    /// Of the last ticket.
    serial: u32,
    /// Gardens whose gates are to be pumped before the step is over.
    pumps: Vec<Slot>,
    /// When the first suspension of a worker ends.
    pump_due: Instant,
}

impl core::fmt::Debug for Listener {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Not the key.
        f.debug_struct("Listener").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Listener {
    /// `thread` is this machine's number in [`Ticket::thread`](crate::machine::gate::Ticket).
    /// `seed` must differ between threads and starts: request ids come from it.
    pub fn new(now: Instant, thread: u16, seed: u64, shared: Arc<Shared>) -> Self {
        let is_checker = !shared.has_checker.swap(true, Ordering::Relaxed);
        Self {
            thread,
            shared,
            plan: None,
            limits: timing::NO_LIMITS,
            router: Router::default(),
            upstreams: Upstreams::default(),
            sockets: Slab::default(),
            clients: Slab::default(),
            links: Slab::default(),
            wheel: Wheel::new(now),
            shortest: Duration::from_secs(1),
            check_due: Instant::NEVER,
            is_checker,
            is_draining: false,
            is_drained: false,
            farewell_due: Instant::NEVER,
            wall: 0,
            date: [b' '; 29],
            date_second: u64::MAX,
            prng: Prng::new(seed),
            shelf: Shelf::default(),
            boxes: Vec::new(),
            scratch: Vec::new(),
            due: Vec::with_capacity(DUE_ROOM),
            tally: Tally::default(),
            affinity_key: [0; 32],
            serial: 0,
            pumps: Vec::new(),
            pump_due: Instant::NEVER,
        }
    }

    /// What affinity cookies are signed with: the same for all threads, and over restarts. Before
    /// the first request.
    pub fn set_affinity_key(&mut self, key: [u8; 32]) {
        self.affinity_key = key;
    }

    /// Unix time in nanoseconds at [`Instant`] zero; told at start and about once a second.
    pub fn set_wall(&mut self, origin: u64) {
        self.wall = origin;
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// When to be stepped with `Woken` if nothing happens before.
    pub fn deadline(&self) -> Instant {
        self.wheel.next().min(self.check_due).min(self.pump_due)
    }

    /// Hears one fact and leaves its orders in `out`.
    pub fn step(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Accepted { door, arrival, peer } => self.accepted(now, door, arrival, peer, out),
            Input::Received { id, bytes } => match self.role(id) {
                Some(Role::Client(c)) => self.client_received(now, c, bytes, out),
                Some(Role::Link(l)) => self.link_received(now, l, bytes, out),
                None => {}
            },
            Input::Ended { id } => match self.role(id) {
                Some(Role::Client(c)) => self.client_ended(now, c, out),
                Some(Role::Link(l)) => self.link_ended(now, l, out),
                None => {}
            },
            Input::Broken { id } => match self.role(id) {
                Some(Role::Client(c)) => self.client_broken(now, c, out),
                Some(Role::Link(l)) => self.link_broken(now, l, out),
                None => {}
            },
            Input::Unwritable { id } => match self.role(id) {
                Some(Role::Client(c)) => self.client_broken(now, c, out),
                Some(Role::Link(l)) => self.link_unwritable(now, l, out),
                None => {}
            },
            Input::Backlog { id, bytes } => self.backlog(now, id, bytes, out),
            Input::Connected { id } => {
                if let Some(Role::Link(l)) = self.role(id) {
                    self.connected(now, l, out);
                }
            }
            Input::Refused { id } => {
                if let Some(Role::Link(l)) = self.role(id) {
                    self.connect_failed(now, l, out);
                }
            }
            Input::Closed { id, unsent: _ } => self.closed(id, out),
            Input::Planned { plan, doors, gates } => self.planned(now, plan, &doors, &gates, out),
            Input::Judged { pool, address, is_well } => {
                self.upstreams.judged(&pool, &address, is_well);
            }
            Input::Admitted { pool, place, slot, generation, address } => {
                self.admitted(&pool, place, WorkerId { slot, generation }, address, out);
            }
            Input::Retired { pool, place } => self.retired(&pool, place, out),
            Input::Dismissed { pool, place } => self.dismissed(now, &pool, place, out),
            Input::Granted { pool, grant } => {
                if let Some(slot) = self.upstreams.garden(&pool) {
                    self.granted(now, slot, grant, out);
                }
            }
            Input::Stood { pool, standing } => self.stood(now, &pool, standing, out),
            Input::Paged { pool, page } => self.paged(&pool, page),
            Input::Draining => self.drain(now, out),
            Input::Woken => self.woken(now, out),
        }
        if !self.pumps.is_empty() {
            self.pump_all(now, out);
        }
    }

    fn role(&self, id: SocketId) -> Option<Role> {
        self.sockets.get(id.index, id.generation).copied()
    }

    fn name(&mut self, role: Role) -> SocketId {
        let (index, generation) = self.sockets.insert(role);
        SocketId { index, generation }
    }

    fn accepted(
        &mut self,
        now: Instant,
        door: DoorId,
        arrival: Arrival,
        peer: Peer,
        out: &mut Outbox,
    ) {
        let limit = self.plan.as_ref().map_or(0, |plan| plan.server.connections_max);
        let before = self.shared.connections.fetch_add(1, Ordering::Relaxed);
        if before >= limit || self.is_draining {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.tally.connections_refused += 1;
            out.effects.push(Effect::TurnAway { arrival });
            return;
        }
        self.tally.connections_accepted += 1;
        self.tally.connections_open += 1;
        let socket = self.name(Role::Client(u32::MAX));
        let (c, _) = self.clients.insert(Client {
            socket,
            door,
            peer,
            phase: Phase::Idle,
            since: now,
            held: Vec::new(),
            scanned: 0,
            backlog: 0,
            backlog_since: now,
            blocked_since: now,
            drained: 0,
            is_reading: true,
            is_ended: false,
            exchange: None,
        });
        if let Some(role) = self.sockets.at_mut(socket.index) {
            *role = Role::Client(c);
        }
        self.watch(now, socket, Instant::NEVER);
        out.effects.push(Effect::Adopt { arrival, id: socket });
        out.effects.push(Effect::Recv { id: socket });
    }

    fn client_received(&mut self, now: Instant, c: u32, bytes: &[u8], out: &mut Outbox) {
        let piece = Piece::received(bytes);
        match self.client(c).phase {
            Phase::Idle | Phase::Head => self.read_heads(now, c, piece, out),
            Phase::Busy => self.busy_received(now, c, piece, out),
            Phase::Lingering | Phase::Closing => {}
        }
        self.settle(now, c, out);
    }

    fn busy_received(&mut self, now: Instant, c: u32, piece: Piece<'_>, out: &mut Outbox) {
        let Some(exchange) = &self.client(c).exchange else { return };
        if exchange.stage == Stage::Tunnel {
            self.tunnel_up(now, c, piece, out);
        } else if exchange.is_upload_over() {
            self.keep_ahead(c, piece.bytes);
        } else {
            self.upload(now, c, piece, out);
        }
    }

    /// Keeps what a client sent before its turn.
    fn keep_ahead(&mut self, c: u32, bytes: &[u8]) {
        if bytes.is_empty() || self.client(c).exchange.as_ref().is_some_and(|x| x.is_upload_dead) {
            return;
        }
        let client = self.clients.at_mut(c).expect("a live client");
        if client.held.capacity() == 0 {
            client.held = self.shelf.take();
        }
        client.held.extend_from_slice(bytes);
    }

    fn backlog(&mut self, now: Instant, id: SocketId, bytes: usize, out: &mut Outbox) {
        match self.role(id) {
            Some(Role::Client(c)) => {
                self.client_mut(c).note_backlog(now, bytes);
                self.settle(now, c, out);
            }
            Some(Role::Link(l)) => {
                let link = self.link_mut(l);
                link.backlog = bytes;
                if let Duty::Busy { client } = link.duty {
                    if let Some(client) = self.clients.at_mut(client) {
                        client.since = now;
                    }
                    self.settle(now, client, out);
                }
            }
            None => {}
        }
    }

    fn planned(
        &mut self,
        now: Instant,
        plan: Arc<Plan>,
        doors: &[DoorId],
        gates: &[Option<Arc<Gate>>],
        out: &mut Outbox,
    ) {
        self.router = Router::new(&plan, doors);
        let mut orphaned = Vec::new();
        self.upstreams.replan(&plan, gates, now, &mut orphaned);
        self.tally.upstream_idle = self.tally.upstream_idle.saturating_sub(orphaned.len() as u64);
        for l in orphaned {
            self.close_link(l, out);
        }
        self.clear_queues(now, out);
        self.shortest = timing::shortest(&plan);
        self.limits = plan.server.limits;
        self.plan = Some(plan);
        self.check_due = now;
        // Every wait may have become shorter than its key sleeps.
        self.wake_all(now);
    }

    /// Has every socket looked at soon.
    fn wake_all(&mut self, now: Instant) {
        let ids: Vec<SocketId> = self
            .sockets
            .iter()
            .map(|(index, generation, _)| SocketId { index, generation })
            .collect();
        self.wheel = Wheel::new(now);
        for id in ids {
            self.watch(now, id, now);
        }
    }

    /// Connections between requests are not ended on the spot: a request may be on its way, or
    /// be in the kernel's hands already, and would be lost. They get [`timing::FAREWELL`].
    fn drain(&mut self, now: Instant, out: &mut Outbox) {
        if !core::mem::replace(&mut self.is_draining, true) {
            self.farewell_due = now + timing::FAREWELL;
            self.wake_all(now);
        }
        self.notice_drained(out);
    }

    fn notice_drained(&mut self, out: &mut Outbox) {
        if self.is_draining && !self.is_drained && self.clients.count() == 0 {
            self.is_drained = true;
            out.effects.push(Effect::Drained);
        }
    }

    /// The text of `Date`, made once a second.
    fn date(&mut self, now: Instant) -> [u8; 29] {
        let second = (self.wall.saturating_add(now.0)) / 1_000_000_000;
        if second != self.date_second {
            self.date_second = second;
            self.date = Civil::from_unix(second).imf_fixdate();
        }
        self.date
    }

    fn client(&self, c: u32) -> &Client {
        self.clients.at(c).expect("a live client")
    }

    fn client_mut(&mut self, c: u32) -> &mut Client {
        self.clients.at_mut(c).expect("a live client")
    }

    fn link(&self, l: u32) -> &Link {
        self.links.at(l).expect("a live link")
    }

    fn link_mut(&mut self, l: u32) -> &mut Link {
        self.links.at_mut(l).expect("a live link")
    }
}
