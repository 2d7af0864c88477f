//! A connection as the server sees it: every request on it is checked to be one that a client
//! sent, unchanged and for this pool, and then treated as its script says.

use super::act::{Act, Answer, Attempt, Cut, EXTRA, Leave};
use super::chance::{is_body, range};
use super::ledger::Ledger;
use super::link::{Link, LinkNo};
use super::mouth::{Mouth, Say};
use super::parse::{Framing, Head, Part, Reader};
use super::request::{Body, Request};
use super::setting::{CHECK_PATH, POOL_ONE, POOL_WORK, Place};
use lychgate::base::prng::Prng;
use lychgate::base::time::Instant;

/// One request on a connection.
#[derive(Debug)]
struct Arrival {
    /// `None` is a health check.
    mark: Option<u32>,
    attempt: usize,
    head_end: u64,
    end: Option<u64>,
    body_size: u64,
    has_continued: bool,
}

#[derive(Debug)]
pub(crate) struct Server {
    pool: usize,
    reader: Reader,
    arrivals: Vec<Arrival>,
    /// The arrival that is served, or awaited.
    current: usize,
    /// Bytes that the application read.
    pub(crate) read: u64,
    pub(crate) mouth: Mouth,
    /// Where in what it reads the tunnel begins.
    tunnel_from: Option<u64>,
    /// Closes after so long without a request.
    pub(crate) patience: Option<u64>,
    /// Bytes were said here that are nobody's answer.
    is_poisoned: bool,
    is_leaving: bool,
}

impl Server {
    pub(crate) fn new(pool: usize, prng: &mut Prng) -> Self {
        Self {
            pool,
            reader: Reader::new(),
            arrivals: Vec::new(),
            current: 0,
            read: 0,
            mouth: Mouth::default(),
            tunnel_from: None,
            patience: prng.one_in(3).then(|| range(prng, 1, 4_000) * 1_000_000),
            is_poisoned: false,
            is_leaving: false,
        }
    }

    /// The last request that arrived here: its mark and which attempt it was.
    pub(crate) fn last(&self) -> Option<(u32, usize)> {
        self.arrivals.last().and_then(|arrival| Some((arrival.mark?, arrival.attempt)))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.current == self.arrivals.len() && self.mouth.says.is_empty()
    }

    /// What the machine said on this connection, before anything can happen to it.
    pub(crate) fn hear(
        &mut self,
        no: LinkNo,
        bytes: &[u8],
        now: Instant,
        links: &[Link],
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        self.reader.push(bytes);
        while let Some(part) = self.reader.next()? {
            match part {
                Part::Head(head) => self.begin(no, &head, now, links, ledger)?,
                Part::Body(bytes) => self.grow(&bytes, ledger)?,
                Part::Done { end, trailers } => self.finish(end, &trailers, now, ledger)?,
            }
        }
        if let Some(Arrival { mark: Some(mark), attempt, .. }) = self.arrivals.last()
            && let Some(request) = ledger.requests.get_mut(mark)
            && !request.attempts[*attempt].is_whole
        {
            request.attempts[*attempt].last = now;
        }
        Ok(())
    }

