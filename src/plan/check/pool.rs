//! `[pool.NAME]`: servers that run already, or a command that lychgate runs.

use super::section::{Section, Text};
use super::server::read;
use super::{is_over, name};
use crate::base::address::Address;
use crate::base::id::PoolIndex;
use crate::base::limits;
use crate::plan::fault::{Faults, Nature};
use crate::plan::{Bind, Check, Command, Garden, Pool, Probe, Source, Upstream};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// Words of a command, and variables of its environment.
const WORDS_MAX: usize = 1024;

/// The pools, and what `site.route.pool` needs to find them.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) list: Vec<Pool>,
    /// Every pool that was written, whether it could be read or not.
    pub(super) names: BTreeMap<String, PoolIndex>,
}

pub(super) fn pools(file: &Section<'_>, faults: &mut Faults) -> Pools {
    let mut sections = file.section("pool", faults).named("pool.NAME", faults);
    if is_over(sections.len(), limits::POOLS_MAX, file, "pool", faults) {
        sections.truncate(limits::POOLS_MAX);
    }
    sections.sort_by(|(one, _), (other, _)| one.content.cmp(other.content));
    let mut pools = Pools { list: Vec::new(), names: BTreeMap::new() };
    for (place, (text, section)) in sections.iter().enumerate() {
        let place = PoolIndex(u16::try_from(place).expect("POOLS_MAX fits"));
        pools.names.insert(text.content.to_string(), place);
        let name = read(text, name::name, faults);
        let pool = pool(name.unwrap_or_default(), section, faults);
        pools.list.extend(pool);
    }
    pools
}

/// `None` leaves a fault behind.
fn pool(name: String, section: &Section<'_>, faults: &mut Faults) -> Option<Pool> {
    section.word("transport", [()], faults);
    let command = command(section, faults);
    let servers = servers(section, faults);
    let check = check(section, faults);
    let upstream = upstream(&section.section("upstream", faults), faults);
    contradictions(section, faults);
    let source = match (command, servers) {
        (Some(command), None) => Source::Garden(Box::new(command)),
        (None, Some(servers)) => Source::Servers(servers),
        _ => return None,
    };
    Some(Pool { name, source, upstream, check })
}

fn contradictions(section: &Section<'_>, faults: &mut Faults) {
    match (section.has("command"), section.has("servers")) {
        (true, true) => section.refuse("servers", Nature::Here, faults, || {
            (
                "the pool has a command and servers".into(),
                "keep command for an application that lychgate starts, or servers for one that \
                 runs already"
                    .into(),
            )
        }),
        (false, false) => section.lacks_either(faults, || {
            (
                "the pool has neither a command nor servers".into(),
                "add command = [\"program\", \"argument\"] or servers = [\"127.0.0.1:3000\"]"
                    .into(),
            )
        }),
        _ => {}
    }
    if !section.has("command") && !section.has("servers") {
        return;
    }
    let of_command = ["bind", "working_directory", "environment", "ready", "lifecycle"];
    for (needed, names) in [("command", &of_command[..]), ("servers", &["check"])] {
        if section.has(needed) {
            continue;
        }
        for name in names.iter().filter(|name| section.has(name)) {
            section.refuse(name, Nature::Whole, faults, || {
                (
                    format!("{name} means nothing without {needed}"),
                    format!("leave {name} out, or add {needed}"),
                )
            });
        }
    }
}

/// Reads every key that belongs to a command, so that their faults are told even without one.
fn command(section: &Section<'_>, faults: &mut Faults) -> Option<Garden> {
    let argv = section.list("command", faults);
    let bind = section.word("bind", [Bind::Port, Bind::Unix, Bind::Fd], faults);
    let directory = section.text("working_directory", faults);
    let environment = environment(section, faults);
    let lifecycle = section.section("lifecycle", faults);
    let startup_limit = lifecycle.duration("startup_limit", faults);
    let shutdown_limit = lifecycle.duration("shutdown_limit", faults);
    let ready = probe(section, "ready", faults)
        .and_then(|(path, _, timeout)| Some(Probe { path: path?, timeout }));
    if let Some(directory) = directory.as_ref().filter(|directory| directory.content.is_empty()) {
        directory.refuse(faults, || ("is empty".into(), "write \".\" or leave it out".into()));
    }
    let argv = argv?;
    is_over(argv.len(), WORDS_MAX, section, "command", faults);
    if let Some(program) = argv.first().filter(|program| program.content.is_empty()) {
        program.refuse(faults, || ("the program is empty".into(), "write its path".into()));
    }
    for word in &argv {
        misplaced(word, bind, faults);
    }
    let mut garden = Garden::of(Command {
        argv: argv.iter().map(|word| word.content.to_string()).collect(),
        bind,
        working_directory: directory.map(|directory| directory.content.to_string()),
        environment,
        ready,
    });
    garden.lifecycle.startup_limit = startup_limit;
    garden.lifecycle.shutdown_limit = shutdown_limit;
    Some(garden)
}

