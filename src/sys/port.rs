//! TCP ports: one that is free, and whether somebody has one already.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::Result;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A loopback port that was free a moment ago. The kernel gives ports out in an order that does
/// not soon repeat, so that the taker finds it free too, in all but the rarest case.
pub fn free_loopback() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// An error when somebody listens on the address already. Our own listening sockets share their
/// address by SO_REUSEPORT, which would let a second front door in unnoticed; this does not.
pub fn ensure_free(address: SocketAddr) -> Result<()> {
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
        let error = ensure_free(address).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
}
