//! One application's process: its address, its environment, its output, its asking whether ready.

use super::output::Output;
use super::probe::Probe;
use super::runtime::Runtime;
use crate::base::address::Address;
use crate::base::limits::UNIX_PATH_MAX;
use crate::base::time::Instant;
use crate::machine::command::CommandId;
use crate::plan::{Bind, Command};
use crate::sys::identity::Identity;
use crate::sys::port;
use crate::sys::process::{self, Child, Failure, Launch, Program};
use crate::sys::rlimit::Limit;
use crate::sys::socket;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

/// What runs in front of the applications may not be taken for theirs.
const NOT_PASSED_ON: [&str; 8] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
    "RUNTIME_DIRECTORY",
];

/// What all applications of this supervisor share.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) identity: Option<&'a Identity>,
    pub(super) open_files: Option<Limit>,
}

/// A command of the plan.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: CommandId,
    pub(super) pool: String,
    pub(super) command: Command,
    /// Processes started so far.
    pub(super) generation: u64,
    pub(super) running: Option<Running>,
}

/// Its process.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) address: Address,
    pub(super) probe: Option<Probe>,
    pub(super) output: Option<Output>,
    /// Its end is our wish.
    pub(super) is_ending: bool,
    /// For `bind = "fd"`: the socket that the application was given.
    listening: Option<OwnedFd>,
}

/// Where the process is to listen and how it is told.
struct Place {
    address: Address,
    listening: Option<OwnedFd>,
    port: String,
    socket: String,
    descriptor: String,
}

impl Slot {
    /// Starts the next process. The error says what was attempted and why it failed.
    pub(super) fn start(&mut self, ground: &Ground<'_>, now: Instant) -> Result<(), String> {
        self.generation += 1;
        let place = self.place(ground)?;
        let ourselves = process::own_path();
        let fill = |word: &String| {
            word.replace("{self}", &ourselves)
                .replace("{port}", &place.port)
                .replace("{socket}", &place.socket)
                .replace("{fd}", &place.descriptor)
        };
        let argv: Vec<String> = self.command.argv.iter().map(fill).collect();
        let environment = self.environment(&place, ground.identity);
        let (out, into) = std::io::pipe().map_err(|error| format!("opening a pipe: {error}"))?;
        let is_ourselves = self.command.argv.first().is_some_and(|word| word == "{self}");
        let launch = Launch {
            program: if is_ourselves { Program::Ourselves } else { named(&environment) },
            argv: &argv,
            environment: &environment,
            directory: self.command.working_directory.as_deref(),
            stdout: into.as_fd(),
            stderr: into.as_fd(),
            third: place.listening.as_ref().map(AsFd::as_fd),
            identity: ground.identity,
            open_files: ground.open_files,
            umask: None,
            leads_group: true,
            ends_with_parent: true,
            wants_listen_pid: place.listening.is_some(),
        };
        let child = launch
            .start()
            .map_err(|why| format!("{}: {why}. {}", argv[0], remedy(&why, &self.command)))?;
        let output = Output::new(out.into()).map_err(|error| format!("reading it: {error}"))?;
        let probe = Probe::new(place.address.clone(), self.command.ready.clone(), now);
        self.running = Some(Running {
            child,
            address: place.address,
            probe: Some(probe),
            output: Some(output),
            is_ending: false,
            listening: place.listening,
        });
        Ok(())
    }

    fn place(&self, ground: &Ground<'_>) -> Result<Place, String> {
        let empty = String::new;
        if self.command.bind == Bind::Port {
            let port = port::free_loopback().map_err(|error| format!("finding a port: {error}"))?;
            let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            let port = port.to_string();
            return Ok(Place {
                address,
                listening: None,
                port,
                socket: empty(),
                descriptor: empty(),
            });
        }
        let path = ground.runtime.socket(&self.pool, self.id.0, self.generation);
        if path.len() > UNIX_PATH_MAX {
            return Err(format!(
                "choosing a socket path: {path} is longer than {UNIX_PATH_MAX} bytes. \
                 Set a shorter XDG_RUNTIME_DIR"
            ));
        }
        let address = Address::Unix(path.clone());
        if self.command.bind == Bind::Unix {
            return Ok(Place {
                address,
                listening: None,
                port: empty(),
                socket: path,
                descriptor: empty(),
            });
        }
        let listening = socket::listen(&address, 1024, false)
            .map_err(|error| format!("making its socket: {error}"))?;
        if let Some(Identity { uid, gid, .. }) = ground.identity {
            // Ours by birth, and the listener has to connect to it.
            std::os::unix::fs::chown(&path, Some(*uid), Some(*gid))
                .map_err(|error| format!("handing over {path}: {error}"))?;
        }
        let descriptor = "3".to_owned();
        Ok(Place { address, listening: Some(listening), port: empty(), socket: path, descriptor })
    }

