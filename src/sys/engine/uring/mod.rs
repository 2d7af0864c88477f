//! The engine on io_uring.
//!
//! Reading: one multishot receive per socket picks provided blocks. Writing: what the turn ordered
//! is submitted together with the wait, as sends that never sleep. Such a send is over when the
//! enter has submitted it; it posts a completion only if the kernel did not take all, so the normal
//! case costs neither a completion nor a wake-up. What was not taken goes to the socket's backlog,
//! which one ordinary send at a time works off.

mod doors;
mod ending;
mod provided;
mod receive;
mod ring;
mod trial;
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
use io_uring::{cqueue, opcode, squeue, types};
use nix::libc;
use provided::Provided;
use ring::{Cqe, Ring, Wait};
use std::collections::VecDeque;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Blocks of multishot receives. Most hold one small message and cost one page: memory that is
/// never filled is never there. What is left is large enough for what a socket buffers by default.
const SMALL: usize = 0;
const SMALL_SIZE: u32 = 64 * 1024;
const SMALL_BLOCKS: u16 = 512;
/// Blocks of single receives, for sockets on which much arrives.
const LARGE: usize = 1;
const LARGE_SIZE: u32 = 256 * 1024;
const LARGE_BLOCKS: u16 = 32;

/// What a completion is of; the top 8 bits of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    /// A multishot receive into small blocks.
    Recv = 1,
    /// A single receive into a large block.
    RecvLarge,
    /// A send that never sleeps; a completion means that it came short.
    Send,
    /// A send of the backlog.
    Flush,
    Connect,
    /// A cancellation that found nothing to cancel.
    Cancel,
    Accept,
    Wake,
}

impl Op {
    fn of(user_data: u64) -> Self {
        match user_data >> 56 {
            1 => Self::Recv,
            2 => Self::RecvLarge,
            3 => Self::Send,
            4 => Self::Flush,
            5 => Self::Connect,
            6 => Self::Cancel,
            7 => Self::Accept,
            _ => Self::Wake,
        }
    }

    fn tag(self, id: SocketId) -> u64 {
        slot::tag(self as u8, id)
    }
}

#[derive(Debug)]
pub struct Uring {
    // First, so that it is dropped before the memory that the kernel knows of.
    ring: Ring,
    provided: [Provided; 2],
    pub(super) store: Store,
    pub(super) counters: Counters,
    table: Table,
    outgoing: Outgoing,
    iovecs: Vec<libc::iovec>,
    messages: Vec<libc::msghdr>,
    /// To be told before the completions of the ring.
    ready: VecDeque<Completion>,
    /// Sockets whose receive may have to be armed.
    reading: Vec<u32>,
    endings: Vec<u32>,
    /// Sockets with kept bytes to be told of: in this turn, and in the next.
    delivering: VecDeque<u32>,
    deliveries: VecDeque<u32>,
    doors: Doors,
    queueing: Queueing,
    /// Accepted, in the order of their completions.
    accepted: VecDeque<OwnedFd>,
    arriving: Option<(Arrival, OwnedFd)>,
    /// How far the reaped completions were scanned for short sends, and told.
    settled: usize,
    told: usize,
    /// A receive found no block since the last turn.
    is_starved: bool,
    wake: Option<OwnedFd>,
    /// An order that could not even be queued; the next turn reports it.
    failure: Option<Error>,
}

impl Uring {
    /// Makes the ring and tries it; leaves no trace if that fails.
    pub(super) fn start() -> Result<Self, Error> {
        trial::run()?;
        let ring = Ring::make(ring::SUBMISSIONS)?;
        let small = Group::map(SMALL_SIZE, SMALL_BLOCKS);
        let small = small.map_err(|errno| Error::new("mmap", errno))?;
        let large = Group::map(LARGE_SIZE, LARGE_BLOCKS);
        let large = large.map_err(|errno| Error::new("mmap", errno))?;
        let provided =
            [Provided::register(&ring, 0, &small, 64)?, Provided::register(&ring, 1, &large, 8)?];
        Ok(Self {
            ring,
            provided,
            store: Store::new(vec![small, large]),
            counters: Counters::default(),
            table: Table::default(),
            outgoing: Outgoing::default(),
            iovecs: Vec::new(),
            messages: Vec::new(),
            ready: VecDeque::new(),
            reading: Vec::new(),
            endings: Vec::new(),
            delivering: VecDeque::new(),
            deliveries: VecDeque::new(),
            doors: Doors::default(),
            queueing: Queueing::default(),
            accepted: VecDeque::new(),
            arriving: None,
            settled: 0,
            told: 0,
            is_starved: false,
            wake: None,
            failure: None,
        })
    }

