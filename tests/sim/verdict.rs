//! The last word: what must hold at any moment, and what may not be missing when all is over.

use super::act::{Attempt, Leave};
use super::client::{Client, Pace};
use super::engine::{Engine, RECEIVE_SIZE_MAX};
use super::ledger::Ledger;
use super::link::{Link, Phase, Side};
use super::machine::Machine;
use super::oracle::in_time;
use super::request::Request;
use super::setting::{IDLE_TIMEOUT, LATENESS_MAX, POOL_APP, POOL_WORK, Place};
use lychgate::base::limits::AHEAD_SIZE_MAX;
use lychgate::machine::listener::seam::Ending;
use std::collections::BTreeMap;
use std::time::Duration;

/// What must hold at any moment: nobody waits longer than the longest way through all limits.
pub(crate) fn watch<M: Machine>(engine: &Engine<M>) -> Result<(), String> {
    let now = engine.now;
    for no in engine.open() {
        let link = &engine.links[no];
        let Side::Client = link.side else { continue };
        let is_busy_with_us = link.backlog.is_empty() && link.down.queue.is_empty();
        let still = now.since(link.active_at);
        if link.phase == Phase::Open && is_busy_with_us && still > STILL_MAX {
            return Err(format!("nothing happened on link {no} for {still:?}"));
        }
    }
    Ok(())
}

/// How much of a client's stream may be taken by now: the request whose turn it is, and ahead of
/// it what the limit allows and one turn brings.
pub(crate) fn ahead_limit(client: &Client, ledger: &Ledger) -> u64 {
    let mut turn = client.answers;
    for (index, mark) in client.marks.iter().enumerate() {
        let request = &ledger.requests[mark];
        let is_relayed = request.is_sound() && matches!(request.place, Place::Pool(POOL_APP));
        if !is_relayed {
            // Answered without a trace at any server: nothing is known from here on.
            return u64::MAX;
        }
        if !request.attempts.is_empty() {
            turn = turn.max(index + 1);
        }
    }
    let last = client.marks.len() - 1;
    let end = ledger.requests[&client.marks[turn.min(last)]].end();
    end + (AHEAD_SIZE_MAX + 4 * RECEIVE_SIZE_MAX) as u64
}

/// Two tries to connect and to be answered, and a linger; and in the queue of the garden, at first
/// and after each worker that was lost.
const STILL_MAX: Duration = Duration::from_secs(2 + 8 + 5 + 1 + 12);

/// All is over: every request got an answer, or there is a reason why not.
pub(crate) fn conclude(
    client: &Client,
    link: &Link,
    links: &[Link],
    ledger: &mut Ledger,
) -> Result<(), String> {
    check_end(client, link, ledger)?;
    if client.answers >= client.marks.len() || client.is_over {
        return Ok(());
    }
    let mark = client.marks[client.answers];
    let request = &ledger.requests[&mark];
    let reason = excuse(client, request, link, links, ledger);
    let Some(reason) = reason else {
        return Err(format!(
            "{mark} (fault {:?}, keeps {}, HTTP/1.0 {}) was never answered: delivered {} of {}..{} answer bytes {}, ended {:?}, {:?}",
            request.fault.map(|fault| fault.name),
            request.keeps,
            request.is_http10,
            link.up.left,
            request.start,
            request.end(),
            client.read,
            link.ordered,
            request.attempts
        ));
    };
    ledger.cover.note(reason);
    Ok(())
}

/// A connection that was ended without anything having happened on it idled long enough for it.
fn check_end(client: &Client, link: &Link, ledger: &mut Ledger) -> Result<(), String> {
    let Some((ended, Ending::Now)) = link.ordered else { return Ok(()) };
    let is_plain = client.pace == Pace::Brisk && !client.is_tunnel && client.mouth.planned < 4_000;
    if !is_plain || link.has_ended || link.is_broken || link.is_unwritable {
        return Ok(());
    }
    ledger.cover.note("idle connection ended in time");
    let since = link.said_at(link.said_size).max(link.made_at);
    in_time("idle time", ended.since(since.max(link.told_before(ended))), IDLE_TIMEOUT)
}

