//! What a supervisor writes down for the one after it, should it die: which processes are its own,
//! and what nobody else could tell about them. It lies in the home folder, for root's or our eyes
//! only, because it holds the key of the affinity cookies.

use crate::base::address::Address;
use crate::base::limits::{POOLS_MAX, UNIX_PATH_MAX};
use crate::base::time::Instant;
use crate::machine::pool::seam::{Adopted, Phase, Standing, Trigger, WorkerId};
use crate::shell::control::{AffinityKey, parse_address};
use crate::sys::process::start_ticks;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Of the form below; another one is not read.
const VERSION: u32 = 1;
/// Some ten times what the largest configuration in use would need.
const SIZE_MAX: u64 = 32 * 1024 * 1024;
/// Workers of one pool, orphans among them.
const WORKERS_MAX: usize = 1024;
/// Names this run of the machine: process ids and the monotonic clock begin anew with it.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    boot: String,
    /// When the supervisor that writes was started.
    pub since: u64,
    pub listener: Option<Mark>,
    /// Of the listener.
    pub engine: String,
    /// Of the configuration in force.
    pub revision: u64,
    /// The sequence number of the last event.
    pub events: u64,
    pub affinity_key: AffinityKey,
    /// By name.
    pub pools: BTreeMap<String, PoolState>,
}

/// A process, and no other that has its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub pid: i32,
    /// See [`crate::sys::process::start_ticks`].
    pub start_ticks: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolState {
    pub standing: Stood,
    /// The highest that a worker ever had.
    pub generation: u32,
    /// Why its last worker failed.
    pub why: String,
    pub starts: u64,
    pub recycles: u64,
    pub failures: u64,
    /// Tells one command from another.
    pub command: u64,
    pub workers: Vec<WorkerState>,
}

/// What the operator, or rapid-fail, has made of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stood {
    #[default]
    Running,
    Stopped,
    Tripped,
    Paused {
        limit: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerState {
    pub slot: u16,
    pub generation: u32,
    #[serde(flatten)]
    pub mark: Mark,
    pub phase: Life,
    /// When it was started, in nanoseconds of the monotonic clock.
    pub since: u64,
    pub delivered: u64,
    /// It is being replaced for this reason ([`Trigger::word`]).
    pub recycling: Option<String>,
    /// As an address is written in a configuration.
    pub address: String,
}

/// [`Phase`], on paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    Starting,
    Admitted,
    Serving,
    Draining,
    Terminating,
    Killing,
    Orphaned,
}

impl State {
    pub fn new(affinity_key: AffinityKey) -> io::Result<Self> {
        let pools = BTreeMap::new();
        Ok(Self {
            version: VERSION,
            boot: boot()?,
            since: start_ticks(std::process::id().cast_signed())?,
            listener: None,
            engine: String::new(),
            revision: 0,
            events: 0,
            affinity_key,
            pools,
        })
    }

    /// In place of what was there, whole or not at all.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW)
            .open(&beside)?;
        file.write_all(&bytes)?;
        // Against power cuts it need not stand: what it tells of is gone then.
        std::fs::rename(&beside, path)
    }

    /// `None` when there is none, or none that holds for this run of the machine; a file that
    /// cannot be understood is told of and ignored.
    pub fn load(path: &Path) -> Option<Self> {
        let refuse = |why: &dyn std::fmt::Display| {
            tracing::warn!(
                "taking over from an earlier supervisor: {} is not used: {why}",
                path.display()
            );
        };
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                refuse(&error);
                return None;
            }
        };
        let state: Self = match serde_json::from_slice(&bytes) {
            Ok(state) => state,
            Err(error) => {
                refuse(&error);
                return None;
            }
        };
        match state.check() {
            Ok(()) if boot().is_ok_and(|boot| boot == state.boot) => Some(state),
            // From before the machine was started: nothing of it can be there.
            Ok(()) => None,
            Err(why) => {
                refuse(&why);
                None
            }
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.version != VERSION {
            return Err("another version of lychgate wrote it");
        }
        if self.pools.len() > 2 * POOLS_MAX {
            return Err("it has too many pools");
        }
        let mut known = BTreeSet::new();
        let marks = self.pools.values().flat_map(|pool| &pool.workers).map(|worker| worker.mark);
        for mark in marks.chain(self.listener) {
            if mark.pid <= 1 || !known.insert(mark.pid) {
                return Err("a process id in it cannot be");
            }
        }
        self.pools.values().try_for_each(PoolState::check)
    }
}

impl PoolState {
    fn check(&self) -> Result<(), &'static str> {
        if self.workers.len() > WORKERS_MAX {
            return Err("a pool in it has too many workers");
        }
        let mut known = BTreeSet::new();
        for worker in &self.workers {
            if !known.insert((worker.slot, worker.generation)) {
                return Err("a worker in it stands there twice");
            }
            if worker.address().is_none() {
                return Err("an address in it is none");
            }
        }
        Ok(())
    }
}

impl WorkerState {
    pub fn id(&self) -> WorkerId {
        WorkerId { slot: self.slot, generation: self.generation }
    }

