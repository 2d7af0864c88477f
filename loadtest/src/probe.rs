//! One request at a time, by hand: whether a server answers at all.

use crate::answer::Answer;
use crate::child::Child;
use crate::clock;
use crate::failure::Failure;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

/// Time for a server to start.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Time for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

pub(crate) fn request(port: u16, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").into_bytes()
}

pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, ANSWER_LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}

/// Reads one whole answer; its status.
pub(crate) fn read_answer(stream: &mut TcpStream) -> io::Result<u16> {
    let mut answer = Answer::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match answer.feed(&buffer[..count]) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(cause) => return Err(io::Error::other(cause)),
        }
    }
}

fn ask(port: u16) -> io::Result<u16> {
    let mut stream = connect(address(port))?;
    stream.write_all(&request(port, "/"))?;
    read_answer(&mut stream)
}

/// Returns once `GET /` on the port is answered 200; fails if the program ends or time is up.
pub(crate) fn until_answering(child: &mut Child, port: u16) -> Result<(), Failure> {
    let deadline = clock::now() + START_LIMIT;
    loop {
        let last = match ask(port) {
            Ok(200) => return Ok(()),
            Ok(status) => format!("status {status}"),
            Err(cause) => cause.to_string(),
        };
        child.expect_running()?;
        if clock::now() >= deadline {
            let cause = format!(
                "GET / on port {port} was not answered 200 within {START_LIMIT:?} ({last})"
            );
            return Err(child.complaint(&cause));
        }
        sleep(Duration::from_millis(20));
    }
}
