//! The product under test: `lychgate run` as its own process, with its configuration, its log and
//! its end.

use super::client::Client;
use super::clock::{PATIENCE, now, wait_for, wait_until};
use super::engine::note;
use super::message::Message;
use super::recipe::Recipe;
use super::{spawn, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A running gate; dropped, it is ended with all its processes, and its log shown if the test
/// failed.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Of the first listener.
    pub(crate) address: String,
    pub(crate) directory: TempDir,
    pub(crate) recipe: Recipe,
    child: Child,
    log: Arc<Mutex<String>>,
    output: Arc<Mutex<String>>,
    notices: Notices,
    /// What a killed supervisor left.
    left: Mutex<Vec<u32>>,
}

/// What the gate told its service manager (sd_notify(3)).
#[derive(Debug)]
struct Notices {
    socket: UnixDatagram,
    heard: Mutex<Vec<String>>,
}

impl Gate {
    /// Starts it and waits for its word that it is ready.
    pub(crate) fn start(recipe: Recipe) -> Self {
        let gate = Self::launch(recipe);
        gate.wait_notice("READY=1");
        gate
    }

    /// Starts it and waits for nothing.
    pub(crate) fn launch(recipe: Recipe) -> Self {
        let toml = recipe.toml();
        Self::launch_with(recipe, &toml)
    }

    /// Starts it with another file than the recipe's own, and waits for nothing.
    pub(crate) fn launch_with(recipe: Recipe, toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The listener's own identity must reach the sockets in it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = directory.path().join("lychgate.toml");
        let place = directory.path().display().to_string();
        fs::write(&file, toml.replace("{dir}", &place)).unwrap();
        let notices = Notices::bind(directory.path().join("notify"));
        let (child, log, output) = begin(&directory, &recipe);
        let address = recipe.port.address();
        let left = Mutex::new(Vec::new());
        Self { address, directory, recipe, child, log, output, notices, left }
    }

    /// Kills the supervisor alone.
    pub(crate) fn kill_supervisor(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_exit();
    }

    /// Starts another supervisor in the place of one that is gone.
    pub(crate) fn succeed(&mut self) {
        (self.child, self.log, self.output) = begin(&self.directory, &self.recipe);
        self.wait_notice("READY=1");
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address)
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Message {
        self.client().get(target)
    }

    /// Asks until the answer is 200: a `command` pool starts beside the listener.
    pub(crate) fn wait_served(&self, target: &str) -> Message {
        wait_for(&format!("200 for {target}"), || {
            Some(self.get(target)).filter(|answer| answer.status() == 200)
        })
    }

    /// A path inside the gate's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the configuration file.
    pub(crate) fn rewrite(&self, toml: &str) {
        let place = self.directory.path().display().to_string();
        fs::write(self.path("lychgate.toml"), toml.replace("{dir}", &place)).unwrap();
    }

    /// Where its supervisor is asked.
    pub(crate) fn control(&self) -> PathBuf {
        self.path("home/control.sock")
    }

    /// Runs the command line against it.
    pub(crate) fn command(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lychgate"));
        command.args(words).arg("--control").arg(self.control());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// What the command line answers with `--json`.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        let output = self.command(&[words, &["--json"]].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {}: {error}", output.status);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that holds the client connections.
    pub(crate) fn listener_pid(&self) -> u32 {
        wait_for("a listener process", || tree::child_with(self.pid(), "listener"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if signal == Signal::SIGKILL {
            // They survive it, and are nobody's.
            self.left.lock().unwrap().extend(tree::descendants(self.pid()));
        }
        send(self.pid(), signal);
    }

    /// Waits for the supervisor's own end.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the supervisor's end", || child.try_wait().unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The operational log so far.
    pub(crate) fn log_text(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What it wrote to its standard output so far.
    pub(crate) fn output_text(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Waits for a line of the operational log with all of these in it, and returns it.
    pub(crate) fn wait_log(&self, parts: &[&str]) -> String {
        wait_for(&format!("a log line with {parts:?}"), || {
            let log = self.log.lock().unwrap();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    /// Waits for `count` lines of the JSON access log in `access.json` and returns them all.
    pub(crate) fn wait_access(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} lines in the access log"), || {
            let text = fs::read_to_string(self.path("access.json")).unwrap_or_default();
            // A line may be half written.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let lines: Vec<Value> = whole
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}")))
                .collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Waits for the next message to the service manager that says this, dropping others.
    pub(crate) fn wait_notice(&self, word: &str) -> String {
        self.notices.wait(word, || {
            let alive = !tree::is_gone(self.pid());
            assert!(alive, "ended before {word}:\n{}", self.log_text());
        })
    }

    /// Descriptors of the listener come back to at most `count`.
    pub(crate) fn wait_descriptors(&self, count: usize) {
        let pid = self.listener_pid();
        let what = format!("the listener is back to {count} descriptors");
        wait_until(&what, || tree::descriptors(pid) <= count);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let everybody = tree::descendants(self.pid());
        if self.is_running() {
            // Two: the second ends a drain at once.
            self.signal(Signal::SIGTERM);
            self.signal(Signal::SIGTERM);
            let start = now();
            while self.is_running() && start.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        for pid in everybody.into_iter().chain(self.left.get_mut().unwrap().drain(..)) {
            if !tree::is_gone(pid) {
                // It may end by itself between the two.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
        if thread::panicking() {
            let log = self.log_text();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(SHOWN_MAX)..].join("\n");
            note(&format!(
                "---- configuration:\n{}---- end of the log:\n{last}\n----",
                self.recipe.toml()
            ));
        }
    }
}

type Text = Arc<Mutex<String>>;

/// Starts a supervisor in a directory: itself, its log, its standard output.
fn begin(directory: &TempDir, recipe: &Recipe) -> (Child, Text, Text) {
    let program = env!("CARGO_BIN_EXE_lychgate");
    let mut command = match &recipe.capabilities {
        None => Command::new(program),
        Some(set) => {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", set, program]);
            command
        }
    };
    let path = directory.path();
    command.arg("run").arg(path.join("lychgate.toml")).current_dir(path);
    command.env_remove("RUST_LOG").env("TMPDIR", path).env("XDG_RUNTIME_DIR", path);
    command.env("LYCHGATE_CONTROL", path.join("home/control.sock"));
    command.env("NOTIFY_SOCKET", path.join("notify"));
    command.envs(recipe.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn::prepare(&mut command, recipe.ring);
    let mut child = command.spawn().unwrap();
    let log = collect(child.stderr.take().unwrap());
    let output = collect(child.stdout.take().unwrap());
    (child, log, output)
}

impl Notices {
    fn bind(path: PathBuf) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { socket, heard: Mutex::new(Vec::new()) }
    }

    fn wait(&self, word: &str, check: impl Fn()) -> String {
        let mut piece = [0; 4096];
        wait_for(&format!("{word} told to the service manager"), || {
            if let Ok(size) = self.socket.recv(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..size]).into_owned();
                self.heard.lock().unwrap().push(text);
            }
            let mut heard = self.heard.lock().unwrap();
            let says = |message: &String| message.lines().any(|line| line.starts_with(word));
            if let Some(at) = heard.iter().position(says) {
                return heard.drain(..=at).next_back();
            }
            check();
            None
        })
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// Collects a child's output as it comes.
fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|size| size > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}

/// Lines of the log shown after a failure.
const SHOWN_MAX: usize = 60;

/// How long a gate may take for what should take no time.
pub(crate) const PROMPT: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);
