//! Our own generator: connections that can be opened first and measured afterwards, left idle, or
//! watched while their server is killed. A closed loop on epoll: so many requests under way, taking
//! turns over all connections.

use crate::answer::Answer;
use crate::clock;
use crate::failure::{Failure, while_doing};
use crate::probe;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Swarm {
    epoll: Epoll,
    port: u16,
    request: Vec<u8>,
    members: Vec<Member>,
    /// Open and not asked; who has waited longest is asked next.
    idle: VecDeque<usize>,
    /// Members that have been asked.
    under_way: usize,
    buffer: Vec<u8>,
    pub(crate) tally: Tally,
}

#[derive(Debug)]
struct Member {
    /// `None` = broken and not opened again.
    stream: Option<TcpStream>,
    born: Duration,
    asked: Option<Duration>,
    answer: Answer,
    breaks: u32,
}

/// What was seen since the tally was last taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    pub(crate) latencies_us: Vec<u32>,
    /// Answers that were not 200 or not framed as agreed.
    pub(crate) wrong: u64,
    /// Connections that ended while in use.
    pub(crate) broken: u64,
    /// Connections that could not be opened.
    pub(crate) refused: u64,
    /// First good answer on a connection opened after [`Swarm::mark`].
    pub(crate) first_fresh: Option<Duration>,
    mark: Option<Duration>,
}

/// What to do about a connection that broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    Leave,
    Reopen,
}

/// Longest wait for an answer before the clock is looked at again, ms.
const WAIT_MS: u8 = 5;

