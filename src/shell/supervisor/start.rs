//! From a configuration to a supervisor: everything that can fail before anything runs.

use super::action::Actions;
use super::doors::Doors;
use super::events::Events;
use super::heir::Estate as Legacies;
use super::home::Home;
use super::measure::Scales;
use super::operator::Operator;
use super::save::Paper;
use super::strays::Leavers;
use super::{Origin, Supervisor, schedule};
use crate::base::time::Instant;
use crate::machine::supervisor::Supervisor as Machine;
use crate::plan::AccessLog;
use crate::shell::api::Api;
use crate::shell::config::Loaded;
use crate::shell::control::AffinityKey;
use crate::shell::logs::operational;
use crate::shell::paths;
use crate::sys::cgroup::Estate;
use crate::sys::identity::{self, Identity};
use crate::sys::journal::{self, Journal};
use crate::sys::notices::Notices;
use crate::sys::notify::Notifier;
use crate::sys::signal::Signals;
use crate::sys::{clock, family, memfd, process, rlimit};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::stdout;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Who the listener and the applications run as unless `server.user` says otherwise.
const USER: &str = "lychgate";
const USER_OF_LAST_RESORT: &str = "nobody";

/// Events that an earlier supervisor may have told without writing it down. The gap in the numbers
/// says that some may be missing.
const EVENTS_LOST_MAX: u64 = 100;

impl Supervisor {
    pub(super) fn start(
        origin: Origin,
        loaded: Loaded,
        control: Option<PathBuf>,
        greet: Option<fn(&[String])>,
    ) -> Result<Self, String> {
        operational::set_level(loaded.plan.server.log.level);
        loaded.complain();
        let third = process::reserve_third().map_err(|e| format!("reserving descriptor 3: {e}"))?;
        let signals = Signals::block().map_err(|error| format!("blocking signals: {error}"))?;
        let notifier = Notifier::from_environment()
            .map_err(|error| format!("reaching the service manager (NOTIFY_SOCKET): {error}"))?;
        let identity = resolve(loaded.plan.server.user.as_deref())?;
        let control = control
            .or_else(|| loaded.plan.server.control.as_ref().map(PathBuf::from))
            .unwrap_or_else(paths::default_control);
        let access_log = open_access_log(&loaded.plan.server.log.access)?;
        let text = seal(&loaded.text)?;
        let fresh =
            AffinityKey::fresh().map_err(|error| format!("making a key for cookies: {error}"))?;
        let mut home = Home::open(&control, identity.as_ref())?;
        let (state, mut inheritance, legacy) = Legacies::find(&mut home);
        let notices = Notices::bind(&home.notices())
            .map_err(|error| format!("making {}: {error}", home.notices().display()))?;
        let journal = Journal::at(Path::new(journal::PATH)).unwrap_or_else(|error| {
            tracing::debug!("reaching the journal: {error}");
            Journal::nowhere()
        });
        let (api, asks) = Api::start(home.control())?;
        let estate = Estate::find().unwrap_or_else(|error| {
            tracing::warn!("dividing our control group: {error} Workers have none of their own");
            None
        });
        if let Err(error) = family::adopt_orphans() {
            tracing::warn!("taking over what workers leave behind: {error}");
        }
        // Applications get the limit that we were started with.
        let open_files = rlimit::open_files().ok();
        if let Err(error) = rlimit::raise_open_files(0) {
            tracing::debug!("raising the limit on open files: {error}");
        }
        let told = state.as_ref().map_or(0, |state| state.events + EVENTS_LOST_MAX);
        let affinity_key = state.as_ref().map_or(fresh, |state| state.affinity_key.clone());
        let engine = state.map(|state| state.engine).unwrap_or_default();
        let mut doors = match &mut inheritance {
            Some(all) => Doors::adopted(all.threads, std::mem::take(&mut all.sockets)),
            None => Doors::new(match loaded.plan.server.threads {
                0 => available_cpus(),
                threads => threads,
            }),
        };
        let plan_doors = match doors.open(&loaded.plan.listeners) {
            Ok((plan_doors, _)) => plan_doors,
            Err(why) => {
                if inheritance.is_some() {
                    // They are still those of the listener, which waits for another supervisor.
                    std::mem::forget((doors, home));
                }
                return Err(why);
            }
        };
        home.leave();
        let revision = inheritance.as_ref().map_or(1, |all| all.revision + 1);
        let inheritance = inheritance.map(|all| (all.listener, all.channel, engine));
        for door in &plan_doors {
            tracing::info!("listening on {}", doors.bound(*door));
        }
        Ok(Self {
            machine: Machine::new(clock::wall_origin() ^ clock::now().0),
            inputs: VecDeque::new(),
            signals,
            notifier,
            origin,
            loaded,
            text,
            revision,
            legacy,
            leavers: Leavers::default(),
            inheritance,
            plan_doors,
            threads: doors.threads(),
            doors,
            identity,
            open_files,
            access_log,
            listener: None,
            sweeps: Vec::new(),
            listener_restarts: 0,
            pools: BTreeMap::new(),
            pools_named: 0,
            measure_at: Instant(0),
            home,
            paper: Paper::new(),
            estate,
            affinity_key,
            notices,
            events: Events::new(journal, told),
            asks,
            _api: api,
            operator: Operator::default(),
            scales: Scales::default(),
            zone: schedule::zone(),
            actions: Actions::default(),
            since: clock::now(),
            greet,
            outcome: None,
            _third: third,
        })
    }
}

