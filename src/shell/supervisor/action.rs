//! The operator's own commands, run when something happened (`lifecycle.orphan_command`,
//! `rapid_fail.command`): few at once, none for long, their words in the log.

use super::output::Output;
use crate::base::time::Instant;
use crate::sys::identity::Identity;
use crate::sys::poll::Interest;
use crate::sys::process::{Child, Launch, Program};
use crate::sys::rlimit::Limit;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Then it is killed.
const LIMIT: Duration = Duration::from_mins(1);
/// At once; a further one is not run.
const ACTIONS_MAX: usize = 8;

/// A command to be run.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// Its key in the configuration, for the log.
    pub key: &'a str,
    pub pool: &'a str,
    /// Not empty.
    pub argv: &'a [String],
    /// What stands for what in it: `("{pid}", "4711")`.
    pub filled: &'a [(&'a str, &'a str)],
    /// The whole environment.
    pub environment: &'a [(String, String)],
    /// As whom workers run; `None`: as the supervisor, which is not root then.
    pub identity: Option<&'a Identity>,
    pub open_files: Option<Limit>,
}

#[derive(Debug)]
struct Running {
    /// "pool shop: orphan_command"
    name: String,
    child: Child,
    output: Option<Output>,
    deadline: Instant,
}

/// Those that run.
#[derive(Debug, Default)]
pub struct Actions {
    running: Vec<Running>,
}

impl Actions {
    /// Starts a command; what hinders that is logged, and nothing else depends on it.
    pub fn start(&mut self, now: Instant, action: &Action<'_>) {
        let name = format!("pool {}: {}", action.pool, action.key);
        if self.running.len() == ACTIONS_MAX {
            tracing::warn!("{name}: not run: {ACTIONS_MAX} commands of this kind run already");
            return;
        }
        match launch(action) {
            Ok((child, output)) => {
                tracing::info!("{name}: runs as process {}", child.pid());
                let (output, deadline) = (Some(output), now + LIMIT);
                self.running.push(Running { name, child, output, deadline });
            }
            Err(why) => tracing::warn!("{name}: starting it: {why}"),
        }
    }

    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.running.iter().map(|running| running.child.pid())
    }

    /// For the poll loop: when one of these is ready, or at [`Actions::deadline`], it is time for
    /// [`Actions::step`].
    pub fn watched(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        let each = self.running.iter().flat_map(|running| {
            let output = running.output.as_ref().map(AsFd::as_fd);
            [Some(running.child.as_fd()), output].into_iter().flatten()
        });
        each.map(|descriptor| (descriptor, Interest::Read)).collect()
    }

    pub fn deadline(&self) -> Instant {
        self.running.iter().map(|running| running.deadline).min().unwrap_or(Instant::NEVER)
    }

    /// Logs what they said, kills those that took too long, forgets those that ended.
    pub fn step(&mut self, now: Instant) {
        self.running.retain_mut(|running| running.step(now));
    }
}

impl Running {
    /// False when it has ended.
    fn step(&mut self, now: Instant) -> bool {
        self.read(now);
        let name = &self.name;
        if now >= self.deadline {
            tracing::warn!("{name}: killed: it took longer than {} s", LIMIT.as_secs());
            self.deadline = Instant::NEVER;
            if let Err(error) = self.child.kill() {
                tracing::error!("{name}: killing it: {error}");
            }
        }
        match self.child.try_wait() {
            Ok(None) => return true,
            Ok(Some(ended)) => {
                self.read(now);
                if let Some(output) = &mut self.output {
                    output.finish(now, &mut |line| tracing::info!("{}: {line}", self.name));
                }
                tracing::info!("{}: ended: {ended}", self.name);
            }
            Err(error) => tracing::error!("{name}: waiting for it: {error}"),
        }
        false
    }

    fn read(&mut self, now: Instant) {
        let name = &self.name;
        let Some(output) = &mut self.output else { return };
        if !output.read(now, |line| tracing::info!("{name}: {line}")) {
            self.output = None;
        }
    }
}

