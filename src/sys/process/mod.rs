//! Child processes: started with exactly what they are given, watched by pidfd, ended by signal.

mod adopted;
mod launch;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use adopted::start_ticks;
pub use launch::{Failure, Launch, Program};

/// A child process until it is reaped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// Readable when the process has ended.
    pidfd: OwnedFd,
    has_group: bool,
    /// Not our child: nobody waits for it here, and the pidfd alone stands for it.
    is_adopted: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exit(i32),
    Signal(Signal),
    /// It was adopted, and the kernel does not tell.
    Unknown,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "{signal}"),
            Self::Unknown => f.write_str("exit code unknown"),
        }
    }
}

impl Child {
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How it ended, and reaps it; `None` while it runs. What its process group left behind is
    /// killed first, while the group's number cannot have passed to a stranger.
    pub fn try_wait(&self) -> io::Result<Option<Ended>> {
        if self.is_adopted {
            return self.try_wait_adopted();
        }
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            match waitid(Id::Pid(self.pid), look) {
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Ok(_) | Err(Errno::EINVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
            if self.has_group {
                let _ = killpg(self.pid, Signal::SIGKILL);
            }
            return match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, code)) => Ok(Some(Ended::Exit(code))),
                Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(Ended::Signal(signal))),
                Ok(_) => Ok(None),
                Err(Errno::EINTR) => continue,
                // Ended by a signal that nix has no name for (real-time signals).
                Err(Errno::EINVAL) => Ok(Some(Ended::Signal(Signal::SIGKILL))),
                Err(errno) => Err(errno.into()),
            };
        }
    }

    /// Asks it, and all of its process group if it leads one, to end.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Ends it, and all of its process group if it leads one.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// The pid stays ours until it is reaped, so this cannot reach a stranger.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.is_adopted {
            return self.signal_adopted(signal);
        }
        let sent = if self.has_group { killpg(self.pid, signal) } else { kill(self.pid, signal) };
        match sent {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn open_pidfd(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let raw = RawFd::try_from(Errno::result(raw)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call above made this descriptor (close-on-exec by itself) for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Takes over a descriptor that this process was started with.
///
/// Only for the one place that knows by agreement with its parent what the number is, once, before
/// anything else is opened.
pub fn inherited(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_GETFD only looks at the number.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    Errno::result(flags)?;
    // SAFETY: as above; F_SETFD changes a flag of the descriptor only.
    let set = unsafe { libc::fcntl(descriptor, libc::F_SETFD, flags | libc::FD_CLOEXEC) };
    Errno::result(set)?;
    // SAFETY: it is open (just asked), it was opened by the parent for this process, and the
    // caller keeps the promise to take it once.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Keeps descriptor 3 taken for as long as it is held, unless it is taken anyway; so that no pipe
/// that a launch needs can land where the child's third descriptor goes.
pub fn reserve_third() -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, fcntl};
    let null = std::fs::File::open("/dev/null")?;
    let raw = fcntl(&null, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the duplicate was just made, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The path of this binary, for a command line. Its file may have been replaced meanwhile.
pub fn own_path() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let path = path.to_string_lossy();
    path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
}

/// An eventfd (eventfd(2)), nonblocking: the bell of a thread.
pub fn event() -> io::Result<OwnedFd> {
    use nix::sys::eventfd::{EfdFlags, EventFd};
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    Ok(event.into())
}

/// Rings it. A bell that rings already has its counter full, which is as good.
pub fn ring(event: &OwnedFd) -> io::Result<()> {
    match nix::unistd::write(event, &1u64.to_ne_bytes()) {
        Ok(_) | Err(Errno::EAGAIN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;
