//! The folder of one supervisor: its control socket, its applications' sockets.

use crate::sys::identity::Identity;
use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    control: PathBuf,
}

impl Home {
    /// The folder of the control socket, of mode 0711, and in it a folder for the sockets of
    /// applications, which belongs to `owner`, as whom they run.
    pub(super) fn open(control: &Path, owner: Option<&Identity>) -> Result<Self, String> {
        let control = std::path::absolute(control)
            .map_err(|error| format!("finding {}: {error}", control.display()))?;
        let Some(folder) = control.parent().map(Path::to_path_buf) else {
            return Err(format!("{} is no path of a socket", control.display()));
        };
        make(&folder)?;
        let home = Self { folder, control };
        let sockets = home.sockets();
        make(&sockets)?;
        if let Some(Identity { uid, gid, .. }) = owner {
            std::os::unix::fs::chown(&sockets, Some(*uid), Some(*gid))
                .map_err(|error| format!("handing over {}: {error}", sockets.display()))?;
        }
        Ok(home)
    }

    pub(super) fn control(&self) -> &Path {
        &self.control
    }

    fn sockets(&self) -> PathBuf {
        self.folder.join("apps")
    }

    pub(super) fn notices(&self) -> PathBuf {
        self.folder.join("notify")
    }

    /// A socket path for one worker. Names of pools may be long; `number` tells them apart then.
    pub(super) fn socket(&self, pool: &str, number: u32, slot: u16, generation: u32) -> String {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let name: String = pool.chars().take(16).map(safe).collect();
        let file = format!("{name}-{number}-{slot}-{generation}");
        self.sockets().join(file).to_string_lossy().into_owned()
    }
}

fn make(folder: &Path) -> Result<(), String> {
    let say = |error: std::io::Error| format!("making {}: {error}", folder.display());
    match DirBuilder::new().mode(0o711).recursive(true).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(say(error)),
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o711)).map_err(say)
}

impl Drop for Home {
    fn drop(&mut self) {
        // Holds sockets that nobody listens on any more.
        let _ = std::fs::remove_dir_all(self.sockets());
    }
}
