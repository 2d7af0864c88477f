//! A client with a script: what it asks, at what pace, how it reads, and how it leaves.

use super::act::{Leave, tunnel_size};
use super::chance::{body, one_of, percent, range, size};
use super::ledger::Ledger;
use super::link::Link;
use super::mouth::{Gate, Mouth, Say};
use super::oracle::{self, Pending};
use super::parse::{Cut, Framing, Part, Reader};
use super::request::{MARKS_PER_CLIENT, Request, Stall};
use super::setting::{BODY_TIMEOUT, DOORS, HEAD_TIMEOUT};
use lychgate::base::address::Peer;
use lychgate::base::id::DoorId;
use lychgate::base::prng::Prng;
use lychgate::base::time::{Instant, nanos};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Brisk,
    /// Small pieces, far apart.
    Slow,
    /// Stops for good after so many bytes.
    Stops(u64),
}

/// How a request comes about: from a seed, for a mark, on a door, from an address.
type Draw = fn(&mut Prng, u32, DoorId, Option<String>) -> Request;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) door: DoorId,
    pub(crate) peer: Peer,
    pub(crate) marks: Vec<u32>,
    pub(crate) mouth: Mouth,
    pub(crate) pace: Pace,
    pub(crate) reader: Reader,
    /// Whole answers so far.
    pub(crate) answers: usize,
    /// The answer that is being read.
    pub(crate) pending: Option<Pending>,
    /// An answer said that it is the last, or its framing did.
    pub(crate) is_over: bool,
    pub(crate) is_tunnel: bool,
    echoed: u64,
    tunnel_size: u64,
    /// Bytes for the tunnel that are sent before it is there.
    pub(crate) ahead: usize,
    /// Leaves before all is said.
    is_short: bool,
    continued: usize,
    /// Bytes read.
    pub(crate) read: u64,
    /// When the client left, or half of it, before the machine did.
    pub(crate) left: Option<(Instant, Leave)>,
    pub(crate) saw_fin: bool,
    pub(crate) saw_reset: bool,
    /// Goes on talking after the machine has ended its side.
    is_stubborn: bool,
    /// The time of the last whole answer.
    pub(crate) answered_at: Instant,
}

impl Client {
    /// Draws the client and its requests, which are entered in the ledger.
    pub(crate) fn draw(prng: &mut Prng, number: u32, ledger: &mut Ledger) -> Self {
        let door = DOORS[usize::from(prng.one_in(3))];
        let octets = number.to_be_bytes();
        let address = SocketAddr::from(([203, 0, octets[2], octets[3]], 40_000));
        let peer = if prng.one_in(12) { Peer::Unix } else { Peer::Tcp(address) };
        let count = match prng.below(10) {
            0..=2 => 1,
            3..=7 => 1 + size(prng, 4),
            _ => 1 + size(prng, 19),
        };
        let mut client = Self {
            door,
            peer,
            marks: Vec::new(),
            mouth: Mouth::default(),
            pace: match prng.below(20) {
                0..=1 => Pace::Slow,
                2 => Pace::Stops(prng.below(3_000)),
                _ => Pace::Brisk,
            },
            reader: Reader::new(),
            answers: 0,
            pending: None,
            is_over: false,
            is_tunnel: false,
            echoed: 0,
            tunnel_size: tunnel_size(prng) as u64,
            ahead: 0,
            is_short: false,
            continued: 0,
            read: 0,
            left: None,
            saw_fin: false,
            saw_reset: false,
            is_stubborn: prng.one_in(3),
            answered_at: Instant(0),
        };
        client.script(prng, number, count, ledger);
        client
    }

    fn script(&mut self, prng: &mut Prng, number: u32, count: usize, ledger: &mut Ledger) {
        match prng.below(80) {
            0..=1 => {
                (0..25).for_each(|_| self.ask(prng, number, Request::flood, ledger));
                self.goodbye(prng, ledger);
            }
            2..=3 => {
                ledger.cover.note("client half-closes in its answer");
                self.pace = Pace::Brisk;
                self.ask(prng, number, Request::hasty, ledger);
                self.mouth.push(Say::Pause(range(prng, 20, 500) * 1_000_000));
                self.mouth.push(Say::Leave(Leave::Fin));
            }
            4..=6 => self.chat(prng, number, ledger),
            _ => self.usual(prng, number, count, ledger),
        }
    }

