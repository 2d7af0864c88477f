//! Ports for listeners whose address must be known before they listen.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's ephemeral range, so that no outgoing connection takes one.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback port that is this test's until dropped. Claimed among all test processes of the
/// machine by an abstract socket name, which the kernel frees with the process.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _claim: UnixDatagram,
}

impl Port {
    pub(crate) fn claim() -> Self {
        let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start.wrapping_mul(37).wrapping_add(step)) % COUNT;
            let name = format!("lychgate-test-port-{number}");
            let address = SocketAddr::from_abstract_name(name).unwrap();
            let Ok(claim) = UnixDatagram::bind_addr(&address) else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no free port from {FIRST} to {}", FIRST + COUNT);
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
