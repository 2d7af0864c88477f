//! One question to an application (does it listen, what does it answer), asked again and again,
//! without blocking, until the answer is good. The machine's limits end the asking.

use crate::base::address::Address;
use crate::base::time::Instant;
use crate::sys::poll::Interest;
use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Between two attempts, doubled from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// One attempt to connect, where no answer is awaited.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// A status line up to its code: `HTTP/1.1 200`.
const STATUS_SIZE: usize = 12;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// It accepts a connection.
    Listens,
    /// A good answer (2xx or 3xx) to GET.
    IsReady { path: String, timeout: Duration },
    /// Any answer to GET.
    Get { path: String, timeout: Duration },
    /// Any answer to `OPTIONS *`.
    Options { timeout: Duration },
}

impl Question {
    fn timeout(&self) -> Duration {
        match self {
            Self::Listens => CONNECT_LIMIT,
            Self::IsReady { timeout, .. }
            | Self::Get { timeout, .. }
            | Self::Options { timeout } => *timeout,
        }
    }

    fn request(&self) -> Option<String> {
        let line = match self {
            Self::Listens => return None,
            Self::IsReady { path, .. } | Self::Get { path, .. } => format!("GET {path}"),
            Self::Options { .. } => "OPTIONS *".to_owned(),
        };
        Some(format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lychgate\r\n\
             Connection: close\r\n\r\n"
        ))
    }
}

#[derive(Debug)]
enum Phase {
    Pausing,
    Connecting(Socket),
    Asking(Socket),
    Hearing(Socket, Vec<u8>),
}

/// The asking after one process.
#[derive(Debug)]
pub(super) struct Probe {
    address: Address,
    question: Question,
    phase: Phase,
    pause: Duration,
    /// When the phase ends if nothing happens.
    deadline: Instant,
    /// What the last attempt met, for the operator.
    pub(super) obstacle: String,
}

impl Probe {
    /// `deadline` starts at once.
    pub(super) fn new(address: Address, question: Question, now: Instant) -> Self {
        let obstacle = "it was not asked yet".to_owned();
        Self { address, question, phase: Phase::Pausing, pause: PAUSE_MIN, deadline: now, obstacle }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn watched(&self) -> Option<(BorrowedFd<'_>, Interest)> {
        match &self.phase {
            Phase::Pausing => None,
            Phase::Connecting(socket) | Phase::Asking(socket) => {
                Some((socket.as_fd(), Interest::Write))
            }
            Phase::Hearing(socket, _) => Some((socket.as_fd(), Interest::Read)),
        }
    }

    /// Goes on as far as it can. True when the application is ready.
    pub(super) fn step(&mut self, now: Instant, is_ready: bool) -> bool {
        let is_late = now >= self.deadline;
        match std::mem::replace(&mut self.phase, Phase::Pausing) {
            Phase::Pausing if is_late => self.connect(now),
            Phase::Pausing => false,
            _ if !is_ready && is_late => self.fail(now, "no answer in time".into()),
            phase if !is_ready => {
                self.phase = phase;
                false
            }
            Phase::Connecting(socket) => match socket.take_error() {
                Ok(None) => self.connected(now, socket),
                Ok(Some(error)) | Err(error) => self.fail(now, error.to_string()),
            },
            Phase::Asking(socket) => self.ask(now, socket),
            Phase::Hearing(socket, heard) => self.hear(now, socket, heard),
        }
    }

    fn connect(&mut self, now: Instant) -> bool {
        self.deadline = now + self.question.timeout();
        let made = match &self.address {
            Address::Tcp(address) => {
                let domain = Domain::for_address(*address);
                Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)
                    .map(|socket| (socket, SockAddr::from(*address)))
            }
            Address::Unix(path) => {
                Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
                    .and_then(|socket| SockAddr::unix(path).map(|address| (socket, address)))
            }
        };
        let connected = made.and_then(|(socket, address)| match socket.connect(&address) {
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {
                Ok((socket, false))
            }
            Ok(()) => Ok((socket, true)),
            Err(error) => Err(error),
        });
        match connected {
            Ok((socket, true)) => self.connected(now, socket),
            Ok((socket, false)) => {
                self.phase = Phase::Connecting(socket);
                false
            }
            Err(error) => self.fail(now, error.to_string()),
        }
    }

    fn connected(&mut self, now: Instant, socket: Socket) -> bool {
        self.ask(now, socket)
    }

    fn ask(&mut self, now: Instant, mut socket: Socket) -> bool {
        let Some(request) = self.question.request() else { return true };
        match socket.write(request.as_bytes()) {
            // Into the empty buffer of a new socket it goes whole, or the socket is odd.
            Ok(size) if size == request.len() => {
                self.phase = Phase::Hearing(socket, Vec::new());
                false
            }
            Ok(_) => self.fail(now, "it takes no request".into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.phase = Phase::Asking(socket);
                false
            }
            Err(error) => self.fail(now, error.to_string()),
        }
    }

