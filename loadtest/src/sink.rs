//! A server that reads request bodies to their end, throws them away and answers 200 only then: what
//! an upload is measured against. One thread, epoll, on TCP and on a UNIX socket.

use crate::answer::length;
use crate::failure::{Failure, while_doing};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const HEAD_MAX: usize = 32 * 1024;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TCP: u64 = 0;
const UNIX: u64 = 1;
/// How long a stop may go unnoticed, ms.
const TURN_MS: u8 = 100;

#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    pub(crate) fn start(path: &Path) -> Result<Self, Failure> {
        let doing = |what: &'static str| while_doing::<io::Error>(format!("sink: {what}"));
        let loopback = SockAddr::from(crate::probe::address(0));
        let tcp = listen(Domain::IPV4, &loopback).map_err(doing("listening on loopback"))?;
        let unix = SockAddr::unix(path)
            .and_then(|address| listen(Domain::UNIX, &address))
            .and_then(|socket| {
                fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map(|()| socket)
            })
            .map_err(doing("listening on a UNIX socket"))?;
        let port = tcp.local_addr().map_err(doing("reading its port"))?.as_socket();
        let port = port.map_or(0, |address| address.port());
        let mut floor = Floor::new(tcp, unix).map_err(doing("creating its epoll set"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread =
            std::thread::spawn(
                move || {
                    while !stopped.load(Ordering::Relaxed) && floor.turn().is_ok() {}
                },
            );
        Ok(Self { port, stop, thread: Some(thread) })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(domain: Domain, address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.bind(address)?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct Floor {
    epoll: Epoll,
    listeners: [Socket; 2],
    guests: BTreeMap<u64, Guest>,
    next: u64,
    buffer: Vec<u8>,
}

impl Floor {
    fn new(tcp: Socket, unix: Socket) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&tcp, EpollEvent::new(EpollFlags::EPOLLIN, TCP))?;
        epoll.add(&unix, EpollEvent::new(EpollFlags::EPOLLIN, UNIX))?;
        let buffer = vec![0; 256 * 1024];
        Ok(Self { epoll, listeners: [tcp, unix], guests: BTreeMap::new(), next: 2, buffer })
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(TURN_MS)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(cause) => return Err(cause.into()),
        };
        for event in &events[..count] {
            match event.data() {
                TCP => self.accept(0)?,
                UNIX => self.accept(1)?,
                id => self.serve(id),
            }
        }
        Ok(())
    }

    /// Everything that waits; a connection that is gone again is nobody's fault.
    fn accept(&mut self, listener: usize) -> io::Result<()> {
        while let Ok((socket, _)) = self.listeners[listener].accept() {
            socket.set_nonblocking(true)?;
            if listener == 0 {
                let _ = socket.set_tcp_nodelay(true);
            }
            self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
            self.guests.insert(self.next, Guest { socket, upload: Upload::default() });
            self.next += 1;
        }
        Ok(())
    }

    fn serve(&mut self, id: u64) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        if !guest.read(&mut self.buffer) {
            // Closing takes it out of the epoll set, since nobody else holds the descriptor.
            self.guests.remove(&id);
        }
    }
}

struct Guest {
    socket: Socket,
    upload: Upload,
}

impl Guest {
    /// One read; `false` = the connection is over.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        let count = match self.socket.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(cause) => return cause.kind() == io::ErrorKind::WouldBlock,
        };
        match self.upload.feed(&buffer[..count]) {
            // 40 bytes always fit a connection that has just been asked.
            Some(finished) => (0..finished).all(|_| self.socket.write_all(ANSWER).is_ok()),
            None => false,
        }
    }
}

/// Where one upload stands: framed by length or in chunks.
#[derive(Debug, Default)]
struct Upload {
    head: Vec<u8>,
    body: Body,
}

#[derive(Debug, Default)]
enum Body {
    #[default]
    Unknown,
    Length(u64),
    /// Kept whole until the last chunk is seen at its end: good enough to discard.
    Chunked(Vec<u8>),
}

impl Upload {
    /// How many uploads came to their end; `None` = not understood.
    fn feed(&mut self, mut bytes: &[u8]) -> Option<usize> {
        let mut finished = 0;
        loop {
            match &mut self.body {
                Body::Unknown => {
                    let before = self.head.len();
                    self.head.extend_from_slice(bytes);
                    let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n")
                    else {
                        return (self.head.len() <= HEAD_MAX).then_some(finished);
                    };
                    bytes = &bytes[end + 4 - before..];
                    self.body = framing(std::str::from_utf8(&self.head[..end]).ok()?);
                    self.head.clear();
                }
                Body::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    *left -= taken as u64;
                    if *left > 0 {
                        return Some(finished);
                    }
                    self.body = Body::Unknown;
                    finished += 1;
                }
                Body::Chunked(tail) => {
                    tail.extend_from_slice(bytes);
                    bytes = &[];
                    if !tail.ends_with(b"0\r\n\r\n") {
                        tail.drain(..tail.len().saturating_sub(5));
                        return Some(finished);
                    }
                    self.body = Body::Unknown;
                    finished += 1;
                }
            }
            if bytes.is_empty() && matches!(self.body, Body::Unknown) {
                return Some(finished);
            }
        }
    }
}

fn framing(head: &str) -> Body {
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    if chunked { Body::Chunked(Vec::new()) } else { Body::Length(length(head).unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::{Sink, Upload};
    use crate::probe;
    use crate::rig::{Cores, Rig};
    use std::io::Write;

    #[test]
    fn uploads_end_where_they_end() {
        let first: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd";
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for whole in [first, chunked, get] {
            for at in 1..whole.len() {
                let mut upload = Upload::default();
                assert_eq!(upload.feed(&whole[..at]), Some(0), "split at {at}");
                assert_eq!(upload.feed(&whole[at..]), Some(1), "split at {at}");
            }
        }
        assert_eq!(Upload::default().feed(&[first, first].concat()), Some(2));
        assert_eq!(Upload::default().feed(&vec![b'x'; 40_000]), None);
    }

    #[test]
    fn a_whole_upload_is_answered() {
        let rig = Rig::set_up(Cores { front: 0, load: 0 }).unwrap();
        let sink = Sink::start(&rig.path("sink")).unwrap();
        let mut stream = probe::connect(probe::address(sink.port)).unwrap();
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
        for _ in 0..2 {
            stream.write_all(head).unwrap();
            stream.write_all(&vec![b'u'; 1_000_000]).unwrap();
            assert_eq!(probe::read_answer(&mut stream).unwrap(), 200);
        }
    }
}
