//! What an engine knows of each socket: small, because ten thousand idle ones are the normal case.

use super::backlog::Backlog;
use super::{Ending, calls};
use crate::base::id::SocketId;
use crate::base::slab::GENERATION_MASK;
use nix::errno::Errno;
use socket2::SockAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Facts about a socket, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u32);

impl Flags {
    /// `recv` is in force, not `hold`.
    pub(super) const WANTED: Self = Self(1);
    /// The peer's end was seen; nothing more is to be read.
    pub(super) const ENDED: Self = Self(1 << 1);
    /// `ENDED` is still to be told.
    pub(super) const ENDED_UNTOLD: Self = Self(1 << 2);
    /// Reading failed.
    pub(super) const BROKEN: Self = Self(1 << 3);
    pub(super) const BROKEN_UNTOLD: Self = Self(1 << 4);
    /// Writing failed; further writes are dropped.
    pub(super) const UNWRITABLE: Self = Self(1 << 5);
    /// Our direction is to end after the backlog.
    pub(super) const SHUTDOWN_DUE: Self = Self(1 << 6);
    /// The socket is to close after the backlog.
    pub(super) const CLOSE_DUE: Self = Self(1 << 7);
    /// The socket is to close whatever waits.
    pub(super) const CLOSE_NOW: Self = Self(1 << 8);
    /// The close is to reset the connection.
    pub(super) const RESET: Self = Self(1 << 9);
    /// The close is under way: only operations in flight keep the descriptor open.
    pub(super) const CLOSING: Self = Self(1 << 10);
    /// In the list of sockets whose ending is to be carried out.
    pub(super) const IN_ENDINGS: Self = Self(1 << 11);
    /// In the list of sockets to look at for reading.
    pub(super) const IN_READING: Self = Self(1 << 12);
    /// Not connected yet.
    pub(super) const CONNECTING: Self = Self(1 << 13);

    /// uring: a receive is in flight.
    pub(super) const RECV_ARMED: Self = Self(1 << 16);
    /// uring: its cancellation is, too.
    pub(super) const RECV_CANCELLED: Self = Self(1 << 17);
    /// uring: the receive is a single one, into a large block.
    pub(super) const RECV_SINGLE: Self = Self(1 << 22);
    /// uring: a send of the backlog is in flight.
    pub(super) const FLUSH_ARMED: Self = Self(1 << 18);
    /// uring: a connect is in flight.
    pub(super) const CONNECT_ARMED: Self = Self(1 << 19);
    /// uring: much arrives, so receive singly into large blocks.
    pub(super) const BULK: Self = Self(1 << 20);
    /// uring: in the list of sockets with kept bytes to deliver.
    pub(super) const IN_DELIVERIES: Self = Self(1 << 21);

    /// epoll: a receive may find something.
    pub(super) const READABLE: Self = Self(1 << 24);
    /// epoll: the peer hung up, so a short receive does not mean that nothing is left.
    pub(super) const HUNG_UP: Self = Self(1 << 25);

    /// uring: what keeps a descriptor from being closed.
    pub(super) const IN_FLIGHT: Self =
        Self(Self::RECV_ARMED.0 | Self::FLUSH_ARMED.0 | Self::CONNECT_ARMED.0);
    /// An ending that lets nothing more be written has been ordered.
    pub(super) const NO_WRITING: Self = Self(
        Self::UNWRITABLE.0
            | Self::SHUTDOWN_DUE.0
            | Self::CLOSE_DUE.0
            | Self::CLOSE_NOW.0
            | Self::CLOSING.0,
    );
    /// An ending that lets nothing more be told of reading has been ordered.
    pub(super) const NO_READING: Self =
        Self(Self::CLOSE_DUE.0 | Self::CLOSE_NOW.0 | Self::CLOSING.0);
    /// Nothing more can be read.
    pub(super) const READ_OUT: Self = Self(Self::ENDED.0 | Self::BROKEN.0);

    /// Whether any of `other` is set.
    pub(super) const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) const fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }

    /// Clears, and says whether any was set.
    pub(super) const fn take(&mut self, other: Self) -> bool {
        let was = self.any(other);
        self.clear(other);
        was
    }
}

/// What few sockets have at a time.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) backlog: Backlog,
    /// Received while on hold.
    pub(super) kept: Vec<u8>,
    /// Where a connect in flight leads; the kernel may read it until that ends.
    pub(super) target: Option<SockAddr>,
}

/// What the kernel gives back with an event: kind (8 bits), generation (24), index (32).
pub(super) fn tag(kind: u8, id: SocketId) -> u64 {
    let generation = u64::from(id.generation & GENERATION_MASK);
    u64::from(kind) << 56 | generation << 32 | u64::from(id.index)
}

