//! `[pool.NAME]`: servers that run already, or a command that lychgate runs.

use super::section::Section;
use super::server::read;
use super::{garden, is_over, name};
use crate::base::address::Address;
use crate::base::id::PoolIndex;
use crate::base::limits;
use crate::plan::fault::{Fault, Faults, Nature};
use crate::plan::{Check, Pool, Source, Upstream};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

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
        // A pool without a name cannot be told of, so this concerns the whole file.
        let name = read(text, name::name, faults).unwrap_or_default();
        let written = text.content;
        let mut pool = faults.within(written, |faults| pool(name, section, faults));
        if let Some(fault) = invalid(written, faults) {
            (pool.source, pool.check) = (Source::Invalid(fault), None);
        }
        pools.list.push(pool);
    }
    pools
}

/// What is wrong with it stands in for what it is.
fn pool(name: String, section: &Section<'_>, faults: &mut Faults) -> Pool {
    section.word("transport", [()], faults);
    let garden = garden::garden(section, faults);
    let servers = servers(section, faults);
    let check = check(section, faults);
    let upstream = upstream(&section.section("upstream", faults), faults);
    contradictions(section, faults);
    let source = match (garden, servers) {
        (Some(garden), None) => Source::Garden(Box::new(garden)),
        (None, Some(servers)) => Source::Servers(servers),
        _ => Source::Invalid(String::new()),
    };
    Pool { name, source, upstream, check }
}

/// The first fault, and how many there are.
fn invalid(name: &str, faults: &Faults) -> Option<String> {
    let first = faults.of(name).min_by_key(|fault| fault.span.start)?;
    let Fault { path, what, hint, .. } = first;
    Some(match faults.of(name).count() {
        1 => format!("{path}: {what}. {hint}"),
        count => format!("{path}: {what}. {hint} ({count} faults in all)"),
    })
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
    for (needed, names) in [("command", &garden::KEYS[..]), ("servers", &["check"])] {
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
pub(super) fn probe<'a>(
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
