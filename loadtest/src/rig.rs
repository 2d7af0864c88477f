//! The place where one run happens: a temporary folder, free ports, two CPUs, room for descriptors;
//! and a watcher that clears the folder when this process is gone, however it went.

use crate::failure::{Failure, while_doing};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, mkdtemp};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's usual range for outgoing connections (ip_local_port_range starts at 32768), so
/// that ten thousand clients cannot take the port of a server that is about to start.
const PORTS: std::ops::Range<u16> = 18_000..32_000;
/// Ten thousand clients and some thousand upstream connections in one process, with room to spare.
const DESCRIPTORS: u64 = 20_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    /// The front alone.
    pub(crate) front: usize,
    /// The application, the generator and this process.
    pub(crate) load: usize,
}

#[derive(Debug)]
pub(crate) struct Rig {
    folder: PathBuf,
    pub(crate) cores: Cores,
    next_port: AtomicU16,
    watcher: Child,
}

impl Rig {
    pub(crate) fn set_up(cores: Cores) -> Result<Self, Failure> {
        raise_descriptors()?;
        pin_here(cores.load)?;
        let folder = mkdtemp(&std::env::temp_dir().join("lychgate-loadtest-XXXXXX"))
            .map_err(while_doing("creating a temporary folder"))?;
        // Servers drop their privileges and still have to reach sockets and files in here.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
            .map_err(while_doing(format!("opening up {}", folder.display())))?;
        let watcher = watch(&folder).map_err(while_doing("starting sh to watch the run"))?;
        let spread = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start));
        let next_port = AtomicU16::new(PORTS.start + spread.unwrap_or(0));
        Ok(Self { folder, cores, next_port, watcher })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        fs::write(&path, text).map_err(while_doing(format!("writing {}", path.display())))?;
        Ok(path)
    }

    /// A loopback port that nobody listened on just now; each call gives another.
    pub(crate) fn port(&self) -> Result<u16, Failure> {
        for _ in PORTS {
            let port = self.next_port.fetch_add(1, Ordering::Relaxed);
            let port = PORTS.start + port % (PORTS.end - PORTS.start);
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        Err(Failure::new(format!("looking for a free port in {PORTS:?}: none. End what uses them")))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Its standard input closes here, at which it clears the folder and ends.
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// Children end with this process by their parent-death signal; only the folder needs somebody who
/// survives it. The second try is for a server that was still writing its last file.
fn watch(folder: &Path) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", "read -r _; rm -rf -- \"$1\" || { sleep 1; rm -rf -- \"$1\"; }", "watcher"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn raise_descriptors() -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(while_doing("reading the limit of open files"))?;
    // Root may go beyond the hard limit, unless it lacks that capability; others take what there is.
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, hard.max(DESCRIPTORS))
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard.min(DESCRIPTORS), hard))
        .map_err(while_doing("raising the limit of open files"))
}

fn pin_here(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).map_err(while_doing(
        format!("staying on CPU {core}; two CPUs are needed, see --load-core"),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Cores, Rig};

    #[test]
    fn the_folder_goes_with_the_rig_and_ports_differ() {
        let rig = Rig::set_up(Cores { front: 0, load: 0 }).unwrap();
        let folder = rig.folder().to_path_buf();
        rig.write("a", "b").unwrap();
        assert!(folder.join("a").exists());
        assert_ne!(rig.port().unwrap(), rig.port().unwrap());
        drop(rig);
        assert!(!folder.exists());
    }
}
