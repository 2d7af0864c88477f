//! Being the successor of a supervisor that died: its listener, its doors and its workers become
//! ours, and the configuration is then applied as a reload is.

use super::adopt::{self, Inheritance, output_name, output_of};
use super::garden::Pool;
use super::home::Home;
use super::listener::{Listener, named};
use super::state::{Life, PoolState, State};
use super::strays::{self, Leaver};
use super::worker::{Stream, Worker};
use super::{Supervisor, reload};
use crate::machine::pool::seam::{self as pool, Phase, Standing, WorkerId};
use crate::machine::supervisor::seam::Input;
use crate::shell::control::ToListener;
use crate::sys::clock;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// What an earlier supervisor left, until the plan says what becomes of it.
#[derive(Debug, Default)]
pub(super) struct Estate {
    /// By name.
    pools: BTreeMap<String, PoolState>,
    kept: BTreeMap<String, Vec<OwnedFd>>,
    /// Whom the listener may know and nobody takes over.
    lost: BTreeSet<(String, WorkerId)>,
}

/// What a pool was when its earlier supervisor died.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    /// For the pool's machine.
    pub(super) machine: Option<pool::Legacy>,
    /// Its workers were started in a way that no longer holds.
    pub(super) is_changed: bool,
}

impl Estate {
    /// What is left of an earlier supervisor: its listener, if that serves on, and all else. What
    /// cannot be taken over is ended.
    pub(super) fn find(home: &mut Home) -> (Option<State>, Option<Inheritance>, Self) {
        let was_left = home.state().exists();
        let state = State::load(&home.state());
        let mark = state.as_ref().and_then(|state| state.listener);
        let mut inheritance = adopt::listener(&home.heir(), mark);
        if inheritance.is_some() || was_left {
            strays::end(&home.notices(), state.as_ref(), inheritance.is_some());
        }
        let Some(inherited) = &mut inheritance else {
            if let Some(state) = &state {
                adopt::end_workers(state);
            }
            home.clean();
            return (state, None, Self::default());
        };
        home.leave();
        let kept = std::mem::take(&mut inherited.kept);
        let lost = kept.keys().filter_map(|name| output_of(name)).collect();
        let pools = state.as_ref().map(|state| state.pools.clone()).unwrap_or_default();
        (state, inheritance, Self { pools, kept, lost })
    }

    /// Hands its workers over to a pool that comes into being.
    pub(super) fn inherit(
        &mut self,
        pool: &mut Pool,
        groups: Option<&crate::sys::cgroup::Estate>,
    ) -> Legacy {
        let known = self.lost.iter().filter(|(name, _)| *name == pool.name);
        let highest = known.map(|(_, worker)| worker.generation).max();
        let Some(state) = self.pools.remove(&pool.name) else {
            let standing =
                if pool.garden.autostart { Standing::Running } else { Standing::Stopped };
            let workers = Vec::new();
            let machine = highest.map(|generation| pool::Legacy { standing, generation, workers });
            return Legacy { machine, is_changed: false };
        };
        let mut workers = Vec::new();
        for (left, child) in adopt::workers(&state) {
            let Some(address) = left.address() else { continue };
            let id = left.id();
            let kept = self.kept.remove(&output_name(&pool.name, id)).unwrap_or_default();
            let streams = kept.into_iter().filter_map(|pipe| Stream::new(pipe).ok()).collect();
            let group = groups.and_then(|all| all.existing(&pool.name, id.slot, id.generation));
            tracing::info!(
                "pool {}: worker {} (process {}) is taken over from an earlier supervisor",
                pool.name,
                id.slot,
                child.pid()
            );
            let adopted = left.adopted();
            // Of one that starts, or was let go, the listener is to know nothing.
            if !matches!(adopted.phase, Phase::Starting | Phase::Orphaned) {
                self.lost.remove(&(pool.name.clone(), id));
            }
            workers.push(adopted);
            pool.workers.insert(id, Worker::adopted(id, child, address, streams, group));
        }
        let is_changed =
            state.command != reload::fingerprint(&pool.garden.command) && !workers.is_empty();
        let standing = state.standing.into();
        let generation = state.generation.max(highest.unwrap_or(0));
        pool.trouble.why.clone_from(&state.why);
        pool.past = state;
        Legacy { machine: Some(pool::Legacy { standing, generation, workers }), is_changed }
    }
}

impl Supervisor {
    /// After the first plan: workers of pools that the configuration does not have any more are to
    /// end.
    pub(super) fn end_rest(&mut self) {
        let kill_at = clock::now() + self.loaded.plan.server.shutdown_limit;
        for (pool, state) in std::mem::take(&mut self.legacy.pools) {
            for (left, child) in adopt::workers(&state) {
                let (worker, pid) = (left.id(), child.pid());
                if Phase::from(left.phase) == Phase::Orphaned {
                    tracing::warn!("pool {pool}: it is no more; its orphan {pid} is left");
                    continue;
                }
                tracing::warn!("pool {pool}: it is no more; its process {pid} is told to end");
                if let Err(error) = child.terminate() {
                    tracing::error!("pool {pool}: ending process {pid}: {error}");
                }
                self.leavers.add(Leaver { pool: pool.clone(), worker, child, kill_at });
            }
        }
        self.legacy.kept.clear();
    }

    /// The listener serves on; it is told what is new.
    pub(super) fn take_listener(&mut self) {
        let Some((child, channel, engine)) = self.inheritance.take() else { return };
        tracing::info!(
            "listener: process {} is taken over from an earlier supervisor",
            child.pid()
        );
        self.listener = Some(Listener::adopted(child, channel, engine));
        // Before the plan.
        self.inputs.push_front(Input::ListenerAdopted);
        self.tell_log();
        let closed = self.doors.keep(&self.plan_doors);
        for door in closed {
            self.tell(&ToListener::Shut { door }, Vec::new());
        }
        self.tell_configuration();
        let doors = self.plan_doors.clone();
        self.tell_open(&doors);
        self.leave_heir();
        for (pool, worker) in std::mem::take(&mut self.legacy.lost) {
            self.tell(&ToListener::Dismiss { pool, worker: named(worker) }, Vec::new());
        }
        self.admit_again();
    }

    /// Its supervisor may have died between writing that a worker serves and telling the listener;
    /// one that is known is not admitted twice.
    fn admit_again(&mut self) {
        let mut words = Vec::new();
        for pool in self.pools.values() {
            let kept = pool.past.workers.iter();
            for left in kept.filter(|left| matches!(left.phase, Life::Admitted | Life::Serving)) {
                if let Some(worker) = pool.workers.get(&left.id()) {
                    words.push(ToListener::Admit {
                        pool: pool.name.clone(),
                        worker: named(worker.id),
                        address: left.address.clone(),
                        slots: pool.garden.slots,
                        requests_max: pool.garden.recycle.requests,
                        delivered: left.delivered,
                    });
                }
            }
        }
        for word in words {
            self.tell(&word, Vec::new());
        }
    }
}
