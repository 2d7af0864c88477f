//! An engine without a kernel: carries out the machine's orders on queues in memory, as the two
//! real engines do on sockets, and checks on every one of them that the machine keeps its side
//! of the contract. What the kernel may do at any moment, it does: short writes, small buffers,
//! resets that overtake data, completions that come after the order to end.

use super::garden::Turn;
use super::link::{Link, LinkNo, Phase, Side};
use super::machine::Machine;
use lychgate::base::address::{Address, Peer};
use lychgate::base::id::{Arrival, DoorId, ServerIndex, SocketId};
use lychgate::base::prng::Prng;
use lychgate::base::time::Instant;
use lychgate::machine::gate::{Gate, Grant};
use lychgate::machine::listener::seam::{Effect, Ending, Input, Outbox};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

/// What the owner of the engine has to see to, sooner or later.
#[derive(Debug)]
pub(crate) enum Note {
    /// Decide with [`Engine::connected`] or [`Engine::refused`]; or never.
    Connecting(LinkNo),
    /// [`Engine::deliver`] would find something.
    Readable(LinkNo),
    /// The peer has something to read.
    Flowed(LinkNo),
    /// The peer may write again.
    Room(LinkNo),
    /// Owed: [`Engine::closed`].
    Closing(LinkNo),
    /// What the machine said to a server, whether or not it ever gets there.
    Said(LinkNo, Vec<u8>),
    Drained,
    /// A slot was taken for a request of another thread.
    Grant(Grant),
    /// A closed place of the garden has nothing running any more.
    Empty(ServerIndex),
    /// Another worker is asked for.
    Want,
    /// As many requests of the garden wait as may.
    Full,
    /// What the world does to a worker of the garden, so that it stands in order here.
    Worker(u32, Turn),
}

/// Most bytes that may wait in the engine for one peer: what one turn can bring, with room.
const BACKLOG_SIZE_MAX: usize = 512 * 1024;
/// Most bytes for a peer of which the machine knows that it does not take them: what one turn
/// had in hand.
const PRESSED_SIZE_MAX: usize = 20 * 1024;
/// Wakings at one instant after which the machine is said to spin.
const WAKINGS_MAX: u32 = 3;
/// What one receive can bring.
pub(crate) const RECEIVE_SIZE_MAX: usize = 16 * 1024;
const GENERATION_MAX: u32 = 0x00ff_ffff;

#[derive(Debug)]
pub(crate) struct Engine<M> {
    pub(crate) machine: M,
    pub(crate) now: Instant,
    pub(crate) links: Vec<Link>,
    pub(crate) notes: Vec<Note>,
    /// The first breach of the contract.
    pub(crate) fault: Option<String>,
    pub(crate) is_traced: bool,
    /// The access log.
    pub(crate) log: Vec<u8>,
    out: Outbox,
    prng: Prng,
    /// Index of an id to the link that has it, from `Adopt` or `Connect` to `Closed`.
    ids: BTreeMap<u32, LinkNo>,
    generations: BTreeMap<u32, u32>,
    arrivals: u32,
    arriving: Option<Arrival>,
    adopted: Option<LinkNo>,
    /// Links with writes or endings of this turn.
    dirty: Vec<LinkNo>,
    urgent: VecDeque<Urgent>,
    woken: (Instant, u32),
    is_draining: bool,
    /// The garden's gate, and how many may wait at it.
    pub(crate) gate: Option<(Arc<Gate>, u32)>,
}

/// What a real engine finds out while it carries out a turn's writes.
#[derive(Clone, Copy, Debug)]
enum Urgent {
    Backlog(LinkNo),
    Unwritable(LinkNo),
}

impl<M: Machine> Engine<M> {
    pub(crate) fn new(machine: M, seed: u64, is_traced: bool) -> Self {
        Self {
            machine,
            now: Instant(0),
            links: Vec::new(),
            notes: Vec::new(),
            fault: None,
            is_traced,
            log: Vec::new(),
            out: Outbox::default(),
            prng: Prng::new(seed),
            ids: BTreeMap::new(),
            generations: BTreeMap::new(),
            // Close to the end, so that wrapping is met.
            arrivals: u32::MAX - 2,
            arriving: None,
            adopted: None,
            dirty: Vec::new(),
            urgent: VecDeque::new(),
            woken: (Instant(0), 0),
            is_draining: false,
            gate: None,
        }
    }

