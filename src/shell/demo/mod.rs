//! The demonstration application: a small threaded HTTP/1.1 server that shows what reaches an
//! application behind lychgate. Not for anything but showing and testing.

mod body;
mod page;

use body::{Body, Length};
use nix::sys::signal::{SigSet, Signal};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::Duration;

/// Connections served at once, one thread each; more wait in the backlog.
const THREADS_MAX: usize = 512;
const STACK_SIZE: usize = 256 * 1024;
const HEAD_SIZE_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 256;
/// A connection that says nothing for this long is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(75);
/// What `/slow` waits at most.
const SLOW_MAX: Duration = Duration::from_secs(30);

/// Listens where the environment says: descriptor 3 (`LISTEN_FDS`), a path (`LYCHGATE_SOCKET`) or
/// a loopback port (`PORT`); ends by SIGTERM.
pub fn run() -> std::result::Result<(), String> {
    let say = |doing: &str| {
        let doing = doing.to_owned();
        move |error: Error| format!("demo: {doing}: {error}")
    };
    let mut ending = SigSet::empty();
    ending.add(Signal::SIGTERM);
    ending.add(Signal::SIGINT);
    ending.thread_block().map_err(|errno| say("blocking signals")(errno.into()))?;
    let door = Door::open().map_err(say("listening"))?;
    let accept = move || door.serve();
    Builder::new().name("accept".into()).spawn(accept).map_err(say("starting a thread"))?;
    // All other threads end with this one: what is sent is sent, what is not was not finished.
    ending.wait().map_err(|errno| say("waiting for a signal")(errno.into()))?;
    Ok(())
}

#[derive(Debug)]
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    fn open() -> Result<Self> {
        if std::env::var_os("LISTEN_FDS").is_some() {
            let listener = UnixListener::from(crate::sys::process::inherited(3)?);
            // It may have been made for an event loop.
            listener.set_nonblocking(false)?;
            return Ok(Self::Unix(listener));
        }
        if let Some(path) = std::env::var_os("LYCHGATE_SOCKET") {
            return UnixListener::bind(path).map(Self::Unix);
        }
        let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok());
        let port: u16 = port.ok_or_else(|| {
            Error::other(
                "neither LISTEN_FDS nor LYCHGATE_SOCKET nor PORT is set. Start it by `lychgate`",
            )
        })?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(Self::Tcp)
    }

    fn serve(&self) {
        let busy = Arc::new(AtomicUsize::new(0));
        loop {
            while busy.load(Ordering::Acquire) >= THREADS_MAX {
                std::thread::sleep(Duration::from_millis(5));
            }
            let Ok(stream) = self.accept() else {
                // Out of descriptors, most likely: they come back when a connection ends.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            busy.fetch_add(1, Ordering::AcqRel);
            let done = Busy(Arc::clone(&busy));
            let serve = move || {
                let _done = done;
                // A connection that breaks concerns nobody else.
                let _ = converse(stream);
            };
            // A thread that does not start drops its connection, and with it the count.
            let _ = Builder::new().stack_size(STACK_SIZE).spawn(serve);
        }
    }

    fn accept(&self) -> Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(IDLE_LIMIT))?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(IDLE_LIMIT))?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The head of a request, owned.
#[derive(Debug)]
struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    is_persistent: bool,
    length: Length,
}

/// Requests of one connection, until one side has enough.
fn converse(stream: Stream) -> Result<()> {
    let mut reader = BufReader::with_capacity(16 * 1024, stream);
    while let Some(request) = read_request(&mut reader)? {
        let is_persistent = answer(&mut reader, &request)?;
        if !is_persistent {
            break;
        }
    }
    Ok(())
}

/// `None`: the other side ended between two requests.
fn read_request(reader: &mut BufReader<Stream>) -> Result<Option<Request>> {
    let mut head = Vec::new();
    loop {
        let line = head.len();
        let left = (HEAD_SIZE_MAX - head.len()) as u64;
        if reader.by_ref().take(left).read_until(b'\n', &mut head)? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        if matches!(&head[line..], b"\r\n" | b"\n") && line > 0 {
            return parse(&head).map(Some);
        }
    }
}

fn parse(head: &[u8]) -> Result<Request> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let invalid = || Error::from(ErrorKind::InvalidData);
    request.parse(head).map_err(|_| invalid())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields: Vec<(String, String)> =
        request.headers.iter().map(|f| (f.name.to_owned(), text(f.value))).collect();
    let named = |name: &str| {
        let found = fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_ascii_lowercase())
    };
    let length = match (named("transfer-encoding"), named("content-length")) {
        (Some(coding), None) if coding == "chunked" => Length::Chunked,
        (None, Some(length)) => Length::Known(length.parse().map_err(|_| invalid())?),
        (None, None) => Length::Known(0),
        _ => return Err(invalid()),
    };
    let connection = named("connection").unwrap_or_default();
    let is_newer = request.version == Some(1);
    Ok(Request {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        is_persistent: if is_newer {
            !connection.contains("close")
        } else {
            connection.contains("keep-alive")
        },
        length,
        fields,
    })
}

/// True when the connection may go on.
fn answer(reader: &mut BufReader<Stream>, request: &Request) -> Result<bool> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let is_expecting = request.fields.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("expect") && value.eq_ignore_ascii_case("100-continue")
    });
    if is_expecting && path == "/echo" {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if path == "/echo" && request.method == "POST" {
        body::echo(reader, request.length, request.is_persistent)?;
        return Ok(request.is_persistent);
    }
    Body::new(reader, request.length).skip()?;
    match path {
        "/" => whole(reader, request, 200, "text/html; charset=utf-8", &page::show(request)),
        "/headers" => whole(reader, request, 200, "text/plain", &page::fields(request)),
        "/slow" => {
            let ms = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok()).unwrap_or(1000);
            let wait = Duration::from_millis(ms).min(SLOW_MAX);
            std::thread::sleep(wait);
            whole(reader, request, 200, "text/plain", &format!("waited {wait:?}\n"))
        }
        "/stream" => body::stream(reader, request.method == "HEAD", request.is_persistent),
        "/echo" => whole(reader, request, 405, "text/plain", "POST something\n"),
        _ => whole(reader, request, 404, "text/plain", "not found\n"),
    }?;
    Ok(request.is_persistent)
}

fn whole(
    reader: &mut BufReader<Stream>,
    request: &Request,
    status: u16,
    kind: &str,
    text: &str,
) -> Result<()> {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        _ => "Method Not Allowed",
    };
    let allow = if status == 405 { "Allow: POST\r\n" } else { "" };
    let connection = body::connection(request.is_persistent);
    let length = text.len();
    let mut answer = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         {allow}{connection}\r\n"
    );
    if request.method != "HEAD" {
        answer.push_str(text);
    }
    reader.get_mut().write_all(answer.as_bytes())
}

#[cfg(test)]
mod tests;
