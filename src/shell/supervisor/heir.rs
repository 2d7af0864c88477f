//! Being the successor of a supervisor that died: its listener, its doors and its workers become
//! ours, and the configuration is then applied as a reload is.

use super::adopt::{self, Inheritance, output_name};
use super::garden::Pool;
use super::home::Home;
use super::listener::{Listener, named};
use super::state::{Life, PoolState, State, Stood};
use super::worker::{Stream, Worker};
use super::{Supervisor, reload};
use crate::machine::pool::seam::{Adopted, Input as PoolInput, Verb};
use crate::machine::supervisor::seam::{Input, PoolId};
use crate::shell::control::ToListener;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// What an earlier supervisor left, until the plan says what becomes of it.
#[derive(Debug, Default)]
pub(super) struct Estate {
    /// By name of the pool.
    pools: BTreeMap<String, PoolState>,
    kept: BTreeMap<String, Vec<OwnedFd>>,
}

/// What a pool was when its earlier supervisor died.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    pub(super) adopted: Vec<Adopted>,
    verb: Option<Verb>,
    is_changed: bool,
}

impl Estate {
    /// What is left of an earlier supervisor: its listener, if that serves on, and all else. What
    /// cannot be taken over is ended.
    pub(super) fn find(home: &Home) -> (Option<State>, Option<Inheritance>, Self) {
        let state = State::load(&home.state());
        let mark = state.as_ref().and_then(|state| state.listener);
        let inheritance = adopt::listener(&home.heir(), mark);
        match (state, inheritance) {
            (state, Some(mut inheritance)) => {
                let kept = std::mem::take(&mut inheritance.kept);
                let pools = state.as_ref().map(|state| state.pools.clone()).unwrap_or_default();
                (state, Some(inheritance), Self { pools, kept })
            }
            (state, None) => {
                if let Some(state) = &state {
                    adopt::end_workers(state);
                }
                home.clean();
                (state, None, Self::default())
            }
        }
    }

    /// Ends the workers of pools that the configuration does not have any more.
    pub(super) fn end_rest(&mut self) {
        for (name, state) in std::mem::take(&mut self.pools) {
            for (worker, child) in adopt::workers(&state) {
                let pid = child.pid();
                tracing::warn!("pool {name}: it is no more; its process {pid} is told to end");
                if let Err(error) = child.terminate() {
                    tracing::error!("pool {name}: ending process {}: {error}", worker.mark.pid);
                }
            }
        }
        self.kept.clear();
    }

    /// Hands its workers over to a pool that comes into being.
    pub(super) fn inherit(
        &mut self,
        pool: &mut Pool,
        groups: Option<&crate::sys::cgroup::Estate>,
    ) -> Legacy {
        let Some(state) = self.pools.remove(&pool.name) else { return Legacy::default() };
        let mut legacy = Legacy {
            verb: match state.standing {
                Stood::Running => None,
                Stood::Stopped | Stood::Tripped => Some(Verb::Stop),
                Stood::Paused { limit } => Some(Verb::Pause { limit }),
            },
            is_changed: state.command != reload::fingerprint(&pool.garden.command),
            ..Legacy::default()
        };
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
            legacy.adopted.push(left.adopted());
            pool.workers.insert(id, Worker::adopted(id, child, address, streams, group));
        }
        pool.past = state;
        legacy
    }
}

impl Supervisor {
    /// After the plan: what else the pool was.
    pub(super) fn pass_on(&mut self, pool: PoolId, legacy: &Legacy) {
        let verb = legacy.verb.map(PoolInput::Asked);
        let changed = legacy.is_changed.then_some(PoolInput::Released);
        for input in verb.into_iter().chain(changed.filter(|_| !legacy.adopted.is_empty())) {
            self.inputs.push_back(Input::Pool { pool, input });
        }
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