    fn begin(
        &mut self,
        no: LinkNo,
        head: &Head,
        now: Instant,
        links: &[Link],
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if self.current < self.arrivals.len() {
            return Err(format!("{:?} was sent before the answer to the last one", head.line));
        }
        let framing = head.framing()?;
        let mut arrival = Arrival {
            mark: None,
            attempt: 0,
            head_end: head.end,
            end: None,
            body_size: 0,
            has_continued: false,
        };
        if head.all("x-mark").is_empty() && self.pool == POOL_ONE {
            if head.line != format!("GET {CHECK_PATH} HTTP/1.1") {
                return Err(format!("{:?} is no health check", head.line));
            }
            ledger.cover.note("health check");
        } else {
            let mark = head.one("x-mark")?.and_then(|mark| mark.parse().ok());
            let mark: u32 = mark.ok_or_else(|| format!("{head:?} was sent by nobody"))?;
            let request = ledger.requests.get(&mark);
            let request = request.ok_or_else(|| format!("nobody sent {mark}"))?;
            check(request, head, framing, self.pool)?;
            check_repeat(request, links)?;
            check_presence(request, now, links)?;
            self.check_trust(&links[no], ledger)?;
            let id = head.one("x-request-id")?.unwrap_or_default();
            if *ledger.ids.entry(String::from(id)).or_insert(mark) != mark {
                return Err(format!("X-Request-Id {id:?} belongs to two requests"));
            }
            self.enter(no, mark, now, ledger);
            arrival.mark = Some(mark);
            arrival.attempt = ledger.requests[&mark].attempts.len() - 1;
        }
        self.arrivals.push(arrival);
        self.reader.begin(framing.unwrap_or(Framing::Length(0)));
        Ok(())
    }

    /// A server that is known to have said more than its answer gets no other request.
    fn check_trust(&self, link: &Link, ledger: &Ledger) -> Result<(), String> {
        let Some(Arrival { mark: Some(mark), attempt, .. }) = self.arrivals.last() else {
            return Ok(());
        };
        let to = ledger.requests[mark].attempts[*attempt].to;
        if to.is_some_and(|to| link.up.left > to) {
            return Err(format!("it said too much after {mark} and was trusted again"));
        }
        Ok(())
    }

    fn enter(&mut self, no: LinkNo, mark: u32, now: Instant, ledger: &mut Ledger) {
        let is_reused = !self.arrivals.is_empty();
        let cover = &mut ledger.cover;
        cover.note(if is_reused { "server connection reused" } else { "server connection fresh" });
        let Some(request) = ledger.requests.get_mut(&mark) else { return };
        if !request.attempts.is_empty() {
            cover.note("request retried");
        }
        request.attempts.push(Attempt {
            link: no,
            at: now,
            last: now,
            is_whole: false,
            is_reused,
            from: self.mouth.planned,
            to: None,
            needs_fin: false,
            is_bad: self.is_poisoned,
        });
    }

    fn grow(&mut self, bytes: &[u8], ledger: &Ledger) -> Result<(), String> {
        if self.tunnel_from.is_some() {
            return Ok(());
        }
        let arrival = self.arrivals.last_mut().ok_or("a body without a head")?;
        let request = arrival.mark.and_then(|mark| ledger.requests.get(&mark));
        let request = request.ok_or("a health check with a body")?;
        let size = arrival.body_size + bytes.len() as u64;
        if !is_body(request.mark, arrival.body_size, bytes) || size > request.body_size() as u64 {
            return Err(format!("the body of {} changed on its way", request.mark));
        }
        arrival.body_size = size;
        Ok(())
    }

    fn finish(
        &mut self,
        end: u64,
        trailers: &[(String, String)],
        now: Instant,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let arrival = self.arrivals.last_mut().ok_or("an end without a head")?;
        arrival.end = Some(end);
        let Some(mark) = arrival.mark else { return Ok(()) };
        let request = ledger.requests.get_mut(&mark).ok_or("unknown mark")?;
        if request.spoilt.is_some() {
            return Err(format!("{mark} is spoilt and arrived whole all the same"));
        }
        if arrival.body_size != request.body_size() as u64 {
            return Err(format!("the body of {mark} lost its end"));
        }
        let sent = matches!(request.body, Body::Chunked { has_trailers: true, .. });
        let is_known = |(name, value): &(String, String)| name == "X-Sum" && value == "1";
        if !trailers.is_empty() && (!sent || !trailers.iter().all(is_known)) {
            return Err(format!("{mark} has trailers nobody sent: {trailers:?}"));
        }
        if !trailers.is_empty() {
            ledger.cover.note("trailers arrived");
        }
        request.attempts[arrival.attempt].is_whole = true;
        request.attempts[arrival.attempt].last = now;
        Ok(())
    }

