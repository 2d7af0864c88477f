//! The requests that clients send: drawn from the seed, with all that is needed to tell at any
//! server and in any answer whether it is this request that arrived.

use super::act::{Act, Attempt, Frame};
use super::chance::{body, body_size, one_of, percent, range, size};
use super::fault::{FAULTS, Fault};
use super::link::LinkNo;
use super::setting::{BODY_SIZE, DOORS, Place, place};
use lychgate::base::id::DoorId;
use lychgate::base::prng::Prng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(usize),
    /// Sizes of the chunks.
    Chunked {
        sizes: Vec<usize>,
        has_trailers: bool,
    },
}

/// What is wrong with the body of a request whose head is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoilt {
    BadChunk,
    /// Content-Length beyond the limit.
    TooLong,
    /// Chunks beyond the limit.
    TooMuch,
}

/// Where the client dawdles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    Head,
    Body,
}

/// One request, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) mark: u32,
    pub(crate) method: &'static str,
    /// As the server must see it.
    pub(crate) target: String,
    pub(crate) door: DoorId,
    pub(crate) host: String,
    pub(crate) place: Place,
    pub(crate) is_http10: bool,
    /// The client wants the connection to stay.
    pub(crate) keeps: bool,
    pub(crate) body: Body,
    pub(crate) expects: bool,
    pub(crate) is_upgrade: bool,
    pub(crate) fault: Option<&'static Fault>,
    pub(crate) spoilt: Option<Spoilt>,
    pub(crate) stall: Option<Stall>,
    /// Fields that must reach the server, in this order.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) wire: Vec<u8>,
    pub(crate) head_size: usize,
    /// The client's address as X-Forwarded-For must end with it.
    pub(crate) peer: Option<String>,
    /// What servers do with it, first and second time.
    pub(crate) acts: [Act; 2],
    pub(crate) attempts: Vec<Attempt>,
    /// The connection that it comes on.
    pub(crate) client: Option<LinkNo>,
    /// Where in the client's stream it begins.
    pub(crate) start: u64,
}

/// Requests of one client are numbered from its base.
pub(crate) const MARKS_PER_CLIENT: u32 = 100;

impl Request {
    pub(crate) fn draw(prng: &mut Prng, mark: u32, door: DoorId, peer: Option<String>) -> Self {
        let method = draw_method(prng);
        let mut request = Self::plain(mark, door, peer, method);
        request.is_http10 = percent(prng, 12);
        request.keeps = if request.is_http10 { percent(prng, 50) } else { !percent(prng, 6) };
        request.is_upgrade = !request.is_http10 && method == "GET" && percent(prng, 8);
        if !request.is_upgrade {
            request.body = draw_body(prng, method, request.is_http10);
        }
        request.host = draw_host(prng, door);
        request.target = draw_target(prng, mark);
        request.place = place(door, &request.host, &request.target);
        let is_bodyless = request.body == Body::None;
        request.expects = !request.is_http10 && !is_bodyless && percent(prng, 25);
        request.acts = [
            Act::draw(prng, method, request.is_upgrade, is_bodyless),
            Act::draw_calm(prng, method, request.is_upgrade),
        ];
        request.spoil(prng);
        if request.fault.is_none() {
            request.fields = request.draw_fields(prng);
        }
        request.encode(prng);
        request
    }

    /// One of many that a client sends at once, large, and slow to be answered.
    pub(crate) fn flood(prng: &mut Prng, mark: u32, door: DoorId, peer: Option<String>) -> Self {
        let mut request = Self::plain(mark, door, peer, "GET");
        let pad = "p".repeat(usize::try_from(range(prng, 5_000, 7_000)).unwrap_or(0));
        request.fields =
            vec![(String::from("X-Mark"), mark.to_string()), (String::from("X-Pad"), pad)];
        request.acts = [Act::draw_slow(prng), Act::draw_slow(prng)];
        request.encode(prng);
        request
    }

    /// A request whose answer ends with the connection, and only later.
    pub(crate) fn hasty(prng: &mut Prng, mark: u32, door: DoorId, peer: Option<String>) -> Self {
        let mut request = Self::plain(mark, door, peer, "GET");
        request.is_http10 = true;
        request.keeps = false;
        request.fields = vec![(String::from("X-Mark"), mark.to_string())];
        let act = Act::draw_halting(prng, Frame::Close, false);
        request.acts = [act.clone(), act];
        request.encode(prng);
        request
    }

