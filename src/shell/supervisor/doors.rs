//! The listening sockets: made here, kept open for the supervisor's life, so that connections wait
//! in the kernel while a listener process dies and the next one starts.

use super::adopt::InheritedSocket;
use crate::base::address::Address;
use crate::plan;
use crate::shell::control::parse_address;
use crate::sys::fdpass::DESCRIPTORS_MAX;
use crate::sys::port;
use crate::sys::socket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// A listening address. Its number is never given to another one.
#[derive(Debug)]
struct Door {
    /// As configured.
    address: Address,
    /// One per listener thread for TCP (SO_REUSEPORT spreads connections over them); one shared
    /// by all threads for a UNIX socket, which has no such thing. Empty: closed.
    sockets: Vec<Arc<OwnedFd>>,
}

#[derive(Debug)]
pub struct Doors {
    threads: u16,
    doors: Vec<Door>,
}

/// Sockets for one message: (door, thread) each, and the descriptors in the same order.
pub(super) type Batch = (Vec<(u16, u16)>, Vec<Arc<OwnedFd>>);

impl Doors {
    pub(super) fn new(threads: u16) -> Self {
        Self { threads, doors: Vec::new() }
    }

    /// The doors of an earlier supervisor, under their numbers; `threads` are those of its
    /// listener. What is no address is left closed.
    pub fn adopted(threads: u16, mut sockets: Vec<InheritedSocket>) -> Self {
        let mut doors = Self::new(threads);
        sockets.sort_by_key(|one| (one.door, one.thread));
        for InheritedSocket { door: number, address, socket, .. } in sockets {
            let Some(address) = parse_address(&address) else { continue };
            while doors.doors.len() <= usize::from(number) {
                // A number that was given before is nobody's now.
                let nowhere = Address::Unix(String::new());
                doors.doors.push(Door { address: nowhere, sockets: Vec::new() });
            }
            let door = &mut doors.doors[usize::from(number)];
            // Of a UNIX socket each thread has a copy.
            if door.sockets.is_empty() || matches!(address, Address::Tcp(_)) {
                door.sockets.push(socket);
            }
            door.address = address;
        }
        doors
    }

    pub(super) fn threads(&self) -> u16 {
        self.threads
    }

    /// Opens what is not open yet: the door of each listener, and the doors opened by this call.
    /// On failure everything is as before.
    pub(super) fn open(
        &mut self,
        listeners: &[plan::Listener],
    ) -> Result<(Vec<u16>, Vec<u16>), String> {
        let mut opened = Vec::new();
        let mut doors = Vec::new();
        for listener in listeners {
            let number = self.number(&listener.address);
            doors.push(number);
            let door = &mut self.doors[usize::from(number)];
            if !door.sockets.is_empty() {
                set_backlog(&door.sockets, listener.backlog);
                continue;
            }
            match make(&listener.address, listener.backlog, self.threads) {
                Ok(sockets) => {
                    door.sockets = sockets;
                    opened.push(number);
                }
                Err(error) => {
                    for number in opened {
                        self.close(number);
                    }
                    return Err(format!("listening on {}: {error}", listener.address));
                }
            }
        }
        Ok((doors, opened))
    }

    fn number(&mut self, address: &Address) -> u16 {
        let known = self.doors.iter().position(|door| door.address == *address);
        let place = known.unwrap_or_else(|| {
            self.doors.push(Door { address: address.clone(), sockets: Vec::new() });
            self.doors.len() - 1
        });
        u16::try_from(place).expect("an address is seldom new, and a plan has at most 256")
    }

    /// Closes all but these; says which.
    pub(super) fn keep(&mut self, doors: &[u16]) -> Vec<u16> {
        let open = (0..).zip(&self.doors).filter(|(_, door)| !door.sockets.is_empty());
        let surplus: Vec<u16> =
            open.map(|(number, _)| number).filter(|number| !doors.contains(number)).collect();
        for number in &surplus {
            self.close(*number);
        }
        surplus
    }

