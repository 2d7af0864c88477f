//! What is to be written at the end of the turn: pieces of the arena and of received bytes, in a
//! chain per socket.

use super::BACKLOG_SIZE_MAX;
use super::slot::{Flags, NONE, Slot};
use super::store::Store;
use nix::libc;

/// iovecs of one call: UIO_MAXIOV (sendmsg(2)). What is beyond goes the way of a short send.
pub(super) const PIECES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    source: u32,
    offset: u32,
    len: u32,
    next: u32,
}

impl Piece {
    pub(super) fn bytes<'a>(&self, store: &'a Store, arena: &'a [u8]) -> &'a [u8] {
        store.piece(arena, self.source, self.offset, self.len)
    }
}

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: Vec<Piece>,
    /// Sockets that have a chain, in the order of their first piece.
    pub(super) sockets: Vec<u32>,
}

impl Outgoing {
    pub(super) fn push(&mut self, index: u32, slot: &mut Slot, source: u32, offset: u32, len: u32) {
        let place = u32::try_from(self.pieces.len()).expect("fewer pieces than bytes of memory");
        if slot.last == NONE {
            slot.first = place;
            self.sockets.push(index);
        } else {
            let last = &mut self.pieces[slot.last as usize];
            if last.source == source && last.offset + last.len == offset {
                last.len += len;
                return;
            }
            last.next = place;
        }
        slot.last = place;
        self.pieces.push(Piece { source, offset, len, next: NONE });
    }

    pub(super) fn chain(&self, first: u32) -> impl Iterator<Item = Piece> {
        let mut place = first;
        std::iter::from_fn(move || {
            let piece = *self.pieces.get(place as usize)?;
            place = piece.next;
            Some(piece)
        })
    }

    pub(super) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// Everything of the turn has been carried out.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.sockets.clear();
    }
}

/// What became of a chain that was not written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing new: the backlog grew, or there was nothing left to put there.
    Quiet,
    /// A backlog formed.
    Formed,
    /// The backlog would pass its maximum, so the rest is lost.
    Overflow,
}

/// Moves a chain to the socket's backlog, less its first `sent` bytes.
pub(super) fn put_back(
    slot: &mut Slot,
    outgoing: &Outgoing,
    store: &Store,
    arena: &[u8],
    sent: usize,
) -> Rest {
    let before = slot.backlog_len();
    let is_writable = !slot.flags.any(Flags::UNWRITABLE);
    let (mut skip, mut is_over) = (sent, !is_writable);
    for piece in outgoing.chain(slot.first) {
        let bytes = piece.bytes(store, arena);
        let rest = &bytes[skip.min(bytes.len())..];
        skip -= bytes.len() - rest.len();
        is_over |= slot.backlog_len() + rest.len() > BACKLOG_SIZE_MAX;
        if is_over {
            slot.lose(rest.len());
        } else if !rest.is_empty() {
            slot.extra().backlog.append(rest);
        }
    }
    if is_writable && is_over {
        Rest::Overflow
    } else if before == 0 && slot.backlog_len() > 0 {
        Rest::Formed
    } else {
        Rest::Quiet
    }
}

/// The kernel took nothing of a chain and never will.
pub(super) fn lose(slot: &mut Slot, outgoing: &Outgoing) {
    let lost = outgoing.chain(slot.first).map(|piece| piece.len as usize).sum();
    slot.lose(lost);
}

pub(super) fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}
