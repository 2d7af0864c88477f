//! Endings: a descriptor closes only after the last operation on it has ended.

use super::{Op, Uring};
use crate::sys::engine::slot::Flags;
use crate::sys::engine::{Completion, calls};
use std::net::Shutdown;

impl Uring {
    pub(super) fn carry_out_ending(&mut self, index: u32) {
        let slot = self.slot(index);
        let is_written = slot.backlog_len() == 0 || slot.flags.any(Flags::UNWRITABLE);
        if slot.flags.any(Flags::CLOSING) {
            return;
        }
        if slot.flags.any(Flags::CLOSE_NOW) || slot.flags.any(Flags::CLOSE_DUE) && is_written {
            self.close(index);
        } else if slot.flags.any(Flags::SHUTDOWN_DUE) && is_written {
            self.counters.calls += 1;
            calls::shut_down(&self.table.borrow(index), Shutdown::Write);
        }
    }

    fn close(&mut self, index: u32) {
        let id = self.table.id(index);
        let slot = self.slot(index);
        slot.flags.set(Flags::CLOSING);
        let flags = slot.flags;
        self.counters.calls += 1;
        let fd = self.table.borrow(index);
        let is_shut = if flags.any(Flags::RESET) {
            calls::linger_not(&fd);
            false
        } else {
            // A shutdown ends what waits on the socket, receives and sends, by itself.
            calls::shut_down(&fd, Shutdown::Both)
        };
        if flags.any(Flags::CONNECT_ARMED) {
            self.cancel(Op::Connect, id);
        }
        if !is_shut {
            self.cancel_receive(index);
            if flags.any(Flags::FLUSH_ARMED) {
                self.cancel(Op::Flush, id);
            }
        }
        self.try_close(index);
    }

    /// Closes unless an operation is still in flight; its completion tries again.
    pub(super) fn try_close(&mut self, index: u32) {
        let slot = self.slot(index);
        if slot.flags.any(Flags::IN_FLIGHT) {
            return;
        }
        let unsent = slot.unsent();
        let id = self.table.id(index);
        drop(self.table.remove(index));
        self.counters.calls += 1;
        self.ready.push_back(Completion::Closed { id, unsent });
        self.resume_doors();
    }
}
