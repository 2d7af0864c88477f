//! Taking over from a supervisor that died: its listener with all listening sockets, and the
//! workers that are still there.

use super::state::{Mark, PoolState, State, WorkerState};
use crate::base::limits::{LISTENERS_MAX, THREADS_MAX};
use crate::machine::pool::seam::{Phase, WorkerId};
use crate::shell::control::{self, Channel, FRAME_SIZE_MAX, FromListener};
use crate::sys::clock;
use crate::sys::fdpass;
use crate::sys::poll::{self, Interest};
use crate::sys::process::{self, Child};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// For the next word of a listener, and for its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// All that it has to say.
const LIMIT: Duration = Duration::from_secs(30);
/// What workers without a listener may take to be gone once they are killed.
const END_LIMIT: Duration = Duration::from_secs(5);
const KEPT_MAX: usize = 8192;

/// A listener that serves on, and what it held.
#[derive(Debug)]
pub struct Inheritance {
    pub channel: Channel,
    pub listener: Child,
    pub threads: u16,
    /// Of the configuration that it serves.
    pub revision: u64,
    pub sockets: Vec<InheritedSocket>,
    /// By the names under which they were left.
    pub kept: BTreeMap<String, Vec<OwnedFd>>,
}

/// A listening socket of a thread.
#[derive(Clone, Debug)]
pub struct InheritedSocket {
    pub door: u16,
    pub thread: u16,
    /// As configured.
    pub address: String,
    pub socket: Arc<OwnedFd>,
}

/// The name under which a worker's output is left with the listener.
pub fn output_name(pool: &str, worker: WorkerId) -> String {
    format!("output/{pool}/{}/{}", worker.slot, worker.generation)
}

/// Whose output is left under this name.
pub fn output_of(name: &str) -> Option<(String, WorkerId)> {
    let mut parts = name.strip_prefix("output/")?.rsplitn(3, '/');
    let generation = parts.next()?.parse().ok()?;
    let slot = parts.next()?.parse().ok()?;
    Some((parts.next()?.to_owned(), WorkerId { slot, generation }))
}

/// Takes over the listener that waits at `heir`; `None` when there is none, or none that answers:
/// then it is killed if `mark` tells which process it is.
pub fn listener(heir: &Path, mark: Option<Mark>) -> Option<Inheritance> {
    let why = match ask(heir, mark) {
        Ok(found) => match found {
            Some(found) => return Some(found),
            None => return end_listener(mark, None),
        },
        Err(why) => why,
    };
    end_listener(mark, Some(&why))
}

/// `Ok(None)`: nobody waits there.
fn ask(heir: &Path, mark: Option<Mark>) -> Result<Option<Inheritance>, String> {
    let socket = match fdpass::connect(heir, PATIENCE) {
        Ok(socket) => socket,
        Err(error)
            if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(format!("connecting to {}: {error}", heir.display())),
    };
    let mut buffer = vec![0; FRAME_SIZE_MAX];
    let mut hear = || match control::take_over(socket.as_fd(), &mut buffer) {
        Ok(Some(heard)) => Ok(heard),
        Ok(None) => Err("it closed the connection".to_owned()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(format!("it says nothing for {PATIENCE:?}"))
        }
        Err(error) => Err(error.to_string()),
    };
    let (FromListener::Inherit { pid, threads, revision }, _) = hear()? else {
        return Err("it does not say what it leaves".to_owned());
    };
    let listener = identify(pid, mark)?;
    let (sockets, kept) = receive(hear)?;
    // The channel never waits; whoever sends through the socket otherwise would.
    fdpass::unlimit(socket.as_fd()).map_err(|error| error.to_string())?;
    let channel = Channel::new(socket);
    Ok(Some(Inheritance { channel, listener, threads, revision, sockets, kept }))
}

/// What it says of itself is not believed: it has fewer rights than we, and will be sent signals.
fn identify(pid: i32, mark: Option<Mark>) -> Result<Child, String> {
    let claimed = match mark {
        Some(mark) if mark.pid != pid => None,
        Some(mark) => Child::adopt(pid, mark.start_ticks).ok().flatten(),
        None if is_ours(pid) => {
            process::start_ticks(pid).and_then(|ticks| Child::adopt(pid, ticks)).ok().flatten()
        }
        None => None,
    };
    claimed.ok_or_else(|| format!("it says that it is process {pid}, which it is not"))
}

/// Whether it runs this very program, if perhaps an earlier edition of its file.
fn is_ours(pid: i32) -> bool {
    let path = std::fs::read_link(format!("/proc/{pid}/exe"));
    path.is_ok_and(|path| {
        let path = path.to_string_lossy();
        path.strip_suffix(" (deleted)").unwrap_or(&path) == process::own_path()
    })
}

type Received = (Vec<InheritedSocket>, BTreeMap<String, Vec<OwnedFd>>);

