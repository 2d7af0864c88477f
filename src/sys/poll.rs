//! Waiting for any of a few descriptors (poll(2)): for the processes that do little.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Result;
use std::os::fd::BorrowedFd;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
    /// Only that the other side is gone.
    Hangup,
}

/// Waits until one is ready (or failed, or hung up) or `timeout` has passed; says in `ready`, in
/// the order given, which. An interrupting signal ends the wait with none.
pub fn wait(
    watched: &[(BorrowedFd<'_>, Interest)],
    timeout: Option<Duration>,
    ready: &mut Vec<bool>,
) -> Result<()> {
    let mut polled: Vec<PollFd<'_>> = watched
        .iter()
        .map(|(descriptor, interest)| {
            let flags = match interest {
                Interest::Read => PollFlags::POLLIN,
                Interest::Write => PollFlags::POLLOUT,
                Interest::Hangup => PollFlags::empty(),
            };
            PollFd::new(*descriptor, flags)
        })
        .collect();
    // Rounded up: a deadline must have passed when the wait is over.
    let timeout = timeout.map_or(PollTimeout::NONE, |duration| {
        let ms = duration.as_nanos().div_ceil(1_000_000);
        PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
    });
    let outcome = poll(&mut polled, timeout);
    ready.clear();
    match outcome {
        Ok(_) => ready.extend(polled.iter().map(|fd| fd.any().unwrap_or(true))),
        Err(nix::errno::Errno::EINTR) => ready.resize(watched.len(), false),
        Err(errno) => return Err(errno.into()),
    }
    Ok(())
}