    pub(crate) fn blame(&mut self, what: String) {
        self.trace(|| format!("FAULT {what}"));
        self.fault.get_or_insert(what);
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.is_traced {
            let millis = self.now.0 / 1_000;
            // A trace that cannot be written is no reason to fail.
            let _ = writeln!(std::io::stderr().lock(), "{millis:>10}us {}", line());
        }
    }

    pub(crate) fn step(&mut self, input: Input<'_>) {
        if self.fault.is_some() {
            return;
        }
        self.trace(|| format!("> {}", brief(&input)));
        self.is_draining |= matches!(input, Input::Draining);
        if !matches!(input, Input::Woken) {
            self.woken.1 = 0;
        }
        let received = if let Input::Received { bytes, .. } = input { bytes } else { &[] };
        self.machine.step(self.now, input, &mut self.out);
        let mut effects = std::mem::take(&mut self.out.effects);
        for effect in &effects {
            self.trace(|| format!("  < {effect:?}"));
            self.carry_out(effect, received);
        }
        effects.clear();
        self.out.effects = effects;
        if let Some((gate, limit)) = &self.gate
            && gate.waiting() >= *limit
        {
            self.notes.push(Note::Full);
        }
    }

    /// A client connects; `None` when it is turned away.
    pub(crate) fn accept(&mut self, door: DoorId, peer: Peer) -> Option<LinkNo> {
        let arrival = Arrival(self.arrivals);
        self.arrivals = self.arrivals.wrapping_add(1);
        self.arriving = Some(arrival);
        self.adopted = None;
        self.step(Input::Accepted { door, arrival, peer });
        if self.arriving.take().is_some() {
            self.blame(String::from("Accepted was not answered in its step"));
        }
        self.adopted.take()
    }

    /// Lets time come to the machine if it asked for it.
    pub(crate) fn wake(&mut self) {
        if self.machine.deadline() > self.now {
            return;
        }
        self.woken =
            if self.woken.0 == self.now { (self.now, self.woken.1 + 1) } else { (self.now, 1) };
        if self.woken.1 > WAKINGS_MAX {
            self.blame(String::from("spins: its deadline stays due however often it is woken"));
        }
        self.step(Input::Woken);
    }

    /// Hands over some of what the peer sent, or its end.
    pub(crate) fn deliver(&mut self, no: LinkNo, size: usize) {
        let is_late = self.prng.one_in(3);
        let link = &mut self.links[no];
        let is_wanted = match link.phase {
            Phase::Open => link.is_reading || (link.up.is_reset && link.breaks_on_hold),
            // Completions already reaped when the machine gave up the connection.
            Phase::Ending(_) => !link.is_engine_gone && link.is_reading && is_late,
            Phase::Connecting | Phase::Closed => false,
        };
        if !is_wanted || link.is_broken {
            return;
        }
        let id = link.id;
        if link.is_reading && !link.up.queue.is_empty() {
            link.heard.push((link.up.left, self.now));
            let bytes = link.take_up(size.clamp(1, RECEIVE_SIZE_MAX));
            self.notes.push(Note::Room(no));
            self.notes.push(Note::Readable(no));
            self.links[no].active_at = self.now;
            self.step(Input::Received { id, bytes: &bytes });
        } else if link.up.is_reset {
            link.is_broken = true;
            link.gone_at.get_or_insert(self.now);
            self.step(Input::Broken { id });
        } else if link.up.is_ended && !link.has_ended {
            link.has_ended = true;
            link.gone_at.get_or_insert(self.now);
            link.active_at = self.now;
            self.step(Input::Ended { id });
        }
    }

    pub(crate) fn connected(&mut self, no: LinkNo) {
        let link = &mut self.links[no];
        if link.phase == Phase::Connecting {
            link.phase = Phase::Open;
            let id = link.id;
            self.step(Input::Connected { id });
        }
    }

    pub(crate) fn refused(&mut self, no: LinkNo) {
        let link = &mut self.links[no];
        if link.phase == Phase::Connecting {
            link.phase = Phase::Closed;
            let id = link.id;
            self.forget(id);
            self.step(Input::Refused { id });
        }
    }