    pub(super) fn close(&mut self, number: u16) {
        let door = &mut self.doors[usize::from(number)];
        let was_open = !std::mem::take(&mut door.sockets).is_empty();
        if let (true, Address::Unix(path)) = (was_open, &door.address) {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Where a door really listens: differs from the configuration for port 0.
    pub(super) fn bound(&self, number: u16) -> String {
        let door = &self.doors[usize::from(number)];
        let bound = door.sockets.first().and_then(|first| socket::local_address(first).ok());
        bound.as_ref().unwrap_or(&door.address).to_string()
    }

    /// The sockets of these doors for all threads, in messages.
    pub(super) fn batches(&self, doors: &[u16]) -> Vec<Batch> {
        let mut all = Vec::new();
        for number in doors {
            let sockets = &self.doors[usize::from(*number)].sockets;
            for (thread, socket) in (0..self.threads).zip(sockets.iter().cycle()) {
                all.push(((*number, thread), Arc::clone(socket)));
            }
        }
        all.chunks(DESCRIPTORS_MAX).map(|chunk| chunk.iter().cloned().unzip()).collect()
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.keep(&[]);
    }
}

fn make(address: &Address, backlog: u32, threads: u16) -> Result<Vec<Arc<OwnedFd>>, String> {
    let tcp = match address {
        Address::Unix(_) => {
            let one = socket::listen(address, backlog, false);
            return one.map(|socket| vec![Arc::new(socket)]).map_err(|error| error.to_string());
        }
        Address::Tcp(address) => *address,
    };
    port::ensure_free(tcp)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "the address is in use: another program listens there. Stop it or choose another"
                    .to_owned()
            }
            // The same call fails again below, with the remedy in its words.
            _ => String::new(),
        })
        .or_else(|why| if why.is_empty() { Ok(()) } else { Err(why) })?;
    let mut sockets: Vec<Arc<OwnedFd>> = Vec::new();
    for _ in 0..threads.max(1) {
        // Port 0 means the same free port for all of them.
        let bound = sockets.first().and_then(|first| socket::local_address(first).ok());
        let target = bound.as_ref().unwrap_or(address);
        let one = socket::listen(target, backlog, true);
        sockets.push(Arc::new(one.map_err(|error| error.to_string())?));
    }
    Ok(sockets)
}

/// A second listen(2) only changes the backlog.
fn set_backlog(sockets: &[Arc<OwnedFd>], backlog: u32) {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    for one in sockets {
        debug_assert!(one.as_raw_fd() >= 0);
        let _ = socket2::SockRef::from(one.as_ref()).listen(backlog);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpStream};

    fn listener(address: Address) -> plan::Listener {
        plan::Listener { address, backlog: 16 }
    }

    fn any_port() -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[test]
    fn a_door_has_a_socket_for_each_thread_and_keeps_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("front.sock");
        let unix = Address::Unix(path.to_str().unwrap().into());
        let mut doors = Doors::new(3);
        let both = [listener(any_port()), listener(unix.clone())];
        let (numbers, opened) = doors.open(&both).unwrap();
        assert_eq!((&numbers[..], &opened[..]), (&[0, 1][..], &[0, 1][..]));
        let batches = doors.batches(&numbers);
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].0, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
        drop(batches);
        let address: SocketAddr = doors.bound(0).parse().unwrap();
        TcpStream::connect(address).unwrap();
        assert_eq!(doors.keep(&[1]), [0]);
        assert!(TcpStream::connect(address).is_err());
        let (numbers, opened) = doors.open(&both).unwrap();
        assert_eq!((&numbers[..], &opened[..]), (&[0, 1][..], &[0][..]));
        drop(doors);
        assert!(!path.exists());
    }

    #[test]
    fn adopted_doors_keep_their_numbers_and_are_not_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("front.sock");
        let unix = Address::Unix(path.to_str().unwrap().into());
        let mut first = Doors::new(2);
        let (numbers, _) = first.open(&[listener(any_port()), listener(unix.clone())]).unwrap();
        let (address, inherited) = (any_port().to_string(), first.batches(&numbers).remove(0));
        let sockets = inherited.0.into_iter().zip(inherited.1);
        let sockets = sockets.map(|((door, thread), socket)| InheritedSocket {
            // As if another door had been shut between the two.
            door: door * 2,
            thread,
            address: if door == 0 { address.clone() } else { unix.to_string() },
            socket,
        });
        let mut doors = Doors::adopted(2, sockets.collect());
        let both = [listener(unix.clone()), listener(any_port())];
        assert_eq!(doors.open(&both).unwrap(), (vec![2, 0], vec![]));
        assert_eq!(doors.bound(0), first.bound(0));
        assert_eq!(doors.batches(&[0, 2])[0].0, [(0, 0), (0, 1), (2, 0), (2, 1)]);
        assert_eq!(doors.doors[2].sockets.len(), 1);
        assert_eq!(doors.keep(&[2]), [0]);
    }

    #[test]
    fn a_taken_address_is_named_and_nothing_stays_open() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = Address::Tcp(other.local_addr().unwrap());
        let mut doors = Doors::new(2);
        let error = doors.open(&[listener(any_port()), listener(taken.clone())]).unwrap_err();
        assert!(error.contains(&taken.to_string()) && error.contains("another program"), "{error}");
        assert!(doors.keep(&[]).is_empty());
    }
}
