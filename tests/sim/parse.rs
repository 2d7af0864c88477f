//! A second opinion on HTTP/1: a slow and strict reader of messages that shares no code with the
//! product, so that a mistake in one is not repeated in the other.

/// The start line and the fields of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    /// Where in the stream the head begins and where its empty line ends.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// How long a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
    /// No message any more: everything that follows is payload.
    Tunnel,
}

/// The next piece of a stream of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The reader stands still until [`Reader::begin`].
    Head(Head),
    Body(Vec<u8>),
    /// The message is whole; `end` is where in the stream.
    Done {
        end: u64,
        trailers: Vec<(String, String)>,
    },
}

/// Where a stream of messages was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Between two messages.
    Between,
    /// The end of the stream is the end of the message.
    Whole,
    /// Inside a message.
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Undecided,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Tunnel,
}

/// Longest line or head that is waited for.
const HELD_SIZE_MAX: usize = 512 * 1024;

#[derive(Debug)]
pub(crate) struct Reader {
    state: State,
    held: Vec<u8>,
    at: usize,
    /// How many bytes were taken out of the stream before `held[at]`.
    offset: u64,
    trailers: Vec<(String, String)>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { state: State::Head, held: Vec::new(), at: 0, offset: 0, trailers: Vec::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.held.drain(..self.at);
            self.at = 0;
        }
        self.held.extend_from_slice(bytes);
    }

    /// Decides how long the message is whose head came last.
    pub(crate) fn begin(&mut self, framing: Framing) {
        assert_eq!(self.state, State::Undecided, "a head comes first");
        self.state = match framing {
            Framing::Length(size) => State::Length(size),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
            Framing::Tunnel => State::Tunnel,
        };
    }

    /// From here on the stream is no HTTP any more.
    pub(crate) fn tunnel(&mut self) {
        self.state = State::Tunnel;
    }

    /// The next part; `None` when more bytes are needed. An error says what is not HTTP.
    pub(crate) fn next(&mut self) -> Result<Option<Part>, String> {
        loop {
            match self.state {
                State::Undecided => return Ok(None),
                State::Head => return self.head(),
                State::Length(0) => {
                    self.state = State::Head;
                    return Ok(Some(self.done()));
                }
                State::Length(left) => {
                    let part = self.body(left);
                    if let Some(Part::Body(bytes)) = &part {
                        self.state = State::Length(left - bytes.len() as u64);
                    }
                    return Ok(part);
                }
                State::UntilClose | State::Tunnel => return Ok(self.body(u64::MAX)),
                State::ChunkSize => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let size = chunk_size(&line)?;
                    self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                }
                State::ChunkData(left) => {
                    let part = self.body(left);
                    if let Some(Part::Body(bytes)) = &part {
                        let left = left - bytes.len() as u64;
                        self.state =
                            if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    }
                    return Ok(part);
                }
                State::ChunkEnd => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if !line.is_empty() {
                        return Err(format!("a chunk is longer than its size: {line:?}"));
                    }
                    self.state = State::ChunkSize;
                }
                State::Trailers => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if line.is_empty() {
                        self.state = State::Head;
                        return Ok(Some(self.done()));
                    }
                    self.trailers.push(field(&line)?);
                }
            }
        }
    }

    /// The stream ended.
    pub(crate) fn end(&self) -> Cut {
        match self.state {
            State::Head if self.held.len() == self.at => Cut::Between,
            State::UntilClose | State::Tunnel => Cut::Whole,
            _ => Cut::Truncated,
        }
    }

    fn head(&mut self) -> Result<Option<Part>, String> {
        let rest = &self.held[self.at..];
        let Some(size) = find(rest, b"\r\n\r\n").map(|at| at + 4) else {
            return Self::patience(rest.len());
        };
        let text = core::str::from_utf8(&rest[..size - 4])
            .map_err(|_| String::from("bytes beyond ASCII in a head"))?;
        let mut lines = text.split("\r\n");
        let line = String::from(lines.next().unwrap_or_default());
        printable(&line)?;
        let fields = lines.map(field).collect::<Result<Vec<_>, _>>()?;
        let start = self.offset;
        self.take(size);
        self.state = State::Undecided;
        Ok(Some(Part::Head(Head { line, fields, start, end: self.offset })))
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        let rest = &self.held[self.at..];
        let Some(size) = find(rest, b"\r\n") else {
            Self::patience(rest.len())?;
            return Ok(None);
        };
        let line = core::str::from_utf8(&rest[..size]).map_err(|_| String::from("not ASCII"))?;
        let line = String::from(line);
        printable(&line)?;
        self.take(size + 2);
        Ok(Some(line))
    }

    fn patience(size: usize) -> Result<Option<Part>, String> {
        if size > HELD_SIZE_MAX {
            return Err(String::from("a head or a line has no end"));
        }
        Ok(None)
    }

    fn body(&mut self, left: u64) -> Option<Part> {
        let rest = &self.held[self.at..];
        let size = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if size == 0 {
            return None;
        }
        let bytes = rest[..size].to_vec();
        self.take(size);
        Some(Part::Body(bytes))
    }

    fn done(&mut self) -> Part {
        Part::Done { end: self.offset, trailers: core::mem::take(&mut self.trailers) }
    }

    fn take(&mut self, size: usize) {
        self.at += size;
        self.offset += size as u64;
    }
}

