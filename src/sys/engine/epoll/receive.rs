//! Reading: one receive at a time, each behind the last.

use super::{BLOCK_SIZE, BLOCKS, Epoll};
use crate::base::id::SocketId;
use crate::sys::engine::slot::Flags;
use crate::sys::engine::{Buffer, Completion, store};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::AsRawFd;

/// One receive asks for no more, and for no less.
const READ_MAX: u32 = 64 * 1024;
const READ_MIN: u32 = 16 * 1024;
/// Receives of one socket before the others have their turn.
const READS_MAX: u8 = 4;

impl Epoll {
    pub(in super::super) fn recv(&mut self, id: SocketId) {
        let Some(slot) = self.table.find(id) else { return };
        slot.flags.set(Flags::WANTED);
        self.read(id.index);
    }

    pub(in super::super) fn hold(&mut self, id: SocketId) {
        if let Some(slot) = self.table.find(id) {
            slot.flags.clear(Flags::WANTED);
        }
    }

    /// Has this turn read from a socket, if something may be there and is wanted.
    pub(super) fn read(&mut self, index: u32) {
        let slot = self.slot(index);
        let is_due = slot.flags.any(Flags::WANTED)
            && slot.flags.any(Flags::READABLE)
            && !slot.flags.any(Flags::READ_OUT);
        if is_due && !slot.flags.any(Flags::IN_READING) {
            slot.flags.set(Flags::IN_READING);
            self.reading.push_back(index);
        }
    }

    pub(super) fn receive(&mut self, index: u32) -> Option<Completion> {
        let slot = self.table.at(index)?;
        if !slot.flags.take(Flags::IN_READING)
            || !slot.flags.any(Flags::WANTED)
            || slot.flags.any(Flags::NO_READING)
            || slot.flags.any(Flags::READ_OUT)
        {
            return None;
        }
        if slot.full >= READS_MAX || !self.make_room() {
            self.read_later(index);
            return None;
        }
        let asked = READ_MAX.min(BLOCK_SIZE - self.filled);
        let group = &mut self.store.groups[0];
        let start = group.offset(self.block) + self.filled as usize;
        let room = group.pages.bytes_mut(start, asked as usize);
        self.counters.calls += 1;
        let fd = self.table.borrow(index).as_raw_fd();
        let outcome = recv(fd, room, MsgFlags::MSG_DONTWAIT);
        self.settle_receive(index, asked, outcome)
    }

    fn settle_receive(
        &mut self,
        index: u32,
        asked: u32,
        outcome: Result<usize, Errno>,
    ) -> Option<Completion> {
        let id = self.table.id(index);
        let slot = self.slot(index);
        match outcome {
            Ok(0) => {
                slot.flags.set(Flags::ENDED);
                Some(Completion::Ended { id })
            }
            Ok(count) => {
                let len = u32::try_from(count).expect("no more than asked for");
                // Less than asked for is all there was (epoll(7)), and news of more makes an edge.
                if len < asked && !slot.flags.any(Flags::HUNG_UP) {
                    slot.flags.clear(Flags::READABLE);
                    slot.full = 0;
                } else {
                    slot.full += 1;
                    slot.flags.set(Flags::IN_READING);
                    self.reading.push_back(index);
                }
                let source = store::block(0, self.block);
                let buffer = Buffer { source, offset: self.filled, len };
                self.filled += len;
                Some(Completion::Received { id, buffer })
            }
            Err(Errno::EAGAIN) => {
                slot.flags.clear(Flags::READABLE);
                slot.full = 0;
                None
            }
            Err(Errno::EINTR) => {
                self.read(index);
                None
            }
            Err(_) => {
                slot.flags.set(Flags::BROKEN);
                Some(Completion::Broken { id })
            }
        }
    }

    fn read_later(&mut self, index: u32) {
        let slot = self.slot(index);
        slot.full = 0;
        slot.flags.set(Flags::IN_READING);
        self.later.push_back(index);
    }

    /// Sees to it that a receive finds room; false if this turn has none left.
    fn make_room(&mut self) -> bool {
        if BLOCK_SIZE - self.filled >= READ_MIN {
            return true;
        }
        if self.block + 1 >= BLOCKS {
            return false;
        }
        self.block += 1;
        self.filled = 0;
        true
    }
}
