//! Putting bytes on their way: small ones are copied behind their head, so that one write
//! carries both; large ones are forwarded from the receive buffer they lie in.

use super::seam::{Effect, Outbox};
use crate::base::id::SocketId;

/// Up to here a copy is cheaper than a second piece of a gathered write.
pub(super) const COPY_SIZE_MAX: usize = 4096;

/// Bytes, and where they begin in the receive buffer being handled; `None` = not in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: Option<usize>,
}

impl<'a> Piece<'a> {
    /// The whole of what was just received.
    pub(super) fn received(bytes: &'a [u8]) -> Self {
        Self { bytes, at: Some(0) }
    }

    /// Bytes from our own memory.
    pub(super) fn kept(bytes: &'a [u8]) -> Self {
        Self { bytes, at: None }
    }

    pub(super) fn split(self, count: usize) -> (Self, Self) {
        let (head, tail) = self.bytes.split_at(count);
        (Self { bytes: head, at: self.at }, Self { bytes: tail, at: self.at.map(|at| at + count) })
    }

    pub(super) fn range(self, range: core::ops::Range<usize>) -> Self {
        Self { bytes: &self.bytes[range.clone()], at: self.at.map(|at| at + range.start) }
    }
}

/// Orders the write of everything in `out.bytes` from `start` on.
pub(super) fn send_from(out: &mut Outbox, to: SocketId, start: usize) {
    let end = out.bytes.len();
    if start == end {
        return;
    }
    if let Some(Effect::Send { to: before, range }) = out.effects.last_mut()
        && *before == to
        && range.end == start
    {
        range.end = end;
        return;
    }
    out.effects.push(Effect::Send { to, range: start..end });
}

/// Orders the write of a piece.
pub(super) fn pass(out: &mut Outbox, to: SocketId, piece: Piece<'_>) {
    match piece.at {
        Some(at) if piece.bytes.len() > COPY_SIZE_MAX => {
            out.effects.push(Effect::Forward { to, range: at..at + piece.bytes.len() });
        }
        _ => {
            let start = out.bytes.len();
            out.bytes.extend_from_slice(piece.bytes);
            send_from(out, to, start);
        }
    }
}