    /// The supervisor's own, then who it runs as, then the pool's, then what tells it its place.
    fn environment(&self, place: &Place, identity: Option<&Identity>) -> Vec<(String, String)> {
        let inherited = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !NOT_PASSED_ON.contains(&name.as_str()));
        let own = [
            ("LYCHGATE_POOL", self.pool.clone()),
            ("LYCHGATE_SLOT", "0".to_owned()),
            ("LYCHGATE_GENERATION", self.generation.to_string()),
        ];
        let told = match self.command.bind {
            Bind::Port => ("PORT", place.port.clone()),
            Bind::Unix => ("LYCHGATE_SOCKET", place.socket.clone()),
            Bind::Fd => ("LISTEN_FDS", "1".to_owned()),
        };
        // Else it would look for its files in the home of whoever started the supervisor.
        let who = identity.into_iter().flat_map(|Identity { name, home, .. }| {
            [("HOME", home), ("USER", name), ("LOGNAME", name)]
                .map(|(variable, value)| (variable.to_owned(), value.clone()))
        });
        let ours = own.into_iter().chain([told]).map(|(name, value)| (name.to_owned(), value));
        let written = self.command.environment.iter().cloned();
        let all = inherited.chain(who).chain(written).chain(ours);
        let mut named = std::collections::BTreeMap::new();
        named.extend(all);
        named.into_iter().collect()
    }

    /// The process is gone: removes its socket.
    pub(super) fn clear(&mut self) {
        let Some(running) = self.running.take() else { return };
        drop(running.listening);
        if let Address::Unix(path) = &running.address {
            // It may have removed it itself.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What helps against a start that failed. A program that is in no folder of PATH shows as a lack
/// of rights where one of the folders may not be entered.
fn remedy(why: &Failure, command: &Command) -> String {
    match (why.step, &command.working_directory) {
        ("execute it", _) => {
            "Check that it is there (in PATH, unless it has a slash), and that the \
             user whom it runs as may execute it and enter the folders above it"
                .to_owned()
        }
        ("change to its folder", Some(folder)) => format!(
            "Check working_directory = \"{folder}\", and that the user whom the process runs as \
             may enter it"
        ),
        _ => "Check the limits of this machine and of the service".to_owned(),
    }
}

/// How a process that does not get ready is made to.
pub(super) const fn advice(bind: Bind) -> &'static str {
    match bind {
        Bind::Port => "Make it listen on 127.0.0.1 where PORT or {port} says",
        Bind::Unix => "Make it listen where LYCHGATE_SOCKET or {socket} says",
        Bind::Fd => "Make it accept on descriptor {fd}, and answer ready.path",
    }
}

/// Looked for where the application's own environment says.
fn named(environment: &[(String, String)]) -> Program {
    let path = environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or("/usr/local/bin:/usr/bin:/bin", |(_, value)| value.as_str());
    Program::Named { path: path.to_owned() }
}

/// Whether two commands would start the same process.
pub(super) fn is_same(left: &Command, right: &Command) -> bool {
    *left == *right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_runs_as_stands_in_its_environment_unless_the_pool_says_otherwise() {
        let pool = "app".to_owned();
        let command = Command {
            argv: vec!["app".into()],
            bind: Bind::Port,
            working_directory: None,
            environment: vec![("USER".into(), "written".into())],
            ready: None,
        };
        let slot = Slot { id: CommandId(1), pool, command, generation: 1, running: None };
        let place = Place {
            address: Address::Unix("/a.sock".into()),
            listening: None,
            port: "7".into(),
            socket: String::new(),
            descriptor: String::new(),
        };
        let identity = Identity {
            uid: 7,
            gid: 7,
            groups: vec![7],
            name: "shop".into(),
            home: "/srv/shop".into(),
        };
        let environment = slot.environment(&place, Some(&identity));
        for (name, value) in
            [("HOME", "/srv/shop"), ("LOGNAME", "shop"), ("USER", "written"), ("PORT", "7")]
        {
            let stands = environment.iter().find(|(other, _)| other == name);
            assert_eq!(stands.map(|(_, value)| value.as_str()), Some(value), "{name}");
        }
    }
}
