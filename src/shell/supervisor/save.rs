//! Writing down what a next supervisor has to know, when it changes.

use super::Supervisor;
use super::reload::fingerprint;
use super::state::{Mark, PoolState, State, WorkerState};
use crate::base::time::Instant;
use crate::machine::pool::seam::WorkerView;
use crate::sys::process::start_ticks;
use std::time::Duration;

/// Between two changes written down: what changed in it is lost with a supervisor that is killed.
const PAUSE: Duration = Duration::from_millis(5);

/// After it could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// What is on paper, and when it is looked at again.
#[derive(Debug)]
pub(super) struct Paper {
    /// As it was written last.
    written: Option<State>,
    due: Instant,
}

impl Paper {
    pub(super) fn new() -> Self {
        Self { written: None, due: Instant(0) }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.written.is_some()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.due
    }

    /// Something that stands on it has changed.
    pub(super) fn outdate(&mut self, now: Instant) {
        self.due = self.due.min(now + PAUSE);
    }
}

impl Supervisor {
    pub(super) fn write_down(&mut self, now: Instant) {
        if now < self.paper.due {
            return;
        }
        self.paper.due = Instant::NEVER;
        // A server that ends leaves nothing to be taken over.
        if self.machine.is_ending() {
            return;
        }
        let Some(state) = self.state(now) else { return };
        if self.paper.written.as_ref() == Some(&state) {
            return;
        }
        let path = self.home.state();
        match state.save(&path) {
            Ok(()) => self.paper.written = Some(state),
            Err(error) => {
                tracing::warn!(
                    "writing {}: {error}. A supervisor after this one cannot take over",
                    path.display()
                );
                self.paper.due = now + RETRY;
            }
        }
    }

    pub(super) fn write_now(&mut self, now: Instant) {
        self.paper.due = now;
        self.write_down(now);
    }

    fn state(&self, now: Instant) -> Option<State> {
        let mut state = State::new(self.affinity_key.clone()).ok()?;
        let mark = |pid: i32| Some(Mark { pid, start_ticks: start_ticks(pid).ok()? });
        state.listener = self.listener.as_ref().and_then(|it| mark(it.child.pid()));
        state.engine = self.listener.as_ref().map(|it| it.engine.clone()).unwrap_or_default();
        state.revision = self.revision;
        state.events = self.events.last();
        for (id, pool) in &self.pools {
            let Some(view) = self.machine.view(*id, now) else { continue };
            let workers = view.workers.iter().filter_map(|shown| {
                let WorkerView { worker, phase, since, figures, recycling, .. } = *shown;
                let it = pool.workers.get(&worker)?;
                Some(WorkerState {
                    slot: worker.slot,
                    generation: worker.generation,
                    mark: mark(it.child.pid())?,
                    phase: phase.into(),
                    since: since.0,
                    delivered: figures.delivered,
                    recycling: recycling.map(|trigger| trigger.word().to_owned()),
                    address: it.address.to_string(),
                })
            });
            let kept = PoolState {
                standing: view.standing.into(),
                generation: view.generation,
                why: pool.trouble.why.clone(),
                starts: pool.past.starts + view.starts_total,
                recycles: pool.past.recycles + view.recycles_total,
                failures: pool.past.failures + view.failures_total,
                command: fingerprint(&pool.garden.command),
                workers: workers.collect(),
            };
            state.pools.insert(pool.name.clone(), kept);
        }
        Some(state)
    }
}
