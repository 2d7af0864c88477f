//! Connects to UNIX sockets whose listening queue is full. The kernel refuses them at once (EAGAIN,
//! connect(2)), though the server is well: they are tried again, as TCP would by itself, until the
//! owner gives up.

use super::calls;
use super::slot::{Flags, Table};
use crate::base::id::SocketId;
use crate::base::time::Instant;
use crate::sys::clock;
use crate::sys::errno::errno_of;
use socket2::{SockAddr, SockRef};
use std::collections::VecDeque;
use std::time::Duration;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);
/// Tries in one turn; whoever is left comes first in the next.
const TRIES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Queueing {
    waiting: VecDeque<(SocketId, SockAddr)>,
    due: Option<Instant>,
}

impl Queueing {
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The socket is in the table, marked as connecting.
    pub(super) fn join(&mut self, id: SocketId, target: SockAddr) {
        self.waiting.push_back((id, target));
        self.due.get_or_insert_with(|| clock::now() + PAUSE);
    }

    /// Tries again if it is time. What was decided: connected, or refused.
    pub(super) fn retry(&mut self, table: &mut Table, decided: &mut Vec<(SocketId, bool)>) {
        let Some(due) = self.due else { return };
        let now = clock::now();
        if now < due {
            return;
        }
        for _ in 0..self.waiting.len().min(TRIES_MAX) {
            let Some((id, target)) = self.waiting.pop_front() else { break };
            // Whoever was given up meanwhile is gone from the table.
            let Some(slot) = table.find(id) else { continue };
            let outcome = SockRef::from(slot.fd()).connect(&target).map_err(|e| errno_of(&e));
            match outcome {
                Err(errno) if calls::is_queue_full(errno) => self.waiting.push_back((id, target)),
                outcome => {
                    slot.flags.clear(Flags::CONNECTING);
                    decided.push((id, outcome.is_ok()));
                }
            }
        }
        self.due = (!self.waiting.is_empty()).then(|| now + PAUSE);
    }
}