    fn hear(&mut self, now: Instant, mut socket: Socket, mut heard: Vec<u8>) -> bool {
        let mut buffer = [0; 64];
        match socket.read(&mut buffer) {
            Ok(0) => return self.fail(now, "it closed the connection without an answer".into()),
            Ok(size) => heard.extend_from_slice(&buffer[..size]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return self.fail(now, error.to_string()),
        }
        match verdict(&heard, matches!(self.question, Question::IsReady { .. })) {
            None => {
                self.phase = Phase::Hearing(socket, heard);
                false
            }
            Some(Ok(())) => true,
            Some(Err(obstacle)) => self.fail(now, obstacle),
        }
    }

    /// The attempt failed; the next comes after a pause.
    pub(super) fn fail(&mut self, now: Instant, obstacle: String) -> bool {
        self.obstacle = obstacle;
        self.phase = Phase::Pausing;
        self.deadline = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        false
    }
}

/// `None`: more is to come.
fn verdict(heard: &[u8], must_be_good: bool) -> Option<Result<(), String>> {
    if heard.len() < STATUS_SIZE {
        return None;
    }
    let is_http = heard.starts_with(b"HTTP/1.") && heard[8] == b' ';
    let code = crate::base::ascii::decimal(&heard[9..STATUS_SIZE]).filter(|_| is_http);
    Some(match code {
        Some(200..400) => Ok(()),
        Some(_) if !must_be_good => Ok(()),
        Some(code) => Err(format!("it answered {code}")),
        None => Err("it does not answer in HTTP/1".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, poll};
    use std::net::TcpListener;

    /// Until ready, or until an attempt met this obstacle.
    fn ask(probe: &mut Probe, obstacle: &str) -> bool {
        let end = clock::now() + Duration::from_secs(20);
        let mut ready = Vec::new();
        while clock::now() < end {
            let watched: Vec<_> = probe.watched().into_iter().collect();
            let timeout = probe.deadline().since(clock::now());
            poll::wait(&watched, Some(timeout), &mut ready).unwrap();
            let is_ready = ready.first().copied().unwrap_or(false);
            if probe.step(clock::now(), is_ready) {
                return true;
            }
            if !obstacle.is_empty() && probe.obstacle.contains(obstacle) {
                return false;
            }
        }
        panic!("neither ready nor {obstacle}: {}", probe.obstacle);
    }

    fn answering(answers: Vec<&'static str>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut client, _) = listener.accept().unwrap();
                let _ = client.read(&mut [0; 512]);
                client.write_all(answer.as_bytes()).unwrap();
            }
        });
        Address::Tcp(address)
    }

    #[test]
    fn listening_is_enough_unless_a_path_is_set() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(silent.local_addr().unwrap());
        let now = clock::now();
        assert!(ask(&mut Probe::new(address.clone(), Question::Listens, now), ""));
        let ready = Question::IsReady { path: "/".into(), timeout: Duration::from_millis(30) };
        assert!(!ask(&mut Probe::new(address.clone(), ready, now), "no answer in time"));
        drop(silent);
        assert!(!ask(&mut Probe::new(address, Question::Listens, now), "refused"));
        let gone = Address::Unix("/nonexistent/app.sock".into());
        assert!(!ask(&mut Probe::new(gone, Question::Listens, now), "No such file"));
    }

    #[test]
    fn it_asks_until_the_answer_is_good() {
        let answers =
            vec!["HTTP/1.1 503 Wait\r\n\r\n", "", "hello, I am SMTP\r\n", "HTTP/1.0 302 "];
        let ready = Question::IsReady { path: "/up".into(), timeout: Duration::from_secs(20) };
        let mut probe = Probe::new(answering(answers), ready, clock::now());
        for obstacle in ["503", "closed", "not answer in HTTP"] {
            assert!(!ask(&mut probe, obstacle));
        }
        assert!(ask(&mut probe, ""));
    }

    #[test]
    fn a_sign_of_life_is_any_answer() {
        let timeout = Duration::from_secs(20);
        for question in [Question::Get { path: "/".into(), timeout }, Question::Options { timeout }]
        {
            let answers = vec!["hello, I am SMTP\r\n", "HTTP/1.1 501 No\r\n\r\n"];
            let mut probe = Probe::new(answering(answers), question, clock::now());
            assert!(!ask(&mut probe, "not answer in HTTP"));
            assert!(ask(&mut probe, ""));
        }
    }
}