/// A placeholder that nothing will be put into, because the pool binds in another way.
fn misplaced(word: &Text<'_>, bind: Bind, faults: &mut Faults) {
    for (other, placeholder, name) in
        [(Bind::Port, "{port}", "port"), (Bind::Unix, "{socket}", "unix"), (Bind::Fd, "{fd}", "fd")]
    {
        if other != bind && word.content.contains(placeholder) {
            word.refuse(faults, || {
                (
                    format!("{placeholder} has no value here"),
                    format!("add bind = \"{name}\" to the pool"),
                )
            });
        }
    }
}

fn environment(section: &Section<'_>, faults: &mut Faults) -> Vec<(String, String)> {
    /// What lychgate tells the command itself.
    const OWN: [&str; 5] = ["PORT", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];
    let pairs = section.map("environment", faults);
    is_over(pairs.len(), WORDS_MAX, section, "environment", faults);
    let mut environment = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        if name.content.is_empty() || name.content.contains(['=', '\0']) {
            name.refuse(faults, || {
                ("is not the name of a variable".into(), "write a name without = in it".into())
            });
        } else if OWN.contains(&name.content) || name.content.starts_with("LYCHGATE_") {
            name.refuse(faults, || {
                ("lychgate sets this variable itself".into(), "leave it out".into())
            });
        } else {
            environment.push((name.content.to_string(), value.content.to_string()));
        }
    }
    environment.sort();
    environment
}

fn servers(section: &Section<'_>, faults: &mut Faults) -> Option<Vec<Address>> {
    let texts = section.list("servers", faults)?;
    is_over(texts.len(), limits::SERVERS_MAX, section, "servers", faults);
    let mut known = BTreeSet::new();
    let mut servers = Vec::with_capacity(texts.len());
    for text in &texts {
        let Some(address) = read(text, name::address, faults) else { continue };
        if known.insert(address.clone()) {
            servers.push(address);
        } else {
            text.refuse(faults, || {
                (format!("{address} is a server already"), "write each server once".into())
            });
        }
    }
    Some(servers)
}

fn check(section: &Section<'_>, faults: &mut Faults) -> Option<Check> {
    let (path, check, timeout) = probe(section, "check", faults)?;
    let interval = check.duration("interval", faults);
    let fall = check.integer("fall", faults);
    let rise = check.integer("rise", faults);
    if timeout > interval {
        let name = if check.has("timeout") { "timeout" } else { "interval" };
        check.refuse(name, Nature::Here, faults, || {
            (
                "timeout is more than interval".into(),
                "a check must end before the next begins: lower timeout or raise interval".into(),
            )
        });
    }
    Some(Check { path: path?, interval, timeout, fall, rise })
}

/// What `ready` and `check` share; `None` when the table `name` is not written.
fn probe<'a>(
    section: &Section<'a>,
    name: &str,
    faults: &mut Faults,
) -> Option<(Option<String>, Section<'a>, Duration)> {
    if !section.has(name) {
        return None;
    }
    let probe = section.section(name, faults);
    if !section.has_table(name) {
        return None;
    }
    let path = probe.text("path", faults).and_then(|path| read(&path, name::probe, faults));
    let timeout = probe.duration("timeout", faults);
    Some((path, probe, timeout))
}

fn upstream(section: &Section<'_>, faults: &mut Faults) -> Upstream {
    Upstream {
        connect_timeout: section.duration("connect_timeout", faults),
        response_timeout: section.duration("response_timeout", faults),
        idle_connections: section.integer("idle_connections", faults),
        idle_timeout: section.duration("idle_timeout", faults),
    }
}