    /// The machine's `End` is carried out.
    pub(crate) fn closed(&mut self, no: LinkNo) {
        let link = &mut self.links[no];
        if !matches!(link.phase, Phase::Ending(_)) {
            return;
        }
        link.phase = Phase::Closed;
        let (id, unsent) = (link.id, link.unsent);
        self.forget(id);
        self.step(Input::Closed { id, unsent });
    }

    /// The peer writes; returns how much its kernel took.
    pub(crate) fn peer_writes(&mut self, no: LinkNo, bytes: &[u8], is_forced: bool) -> usize {
        let link = &mut self.links[no];
        if link.is_engine_gone {
            // Data for a socket that nobody has any more is answered with a reset.
            let spares = self.prng.one_in(2);
            link.down.reset(spares);
            self.notes.push(Note::Flowed(no));
            return bytes.len();
        }
        let room = link.up.capacity.saturating_sub(link.up.queue.len());
        let size = if is_forced { bytes.len() } else { bytes.len().min(room) };
        link.up.enter(&bytes[..size]);
        if size > 0 {
            self.notes.push(Note::Readable(no));
        }
        size
    }

    pub(crate) fn peer_ends(&mut self, no: LinkNo) {
        self.links[no].up.is_ended = true;
        self.notes.push(Note::Readable(no));
    }

    /// The peer closes its socket: its FIN is sent, and what still comes is answered by a reset.
    pub(crate) fn peer_closes(&mut self, no: LinkNo) {
        let has_unread = !self.links[no].down.queue.is_empty();
        if has_unread {
            return self.peer_resets(no);
        }
        self.links[no].is_peer_gone = true;
        self.peer_ends(no);
    }

    pub(crate) fn peer_resets(&mut self, no: LinkNo) {
        let spares = self.prng.one_in(2);
        let link = &mut self.links[no];
        link.is_peer_gone = true;
        link.up.reset(spares);
        link.down.queue.clear();
        self.notes.push(Note::Readable(no));
        self.pump(no);
    }

    pub(crate) fn peer_reads(&mut self, no: LinkNo, size: usize) -> Vec<u8> {
        let link = &mut self.links[no];
        let bytes = link.down.leave(size);
        if !bytes.is_empty() {
            link.active_at = self.now;
            self.pump(no);
            if !self.links[no].down.queue.is_empty() {
                self.notes.push(Note::Flowed(no));
            }
        }
        bytes
    }

    /// Tells what the last turn's writes came to, before anything else is told.
    pub(crate) fn settle(&mut self) {
        while let Some(urgent) = self.urgent.pop_front() {
            let (Urgent::Backlog(no) | Urgent::Unwritable(no)) = urgent;
            let link = &mut self.links[no];
            let is_told = matches!(link.phase, Phase::Open | Phase::Ending(Ending::Flushed));
            if !is_told || link.is_engine_gone {
                continue;
            }
            let (id, bytes) = (link.id, link.backlog.len());
            if matches!(urgent, Urgent::Unwritable(_)) {
                self.step(Input::Unwritable { id });
            } else if bytes != link.told {
                link.told = bytes;
                link.told_at.push(self.now);
                self.step(Input::Backlog { id, bytes });
            }
        }
    }

    /// Carries out the writes and endings of a turn.
    pub(crate) fn flush(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for no in dirty {
            self.write(no);
            self.pump(no);
        }
        self.out.bytes.clear();
        self.log.append(&mut self.out.log);
    }

    /// Ids that the engine still knows.
    pub(crate) fn open(&self) -> impl Iterator<Item = LinkNo> {
        self.ids.values().copied()
    }

