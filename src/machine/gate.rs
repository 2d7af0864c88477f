//! The gate of one garden: which workers take requests, how many each runs, and who waits. Shared
//! by all listener threads of a process; atomics and lock-free queues only.
//!
//! A worker has a *place* here from its admission until it is dismissed. A request takes a slot of
//! a place, or leaves a *ticket* and waits; a slot that becomes free goes to the oldest ticket, on
//! whichever thread that waits. No wake-up is lost because each step that could bring a ticket and
//! a free slot together (a ticket left, a slot given back, a place opened, the pool resumed) is
//! followed by [`Gate::pump`], and all of them are sequentially consistent: of two steps at the
//! same time, the later one's pump sees both.

use crate::base::id::{ServerIndex, SocketId};
use crate::base::limits::{PLACES_MAX, WORKERS_MAX};
use crate::base::time::Instant;
use crate::machine::pool::seam::{Figures, Standing};
use crate::plan::garden::Dispatch;
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use crossbeam::queue::SegQueue;
use once_cell::race::OnceBox;

/// A request that waits: on which thread, for which client. `serial` tells it from an earlier
/// request of the same client that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub thread: u16,
    pub client: SocketId,
    pub serial: u32,
}

/// A slot was taken for a request that waits: its thread is to be told, and either uses it or
/// gives it back with [`Gate::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub ticket: Ticket,
    pub taken: Taken,
}

/// A slot of a worker, taken for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub place: ServerIndex,
    /// With this one the worker has had as many requests as it was to have.
    pub is_spent: bool,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Wait for one, with a ticket.
    Wait,
    Stopped,
    Tripped,
}

const OPEN: u32 = 1 << 31;
const NO_LIMIT: u32 = OPEN - 1;
const RUNNING: u8 = 0;
const PAUSED: u8 = 1;
const STOPPED: u8 = 2;
const TRIPPED: u8 = 3;

/// What a turn of [`Gate::pump`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    Granted(Grant),
    /// A closed place has nothing running any more, as after [`Gate::release`].
    Emptied(ServerIndex),
    /// Nobody waits, or nothing is free.
    Nothing,
}

/// One worker's place. A cache line of its own: each request writes to it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place {
    /// [`OPEN`], and how many requests it executes.
    word: AtomicU32,
    /// Requests at once; [`NO_LIMIT`] = any number.
    limit: AtomicU32,
    slot: AtomicU32,
    /// Not to be chosen before this time, in nanoseconds: its process refused a connection.
    suspended_until: AtomicU64,
    delivered: AtomicU64,
    delivered_max: AtomicU64,
    /// When the last byte of a response came, in nanoseconds.
    answered: AtomicU64,
}

/// The gate of one garden.
#[derive(Debug)]
pub struct Gate {
    places: Box<[Place]>,
    /// Places at and above this were never open.
    used: AtomicU32,
    /// Tickets that were given back, before all others.
    returned: SegQueue<Ticket>,
    common: SegQueue<Ticket>,
    /// Tickets pinned to a slot; made with the first of them.
    pinned: OnceBox<[SegQueue<Ticket>; WORKERS_MAX]>,
    /// Requests that wait, at most `limit`. Tickets whose requests have left are not counted.
    waiting: AtomicU32,
    limit: AtomicU32,
    standing: AtomicU8,
    is_least_busy: AtomicBool,
    may_grow: AtomicBool,
    is_wanting: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            places: (0..PLACES_MAX).map(|_| Place::default()).collect(),
            used: AtomicU32::new(0),
            returned: SegQueue::new(),
            common: SegQueue::new(),
            pinned: OnceBox::new(),
            waiting: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            standing: AtomicU8::new(0),
            is_least_busy: AtomicBool::new(false),
            may_grow: AtomicBool::new(false),
            is_wanting: AtomicBool::new(false),
        }
    }
}

/// The control side.
impl Gate {
    /// What the pool does with requests. `limit` of those that wait; pump afterwards.
    pub fn stand(&self, standing: Standing, limit: u32, may_grow: bool) {
        let state = match standing {
            Standing::Running | Standing::Replacing => RUNNING,
            Standing::Paused { .. } => PAUSED,
            Standing::Stopped => STOPPED,
            Standing::Tripped => TRIPPED,
        };
        self.limit.store(limit, SeqCst);
        self.may_grow.store(may_grow, SeqCst);
        self.is_wanting.store(false, SeqCst);
        self.standing.store(state, SeqCst);
    }

    pub fn choose_by(&self, dispatch: Dispatch) {
        self.is_least_busy.store(dispatch == Dispatch::LeastBusy, SeqCst);
    }

