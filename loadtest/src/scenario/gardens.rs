//! A garden of two under load while its workers are recycled, killed, and while the supervisor is
//! killed and followed by another: what clients see of it.

use super::Stage;
use crate::child::Child;
use crate::clock;
use crate::failure::{Failure, while_doing};
use crate::front::Product;
use crate::front::lychgate::Engine;
use crate::probe;
use crate::report::verdict::Verdict;
use crate::report::{Report, Table};
use crate::rig::Rig;
use crate::say;
use crate::wrk::{self, Order, Outcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const CONNECTIONS: usize = 64;
const GARDEN: u64 = 2;
/// Overlapped recycles by the operator.
const RECYCLES: u64 = 20;
/// Of `recycle.requests`.
const REQUESTS: u64 = 500;
/// For anything that the supervisor was asked to do.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at the pool.
const LOOK: Duration = Duration::from_millis(10);
const KILL_STEP: Duration = Duration::from_secs(1);

/// lychgate before its garden, and the way to its supervisor.
struct Garden<'a> {
    rig: &'a Rig,
    name: String,
    binary: PathBuf,
    port: u16,
    file: PathBuf,
    control: PathBuf,
    child: Child,
}

/// What one run of load came to.
struct Round {
    what: String,
    outcome: Outcome,
    /// Recycles, kills or successions that happened meanwhile.
    events: u64,
    serving_min: Option<u64>,
    /// Nothing that happened is an excuse for a request that fails.
    is_lossless: bool,
}

