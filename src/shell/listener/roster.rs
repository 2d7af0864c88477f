//! Who works where: the gardens of the listener process with their gates, and the place of each
//! worker. Hears the supervisor's words and the threads' reports; leaves orders.
//!
//! ```text
//!   Admit ─▶ Entering ──all threads know──▶ Serving ─Retire─▶ Leaving ──nothing runs──▶ Left
//!               └──────────── Dismiss ─────────┴──────┬─────────┴────────────────────────┘
//!                                                 Dismissed ──all threads know, nothing runs──▶ gone
//! ```
//!
//! A place gets its next worker only when all threads know that the last one is gone, so that
//! nothing late is taken for a word about the new one.

use crate::base::address::Address;
use crate::base::id::ServerIndex;
use crate::base::time::Instant;
use crate::machine::gate::{Gate, Grant, Pumped};
use crate::machine::pool::seam::Standing;
use crate::plan::garden::Queue;
use crate::plan::{Plan, Source};
use crate::shell::control::{FromListener, PoolFigures, Worker, WorkerFigures};
use crate::shell::data::News;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To all threads.
    Tell(News),
    /// To the ticket's thread.
    Grant { pool: String, grant: Grant },
    /// To the supervisor.
    Say(FromListener),
}

/// A worker as the supervisor announced it.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) worker: Worker,
    pub(super) address: Address,
    /// Requests at once; 0 = any number.
    pub(super) slots: u32,
    /// Spent after so many, those before its admission included; 0 = never.
    pub(super) requests_max: u64,
    /// Requests that it was given before.
    pub(super) delivered: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Entering,
    Serving,
    /// Closed; something runs on it.
    Leaving,
    Left,
    Dismissed,
}

#[derive(Debug)]
struct Entry {
    admission: Admission,
    stage: Stage,
    /// Acknowledgements that threads owe.
    owed: usize,
}

#[derive(Debug)]
struct Garden {
    gate: Arc<Gate>,
    queue: Queue,
    standing: Standing,
    may_grow: bool,
    /// It is in the plan; else it is here for what still runs.
    is_planned: bool,
    turn: u16,
    places: BTreeMap<ServerIndex, Entry>,
}

/// All gardens, by the name of their pool.
#[derive(Debug)]
pub(super) struct Roster {
    threads: usize,
    gardens: BTreeMap<String, Garden>,
}

impl Roster {
    pub(super) fn new(threads: usize) -> Self {
        Self { threads, gardens: BTreeMap::new() }
    }

    /// The gates of a new plan's pools. A garden keeps its gate; until the supervisor says how a
    /// new one stands its requests wait.
    pub(super) fn plan(&mut self, plan: &Plan) -> Arc<[Option<Arc<Gate>>]> {
        self.gardens.values_mut().for_each(|garden| garden.is_planned = false);
        let gates = plan.pools.iter().map(|pool| {
            let Source::Garden(settings) = &pool.source else { return None };
            let garden = self
                .gardens
                .entry(pool.name.clone())
                .or_insert_with(|| Garden::new(settings.queue.clone()));
            garden.is_planned = true;
            garden.queue = settings.queue.clone();
            for (place, entry) in &mut garden.places {
                entry.admission.slots = settings.slots;
                garden.gate.resize(*place, settings.slots);
            }
            garden.gate.choose_by(settings.dispatch);
            garden.stand();
            Some(Arc::clone(&garden.gate))
        });
        let gates = gates.collect();
        self.forget();
        gates
    }

    /// Finds it a place and tells the threads.
    pub(super) fn admit(&mut self, pool: &str, admission: Admission, out: &mut Vec<Order>) {
        let worker = admission.worker;
        let Some(garden) = self.gardens.get_mut(pool) else {
            tracing::warn!("pool {pool}: a worker is admitted to what is no garden");
            return out.push(serving(pool, worker));
        };
        if let Some(entry) = garden.find(worker) {
            let is_serving = garden.places[&entry].stage == Stage::Serving;
            return out.extend(is_serving.then(|| serving(pool, worker)));
        }
        garden.reap();
        let is_taken = |place| garden.places.contains_key(&place);
        let Some(place) = garden.gate.vacancy(is_taken) else {
            tracing::error!("pool {pool}: more workers than have places. One gets no requests");
            return;
        };
        let (Worker { slot, generation }, pool) = (worker, pool.to_owned());
        let address = admission.address.clone();
        let entry = Entry { admission, stage: Stage::Entering, owed: self.threads };
        garden.places.insert(place, entry);
        out.push(Order::Tell(News::Admitted { pool, place, slot, generation, address }));
    }