    /// `None` for what is none.
    pub fn address(&self) -> Option<Address> {
        let is_sane = |address: &Address| match address {
            Address::Unix(path) => path.starts_with('/') && path.len() <= UNIX_PATH_MAX,
            Address::Tcp(_) => true,
        };
        parse_address(&self.address).filter(is_sane)
    }

    /// For the pool's machine.
    pub fn adopted(&self) -> Adopted {
        let word = self.recycling.as_deref();
        Adopted {
            recycling: Trigger::ALL.into_iter().find(|trigger| Some(trigger.word()) == word),
            worker: self.id(),
            phase: self.phase.into(),
            since: Instant(self.since),
            delivered: self.delivered,
        }
    }
}

impl From<Stood> for Standing {
    fn from(stood: Stood) -> Self {
        match stood {
            Stood::Running => Self::Running,
            Stood::Paused { limit } => Self::Paused { limit },
            Stood::Stopped => Self::Stopped,
            Stood::Tripped => Self::Tripped,
        }
    }
}

impl From<Standing> for Stood {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Running | Standing::Replacing => Self::Running,
            Standing::Paused { limit } => Self::Paused { limit },
            Standing::Stopped => Self::Stopped,
            Standing::Tripped => Self::Tripped,
        }
    }
}

impl From<Phase> for Life {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Admitted => Self::Admitted,
            Phase::Serving => Self::Serving,
            Phase::Draining => Self::Draining,
            Phase::Terminating => Self::Terminating,
            Phase::Killing => Self::Killing,
            Phase::Orphaned => Self::Orphaned,
        }
    }
}

impl From<Life> for Phase {
    fn from(life: Life) -> Self {
        match life {
            Life::Starting => Self::Starting,
            Life::Admitted => Self::Admitted,
            Life::Serving => Self::Serving,
            Life::Draining => Self::Draining,
            Life::Terminating => Self::Terminating,
            Life::Killing => Self::Killing,
            Life::Orphaned => Self::Orphaned,
        }
    }
}

fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT)?.trim().to_owned())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = O_NOFOLLOW | O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is too large"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn state() -> State {
        let mut state = State::new(AffinityKey::fresh().unwrap()).unwrap();
        state.listener = Some(Mark { pid: 7, start_ticks: 70 });
        state.revision = 3;
        let worker = WorkerState {
            slot: 1,
            generation: 9,
            mark: Mark { pid: 8, start_ticks: 80 },
            phase: Life::Serving,
            since: 123,
            delivered: 45,
            recycling: Some("at".into()),
            address: "unix:/run/lychgate/apps/shop-1-1-9".into(),
        };
        let orphan = WorkerState {
            generation: 8,
            mark: Mark { pid: 9, start_ticks: 90 },
            phase: Phase::Orphaned.into(),
            address: "127.0.0.1:4000".into(),
            ..worker.clone()
        };
        let standing = Standing::Paused { limit: 5 }.into();
        let workers = vec![worker, orphan];
        let pool = PoolState {
            standing,
            generation: 11,
            why: "it is silent".into(),
            starts: 12,
            recycles: 3,
            failures: 1,
            command: 7,
            workers,
        };
        state.pools.insert("shop".into(), pool);
        state
    }

    #[test]
    fn what_is_saved_is_loaded_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(State::load(&path), None);
        let state = state();
        state.save(&path).unwrap();
        state.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = State::load(&path).unwrap();
        assert_eq!(loaded, state);
        let adopted = loaded.pools["shop"].workers[0].adopted();
        assert_eq!(
            (adopted.phase, adopted.since, adopted.delivered, adopted.recycling),
            (Phase::Serving, Instant(123), 45, Some(Trigger::At))
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let good = serde_json::to_string(&state()).unwrap();
        let boot = boot().unwrap();
        for (from, to) in [
            ("{", ""),
            ("\"version\":1", "\"version\":2"),
            (boot.as_str(), "another-boot"),
            ("\"pid\":9", "\"pid\":8"),
            ("\"pid\":9", "\"pid\":7"),
            ("\"pid\":9", "\"pid\":1"),
            ("\"pid\":9", "\"pid\":-9"),
            ("\"generation\":8", "\"generation\":9"),
            ("127.0.0.1:4000", "somewhere"),
            ("unix:/run", "unix:run"),
            ("\"serving\"", "\"asleep\""),
            ("\"slot\":1", "\"slot\":-1"),
        ] {
            assert!(good.contains(from), "{from}");
            std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
            assert_eq!(State::load(&path), None, "{from} -> {to}");
        }
        std::fs::write(&path, &good).unwrap();
        assert!(State::load(&path).is_some());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(State::load(&link), None);
        std::fs::File::create(&path).unwrap().set_len(SIZE_MAX + 1).unwrap();
        assert_eq!(State::load(&path), None);
        assert_eq!(State::load(folder.path()), None);
    }

    #[test]
    fn phases_come_back_as_they_went() {
        for phase in [
            Phase::Starting,
            Phase::Admitted,
            Phase::Serving,
            Phase::Draining,
            Phase::Terminating,
            Phase::Killing,
            Phase::Orphaned,
        ] {
            assert_eq!(Phase::from(Life::from(phase)), phase);
        }
    }
}
