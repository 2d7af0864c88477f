//! In a steady state a data thread allocates nothing for a request, under either engine: neither
//! for the plain exchange nor for bodies, chunks, answers of our own or lines of the log.

#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]

use crate::harness::engine::{Engine, each};
use crate::harness::origin::Origin;
use crossbeam::channel::{Receiver, Sender, unbounded};
use lychgate::base::address::Address;
use lychgate::base::id::{DoorId, ServerIndex};
use lychgate::machine::gate::Gate;
use lychgate::machine::pool::seam::Standing;
use lychgate::plan::EngineChoice;
use lychgate::shell::config;
use lychgate::shell::control;
use lychgate::shell::control::AffinityKey;
use lychgate::shell::data::{self, Message, News, Report, Settings};
use lychgate::shell::logs::AccessSender;
use lychgate::sys::socket;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

thread_local! {
    /// Where this thread's allocations are counted, if they are.
    static COUNTED: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that ends allocates after its locals are gone.
    if let Ok(Some(counter)) = COUNTED.try_with(Cell::get) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on whole.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, for every call goes there.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`, and the caller answers for the size.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// A data thread whose allocations are counted.
struct Counted {
    address: SocketAddr,
    allocations: &'static AtomicU64,
    messages: Sender<Message>,
    _reports: Receiver<Report>,
    wake: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Counted {
    /// `gate` makes the pool a garden, of which the origin is the worker.
    fn start(engine: Engine, origin: &Origin, gate: Option<&Arc<Gate>>) -> Self {
        let any = Address::Tcp(([127, 0, 0, 1], 0).into());
        let socket = socket::listen(&any, 64, false).unwrap();
        let Address::Tcp(address) = socket::local_address(&socket).unwrap() else { panic!() };
        let text = format!(
            "[[listen]]\naddress = \"{address}\"\n[[site]]\nname = \"all\"\n\
             [[site.route]]\npath = \"/app\"\npool = \"app\"\n\
             [pool.app]\n{}\n\
             [pool.app.upstream]\nidle_timeout = \"10m\"\n",
            match gate {
                Some(_) => String::from("command = [\"none\"]\nslots = 8"),
                None => format!("servers = [\"{}\"]", origin.address),
            }
        );
        let plan = Arc::new(config::parse(&text, "test").unwrap());
        let allocations: &'static AtomicU64 = Box::leak(Box::default());
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
        let (messages, inbox) = unbounded();
        let (outbox, reports) = unbounded();
        let settings = Settings {
            thread: 0,
            engine: match engine {
                Engine::Epoll => EngineChoice::Epoll,
                _ => EngineChoice::Uring,
            },
            seed: 1,
            affinity_key: AffinityKey::default(),
            shared: Arc::default(),
            messages: inbox,
            peers: Arc::default(),
            wake: wake.as_fd().try_clone_to_owned().unwrap(),
            log: AccessSender::nowhere(),
            reports: outbox,
        };
        let gates = Arc::new([gate.cloned()]);
        messages.send(Message::Plan { plan, doors: Arc::new([DoorId(0)]), gates }).unwrap();
        if let Some(gate) = gate {
            let (pool, place) = (String::from("app"), ServerIndex(0));
            let address = control::parse_address(&origin.address).unwrap();
            let admitted = News::Admitted { pool, place, slot: 0, generation: 1, address };
            messages.send(Message::News(admitted)).unwrap();
            gate.stand(Standing::Running, 10, true);
            gate.open(place, 0, 8, 0);
        }
        messages.send(Message::Open { door: DoorId(0), socket }).unwrap();
        wake.write(1).unwrap();
        let thread = std::thread::spawn(move || {
            COUNTED.set(Some(allocations));
            data::run(settings);
        });
        Self { address, allocations, messages, _reports: reports, wake, thread: Some(thread) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // The thread may have failed already, which the test says itself.
        let _ = self.messages.send(Message::Stop);
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a request and reads until the answer ends as expected.
fn ask(stream: &mut TcpStream, request: &[u8], end: &[u8]) {
    stream.write_all(request).unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 16 * 1024];
    while !seen.ends_with(end) {
        let size = stream.read(&mut piece).unwrap();
        assert!(size > 0, "closed after {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..size]);
    }
}

#[test]
fn a_steady_state_allocates_nothing() {
    each(|engine| allocates_nothing(engine, None));
}

#[test]
fn a_garden_with_free_slots_allocates_nothing() {
    each(|engine| {
        let gate = Arc::new(Gate::default());
        allocates_nothing(engine, Some(&gate));
        let figures = gate.figures(ServerIndex(0));
        assert_eq!((figures.executing, figures.delivered), (0, 7_200));
    });
}

fn allocates_nothing(engine: Engine, gate: Option<&Arc<Gate>>) {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            if request.target().ends_with("chunked") {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                peer.send(format!("{head}5\r\nhello\r\n0\r\n\r\n"));
            } else {
                peer.answer("done.");
            }
        }
    });
    let counted = Counted::start(engine, &origin, gate);
    let mut streams: Vec<TcpStream> = (0..8)
        .map(|_| {
            let stream = TcpStream::connect(counted.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        })
        .collect();
    let upload = [b"POST /app HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n".as_slice()]
        .into_iter()
        .chain([[b'x'; 3000].as_slice()])
        .collect::<Vec<_>>()
        .concat();
    let round = |streams: &mut Vec<TcpStream>| {
        for stream in streams {
            ask(stream, b"GET /app/a?b HTTP/1.1\r\nHost: h\r\nUser-Agent: t\r\n\r\n", b"done.");
            ask(stream, b"GET /app/chunked HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n0\r\n\r\n");
            ask(stream, &upload, b"done.");
            ask(stream, b"GET /nowhere HTTP/1.1\r\nHost: h\r\nX-Request-Id: z\r\n\r\n", b" z\n");
        }
    };
    for _ in 0..50 {
        round(&mut streams);
    }
    let before = counted.allocations.load(Ordering::Relaxed);
    assert!(before > 0, "the counter counts nothing");
    for _ in 0..250 {
        round(&mut streams);
    }
    let during = counted.allocations.load(Ordering::Relaxed) - before;
    assert_eq!(during, 0, "allocations in 8,000 requests under {engine:?}");
}