    /// One thread more knows who has a place, or that nobody has.
    pub(super) fn known(
        &mut self,
        now: Instant,
        pool: &str,
        place: ServerIndex,
        out: &mut Vec<Order>,
    ) {
        let Some(garden) = self.gardens.get_mut(pool) else { return };
        let Some(entry) = garden.places.get_mut(&place) else { return };
        entry.owed = entry.owed.saturating_sub(1);
        if entry.owed == 0 && entry.stage == Stage::Entering {
            entry.stage = Stage::Serving;
            let Admission { worker, slots, requests_max, delivered, .. } = entry.admission;
            let left = match requests_max {
                0 => 0,
                most => most.saturating_sub(delivered).max(1),
            };
            garden.gate.open(place, worker.slot, slots, left);
            out.push(serving(pool, worker));
            garden.pump(now, pool, out);
        }
        self.forget();
    }

    pub(super) fn retire(
        &mut self,
        now: Instant,
        pool: &str,
        worker: Worker,
        out: &mut Vec<Order>,
    ) {
        let Some((garden, place)) = self.find(pool, worker) else {
            tracing::debug!("pool {pool}: an unknown worker is retired: {worker:?}");
            return out.push(emptied(pool, worker));
        };
        let entry = garden.entry(place);
        match entry.stage {
            Stage::Serving => {
                let is_empty = garden.gate.close(place);
                garden.entry(place).stage = if is_empty { Stage::Left } else { Stage::Leaving };
                out.push(Order::Tell(News::Retired { pool: pool.to_owned(), place }));
                if is_empty {
                    out.push(emptied(pool, worker));
                }
                garden.pump(now, pool, out);
            }
            // It never served.
            Stage::Entering => {
                entry.stage = Stage::Left;
                out.push(emptied(pool, worker));
            }
            Stage::Left | Stage::Dismissed => out.push(emptied(pool, worker)),
            Stage::Leaving => {}
        }
    }

    /// A thread, or a pump, saw the last request leave a closed place.
    pub(super) fn emptied(&mut self, pool: &str, place: ServerIndex, out: &mut Vec<Order>) {
        if let Some(garden) = self.gardens.get_mut(pool) {
            garden.emptied(pool, place, out);
        }
        self.forget();
    }

    pub(super) fn dismiss(
        &mut self,
        now: Instant,
        pool: &str,
        worker: Worker,
        out: &mut Vec<Order>,
    ) {
        let threads = self.threads;
        let Some((garden, place)) = self.find(pool, worker) else {
            tracing::debug!("pool {pool}: an unknown worker is dismissed: {worker:?}");
            return;
        };
        let entry = garden.entry(place);
        if entry.stage == Stage::Dismissed {
            return;
        }
        entry.stage = Stage::Dismissed;
        entry.owed += threads;
        garden.gate.close(place);
        out.push(Order::Tell(News::Dismissed { pool: pool.to_owned(), place }));
        garden.pump(now, pool, out);
    }

    pub(super) fn stand(
        &mut self,
        now: Instant,
        pool: &str,
        standing: Standing,
        may_grow: bool,
        out: &mut Vec<Order>,
    ) {
        let Some(garden) = self.gardens.get_mut(pool) else {
            tracing::debug!("pool {pool}: is no garden, and cannot be {standing:?}");
            return;
        };
        garden.standing = standing;
        garden.may_grow = may_grow;
        garden.stand();
        out.push(Order::Tell(News::Stood { pool: pool.to_owned(), standing }));
        garden.pump(now, pool, out);
    }

    /// After a plan: there may be more slots.
    pub(super) fn pump_all(&mut self, now: Instant, out: &mut Vec<Order>) {
        for (pool, garden) in &mut self.gardens {
            garden.pump(now, pool, out);
        }
    }

    /// The worker of a place had its last request.
    pub(super) fn spent(&self, pool: &str, place: ServerIndex, out: &mut Vec<Order>) {
        if let Some(worker) = self.worker(pool, place) {
            out.push(Order::Say(FromListener::Spent { pool: pool.to_owned(), worker }));
        }
    }

    /// The worker of a place sent what is not HTTP.
    pub(super) fn violated(&self, pool: &str, place: ServerIndex, out: &mut Vec<Order>) {
        if let Some(worker) = self.worker(pool, place) {
            out.push(Order::Say(FromListener::Violated { pool: pool.to_owned(), worker }));
        }
    }

    /// What is counted of each garden, and who has to be asked for again: a worker may have come
    /// and been too few, with no request since that would have noticed.
    pub(super) fn measure(&self, now: Instant, out: &mut Vec<Order>) -> Vec<PoolFigures> {
        let figures = self.gardens.iter().map(|(pool, garden)| {
            garden.ask(now, pool, out);
            let workers = garden.places.iter().filter(|(_, entry)| entry.is_counted());
            PoolFigures {
                pool: pool.clone(),
                waiting: garden.gate.waiting(),
                workers: workers.map(|(place, entry)| garden.figures(*place, entry)).collect(),
            }
        });
        figures.collect()
    }

