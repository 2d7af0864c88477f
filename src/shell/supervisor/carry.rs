//! Carrying out what a pool's machine orders about its workers.

use super::action::Action;
use super::adopt::output_name;
use super::listener::named;
use super::release::Release;
use super::worker::{Ground, Stream, Worker};
use super::{Supervisor, place};
use crate::base::time::Instant;
use crate::machine::pool::seam::{Input as PoolInput, Order, Standing, WorkerId};
use crate::machine::supervisor::seam::{Input, PoolId};
use crate::shell::control::{self, ToListener};

impl Supervisor {
    pub(super) fn carry(&mut self, now: Instant, id: PoolId, order: &Order) {
        if matches!(order, Order::Admit { .. } | Order::Retire { .. }) {
            // On paper before the listener knows: a successor must not take one that serves for
            // one that starts, nor one that leaves for one that stays.
            self.write_now(now);
        }
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let name = pool.name.clone();
        match *order {
            Order::Spawn { worker } => self.spawn(now, id, worker),
            Order::Admit { worker, requests_max, delivered } => {
                let slots = pool.garden.slots;
                let Some(it) = pool.workers.get(&worker) else { return };
                let address = it.address.to_string();
                let worker = named(worker);
                self.tell(
                    &ToListener::Admit {
                        pool: name,
                        worker,
                        address,
                        slots,
                        requests_max,
                        delivered,
                    },
                    Vec::new(),
                );
            }
            Order::Retire { worker } => {
                let word = ToListener::Retire { pool: name, worker: named(worker) };
                self.tell(&word, Vec::new());
            }
            Order::Dismiss { worker } => {
                let word = ToListener::Dismiss { pool: name, worker: named(worker) };
                self.tell(&word, Vec::new());
            }
            Order::Terminate { worker } => {
                let Some(it) = pool.workers.get_mut(&worker) else { return };
                (it.proof, it.ping) = (None, None);
                if let Err(error) = it.child.terminate() {
                    tracing::error!("pool {name}: ending process {}: {error}", it.child.pid());
                }
            }
            Order::Kill { worker } => {
                let Some(it) = pool.workers.get_mut(&worker) else { return };
                if let Err(error) = it.kill() {
                    tracing::error!("pool {name}: killing process {}: {error}", it.child.pid());
                }
            }
            Order::Ping { worker } => {
                if let Some(it) = pool.workers.get_mut(&worker) {
                    it.ask(&pool.garden, now);
                }
            }
            Order::Orphan { worker, why } => {
                if let Some(it) = pool.workers.get_mut(&worker) {
                    (it.proof, it.ping) = (None, None);
                    it.released = Some(why);
                    let pid = it.child.pid().to_string();
                    self.act(
                        now,
                        id,
                        "orphan_command",
                        &[("{pid}", &pid), ("{reason}", why.word())],
                    );
                }
            }
            Order::Stand { standing, may_grow } => {
                let standing = shown(standing);
                self.tell(&ToListener::Stand { pool: name, standing, may_grow }, Vec::new());
            }
            Order::Trip => self.act(now, id, "rapid_fail.command", &[]),
            Order::Tell(event) => self.report(now, id, event),
            Order::Over => {}
        }
    }

    /// Runs the operator's command, if there is one.
    fn act(&mut self, now: Instant, id: PoolId, key: &str, filled: &[(&str, &str)]) {
        let Some(pool) = self.pools.get(&id) else { return };
        let argv = match key {
            "orphan_command" => &pool.garden.lifecycle.orphan_command,
            _ => &pool.garden.rapid_fail.command,
        };
        if argv.is_empty() {
            return;
        }
        let identity = self.identity.as_ref();
        let environment = place::environment(&pool.name, &pool.garden.command, identity);
        let environment: Vec<_> = environment.into_iter().collect();
        let filled: Vec<_> =
            filled.iter().copied().chain([("{pool}", pool.name.as_str())]).collect();
        let action = Action {
            key,
            pool: &pool.name,
            argv,
            filled: &filled,
            environment: &environment,
            identity,
            open_files: self.open_files,
        };
        self.actions.start(now, &action);
    }

    fn spawn(&mut self, now: Instant, id: PoolId, worker: WorkerId) {
        if !self.paper.is_begun() {
            // A successor must know that there is something to look for.
            self.write_now(now);
        }
        let input = match self.start_worker(now, id, worker) {
            Ok(()) => {
                self.write_now(now);
                PoolInput::Spawned { worker }
            }
            Err(why) => {
                if let Some(pool) = self.pools.get_mut(&id) {
                    pool.spawn_error = why;
                }
                PoolInput::SpawnFailed { worker }
            }
        };
        self.inputs.push_front(Input::Pool { pool: id, input });
    }

    fn start_worker(&mut self, now: Instant, id: PoolId, worker: WorkerId) -> Result<(), String> {
        let Some(pool) = self.pools.get_mut(&id) else {
            return Err("its pool is not known".to_owned());
        };
        let path = self.home.socket(&pool.name, id.0, worker.slot, worker.generation);
        let identity = self.identity.as_ref();
        let notices = self.notices.path().to_str();
        let estate = self.estate.as_ref();
        let ground = Ground { identity, open_files: self.open_files, notices, estate };
        if pool.workers.is_empty() || pool.release.is_none() {
            // What is in place now is what it starts from.
            pool.release = pool.garden.recycle.on_config_change.then(|| {
                let path = std::env::var("PATH").unwrap_or_default();
                Release::new(&pool.garden.command, &path, now)
            });
        }
        let started = Worker::start(&ground, &pool.name, worker, &pool.garden, path, now)?;
        let streams = started.streams.iter().map(Stream::kept).collect();
        pool.workers.insert(worker, started);
        let name = output_name(&pool.name, worker);
        self.tell(&ToListener::Keep { name }, streams);
        Ok(())
    }

    /// No configuration has the pool and no worker is left but orphans.
    pub(super) fn forget(&mut self, id: PoolId) {
        let Some(pool) = self.pools.remove(&id) else { return };
        for worker in pool.workers.values() {
            tracing::warn!(
                "pool {}: it is no more; its orphan, process {}, is left to whoever looks at it",
                pool.name,
                worker.child.pid()
            );
        }
    }
}

fn shown(standing: Standing) -> control::Standing {
    match standing {
        Standing::Running => control::Standing::Running,
        Standing::Replacing => control::Standing::Replacing,
        Standing::Paused { limit } => control::Standing::Paused { limit },
        Standing::Stopped => control::Standing::Stopped,
        Standing::Tripped => control::Standing::Tripped,
    }
}