    /// A place that no worker has; `None` = all are taken. It stays free until `open`.
    pub fn vacancy(&self, is_taken: impl Fn(ServerIndex) -> bool) -> Option<ServerIndex> {
        (0..PLACES_MAX as u16)
            .map(ServerIndex)
            .find(|place| !is_taken(*place) && self.place(*place).word.load(SeqCst) == 0)
    }

    /// A worker takes requests from now on: at most `slots` at once (0 = any number), and after
    /// `delivered_max` (0 = never) it is spent. Pump afterwards.
    pub fn open(&self, place: ServerIndex, slot: u16, slots: u32, delivered_max: u64) {
        let limit = if slots == 0 { NO_LIMIT } else { slots.min(NO_LIMIT) };
        let it = self.place(place);
        it.limit.store(limit, SeqCst);
        it.slot.store(u32::from(slot), SeqCst);
        it.suspended_until.store(0, SeqCst);
        it.delivered.store(0, SeqCst);
        it.delivered_max.store(delivered_max, SeqCst);
        it.answered.store(0, SeqCst);
        self.used.fetch_max(u32::from(place.0) + 1, SeqCst);
        it.word.fetch_or(OPEN, SeqCst);
        self.is_wanting.store(false, SeqCst);
    }

    /// It takes no more. True: nothing runs on it, and nobody else will say so. Pump afterwards:
    /// tickets pinned to its slot may go elsewhere.
    pub fn close(&self, place: ServerIndex) -> bool {
        self.place(place).word.fetch_and(!OPEN, SeqCst) == OPEN
    }

    pub fn figures(&self, place: ServerIndex) -> Figures {
        let it = self.place(place);
        Figures {
            executing: it.word.load(Relaxed) & !OPEN,
            delivered: it.delivered.load(Relaxed),
            answered: Instant(it.answered.load(Relaxed)),
        }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }
}

/// The data side.
impl Gate {
    /// Takes a slot: of the pinned slot's worker if there is one, else of any but `avoided`.
    /// `turn` is where the last choice of this thread was.
    pub fn take(
        &self,
        now: Instant,
        turn: &mut u16,
        pin: Option<u16>,
        avoided: Option<ServerIndex>,
    ) -> Result<Taken, Busy> {
        match self.standing.load(SeqCst) {
            STOPPED => return Err(Busy::Stopped),
            TRIPPED => return Err(Busy::Tripped),
            PAUSED => return Err(Busy::Wait),
            _ => {}
        }
        if self.waiting.load(SeqCst) > 0 {
            return Err(Busy::Wait);
        }
        let pin = pin.filter(|slot| self.is_served(now, *slot));
        self.pick(now, turn, pin, avoided).ok_or(Busy::Wait)
    }

    /// Leaves a ticket; false when too many wait already. Pump afterwards.
    pub fn wait(&self, ticket: Ticket, pin: Option<u16>) -> bool {
        let limit = self.limit.load(SeqCst);
        let admitted =
            self.waiting.fetch_update(SeqCst, SeqCst, |n| (n < limit).then_some(n + 1)).is_ok();
        if admitted {
            match pin.and_then(|slot| self.pins().get(usize::from(slot))) {
                Some(queue) => queue.push(ticket),
                None => self.common.push(ticket),
            }
        }
        admitted
    }

    /// Leaves a ticket before all others, limit or not: the request was given to a worker that
    /// never saw it. Pump afterwards.
    pub fn put_back(&self, ticket: Ticket) {
        self.waiting.fetch_add(1, SeqCst);
        self.returned.push(ticket);
    }

    /// A request waits no more: it was granted a slot and uses it, or it has left, and its ticket
    /// is dead.
    pub fn leave(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }

    /// Gives a slot back. True: the place is closed and nothing runs on it any more. Pump
    /// afterwards.
    pub fn release(&self, place: ServerIndex) -> bool {
        self.place(place).word.fetch_sub(1, SeqCst) == 1
    }

    /// Brings together a ticket and a free slot, if there are both. To be called until `Nothing`.
    pub fn pump(&self, now: Instant, turn: &mut u16) -> Pumped {
        while self.standing.load(SeqCst) == RUNNING {
            let Some((queue, pin)) = self.next_queue(now) else { return Pumped::Nothing };
            let Some(taken) = self.pick(now, turn, pin, None) else {
                return Pumped::Nothing;
            };
            if let Some(ticket) = queue.pop() {
                return Pumped::Granted(Grant { ticket, taken });
            }
            // Another thread was faster.
            self.place(taken.place).delivered.fetch_sub(1, Relaxed);
            if self.release(taken.place) {
                return Pumped::Emptied(taken.place);
            }
        }
        Pumped::Nothing
    }

