//! What supervisor and listener say to each other: one JSON message a frame over a SOCK_SEQPACKET
//! pair, descriptors beside it.

use crate::base::address::Address;
use crate::machine::pool::seam;
use crate::sys::fdpass::{self, Wait};
use crate::sys::identity::Identity;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The longest frame.
pub const FRAME_SIZE_MAX: usize = 64 * 1024;
/// Frames that wait for a listener that does not read; more, and it counts as lost.
const WAITING_MAX: usize = 16 * 1024;

/// Supervisor to listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToListener {
    /// The first word, once.
    Begin { threads: u16, identity: Option<Identity>, affinity_key: AffinityKey },
    /// The access log goes to the descriptor beside this; none: nowhere.
    Log,
    /// The configuration is in the sealed memory file beside this; `doors[i]` is the door of its
    /// listener `i`. Answered by `Configured` with the same revision.
    Configure { revision: u64, name: String, doors: Vec<u16> },
    /// Listening sockets, (door, thread) each, in the order of the descriptors beside this.
    Open { sockets: Vec<(u16, u16)> },
    /// Stop accepting on a door and close its sockets.
    Shut { door: u16 },
    /// A worker is ready: give it requests. Answered by `Serving`.
    Admit {
        pool: String,
        worker: Worker,
        address: String,
        /// Requests at once; 0 = any number.
        slots: u32,
        /// After so many `Spent` follows; 0 = never.
        requests_max: u64,
        /// Requests it was given before, by a listener or supervisor that is gone.
        delivered: u64,
    },
    /// Give it nothing more. Answered by `Emptied`, at once where nothing runs on it.
    Retire { pool: String, worker: Worker },
    /// Forget it; what still runs on it fails.
    Dismiss { pool: String, worker: Worker },
    /// What to do with a pool's requests, until said otherwise.
    Stand { pool: String, standing: Standing, may_grow: bool },
    /// The body of the pool's 503 is in the sealed memory file beside this; none: the built-in.
    Page { pool: String },
    /// Answered by `Measured`.
    Measure,
    /// Requests that execute or wait, of one pool or all, at least this old. Answered by `Listed`.
    List { token: u64, pool: Option<String>, older_ms: u64 },
    /// Keep the descriptors beside this for the next supervisor; they replace those of this name.
    Keep { name: String },
    /// Close what was kept under this name.
    Release { name: String },
    /// Accept no more, finish what runs within the limit, end.
    Drain { limit_ms: u64 },
    /// End now.
    Stop,
    /// Answered by `Counters`.
    Count,
}

/// Listener to supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromListener {
    /// All threads run.
    Started {
        engine: String,
        fallback: Option<String>,
        threads: u16,
    },
    Configured {
        revision: u64,
    },
    /// It cannot go on and ends.
    Failed {
        why: String,
    },
    /// Nothing is left to finish; it ends.
    Drained,
    Counters {
        json: String,
    },
    /// After `Admit`: all threads know it, and the gate is open.
    Serving {
        pool: String,
        worker: Worker,
    },
    /// After `Retire`: nothing runs on it.
    Emptied {
        pool: String,
        worker: Worker,
    },
    /// A request waits and no slot is free; once, until a worker serves or `Stand` is said.
    Wanted {
        pool: String,
    },
    /// It was given as many requests as it was to have.
    Spent {
        pool: String,
        worker: Worker,
    },
    /// What it sent is not HTTP.
    Violated {
        pool: String,
        worker: Worker,
    },
    /// In as many frames as it takes.
    Measured {
        pools: Vec<PoolFigures>,
        is_last: bool,
    },
    /// In as many frames as it takes, oldest first, at most [`ROWS_MAX`] in all.
    Listed {
        token: u64,
        rows: Vec<RequestRow>,
        is_last: bool,
    },
    /// To a new supervisor, once, before anything else: what it takes over. Listening sockets
    /// follow in `Door` frames and kept descriptors in `Kept` frames, then `Inherited`.
    Inherit {
        pid: i32,
        threads: u16,
        /// Of the configuration in force.
        revision: u64,
    },
    /// A listening socket of a door, beside this.
    Door {
        door: u16,
        thread: u16,
        address: String,
    },
    /// What was kept under this name, beside this.
    Kept {
        name: String,
    },
    Inherited,
}