impl Swarm {
    /// Opens all connections, and fails if one of them cannot be had: a measurement with fewer
    /// connections than it says would be a wrong one.
    pub(crate) fn connect(port: u16, count: usize) -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(while_doing("creating the generator's epoll set"))?;
        let mut swarm = Self {
            epoll,
            port,
            request: probe::request(port, "/"),
            members: Vec::with_capacity(count),
            idle: (0..count).collect(),
            under_way: 0,
            buffer: vec![0; 64 * 1024],
            tally: Tally::default(),
        };
        for at in 0..count {
            let stream = swarm.open(at).map_err(while_doing(format!(
                "opening connection {at} of {count} to port {port}"
            )))?;
            let born = clock::now();
            let answer = Answer::default();
            swarm.members.push(Member {
                stream: Some(stream),
                born,
                asked: None,
                answer,
                breaks: 0,
            });
        }
        Ok(swarm)
    }

    /// One request on each connection, at most `window` of them at a time; the number answered.
    pub(crate) fn greet(&mut self, window: usize, limit: Duration) -> Result<u64, Failure> {
        let deadline = clock::now() + limit;
        let before = self.tally.answered;
        // Who has been asked goes to the end, so the first so many turns are one each.
        let mut left = self.idle.len();
        while (left > 0 || self.under_way > 0) && clock::now() < deadline {
            let room = window.saturating_sub(self.under_way).min(left);
            self.fill(self.under_way + room, Repair::Leave);
            left -= room;
            self.turn(Repair::Leave)?;
        }
        Ok(self.tally.answered - before)
    }

    /// Keeps `window` requests under way until the time is up; how long it really was.
    pub(crate) fn run(
        &mut self,
        window: usize,
        time: Duration,
        repair: Repair,
    ) -> Result<Duration, Failure> {
        let start = clock::now();
        if repair == Repair::Reopen {
            let closed = |at: &usize| self.members[*at].stream.is_none();
            let closed: Vec<usize> = (0..self.members.len()).filter(closed).collect();
            for at in closed {
                self.reopen(at);
            }
        }
        while clock::since(start) < time {
            self.fill(window, repair);
            self.turn(repair)?;
        }
        Ok(clock::since(start))
    }

    /// From here on, answers on connections opened later are looked out for.
    pub(crate) fn mark(&mut self) {
        self.tally.mark = Some(clock::now());
        self.tally.first_fresh = None;
    }

    /// The tally so far; counting begins anew.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Most breaks of any one connection since the last call.
    pub(crate) fn take_breaks(&mut self) -> u32 {
        self.members.iter_mut().map(|member| std::mem::take(&mut member.breaks)).max().unwrap_or(0)
    }

    fn open(&self, at: usize) -> io::Result<TcpStream> {
        let stream = probe::connect(probe::address(self.port))?;
        stream.set_nonblocking(true)?;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, at as u64))?;
        Ok(stream)
    }

    /// Asks who has waited longest until `window` requests are under way. Each is asked once at most,
    /// so that a server that drops everything cannot hold us in a circle.
    fn fill(&mut self, window: usize, repair: Repair) {
        for _ in 0..self.idle.len() {
            if self.under_way >= window {
                return;
            }
            if let Some(at) = self.idle.pop_front() {
                self.ask(at, repair);
            }
        }
    }

    fn turn(&mut self, repair: Repair) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); 256];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(WAIT_MS)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(cause) => return Err(while_doing("waiting for answers")(cause)),
        };
        let now = clock::now();
        for event in &events[..count] {
            if let Ok(at) = usize::try_from(event.data()) {
                self.receive(at, now, repair);
            }
        }
        Ok(())
    }

    fn ask(&mut self, at: usize, repair: Repair) {
        let member = &mut self.members[at];
        let Some(stream) = &mut member.stream else { return };
        member.asked = Some(clock::now());
        self.under_way += 1;
        // A request is far smaller than an empty send buffer, so it goes whole or not at all.
        if stream.write_all(&self.request).is_err() {
            self.broke(at, repair);
        }
    }

    fn receive(&mut self, at: usize, now: Duration, repair: Repair) {
        let member = &mut self.members[at];
        let Some(stream) = &mut member.stream else { return };
        let count = match stream.read(&mut self.buffer) {
            Ok(count) if count > 0 => count,
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return,
            _ => return self.broke(at, repair),
        };
        match (member.answer.feed(&self.buffer[..count]), member.asked) {
            (Ok(None), Some(_)) => {}
            (Ok(Some(status)), Some(asked)) => {
                let fresh = self.tally.mark.is_some_and(|mark| member.born > mark);
                self.tally.note(status, now.saturating_sub(asked), fresh.then_some(now));
                member.asked = None;
                self.under_way -= 1;
                self.idle.push_back(at);
            }
            // Not an answer, or one that nobody asked for.
            (Err(_), _) | (Ok(_), None) => {
                self.tally.wrong += 1;
                self.broke(at, repair);
            }
        }
    }

    fn broke(&mut self, at: usize, repair: Repair) {
        self.tally.broken += 1;
        let member = &mut self.members[at];
        // Closing takes it out of the epoll set.
        member.stream = None;
        member.answer = Answer::default();
        member.breaks += 1;
        if member.asked.take().is_some() {
            self.under_way -= 1;
        } else {
            self.idle.retain(|&idle| idle != at);
        }
        if repair == Repair::Reopen {
            self.reopen(at);
        }
    }

    fn reopen(&mut self, at: usize) {
        match self.open(at) {
            Ok(stream) => {
                self.members[at].stream = Some(stream);
                self.members[at].born = clock::now();
                self.idle.push_back(at);
            }
            Err(_) => self.tally.refused += 1,
        }
    }
}

impl Tally {
    fn note(&mut self, status: u16, latency: Duration, fresh: Option<Duration>) {
        if status == 200 {
            self.answered += 1;
            self.latencies_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
            self.first_fresh = self.first_fresh.or(fresh);
        } else {
            self.wrong += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Repair, Swarm};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    /// Answers each connection once, then closes it; so many connections in all.
    fn server(count: usize) -> (u16, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            let mut guests: Vec<_> = (0..count).map(|_| listener.accept().unwrap().0).collect();
            for guest in &mut guests {
                assert!(guest.read(&mut [0; 1024]).unwrap() > 0);
                guest.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        };
        (port, std::thread::spawn(serve))
    }

    #[test]
    fn answers_and_breaks_are_counted() {
        let (port, thread) = server(8);
        let mut swarm = Swarm::connect(port, 8).unwrap();
        assert_eq!(swarm.greet(8, Duration::from_secs(20)).unwrap(), 8);
        thread.join().unwrap();
        // All are closed now, and nobody listens any more.
        while swarm.tally.broken < 8 {
            swarm.run(8, Duration::from_millis(1), Repair::Leave).unwrap();
        }
        swarm.run(8, Duration::from_millis(1), Repair::Reopen).unwrap();
        assert_eq!((swarm.tally.answered, swarm.tally.broken, swarm.take_breaks()), (8, 8, 1));
        assert_eq!(swarm.tally.refused, 8);
    }
}
