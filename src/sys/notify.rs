//! Words to the service manager by datagram: sd_notify(3) without libsystemd.

use std::io::Result;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// The way to the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    way: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET`: a path, or `@` and an abstract name. Unset: words go nowhere.
    pub fn from_environment() -> Result<Self> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Self::to(name.as_bytes()),
            _ => Ok(Self { way: None }),
        }
    }

    fn to(name: &[u8]) -> Result<Self> {
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(name)))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { way: Some((socket, address)) })
    }

    /// Sends assignments, one a line: `READY=1`, `STATUS=...`.
    pub fn tell(&self, words: &str) -> Result<()> {
        match &self.way {
            Some((socket, address)) => {
                socket.send_to_addr(words.as_bytes(), address).map(|_sent| ())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("lychgate-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_address).unwrap();
        let mut buffer = [0; 64];
        for (socket, name) in [
            (by_path, path.as_os_str().as_bytes().to_vec()),
            (by_name, format!("@{name}").into_bytes()),
        ] {
            Notifier::to(&name).unwrap().tell("READY=1").unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        Notifier { way: None }.tell("READY=1").unwrap();
    }
}
