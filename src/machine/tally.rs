//! What one listener thread counts: plain numbers, summed over threads by whoever shows them.

use crate::machine::cause::{Cause, WORDS};

/// Counters since the thread started, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub connections_accepted: u64,
    /// Turned away at `max_connections` or while draining.
    pub connections_refused: u64,
    /// Client connections open now.
    pub connections_open: u64,
    /// Requests whose head was read, whatever became of them.
    pub requests: u64,
    /// Answers by the first digit of their status, from 1xx to 5xx; ours and the servers'.
    pub answers: [u64; 5],
    /// By [`Cause::index`].
    pub causes: [u64; WORDS.len()],
    pub upstream_connects: u64,
    pub upstream_reuses: u64,
    pub retries: u64,
    /// Idle upstream connections now.
    pub upstream_idle: u64,
    pub tunnels: u64,
    pub checks: u64,
    pub checks_failed: u64,
}

impl Tally {
    pub(crate) fn answered(&mut self, status: u16) {
        if let Some(count) = self.answers.get_mut(usize::from(status / 100).wrapping_sub(1)) {
            *count += 1;
        }
    }

    pub(crate) fn blame(&mut self, cause: Cause) {
        self.causes[cause.index()] += 1;
    }

    /// Every counter with its name, in a fixed order.
    pub fn each(&self, mut show: impl FnMut(&'static str, u64)) {
        show("connections_accepted", self.connections_accepted);
        show("connections_refused", self.connections_refused);
        show("connections_open", self.connections_open);
        show("requests", self.requests);
        for (name, count) in
            ["answers_1xx", "answers_2xx", "answers_3xx", "answers_4xx", "answers_5xx"]
                .iter()
                .zip(self.answers)
        {
            show(name, count);
        }
        for (word, count) in WORDS.iter().zip(self.causes) {
            show(word, count);
        }
        show("upstream_connects", self.upstream_connects);
        show("upstream_reuses", self.upstream_reuses);
        show("upstream_idle", self.upstream_idle);
        show("retries", self.retries);
        show("tunnels", self.tunnels);
        show("checks", self.checks);
        show("checks_failed", self.checks_failed);
    }
}
