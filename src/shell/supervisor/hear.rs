//! Hearing workers: what they write, whether they are ready, whether they live, how they end.

use super::Supervisor;
use super::adopt::output_name;
use super::garden::Gone;
use super::notices::{self, Notice};
use super::proof::Listening;
use super::worker::Told;
use crate::base::address::Address;
use crate::base::time::Instant;
use crate::machine::pool::seam::{Exit, Input as PoolInput, WorkerId};
use crate::machine::supervisor::seam::{Input, PoolId};
use crate::shell::control::ToListener;
use crate::sys::ears::{self, Whose};
use crate::sys::process::Ended;
use nix::libc::SIGKILL;
use std::path::Path;

impl Supervisor {
    pub(super) fn hear_worker(&mut self, now: Instant, pool: PoolId, worker: WorkerId, told: Told) {
        match told {
            Told::Output(stream) => self.read_output(now, pool, worker, stream),
            Told::Proof => self.prove(now, pool, worker, true),
            Told::Ping => self.hear_ping(now, pool, worker, true),
            Told::Exit => self.worker_exited(now, pool, worker),
        }
    }

    fn read_output(&mut self, now: Instant, id: PoolId, worker: WorkerId, stream: usize) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let (name, slot) = (&pool.name, worker.slot);
        if let Some(worker) = pool.workers.get_mut(&worker) {
            worker.read(now, stream, |line| tracing::info!("pool {name}, slot {slot}: {line}"));
        }
    }

    /// Whose question is to be asked again.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let late = |deadline: Instant| now >= deadline;
        let all = self.pools.values().flat_map(|pool| {
            let due = pool.workers.values().filter(move |worker| late(worker.deadline()));
            due.map(|worker| (pool.id, worker.id))
        });
        let due: Vec<(PoolId, WorkerId)> = all.collect();
        for (pool, worker) in due {
            self.prove(now, pool, worker, false);
            self.hear_ping(now, pool, worker, false);
        }
    }

    fn prove(&mut self, now: Instant, id: PoolId, worker: WorkerId, is_told: bool) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let Some(it) = pool.workers.get_mut(&worker) else { return };
        let Some(proof) = &mut it.proof else { return };
        if proof.step(now, is_told, || who_listens(&it.address, it.child.pid())) {
            it.proof = None;
            let input = PoolInput::Ready { worker };
            self.inputs.push_back(Input::Pool { pool: id, input });
        }
    }

    fn hear_ping(&mut self, now: Instant, id: PoolId, worker: WorkerId, is_told: bool) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let Some(it) = pool.workers.get_mut(&worker) else { return };
        let Some(ping) = &mut it.ping else { return };
        if ping.step(now, is_told) {
            it.ping = None;
            let input = PoolInput::Pinged { worker };
            self.inputs.push_back(Input::Pool { pool: id, input });
        }
    }

    /// What workers say of themselves.
    pub(super) fn hear_notices(&mut self) {
        let all = self.pools.iter().flat_map(|(id, pool)| {
            pool.workers.iter().map(move |(worker, it)| ((*id, *worker), it.child.pid()))
        });
        let all: Vec<_> = all.collect();
        for ((id, worker), notice) in notices::read(&self.notices, &all) {
            let Some(pool) = self.pools.get_mut(&id) else { continue };
            let Some(it) = pool.workers.get_mut(&worker) else { continue };
            if let Some(proof) = &mut it.proof {
                proof.heard(notice == Notice::Ready);
            }
            match notice {
                Notice::Ready => {}
                Notice::Status(status) => it.status = status,
                Notice::Report(report, reason) => {
                    it.reason = reason;
                    let input = PoolInput::Reported { worker, report };
                    self.inputs.push_back(Input::Pool { pool: id, input });
                }
            }
        }
    }

    fn worker_exited(&mut self, now: Instant, id: PoolId, worker: WorkerId) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let Some(it) = pool.workers.get_mut(&worker) else { return };
        let mut exit = match it.child.try_wait() {
            Ok(None) => return,
            Ok(Some(ended)) => exit(ended),
            Err(error) => {
                tracing::error!("pool {}: waiting for {}: {error}", pool.name, it.child.pid());
                Exit::Unknown
            }
        };
        let (name, slot) = (&pool.name, worker.slot);
        it.finish(now, |line| tracing::info!("pool {name}, slot {slot}: {line}"));
        if exit == Exit::Signal(SIGKILL) && it.lacked_memory() {
            exit = Exit::OutOfMemory;
        }
        it.clear(&marks(name, worker, self.notices.path()));
        let (pid, address, last_words) = (it.child.pid(), it.address.clone(), it.last_words());
        pool.workers.remove(&worker);
        pool.gone.push(Gone { id: worker, pid, address, exit, last_words });
        let word = ToListener::Release { name: output_name(&pool.name, worker) };
        self.tell(&word, Vec::new());
        let input = PoolInput::Exited { worker, exit };
        self.inputs.push_back(Input::Pool { pool: id, input });
    }
}

fn who_listens(address: &Address, leader: i32) -> Listening {
    match ears::whose(address, leader) {
        Whose::Stranger => Listening::Stranger,
        // Nobody any more is for the next attempt to find out; who is hidden is believed.
        Whose::Family | Whose::Nobody | Whose::Hidden => Listening::Itself,
    }
}

/// What stands in the environment of this worker, and of nobody else's.
pub(super) fn marks(pool: &str, worker: WorkerId, notices: &Path) -> [(String, String); 4] {
    [
        ("LYCHGATE_POOL", pool.to_owned()),
        ("LYCHGATE_SLOT", worker.slot.to_string()),
        ("LYCHGATE_GENERATION", worker.generation.to_string()),
        ("NOTIFY_SOCKET", notices.display().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Exit(code) => Exit::Code(code),
        Ended::Signal(signal) => Exit::Signal(signal as i32),
        Ended::Unknown => Exit::Unknown,
    }
}
