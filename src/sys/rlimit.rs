//! Resource limits: raised for ourselves, put back for the applications that we start.

use nix::libc::rlim_t;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::io::Result;

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

/// Open files of this process as it was started.
pub fn open_files() -> Result<Limit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(Limit { soft, hard })
}

/// Sets the limit on open files; makes a system call only.
pub(super) fn set_open_files(limit: Limit) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, limit.soft as rlim_t, limit.hard as rlim_t)
}

/// Raises the limit on open files to the hard limit, and that to `wanted` where we may. What holds
/// then.
pub fn raise_open_files(wanted: u64) -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if wanted > hard && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Lifts the limit on locked memory, which rings are charged to, as far as we may.
pub fn raise_locked_memory() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Ok(RLIM_INFINITY);
    }
    setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)?;
    Ok(hard)
}
