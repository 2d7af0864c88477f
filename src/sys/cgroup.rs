//! A control group for each worker (version 2; cgroups(7)), so that all that a worker started dies
//! with it and its memory is told apart; only below a folder that was delegated to us.
//!
//! A process is never moved by us but a child into its own group, before it runs: a service manager
//! finds everything else where it put it, also when it starts the next supervisor.

use super::errno::Error;
use super::family;
use nix::errno::Errno;
use nix::libc;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted; beside version 1 on some systems.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Names the folder to divide, where no service manager delegates one.
const VARIABLE: &str = "LYCHGATE_CGROUP";
/// Of ours, in the folder that is delegated.
const NAME: &str = "lychgate";
/// What systemd marks a delegated folder with: for root, and (from 251 on) for everybody.
const MARKS: [&str; 2] = ["trusted.delegate", "user.delegate"];
/// Letters of a pool's name in a folder's.
const POOL_SIZE_MAX: usize = 100;
/// Without `cgroup.kill` (before kernel 5.14), processes that fork while they are killed need more
/// than one round.
const KILL_ROUNDS_MAX: usize = 16;
/// How deep groups of a worker's own making are looked into.
const DEPTH_MAX: usize = 8;

/// The folder whose groups are ours to make.
#[derive(Debug)]
pub struct Estate {
    folder: PathBuf,
}

/// A worker's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    folder: PathBuf,
}

/// The folder of the group that this process is in; `None` where there is no version 2.
pub fn own_folder() -> Option<PathBuf> {
    let mount = MOUNTS.iter().map(Path::new).find(|mount| mount.join("cgroup.procs").exists())?;
    let lines = fs::read_to_string("/proc/self/cgroup").ok()?;
    parse_own(mount, &lines)
}

fn parse_own(mount: &Path, lines: &str) -> Option<PathBuf> {
    let path = lines.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A group outside of our namespace shows as a path that climbs.
    (!path.split('/').any(|part| part == "..")).then(|| mount.join(path))
}

/// Makes this process a member of the group whose entrance this is. Makes system calls only, so it
/// may run between fork and exec.
pub fn enter(entrance: BorrowedFd<'_>) -> nix::Result<()> {
    // 0 is who writes.
    nix::unistd::write(entrance, b"0").map(|_written| ())
}

impl Estate {
    /// What was delegated to us: the folder that `LYCHGATE_CGROUP` names, or that of our service
    /// (`Delegate=yes` in a unit of systemd). `None`: nothing.
    pub fn find() -> Result<Option<Self>, Error> {
        let delegated = match std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
            Some(name) => Some(PathBuf::from(name)),
            None => own_folder().and_then(|own| delegated(&own)),
        };
        delegated.map(|folder| Self::below(&folder)).transpose()
    }

    /// Makes our folder below a delegated one.
    pub fn below(delegated: &Path) -> Result<Self, Error> {
        if !delegated.join("cgroup.procs").exists() {
            let remedy = format!(
                "{} is no folder of a control group (version 2): correct {VARIABLE} or unset it.",
                delegated.display()
            );
            return Err(Error::new("open", Errno::ENOENT).with_remedy(remedy));
        }
        let folder = delegated.join(NAME);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                let remedy = "Delegate the folder to this user (Delegate=yes in its unit).";
                return Err(Error::of("mkdir", &error).with_remedy(remedy));
            }
            _ => {}
        }
        // A group with processes of its own cannot pass controllers on, and is better left alone: a
        // service manager could put none in it any more. Then groups only hold processes together.
        let is_empty = fs::read_to_string(delegated.join("cgroup.procs"))
            .is_ok_and(|processes| processes.trim().is_empty());
        if is_empty {
            for folder in [delegated, &folder] {
                let _ = fs::write(folder.join("cgroup.subtree_control"), "+memory");
            }
        }
        Ok(Self { folder })
    }

    /// Makes a worker's group; one of this name that was left empty is taken again.
    pub fn group(&self, pool: &str, slot: u16, generation: u32) -> Result<Group, Error> {
        let group = self.named(pool, slot, generation);
        // Its counters begin anew.
        let _ = fs::remove_dir(&group.folder);
        fs::create_dir(&group.folder).map_err(Error::by("mkdir"))?;
        Ok(group)
    }

    /// The group of a worker that an earlier supervisor started; `None`: it has none.
    pub fn existing(&self, pool: &str, slot: u16, generation: u32) -> Option<Group> {
        let group = self.named(pool, slot, generation);
        group.folder.is_dir().then_some(group)
    }

    fn named(&self, pool: &str, slot: u16, generation: u32) -> Group {
        let safe = |letter: char| {
            if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' }
        };
        let pool: String = pool.chars().take(POOL_SIZE_MAX).map(safe).collect();
        Group { folder: self.folder.join(format!("{pool}.{slot}.{generation}")) }
    }

    /// Removes every group that nobody is in. To be called after deaths, and again: a group's last
    /// process leaves it a moment after its end is seen.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for folder in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            // Refused while somebody is in it (EBUSY).
            remove(&folder, DEPTH_MAX);
        }
    }
}

