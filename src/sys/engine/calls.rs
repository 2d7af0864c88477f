//! The few system calls that both engines make themselves.

use super::Completion;
use crate::base::address::{Address, Peer};
use crate::base::id::SocketId;
use crate::sys::errno::{Error, errno_of};
use crate::sys::socket::encode;
use nix::errno::Errno;
use nix::libc;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Never sleeps, and an error instead of SIGPIPE.
pub(super) const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Writes what the kernel takes at once; 0 if it takes nothing now.
pub(super) fn send(fd: &impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    settle(SockRef::from(fd).send_with_flags(bytes, SEND_FLAGS))
}

/// As `send`, from several places.
///
/// The caller keeps what the iovecs point to alive and unchanged during the call.
pub(super) fn send_gathered(fd: &impl AsFd, iovecs: &mut [libc::iovec]) -> Result<usize, Errno> {
    // SAFETY: for this C structure of integers and pointers all zeroes is the empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = iovecs.len();
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the header and its iovecs live during the call, as does, by the caller's word, what
    // they point to; the kernel only reads.
    let sent = unsafe { libc::sendmsg(fd, &raw const message, SEND_FLAGS) };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => settle(Err(std::io::Error::last_os_error())),
    }
}

/// A full socket buffer and a signal are no failures: nothing was taken.
fn settle(result: std::io::Result<usize>) -> Result<usize, Errno> {
    result.or_else(|error| match errno_of(&error) {
        Errno::EAGAIN | Errno::EINTR => Ok(0),
        errno => Err(errno),
    })
}

/// Ends one direction or both. A peer that is gone already makes it fail, which changes nothing.
pub(super) fn shut_down(fd: &impl AsFd, how: Shutdown) -> bool {
    SockRef::from(fd).shutdown(how).is_ok()
}

/// Makes the close of a TCP socket a reset (SO_LINGER with no time, socket(7)).
pub(super) fn linger_not(fd: &impl AsFd) {
    // A UNIX socket takes the option and ignores it; a TCP socket cannot refuse it.
    let _ = SockRef::from(fd).set_linger(Some(Duration::ZERO));
}

/// Who connected; `None` when the connection is dead already (ENOTCONN).
pub(super) fn peer(fd: &impl AsFd) -> Option<Peer> {
    SockRef::from(fd).peer_addr().ok().map(|address| peer_of(&address))
}

pub(super) fn peer_of(address: &SockAddr) -> Peer {
    address.as_socket().map_or(Peer::Unix, Peer::Tcp)
}

pub(super) fn is_tcp(fd: &impl AsFd) -> bool {
    let domain = SockRef::from(fd).domain();
    domain.is_ok_and(|domain| domain == Domain::IPV4 || domain == Domain::IPV6)
}

/// A socket for a connection to `address`, and the address in the kernel's form.
pub(super) fn outbound(address: &Address) -> Result<(Socket, SockAddr), Error> {
    let target = encode(address)?;
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(target.domain(), kind, None).map_err(Error::by("socket"))?;
    if matches!(address, Address::Tcp(_)) {
        socket.set_tcp_nodelay(true).map_err(Error::by("setsockopt TCP_NODELAY"))?;
    }
    Ok((socket, target))
}

/// A UNIX socket's server is there but has no room in its queue (connect(2)).
pub(super) fn is_queue_full(errno: Errno) -> bool {
    errno == Errno::EAGAIN || errno == Errno::EINTR
}

/// What a failed accept means (accept(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcceptFailure {
    /// Nobody waits.
    Empty,
    /// This one connection died before it was accepted, or the call was interrupted.
    Passing,
    /// No descriptor, no memory, or something that a rest may heal.
    Exhausted,
}

pub(super) fn accept_failure(errno: Errno) -> AcceptFailure {
    match errno {
        Errno::EAGAIN => AcceptFailure::Empty,
        Errno::EINTR
        | Errno::ECONNABORTED
        | Errno::EPERM
        | Errno::EPROTO
        | Errno::ENETDOWN
        | Errno::ENOPROTOOPT
        | Errno::EHOSTDOWN
        | Errno::ENONET
        | Errno::EHOSTUNREACH
        | Errno::EOPNOTSUPP
        | Errno::ENETUNREACH => AcceptFailure::Passing,
        _ => AcceptFailure::Exhausted,
    }
}

/// An ending was ordered for a name that is free: if its refusal is still to be told, the owner is
/// told of a close instead, as after any other ending.
pub(super) fn close_instead(ready: &mut VecDeque<Completion>, id: SocketId) {
    for completion in ready {
        if *completion == (Completion::Refused { id }) {
            *completion = Completion::Closed { id, unsent: 0 };
        }
    }
}

/// Empties an eventfd.
pub(super) fn drain(wake: &OwnedFd) {
    let mut count = [0u8; 8];
    // An eventfd that was emptied meanwhile has nothing to say (EAGAIN); reading it fails in no
    // other way.
    let _ = nix::unistd::read(wake, &mut count);
}
