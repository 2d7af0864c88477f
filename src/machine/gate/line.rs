//! Tickets that wait, in order.

use super::Ticket;
use super::sync::SegQueue;

/// Tickets, first in, first out.
#[derive(Debug)]
pub(super) struct Line {
    /// What a sweep has looked at, before all others.
    swept: SegQueue<Ticket>,
    tail: SegQueue<Ticket>,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { swept: SegQueue::new(), tail: SegQueue::new() }
    }

    pub(super) fn push(&self, ticket: Ticket) {
        self.tail.push(ticket);
    }

    pub(super) fn pop(&self) -> Option<Ticket> {
        self.swept.pop().or_else(|| self.tail.pop())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.swept.is_empty() && self.tail.is_empty()
    }

    /// Drops tickets, keeps the order of the others; tickets that come meanwhile stay behind.
    pub(super) fn sweep(&self, is_dead: &mut impl FnMut(Ticket) -> bool) {
        let (swept, tail) = (self.swept.len(), self.tail.len());
        let old = (0..swept).map_while(|_| self.swept.pop());
        let new = (0..tail).map_while(|_| self.tail.pop());
        for ticket in old.chain(new) {
            if !is_dead(ticket) {
                self.swept.push(ticket);
            }
        }
    }
}