    /// The application reads, and acts if that is enough for it to act on.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        now: Instant,
        prng: &mut Prng,
        ledger: &mut Ledger,
    ) {
        let before = self.read;
        self.read += bytes.len() as u64;
        if let Some(from) = self.tunnel_from {
            let skip = usize::try_from(from.saturating_sub(before)).unwrap_or(usize::MAX);
            let payload = bytes.get(skip.min(bytes.len())..).unwrap_or_default();
            if !payload.is_empty() {
                self.mouth.push(Say::Bytes(payload.to_vec()));
            }
            return;
        }
        while self.current < self.arrivals.len() && !self.is_leaving {
            if !self.act(now, prng, ledger) {
                return;
            }
        }
    }

    /// Acts on the current request; false while there is not enough of it.
    fn act(&mut self, now: Instant, prng: &mut Prng, ledger: &mut Ledger) -> bool {
        let arrival = &mut self.arrivals[self.current];
        let has_head = self.read >= arrival.head_end;
        let has_all = arrival.end.is_some_and(|end| self.read >= end);
        let Some(mark) = arrival.mark else {
            if has_all {
                self.answer_check(now, prng, ledger);
                self.current += 1;
            }
            return has_all;
        };
        let Some(request) = ledger.requests.get_mut(&mark) else { return false };
        let attempt = arrival.attempt;
        let act = request.acts[attempt.min(1)].clone();
        let is_early = matches!(&act, Act::Answer(answer) if answer.is_early);
        if has_head && !has_all && request.expects && !is_early && !arrival.has_continued {
            arrival.has_continued = true;
            // Some servers just read on.
            if !matches!(act, Act::Drop(_)) && mark % 4 != 0 {
                ledger.cover.note("100 said");
                self.mouth.push(Say::Bytes(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
            }
        }
        if !has_all && (!is_early || !has_head) {
            return false;
        }
        if is_early && !has_all {
            ledger.cover.note("early answer said");
        }
        self.perform(&act, mark, attempt, ledger);
        self.current += 1;
        true
    }

    fn answer_check(&mut self, now: Instant, prng: &mut Prng, ledger: &mut Ledger) {
        if prng.one_in(3) {
            ledger.cover.note("health check failed");
            ledger.sick.push(now);
            let bad = one_bad(prng);
            self.mouth.push(Say::Bytes(bad.as_bytes().to_vec()));
        } else {
            let good = b"HTTP/1.1 204 Fine\r\nX-Health: 1\r\n\r\n".to_vec();
            self.mouth.push(Say::Bytes(good));
        }
    }

    fn perform(&mut self, act: &Act, mark: u32, attempt: usize, ledger: &mut Ledger) {
        let Some(request) = ledger.requests.get_mut(&mark) else { return };
        let method = request.method;
        let cover = &mut ledger.cover;
        let record = &mut request.attempts[attempt];
        match act {
            Act::Answer(answer) => {
                record.is_bad |= answer.cut.is_some();
                self.answer(answer, method, mark, attempt, record);
                cover_answer(answer, cover);
            }
            Act::Never => {
                record.is_bad = true;
                self.is_leaving = true;
                cover.note("server never answers");
            }
            Act::Drop(leave) => {
                record.is_bad = true;
                self.leave(*leave);
                cover.note("server drops the request");
            }
            Act::Garbage(bytes) => {
                record.is_bad = true;
                self.is_poisoned = true;
                self.mouth.push(Say::Bytes(bytes.as_bytes().to_vec()));
                cover.note("garbage said");
            }
            Act::Upgrade => {
                let head = format!(
                    "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\
                     X-Answer: {mark}.{attempt}\r\n\r\n"
                );
                self.mouth.push(Say::Bytes(head.into_bytes()));
                record.to = Some(self.mouth.planned);
                self.tunnel_from = self.arrivals.last().and_then(|arrival| arrival.end);
                self.reader.tunnel();
                cover.note("upgraded");
            }
        }
    }

    fn answer(
        &mut self,
        answer: &Answer,
        method: &str,
        mark: u32,
        attempt: usize,
        record: &mut Attempt,
    ) {
        let wire = answer.wire(method, mark, attempt);
        for interim in wire.interims {
            self.mouth.push(Say::Bytes(interim));
            self.mouth.push(Say::Pause(answer.pause / 4));
        }
        self.mouth.push(Say::Pause(answer.delay));
        let mut bytes = wire.bytes;
        record.to = Some(self.mouth.planned + bytes.len() as u64);
        record.needs_fin = wire.needs_fin;
        if let Some((percent, _)) = answer.cut {
            let percent = usize::try_from(percent).unwrap_or(0);
            bytes.truncate((bytes.len() * percent / 100).max(1).min(bytes.len() - 1));
        }
        if answer.has_extra {
            let glue = bytes.len();
            bytes.extend_from_slice(EXTRA);
            self.is_poisoned = true;
            self.mouth.push(Say::Glued(bytes, glue));
        } else {
            let rest = bytes.split_off(bytes.len() / 2);
            self.mouth.push(Say::Bytes(bytes));
            self.mouth.push(Say::Pause(answer.pause));
            self.mouth.push(Say::Bytes(rest));
        }
        match answer.cut {
            Some((_, Cut::Leave(leave))) => self.leave(leave),
            Some((_, Cut::Stall)) => self.is_leaving = true,
            None => {
                if let Some(leave) = answer.leave {
                    self.leave(leave);
                } else if answer.says_close {
                    self.leave(Leave::Close);
                }
            }
        }
    }

    fn leave(&mut self, how: Leave) {
        self.is_leaving = true;
        self.mouth.push(Say::Leave(how));
    }
}

fn one_bad(prng: &mut Prng) -> &'static str {
    super::chance::one_of(
        prng,
        &["HTTP/1.1 500 Ill\r\nContent-Length: 3\r\n\r\nill", "", "nonsense\r\n\r\n"],
    )
}

