//! Signals as facts: blocked, and read from a descriptor (signalfd(2)).

use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::Result;
use std::os::fd::{AsFd, BorrowedFd};

/// What an operator can say by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGUSR2.
    Count,
}

const WORDS: [(Signal, Word); 5] = [
    (Signal::SIGTERM, Word::End),
    (Signal::SIGINT, Word::End),
    (Signal::SIGHUP, Word::Reload),
    (Signal::SIGUSR1, Word::ReopenLogs),
    (Signal::SIGUSR2, Word::Count),
];

/// The process's signals, queued by the kernel until they are read.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks the signals of [`Word`] in this thread and those it starts later; so this comes
    /// before any thread.
    pub fn block() -> Result<Self> {
        let set: SigSet = WORDS.iter().map(|(signal, _)| *signal).collect();
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { descriptor: SignalFd::with_flags(&set, flags)? })
    }

    /// The next word; `None` when nothing (more) was said.
    pub fn read(&self) -> Result<Option<Word>> {
        let Some(told) = self.descriptor.read_signal()? else { return Ok(None) };
        let known = WORDS.iter().find(|(signal, _)| (*signal as u32) == told.ssi_signo);
        Ok(known.map(|(_, word)| *word))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Makes this process deaf to the signals of [`Word`]: it is told by other ways when to end. A
/// terminal sends its SIGINT to every process of the group, a service manager its SIGTERM to
/// every one of the unit, and neither may end this one before its time.
pub fn ignore() -> Result<()> {
    for (signal, _) in WORDS {
        // SAFETY: SIG_IGN installs no function, so nothing can run in signal context.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    }
    Ok(())
}
