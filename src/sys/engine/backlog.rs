//! Bytes of one socket that the kernel would not take at once.

use std::mem;

/// A queue in two parts: what the kernel may be reading right now and must not move, and what
/// came later.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    sending: Vec<u8>,
    sent: usize,
    waiting: Vec<u8>,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.sending.len() - self.sent + self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// What to write next; empty only when nothing is left. It stays where it is, whatever is
    /// appended, until the next call.
    pub(super) fn front(&mut self) -> &[u8] {
        if self.sent == self.sending.len() {
            self.sending.clear();
            self.sent = 0;
            mem::swap(&mut self.sending, &mut self.waiting);
        }
        &self.sending[self.sent..]
    }

    /// The kernel took `count` bytes of the front.
    pub(super) fn advance(&mut self, count: usize) {
        assert!(count <= self.sending.len() - self.sent, "no more than was offered");
        self.sent += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_and_the_front_stays_put_while_more_is_appended() {
        let mut backlog = Backlog::default();
        backlog.append(b"abc");
        let front = backlog.front().as_ptr();
        backlog.append(&[b'd'; 10_000]);
        assert_eq!(backlog.front().as_ptr(), front);
        assert_eq!(backlog.front(), b"abc");
        backlog.advance(2);
        assert_eq!(backlog.len(), 10_001);
        assert_eq!(backlog.front(), b"c");
        backlog.advance(1);
        assert_eq!(backlog.front(), &[b'd'; 10_000]);
        backlog.advance(10_000);
        assert!(backlog.front().is_empty() && backlog.is_empty());
    }
}