fn excuse(
    client: &Client,
    request: &Request,
    link: &Link,
    links: &[Link],
    ledger: &Ledger,
) -> Option<&'static str> {
    let (ended, how) = link.ordered?;
    if client.left.is_some_and(|(left, how)| left <= ended || how != Leave::Fin) {
        return Some("unanswered: the client left");
    }
    if matches!(client.pace, Pace::Stops(_)) {
        return Some("unanswered: the client does not read");
    }
    let is_draining = ledger.drained_at.is_some_and(|at| at <= ended);
    let delivered = link.up.left;
    let idle = ended.since(link.said_at(link.said_size).max(link.made_at));
    if delivered <= request.start {
        // Nothing of it was seen: the machine ended an idle connection.
        if is_draining {
            return Some("unanswered: drained before it came");
        }
        if idle + LATENESS_MAX >= IDLE_TIMEOUT {
            return Some("unanswered: idle too long before it came");
        }
        return None;
    }
    if request.stall.is_some() {
        return Some("unanswered: too slow");
    }
    if delivered < request.start + request.head_size as u64 {
        return is_draining.then_some("unanswered: drained in its head");
    }
    if is_draining && request.attempts.is_empty() {
        return Some("unanswered: drained before its turn");
    }
    if how == Ending::Reset && ledger.setting.resets {
        // The reset overtakes answers to what came before.
        let is_turned_down = |mark: &u32| {
            let asked = &ledger.requests[mark];
            let since = link.heard_at(asked.start);
            asked.place == Place::Pool(POOL_WORK) && ledger.may_turn_down(since, ended)
        };
        if client.marks[client.answers..].iter().any(is_turned_down) {
            return Some("unanswered: turned down by reset");
        }
    }
    if how == Ending::Reset {
        if request.attempts.last().is_some_and(|attempt| is_cut(attempt, links)) {
            return Some("unanswered: its answer was cut");
        }
        let later = client.marks[client.answers..].iter().map(|mark| &ledger.requests[mark]);
        let mut attempts = later.filter_map(|request| request.attempts.last());
        if attempts.any(|attempt| is_cut(attempt, links)) {
            return Some("unanswered: the reset that cut a later answer overtook it");
        }
    }
    let went_on = |mark: &u32| {
        let asked = &ledger.requests[mark];
        !asked.keeps && delivered > asked.start && client.mouth.said > asked.end()
    };
    if link.down.is_reset && client.marks[client.answers..].iter().any(went_on) {
        // RFC 9112 section 9.6: the client must not, and has its answer reset away.
        return Some("unanswered: the client went on after asking to close");
    }
    if is_draining && how == Ending::Flushed && link.down.is_reset {
        return Some("unanswered: drained, and reset by the next request");
    }
    None
}

/// The answer began and its end never reached the machine.
fn is_cut(attempt: &Attempt, links: &[Link]) -> bool {
    let source = &links[attempt.link];
    let is_given = attempt.to.is_some_and(|to| source.up.left >= to)
        && (!attempt.needs_fin || source.has_ended);
    source.up.left > attempt.from && !is_given
}

/// Every request that reached a server has one line in the access log, and none has two.
pub(crate) fn check_log(log: &[u8], ledger: &Ledger) -> Result<(), String> {
    let text = core::str::from_utf8(log).map_err(|_| String::from("the access log is no text"))?;
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    for line in text.lines() {
        // Targets of requests with a mark end their path with it.
        let Some((_, rest)) = ["/app/m", "/one/m", "/work/m", "/nothing/m"]
            .iter()
            .find_map(|path| line.split_once(path))
        else {
            continue;
        };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(mark) = digits.parse() {
            *counts.entry(mark).or_insert(0) += 1;
        }
    }
    for (mark, request) in &ledger.requests {
        let count = counts.get(mark).copied().unwrap_or(0);
        if count > 1 || (count == 0 && !request.attempts.is_empty()) {
            return Err(format!("{mark} stands {count} times in the access log"));
        }
    }
    Ok(())
}
