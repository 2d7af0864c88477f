//! What servers do with a request, well or badly, and what they did.

use super::chance::{body, body_size, one_of, percent, range, size};
use super::link::LinkNo;
use super::request::{chunks, split};
use lychgate::base::prng::Prng;
use lychgate::base::time::Instant;

/// How a server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Its direction only; it still reads.
    Fin,
    Close,
    Reset,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer(Answer),
    /// Reads the request and says nothing, ever.
    Never,
    /// Leaves before a byte of an answer.
    Drop(Leave),
    Garbage(&'static str),
    /// 101, then every byte comes back.
    Upgrade,
}

/// How an answer's length is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Length,
    Chunked,
    Close,
}

/// What goes wrong in the middle of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Leave(Leave),
    /// The rest never comes.
    Stall,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) frame: Frame,
    pub(crate) size: usize,
    pub(crate) sizes: Vec<usize>,
    pub(crate) is_http10: bool,
    pub(crate) says_close: bool,
    pub(crate) interims: Vec<u16>,
    /// Before the answer, and in the middle of it.
    pub(crate) delay: u64,
    pub(crate) pause: u64,
    /// Answers as soon as it has the head; then reads the rest.
    pub(crate) is_early: bool,
    /// Leaves after the answer.
    pub(crate) leave: Option<Leave>,
    /// Says another answer nobody asked for, in one piece with this one.
    pub(crate) has_extra: bool,
    /// Only so many percent of the answer are said.
    pub(crate) cut: Option<(u64, Cut)>,
}

/// A request that the machine sent to a server.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) link: LinkNo,
    /// When its head was sent, and its last byte so far.
    pub(crate) at: Instant,
    pub(crate) last: Instant,
    pub(crate) is_whole: bool,
    /// The link had served another request before.
    pub(crate) is_reused: bool,
    /// Where in the server's stream its answer begins.
    pub(crate) from: u64,
    /// Where the answer ends, once the server has decided.
    pub(crate) to: Option<u64>,
    /// The answer ends with the connection.
    pub(crate) needs_fin: bool,
    /// The server did not mean to answer well.
    pub(crate) is_bad: bool,
}

/// An answer as it is said.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) interims: Vec<Vec<u8>>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) needs_fin: bool,
}

/// What no HTTP client should take for an answer.
const GARBAGE: [&str; 7] = [
    "\r\n\r\n\r\n",
    "HTTP/1.1 2000 Too Many\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "HTTP/1.1 200 OK\r\nBad Name: 1\r\nContent-Length: 0\r\n\r\n",
];

/// What follows an answer that nobody asked for: it would pass for one.
pub(crate) const EXTRA: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-Answer: smuggled\r\nContent-Length: 6\r\n\r\nevil!\n";

impl Act {
    pub(crate) fn draw(
        prng: &mut Prng,
        method: &'static str,
        is_upgrade: bool,
        is_bodyless: bool,
    ) -> Self {
        if is_upgrade && !percent(prng, 20) {
            return Self::Upgrade;
        }
        match prng.below(100) {
            0..=1 => Self::Never,
            2..=6 => Self::Drop(one_of(prng, &[Leave::Fin, Leave::Close, Leave::Reset])),
            7..=9 => Self::Garbage(one_of(prng, &GARBAGE)),
            10..=17 => {
                let mut answer = Answer::draw(prng, method);
                answer.spoil(prng);
                Self::Answer(answer)
            }
            _ => {
                let mut answer = Answer::draw(prng, method);
                answer.is_early = !is_bodyless && percent(prng, 35);
                Self::Answer(answer)
            }
        }
    }

    /// Nothing goes wrong, but it takes its time.
    pub(crate) fn draw_slow(prng: &mut Prng) -> Self {
        let mut answer = Answer::draw(prng, "GET");
        answer.size = answer.size.min(500);
        answer.sizes = split(prng, answer.size);
        answer.delay = range(prng, 50, 400) * 1_000_000;
        answer.pause = 0;
        Self::Answer(answer)
    }

    /// An answer that begins at once and ends later, with or before the connection.
    pub(crate) fn draw_halting(prng: &mut Prng, frame: Frame, is_early: bool) -> Self {
        let mut answer = Answer::draw(prng, "GET");
        answer.status = 200;
        answer.frame = frame;
        answer.size = range(prng, 500, 3_000).try_into().unwrap_or(0);
        answer.is_http10 = false;
        answer.says_close = frame == Frame::Close;
        answer.leave = (frame == Frame::Close).then_some(Leave::Close);
        answer.delay = 0;
        answer.pause = range(prng, 100, 400) * 1_000_000;
        answer.is_early = is_early;
        Self::Answer(answer)
    }

