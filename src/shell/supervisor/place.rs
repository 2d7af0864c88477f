//! Where a worker is to listen and how it is told: its address, its command line, its environment.

use crate::base::address::Address;
use crate::base::limits::UNIX_PATH_MAX;
use crate::machine::pool::seam::WorkerId;
use crate::plan::{Bind, Command};
use crate::sys::identity::Identity;
use crate::sys::{port, process, socket};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// What runs in front of the applications may not be taken for theirs.
const NOT_PASSED_ON: [&str; 9] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
    "RUNTIME_DIRECTORY",
    "LYCHGATE_CONTROL",
];

/// Where one process is to listen.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: Address,
    /// For `bind = "fd"`: the socket that the worker is given.
    pub(super) listening: Option<OwnedFd>,
    port: String,
    socket: String,
    descriptor: &'static str,
}

impl Place {
    /// A place nobody had before; `path` is for a UNIX socket. The error says what was attempted
    /// and why it failed.
    pub(super) fn make(
        bind: Bind,
        path: String,
        identity: Option<&Identity>,
    ) -> Result<Self, String> {
        if bind == Bind::Port {
            let port = port::free_loopback().map_err(|error| format!("finding a port: {error}"))?;
            return Ok(Self {
                address: Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
                listening: None,
                port: port.to_string(),
                socket: String::new(),
                descriptor: "",
            });
        }
        if path.len() > UNIX_PATH_MAX {
            return Err(format!(
                "choosing a socket path: {path} is longer than {UNIX_PATH_MAX} bytes. \
                 Name a control socket in a folder with a shorter path (server.control)"
            ));
        }
        let address = Address::Unix(path.clone());
        let mut place =
            Self { address, listening: None, port: String::new(), socket: path, descriptor: "" };
        if bind == Bind::Fd {
            place.listening = Some(place.listen(identity)?);
            place.descriptor = "3";
        }
        Ok(place)
    }

    fn listen(&self, identity: Option<&Identity>) -> Result<OwnedFd, String> {
        let listening = socket::listen(&self.address, 1024, false)
            .map_err(|error| format!("making its socket: {error}"))?;
        if let Some(Identity { uid, gid, .. }) = identity {
            // Ours by birth, and the listener has to connect to it.
            std::os::unix::fs::chown(&self.socket, Some(*uid), Some(*gid))
                .map_err(|error| format!("handing over {}: {error}", self.socket))?;
        }
        Ok(listening)
    }

    pub(super) fn argv(&self, command: &Command) -> Vec<String> {
        let ourselves = process::own_path();
        let fill = |word: &String| {
            word.replace("{self}", &ourselves)
                .replace("{port}", &self.port)
                .replace("{socket}", &self.socket)
                .replace("{fd}", self.descriptor)
        };
        command.argv.iter().map(fill).collect()
    }

    /// What all of its pool have, then what tells it its place.
    pub(super) fn environment(
        &self,
        pool: &str,
        worker: WorkerId,
        command: &Command,
        identity: Option<&Identity>,
        notices: Option<&str>,
    ) -> Vec<(String, String)> {
        let told = match command.bind {
            Bind::Port => ("PORT", self.port.clone()),
            Bind::Unix => ("LYCHGATE_SOCKET", self.socket.clone()),
            Bind::Fd => ("LISTEN_FDS", "1".to_owned()),
        };
        let own = [
            ("LYCHGATE_SLOT", worker.slot.to_string()),
            ("LYCHGATE_GENERATION", worker.generation.to_string()),
            told,
        ];
        let notices = notices.map(|path| ("NOTIFY_SOCKET", path.to_owned()));
        let ours = own.into_iter().chain(notices).map(|(name, value)| (name.to_owned(), value));
        let mut named = environment(pool, command, identity);
        named.extend(ours);
        named.into_iter().collect()
    }
}

/// Of everything that runs for a pool: the supervisor's own, then who it runs as, then the pool's.
pub(super) fn environment(
    pool: &str,
    command: &Command,
    identity: Option<&Identity>,
) -> BTreeMap<String, String> {
    let inherited = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !NOT_PASSED_ON.contains(&name.as_str()));
    // Else it would look for its files in the home of whoever started the supervisor.
    let who = identity.into_iter().flat_map(|Identity { name, home, .. }| {
        [("HOME", home), ("USER", name), ("LOGNAME", name)]
            .map(|(variable, value)| (variable.to_owned(), value.clone()))
    });
    let written = command.environment.iter().cloned();
    let pool = ("LYCHGATE_POOL".to_owned(), pool.to_owned());
    inherited.chain(who).chain(written).chain([pool]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_runs_as_stands_in_its_environment_unless_the_pool_says_otherwise() {
        let command = Command {
            argv: vec!["app".into(), "--port={port}".into()],
            bind: Bind::Port,
            working_directory: None,
            environment: vec![
                ("USER".into(), "written".into()),
                ("NOTIFY_SOCKET".into(), "/theirs".into()),
            ],
            ready: None,
        };
        let place = Place {
            address: Address::Unix("/a.sock".into()),
            listening: None,
            port: "7".into(),
            socket: String::new(),
            descriptor: "",
        };
        assert_eq!(place.argv(&command)[1], "--port=7");
        let identity = Identity {
            uid: 7,
            gid: 7,
            groups: vec![7],
            name: "shop".into(),
            home: "/srv/shop".into(),
        };
        let worker = WorkerId { slot: 1, generation: 9 };
        let environment =
            place.environment("app", worker, &command, Some(&identity), Some("/run/notify"));
        for (name, value) in [
            ("HOME", "/srv/shop"),
            ("LOGNAME", "shop"),
            ("USER", "written"),
            ("PORT", "7"),
            ("LYCHGATE_SLOT", "1"),
            ("LYCHGATE_GENERATION", "9"),
            ("NOTIFY_SOCKET", "/run/notify"),
        ] {
            let stands = environment.iter().find(|(other, _)| other == name);
            assert_eq!(stands.map(|(_, value)| value.as_str()), Some(value), "{name}");
        }
    }

    #[test]
    fn each_way_of_binding_has_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let port = Place::make(Bind::Port, String::new(), None).unwrap();
        assert!(matches!(port.address, Address::Tcp(_)) && port.listening.is_none());
        let unix = Place::make(Bind::Unix, path("a"), None).unwrap();
        assert_eq!(unix.address, Address::Unix(path("a")));
        assert!(!folder.path().join("a").exists());
        let fd = Place::make(Bind::Fd, path("b"), None).unwrap();
        assert!(fd.listening.is_some() && folder.path().join("b").exists());
        let long = Place::make(Bind::Unix, "/".repeat(UNIX_PATH_MAX + 1), None).unwrap_err();
        assert!(long.contains("server.control"), "{long}");
    }
}
