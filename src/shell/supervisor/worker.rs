//! One worker: its process, its output, the proof that it is ready, the pings after that.

use super::output::Output;
use super::place::Place;
use super::probe::{Probe, Question};
use super::proof::Proof;
use super::tail::last_words;
use crate::base::address::Address;
use crate::base::time::Instant;
use crate::machine::pool::seam::{Failure as Cause, WorkerId};
use crate::plan::{Command, Garden};
use crate::sys::cgroup::{self, Estate, Group};
use crate::sys::family;
use crate::sys::identity::Identity;
use crate::sys::poll::Interest;
use crate::sys::process::{Child, Failure, Launch, Program};
use crate::sys::rlimit::Limit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What all workers of this supervisor share.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) identity: Option<&'a Identity>,
    pub(super) open_files: Option<Limit>,
    /// Where workers may say something of themselves.
    pub(super) notices: Option<&'a str>,
    pub(super) estate: Option<&'a Estate>,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) child: Child,
    pub(super) address: Address,
    /// Until it is ready.
    pub(super) proof: Option<Proof>,
    /// Asked for a sign of life, and not heard yet.
    pub(super) ping: Option<Probe>,
    /// Standard output and error.
    pub(super) streams: Vec<Stream>,
    /// What it said of itself (`STATUS=`).
    pub(super) status: String,
    /// Why it said that it is unwell or wants to be recycled.
    pub(super) reason: String,
    /// It failed for this and was released.
    pub(super) released: Option<Cause>,
    /// Its own control group, where we may make one.
    pub(super) group: Option<Group>,
    /// By us.
    is_killed: bool,
    /// Of the whole machine, when it was started.
    memory_kills: u64,
}

/// One of its outputs.
#[derive(Debug)]
pub(super) struct Stream {
    output: Output,
    is_open: bool,
    /// The same reading end, for whoever keeps it while no supervisor lives.
    kept: Arc<OwnedFd>,
}

impl Stream {
    pub(super) fn new(pipe: OwnedFd) -> std::io::Result<Self> {
        let kept = Arc::new(pipe.try_clone()?);
        Ok(Self { output: Output::new(pipe)?, is_open: true, kept })
    }

    pub(super) fn kept(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.kept)
    }
}

impl Worker {
    /// Starts a process. The error says what was attempted and why it failed.
    pub(super) fn start(
        ground: &Ground<'_>,
        pool: &str,
        id: WorkerId,
        garden: &Garden,
        path: String,
        now: Instant,
    ) -> Result<Self, String> {
        let command = &garden.command;
        let place = Place::make(command.bind, path, ground.identity)?;
        let argv = place.argv(command);
        let environment = place.environment(pool, id, command, ground.identity, ground.notices);
        let say = |error| format!("opening a pipe: {error}");
        let (out, out_into) = std::io::pipe().map_err(say)?;
        let (error, error_into) = std::io::pipe().map_err(say)?;
        let group = ground.estate.and_then(|estate| {
            let made = estate.group(pool, id.slot, id.generation);
            made.inspect_err(|error| {
                tracing::warn!("pool {pool}: making a control group: {error}");
            })
            .ok()
        });
        let entrance = group.as_ref().map(Group::entrance).transpose();
        let entrance = entrance.map_err(|error| format!("opening its control group: {error}"))?;
        let is_ourselves = command.argv.first().is_some_and(|word| word == "{self}");
        let launch = Launch {
            program: if is_ourselves { Program::Ourselves } else { named(&environment) },
            argv: &argv,
            environment: &environment,
            directory: command.working_directory.as_deref(),
            stdout: out_into.as_fd(),
            stderr: error_into.as_fd(),
            third: place.listening.as_ref().map(AsFd::as_fd),
            identity: ground.identity,
            open_files: ground.open_files,
            umask: None,
            leads_group: true,
            entrance: entrance.as_ref().map(AsFd::as_fd),
            ends_with_parent: false,
            wants_listen_pid: place.listening.is_some(),
        };
        let streams = [out.into(), error.into()].map(Stream::new);
        let streams: Result<Vec<_>, _> = streams.into_iter().collect();
        let streams = streams.map_err(|error| format!("reading it: {error}"))?;
        let child = launch
            .start()
            .map_err(|why| format!("{}: {why}. {}", argv[0], remedy(&why, command)))?;
        let proof = Some(Proof::new(place.address.clone(), garden, now));
        Ok(Self {
            id,
            child,
            address: place.address,
            proof,
            ping: None,
            streams,
            status: String::new(),
            reason: String::new(),
            released: None,
            group,
            is_killed: false,
            memory_kills: cgroup::memory_kills(),
        })
    }

