//! The judge: what may come back to a client, when, and what may not be missing at the end.

use super::act::{Act, Answer, Attempt, fields, salt};
use super::chance::is_body;
use super::client::{Client, Pace};
use super::ledger::Ledger;
use super::link::Link;
use super::parse::{Framing, Head};
use super::request::{Body, Request, Spoilt, Stall};
use super::setting::{
    BODY_TIMEOUT, CONNECT_TIMEOUT, HEAD_TIMEOUT, LATENESS_MAX, POOL_ONE, POOL_WORK, Place,
    RESPONSE_TIMEOUT,
};
use lychgate::base::time::{Instant, nanos};
use std::time::Duration;

/// An answer of which the head was read.
#[derive(Debug)]
pub(crate) struct Pending {
    mark: u32,
    /// The server's attempt that it came from; `None` is an answer of the machine's own.
    attempt: Option<usize>,
    status: u16,
    got: u64,
    /// Of an answer of the machine's own.
    text: Vec<u8>,
    /// When the request came and when its answer was said.
    since: Instant,
    said: Instant,
    pub(crate) is_interim: bool,
    /// No other answer may follow on this connection.
    pub(crate) is_last: bool,
}

impl Pending {
    pub(crate) fn grow(&mut self, bytes: &[u8]) -> Result<(), String> {
        if let Some(attempt) = self.attempt
            && !is_body(salt(self.mark, attempt), self.got, bytes)
        {
            return Err(format!("the answer to {} changed on its way", self.mark));
        }
        if self.attempt.is_none() {
            self.text.extend_from_slice(bytes);
        }
        self.got += bytes.len() as u64;
        Ok(())
    }

    /// The answer is whole, as far as the client can tell.
    pub(crate) fn finish(&self, ledger: &mut Ledger) -> Result<(), String> {
        let mark = self.mark;
        let request = ledger.requests.get(&mark).ok_or("an answer to nothing")?;
        let Some(attempt) = self.attempt else {
            if self.got == 0 && request.method != "HEAD" {
                return Err(format!("error {} to {mark} has no text", self.status));
            }
            ledger.cover.note(own_word(self.status));
            if self.status == 503 && request.place == Place::Pool(POOL_WORK) && self.got > 0 {
                return self.check_word(ledger);
            }
            return Ok(());
        };
        let Act::Answer(answer) = &request.acts[attempt.min(1)] else {
            return Err(format!("{mark} got an answer that no server gave"));
        };
        let size = answer.body_size(request.method) as u64;
        if self.got != size {
            return Err(format!(
                "the answer to {mark} looks whole with {} of {size} bytes (cut {:?})",
                self.got, answer.cut
            ));
        }
        ledger.cover.note("server's answer came whole");
        Ok(())
    }
}

impl Pending {
    /// The garden turned the request down, and the reason it gives is true.
    fn check_word(&self, ledger: &mut Ledger) -> Result<(), String> {
        let text = String::from_utf8_lossy(&self.text);
        let word = text.lines().next().and_then(|line| line.strip_prefix("503 ")).unwrap_or("");
        if !ledger.may_say(word, self.since, self.said) {
            return Err(format!("{} was turned down: {word}, which is not so", self.mark));
        }
        ledger.cover.note(match word {
            "queue-full" => "queue-full",
            "queue-timeout" => "queue-timeout",
            _ => "pool-stopped",
        });
        Ok(())
    }
}

fn own_word(status: u16) -> &'static str {
    match status {
        400 => "own 400",
        404 => "own 404",
        408 => "own 408",
        413 => "own 413",
        414 => "own 414",
        421 => "own 421",
        431 => "own 431",
        501 => "own 501",
        502 => "own 502",
        503 => "own 503",
        504 => "own 504",
        505 => "own 505",
        _ => "own other",
    }
}

