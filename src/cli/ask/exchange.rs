//! One request to the control API and its answer, over the supervisor's socket. Everything is
//! bounded: what listens there may be anything.

use crate::base::time::Instant;
use crate::shell::view::Problem;
use crate::sys::clock;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt::{self, Display, Formatter};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

/// For a whole exchange; the API gives up earlier by itself.
const LIMIT: Duration = Duration::from_secs(15);
const HEAD_SIZE_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 32;
/// Larger than any honest answer: ten thousand requests with long targets.
const BODY_SIZE_MAX: usize = 256 * 1024 * 1024;

/// Why there is no good answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody is there, or nobody whom we may ask.
    Nobody(String),
    /// The supervisor says no, with this status.
    Refused(u16, String),
    /// Something answers, but not as it should.
    Broken(String),
    /// Whoever read what we print does so no more.
    Unread,
}

impl Display for Failure {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(why) | Self::Refused(_, why) | Self::Broken(why) => out.write_str(why),
            Self::Unread => Ok(()),
        }
    }
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(super) struct Answer {
    socket: Socket,
    /// Read already, beyond the head.
    ahead: Vec<u8>,
    length: Option<usize>,
    deadline: Instant,
}

/// Sends a request without a body and reads the head of the answer. HTTP/1.0, so that the answer
/// is ended by its length or by the connection's end, and nothing is chunked.
pub(super) fn request(control: &Path, method: &str, target: &str) -> Result<Answer, Failure> {
    let deadline = clock::now() + LIMIT;
    let broken = |doing: &str, error: &Error| {
        let what = if is_late(error) { "it does not answer".into() } else { error.to_string() };
        Failure::Broken(format!("{doing} {}: {what}", control.display()))
    };
    let socket = connect(control).map_err(|error| nobody(control, &error))?;
    let head = format!("{method} {target} HTTP/1.0\r\nHost: lychgate\r\n\r\n");
    (&socket).write_all(head.as_bytes()).map_err(|error| broken("asking", &error))?;
    let mut bytes = Vec::new();
    let (status, length, size) = loop {
        if let Some(head) = parse(&bytes).map_err(|why| {
            Failure::Broken(format!("asking {}: {why}. Is it lychgate's?", control.display()))
        })? {
            break head;
        }
        let fresh = read(&socket, &mut bytes, deadline);
        if fresh.map_err(|error| broken("reading the answer of", &error))? == 0 {
            return Err(Failure::Broken(format!(
                "asking {}: it closed the connection. Only root and the user who runs it may ask",
                control.display()
            )));
        }
    };
    bytes.drain(..size);
    let answer = Answer { socket, ahead: bytes, length, deadline };
    if status == 200 {
        return Ok(answer);
    }
    let body = answer.body()?;
    let why = serde_json::from_slice(&body)
        .map_or_else(|_| format!("it answers {status}"), |problem: Problem| problem.error);
    Err(Failure::Refused(status, why))
}

impl Answer {
    /// All of it.
    pub(super) fn body(mut self) -> Result<Vec<u8>, Failure> {
        let mut body = std::mem::take(&mut self.ahead);
        let wanted = self.length;
        while wanted.is_none_or(|wanted| body.len() < wanted) {
            if body.len() > BODY_SIZE_MAX {
                return Err(cut("it is too long"));
            }
            let size = read(&self.socket, &mut body, self.deadline);
            if size.map_err(|error| cut(&error.to_string()))? == 0 {
                break;
            }
        }
        match wanted {
            Some(wanted) if body.len() != wanted => Err(cut("it is not of its length")),
            _ => Ok(body),
        }
    }

    /// Whole lines as they come, for ever; ends when the supervisor ends them or `each` says so.
    pub(super) fn lines(
        mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut bytes = std::mem::take(&mut self.ahead);
        loop {
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
                each(line)?;
            }
            bytes.drain(..whole);
            if bytes.len() > HEAD_SIZE_MAX {
                return Err(cut("a line is too long"));
            }
            let size = read(&self.socket, &mut bytes, Instant::NEVER);
            if size.map_err(|error| cut(&error.to_string()))? == 0 {
                return Ok(());
            }
        }
    }
}

fn cut(why: &str) -> Failure {
    Failure::Broken(format!("reading the answer: {why}"))
}

/// Connecting to a UNIX socket waits only while its backlog is full, for as long as sending may.
fn connect(control: &Path) -> Result<Socket, Error> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    socket.set_write_timeout(Some(LIMIT))?;
    socket.connect(&SockAddr::unix(control)?)?;
    Ok(socket)
}