/// The key of the cookies that pin clients to slots, on the wire in hexadecimal digits.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AffinityKey(pub [u8; 32]);

impl AffinityKey {
    /// One that nobody knows (urandom(4)).
    pub fn fresh() -> Result<Self> {
        let mut key = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for AffinityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AffinityKey(..)")
    }
}

impl From<AffinityKey> for String {
    fn from(key: AffinityKey) -> Self {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("four bits");
        key.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl TryFrom<String> for AffinityKey {
    type Error = &'static str;
    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        let mut key = [0; 32];
        if text.len() != 2 * key.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err("a key has 64 hexadecimal digits");
        }
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).map_err(|_| "hexadecimal digits are ASCII")?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| "two digits are a byte")?;
        }
        Ok(Self(key))
    }
}

/// A worker, within its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Worker {
    pub slot: u16,
    pub generation: u32,
}

/// [`crate::machine::pool::seam::Standing`], on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    Running,
    Replacing,
    Paused { limit: u32 },
    Stopped,
    Tripped,
}

impl From<Standing> for seam::Standing {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Running => Self::Running,
            Standing::Replacing => Self::Replacing,
            Standing::Paused { limit } => Self::Paused { limit },
            Standing::Stopped => Self::Stopped,
            Standing::Tripped => Self::Tripped,
        }
    }
}

/// What the listener counts for a pool. Ages in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolFigures {
    pub pool: String,
    pub waiting: u32,
    pub workers: Vec<WorkerFigures>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerFigures {
    pub worker: Worker,
    pub executing: u32,
    pub delivered: u64,
    /// On the monotonic clock, in nanoseconds; 0 = never.
    pub answered: u64,
}

/// One request that executes or waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRow {
    /// As in `X-Request-Id`.
    pub id: String,
    pub pool: String,
    /// `None` = it waits.
    pub worker: Option<Worker>,
    pub client: String,
    pub method: String,
    pub host: String,
    pub target: String,
    /// "waiting", "connecting", "sent", "answering" or "tunnel".
    pub state: String,
    pub elapsed_ms: u64,
}

/// Rows of one `List`.
pub const ROWS_MAX: usize = 10_000;

/// An address as text, and back.
pub fn parse_address(text: &str) -> Option<Address> {
    match text.strip_prefix("unix:") {
        Some(path) => Some(Address::Unix(path.to_owned())),
        None => text.parse().ok().map(Address::Tcp),
    }
}

/// Sends one frame and waits until it is taken: the listener's way.
pub fn tell(socket: BorrowedFd<'_>, word: &FromListener) -> Result<()> {
    fdpass::send(socket, &encode(word)?, &[], Wait::Block)
}

/// As [`tell`], with descriptors: what a new supervisor takes over.
pub fn hand_over(
    socket: BorrowedFd<'_>,
    word: &FromListener,
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    fdpass::send(socket, &encode(word)?, descriptors, Wait::Block)
}

/// The other side of [`hand_over`]. `None`: the listener is gone.
pub fn take_over(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<Option<(FromListener, Vec<OwnedFd>)>> {
    let (length, descriptors) = fdpass::recv(socket, buffer, Wait::Block)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((decode(&buffer[..length])?, descriptors)))
}

/// Waits for one frame: the listener's way. `None`: the supervisor is gone.
pub fn hear(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<Option<(ToListener, Vec<OwnedFd>)>> {
    let (length, descriptors) = fdpass::recv(socket, buffer, Wait::Block)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((decode(&buffer[..length])?, descriptors)))
}

fn encode(word: &impl Serialize) -> Result<Vec<u8>> {
    let bytes = serde_json::to_vec(word)?;
    if bytes.len() > FRAME_SIZE_MAX {
        return Err(Error::new(ErrorKind::InvalidInput, "frame too long"));
    }
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

/// The supervisor's end: never blocks; what the listener does not take yet waits here.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    waiting: VecDeque<(Vec<u8>, Vec<Arc<OwnedFd>>)>,
    buffer: Vec<u8>,
}

