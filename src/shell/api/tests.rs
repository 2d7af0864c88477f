//! The whole server, asked over its socket, with a scripted supervisor behind it.

use super::*;
use crate::shell::view::{ListenerRow, Problem};
use crate::sys::poll::{self, Interest};
use crossbeam::channel::SendTimeoutError;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const PATIENCE: Duration = Duration::from_secs(10);

/// What the scripted supervisor does with an ask; `None` leaves it unanswered.
type Script = dyn FnMut(Ask) -> Option<Answer> + Send;

struct Fake {
    api: Option<Api>,
    path: PathBuf,
    ending: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Fake {
    fn start(limits: Limits, mut script: Box<Script>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let (api, asks) = Api::start_with(&path, limits).unwrap();
        let ending = Arc::new(AtomicBool::new(false));
        let is_ending = Arc::clone(&ending);
        let supervisor = thread::spawn(move || {
            let (mut ready, mut unanswered) = (Vec::new(), Vec::new());
            while !is_ending.load(Ordering::SeqCst) {
                let bell = [(asks.as_fd(), Interest::Read)];
                poll::wait(&bell, Some(Duration::from_millis(20)), &mut ready).unwrap();
                while let Some(asked) = asks.next() {
                    match script(asked.ask.clone()) {
                        Some(answer) => asked.answer(answer),
                        None => unanswered.push(asked),
                    }
                }
            }
        });
        let supervisor = Some(supervisor);
        Self { api: Some(api), path, ending, supervisor, _folder: folder }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Status and body of what these bytes are answered with.
    fn raw(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read(stream)
    }

    fn ask(&self, method: &str, target: &str) -> (u16, String) {
        self.raw(format!("{method} {target} HTTP/1.1\r\nHost: lychgate\r\n\r\n").as_bytes())
    }

    fn follow(&self, target: &str) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        stream
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.api = None;
        self.ending.store(true, Ordering::SeqCst);
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

fn read(mut stream: UnixStream) -> (u16, String) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // The end of a connection of which not everything was read.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        outcome => {
            outcome.unwrap();
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

fn error(body: &str) -> String {
    serde_json::from_str::<Problem>(body).unwrap_or_else(|_| panic!("no problem: {body}")).error
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 1,
        state: "running".into(),
        uptime_ms: 5,
        configuration: "a.toml".into(),
        revision: 1,
        refused: None,
        listener: ListenerRow::default(),
        listening: vec!["127.0.0.1:80".into()],
        pools: 1,
        workers: 0,
        workers_max: 1000,
    }
}

fn event(sequence: u64, text: &str) -> EventRow {
    EventRow {
        sequence,
        time_ms: 1000 * sequence,
        id: 9001,
        event: "worker-started".into(),
        severity: "info".into(),
        pool: "shop".into(),
        slot: Some(0),
        generation: Some(1),
        pid: Some(7),
        reason: None,
        text: text.into(),
    }
}

/// Does what a real one might.
fn supervise(ask: Ask) -> Answer {
    match ask {
        Ask::Status => Answer::Status(status()),
        Ask::Pools => Answer::Pools(vec![PoolRow { name: "shop".into(), ..PoolRow::default() }]),
        Ask::Workers { pool: None } | Ask::Orphans => Answer::Workers(Vec::new()),
        Ask::Workers { pool: Some(pool) } => Answer::NotFound(format!("no pool {pool}")),
        Ask::Requests { .. } => Answer::Requests(Requests::default()),
        Ask::Verb { pool, verb: Verb::Start } => Answer::Conflict(format!("{pool} is paused")),
        Ask::Verb { pool, verb } => Answer::Done(Outcome { text: format!("{pool}: {verb:?}") }),
        Ask::EndOrphan { pid } => Answer::NotFound(format!("{pid} is no orphan")),
        Ask::Reload => Answer::Unavailable("ending".into()),
        Ask::Events { after, limit } => {
            Answer::Events((after + 1..=5).take(limit).map(|n| event(n, "past")).collect())
        }
        Ask::Follow => Answer::Conflict("nothing to follow".into()),
    }
}

#[test]
fn every_answer_has_its_status_and_its_json() {
    let fake = Fake::start(LIMITS, Box::new(|ask| Some(supervise(ask))));
    let (code, body) = fake.ask("GET", "/v1/status");
    assert_eq!((code, serde_json::from_str(&body).unwrap()), (200, status()));
    let (code, body) = fake.ask("GET", "/v1/pools");
    let pools: Vec<PoolRow> = serde_json::from_str(&body).unwrap();
    assert_eq!((code, pools[0].name.as_str()), (200, "shop"));
    assert_eq!(fake.ask("GET", "/v1/orphans"), (200, "[]\n".into()));
    let (code, body) = fake.ask("GET", "/v1/requests");
    assert_eq!((code, serde_json::from_str(&body).unwrap()), (200, Requests::default()));
    let (_, body) = fake.ask("GET", "/v1/events?after=2&limit=2");
    let events: Vec<EventRow> = serde_json::from_str(&body).unwrap();
    assert_eq!(events, [event(3, "past"), event(4, "past")]);
    let (code, body) = fake.ask("POST", "/v1/pools/a%2Fb/pause?max=3");
    let outcome: Outcome = serde_json::from_str(&body).unwrap();
    assert_eq!((code, outcome.text.as_str()), (200, "a/b: Pause { limit: 3 }"));
    for (method, target, wanted, why) in [
        ("GET", "/v1/workers?pool=x", 404, "no pool x"),
        ("POST", "/v1/pools/shop/start", 409, "shop is paused"),
        ("POST", "/v1/orphans/7/end", 404, "7 is no orphan"),
        ("POST", "/v1/reload", 503, "ending"),
        ("GET", "/v1/events?follow=true", 409, "nothing to follow"),
        ("PUT", "/v1/reload", 405, "/v1/reload is asked with POST"),
        ("GET", "/", 404, "there is no /; docs/control.md has the paths"),
    ] {
        let (code, body) = fake.ask(method, target);
        assert_eq!((code, error(&body).as_str()), (wanted, why), "{method} {target}");
    }
}

#[test]
fn nonsense_is_refused_and_hurts_nobody() {
    let fake = Fake::start(LIMITS, Box::new(|ask| Some(supervise(ask))));
    let (code, body) =
        fake.raw(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!((code, error(&body).contains("body")), (413, true));
    let chunked = b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(fake.raw(chunked).0, 413);
    let long = format!("GET /v1/status?{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(8 * 1024));
    assert_eq!(fake.raw(long.as_bytes()).0, 400);
    let endless = [&b"GET /v1/status HTTP/1.1\r\nX: "[..], &[b'a'; 12 * 1024], &[b'b'; 4 * 1024]];
    assert_eq!(fake.raw(&endless.concat()).0, 431);
    for bytes in [&b"\x16\x03\x01\r\n\r\n"[..], b"HELLO\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"] {
        assert_eq!(fake.raw(bytes).0, 400, "{bytes:?}");
    }
    drop(fake.connect());
    assert_eq!(fake.ask("GET", "/v1/status").0, 200);
}

#[test]
fn a_supervisor_without_an_answer_is_told() {
    let limits = Limits { answer: Duration::from_millis(20), ..LIMITS };
    let fake = Fake::start(limits, Box::new(|_| None));
    let (code, body) = fake.ask("GET", "/v1/status");
    assert_eq!((code, error(&body).contains("20ms")), (504, true));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (_api, asks) = Api::start(&path).unwrap();
    let ask = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.0\r\n\r\n").unwrap();
        stream
    };
    let dropped = ask();
    let mut ready = Vec::new();
    poll::wait(&[(asks.as_fd(), Interest::Read)], Some(PATIENCE), &mut ready).unwrap();
    assert_eq!(ready, [true]);
    let asked = asks.next().unwrap();
    assert!(!asked.is_given_up());
    drop(asked);
    assert_eq!(read(dropped).0, 503);
    // Nothing is left, and the bell is quiet.
    assert!(asks.next().is_none());
    poll::wait(&[(asks.as_fd(), Interest::Read)], Some(Duration::ZERO), &mut ready).unwrap();
    assert_eq!(ready, [false]);
    drop(asks);
    assert_eq!(read(ask()).0, 503);
}

#[test]
fn asks_that_nobody_takes_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let limits = Limits { answer: Duration::from_millis(1), ..LIMITS };
    let (_api, asks) = Api::start_with(&path, limits).unwrap();
    let mut codes = Vec::new();
    for _ in 0..=ASKS_MAX {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.0\r\n\r\n").unwrap();
        codes.push(read(stream).0);
    }
    assert!(codes[..ASKS_MAX].iter().all(|code| *code == 504), "{codes:?}");
    assert_eq!(codes[ASKS_MAX], 503);
    assert!(asks.next().unwrap().is_given_up());
}

#[test]
fn who_says_nothing_is_cut_off_and_makes_room() {
    let limits = Limits { connections: 2, exchange: Duration::from_millis(200), ..LIMITS };
    let fake = Fake::start(limits, Box::new(|ask| Some(supervise(ask))));
    let mut silent = [fake.connect(), fake.connect()];
    silent[1].write_all(b"GET /v1/status HTTP/1.1\r\nHo").unwrap();
    // Waits in the backlog until a place is free.
    assert_eq!(fake.ask("GET", "/v1/status").0, 200);
    for mut stream in silent {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// A supervisor whose event channel the test holds.
fn followed(limits: Limits, room: usize) -> (Fake, Receiver<Sender<EventRow>>) {
    let (told, senders) = bounded(8);
    let script = move |ask| match ask {
        Ask::Follow => {
            let (sender, receiver) = bounded(room);
            told.send(sender).unwrap();
            Some(Answer::Follow(receiver))
        }
        ask => Some(supervise(ask)),
    };
    (Fake::start(limits, Box::new(script)), senders)
}

#[test]
fn a_follower_hears_the_past_once_and_then_what_happens() {
    let (fake, senders) = followed(LIMITS, 8);
    let stream = fake.follow("/v1/events?follow=true&after=3");
    let sender = senders.recv_timeout(PATIENCE).unwrap();
    // 5 is in the past that is asked for, too.
    for sequence in [5, 6, 8] {
        sender.send(event(sequence, "now")).unwrap();
    }
    drop(sender);
    let (code, body) = read(stream);
    let heard: Vec<EventRow> =
        body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wanted = [event(4, "past"), event(5, "past"), event(6, "now"), event(8, "now")];
    assert_eq!((code, heard), (200, wanted.into()));
}

#[test]
fn a_follower_gets_its_head_at_once_and_outlives_the_exchange() {
    let limits = Limits { exchange: Duration::from_millis(50), ..LIMITS };
    let (fake, senders) = followed(limits, 8);
    let mut stream = fake.follow("/v1/events?follow=true");
    let sender = senders.recv_timeout(PATIENCE).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    // A whole exchange of another connection has its limit and its end meanwhile.
    let mut silent = fake.connect();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    sender.send(event(1, "late")).unwrap();
    drop(sender);
    let mut body = String::new();
    stream.read_to_string(&mut body).unwrap();
    assert_eq!(serde_json::from_str::<EventRow>(&body).unwrap(), event(1, "late"));
}

/// Sends until nobody is there to receive; panics if that does not come.
fn send_until_gone(sender: &Sender<EventRow>, text: &str) {
    let end = crate::sys::clock::now() + PATIENCE;
    for sequence in 1.. {
        assert!(crate::sys::clock::now() < end, "the follower is still there");
        let sent = sender.send_timeout(event(sequence, text), Duration::from_millis(20));
        if matches!(sent, Err(SendTimeoutError::Disconnected(_))) {
            return;
        }
    }
}

#[test]
fn a_follower_that_does_not_read_is_cut_off_and_one_that_left_is_forgotten() {
    let short = Duration::from_millis(300);
    let limits = Limits { exchange: short, stall: short, ..LIMITS };
    let (fake, senders) = followed(limits, 4);
    let stuck = fake.follow("/v1/events?follow=true");
    send_until_gone(&senders.recv_timeout(PATIENCE).unwrap(), &"long ".repeat(4000));
    drop(stuck);

    let (fake, senders) = followed(LIMITS, 4);
    let leaving = fake.follow("/v1/events?follow=true");
    let sender = senders.recv_timeout(PATIENCE).unwrap();
    drop(leaving);
    send_until_gone(&sender, "short");
}

#[test]
fn followers_leave_room_for_others() {
    let limits = Limits { followers: 1, ..LIMITS };
    let (fake, senders) = followed(limits, 4);
    let first = fake.follow("/v1/events?follow=true");
    let sender = senders.recv_timeout(PATIENCE).unwrap();
    let (code, body) = read(fake.follow("/v1/events?follow=true"));
    assert_eq!((code, error(&body).as_str()), (503, "1 already follow events. End one of them"));
    assert_eq!(fake.ask("GET", "/v1/status").0, 200);
    drop(sender);
    assert_eq!(read(first).0, 200);
}

/// Past the test runner's capture, so that a skipped test is seen.
fn note(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: turning strangers away: {why}");
}

#[test]
fn a_stranger_is_turned_away_even_where_the_file_lets_it_in() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    if !crate::sys::identity::is_root() {
        note("only root can be somebody else");
        return;
    }
    let fake = Fake::start(LIMITS, Box::new(|ask| Some(supervise(ask))));
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(fake.path.parent().unwrap(), 0o755);
    open(&fake.path, 0o666);
    let ask = |uid: u32| {
        let socket = fake.path.to_str().unwrap();
        let arguments = ["-s", "-m", "10", "--unix-socket", socket, "http://x/v1/orphans"];
        Command::new("curl").args(arguments).uid(uid).gid(uid).output()
    };
    let Ok(root) = ask(0) else {
        note("no curl here");
        return;
    };
    assert_eq!(root.stdout, b"[]\n");
    let stranger = ask(65534).unwrap();
    // Nothing came (52), the connection was reset (56), or it could not even ask (7, 55).
    assert!(
        [Some(7), Some(52), Some(55), Some(56)].contains(&stranger.status.code()),
        "{stranger:?}"
    );
    assert!(stranger.stdout.is_empty());
    assert_eq!(fake.ask("GET", "/v1/orphans").0, 200);
}

#[test]
fn the_end_leaves_no_socket_and_no_thread() {
    let mut fake = Fake::start(LIMITS, Box::new(|ask| Some(supervise(ask))));
    let mut open = fake.connect();
    fake.api = None;
    assert!(!fake.path.exists());
    assert_eq!(open.read(&mut [0]).unwrap_or(0), 0);
    assert!(UnixStream::connect(&fake.path).is_err());
}
