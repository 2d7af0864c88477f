//! Starting a child: everything is prepared before the fork; between fork and exec only system
//! calls are made, because another thread may have held the allocator's lock at the fork.

use super::{Child, open_pidfd};
use crate::sys::cgroup;
use crate::sys::identity::Identity;
use crate::sys::rlimit::{self, Limit};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::{self, c_char, c_int};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Gid, Pid, fork, pipe2};
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// What to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This very binary, even when its file was replaced since.
    Ourselves,
    /// The first word of the command: a path, or a name to look for in these folders.
    Named { path: String },
}

/// A child to be.
#[derive(Debug)]
pub struct Launch<'a> {
    pub program: Program,
    /// With the program's name as first word.
    pub argv: &'a [String],
    /// The whole environment.
    pub environment: &'a [(String, String)],
    pub directory: Option<&'a str>,
    /// Standard input is `/dev/null`.
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    /// Becomes descriptor 3; nothing else beside 0, 1 and 2 is inherited.
    pub third: Option<BorrowedFd<'a>>,
    /// `None`: the parent's.
    pub identity: Option<&'a Identity>,
    pub open_files: Option<Limit>,
    pub umask: Option<u32>,
    /// Leads a process group of its own.
    pub leads_group: bool,
    /// Of the control group to be born in ([`crate::sys::cgroup`]).
    pub entrance: Option<BorrowedFd<'a>>,
    /// Gets SIGTERM when the parent dies.
    pub ends_with_parent: bool,
    /// Gets `LISTEN_PID`, its own process id (sd_listen_fds(3)).
    pub wants_listen_pid: bool,
}

/// Why a child could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was attempted: "execute", "change to its folder" ...
    pub step: &'static str,
    pub errno: Errno,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.step, self.errno.desc())
    }
}

/// The steps of a child before it becomes the program; the parent hears of them by number.
const STEPS: [&str; 13] = [
    "prepare it",
    "make a process group",
    "move its descriptors",
    "close its other descriptors",
    "set its limit on open files",
    "take on its identity",
    "drop ambient capabilities",
    "tie it to its parent",
    "change to its folder",
    "execute it",
    "open a pipe",
    "fork",
    "enter its control group",
];

fn failure(step: usize, errno: Errno) -> Failure {
    Failure { step: STEPS[step], errno }
}

/// Room for `LISTEN_PID=`, ten digits and the final zero.
const LISTEN_PID: &[u8; 11] = b"LISTEN_PID=";

struct Prepared {
    files: Vec<CString>,
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    listen_pid: *mut u8,
    directory: Option<CString>,
    groups: Vec<Gid>,
    null: File,
    parent: Pid,
}

