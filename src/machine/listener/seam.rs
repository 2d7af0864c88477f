//! What the data plane hears and orders: the whole conversation between the machine of one
//! listener thread and the engine under it.

pub use crate::base::ending::Ending;

use crate::base::address::{Address, Peer};
use crate::base::id::{Arrival, DoorId, ServerIndex, SocketId};
use crate::machine::gate::{Gate, Grant};
use crate::machine::pool::seam::Standing;
use crate::plan::Plan;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

/// What happened. The engine reports nothing about a socket before `Adopt` or `Connect` named
/// it, and nothing after `Closed`.
#[derive(Debug)]
pub enum Input<'a> {
    /// A client connected. Must be answered by `Adopt` or `TurnAway` in the same step.
    Accepted { door: DoorId, arrival: Arrival, peer: Peer },
    /// Bytes arrived, never none. After `Hold` none arrive until `Recv`.
    Received { id: SocketId, bytes: &'a [u8] },
    /// The peer ended its direction (FIN). Also held back by `Hold`.
    Ended { id: SocketId },
    /// Reading failed (reset, timed out): both directions are dead. `End` is still owed.
    Broken { id: SocketId },
    /// Writing failed; what the peer had sent may still be read. Unsent bytes are dropped.
    Unwritable { id: SocketId },
    /// The kernel would not take all that was sent: `bytes` wait in the engine. Told when a
    /// backlog first forms, at progress, and with 0 when it is gone; never told if all went at once.
    Backlog { id: SocketId, bytes: usize },
    /// A `Connect` succeeded; reading begins only with `Recv`.
    Connected { id: SocketId },
    /// A `Connect` failed; the engine has forgotten the id, no `Closed` follows.
    Refused { id: SocketId },
    /// An `End` is carried out; the engine has forgotten the id. `unsent` bytes were dropped.
    Closed { id: SocketId, unsent: usize },
    /// A new configuration; `doors[i]` is the door of the plan's listener `i`, `gates[i]` the gate
    /// of its pool `i` if that is a garden. A pool keeps its gate as long as it is a garden.
    Planned { plan: Arc<Plan>, doors: Arc<[DoorId]>, gates: Arc<[Option<Arc<Gate>>]> },
    /// A worker has this place of the pool's gate from now on; it is chosen once the gate is open.
    Admitted { pool: String, place: ServerIndex, slot: u16, generation: u32, address: Address },
    /// The gate of this place is closed: idle connections to it are to be ended.
    Retired { pool: String, place: ServerIndex },
    /// The worker is gone or released: what still runs on it fails, the place is forgotten.
    Dismissed { pool: String, place: ServerIndex },
    /// A slot was taken for a request that waits on this thread, or waited.
    Granted { pool: String, grant: Grant },
    /// The pool's standing changed; where it refuses requests, those that wait are refused.
    Stood { pool: String, standing: Standing },
    /// The body of the pool's 503; `None` = the built-in one.
    Paged { pool: String, page: Option<Arc<[u8]>> },
    /// The machine that checks for all threads told what it holds a server to be.
    Judged { pool: String, address: Address, is_well: bool },
    /// Accept no more; finish what runs. `Effect::Drained` follows when nothing is left.
    Draining,
    /// Nothing but time passed.
    Woken,
}

/// What to do. Effects of one socket are carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The accepted connection is known as `id` from now on. Reading begins only with `Recv`.
    Adopt { arrival: Arrival, id: SocketId },
    /// Close the accepted connection unseen.
    TurnAway { arrival: Arrival },
    /// Deliver what arrives, until `Hold`. Idempotent.
    Recv { id: SocketId },
    /// Deliver nothing more until `Recv`; the engine keeps (bounded) what it already has.
    Hold { id: SocketId },
    /// Write this range of [`Outbox::bytes`].
    Send { to: SocketId, range: Range<usize> },
    /// Write this range of the bytes of the `Received` being handled.
    Forward { to: SocketId, range: Range<usize> },
    /// Connect a new socket.
    Connect { id: SocketId, address: Arc<Address> },
    /// End a connection.
    End { id: SocketId, how: Ending },
    /// An active check ended, and this is what the server is held to be now: for the machines of
    /// the other threads, which do not check, and for the operator if it `has_changed`. Said each
    /// time, so that a thread that heard of it out of order is put right by the next.
    Judge { pool: String, address: Arc<Address>, is_well: bool, has_changed: bool },
    /// A request of another thread was granted a slot.
    Grant { pool: String, grant: Grant },
    /// A request waits and no slot is free: the supervisor is to be asked for another worker.
    Want { pool: String },
    /// A closed place has nothing running any more.
    Empty { pool: String, place: ServerIndex },
    /// A worker was given as many requests as it was to have.
    Spent { pool: String, place: ServerIndex },
    /// What a worker sent is not HTTP.
    Violate { pool: String, place: ServerIndex },
    /// After `Draining`: no client connection is left.
    Drained,
}

/// Where a step leaves its orders. The owner clears `effects` after each step and `bytes` and
/// `log` after each turn; capacities stay, so that a steady state allocates nothing.
#[derive(Debug, Default)]
pub struct Outbox {
    pub effects: Vec<Effect>,
    /// What `Effect::Send` refers to; stands until the turn's writes are carried out.
    pub bytes: Vec<u8>,
    /// Finished lines of the access log.
    pub log: Vec<u8>,
}