fn nobody(control: &Path, error: &Error) -> Failure {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => "Only root and the user who runs it may ask",
        ErrorKind::ConnectionRefused if !is_socket(control) => "It is no socket",
        ErrorKind::ConnectionRefused => {
            "The supervisor that was there has ended. `lychgate run` takes over what it left running"
        }
        _ => "Is lychgate running? --control or LYCHGATE_CONTROL names another socket",
    };
    let what = if is_late(error) { "it does not answer".into() } else { error.to_string() };
    Failure::Nobody(format!("no supervisor at {}: {what}. {remedy}", control.display()))
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn is_late(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Appends what comes next; 0 at the end.
fn read(socket: &Socket, bytes: &mut Vec<u8>, deadline: Instant) -> Result<usize, Error> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let limit = (deadline != Instant::NEVER).then(|| deadline.since(clock::now()));
        if limit == Some(Duration::ZERO) {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(limit)?;
        match (&mut &*socket).read(&mut buffer) {
            Ok(size) => {
                bytes.extend_from_slice(&buffer[..size]);
                return Ok(size);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Status, content length and size of the head; `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(u16, Option<usize>, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let size = match head.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_SIZE_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("its answer has no end".into()),
        Err(error) => return Err(format!("it does not speak HTTP ({error})")),
    };
    let mut length = None;
    for field in head.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            length = Some(value.ok_or("its answer has no sound length")?);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("its answer is encoded".into());
        }
    }
    Ok(Some((head.code.unwrap_or(0), length, size)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// A listener that answers one connection with these bytes and ends it.
    pub(crate) fn answering(
        bytes: &'static [u8],
    ) -> (tempfile::TempDir, thread::JoinHandle<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            stream.write_all(bytes).unwrap();
            asked
        });
        (folder, thread)
    }

    fn ask(bytes: &'static [u8]) -> Result<Vec<u8>, Failure> {
        let (folder, thread) = answering(bytes);
        let answer = request(&folder.path().join("s"), "GET", "/v1/x").and_then(Answer::body);
        let asked = thread.join().unwrap();
        assert_eq!(asked, b"GET /v1/x HTTP/1.0\r\nHost: lychgate\r\n\r\n");
        answer
    }

    #[test]
    fn whole_answers_are_taken_and_others_are_not() {
        let body = ask(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n{}\n");
        assert_eq!(body, Ok(b"{}\n".to_vec()));
        assert_eq!(ask(b"HTTP/1.0 200 OK\r\n\r\n{}\n"), Ok(b"{}\n".to_vec()));
        let problem =
            ask(b"HTTP/1.0 404 Not Found\r\ncontent-length: 19\r\n\r\n{\"error\":\"no pool\"}");
        assert_eq!(problem, Err(Failure::Refused(404, "no pool".into())));
        let silent = ask(b"HTTP/1.0 431 Large\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(silent, Err(Failure::Refused(431, "it answers 431".into())));
        for broken in [
            &b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\n{}\n"[..],
            b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}\n",
            b"HTTP/1.0 200 OK\r\ncontent-length: x\r\n\r\n{}\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\ncontent",
            b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
            b"",
        ] {
            assert!(matches!(ask(broken), Err(Failure::Broken(_))), "{broken:?}");
        }
        let endless: &[u8] = vec![b'a'; HEAD_SIZE_MAX + 1].leak();
        assert!(matches!(ask(endless), Err(Failure::Broken(_))));
    }

    #[test]
    fn lines_come_whole_and_end() {
        let (folder, thread) = answering(b"HTTP/1.0 200 OK\r\n\r\n{1}\n{2}\n{3");
        let answer = request(&folder.path().join("s"), "GET", "/").unwrap();
        let mut lines = Vec::new();
        let ended = answer.lines(|line| {
            lines.push(line.to_vec());
            Ok(())
        });
        assert_eq!(ended, Ok(()));
        assert_eq!(lines, [b"{1}\n", b"{2}\n"]);
        thread.join().unwrap();
    }

    #[test]
    fn nobody_there_is_told_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let missing = request(&path, "GET", "/").unwrap_err();
        assert!(matches!(&missing, Failure::Nobody(why) if why.contains("--control")));
        assert!(missing.to_string().contains(path.to_str().unwrap()));
        drop(UnixListener::bind(&path).unwrap());
        let dead = request(&path, "GET", "/").unwrap_err();
        assert!(matches!(&dead, Failure::Nobody(why) if why.contains("has ended")), "{dead}");
        let other = request(folder.path(), "GET", "/").unwrap_err();
        assert!(matches!(&other, Failure::Nobody(why) if why.ends_with("It is no socket")));
        let long = folder.path().join("a".repeat(200));
        assert!(matches!(request(&long, "GET", "/").unwrap_err(), Failure::Nobody(_)));
    }
}