    /// True when the supervisor is to be asked for another worker; once, until it has answered.
    pub fn wants(&self) -> bool {
        self.may_grow.load(SeqCst) && !self.is_wanting.swap(true, SeqCst)
    }

    /// True when each worker executes something: where slots are not counted, that is demand.
    pub fn is_all_busy(&self) -> bool {
        self.may_grow.load(Relaxed)
            && self.places().all(|(_, it)| {
                let word = it.word.load(Relaxed);
                word & OPEN == 0 || word & !OPEN > 0
            })
    }

    /// Its process refused a connection: others first, until then.
    pub fn suspend(&self, place: ServerIndex, until: Instant) {
        self.place(place).suspended_until.store(until.0, SeqCst);
    }

    /// Bytes of a response came.
    pub fn answered(&self, now: Instant, place: ServerIndex) {
        self.place(place).answered.store(now.0, Relaxed);
    }

    fn place(&self, place: ServerIndex) -> &Place {
        &self.places[usize::from(place.0)]
    }

    fn places(&self) -> impl Iterator<Item = (ServerIndex, &Place)> {
        let used = self.used.load(SeqCst) as usize;
        (0..).map(ServerIndex).zip(&self.places[..used])
    }

    fn pins(&self) -> &[SegQueue<Ticket>; WORKERS_MAX] {
        self.pinned.get_or_init(|| Box::new(core::array::from_fn(|_| SegQueue::new())))
    }

    /// Whether a worker of the slot is open.
    fn is_served(&self, now: Instant, slot: u16) -> bool {
        self.places().any(|(_, it)| it.is_open(now) && it.slot.load(SeqCst) == u32::from(slot))
    }

    /// The queue whose ticket is next, and the slot that it has to go to.
    fn next_queue(&self, now: Instant) -> Option<(&SegQueue<Ticket>, Option<u16>)> {
        if !self.returned.is_empty() {
            return Some((&self.returned, None));
        }
        if let Some(pinned) = self.pinned.get() {
            for (slot, queue) in (0..).zip(pinned).filter(|(_, queue)| !queue.is_empty()) {
                if !self.is_served(now, slot) {
                    return Some((queue, None));
                }
                if self
                    .places()
                    .any(|(_, it)| it.slot.load(SeqCst) == u32::from(slot) && it.has_room(now))
                {
                    return Some((queue, Some(slot)));
                }
            }
        }
        (!self.common.is_empty()).then_some((&self.common, None))
    }

    /// Takes a slot of an open place with room.
    fn pick(
        &self,
        now: Instant,
        turn: &mut u16,
        pin: Option<u16>,
        avoided: Option<ServerIndex>,
    ) -> Option<Taken> {
        let used = u16::try_from(self.used.load(SeqCst)).unwrap_or(u16::MAX);
        let is_eligible = |place: ServerIndex| {
            let it = self.place(place);
            it.has_room(now)
                && Some(place) != avoided
                && pin.is_none_or(|slot| it.slot.load(SeqCst) == u32::from(slot))
        };
        let order = || (1..=used).map(|step| ServerIndex((*turn + step) % used.max(1)));
        let chosen = if self.is_least_busy.load(Relaxed) {
            loop {
                let eligible = order().filter(|place| is_eligible(*place));
                let place = eligible.min_by_key(|p| self.place(*p).word.load(SeqCst) & !OPEN)?;
                if self.place(place).enter() {
                    break place;
                }
            }
        } else {
            order().find(|place| is_eligible(*place) && self.place(*place).enter())?
        };
        *turn = chosen.0;
        let it = self.place(chosen);
        let delivered = it.delivered.fetch_add(1, Relaxed) + 1;
        Some(Taken { place: chosen, is_spent: delivered == it.delivered_max.load(Relaxed) })
    }
}

impl Place {
    fn is_open(&self, now: Instant) -> bool {
        self.word.load(SeqCst) & OPEN != 0 && self.suspended_until.load(SeqCst) <= now.0
    }

    fn has_room(&self, now: Instant) -> bool {
        let executing = self.word.load(SeqCst) & !OPEN;
        self.is_open(now) && executing < self.limit.load(SeqCst)
    }

    /// Counts one more request, if it is open and has room.
    fn enter(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        self.word
            .fetch_update(SeqCst, SeqCst, |word| {
                (word & OPEN != 0 && word & !OPEN < limit).then_some(word + 1)
            })
            .is_ok()
    }
}
