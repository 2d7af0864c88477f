//! The gate of one garden: which workers take requests, how many each runs, and who waits. Shared
//! by all listener threads of a process; atomics and lock-free queues only.
//!
//! A worker has a *place* here from its admission until it is dismissed. A request takes a slot of
//! a place, or leaves a *ticket* and waits; a slot that becomes free goes to the oldest ticket, on
//! whichever thread that waits. Who came later never overtakes: while anybody waits, newcomers
//! leave tickets too.
//!
//! No wake-up is lost because each step that could bring a ticket and a free slot together (a
//! ticket left or put back, a slot given back, a place opened, closed or suspended, the pool
//! resumed, tickets swept) is followed by [`Gate::pump`] until `Nothing`, and all of them are
//! sequentially consistent: of two steps at the same time, the later one's pump sees both. A pump
//! that holds a slot and finds its ticket gone to another thread gives the slot back and looks
//! again, for what others did not get because of it. `model.rs` has loom walk through this.

mod line;
#[cfg(test)]
#[cfg(gate_model)]
mod model;
mod place;
mod sync;
#[cfg(test)]
#[cfg(not(gate_model))]
mod tests;

use crate::base::id::{ServerIndex, SocketId};
use crate::base::limits::{PLACES_MAX, WORKERS_MAX};
use crate::base::time::Instant;
use crate::machine::pool::seam::{Figures, Standing};
use crate::plan::garden::Dispatch;
use alloc::boxed::Box;
use line::Line;
use once_cell::race::OnceBox;
use place::Place;
use sync::{AtomicBool, AtomicU8, AtomicU32, Relaxed, SeqCst};

/// A request that waits: on which thread, for which client. `serial` tells it from an earlier
/// request of the same client that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub thread: u16,
    pub client: SocketId,
    pub serial: u32,
}

/// A slot was taken for a request that waits: its thread is to be told, and either uses it (then
/// the request has left the queue: [`Gate::leave`]) or gives it back with [`Gate::decline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub ticket: Ticket,
    pub taken: Taken,
}

/// A slot of a worker, taken for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub place: ServerIndex,
    /// With this one the worker has had as many requests as it was to have. Said once.
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

/// What a turn of [`Gate::pump`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    Granted(Grant),
    /// A closed place has nothing running any more, as after [`Gate::release`].
    Emptied(ServerIndex),
    /// Nobody waits, or nothing is free.
    Nothing,
}

const RUNNING: u8 = 0;
const PAUSED: u8 = 1;
const STOPPED: u8 = 2;
const TRIPPED: u8 = 3;

/// The gate of one garden.
#[derive(Debug)]
pub struct Gate {
    places: Box<[Place]>,
    /// Places at and above this were never open.
    used: AtomicU32,
    /// Tickets that were put back, before all others.
    returned: Line,
    common: Line,
    /// Tickets pinned to a slot; made with the first of them.
    pinned: OnceBox<Box<[Line]>>,
    /// Requests that wait, at most `limit` but for those put back. A request whose ticket was
    /// granted a slot counts until its thread knows; one that has left does not.
    waiting: AtomicU32,
    limit: AtomicU32,
    standing: AtomicU8,
    is_least_busy: AtomicBool,
    may_grow: AtomicBool,
    is_wanting: AtomicBool,
    /// Places that are suspended.
    suspended: AtomicU32,
    /// Counts strays granted, so that none of the slots that nobody serves is always the last.
    rotation: AtomicU32,
    /// Tickets are out of their lines for a moment; who sweeps pumps for all afterwards.
    is_sweeping: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        Self::with_places(PLACES_MAX)
    }
}