/// What became of hearing.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Word(FromListener),
    Nothing,
    /// The listener closed its end.
    Gone,
    /// It talks nonsense.
    Lost(String),
}

impl Channel {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, waiting: VecDeque::new(), buffer: vec![0; FRAME_SIZE_MAX] }
    }

    /// Queues a frame and sends what can be sent.
    pub fn tell(&mut self, word: &ToListener, descriptors: Vec<Arc<OwnedFd>>) -> Result<()> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(Error::other("the listener does not read"));
        }
        self.waiting.push_back((encode(word)?, descriptors));
        self.flush()
    }

    /// Whether to be called when the socket is writable.
    pub fn wants_write(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn flush(&mut self) -> Result<()> {
        while let Some((bytes, descriptors)) = self.waiting.front() {
            let borrowed: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
            match fdpass::send(self.socket.as_fd(), bytes, &borrowed, Wait::Never) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    pub fn hear(&mut self) -> Heard {
        match fdpass::recv_plain(self.socket.as_fd(), &mut self.buffer, Wait::Never) {
            Ok(0) => Heard::Gone,
            Ok(length) => match decode(&self.buffer[..length]) {
                Ok(word) => Heard::Word(word),
                Err(error) => Heard::Lost(format!("it sent what is no message: {error}")),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
            Err(error) => Heard::Lost(error.to_string()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/run/a b.sock"] {
            assert_eq!(parse_address(text).unwrap().to_string(), text);
        }
        assert_eq!(parse_address("example.org:80"), None);
    }

    #[test]
    fn a_key_survives_the_way_and_is_not_shown() {
        let key = AffinityKey::fresh().unwrap();
        assert_ne!(key, AffinityKey::fresh().unwrap());
        let word = ToListener::Begin { threads: 1, identity: None, affinity_key: key.clone() };
        assert_eq!(decode::<ToListener>(&encode(&word).unwrap()).unwrap(), word);
        let digits = String::from(key.clone());
        assert!(!format!("{word:?}").contains(&digits[..8]));
        assert_eq!(AffinityKey::try_from(digits.clone()), Ok(key));
        for bad in [&digits[1..], &digits.replace(&digits[..2], "+1"), &"é".repeat(32)] {
            assert!(AffinityKey::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn frames_wait_in_order_for_a_listener_that_is_behind() {
        let (ours, theirs) = fdpass::pair().unwrap();
        let mut channel = Channel::new(ours);
        let file = Arc::new(OwnedFd::from(File::open("/dev/null").unwrap()));
        for door in 0..2000 {
            let sockets = vec![(door, 0)];
            channel.tell(&ToListener::Open { sockets }, vec![Arc::clone(&file)]).unwrap();
        }
        assert!(channel.wants_write());
        let mut buffer = vec![0; FRAME_SIZE_MAX];
        for door in 0..2000 {
            let (word, descriptors) = hear(theirs.as_fd(), &mut buffer).unwrap().unwrap();
            assert_eq!(word, ToListener::Open { sockets: vec![(door, 0)] });
            assert_eq!(descriptors.len(), 1);
            channel.flush().unwrap();
        }
        assert!(!channel.wants_write());
        assert_eq!(channel.hear(), Heard::Nothing);
        tell(theirs.as_fd(), &FromListener::Drained).unwrap();
        assert_eq!(channel.hear(), Heard::Word(FromListener::Drained));
        fdpass::send(theirs.as_fd(), b"{", &[], Wait::Never).unwrap();
        assert!(matches!(channel.hear(), Heard::Lost(_)));
        drop(theirs);
        assert_eq!(channel.hear(), Heard::Gone);
        assert!(channel.tell(&ToListener::Stop, Vec::new()).is_err());
    }

    #[test]
    fn a_listener_that_never_reads_counts_as_lost() {
        let (ours, _theirs) = fdpass::pair().unwrap();
        let mut channel = Channel::new(ours);
        let refused =
            (0..=WAITING_MAX + 4096).any(|_| channel.tell(&ToListener::Count, Vec::new()).is_err());
        assert!(refused);
    }
}
