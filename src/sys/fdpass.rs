//! Messages with descriptors between our own processes: SOCK_SEQPACKET pairs and SCM_RIGHTS
//! (unix(7)). A message arrives whole, with all of its descriptors, or it is an error.

use nix::cmsg_space;
use nix::sys::socket::sockopt::{PeerCredentials, ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept4, bind, connect as connect_to, getsockopt, listen as listen_on, recvmsg,
    sendmsg, setsockopt, socket, socketpair,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs::Permissions;
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Descriptors in one message, well under the kernel's 253 (SCM_MAX_FD).
pub const DESCRIPTORS_MAX: usize = 64;
/// The kernel's own limit: room for it means that nothing is cut off but by a full descriptor table.
const KERNEL_DESCRIPTORS_MAX: usize = 253;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Block,
    Never,
}

/// A connected pair, both ends closed on exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// A socket that waits at `path` for others to connect: root and our own user alone may. What was
/// at the path before is replaced.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let waiting = unconnected()?;
    bind(waiting.as_raw_fd(), &UnixAddr::new(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    // Nobody can connect before this.
    listen_on(&waiting, Backlog::new(4)?)?;
    Ok(waiting)
}

/// Whoever has connected, and as which user; `WouldBlock` never: to be called when it is readable.
pub fn accept(waiting: BorrowedFd<'_>) -> Result<(OwnedFd, u32)> {
    let raw = accept4(waiting.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the call above made this descriptor for us alone.
    let connection = unsafe { OwnedFd::from_raw_fd(raw) };
    let uid = peer(connection.as_fd())?;
    Ok((connection, uid))
}

/// Connects to whoever waits at `path`. Nothing is waited for longer than `limit`, neither here nor
/// in sending and receiving, until [`unlimit`].
pub fn connect(path: &Path, limit: Duration) -> Result<OwnedFd> {
    let connection = unconnected()?;
    self::limit(connection.as_fd(), limit)?;
    connect_to(connection.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(connection)
}

/// Blocking calls on `socket` fail with `WouldBlock` after this time.
pub fn limit(socket: BorrowedFd<'_>, limit: Duration) -> Result<()> {
    let limit = TimeVal::milliseconds(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    setsockopt(&socket, SendTimeout, &limit)?;
    Ok(setsockopt(&socket, ReceiveTimeout, &limit)?)
}

pub fn unlimit(socket: BorrowedFd<'_>) -> Result<()> {
    limit(socket, Duration::ZERO)
}

/// The user on the other side when the two were connected (SO_PEERCRED).
pub fn peer(socket: BorrowedFd<'_>) -> Result<u32> {
    Ok(getsockopt(&socket, PeerCredentials)?.uid())
}

fn unconnected() -> Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Sends one message whole, or nothing: `WouldBlock` when the peer is behind and `wait` is `Never`.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    wait: Wait,
) -> Result<()> {
    assert!(descriptors.len() <= DESCRIPTORS_MAX, "a message carries too many descriptors");
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | wait.flag();
    let parts = [IoSlice::new(bytes)];
    loop {
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, control, flags, None) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(Error::new(ErrorKind::WriteZero, "message sent in part")),
            Err(nix::errno::Errno::EINTR) => {}
            // Too many descriptors in flight to processes that do not read: busy, not broken.
            Err(nix::errno::Errno::ETOOMANYREFS) => return Err(ErrorKind::WouldBlock.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one message into `buffer`: its length and descriptors. Length 0: the peer is gone (we
/// never send an empty message). A message longer than `buffer` or short of descriptors is an
/// error after which the channel is not to be used.
pub fn recv(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    wait: Wait,
) -> Result<(usize, Vec<OwnedFd>)> {
    let mut control = cmsg_space!([RawFd; KERNEL_DESCRIPTORS_MAX]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | wait.flag();
    let message = loop {
        let taken = recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut parts,
            Some(control.as_mut_slice()),
            flags,
        );
        match taken {
            Ok(message) => break message,
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        let why = "descriptors were cut off: too many open files (RLIMIT_NOFILE)";
        return Err(Error::other(why));
    }
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            descriptors.extend(raw.into_iter().map(|fd| {
                // SAFETY: the kernel made these descriptors for this message and nobody else
                // knows them; each number is wrapped once.
                unsafe { OwnedFd::from_raw_fd(fd) }
            }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(Error::new(ErrorKind::InvalidData, "message longer than agreed"));
    }
    Ok((message.bytes, descriptors))
}

/// Receives one message that may not carry descriptors; the kernel drops any that it does.
pub fn recv_plain(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: Wait) -> Result<usize> {
    let mut parts = [IoSliceMut::new(buffer)];
    loop {
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, None, wait.flag()) {
            Ok(message) if message.flags.contains(MsgFlags::MSG_TRUNC) => {
                return Err(Error::new(ErrorKind::InvalidData, "message longer than agreed"));
            }
            Ok(message) => return Ok(message.bytes),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Wait {
    fn flag(self) -> MsgFlags {
        match self {
            Self::Block => MsgFlags::empty(),
            Self::Never => MsgFlags::MSG_DONTWAIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_message_brings_its_descriptors_and_closes_them_on_exec() {
        let (left, right) = pair().unwrap();
        let (mut out, into) = std::io::pipe().unwrap();
        send(left.as_fd(), b"here", &[into.as_fd()], Wait::Never).unwrap();
        drop(into);
        let mut buffer = [0; 16];
        let (length, mut descriptors) = recv(right.as_fd(), &mut buffer, Wait::Never).unwrap();
        assert_eq!((&buffer[..length], descriptors.len()), (&b"here"[..], 1));
        let flags = nix::fcntl::fcntl(&descriptors[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
        std::fs::File::from(descriptors.remove(0)).write_all(b"through").unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn busy_gone_and_too_long_are_told_apart() {
        let (left, right) = pair().unwrap();
        let mut buffer = [0; 4];
        let none = recv(right.as_fd(), &mut buffer, Wait::Never).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::WouldBlock);
        send(left.as_fd(), b"too long", &[], Wait::Never).unwrap();
        let long = recv(right.as_fd(), &mut buffer, Wait::Never).unwrap_err();
        assert_eq!(long.kind(), ErrorKind::InvalidData);
        let full = loop {
            if let Err(error) = send(left.as_fd(), &[0; 4096], &[], Wait::Never) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        drop(left);
        let (left, right) = pair().unwrap();
        drop(left);
        assert_eq!(recv(right.as_fd(), &mut buffer, Wait::Never).unwrap().0, 0);
        assert_eq!(recv_plain(right.as_fd(), &mut buffer, Wait::Never).unwrap(), 0);
        let gone = send(right.as_fd(), b"x", &[], Wait::Never).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::BrokenPipe);
    }
}
