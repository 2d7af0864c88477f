//! The control socket: made for its owner alone, and never taken from a supervisor that lives.

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Listens on `path`, nonblocking.
pub(super) fn listen(path: &Path) -> Result<UnixListener, String> {
    let say = |doing: &str, error: &Error| format!("{doing} {}: {error}", path.display());
    let socket = match bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            clear(path)?;
            bind(path)
        }
        outcome => outcome,
    };
    let socket = socket.map_err(|error| {
        let remedy = "Its folder must exist and be ours: server.control or --control names another";
        format!("{}. {remedy}", say("making the control socket", &error))
    })?;
    socket.listen(BACKLOG).map_err(|error| say("listening on the control socket", &error))?;
    Ok(socket.into())
}

/// The mode is set before the file exists, so there is no moment in which it is too open.
fn bind(path: &Path) -> Result<Socket, Error> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&address)?;
    Ok(socket)
}

/// Removes a socket on which nobody listens.
fn clear(path: &Path) -> Result<(), String> {
    let at = path.display();
    let meta = std::fs::symlink_metadata(path)
        .map_err(|error| format!("looking at the control socket {at}: {error}"))?;
    if !meta.file_type().is_socket() {
        return Err(format!(
            "making the control socket {at}: there is something else. Move it away, or name \
             another path with server.control or --control"
        ));
    }
    match try_connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) => return Err(format!("asking who listens on {at}: {error}")),
        Ok(()) => {
            return Err(format!(
                "making the control socket {at}: another lychgate listens there. Stop it, or name \
                 another path with server.control or --control"
            ));
        }
    }
    std::fs::remove_file(path).map_err(|error| format!("removing the dead socket {at}: {error}"))
}

/// Without waiting: a full backlog is somebody who listens.
fn try_connect(path: &Path) -> Result<(), Error> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_socket_is_its_owners_alone_and_a_dead_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = listen(&path).unwrap_err();
        assert!(refused.contains("another lychgate listens there"), "{refused}");
        try_connect(&path).unwrap();
        drop(first);
        let _second = listen(&path).unwrap();
        try_connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(listen(&path).unwrap_err().contains("something else"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let nowhere = folder.path().join("none/control.sock");
        assert!(listen(&nowhere).unwrap_err().contains("server.control"));
    }

    #[test]
    fn a_full_backlog_is_somebody_who_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _listener = listen(&path).unwrap();
        let mut connected = Vec::new();
        loop {
            let socket =
                Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).unwrap();
            if socket.connect(&SockAddr::unix(&path).unwrap()).is_err() {
                break;
            }
            connected.push(socket);
        }
        assert!(listen(&path).unwrap_err().contains("another lychgate"));
    }
}
