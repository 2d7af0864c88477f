//! Large bodies: every byte, in order, in flat memory, and no faster than the receiver takes them.
//! 64 MiB each way; a whole GiB with `LYCHGATE_TEST_BIG=1`.

use crate::harness::clock::{now, wait_until};
use crate::harness::engine::each;
use crate::harness::gate::Gate;
use crate::harness::message::Body;
use crate::harness::origin::{Conversation, Origin};
use crate::harness::recipe::Recipe;
use crate::harness::tree;
use std::env;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Prime, so that a buffer lost or repeated shifts the pattern.
const PERIOD: usize = 65_521;
/// What the listener may grow by, whatever the body's size: receive buffers, a socket's backlog,
/// and what the allocator keeps of earlier ones.
const GROWTH_MAX: u64 = 32 << 20;

fn size() -> u64 {
    if env::var_os("LYCHGATE_TEST_BIG").is_some() { 1 << 30 } else { 64 << 20 }
}

/// One period of bytes in which no two places look alike, and the sum of what passed.
struct Pattern {
    bytes: Vec<u8>,
    at: u64,
    sum: u64,
}

impl Pattern {
    fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect();
        Self { bytes, at: 0, sum: 0 }
    }

    /// The next bytes, at most to the end of the period.
    fn next(&mut self, most: u64) -> &[u8] {
        let start = usize::try_from(self.at % PERIOD as u64).unwrap();
        let size = (PERIOD - start).min(usize::try_from(most).unwrap_or(PERIOD));
        self.at += size as u64;
        let piece = &self.bytes[start..start + size];
        self.sum = checksum(self.sum, piece);
        piece
    }

    fn expect(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = self.at;
            let expected = self.next(bytes.len() as u64);
            let (here, rest) = bytes.split_at(expected.len());
            assert!(here == expected, "wrong byte after {at}");
            bytes = rest;
        }
    }
}

/// Order and content of words; the pieces' borders do not count because both sides cut alike.
fn checksum(sum: u64, piece: &[u8]) -> u64 {
    let first = u64::from(piece[0]) + (u64::from(piece[piece.len() - 1]) << 8);
    sum.wrapping_mul(0x0100_0000_01b3) ^ first ^ ((piece.len() as u64) << 16)
}

fn write_pattern(stream: &mut impl Write, size: u64, written: &AtomicU64) -> io::Result<()> {
    let mut pattern = Pattern::new();
    while pattern.at < size {
        stream.write_all(pattern.next(size - pattern.at))?;
        written.store(pattern.at, Ordering::SeqCst);
    }
    Ok(())
}

/// Serves `size` bytes of pattern to GET and swallows and checks those of anything else.
fn warehouse(size: u64, written: &Arc<AtomicU64>) -> impl Fn(&mut Conversation) + use<> {
    let written = Arc::clone(written);
    move |peer| {
        while let Some(request) = peer.head() {
            if request.method() == "GET" {
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
                if write_pattern(&mut peer.reader.stream, size, &written).is_err() {
                    return;
                }
            } else {
                let mut pattern = Pattern::new();
                match request.framing(Body::Length(0)) {
                    Body::Chunked => {
                        while let Some(piece) = peer.reader.chunk().unwrap() {
                            pattern.expect(&piece);
                        }
                    }
                    Body::UntilClose => panic!("a request cannot be"),
                    Body::Length(size) => {
                        while pattern.at < size {
                            let piece = peer.reader.some(1 << 20).unwrap();
                            assert!(!piece.is_empty(), "cut after {} bytes", pattern.at);
                            pattern.expect(&piece);
                        }
                    }
                }
                peer.answer(&pattern.at.to_string());
            }
        }
    }
}

/// The listener's memory at its highest while something runs.
fn peak_during<T>(gate: &Gate, run: impl FnOnce() -> T) -> (T, u64) {
    let listener = gate.listener_pid();
    let before = tree::resident(listener);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = 0;
            while !over.load(Ordering::SeqCst) {
                peak = tree::resident(listener).max(peak);
                std::thread::sleep(Duration::from_millis(10));
            }
            peak
        });
        let result = run();
        over.store(true, Ordering::SeqCst);
        (result, watching.join().unwrap().saturating_sub(before))
    })
}

