//! HTTP/1.1 messages as tests read them: an own small parser, so that the product is never judged
//! by its own code. It believes what it reads; strictness is what is under test elsewhere.

use std::io::{self, Read};

/// A message as received.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Request or status line.
    pub(crate) line: String,
    /// In order, as written.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Where the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Message {
    /// The first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// All fields of that name, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|field| field.1.as_str()).collect()
    }

    pub(crate) fn status(&self) -> u16 {
        let word = self.line.split(' ').nth(1).unwrap_or_default();
        word.parse().unwrap_or_else(|_| panic!("no status line: {:?}", self.line))
    }

    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// Framing by the fields alone; without any, `otherwise`.
    pub(crate) fn framing(&self, otherwise: Body) -> Body {
        if self.all("transfer-encoding").iter().any(|coding| coding.ends_with("chunked")) {
            return Body::Chunked;
        }
        self.field("content-length").map_or(otherwise, |size| Body::Length(size.parse().unwrap()))
    }
}

/// Bytes from a peer, with those read too far kept for the next message.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    pub(crate) stream: S,
    held: Vec<u8>,
}

impl<S: Read> Reader<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, held: Vec::new() }
    }

    /// Reads once; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let size = loop {
            match self.stream.read(&mut piece) {
                // A read with a timeout ends so when the machine was paused (signal(7)).
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.held.extend_from_slice(&piece[..size]);
        Ok(size > 0)
    }

    /// Up to and with the mark; `None` when the peer ended before its first byte.
    fn take_until(&mut self, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.held.windows(mark.len()).position(|window| window == mark) {
                return Ok(Some(self.held.drain(..at + mark.len()).collect()));
            }
            if !self.fill()? {
                return if self.held.is_empty() { Ok(None) } else { Err(cut(&self.held)) };
            }
        }
    }

    pub(crate) fn take(&mut self, size: usize) -> io::Result<Vec<u8>> {
        while self.held.len() < size {
            if !self.fill()? {
                return Err(cut(&self.held));
            }
        }
        Ok(self.held.drain(..size).collect())
    }

    /// Whatever comes next, at most `size` bytes of it; empty at the end.
    pub(crate) fn some(&mut self, size: usize) -> io::Result<Vec<u8>> {
        if self.held.is_empty() {
            self.fill()?;
        }
        let size = size.min(self.held.len());
        Ok(self.held.drain(..size).collect())
    }

    /// All until the peer's end.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.held))
    }

    /// A head, with an empty body; `None` when the peer ended instead.
    pub(crate) fn head(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = self.take_until(b"\r\n\r\n")? else { return Ok(None) };
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.trim().to_owned())
        };
        Ok(Some(Message { line, fields: lines.map(field).collect(), body: Vec::new() }))
    }

    pub(crate) fn body(&mut self, framing: Body) -> io::Result<Vec<u8>> {
        match framing {
            Body::Length(size) => self.take(usize::try_from(size).unwrap()),
            Body::UntilClose => self.rest(),
            Body::Chunked => {
                let mut body = Vec::new();
                while let Some(piece) = self.chunk()? {
                    body.extend_from_slice(&piece);
                }
                Ok(body)
            }
        }
    }

    /// The next chunk; `None` for the last, whose trailer is read and dropped.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.take_until(b"\r\n")?.ok_or_else(|| cut(b""))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let digits = line.trim_end().split(';').next().unwrap().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| cut(line.as_bytes()))?;
        if size == 0 {
            while self.take_until(b"\r\n")?.ok_or_else(|| cut(b""))? != b"\r\n" {}
            return Ok(None);
        }
        let mut piece = self.take(size + 2)?;
        piece.truncate(size);
        Ok(Some(piece))
    }
}

fn cut(held: &[u8]) -> io::Error {
    let start = String::from_utf8_lossy(&held[..held.len().min(200)]).into_owned();
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("cut short after {start:?}"))
}
