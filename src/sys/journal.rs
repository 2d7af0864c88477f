//! Entries for the system's journal in its native protocol, by datagram, so that each fact of an
//! event is a field of its own (systemd's "Native Journal Protocol", JOURNAL_NATIVE_PROTOCOL).

use std::io::{ErrorKind, Result};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where journald listens.
pub const PATH: &str = "/run/systemd/journal/socket";

/// How urgent an entry is, as in syslog(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Error = 3,
    Warning = 4,
    Info = 6,
}

/// The way to the journal, if there is one.
#[derive(Debug)]
pub struct Journal {
    way: Option<(UnixDatagram, PathBuf)>,
}

impl Journal {
    /// To the socket at `path`; where there is none, entries go nowhere.
    pub fn at(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self { way: None });
        }
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { way: Some((socket, path.to_owned())) })
    }

    /// Entries go nowhere.
    pub const fn nowhere() -> Self {
        Self { way: None }
    }

    /// Sends one entry. `fields` are pairs of name and text; names are upper case letters, digits
    /// and underscores, beginning with a letter. A journal that is being restarted misses it, and
    /// one that is busy too: never waits. False: nobody got it.
    pub fn send(&self, priority: Priority, message: &str, fields: &[(&str, &str)]) -> Result<bool> {
        let Some((socket, path)) = &self.way else { return Ok(false) };
        let mut entry = Vec::with_capacity(256);
        write(&mut entry, "MESSAGE", message);
        write(&mut entry, "PRIORITY", &(priority as u8).to_string());
        for (name, value) in fields {
            write(&mut entry, name, value);
        }
        match socket.send_to(&entry, path) {
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock => {
                    Ok(false)
                }
                _ => Err(error),
            },
        }
    }
}

/// `NAME=value`, or the form that carries its length where the value has lines of its own, which
/// would else be read as further fields.
fn write(entry: &mut Vec<u8>, name: &str, value: &str) {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    debug_assert!(name.bytes().all(is_name) && name.starts_with(|c: char| c.is_ascii_uppercase()));
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_so_that_no_value_makes_another_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        let journal = Journal::at(&path).unwrap();
        let fields = [("POOL", "a"), ("REASON", "x\nPOOL=b")];
        assert!(journal.send(Priority::Warning, "it died", &fields).unwrap());
        let mut buffer = [0; 256];
        let size = heard.recv(&mut buffer).unwrap();
        let expected = [
            &b"MESSAGE=it died\nPRIORITY=4\nPOOL=a\nREASON\n"[..],
            &[8, 0, 0, 0, 0, 0, 0, 0],
            b"x\nPOOL=b\n",
        ];
        assert_eq!(&buffer[..size], expected.concat());
    }

    #[test]
    fn a_journal_that_is_not_there_or_not_awake_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for absent in [Journal::at(&path).unwrap(), Journal::nowhere()] {
            assert!(!absent.send(Priority::Info, "x", &[]).unwrap());
        }
        let heard = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        for _ in 0..2000 {
            journal.send(Priority::Info, &"x".repeat(1000), &[]).unwrap();
        }
        drop(heard);
        assert!(!journal.send(Priority::Info, "x", &[]).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!journal.send(Priority::Info, "x", &[]).unwrap());
        let _again = UnixDatagram::bind(&path).unwrap();
        assert!(journal.send(Priority::Info, "x", &[]).unwrap());
    }
}
