//! Door, host and path to a pool: host by exact name, then longest `*.suffix`, then any; path by
//! longest prefix of whole segments. The cost grows with the request's labels and segments and
//! with the logarithm of what is configured, never with the number of sites or routes.

use crate::base::id::{DoorId, PoolIndex};
use crate::plan::{Host, Plan, Route};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Longest host name looked at (RFC 1035 section 2.3.4); a longer one is nobody's.
const HOST_SIZE_MAX: usize = 255;

/// Why a request has no pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrouted {
    /// No site of this door serves the host.
    Host,
    /// The site has no route for the path.
    Path,
}

/// The routing tables of all doors.
#[derive(Debug, Default)]
pub struct Router {
    /// Sorted by door.
    doors: Vec<(DoorId, Hosts)>,
    /// One a site, as in the plan.
    paths: Vec<Paths>,
}

/// Who serves which host on one door; values are places in [`Router::paths`].
#[derive(Debug, Default)]
struct Hosts {
    exact: Vec<(String, usize)>,
    /// With their leading dot.
    suffixes: Vec<(String, usize)>,
    any: Option<usize>,
}

/// A tree of path segments.
#[derive(Debug)]
struct Paths {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by segment.
    children: Vec<(Box<[u8]>, usize)>,
    pool: Option<PoolIndex>,
}

impl Router {
    /// `doors[i]` is the door of the plan's listener `i`.
    pub fn new(plan: &Plan, doors: &[DoorId]) -> Self {
        let mut tables: Vec<(DoorId, Hosts)> = Vec::new();
        for (listener, door) in doors.iter().enumerate() {
            let mut hosts = Hosts::default();
            for (place, site) in plan.sites.iter().enumerate() {
                if site.listeners.iter().any(|&served| usize::from(served) == listener) {
                    hosts.add(&site.hosts, place);
                }
            }
            hosts.exact.sort();
            hosts.suffixes.sort();
            tables.push((*door, hosts));
        }
        tables.sort_by_key(|(door, _)| *door);
        let paths = plan.sites.iter().map(|site| Paths::new(&site.routes)).collect();
        Self { doors: tables, paths }
    }

    /// `host` as sent, with or without port; `path` in normal form, without query.
    pub fn find(&self, door: DoorId, host: &[u8], path: &[u8]) -> Result<PoolIndex, Unrouted> {
        let at = self.doors.binary_search_by_key(&door, |(door, _)| *door);
        let hosts = at.map(|at| &self.doors[at].1).map_err(|_| Unrouted::Host)?;
        let site = hosts.find(host).ok_or(Unrouted::Host)?;
        self.paths[site].find(path).ok_or(Unrouted::Path)
    }
}

impl Hosts {
    fn add(&mut self, hosts: &[Host], site: usize) {
        for host in hosts {
            match host {
                Host::Exact(name) => self.exact.push((name.clone(), site)),
                Host::Suffix(name) => self.suffixes.push((name.clone(), site)),
                Host::Any => self.any = self.any.or(Some(site)),
            }
        }
    }

    fn find(&self, host: &[u8]) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return self.any;
        }
        let mut lower = [0; HOST_SIZE_MAX];
        let name = normal_host(host, &mut lower)?;
        if let Some(site) = search(&self.exact, name) {
            return Some(site);
        }
        if !self.suffixes.is_empty() {
            // From the left, so that the longest suffix is met first; `.x` itself is no `*.x`.
            let mut dots = (1..name.len()).filter(|&at| name[at] == b'.');
            if let Some(site) = dots.find_map(|at| search(&self.suffixes, &name[at..])) {
                return Some(site);
            }
        }
        self.any
    }
}

fn search(names: &[(String, usize)], name: &[u8]) -> Option<usize> {
    let at = names.binary_search_by(|(known, _)| known.as_bytes().cmp(name)).ok()?;
    Some(names[at].1)
}

/// Lower case, without port and final dot.
fn normal_host<'a>(host: &[u8], lower: &'a mut [u8; HOST_SIZE_MAX]) -> Option<&'a [u8]> {
    let name = match host {
        [b'[', ..] => &host[..=host.iter().position(|&byte| byte == b']')?],
        _ => host.split(|&byte| byte == b':').next()?,
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    let into = lower.get_mut(..name.len())?;
    into.copy_from_slice(name);
    into.make_ascii_lowercase();
    Some(into)
}

