//! The configuration of a gate under test.

use super::engine::Engine;
use super::gate::Gate;
use super::origin::Origin;
use super::port::Port;
use super::spawn::Ring;
use nix::unistd::geteuid;
use std::fmt::Write;

/// What to start. One TCP listener on a port of its own, one thread, short of anything else until
/// told; the texts are pieces of TOML.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) engine: Engine,
    pub(crate) ring: Ring,
    pub(crate) port: Port,
    /// Sent to the child beside its own environment.
    pub(crate) environment: Vec<(String, String)>,
    /// What its capabilities are limited to, as setpriv(1) takes it; needs root.
    pub(crate) capabilities: Option<String>,
    threads: u16,
    server: String,
    limits: String,
    log: String,
    listeners: String,
    rest: String,
}

impl Recipe {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            ring: Ring::Allowed,
            port: Port::claim(),
            environment: Vec::new(),
            capabilities: None,
            threads: 1,
            server: String::new(),
            limits: String::new(),
            log: String::new(),
            listeners: String::new(),
            rest: String::new(),
        }
    }

    /// One site for every host, all of it served by these origins.
    pub(crate) fn relaying(engine: Engine, origins: &[&Origin]) -> Self {
        let addresses: Vec<&str> = origins.iter().map(|origin| origin.address.as_str()).collect();
        Self::new(engine).site("/", "app").servers("app", &addresses, "")
    }

    pub(crate) fn threads(mut self, threads: u16) -> Self {
        self.threads = threads;
        self
    }

    pub(crate) fn server(mut self, line: &str) -> Self {
        writeln!(self.server, "{line}").unwrap();
        self
    }

    /// With the identity of the tests, for applications in places that only it may enter.
    pub(crate) fn with_our_identity(self) -> Self {
        // Anybody but root is that already.
        if geteuid().is_root() { self.server("user = \"root\"") } else { self }
    }

    pub(crate) fn limit(mut self, line: &str) -> Self {
        writeln!(self.limits, "{line}").unwrap();
        self
    }

    pub(crate) fn log(mut self, line: &str) -> Self {
        writeln!(self.log, "{line}").unwrap();
        self
    }

    /// A listener beside the first.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        writeln!(self.listeners, "[[listen]]\naddress = \"{address}\"").unwrap();
        self
    }

    /// A site for every host with one route.
    pub(crate) fn site(self, path: &str, pool: &str) -> Self {
        self.text(&format!(
            "[[site]]\nname = \"{pool}-site\"\n[[site.route]]\npath = \"{path}\"\npool = \"{pool}\"\n"
        ))
    }

    /// A pool of servers that run already; `upstream` is the text of its upstream table.
    pub(crate) fn servers(self, pool: &str, addresses: &[&str], upstream: &str) -> Self {
        self.text(&format!(
            "[pool.{pool}]\nservers = {addresses:?}\n[pool.{pool}.upstream]\n{upstream}\n"
        ))
    }

    /// Keys of the pool `app`'s upstream table, for a recipe made by [`Recipe::relaying`]: the
    /// table is the last thing written, so a line appended belongs to it.
    pub(crate) fn upstream(self, line: &str) -> Self {
        self.text(line)
    }

    /// Anything else; a newline is added.
    pub(crate) fn text(mut self, text: &str) -> Self {
        writeln!(self.rest, "{text}").unwrap();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without_ring(mut self) -> Self {
        self.ring = Ring::Refused;
        self
    }

    /// The file as it will be written.
    pub(crate) fn toml(&self) -> String {
        format!(
            "[server]\nengine = \"{}\"\nthreads = {}\n{}[server.limits]\n{}[server.log]\n{}\
             [[listen]]\naddress = \"{}\"\n{}{}",
            self.engine.word(),
            self.threads,
            self.server,
            self.limits,
            self.log,
            self.port.address(),
            self.listeners,
            self.rest,
        )
    }

    pub(crate) fn start(self) -> Gate {
        Gate::start(self)
    }
}
