//! Who belongs to a process: by process group, by descent and, for those that went their own way
//! (a double fork), by the environment that they were started with. Read from /proc (proc(5)).

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The part of an environment that is looked at.
const ENVIRONMENT_SIZE_MAX: u64 = 256 * 1024;
/// Processes of one family whose children are looked for.
const FAMILY_MAX: usize = 1024;

/// One line of the table of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    pid: i32,
    parent: i32,
    group: i32,
}

/// Whether `pid` is the process `leader`, in its process group, or descends from it. A process
/// that has ended is nobody's, unless it is the leader.
pub fn is_of(pid: i32, leader: i32) -> bool {
    // Longer than any sane chain; a cycle can show while processes come and go.
    const STEPS_MAX: usize = 64;
    let mut at = pid;
    for _ in 0..STEPS_MAX {
        if at == leader {
            return true;
        }
        let Some(entry) = entry(at).filter(|entry| entry.pid > 1) else { return false };
        if entry.group == leader {
            return true;
        }
        at = entry.parent;
    }
    false
}

/// All processes of a leader's family: itself, its process group, and what descends from them.
pub fn members(leader: i32) -> Vec<i32> {
    closure(&table(), |entry| entry.pid == leader || entry.group == leader)
}

/// What descends from a process, without itself and those that went their own way. Not by the lists
/// of children below /proc/PID/task: looking there leaves an entry for each thread in the kernel's
/// cache of names, and reaping a process of many threads then takes it seconds to clear.
pub fn descendants(pid: i32, kin: &Kin) -> Vec<i32> {
    let mut found = closure(&kin.0, |entry| entry.parent == pid);
    found.truncate(FAMILY_MAX);
    found
}

/// Who is whose child, on the whole machine, at one moment: one look serves many questions.
#[derive(Debug)]
pub struct Kin(Vec<Entry>);

impl Kin {
    pub fn look() -> Self {
        Self(table())
    }
}

/// All processes whose environment holds each of these, and what descends from them; this process
/// never. Only those whose environment we may read: our own user's, and everybody's as root.
pub fn marked(marks: &[(String, String)]) -> Vec<i32> {
    let marks: Vec<Vec<u8>> =
        marks.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect();
    let ourselves = std::process::id().cast_signed();
    let mut found = closure(&table(), |entry| entry.pid != ourselves && bears(entry.pid, &marks));
    found.retain(|pid| *pid != ourselves);
    found
}

/// Kills all that [`members`] finds; how many there were. Only while the leader is not reaped, for
/// then its number can pass to a stranger.
pub fn kill_members(leader: i32) -> usize {
    kill(|| members(leader))
}

/// Kills all that [`marked`] finds; how many there were.
pub fn kill_marked(marks: &[(String, String)]) -> usize {
    kill(|| marked(marks))
}

/// Kills all that are found. Each is held before it is looked at a second time: a number that passed to a stranger meanwhile
/// is then either not found again, or what is held is dead.
pub(super) fn kill(find: impl Fn() -> Vec<i32>) -> usize {
    let held: Vec<(i32, OwnedFd)> =
        find().into_iter().filter_map(|pid| Some((pid, hold(pid).ok()?))).collect();
    if held.is_empty() {
        return 0;
    }
    let still = find();
    let is_killed = |(pid, process): &&(i32, OwnedFd)| {
        still.contains(pid) && signal(process, libc::SIGKILL).is_ok()
    };
    held.iter().filter(is_killed).count()
}

/// What a process was started with.
#[derive(Debug)]
pub struct Environment(Vec<u8>);

impl Environment {
    fn of(pid: i32) -> Option<Self> {
        let mut text = Vec::new();
        let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
        file.take(ENVIRONMENT_SIZE_MAX).read_to_end(&mut text).ok()?;
        Some(Self(text))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.split(|byte| *byte == 0);
        let value =
            lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        str::from_utf8(value).ok()
    }
}

/// Kills all processes of whose environment this is true, and what descends from them; this process
/// never. How many there were.
pub fn kill_started_with(is_meant: impl Fn(i32, &Environment) -> bool) -> usize {
    let ourselves = std::process::id().cast_signed();
    let is_root = |entry: &Entry| {
        let environment = (entry.pid != ourselves).then(|| Environment::of(entry.pid)).flatten();
        environment.is_some_and(|environment| is_meant(entry.pid, &environment))
    };
    kill(|| {
        let mut found = closure(&table(), is_root);
        found.retain(|pid| *pid != ourselves);
        found
    })
}

/// From now on, descendants whose parent ends become our children, not init's, so that they can be
/// found and reaped (prctl(2), PR_SET_CHILD_SUBREAPER).
pub fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Reaps the ended children that nobody waits for; `is_known` are those that somebody does.
pub fn reap(is_known: impl Fn(i32) -> bool) -> Vec<i32> {
    let mut reaped = Vec::new();
    for pid in children_of("self").into_iter().filter(|pid| !is_known(*pid)) {
        let ended = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        // EINVAL: it ended by a signal that nix has no name for.
        if !matches!(ended, Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD | Errno::EINTR)) {
            reaped.push(pid);
        }
    }
    reaped
}

