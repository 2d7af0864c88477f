//! Writing: the turn's pieces, and the backlog of what the kernel did not take of them.

use super::{Cqe, Op, Uring};
use crate::base::id::SocketId;
use crate::sys::engine::outgoing::{self, PIECES_MAX, Rest};
use crate::sys::engine::slot::{Flags, untag};
use crate::sys::engine::{Completion, calls};
use io_uring::{opcode, squeue, types};
use nix::errno::Errno;
use nix::libc;
use std::mem;

impl Uring {
    /// Queues the turn's writes, then carries out the endings, which come after them.
    pub(super) fn flush(&mut self, arena: &[u8]) {
        let sockets = mem::take(&mut self.outgoing.sockets);
        // Neither may move before the enter: entries point into both.
        self.iovecs.clear();
        self.iovecs.reserve(self.outgoing.count());
        self.messages.clear();
        self.messages.reserve(sockets.len());
        for index in &sockets {
            self.write(*index, arena);
        }
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
            self.put_back(index, 0, arena);
            return;
        }
        let first = slot.first;
        let is_single = slot.first == slot.last;
        let is_ending = slot.flags.any(Flags::IN_ENDINGS);
        let fd = types::Fd(slot.raw());
        let start = self.iovecs.len();
        let pieces = self.outgoing.chain(first).take(PIECES_MAX);
        self.iovecs.extend(pieces.map(|piece| outgoing::iovec(piece.bytes(&self.store, arena))));
        // More pieces than one call takes leave a rest that only a direct call tells of.
        if is_ending || self.iovecs.len() - start == PIECES_MAX {
            self.write_now(index, start, arena);
            return;
        }
        let tag = Op::Send.tag(self.table.id(index));
        // MSG_WAITALL makes a short send a failure, which posts a completion in spite of
        // SKIP_SUCCESS; MSG_DONTWAIT makes it one at once instead of a wait for room.
        let flags = calls::SEND_FLAGS | libc::MSG_WAITALL;
        let entry = if is_single {
            let iovec = self.iovecs[start];
            let len = u32::try_from(iovec.iov_len).expect("a piece is below 4 GiB");
            opcode::Send::new(fd, iovec.iov_base.cast(), len).flags(flags).build()
        } else {
            let message = message(&mut self.iovecs[start..]);
            self.messages.push(message);
            let message = self.messages.last().expect("just pushed");
            opcode::SendMsg::new(fd, message).flags(flags.cast_unsigned()).build()
        };
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag));
    }

    /// Writes without the ring, so that the ending that follows finds it done.
    fn write_now(&mut self, index: u32, start: usize, arena: &[u8]) {
        self.counters.calls += 1;
        let outcome = calls::send_gathered(&self.table.borrow(index), &mut self.iovecs[start..]);
        match outcome {
            Ok(sent) => self.put_back(index, sent, arena),
            Err(_) => self.fail_writing(index),
        }
    }

    /// A send that came short, or was refused.
    pub(super) fn settle_send(&mut self, cqe: Cqe, arena: &[u8]) {
        let id = untag(cqe.user_data);
        if self.table.find(id).is_none() {
            return;
        }
        match usize::try_from(cqe.result) {
            Ok(sent) => self.put_back(id.index, sent, arena),
            Err(_) => match Errno::from_raw(-cqe.result) {
                Errno::EAGAIN | Errno::EINTR => self.put_back(id.index, 0, arena),
                _ => self.fail_writing(id.index),
            },
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
                self.arm_flush(index);
                let id = self.table.id(index);
                self.ready.push_back(Completion::Backlog { id, bytes });
            }
        }
    }

    fn fail_writing(&mut self, index: u32) {
        let slot = self.table.at(index).expect("its send was just settled");
        outgoing::lose(slot, &self.outgoing);
        self.make_unwritable(index);
    }

    /// The socket takes nothing more: drops its backlog and says so, once.
    fn make_unwritable(&mut self, index: u32) {
        let id = self.table.id(index);
        let slot = self.slot(index);
        if !slot.flags.any(Flags::FLUSH_ARMED) {
            slot.drop_backlog();
        }
        if !slot.flags.any(Flags::UNWRITABLE) {
            slot.flags.set(Flags::UNWRITABLE);
            if !slot.flags.any(Flags::CLOSE_DUE) {
                self.ready.push_back(Completion::Unwritable { id });
            }
        }
        self.list_ending(index);
    }

    /// Sends the front of the backlog, however long that takes.
    fn arm_flush(&mut self, index: u32) {
        let tag = Op::Flush.tag(self.table.id(index));
        let slot = self.slot(index);
        slot.flags.set(Flags::FLUSH_ARMED);
        let fd = types::Fd(slot.raw());
        // The front stays in place until the completion, and the socket open.
        let front = slot.extra().backlog.front();
        let len = u32::try_from(front.len()).expect("a backlog is bounded");
        let entry = opcode::Send::new(fd, front.as_ptr(), len).flags(libc::MSG_NOSIGNAL);
        self.push(&entry.build().user_data(tag));
    }

    pub(super) fn flushed(&mut self, id: SocketId, cqe: Cqe) -> Option<Completion> {
        let slot = self.table.find(id).expect("a socket closes after its last send");
        slot.flags.clear(Flags::FLUSH_ARMED);
        if let Ok(sent) = usize::try_from(cqe.result) {
            slot.extra().backlog.advance(sent);
        }
        if slot.flags.any(Flags::CLOSING) {
            self.try_close(id.index);
            return None;
        }
        let is_failed =
            cqe.result < 0 && !matches!(Errno::from_raw(-cqe.result), Errno::EAGAIN | Errno::EINTR);
        if is_failed || slot.flags.any(Flags::UNWRITABLE) {
            self.make_unwritable(id.index);
            return None;
        }
        let bytes = slot.backlog_len();
        if bytes > 0 {
            self.arm_flush(id.index);
        } else {
            slot.trim();
            self.list_ending(id.index);
        }
        Some(Completion::Backlog { id, bytes })
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
}

fn message(iovecs: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: for this C structure of integers and pointers all zeroes is the empty message.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = iovecs.len();
    message
}
