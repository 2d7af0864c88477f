//! What a reload changes: the steps that lead from the plan in force to a new one. What is the
//! same in both gets no step, and is not disturbed.

use super::{Command, Listener, Plan, Pool, Source};
use crate::base::address::Address;
use crate::base::id::PoolIndex;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// One step. `old` and `new` say in which plan a place is to be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Listen on the address of the new plan's listener.
    Open { new: u16 },
    /// Listen no more on the address of the old plan's listener.
    Shut { old: u16 },
    /// The same address with another backlog: listen(2) again on the same socket.
    Relisten { old: u16, new: u16 },
    /// A pool that the old plan does not have. If it has a command, that is to be started.
    Add { new: PoolIndex },
    /// A pool that the new plan does not have. If it has a command, that is to be stopped.
    Remove { old: PoolIndex },
    /// A pool that differs; `process` is what becomes of its command.
    Alter { old: PoolIndex, new: PoolIndex, process: Process },
    /// Sites or routes differ.
    Sites,
    /// Limits, or other settings of the server that take effect at once, differ.
    Limits,
    /// Settings of the logs differ.
    Log,
    /// This key differs, and has no effect before lychgate is started again.
    Postponed { key: &'static str },
}

/// What becomes of the processes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// They run on, or there were none and are none.
    Keep,
    Start,
    Stop,
    /// They were started in a way that no longer holds.
    Recycle,
}

/// In the order in which they are to be carried out: what is new comes before what goes, so that
/// a reload that fails half way has taken nothing away.
pub fn diff(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    listeners(&old.listeners, &new.listeners, &mut changes);
    pools(&old.pools, &new.pools, &mut changes);
    if sites_differ(old, new) {
        changes.push(Change::Sites);
    }
    let live = |plan: &Plan| {
        let server = &plan.server;
        let limits = (server.limits, server.connections_max, server.workers_max);
        (limits, server.shutdown_limit, server.unknown_host)
    };
    if live(old) != live(new) {
        changes.push(Change::Limits);
    }
    if old.server.log != new.server.log {
        changes.push(Change::Log);
    }
    let (was, is) = (&old.server, &new.server);
    for (key, differs) in [
        ("server.engine", was.engine != is.engine),
        ("server.threads", was.threads != is.threads),
        ("server.user", was.user != is.user),
        ("server.control", was.control != is.control),
    ] {
        if differs {
            changes.push(Change::Postponed { key });
        }
    }
    changes.sort_by_key(Change::turn);
    changes
}

impl Change {
    /// For a log line.
    pub fn tell(&self, old: &Plan, new: &Plan) -> String {
        let listener =
            |plan: &Plan, place: u16| plan.listeners[usize::from(place)].address.to_string();
        let pool = |plan: &Plan, place: PoolIndex| plan.pools[usize::from(place.0)].name.clone();
        match *self {
            Self::Open { new: place } => format!("listens on {}", listener(new, place)),
            Self::Shut { old: place } => format!("listens no more on {}", listener(old, place)),
            Self::Relisten { new: place, .. } => {
                format!("changes the backlog of {}", listener(new, place))
            }
            Self::Add { new: place } => format!("adds pool {}", pool(new, place)),
            Self::Remove { old: place } => format!("removes pool {}", pool(old, place)),
            Self::Alter { new: place, process, .. } => {
                let and = match process {
                    Process::Keep => "",
                    Process::Start => " and starts its command",
                    Process::Stop => " and stops its command",
                    Process::Recycle => " and recycles its workers",
                };
                format!("changes pool {}{and}", pool(new, place))
            }
            Self::Sites => "changes sites or routes".into(),
            Self::Limits => "changes limits".into(),
            Self::Log => "changes the logs".into(),
            Self::Postponed { key } => {
                format!("{key} has changed, which has no effect before lychgate is started again")
            }
        }
    }

