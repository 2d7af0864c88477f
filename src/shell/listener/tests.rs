//! The listener process but for its privileges: frames in, frames out, clients and an application
//! between.

use super::*;
use crate::shell::control::{Channel, Heard, Standing, Worker};
use crate::sys::poll::{self, Interest};
use crate::sys::{fdpass, memfd, socket};
use crossbeam::channel::Sender;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

const LIMIT: Duration = Duration::from_secs(20);
const FIRST: Worker = Worker { slot: 0, generation: 1 };
const SECOND: Worker = Worker { slot: 0, generation: 2 };
const TEXT: &str = "\
    [[listen]]\naddress = '127.0.0.1:1'\n\
    [[listen]]\naddress = '127.0.0.1:2'\n\
    [[site]]\nname = 'web'\n[[site.route]]\npath = '/'\npool = 'shop'\n\
    [pool.shop]\ncommand = ['app']\nslots = 1\n";

/// The supervisor's side of a listener of two threads, each with a door of its own.
struct Scene {
    frames: Sender<Frame>,
    control: Channel,
    doors: [SocketAddr; 2],
    listener: JoinHandle<Result<(), String>>,
}

fn port_of(socket: &OwnedFd) -> SocketAddr {
    match socket::local_address(socket).unwrap() {
        crate::base::address::Address::Tcp(address) => address,
        other @ crate::base::address::Address::Unix(_) => panic!("{other}"),
    }
}

impl Scene {
    fn start() -> Self {
        let (ours, theirs) = fdpass::pair().unwrap();
        let (frames, heard) = unbounded();
        let memory = || memfd::sealed(TEXT).unwrap();
        let (plan, _) = read_plan("test", vec![memory()], &[0, 1]).unwrap();
        let log = AccessLog::start().unwrap();
        let key = AffinityKey::fresh().unwrap();
        let control = Arc::new(theirs);
        let listener = Listener::new(control, heard, log, 2, &key, &plan).unwrap();
        let listener = Builder::new().spawn(|| listener.serve()).unwrap();
        let any = crate::base::address::Address::Tcp(([127, 0, 0, 1], 0).into());
        let sockets = [(); 2].map(|()| socket::listen(&any, 64, false).unwrap());
        let doors = [port_of(&sockets[0]), port_of(&sockets[1])];
        let mut scene = Self { frames, control: Channel::new(ours), doors, listener };
        let (revision, name) = (1, "test".to_owned());
        let configure = ToListener::Configure { revision, name, doors: vec![0, 1] };
        scene.tell_with(configure, vec![memory()]);
        scene.tell_with(ToListener::Open { sockets: vec![(0, 0), (1, 1)] }, sockets.into());
        assert!(matches!(scene.word(), FromListener::Started { threads: 2, .. }));
        assert_eq!(scene.word(), FromListener::Configured { revision });
        scene
    }

    fn tell_with(&self, word: ToListener, descriptors: Vec<OwnedFd>) {
        self.frames.send(Some((word, descriptors))).unwrap();
    }

    fn tell(&self, word: ToListener) {
        self.tell_with(word, Vec::new());
    }

    fn word(&mut self) -> FromListener {
        let mut ready = Vec::new();
        poll::wait(&[(self.control.as_fd(), Interest::Read)], Some(LIMIT), &mut ready).unwrap();
        match self.control.hear() {
            Heard::Word(word) => word,
            other => panic!("{other:?}"),
        }
    }

    fn admit(&self, worker: Worker, application: &TcpListener) {
        let (pool, slots) = ("shop".to_owned(), 1);
        let address = application.local_addr().unwrap().to_string();
        self.tell(ToListener::Admit {
            pool,
            worker,
            address,
            slots,
            requests_max: 0,
            delivered: 0,
        });
    }

    fn stand(&self, standing: Standing) {
        self.tell(ToListener::Stand { pool: "shop".into(), standing, may_grow: true });
    }

    /// What one pool's workers execute, and who waits, as the listener says.
    fn measured(&mut self) -> (Vec<u32>, u32) {
        self.tell(ToListener::Measure);
        let FromListener::Measured { pools, is_last: true } = self.word() else { panic!() };
        let executing = pools[0].workers.iter().map(|worker| worker.executing).collect();
        (executing, pools[0].waiting)
    }

    fn listed(&mut self) -> Vec<(String, Option<Worker>, String)> {
        self.tell(ToListener::List { token: 5, pool: None, older_ms: 0 });
        let FromListener::Listed { token: 5, rows, is_last: true } = self.word() else { panic!() };
        let mut rows: Vec<_> =
            rows.into_iter().map(|row| (row.target, row.worker, row.state)).collect();
        rows.sort();
        rows
    }

