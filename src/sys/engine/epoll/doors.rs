//! Accepting: level-triggered, so that a connection left in the queue is heard of again.

use super::{DOOR, Epoll};
use crate::base::id::{Arrival, DoorId, SocketId};
use crate::base::slab::GENERATION_MASK;
use crate::base::time::Instant;
use crate::sys::clock;
use crate::sys::engine::calls::{self, AcceptFailure};
use crate::sys::engine::{ACCEPT_PAUSE, Completion, slot};
use crate::sys::errno::errno_of;
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use socket2::SockRef;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Connections accepted at one door before the sockets have their turn.
const ACCEPTS_MAX: u32 = 64;

#[derive(Debug)]
struct Door {
    id: DoorId,
    generation: u32,
    socket: OwnedFd,
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
    /// Doors at which somebody waits, and how many the first has let in this turn.
    knocking: VecDeque<SocketId>,
    accepted: u32,
    /// When the paused doors try again.
    resume_at: Option<Instant>,
}

impl Doors {
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    pub(super) fn knock(&mut self, name: SocketId) {
        self.knocking.push_back(name);
    }

    pub(super) fn knocking(&self) -> Option<SocketId> {
        self.knocking.front().copied()
    }

    fn move_on(&mut self) {
        self.knocking.pop_front();
        self.accepted = 0;
    }

    fn find(&mut self, name: SocketId) -> Option<&mut Door> {
        let door = self.places.get_mut(name.index as usize)?.as_mut()?;
        (door.generation == name.generation).then_some(door)
    }
}

impl Epoll {
    pub(in super::super) fn open(&mut self, id: DoorId, socket: OwnedFd) {
        self.shut(id);
        if calls::is_tcp(&socket) {
            // Accepted sockets inherit it. Whoever made the socket may have set it already.
            let _ = SockRef::from(&socket).set_tcp_nodelay(true);
        }
        self.doors.generation = (self.doors.generation + 1) & GENERATION_MASK;
        let generation = self.doors.generation;
        let place = self.doors.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.doors.places.push(None);
            self.doors.places.len() - 1
        });
        let door = Door { id, generation, socket, is_paused: false, is_told: false };
        self.doors.places[place] = Some(door);
        self.watch_door(place);
    }

    pub(in super::super) fn shut(&mut self, id: DoorId) {
        for place in &mut self.doors.places {
            if let Some(door) = place.take_if(|door| door.id == id) {
                self.counters.calls += 2;
                // It may be out of the set already, when paused.
                let _ = self.poll.delete(&door.socket);
            }
        }
    }

    fn watch_door(&mut self, place: usize) {
        let Some(door) = &mut self.doors.places[place] else { return };
        let index = u32::try_from(place).expect("few doors");
        let name = SocketId { index, generation: door.generation };
        // Exclusive: of several threads on one socket, not all wake for one connection.
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
        let event = EpollEvent::new(interest, slot::tag(DOOR, name));
        self.counters.calls += 1;
        door.is_paused = false;
        if let Err(errno) = self.poll.add(&door.socket, event) {
            self.pause(name, errno);
        }
    }

    /// Lets a door rest. Tells the owner once until a connection is accepted.
    fn pause(&mut self, name: SocketId, errno: Errno) {
        let Some(door) = self.doors.find(name) else { return };
        door.is_paused = true;
        let is_news = !door.is_told;
        door.is_told = true;
        let id = door.id;
        self.counters.accepts_paused += 1;
        self.doors.resume_at = Some(clock::now() + ACCEPT_PAUSE);
        if is_news {
            self.ready.push_back(Completion::AcceptPaused { door: id, errno });
        }
    }

    pub(super) fn resume_doors(&mut self) {
        if self.doors.resume_at.take().is_none() {
            return;
        }
        for place in 0..self.doors.places.len() {
            if self.doors.places[place].as_ref().is_some_and(|door| door.is_paused) {
                self.watch_door(place);
            }
        }
    }

    /// Accepts one connection at the first knocking door.
    pub(super) fn answer(&mut self, name: SocketId) -> Option<Completion> {
        let is_full = self.doors.accepted >= ACCEPTS_MAX;
        let Some(door) = self.doors.find(name).filter(|_| !is_full) else {
            self.doors.move_on();
            return None;
        };
        self.counters.calls += 1;
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        match SockRef::from(&door.socket).accept4(flags) {
            Ok((socket, address)) => {
                door.is_told = false;
                let door = door.id;
                let arrival = Arrival(self.doors.arrivals);
                self.doors.arrivals = self.doors.arrivals.wrapping_add(1);
                self.doors.accepted += 1;
                self.arriving = Some((arrival, socket.into()));
                Some(Completion::Accepted { door, arrival, peer: calls::peer_of(&address) })
            }
            Err(error) => {
                let errno = errno_of(&error);
                match calls::accept_failure(errno) {
                    AcceptFailure::Passing => self.doors.accepted += 1,
                    AcceptFailure::Empty => self.doors.move_on(),
                    AcceptFailure::Exhausted => {
                        self.counters.calls += 1;
                        let _ = self.poll.delete(&door.socket);
                        self.doors.move_on();
                        self.pause(name, errno);
                        return self.ready.pop_front();
                    }
                }
                None
            }
        }
    }
}
