//! The pools of one listener thread: which servers there are, which are well, whose turn it is,
//! and which connections to them lie idle.

pub mod health;

use crate::base::address::Address;
use crate::base::id::ServerIndex;
use crate::base::time::Instant;
use crate::plan::{Plan, Pool, Source};
use alloc::sync::Arc;
use alloc::vec::Vec;
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
}

/// Why no server could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The worker of a `command` pool is not there.
    NotStarted,
    /// All failed their active checks.
    Down,
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

    /// Takes over a new plan: pools that did not change keep everything. Idle connections of
    /// those that went are appended to `orphaned`, for their owner to close.
    pub fn replan(&mut self, plan: &Plan, now: Instant, orphaned: &mut Vec<u32>) {
        let before = core::mem::take(&mut self.by_plan);
        for pool in &plan.pools {
            let old = before.iter().copied().find(|slot| self.view(*slot).pool.name == pool.name);
            let slot = match old {
                Some(slot) if self.view(slot).pool == *pool => slot,
                _ => self.adopt(pool, old, now),
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

    fn adopt(&mut self, pool: &Pool, old: Option<Slot>, now: Instant) -> Slot {
        let mut upstream = Upstream::new(pool, now);
        // The process of an unchanged command goes on running through a reload that changes
        // something else about its pool, and is not announced again.
        let old = old.map(|slot| self.view(slot));
        let was_command = |old: &&Upstream| matches!(old.pool.source, Source::Garden(_));
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
    fn new(pool: &Pool, now: Instant) -> Self {
        let server = |address| Server {
            address,
            idle: Vec::new(),
            health: Health::default(),
            check_due: if pool.check.is_some() { now } else { Instant::NEVER },
        };
        let servers = match &pool.source {
            Source::Servers(addresses) => {
                addresses.iter().map(|address| server(Some(Arc::new(address.clone())))).collect()
            }
            Source::Garden(_) | Source::Invalid(_) => alloc::vec![server(None)],
        };
        Self { pool: pool.clone(), servers, turn: 0, connections: 0, is_retired: false }
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
        let why = if is_present { Unavailable::Down } else { Unavailable::NotStarted };
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
