//! Clients as one would not wish them: they reset, half-close, send garbage, ask for much and leave.
//! One at a time, from a thread of their own; each outcome is counted.

use crate::answer::status;
use crate::failure::Failure;
use crate::probe;
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// By RST, without waiting for anything.
    Reset,
    /// By FIN in both directions, without waiting.
    Close,
    /// Closes its half, then waits for the end.
    HalfClose,
    /// Waits for an answer and for the end.
    Wait,
    /// Takes a piece of the answer, then resets.
    Glance,
}

#[derive(Clone, Copy, Debug)]
struct Act {
    name: &'static str,
    says: fn(u16) -> Vec<u8>,
    leave: Leave,
}

const ACTS: [Act; 14] = [
    Act { name: "connects and resets", says: nothing, leave: Leave::Reset },
    Act { name: "connects and closes", says: nothing, leave: Leave::Close },
    Act { name: "half a head, reset", says: half_head, leave: Leave::Reset },
    Act { name: "half a head, half-close", says: half_head, leave: Leave::HalfClose },
    Act { name: "a request, reset at once", says: request, leave: Leave::Reset },
    Act { name: "a request, half-close", says: request, leave: Leave::HalfClose },
    Act { name: "1 MiB asked for, reset within", says: large, leave: Leave::Glance },
    Act { name: "1 MiB announced, 32 KiB sent, reset", says: short_upload, leave: Leave::Reset },
    Act { name: "1 MiB announced, half-close", says: short_upload, leave: Leave::HalfClose },
    Act { name: "garbage", says: garbage, leave: Leave::Wait },
    Act { name: "two framings at once", says: two_framings, leave: Leave::Wait },
    Act { name: "odd chunk sizes", says: odd_chunks, leave: Leave::Wait },
    Act { name: "an endless head", says: endless_head, leave: Leave::Wait },
    Act { name: "pipelines and half-closes", says: pipeline, leave: Leave::HalfClose },
];

/// Longer than any answer takes, shorter than the timeouts for slow clients: who waits this long for
/// an answer to a finished question hangs.
const HUNG: Duration = Duration::from_secs(5);

/// Counts of one act.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mischief {
    name: &'static str,
    tried: u64,
    /// 2xx; 4xx and 5xx.
    accepted: u64,
    rejected: u64,
    /// Closed without an answer, or reset.
    closed: u64,
    /// Left without waiting.
    left: u64,
    pub(crate) hung: u64,
}

impl Mischief {
    pub(crate) const COLUMNS: [&str; 8] =
        ["front", "mischief", "tried", "2xx", "4xx, 5xx", "closed", "not waited", "hung"];

    pub(crate) fn cells(&self, front: &str) -> Vec<String> {
        let counts = [self.tried, self.accepted, self.rejected, self.closed, self.left, self.hung];
        [front, self.name]
            .map(String::from)
            .into_iter()
            .chain(counts.map(|count| count.to_string()))
            .collect()
    }

    fn note(&mut self, end: End) {
        self.tried += 1;
        let counter = match end {
            End::Left => &mut self.left,
            End::Closed => &mut self.closed,
            End::Answered(200..=299) => &mut self.accepted,
            End::Answered(_) => &mut self.rejected,
            End::Hung => &mut self.hung,
        };
        *counter += 1;
    }
}

#[derive(Debug)]
pub(crate) struct Hostile {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Mischief>>,
}

