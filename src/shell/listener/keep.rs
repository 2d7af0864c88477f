//! What the listener process holds for the supervisor: listening sockets and whatever else is to
//! outlive it. When the supervisor dies, its successor takes all of that from here, over a socket
//! in the home folder, and the connection becomes the control channel.

use super::Frame;
use crate::base::id::DoorId;
use crate::plan::Plan;
use crate::shell::control::{self, FromListener};
use crate::sys::fdpass::{self, DESCRIPTORS_MAX};
use crate::sys::poll::{self, Interest};
use crossbeam::channel::{Receiver, bounded};
use nix::sys::stat::{SFlag, fstat};
use std::collections::BTreeMap;
use std::io::{self, stderr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

/// The name under which the supervisor leaves the socket where its successor is awaited.
pub(super) const HEIR: &str = "heir";
/// Descriptors under names, all together.
const KEPT_MAX: usize = 4096;
const NAME_SIZE_MAX: usize = 256;
/// A successor that does not take what it asked for is none.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(10);
/// Taken from an application's output at once; what a pipe takes without waiting (pipe(7)).
const CHUNK_SIZE: usize = 4096;
/// After a failure that may come again at once.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Keep {
    /// By door and thread.
    sockets: BTreeMap<(u16, u16), OwnedFd>,
    /// Of the doors of the plan in force, as it has them.
    addresses: BTreeMap<u16, String>,
    kept: BTreeMap<String, Vec<OwnedFd>>,
    /// As whom the supervisor runs: root or this user may be its successor.
    owner: u32,
}

/// What a new supervisor is told first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) threads: u16,
    /// Of the configuration in force.
    pub(super) revision: u64,
}

/// A successor's connection, and what is to be handed over to it.
pub(super) type Succession = (OwnedFd, Keep);