    /// Has the eventfd wake the turns.
    pub(super) fn watch(&mut self, wake: OwnedFd) {
        let entry = opcode::PollAdd::new(types::Fd(wake.as_raw_fd()), libc::POLLIN as u32);
        let entry = entry.multi(true).build().user_data(Op::Wake.tag(untag(0)));
        self.wake = Some(wake);
        self.push(&entry);
    }

    pub(super) fn adopt(&mut self, arrival: Arrival, id: SocketId) {
        let (arriving, fd) = self.arriving.take().expect("adopted right after its completion");
        assert_eq!(arriving, arrival);
        self.table.insert(id, fd);
    }

    pub(super) fn turn_away(&mut self, arrival: Arrival) {
        let (arriving, fd) = self.arriving.take().expect("turned away right after its completion");
        assert_eq!(arriving, arrival);
        drop(fd);
        self.resume_doors();
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
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        assert_eq!(self.told, self.ring.reaped.len(), "a turn is handled to its end");
        self.ring.reaped.clear();
        (self.settled, self.told) = (0, 0);
        self.arriving = None;
        self.flush(arena);
        self.retry_connects();
        if mem::take(&mut self.is_starved) {
            // Blocks go back before the starved sockets are armed, or they would starve again.
            self.enter(Wait::No, arena)?;
        }
        self.arm_reading();
        mem::swap(&mut self.delivering, &mut self.deliveries);
        let is_idle = self.ready.is_empty() && self.delivering.is_empty();
        let wait = if is_idle { self.wait(timeout) } else { Wait::No };
        self.enter(wait, arena)?;
        self.failure.take().map_or(Ok(()), Err)
    }

