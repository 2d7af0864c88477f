//! Processes of an earlier supervisor that no worker of ours is to be: those that it had started and
//! not yet written down, and those of pools that are no more.

use super::Supervisor;
use super::hear::marks;
use super::listener::named;
use super::state::State;
use crate::base::time::Instant;
use crate::machine::pool::seam::{Phase, WorkerId};
use crate::shell::control::ToListener;
use crate::sys::family;
use crate::sys::process::{self, Child};
use std::collections::BTreeMap;
use std::path::Path;

/// Who it is, as the environment says.
type Who = (String, u16, u32);

/// Kills what was started for a worker of this home, by the mark in its environment, unless that
/// worker is taken over or was released. `is_inherited`: workers that live are taken over.
pub(super) fn end(notices: &Path, state: Option<&State>, is_inherited: bool) {
    let mut known = BTreeMap::<Who, bool>::new();
    for (name, pool) in state.into_iter().flat_map(|state| &state.pools) {
        for worker in &pool.workers {
            let is_there = process::start_ticks(worker.mark.pid)
                .is_ok_and(|ticks| ticks == worker.mark.start_ticks);
            let is_spared =
                if is_inherited { is_there } else { Phase::from(worker.phase) == Phase::Orphaned };
            known.insert((name.clone(), worker.slot, worker.generation), is_spared);
        }
    }
    // What is older was released by a supervisor before that one.
    let since = state.map_or(0, |state| state.since);
    let is_young = |pid| process::start_ticks(pid).is_ok_and(|ticks| ticks >= since);
    let killed = family::kill_started_with(|pid, environment| {
        let is_ours = environment.get("NOTIFY_SOCKET").is_some_and(|at| Path::new(at) == notices);
        let Some(who) = is_ours.then(|| who(environment)).flatten() else { return false };
        known.get(&who).map_or_else(|| is_young(pid), |is_spared| !is_spared)
    });
    if killed > 0 {
        tracing::warn!(
            "{killed} processes of an earlier supervisor are killed: they are no worker's"
        );
    }
}

fn who(environment: &family::Environment) -> Option<Who> {
    let slot = environment.get("LYCHGATE_SLOT")?.parse().ok()?;
    let generation = environment.get("LYCHGATE_GENERATION")?.parse().ok()?;
    Some((environment.get("LYCHGATE_POOL")?.to_owned(), slot, generation))
}

/// A worker of a pool that is no more, told to end.
#[derive(Debug)]
pub(super) struct Leaver {
    pub(super) pool: String,
    pub(super) worker: WorkerId,
    pub(super) child: Child,
    pub(super) kill_at: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Leavers(Vec<Leaver>);

impl Leavers {
    pub(super) fn add(&mut self, leaver: Leaver) {
        self.0.push(leaver);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.0.iter().map(|leaver| leaver.kill_at).min().unwrap_or(Instant::NEVER)
    }
}

impl Supervisor {
    /// Those whose time is over, and at the end all.
    pub(super) fn end_leavers(&mut self, now: Instant) {
        let is_late = |leaver: &mut Leaver| now >= leaver.kill_at;
        let late: Vec<Leaver> = self.leavers.0.extract_if(.., is_late).collect();
        for Leaver { pool, worker, child, .. } in late {
            if let Err(error) = child.kill() {
                tracing::error!("pool {pool}: killing process {}: {error}", child.pid());
            }
            family::kill_marked(&marks(&pool, worker, self.notices.path()));
            // It has its place until then: there may be a pool of that name again.
            self.tell(&ToListener::Dismiss { pool, worker: named(worker) }, Vec::new());
        }
    }
}