/// Judges the head of an answer and says how long the answer is.
pub(crate) fn begin(
    client: &mut Client,
    head: &Head,
    link: &Link,
    links: &[Link],
    ledger: &mut Ledger,
) -> Result<Framing, String> {
    let index = client.answers;
    if client.is_over {
        return Err(format!("an answer after the last one: {:?}", head.line));
    }
    let status = status_of(&head.line)?;
    let Some(mark) = client.marks.get(index).copied() else {
        return begin_idle(client, head, status);
    };
    let request = ledger.requests.get(&mark).ok_or("an answer to nothing")?;
    let attempt = attempt_of(request, head, status)?;
    check_hop(head, status)?;
    if (100..200).contains(&status) && status != 101 {
        let word = begin_interim(client, request, status, attempt)?;
        ledger.cover.note(word);
        return Ok(Framing::Length(0));
    }
    let is_last = check_persistence(request, head, status)?;
    match attempt {
        Some(attempt) => check_answer(request, attempt, head, status)?,
        None => {
            check_own(client, request, status, head, link, links, ledger)
                .map_err(|why| format!("{mark} got {status}: {why}"))?;
        }
    }
    let framing = framing_of(request, head, status)?;
    if attempt.is_some_and(|attempt| !request.attempts[attempt].is_whole) {
        ledger.cover.note("early answer came");
    }
    let request = &ledger.requests[&mark];
    let fault = request.fault.map(|fault| fault.name);
    if let Some(name) = fault {
        ledger.cover.note(name);
    }
    client.pending = Some(Pending {
        mark,
        attempt,
        status,
        got: 0,
        text: Vec::new(),
        since: link.heard_at(request.start),
        said: link.said_at(head.start),
        is_interim: false,
        is_last: is_last || framing == Framing::UntilClose,
    });
    Ok(framing)
}

/// Only a connection that idled or dawdled may be told something it did not ask.
fn begin_idle(client: &mut Client, head: &Head, status: u16) -> Result<Framing, String> {
    // What was meant for a tunnel that was refused is no request.
    let is_refused = client.ahead > 0 && !client.is_tunnel && status >= 400;
    if (status != 408 && !is_refused) || !head.lists("connection", "close") {
        return Err(format!("an answer that nobody asked for: {:?}", head.line));
    }
    client.is_over = true;
    client.pending = Some(Pending {
        mark: 0,
        attempt: None,
        status,
        got: 0,
        text: Vec::new(),
        since: Instant(0),
        said: Instant(0),
        is_interim: true,
        is_last: true,
    });
    Ok(head.framing()?.unwrap_or(Framing::UntilClose))
}

fn begin_interim(
    client: &mut Client,
    request: &Request,
    status: u16,
    attempt: Option<usize>,
) -> Result<&'static str, String> {
    if request.is_http10 {
        return Err(format!("{} is HTTP/1.0 and got {status}", request.mark));
    }
    if status == 100 {
        if !request.expects {
            return Err(format!("{} got 100 without asking", request.mark));
        }
        client.note_continue();
    } else if attempt.is_none() {
        return Err(format!("{} got a {status} that no server said", request.mark));
    }
    client.pending = Some(Pending {
        mark: request.mark,
        attempt,
        status,
        got: 0,
        text: Vec::new(),
        since: Instant(0),
        said: Instant(0),
        is_interim: true,
        is_last: false,
    });
    Ok(if status == 100 { "100 came" } else { "other 1xx came" })
}

fn status_of(line: &str) -> Result<u16, String> {
    let mut words = line.splitn(3, ' ');
    let (version, status) = (words.next(), words.next().unwrap_or_default());
    if version != Some("HTTP/1.1") || status.len() != 3 || words.next().is_none() {
        return Err(format!("status line {line:?}"));
    }
    status.parse().map_err(|_| format!("status line {line:?}"))
}

/// Which of a server's answers to this request it is.
fn attempt_of(request: &Request, head: &Head, status: u16) -> Result<Option<usize>, String> {
    let Some(answer) = head.one("x-answer")? else { return Ok(None) };
    let mark = request.mark;
    let (of, attempt) = answer.split_once('.').unwrap_or((answer, ""));
    if of != mark.to_string() {
        return Err(format!("{mark} got the answer {answer} ({status})"));
    }
    let attempt = attempt.parse::<usize>().map_err(|_| format!("answer {answer}"))?;
    if attempt + 1 != request.attempts.len() {
        return Err(format!("{mark} got answer {answer} of {} attempts", request.attempts.len()));
    }
    Ok(Some(attempt))
}

fn check_hop(head: &Head, status: u16) -> Result<(), String> {
    for name in ["x-shop", "keep-alive", "proxy-connection", "te"] {
        if !head.all(name).is_empty() {
            return Err(format!("{name} crossed in {:?}", head.line));
        }
    }
    if head.lists("connection", "x-shop") {
        return Err(String::from("X-Shop crossed in Connection"));
    }
    if (status == 101) != head.lists("connection", "upgrade") {
        return Err(format!("Connection: {:?} with {status}", head.all("connection")));
    }
    Ok(())
}