    fn usual(&mut self, prng: &mut Prng, number: u32, count: usize, ledger: &mut Ledger) {
        let waits = one_of(prng, &[0, 50, 100]);
        for index in 0..count {
            if index > 0 && percent(prng, waits) {
                self.mouth.push(Say::Await(Gate::Answers(index)));
                if percent(prng, 20) {
                    self.mouth.push(Say::Pause(range(prng, 1, 6_000) * 1_000_000));
                }
            }
            self.ask(prng, number, Request::draw, ledger);
            let last = &ledger.requests[&self.marks[index]];
            if last.is_upgrade && last.fault.is_none() {
                break;
            }
        }
        self.goodbye(prng, ledger);
    }

    /// Talks on steadily while its first request is answered early: when that answer is over,
    /// something is always unread.
    fn chat(&mut self, prng: &mut Prng, number: u32, ledger: &mut Ledger) {
        ledger.cover.note("client talks on through an early answer");
        self.pace = Pace::Brisk;
        self.ask(prng, number, Request::early, ledger);
        if let Some(Say::Bytes(bytes)) = self.mouth.says.back_mut() {
            let rest = bytes.split_off(500);
            self.mouth.says.push_back(Say::Pause(range(prng, 50, 300) * 1_000_000));
            self.mouth.says.push_back(Say::Bytes(rest));
        }
        for _ in 0..20 {
            self.mouth.push(Say::Pause(range(prng, 1, 30) * 1_000_000));
            self.ask(prng, number, Request::hasty, ledger);
        }
    }

    fn ask(&mut self, prng: &mut Prng, number: u32, draw: Draw, ledger: &mut Ledger) {
        let name = match self.peer {
            Peer::Tcp(address) => Some(address.ip().to_string()),
            Peer::Unix => None,
        };
        let index = self.marks.len();
        let mark = number * MARKS_PER_CLIENT + u32::try_from(index).unwrap_or(0);
        let mut request = draw(prng, mark, self.door, name);
        request.start = self.mouth.planned;
        self.say(prng, index, &request, ledger);
        self.marks.push(mark);
        ledger.requests.insert(mark, request);
    }

    fn say(&mut self, prng: &mut Prng, index: usize, request: &Request, ledger: &mut Ledger) {
        let cover = &mut ledger.cover;
        let (head, rest) = request.wire.split_at(request.head_size);
        if request.stall == Some(Stall::Head) {
            let (first, later) = head.split_at(1 + size(prng, head.len() - 2));
            self.mouth.push(Say::Bytes(first.to_vec()));
            self.mouth.push(Say::Pause(nanos(HEAD_TIMEOUT) + overdue(prng)));
            self.mouth.push(Say::Bytes(later.to_vec()));
            cover.note("slow head");
        } else {
            self.mouth.push(Say::Bytes(head.to_vec()));
        }
        if request.expects {
            let long = Gate::Continue { index, until: None };
            self.mouth.push(Say::Await(long));
            cover.note("client expects 100");
        }
        if request.stall == Some(Stall::Body) {
            let (first, later) = rest.split_at(size(prng, rest.len() - 1));
            self.mouth.push(Say::Bytes(first.to_vec()));
            self.mouth.push(Say::Pause(nanos(BODY_TIMEOUT) + overdue(prng)));
            self.mouth.push(Say::Bytes(later.to_vec()));
            cover.note("slow body");
        } else if !rest.is_empty() {
            self.mouth.push(Say::Bytes(rest.to_vec()));
        }
        if request.is_upgrade && request.fault.is_none() {
            if percent(prng, 30) {
                // It trusts in the upgrade so much that it does not wait for it.
                self.ahead = size(prng, usize::try_from(self.tunnel_size).unwrap_or(0));
                self.mouth.push(Say::Bytes(body(request.mark, self.ahead)));
                cover.note("client speaks before the upgrade");
            }
            self.mouth.push(Say::Await(Gate::Answers(index + 1)));
            cover.note("client asks for upgrade");
        }
    }

    fn goodbye(&mut self, prng: &mut Prng, ledger: &mut Ledger) {
        let all = Say::Await(Gate::Answers(self.marks.len()));
        let leave = one_of(prng, &[Leave::Fin, Leave::Close, Leave::Reset]);
        match prng.below(20) {
            0..=1 => {
                ledger.cover.note("client half-closes after its requests");
                self.mouth.push(Say::Leave(Leave::Fin));
            }
            2..=3 => {
                self.is_short = true;
                let kept = size(prng, self.mouth.says.len());
                self.mouth.says.truncate(kept);
                if let Some(Say::Bytes(bytes)) = self.mouth.says.back_mut() {
                    bytes.truncate(1 + size(prng, bytes.len() - 1));
                }
                if percent(prng, 50) {
                    self.mouth.push(Say::Pause(range(prng, 0, 800) * 1_000_000));
                }
                ledger.cover.note(match leave {
                    Leave::Fin => "client half-closes early",
                    Leave::Close => "client closes early",
                    Leave::Reset => "client resets early",
                });
                self.mouth.push(Say::Leave(leave));
            }
            4..=6 => ledger.cover.note("client stays idle"),
            _ => {
                self.mouth.push(all);
                self.mouth.push(Say::Leave(leave));
            }
        }
    }

