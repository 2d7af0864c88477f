//! What an application writes to its standard output and error, line by line into the operational
//! log, bounded in length and in number; the last ones are kept, those that the log left out among
//! them.

use super::tail::Tail;
use crate::base::time::Instant;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A longer line is cut into several.
const LINE_SIZE_MAX: usize = 4096;
/// Lines of one application in one period; more are counted only.
const LINES_MAX: u32 = 500;
const PERIOD: Duration = Duration::from_secs(1);
/// Read in one turn of the supervisor, so that a talkative application holds nobody up.
const TURN_SIZE_MAX: usize = 64 * 1024;
/// What an application can write while no supervisor reads, before it has to wait. The kernel may
/// grant less.
const PIPE_SIZE: i32 = 256 * 1024;

/// The reading end of an application's output.
#[derive(Debug)]
pub struct Output {
    pipe: File,
    line: Vec<u8>,
    period: Instant,
    lines: u32,
    dropped: u64,
    tail: Tail,
}

impl Output {
    pub fn new(pipe: OwnedFd) -> std::io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        if let Err(errno) = fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE)) {
            tracing::debug!("enlarging an application's pipe: {errno}");
        }
        let (line, tail) = (Vec::with_capacity(256), Tail::default());
        Ok(Self { pipe: pipe.into(), line, period: Instant(0), lines: 0, dropped: 0, tail })
    }

    /// The last lines read, however many the log left out.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Logs what is there. False when nobody can write any more.
    pub fn read(&mut self, now: Instant, mut log: impl FnMut(&str)) -> bool {
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < TURN_SIZE_MAX {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.finish(now, &mut log);
                    return false;
                }
                Ok(size) => {
                    taken += size;
                    self.take(now, &buffer[..size], &mut log);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn take(&mut self, now: Instant, bytes: &[u8], log: &mut impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line(now, log);
                continue;
            }
            self.line.push(*byte);
            if self.line.len() == LINE_SIZE_MAX {
                self.end_line(now, log);
            }
        }
    }

    /// Logs a last line that did not end.
    pub fn finish(&mut self, now: Instant, log: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.end_line(now, log);
        }
        if self.dropped > 0 {
            self.own_up(log);
        }
    }

    fn end_line(&mut self, now: Instant, log: &mut impl FnMut(&str)) {
        if now.since(self.period) >= PERIOD {
            self.period = now;
            self.lines = 0;
            if self.dropped > 0 {
                self.own_up(log);
            }
        }
        let line = printable(&self.line);
        self.tail.push(&line);
        self.lines += 1;
        if self.lines > LINES_MAX {
            self.dropped += 1;
        } else {
            log(&line);
        }
        self.line.clear();
    }

    fn own_up(&mut self, log: &mut impl FnMut(&str)) {
        log(&format!("({} lines left out: more than {LINES_MAX} in a second)", self.dropped));
        self.dropped = 0;
    }
}

/// Control bytes would let an application forge lines or drive a terminal.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\t' {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_are_cut_cleaned_limited_and_counted() {
        let (out, mut into) = std::io::pipe().unwrap();
        let mut output = Output::new(out.into()).unwrap();
        let mut lines = Vec::new();
        into.write_all(b"one\r\ntwo \x1b[31m\nthree").unwrap();
        assert!(output.read(Instant(0), |line| lines.push(line.to_owned())));
        assert_eq!(lines, ["one", "two \\u{1b}[31m"]);
        into.write_all(&[b'x'; LINE_SIZE_MAX]).unwrap();
        assert!(output.read(Instant(0), |line| lines.push(line.to_owned())));
        assert_eq!(lines[2].len(), LINE_SIZE_MAX);
        lines.clear();
        for number in 0..600 {
            writeln!(into, "again {number}").unwrap();
        }
        assert!(output.read(Instant(0), |line| lines.push(line.to_owned())));
        assert_eq!(lines.len(), 497);
        into.write_all(b"later\nend").unwrap();
        drop(into);
        let later = Instant(0) + PERIOD;
        assert!(!output.read(later, |line| lines.push(line.to_owned())));
        assert!(lines[497].starts_with("(103 lines left out"), "{}", lines[497]);
        assert_eq!(lines[498..], ["later", "end"]);
        let kept = output.tail().lines();
        assert_eq!(kept.len(), 20);
        // The log left it out.
        assert_eq!(kept[17..], ["again 599", "later", "end"]);
    }
}