impl Group {
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a child writes to by [`enter`]. The right to do so is that of who opened it.
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        Ok(File::options().write(true).open(self.folder.join("cgroup.procs"))?.into())
    }

    /// Kills all that are in it, and in groups below it.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.folder.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == ErrorKind::NotFound && self.folder.is_dir() => {
                self.kill_each();
                Ok(())
            }
            // Removed already: nobody is in it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            done => done,
        }
    }

    fn kill_each(&self) {
        for _ in 0..KILL_ROUNDS_MAX {
            if family::kill(|| self.processes()) == 0 {
                break;
            }
        }
    }

    /// All that are in it, and in groups below it.
    pub fn processes(&self) -> Vec<i32> {
        let mut all = Vec::new();
        collect(&self.folder, DEPTH_MAX, &mut all);
        all
    }

    /// How many of it the kernel has killed for want of memory; 0 where it does not say.
    pub fn memory_kills(&self) -> u64 {
        let events = fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default();
        counted(&events, "oom_kill ")
    }

    /// True when it is gone; false while somebody is in it.
    pub fn remove(&self) -> bool {
        remove(&self.folder, DEPTH_MAX)
    }
}

/// How many processes of the whole machine the kernel has killed for want of memory (since 4.13).
pub fn memory_kills() -> u64 {
    counted(&fs::read_to_string("/proc/vmstat").unwrap_or_default(), "oom_kill ")
}

fn counted(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_folder).map(|entry| entry.path()).collect()
}