#[test]
fn a_large_download_is_whole_and_memory_stays_flat() {
    each(|engine| {
        let size = size();
        let origin = Origin::start(warehouse(size, &Arc::default()));
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        let ((), growth) = peak_during(&gate, || {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.head().framing(Body::UntilClose), Body::Length(size));
            let mut pattern = Pattern::new();
            while pattern.at < size {
                let piece = client.reader.some(1 << 20).unwrap();
                assert!(!piece.is_empty(), "cut after {} bytes", pattern.at);
                pattern.expect(&piece);
            }
        });
        assert!(growth < GROWTH_MAX, "grew by {growth} bytes");
    });
}

#[test]
fn a_large_upload_is_whole_and_memory_stays_flat() {
    each(|engine| {
        let size = size();
        let origin = Origin::start(warehouse(size, &Arc::default()));
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        let ((), growth) = peak_during(&gate, || {
            client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
            write_pattern(&mut client.reader.stream, size, &AtomicU64::new(0)).unwrap();
            assert_eq!(client.answer().text(), size.to_string());
        });
        assert!(growth < GROWTH_MAX, "grew by {growth} bytes");
    });
}

#[test]
fn a_large_chunked_upload_is_whole() {
    each(|engine| {
        let size: u64 = 16 << 20;
        let origin = Origin::start(warehouse(size, &Arc::default()));
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut pattern = Pattern::new();
        let mut step = 1;
        while pattern.at < size {
            // Chunks of every size, from one byte on.
            step = step % 40_000 + 617;
            let piece = pattern.next(step.min(size - pattern.at)).to_vec();
            client.send(format!("{:x}\r\n", piece.len()));
            client.send(&piece);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.answer().text(), size.to_string());
    });
}

/// Waits until a counter has stopped, and returns where.
fn settled(counter: &AtomicU64) -> u64 {
    let mut last = (counter.load(Ordering::SeqCst), now());
    wait_until("the sender is held back", || {
        let at = counter.load(Ordering::SeqCst);
        if at != last.0 {
            last = (at, now());
        }
        at > 0 && last.1.elapsed() > Duration::from_millis(700)
    });
    last.0
}

/// More than all socket buffers on the way take together (tcp(7): 6 MiB and 4 MiB a hop).
const UNREAD_MAX: u64 = 40 << 20;

#[test]
fn a_client_that_does_not_read_holds_the_application_back() {
    each(|engine| {
        let size: u64 = 256 << 20;
        let written = Arc::new(AtomicU64::new(0));
        let origin = Origin::start(warehouse(size, &written));
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        let (held, growth) = peak_during(&gate, || {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            settled(&written)
        });
        assert!(held < UNREAD_MAX, "{held} bytes went somewhere");
        assert!(growth < GROWTH_MAX, "grew by {growth} bytes");
        assert_eq!(gate.client().post("/", b"").status(), 200, "others are not held back");
        drop(client);
        origin.wait_ended(1);
    });
}

#[test]
fn an_application_that_does_not_read_holds_the_client_back() {
    each(|engine| {
        let size: u64 = 256 << 20;
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let origin = Origin::start(move |peer| {
            peer.head();
            let _ = wait.lock().unwrap().recv();
            let _ = peer.reader.some(1);
        });
        let gate = Recipe::relaying(engine, &[&origin]).start();
        let mut client = gate.client();
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        let written = AtomicU64::new(0);
        let mut writer = client.reader.stream.try_clone().unwrap();
        let growth = std::thread::scope(|scope| {
            let writing = scope.spawn(|| write_pattern(&mut writer, size, &written));
            let (held, growth) = peak_during(&gate, || settled(&written));
            assert!(held < UNREAD_MAX, "{held} bytes went somewhere");
            client.reader.stream.shutdown(std::net::Shutdown::Both).unwrap();
            drop(go);
            assert!(writing.join().unwrap().is_err());
            growth
        });
        assert!(growth < GROWTH_MAX, "grew by {growth} bytes");
    });
}
