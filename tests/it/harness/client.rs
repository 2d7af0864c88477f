//! A raw client: writes exactly the bytes it is told, reads with a deadline.

use super::clock::PATIENCE;
use super::message::{Body, Message, Reader};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) reader: Reader<Socket>,
}

/// Connects to `127.0.0.1:80` or `unix:/path`.
pub(crate) fn connect(address: &str) -> io::Result<Socket> {
    let (domain, target) = match address.strip_prefix("unix:") {
        Some(path) => (Domain::UNIX, SockAddr::unix(path)?),
        None => (Domain::IPV4, address.parse::<SocketAddr>().unwrap().into()),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.connect_timeout(&target, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    if domain == Domain::IPV4 {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket)
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let socket = connect(address).unwrap_or_else(|cause| panic!("connect {address}: {cause}"));
        Self { reader: Reader::new(socket) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// For peers that may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.stream.write_all(bytes.as_ref())
    }

    /// Sends a request without a body and reads its answer.
    pub(crate) fn get(&mut self, target: &str) -> Message {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer()
    }

    /// Sends a request with a body and reads its answer.
    pub(crate) fn post(&mut self, target: &str, body: &[u8]) -> Message {
        let size = body.len();
        self.send(format!(
            "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n"
        ));
        self.send(body);
        self.answer()
    }

    /// The next answer, to a request that was not HEAD; interim ones are skipped.
    pub(crate) fn answer(&mut self) -> Message {
        loop {
            let mut answer = self.head();
            if answer.status() >= 200 {
                let framing = match answer.status() {
                    204 | 304 => Body::Length(0),
                    _ => answer.framing(Body::UntilClose),
                };
                answer.body = self.reader.body(framing).unwrap();
                return answer;
            }
            assert_ne!(answer.status(), 101, "switched protocols unasked");
        }
    }

    /// The next head alone: an interim answer, or one to HEAD.
    pub(crate) fn head(&mut self) -> Message {
        self.reader.head().unwrap().expect("an answer, but the connection was closed")
    }

    /// The peer must end the connection, with or without a reset, and send nothing more.
    pub(crate) fn expect_end(&mut self) {
        match self.reader.rest() {
            Ok(rest) => assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest)),
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionReset => {}
            Err(cause) => panic!("the connection should have ended: {cause}"),
        }
    }

    /// Nothing may come for a while; only for what must *not* happen.
    pub(crate) fn expect_silence(&mut self, how_long: Duration) {
        self.reader.stream.set_read_timeout(Some(how_long)).unwrap();
        let mut piece = [0; 256];
        match self.reader.stream.read(&mut piece) {
            Ok(size) => panic!("came: {:?}", String::from_utf8_lossy(&piece[..size])),
            Err(cause) => assert_eq!(cause.kind(), io::ErrorKind::WouldBlock, "{cause}"),
        }
        self.reader.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Ends our direction only.
    pub(crate) fn end_sending(&mut self) {
        self.reader.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Leaves with a TCP reset.
    pub(crate) fn reset(self) {
        self.reader.stream.set_linger(Some(Duration::ZERO)).unwrap();
    }
}
