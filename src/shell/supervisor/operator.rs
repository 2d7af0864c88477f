//! Answering operators (the control API) from what is known, and doing what they ask.

use super::Supervisor;
use super::garden::Pool;
use super::lists::Lists;
use super::worker::Worker;
use crate::base::time::{Instant, millis};
use crate::machine::pool::seam::{
    Input as PoolInput, Memory, Phase, Standing, View, WorkerId, WorkerView,
};
use crate::machine::supervisor::seam::{Input, PoolId};
use crate::plan::Source;
use crate::shell::api::{Answer, Ask, Asked};
use crate::shell::control::ToListener;
use crate::shell::view::{ListenerRow, Outcome, PoolRow, Status, WorkerRow};
use crate::sys::cgroup::Group;
use crate::sys::family::Kin;

/// What operators wait for, and what they were refused.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// Asks that the listener has to answer first.
    pub(super) lists: Lists,
    /// Why the last reload was refused.
    pub(super) refused: Option<String>,
}

/// Which of a pool's workers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Orphans,
    Others,
}

impl Supervisor {
    pub(super) fn hear_asks(&mut self, now: Instant) {
        while let Some(asked) = self.asks.next() {
            // What nobody waits for any more is not done either.
            if !asked.is_given_up() {
                self.hear_ask(now, asked);
            }
        }
    }

    fn hear_ask(&mut self, now: Instant, asked: Asked) {
        let answer = match asked.ask.clone() {
            Ask::Status => Answer::Status(self.status(now)),
            Ask::Pools => Answer::Pools(self.pool_rows(now)),
            Ask::Workers { pool } => match self.refuse_unknown(pool.as_deref()) {
                Some(refusal) => refusal,
                None => Answer::Workers(self.worker_rows(now, pool.as_deref(), Shown::Others)),
            },
            Ask::Orphans => Answer::Workers(self.worker_rows(now, None, Shown::Orphans)),
            Ask::Requests { pool, older_ms } => {
                match self.refuse_unknown(pool.as_deref()) {
                    Some(refusal) => asked.answer(refusal),
                    None => self.list(now, asked, pool, older_ms),
                }
                return;
            }
            Ask::Verb { pool, verb } => return self.command(now, asked, &pool, verb),
            Ask::EndOrphan { pid } => self.end_orphan(now, pid),
            Ask::Reload => match self.reload() {
                Ok(()) => done(format!("{} is in force", self.origin.name())),
                Err(why) => Answer::Conflict(why),
            },
            Ask::Events { after, limit } => Answer::Events(self.events.after(after, limit)),
            Ask::Follow => Answer::Follow(self.events.follow()),
        };
        asked.answer(answer);
    }

    fn list(&mut self, now: Instant, asked: Asked, pool: Option<String>, older_ms: u64) {
        if self.channel().is_none() {
            let why = "listing requests: there is no listener now".to_owned();
            return asked.answer(Answer::Unavailable(why));
        }
        let Some(token) = self.operator.lists.open(now, asked) else { return };
        self.tell(&ToListener::List { token, pool, older_ms }, Vec::new());
    }

    /// A pool that is in no configuration and has no worker.
    pub(super) fn refuse_unknown(&self, pool: Option<&str>) -> Option<Answer> {
        let name = pool?;
        let is_planned = self.loaded.plan.pools.iter().any(|pool| pool.name == name);
        let is_known = is_planned || self.pool_named(name).is_some();
        (!is_known).then(|| {
            Answer::NotFound(format!("there is no pool {name}. `lychgate pools` shows them"))
        })
    }

    fn end_orphan(&mut self, now: Instant, pid: i32) -> Answer {
        let found = self.pools.iter().find_map(|(id, pool)| {
            let view = self.machine.view(*id, now)?;
            let orphans = view.workers.iter().filter(|worker| worker.phase == Phase::Orphaned);
            let mut ids = orphans.map(|worker| worker.worker);
            ids.find(|worker| pool.pid(*worker) == Some(pid)).map(|worker| (*id, worker))
        });
        let Some((pool, worker)) = found else {
            return Answer::NotFound(format!("process {pid} is no orphan of a pool"));
        };
        self.inputs.push_back(Input::Pool { pool, input: PoolInput::OrphanEnded { worker } });
        done(format!("process {pid} is killed"))
    }

    fn status(&self, now: Instant) -> Status {
        let listener = self.listener.as_ref();
        let state = match (self.machine.is_ending(), listener.is_some_and(|it| it.is_ready)) {
            (true, _) => "ending",
            (_, true) => "running",
            (_, false) => "starting",
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
            state: state.to_owned(),
            uptime_ms: millis(now.since(self.since)),
            configuration: self.origin.name(),
            revision: self.revision,
            refused: self.operator.refused.clone(),
            listener: ListenerRow {
                pid: listener.map_or(0, |it| it.child.pid()),
                engine: listener.map(|it| it.engine.clone()).unwrap_or_default(),
                threads: self.threads,
                restarts: self.listener_restarts,
            },
            listening: self.plan_doors.iter().map(|door| self.doors.bound(*door)).collect(),
            pools: self.loaded.plan.pools.len(),
            workers: self.pools.values().map(|pool| pool.workers.len()).sum(),
            workers_max: self.loaded.plan.server.workers_max,
        }
    }