/// The control side.
impl Gate {
    /// A gate for so many workers at a time, at most [`PLACES_MAX`].
    pub fn with_places(places: usize) -> Self {
        Self {
            places: (0..places.min(PLACES_MAX)).map(|_| Place::new()).collect(),
            used: AtomicU32::new(0),
            returned: Line::new(),
            common: Line::new(),
            pinned: OnceBox::new(),
            waiting: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            standing: AtomicU8::new(RUNNING),
            is_least_busy: AtomicBool::new(false),
            may_grow: AtomicBool::new(false),
            is_wanting: AtomicBool::new(false),
            suspended: AtomicU32::new(0),
            rotation: AtomicU32::new(0),
            is_sweeping: AtomicBool::new(false),
        }
    }

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
        (0..)
            .map(ServerIndex)
            .zip(&self.places)
            .find_map(|(place, it)| (it.is_vacant() && !is_taken(place)).then_some(place))
    }

    /// A worker takes requests from now on: at most `slots` at once (0 = any number), and after
    /// `delivered_max` (0 = never) it is spent. Pump afterwards.
    pub fn open(&self, place: ServerIndex, slot: u16, slots: u32, delivered_max: u64) {
        self.used.fetch_max(u32::from(place.0) + 1, SeqCst);
        self.is_wanting.store(false, SeqCst);
        self.resume_place(self.place(place), Instant::NEVER);
        self.place(place).open(slot, slots, delivered_max);
    }

    /// A worker takes so many requests at once from now on (0 = any number). Pump afterwards.
    pub fn resize(&self, place: ServerIndex, slots: u32) {
        self.place(place).resize(slots);
    }

    /// It takes no more. True: nothing runs on it, and nobody else will say so. Pump afterwards:
    /// tickets pinned to its slot may go elsewhere.
    pub fn close(&self, place: ServerIndex) -> bool {
        self.place(place).close()
    }

    /// Closed, and nothing runs on it.
    pub fn is_empty(&self, place: ServerIndex) -> bool {
        self.place(place).is_vacant()
    }

    pub fn figures(&self, place: ServerIndex) -> Figures {
        self.place(place).figures()
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
        let pin = pin.map(usize::from).filter(|slot| self.is_served(now, *slot, avoided));
        let place = self.enter(turn, |place, it| {
            it.has_room(now) && Some(place) != avoided && pin.is_none_or(|slot| it.slot() == slot)
        });
        place.map(|place| self.deliver(place)).ok_or(Busy::Wait)
    }

    /// Leaves a ticket; false when too many wait already. Pump afterwards.
    pub fn wait(&self, ticket: Ticket, pin: Option<u16>) -> bool {
        let limit = self.limit.load(SeqCst);
        let one_more = |n: u32| (n < limit).then_some(n.wrapping_add(1));
        // Counted before it can be seen: what waits is never taken for nothing.
        let is_admitted = self.waiting.fetch_update(SeqCst, SeqCst, one_more).is_ok();
        if is_admitted {
            let pinned = pin.and_then(|slot| self.lines().get(usize::from(slot)));
            pinned.unwrap_or(&self.common).push(ticket);
        }
        is_admitted
    }

    /// Leaves a ticket before all others, limit or not: the request was given to a worker that
    /// never saw it. Pump afterwards.
    pub fn put_back(&self, ticket: Ticket) {
        self.waiting.fetch_add(1, SeqCst);
        self.returned.push(ticket);
    }

    /// A request waits no more: it was granted a slot and uses it, or it has left, and its ticket
    /// is dead until it is granted a slot or swept.
    pub fn leave(&self) {
        let before = self.waiting.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a request leaves once");
    }

    /// Gives a slot back. True: the place is closed and nothing runs on it any more. Pump
    /// afterwards.
    pub fn release(&self, place: ServerIndex) -> bool {
        self.place(place).leave()
    }

    /// Gives a slot back that was granted to a dead ticket, as [`Gate::release`]; the request does
    /// not count as delivered.
    pub fn decline(&self, place: ServerIndex) -> bool {
        self.place(place).undeliver();
        self.release(place)
    }

    /// Brings together a ticket and a free slot, if there are both. To be called until `Nothing`.
    pub fn pump(&self, now: Instant, turn: &mut u16) -> Pumped {
        loop {
            self.resume(now);
            // What was changed before is seen by all before this looks at what they changed.
            sync::order();
            if self.waiting.load(SeqCst) == 0
                || self.standing.load(SeqCst) != RUNNING
                || self.is_sweeping.load(SeqCst)
            {
                return Pumped::Nothing;
            }
            let stray = self.stray(now);
            let is_wanted = |it: &Place| {
                stray.is_some()
                    || !self.returned.is_empty()
                    || !self.common.is_empty()
                    || self.line(it.slot()).is_some_and(|line| !line.is_empty())
            };
            let has_both = |_, it: &Place| it.has_room(now) && is_wanted(it);
            let Some(place) = self.enter(turn, has_both) else { return Pumped::Nothing };
            if let Some(ticket) = self.next_ticket(place, stray) {
                return Pumped::Granted(Grant { ticket, taken: self.deliver(place) });
            }
            // Another thread was faster; and who came meanwhile may have missed this slot.
            if self.release(place) {
                return Pumped::Emptied(place);
            }
        }
    }

    /// Drops dead tickets. A thread that has more than the greater of 64 and the queue's limit calls
    /// this, so that tickets are bounded though no slot ever becomes free. False: another thread
    /// is at it. Pump afterwards. Nobody is granted a slot meanwhile but by a pump that was
    /// under way, which may take a ticket out of turn.
    pub fn sweep(&self, mut is_dead: impl FnMut(Ticket) -> bool) -> bool {
        if self.is_sweeping.swap(true, SeqCst) {
            return false;
        }
        self.all_lines().for_each(|line| line.sweep(&mut is_dead));
        self.is_sweeping.store(false, SeqCst);
        true
    }

    /// True when the supervisor is to be asked for another worker; once, until it has answered.
    pub fn wants(&self) -> bool {
        self.may_grow.load(SeqCst)
            && !self.is_wanting.load(SeqCst)
            && !self.is_wanting.swap(true, SeqCst)
    }

    /// True when somebody waits and no slot is free: demand for another worker, as seen after a
    /// pump. Who waits for a slot that is pinned, while others are free, is no such demand.
    pub fn is_short(&self, now: Instant) -> bool {
        self.waiting.load(SeqCst) > 0
            && self.standing.load(SeqCst) == RUNNING
            && self.all_lines().any(|line| !line.is_empty())
            && !self.places().any(|(_, it)| it.has_room(now))
    }

    /// True when each worker executes something: where slots are not counted, that is demand.
    pub fn is_all_busy(&self) -> bool {
        self.may_grow.load(Relaxed)
            && self.places().all(|(_, it)| it.is_closed() || it.executing() > 0)
    }

    /// Its process refused a connection: others first, until then. Pump afterwards, for those
    /// pinned to it, and again as soon as that time has come.
    pub fn suspend(&self, place: ServerIndex, until: Instant) {
        // Counted before it can be seen, so that whoever ends it has something to take away.
        self.suspended.fetch_add(1, SeqCst);
        if !self.place(place).suspend(until) {
            self.suspended.fetch_sub(1, SeqCst);
        }
    }

    /// When the next suspension that goes on ends.
    pub fn resumes_at(&self, now: Instant) -> Instant {
        let ends = self.places().map(|(_, it)| it.suspended_until());
        ends.filter(|until| *until > now).min().unwrap_or(Instant::NEVER)
    }

    /// Bytes of a response came.
    pub fn answered(&self, now: Instant, place: ServerIndex) {
        self.place(place).answered(now);
    }

    fn place(&self, place: ServerIndex) -> &Place {
        &self.places[usize::from(place.0)]
    }

    fn places(&self) -> impl Iterator<Item = (ServerIndex, &Place)> {
        let used = self.used.load(SeqCst) as usize;
        (0..).map(ServerIndex).zip(&self.places[..used])
    }

    fn all_lines(&self) -> impl Iterator<Item = &Line> {
        let pinned = self.pinned.get().into_iter().flatten();
        [&self.returned, &self.common].into_iter().chain(pinned)
    }

    /// Of each slot.
    fn lines(&self) -> &[Line] {
        let slots = self.places.len().min(WORKERS_MAX);
        self.pinned.get_or_init(|| Box::new((0..slots).map(|_| Line::new()).collect()))
    }

    /// Who is pinned to a slot, if anybody ever was to any.
    fn line(&self, slot: usize) -> Option<&Line> {
        self.pinned.get()?.get(slot)
    }

    /// Whether a worker of the slot is open.
    fn is_served(&self, now: Instant, slot: usize, avoided: Option<ServerIndex>) -> bool {
        self.places()
            .any(|(place, it)| it.slot() == slot && it.is_served(now) && Some(place) != avoided)
    }

    /// A slot that no worker serves and that tickets are pinned to: they may go anywhere.
    fn stray(&self, now: Instant) -> Option<usize> {
        let lines = self.pinned.get()?;
        let start = self.rotation.load(Relaxed) as usize;
        let mut slots = (0..lines.len()).map(|step| (start + step) % lines.len());
        slots.find(|slot| !lines[*slot].is_empty() && !self.is_served(now, *slot, None))
    }

    /// A time passes once for all threads, though each reads its own clock: who sees first that
    /// a suspension is over ends it for those whose clocks are behind.
    fn resume(&self, now: Instant) {
        if self.suspended.load(SeqCst) > 0 {
            self.places().for_each(|(_, it)| self.resume_place(it, now));
        }
    }

    fn resume_place(&self, place: &Place, now: Instant) {
        if place.resume(now) {
            self.suspended.fetch_sub(1, SeqCst);
        }
    }

    /// Takes a slot of an eligible place: the next after `turn`, or the one that executes least.
    fn enter(
        &self,
        turn: &mut u16,
        is_eligible: impl Fn(ServerIndex, &Place) -> bool,
    ) -> Option<ServerIndex> {
        let used = u16::try_from(self.used.load(SeqCst)).unwrap_or(u16::MAX);
        let start = u32::from(*turn);
        let places = || {
            (1..=u32::from(used))
                .filter_map(move |step| u16::try_from((start + step) % u32::from(used)).ok())
                .map(|place| (ServerIndex(place), &self.places[usize::from(place)]))
                .filter(|(place, it)| is_eligible(*place, it))
        };
        let chosen = if self.is_least_busy.load(Relaxed) {
            loop {
                let (place, it) = places().min_by_key(|(_, it)| it.executing())?;
                if it.enter() {
                    break place;
                }
            }
        } else {
            places().find_map(|(place, it)| it.enter().then_some(place))?
        };
        *turn = chosen.0;
        Some(chosen)
    }

    /// For a slot of this place: who was put back, then by turns who is pinned to its slot, who is
    /// pinned to one that nobody serves, and who is not, so that none waits for ever for the others.
    fn next_ticket(&self, place: ServerIndex, stray: Option<usize>) -> Option<Ticket> {
        if let Some(ticket) = self.returned.pop() {
            return Some(ticket);
        }
        let it = self.place(place);
        let common = || self.common.pop();
        let own = || self.line(it.slot())?.pop();
        let stray = || {
            let ticket = self.line(stray?)?.pop()?;
            self.rotation.fetch_add(1, Relaxed);
            Some(ticket)
        };
        match it.rotate() % 3 {
            0 => own().or_else(common).or_else(stray),
            1 => common().or_else(stray).or_else(own),
            _ => stray().or_else(own).or_else(common),
        }
    }

    fn deliver(&self, place: ServerIndex) -> Taken {
        Taken { place, is_spent: self.place(place).deliver() }
    }
}