    /// One that an earlier supervisor started.
    pub(super) fn adopted(
        id: WorkerId,
        child: Child,
        address: Address,
        streams: Vec<Stream>,
        group: Option<Group>,
    ) -> Self {
        Self {
            id,
            child,
            address,
            proof: None,
            ping: None,
            streams,
            status: String::new(),
            reason: String::new(),
            released: None,
            group,
            is_killed: false,
            memory_kills: cgroup::memory_kills(),
        }
    }

    /// Reads what it wrote since.
    pub(super) fn read(&mut self, now: Instant, stream: usize, log: impl FnMut(&str)) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.is_open = stream.output.read(now, log);
        }
    }

    /// Reads what is left of a process that is gone, to a last line that did not end.
    pub(super) fn finish(&mut self, now: Instant, mut log: impl FnMut(&str)) {
        for stream in self.streams.iter_mut().filter(|stream| stream.is_open) {
            if stream.output.read(now, &mut log) {
                stream.output.finish(now, &mut log);
            }
            stream.is_open = false;
        }
    }

    /// What it wrote last: of standard error, else of standard output.
    pub(super) fn last_words(&self) -> Vec<String> {
        match &self.streams[..] {
            [out, error] => last_words(error.output.tail(), out.output.tail()),
            _ => Vec::new(),
        }
    }

    /// Asks for a sign of life until there is one.
    pub(super) fn ask(&mut self, garden: &Garden, now: Instant) {
        let timeout = garden.health.ping_timeout;
        let question = match garden.ping_path() {
            Some(path) => Question::Get { path: path.to_owned(), timeout },
            None => Question::Options { timeout },
        };
        self.ping = Some(Probe::new(self.address.clone(), question, now));
    }

    /// When a question is to be asked again.
    pub(super) fn deadline(&self) -> Instant {
        let proof = self.proof.as_ref().map_or(Instant::NEVER, Proof::deadline);
        proof.min(self.ping.as_ref().map_or(Instant::NEVER, Probe::deadline))
    }

    pub(super) fn watched(&self) -> Vec<(Told, (BorrowedFd<'_>, Interest))> {
        let streams = self.streams.iter().enumerate().filter(|(_, stream)| stream.is_open);
        let mut all: Vec<_> = streams
            .map(|(number, stream)| (Told::Output(number), (stream.output.as_fd(), Interest::Read)))
            .collect();
        let proof = self.proof.as_ref().and_then(Proof::watched);
        all.extend(proof.map(|watched| (Told::Proof, watched)));
        let ping = self.ping.as_ref().and_then(Probe::watched);
        all.extend(ping.map(|watched| (Told::Ping, watched)));
        // After its last words.
        all.push((Told::Exit, (self.child.as_fd(), Interest::Read)));
        all
    }

    /// Ends it with all that it started, in whatever process group that is.
    pub(super) fn kill(&mut self) -> std::io::Result<()> {
        (self.proof, self.ping, self.is_killed) = (None, None, true);
        match &self.group {
            Some(group) => group.kill()?,
            None => {
                family::kill_members(self.child.pid());
            }
        }
        self.child.kill()
    }

    /// Whether it was the kernel that killed it, for want of memory.
    pub(super) fn lacked_memory(&self) -> bool {
        match &self.group {
            Some(group) => group.memory_kills() > 0,
            None => !self.is_killed && cgroup::memory_kills() > self.memory_kills,
        }
    }

    /// Its process is gone: ends what it left behind, removes its socket. `marks` of its
    /// environment tell what is its own from everything else.
    pub(super) fn clear(&self, marks: &[(String, String)]) {
        match &self.group {
            Some(group) => {
                if let Err(error) = group.kill() {
                    tracing::warn!("killing what a worker left behind: {error}");
                }
                group.remove();
            }
            None => {
                family::kill_marked(marks);
            }
        }

        if let Address::Unix(path) = &self.address {
            // It may have removed it itself.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What of a worker has something for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Output(usize),
    Proof,
    Ping,
    Exit,
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

/// Looked for where the application's own environment says.
fn named(environment: &[(String, String)]) -> Program {
    let path = environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or("/usr/local/bin:/usr/bin:/bin", |(_, value)| value.as_str());
    Program::Named { path: path.to_owned() }
}
