//! How much memory a process has, and how much there is to have: proc(5), and memory.max of
//! control groups (version 2; cgroups(7)).

use super::family::{self, Kin};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const UNIT: u64 = 1024;

/// What one process has, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Anonymous memory, in store or swapped out: what nobody else has.
    pub private: u64,
    /// All of its address space.
    pub virtual_size: u64,
}

/// Asks the kernel about a process. An error when it has ended.
pub fn of_process(pid: i32) -> io::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_status(&status).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// What a process and its descendants have together: pages that they share since a fork count
/// once, which is dearer to find out. The address space is that of the process alone.
pub fn of_family(pid: i32, kin: &Kin) -> io::Result<Usage> {
    let alone = of_process(pid)?;
    let descendants = family::descendants(pid, kin);
    if descendants.is_empty() {
        return Ok(alone);
    }
    // Those that end meanwhile have nothing.
    let all = [pid].into_iter().chain(descendants).filter_map(|pid| shared(pid).ok());
    Ok(Usage { private: all.fold(0, u64::saturating_add), ..alone })
}

/// A process's share of anonymous and swapped memory.
fn shared(pid: i32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    match parse_rollup(&rollup) {
        Some(share) => Ok(share),
        // We may not look (ptrace(2)), or the kernel does not tell these apart.
        None => of_process(pid).map(|usage| usage.private),
    }
}

/// What all processes of a control group have privately, in bytes; `folder` is the group's.
pub fn of_group(folder: &Path) -> io::Result<u64> {
    let anonymous = fs::read_to_string(folder.join("memory.stat"))?;
    let anonymous = parse_stat(&anonymous).ok_or(io::ErrorKind::InvalidData)?;
    // Absent without swap accounting.
    let swapped = fs::read_to_string(folder.join("memory.swap.current")).unwrap_or_default();
    Ok(anonymous.saturating_add(swapped.trim().parse().unwrap_or(0)))
}

/// What processes of ours can have together, in bytes: the machine's memory, or the least limit of
/// the control groups that we are in.
pub fn limit() -> u64 {
    let physical = fs::read_to_string("/proc/meminfo").ok();
    let physical = physical.and_then(|text| field(&text, "MemTotal:")).unwrap_or(u64::MAX);
    let group = super::cgroup::own_folder();
    physical.min(group.map_or(u64::MAX, |folder| group_limit(&folder)))
}

/// The least `memory.max` from a group's folder up to the root.
fn group_limit(folder: &Path) -> u64 {
    let limits = folder.ancestors().map(|folder| folder.join("memory.max"));
    limits.filter_map(read_limit).min().unwrap_or(u64::MAX)
}

/// "max", or no such file, is no limit.
fn read_limit(file: PathBuf) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A process without memory of its own (a kernel thread, or one that has ended) has no such lines.
fn parse_status(status: &str) -> Option<Usage> {
    let virtual_size = field(status, "VmSize:")?;
    let swapped = field(status, "VmSwap:").unwrap_or(0);
    let private = field(status, "RssAnon:")?.saturating_add(swapped);
    Some(Usage { private, virtual_size })
}

fn parse_rollup(rollup: &str) -> Option<u64> {
    let swapped = field(rollup, "SwapPss:").unwrap_or(0);
    Some(field(rollup, "Pss_Anon:")?.saturating_add(swapped))
}

/// Lines of the form `RssAnon:     1234 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let (number, unit) = line.trim().split_once(' ')?;
    let number: u64 = number.parse().ok()?;
    (unit == "kB").then(|| number.saturating_mul(UNIT))
}

fn parse_stat(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("anon "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Command, Stdio};

    #[test]
    fn anonymous_and_swapped_memory_is_private() {
        let status = "Name:\tVmSize: 9\nVmPeak:\t  300 kB\nVmSize:\t  200 kB\nVmRSS:\t 90 kB\n\
                      RssAnon:\t      70 kB\nRssFile:\t 20 kB\nVmSwap:\t       5 kB\n";
        let expected = Usage { private: 75 * 1024, virtual_size: 200 * 1024 };
        assert_eq!(parse_status(status), Some(expected));
        let no_swap = status.replace("VmSwap", "VmOther");
        assert_eq!(parse_status(&no_swap).unwrap().private, 70 * 1024);
        for broken in ["", "Name:\tkthreadd\n", "VmSize: 2 kB\nRssAnon: x kB\n", "VmSize: 2 MB\n"] {
            assert_eq!(parse_status(broken), None, "{broken}");
        }
        let huge = format!("VmSize: {0} kB\nRssAnon: {0} kB\nVmSwap: 1 kB\n", u64::MAX);
        assert_eq!(parse_status(&huge).unwrap().private, u64::MAX);
    }

    #[test]
    fn our_own_memory_grows_by_what_is_written_to() {
        let ourselves = std::process::id().cast_signed();
        let before = of_process(ourselves).unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = of_process(ourselves).unwrap();
        assert!(after.private >= before.private + (32 << 20), "{before:?} {after:?}");
        assert!(after.virtual_size >= after.private);
        drop(block);
        assert!(of_process(i32::MAX).is_err());
        assert!((1 << 20..u64::MAX).contains(&limit()));
    }

    #[test]
    fn a_family_has_what_its_members_have_and_nothing_twice() {
        let rollup = "55 - 7f rollup\nRss:  9 kB\nPss: 8 kB\nPss_Anon:   5 kB\nSwapPss: 2 kB\n";
        assert_eq!(parse_rollup(rollup), Some(7 * 1024));
        assert_eq!(parse_rollup("Pss: 8 kB\n"), None);
        // The child has a block of its own beside the one that it shares.
        let script = "import os, sys; shared = b'x' * (32 << 20)\n\
                      if os.fork() == 0: own = b'y' * (16 << 20)\n\
                      os.write(1, b'.'); sys.stdin.read()";
        let mut parent = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        parent.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        let pid = parent.id().cast_signed();
        let (alone, family) = (of_process(pid).unwrap(), of_family(pid, &Kin::look()).unwrap());
        let more = family.private.saturating_sub(alone.private) >> 20;
        assert!((15..30).contains(&more), "{alone:?} {family:?}");
        assert_eq!(family.virtual_size, alone.virtual_size);
        drop(parent.stdin.take());
        parent.wait().unwrap();
        assert!(of_family(pid, &Kin::look()).is_err());
    }

    #[test]
    fn a_group_has_what_its_files_say_and_the_least_limit_above_it() {
        let root = tempfile::tempdir().unwrap();
        let (middle, leaf) = (root.path().join("a"), root.path().join("a/b"));
        fs::create_dir_all(&leaf).unwrap();
        assert_eq!(group_limit(&leaf), u64::MAX);
        fs::write(leaf.join("memory.max"), "max\n").unwrap();
        fs::write(middle.join("memory.max"), "7000\n").unwrap();
        fs::write(root.path().join("memory.max"), "5000\n").unwrap();
        assert_eq!(group_limit(&leaf), 5000);
        fs::write(leaf.join("memory.stat"), "file 9\nanon_thp 8\nanon 300\n").unwrap();
        assert_eq!(of_group(&leaf).unwrap(), 300);
        fs::write(leaf.join("memory.swap.current"), "11\n").unwrap();
        assert_eq!(of_group(&leaf).unwrap(), 311);
        assert!(of_group(&middle).is_err());
    }
}
