//! The pools of one listener thread: which servers there are, which are well, whose turn it is,
//! and which connections to them lie idle.

pub mod affinity;
pub mod entrance;
pub mod health;

use crate::base::address::Address;
use crate::base::id::ServerIndex;
use crate::base::limits::PLACES_MAX;
use crate::base::time::Instant;
use crate::machine::gate::Gate;
use crate::machine::pool::seam::WorkerId;
use crate::plan::{Plan, Pool, Source};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use entrance::Entrance;
use health::{Health, Verdict};

/// A pool's place here. A reload never renumbers the pools that stay, so that exchanges in
/// flight keep pointing at theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u16);

/// All pools, by slot.
#[derive(Debug, Default)]
pub struct Upstreams {
    slots: Vec<Upstream>,
    /// The plan's pool index to its slot.
    by_plan: Vec<Slot>,
}

/// One pool.
#[derive(Debug)]
pub struct Upstream {
    pub pool: Pool,
    pub servers: Vec<Server>,
    /// Whose turn it is next.
    turn: usize,
    /// Connections that name this slot; it is reused only at zero.
    pub connections: u32,
    /// Not in the plan any more: nothing new goes here, nothing is kept.
    pub is_retired: bool,
    /// Of a garden: then `servers` are the places of its gate.
    pub entrance: Option<Box<Entrance>>,
}

/// One server of a pool.
#[derive(Debug)]
pub struct Server {
    /// `None` while the worker of a `command` pool is not there.
    pub address: Option<Arc<Address>>,
    /// Idle connections, last used on top: the rest grow old together and are closed.
    pub idle: Vec<u32>,
    pub health: Health,
    /// When the next active check is due; [`Instant::NEVER`] while one runs or none is wanted.
    pub check_due: Instant,
    /// Of a garden: who has the place; `None` = nobody.
    pub worker: Option<WorkerId>,
    /// It is given nothing more; connections to it are not kept.
    pub is_retired: bool,
}

impl Server {
    fn new(address: Option<Address>, check_due: Instant) -> Self {
        Self {
            address: address.map(Arc::new),
            idle: Vec::new(),
            health: Health::default(),
            check_due,
            worker: None,
            is_retired: false,
        }
    }
}

/// Why no server could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The worker of a `command` pool is not there.
    NotStarted,
    /// All failed their active checks.
    Down,
    /// Its part of the configuration is refused.
    Invalid,
}

impl Upstreams {
    pub fn slot(&self, plan_index: usize) -> Option<Slot> {
        self.by_plan.get(plan_index).copied()
    }

    pub fn at(&mut self, slot: Slot) -> &mut Upstream {
        &mut self.slots[usize::from(slot.0)]
    }

    pub fn view(&self, slot: Slot) -> &Upstream {
        &self.slots[usize::from(slot.0)]
    }

    pub fn entrance(&self, slot: Slot) -> Option<&Entrance> {
        self.view(slot).entrance.as_deref()
    }

    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..u16::try_from(self.slots.len()).unwrap_or(u16::MAX)).map(Slot)
    }

    /// The slot of a pool in force by its name.
    pub fn named(&self, name: &str) -> Option<Slot> {
        self.by_plan.iter().copied().find(|slot| self.view(*slot).pool.name == name)
    }

    /// The machine that checks holds a server to be well, or not.
    pub fn judged(&mut self, pool: &str, address: &Address, is_well: bool) {
        let Some(slot) = self.named(pool) else { return };
        for server in &mut self.at(slot).servers {
            if server.address.as_deref() == Some(address) {
                server.health.judged(is_well);
            }
        }
    }

    /// The slot of a garden by its name: the one in force, else one that goes.
    pub fn garden(&self, name: &str) -> Option<Slot> {
        let is_garden = |slot: &Slot| self.view(*slot).entrance.is_some();
        let goes = |slot: &Slot| self.view(*slot).pool.name == name && is_garden(slot);
        self.named(name).filter(is_garden).or_else(|| self.slots().find(goes))
    }

    /// Takes over a new plan; `gates` are those of its gardens. Pools that did not change keep
    /// everything, and a garden keeps its workers as long as it keeps its gate. Idle connections
    /// of those that went are appended to `orphaned`, for their owner to close.
    pub fn replan(
        &mut self,
        plan: &Plan,
        gates: &[Option<Arc<Gate>>],
        now: Instant,
        orphaned: &mut Vec<u32>,
    ) {
        let before = core::mem::take(&mut self.by_plan);
        for (place, pool) in plan.pools.iter().enumerate() {
            let gate = gates.get(place).and_then(Option::as_ref);
            let gate = gate.filter(|_| matches!(pool.source, Source::Garden(_)));
            let old = before.iter().copied().find(|slot| self.view(*slot).pool.name == pool.name);
            let slot = match old.filter(|slot| self.view(*slot).is_kept(pool, gate)) {
                Some(slot) => {
                    if self.view(slot).pool != *pool {
                        self.at(slot).pool = pool.clone();
                    }
                    slot
                }
                None => self.adopt(pool, gate, old, now),
            };
            self.by_plan.push(slot);
        }
        for slot in before {
            if !self.by_plan.contains(&slot) {
                let upstream = self.at(slot);
                upstream.is_retired = true;
                for server in &mut upstream.servers {
                    orphaned.append(&mut server.idle);
                    server.check_due = Instant::NEVER;
                }
            }
        }
    }

    fn adopt(
        &mut self,
        pool: &Pool,
        gate: Option<&Arc<Gate>>,
        old: Option<Slot>,
        now: Instant,
    ) -> Slot {
        let mut upstream = Upstream::new(pool, gate, now);
        // The process of an unchanged command goes on running through a reload that changes
        // something else about its pool, and is not announced again.
        let old = old.map(|slot| self.view(slot));
        let was_command =
            |old: &&Upstream| gate.is_none() && matches!(old.pool.source, Source::Garden(_));
        if let (Some(old), Source::Garden(_)) = (old.filter(was_command), &pool.source) {
            let known = old.servers.first().and_then(|server| server.address.clone());
            upstream.servers[0].address = known;
        }
        let free = self.slots.iter().position(|slot| slot.is_retired && slot.connections == 0);
        if let Some(place) = free {
            self.slots[place] = upstream;
            return Slot(u16::try_from(place).unwrap_or(u16::MAX));
        }
        self.slots.push(upstream);
        Slot(u16::try_from(self.slots.len() - 1).expect("at most two plans' pools at once"))
    }
}

