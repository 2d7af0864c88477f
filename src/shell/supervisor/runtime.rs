//! The private folder of one supervisor, where its applications' sockets are.

use crate::sys::identity::{self, Identity};
use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Runtime {
    folder: PathBuf,
}

impl Runtime {
    /// A new folder of mode 0711 below `$RUNTIME_DIRECTORY` (systemd), `/run` (as root),
    /// `$XDG_RUNTIME_DIR` or the folder for temporary files. It belongs to `owner`, as whom
    /// applications run and make their sockets, and the listener connects to them.
    pub(super) fn make(owner: Option<&Identity>) -> Result<Self, String> {
        let parent = parent();
        let pid = std::process::id();
        for attempt in 0..100 {
            let folder = parent.join(format!("lychgate-{pid}-{attempt}"));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {
                    let made = Self { folder };
                    return made.hand_over(owner).map(|()| made);
                }
                // Left by an earlier process of this id, or put there by somebody: not ours.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("making {}: {error}", folder.display())),
            }
        }
        Err(format!("making a folder in {}: all names are taken. Clean it up", parent.display()))
    }

    fn hand_over(&self, owner: Option<&Identity>) -> Result<(), String> {
        let say = |error| format!("handing over {}: {error}", self.folder.display());
        std::fs::set_permissions(&self.folder, Permissions::from_mode(0o711)).map_err(say)?;
        if let Some(Identity { uid, gid, .. }) = owner {
            std::os::unix::fs::chown(&self.folder, Some(*uid), Some(*gid)).map_err(say)?;
        }
        Ok(())
    }

    /// A socket path for one process of a pool. Names of pools may be long; the number tells them
    /// apart then.
    pub(super) fn socket(&self, pool: &str, command: u32, generation: u64) -> String {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let name: String = pool.chars().take(24).map(safe).collect();
        let file = format!("{name}-{command}-{generation}.sock");
        self.folder.join(file).to_string_lossy().into_owned()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Holds sockets that nobody listens on any more. What remains is seen by the operator.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn parent() -> PathBuf {
    let named = |name: &str| {
        let value = std::env::var_os(name)?;
        // systemd separates several by colons; the first is ours.
        let first = value.to_str()?.split(':').next()?;
        Some(PathBuf::from(first)).filter(|path| path.is_absolute() && path.is_dir())
    };
    if let Some(folder) = named("RUNTIME_DIRECTORY") {
        return folder;
    }
    if identity::is_root() && Path::new("/run").is_dir() {
        return "/run".into();
    }
    named("XDG_RUNTIME_DIR").unwrap_or_else(std::env::temp_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_named_safely_and_removed() {
        let runtime = Runtime::make(None).unwrap();
        let folder = runtime.folder.clone();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o711);
        let path = runtime.socket("a/../b c", 7, 3);
        assert!(path.ends_with("/a----b-c-7-3.sock"), "{path}");
        std::fs::write(&path, "").unwrap();
        drop(runtime);
        assert!(!folder.exists());
    }
}
