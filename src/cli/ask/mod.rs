//! The commands that ask a running supervisor. `--json` prints exactly what the API says.

mod exchange;
mod show;
mod table;

use crate::plan::units;
use crate::shell::view::{EventRow, Outcome, PoolRow, Requests, Status, WorkerRow};
use crate::shell::visible::shown;
use clap::{Args, Subcommand};
use exchange::{Answer, Failure, request};
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum Question {
    /// Show the server: its state, its processes, its configuration.
    Status(Form),
    /// Show the pools, and why one is not as it should be.
    Pools(Form),
    /// Show the workers, of one pool or all.
    Workers {
        pool: Option<String>,
        #[command(flatten)]
        form: Form,
    },
    /// Show the requests that wait or execute.
    Requests {
        /// Only those of this pool.
        #[arg(long)]
        pool: Option<String>,
        /// Only those that are at least this old, such as 5s.
        #[arg(long, value_name = "AGE", value_parser = duration)]
        older: Option<Duration>,
        #[command(flatten)]
        form: Form,
    },
    /// Replace all workers of a pool, each by one that serves before the old one stops.
    Recycle(Of),
    /// End a pool's workers and refuse its requests.
    Stop(Of),
    /// Start a pool that was stopped or has tripped.
    Start(Of),
    /// Hold a pool's requests at the door until it is resumed.
    Pause {
        pool: String,
        /// Requests that may wait; more are refused [default: 1000].
        #[arg(long, value_name = "COUNT")]
        max: Option<u32>,
        #[command(flatten)]
        form: Form,
    },
    /// Give a paused pool its requests.
    Resume(Of),
    /// Show workers that failed and were released, or end one.
    Orphans {
        #[command(subcommand)]
        action: Option<OrphanAction>,
        #[command(flatten)]
        form: Form,
    },
    /// Show what happened to pools and workers.
    Events {
        /// Go on as they happen. Without --after only those from now on.
        #[arg(long)]
        follow: bool,
        /// Only those after this sequence number, which --json shows.
        #[arg(long, value_name = "SEQUENCE")]
        after: Option<u64>,
        #[command(flatten)]
        form: Form,
    },
    /// Read the configuration again, as SIGHUP does.
    Reload(Form),
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Form {
    /// Print the answer of the control API as it is.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Of {
    pool: String,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Subcommand)]
pub(super) enum OrphanAction {
    /// Kill it.
    End {
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        pid: i32,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| units::duration_hint(text))
}

/// What to send, and how to show what comes back.
struct Query {
    method: &'static str,
    target: String,
    form: Form,
    /// A 404 means that there is no such pool.
    is_of_pool: bool,
    show: Show,
}

type Show = fn(&[u8]) -> Result<String, serde_json::Error>;

fn with<T: DeserializeOwned>(
    body: &[u8],
    show: impl Fn(&T) -> String,
) -> Result<String, serde_json::Error> {
    Ok(show(&serde_json::from_slice(body)?))
}

impl Question {
    fn query(self) -> Query {
        let get = |target: &str, form, show: Show| Query {
            method: "GET",
            target: format!("/v1/{target}"),
            form,
            is_of_pool: target.contains("pool="),
            show,
        };
        match self {
            Self::Status(form) => get("status", form, |body| with::<Status>(body, show::status)),
            Self::Pools(form) => {
                get("pools", form, |body| with(body, |pools: &Vec<PoolRow>| show::pools(pools)))
            }
            Self::Workers { pool, form } => {
                let target = targeted("workers", &[("pool", pool)]);
                get(&target, form, |body| with(body, |rows: &Vec<WorkerRow>| show::workers(rows)))
            }
            Self::Requests { pool, older, form } => {
                let older = older.map(|older| older.as_millis().to_string());
                let target = targeted("requests", &[("pool", pool), ("older_ms", older)]);
                get(&target, form, |body| with::<Requests>(body, show::requests))
            }
            Self::Orphans { action: None, form } => {
                get("orphans", form, |body| with(body, |rows: &Vec<WorkerRow>| show::orphans(rows)))
            }
            Self::Events { follow, after, form } => {
                let follow = follow.then(|| "true".to_owned());
                let after = after.map(|after| after.to_string());
                let target = targeted("events", &[("follow", follow), ("after", after)]);
                get(&target, form, |body| with(body, |rows: &Vec<EventRow>| events(rows)))
            }
            Self::Orphans { action: Some(OrphanAction::End { pid }), form } => {
                post(&format!("orphans/{pid}/end"), form)
            }
            Self::Reload(form) => post("reload", form),
            Self::Recycle(of) => verb(&of.pool, "recycle", of.form),
            Self::Stop(of) => verb(&of.pool, "stop", of.form),
            Self::Start(of) => verb(&of.pool, "start", of.form),
            Self::Resume(of) => verb(&of.pool, "resume", of.form),
            Self::Pause { pool, max, form } => {
                let max = max.map(|max| max.to_string());
                verb(&pool, &targeted("pause", &[("max", max)]), form)
            }
        }
    }

    fn is_endless(&self) -> bool {
        matches!(self, Self::Events { follow: true, .. })
    }
}

fn post(target: &str, form: Form) -> Query {
    let show = |body: &[u8]| with(body, |outcome: &Outcome| format!("{}\n", shown(&outcome.text)));
    Query { method: "POST", target: format!("/v1/{target}"), form, is_of_pool: false, show }
}

