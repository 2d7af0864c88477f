//! What happens when there is much, or too little.

use super::*;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use std::process::Command;

#[test]
fn a_crowd_is_let_in_and_heard_even_when_blocks_run_out() {
    both(|rig| {
        const CROWD: usize = 300;
        let address = rig.address;
        let mut clients: Vec<TcpStream> =
            (0..CROWD).map(|_| TcpStream::connect(address).unwrap()).collect();
        rig.until(|rig| rig.adopted.len() == CROWD);
        for (round, text) in [(0, b"one"), (1, b"two")] {
            for client in &mut clients {
                client.write_all(text).unwrap();
            }
            rig.until(|rig| {
                rig.received.len() == CROWD && rig.received.values().all(|it| it.len() == 3)
            });
            assert!(rig.received.values().all(|it| it == text), "round {round}");
            rig.received.clear();
        }
        assert_eq!(rig.heard, []);
        if rig.engine.name() == "uring" {
            assert!(rig.engine.counters().buffers_exhausted > 0, "the shortage did not occur");
        }
    });
}

#[test]
fn one_busy_socket_does_not_starve_the_others() {
    both(|rig| {
        let (mut busy, busy_id) = rig.client();
        let (mut quiet, quiet_id) = rig.client();
        rig.engine.hold(busy_id);
        busy.set_nonblocking(true).unwrap();
        let plenty = vec![0; 65536];
        while busy.write(&plenty).is_ok_and(|count| count > 0) {}
        quiet.write_all(b"me too").unwrap();
        rig.settle();
        rig.received.clear();
        quiet.write_all(b"me too").unwrap();
        rig.engine.recv(busy_id);
        rig.turn(1000);
        rig.turn(1000);
        assert_eq!(rig.received.get(&quiet_id).map(Vec::as_slice), Some(&b"me too"[..]));
    });
}

#[test]
fn a_backlog_past_its_maximum_makes_the_socket_unwritable() {
    both(|rig| {
        let (_client, id) = rig.client();
        let bytes = vec![0; 4 * 1024 * 1024];
        for _ in 0..16 {
            rig.send(id, &bytes);
            rig.turn(0);
        }
        rig.until_heard(Completion::Unwritable { id });
        rig.engine.end(id, Ending::Now);
        rig.until(|rig| {
            matches!(rig.heard.last(), Some(Completion::Closed { unsent, .. })
            if *unsent > BACKLOG_SIZE_MAX)
        });
    });
}

#[test]
fn the_eventfd_wakes_and_the_timeout_ends_a_turn() {
    both(|rig| {
        rig.settle();
        let start = crate::sys::clock::now();
        assert!(!rig.turn(20));
        assert!(crate::sys::clock::now().since(start) >= Duration::from_millis(20));
        for _ in 0..3 {
            rig.wake.write(1).unwrap();
            rig.wake.write(1).unwrap();
            rig.until(|rig| rig.heard == [Completion::Woken]);
            assert!(!rig.turn(0), "one wake-up each");
            rig.heard.clear();
        }
    });
}

#[test]
fn a_shut_door_lets_nobody_in_and_a_new_one_does() {
    both(|rig| {
        let (client, _) = rig.client();
        rig.engine.shut(DOOR);
        rig.settle();
        assert!(TcpStream::connect(rig.address).is_err());
        let door = listen(&Address::Tcp(rig.address), 16, false).unwrap();
        rig.engine.open(DOOR, door);
        rig.client();
        drop(client);
    });
}

#[test]
fn connections_turned_away_are_closed() {
    both(|rig| {
        let mut client = TcpStream::connect(rig.address).unwrap();
        let mut is_away = false;
        while !is_away {
            rig.engine.turn(&[], Some(Duration::from_secs(5))).unwrap();
            while let Some(completion) = rig.engine.next() {
                let Completion::Accepted { arrival, .. } = completion else { panic!() };
                rig.engine.turn_away(arrival);
                is_away = true;
            }
        }
        assert_eq!(read_all(&mut client).unwrap(), b"");
    });
}

/// Has the kernel refuse io_uring_setup(2) to this thread, as a container's profile does.
fn forbid_io_uring() {
    let code = |code: u32| u16::try_from(code).unwrap();
    let nr = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let line = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // The number of the system call is the first word of `struct seccomp_data`.
        line(code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), 0, 0, 0),
        line(code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), 0, 1, nr),
        line(code(libc::BPF_RET | libc::BPF_K), 0, 0, refuse),
        line(code(libc::BPF_RET | libc::BPF_K), 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: takes integers only and binds no one but this thread.
    let outcome = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(outcome, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its four lines live during the call, which copies them.
    let outcome = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(outcome, 0);
}

#[test]
fn where_io_uring_is_refused_auto_takes_epoll_and_names_the_cause() {
    // The filter lasts as long as its thread.
    let test = || {
        forbid_io_uring();
        let wake = || EventFd::new().unwrap().as_fd().try_clone_to_owned().unwrap();
        let (engine, cause) = Engine::start(Choice::Auto, wake()).unwrap();
        let cause = cause.unwrap();
        assert_eq!(engine.name(), "epoll");
        assert!(cause.starts_with("io_uring_setup: ") && cause.contains("EPERM"), "{cause}");
        let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        if switch.is_ok_and(|value| value.trim() == "0") {
            assert!(cause.contains("seccomp"), "{cause}");
        }
        let error = Engine::start(Choice::Uring, wake()).unwrap_err();
        assert!(error.remedy.contains("epoll"), "{error}");
        assert!(Engine::start(Choice::Epoll, wake()).unwrap().1.is_none());
    };
    std::thread::spawn(test).join().unwrap();
}

/// The limit is the whole process's, so the test proper runs in one of its own.
#[test]
fn without_descriptors_a_door_rests_and_opens_again() {
    const MARK: &str = "LYCHGATE_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(MARK).is_some() {
        return both(run_out_of_descriptors);
    }
    let name = "sys::engine::tests::limits::without_descriptors_a_door_rests_and_opens_again";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("1 passed"), "{text}{errors}");
}

fn run_out_of_descriptors(rig: &mut Rig) {
    let address = rig.address;
    let clients: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, used + 2, hard).unwrap();
    rig.until(|rig| !rig.heard.is_empty());
    let paused = Completion::AcceptPaused { door: DOOR, errno: Errno::EMFILE };
    assert_eq!(rig.heard, [paused]);
    let let_in = rig.adopted.len();
    assert!(let_in < clients.len());
    // A socket that closes makes room for the next one at once.
    let first = rig.adopted[0];
    rig.engine.end(first, Ending::Now);
    for _ in 0..4 {
        rig.turn(0);
    }
    assert!(rig.adopted.len() > let_in, "waited for the rest to pass");
    setrlimit(Resource::RLIMIT_NOFILE, 1024, hard).unwrap();
    rig.until(|rig| rig.adopted.len() == clients.len());
    assert!(rig.engine.counters().accepts_paused > 0);
}