impl Head {
    /// The values of a field, in order.
    pub(crate) fn all<'a>(&'a self, name: &str) -> Vec<&'a str> {
        let wanted = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(wanted).map(|field| field.1.as_str()).collect()
    }

    /// The value of a field that may stand once.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, String> {
        match self.all(name)[..] {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(format!("{name} is repeated")),
        }
    }

    /// Whether a list-valued field names a token.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        let values = self.all(name);
        let mut tokens = values.iter().flat_map(|value| value.split(','));
        tokens.any(|one| one.trim().eq_ignore_ascii_case(token))
    }

    /// What Content-Length and Transfer-Encoding say together; `None` when neither is there.
    pub(crate) fn framing(&self) -> Result<Option<Framing>, String> {
        match (self.one("content-length")?, self.one("transfer-encoding")?) {
            (Some(_), Some(_)) => Err(String::from("both Content-Length and Transfer-Encoding")),
            (None, None) => Ok(None),
            (None, Some("chunked")) => Ok(Some(Framing::Chunked)),
            (None, Some(other)) => Err(format!("transfer coding {other:?}")),
            (Some(digits), None) => {
                let is_plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
                let size = digits.parse().ok().filter(|_| is_plain);
                let size = size.ok_or_else(|| format!("Content-Length {digits:?}"))?;
                Ok(Some(Framing::Length(size)))
            }
        }
    }
}

fn chunk_size(line: &str) -> Result<u64, String> {
    let digits = line.split(';').next().unwrap_or_default();
    let is_plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit());
    let size = u64::from_str_radix(digits, 16).ok().filter(|_| is_plain);
    size.ok_or_else(|| format!("chunk size {line:?}"))
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
    let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("field name {name:?}"));
    }
    printable(value)?;
    Ok((String::from(name), String::from(value.trim_matches([' ', '\t']))))
}

fn printable(text: &str) -> Result<(), String> {
    if text.bytes().all(|c| c == b'\t' || (0x20..0x7f).contains(&c)) {
        return Ok(());
    }
    Err(format!("control bytes in {text:?}"))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &mut Reader, bytes: &[u8]) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        for byte in bytes {
            reader.push(&[*byte]);
            while let Some(part) = reader.next()? {
                if let Part::Head(head) = &part {
                    let framing = head.framing()?.unwrap_or(Framing::Length(0));
                    reader.begin(framing);
                }
                parts.push(part);
            }
        }
        Ok(parts)
    }

    #[test]
    fn messages_come_out_whole_and_in_order() {
        let mut reader = Reader::new();
        let bytes = b"A\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nT: 1\r\n\r\n\
            B\r\nContent-Length: 1\r\n\r\nc";
        let parts = read(&mut reader, bytes).unwrap();
        let body: Vec<u8> = parts
            .iter()
            .flat_map(|part| if let Part::Body(bytes) = part { bytes.clone() } else { Vec::new() })
            .collect();
        assert_eq!(body, b"abc");
        let dones = parts.iter().filter(|part| matches!(part, Part::Done { .. })).count();
        assert_eq!((dones, reader.end()), (2, Cut::Between));
        assert_eq!(parts.last(), Some(&Part::Done { end: bytes.len() as u64, trailers: vec![] }));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for bad in [
            &b"A\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
            b"A\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"A\r\nContent-Length: +1\r\n\r\n",
            b"A\nB: c\r\n\r\n",
            b"A\r\nB : c\r\n\r\n",
            b"A\r\n folded: c\r\n\r\n",
            b"A\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            b"A\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n",
        ] {
            assert!(read(&mut Reader::new(), bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_truncated_message_is_known_as_such() {
        let cut = |bytes: &[u8]| {
            let mut reader = Reader::new();
            read(&mut reader, bytes).unwrap();
            reader.end()
        };
        assert_eq!(cut(b"A\r\n"), Cut::Truncated);
        assert_eq!(cut(b"A\r\nContent-Length: 2\r\n\r\nx"), Cut::Truncated);
        assert_eq!(cut(b"A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), Cut::Truncated);
        assert_eq!(cut(b"A\r\n\r\n"), Cut::Between);
    }
}
