//! Bodies of the demonstration application: read as they come, written as they are made.

use super::Stream;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::time::Duration;

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Known(u64),
    Chunked,
}

/// A chunk's size line, or a trailer field.
const LINE_SIZE_MAX: u64 = 4096;
const TRAILERS_MAX: usize = 100;

/// What is left of a body.
pub(super) struct Body<'a> {
    reader: &'a mut BufReader<Stream>,
    length: Length,
    /// Of the body, or of its chunk that is being read.
    left: u64,
    is_first: bool,
    is_over: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(reader: &'a mut BufReader<Stream>, length: Length) -> Self {
        let left = match length {
            Length::Known(length) => length,
            Length::Chunked => 0,
        };
        let is_over = length == Length::Known(0);
        Self { reader, length, left, is_first: true, is_over }
    }

    /// The next piece into `buffer`; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.left == 0 && !self.is_over {
            self.next_chunk()?;
        }
        if self.is_over {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let size = self.reader.read(&mut buffer[..most])?;
        if size == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= size as u64;
        self.is_over = self.left == 0 && self.length != Length::Chunked;
        Ok(size)
    }

    fn next_chunk(&mut self) -> Result<()> {
        if !self.is_first {
            self.line()?;
        }
        self.is_first = false;
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(digits, 16).map_err(Error::other)?;
        if self.left > 0 {
            return Ok(());
        }
        self.is_over = true;
        for _ in 0..TRAILERS_MAX {
            if self.line()?.is_empty() {
                return Ok(());
            }
        }
        Err(Error::other("too many trailers"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.by_ref().take(LINE_SIZE_MAX).read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some(text) => Ok(text.trim_end_matches('\r').to_owned()),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(super) fn skip(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }
}

pub(super) fn connection(is_persistent: bool) -> &'static str {
    if is_persistent { "" } else { "Connection: close\r\n" }
}

/// Sends a request's body back while it comes in.
pub(super) fn echo(
    reader: &mut BufReader<Stream>,
    length: Length,
    is_persistent: bool,
) -> Result<()> {
    let framing = match length {
        Length::Known(length) => format!("Content-Length: {length}"),
        Length::Chunked => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{framing}\r\n{}\r\n",
        connection(is_persistent)
    );
    reader.get_mut().write_all(head.as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    let mut body = Body::new(reader, length);
    loop {
        let size = body.read(&mut buffer)?;
        let stream = body.reader.get_mut();
        match (length, size) {
            (Length::Known(_), 0) => return Ok(()),
            (Length::Known(_), _) => stream.write_all(&buffer[..size])?,
            (Length::Chunked, _) => write_chunk(stream, &buffer[..size])?,
        }
        if size == 0 {
            return Ok(());
        }
    }
}

/// Ten lines, one every tenth of a second.
pub(super) fn stream(
    reader: &mut BufReader<Stream>,
    is_head: bool,
    is_persistent: bool,
) -> Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n{}\r\n",
        connection(is_persistent)
    );
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes())?;
    if is_head {
        return Ok(());
    }
    for number in 1..=10 {
        write_chunk(stream, format!("line {number} of 10\n").as_bytes())?;
        std::thread::sleep(Duration::from_millis(100));
    }
    write_chunk(stream, b"")
}

fn write_chunk(stream: &mut Stream, bytes: &[u8]) -> Result<()> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    stream.write_all(&chunk)
}