/// The name in a tag.
pub(super) fn untag(tag: u64) -> SocketId {
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are the index")]
    let index = tag as u32;
    let generation = (tag >> 32) as u32 & GENERATION_MASK;
    SocketId { index, generation }
}

/// No piece: the end of a chain.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Slot {
    /// `None` = the slot is free.
    fd: Option<OwnedFd>,
    generation: u32,
    pub(super) flags: Flags,
    /// The chain of pieces to write this turn.
    pub(super) first: u32,
    pub(super) last: u32,
    /// Bytes that were to be written and never will be; saturates.
    pub(super) lost: u32,
    /// Receives in a row that filled their block.
    pub(super) full: u8,
    pub(super) extra: Option<Box<Extra>>,
}

const _: () = assert!(size_of::<Slot>() <= 48);

impl Slot {
    const fn free() -> Self {
        Self {
            fd: None,
            generation: 0,
            flags: Flags(0),
            first: NONE,
            last: NONE,
            lost: 0,
            full: 0,
            extra: None,
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        self.fd.as_ref().expect("only occupied slots are reached")
    }

    /// Forgets the turn's chain.
    pub(super) fn unchain(&mut self) {
        (self.first, self.last) = (NONE, NONE);
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd().as_raw_fd()
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(super) fn backlog_len(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.backlog.len())
    }

    /// Bytes that would be lost if the socket closed now.
    pub(super) fn unsent(&self) -> usize {
        self.backlog_len().saturating_add(self.lost as usize)
    }

    pub(super) fn lose(&mut self, bytes: usize) {
        self.lost = self.lost.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Writes what the kernel takes at once of the front of the backlog: bytes offered, and taken.
    pub(super) fn send_front(&mut self) -> Result<(usize, usize), Errno> {
        let fd = self.fd.as_ref().expect("only occupied slots are reached");
        let front = self.extra.get_or_insert_default().backlog.front();
        Ok((front.len(), if front.is_empty() { 0 } else { calls::send(fd, front)? }))
    }

    /// Gives the backlog up. Not while the kernel may be reading it.
    pub(super) fn drop_backlog(&mut self) {
        let bytes = self.backlog_len();
        self.lose(bytes);
        if let Some(extra) = &mut self.extra {
            extra.backlog = Backlog::default();
        }
        self.trim();
    }

    pub(super) fn has_kept(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| !extra.kept.is_empty())
    }

    /// Gives back what an empty backlog and nothing kept still occupy.
    pub(super) fn trim(&mut self) {
        if let Some(extra) = &self.extra
            && extra.backlog.is_empty()
            && extra.kept.is_empty()
            && extra.target.is_none()
        {
            self.extra = None;
        }
    }

    /// Notes an ending that was ordered; true if it is news.
    pub(super) fn note(&mut self, how: Ending) -> bool {
        let flags = match how {
            Ending::Shutdown => Flags::SHUTDOWN_DUE,
            Ending::Flushed => Flags::CLOSE_DUE,
            Ending::Now => Flags::CLOSE_NOW,
            Ending::Reset => Flags(Flags::CLOSE_NOW.0 | Flags::RESET.0),
        };
        let before = self.flags;
        self.flags.set(flags);
        before != self.flags && !before.any(Flags::CLOSING)
    }
}

/// All sockets of an engine by the index of their id.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
}

impl Table {
    /// Occupies a slot. Panics when the name is taken: names are the owner's bookkeeping.
    pub(super) fn insert(&mut self, id: SocketId, fd: OwnedFd) -> &mut Slot {
        let index = id.index as usize;
        while self.slots.len() <= index {
            self.slots.push(Slot::free());
        }
        let slot = &mut self.slots[index];
        assert!(slot.fd.is_none(), "the owner gives a name out once");
        *slot = Slot { fd: Some(fd), generation: id.generation & GENERATION_MASK, ..Slot::free() };
        slot
    }

    /// Frees a slot. Its descriptor closes as it is dropped.
    pub(super) fn remove(&mut self, index: u32) -> OwnedFd {
        let slot = &mut self.slots[index as usize];
        let fd = slot.fd.take().expect("only occupied slots are removed");
        slot.extra = None;
        fd
    }

    /// The occupied slot of an id, if it is that id's still.
    pub(super) fn find(&mut self, id: SocketId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.index as usize)?;
        let is_same = slot.fd.is_some() && slot.generation == id.generation & GENERATION_MASK;
        is_same.then_some(slot)
    }

    /// An occupied slot.
    pub(super) fn at(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize).filter(|slot| slot.fd.is_some())
    }

    pub(super) fn id(&self, index: u32) -> SocketId {
        SocketId { index, generation: self.slots[index as usize].generation }
    }

    pub(super) fn borrow(&self, index: u32) -> BorrowedFd<'_> {
        self.slots[index as usize].fd().as_fd()
    }
}
