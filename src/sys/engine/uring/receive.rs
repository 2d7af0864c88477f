//! Reading: arming receives, what they bring, and what is kept for a socket on hold.

use super::{Cqe, LARGE, Op, SMALL, SMALL_SIZE, Uring};
use crate::base::id::SocketId;
use crate::sys::engine::slot::Flags;
use crate::sys::engine::{Buffer, Completion, store};
use io_uring::{cqueue, opcode, squeue, types};
use nix::errno::Errno;
use std::mem;
use std::ptr;

/// Receives in a row that fill their block before a socket is taken for a bulk transfer.
const FULL_MAX: u8 = 4;

impl Uring {
    pub(in super::super) fn recv(&mut self, id: SocketId) {
        let Some(slot) = self.table.find(id) else { return };
        if slot.flags.any(Flags::WANTED) {
            return;
        }
        slot.flags.set(Flags::WANTED);
        let is_untold = slot.flags.any(Flags::ENDED_UNTOLD) || slot.flags.any(Flags::BROKEN_UNTOLD);
        if is_untold || slot.has_kept() {
            if !slot.flags.any(Flags::IN_DELIVERIES) {
                slot.flags.set(Flags::IN_DELIVERIES);
                self.deliveries.push_back(id.index);
            }
        } else {
            self.read(id.index);
        }
    }

    /// Leaves an armed receive alone: it is cancelled only if something comes of it.
    pub(in super::super) fn hold(&mut self, id: SocketId) {
        if let Some(slot) = self.table.find(id) {
            slot.flags.clear(Flags::WANTED);
        }
    }

    /// Has the next turn look whether a receive is to be armed.
    pub(super) fn read(&mut self, index: u32) {
        let slot = self.slot(index);
        if !slot.flags.any(Flags::IN_READING) {
            slot.flags.set(Flags::IN_READING);
            self.reading.push(index);
        }
    }

    pub(super) fn arm_reading(&mut self) {
        const BARRED: [Flags; 4] =
            [Flags::RECV_ARMED, Flags::NO_READING, Flags::READ_OUT, Flags::CONNECTING];
        let mut reading = mem::take(&mut self.reading);
        for index in reading.drain(..) {
            let Some(slot) = self.table.at(index) else { continue };
            if !slot.flags.take(Flags::IN_READING) || !slot.flags.any(Flags::WANTED) {
                continue;
            }
            if !slot.has_kept() && !BARRED.iter().any(|flags| slot.flags.any(*flags)) {
                self.arm_receive(index);
            }
        }
        self.reading = reading;
    }

    fn arm_receive(&mut self, index: u32) {
        let id = self.table.id(index);
        let slot = self.slot(index);
        slot.flags.set(Flags::RECV_ARMED);
        let fd = types::Fd(slot.raw());
        let entry = if slot.flags.any(Flags::BULK) {
            slot.flags.set(Flags::RECV_SINGLE);
            let entry = opcode::Recv::new(fd, ptr::null_mut(), 0);
            let entry = entry.buf_group(self.provided[LARGE].group()).build();
            entry.flags(squeue::Flags::BUFFER_SELECT).user_data(Op::RecvLarge.tag(id))
        } else {
            let entry = opcode::RecvMulti::new(fd, self.provided[SMALL].group()).build();
            entry.user_data(Op::Recv.tag(id))
        };
        self.push(&entry);
    }

    pub(super) fn received(&mut self, id: SocketId, group: usize, cqe: Cqe) -> Option<Completion> {
        let block = cqueue::buffer_select(cqe.flags);
        let block = block.filter(|block| self.provided[group].take(*block));
        let slot = self.table.find(id).expect("a socket closes after its last receive");
        if !cqueue::more(cqe.flags) {
            slot.flags.clear(Flags::RECV_ARMED);
            slot.flags.clear(Flags::RECV_CANCELLED);
            slot.flags.clear(Flags::RECV_SINGLE);
            if slot.flags.any(Flags::CLOSING) {
                self.try_close(id.index);
                return None;
            }
            self.read(id.index);
        }
        match (u32::try_from(cqe.result), block) {
            (Ok(len), Some(block)) if len > 0 => {
                self.choose_size(id.index, group, len, cqe.flags);
                self.took(id, Buffer { source: store::block(group, block), offset: 0, len })
            }
            (Ok(_), _) => self.reached_end(id.index, Flags::ENDED, Flags::ENDED_UNTOLD),
            (Err(_), _) => self.failed(id.index, group, Errno::from_raw(-cqe.result)),
        }
    }

