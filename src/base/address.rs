//! Where something listens.

use alloc::string::String;
use core::fmt;
use core::net::SocketAddr;

/// An address of a listener or of a server: `127.0.0.1:80`, `[::1]:80` or `unix:/run/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    Tcp(SocketAddr),
    /// An absolute path, at most [`super::limits::UNIX_PATH_MAX`] bytes (unix(7)).
    Unix(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Who is on the other side of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    /// UNIX sockets have no address worth a log line; they count as local.
    Unix,
}