impl Upstream {
    fn new(pool: &Pool, gate: Option<&Arc<Gate>>, now: Instant) -> Self {
        let check_due = if pool.check.is_some() { now } else { Instant::NEVER };
        let servers = match &pool.source {
            Source::Servers(addresses) => addresses
                .iter()
                .map(|address| Server::new(Some(address.clone()), check_due))
                .collect(),
            Source::Garden(_) if gate.is_some() => Vec::new(),
            Source::Garden(_) => alloc::vec![Server::new(None, check_due)],
            Source::Invalid(_) => Vec::new(),
        };
        Self {
            pool: pool.clone(),
            servers,
            turn: 0,
            connections: 0,
            is_retired: false,
            entrance: gate.map(|gate| Box::new(Entrance::new(Arc::clone(gate)))),
        }
    }

    /// Whether a pool of a new plan goes on in this slot.
    fn is_kept(&self, pool: &Pool, gate: Option<&Arc<Gate>>) -> bool {
        match (&self.entrance, gate) {
            (Some(entrance), Some(gate)) => Arc::ptr_eq(&entrance.gate, gate),
            (None, None) => self.pool == *pool,
            _ => false,
        }
    }

    /// A place of the gate, whether or not anybody has it.
    pub fn place(&mut self, place: ServerIndex) -> Option<&mut Server> {
        let at = usize::from(place.0);
        if at < PLACES_MAX && at >= self.servers.len() {
            self.servers.resize_with(at + 1, || Server::new(None, Instant::NEVER));
        }
        self.servers.get_mut(at)
    }

    /// Round robin over the servers that are well. `failed` is avoided while there is another.
    /// When all are merely suspected (passive marking), the one that recovers first is tried:
    /// suspicion alone never refuses a request.
    pub fn choose(
        &mut self,
        now: Instant,
        failed: Option<ServerIndex>,
    ) -> Result<ServerIndex, Unavailable> {
        let count = self.servers.len();
        let mut fallback: Option<(Instant, usize)> = None;
        let mut is_present = false;
        for step in 0..count {
            let place = (self.turn + step) % count;
            let server = &self.servers[place];
            if server.address.is_none() {
                continue;
            }
            is_present = true;
            let is_failed = failed.is_some_and(|index| usize::from(index.0) == place);
            match server.health.verdict(now) {
                Verdict::Well if !is_failed => {
                    self.turn = (place + 1) % count;
                    return Ok(index_of(place));
                }
                Verdict::Down => {}
                Verdict::Well => fallback = fallback.or(Some((Instant::NEVER, place))),
                Verdict::Suspected { until } => {
                    if fallback.is_none_or(|(best, _)| until < best) {
                        fallback = Some((until, place));
                    }
                }
            }
        }
        let why = match &self.pool.source {
            Source::Invalid(_) => Unavailable::Invalid,
            _ if is_present => Unavailable::Down,
            _ => Unavailable::NotStarted,
        };
        let (_, place) = fallback.ok_or(why)?;
        self.turn = (place + 1) % count;
        Ok(index_of(place))
    }

    pub fn server(&mut self, index: ServerIndex) -> &mut Server {
        &mut self.servers[usize::from(index.0)]
    }
}

fn index_of(place: usize) -> ServerIndex {
    ServerIndex(u16::try_from(place).expect("at most SERVERS_MAX servers"))
}
