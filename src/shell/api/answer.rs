//! Answers as HTTP: a status, one JSON value, and nothing in it that a terminal would obey.

use super::follow::Follow;
use super::request::Refusal;
use super::{Answer, Line};
use crate::shell::api::Ask;
use crate::shell::view::Problem;
use crate::shell::visible::is_hidden;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::ser::Formatter;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// What is sent: one value, or events without end.
#[derive(Debug)]
pub(super) enum Body {
    Whole(Option<Bytes>),
    Follow(Box<Follow>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Follow(follow) => {
                follow.poll_lines(context).map(|lines| lines.map(|lines| Ok(Frame::data(lines))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Follow(_) => SizeHint::default(),
        }
    }
}

/// Asks the supervisor. The error is the answer already.
pub(super) async fn of(line: &Line, limit: Duration, ask: Ask) -> Result<Answer, Response<Body>> {
    const BUSY: &str = "the supervisor has too much to answer, or is ending. Try again";
    let Some(reply) = line.ask(ask) else {
        return Err(problem(StatusCode::SERVICE_UNAVAILABLE, BUSY));
    };
    match timeout(limit, reply).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(problem(StatusCode::SERVICE_UNAVAILABLE, BUSY)),
        Err(_) => {
            let why =
                format!("the supervisor did not answer within {limit:?}. Its log may say why");
            Err(problem(StatusCode::GATEWAY_TIMEOUT, &why))
        }
    }
}

pub(super) fn show(answer: Answer) -> Response<Body> {
    match answer {
        Answer::Status(status) => json(StatusCode::OK, &status),
        Answer::Pools(pools) => json(StatusCode::OK, &pools),
        Answer::Workers(workers) => json(StatusCode::OK, &workers),
        Answer::Requests(requests) => json(StatusCode::OK, &requests),
        Answer::Events(events) => json(StatusCode::OK, &events),
        Answer::Done(outcome) => json(StatusCode::OK, &outcome),
        Answer::NotFound(why) => problem(StatusCode::NOT_FOUND, &why),
        Answer::Conflict(why) => problem(StatusCode::CONFLICT, &why),
        Answer::Unavailable(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
        Answer::Follow(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the supervisor answered something else. Please report it",
        ),
    }
}

pub(super) fn follow(follow: Follow) -> Response<Body> {
    whole(StatusCode::OK, "application/x-ndjson", Body::Follow(Box::new(follow)))
}

pub(super) fn refuse(refusal: &Refusal) -> Response<Body> {
    let mut response = problem(refusal.status, &refusal.why);
    if let Some(method) = refusal.allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    }
    response
}

pub(super) fn problem(status: StatusCode, why: &str) -> Response<Body> {
    json(status, &Problem { error: why.to_owned() })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let body = Body::Whole(Some(line_of(value).into()));
    whole(status, "application/json", body)
}

fn whole(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One value on one line, ended.
pub(super) fn line_of(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut line, Visible));
    // Our own rows have neither maps with odd keys nor fallible parts.
    debug_assert!(written.is_ok());
    line.push(b'\n');
    line
}

/// Escapes what a terminal would obey, and leaves everything else as it is usual.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hidden) {
            let (plain, hidden) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let letter = hidden.chars().next().unwrap_or_default();
            for unit in letter.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &hidden[letter.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_means_the_same_and_moves_no_cursor() {
        let nasty = "a\"\\\n\u{1b}[2J\u{7f}\u{9b}ü\u{202e}\u{e0001}𝄞";
        let line = line_of(&Problem { error: nasty.to_owned() });
        let text = std::str::from_utf8(&line).unwrap();
        assert!(!text.trim_end_matches('\n').chars().any(is_hidden), "{text:?}");
        assert!(text.contains("ü") && text.contains("𝄞") && text.contains("\\u009b"));
        assert_eq!(text.matches('\n').count(), 1);
        let back: Problem = serde_json::from_slice(&line).unwrap();
        assert_eq!(back.error, nasty);
    }
}
