//! All pools, and what is theirs together: how many processes there may be, and how many of them
//! may be starting.

use super::seam::{Order, PoolId, PoolPlan};
use crate::base::time::Instant;
use crate::machine::pool::Pool;
use crate::machine::pool::seam::{Input, Order as PoolOrder, View};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Starts of all pools together that are not ready yet: more at once make each slower.
const STARTS_MAX: usize = 4;

#[derive(Debug)]
struct Entry {
    pool: Pool,
    is_planned: bool,
    /// No worker is left but orphans.
    is_over: bool,
    /// It was told that there is no room, and nothing has changed since.
    is_refused: bool,
}

#[derive(Debug)]
pub(super) struct Pools {
    seed: u64,
    pools: BTreeMap<PoolId, Entry>,
    workers_max: u32,
    /// Whose turn it was last.
    turn: PoolId,
    /// When it was told last how many there are.
    alive: u32,
}

impl Pools {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, pools: BTreeMap::new(), workers_max: 0, turn: PoolId(0), alive: 0 }
    }

    pub(super) fn plan(
        &mut self,
        now: Instant,
        plans: Vec<PoolPlan>,
        workers_max: u32,
        out: &mut Vec<Order>,
    ) {
        self.workers_max = workers_max;
        for entry in self.pools.values_mut() {
            (entry.is_planned, entry.is_refused) = (false, false);
        }
        for PoolPlan { id, garden, is_changed, adopted } in plans {
            let seed = self.seed ^ u64::from(id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let is_new = !self.pools.contains_key(&id);
            let entry = self.pools.entry(id).or_insert_with(|| Entry {
                pool: Pool::new(now, seed),
                is_planned: true,
                is_over: false,
                is_refused: false,
            });
            (entry.is_planned, entry.is_over) = (true, false);
            // Planned first: then it knows what of the adopted it may keep.
            self.tell(now, id, Input::Planned { garden, is_changed: is_changed && !is_new }, out);
            if is_new && !adopted.is_empty() {
                self.tell(now, id, Input::Adopted(adopted), out);
                if is_changed {
                    self.tell(now, id, Input::Released, out);
                }
            }
        }
        let surplus: Vec<PoolId> =
            self.pools.iter().filter(|(_, entry)| !entry.is_planned).map(|(id, _)| *id).collect();
        for id in surplus {
            self.tell(now, id, Input::Removed, out);
        }
    }

    pub(super) fn tell(&mut self, now: Instant, id: PoolId, input: Input, out: &mut Vec<Order>) {
        let Some(entry) = self.pools.get_mut(&id) else { return };
        let mut orders = Vec::new();
        entry.pool.step(now, input, &mut orders);
        for order in orders {
            if order == PoolOrder::Over {
                entry.is_over = true;
            } else {
                out.push(Order::Pool { pool: id, order });
            }
        }
    }

    pub(super) fn tell_all(&mut self, now: Instant, input: &Input, out: &mut Vec<Order>) {
        let ids: Vec<PoolId> = self.pools.keys().copied().collect();
        for id in ids {
            self.tell(now, id, input.clone(), out);
        }
    }

    pub(super) fn wake(&mut self, now: Instant, out: &mut Vec<Order>) {
        let late = self.pools.iter().filter(|(_, entry)| entry.pool.deadline() <= now);
        let late: Vec<PoolId> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.tell(now, id, Input::Woken, out);
        }
    }

    /// Lets pools that want a worker start one, in turn, while there is room.
    pub(super) fn grant(&mut self, now: Instant, out: &mut Vec<Order>) {
        let alive = self.alive();
        if alive < core::mem::replace(&mut self.alive, alive) {
            for entry in self.pools.values_mut() {
                entry.is_refused = false;
            }
        }
        while let Some(id) = self.next(now) {
            let is_full = self.alive() >= self.workers_max;
            let starting = self.pools.values().filter(|entry| entry.pool.is_starting()).count();
            if is_full {
                self.refuse(now, out);
                return;
            }
            if starting >= STARTS_MAX {
                return;
            }
            self.turn = id;
            self.tell(now, id, Input::MayStart, out);
            self.alive = self.alive();
        }
    }

    /// The next pool that wants to start a worker.
    fn next(&self, now: Instant) -> Option<PoolId> {
        let wants = |(_, entry): &(&PoolId, &Entry)| entry.pool.wants_start(now);
        let after = self.pools.range(PoolId(self.turn.0.saturating_add(1))..);
        let found = after.chain(self.pools.range(..=self.turn)).find(wants);
        found.map(|(id, _)| *id)
    }

    fn refuse(&mut self, now: Instant, out: &mut Vec<Order>) {
        let refused: Vec<PoolId> = self
            .pools
            .iter_mut()
            .filter(|(_, entry)| entry.pool.wants_start(now))
            .filter_map(|(id, entry)| {
                let was_refused = core::mem::replace(&mut entry.is_refused, true);
                (!was_refused).then_some(*id)
            })
            .collect();
        for id in refused {
            self.tell(now, id, Input::MayNotStart, out);
        }
    }

    /// Pools that are no more.
    pub(super) fn forget(&mut self, is_ending: bool, out: &mut Vec<Order>) {
        let over =
            self.pools.extract_if(.., |_, entry| entry.is_over && (is_ending || !entry.is_planned));
        out.extend(over.map(|(pool, _)| Order::Forget { pool }));
    }

    /// Processes, orphans not counted.
    fn alive(&self) -> u32 {
        self.pools.values().map(|entry| entry.pool.alive()).sum()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.pools.values().map(|entry| entry.pool.deadline()).fold(Instant::NEVER, Instant::min)
    }

    pub(super) fn have_come_up(&self) -> bool {
        self.pools.values().all(|entry| !entry.is_planned || entry.pool.has_come_up())
    }

    pub(super) fn view(&self, id: PoolId, now: Instant) -> Option<View> {
        self.pools.get(&id).map(|entry| entry.pool.view(now))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }
}
