//! One worker's place in a gate: whether it takes requests, and how many it executes.

use super::sync::{AtomicBool, AtomicU32, AtomicU64, Relaxed, SeqCst};
use crate::base::time::Instant;
use crate::machine::pool::seam::Figures;

const OPEN: u32 = 1 << 31;
const NO_LIMIT: u32 = OPEN - 1;

/// One worker's place. Cache lines of its own: each request writes to it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Place {
    /// [`OPEN`], and how many requests it executes.
    word: AtomicU32,
    /// Requests at once; [`NO_LIMIT`] = any number.
    limit: AtomicU32,
    slot: AtomicU32,
    /// Not to be chosen before this time, in nanoseconds: its process refused a connection.
    suspended_until: AtomicU64,
    delivered: AtomicU64,
    delivered_max: AtomicU64,
    is_spent: AtomicBool,
    /// When the last byte of a response came, in nanoseconds.
    answered: AtomicU64,
    /// Counts tickets granted: whose turn it is among the kinds of those that wait.
    rotation: AtomicU32,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            slot: AtomicU32::new(0),
            suspended_until: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            delivered_max: AtomicU64::new(0),
            is_spent: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            rotation: AtomicU32::new(0),
        }
    }

    /// So many requests at once from now on; what runs above that goes on.
    pub(super) fn resize(&self, slots: u32) {
        let limit = if slots == 0 { NO_LIMIT } else { slots.min(NO_LIMIT) };
        self.limit.store(limit, SeqCst);
    }

    /// Of a vacant place.
    pub(super) fn open(&self, slot: u16, slots: u32, delivered_max: u64) {
        self.resize(slots);
        self.slot.store(u32::from(slot), SeqCst);
        self.delivered.store(0, SeqCst);
        self.delivered_max.store(delivered_max, SeqCst);
        self.is_spent.store(false, SeqCst);
        self.answered.store(0, SeqCst);
        self.word.fetch_or(OPEN, SeqCst);
    }

    /// True: it was open, and nothing runs on it.
    pub(super) fn close(&self) -> bool {
        self.word.fetch_and(!OPEN, SeqCst) == OPEN
    }

    /// Closed, and nothing runs on it.
    pub(super) fn is_vacant(&self) -> bool {
        self.word.load(SeqCst) == 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.word.load(SeqCst) & OPEN == 0
    }

    pub(super) fn executing(&self) -> u32 {
        self.word.load(SeqCst) & !OPEN
    }

    pub(super) fn slot(&self) -> usize {
        self.slot.load(SeqCst) as usize
    }

    /// Open, and to be chosen.
    pub(super) fn is_served(&self, now: Instant) -> bool {
        !self.is_closed() && self.suspended_until.load(SeqCst) <= now.0
    }

    pub(super) fn has_room(&self, now: Instant) -> bool {
        self.is_served(now) && self.executing() < self.limit.load(SeqCst)
    }

    /// Counts one more request, if it is open and has room.
    pub(super) fn enter(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        let one_more =
            |word: u32| (word & OPEN != 0 && word & !OPEN < limit).then_some(word.wrapping_add(1));
        self.word.fetch_update(SeqCst, SeqCst, one_more).is_ok()
    }

    /// One request less. True: it is closed, and nothing runs on it any more.
    pub(super) fn leave(&self) -> bool {
        let before = self.word.fetch_sub(1, SeqCst);
        debug_assert!(before & !OPEN > 0, "a slot is given back once");
        before == 1
    }

    /// Counts a request as given to the worker. True, once: it has had as many as it was to have.
    pub(super) fn deliver(&self) -> bool {
        let delivered = self.delivered.fetch_add(1, Relaxed) + 1;
        let delivered_max = self.delivered_max.load(Relaxed);
        delivered_max != 0
            && delivered >= delivered_max
            && !self.is_spent.load(Relaxed)
            && !self.is_spent.swap(true, SeqCst)
    }

    pub(super) fn undeliver(&self) {
        self.delivered.fetch_sub(1, Relaxed);
    }

    pub(super) fn suspended_until(&self) -> Instant {
        Instant(self.suspended_until.load(SeqCst))
    }

    /// True: it was not suspended before.
    pub(super) fn suspend(&self, until: Instant) -> bool {
        self.suspended_until.fetch_max(until.0.max(1), SeqCst) == 0
    }

    /// Forgets a suspension that is over. True: it was forgotten by this call.
    pub(super) fn resume(&self, now: Instant) -> bool {
        let until = self.suspended_until.load(SeqCst);
        until != 0
            && until <= now.0
            && self.suspended_until.compare_exchange(until, 0, SeqCst, SeqCst).is_ok()
    }

    pub(super) fn answered(&self, now: Instant) {
        self.answered.store(now.0, Relaxed);
    }

    /// A number that counts up with each call.
    pub(super) fn rotate(&self) -> u32 {
        self.rotation.fetch_add(1, Relaxed)
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            executing: self.executing(),
            delivered: self.delivered.load(Relaxed),
            answered: Instant(self.answered.load(Relaxed)),
        }
    }
}
