//! One suite for both engines: what the seam promises, whichever runs below it.

mod connecting;
mod ending;
mod flowing;
mod limits;

use super::*;
use crate::sys::socket::{listen, local_address};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

const DOOR: DoorId = DoorId(7);

/// An engine with an open door, and a simple owner: it adopts everybody and notes what it hears.
struct Rig {
    engine: Engine,
    address: SocketAddr,
    wake: EventFd,
    arena: Vec<u8>,
    adopted: Vec<SocketId>,
    received: BTreeMap<SocketId, Vec<u8>>,
    /// Everything but `Accepted`, `Received` and `Backlog`.
    heard: Vec<Completion>,
    backlogs: BTreeMap<SocketId, usize>,
    /// Sends back what it receives, and holds a socket while that has a backlog.
    is_echo: bool,
    indices: u32,
}

/// Runs a test under each engine. Where this system refuses io_uring, says so and goes on.
fn both(test: fn(&mut Rig)) {
    for choice in [Choice::Epoll, Choice::Uring] {
        match Rig::start(choice) {
            Ok(mut rig) => test(&mut rig),
            Err(error) => skip(choice, &error),
        }
    }
}

fn skip(choice: Choice, error: &Error) {
    let is_refused = error.call == "io_uring_setup";
    assert!(choice == Choice::Uring && is_refused, "{choice:?} should start: {error}");
    // Not by a macro, whose output the harness swallows: a test that does not run must be seen.
    let line = format!("SKIPPED under io_uring, which this system refuses: {error}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

impl Rig {
    fn start(choice: Choice) -> Result<Self, Error> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
        let (mut engine, _) = Engine::start(choice, wake.as_fd().try_clone_to_owned().unwrap())?;
        let door = listen(&Address::Tcp(([127, 0, 0, 1], 0).into()), 4096, false).unwrap();
        let Address::Tcp(address) = local_address(&door).unwrap() else { panic!() };
        engine.open(DOOR, door);
        Ok(Self {
            engine,
            address,
            wake,
            arena: Vec::new(),
            adopted: Vec::new(),
            received: BTreeMap::new(),
            heard: Vec::new(),
            backlogs: BTreeMap::new(),
            is_echo: false,
            indices: 0,
        })
    }

    fn name(&mut self) -> SocketId {
        self.indices += 1;
        SocketId { index: self.indices - 1, generation: self.indices }
    }

    /// One turn of at most `ms`; true if something was told.
    fn turn(&mut self, ms: u64) -> bool {
        self.engine.turn(&self.arena, Some(Duration::from_millis(ms))).unwrap();
        self.arena.clear();
        self.hear()
    }

    /// Hears what the turn has in store; true if something was told.
    fn hear(&mut self) -> bool {
        let mut is_told = false;
        while let Some(completion) = self.engine.next() {
            is_told = true;
            self.note(completion);
        }
        is_told
    }

    fn note(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { door, arrival, peer } => {
                assert_eq!(door, DOOR);
                assert!(matches!(peer, Peer::Tcp(address) if address.ip().is_loopback()));
                let id = self.name();
                self.engine.adopt(arrival, id);
                self.engine.recv(id);
                self.adopted.push(id);
            }
            Completion::Received { id, buffer } => {
                let bytes = self.engine.bytes(buffer);
                assert!(!bytes.is_empty());
                let len = bytes.len();
                if self.is_echo {
                    self.engine.forward(id, buffer, 0..len);
                } else {
                    self.received.entry(id).or_default().extend_from_slice(bytes);
                }
            }
            Completion::Backlog { id, bytes } => {
                let before = self.backlogs.insert(id, bytes);
                assert!(bytes > 0 || before.is_some_and(|before| before > 0), "never told of 0");
                if self.is_echo {
                    if bytes > 0 { self.engine.hold(id) } else { self.engine.recv(id) }
                }
            }
            other => self.heard.push(other),
        }
    }

    /// Turns until something holds; fails if it does not within ten seconds.
    fn until(&mut self, what: impl Fn(&Self) -> bool) {
        let limit = crate::sys::clock::now() + Duration::from_secs(10);
        while !what(self) {
            assert!(crate::sys::clock::now() < limit, "waited in vain; heard {:?}", self.heard);
            self.turn(200);
        }
    }

    fn until_heard(&mut self, completion: Completion) {
        self.until(|rig| rig.heard.contains(&completion));
    }

    fn until_received(&mut self, id: SocketId, count: usize) -> Vec<u8> {
        self.until(|rig| rig.received.get(&id).map_or(0, Vec::len) >= count);
        self.received.remove(&id).unwrap_or_default()
    }

    /// Turns until nothing more happens for a moment: what was to come has come.
    fn settle(&mut self) {
        while self.turn(30) {}
    }

    fn send(&mut self, id: SocketId, bytes: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.engine.send(id, start..self.arena.len());
    }

    /// A client, and the name of its connection.
    fn client(&mut self) -> (TcpStream, SocketId) {
        let count = self.adopted.len();
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        self.until(|rig| rig.adopted.len() > count);
        (client, *self.adopted.last().unwrap())
    }
}

/// Bytes whose order is checked by comparing: counted words, repeated out of step with any block.
fn pattern(len: usize) -> Vec<u8> {
    let period: Vec<u8> = (0u32..).flat_map(u32::to_le_bytes).take(65_537).collect();
    let mut bytes = period.repeat(len.div_ceil(period.len()));
    bytes.truncate(len);
    bytes
}

fn read_exactly(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

fn read_all(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).map(|_| bytes)
}
