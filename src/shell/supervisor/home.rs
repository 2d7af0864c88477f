//! The folder of one supervisor: its control socket, its applications' sockets, and what it leaves
//! for a supervisor after it. One at a time has it.

use crate::base::limits::UNIX_PATH_MAX;
use crate::sys::identity::{self, Identity};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What the name of a worker's socket has beside its pool's name: four signs and three numbers.
const NUMBERS_SIZE_MAX: usize = 4 + 10 + 3 + 10;
/// Of the pool's name.
const NAME_SIZE_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    control: PathBuf,
    /// For a next supervisor, should this one not come to its own end.
    is_left: bool,
    /// Free again when this process ends, however it ends (flock(2)).
    _lock: Flock<File>,
}

impl Home {
    /// The folder of the control socket, of mode 0711 if it is new, and in it a folder for the
    /// sockets of applications, which belongs to `owner`, as whom they run.
    pub(super) fn open(control: &Path, owner: Option<&Identity>) -> Result<Self, String> {
        let control = std::path::absolute(control)
            .map_err(|error| format!("finding {}: {error}", control.display()))?;
        let Some(folder) = control.parent().map(Path::to_path_buf) else {
            return Err(format!("{} is no path of a socket", control.display()));
        };
        make(&folder)?;
        let lock = lock(&folder)?;
        let home = Self { folder, control, is_left: false, _lock: lock };
        let sockets = home.sockets();
        if sockets.as_os_str().len() + 1 + NUMBERS_SIZE_MAX > UNIX_PATH_MAX {
            return Err(format!(
                "using {}: its path is too long for sockets in it (unix(7)). Set a shorter \
                 server.control or --control",
                home.folder.display()
            ));
        }
        let owner = owner.map(|Identity { uid, gid, .. }| (*uid, *gid));
        make_for(&sockets, owner)?;
        Ok(home)
    }

    pub(super) fn control(&self) -> &Path {
        &self.control
    }

    pub(super) fn notices(&self) -> PathBuf {
        self.folder.join("notify")
    }

    /// Where a listener that lost its supervisor waits for the next one.
    pub(super) fn heir(&self) -> PathBuf {
        self.folder.join("listener.sock")
    }

    /// What a next supervisor has to know.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    /// A socket path for one worker, of at most 107 bytes (unix(7)). Names of pools may be long;
    /// `number` tells them apart then.
    pub(super) fn socket(&self, pool: &str, number: u32, slot: u16, generation: u32) -> String {
        let sockets = self.sockets();
        let room = UNIX_PATH_MAX - (sockets.as_os_str().len() + 1 + NUMBERS_SIZE_MAX);
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let name: String = pool.chars().take(room.min(NAME_SIZE_MAX)).map(safe).collect();
        let file = format!("{name}-{number}-{slot}-{generation}");
        sockets.join(file).to_string_lossy().into_owned()
    }

    /// From now on what is in it stays, unless it is taken back.
    pub(super) fn leave(&mut self) {
        self.is_left = true;
    }

    /// Nothing is left that a next supervisor could take over.
    pub(super) fn take_back(&mut self) {
        self.is_left = false;
    }

    /// Removes what an earlier supervisor left, when nothing of it is taken over.
    pub(super) fn clean(&self) {
        for path in [self.heir(), self.state(), self.notices()] {
            remove(&path);
        }
        let entries = std::fs::read_dir(self.sockets()).into_iter().flatten().flatten();
        for entry in entries {
            remove(&entry.path());
        }
    }

    fn sockets(&self) -> PathBuf {
        self.folder.join("apps")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        // Holds sockets that nobody listens on any more. What remains is seen by the operator.
        self.clean();
        let _ = std::fs::remove_dir(self.sockets());
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("removing {}: {error}", path.display()),
    }
}

/// The folder, ours and nobody else's to write to. One that was there before keeps its mode, but
/// must be open to those who connect to sockets in it.
fn make(folder: &Path) -> Result<(), String> {
    let say = |error: std::io::Error| format!("making {}: {error}", folder.display());
    match DirBuilder::new().mode(0o711).recursive(true).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(say(error)),
    }
    let (opened, found) = look(folder)?;
    if found.uid() != identity::own_uid() {
        return Err(refuse(folder, "it belongs to another user"));
    }
    let mode = found.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(refuse(folder, "others may write to it"));
    }
    opened.set_permissions(Permissions::from_mode(mode | 0o711)).map_err(say)
}

/// A folder within ours; whoever it belongs to cannot have put another one in its place.
fn make_for(folder: &Path, owner: Option<(u32, u32)>) -> Result<(), String> {
    let say = |error: std::io::Error| format!("handing over {}: {error}", folder.display());
    match DirBuilder::new().mode(0o711).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("making {}: {error}", folder.display())),
    }
    let (opened, _) = look(folder)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(&opened, Some(uid), Some(gid)).map_err(say)?;
    }
    opened.set_permissions(Permissions::from_mode(0o711)).map_err(say)
}

