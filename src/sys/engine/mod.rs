//! Two engines behind one seam: `uring` (io_uring, kernel 6.1 and later) and `epoll`.

/// What an engine counts; of the process's thread that owns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `io_uring_enter` or `epoll_wait` calls.
    pub enters: u64,
    /// Submission queue entries; 0 under epoll.
    pub submissions: u64,
    /// Completion queue entries, or epoll events.
    pub completions: u64,
    /// System calls beside `enters` (epoll: recv, send, accept, epoll_ctl ...).
    pub calls: u64,
    /// A receive found no provided buffer.
    pub buffers_exhausted: u64,
    /// Multishot operations armed again after the kernel ended them.
    pub rearms: u64,
    /// Sends that the kernel did not take whole at once.
    pub sends_short: u64,
}