pub(super) fn run(stage: &Stage<'_>) -> Result<Report, Failure> {
    let mut report = stage.report("gardens", stage.seconds(30));
    let mut rows = Vec::new();
    let is_chosen = |engine: &Engine| {
        stage.recipes.iter().any(|recipe| recipe.product == Product::Lychgate(*engine))
    };
    for engine in [Engine::Uring, Engine::Epoll].into_iter().filter(is_chosen) {
        let rounds = [
            by_the_operator(stage, engine)?,
            by_requests(stage, engine)?,
            workers_killed(stage, engine)?,
            supervisor_killed(stage, engine)?,
        ];
        for round in rounds {
            rows.push(round.cells(engine));
            report.verdicts.extend(round.judge(engine));
        }
    }
    report.tables.push(Table {
        title: format!("A garden of {GARDEN} under wrk with {CONNECTIONS} connections"),
        columns: [
            "what",
            "engine",
            "times",
            "requests",
            "failed",
            "fewest serving",
            "p50, ms",
            "p99, ms",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    });
    Ok(report)
}

fn by_the_operator(stage: &Stage<'_>, engine: Engine) -> Result<Round, Failure> {
    let mut garden = Garden::start(stage, engine, "demand", "")?;
    let seconds = stage.seconds(30);
    let watch = garden.watch();
    let load = garden.load(seconds)?;
    for round in 1..=RECYCLES {
        say(&format!("{}: recycle {round} of {RECYCLES}", garden.name));
        let before = garden.pool()?["recycles"].as_u64().unwrap_or(0);
        garden.command(&["recycle", "app"])?;
        garden.until("the recycle is over", |garden| {
            let pool = garden.pool()?;
            let done = pool["recycles"].as_u64() >= Some(before + GARDEN);
            Ok(done && pool["workers_alive"] == GARDEN && pool["workers_serving"] == GARDEN)
        })?;
    }
    let outcome = wrk::finish(load, seconds)?;
    let events = garden.pool()?["recycles"].as_u64().unwrap_or(0) / GARDEN;
    let serving_min = Some(watch.end());
    Ok(Round {
        what: "recycled by the operator".into(),
        outcome,
        events,
        serving_min,
        is_lossless: true,
    })
}

fn by_requests(stage: &Stage<'_>, engine: Engine) -> Result<Round, Failure> {
    let recycle = format!("[pool.app.recycle]\nrequests = {REQUESTS}\nlog = []\n");
    let garden = Garden::start(stage, engine, "requests", &recycle)?;
    let seconds = stage.seconds(30);
    let watch = garden.watch();
    let load = garden.load(seconds)?;
    let outcome = wrk::finish(load, seconds)?;
    let events = garden.pool()?["recycles"].as_u64().unwrap_or(0);
    let serving_min = Some(watch.end());
    let what = format!("recycled every {REQUESTS} requests");
    Ok(Round { what, outcome, events, serving_min, is_lossless: true })
}

fn workers_killed(stage: &Stage<'_>, engine: Engine) -> Result<Round, Failure> {
    let garden = Garden::start(stage, engine, "kills", "")?;
    let seconds = stage.seconds(30);
    let load = garden.load(seconds)?;
    let start = clock::now();
    let mut events = 0;
    while clock::since(start) + KILL_STEP < Duration::from_secs(seconds) {
        let workers = garden.ask(&["workers", "app"])?;
        let serving: Vec<&Value> = workers
            .as_array()
            .into_iter()
            .flatten()
            .filter(|worker| worker["state"] == "serving")
            .collect();
        if let Some(worker) = serving.get(usize::try_from(events).unwrap_or(0) % 2) {
            let pid = worker["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            if let Some(pid) = pid {
                kill(Pid::from_raw(pid), Signal::SIGKILL)
                    .map_err(while_doing(format!("killing worker {pid}")))?;
                events += 1;
            }
        }
        sleep(KILL_STEP);
    }
    let outcome = wrk::finish(load, seconds)?;
    let state = garden.pool()?["state"].clone();
    if state != "running" {
        return Err(garden.child.complaint(&format!("the pool is {state} after the kills")));
    }
    let what = "a worker killed each second".into();
    Ok(Round { what, outcome, events, serving_min: None, is_lossless: false })
}

fn supervisor_killed(stage: &Stage<'_>, engine: Engine) -> Result<Round, Failure> {
    let mut garden = Garden::start(stage, engine, "succession", "")?;
    let seconds = stage.seconds(30);
    let load = garden.load(seconds)?;
    let mut events = 0;
    let start = clock::now();
    while clock::since(start) + 2 * KILL_STEP < Duration::from_secs(seconds) {
        let before: Vec<i64> = garden.pids()?;
        garden.child.signal(Signal::SIGKILL)?;
        sleep(KILL_STEP / 2);
        garden.succeed()?;
        let after = garden.pids()?;
        if before != after {
            let cause = format!("the workers are {after:?} and were {before:?}");
            return Err(garden.child.complaint(&cause));
        }
        // What it adopted it can recycle.
        garden.command(&["recycle", "app"])?;
        garden.until("the recycle is over", |garden| {
            let (pids, pool) = (garden.pids()?, garden.pool()?);
            let is_new = pids.iter().all(|pid| !before.contains(pid));
            Ok(is_new && pool["workers_serving"] == GARDEN)
        })?;
        events += 1;
        sleep(KILL_STEP);
    }
    let outcome = wrk::finish(load, seconds)?;
    let what = "the supervisor killed and followed".into();
    Ok(Round { what, outcome, events, serving_min: None, is_lossless: true })
}

impl<'a> Garden<'a> {
    fn start(
        stage: &'a Stage<'_>,
        engine: Engine,
        what: &str,
        keys: &str,
    ) -> Result<Self, Failure> {
        let (rig, binary) = (&stage.rig, stage.terms.lychgate.clone());
        let word = engine.word();
        let name = format!("garden-{what}-{word}");
        let port = rig.port()?;
        let control = rig.path(&name).join("control.sock");
        let text = format!(
            "[server]\nengine = \"{word}\"\nthreads = 2\nuser = \"root\"\ncontrol = \"{}\"\n\n\
             [[listen]]\naddress = \"127.0.0.1:{port}\"\n\n[[site]]\nname = \"load\"\n\
             [[site.route]]\npath = \"/\"\npool = \"app\"\n\n\
             [pool.app]\ncommand = [\"{{self}}\", \"demo\"]\nbind = \"unix\"\n\
             workers = {GARDEN}\nstart = \"always\"\n\
             [pool.app.rapid_fail]\nfailures = 0\n{keys}",
            control.display()
        );
        let file = rig.write(&format!("{name}.toml"), text)?;
        let child = launch(rig, &name, &binary, &file)?;
        let mut garden = Self { rig, name, binary, port, file, control, child };
        garden.until_serving()?;
        Ok(garden)
    }

    /// A new supervisor after one that is gone.
    fn succeed(&mut self) -> Result<(), Failure> {
        self.child = launch(self.rig, &self.name, &self.binary, &self.file)?;
        self.until_serving()
    }

    fn until_serving(&mut self) -> Result<(), Failure> {
        probe::until_answering(&mut self.child, self.port)?;
        self.until("the garden serves", |garden| {
            Ok(garden.pool().is_ok_and(|pool| pool["workers_serving"] == GARDEN))
        })
    }

    fn load(&self, seconds: u64) -> Result<Child, Failure> {
        let order =
            Order { connections: CONNECTIONS, path: "/".into(), upload: None, close: false };
        wrk::start(self.rig, self.port, &order, seconds)
    }

    fn until(
        &mut self,
        what: &str,
        is_so: impl Fn(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let start = clock::now();
        while !is_so(self)? {
            self.child.expect_running()?;
            if clock::since(start) > LIMIT {
                return Err(self.child.complaint(&format!("not in {LIMIT:?}: {what}")));
            }
            sleep(LOOK);
        }
        Ok(())
    }

    fn ask(&self, words: &[&str]) -> Result<Value, Failure> {
        ask(&self.binary, &self.control, words)
    }

    fn command(&self, words: &[&str]) -> Result<(), Failure> {
        self.ask(words).map(drop)
    }

    fn pool(&self) -> Result<Value, Failure> {
        Ok(self.ask(&["pools"])?[0].clone())
    }

    /// Of the serving workers, in the order of their slots.
    fn pids(&self) -> Result<Vec<i64>, Failure> {
        let workers = self.ask(&["workers", "app"])?;
        let serving = |worker: &&Value| worker["state"] == "serving";
        let all = workers.as_array().into_iter().flatten().filter(serving);
        Ok(all.filter_map(|worker| worker["pid"].as_i64()).collect())
    }

    /// Looks at the number of serving workers until told to end.
    fn watch(&self) -> Watch {
        let (is_over, least) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(GARDEN)));
        let (binary, control) = (self.binary.clone(), self.control.clone());
        let (over, fewest) = (Arc::clone(&is_over), Arc::clone(&least));
        let thread = spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let serving = ask(&binary, &control, &["pools"])
                    .ok()
                    .and_then(|pools| pools[0]["workers_serving"].as_u64());
                // A look that failed counts as the worst that it can hide.
                fewest.fetch_min(serving.unwrap_or(0), Ordering::Relaxed);
                sleep(LOOK);
            }
        });
        Watch { is_over, least, thread }
    }
}

