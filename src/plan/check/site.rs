//! `[[site]]` and `[[site.route]]`: names resolved to listeners and pools.

use super::section::{Section, Text};
use super::server::{Listeners, read};
use super::{is_over, name};
use crate::base::address::Address;
use crate::base::id::PoolIndex;
use crate::base::limits;
use crate::plan::fault::{Faults, nearest};
use crate::plan::{Host, Route, Site};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

/// Which site serves a host at which listener.
type Claims = BTreeMap<Host, BTreeMap<u16, usize>>;

/// A host that another site, or the same, has taken before.
#[derive(Debug)]
struct Conflict {
    owner: usize,
    at: Range<usize>,
}

pub(super) fn sites(
    file: &Section<'_>,
    listeners: &Listeners,
    pools: &BTreeMap<String, PoolIndex>,
    faults: &mut Faults,
) -> Vec<Site> {
    let sections = file.sections("site", faults);
    if sections.is_empty() && !file.has("site") {
        file.lacks("site", faults, || {
            (
                "there is no site to serve".into(),
                "add [[site]] with a name, and [[site.route]] with a path and a pool".into(),
            )
        });
    }
    if is_over(sections.len(), limits::SITES_MAX, file, "site", faults) {
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    let mut claims = Claims::new();
    let mut routes_count = 0;
    let mut sites = Vec::with_capacity(sections.len());
    for section in &sections {
        let name = site_name(section, &mut names, faults);
        let listeners = places(section, listeners, faults);
        let hosts = hosts(section, &listeners, sites.len(), &mut claims, faults);
        let routes = routes(section, pools, faults);
        routes_count += routes.len();
        sites.push(Site { name, hosts: Vec::new(), listeners, routes });
        for (host, conflict) in hosts {
            if let Some(Conflict { owner, at }) = conflict {
                let owner: &Site = &sites[owner];
                section.contradict("hosts", &at, faults, || taken(&host, &owner.name));
            }
            sites.last_mut().expect("it was pushed above").hosts.push(host);
        }
    }
    is_over(routes_count, limits::ROUTES_MAX, file, "site", faults);
    sites
}

fn site_name(section: &Section<'_>, names: &mut BTreeSet<String>, faults: &mut Faults) -> String {
    let Some(text) = section.text("name", faults) else { return String::new() };
    let Some(name) = read(&text, name::name, faults) else { return String::new() };
    if !names.insert(name.clone()) {
        text.refuse(faults, || {
            (format!("there is a site {name} already"), "give each site its own name".into())
        });
    }
    name
}

/// The hosts of a site, taken on its listeners: no two sites can serve one host at one address.
fn hosts(
    section: &Section<'_>,
    listeners: &[u16],
    place: usize,
    claims: &mut Claims,
    faults: &mut Faults,
) -> Vec<(Host, Option<Conflict>)> {
    let mut take = |host: Host, at: Range<usize>| {
        let taken = claims.entry(host.clone()).or_default();
        let owner = listeners.iter().find_map(|listener| taken.get(listener).copied());
        if owner.is_none() {
            taken.extend(listeners.iter().map(|listener| (*listener, place)));
        }
        (host, owner.map(|owner| Conflict { owner, at }))
    };
    match section.list("hosts", faults) {
        None if section.has("hosts") => Vec::new(),
        None => alloc::vec![take(Host::Any, section.at().clone())],
        Some(texts) => {
            let read = |text: &Text<'_>| Some((read(text, name::host, faults)?, text.at.clone()));
            let hosts: Vec<_> = texts.iter().filter_map(read).collect();
            hosts.into_iter().map(|(host, at)| take(host, at)).collect()
        }
    }
}

/// The listeners of a site.
fn places(section: &Section<'_>, listeners: &Listeners, faults: &mut Faults) -> Vec<u16> {
    let Some(texts) = section.list("listen", faults) else {
        return listeners.places.values().copied().collect();
    };
    let mut places = Vec::with_capacity(texts.len());
    for text in &texts {
        let Some(address) = read(text, name::address, faults) else { continue };
        match listeners.places.get(&address) {
            Some(place) if places.contains(place) => text.refuse(faults, || {
                (format!("{address} stands here twice"), "write each address once".into())
            }),
            Some(place) => places.push(*place),
            None if listeners.is_whole => {
                text.unresolved(faults, || {
                    let known: Vec<String> =
                        listeners.places.keys().map(Address::to_string).collect();
                    let hint = nearest(text.content, known.iter().map(String::as_str)).map_or_else(
                        || format!("add [[listen]] with address = \"{address}\""),
                        |near| format!("did you mean \"{near}\"?"),
                    );
                    (format!("no [[listen]] has the address {address}"), hint)
                });
            }
            None => {}
        }
    }
    places.sort_unstable();
    places
}

fn routes(
    section: &Section<'_>,
    pools: &BTreeMap<String, PoolIndex>,
    faults: &mut Faults,
) -> Vec<Route> {
    let sections = section.sections("route", faults);
    if sections.is_empty() && !section.has("route") {
        section.lacks("route", faults, || {
            (
                "the site has no route".into(),
                "add [[site.route]] with path = \"/\" and a pool".into(),
            )
        });
    }
    let mut known = BTreeSet::new();
    let mut routes = Vec::with_capacity(sections.len());
    for section in &sections {
        let text = section.text("path", faults);
        let path = text.as_ref().and_then(|text| read(text, name::route, faults));
        let pool = section.text("pool", faults).and_then(|text| resolve(&text, pools, faults));
        if let (Some(text), Some(path)) = (&text, &path)
            && !known.insert(path.clone())
        {
            text.refuse(faults, || {
                (format!("the site routes {path} already"), "write each path once".into())
            });
        }
        if let (Some(path), Some(pool)) = (path, pool) {
            routes.push(Route { path, pool });
        }
    }
    routes
}

fn resolve(
    text: &Text<'_>,
    pools: &BTreeMap<String, PoolIndex>,
    faults: &mut Faults,
) -> Option<PoolIndex> {
    let pool = pools.get(text.content).copied();
    if pool.is_none() {
        text.unresolved(faults, || {
            let hint = nearest(text.content, pools.keys().map(String::as_str)).map_or_else(
                || format!("add [pool.{}]", text.content.escape_debug()),
                |near| format!("did you mean \"{near}\"?"),
            );
            (format!("there is no pool {}", name::quoted(text.content)), hint)
        });
    }
    pool
}

fn taken(host: &Host, owner: &str) -> (String, String) {
    (
        format!("{} is served by site {} already", show(host), name::quoted(owner)),
        "give each host to one site, or keep the sites apart by their listen addresses".into(),
    )
}

fn show(host: &Host) -> String {
    match host {
        Host::Any => "every other host".into(),
        Host::Exact(name) => format!("host {name}"),
        Host::Suffix(suffix) => format!("host *{suffix}"),
    }
}