/// Hears to the end of what is left.
fn receive(
    mut hear: impl FnMut() -> Result<(FromListener, Vec<OwnedFd>), String>,
) -> Result<Received, String> {
    let deadline = clock::now() + LIMIT;
    let (mut sockets, mut kept) = (Vec::new(), BTreeMap::<String, Vec<OwnedFd>>::new());
    let mut count = 0;
    loop {
        if clock::now() > deadline || sockets.len() + count > LISTENERS_MAX * THREADS_MAX + KEPT_MAX
        {
            return Err("it does not come to an end".to_owned());
        }
        match hear()? {
            (FromListener::Door { door, thread, address }, mut descriptors) => {
                let (Some(socket), true) = (descriptors.pop(), descriptors.is_empty()) else {
                    return Err("a listening socket is missing from its message".to_owned());
                };
                sockets.push(InheritedSocket { door, thread, address, socket: socket.into() });
            }
            (FromListener::Kept { name }, descriptors) => {
                count += descriptors.len().max(1);
                kept.entry(name).or_default().extend(descriptors);
            }
            (FromListener::Inherited, _) => return Ok((sockets, kept)),
            (word, _) => return Err(format!("unexpected {word:?}")),
        }
    }
}

/// It holds the listening sockets, and would share clients with its successor.
fn end_listener(mark: Option<Mark>, why: Option<&str>) -> Option<Inheritance> {
    if let Some(why) = why {
        tracing::error!("taking over from an earlier supervisor: its listener: {why}");
    }
    let old = mark.and_then(find)?;
    tracing::warn!("the listener of an earlier supervisor, process {}, is killed", old.pid());
    end(&[old]);
    None
}

/// The workers of a pool that are still there.
pub fn workers(pool: &PoolState) -> Vec<(WorkerState, Child)> {
    let found = pool.workers.iter().filter_map(|worker| Some((worker.clone(), find(worker.mark)?)));
    found.collect()
}

/// Ends the workers of an earlier supervisor whose listener is gone: what they write would go
/// nowhere, and kill them. Orphans stay, as they would have.
pub fn end_workers(state: &State) {
    let mut left = Vec::new();
    for (name, pool) in &state.pools {
        for (worker, child) in workers(pool) {
            let pid = child.pid();
            if Phase::from(worker.phase) == Phase::Orphaned {
                tracing::warn!("pool {name}: the orphan {pid} of an earlier supervisor is left");
                continue;
            }
            tracing::warn!("pool {name}: the worker {pid} of an earlier supervisor is killed");
            left.push(child);
        }
    }
    end(&left);
}

