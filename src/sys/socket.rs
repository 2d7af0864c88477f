//! Listening sockets, made by the supervisor for the listener, and the addresses of sockets.

use crate::base::address::Address;
use crate::sys::errno::Error;
use nix::errno::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Permissions of the socket files that we make: owner and group may connect, others may not.
/// Whoever lets another account in gives it the group.
pub const UNIX_MODE: u32 = 0o660;

/// Binds and listens: nonblocking, close-on-exec, and for TCP with SO_REUSEADDR and TCP_NODELAY,
/// which accepted sockets inherit. `backlog` is capped by net.core.somaxconn.
///
/// With `reuse_port` several sockets share a TCP address and the kernel spreads connections over
/// them (SO_REUSEPORT, socket(7)): every one must ask for it, by the same user. UNIX sockets have
/// no such thing and ignore it.
///
/// A UNIX path that exists is replaced only if it is a socket on which nobody listens any more.
pub fn listen(address: &Address, backlog: u32, reuse_port: bool) -> Result<OwnedFd, Error> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let socket = match address {
        Address::Tcp(address) => bind_tcp(&SockAddr::from(*address), reuse_port)?,
        Address::Unix(path) => bind_unix(Path::new(path))?,
    };
    socket.listen(backlog).map_err(Error::by("listen"))?;
    Ok(socket.into())
}

/// Where a socket is bound; tells the port that the kernel chose for port 0. `EAFNOSUPPORT` for a
/// socket that has no address of ours: of another family, unnamed or abstract.
pub fn local_address(socket: &impl AsFd) -> Result<Address, Error> {
    let address = SockRef::from(socket).local_addr().map_err(Error::by("getsockname"))?;
    if let Some(address) = address.as_socket() {
        return Ok(Address::Tcp(address));
    }
    let path = address.as_pathname().and_then(Path::to_str);
    let path = path.ok_or(Error::new("getsockname", Errno::EAFNOSUPPORT))?;
    Ok(Address::Unix(path.to_owned()))
}

/// The kernel's form of an address.
pub(crate) fn encode(address: &Address) -> Result<SockAddr, Error> {
    match address {
        Address::Tcp(address) => Ok(SockAddr::from(*address)),
        Address::Unix(path) => SockAddr::unix(path).map_err(Error::by("encoding a socket path")),
    }
}

fn bind_tcp(address: &SockAddr, reuse_port: bool) -> Result<Socket, Error> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(address.domain(), kind, None).map_err(Error::by("socket"))?;
    socket.set_reuse_address(true).map_err(Error::by("setsockopt SO_REUSEADDR"))?;
    if reuse_port {
        socket.set_reuse_port(true).map_err(Error::by("setsockopt SO_REUSEPORT"))?;
    }
    if address.domain() == Domain::IPV6 {
        // [::] must not take the IPv4 address of the same port that another listener may name.
        socket.set_only_v6(true).map_err(Error::by("setsockopt IPV6_V6ONLY"))?;
    }
    socket.set_tcp_nodelay(true).map_err(Error::by("setsockopt TCP_NODELAY"))?;
    socket.bind(address).map_err(|error| explain_bind(&error))?;
    Ok(socket)
}

fn explain_bind(error: &io::Error) -> Error {
    let error = Error::of("bind", error);
    let remedy = match error.errno {
        Errno::EADDRINUSE => "Another program listens there: stop it or choose another address.",
        Errno::EACCES => {
            "The port needs a privilege: start as root, grant CAP_NET_BIND_SERVICE or choose a port from 1024 up."
        }
        Errno::EADDRNOTAVAIL => {
            "This machine has no such address: choose one that `ip addr` shows."
        }
        _ => "",
    };
    error.with_remedy(remedy)
}

fn explain_bind_path(error: &io::Error) -> Error {
    let error = Error::of("bind", error);
    let remedy = match error.errno {
        Errno::ENOENT | Errno::ENOTDIR => "Make the folder first, or choose another path.",
        Errno::EACCES | Errno::EROFS => {
            "This user may not write to the folder: change its rights or choose another path."
        }
        Errno::EADDRINUSE => "Another program listens there: stop it or choose another path.",
        _ => "",
    };
    error.with_remedy(remedy)
}

fn bind_unix(path: &Path) -> Result<Socket, Error> {
    let address = SockAddr::unix(path).map_err(Error::by("encoding the socket path"))?;
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::UNIX, kind, None).map_err(Error::by("socket"))?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &address)?;
            socket.bind(&address).map_err(|error| explain_bind_path(&error))?;
        }
        bound => bound.map_err(|error| explain_bind_path(&error))?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(UNIX_MODE)).map_err(Error::by("chmod"))?;
    Ok(socket)
}

/// Removes a socket file that a dead process left behind, and nothing else.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), Error> {
    let file = fs::symlink_metadata(path).map_err(Error::by("stat"))?;
    if !file.file_type().is_socket() {
        return Err(Error::new("bind", Errno::EADDRINUSE)
            .with_remedy("A file that is no socket stands at the path: move it away."));
    }
    let kind = Type::STREAM.nonblocking().cloexec();
    let probe = Socket::new(Domain::UNIX, kind, None).map_err(Error::by("socket"))?;
    match probe.connect(address) {
        // Refused is the kernel's word that the file has no listener behind it (unix(7)).
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(Error::by("unlink"))
        }
        _ => Err(Error::new("bind", Errno::EADDRINUSE)
            .with_remedy("Another program listens there: stop it or choose another path.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn loopback() -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let listener = listen(&loopback(), 4, false).unwrap();
        let Address::Tcp(address) = local_address(&listener).unwrap() else { panic!() };
        assert_ne!(address.port(), 0);
        let _client = TcpStream::connect(address).unwrap();
        let (accepted, _) = SockRef::from(&listener).accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap());
    }

    #[test]
    fn a_tcp_address_is_shared_only_when_asked() {
        let first = listen(&loopback(), 4, true).unwrap();
        let address = local_address(&first).unwrap();
        listen(&address, 4, true).unwrap();
        let refused = listen(&address, 4, false).unwrap_err();
        assert_eq!((refused.call, refused.errno), ("bind", Errno::EADDRINUSE));
        assert!(!refused.remedy.is_empty());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let address = Address::Unix(path.to_str().unwrap().to_owned());

        drop(UnixListener::bind(&path).unwrap());
        let listener = listen(&address, 4, false).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(local_address(&listener).unwrap(), address);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, UNIX_MODE);

        let taken = listen(&address, 4, false).unwrap_err();
        assert_eq!(taken.errno, Errno::EADDRINUSE);
        UnixStream::connect(&path).unwrap();

        drop(listener);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let kept = listen(&address, 4, false).unwrap_err();
        assert_eq!(kept.errno, Errno::EADDRINUSE);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_socket_without_a_folder_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none/app.sock");
        let error =
            listen(&Address::Unix(path.to_str().unwrap().to_owned()), 4, false).unwrap_err();
        assert_eq!(error.errno, Errno::ENOENT);
        assert!(error.to_string().contains("Make the folder"), "{error}");
        // A path has no privileged ports.
        let denied = explain_bind_path(&io::Error::from_raw_os_error(Errno::EACCES as i32));
        assert!(!denied.to_string().contains("port"), "{denied}");
    }
}
