//! Which pool may start a worker: in turn, few at once, and never more workers than the server is
//! to have.

use super::seam::{Order, PoolId};
use super::{Mode, Supervisor};
use crate::base::time::Instant;
use crate::machine::pool::seam as pool;
use alloc::vec::Vec;

/// Starts at once over all pools: each costs a processor for a while.
pub(super) const STARTS_MAX: usize = 4;

impl Supervisor {
    /// While the listener drains, what it still has may need workers.
    pub(super) fn grant_starts(&mut self, now: Instant, out: &mut Vec<Order>) {
        if !matches!(self.mode, Mode::Running | Mode::Draining) {
            return;
        }
        let mut ids: Vec<PoolId> = self.pools.keys().copied().collect();
        let after = ids.partition_point(|id| *id <= self.turn);
        ids.rotate_left(after);
        let mut starting = self.pools.values().filter(|it| it.pool.is_starting()).count();
        for id in ids {
            if starting >= STARTS_MAX {
                return;
            }
            let has_room = self.alive() < self.workers_max;
            let Some(member) = self.pools.get_mut(&id) else { continue };
            let wants = member.pool.wants_start(now);
            let was_denied = core::mem::replace(&mut member.is_denied, wants && !has_room);
            if wants && has_room {
                starting += 1;
                self.turn = id;
                self.feed(now, id, pool::Input::MayStart, out);
            } else if wants && !was_denied {
                self.feed(now, id, pool::Input::MayNotStart, out);
            }
        }
    }
}