    fn turn(&self) -> u8 {
        match self {
            Self::Open { .. } => 0,
            Self::Relisten { .. } => 1,
            Self::Add { .. } => 2,
            Self::Alter { .. } => 3,
            Self::Sites => 4,
            Self::Limits => 5,
            Self::Log => 6,
            Self::Shut { .. } => 7,
            Self::Remove { .. } => 8,
            Self::Postponed { .. } => 9,
        }
    }
}

fn listeners(old: &[Listener], new: &[Listener], changes: &mut Vec<Change>) {
    let mut left: BTreeMap<&Address, (u16, &Listener)> =
        (0..).zip(old).map(|(place, listener)| (&listener.address, (place, listener))).collect();
    for (new, listener) in (0..).zip(new) {
        match left.remove(&listener.address) {
            None => changes.push(Change::Open { new }),
            Some((old, was)) if was.backlog != listener.backlog => {
                changes.push(Change::Relisten { old, new });
            }
            Some(_) => {}
        }
    }
    changes.extend(left.values().map(|&(old, _)| Change::Shut { old }));
}

fn pools(old: &[Pool], new: &[Pool], changes: &mut Vec<Change>) {
    let mut left: BTreeMap<&str, (u16, &Pool)> =
        (0..).zip(old).map(|(place, pool)| (pool.name.as_str(), (place, pool))).collect();
    for (place, pool) in (0..).zip(new) {
        let new = PoolIndex(place);
        match left.remove(pool.name.as_str()) {
            None => changes.push(Change::Add { new }),
            Some((old, was)) if was != pool => {
                let (old, process) = (PoolIndex(old), process(&was.source, &pool.source));
                changes.push(Change::Alter { old, new, process });
            }
            Some(_) => {}
        }
    }
    changes.extend(left.values().map(|&(old, _)| Change::Remove { old: PoolIndex(old) }));
}

/// Whether two commands start the same process; `ready` is asked anew anyway.
pub fn is_same(one: &Command, other: &Command) -> bool {
    let Command { argv, bind, working_directory, environment, ready: _ } = one;
    (argv, *bind, working_directory, environment)
        == (&other.argv, other.bind, &other.working_directory, &other.environment)
}

fn process(old: &Source, new: &Source) -> Process {
    match (old, new) {
        (Source::Servers(_) | Source::Invalid(_), Source::Servers(_) | Source::Invalid(_)) => {
            Process::Keep
        }
        (Source::Servers(_) | Source::Invalid(_), Source::Garden(_)) => Process::Start,
        (Source::Garden(_), Source::Servers(_) | Source::Invalid(_)) => Process::Stop,
        (Source::Garden(old), Source::Garden(new)) if is_same(&old.command, &new.command) => {
            Process::Keep
        }
        (Source::Garden(_), Source::Garden(_)) => Process::Recycle,
    }
}

/// Places mean something only beside their plan: what they stand for is compared.
fn sites_differ(old: &Plan, new: &Plan) -> bool {
    let same = |(was, is): (&super::Site, &super::Site)| {
        let at = |plan: &Plan, place: &u16| plan.listeners[usize::from(*place)].address.clone();
        let mut before: Vec<_> = was.listeners.iter().map(|place| at(old, place)).collect();
        let mut after: Vec<_> = is.listeners.iter().map(|place| at(new, place)).collect();
        before.sort();
        after.sort();
        let pool = |plan: &Plan, place: PoolIndex| plan.pools[usize::from(place.0)].name.clone();
        let before_routes = was.routes.iter().map(|route| (&route.path, pool(old, route.pool)));
        let after_routes = is.routes.iter().map(|route| (&route.path, pool(new, route.pool)));
        was.name == is.name
            && was.hosts == is.hosts
            && before == after
            && before_routes.eq(after_routes)
    };
    old.sites.len() != new.sites.len() || !old.sites.iter().zip(&new.sites).all(same)
}
