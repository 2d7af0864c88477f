//! One connection of the fake engine: what lies in the kernel's buffers in both directions, and
//! what the engine knows about it.

use super::engine::Piece;
use lychgate::base::address::Address;
use lychgate::base::id::SocketId;
use lychgate::base::prng::Prng;
use lychgate::base::time::Instant;
use lychgate::machine::listener::seam::Ending;
use std::collections::VecDeque;

/// A connection's place; never used twice in one run.
pub(crate) type LinkNo = usize;

/// Who is on the other side.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    Client,
    Server(Address),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open,
    /// The machine ordered the end.
    Ending(Ending),
    /// The engine has forgotten it.
    Closed,
}

/// One direction: the sender's and the receiver's kernel buffers and the network, in one queue.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) queue: VecDeque<u8>,
    pub(crate) capacity: usize,
    /// Bytes that ever came out.
    pub(crate) left: u64,
    /// A FIN stands behind the queue.
    pub(crate) is_ended: bool,
    /// A reset overtook whatever was there.
    pub(crate) is_reset: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: SocketId,
    pub(crate) side: Side,
    pub(crate) phase: Phase,
    /// Peer to machine.
    pub(crate) up: Pipe,
    /// Machine to peer.
    pub(crate) down: Pipe,
    pub(crate) is_reading: bool,
    pub(crate) is_shut: bool,
    pub(crate) backlog: VecDeque<u8>,
    /// The backlog as the machine knows it.
    pub(crate) told: usize,
    /// What the machine went on to say after it was told of a backlog.
    pub(crate) pressed: usize,
    pub(crate) unsent: usize,
    pub(crate) pieces: Vec<Piece>,
    /// The peer closed its socket.
    pub(crate) is_peer_gone: bool,
    /// The engine closed its socket.
    pub(crate) is_engine_gone: bool,
    /// The machine was told of the FIN, the reset, the failed write.
    pub(crate) has_ended: bool,
    pub(crate) is_broken: bool,
    pub(crate) is_unwritable: bool,
    /// When the machine was told first that the peer has gone.
    pub(crate) gone_at: Option<Instant>,
    /// A reset is seen although reading is held (as epoll reports it, unlike io_uring).
    pub(crate) breaks_on_hold: bool,
    /// Place in the peer's stream at which no receive ends.
    pub(crate) glue: Option<u64>,
    /// When and how the machine first ordered the end.
    pub(crate) ordered: Option<(Instant, Ending)>,
    /// What the machine said, by place in the stream and time.
    pub(crate) said: Vec<(u64, Instant)>,
    pub(crate) said_size: u64,
    /// What the machine was given, likewise.
    pub(crate) heard: Vec<(u64, Instant)>,
    pub(crate) made_at: Instant,
    /// When the machine was told of a backlog.
    pub(crate) told_at: Vec<Instant>,
    /// When anything last moved here.
    pub(crate) active_at: Instant,
}

impl Pipe {
    fn new(prng: &mut Prng) -> Self {
        // Often so small that a head does not fit, as a slow reader's buffer is.
        let kinds = [300, 2_000, 16_000, 64_000, 256_000];
        let capacity = kinds[usize::try_from(prng.below(kinds.len() as u64)).unwrap_or(0)];
        Self { queue: VecDeque::new(), capacity, left: 0, is_ended: false, is_reset: false }
    }

    pub(crate) fn enter(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
    }

    pub(crate) fn leave(&mut self, size: usize) -> Vec<u8> {
        let size = size.min(self.queue.len());
        self.left += size as u64;
        self.queue.drain(..size).collect()
    }

    /// The sender's reset arrives; whether it destroys what was under way is the kernel's mood.
    pub(crate) fn reset(&mut self, spares: bool) {
        self.is_reset = true;
        if !spares {
            self.queue.clear();
        }
    }
}

impl Link {
    pub(crate) fn new(
        id: SocketId,
        side: Side,
        phase: Phase,
        now: Instant,
        prng: &mut Prng,
    ) -> Self {
        Self {
            id,
            side,
            phase,
            up: Pipe::new(prng),
            down: Pipe::new(prng),
            is_reading: false,
            is_shut: false,
            backlog: VecDeque::new(),
            told: 0,
            pressed: 0,
            unsent: 0,
            pieces: Vec::new(),
            is_peer_gone: false,
            is_engine_gone: false,
            has_ended: false,
            is_broken: false,
            is_unwritable: false,
            gone_at: None,
            breaks_on_hold: prng.one_in(2),
            glue: None,
            ordered: None,
            said: Vec::new(),
            said_size: 0,
            heard: Vec::new(),
            made_at: now,
            told_at: Vec::new(),
            active_at: now,
        }
    }

    /// The next bytes of the peer for the machine.
    pub(crate) fn take_up(&mut self, size: usize) -> Vec<u8> {
        let end = self.up.left + size as u64;
        let size = if self.glue == Some(end) { size + RECEIVE_PAST_GLUE } else { size };
        self.up.leave(size)
    }

    /// When the machine was given the peer's byte at a place in its stream.
    pub(crate) fn heard_at(&self, place: u64) -> Instant {
        let after = self.heard.partition_point(|(start, _)| *start <= place);
        after.checked_sub(1).map_or(Instant(0), |at| self.heard[at].1)
    }

    /// How much of the peer's stream the machine had been given by a moment.
    pub(crate) fn taken_by(&self, moment: Instant) -> u64 {
        let later = self.heard.iter().find(|(_, at)| *at > moment);
        later.map_or(self.up.left, |(start, _)| *start)
    }

    /// When the machine was last told of a backlog, before a moment.
    pub(crate) fn told_before(&self, moment: Instant) -> Instant {
        let last = self.told_at.iter().rev().find(|at| **at < moment);
        last.copied().unwrap_or_default()
    }

    /// When the machine said the byte at a place in its stream.
    pub(crate) fn said_at(&self, place: u64) -> Instant {
        let after = self.said.partition_point(|(start, _)| *start <= place);
        after.checked_sub(1).map_or(Instant(0), |at| self.said[at].1)
    }
}

/// How much further a receive goes that would have ended at the glue.
const RECEIVE_PAST_GLUE: usize = 64;
