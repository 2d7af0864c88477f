//! Writing, the backlog, and endings.

use super::Epoll;
use crate::base::id::SocketId;
use crate::sys::engine::outgoing::{self, PIECES_MAX, Rest};
use crate::sys::engine::slot::Flags;
use crate::sys::engine::{Completion, calls};
use std::mem;
use std::net::Shutdown;

impl Epoll {
    /// Carries out the turn's writes, then the endings, which come after them.
    pub(super) fn flush(&mut self, arena: &[u8]) {
        let mut sockets = mem::take(&mut self.outgoing.sockets);
        for index in sockets.drain(..) {
            self.write(index, arena);
            if let Some(slot) = self.table.at(index) {
                slot.unchain();
            }
        }
        self.outgoing.clear();
        self.outgoing.sockets = sockets;
        let mut endings = mem::take(&mut self.endings);
        for index in endings.drain(..) {
            if self.table.at(index).is_some_and(|slot| slot.flags.take(Flags::IN_ENDINGS)) {
                self.carry_out_ending(index);
            }
        }
        self.endings = endings;
    }

    fn write(&mut self, index: u32, arena: &[u8]) {
        let slot = self.slot(index);
        if slot.backlog_len() > 0 || slot.flags.any(Flags::UNWRITABLE) {
            return self.put_back(index, 0, arena);
        }
        let first = slot.first;
        self.iovecs.clear();
        let pieces = self.outgoing.chain(first);
        let iovecs = pieces.map(|piece| outgoing::iovec(piece.bytes(&self.store, arena)));
        self.iovecs.extend(iovecs.take(PIECES_MAX));
        self.counters.calls += 1;
        let fd = self.table.borrow(index);
        if let Ok(sent) = calls::send_gathered(&fd, &mut self.iovecs) {
            self.put_back(index, sent, arena);
        } else {
            let slot = self.table.at(index).expect("it was just written to");
            outgoing::lose(slot, &self.outgoing);
            self.make_unwritable(index);
        }
    }

    /// What was not taken of a chain, all but the first `sent` bytes, goes to the backlog.
    fn put_back(&mut self, index: u32, sent: usize, arena: &[u8]) {
        let Some(slot) = self.table.at(index) else { return };
        match outgoing::put_back(slot, &self.outgoing, &self.store, arena, sent) {
            Rest::Quiet => {}
            Rest::Overflow => self.make_unwritable(index),
            Rest::Formed => {
                let bytes = slot.backlog_len();
                self.counters.sends_short += 1;
                let id = self.table.id(index);
                self.ready.push_back(Completion::Backlog { id, bytes });
            }
        }
    }

    /// The kernel has room again: writes on. A short write is followed by another edge.
    pub(super) fn flush_backlog(&mut self, id: SocketId) {
        loop {
            let slot = self.slot(id.index);
            let outcome = slot.send_front();
            match outcome {
                Ok((0, _)) => {
                    slot.trim();
                    self.list_ending(id.index);
                    break;
                }
                Ok((offered, sent)) => {
                    slot.extra().backlog.advance(sent);
                    self.counters.calls += 1;
                    if sent < offered {
                        break;
                    }
                }
                Err(_) => return self.make_unwritable(id.index),
            }
        }
        let bytes = self.slot(id.index).backlog_len();
        self.ready.push_back(Completion::Backlog { id, bytes });
    }

    /// The socket takes nothing more: drops its backlog and says so, once.
    fn make_unwritable(&mut self, index: u32) {
        let id = self.table.id(index);
        let slot = self.slot(index);
        slot.drop_backlog();
        if !slot.flags.any(Flags::UNWRITABLE) {
            slot.flags.set(Flags::UNWRITABLE);
            if !slot.flags.any(Flags::CLOSE_DUE) {
                self.ready.push_back(Completion::Unwritable { id });
            }
        }
        self.list_ending(index);
    }

    /// Has the next turn carry out an ending that waited for the backlog.
    fn list_ending(&mut self, index: u32) {
        let slot = self.slot(index);
        let is_due = slot.flags.any(Flags::SHUTDOWN_DUE) || slot.flags.any(Flags::CLOSE_DUE);
        if is_due && !slot.flags.any(Flags::IN_ENDINGS) {
            slot.flags.set(Flags::IN_ENDINGS);
            self.endings.push(index);
        }
    }

    fn carry_out_ending(&mut self, index: u32) {
        let slot = self.slot(index);
        let flags = slot.flags;
        let is_written = slot.backlog_len() == 0;
        if flags.any(Flags::CLOSE_NOW) || flags.any(Flags::CLOSE_DUE) && is_written {
            self.close(index);
        } else if flags.any(Flags::SHUTDOWN_DUE) && is_written {
            self.counters.calls += 1;
            calls::shut_down(&self.table.borrow(index), Shutdown::Write);
        }
    }

    fn close(&mut self, index: u32) {
        let id = self.table.id(index);
        let slot = self.slot(index);
        let unsent = slot.unsent();
        let is_reset = slot.flags.any(Flags::RESET);
        self.counters.calls += 3;
        let fd = self.table.borrow(index);
        // Leaving the set by hand: a duplicate elsewhere would keep the socket in it.
        let _ = self.poll.delete(fd);
        if is_reset {
            calls::linger_not(&fd);
        } else {
            calls::shut_down(&fd, Shutdown::Both);
        }
        drop(self.table.remove(index));
        self.ready.push_back(Completion::Closed { id, unsent });
        self.resume_doors();
    }
}
