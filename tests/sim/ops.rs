//! The machine and the fake engine driven by arbitrary bytes: each few of them are one thing that
//! a peer, the kernel or the operator does. Nobody speaks proper HTTP unless the bytes say so;
//! what is judged is the contract, that nothing panics, and that in the end nothing is left open.

use super::engine::{Engine, Note};
use super::link::{LinkNo, Phase, Side};
use super::machine::Machine;
use super::setting::{DOORS, POOL_WORK, Setting, pool_name, work_address};
use lychgate::base::address::Peer;
use lychgate::base::id::ServerIndex;
use lychgate::base::time::Instant;
use lychgate::machine::gate::{Gate, Pumped};
use lychgate::machine::listener::Listener;
use lychgate::machine::listener::seam::Input;
use lychgate::machine::pool::seam::Standing;
use lychgate::plan::LogFormat;
use std::net::SocketAddr;
use std::sync::Arc;

/// Things said in one piece, so that arbitrary bytes soon reach beyond the first line.
const ASKED: [&[u8]; 10] = [
    b"GET /app/ HTTP/1.1\r\nHost: only.test\r\n\r\n",
    b"HEAD /one/ HTTP/1.1\r\nHost: only.test\r\nConnection: close\r\n\r\n",
    b"POST /app/ HTTP/1.1\r\nHost: only.test\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /work/ HTTP/1.1\r\nHost: only.test\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PUT /app/ HTTP/1.1\r\nHost: only.test\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"GET /app/ HTTP/1.1\r\nHost: only.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    b"GET /app/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /app/ HTTP/1.1\r\nHost: only.test\r\nX: ",
];
const ANSWERED: [&[u8]; 10] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 204 None\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
];

/// After so long everything has ended that ever will.
const PATIENCE: u64 = 3_600_000_000_000;
const LINKS_MAX: usize = 64;

/// The rest of the input.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn one(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn some(&mut self, size: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(size.min(self.0.len()));
        self.0 = later;
        now
    }
}

#[derive(Debug)]
struct Stage {
    engine: Engine<Listener>,
    setting: Setting,
    gate: Arc<Gate>,
    /// The garden's worker is admitted, and its place is open.
    is_there: bool,
    connecting: Vec<LinkNo>,
    closing: Vec<LinkNo>,
}

/// Does what the bytes say; an error is a breach of the contract.
pub(crate) fn run(machine: Listener, bytes: &[u8]) -> Result<(), String> {
    let mut bytes = Bytes(bytes);
    let setting = Setting {
        app_servers: 2,
        has_check: bytes.one() % 4 == 0,
        connections_max: 20,
        send_rate_min: 240,
        is_misdirected: false,
        idle_connections: 4,
        log: LogFormat::Json,
        slots: 1,
        queue_limit: 3,
        disconnect_check: None,
        resets: false,
        is_least_busy: false,
    };
    let seed = bytes.one() as u64;
    let mut stage = Stage {
        engine: Engine::new(machine, seed, false),
        setting,
        gate: Arc::default(),
        is_there: false,
        connecting: Vec::new(),
        closing: Vec::new(),
    };
    stage.gate.stand(Standing::Running, 3, true);
    stage.plan();
    while !bytes.0.is_empty() && stage.engine.fault.is_none() {
        stage.act(&mut bytes);
        stage.turn();
    }
    stage.finish();
    stage.engine.fault.map_or(Ok(()), Err)
}

impl Stage {
    fn plan(&mut self) {
        let plan = Arc::new(self.setting.plan());
        let gates = Arc::from([None, None, Some(Arc::clone(&self.gate))]);
        self.engine.step(Input::Planned { plan, doors: Arc::from(DOORS), gates });
    }

    fn turn(&mut self) {
        self.engine.wake();
        self.engine.flush();
        for note in std::mem::take(&mut self.engine.notes) {
            match note {
                Note::Connecting(no) => self.connecting.push(no),
                Note::Closing(no) => self.closing.push(no),
                _ => {}
            }
        }
        self.engine.settle();
    }

    fn pass(&mut self, nanos: u64) {
        self.engine.now = Instant(self.engine.now.0 + nanos);
    }

