//! What one listener thread counts: plain numbers, summed over threads by whoever shows them.

/// Counters since the thread started, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub connections_accepted: u64,
    /// Turned away at `max_connections` or while draining.
    pub connections_refused: u64,
    /// Open now.
    pub connections_open: u64,
    /// Requests whose head was read, whatever became of them.
    pub requests: u64,
}
