//! What /proc says of a process and all below it: CPU time, memory, descriptors, threads.
//!
//! A process that ends while it is being read is simply not there any more; none of these fails.

use std::collections::BTreeMap;
use std::fs;

/// CPU time per thread, ns, from the first field of `schedstat` (proc_pid_schedstat in the kernel's
/// scheduler documentation). Per thread, so that one which ended is noticed and not counted negative.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuTimes(BTreeMap<u32, u64>);

/// What went by between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuSpent {
    pub(crate) ns: u64,
    /// Threads that ended in between: what they used at last is not in `ns`.
    pub(crate) threads_ended: usize,
}

impl CpuTimes {
    pub(crate) fn of(root: u32) -> Self {
        let mut times = BTreeMap::new();
        for pid in tree(root) {
            for thread in numbered(&format!("/proc/{pid}/task")) {
                let text = read(&format!("/proc/{pid}/task/{thread}/schedstat"));
                if let Some(ns) = first_number(&text) {
                    times.insert(thread, ns);
                }
            }
        }
        Self(times)
    }

    pub(crate) fn until(&self, later: &Self) -> CpuSpent {
        let spent = |(thread, ns): (&u32, &u64)| {
            ns.saturating_sub(self.0.get(thread).copied().unwrap_or(0))
        };
        CpuSpent {
            ns: later.0.iter().map(spent).sum(),
            threads_ended: self.0.keys().filter(|&thread| !later.0.contains_key(thread)).count(),
        }
    }
}

/// Memory of a process and all below it, KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// Private to the process and backed by no file: what connections really cost in user memory.
    pub(crate) anonymous: u64,
}

pub(crate) fn memory(root: u32) -> Memory {
    let mut sum = Memory::default();
    for pid in tree(root) {
        let text = read(&format!("/proc/{pid}/smaps_rollup"));
        sum.resident += labelled(&text, "Rss:");
        sum.anonymous += labelled(&text, "Anonymous:");
    }
    sum
}

/// Open descriptors of one process.
pub(crate) fn descriptors(pid: u32) -> usize {
    numbered(&format!("/proc/{pid}/fd")).len()
}

/// Direct children, in order of their numbers.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    parents().into_iter().filter(|&(_, parent)| parent == pid).map(|(child, _)| child).collect()
}

pub(crate) fn command_line(pid: u32) -> String {
    read(&format!("/proc/{pid}/cmdline")).replace('\0', " ")
}

/// Kernel helper threads that io_uring started for this process and those below it; a relay that
/// works as meant has none.
pub(crate) fn ring_workers(root: u32) -> usize {
    let name = |pid: u32, thread: u32| read(&format!("/proc/{pid}/task/{thread}/comm"));
    tree(root)
        .into_iter()
        .flat_map(|pid| {
            numbered(&format!("/proc/{pid}/task")).into_iter().map(move |thread| (pid, thread))
        })
        .filter(|&(pid, thread)| name(pid, thread).starts_with("iou-"))
        .count()
}

/// Time that one CPU was not idle, ns, at the resolution of the kernel's tick (10 ms).
pub(crate) fn core_busy(core: usize) -> u64 {
    let text = read("/proc/stat");
    let label = format!("cpu{core} ");
    let Some(line) = text.lines().find(|line| line.starts_with(&label)) else { return 0 };
    let fields: Vec<u64> =
        line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is already in user.
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|&at| fields.get(at)).sum();
    busy * 10_000_000
}

fn tree(root: u32) -> Vec<u32> {
    let parents = parents();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        found.extend(parents.iter().filter(|&&(_, parent)| parent == pid).map(|&(child, _)| child));
        at += 1;
    }
    found
}

/// Every process and its parent.
fn parents() -> Vec<(u32, u32)> {
    let parent = |pid: u32| parent_in_stat(&read(&format!("/proc/{pid}/stat")));
    numbered("/proc").into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// The name in parentheses may hold anything, so fields are counted from the last parenthesis.
fn parent_in_stat(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn numbered(folder: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut numbers: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn labelled(text: &str, label: &str) -> u64 {
    text.lines().find_map(|line| first_number(line.strip_prefix(label)?)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{CpuSpent, CpuTimes, descriptors, labelled, memory, parent_in_stat, tree};
    use std::collections::BTreeMap;
    use std::fs::File;

    #[test]
    fn a_name_with_parentheses_hides_no_parent() {
        assert_eq!(parent_in_stat("7 (a) b) (c) S 42 7 7"), Some(42));
        assert_eq!(parent_in_stat("garbage"), None);
    }

    #[test]
    fn threads_that_came_count_and_those_that_ended_are_told() {
        let before = CpuTimes(BTreeMap::from([(1, 100), (2, 50), (4, 1)]));
        let after = CpuTimes(BTreeMap::from([(1, 130), (3, 7)]));
        assert_eq!(before.until(&after), CpuSpent { ns: 37, threads_ended: 2 });
    }

    #[test]
    fn rollup_lines_are_found_by_label() {
        let text = "55-7f ---p 00000000 [rollup]\nRss:   1234 kB\nAnonymous:   56 kB\n";
        assert_eq!((labelled(text, "Rss:"), labelled(text, "Anonymous:")), (1234, 56));
        assert_eq!(labelled(text, "Pss:"), 0);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = std::process::id();
        assert_eq!(tree(own).first(), Some(&own));
        let spent = CpuTimes::default().until(&CpuTimes::of(own));
        assert!(spent.ns > 0);
        assert!(memory(own).anonymous > 0);
        let held = File::open("/proc/self/stat");
        assert!(held.is_ok() && descriptors(own) > 3);
    }
}
