//! Files that an operator names: read whole, within bounds, or refused with the remedy.

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Not blocking, so that a named pipe is refused instead of waited for.
const FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);

/// The bytes of a regular file, `most` of them at most; else the cause with its remedy.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let open = OpenOptions::new().read(true).custom_flags(FLAGS.bits()).open(path);
    contents(open.map_err(|error| say(&error))?, most)
}

/// As [`read`], of a path without symbolic links: whoever may write to one of its folders must not
/// choose which of the supervisor's files is shown to clients.
pub(super) fn read_plainly(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let how = OpenHow::new().flags(FLAGS).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let opened = openat2(AT_FDCWD, path, how).map(File::from);
    let file = match opened.map_err(io::Error::from) {
        // Forbidden by a filter of system calls that does not know it.
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOSYS)) => {
            let flags = FLAGS | OFlag::O_NOFOLLOW;
            OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
        }
        other => other,
    };
    contents(file.map_err(|error| say(&error))?, most)
}

fn contents(file: File, most: u64) -> Result<Vec<u8>, String> {
    if !file.metadata().map_err(|error| say(&error))?.is_file() {
        return Err("it is not a regular file. name one".into());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| say(&error))?;
    if bytes.len() as u64 > most {
        return Err(format!("it has more than {most} bytes. name a smaller file"));
    }
    Ok(bytes)
}

fn say(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file. check the path".to_owned(),
        ErrorKind::PermissionDenied => format!("{error}. make it readable for this user"),
        _ if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            "a symbolic link is in its path. write the path that it leads to".to_owned()
        }
        _ => error.to_string(),
    }
}