fn cover_answer(answer: &Answer, cover: &mut super::cover::Cover) {
    use super::act::Frame;
    cover.note(match (answer.frame, answer.status) {
        (_, 204) => "204 said",
        (_, 304) => "304 said",
        (Frame::Length, _) => "answer with length said",
        (Frame::Chunked, _) => "answer in chunks said",
        (Frame::Close, _) => "answer until close said",
    });
    if answer.is_http10 {
        cover.note("HTTP/1.0 answer said");
    }
    if answer.has_extra {
        cover.note("too much said");
    }
    match answer.cut {
        Some((_, Cut::Stall)) => cover.note("answer stalls"),
        Some((_, Cut::Leave(Leave::Reset))) => cover.note("answer cut by reset"),
        Some(_) => cover.note("answer cut by FIN"),
        None => {}
    }
}

/// The request is the one that the client sent.
fn check(
    request: &Request,
    head: &Head,
    framing: Option<Framing>,
    pool: usize,
) -> Result<(), String> {
    let mark = request.mark;
    if let Some(fault) = request.fault {
        return Err(format!("{mark} is malformed ({}) and was passed on", fault.name));
    }
    if request.place != Place::Pool(pool) {
        return Err(format!("{mark} belongs to {:?} and came to pool {pool}", request.place));
    }
    let line = format!("{} {} HTTP/1.1", request.method, request.target);
    if head.line != line {
        return Err(format!("{mark} is {line:?} and arrived as {:?}", head.line));
    }
    let host = head.one("host")?.unwrap_or_default();
    if host.is_empty() || (!request.host.is_empty() && host != request.host) {
        return Err(format!("{mark} is for host {:?} and arrived for {host:?}", request.host));
    }
    let expected = match &request.body {
        Body::None => matches!(framing, None | Some(Framing::Length(0))),
        Body::Length(size) => framing == Some(Framing::Length(*size as u64)),
        Body::Chunked { .. } => framing == Some(Framing::Chunked),
    };
    if !expected {
        return Err(format!("{mark} has framing {framing:?} for {:?}", request.body));
    }
    let is_ours = |field: &&(String, String)| {
        request.fields.iter().any(|known| known.0.eq_ignore_ascii_case(&field.0))
    };
    let ours: Vec<_> = head.fields.iter().filter(is_ours).cloned().collect();
    if ours != request.fields {
        return Err(format!("{mark} arrived with {ours:?} for {:?}", request.fields));
    }
    check_hop(request, head)?;
    check_forwarding(request, head)
}

