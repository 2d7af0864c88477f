//! Events: what the machine tells, with what only we know of it.

use super::Supervisor;
use super::garden::Trouble;
use super::worker::advice;
use crate::machine::event::{Event, Kind, Severity};
use crate::machine::pool::seam::Failure;
use crate::machine::supervisor::seam::PoolId;

impl Supervisor {
    pub(super) fn report(&mut self, id: PoolId, event: Event) {
        let Some(pool) = self.pools.get_mut(&id) else { return };
        let pid = event.worker.and_then(|worker| pool.pid(worker));
        let who = match (event.worker, pid) {
            (Some(worker), Some(pid)) => {
                format!("pool {}, slot {}: process {pid}", pool.name, worker.slot)
            }
            _ => format!("pool {}", pool.name),
        };
        let mut text = format!("{who}: {}", event.kind.word());
        if let Some(reason) = event.kind.reason() {
            text = format!("{text}: {reason}");
        }
        if let (Kind::WorkerFailed(failure), Some(worker)) = (event.kind, event.worker) {
            let why = match failure {
                Failure::Spawn => format!("starting {}", pool.spawn_error),
                Failure::StartupTimeout => {
                    let proof = pool.workers.get(&worker).and_then(|it| it.proof.as_ref());
                    let obstacle = proof.map(super::proof::Proof::obstacle).unwrap_or_default();
                    format!(
                        "not ready in time (lifecycle.startup_limit): {obstacle}. {}",
                        advice(pool.garden.command.bind)
                    )
                }
                _ => {
                    let ended = pool.gone(worker).map(|gone| gone.ended.clone());
                    ended.map(|ended| format!("it ended by itself: {ended}")).unwrap_or_default()
                }
            };
            text = format!("{text}: {why}");
            pool.trouble = Trouble { why, last_words: pool.last_words(worker) };
        }
        match event.kind.severity() {
            Severity::Info => tracing::info!("{text}"),
            Severity::Warning => tracing::warn!("{text}"),
            Severity::Error => tracing::error!("{text}"),
        }
    }
}