    /// Whether what was waited for is there; or else when patience ends.
    pub(crate) fn is_open(&self, gate: Gate, now: Instant) -> bool {
        match gate {
            Gate::Answers(count) => self.answers >= count,
            Gate::Continue { index, until } => {
                self.answers > index
                    || self.continued > index
                    || (self.answers == index && self.pending.is_some())
                    || until.is_some_and(|until| now >= until)
            }
            Gate::Echo(size) => self.echoed >= size,
        }
    }

    /// Reads what came, judging each answer.
    pub(crate) fn hear(
        &mut self,
        bytes: &[u8],
        now: Instant,
        link: &Link,
        links: &[Link],
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        self.read += bytes.len() as u64;
        self.reader.push(bytes);
        while let Some(part) = self.reader.next()? {
            match part {
                Part::Head(head) => {
                    let framing = oracle::begin(self, &head, link, links, ledger)?;
                    self.reader.begin(framing);
                    if framing == Framing::Tunnel {
                        self.upgrade();
                    }
                }
                Part::Body(bytes) if self.is_tunnel => self.hear_echo(&bytes)?,
                Part::Body(bytes) => {
                    let pending = self.pending.as_mut().ok_or("a body without a head")?;
                    pending.grow(&bytes)?;
                }
                Part::Done { .. } => self.finish(now, ledger)?,
            }
        }
        Ok(())
    }

    /// The machine ended its direction (or the connection).
    pub(crate) fn hear_end(&mut self, now: Instant, ledger: &mut Ledger) -> Result<(), String> {
        self.saw_fin = true;
        if self.reader.end() == Cut::Whole && !self.is_tunnel {
            self.finish(now, ledger)?;
        }
        if self.is_stubborn {
            ledger.cover.note("client talks on after the end");
        }
        self.mouth.rush(if self.is_stubborn { 30_000 } else { 0 });
        Ok(())
    }

    pub(crate) fn hear_reset(&mut self) {
        self.saw_reset = true;
        self.mouth.rush(0);
    }

    /// 100 came: the body may follow.
    pub(crate) fn note_continue(&mut self) {
        self.continued = self.answers + 1;
    }

    fn upgrade(&mut self) {
        self.is_tunnel = true;
        self.answers += 1;
        if self.is_short {
            return;
        }
        let salt = self.marks[self.answers - 1];
        let bytes = body(salt, usize::try_from(self.tunnel_size).unwrap_or(0));
        let bytes = bytes[self.ahead..].to_vec();
        let before = std::mem::take(&mut self.mouth.says);
        let (unsaid, later): (VecDeque<Say>, VecDeque<Say>) =
            before.into_iter().partition(|say: &Say| matches!(say, Say::Bytes(_)));
        self.mouth.says = unsaid;
        self.mouth.push(Say::Bytes(bytes));
        self.mouth.push(Say::Await(Gate::Echo(self.tunnel_size)));
        let leaves = later.into_iter().filter(|say| matches!(say, Say::Leave(_)));
        self.mouth.says.extend(leaves);
    }

    fn hear_echo(&mut self, bytes: &[u8]) -> Result<(), String> {
        let salt = self.marks[self.answers - 1];
        if !super::chance::is_body(salt, self.echoed, bytes) {
            return Err(format!("the tunnel of {salt} changed what went through it"));
        }
        self.echoed += bytes.len() as u64;
        if self.echoed > self.tunnel_size {
            return Err(format!("the tunnel of {salt} returned more than was sent"));
        }
        Ok(())
    }

    fn finish(&mut self, now: Instant, ledger: &mut Ledger) -> Result<(), String> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        if pending.is_interim {
            return Ok(());
        }
        pending.finish(ledger)?;
        self.answered_at = now;
        self.answers += 1;
        self.is_over |= pending.is_last;
        Ok(())
    }
}

/// How much longer than it may a client dawdles: a little, or beyond every other limit.
fn overdue(prng: &mut Prng) -> u64 {
    one_of(prng, &[500_000_000, 20_000_000_000])
}
