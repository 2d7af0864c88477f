//! The engine on epoll, for systems that refuse io_uring.
//!
//! Every socket is registered once, edge-triggered; what the kernel said of it is remembered. The
//! bytes of a turn are received one behind the other into large blocks, so that few are in use,
//! and written at the end of the turn.

mod doors;
mod receive;
mod write;

use super::outgoing::Outgoing;
use super::queueing::Queueing;
use super::slot::{self, Flags, Slot, Table, untag};
use super::store::{Group, Store};
use super::{Completion, Counters, Ending, calls};
use crate::base::address::Address;
use crate::base::id::{Arrival, SocketId};
use crate::sys::clock;
use crate::sys::errno::{Error, errno_of};
use doors::Doors;
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{self as kernel, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::VecDeque;
use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Events of one wait. What is beyond comes with the next.
const EVENTS_MAX: usize = 512;
/// Received bytes of one turn lie in these; what would not fit is read in the next.
const BLOCK_SIZE: u32 = 256 * 1024;
const BLOCKS: u16 = 16;

/// What an event is of.
const SOCKET: u8 = 1;
const DOOR: u8 = 2;
const WAKE: u8 = 3;

/// The peer will send no more, or the connection is dead: read on until the kernel says so too.
const GONE: EpollFlags =
    EpollFlags::EPOLLRDHUP.union(EpollFlags::EPOLLHUP).union(EpollFlags::EPOLLERR);

#[derive(Debug)]
pub struct Epoll {
    poll: kernel::Epoll,
    events: Vec<EpollEvent>,
    pub(super) store: Store,
    pub(super) counters: Counters,
    table: Table,
    outgoing: Outgoing,
    iovecs: Vec<libc::iovec>,
    ready: VecDeque<Completion>,
    /// Sockets to read from in this turn, and in the next.
    reading: VecDeque<u32>,
    later: VecDeque<u32>,
    endings: Vec<u32>,
    doors: Doors,
    queueing: Queueing,
    arriving: Option<(Arrival, OwnedFd)>,
    /// Where the next received bytes go.
    block: u16,
    filled: u32,
    wake: OwnedFd,
}

impl Epoll {
    pub(super) fn start(wake: OwnedFd) -> Result<Self, Error> {
        let poll = kernel::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let poll = poll.map_err(|errno| Error::new("epoll_create1", errno))?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, slot::tag(WAKE, untag(0)));
        poll.add(&wake, event).map_err(|errno| Error::new("epoll_ctl", errno))?;
        let blocks = Group::map(BLOCK_SIZE, BLOCKS);
        let blocks = blocks.map_err(|errno| Error::new("mmap", errno))?;
        Ok(Self {
            poll,
            events: vec![EpollEvent::empty(); EVENTS_MAX],
            store: Store::new(vec![blocks]),
            counters: Counters::default(),
            table: Table::default(),
            outgoing: Outgoing::default(),
            iovecs: Vec::new(),
            ready: VecDeque::new(),
            reading: VecDeque::new(),
            later: VecDeque::new(),
            endings: Vec::new(),
            doors: Doors::default(),
            queueing: Queueing::default(),
            arriving: None,
            block: 0,
            filled: 0,
            wake,
        })
    }

    pub(super) fn adopt(&mut self, arrival: Arrival, id: SocketId) {
        let (arriving, fd) = self.arriving.take().expect("adopted right after its completion");
        assert_eq!(arriving, arrival);
        self.table.insert(id, fd);
        self.register(id);
    }

    pub(super) fn turn_away(&mut self, arrival: Arrival) {
        let (arriving, fd) = self.arriving.take().expect("turned away right after its completion");
        assert_eq!(arriving, arrival);
        drop(fd);
        self.resume_doors();
    }

    /// Watches a socket for as long as it is open.
    fn register(&mut self, id: SocketId) {
        let interest = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.counters.calls += 1;
        let event = EpollEvent::new(interest, slot::tag(SOCKET, id));
        if self.poll.add(self.table.borrow(id.index), event).is_err() {
            // No memory, or the limit on watches (epoll(7)): nothing would ever be heard of it.
            self.slot(id.index).flags.set(Flags::BROKEN);
            self.ready.push_back(Completion::Broken { id });
        }
    }

    pub(super) fn queue(&mut self, id: SocketId, source: u32, offset: u32, len: u32) {
        let Some(slot) = self.table.find(id) else { return };
        if slot.flags.any(Flags::NO_WRITING) {
            slot.lose(len as usize);
        } else if len > 0 {
            self.outgoing.push(id.index, slot, source, offset, len);
        }
    }

    pub(super) fn end(&mut self, id: SocketId, how: Ending) {
        let Some(slot) = self.table.find(id) else {
            return calls::close_instead(&mut self.ready, id);
        };
        if slot.note(how) && !slot.flags.any(Flags::IN_ENDINGS) {
            slot.flags.set(Flags::IN_ENDINGS);
            self.endings.push(id.index);
        }
    }

    pub(super) fn turn(&mut self, arena: &[u8], timeout: Option<Duration>) -> Result<(), Error> {
        self.arriving = None;
        self.flush(arena);
        self.retry_connects();
        (self.block, self.filled) = (0, 0);
        mem::swap(&mut self.reading, &mut self.later);
        self.reading.append(&mut self.later);
        let is_idle = self.ready.is_empty() && self.reading.is_empty();
        let timeout = if is_idle { self.wait(timeout) } else { EpollTimeout::ZERO };
        self.counters.enters += 1;
        let mut events = mem::take(&mut self.events);
        let count = match self.poll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(Error::new("epoll_wait", errno)),
        };
        self.counters.completions += count as u64;
        for event in &events[..count] {
            self.heard(event.data(), event.events());
        }
        self.events = events;
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> EpollTimeout {
        let mut timeout = timeout;
        if let Some(at) = self.doors.resume_at() {
            let now = clock::now();
            if at <= now {
                self.resume_doors();
            } else {
                timeout = Some(timeout.map_or(at.since(now), |limit| limit.min(at.since(now))));
            }
        }
        if let Some(at) = self.queueing.due() {
            let left = at.since(clock::now());
            timeout = Some(timeout.map_or(left, |limit| limit.min(left)));
        }
        let Some(limit) = timeout else { return EpollTimeout::NONE };
        // Rounded up: a wait that ends early would be repeated until the moment has come.
        let ms = i32::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::MAX)
    }

    fn heard(&mut self, data: u64, events: EpollFlags) {
        let id = untag(data);
        match u8::try_from(data >> 56).unwrap_or(0) {
            SOCKET => self.stirred(id, events),
            DOOR => self.doors.knock(id),
            _ => {
                self.counters.calls += 1;
                calls::drain(&self.wake);
                self.ready.push_back(Completion::Woken);
            }
        }
    }

    fn stirred(&mut self, id: SocketId, events: EpollFlags) {
        let Some(slot) = self.table.find(id) else { return };
        if slot.flags.any(Flags::CONNECTING) {
            return self.finish_connect(id, events);
        }
        if events.intersects(GONE) {
            slot.flags.set(Flags::HUNG_UP);
        }
        if events.intersects(EpollFlags::EPOLLIN | GONE) {
            slot.flags.set(Flags::READABLE);
        }
        let is_flushing = slot.backlog_len() > 0;
        self.read(id.index);
        if is_flushing && events.intersects(EpollFlags::EPOLLOUT | GONE) {
            self.flush_backlog(id);
        }
    }

    pub(super) fn next(&mut self) -> Option<Completion> {
        self.arriving = None;
        while let Some(completion) = self.ready.pop_front() {
            if self.is_due(completion) {
                return Some(completion);
            }
        }
        while let Some(name) = self.doors.knocking() {
            if let Some(completion) = self.answer(name) {
                return Some(completion);
            }
        }
        while let Some(index) = self.reading.pop_front() {
            if let Some(completion) = self.receive(index) {
                return Some(completion);
            }
        }
        None
    }

    /// Whether something queued to be told is still worth telling: after a hard ending only that
    /// it is carried out.
    fn is_due(&mut self, completion: Completion) -> bool {
        match completion {
            Completion::Connected { id }
            | Completion::Broken { id }
            | Completion::Unwritable { id }
            | Completion::Backlog { id, .. } => {
                self.table.find(id).is_some_and(|slot| !slot.flags.any(Flags::CLOSE_NOW))
            }
            _ => true,
        }
    }

    pub(super) fn connect(&mut self, id: SocketId, address: &Address) {
        self.counters.calls += 3;
        let Ok((socket, target)) = calls::outbound(address) else {
            return self.ready.push_back(Completion::Refused { id });
        };
        let is_done = match socket.connect(&target).map_err(|error| errno_of(&error)) {
            Ok(()) => true,
            // A connect that a signal cut short goes on in the background (connect(2)).
            Err(Errno::EINPROGRESS) => false,
            Err(errno) if target.is_unix() && calls::is_queue_full(errno) => {
                let slot = self.table.insert(id, socket.into());
                slot.flags.set(Flags::CONNECTING);
                return self.queueing.join(id, target);
            }
            Err(Errno::EINTR) => false,
            Err(_) => return self.ready.push_back(Completion::Refused { id }),
        };
        let slot = self.table.insert(id, socket.into());
        if is_done {
            self.ready.push_back(Completion::Connected { id });
        } else {
            slot.flags.set(Flags::CONNECTING);
        }
        self.register(id);
    }

    /// Tries those again that found no room in a UNIX socket's queue.
    fn retry_connects(&mut self) {
        let mut decided = Vec::new();
        self.queueing.retry(&mut self.table, &mut decided);
        for (id, is_connected) in decided {
            if is_connected {
                self.ready.push_back(Completion::Connected { id });
                self.register(id);
            } else {
                drop(self.table.remove(id.index));
                self.ready.push_back(Completion::Refused { id });
                self.resume_doors();
            }
        }
    }

    fn finish_connect(&mut self, id: SocketId, events: EpollFlags) {
        self.counters.calls += 1;
        let error = socket2::SockRef::from(&self.table.borrow(id.index)).take_error();
        let is_dead = events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        if is_dead || !matches!(error, Ok(None)) {
            drop(self.table.remove(id.index));
            self.ready.push_back(Completion::Refused { id });
            return self.resume_doors();
        }
        if events.contains(EpollFlags::EPOLLOUT) {
            self.slot(id.index).flags.clear(Flags::CONNECTING);
            self.ready.push_back(Completion::Connected { id });
            self.stirred(id, events);
        }
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        self.table.at(index).expect("listed sockets are open")
    }
}