/// The children of a process, those of all its threads.
fn children_of(process: &str) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| {
        // Needs CONFIG_PROC_CHILDREN, which every distribution sets.
        fs::read_to_string(thread.path().join("children")).ok()
    });
    lists
        .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn hold(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = RawFd::try_from(Errno::result(raw)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call above made this descriptor (close-on-exec by itself) for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn signal(process: &OwnedFd, signal: libc::c_int) -> nix::Result<()> {
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is a pidfd; no siginfo is passed, so no memory is read.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, none, 0) };
    Errno::result(sent).map(|_sent| ())
}

/// The entries that `is_root` names, with all that descends from them.
fn closure(table: &[Entry], is_root: impl Fn(&Entry) -> bool) -> Vec<i32> {
    let mut found: Vec<i32> =
        table.iter().filter(|entry| is_root(entry)).map(|entry| entry.pid).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for entry in table {
            if entry.parent == parent && !found.contains(&entry.pid) {
                found.push(entry.pid);
            }
        }
    }
    found
}

fn table() -> Vec<Entry> {
    let Ok(folders) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = folders.flatten().filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    pids.filter_map(entry).collect()
}

fn entry(pid: i32) -> Option<Entry> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in the second field may hold anything, parentheses and blanks among it.
fn parse(pid: i32, stat: &[u8]) -> Option<Entry> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Entry { pid, parent, group })
}

fn bears(pid: i32, marks: &[Vec<u8>]) -> bool {
    let Ok(file) = fs::File::open(format!("/proc/{pid}/environ")) else { return false };
    let mut environment = Vec::new();
    if file.take(ENVIRONMENT_SIZE_MAX).read_to_end(&mut environment).is_err() {
        return false;
    }
    !marks.is_empty()
        && marks.iter().all(|mark| environment.split(|byte| *byte == 0).any(|line| line == mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    /// A shell in a group of its own, and the process ids that its script prints.
    fn shell(script: &str, mark: &str) -> (Child, Vec<i32>) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .env("LYCHGATE_FAMILY", mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
    }

    fn leader(child: &Child) -> i32 {
        child.id().cast_signed()
    }

    fn is_gone(pid: i32) -> bool {
        // A zombie is dead; who reaps it is another matter.
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    }

    fn wait_until(is_so: impl Fn() -> bool) {
        let end = crate::sys::clock::now() + std::time::Duration::from_secs(20);
        while !is_so() {
            assert!(crate::sys::clock::now() < end, "it does not come");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_line_is_read_whatever_the_name_is() {
        let line = b"7 (a) R 1 (b) S 41 42 43 0 -1 4194560";
        assert_eq!(parse(7, line), Some(Entry { pid: 7, parent: 41, group: 42 }));
        for broken in [&b""[..], b"7 (a", b"7 (a) S", b"7 (a) S x 1", b"7 (a) S 1 \xff"] {
            assert_eq!(parse(7, broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_family_is_found_and_killed_those_that_left_among_it() {
        let mark = format!("a-{}", std::process::id());
        // The first grandchild leaves the group and is left by its parent; the second stays.
        let script = "(setsid sleep 600 >&2 & echo $! >&3) 3>&1 | { read far; sleep 600 >&2 & \
                      echo $far $!; read forever; }";
        let script = format!("exec 4<&0; {}", script.replace("read forever", "read forever <&4"));
        let (mut child, pids) = shell(&script, &mark);
        let [far, near] = pids[..] else { panic!("{pids:?}") };
        assert!(is_of(near, leader(&child)) && is_of(leader(&child), leader(&child)));
        assert!(!is_of(std::process::id().cast_signed(), leader(&child)));
        assert!(members(leader(&child)).contains(&near));
        let kin = Kin::look();
        let below = descendants(leader(&child), &kin);
        assert!(below.contains(&near) && !below.contains(&far));
        assert!(descendants(near, &kin).is_empty());
        let marks = [("LYCHGATE_FAMILY".to_owned(), mark.clone())];
        wait_until(|| marked(&marks).contains(&far));
        assert!(marked(&[marks[0].clone(), ("LYCHGATE_FAMILY".into(), "b".into())]).is_empty());
        assert!(marked(&[]).is_empty());
        assert!(kill_members(leader(&child)) >= 2);
        child.wait().unwrap();
        wait_until(|| is_gone(near));
        assert!(!is_gone(far), "it had left");
        assert_eq!(kill_marked(&marks), 1);
        wait_until(|| is_gone(far));
    }

    #[test]
    fn only_children_that_nobody_waits_for_are_reaped() {
        let mut known = Command::new("true").spawn().unwrap();
        let stranger = Command::new("true").spawn().unwrap();
        let (known_pid, pid) = (leader(&known), leader(&stranger));
        drop(stranger);
        wait_until(|| reap(|child| child != pid).contains(&pid));
        assert!(children_of("self").contains(&known_pid));
        assert!(known.wait().unwrap().success());
        assert!(!children_of("self").contains(&known_pid));
    }
}