    fn ask(&self, door: usize, path: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.doors[door]).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        client
    }

    fn wanted(&mut self) {
        assert_eq!(self.word(), FromListener::Wanted { pool: "shop".into() });
    }

    fn serving(&mut self, worker: Worker) {
        assert_eq!(self.word(), FromListener::Serving { pool: "shop".into(), worker });
    }

    fn end(self) {
        self.tell(ToListener::Stop);
        self.listener.join().unwrap().unwrap();
    }
}

fn application() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A request that reached the application: its path, and where to answer.
fn reached(application: &TcpListener) -> (String, TcpStream) {
    let mut ready = Vec::new();
    poll::wait(&[(application.as_fd(), Interest::Read)], Some(LIMIT), &mut ready).unwrap();
    assert_eq!(ready, [true], "no request reached the application");
    let (mut stream, _) = application.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), stream)
}

fn answer(mut stream: TcpStream, body: &str) {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
}

fn text(mut client: TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn requests_wait_for_a_worker_and_threads_pass_its_slot_on() {
    let mut scene = Scene::start();
    let shop = application();
    scene.stand(Standing::Running);
    let left = scene.ask(0, "/left");
    scene.wanted();
    assert_eq!(scene.measured(), (vec![], 1));
    scene.admit(FIRST, &shop);
    scene.serving(FIRST);
    let (path, to_left) = reached(&shop);
    assert_eq!(path, "/left");
    // The other thread's request finds the one slot taken.
    let right = scene.ask(1, "/right");
    scene.wanted();
    assert_eq!(scene.measured(), (vec![1], 1));
    let waiting = ("/right".to_owned(), None, "waiting".to_owned());
    assert_eq!(scene.listed(), [("/left".into(), Some(FIRST), "sent".into()), waiting]);
    answer(to_left, "first");
    let (path, to_right) = reached(&shop);
    assert_eq!(path, "/right");
    answer(to_right, "second");
    assert!(text(left).ends_with("first"));
    assert!(text(right).ends_with("second"));
    assert_eq!(scene.measured(), (vec![0], 0));
    scene.end();
}

#[test]
fn a_recycle_overlaps_and_the_old_worker_finishes() {
    let mut scene = Scene::start();
    let (old, new) = (application(), application());
    scene.stand(Standing::Running);
    scene.admit(FIRST, &old);
    scene.serving(FIRST);
    let first = scene.ask(0, "/first");
    let (_, to_first) = reached(&old);
    scene.admit(SECOND, &new);
    scene.serving(SECOND);
    let pool = || "shop".to_owned();
    scene.tell(ToListener::Retire { pool: pool(), worker: FIRST });
    let second = scene.ask(1, "/second");
    let (path, to_second) = reached(&new);
    assert_eq!(path, "/second");
    answer(to_second, "new");
    assert!(text(second).ends_with("new"));
    answer(to_first, "old");
    assert_eq!(scene.word(), FromListener::Emptied { pool: pool(), worker: FIRST });
    assert!(text(first).ends_with("old"));
    scene.tell(ToListener::Dismiss { pool: pool(), worker: FIRST });
    assert_eq!(scene.measured(), (vec![0], 0));
    scene.end();
}

#[test]
fn a_pool_that_is_stopped_refuses_with_its_page() {
    let mut scene = Scene::start();
    let page = memfd::sealed("<p>closed for today</p>").unwrap();
    scene.tell_with(ToListener::Page { pool: "shop".into() }, vec![page]);
    scene.stand(Standing::Running);
    let waits = scene.ask(0, "/");
    scene.wanted();
    scene.stand(Standing::Stopped);
    for client in [waits, scene.ask(1, "/")] {
        let text = text(client);
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(text.ends_with("<p>closed for today</p>"), "{text}");
    }
    scene.end();
}

#[test]
fn a_worker_that_is_dismissed_loses_what_runs_on_it() {
    let mut scene = Scene::start();
    let shop = application();
    scene.stand(Standing::Running);
    scene.admit(FIRST, &shop);
    scene.serving(FIRST);
    let mut client = TcpStream::connect(scene.doors[0]).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
    let (_, _to_client) = reached(&shop);
    scene.tell(ToListener::Dismiss { pool: "shop".into(), worker: FIRST });
    let mut status = [0; 12];
    client.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 502");
    assert_eq!(scene.measured(), (vec![], 0));
    scene.end();
}
