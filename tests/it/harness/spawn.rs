//! What must happen between fork and exec: dying with the test that started us, and a seccomp
//! filter that refuses `io_uring_setup` as container runtimes do.

#![allow(unsafe_code, reason = "pre_exec, prctl and seccomp have no safe form")]

use nix::libc;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Whether the process may have a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Allowed,
    /// `io_uring_setup` answers EPERM, as under a container runtime's default profile.
    Refused,
}

/// Prepares a command of which nothing is left when the thread that starts it has ended.
pub(crate) fn prepare(command: &mut Command, ring: Ring) {
    // SAFETY: the closure runs between fork and exec and makes only system calls; it allocates
    // nothing and takes no lock, which `confine` and `follow` keep.
    unsafe {
        command.pre_exec(move || {
            follow()?;
            if ring == Ring::Refused { confine() } else { Ok(()) }
        });
    }
}

fn follow() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a number and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
}

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

fn confine() -> io::Result<()> {
    const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code, jt, jf, k }
    }
    // One number on all architectures that have io_uring, so the architecture is not looked at.
    const SETUP: u32 = 425;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | 1; // EPERM
    let mut filter = [
        // offsetof(struct seccomp_data, nr) is 0
        instruction(LOAD_WORD, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 0, 1, SETUP),
        instruction(RETURN, 0, 0, REFUSE),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `program` points at `filter`, four instructions long; both live past the call, and
    // the kernel copies them.
    check(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
