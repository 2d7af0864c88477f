//! What the supervisor keeps of a pool with a garden: its settings, its workers, why it failed.

use super::release::Release;
use super::schedule::Schedule;
use super::state::PoolState;
use super::worker::Worker;
use crate::base::address::Address;
use crate::machine::pool::seam::{Exit, WorkerId};
use crate::machine::supervisor::seam::PoolId;
use crate::plan::Garden;
use crate::sys::clock;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) id: PoolId,
    pub(super) name: String,
    /// In force, with the number of workers resolved.
    pub(super) garden: Box<Garden>,
    /// The configuration has it.
    pub(super) is_planned: bool,
    /// The body of its 503, sealed.
    pub(super) page: Option<Arc<OwnedFd>>,
    /// All that have a process.
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Those whose process has just gone, until what it leads to is told.
    pub(super) gone: Vec<Gone>,
    /// Why a process could not be made.
    pub(super) spawn_error: String,
    pub(super) trouble: Trouble,
    /// What an earlier supervisor counted.
    pub(super) past: PoolState,
    /// Of `recycle.at`.
    pub(super) schedule: Schedule,
    /// What its workers were started from, while there are any.
    pub(super) release: Option<Release>,
}

/// A worker whose process is no more.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) id: WorkerId,
    pub(super) pid: i32,
    pub(super) address: Address,
    pub(super) exit: Exit,
    pub(super) last_words: Vec<String>,
}

/// Why the pool's last worker failed; empty when none did.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    pub(super) why: String,
    pub(super) last_words: Vec<String>,
}

impl Pool {
    pub(super) fn new(id: PoolId, name: String, garden: Box<Garden>) -> Self {
        Self {
            id,
            name,
            garden,
            is_planned: true,
            page: None,
            workers: BTreeMap::new(),
            gone: Vec::new(),
            spawn_error: String::new(),
            trouble: Trouble::default(),
            past: PoolState::default(),
            schedule: Schedule::new(clock::wall_origin() + clock::now().0),
            release: None,
        }
    }

    /// The process id of a worker that is there or has just gone.
    pub(super) fn pid(&self, worker: WorkerId) -> Option<i32> {
        let there = self.workers.get(&worker).map(|worker| worker.child.pid());
        there.or_else(|| self.gone(worker).map(|gone| gone.pid))
    }

    pub(super) fn gone(&self, worker: WorkerId) -> Option<&Gone> {
        self.gone.iter().find(|gone| gone.id == worker)
    }

    pub(super) fn last_words(&self, worker: WorkerId) -> Vec<String> {
        let there = self.workers.get(&worker).map(Worker::last_words);
        there.or_else(|| self.gone(worker).map(|gone| gone.last_words.clone())).unwrap_or_default()
    }
}
