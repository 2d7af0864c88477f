//! Words from workers by datagram, the receiving side of sd_notify(3): each with the process that
//! sent it, as the kernel says (SCM_CREDENTIALS, unix(7)).

use super::errno::Error;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixAddr, UnixCredentials, recvmsg, setsockopt, sockopt,
};
use std::fs::{self, Permissions};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// A longer message is no message.
pub const SIZE_MAX: usize = 4096;
/// The kernel passes no more with one message (SCM_MAX_FD).
const DESCRIPTORS_MAX: usize = 253;
/// Any user may write: workers have identities of their own, and who wrote is known.
const MODE: u32 = 0o666;

/// The socket that workers find in `NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Letter(Letter),
    /// Without a sender, or longer than [`SIZE_MAX`]: dropped.
    Unfit,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub text: Vec<u8>,
    /// The sender, or 0 if it is in another process namespace.
    pub pid: i32,
    pub uid: u32,
}

impl Notices {
    /// Binds the socket at `path`. A socket that is there already is replaced: the caller holds the
    /// lock of the folder, so it is of a supervisor that is gone, and its workers write to the path.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        match fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => {
                fs::remove_file(path).map_err(Error::by("unlink"))?;
            }
            Ok(_) => {
                return Err(Error::new("bind", Errno::EADDRINUSE)
                    .with_remedy("A file that is no socket stands at the path: move it away."));
            }
            Err(_) => {}
        }
        let socket = UnixDatagram::bind(path).map_err(Error::by("bind"))?;
        socket.set_nonblocking(true).map_err(Error::by("fcntl"))?;
        setsockopt(&socket, sockopt::PassCred, &true).map_err(|e| Error::new("setsockopt", e))?;
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(Error::by("chmod"))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// For the workers' environment.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next message; `None` when there is none (now). Descriptors that come with it
    /// (`FDSTORE=1`) are closed.
    pub fn read(&self) -> io::Result<Option<Heard>> {
        let mut text = vec![0; SIZE_MAX];
        let mut control = cmsg_space!(UnixCredentials, [RawFd; DESCRIPTORS_MAX]);
        let mut parts = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let socket = self.socket.as_raw_fd();
        let message = loop {
            match recvmsg::<UnixAddr>(socket, &mut parts, Some(control.as_mut_slice()), flags) {
                Ok(message) => break message,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        let mut sender = None;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials),
                ControlMessageOwned::ScmRights(raw) => raw.into_iter().for_each(|raw| {
                    // SAFETY: the kernel made this descriptor for this message and nobody else
                    // knows it.
                    drop(unsafe { OwnedFd::from_raw_fd(raw) });
                }),
                _ => {}
            }
        }
        let is_whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
        let size = message.bytes;
        Ok(Some(match sender {
            Some(sender) if is_whole => {
                text.truncate(size);
                Heard::Letter(Letter { text, pid: sender.pid(), uid: sender.uid() })
            }
            _ => Heard::Unfit,
        }))
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fdpass::{self, Wait};
    use std::io::Read;
    use std::process::Command;

    fn letter(notices: &Notices) -> Letter {
        match notices.read().unwrap() {
            Some(Heard::Letter(letter)) => letter,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_word_comes_with_its_sender_and_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        // Left by a supervisor that is gone.
        drop(UnixDatagram::bind(&path).unwrap());
        let notices = Notices::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(notices.read().unwrap(), None);
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1", &path).unwrap();
        let heard = letter(&notices);
        assert_eq!(
            (heard.text.as_slice(), heard.pid),
            (&b"READY=1"[..], nix::unistd::getpid().as_raw())
        );
        assert_eq!(heard.uid, nix::unistd::getuid().as_raw());
        sender.send_to(&[b'x'; SIZE_MAX], &path).unwrap();
        assert_eq!(letter(&notices).text.len(), SIZE_MAX);
        sender.send_to(&[b'x'; SIZE_MAX + 1], &path).unwrap();
        assert_eq!(notices.read().unwrap(), Some(Heard::Unfit));
        sender.send_to(b"", &path).unwrap();
        assert_eq!(letter(&notices).text, b"");
        assert_eq!(notices.read().unwrap(), None);
    }

    #[test]
    fn another_process_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let notices = Notices::bind(&folder.path().join("notify")).unwrap();
        let script = "import os,socket; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); \
                      s.sendto(b'STATUS=%d' % os.getpid(), os.environ['NOTIFY_SOCKET'])";
        let done = Command::new("python3")
            .args(["-c", script])
            .env("NOTIFY_SOCKET", notices.path())
            .status()
            .unwrap();
        assert!(done.success());
        let heard = letter(&notices);
        assert_eq!(heard.text, format!("STATUS={}", heard.pid).into_bytes());
        assert_ne!(heard.pid, nix::unistd::getpid().as_raw());
    }

    #[test]
    fn descriptors_are_closed_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let notices = Notices::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        let (mut out, into) = io::pipe().unwrap();
        fdpass::send(sender.as_fd(), b"FDSTORE=1", &[into.as_fd(), into.as_fd()], Wait::Never)
            .unwrap();
        drop(into);
        assert_eq!(letter(&notices).text, b"FDSTORE=1");
        // The pipe ends only if no copy of its other end is left open.
        assert_eq!(out.read(&mut [0]).unwrap(), 0);
        fs::write(folder.path().join("precious"), "x").unwrap();
        let refused = Notices::bind(&folder.path().join("precious")).unwrap_err();
        assert_eq!(refused.errno, Errno::EADDRINUSE);
    }
}
