//! A data thread driven by its control side.

use super::*;
use crossbeam::channel::unbounded;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

fn access_log() -> AccessSender {
    AccessSender::nowhere()
}

struct Control {
    messages: Sender<Message>,
    reports: Receiver<Report>,
    wake: EventFd,
    thread: JoinHandle<()>,
}

impl Control {
    fn start(engine: EngineChoice) -> Self {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
        let (messages, inbox) = unbounded();
        let (outbox, reports) = unbounded();
        let settings = Settings {
            thread: 3,
            engine,
            seed: 1,
            affinity_key: AffinityKey::default(),
            shared: Arc::default(),
            messages: inbox,
            peers: Arc::default(),
            wake: wake.as_fd().try_clone_to_owned().unwrap(),
            log: access_log(),
            reports: outbox,
        };
        let thread = thread::spawn(move || run(settings));
        Self { messages, reports, wake, thread }
    }

    fn tell(&self, message: Message) {
        self.messages.send(message).unwrap();
        self.wake.write(1).unwrap();
    }

    fn report(&self) -> Report {
        self.reports.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

#[test]
fn a_thread_opens_and_shuts_doors_counts_and_stops() {
    for engine in [EngineChoice::Epoll, EngineChoice::Auto] {
        let control = Control::start(engine);
        let Report::Started { thread: 3, engine, .. } = control.report() else { panic!() };
        let any = Address::Tcp(([127, 0, 0, 1], 0).into());
        let socket = crate::sys::socket::listen(&any, 4, false).unwrap();
        let address = crate::sys::socket::local_address(&socket).unwrap();
        let Address::Tcp(address) = address else { panic!() };
        let door = DoorId(0);
        control.tell(Message::Open { door, socket });
        TcpStream::connect(address).unwrap();
        control.tell(Message::Shut { door });
        control.tell(Message::Count);
        let Report::Counters { thread: 3, engine: counters, .. } = control.report() else {
            panic!()
        };
        assert!(counters.enters > 0 && counters.completions > 0, "{engine}: {counters:?}");
        control.tell(Message::Stop);
        control.thread.join().unwrap();
        assert!(TcpStream::connect(address).is_err(), "the door was not shut");
    }
}

#[test]
fn a_thread_ends_when_its_control_side_is_gone() {
    let control = Control::start(EngineChoice::Auto);
    assert!(matches!(control.report(), Report::Started { .. }));
    drop(control.messages);
    control.wake.write(1).unwrap();
    control.thread.join().unwrap();
}