    fn act(&mut self, bytes: &mut Bytes<'_>) {
        let (what, which) = (bytes.one(), bytes.one());
        match what % 16 {
            0 if self.engine.links.len() < LINKS_MAX => {
                let address = SocketAddr::from(([203, 0, 113, 1], 40_000));
                let peer = if which % 4 == 0 { Peer::Unix } else { Peer::Tcp(address) };
                self.engine.accept(DOORS[which % 2], peer);
            }
            1 => {
                let size = bytes.one();
                self.write(which, bytes.some(size));
            }
            2..=4 => {
                let said = bytes.one();
                let Some(no) = self.link(which) else { return };
                let is_server = matches!(self.engine.links[no].side, Side::Server(_));
                let words = if is_server { ANSWERED } else { ASKED };
                self.write(which, words[said % words.len()]);
            }
            5..=7 => {
                let size = 1 + bytes.one() * 8;
                if let Some(no) = self.link(which) {
                    self.engine.deliver(no, size);
                }
            }
            8 if !self.connecting.is_empty() => {
                let no = self.connecting.remove(which % self.connecting.len());
                if which < 32 { self.engine.refused(no) } else { self.engine.connected(no) }
            }
            9 => self.leave(which, bytes.one()),
            10 => {
                let size = 1 + bytes.one() * 16;
                if let Some(no) = self.link(which) {
                    self.engine.peer_reads(no, size);
                }
            }
            11 => self.pass(which as u64 * 1_000_000),
            12 => self.pass(which as u64 * 100_000_000),
            13 if !self.closing.is_empty() => {
                let no = self.closing.remove(which % self.closing.len());
                self.engine.closed(no);
            }
            14 => self.operate(which),
            _ => {}
        }
    }

    fn operate(&mut self, which: usize) {
        match which % 8 {
            0 => self.engine.step(Input::Draining),
            1..=3 => {
                self.setting.app_servers = 1 + self.setting.app_servers % 3;
                self.plan();
            }
            4 => {
                let standing = if which < 128 { Standing::Stopped } else { Standing::Running };
                self.gate.stand(standing, 3, true);
                self.engine.step(Input::Stood { pool: pool(), standing });
            }
            5 | 6 => self.admit(),
            _ => self.dismiss(),
        }
    }

    fn admit(&mut self) {
        let place = ServerIndex(0);
        if !self.is_there && self.gate.is_empty(place) {
            self.is_there = true;
            let (pool, address) = (pool(), work_address(0));
            self.engine.step(Input::Admitted { pool, place, slot: 0, generation: 1, address });
            self.gate.open(place, 0, 1, 0);
        }
        self.pump();
    }

    fn dismiss(&mut self) {
        let place = ServerIndex(0);
        if std::mem::replace(&mut self.is_there, false) {
            self.gate.close(place);
            self.engine.step(Input::Retired { pool: pool(), place });
            self.engine.step(Input::Dismissed { pool: pool(), place });
        }
    }

    fn pump(&mut self) {
        while let Pumped::Granted(grant) = self.gate.pump(self.engine.now, &mut 0) {
            self.engine.step(Input::Granted { pool: pool(), grant });
        }
    }

    /// A link whose peer is still there and connected.
    fn link(&self, which: usize) -> Option<LinkNo> {
        let is_there = |no: &LinkNo| {
            let link = &self.engine.links[*no];
            !link.is_peer_gone && link.phase != Phase::Connecting
        };
        let open: Vec<LinkNo> = self.engine.open().filter(is_there).collect();
        if open.is_empty() { None } else { Some(open[which % open.len()]) }
    }

    fn write(&mut self, which: usize, bytes: &[u8]) {
        if let Some(no) = self.link(which)
            && !self.engine.links[no].up.is_ended
        {
            self.engine.peer_writes(no, bytes, false);
        }
    }

    fn leave(&mut self, which: usize, how: usize) {
        let Some(no) = self.link(which) else { return };
        match how % 3 {
            0 => self.engine.peer_ends(no),
            1 => self.engine.peer_closes(no),
            _ => self.engine.peer_resets(no),
        }
    }

    /// Everybody falls silent; the machine has to end what is left by itself.
    fn finish(&mut self) {
        self.setting.has_check = false;
        self.plan();
        self.turn();
        let until = self.engine.now.0 + PATIENCE;
        while self.engine.fault.is_none() {
            for no in std::mem::take(&mut self.closing) {
                self.engine.closed(no);
            }
            let is_over = self.engine.open().next().is_none();
            let deadline = self.engine.machine.deadline();
            if is_over || deadline.0 > until {
                break;
            }
            self.engine.now = deadline.max(self.engine.now);
            self.turn();
        }
        let left = self.engine.open().next();
        if let Some(no) = left {
            let link = &self.engine.links[no];
            let what = format!("link {no} ({:?}, {:?}) was never ended", link.side, link.phase);
            return self.engine.blame(what);
        }
        let executing = self.gate.figures(ServerIndex(0)).executing;
        if executing > 0 || self.gate.waiting() > 0 {
            let waiting = self.gate.waiting();
            self.engine.blame(format!("all is over, {executing} execute and {waiting} wait"));
        }
        if let Err(why) = self.engine.machine.rest() {
            self.engine.blame(why);
        }
    }
}

fn pool() -> String {
    String::from(pool_name(POOL_WORK))
}