    /// A request that is answered before it is sent.
    pub(crate) fn early(prng: &mut Prng, mark: u32, door: DoorId, peer: Option<String>) -> Self {
        let mut request = Self::plain(mark, door, peer, "POST");
        request.body = Body::Length(1_000);
        request.fields = vec![(String::from("X-Mark"), mark.to_string())];
        let act = Act::draw_halting(prng, Frame::Length, true);
        request.acts = [act.clone(), act];
        request.encode(prng);
        request
    }

    fn plain(mark: u32, door: DoorId, peer: Option<String>, method: &'static str) -> Self {
        let (host, target) = (String::from("only.test"), format!("/app/m{mark}"));
        Self {
            mark,
            method,
            door,
            place: place(door, &host, &target),
            host,
            target,
            is_http10: false,
            keeps: true,
            body: Body::None,
            expects: false,
            is_upgrade: false,
            fault: None,
            spoilt: None,
            stall: None,
            fields: Vec::new(),
            wire: Vec::new(),
            head_size: 0,
            peer,
            acts: [Act::Never, Act::Never],
            attempts: Vec::new(),
            client: None,
            start: 0,
        }
    }

    /// RFC 9110 section 9.2.2.
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
    }

    pub(crate) fn body_size(&self) -> usize {
        match &self.body {
            Body::None => 0,
            Body::Length(size) => *size,
            Body::Chunked { sizes, .. } => sizes.iter().sum(),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.start + self.wire.len() as u64
    }

    /// Nothing is wrong with it that the client could be blamed for.
    pub(crate) fn is_sound(&self) -> bool {
        self.fault.is_none() && self.spoilt.is_none() && self.stall.is_none()
    }

    fn spoil(&mut self, prng: &mut Prng) {
        let has_body = self.body_size() > 0;
        match prng.below(100) {
            0..=3 => self.fault = Some(&FAULTS[size(prng, FAULTS.len() - 1)]),
            4 if matches!(self.body, Body::Chunked { .. }) => self.spoilt = Some(Spoilt::BadChunk),
            5 if has_body => {
                let is_chunked = matches!(self.body, Body::Chunked { .. });
                self.spoilt = Some(if is_chunked { Spoilt::TooMuch } else { Spoilt::TooLong });
            }
            6 => self.stall = Some(Stall::Head),
            7 if has_body => self.stall = Some(Stall::Body),
            _ => {}
        }
        if self.spoilt == Some(Spoilt::TooMuch) {
            let size = usize::try_from(BODY_SIZE).unwrap_or(0) / 2 + 100;
            self.body = Body::Chunked { sizes: vec![size, size, 50], has_trailers: false };
        }
    }

    fn encode(&mut self, prng: &mut Prng) {
        if let Some(fault) = self.fault {
            self.wire = fault.bytes(&self.host, self.mark);
            self.head_size = self.wire.len();
            return;
        }
        let absolute = !self.is_http10 && percent(prng, 6);
        let version = if self.is_http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let prefix = if absolute { format!("http://{}", self.host) } else { String::new() };
        let mut lines = vec![format!("{} {prefix}{} {version}", self.method, self.target)];
        // The authority of an absolute target wins over Host (RFC 9112 section 3.2.2).
        let host = if absolute { "other.test" } else { self.host.as_str() };
        if !self.is_http10 || percent(prng, 70) {
            lines.push(format!("Host: {host}"));
        } else {
            self.host.clear();
            self.place = place(self.door, "", &self.target);
        }
        self.hop_by_hop(prng, &mut lines);
        for (name, value) in &self.fields {
            let space = one_of(prng, &["", " ", "\t "]);
            lines.push(format!("{name}:{space}{value}"));
        }
        let leading = if percent(prng, 3) { "\r\n" } else { "" };
        self.wire = format!("{leading}{}\r\n\r\n", lines.join("\r\n")).into_bytes();
        self.head_size = self.wire.len();
        self.encode_body(prng);
    }

    fn hop_by_hop(&self, prng: &mut Prng, lines: &mut Vec<String>) {
        let mut options = Vec::new();
        if self.is_upgrade {
            options.push("Upgrade");
            lines.push(String::from("Upgrade: echo"));
        }
        match (self.keeps, self.is_http10) {
            (true, true) => options.push("keep-alive"),
            (false, false) => options.push("close"),
            _ => {}
        }
        if percent(prng, 30) {
            options.push("X-Hop");
            lines.push(String::from("X-Hop: secret"));
            lines.push(String::from("Keep-Alive: timeout=9"));
            lines.push(String::from("Proxy-Connection: keep-alive"));
            if !self.is_http10 {
                options.push("TE");
                lines.push(String::from("TE: trailers"));
            }
        }
        if !options.is_empty() {
            lines.push(format!("Connection: {}", options.join(", ")));
        }
        if percent(prng, 20) {
            lines.push(String::from("X-Forwarded-For: 192.0.2.66"));
            lines.push(String::from("X-Forwarded-Proto: gopher"));
            lines.push(String::from("X-Request-Start: t=1"));
        }
        if self.expects {
            lines.push(String::from("Expect: 100-continue"));
        }
        match &self.body {
            Body::None => {}
            Body::Length(_) if self.spoilt == Some(Spoilt::TooLong) => {
                lines.push(format!("Content-Length: {}", BODY_SIZE + 1));
            }
            Body::Length(size) => lines.push(format!("Content-Length: {size}")),
            Body::Chunked { .. } => lines.push(String::from("Transfer-Encoding: chunked")),
        }
    }

    fn draw_fields(&self, prng: &mut Prng) -> Vec<(String, String)> {
        let mut fields = vec![
            (String::from("X-Mark"), self.mark.to_string()),
            (String::from("X-Two"), String::from("a")),
            (String::from("x-one"), format!("\"v; {}\"", self.mark)),
            (String::from("X-Two"), String::from("b")),
            (String::from("X-Empty"), String::new()),
        ];
        if percent(prng, 10) {
            let pad = "p".repeat(size(prng, 5_000));
            fields.push((String::from("X-Pad"), format!("{pad}.")));
        }
        fields
    }

    fn encode_body(&mut self, prng: &mut Prng) {
        let bytes = body(self.mark, self.body_size());
        match &self.body {
            Body::None => {}
            Body::Length(_) => self.wire.extend_from_slice(&bytes),
            Body::Chunked { sizes, has_trailers } => {
                let extension = if percent(prng, 20) { ";name=\"a b\"" } else { "" };
                let trailers = if *has_trailers { "X-Sum: 1\r\n" } else { "" };
                chunks(&mut self.wire, &bytes, sizes, extension);
                if self.spoilt == Some(Spoilt::BadChunk) {
                    let bad = ["+5\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "xyz\r\n\r\n"];
                    self.wire.extend_from_slice(one_of(prng, &bad).as_bytes());
                }
                self.wire.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            }
        }
    }
}

/// Appends a body in chunks of these sizes.
pub(crate) fn chunks(wire: &mut Vec<u8>, mut bytes: &[u8], sizes: &[usize], extension: &str) {
    for size in sizes {
        let (now, later) = bytes.split_at(*size);
        wire.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
        wire.extend_from_slice(now);
        wire.extend_from_slice(b"\r\n");
        bytes = later;
    }
}

/// Cuts a size into chunk sizes, none of them zero.
pub(crate) fn split(prng: &mut Prng, mut left: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    while left > 0 {
        let now = if sizes.len() > 8 { left } else { 1 + size(prng, left - 1) };
        sizes.push(now);
        left -= now;
    }
    sizes
}

fn draw_method(prng: &mut Prng) -> &'static str {
    match prng.below(100) {
        0..=44 => "GET",
        45..=66 => "POST",
        67..=74 => "PUT",
        75..=83 => "HEAD",
        84..=88 => "DELETE",
        89..=92 => "OPTIONS",
        93..=96 => "PATCH",
        _ => "BREW",
    }
}

