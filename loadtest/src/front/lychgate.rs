//! lychgate as a front: one listener thread, the engine named, no access log.

use super::{Recipe, Terms, Upstream};
use crate::child::Child;
use crate::clock;
use crate::failure::{Failure, while_doing};
use crate::processes;
use crate::rig::Rig;
use nix::sys::signal::Signal;
use std::env;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Uring,
    Epoll,
}

impl Engine {
    /// As in configurations and tables.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What the listener's engine counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Waits for the kernel: `io_uring_enter` or `epoll_wait`.
    pub(crate) enters: u64,
    /// System calls beside those.
    pub(crate) calls: u64,
}

/// Time for the supervisor to ask its listener and to log the answer.
const COUNTERS_LIMIT: Duration = Duration::from_secs(2);

/// The optimised binary of this workspace, built now unless `build` is off.
pub(crate) fn binary(given: Option<PathBuf>, build: bool) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return Ok(path);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if build {
        let status = Command::new("cargo")
            .args(["build", "--release", "--bin", "lychgate"])
            .current_dir(&root)
            .status()
            .map_err(while_doing("running cargo to build lychgate"))?;
        if !status.success() {
            return Err(Failure::new("building lychgate: cargo failed; it said why above"));
        }
    }
    // This binary lies in the profile's folder of the same target folder.
    let own = env::current_exe().map_err(while_doing("looking for the target folder"))?;
    let target = own.ancestors().nth(2).unwrap_or(&root);
    Ok(target.join("release/lychgate"))
}

pub(crate) fn start(
    rig: &Rig,
    recipe: Recipe,
    engine: Engine,
    port: u16,
    terms: &Terms,
) -> Result<Child, Failure> {
    let name = recipe.name();
    let control = rig.path(&name).join("control.sock");
    let text = configuration(recipe, engine, port, &control, terms);
    let file = rig.write(&format!("{name}.toml"), text)?.display().to_string();
    let binary = terms.lychgate.display().to_string();
    let command = [&binary, "run", &file].map(String::from);
    Child::start(rig, &name, rig.cores.front, &command)
}

fn configuration(
    recipe: Recipe,
    engine: Engine,
    port: u16,
    control: &Path,
    terms: &Terms,
) -> String {
    let at = &terms.addresses;
    let engine = engine.word();
    let (application, sink) = match recipe.upstream {
        Upstream::Tcp => (format!("127.0.0.1:{}", at.port), format!("127.0.0.1:{}", at.sink_port)),
        Upstream::Unix => {
            (format!("unix:{}", at.socket.display()), format!("unix:{}", at.sink_socket.display()))
        }
    };
    let mut text = format!(
        "[server]\nengine = \"{engine}\"\nthreads = 1\nmax_connections = 15000\n\
         control = \"{}\"\n\n\
         [server.limits]\nidle_timeout = \"300s\"\n\n\
         [[listen]]\naddress = \"127.0.0.1:{port}\"\nbacklog = 4096\n\n[[site]]\nname = \"load\"\n",
        control.display()
    );
    for (path, pool) in [("/", "application"), ("/sink", "sink")] {
        let _ = write!(text, "[[site.route]]\npath = \"{path}\"\npool = \"{pool}\"\n");
    }
    for (pool, server) in [("application", application), ("sink", sink)] {
        let _ = write!(
            text,
            "\n[pool.{pool}]\ntransport = \"http\"\nservers = [\"{server}\"]\n\
             [pool.{pool}.upstream]\nidle_connections = {}\nidle_timeout = \"{}s\"\n",
            terms.idle, terms.idle_seconds
        );
    }
    text
}

/// Asks by SIGUSR2 and waits for the line; `None` if it does not come.
pub(crate) fn counters(child: &Child) -> Option<Counters> {
    let before = child.errors().len();
    child.signal(Signal::SIGUSR2).ok()?;
    let deadline = clock::now() + COUNTERS_LIMIT;
    loop {
        let said = child.errors();
        let new = said.get(before..).unwrap_or("");
        // Only whole lines: the last one may still be on its way.
        let whole = new.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let found = whole.lines().rev().find_map(parse_counters);
        if found.is_some() || clock::now() >= deadline {
            return found;
        }
        sleep(Duration::from_millis(5));
    }
}

/// The line holds the counters of each thread and their sum, so the largest of a name is the sum.
fn parse_counters(line: &str) -> Option<Counters> {
    let enters = largest(line, "enters")?;
    Some(Counters { enters, calls: largest(line, "calls").unwrap_or(0) })
}

/// Largest number behind `"name":`, quoted or escaped as a log line may have it.
fn largest(line: &str, name: &str) -> Option<u64> {
    line.match_indices(name)
        .filter(|&(at, _)| line[..at].ends_with('"'))
        .filter_map(|(at, _)| {
            let rest = line[at + name.len()..].trim_start_matches(['\\', '"', ' ']);
            let digits = rest.strip_prefix(':')?.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits[..end].parse().ok()
        })
        .max()
}

/// The listener: the supervisor's child that says so, or its only one.
pub(crate) fn listener(supervisor: u32) -> Option<u32> {
    let children = processes::children(supervisor);
    let named = |pid: &&u32| processes::command_line(**pid).contains("listener");
    let only = || children.first().filter(|_| children.len() == 1);
    children.iter().find(named).or_else(only).copied()
}

#[cfg(test)]
mod tests {
    use super::{Counters, parse_counters};

    #[test]
    fn counters_are_found_in_any_dress() {
        let expected = Some(Counters { enters: 30, calls: 7 });
        let plain = r#"INFO {"sum":{"enters":30,"calls":7},"threads":[{"enters":12,"calls":3}]}"#;
        assert_eq!(parse_counters(plain), expected);
        let escaped = r#"{"message":"{\"enters\": 30, \"calls\": 7}"}"#;
        assert_eq!(parse_counters(escaped), expected);
        assert_eq!(parse_counters(r#"{"reenters":3}"#), None);
        assert_eq!(parse_counters("listening"), None);
    }
}
