//! Processes of an earlier supervisor: found again by number and start time, watched by pidfd
//! (pidfd_open(2)), though they are not our children.

use super::{Child, Ended, open_pidfd};
use crate::sys::poll::{self, Interest};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Of pidfd_send_signal(2): to the group that the process leads (Linux 6.9).
const TO_GROUP: libc::c_uint = 4;

/// `struct pidfd_info` of linux/pidfd.h in its first size.
#[repr(C)]
#[derive(Default)]
struct Facts {
    /// What is asked for, then what is told.
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid, and eight user and group numbers.
    numbers: [u32; 11],
    /// As of waitpid(2).
    status: i32,
}

/// `PIDFD_INFO_EXIT` (Linux 6.15).
const EXIT: u64 = 1 << 3;
/// `PIDFD_GET_INFO`: `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl = (3 << 30) | ((size_of::<Facts>() as libc::Ioctl) << 16) | 0xFF0B;

const _: () = assert!(size_of::<Facts>() == 64);

/// When a process was started, in clock ticks since the machine was: with its number it is that
/// process and no other (proc_pid_stat(5), field 22).
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

impl Child {
    /// A process that somebody else started, leader of its process group, if it is still that one;
    /// `None` when it is gone.
    pub fn adopt(pid: i32, ticks: u64) -> io::Result<Option<Self>> {
        if pid <= 1 {
            return Ok(None);
        }
        let pid = Pid::from_raw(pid);
        let pidfd = match open_pidfd(pid) {
            Ok(pidfd) => pidfd,
            // Linux before 6.9 says EINVAL of what is a thread now.
            Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // Asked after the descriptor was there: who has the right start time now had the number
        // then, too.
        match start_ticks(pid.as_raw()) {
            Ok(found) if found == ticks => {
                Ok(Some(Self { pid, pidfd, has_group: true, is_adopted: true }))
            }
            Ok(_) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn try_wait_adopted(&self) -> io::Result<Option<Ended>> {
        let mut ready = Vec::new();
        poll::wait(&[(self.as_fd(), Interest::Read)], Some(Duration::ZERO), &mut ready)?;
        if ready != [true] {
            return Ok(None);
        }
        if self.has_group {
            self.signal_adopted(Signal::SIGKILL)?;
        }
        Ok(Some(self.ended().unwrap_or(Ended::Unknown)))
    }

    /// The descriptor stands for the process and its group whatever becomes of their numbers.
    pub(super) fn signal_adopted(&self, signal: Signal) -> io::Result<()> {
        let flags = if self.has_group { TO_GROUP } else { 0 };
        match self.send(signal, flags) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            // The kernel does not know groups here. As long as the leader is there, alive or not
            // waited for, its number is nobody else's.
            Err(Errno::EINVAL) if flags != 0 => {
                match self.send(signal, 0).and_then(|()| killpg(self.pid, signal)) {
                    Ok(()) | Err(Errno::ESRCH) => Ok(()),
                    Err(errno) => Err(errno.into()),
                }
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn send(&self, signal: Signal, flags: libc::c_uint) -> nix::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        let (number, descriptor) = (signal as libc::c_int, self.pidfd.as_raw_fd());
        // SAFETY: pidfd_send_signal takes integers and a null pointer, and touches no memory.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, number, none, flags) };
        Errno::result(sent).map(drop)
    }

    /// How it ended, where the kernel says so to who is not its parent.
    fn ended(&self) -> Option<Ended> {
        let mut facts = Facts { mask: EXIT, ..Facts::default() };
        // SAFETY: the number names an ioctl that reads and writes a structure of this very size,
        // which is ours and outlives the call.
        let asked = unsafe { libc::ioctl(self.pidfd.as_raw_fd(), GET_INFO, &raw mut facts) };
        let told = if asked == 0 && facts.mask & EXIT != 0 {
            facts.status
        } else {
            // Its parent has not waited for it yet.
            stat(self.pid.as_raw()).ok().filter(|stat| stat.is_dead)?.status
        };
        match WaitStatus::from_raw(self.pid, told) {
            Ok(WaitStatus::Exited(_, code)) => Some(Ended::Exit(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Signal(signal)),
            _ => None,
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    is_dead: bool,
    start_ticks: u64,
    /// As of waitpid(2); 0 for who may not know.
    status: i32,
}

fn stat(pid: i32) -> io::Result<Stat> {
    let line = std::fs::read(format!("/proc/{pid}/stat"))?;
    parse(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no line of stat"))
}

/// The name, the second field, may hold anything; it ends with the last bracket.
fn parse(line: &[u8]) -> Option<Stat> {
    let after = line.iter().rposition(|&byte| byte == b')')? + 1;
    let fields: Vec<&str> = str::from_utf8(&line[after..]).ok()?.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3);
    Some(Stat {
        is_dead: matches!(*field(3)?, "Z" | "X"),
        start_ticks: field(22)?.parse().ok()?,
        status: field(52).and_then(|field| field.parse().ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Launch, Program};
    use std::io::{PipeReader, Read, pipe};

    /// A shell that leads a group, its words read from the pipe.
    fn shell(script: &str) -> (Child, PipeReader) {
        let (out, into) = pipe().unwrap();
        let argv = ["sh", "-c", script].map(str::to_owned);
        let launch = Launch {
            program: Program::Named { path: "/usr/bin:/bin".into() },
            argv: &argv,
            environment: &[],
            directory: None,
            stdout: into.as_fd(),
            stderr: into.as_fd(),
            third: None,
            identity: None,
            open_files: None,
            umask: None,
            leads_group: true,
            entrance: None,
            ends_with_parent: true,
            wants_listen_pid: false,
        };
        (launch.start().unwrap(), out)
    }

    fn wait(child: &Child) {
        let mut ready = Vec::new();
        let limit = Some(Duration::from_secs(20));
        poll::wait(&[(child.as_fd(), Interest::Read)], limit, &mut ready).unwrap();
        assert_eq!(ready, [true]);
    }

    fn adopted(child: &Child) -> Child {
        let ticks = start_ticks(child.pid()).unwrap();
        Child::adopt(child.pid(), ticks).unwrap().expect("it runs")
    }

    #[test]
    fn a_process_is_found_again_only_by_its_own_start() {
        let (child, _out) = shell("exec sleep 60");
        let ticks = start_ticks(child.pid()).unwrap();
        assert!(Child::adopt(child.pid(), ticks + 1).unwrap().is_none());
        for nobody in [i32::MAX, 0, -1, 1] {
            assert!(Child::adopt(nobody, 0).unwrap().is_none());
        }
        let again = Child::adopt(child.pid(), ticks).unwrap().unwrap();
        assert_eq!(again.try_wait().unwrap(), None);
        again.kill().unwrap();
        wait(&again);
        // Dead and not waited for: its parent, this test, is slow.
        assert_eq!(again.try_wait().unwrap(), Some(Ended::Signal(Signal::SIGKILL)));
        assert_eq!(child.try_wait().unwrap(), Some(Ended::Signal(Signal::SIGKILL)));
        assert!(Child::adopt(child.pid(), ticks).unwrap().is_none());
        // What is gone can be asked to go.
        again.kill().unwrap();
        again.terminate().unwrap();
    }

    #[test]
    fn how_it_ended_is_known_where_the_kernel_tells() {
        let (child, _out) = shell("read nothing < /dev/null; exit 7");
        let again = adopted(&child);
        wait(&again);
        let early = again.try_wait().unwrap().unwrap();
        assert_eq!(early, Ended::Exit(7));
        assert_eq!(child.try_wait().unwrap(), Some(Ended::Exit(7)));
        let late = again.try_wait().unwrap().unwrap();
        assert!([Ended::Exit(7), Ended::Unknown].contains(&late), "{late}");
    }

    #[test]
    fn its_group_goes_with_it() {
        let (child, mut out) = shell("sleep 60 & exit 0");
        let again = adopted(&child);
        wait(&again);
        assert_eq!(again.try_wait().unwrap(), Some(Ended::Exit(0)));
        // The end of the pipe is seen only when nobody holds it any more.
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
        child.try_wait().unwrap();
    }

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name_is() {
        let fields: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let line = format!("7 (a) R 1 (b)) Z {}", fields.join(" "));
        let expected = Stat { is_dead: true, start_ticks: 22, status: 52 };
        assert_eq!(parse(line.as_bytes()), Some(expected));
        for bad in ["", "7 (a) R 1", "7 a", "7 (a) R x"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