fn draw_body(prng: &mut Prng, method: &str, is_http10: bool) -> Body {
    let is_usual = matches!(method, "POST" | "PUT" | "PATCH" | "BREW");
    if !is_usual && !percent(prng, 3) {
        return Body::None;
    }
    let size = body_size(prng);
    if is_http10 || percent(prng, 55) {
        return Body::Length(size);
    }
    Body::Chunked { sizes: split(prng, size), has_trailers: percent(prng, 20) }
}

fn draw_host(prng: &mut Prng, door: DoorId) -> String {
    let hosts: &[&str] = if door == DOORS[1] {
        &["only.test", "a.sub.test", "b.a.sub.test", "only.test", "nobody.test"]
    } else {
        &["any.test", "only.test", "[::1]", "10.0.0.1"]
    };
    String::from(one_of(prng, hosts))
}

fn draw_target(prng: &mut Prng, mark: u32) -> String {
    let pool = match prng.below(20) {
        0..=8 => "app",
        9..=11 => "one",
        12..=18 => "work",
        _ => "nothing",
    };
    let query = match prng.below(3) {
        0 => String::new(),
        1 => format!("?mark={mark}&x=%41/?"),
        _ => format!("?{}", "q".repeat(usize::try_from(range(prng, 0, 200)).unwrap_or(0))),
    };
    format!("/{pool}/m{mark}{query}")
}