struct Watch {
    is_over: Arc<AtomicBool>,
    least: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// The fewest that were ever seen serving.
    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.least.load(Ordering::Relaxed)
    }
}

fn launch(rig: &Rig, name: &str, binary: &Path, file: &Path) -> Result<Child, Failure> {
    let words = [binary.display().to_string(), "run".into(), file.display().to_string()];
    Child::start(rig, name, rig.cores.front, &words)
}

fn ask(binary: &Path, control: &Path, words: &[&str]) -> Result<Value, Failure> {
    let doing = format!("lychgate {}", words.join(" "));
    let output = Command::new(binary)
        .args(words)
        .arg("--json")
        .arg("--control")
        .arg(control)
        .output()
        .map_err(while_doing(doing.clone()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::new(format!("{doing}: {}: {said}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(while_doing(format!("{doing}: its answer")))
}

impl Round {
    fn cells(&self, engine: Engine) -> Vec<String> {
        vec![
            self.what.clone(),
            engine.word().to_owned(),
            self.events.to_string(),
            self.outcome.requests.to_string(),
            self.outcome.errors().to_string(),
            self.serving_min.map_or("-".into(), |least| least.to_string()),
            format!("{:.2}", self.outcome.p50_us / 1e3),
            format!("{:.2}", self.outcome.p99_us / 1e3),
        ]
    }

    fn judge(&self, engine: Engine) -> Vec<Verdict> {
        let name = |goal: &str| format!("{}, {}: {goal}", self.what, engine.word());
        let errors = self.outcome.errors();
        let happened = Verdict::new(name("it happened"), self.events.to_string(), self.events > 0);
        let mut all = vec![happened];
        if self.is_lossless {
            all.push(Verdict::new(name("no request fails"), errors.to_string(), errors == 0));
        }
        all.extend(self.serving_min.map(|least| {
            let goal = name("never fewer than the garden serve");
            Verdict::new(goal, least.to_string(), least >= GARDEN)
        }));
        all
    }
}