fn collect(folder: &Path, depth: usize, all: &mut Vec<i32>) {
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    all.extend(processes.lines().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth > 0 {
        for below in subfolders(folder) {
            collect(&below, depth - 1, all);
        }
    }
}

fn remove(folder: &Path, depth: usize) -> bool {
    if depth > 0 {
        for below in subfolders(folder) {
            remove(&below, depth - 1);
        }
    }
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// The folder that our service manager delegated: that of our group or the one above it, where it
/// has put us below (`DelegateSubgroup=`). As root, everything is writable, so only a mark counts.
fn delegated(own: &Path) -> Option<PathBuf> {
    let is_owned = |folder: &Path| {
        let user = nix::unistd::geteuid().as_raw();
        user != 0
            && ["cgroup.procs", "cgroup.subtree_control"]
                .iter()
                .all(|name| fs::metadata(folder.join(name)).is_ok_and(|file| file.uid() == user))
    };
    let is_marked = |folder: &Path| MARKS.iter().any(|mark| mark_of(folder, mark) == Some(b'1'));
    own.ancestors()
        .take(2)
        // The root of a container's namespace is ours to divide only if somebody says so.
        .filter(|folder| folder.join("cgroup.type").exists())
        .find(|folder| is_marked(folder) || is_owned(folder))
        .map(Path::to_owned)
}

/// The only letter of an extended attribute (xattr(7)).
fn mark_of(folder: &Path, name: &str) -> Option<u8> {
    let folder = CString::new(folder.as_os_str().as_bytes()).ok()?;
    let name = CString::new(name).ok()?;
    let mut value = [0u8; 1];
    let room = value.as_mut_ptr().cast();
    // SAFETY: both names end in zeros, and the room is as long as it is said to be; all outlive
    // the call.
    let size = unsafe { libc::getxattr(folder.as_ptr(), name.as_ptr(), room, value.len()) };
    (size == 1).then_some(value[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Launch, Program};
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn our_own_group_is_found_among_those_of_version_1() {
        let lines = "9:name=systemd:/x\n4:memory:/m\n0::/system.slice/lychgate.service\n";
        let mount = Path::new("/mount");
        let expected = mount.join("system.slice/lychgate.service");
        assert_eq!(parse_own(mount, lines), Some(expected));
        assert_eq!(parse_own(mount, "0::/\n").as_deref(), Some(mount));
        assert_eq!(parse_own(mount, "4:memory:/m\n"), None);
        assert_eq!(parse_own(mount, "0::/../../x\n"), None);
    }

    #[test]
    fn a_folder_that_is_no_group_is_refused_and_names_are_safe() {
        let folder = tempfile::tempdir().unwrap();
        let refused = Estate::below(folder.path()).unwrap_err();
        assert!(refused.to_string().contains(VARIABLE), "{refused}");
        // A plain folder in the shape of a group.
        fs::write(folder.path().join("cgroup.procs"), "1\n").unwrap();
        let estate = Estate::below(folder.path()).unwrap();
        let group = estate.group("../a b.é", 1, 2).unwrap();
        assert_eq!(group.folder(), folder.path().join(NAME).join("---a-b--.1.2"));
        assert_eq!(estate.existing("../a b.é", 1, 2), Some(group.clone()));
        assert_eq!(estate.existing("a", 1, 2), None);
        fs::write(group.folder().join("memory.events"), "oom 9\noom_kill 3\n").unwrap();
        assert_eq!(group.memory_kills(), 3);
        fs::write(group.folder().join("cgroup.procs"), "0\n12\nx\n").unwrap();
        fs::create_dir(group.folder().join("below")).unwrap();
        fs::write(group.folder().join("below/cgroup.procs"), "13\n").unwrap();
        assert_eq!(group.processes(), [12, 13]);
        assert!(!group.remove());
        assert!(memory_kills() < u64::MAX);
        assert_eq!(mark_of(folder.path(), "user.delegate"), None);
    }

    #[test]
    fn all_of_a_group_die_even_those_that_left_their_parents() {
        let Some(delegated) = std::env::var_os(VARIABLE) else {
            let _ = writeln!(io::stderr(), "SKIPPED: no control group is delegated: {VARIABLE}");
            return;
        };
        let estate = Estate::below(Path::new(&delegated)).unwrap();
        let generation = std::process::id();
        for is_modern in [true, false] {
            let group = estate.group("test", 0, generation).unwrap();
            let entrance = group.entrance().unwrap();
            let script = "setsid sleep 600 & setsid sleep 600 & wait";
            let argv = ["sh", "-c", script].map(str::to_owned);
            let null = File::options().write(true).open("/dev/null").unwrap();
            let launch = Launch {
                program: Program::Named { path: "/usr/bin:/bin".into() },
                argv: &argv,
                environment: &[],
                directory: None,
                stdout: null.as_fd(),
                stderr: null.as_fd(),
                third: None,
                identity: None,
                open_files: None,
                umask: None,
                leads_group: true,
                entrance: Some(entrance.as_fd()),
                ends_with_parent: true,
                wants_listen_pid: false,
            };
            let held = launch.start().unwrap();
            let end = crate::sys::clock::now() + std::time::Duration::from_secs(20);
            // It was born there, so each of the three is.
            while group.processes().len() < 3 {
                assert!(crate::sys::clock::now() < end);
                std::thread::yield_now();
            }
            assert!(group.processes().contains(&held.pid()));
            assert!(!group.remove(), "somebody is in it");
            if is_modern {
                group.kill().unwrap();
            } else {
                group.kill_each();
            }
            while held.try_wait().unwrap().is_none() {
                assert!(crate::sys::clock::now() < end);
                std::thread::yield_now();
            }
            while !group.remove() {
                assert!(crate::sys::clock::now() < end, "{:?}", group.processes());
                estate.sweep();
            }
            assert_eq!(estate.existing("test", 0, generation), None);
            group.kill().unwrap();
            // A descriptor of a group that is gone leads nowhere.
            assert!(enter(entrance.as_fd()).is_err());
        }
    }
}