/// Kills them and waits until they are gone, so that what they held is free.
fn end(children: &[Child]) {
    for child in children {
        if let Err(error) = child.kill() {
            tracing::error!("killing process {}: {error}", child.pid());
        }
    }
    let deadline = clock::now() + END_LIMIT;
    let (mut left, mut ready) = (children.iter().collect::<Vec<_>>(), Vec::new());
    loop {
        left.retain(|child| matches!(child.try_wait(), Ok(None)));
        let wait = deadline.since(clock::now());
        if left.is_empty() || wait.is_zero() {
            break;
        }
        let watched: Vec<(BorrowedFd<'_>, Interest)> =
            left.iter().map(|child| (child.as_fd(), Interest::Read)).collect();
        if poll::wait(&watched, Some(wait), &mut ready).is_err() {
            break;
        }
    }
    for child in left {
        tracing::error!("process {} does not end. It is left behind", child.pid());
    }
}

fn find(mark: Mark) -> Option<Child> {
    Child::adopt(mark.pid, mark.start_ticks).unwrap_or_else(|error| {
        tracing::error!("finding process {} again: {error}", mark.pid);
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::control::AffinityKey;
    use crate::shell::supervisor::state::Life;
    use crate::sys::process::{Launch, Program};
    use std::io::stderr;
    use std::thread;

    fn sleeper() -> (Child, Mark) {
        let argv = ["sleep", "60"].map(str::to_owned);
        let standard = stderr();
        let launch = Launch {
            program: Program::Named { path: "/usr/bin:/bin".into() },
            argv: &argv,
            environment: &[],
            directory: None,
            stdout: standard.as_fd(),
            stderr: standard.as_fd(),
            third: None,
            identity: None,
            open_files: None,
            umask: None,
            leads_group: true,
            entrance: None,
            ends_with_parent: true,
            wants_listen_pid: false,
        };
        let child = launch.start().unwrap();
        let (pid, start_ticks) = (child.pid(), process::start_ticks(child.pid()).unwrap());
        (child, Mark { pid, start_ticks })
    }

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    /// What [`listener`] makes of a listener that says this, with so many descriptors each.
    fn told(words: Vec<Word>, mark: Option<Mark>) -> Option<Inheritance> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heir");
        let waiting = fdpass::listen(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (connection, _) = fdpass::accept(waiting.as_fd()).unwrap();
                for (word, count) in words {
                    let all: Vec<_> = (0..count).map(|_| null()).collect();
                    let borrowed: Vec<_> = all.iter().map(AsFd::as_fd).collect();
                    // The other side may have had enough.
                    let _ = control::hand_over(connection.as_fd(), &word, &borrowed);
                }
            });
            listener(&path, mark)
        })
    }

    fn door(thread: u16) -> FromListener {
        FromListener::Door { door: 2, thread, address: "[::1]:80".into() }
    }

    #[test]
    fn a_listener_is_taken_over_with_all_it_holds() {
        let inherit = FromListener::Inherit { pid: own_pid(), threads: 2, revision: 9 };
        let worker = WorkerId { slot: 1, generation: 7 };
        let kept = |name: &str| FromListener::Kept { name: name.to_owned() };
        let name = output_name("shop", worker);
        let words = vec![
            (inherit, 0),
            (door(0), 1),
            (door(1), 1),
            (kept(&name), 2),
            (kept(&name), 1),
            (FromListener::Inherited, 0),
        ];
        let found = told(words, None).unwrap();
        assert_eq!((found.listener.pid(), found.threads, found.revision), (own_pid(), 2, 9));
        let sockets: Vec<_> =
            found.sockets.iter().map(|it| (it.door, it.thread, it.address.as_str())).collect();
        assert_eq!(sockets, [(2, 0, "[::1]:80"), (2, 1, "[::1]:80")]);
        assert_eq!(found.kept["output/shop/1/7"].len(), 3);
        assert_eq!(output_of(&name), Some(("shop".to_owned(), worker)));
        assert_eq!([output_of("heir"), output_of("output/shop/1/-7")], [None, None]);
    }

    #[test]
    fn a_listener_that_talks_nonsense_is_ended() {
        let inherit = |pid| (FromListener::Inherit { pid, threads: 1, revision: 1 }, 0);
        let end = || (FromListener::Inherited, 0);
        let stories: [fn(Word, Word) -> Vec<Word>; 6] = [
            |_, _| Vec::new(),
            |_, _| vec![(FromListener::Drained, 0)],
            |inherit, _| vec![inherit],
            |inherit, end| vec![inherit, (door(0), 0), end],
            |inherit, end| vec![inherit, (door(0), 2), end],
            |inherit, end| vec![inherit, (FromListener::Drained, 0), end],
        ];
        for (place, story) in stories.iter().enumerate() {
            let (child, mark) = sleeper();
            let words = story(inherit(mark.pid), end());
            assert!(told(words, Some(mark)).is_none(), "{place}");
            assert!(child.try_wait().unwrap().is_some(), "{place}: it was not killed");
        }
        // Nobody is taken for the listener who says so.
        for pid in [i32::MAX, own_pid()] {
            let (child, mark) = sleeper();
            assert!(told(vec![inherit(pid), end()], Some(mark)).is_none());
            assert!(child.try_wait().unwrap().is_some());
        }
        let (child, mark) = sleeper();
        assert!(told(vec![inherit(mark.pid), end()], None).is_none());
        assert_eq!(child.try_wait().unwrap(), None);
        assert_eq!(told(vec![inherit(mark.pid), end()], Some(mark)).unwrap().sockets.len(), 0);
        super::end(&[child]);
        let folder = tempfile::tempdir().unwrap();
        assert!(listener(&folder.path().join("none"), None).is_none());
    }

    /// A word of the listener, with so many descriptors.
    type Word = (FromListener, usize);

    #[test]
    fn workers_are_found_again_and_ended_but_for_orphans() {
        let mut state = State::new(AffinityKey::fresh().unwrap()).unwrap();
        let mut pool = PoolState::default();
        let mut children = Vec::new();
        for (slot, phase) in [(0, Life::Serving), (1, Life::Orphaned), (2, Life::Serving)] {
            let (child, mut mark) = sleeper();
            // The last one's number belongs to somebody else by now.
            mark.start_ticks += u64::from(slot == 2);
            children.push(child);
            let address = "127.0.0.1:1".to_owned();
            let (generation, since, delivered) = (1, 0, 0);
            pool.workers.push(WorkerState {
                slot,
                generation,
                mark,
                phase,
                since,
                delivered,
                recycling: None,
                address,
            });
        }
        let found: Vec<u16> = workers(&pool).iter().map(|(worker, _)| worker.slot).collect();
        assert_eq!(found, [0, 1]);
        state.pools.insert("shop".into(), pool);
        end_workers(&state);
        let is_gone: Vec<bool> =
            children.iter().map(|child| child.try_wait().unwrap().is_some()).collect();
        assert_eq!(is_gone, [true, false, false]);
        end(&children);
    }
}