fn check_hop(request: &Request, head: &Head) -> Result<(), String> {
    let mark = request.mark;
    for name in ["x-hop", "keep-alive", "proxy-connection", "te"] {
        if !head.all(name).is_empty() || head.lists("connection", name) && name != "keep-alive" {
            return Err(format!("{mark} arrived with {name}, which ends at each hop"));
        }
    }
    let upgrades = !head.all("upgrade").is_empty() && head.lists("connection", "upgrade");
    if upgrades != request.is_upgrade || !upgrades && !head.all("upgrade").is_empty() {
        return Err(format!("{mark} arrived with upgrade {upgrades}"));
    }
    if request.expects == head.all("expect").is_empty() {
        return Err(format!("{mark} arrived with Expect: {:?}", head.all("expect")));
    }
    Ok(())
}

fn check_forwarding(request: &Request, head: &Head) -> Result<(), String> {
    let mark = request.mark;
    let last = |name: &str| {
        let values = head.all(name);
        let last = values.last().and_then(|list| list.rsplit(',').next());
        last.map(|value| String::from(value.trim()))
    };
    if request.peer.is_some() && last("x-forwarded-for") != request.peer {
        return Err(format!(
            "{mark} is from {:?}: {:?}",
            request.peer,
            head.all("x-forwarded-for")
        ));
    }
    if head.one("x-forwarded-proto")? != Some("http") {
        return Err(format!("{mark} has {:?}", head.all("x-forwarded-proto")));
    }
    for name in ["via", "forwarded", "x-request-id", "x-request-start", "x-forwarded-host"] {
        let is_due = name != "x-forwarded-host" || !request.host.is_empty();
        if is_due && head.all(name).is_empty() {
            return Err(format!("{mark} arrived without {name}"));
        }
    }
    if !head.one("x-request-start")?.is_some_and(|start| start.starts_with("t=") && start != "t=1")
    {
        return Err(format!("{mark} has {:?}", head.all("x-request-start")));
    }
    Ok(())
}

/// Nobody works for a client that is known to have left.
fn check_presence(request: &Request, now: Instant, links: &[Link]) -> Result<(), String> {
    let gone = request.client.and_then(|no| links[no].gone_at);
    match gone.filter(|gone| *gone < now) {
        Some(gone) => Err(format!("{} arrived though its client left at {gone:?}", request.mark)),
        None => Ok(()),
    }
}

/// A request may arrive again only if the connection it went to failed without a byte of an
/// answer, and a repetition does no harm; and then once.
fn check_repeat(request: &Request, links: &[Link]) -> Result<(), String> {
    let mark = request.mark;
    let Some(before) = request.attempts.last() else { return Ok(()) };
    if request.attempts.len() > 1 {
        return Err(format!("{mark} arrived a third time"));
    }
    if !request.is_idempotent() {
        return Err(format!("{mark} arrived twice although it is a {}", request.method));
    }
    let link = &links[before.link];
    if link.up.left > before.from {
        return Err(format!("{mark} was sent again although an answer had begun"));
    }
    // The end of a worker is told by others too.
    let is_dismissed = request.place == Place::Pool(POOL_WORK) && link.is_peer_gone;
    if !(link.has_ended || link.is_broken || link.is_unwritable || is_dismissed) {
        return Err(format!("{mark} was sent again although its connection lives"));
    }
    Ok(())
}
