//! Accepting: one multishot accept per listening socket.

use super::{Cqe, Op, Uring};
use crate::base::address::Peer;
use crate::base::id::{Arrival, DoorId, SocketId};
use crate::base::time::Instant;
use crate::sys::clock;
use crate::sys::engine::calls::{self, AcceptFailure};
use crate::sys::engine::{ACCEPT_PAUSE, Completion};
use io_uring::{cqueue, opcode, types};
use nix::errno::Errno;
use nix::libc;
use socket2::SockRef;
use std::os::fd::{AsRawFd, OwnedFd};

#[derive(Debug)]
struct Door {
    id: DoorId,
    generation: u32,
    socket: OwnedFd,
    is_tcp: bool,
    is_armed: bool,
    is_shut: bool,
    /// Resting for want of descriptors or memory.
    is_paused: bool,
    /// The owner knows of it.
    is_told: bool,
}

#[derive(Debug, Default)]
pub(super) struct Doors {
    places: Vec<Option<Door>>,
    generation: u32,
    arrivals: u32,
    /// When the paused doors try again.
    resume_at: Option<Instant>,
}

impl Doors {
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    fn find(&mut self, name: SocketId) -> Option<&mut Door> {
        let door = self.places.get_mut(name.index as usize)?.as_mut()?;
        (door.generation == name.generation).then_some(door)
    }

    /// Puts a door into a free place and names it.
    fn insert(&mut self, door: Door) -> SocketId {
        let generation = door.generation;
        let place = self.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(door);
        SocketId { index: u32::try_from(place).expect("few doors"), generation }
    }
}

impl Uring {
    pub(in super::super) fn open(&mut self, id: DoorId, socket: OwnedFd) {
        self.shut(id);
        let is_tcp = calls::is_tcp(&socket);
        if is_tcp {
            // Accepted sockets inherit it. Whoever made the socket may have set it already.
            let _ = SockRef::from(&socket).set_tcp_nodelay(true);
        }
        self.doors.generation = (self.doors.generation + 1) & 0x00ff_ffff;
        let name = self.doors.insert(Door {
            id,
            generation: self.doors.generation,
            socket,
            is_tcp,
            is_armed: false,
            is_shut: false,
            is_paused: false,
            is_told: false,
        });
        self.arm_accept(name);
    }

    pub(in super::super) fn shut(&mut self, id: DoorId) {
        for place in 0..self.doors.places.len() {
            let Some(door) = &mut self.doors.places[place] else { continue };
            if door.id != id || door.is_shut {
                continue;
            }
            door.is_shut = true;
            let index = u32::try_from(place).expect("few doors");
            let name = SocketId { index, generation: door.generation };
            if door.is_armed {
                self.cancel(Op::Accept, name);
            } else {
                self.doors.places[place] = None;
            }
        }
    }

    fn arm_accept(&mut self, name: SocketId) {
        let Some(door) = self.doors.find(name) else { return };
        door.is_armed = true;
        door.is_paused = false;
        let entry = opcode::AcceptMulti::new(types::Fd(door.socket.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build()
            .user_data(Op::Accept.tag(name));
        self.push(&entry);
    }

    /// Lets doors that rest for want of descriptors or memory try again.
    pub(super) fn resume_doors(&mut self) {
        if self.doors.resume_at.take().is_none() {
            return;
        }
        for place in 0..self.doors.places.len() {
            let Some(door) = &self.doors.places[place] else { continue };
            if door.is_paused && !door.is_shut {
                let index = u32::try_from(place).expect("few doors");
                self.arm_accept(SocketId { index, generation: door.generation });
            }
        }
    }

    pub(super) fn arrived(&mut self, name: SocketId, cqe: Cqe) -> Option<Completion> {
        let fd = if cqe.result >= 0 { self.accepted.pop_front() } else { None };
        let door = self.doors.find(name)?;
        let (id, is_tcp) = (door.id, door.is_tcp);
        let failure = u32::try_from(-cqe.result)
            .ok()
            .filter(|errno| *errno > 0)
            .map(|_| Errno::from_raw(-cqe.result));
        let is_exhausted = failure.is_some_and(|errno| {
            errno != Errno::ECANCELED && calls::accept_failure(errno) == AcceptFailure::Exhausted
        });
        let mut pause = None;
        if !cqueue::more(cqe.flags) {
            door.is_armed = false;
            if door.is_shut {
                self.doors.places[name.index as usize] = None;
            } else if is_exhausted {
                door.is_paused = true;
                pause = failure.filter(|_| !door.is_told);
                door.is_told = true;
                self.counters.accepts_paused += 1;
                self.doors.resume_at = Some(clock::now() + ACCEPT_PAUSE);
            } else {
                self.counters.rearms += 1;
                self.arm_accept(name);
            }
        }
        if let Some(errno) = pause {
            return Some(Completion::AcceptPaused { door: id, errno });
        }
        self.welcome(name, id, is_tcp, fd?)
    }

    fn welcome(
        &mut self,
        name: SocketId,
        door: DoorId,
        is_tcp: bool,
        fd: OwnedFd,
    ) -> Option<Completion> {
        let peer = if is_tcp {
            self.counters.calls += 1;
            calls::peer(&fd)?
        } else {
            Peer::Unix
        };
        if let Some(open) = self.doors.find(name) {
            open.is_told = false;
        }
        let arrival = Arrival(self.doors.arrivals);
        self.doors.arrivals = self.doors.arrivals.wrapping_add(1);
        self.arriving = Some((arrival, fd));
        Some(Completion::Accepted { door, arrival, peer })
    }
}