    /// One enter, and the end of the writes that it carried out.
    fn enter(&mut self, wait: Wait, arena: &[u8]) -> Result<(), Error> {
        self.ring.enter(wait, &mut self.counters)?;
        self.settle(arena);
        for index in &self.outgoing.sockets {
            if let Some(slot) = self.table.at(*index) {
                slot.unchain();
            }
        }
        self.outgoing.clear();
        self.store.drop_kept();
        for (provided, group) in self.provided.iter_mut().zip(&self.store.groups) {
            provided.give_back(group);
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Wait {
        let timeout = match self.doors.resume_at() {
            None => timeout,
            Some(at) => {
                let now = clock::now();
                if at <= now {
                    self.resume_doors();
                    timeout
                } else {
                    Some(timeout.map_or(at.since(now), |limit| limit.min(at.since(now))))
                }
            }
        };
        let queueing = self.queueing.due().map(|at| at.since(clock::now()));
        match timeout.into_iter().chain(queueing).min() {
            None => Wait::Long,
            Some(limit) if limit.is_zero() => Wait::No,
            Some(limit) => Wait::AtMost(limit),
        }
    }

    /// Looks through what was reaped for what cannot wait: short sends, whose bytes are about to
    /// go, and accepted descriptors, which need an owner.
    fn settle(&mut self, arena: &[u8]) {
        while let Some(cqe) = self.ring.reaped.get(self.settled).copied() {
            self.settled += 1;
            match Op::of(cqe.user_data) {
                Op::Send => self.settle_send(cqe, arena),
                Op::Accept if cqe.result >= 0 => {
                    // SAFETY: the kernel made this descriptor for us with this very completion,
                    // which is seen here once, so nobody else owns it.
                    self.accepted.push_back(unsafe { OwnedFd::from_raw_fd(cqe.result) });
                }
                _ => {}
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<Completion> {
        self.arriving = None;
        loop {
            while let Some(completion) = self.ready.pop_front() {
                if self.is_due(completion) {
                    return Some(completion);
                }
            }
            if let Some(index) = self.delivering.pop_front() {
                if let Some(completion) = self.deliver(index) {
                    return Some(completion);
                }
                continue;
            }
            // An enter in the middle of the turn, for want of room, may have reaped more.
            self.settle(&[]);
            let cqe = self.ring.reaped.get(self.told).copied()?;
            self.told += 1;
            if let Some(completion) = self.tell(cqe) {
                return Some(completion);
            }
        }
    }

    fn tell(&mut self, cqe: Cqe) -> Option<Completion> {
        let id = untag(cqe.user_data);
        match Op::of(cqe.user_data) {
            Op::Recv => self.received(id, SMALL, cqe),
            Op::RecvLarge => self.received(id, LARGE, cqe),
            Op::Flush => self.flushed(id, cqe),
            Op::Connect => self.connected(id, cqe),
            Op::Accept => self.arrived(id, cqe),
            Op::Send | Op::Cancel => None,
            Op::Wake => {
                if let Some(wake) = self.wake.take() {
                    self.counters.calls += 1;
                    calls::drain(&wake);
                    if cqueue::more(cqe.flags) {
                        self.wake = Some(wake);
                    } else {
                        self.counters.rearms += 1;
                        self.watch(wake);
                    }
                }
                Some(Completion::Woken)
            }
        }
    }

    /// Whether something queued to be told is still worth telling: after a hard ending only that
    /// it is carried out.
    fn is_due(&mut self, completion: Completion) -> bool {
        match completion {
            Completion::Connected { id }
            | Completion::Unwritable { id }
            | Completion::Backlog { id, .. } => self.table.find(id).is_some_and(|slot| {
                !slot.flags.any(Flags::CLOSE_NOW) && !slot.flags.any(Flags::CLOSING)
            }),
            _ => true,
        }
    }

    pub(super) fn connect(&mut self, id: SocketId, address: &Address) {
        self.counters.calls += 2;
        let Ok((socket, target)) = calls::outbound(address) else {
            return self.ready.push_back(Completion::Refused { id });
        };
        if matches!(address, Address::Unix(_)) {
            // Decided on the spot. Through the ring a full queue would be waited for in circles.
            match socket.connect(&target).map_err(|error| errno_of(&error)) {
                Ok(()) => {
                    self.table.insert(id, socket.into());
                    self.ready.push_back(Completion::Connected { id });
                }
                Err(errno) if calls::is_queue_full(errno) => {
                    let slot = self.table.insert(id, socket.into());
                    slot.flags.set(Flags::CONNECTING);
                    self.queueing.join(id, target);
                }
                Err(_) => self.ready.push_back(Completion::Refused { id }),
            }
            return;
        }
        let slot = self.table.insert(id, socket.into());
        slot.flags.set(Flags::CONNECTING);
        slot.flags.set(Flags::CONNECT_ARMED);
        let fd = types::Fd(slot.raw());
        let target = slot.extra().target.insert(target);
        // The address stays in its box, and the box with the slot, until the completion.
        let entry = opcode::Connect::new(fd, target.as_ptr().cast(), target.len());
        self.push(&entry.build().user_data(Op::Connect.tag(id)));
    }

    /// Tries those again that found no room in a UNIX socket's queue.
    fn retry_connects(&mut self) {
        let mut decided = Vec::new();
        self.queueing.retry(&mut self.table, &mut decided);
        for (id, is_connected) in decided {
            if is_connected {
                self.ready.push_back(Completion::Connected { id });
                self.read(id.index);
            } else {
                drop(self.table.remove(id.index));
                self.ready.push_back(Completion::Refused { id });
                self.resume_doors();
            }
        }
    }

    fn connected(&mut self, id: SocketId, cqe: Cqe) -> Option<Completion> {
        let slot = self.table.find(id).expect("a socket closes after its connect");
        slot.flags.clear(Flags::CONNECT_ARMED);
        slot.flags.clear(Flags::CONNECTING);
        slot.extra().target = None;
        slot.trim();
        if slot.flags.any(Flags::CLOSING) {
            self.try_close(id.index);
            return None;
        }
        if cqe.result < 0 {
            let is_ended = slot.flags.any(Flags::NO_READING);
            drop(self.table.remove(id.index));
            self.resume_doors();
            return Some(if is_ended {
                Completion::Closed { id, unsent: 0 }
            } else {
                Completion::Refused { id }
            });
        }
        if slot.flags.any(Flags::WANTED) {
            self.read(id.index);
        }
        Some(Completion::Connected { id })
    }

    /// Queues an operation. Failure is fatal to the engine; the next turn says so.
    fn push(&mut self, entry: &squeue::Entry) {
        if let Err(error) = self.ring.push(entry, &mut self.counters) {
            self.failure.get_or_insert(error);
        }
    }

    /// Asks the kernel to end an operation soon; its last completion still comes.
    fn cancel(&mut self, op: Op, id: SocketId) {
        let entry = opcode::AsyncCancel::new(op.tag(id)).build();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(Op::Cancel.tag(id));
        self.push(&entry);
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        self.table.at(index).expect("listed sockets are open")
    }
}