/// Whether the answer is the last; it must be where the client asked for it.
fn check_persistence(request: &Request, head: &Head, status: u16) -> Result<bool, String> {
    let closes = head.lists("connection", "close");
    let keeps = head.lists("connection", "keep-alive");
    if closes && keeps {
        return Err(String::from("Connection: close, keep-alive"));
    }
    if status == 101 {
        return Ok(true);
    }
    let is_last = if request.is_http10 { !keeps } else { closes };
    if !request.keeps && !is_last && request.fault.is_none() {
        return Err(format!("{} asked to close and was not heard", request.mark));
    }
    if request.fault.is_some() && !closes {
        return Err(format!("{} is malformed, the connection stays: {head:?}", request.mark));
    }
    Ok(is_last)
}

fn framing_of(request: &Request, head: &Head, status: u16) -> Result<Framing, String> {
    let framing = head.framing()?;
    if status == 101 {
        return Ok(Framing::Tunnel);
    }
    if request.is_http10 && framing == Some(Framing::Chunked) {
        return Err(format!("{} is HTTP/1.0 and got chunks", request.mark));
    }
    if status == 204 && framing.is_some() {
        return Err(format!("204 with {framing:?}"));
    }
    if request.method == "HEAD" && request.fault.is_none() || matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    Ok(framing.unwrap_or(Framing::UntilClose))
}

/// A server's answer is the one it gave.
fn check_answer(request: &Request, attempt: usize, head: &Head, status: u16) -> Result<(), String> {
    let mark = request.mark;
    let expected = match &request.acts[attempt.min(1)] {
        Act::Answer(answer) => answer.status,
        Act::Upgrade => 101,
        other => return Err(format!("{mark} got {status} where the server does {other:?}")),
    };
    if status != expected {
        return Err(format!("{mark} got {status} for {expected}"));
    }
    if status == 101 {
        return Ok(());
    }
    let known = fields(mark, attempt);
    let is_known = |field: &&(String, String)| {
        known.iter().any(|(name, _)| name.eq_ignore_ascii_case(&field.0))
    };
    let ours = head.fields.iter().filter(is_known).map(|(name, value)| (&name[..], &value[..]));
    if !ours.eq(known.iter().map(|(name, value)| (*name, &value[..]))) {
        return Err(format!("{mark} got {head:?} for {known:?}"));
    }
    Ok(())
}

/// An answer of the machine's own must have its reason.
fn check_own(
    client: &Client,
    request: &Request,
    status: u16,
    head: &Head,
    link: &Link,
    links: &[Link],
    ledger: &Ledger,
) -> Result<(), String> {
    let said = link.said_at(head.start);
    if let Some(fault) = request.fault {
        let is_right = fault.statuses.contains(&status);
        let is_slow = status == 408;
        return right(is_right || is_slow, fault.name);
    }
    let pool = if let Place::Pool(pool) = request.place { Some(pool) } else { None };
    // What went wrong before it came is no reason.
    let (since, last) = (link.heard_at(request.start), request.attempts.last());
    match status {
        400 => right(request.spoilt == Some(Spoilt::BadChunk), "nothing is wrong with it"),
        404 if request.place == Place::NoHost => {
            right(!ledger.setting.is_misdirected, "the host is unknown")
        }
        404 => right(request.place == Place::NoPath, "it has a route"),
        421 => right(
            request.place == Place::NoHost && ledger.setting.is_misdirected,
            "it is in the right place",
        ),
        408 => check_slow(client, request, head, link),
        413 => right(
            matches!(request.spoilt, Some(Spoilt::TooLong | Spoilt::TooMuch)),
            "it is not too large",
        ),
        502 => {
            let is_refused = pool.is_some_and(|pool| {
                let is_gone = last.is_some_and(|attempt| ledger.was_death(attempt.at));
                ledger.was_refused(pool, since) || (pool == POOL_WORK && is_gone)
            });
            let is_lost = last.is_some_and(|attempt| is_lost(attempt, request, links));
            check_given_up(request, links, is_refused)?;
            right(is_refused || is_lost, "no server failed")
        }
        503 => {
            let is_sick = !ledger.sick.is_empty() || ledger.was_refused(POOL_ONE, Instant(0));
            let is_down = pool == Some(POOL_ONE) && ledger.setting.has_check && is_sick;
            let is_absent = pool == Some(POOL_WORK) && ledger.may_turn_down(since, said);
            right(is_down || is_absent, "there was a server, and room")
        }
        504 => check_late(request, said, pool, link, links, ledger),
        _ => Err(String::from("that is no answer of ours")),
    }
}

