//! The contestants: which there are, how one is started, and what can be read from it while it runs.

pub(crate) mod haproxy;
pub(crate) mod lychgate;
pub(crate) mod nginx;

use crate::application::{Addresses, launch};
use crate::child::Child;
use crate::failure::Failure;
use crate::probe;
use crate::rig::Rig;
use lychgate::{Counters, Engine};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// The application itself, in the front's place.
    Bare,
    Nginx,
    Haproxy,
    Lychgate(Engine),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Tcp,
    Unix,
}

/// What a front adds to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fields {
    /// Nothing but what the product cannot leave out. nginx and HAProxy only.
    Plain,
    /// Via, Forwarded, X-Forwarded-*, X-Request-Id, X-Request-Start. lychgate always does.
    Added,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) product: Product,
    pub(crate) upstream: Upstream,
    pub(crate) fields: Fields,
}

/// The one that ratios are taken against: the plain variant is the harsher comparison.
pub(crate) const REFERENCE: &str = "nginx-tcp";

const fn recipe(product: Product, upstream: Upstream, fields: Fields) -> Recipe {
    Recipe { product, upstream, fields }
}

/// In the order of the tables.
pub(crate) const ALL: [Recipe; 11] = {
    use Fields::{Added, Plain};
    use Product::{Bare, Haproxy, Lychgate, Nginx};
    use Upstream::{Tcp, Unix};
    [
        recipe(Bare, Tcp, Plain),
        recipe(Nginx, Tcp, Plain),
        recipe(Nginx, Unix, Plain),
        recipe(Nginx, Tcp, Added),
        recipe(Haproxy, Tcp, Plain),
        recipe(Haproxy, Unix, Plain),
        recipe(Haproxy, Tcp, Added),
        recipe(Lychgate(Engine::Uring), Tcp, Added),
        recipe(Lychgate(Engine::Epoll), Tcp, Added),
        recipe(Lychgate(Engine::Uring), Unix, Added),
        recipe(Lychgate(Engine::Epoll), Unix, Added),
    ]
};

impl Recipe {
    /// As in tables and `--only`: `nginx-tcp`, `nginx-fields-tcp`, `lychgate-uring-unix`.
    pub(crate) fn name(self) -> String {
        let product = match (self.product, self.fields) {
            (Product::Bare, _) => return "bare".to_owned(),
            (Product::Nginx, Fields::Plain) => "nginx",
            (Product::Nginx, Fields::Added) => "nginx-fields",
            (Product::Haproxy, Fields::Plain) => "haproxy",
            (Product::Haproxy, Fields::Added) => "haproxy-fields",
            (Product::Lychgate(Engine::Uring), _) => "lychgate-uring",
            (Product::Lychgate(Engine::Epoll), _) => "lychgate-epoll",
        };
        let upstream = match self.upstream {
            Upstream::Tcp => "tcp",
            Upstream::Unix => "unix",
        };
        format!("{product}-{upstream}")
    }
}

/// Recipes whose name begins with one of `only`, a comma between them; all if it is empty.
pub(crate) fn chosen(only: &str, from: &[Recipe]) -> Result<Vec<Recipe>, Failure> {
    if only.is_empty() {
        return Ok(from.to_vec());
    }
    let wanted: Vec<&str> = only.split(',').map(str::trim).collect();
    let matches = |recipe: &Recipe, start: &str| recipe.name().starts_with(start);
    if let Some(unknown) = wanted.iter().find(|start| !from.iter().any(|r| matches(r, start))) {
        let names: Vec<String> = from.iter().map(|recipe| recipe.name()).collect();
        return Err(Failure::new(format!(
            "reading --only: no front of this scenario begins with {unknown:?}. There are: {}",
            names.join(", ")
        )));
    }
    Ok(from.iter().filter(|r| wanted.iter().any(|start| matches(r, start))).copied().collect())
}

/// What all fronts of one run are given alike.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) addresses: Addresses,
    /// Idle upstream connections that a front may keep.
    pub(crate) idle: usize,
    /// For how long, s.
    pub(crate) idle_seconds: u64,
    pub(crate) lychgate: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) recipe: Recipe,
    pub(crate) port: u16,
    child: Child,
}

impl Front {
    /// Starts it on the front's CPU and waits until it answers.
    pub(crate) fn start(rig: &Rig, recipe: Recipe, terms: &Terms) -> Result<Self, Failure> {
        let port = rig.port()?;
        let name = recipe.name();
        let mut child = match recipe.product {
            Product::Bare => {
                let listens = format!("listen 127.0.0.1:{port} backlog=4096;");
                launch(rig, &name, rig.cores.front, &listens)?
            }
            Product::Nginx => nginx::start(rig, recipe, port, terms)?,
            Product::Haproxy => haproxy::start(rig, recipe, port, terms)?,
            Product::Lychgate(engine) => lychgate::start(rig, recipe, engine, port, terms)?,
        };
        probe::until_answering(&mut child, port)?;
        Ok(Self { recipe, port, child })
    }

    pub(crate) fn name(&self) -> String {
        self.recipe.name()
    }

    /// The process that was started; all others of the front are below it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) fn errors(&self) -> String {
        self.child.errors()
    }

    pub(crate) fn expect_running(&mut self) -> Result<(), Failure> {
        self.child.expect_running()
    }

    /// The engine's own counters, of lychgate; `None` of others.
    pub(crate) fn counters(&self) -> Option<Counters> {
        match self.recipe.product {
            Product::Lychgate(_) => lychgate::counters(&self.child),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, REFERENCE, chosen};

    #[test]
    fn names_are_unique_and_hold_the_reference() {
        let mut names: Vec<String> = ALL.iter().map(|recipe| recipe.name()).collect();
        assert!(names.iter().any(|name| name == REFERENCE));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn only_takes_beginnings_and_refuses_what_is_none() {
        let names = |only| -> Vec<String> {
            chosen(only, &ALL).unwrap().iter().map(|recipe| recipe.name()).collect()
        };
        assert_eq!(names("").len(), ALL.len());
        assert_eq!(names("bare, nginx-tcp"), ["bare", "nginx-tcp"]);
        assert_eq!(names("haproxy"), ["haproxy-tcp", "haproxy-unix", "haproxy-fields-tcp"]);
        assert!(chosen("tcp", &ALL).is_err(), "an end is no beginning");
        assert!(chosen("nginx,caddy", &ALL).unwrap_err().to_string().contains("caddy"));
    }
}
