//! Tries at start what the engine relies on beyond the manual, on a ring of its own: that a send
//! that never sleeps is over with the enter, tells nothing of success and tells of a short count;
//! that nonblocking sockets and doors wait all the same.

use super::provided::Provided;
use super::ring::{Cqe, Ring, Wait};
use crate::sys::engine::Counters;
use crate::sys::engine::calls;
use crate::sys::engine::store::Group;
use crate::sys::errno::Error;
use io_uring::{cqueue, opcode, squeue, types};
use nix::errno::Errno;
use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

const RECV: u64 = 1;
const SEND: u64 = 2;
const ACCEPT: u64 = 3;
/// A completion that is due at once takes no longer, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(1);
/// More than any socket takes at once: net.core.wmem_max is far below by default, and a socket
/// that takes it all is no fault.
const TOO_MUCH: usize = 8 * 1024 * 1024;

struct Trial {
    // First, so that it is dropped before the memory that the kernel knows of.
    ring: Ring,
    provided: Provided,
    blocks: Group,
    counters: Counters,
}

/// Fails with what did not work.
pub(super) fn run() -> Result<(), Error> {
    let ring = Ring::make(8)?;
    let blocks = Group::map(4096, 4).map_err(|errno| Error::new("mmap", errno))?;
    let provided = Provided::register(&ring, 0, &blocks, 4)?;
    let mut trial = Trial { ring, provided, blocks, counters: Counters::default() };
    trial.echo()?;
    trial.send_short()?;
    trial.accept()
}

impl Trial {
    fn enter(&mut self) -> Result<Vec<Cqe>, Error> {
        self.ring.reaped.clear();
        self.ring.enter(Wait::AtMost(PATIENCE), &mut self.counters)?;
        Ok(self.ring.reaped.clone())
    }

    fn send(&mut self, socket: &Socket, bytes: &[u8]) -> Result<(), Error> {
        let len = u32::try_from(bytes.len()).expect("a few MiB");
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), len)
            .flags(calls::SEND_FLAGS | libc::MSG_WAITALL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND);
        self.ring.push(&entry, &mut self.counters)
    }

    /// A multishot receive on a nonblocking socket waits, and brings what a silent send sent.
    fn echo(&mut self) -> Result<(), Error> {
        let (near, far) = pair()?;
        let receive = opcode::RecvMulti::new(types::Fd(far.as_raw_fd()), self.provided.group());
        self.ring.push(&receive.build().user_data(RECV), &mut self.counters)?;
        self.send(&near, b"lych")?;
        let completions = self.enter()?;
        let is_right = matches!(completions[..], [Cqe { user_data: RECV, result: 4, flags }]
            if cqueue::more(flags)
                && cqueue::buffer_select(flags).is_some_and(|block| self.provided.take(block)
                    && self.blocks.pages.bytes(self.blocks.offset(block), 4) == *b"lych"));
        expect(is_right, "a multishot receive and a silent send")?;
        drop(near);
        let completions = self.enter()?;
        let is_right = matches!(completions[..], [Cqe { user_data: RECV, result: 0, flags }]
            if !cqueue::more(flags));
        expect(is_right, "the end of a multishot receive")
    }

    /// A send that the socket cannot take whole says so within the enter.
    fn send_short(&mut self) -> Result<(), Error> {
        let (near, far) = pair()?;
        let bytes = vec![0; TOO_MUCH];
        for _ in 0..64 {
            self.send(&near, &bytes)?;
            self.ring.reaped.clear();
            self.ring.enter(Wait::No, &mut self.counters)?;
            match self.ring.reaped[..] {
                // All of it fitted; what a socket holds is bounded, so not for long.
                [] => {}
                [Cqe { user_data: SEND, result, .. }] if result > 0 => {}
                [Cqe { user_data: SEND, result, .. }] if result == -libc::EAGAIN => {
                    drop(far);
                    return Ok(());
                }
                _ => break,
            }
        }
        expect(false, "a send that came short")
    }

    /// A multishot accept on a nonblocking socket waits, and brings a descriptor.
    fn accept(&mut self) -> Result<(), Error> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let door = Socket::new(Domain::UNIX, kind, None).map_err(Error::by("socket"))?;
        // A zero-length name has the kernel choose an abstract one (unix(7), "autobind").
        let unnamed = SockAddr::unix("").map_err(Error::by("bind"))?;
        door.bind(&unnamed).map_err(Error::by("bind"))?;
        door.listen(1).map_err(Error::by("listen"))?;
        let name = door.local_addr().map_err(Error::by("getsockname"))?;
        let accept = opcode::AcceptMulti::new(types::Fd(door.as_raw_fd()));
        let accept = accept.flags(libc::SOCK_CLOEXEC).build().user_data(ACCEPT);
        self.ring.push(&accept, &mut self.counters)?;
        self.ring.reaped.clear();
        self.ring.enter(Wait::No, &mut self.counters)?;
        expect(self.ring.reaped.is_empty(), "a multishot accept that waits")?;
        let client = Socket::new(Domain::UNIX, kind, None).map_err(Error::by("socket"))?;
        client.connect(&name).map_err(Error::by("connect"))?;
        let completions = self.enter()?;
        if let [Cqe { user_data: ACCEPT, result, .. }] = completions[..]
            && result >= 0
        {
            // SAFETY: the kernel made this descriptor for us with this completion.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
            return Ok(());
        }
        expect(false, "a multishot accept")
    }
}

fn pair() -> Result<(Socket, Socket), Error> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::pair(Domain::UNIX, kind, None).map_err(Error::by("socketpair"))
}

fn expect(is_right: bool, what: &'static str) -> Result<(), Error> {
    if is_right {
        return Ok(());
    }
    let remedy = "io_uring does not do here what it should: take engine = \"epoll\" or \"auto\".";
    Err(Error::new(what, Errno::EOPNOTSUPP).with_remedy(remedy))
}
