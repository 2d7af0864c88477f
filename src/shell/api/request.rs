//! What a request asks for: method, path and query to an [`Ask`], strictly. A parameter that means
//! nothing is refused, not ignored.

use super::{Ask, EVENTS_MAX, PAUSE_MAX};
use crate::machine::pool::seam::Verb;
use hyper::StatusCode;
use std::str::FromStr;

/// Longer than any name that a configuration may give.
const NAME_SIZE_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    One(Ask),
    /// Events from now on, after those that were later than this.
    Follow {
        after: Option<u64>,
    },
}

/// An answer of 4xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: String,
    /// The method that the path has, where another was used.
    pub(super) allow: Option<&'static str>,
}

pub(super) fn read(method: &str, target: &str) -> Result<Wish, Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segments = segments(path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let mut query = Query::read(query)?;
    let (allowed, wish) = match *segments {
        ["status"] => ("GET", Wish::One(Ask::Status)),
        ["pools"] => ("GET", Wish::One(Ask::Pools)),
        ["workers"] => ("GET", Wish::One(Ask::Workers { pool: query.name("pool")? })),
        ["orphans"] => ("GET", Wish::One(Ask::Orphans)),
        ["requests"] => ("GET", requests(&mut query)?),
        ["events"] => ("GET", events(&mut query)?),
        ["reload"] => ("POST", Wish::One(Ask::Reload)),
        ["pools", pool, verb] => ("POST", verb_of(pool, verb, path, &mut query)?),
        ["orphans", pid, "end"] => ("POST", Wish::One(Ask::EndOrphan { pid: pid_of(pid)? })),
        _ => return Err(nothing(path)),
    };
    if method != allowed {
        let why = format!("{path} is asked with {allowed}");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal { status, why, allow: Some(allowed) });
    }
    query.end()?;
    Ok(wish)
}

fn requests(query: &mut Query) -> Result<Wish, Refusal> {
    let pool = query.name("pool")?;
    let older_ms = query.number("older_ms")?.unwrap_or(0);
    Ok(Wish::One(Ask::Requests { pool, older_ms }))
}

fn events(query: &mut Query) -> Result<Wish, Refusal> {
    let after = query.number("after")?;
    match query.take("follow").as_deref() {
        Some("true") => return Ok(Wish::Follow { after }),
        None | Some("false") => {}
        Some(_) => return Err(bad("follow: write true or false")),
    }
    let limit = query.number("limit")?.unwrap_or(EVENTS_MAX);
    let limit = limit.min(EVENTS_MAX);
    Ok(Wish::One(Ask::Events { after: after.unwrap_or(0), limit }))
}

fn verb_of(pool: &str, word: &str, path: &str, query: &mut Query) -> Result<Wish, Refusal> {
    let verb = match word {
        "recycle" => Verb::Recycle,
        "stop" => Verb::Stop,
        "start" => Verb::Start,
        "pause" => Verb::Pause { limit: query.number("max")?.unwrap_or(PAUSE_MAX) },
        "resume" => Verb::Resume,
        _ => return Err(nothing(path)),
    };
    Ok(Wish::One(Ask::Verb { pool: name_of(pool)?, verb }))
}

fn pid_of(text: &str) -> Result<i32, Refusal> {
    text.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| bad("a process id is a number above 0"))
}

fn name_of(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.len() > NAME_SIZE_MAX || text.contains(char::is_control) {
        return Err(bad("that is no name of a pool"));
    }
    Ok(text.to_owned())
}

fn nothing(path: &str) -> Refusal {
    let why = format!("there is no {path}; docs/control.md has the paths");
    Refusal { status: StatusCode::NOT_FOUND, why, allow: None }
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, why: why.into(), allow: None }
}

/// Split before they are decoded, so that a name may contain a slash.
fn segments(path: &str) -> Result<Vec<String>, Refusal> {
    let inner = path.strip_prefix("/v1/").ok_or_else(|| nothing(path))?;
    inner.split('/').map(decode).collect()
}

/// Percent-encoding, RFC 3986 section 2.1; a plus is a plus.
fn decode(text: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or(u8::MAX),
                _ => return Err(bad("broken percent-encoding")),
            },
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad("not UTF-8"))
}

