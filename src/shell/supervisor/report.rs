//! Events: what the machine tells, with what only we know of it.

use super::Supervisor;
use super::events::Particulars;
use super::garden::Trouble;
use super::proof::Proof;
use super::texts::{self, Facts};
use crate::base::time::Instant;
use crate::machine::event::{Event, Kind};
use crate::machine::pool::seam::{Failure, WorkerId};
use crate::machine::supervisor::seam::PoolId;
use crate::plan::Source;
use crate::sys::{clock, ears};

impl Supervisor {
    pub(super) fn report(&mut self, now: Instant, id: PoolId, event: Event) {
        let Some(pool) = self.pools.get(&id) else { return };
        let (obstacle, instead) =
            event.worker.map(|worker| pool.obstacle(worker, event.kind)).unwrap_or_default();
        let words = event.worker.map(|worker| pool.last_words(worker)).unwrap_or_default();
        let worker = event.worker.and_then(|worker| pool.workers.get(&worker));
        let gone = event.worker.and_then(|worker| pool.gone(worker));
        let pid = event.worker.and_then(|worker| pool.pid(worker));
        let facts = Facts {
            pool: &pool.name,
            pid,
            garden: Some(&pool.garden),
            address: worker.map(|worker| &worker.address).or(gone.map(|gone| &gone.address)),
            instead: &instead,
            exit: gone.map(|gone| gone.exit),
            obstacle: &obstacle,
            last_line: words.last().map_or("", String::as_str),
        };
        let text = texts::text(&event, &facts);
        let is_logged = match event.kind {
            Kind::Recycling(trigger) => pool.garden.recycle.log.contains(&trigger),
            _ => true,
        };
        let name = pool.name.clone();
        if let (Kind::WorkerFailed(_), Some(pool)) = (event.kind, self.pools.get_mut(&id)) {
            pool.trouble = Trouble { why: text.clone(), last_words: words };
        }
        let time_ms = (clock::wall_origin() + now.0) / 1_000_000;
        self.events.tell(time_ms, &event, Particulars { pool: name, pid, text, is_logged });
    }
}

impl Supervisor {
    /// Pools whose part of the configuration is refused.
    pub(super) fn report_invalid(&mut self) {
        let time_ms = (clock::wall_origin() + clock::now().0) / 1_000_000;
        let event = Event { kind: Kind::PoolInvalid, worker: None };
        for pool in &self.loaded.plan.pools {
            let Source::Invalid(why) = &pool.source else { continue };
            let facts = Facts { pool: &pool.name, obstacle: why, ..Facts::default() };
            let (text, name) = (texts::text(&event, &facts), pool.name.clone());
            let particulars = Particulars { pool: name, pid: None, text, is_logged: true };
            self.events.tell(time_ms, &event, particulars);
        }
    }
}

impl super::garden::Pool {
    /// What stood in the way of a worker, and where it listens if that is elsewhere.
    fn obstacle(
        &self,
        worker: WorkerId,
        kind: Kind,
    ) -> (String, Vec<crate::base::address::Address>) {
        let there = self.workers.get(&worker);
        match kind {
            Kind::WorkerFailed(Failure::Spawn) => (self.spawn_error.clone(), Vec::new()),
            Kind::WorkerFailed(Failure::StartupTimeout) => {
                let proof = there.and_then(|worker| worker.proof.as_ref());
                let obstacle = proof.map(Proof::obstacle).unwrap_or_default();
                let mut instead =
                    there.map(|worker| ears::of(worker.child.pid())).unwrap_or_default();
                if there.is_some_and(|worker| instead.contains(&worker.address)) {
                    instead.clear();
                }
                (obstacle, instead)
            }
            _ => (there.map(|worker| worker.reason.clone()).unwrap_or_default(), Vec::new()),
        }
    }
}