    fn pool_rows(&self, now: Instant) -> Vec<PoolRow> {
        let of_plan = self.loaded.plan.pools.iter().map(|pool| {
            let blank = |state: &str, why: &str| PoolRow {
                name: pool.name.clone(),
                state: state.to_owned(),
                why: why.to_owned(),
                ..PoolRow::default()
            };
            match &pool.source {
                Source::Servers(_) => blank("external", ""),
                Source::Invalid(why) => blank("invalid", why),
                Source::Garden(_) => self
                    .pool_named(&pool.name)
                    .and_then(|id| self.pool_row(now, id))
                    .unwrap_or_else(|| blank("starting", "")),
            }
        });
        let mut rows: Vec<PoolRow> = of_plan.collect();
        let leaving = self.pools.values().filter(|pool| !pool.is_planned);
        rows.extend(leaving.filter_map(|pool| self.pool_row(now, pool.id)));
        rows
    }

    fn pool_row(&self, now: Instant, id: PoolId) -> Option<PoolRow> {
        let pool = self.pools.get(&id)?;
        let view = self.machine.view(id, now)?;
        let count = |is: fn(Phase) -> bool| {
            let counted = view.workers.iter().filter(|worker| is(worker.phase)).count();
            u32::try_from(counted).unwrap_or(u32::MAX)
        };
        let (state, why) = state(pool, &view);
        Some(PoolRow {
            name: pool.name.clone(),
            state: state.to_owned(),
            why,
            last_words: pool.trouble.last_words.clone(),
            workers_serving: count(|phase| phase == Phase::Serving),
            workers_alive: count(|phase| phase != Phase::Orphaned),
            workers_max: pool.garden.workers.into(),
            waiting: view.waiting,
            executing: view.workers.iter().map(|worker| worker.figures.executing).sum(),
            starts: pool.past.starts + view.starts_total,
            recycles: pool.past.recycles + view.recycles_total,
            failures: pool.past.failures + view.failures_total,
            failures_recent: view.failures,
            orphans: count(|phase| phase == Phase::Orphaned),
            backoff_ms: view.backoff_until.map(|until| millis(until.since(now))),
        })
    }

    fn worker_rows(&self, now: Instant, name: Option<&str>, which: Shown) -> Vec<WorkerRow> {
        let (mut rows, kin) = (Vec::new(), Kin::look());
        for (id, pool) in &self.pools {
            if name.is_some_and(|name| name != pool.name) {
                continue;
            }
            let Some(view) = self.machine.view(*id, now) else { continue };
            for shown in &view.workers {
                let is_orphan = shown.phase == Phase::Orphaned;
                if let Some(worker) = pool.workers.get(&shown.worker)
                    && is_orphan == (which == Shown::Orphans)
                {
                    let (pid, group) = (worker.child.pid(), worker.group.as_ref());
                    let memory = self.scales.weigh(pid, group.map(Group::folder), &kin);
                    let memory = memory.unwrap_or(shown.memory);
                    rows.push(Self::worker_row(now, pool, worker, shown, memory));
                }
            }
        }
        rows.sort_by(|one, other| {
            (&one.pool, one.slot, one.generation).cmp(&(&other.pool, other.slot, other.generation))
        });
        rows
    }

    fn worker_row(
        now: Instant,
        pool: &Pool,
        worker: &Worker,
        shown: &WorkerView,
        memory: Memory,
    ) -> WorkerRow {
        let WorkerId { slot, generation } = worker.id;
        let pid = worker.child.pid();
        let reason = match shown.recycling {
            Some(trigger) => trigger.word().to_owned(),
            None => worker.released.map(|why| why.word().to_owned()).unwrap_or_default(),
        };
        WorkerRow {
            pool: pool.name.clone(),
            slot,
            generation,
            pid,
            state: phase_word(shown.phase).to_owned(),
            reason,
            age_ms: millis(now.since(shown.since)),
            state_ms: millis(now.since(shown.phase_since)),
            executing: shown.figures.executing,
            requests: shown.figures.delivered,
            private_memory: memory.private,
            virtual_memory: memory.virtual_size,
            address: worker.address.to_string(),
            status: worker.status.clone(),
        }
    }
}

pub(super) fn done(text: String) -> Answer {
    Answer::Done(Outcome { text })
}

fn state(pool: &Pool, view: &View) -> (&'static str, String) {
    let trouble = || pool.trouble.why.clone();
    match view.standing {
        Standing::Running | Standing::Replacing => {
            ("running", if view.failures > 0 { trouble() } else { String::new() })
        }
        Standing::Paused { limit } => ("paused", format!("at most {limit} requests wait")),
        Standing::Stopped => ("stopped", String::new()),
        Standing::Tripped => ("tripped", trouble()),
    }
}

pub(super) const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Admitted => "admitted",
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::Terminating => "terminating",
        Phase::Killing => "killing",
        Phase::Orphaned => "orphaned",
    }
}