/// Parameters that nobody has taken yet.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str) -> Result<Self, Refusal> {
        let mut found: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if found.iter().any(|(other, _)| *other == name) {
                return Err(bad(format!("{name} is given twice")));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn name(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        self.take(name).map(|value| name_of(&value)).transpose()
    }

    fn number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        let number = |value: String| value.parse().map_err(|_| bad(format!("{name}: no number")));
        self.take(name).map(number).transpose()
    }

    fn end(self) -> Result<(), Refusal> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(bad(format!("{name} means nothing here"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(method: &str, target: &str) -> Ask {
        match read(method, target) {
            Ok(Wish::One(ask)) => ask,
            other => panic!("{method} {target}: {other:?}"),
        }
    }

    fn verb(target: &str) -> (String, Verb) {
        match one("POST", target) {
            Ask::Verb { pool, verb } => (pool, verb),
            other => panic!("{target}: {other:?}"),
        }
    }

    #[test]
    fn every_path_is_read() {
        assert_eq!(one("GET", "/v1/status"), Ask::Status);
        assert_eq!(one("GET", "/v1/pools"), Ask::Pools);
        assert_eq!(one("GET", "/v1/workers"), Ask::Workers { pool: None });
        let pool = Some("a/b ü".to_owned());
        assert_eq!(one("GET", "/v1/workers?pool=a%2Fb%20%C3%BC"), Ask::Workers { pool });
        assert_eq!(one("GET", "/v1/orphans"), Ask::Orphans);
        let pool = Some("shop".to_owned());
        let requests = one("GET", "/v1/requests?older_ms=5000&pool=shop");
        assert_eq!(requests, Ask::Requests { pool, older_ms: 5000 });
        assert_eq!(one("GET", "/v1/requests"), Ask::Requests { pool: None, older_ms: 0 });
        assert_eq!(one("GET", "/v1/events"), Ask::Events { after: 0, limit: EVENTS_MAX });
        let limited = one("GET", "/v1/events?limit=9&after=7&follow=false");
        assert_eq!(limited, Ask::Events { after: 7, limit: 9 });
        let most = one("GET", "/v1/events?limit=999999");
        assert_eq!(most, Ask::Events { after: 0, limit: EVENTS_MAX });
        assert_eq!(read("GET", "/v1/events?follow=true"), Ok(Wish::Follow { after: None }));
        let after = Some(3);
        assert_eq!(read("GET", "/v1/events?follow=true&after=3"), Ok(Wish::Follow { after }));
        assert_eq!(one("POST", "/v1/reload"), Ask::Reload);
        assert_eq!(one("POST", "/v1/orphans/17/end"), Ask::EndOrphan { pid: 17 });
    }

    #[test]
    fn every_verb_is_read() {
        let shop = || "shop".to_owned();
        assert_eq!(verb("/v1/pools/shop/recycle"), (shop(), Verb::Recycle));
        assert_eq!(verb("/v1/pools/shop/stop"), (shop(), Verb::Stop));
        assert_eq!(verb("/v1/pools/shop/start"), (shop(), Verb::Start));
        assert_eq!(verb("/v1/pools/shop/resume"), (shop(), Verb::Resume));
        assert_eq!(verb("/v1/pools/shop/pause?max=5"), (shop(), Verb::Pause { limit: 5 }));
        assert_eq!(verb("/v1/pools/a%2Fb/pause"), ("a/b".into(), Verb::Pause { limit: PAUSE_MAX }));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (method, target, status) in [
            ("GET", "/", 404),
            ("GET", "/v1", 404),
            ("GET", "/v2/status", 404),
            ("GET", "/v1/status/", 404),
            ("GET", "/v1/nothing", 404),
            ("POST", "/v1/pools/shop/explode", 404),
            ("POST", "/v1/orphans/17/kill", 404),
            ("HEAD", "/v1/status", 405),
            ("DELETE", "/v1/pools/shop/stop", 405),
            ("GET", "/v1/pools/shop/stop", 405),
            ("POST", "/v1/status", 405),
            ("GET", "/v1/status?x=1", 400),
            ("GET", "/v1/workers?pool=", 400),
            ("GET", "/v1/workers?pool=a&pool=b", 400),
            ("GET", "/v1/workers?pool=%zz", 400),
            ("GET", "/v1/workers?pool=%f", 400),
            ("GET", "/v1/workers?pool=%ff", 400),
            ("GET", "/v1/workers?pool=a%00", 400),
            ("GET", "/v1/requests?older_ms=5s", 400),
            ("GET", "/v1/requests?older_ms=-1", 400),
            ("GET", "/v1/events?after=99999999999999999999999", 400),
            ("GET", "/v1/events?follow=yes", 400),
            ("GET", "/v1/events?follow=true&limit=3", 400),
            ("POST", "/v1/pools//stop", 400),
            ("POST", "/v1/pools/shop/stop?max=3", 400),
            ("POST", "/v1/pools/shop/pause?max=4294967296", 400),
            ("POST", "/v1/orphans/0/end", 400),
            ("POST", "/v1/orphans/-3/end", 400),
            ("POST", "/v1/orphans/99999999999/end", 400),
        ] {
            let refusal = read(method, target).unwrap_err();
            assert_eq!(refusal.status.as_u16(), status, "{method} {target}: {}", refusal.why);
            assert_eq!(refusal.allow.is_some(), status == 405);
        }
        let long = format!("/v1/workers?pool={}", "a".repeat(NAME_SIZE_MAX + 1));
        assert_eq!(read("GET", &long).unwrap_err().status, 400);
    }
}
