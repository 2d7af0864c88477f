//! A timer wheel of wake-ups, not of deadlines: the owner is asked to look at a key at about a
//! time, compares with the real deadline, and puts the key back if it lies later. So a deadline
//! that only moves later (every request on a kept-alive connection) costs no timer operation.

use super::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// One tick is 2^22 ns, about 4.2 ms: the precision of every timeout.
const TICK_SHIFT: u32 = 22;
const SLOTS: usize = 1024;
const WORDS: usize = SLOTS / 64;

/// Furthest wake-up: keys that are due later are looked at once on the way.
pub const HORIZON: Duration = Duration::from_nanos(((SLOTS as u64) - 2) << TICK_SHIFT);

/// No node: the end of a slot's list, or of the free ones.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    key: u64,
    next: u32,
}

/// Keys in 1024 slots of one tick each, with a bitmap of the slots that hold any. A slot is a
/// list through one pool of nodes, so memory follows the number of keys, however they crowd.
#[derive(Debug)]
pub struct Wheel {
    /// First node of each slot.
    slots: Vec<u32>,
    nodes: Vec<Node>,
    free: u32,
    filled: [u64; WORDS],
    /// The tick up to which everything has been taken out.
    done: u64,
    count: usize,
}

impl Wheel {
    pub fn new(now: Instant) -> Self {
        Self {
            slots: alloc::vec![NONE; SLOTS],
            nodes: Vec::new(),
            free: NONE,
            filled: [0; WORDS],
            done: now.0 >> TICK_SHIFT,
            count: 0,
        }
    }

    /// Asks for `key` to come out at `at` or, if that is beyond the horizon, earlier.
    pub fn insert(&mut self, at: Instant, key: u64) {
        // Rounded up: a key never comes out before its time, or its owner would spin.
        let due = (at.0 >> TICK_SHIFT).saturating_add(1);
        let tick = due.clamp(self.done + 1, self.done + (SLOTS as u64) - 1);
        let slot = slot_of(tick);
        let node = Node { key, next: self.slots[slot] };
        self.slots[slot] = match self.free {
            NONE => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer keys than 2^32")
            }
            at => {
                self.free = self.nodes[at as usize].next;
                self.nodes[at as usize] = node;
                at
            }
        };
        self.filled[slot / 64] |= 1 << (slot % 64);
        self.count += 1;
    }

    /// Takes out what is due; `out` receives the keys in slot order.
    pub fn take_due(&mut self, now: Instant, out: &mut Vec<u64>) {
        let until = now.0 >> TICK_SHIFT;
        if self.count == 0 {
            self.done = self.done.max(until);
            return;
        }
        let last = until.min(self.done + SLOTS as u64);
        while self.done < last {
            self.done += 1;
            let slot = slot_of(self.done);
            if self.filled[slot / 64] & (1 << (slot % 64)) != 0 {
                self.empty(slot, out);
            }
        }
        self.done = self.done.max(until);
    }

    fn empty(&mut self, slot: usize, out: &mut Vec<u64>) {
        let mut at = core::mem::replace(&mut self.slots[slot], NONE);
        while at != NONE {
            let node = &mut self.nodes[at as usize];
            out.push(node.key);
            let next = core::mem::replace(&mut node.next, self.free);
            self.free = at;
            at = next;
            self.count -= 1;
        }
        self.filled[slot / 64] &= !(1 << (slot % 64));
    }

    /// When the next key comes out; [`Instant::NEVER`] when the wheel is empty.
    pub fn next(&self) -> Instant {
        if self.count == 0 {
            return Instant::NEVER;
        }
        let start = slot_of(self.done + 1);
        let mut offset = 0;
        while offset < SLOTS {
            let slot = (start + offset) % SLOTS;
            let word = self.filled[slot / 64] >> (slot % 64);
            if word != 0 {
                let tick = self.done + 1 + (offset as u64) + u64::from(word.trailing_zeros());
                return Instant(tick << TICK_SHIFT);
            }
            offset += 64 - slot % 64;
        }
        Instant::NEVER
    }
}

const fn slot_of(tick: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "reduced below 1024 first")]
    let slot = (tick % SLOTS as u64) as usize;
    slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    #[test]
    fn keys_come_out_once_never_early_and_at_most_a_tick_late() {
        let mut prng = Prng::new(7);
        let mut now = Instant(5_000_000_000);
        let mut wheel = Wheel::new(now);
        let mut waiting: Vec<(u64, Instant)> = Vec::new();
        let mut due = Vec::new();
        for key in 0..20_000u64 {
            let at = now + Duration::from_nanos(prng.below(4_000_000_000));
            wheel.insert(at, key);
            waiting.push((key, at));
            now = now + Duration::from_nanos(prng.below(3_000_000));
            let next = wheel.next();
            due.clear();
            wheel.take_due(now, &mut due);
            assert!(due.is_empty() || next <= now, "something came before next()");
            for key in &due {
                let place = waiting.iter().position(|(k, _)| k == key).expect("once");
                assert!(waiting.swap_remove(place).1 <= now, "early");
            }
            assert!(waiting.iter().all(|(_, at)| at.0 + (2 << TICK_SHIFT) > now.0), "late");
        }
    }

    #[test]
    fn far_keys_are_looked_at_on_the_way_and_a_jump_loses_none() {
        let mut wheel = Wheel::new(Instant(0));
        wheel.insert(Instant::NEVER, 1);
        assert!(wheel.next() <= Instant(0) + HORIZON + Duration::from_millis(5));
        let mut due = Vec::new();
        wheel.insert(Instant(1), 2);
        wheel.take_due(Instant(3_600_000_000_000), &mut due);
        due.sort_unstable();
        assert_eq!(due, [1, 2]);
        assert_eq!(wheel.next(), Instant::NEVER);
    }
}