impl Keep {
    /// `control` is the channel of the supervisor that started this process.
    pub(super) fn new(control: BorrowedFd<'_>) -> Result<Self, String> {
        let owner = fdpass::peer(control)
            .map_err(|error| format!("asking whose the control channel is: {error}"))?;
        let (sockets, addresses, kept) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { sockets, addresses, kept, owner })
    }

    pub(super) fn open(&mut self, door: u16, thread: u16, socket: &OwnedFd) -> Result<(), String> {
        let copy = socket.try_clone().map_err(|e| format!("keeping a listening socket: {e}"))?;
        self.sockets.insert((door, thread), copy);
        Ok(())
    }

    pub(super) fn shut(&mut self, door: u16) {
        self.sockets.retain(|(other, _), _| *other != door);
    }

    /// Nothing is to be accepted any more, nor to be taken over.
    pub(super) fn close(&mut self) {
        self.sockets.clear();
        self.kept.clear();
    }

    pub(super) fn configure(&mut self, plan: &Plan, doors: &[DoorId]) {
        let addresses = plan.listeners.iter().map(|listener| listener.address.to_string());
        self.addresses = doors.iter().map(|door| door.0).zip(addresses).collect();
    }

    pub(super) fn keep(&mut self, name: String, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let count: usize = self.kept.values().map(Vec::len).sum();
        let before = self.kept.get(&name).map_or(0, Vec::len);
        if name.len() > NAME_SIZE_MAX || count - before + descriptors.len() > KEPT_MAX {
            return Err(format!("keeping {name}: there is no room for it"));
        }
        self.kept.insert(name, descriptors);
        Ok(())
    }

    pub(super) fn release(&mut self, name: &str) {
        self.kept.remove(name);
    }

    /// Whether a successor could come.
    pub(super) fn has_heir(&self) -> bool {
        self.kept.contains_key(HEIR)
    }

    /// Waits for a successor, on a thread of its own; until it comes, what applications write is
    /// passed on to standard error, so that none has to wait for a reader.
    pub(super) fn wait(self) -> Result<Receiver<Succession>, String> {
        let (comes, came) = bounded(1);
        let wait = move || {
            let connection = self.await_heir();
            // Nobody waits any more when the process ends.
            let _ = comes.send((connection, self));
        };
        Builder::new()
            .name("heir".into())
            .spawn(wait)
            .map_err(|error| format!("starting the thread that waits for a supervisor: {error}"))?;
        Ok(came)
    }

    fn await_heir(&self) -> OwnedFd {
        let heirs = self.kept.get(HEIR).into_iter().flatten();
        let outputs = self.kept.iter().filter(|(name, _)| *name != HEIR).flat_map(|(_, all)| all);
        let mut watched: Vec<(BorrowedFd<'_>, Interest)> = heirs
            .chain(outputs.filter(|one| is_pipe(one)))
            .map(|one| (one.as_fd(), Interest::Read))
            .collect();
        let mut ready = Vec::new();
        loop {
            if let Err(error) = poll::wait(&watched, None, &mut ready) {
                tracing::warn!("waiting for a supervisor: {error}");
                std::thread::sleep(PAUSE);
                continue;
            }
            if ready.first() == Some(&true)
                && let Some(connection) = self.admit(watched[0].0)
            {
                return connection;
            }
            let mut at = 0;
            watched.retain(|(output, _)| {
                at += 1;
                at == 1 || !ready.get(at - 1).is_some_and(|is_ready| *is_ready) || pass_on(*output)
            });
        }
    }

    fn admit(&self, waiting: BorrowedFd<'_>) -> Option<OwnedFd> {
        match fdpass::accept(waiting) {
            Ok((connection, uid)) if uid == 0 || uid == self.owner => Some(connection),
            Ok((_, uid)) => {
                tracing::warn!("waiting for a supervisor: user {uid} may not be it. Refused");
                None
            }
            Err(error) => {
                tracing::warn!("waiting for a supervisor: {error}");
                std::thread::sleep(PAUSE);
                None
            }
        }
    }

    /// Tells the successor everything, and gives it copies of all descriptors.
    pub(super) fn hand_over(&self, to: BorrowedFd<'_>, standing: Standing) -> io::Result<()> {
        fdpass::limit(to, HAND_OVER_LIMIT)?;
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let Standing { threads, revision } = standing;
        control::hand_over(to, &FromListener::Inherit { pid, threads, revision }, &[])?;
        for ((door, thread), socket) in &self.sockets {
            let Some(address) = self.addresses.get(door).cloned() else { continue };
            let word = FromListener::Door { door: *door, thread: *thread, address };
            control::hand_over(to, &word, &[socket.as_fd()])?;
        }
        for (name, descriptors) in &self.kept {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            for part in borrowed.chunks(DESCRIPTORS_MAX) {
                control::hand_over(to, &FromListener::Kept { name: name.clone() }, part)?;
            }
        }
        control::hand_over(to, &FromListener::Inherited, &[])?;
        fdpass::unlimit(to)
    }
}

/// The connection as a control channel, with a thread that reads from it.
pub(super) fn succeed(connection: OwnedFd) -> Result<(Arc<OwnedFd>, Receiver<Frame>), String> {
    let control = Arc::new(connection);
    let frames = super::read_frames(Arc::clone(&control))?;
    Ok((control, frames))
}

fn is_pipe(descriptor: &OwnedFd) -> bool {
    fstat(descriptor)
        .is_ok_and(|found| found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits())
}