    fn find(&mut self, pool: &str, worker: Worker) -> Option<(&mut Garden, ServerIndex)> {
        let garden = self.gardens.get_mut(pool)?;
        let place = garden.find(worker)?;
        Some((garden, place))
    }

    /// Who has a place and was not dismissed.
    fn worker(&self, pool: &str, place: ServerIndex) -> Option<Worker> {
        let entry = self.gardens.get(pool)?.places.get(&place)?;
        (entry.stage != Stage::Dismissed).then_some(entry.admission.worker)
    }

    /// Drops gardens that no plan names once nobody is left in them.
    fn forget(&mut self) {
        self.gardens.retain(|_, garden| {
            garden.is_planned || {
                garden.reap();
                !garden.places.is_empty()
            }
        });
    }
}

impl Garden {
    fn new(queue: Queue) -> Self {
        Self {
            gate: Arc::default(),
            queue,
            standing: Standing::Running,
            may_grow: false,
            is_planned: true,
            turn: 0,
            places: BTreeMap::new(),
        }
    }

    /// A worker's place; also of one that is dismissed.
    fn find(&self, worker: Worker) -> Option<ServerIndex> {
        let mut places = self.places.iter();
        places.find(|(_, entry)| entry.admission.worker == worker).map(|(place, _)| *place)
    }

    fn entry(&mut self, place: ServerIndex) -> &mut Entry {
        self.places.get_mut(&place).expect("a place that was just found")
    }

    fn stand(&self) {
        let limit = match self.standing {
            Standing::Replacing => self.queue.restart_limit,
            Standing::Paused { limit } => limit,
            Standing::Running | Standing::Stopped | Standing::Tripped => self.queue.limit,
        };
        self.gate.stand(self.standing, limit, self.may_grow);
    }

    fn emptied(&mut self, pool: &str, place: ServerIndex, out: &mut Vec<Order>) {
        let Some(entry) = self.places.get_mut(&place) else { return };
        if entry.stage == Stage::Leaving && self.gate.is_empty(place) {
            entry.stage = Stage::Left;
            out.push(emptied(pool, entry.admission.worker));
        }
    }

    /// Forgets those dismissed whose places can be given to others.
    fn reap(&mut self) {
        let gate = &self.gate;
        self.places.retain(|place, entry| {
            entry.stage != Stage::Dismissed || entry.owed > 0 || !gate.is_empty(*place)
        });
    }

    fn pump(&mut self, now: Instant, pool: &str, out: &mut Vec<Order>) {
        let gate = Arc::clone(&self.gate);
        loop {
            match gate.pump(now, &mut self.turn) {
                Pumped::Granted(grant) => {
                    out.push(Order::Grant { pool: pool.to_owned(), grant });
                    if grant.taken.is_spent
                        && let Some(entry) = self.places.get(&grant.taken.place)
                    {
                        let worker = entry.admission.worker;
                        let pool = pool.to_owned();
                        out.push(Order::Say(FromListener::Spent { pool, worker }));
                    }
                }
                Pumped::Emptied(place) => self.emptied(pool, place, out),
                Pumped::Nothing => break,
            }
        }
        self.ask(now, pool, out);
    }

    /// Asks for another worker if somebody waits for one.
    fn ask(&self, now: Instant, pool: &str, out: &mut Vec<Order>) {
        if self.gate.is_short(now) && self.gate.wants() {
            out.push(Order::Say(FromListener::Wanted { pool: pool.to_owned() }));
        }
    }

    fn figures(&self, place: ServerIndex, entry: &Entry) -> WorkerFigures {
        let figures = self.gate.figures(place);
        let is_open = entry.stage != Stage::Entering;
        let since = if is_open { figures.delivered } else { 0 };
        WorkerFigures {
            worker: entry.admission.worker,
            executing: figures.executing,
            delivered: entry.admission.delivered + since,
            answered: if is_open { figures.answered.0 } else { 0 },
        }
    }
}

impl Entry {
    fn is_counted(&self) -> bool {
        self.stage != Stage::Dismissed
    }
}

fn serving(pool: &str, worker: Worker) -> Order {
    Order::Say(FromListener::Serving { pool: pool.to_owned(), worker })
}

fn emptied(pool: &str, worker: Worker) -> Order {
    Order::Say(FromListener::Emptied { pool: pool.to_owned(), worker })
}

#[cfg(test)]
mod tests;
