//! What a failed system call says: which call, which errno and, where it is known, what helps.

use nix::errno::Errno;
use std::fmt;
use std::io;

/// A system call that failed. Shown as "call: message", with the remedy behind it if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub call: &'static str,
    pub errno: Errno,
    /// A sentence for the operator; empty when the message says it all.
    pub remedy: String,
}

impl Error {
    pub(crate) const fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno, remedy: String::new() }
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// From the error of a call made through the standard library or socket2.
    pub(crate) fn of(call: &'static str, error: &io::Error) -> Self {
        Self::new(call, errno_of(error))
    }

    /// For `map_err`: names the call that failed.
    pub(crate) fn by(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::of(call, &error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({:?})", self.call, self.errno.desc(), self.errno)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, ". {}", self.remedy) }
    }
}

impl std::error::Error for Error {}

/// The errno inside an I/O error. An error that never was a system call's (a path that holds a
/// zero byte) counts as `EINVAL`, which is what the kernel would say to it.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_call_message_and_remedy() {
        let bare = Error::new("bind", Errno::EADDRINUSE);
        assert_eq!(bare.to_string(), "bind: Address already in use (EADDRINUSE)");
        let helped = bare.with_remedy("Stop the other program.");
        assert!(helped.to_string().ends_with("(EADDRINUSE). Stop the other program."));
        let odd = io::Error::new(io::ErrorKind::InvalidInput, "zero byte");
        assert_eq!(errno_of(&odd), Errno::EINVAL);
    }
}