/// To standard error, or to nowhere if that takes nothing now. False at the end.
fn pass_on(output: BorrowedFd<'_>) -> bool {
    let mut chunk = [0; CHUNK_SIZE];
    match nix::unistd::read(output, &mut chunk) {
        Ok(0) => false,
        Ok(size) => {
            let (standard, mut ready) = (stderr(), Vec::new());
            let watched = [(standard.as_fd(), Interest::Write)];
            if poll::wait(&watched, Some(Duration::ZERO), &mut ready).is_ok() && ready == [true] {
                let _ = nix::unistd::write(standard.as_fd(), &chunk[..size]);
            }
            true
        }
        Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write, pipe};
    use std::path::Path;

    const STANDING: Standing = Standing { threads: 2, revision: 5 };

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    /// One that waits at this path, with an output and the rights of `owner`.
    fn keep(path: &Path, owner: u32) -> (Keep, io::PipeWriter) {
        let (ours, _theirs) = fdpass::pair().unwrap();
        let mut keep = Keep::new(ours.as_fd()).unwrap();
        assert_eq!(keep.owner, crate::sys::identity::own_uid());
        keep.owner = owner;
        keep.keep(HEIR.into(), vec![fdpass::listen(path).unwrap()]).unwrap();
        let (out, into) = pipe().unwrap();
        keep.keep("output/shop".into(), vec![out.into()]).unwrap();
        (keep, into)
    }

    #[test]
    fn everything_is_handed_over_and_nothing_that_was_shut_or_released() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keep, mut into) = keep(&folder.path().join("heir"), 0);
        let text = "[[listen]]\naddress = \"127.0.0.1:80\"\n[[site]]\nname = \"a\"\n[[site.route]]\n\
                    path = \"/\"\npool = \"p\"\n[pool.p]\nservers = [\"127.0.0.1:81\"]\n";
        let plan: Plan = crate::shell::config::parse(text, "a").unwrap();
        keep.configure(&plan, &[DoorId(3)]);
        for (door, thread) in [(3, 0), (3, 1), (4, 0)] {
            keep.open(door, thread, &null()).unwrap();
        }
        keep.shut(4);
        keep.keep("gone".into(), vec![null()]).unwrap();
        keep.release("gone");
        keep.keep("many".into(), (0..70).map(|_| null()).collect()).unwrap();

        let (ours, theirs) = fdpass::pair().unwrap();
        keep.hand_over(ours.as_fd(), STANDING).unwrap();
        let mut buffer = vec![0; control::FRAME_SIZE_MAX];
        let mut heard = Vec::new();
        let mut output = None;
        loop {
            let (word, mut all) = control::take_over(theirs.as_fd(), &mut buffer).unwrap().unwrap();
            let is_last = word == FromListener::Inherited;
            if matches!(&word, FromListener::Kept { name } if name == "output/shop") {
                output = all.pop();
                all.push(null());
            }
            heard.push((word, all.len()));
            if is_last {
                break;
            }
        }
        let door = |thread| FromListener::Door { door: 3, thread, address: "127.0.0.1:80".into() };
        let kept = |name: &str| FromListener::Kept { name: name.into() };
        let pid = i32::try_from(std::process::id()).unwrap();
        let expected = [
            (FromListener::Inherit { pid, threads: 2, revision: 5 }, 0),
            (door(0), 1),
            (door(1), 1),
            (kept(HEIR), 1),
            (kept("many"), 64),
            (kept("many"), 6),
            (kept("output/shop"), 1),
            (FromListener::Inherited, 0),
        ];
        assert_eq!(heard, expected);
        // It is the same pipe.
        into.write_all(b"words").unwrap();
        let mut words = [0; 5];
        std::fs::File::from(output.unwrap()).read_exact(&mut words).unwrap();
        assert_eq!(&words, b"words");
    }

    #[test]
    fn a_successor_is_awaited_while_applications_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heir");
        let (keep, mut into) = keep(&path, crate::sys::identity::own_uid());
        let came = keep.wait().unwrap();
        // More than a pipe holds: somebody reads.
        into.write_all(&vec![b'\n'; 300 * 1024]).unwrap();
        drop(into);
        let connection = fdpass::connect(&path, Duration::from_secs(10)).unwrap();
        let (accepted, keep) = came.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(keep.has_heir());
        let (control, frames) = succeed(accepted).unwrap();
        keep.hand_over(control.as_fd(), STANDING).unwrap();
        drop(connection);
        assert!(frames.recv_timeout(Duration::from_secs(10)).unwrap().is_none());
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keep, _into) = keep(&folder.path().join("heir"), 0);
        keep.kept.insert("full".into(), Vec::new());
        assert!(keep.keep("x".repeat(NAME_SIZE_MAX + 1), Vec::new()).is_err());
        let few = |count: usize| (0..count).map(|_| null()).collect::<Vec<_>>();
        let mut kept = 2;
        while kept + 60 <= KEPT_MAX.min(600) {
            keep.keep(format!("{kept}"), few(60)).unwrap();
            kept += 60;
        }
        assert!(keep.keep("more".into(), few(1)).is_ok());
        // What replaces as much as it brings has room.
        keep.keep("2".into(), few(60)).unwrap();
        keep.close();
        assert!(!keep.has_heir() && keep.kept.is_empty());
    }
}