impl Paths {
    fn new(routes: &[Route]) -> Self {
        let mut paths = Self { nodes: alloc::vec![Node::default()] };
        for route in routes {
            let mut at = 0;
            for segment in segments(route.path.as_bytes()) {
                at = paths.child(at, segment);
            }
            paths.nodes[at].pool = Some(route.pool);
        }
        paths
    }

    fn child(&mut self, at: usize, segment: &[u8]) -> usize {
        match self.nodes[at].children.binary_search_by(|(name, _)| (**name).cmp(segment)) {
            Ok(place) => self.nodes[at].children[place].1,
            Err(place) => {
                let node = self.nodes.len();
                self.nodes.push(Node::default());
                self.nodes[at].children.insert(place, (segment.into(), node));
                node
            }
        }
    }

    fn find(&self, path: &[u8]) -> Option<PoolIndex> {
        let mut node = &self.nodes[0];
        let mut best = node.pool;
        for segment in segments(path) {
            let found = node.children.binary_search_by(|(name, _)| (**name).cmp(segment));
            let Ok(place) = found else { break };
            node = &self.nodes[node.children[place].1];
            best = node.pool.or(best);
        }
        best
    }
}

/// `/a/b` has the segments `a` and `b`; `/` has none; `/a/` has `a` and an empty one.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let rest = path.strip_prefix(b"/").unwrap_or(path);
    let count = if rest.is_empty() { 0 } else { usize::MAX };
    rest.split(|&byte| byte == b'/').take(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Route;
    use alloc::format;
    use alloc::string::ToString;

    fn hosts(entries: &[(Host, usize)]) -> Hosts {
        let mut hosts = Hosts::default();
        for (host, site) in entries {
            hosts.add(core::slice::from_ref(host), *site);
        }
        hosts.exact.sort();
        hosts.suffixes.sort();
        hosts
    }

    fn route(path: &str, pool: u16) -> Route {
        Route { path: path.to_string(), pool: PoolIndex(pool) }
    }

    #[test]
    fn exact_then_longest_suffix_then_any() {
        let table = hosts(&[
            (Host::Exact("shop.example".to_string()), 0),
            (Host::Suffix(".example".to_string()), 1),
            (Host::Suffix(".shop.example".to_string()), 2),
            (Host::Exact("[::1]".to_string()), 3),
            (Host::Any, 4),
        ]);
        for (host, site) in [
            ("shop.example", 0),
            ("SHOP.example:8080", 0),
            ("shop.example.", 0),
            ("a.example", 1),
            ("a.shop.example", 2),
            ("b.a.Shop.example", 2),
            ("[::1]:80", 3),
            ("example", 4),
            ("", 4),
            ("otherexample", 4),
        ] {
            assert_eq!(table.find(host.as_bytes()), Some(site), "{host}");
        }
        let table = hosts(&[(Host::Suffix(".example".to_string()), 1)]);
        assert_eq!(table.find(b"example"), None);
        assert_eq!(table.find(&[b'a'; 300]), None, "longer than a name can be");
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let paths =
            Paths::new(&[route("/", 0), route("/a", 1), route("/a/b", 2), route("/c/d", 3)]);
        for (path, pool) in [
            ("/", 0),
            ("/ab", 0),
            ("/a", 1),
            ("/a/", 1),
            ("/a/bc", 1),
            ("/a/b", 2),
            ("/a/b/c/d", 2),
            ("/c", 0),
            ("/c/d/", 3),
            ("//a", 0),
            ("*", 0),
        ] {
            assert_eq!(paths.find(path.as_bytes()), Some(PoolIndex(pool)), "{path}");
        }
        let paths = Paths::new(&[route("/a", 1)]);
        assert_eq!(paths.find(b"/"), None);
    }

    #[test]
    fn thousands_of_routes_are_each_found() {
        let routes: Vec<Route> = (0..5000).map(|n| route(&format!("/team/{n}/app"), n)).collect();
        let paths = Paths::new(&routes);
        for n in (0..5000).step_by(7) {
            let path = format!("/team/{n}/app/page");
            assert_eq!(paths.find(path.as_bytes()), Some(PoolIndex(n)));
            assert_eq!(paths.find(format!("/team/{n}").as_bytes()), None);
        }
    }
}