pub(super) fn seal(text: &str) -> Result<Arc<OwnedFd>, String> {
    let sealed = memfd::sealed(text);
    Ok(Arc::new(sealed.map_err(|error| format!("sealing the configuration: {error}"))?))
}

/// CPUs that this process may use: its affinity, and the quota of its cgroup.
pub(super) fn available_cpus() -> u16 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = crate::base::limits::THREADS_MAX;
    u16::try_from(cpus.min(most)).unwrap_or(1)
}

/// As whom everything but the supervisor runs; `None`: as the supervisor, which is not root.
pub(super) fn resolve(user: Option<&str>) -> Result<Option<Identity>, String> {
    if !identity::is_root() {
        if let Some(user) = user {
            tracing::debug!("server.user = \"{user}\" has no effect: not started as root");
        }
        return Ok(None);
    }
    let find = |name: &str| {
        Identity::named(name).map_err(|error| format!("looking up user {name}: {error}"))
    };
    if let Some(name) = user {
        let found = find(name)?.ok_or_else(|| {
            format!("server.user: there is no user {name}. Create it or name another")
        })?;
        if found.uid == 0 {
            tracing::warn!(
                "server.user = \"{name}\": the listener and the applications run as root. \
                 Name an unprivileged user"
            );
        }
        return Ok(Some(found));
    }
    if let Some(found) = find(USER)? {
        return Ok(Some(found));
    }
    tracing::warn!(
        "looking up user {USER}: there is none, so the listener and the applications run as \
         {USER_OF_LAST_RESORT}. Create it (useradd --system {USER}) or set server.user"
    );
    find(USER_OF_LAST_RESORT)?.map(Some).ok_or_else(|| {
        format!("looking up user {USER_OF_LAST_RESORT}: there is none. Set server.user")
    })
}

/// Opened here, with the supervisor's rights, for the listener to write.
pub(super) fn open_access_log(log: &AccessLog) -> Result<Option<Arc<OwnedFd>>, String> {
    let descriptor = match log {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| format!("opening the access log on standard output: {error}"))?,
        AccessLog::File(path) => open_log_file(path)
            .map_err(|error| {
                let remedy = match error.raw_os_error() {
                    Some(nix::libc::ELOOP) => {
                        "It is a symbolic link: name the file that it leads to"
                    }
                    Some(nix::libc::ENXIO) => {
                        "It is a pipe that nobody reads: start its reader first"
                    }
                    Some(nix::libc::EISDIR) => "Name a file in it",
                    _ => "Check that its folder is there and that this user may write to it",
                };
                format!("opening the access log {path} (server.log.access): {error}. {remedy}")
            })?
            .into(),
    };
    Ok(Some(Arc::new(descriptor)))
}

fn open_log_file(path: &str) -> std::io::Result<File> {
    use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
    // Not following a link: whoever may write to the folder must not choose what root appends to.
    // Not blocking: a pipe that nobody reads must not hold the supervisor up.
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
        .open(path)
}