    /// Many full blocks in a row mean a large body: then one large block at a time costs less than
    /// many small ones, and bounds what arrives before a hold is heeded.
    fn choose_size(&mut self, index: u32, group: usize, len: u32, flags: u32) {
        let slot = self.slot(index);
        if group == LARGE {
            if len < SMALL_SIZE && !cqueue::sock_nonempty(flags) {
                slot.flags.clear(Flags::BULK);
            }
            return;
        }
        slot.full = if len == SMALL_SIZE { slot.full + 1 } else { 0 };
        if slot.full >= FULL_MAX {
            slot.full = 0;
            slot.flags.set(Flags::BULK);
            self.cancel_receive(index);
        }
    }

    /// Ends an armed receive early; its last completion still comes.
    pub(super) fn cancel_receive(&mut self, index: u32) {
        let id = self.table.id(index);
        let slot = self.slot(index);
        if slot.flags.any(Flags::RECV_ARMED) && !slot.flags.any(Flags::RECV_CANCELLED) {
            slot.flags.set(Flags::RECV_CANCELLED);
            let is_single = slot.flags.any(Flags::RECV_SINGLE);
            self.cancel(if is_single { Op::RecvLarge } else { Op::Recv }, id);
        }
    }

    fn took(&mut self, id: SocketId, buffer: Buffer) -> Option<Completion> {
        let slot = self.table.find(id)?;
        if slot.flags.any(Flags::NO_READING) {
            return None;
        }
        if slot.flags.any(Flags::WANTED) && !slot.has_kept() {
            return Some(Completion::Received { id, buffer });
        }
        let bytes = self.store.bytes(buffer.source, buffer.offset, buffer.len);
        slot.extra().kept.extend_from_slice(bytes);
        if !slot.flags.any(Flags::WANTED) {
            // More comes than the other side takes: from now on one block at a time, so that no
            // more than that is ever kept here.
            slot.flags.set(Flags::BULK);
            self.cancel_receive(id.index);
        }
        None
    }

    /// Nothing more will come: told at once, or after `recv` when the socket is on hold.
    fn reached_end(&mut self, index: u32, fact: Flags, untold: Flags) -> Option<Completion> {
        let slot = self.slot(index);
        slot.flags.set(fact);
        slot.flags.set(untold);
        if slot.flags.any(Flags::WANTED) && !slot.has_kept() { self.tell_end(index) } else { None }
    }

    fn tell_end(&mut self, index: u32) -> Option<Completion> {
        let id = self.table.id(index);
        let slot = self.slot(index);
        if slot.flags.any(Flags::NO_READING) {
            return None;
        }
        if slot.flags.take(Flags::ENDED_UNTOLD) {
            return Some(Completion::Ended { id });
        }
        slot.flags.take(Flags::BROKEN_UNTOLD).then_some(Completion::Broken { id })
    }

    fn failed(&mut self, index: u32, group: usize, errno: Errno) -> Option<Completion> {
        match errno {
            Errno::ENOBUFS => {
                self.counters.buffers_exhausted += 1;
                self.provided[group].starved();
                self.is_starved = true;
                None
            }
            Errno::ECANCELED | Errno::EINTR | Errno::EAGAIN => None,
            _ => self.reached_end(index, Flags::BROKEN, Flags::BROKEN_UNTOLD),
        }
    }

    /// What was kept for a socket, now that it is wanted again: first bytes, then the end.
    pub(super) fn deliver(&mut self, index: u32) -> Option<Completion> {
        let slot = self.table.at(index)?;
        let is_listed = slot.flags.take(Flags::IN_DELIVERIES);
        if !is_listed || !slot.flags.any(Flags::WANTED) || slot.flags.any(Flags::NO_READING) {
            return None;
        }
        if !slot.has_kept() {
            return self.tell_end(index);
        }
        let kept = mem::take(&mut slot.extra().kept);
        slot.trim();
        if slot.flags.any(Flags::READ_OUT) {
            slot.flags.set(Flags::IN_DELIVERIES);
            self.delivering.push_front(index);
        } else {
            self.read(index);
        }
        let len = u32::try_from(kept.len()).expect("what one socket may keep is bounded");
        let buffer = Buffer { source: self.store.keep(kept), offset: 0, len };
        Some(Completion::Received { id: self.table.id(index), buffer })
    }
}