impl Launch<'_> {
    /// Starts the child. It runs the program already when this returns.
    pub fn start(&self) -> Result<Child, Failure> {
        let invalid = |_| failure(0, Errno::EINVAL);
        let argv: Vec<CString> = self
            .argv
            .iter()
            .map(|word| CString::new(word.as_str()))
            .collect::<Result<_, _>>()
            .map_err(invalid)?;
        let environment: Vec<CString> = self
            .environment
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")))
            .collect::<Result<_, _>>()
            .map_err(invalid)?;
        let mut listen_pid = [&LISTEN_PID[..], &[0; 12]].concat();
        let mut pointers: Vec<*const c_char> = environment.iter().map(|e| e.as_ptr()).collect();
        if self.wants_listen_pid {
            pointers.push(listen_pid.as_ptr().cast());
        }
        pointers.push(std::ptr::null());
        let prepared = Prepared {
            files: self.files().map_err(invalid)?,
            argv: argv.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect(),
            environment: pointers,
            listen_pid: listen_pid.as_mut_ptr(),
            directory: self.directory.map(CString::new).transpose().map_err(invalid)?,
            groups: self.identity.map(Identity::group_ids).unwrap_or_default(),
            null: File::open("/dev/null").map_err(|e| {
                failure(0, Errno::from_raw(e.raw_os_error().unwrap_or(libc::EINVAL)))
            })?,
            parent: nix::unistd::getpid(),
        };
        let (told, tell) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failure(10, e))?;
        // SAFETY: the child makes only system calls (see `become_program`) until it executes or
        // exits; everything it uses was allocated above and outlives this call.
        let forked = unsafe { fork() }.map_err(|e| failure(11, e))?;
        let ForkResult::Parent { child } = forked else { self.become_program(&prepared, &tell) };
        drop(tell);
        self.hear(child, told)
    }

    /// Waits until the child became the program or said why it could not.
    fn hear(&self, pid: Pid, told: OwnedFd) -> Result<Child, Failure> {
        let mut words = Vec::new();
        let heard = File::from(told).take(8).read_to_end(&mut words);
        let pidfd = open_pidfd(pid);
        let refusal = match (heard, &words[..]) {
            (Ok(_), []) => None,
            (Ok(_), [step, errno @ ..]) => {
                let errno = errno.try_into().map_or(0, i32::from_ne_bytes);
                let step = usize::from(*step).min(STEPS.len() - 1);
                Some(failure(step, Errno::from_raw(errno)))
            }
            (Err(_), _) => Some(failure(0, Errno::EPIPE)),
        };
        match (refusal, pidfd) {
            (None, Ok(pidfd)) => {
                Ok(Child { pid, pidfd, has_group: self.leads_group, is_adopted: false })
            }
            (refusal, pidfd) => {
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
                let _ = nix::sys::wait::waitpid(pid, None);
                Err(refusal.unwrap_or_else(|| failure(0, pidfd.err().unwrap_or(Errno::EBADF))))
            }
        }
    }

    /// The files to try to execute, in order.
    fn files(&self) -> Result<Vec<CString>, std::ffi::NulError> {
        let name = match &self.program {
            Program::Ourselves => return Ok(vec![CString::new("/proc/self/exe")?]),
            Program::Named { .. } if self.argv.is_empty() => return Ok(Vec::new()),
            Program::Named { .. } if self.argv[0].contains('/') => {
                return Ok(vec![CString::new(self.argv[0].as_str())?]);
            }
            Program::Named { path } => path.split(':').filter(|folder| !folder.is_empty()),
        };
        name.map(|folder| CString::new(format!("{folder}/{}", self.argv[0]))).collect()
    }

    /// The child's part.
    fn become_program(&self, prepared: &Prepared, tell: &OwnedFd) -> ! {
        // Above everything that is moved below it.
        let tell = lift(tell.as_raw_fd()).unwrap_or(tell.as_raw_fd());
        let (step, errno) = match self.settle_in(prepared) {
            Err(refused) => refused,
            Ok(()) => (9, execute(prepared)),
        };
        let mut words = [0; 5];
        words[0] = step;
        words[1..].copy_from_slice(&(errno as c_int).to_ne_bytes());
        // SAFETY: `words` is five bytes long and `tell` is a descriptor number.
        let _ = unsafe { libc::write(tell, words.as_ptr().cast(), words.len()) };
        // SAFETY: ends the process without running anything of the parent's.
        unsafe { libc::_exit(127) }
    }

    fn settle_in(&self, prepared: &Prepared) -> Result<(), (u8, Errno)> {
        if self.leads_group {
            nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(|e| (1, e))?;
        }
        if let Some(entrance) = self.entrance {
            // With the rights of who opened it, and while its number is not taken by another.
            cgroup::enter(entrance).map_err(|e| (12, e))?;
        }
        clear_signals();
        self.move_descriptors(prepared).map_err(|e| (2, e))?;
        let first = if self.third.is_some() { 4 } else { 3 };
        close_on_exec_from(first).map_err(|e| (3, e))?;
        if let Some(limit) = self.open_files {
            rlimit::set_open_files(limit).map_err(|e| (4, e))?;
        }
        if let Some(umask) = self.umask {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
        }
        if let Some(identity) = self.identity {
            identity.take_on(&prepared.groups).map_err(|e| (5, e))?;
        }
        drop_ambient().map_err(|e| (6, e))?;
        if self.ends_with_parent {
            // After the identity: changing that clears it (prctl(2)).
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(|e| (7, e))?;
            if nix::unistd::getppid() != prepared.parent {
                return Err((7, Errno::ESRCH));
            }
        }
        if let Some(directory) = &prepared.directory {
            nix::unistd::chdir(directory.as_c_str()).map_err(|e| (8, e))?;
        }
        if self.wants_listen_pid {
            write_listen_pid(prepared.listen_pid);
        }
        Ok(())
    }

    /// Sources may be any numbers, 0 to 3 among them: all are lifted before any is moved down.
    fn move_descriptors(&self, prepared: &Prepared) -> nix::Result<()> {
        let sources = [
            Some(lift(prepared.null.as_raw_fd())?),
            Some(lift(self.stdout.as_raw_fd())?),
            Some(lift(self.stderr.as_raw_fd())?),
            self.third.map(|fd| lift(fd.as_raw_fd())).transpose()?,
        ];
        for (number, source) in (0..).zip(sources) {
            let Some(source) = source else { continue };
            // SAFETY: numbers only; this process owns its descriptor table and nothing in it
            // holds `number` as an owned descriptor that is used again before exec.
            Errno::result(unsafe { libc::dup2(source, number) })?;
        }
        Ok(())
    }
}

/// A duplicate above the numbers that are moved, closed on exec.
fn lift(descriptor: RawFd) -> nix::Result<RawFd> {
    // SAFETY: numbers only; the duplicate is this process's and ends with exec.
    Errno::result(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 16) })
}

fn close_on_exec_from(first: libc::c_uint) -> nix::Result<()> {
    let all = libc::c_uint::MAX;
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: changes flags of descriptors only. (Kernel 5.11 and later.)
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, all, flags) };
    Errno::result(done).map(|_done| ())
}

/// Programs expect signals unblocked and with their default effect; ignored ones are inherited.
fn clear_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL installs no function; numbers that cannot be set only fail.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let none = nix::sys::signal::SigSet::empty();
    // Cannot fail with a valid set.
    let _ = none.thread_set_mask();
}

fn drop_ambient() -> nix::Result<()> {
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes integers only.
    let done =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(done).map(|_done| ())
}

/// Digits behind `LISTEN_PID=`, without leading zeros, which some would read as octal.
fn write_listen_pid(text: *mut u8) {
    let mut digits = [0u8; 10];
    let mut rest = std::process::id();
    let mut first = digits.len();
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // SAFETY: `text` was allocated by `start` with room for name, ten digits and a zero.
    let place = unsafe { text.add(LISTEN_PID.len()) };
    // SAFETY: at most ten bytes are copied to where twelve zeros stand; the regions are apart.
    unsafe { place.copy_from_nonoverlapping(digits[first..].as_ptr(), digits.len() - first) };
}

/// Tries each file; returns why the last telling attempt failed.
fn execute(prepared: &Prepared) -> Errno {
    let mut telling = Errno::ENOENT;
    let (argv, environment) = (prepared.argv.as_ptr(), prepared.environment.as_ptr());
    for file in &prepared.files {
        // SAFETY: all three are zero-ended and stand in `prepared`, whose owner outlives us.
        unsafe { libc::execve(file.as_ptr(), argv, environment) };
        let errno = Errno::last();
        if errno != Errno::ENOENT && errno != Errno::ENOTDIR {
            telling = errno;
        }
    }
    telling
}