fn right(is_right: bool, why: &str) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(String::from(why)) }
}

/// The server failed this request: its answer did not reach the machine whole.
fn is_lost(attempt: &Attempt, request: &Request, links: &[Link]) -> bool {
    let link = &links[attempt.link];
    let is_given = attempt.to.is_some_and(|to| link.up.left >= to);
    let is_ended = link.has_ended || link.is_broken || link.is_unwritable;
    let is_act_bad = !matches!(
        request.acts[request.attempts.len().saturating_sub(1).min(1)],
        Act::Answer(Answer { cut: None, .. }) | Act::Upgrade
    );
    attempt.is_bad || is_act_bad || (is_ended && !is_given)
}

/// A stale connection is no reason to fail a request that may be repeated.
fn check_given_up(request: &Request, links: &[Link], is_refused: bool) -> Result<(), String> {
    let [only] = &request.attempts[..] else { return Ok(()) };
    let link = &links[only.link];
    let is_untouched = link.up.left <= only.from;
    let may_repeat = request.is_idempotent() && request.body == Body::None && !request.is_upgrade;
    if only.is_reused && is_untouched && may_repeat && !is_refused {
        return Err(String::from("its connection was stale, and it was not sent again"));
    }
    Ok(())
}

fn check_slow(client: &Client, request: &Request, head: &Head, link: &Link) -> Result<(), String> {
    let said = link.said_at(head.start);
    let taken = link.taken_by(said);
    if taken <= request.start {
        return Err(String::from("nothing of it had come"));
    }
    let begun = link.heard_at(request.start);
    if taken < request.start + request.head_size as u64 {
        // Sent ahead, it waits for its turn before it is late.
        let turn = head.start.checked_sub(1).map_or(Instant(0), |end| link.said_at(end));
        right(request.stall == Some(Stall::Head), "its head was not slow")?;
        return in_time(
            "head",
            said.since(begun.max(turn).max(link.told_before(said))),
            HEAD_TIMEOUT,
        );
    }
    let heard = link.heard.iter().rev().find(|(_, at)| *at < said);
    let waited = said.since(heard.map_or(begun, |(_, at)| *at));
    right(waited >= BODY_TIMEOUT, "it was not slow")?;
    let is_held = request.wire.len() > SMALL || client.pace != Pace::Brisk;
    let Some(attempt) = request.attempts.last().filter(|_| !is_held) else { return Ok(()) };
    // A connection to the server comes first.
    in_time("body", waited.min(said.since(attempt.last)), BODY_TIMEOUT)
}

/// Requests of this size fit into every buffer.
const SMALL: usize = 300;

/// A wait ended when its time was over, neither earlier nor much later.
pub(crate) fn in_time(what: &str, waited: Duration, limit: Duration) -> Result<(), String> {
    if waited < limit || waited > limit + LATENESS_MAX {
        return Err(format!("the {what} may take {limit:?}, and ended after {waited:?}"));
    }
    Ok(())
}

/// 504 comes when the time is over, not before and not much later.
fn check_late(
    request: &Request,
    said: Instant,
    pool: Option<usize>,
    link: &Link,
    links: &[Link],
    ledger: &Ledger,
) -> Result<(), String> {
    let begun = link.heard_at(request.start);
    let since = request.attempts.last().map_or(begun, |attempt| attempt.at);
    // Connections that never came about are late after another limit.
    if pool.is_some_and(|pool| ledger.was_refused(pool, since)) {
        return right(said.0 >= nanos(CONNECT_TIMEOUT), "no connection was late");
    }
    let Some(attempt) = request.attempts.last() else {
        return Err(String::from("nobody was late"));
    };
    let source = &links[attempt.link];
    let heard = source.heard.last().map_or(attempt.last, |(_, at)| *at);
    // Parts of a head do not prolong the wait for it; a whole interim answer does.
    let asked = attempt.last.max(link.told_before(said)).max(source.told_before(said));
    let longest = said.since(asked);
    let shortest = said.since(asked.max(heard));
    if request.wire.len() > SMALL {
        return right(said >= attempt.at + RESPONSE_TIMEOUT, "the server was not late");
    }
    in_time("response", longest.min(shortest.max(RESPONSE_TIMEOUT)), RESPONSE_TIMEOUT)
}