    /// Nothing goes wrong.
    pub(crate) fn draw_calm(prng: &mut Prng, method: &'static str, is_upgrade: bool) -> Self {
        if is_upgrade { Self::Upgrade } else { Self::Answer(Answer::draw(prng, method)) }
    }
}

impl Answer {
    fn draw(prng: &mut Prng, method: &'static str) -> Self {
        let is_http10 = percent(prng, 8);
        let frame = match prng.below(10) {
            0..=4 => Frame::Length,
            5..=8 if !is_http10 => Frame::Chunked,
            _ => Frame::Close,
        };
        let status = one_of(prng, &[200, 200, 200, 200, 201, 204, 304, 301, 404, 500, 503]);
        let is_bodyless = matches!(status, 204 | 304) || method == "HEAD";
        let frame = if is_bodyless && frame == Frame::Close { Frame::Length } else { frame };
        let size = body_size(prng);
        let interims: &[&[u16]] = &[&[], &[], &[], &[103], &[102, 103, 103]];
        let interims = if is_http10 { &[] } else { one_of(prng, interims) };
        let long = range(prng, 1, 3_500) * 1_000_000;
        Self {
            status,
            frame,
            size,
            sizes: split(prng, size),
            is_http10,
            says_close: percent(prng, 15) || frame == Frame::Close,
            interims: interims.to_vec(),
            delay: if percent(prng, 20) { long } else { 0 },
            pause: if percent(prng, 10) { long } else { 0 },
            is_early: false,
            leave: match (frame, prng.below(20)) {
                (Frame::Close, _) | (_, 0) => {
                    Some(one_of(prng, &[Leave::Fin, Leave::Close, Leave::Close]))
                }
                _ => None,
            },
            has_extra: false,
            cut: None,
        }
    }

    fn spoil(&mut self, prng: &mut Prng) {
        if percent(prng, 30) && self.frame != Frame::Close {
            self.has_extra = true;
            self.leave = None;
            return;
        }
        let how = match prng.below(4) {
            0 => Cut::Stall,
            1 if self.frame != Frame::Close => Cut::Leave(Leave::Fin),
            2 if self.frame != Frame::Close => Cut::Leave(Leave::Close),
            _ => Cut::Leave(Leave::Reset),
        };
        self.cut = Some((range(prng, 1, 99), how));
    }

    /// Bytes of body that come with it for this method.
    pub(crate) fn body_size(&self, method: &str) -> usize {
        let is_bodyless = matches!(self.status, 204 | 304) || method == "HEAD";
        if is_bodyless { 0 } else { self.size }
    }

    pub(crate) fn wire(&self, method: &str, mark: u32, attempt: usize) -> Wire {
        let version = if self.is_http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let interim =
            |status: &u16| format!("{version} {status} Wait\r\nX-Answer: {mark}.{attempt}\r\n\r\n");
        let mut head = format!("{version} {} Said {mark}\r\n", self.status);
        for (name, value) in fields(mark, attempt) {
            head.extend([name, ": ", &value, "\r\n"]);
        }
        head.push_str("X-Shop: secret\r\nKeep-Alive: timeout=9\r\n");
        let wish = match (self.says_close, self.is_http10) {
            (true, _) => ", close",
            (false, true) => ", keep-alive",
            (false, false) => "",
        };
        head.extend(["Connection: X-Shop", wish, "\r\n"]);
        match self.frame {
            _ if self.status == 204 => {}
            Frame::Length => {
                let size = self.size.to_string();
                head.extend(["Content-Length: ", &size, "\r\n"]);
            }
            Frame::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Frame::Close => {}
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        let size = self.body_size(method);
        let has_body = !matches!(self.status, 204 | 304) && method != "HEAD";
        let payload = body(salt(mark, attempt), size);
        if has_body && self.frame == Frame::Chunked {
            chunks(&mut bytes, &payload, &self.sizes, "");
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&payload);
        }
        let interims = self.interims.iter().map(|status| interim(status).into_bytes()).collect();
        Wire { interims, bytes, needs_fin: has_body && self.frame == Frame::Close }
    }
}

/// The end-to-end fields of every answer.
pub(crate) fn fields(mark: u32, attempt: usize) -> [(&'static str, String); 5] {
    [
        ("X-Answer", format!("{mark}.{attempt}")),
        ("Set-Cookie", String::from("a=1; Path=/")),
        ("set-cookie", format!("b={mark}")),
        ("X-None", String::new()),
        ("Date", String::from("Sun, 06 Nov 1994 08:49:37 GMT")),
    ]
}

/// The body of an answer is told apart from every other by this.
pub(crate) fn salt(mark: u32, attempt: usize) -> u32 {
    mark * 2 + u32::try_from(attempt).unwrap_or(0) + 1_000_003
}

/// Bytes that a client sends through a tunnel.
pub(crate) fn tunnel_size(prng: &mut Prng) -> usize {
    size(prng, 3_000) + 1
}