fn verb(pool: &str, verb: &str, form: Form) -> Query {
    let query = post(&format!("pools/{}/{verb}", encode(pool)), form);
    Query { is_of_pool: true, ..query }
}

fn targeted(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut target = path.to_owned();
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (place, (name, value)) in given.enumerate() {
        let mark = if place == 0 { '?' } else { '&' };
        let _ = write!(target, "{mark}{name}={}", encode(value));
    }
    target
}

/// Percent-encoding of all that is not unreserved (RFC 3986 section 2.3).
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn events(rows: &[EventRow]) -> String {
    let lines: String = rows.iter().map(show::event).collect();
    show::event_header() + &lines
}

/// The exit code: 0 as asked, 1 failed or refused, 3 no supervisor there, 4 no such pool.
pub(super) fn ask(
    question: Question,
    control: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let is_endless = question.is_endless();
    let query = question.query();
    let answered = request(control, query.method, &query.target);
    let shown_to_end = answered.and_then(|answer| {
        if is_endless { follow(answer, query.form, out) } else { print(answer, &query, out) }
    });
    let Err(failure) = shown_to_end else { return 0 };
    // Nobody may be reading. A refused configuration has many lines; none may pose as another's.
    for line in failure.to_string().lines() {
        let _ = writeln!(err, "lychgate: {}", shown(line));
    }
    match failure {
        Failure::Unread => 0,
        Failure::Nobody(_) => 3,
        Failure::Refused(404, _) if query.is_of_pool => 4,
        Failure::Refused(..) | Failure::Broken(_) => 1,
    }
}

fn print(answer: Answer, query: &Query, out: &mut dyn Write) -> Result<(), Failure> {
    let body = answer.body()?;
    if query.form.json {
        return put(out, &body);
    }
    let text = (query.show)(&body).map_err(|error| strange(&error))?;
    put(out, text.as_bytes())
}

fn follow(answer: Answer, form: Form, out: &mut dyn Write) -> Result<(), Failure> {
    if !form.json {
        put(out, show::event_header().as_bytes())?;
    }
    answer.lines(|line| {
        if form.json {
            return put(out, line);
        }
        let row: EventRow = serde_json::from_slice(line).map_err(|error| strange(&error))?;
        put(out, show::event(&row).as_bytes())
    })?;
    Err(Failure::Broken("the supervisor has ended the list".into()))
}

fn put(out: &mut dyn Write, bytes: &[u8]) -> Result<(), Failure> {
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Broken(format!("writing the answer: {error}")),
    })
}

fn strange(error: &serde_json::Error) -> Failure {
    let versions = "Supervisor and command line may be of different versions";
    Failure::Broken(format!("reading the answer: {error}. {versions}; --json shows it as it is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Full(ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `status` writes to standard error and ends with, where this is answered.
    fn told(answer: &'static [u8], out: &mut dyn Write) -> (u8, String) {
        let (folder, thread) = exchange::tests::answering(answer);
        let mut err = Vec::new();
        let question = Question::Status(Form { json: true });
        let code = ask(question, &folder.path().join("s"), out, &mut err);
        thread.join().unwrap();
        (code, String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_reason_of_several_lines_stays_so() {
        let answer =
            b"HTTP/1.0 409 Conflict\r\n\r\n{\"error\":\"a.toml:3: one\\na.toml:4: two\\u001b\\n\"}";
        let (code, text) = told(answer, &mut Vec::new());
        assert_eq!(code, 1);
        assert_eq!(text, "lychgate: a.toml:3: one\nlychgate: a.toml:4: two\\u{1b}\n");
    }

    #[test]
    fn who_stops_reading_has_read_enough() {
        let answer = b"HTTP/1.0 200 OK\r\n\r\n{}\n";
        assert_eq!(told(answer, &mut Full(ErrorKind::BrokenPipe)), (0, String::new()));
        let (code, text) = told(answer, &mut Full(ErrorKind::StorageFull));
        assert_eq!(code, 1);
        assert!(text.contains("writing the answer"), "{text}");
    }

    #[test]
    fn names_are_encoded_wherever_they_stand() {
        let form = Form { json: false };
        let of = |pool: &str| Of { pool: pool.into(), form };
        let stop = Question::Stop(of("a/../b ü?")).query();
        assert_eq!(
            (stop.method, stop.target.as_str()),
            ("POST", "/v1/pools/a%2F..%2Fb%20%C3%BC%3F/stop")
        );
        assert!(stop.is_of_pool);
        let pause = Question::Pause { pool: "shop".into(), max: Some(5), form }.query();
        assert_eq!(pause.target, "/v1/pools/shop/pause?max=5");
        let older = Some(Duration::from_secs(5));
        let requests = Question::Requests { pool: Some("a&b".into()), older, form }.query();
        assert_eq!(requests.target, "/v1/requests?pool=a%26b&older_ms=5000");
        let events = Question::Events { follow: true, after: Some(3), form };
        assert!(events.is_endless());
        assert_eq!(events.query().target, "/v1/events?follow=true&after=3");
        let orphan = OrphanAction::End { pid: 7 };
        let end = Question::Orphans { action: Some(orphan), form }.query();
        assert_eq!((end.method, end.target.as_str()), ("POST", "/v1/orphans/7/end"));
        assert!(!end.is_of_pool);
    }
}
