//! Control groups, version 2 (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted; beside version 1 on some systems.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The folder of the group that this process is in; `None` where there is no version 2.
pub fn own_folder() -> Option<PathBuf> {
    let mount = MOUNTS.iter().map(Path::new).find(|mount| mount.join("cgroup.procs").exists())?;
    let lines = fs::read_to_string("/proc/self/cgroup").ok()?;
    parse_own(mount, &lines)
}

fn parse_own(mount: &Path, lines: &str) -> Option<PathBuf> {
    let path = lines.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A group outside of our namespace shows as a path that climbs.
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    Some(mount.join(path))
}