    fn write(&mut self, no: LinkNo) {
        let pieces = std::mem::take(&mut self.links[no].pieces);
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Arena(range) => match self.out.bytes.get(range.clone()) {
                    Some(slice) => bytes.extend_from_slice(slice),
                    None => self.blame(format!("{range:?} vanished before the turn was over")),
                },
                Piece::Copied(copied) => bytes.extend_from_slice(&copied),
            }
        }
        if bytes.is_empty() {
            return;
        }
        let now = self.now;
        let link = &mut self.links[no];
        link.said.push((link.said_size, now));
        link.said_size += bytes.len() as u64;
        link.active_at = now;
        link.backlog.extend(&bytes);
        link.pressed = if link.told > 0 { link.pressed + bytes.len() } else { 0 };
        if link.backlog.len() > BACKLOG_SIZE_MAX || link.pressed > PRESSED_SIZE_MAX {
            self.blame(format!("link {no} is fed without regard to its backlog"));
        }
        if matches!(self.links[no].side, Side::Server(_)) {
            self.notes.push(Note::Said(no, bytes));
        }
    }

    /// Moves what waits into the kernel's buffer, and ends what is to end after it.
    fn pump(&mut self, no: LinkNo) {
        let (spares, repeats) = (self.prng.one_in(2), self.prng.one_in(4));
        let link = &mut self.links[no];
        if link.phase == Phase::Closed || link.is_engine_gone {
            return;
        }
        let waiting = link.backlog.len();
        if link.up.is_reset {
            link.unsent += waiting;
            link.backlog.clear();
            if waiting > 0 && (!link.is_unwritable || repeats) {
                link.is_unwritable = true;
                self.urgent.push_back(Urgent::Unwritable(no));
            }
        } else if link.is_peer_gone && waiting > 0 {
            // The kernel takes it; the peer's answer is a reset.
            link.backlog.clear();
            link.up.reset(spares);
            self.notes.push(Note::Readable(no));
        } else if waiting > 0 {
            let room = link.down.capacity.saturating_sub(link.down.queue.len());
            let bytes: Vec<u8> = link.backlog.drain(..waiting.min(room)).collect();
            link.down.enter(&bytes);
            self.notes.push(Note::Flowed(no));
        }
        let link = &mut self.links[no];
        if link.backlog.len() != link.told {
            self.urgent.push_back(Urgent::Backlog(no));
        }
        let link = &mut self.links[no];
        if !link.pieces.is_empty() {
            // The turn is not over: its writes come before its endings.
            return;
        }
        if link.is_shut && link.backlog.is_empty() && !link.down.is_ended {
            link.down.is_ended = true;
            self.notes.push(Note::Flowed(no));
        }
        match link.phase {
            Phase::Ending(Ending::Flushed) if !link.backlog.is_empty() => {}
            Phase::Ending(how) => self.close(no, how),
            _ => {}
        }
    }

    fn close(&mut self, no: LinkNo, how: Ending) {
        let spares = self.prng.one_in(2);
        let link = &mut self.links[no];
        link.unsent += link.backlog.len();
        link.backlog.clear();
        link.is_engine_gone = true;
        // Closing on bytes that nobody read is a reset too (RFC 2525 section 2.17, tcp(7)).
        if how == Ending::Reset || !link.up.queue.is_empty() {
            link.down.reset(spares);
        } else {
            link.down.is_ended = true;
        }
        self.notes.push(Note::Flowed(no));
        self.notes.push(Note::Closing(no));
    }

    fn forget(&mut self, id: SocketId) {
        self.ids.remove(&id.index);
        self.generations.insert(id.index, id.generation);
    }

    fn carry_out(&mut self, effect: &Effect, received: &[u8]) {
        match effect {
            Effect::Adopt { arrival, id } => self.adopt(*arrival, *id),
            Effect::TurnAway { arrival } => self.take_arrival(*arrival),
            Effect::Recv { id } => self.listen(*id, true),
            Effect::Hold { id } => self.listen(*id, false),
            Effect::Send { to, range } => {
                if range.start > range.end || range.end > self.out.bytes.len() {
                    return self.blame(format!("{effect:?} is out of bounds"));
                }
                self.piece(*to, Piece::Arena(range.clone()));
            }
            Effect::Forward { to, range } => match received.get(range.clone()) {
                Some(bytes) => self.piece(*to, Piece::Copied(bytes.to_vec())),
                None => self.blame(format!("{effect:?} is out of bounds")),
            },
            Effect::Connect { id, address } => self.connect(*id, address),
            Effect::End { id, how } => self.end(*id, *how),
            Effect::Grant { grant, .. } => self.notes.push(Note::Grant(*grant)),
            Effect::Empty { place, .. } => self.notes.push(Note::Empty(*place)),
            Effect::Want { .. } => self.notes.push(Note::Want),
            Effect::Judge { .. } | Effect::Spent { .. } | Effect::Violate { .. } => {}
            Effect::Drained => {
                let mut open = self.ids.values();
                if !self.is_draining {
                    self.blame(String::from("Drained without Draining"));
                } else if open.any(|no| matches!(self.links[*no].side, Side::Client)) {
                    self.blame(String::from("Drained while a client is connected"));
                }
                self.notes.push(Note::Drained);
            }
        }
    }

    fn take_arrival(&mut self, arrival: Arrival) {
        if self.arriving.is_none_or(|expected| expected != arrival) {
            self.blame(format!("{arrival:?} was answered but not asked"));
        }
        self.arriving = None;
    }

    fn adopt(&mut self, arrival: Arrival, id: SocketId) {
        self.take_arrival(arrival);
        if self.is_draining {
            self.blame(String::from("adopted a connection while draining"));
        }
        self.register(id, Side::Client, Phase::Open);
        self.adopted = self.ids.get(&id.index).copied();
    }

    fn connect(&mut self, id: SocketId, address: &Arc<Address>) {
        self.register(id, Side::Server(Address::clone(address)), Phase::Connecting);
        if let Some(&no) = self.ids.get(&id.index) {
            self.notes.push(Note::Connecting(no));
        }
    }

    fn register(&mut self, id: SocketId, side: Side, phase: Phase) {
        if self.ids.contains_key(&id.index) {
            return self.blame(format!("{id:?} takes the place of one not yet closed"));
        }
        if self.generations.get(&id.index) == Some(&id.generation) {
            return self.blame(format!("{id:?} was used before"));
        }
        if id.generation > GENERATION_MAX {
            return self.blame(format!("{id:?} has more than 24 bits of generation"));
        }
        let no = self.links.len();
        self.ids.insert(id.index, no);
        self.links.push(Link::new(id, side, phase, self.now, &mut self.prng));
    }

    /// The link of an id that may still be given orders.
    fn find(&mut self, id: SocketId, order: &str) -> Option<LinkNo> {
        let no = self.ids.get(&id.index).copied().filter(|&no| self.links[no].id == id);
        if no.is_none() {
            self.blame(format!("{order} on {id:?}, which the engine does not know"));
        }
        no
    }

    fn find_open(&mut self, id: SocketId, order: &str) -> Option<LinkNo> {
        let no = self.find(id, order)?;
        if self.links[no].phase != Phase::Open {
            let phase = self.links[no].phase;
            self.blame(format!("{order} on {id:?}, which is {phase:?}"));
            return None;
        }
        Some(no)
    }

    fn listen(&mut self, id: SocketId, is_reading: bool) {
        if let Some(no) = self.find_open(id, if is_reading { "Recv" } else { "Hold" }) {
            self.links[no].is_reading = is_reading;
            if is_reading {
                self.notes.push(Note::Readable(no));
            }
        }
    }

    fn piece(&mut self, to: SocketId, piece: Piece) {
        if let Some(no) = self.find_open(to, "a write") {
            if self.links[no].is_shut {
                return self.blame(format!("a write on {to:?} after Shutdown"));
            }
            self.links[no].pieces.push(piece);
            self.soil(no);
        }
    }

    fn end(&mut self, id: SocketId, how: Ending) {
        let Some(no) = self.find(id, "End") else { return };
        let now = self.now;
        let link = &mut self.links[no];
        match (link.phase, how) {
            (Phase::Open, Ending::Shutdown) if !link.is_shut => link.is_shut = true,
            (Phase::Open | Phase::Connecting, Ending::Flushed | Ending::Now | Ending::Reset)
            | (Phase::Ending(Ending::Flushed), Ending::Now | Ending::Reset) => {
                link.phase = Phase::Ending(how);
                link.ordered.get_or_insert((now, how));
                link.active_at = now;
            }
            (phase, _) => return self.blame(format!("End {how:?} on {id:?}, which is {phase:?}")),
        }
        self.soil(no);
    }

    fn soil(&mut self, no: LinkNo) {
        if !self.dirty.contains(&no) {
            self.dirty.push(no);
        }
    }
}

/// Part of a turn's write to one socket.
#[derive(Debug)]
pub(crate) enum Piece {
    Arena(Range<usize>),
    Copied(Vec<u8>),
}

fn brief(input: &Input<'_>) -> String {
    match input {
        Input::Received { id, bytes } => {
            let shown = &bytes[..bytes.len().min(160)];
            let text = String::from_utf8_lossy(shown);
            format!("Received {id:?} {} bytes {text:?}", bytes.len())
        }
        Input::Planned { .. } => String::from("Planned"),
        other => format!("{other:?}"),
    }
}