impl Hostile {
    pub(crate) fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            let counts = ACTS.map(|act| Mischief { name: act.name, ..Mischief::default() });
            let mut counts = counts.to_vec();
            while !stopped.load(Ordering::Relaxed) {
                for (act, count) in ACTS.iter().zip(&mut counts) {
                    count.note(perform(act, port));
                }
            }
            counts
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Result<Vec<Mischief>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Failure::new("running the hostile clients: they panicked"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Left,
    Closed,
    Answered(u16),
    Hung,
}

fn perform(act: &Act, port: u16) -> End {
    let Ok(mut stream) = probe::connect(probe::address(port)) else { return End::Closed };
    let _ = stream.set_read_timeout(Some(HUNG));
    // A front that closes while much is being said makes the rest unsayable; its answer may still be
    // there to be read.
    let _ = stream.write_all(&(act.says)(port));
    match act.leave {
        Leave::Reset => reset(&stream),
        Leave::Close => End::Left,
        Leave::HalfClose => {
            let _ = stream.shutdown(Shutdown::Write);
            await_end(&mut stream)
        }
        Leave::Wait => await_end(&mut stream),
        Leave::Glance => {
            let _ = stream.read(&mut [0; 4096]);
            reset(&stream)
        }
    }
}

/// Closing with a linger time of zero sends RST.
fn reset(stream: &TcpStream) -> End {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    End::Left
}

/// Reads to the end; the status of the first answer, if there is one.
fn await_end(stream: &mut TcpStream) -> End {
    let mut first = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let answered = |first: &[u8]| {
        let head = String::from_utf8_lossy(first);
        status(&head).map_or(End::Closed, End::Answered)
    };
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answered(&first),
            Ok(count) if first.len() < 64 => first.extend_from_slice(&buffer[..count]),
            Ok(_) => {}
            Err(cause) if is_timeout(&cause) => return End::Hung,
            Err(_) => return answered(&first),
        }
    }
}

fn is_timeout(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn nothing(_: u16) -> Vec<u8> {
    Vec::new()
}

fn half_head(_: u16) -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: exam".to_vec()
}

fn request(port: u16) -> Vec<u8> {
    probe::request(port, "/")
}

fn large(port: u16) -> Vec<u8> {
    probe::request(port, "/1m")
}

fn short_upload(_: u16) -> Vec<u8> {
    let head = b"POST /sink HTTP/1.1\r\nHost: example\r\nContent-Length: 1048576\r\n\r\n";
    [&head[..], &vec![b'u'; 32 * 1024]].concat()
}

/// Every byte value, by a multiplicative walk, with an end of a head behind it.
fn garbage(_: u16) -> Vec<u8> {
    let noise = (0..=255_u8).map(|at| at.wrapping_mul(167).wrapping_add(13));
    noise.chain(*b"\r\n\r\n").collect()
}

fn two_framings(_: u16) -> Vec<u8> {
    b"POST /sink HTTP/1.1\r\nHost: example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        .to_vec()
}

fn odd_chunks(_: u16) -> Vec<u8> {
    b"POST /sink HTTP/1.1\r\nHost: example\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"
        .to_vec()
}

fn endless_head(_: u16) -> Vec<u8> {
    [&b"GET / HTTP/1.1\r\nHost: example\r\nX-Long: "[..], &vec![b'a'; 300 * 1024]].concat()
}

fn pipeline(port: u16) -> Vec<u8> {
    request(port).repeat(10)
}

#[cfg(test)]
mod tests {
    use super::{ACTS, End, Leave, Mischief, await_end, perform, reset};
    use crate::probe;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn ends_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let end = |says: &[u8]| {
            let mut client = probe::connect(address).unwrap();
            let (mut guest, _) = listener.accept().unwrap();
            guest.write_all(says).unwrap();
            drop(guest);
            await_end(&mut client)
        };
        assert_eq!(
            end(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
            End::Answered(400)
        );
        assert_eq!(end(b""), End::Closed);
    }

    #[test]
    fn an_answer_before_a_reset_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = probe::connect(listener.local_addr().unwrap()).unwrap();
        let (mut guest, _) = listener.accept().unwrap();
        guest.write_all(b"HTTP/1.1 431 x\r\nContent-Length: 0\r\n\r\n").unwrap();
        reset(&guest);
        drop(guest);
        assert_eq!(await_end(&mut client), End::Answered(431));
    }

    #[test]
    fn leaving_waits_for_nobody() {
        // Nobody accepts, so who waited would hang.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let leaving = |act: &&super::Act| matches!(act.leave, Leave::Reset | Leave::Close);
        for act in ACTS.iter().filter(leaving) {
            assert_eq!(perform(act, port), End::Left, "{}", act.name);
        }
    }

    #[test]
    fn outcomes_are_counted_where_they_belong() {
        let mut count = Mischief::default();
        for end in [End::Answered(200), End::Answered(431), End::Closed, End::Hung, End::Left] {
            count.note(end);
        }
        assert_eq!(count.cells("x")[2..], ["5", "1", "1", "1", "1", "1"]);
    }
}