fn launch(action: &Action<'_>) -> Result<(Child, Output), String> {
    let fill = |word: &String| {
        let filled = action.filled.iter();
        filled.fold(word.clone(), |word, (place, value)| word.replace(place, value))
    };
    let argv: Vec<String> = action.argv.iter().map(fill).collect();
    let path = action.environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or("/usr/local/bin:/usr/bin:/bin", |(_, value)| value.as_str());
    let (out, into) = std::io::pipe().map_err(|error| format!("opening a pipe: {error}"))?;
    let launch = Launch {
        program: Program::Named { path: path.to_owned() },
        argv: &argv,
        environment: action.environment,
        directory: None,
        stdout: into.as_fd(),
        stderr: into.as_fd(),
        third: None,
        identity: action.identity,
        open_files: action.open_files,
        umask: None,
        leads_group: true,
        entrance: None,
        ends_with_parent: false,
        wants_listen_pid: false,
    };
    // Before it runs, so that it never runs unheard.
    let output = Output::new(out.into()).map_err(|error| format!("reading it: {error}"))?;
    let child = launch.start().map_err(|why| {
        let program = argv.first().map_or("", String::as_str);
        format!("{program}: {why}. Check that it is there and may be executed")
    })?;
    Ok((child, output))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, family, poll};
    use std::path::Path;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    /// Told apart by it from what other tests start.
    fn mark() -> (String, String) {
        ("LYCHGATE_ACTION".to_owned(), std::process::id().to_string())
    }

    fn start(actions: &mut Actions, now: Instant, argv: &[&str], filled: &[(&str, &str)]) {
        let path = ("PATH".to_owned(), "/usr/bin:/bin".to_owned());
        let environment = [path, mark()];
        let action = Action {
            key: "orphan_command",
            pool: "shop",
            argv: &words(argv),
            filled,
            environment: &environment,
            identity: None,
            open_files: None,
        };
        actions.start(now, &action);
    }

    fn run_out(actions: &mut Actions) {
        let end = clock::now() + Duration::from_secs(20);
        while actions.pids().count() > 0 {
            assert!(clock::now() < end, "it does not end");
            let timeout = Some(Duration::from_secs(1));
            poll::wait(&actions.watched(), timeout, &mut Vec::new()).unwrap();
            actions.step(Instant(0));
        }
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_command_is_told_what_happened_and_is_reaped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("said");
        let place = file.to_str().unwrap().to_owned();
        let mut actions = Actions::default();
        assert_eq!(actions.deadline(), Instant::NEVER);
        let script = "echo loud; echo \"$0 $1\" > \"$2\"";
        let filled = [("{pid}", "4711"), ("{reason}", "crash"), ("{file}", &place)];
        let argv = ["sh", "-c", script, "x{pid}", "{reason} {unknown}", "{file}"];
        start(&mut actions, Instant(0), &argv, &filled);
        assert_eq!(actions.deadline(), Instant(0) + LIMIT);
        run_out(&mut actions);
        assert_eq!(text(&file), "x4711 crash {unknown}\n");
        start(&mut actions, Instant(0), &["no-such-program"], &[]);
        assert_eq!(actions.pids().count(), 0);
    }

    #[test]
    fn no_more_than_a_few_run_and_none_for_long() {
        let mut actions = Actions::default();
        for _ in 0..=ACTIONS_MAX {
            // Deaf to what is asked of it, and with a child of its own.
            let script = "trap '' TERM; export LYCHGATE_LONG=1; sleep 600 & wait; sleep 600";
            start(&mut actions, Instant(0), &["sh", "-c", script], &[]);
        }
        assert_eq!(actions.pids().count(), ACTIONS_MAX);
        actions.step(Instant(0) + LIMIT / 2);
        assert_eq!(actions.pids().count(), ACTIONS_MAX);
        actions.step(Instant(0) + LIMIT);
        assert!(actions.deadline() == Instant::NEVER);
        run_out(&mut actions);
        // Killed before they could leave anything to anybody; the kernel may take a moment.
        let end = clock::now() + Duration::from_secs(20);
        while !family::marked(&[mark(), ("LYCHGATE_LONG".into(), "1".into())]).is_empty() {
            assert!(clock::now() < end, "children of commands are left");
            std::thread::yield_now();
        }
    }
}