/// The folder itself, never what a link leads to.
fn look(folder: &Path) -> Result<(File, Metadata), String> {
    let say = |error: std::io::Error| match error.raw_os_error() {
        Some(nix::libc::ELOOP | nix::libc::ENOTDIR) => refuse(folder, "it is not a folder"),
        _ => format!("using {}: {error}", folder.display()),
    };
    let flags = O_DIRECTORY | O_NOFOLLOW;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(folder).map_err(say)?;
    let found = opened.metadata().map_err(say)?;
    Ok((opened, found))
}

fn refuse(folder: &Path, why: &str) -> String {
    format!("using {}: {why}. Set server.control or --control", folder.display())
}

/// The process id of whoever holds it is in the file.
fn lock(folder: &Path) -> Result<Flock<File>, String> {
    let path = folder.join("lock");
    let say = |error: &dyn std::fmt::Display| format!("locking {}: {error}", path.display());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(&path)
        .map_err(|error| say(&error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let pid = format!("{}\n", std::process::id());
            lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes())).map_err(|e| say(&e))?;
            Ok(lock)
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            // Whoever holds it may be about to write it.
            let _ = file.take(32).read_to_string(&mut text);
            let who = text.trim().parse().map_or(String::new(), |pid: u32| format!(" (pid {pid})"));
            Err(format!(
                "another lychgate{who} uses {}: set server.control or --control, or stop it",
                folder.display()
            ))
        }
        Err((_, errno)) => Err(say(&errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_made_locked_and_cleaned() {
        let parent = tempfile::tempdir().unwrap();
        let control = parent.path().join("a/b/control.sock");
        let mut home = Home::open(&control, None).unwrap();
        let folder = parent.path().join("a/b");
        assert_eq!((mode(&folder), mode(&folder.join("apps"))), (0o711, 0o711));
        let taken = Home::open(&control, None).unwrap_err();
        let who =
            format!("another lychgate (pid {}) uses {}", std::process::id(), folder.display());
        assert!(taken.starts_with(&who) && taken.contains("--control"), "{taken}");
        // Who was refused has taken nothing away.
        assert!(folder.join("apps").exists());

        let path = home.socket("a/../b c, a long one", 7, 3, 9);
        assert!(path.ends_with("/apps/a----b-c--a-long-7-3-9"), "{path}");
        for left in [Path::new(&path), &home.heir(), &home.state(), &home.notices()] {
            std::fs::write(left, "").unwrap();
        }
        home.leave();
        drop(home);
        let mut home = Home::open(&control, None).unwrap();
        assert!(home.heir().exists() && home.state().exists());
        home.leave();
        home.take_back();
        drop(home);
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
        assert_eq!(left.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(), ["lock"]);
        Home::open(&control, None).unwrap();
    }

    #[test]
    fn what_is_not_ours_alone_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let inside = |name: &str| parent.path().join(name);
        std::fs::create_dir(inside("open")).unwrap();
        std::fs::set_permissions(inside("open"), Permissions::from_mode(0o777)).unwrap();
        std::fs::create_dir(inside("real")).unwrap();
        std::fs::set_permissions(inside("real"), Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(inside("real"), inside("link")).unwrap();
        std::fs::write(inside("file"), "").unwrap();
        let refused = |name: &str| Home::open(&inside(name).join("c.sock"), None).unwrap_err();
        assert!(refused("open").contains("others may write to it. Set server.control"));
        assert!(refused("link").contains("it is not a folder"), "{}", refused("link"));
        assert!(refused("file").contains("file: "), "{}", refused("file"));
        let long = format!("{}/c.sock", "x".repeat(80));
        assert!(refused(&long).contains("too long"));
        // A folder that was there before is not closed to anybody.
        let home = Home::open(&inside("real").join("c.sock"), None).unwrap();
        assert_eq!(mode(&inside("real")), 0o755);
        drop(home);
        // Nor does a link in place of the folder for sockets lead anywhere.
        std::os::unix::fs::symlink(inside("open"), inside("real/apps")).unwrap();
        assert!(refused("real").contains("it is not a folder"));
        if identity::is_root() {
            std::os::unix::fs::chown(inside("open"), Some(1), None).unwrap();
            std::fs::set_permissions(inside("open"), Permissions::from_mode(0o755)).unwrap();
            assert!(refused("open").contains("another user"));
        }
    }

    #[test]
    fn sockets_fit_whatever_the_numbers_are() {
        let parent = tempfile::tempdir().unwrap();
        let size = UNIX_PATH_MAX - NUMBERS_SIZE_MAX - 1 - "/apps".len();
        let stem = parent.path().to_str().unwrap().len() + 1;
        let folder = parent.path().join("x".repeat(size - stem));
        let home = Home::open(&folder.join("c"), None).unwrap();
        let path = home.socket("shop", u32::MAX, 127, u32::MAX);
        assert!(path.len() <= UNIX_PATH_MAX, "{path}");
        drop(home);
        let folder = parent.path().join("x".repeat(size - stem + 1));
        assert!(Home::open(&folder.join("c"), None).unwrap_err().contains("too long"));
    }
}
