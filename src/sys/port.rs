//! TCP ports: one that is free, and whether somebody has one already.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// A loopback port that was free a moment ago. The kernel gives ports out in an order that does
/// not soon repeat, so that the taker finds it free too, in all but the rarest case.
pub fn free_loopback() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// How long a port may stay taken by a process that has ended: the kernel takes rings down after
/// the process, 4 to 12 ms after on an idle machine, and what was accepted on with them.
const GONE_LIMIT: Duration = Duration::from_millis(300);
const GONE_PAUSE: Duration = Duration::from_millis(5);

/// An error when somebody listens on the address already, for a while at least. Our own listening sockets share their
/// address by SO_REUSEPORT, which would let a second front door in unnoticed; this does not.
pub fn ensure_free(address: SocketAddr) -> Result<()> {
    let mut waited = Duration::ZERO;
    loop {
        match bind_alone(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && waited < GONE_LIMIT => {
                std::thread::sleep(GONE_PAUSE);
                waited += GONE_PAUSE;
            }
            bound => return bound,
        }
    }
}

fn bind_alone(address: SocketAddr) -> Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_listened_on_is_not_free_even_when_shared() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_loopback().unwrap()));
        ensure_free(address).unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(1).unwrap();
        assert_eq!(ensure_free(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        // A port that gets free while it is asked for is free.
        let late = std::thread::spawn(move || {
            std::thread::sleep(GONE_PAUSE * 2);
            drop(socket);
        });
        ensure_free(address).unwrap();
        late.join().unwrap();
    }
}
