//! How connections end: the machine's order and the engine's, word for word.

/// How a connection ends. To the engine's owner `Closed` is a completion, to the machine an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Write out the backlog, then `shutdown(SHUT_WR)`; reading goes on. No `Closed` follows:
    /// a later `End` with another ending is owed.
    Shutdown,
    /// Write out the backlog, then shut down and close. `Closed` follows. `Now` or `Reset` may
    /// still be ordered before it, to cut short a peer that does not read.
    Flushed,
    /// Shut down and close now; the backlog is dropped. `Closed` follows.
    Now,
    /// Close with a TCP reset, so that a truncated answer cannot look whole. `Closed` follows.
    Reset,
}
