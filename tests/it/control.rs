//! The operator's way in: the command line and the API on the control socket of a gate that runs.

use crate::harness::clock::{wait_for, wait_until};
use crate::harness::engine::{Engine, each};
use crate::harness::gate::Gate;
use crate::harness::origin::Origin;
use crate::harness::program;
use crate::harness::recipe::Recipe;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::{Command, Output, Stdio};

/// A gate before a garden of `scripts/app.py`, named `app`; `keys` are further lines of its pool.
fn garden(engine: Engine, keys: &str) -> Option<Recipe> {
    let python = program::python("http.server", "the control socket")?;
    let script = program::script("app.py");
    let pool = format!("[pool.app]\ncommand = [{python:?}, {script:?}, \"\"]\n{keys}\n");
    Some(Recipe::new(engine).with_our_identity().site("/", "app").text(&pool))
}

fn lychgate(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lychgate"));
    command.args(words);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// It has this exit code, and says why where people look.
fn expect_failure(output: &Output, code: i32, why: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.starts_with("lychgate: ") && said.contains(why), "{said}");
}

fn state(gate: &Gate) -> String {
    gate.ask(&["pools"])[0]["state"].as_str().unwrap().to_owned()
}

fn workers(gate: &Gate) -> Vec<Value> {
    gate.ask(&["workers", "app"]).as_array().unwrap().clone()
}

#[test]
fn the_operator_sees_what_runs() {
    each(|engine| {
        let Some(recipe) = garden(engine, "min_workers = 1") else { return };
        let gate = recipe.start();
        let told: Value = serde_json::from_str(gate.wait_served("/").text()).unwrap();
        let status = gate.ask(&["status"]);
        assert_eq!(status["state"], "running");
        assert_eq!(status["pid"], gate.pid());
        assert_eq!(status["listener"]["pid"], gate.listener_pid());
        assert_eq!(status["listener"]["engine"], engine.word());
        assert_eq!(status["listening"][0], gate.address.as_str());
        let shown = text(&gate.command(&["status"]).stdout);
        assert!(shown.starts_with("state          running, for "), "{shown}");

        let all = workers(&gate);
        assert_eq!((all.len(), &all[0]["pid"]), (1, &told["pid"]));
        assert_eq!((&all[0]["state"], &all[0]["slot"]), (&"serving".into(), &0.into()));
        wait_until("the request is counted", || workers(&gate)[0]["requests"].as_u64() >= Some(1));
        let table = text(&gate.command(&["workers"]).stdout);
        let mut lines = table.lines();
        assert!(lines.next().unwrap().starts_with("POOL"), "{table}");
        assert!(lines.next().unwrap().contains(&told["pid"].to_string()), "{table}");
        assert_eq!(gate.ask(&["orphans"]), Value::Array(Vec::new()));
        assert_eq!(gate.ask(&["pools"])[0]["workers_serving"], 1);

        let events = gate.ask(&["events"]);
        let words: Vec<&str> = events
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["event"].as_str().unwrap())
            .collect();
        assert_eq!(words[..2], ["worker-started", "worker-serving"]);
        let after = events[0]["sequence"].to_string();
        assert_eq!(gate.ask(&["events", "--after", &after])[0], events[1]);
    });
}

#[test]
fn a_pool_is_stopped_started_paused_and_recycled() {
    each(|engine| {
        let Some(recipe) = garden(engine, "min_workers = 1") else { return };
        let gate = recipe.start();
        gate.wait_served("/");
        gate.ask(&["stop", "app"]);
        assert_eq!(state(&gate), "stopped");
        let refused = gate.get("/");
        assert!(refused.text().starts_with("503 pool-stopped\n"), "{refused:?}");
        expect_failure(&gate.command(&["pause", "app"]), 1, "is stopped");
        // It stays so over a reload.
        gate.ask(&["reload"]);
        assert_eq!(state(&gate), "stopped");
        gate.ask(&["start", "app"]);
        gate.wait_served("/");

        gate.ask(&["pause", "app", "--max", "1"]);
        let mut waiting = gate.client();
        waiting.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
        let row = wait_for("the request is seen to wait", || {
            gate.ask(&["requests", "--pool", "app"])["rows"].get(0).cloned()
        });
        assert_eq!((&row["state"], &row["worker"]), (&"waiting".into(), &Value::Null));
        assert_eq!((&row["target"], &row["host"]), (&"/held".into(), &"x".into()));
        assert!(text(&gate.command(&["requests"]).stdout).contains("/held"));
        assert_eq!(gate.ask(&["requests", "--older", "1h"])["rows"], Value::Array(Vec::new()));
        assert!(gate.get("/").text().starts_with("503 queue-full\n"));
        expect_failure(&gate.command(&["start", "app"]), 1, "resume");
        gate.ask(&["resume", "app"]);
        assert_eq!(waiting.answer().status(), 200);

        let old = workers(&gate)[0].clone();
        gate.ask(&["recycle", "app"]);
        wait_until("the worker is replaced", || {
            let all = workers(&gate);
            all.len() == 1 && all[0]["state"] == "serving" && all[0]["pid"] != old["pid"]
        });
        assert_eq!(workers(&gate)[0]["slot"], old["slot"]);
        assert_eq!(gate.ask(&["pools"])[0]["recycles"], 1);
    });
}

#[test]
fn failures_have_their_exit_codes() {
    let origin = Origin::saying("hello");
    let gate = Recipe::relaying(Engine::Auto, &[&origin]).start();
    assert_eq!(gate.ask(&["pools"])[0]["state"], "external");
    expect_failure(&gate.command(&["recycle", "app"]), 1, "servers that run already");
    expect_failure(&gate.command(&["recycle", "none"]), 4, "no pool none");
    expect_failure(&gate.command(&["workers", "none"]), 4, "no pool none");
    expect_failure(&gate.command(&["requests", "--pool", "a/\u{1b}[2Jb"]), 1, "no name of a pool");
    expect_failure(&gate.command(&["orphans", "end", "1"]), 1, "no orphan");
    let usage = gate.command(&["pause"]);
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
    let elsewhere = gate.path("nobody.sock");
    let nobody = lychgate(&["--control", elsewhere.to_str().unwrap(), "status"]).output().unwrap();
    expect_failure(&nobody, 3, elsewhere.to_str().unwrap());
}

#[test]
fn a_refused_reload_is_remembered() {
    let origin = Origin::saying("hello");
    let gate = Recipe::relaying(Engine::Auto, &[&origin]).start();
    assert_eq!(gate.ask(&["status"])["refused"], Value::Null);
    gate.rewrite("nonsense = 1");
    expect_failure(&gate.command(&["reload"]), 1, "nonsense");
    let why = gate.ask(&["status"])["refused"].as_str().unwrap().to_owned();
    assert!(why.contains("nonsense"), "{why}");
    gate.rewrite(&gate.recipe.toml());
    gate.ask(&["reload"]);
    let status = gate.ask(&["status"]);
    assert_eq!((&status["refused"], &status["revision"]), (&Value::Null, &2.into()));
}

#[test]
fn events_are_followed_until_the_supervisor_ends() {
    let Some(recipe) = garden(Engine::Auto, "") else { return };
    let mut gate = recipe.start();
    let arguments = ["events", "--follow", "--after", "0", "--json"];
    let mut follower = lychgate(&arguments)
        .env("LYCHGATE_CONTROL", gate.control())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    gate.ask(&["stop", "app"]);
    gate.ask(&["start", "app"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut sequence = 0;
    for wanted in ["pool-stopped", "pool-started"] {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        sequence += 1;
        assert_eq!((&event["event"], &event["sequence"]), (&wanted.into(), &sequence.into()));
    }
    gate.signal(Signal::SIGTERM);
    assert!(gate.wait_exit().success());
    let ended = follower.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(text(&ended.stderr).contains("has ended"), "{ended:?}");
    assert!(!gate.control().exists());
}

#[test]
fn a_control_socket_has_one_supervisor_and_its_owner() {
    let origin = Origin::saying("hello");
    let gate = Recipe::relaying(Engine::Auto, &[&origin]).start();
    let meta = fs::metadata(gate.control()).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let file = gate.path("second.toml");
    fs::write(&file, Recipe::relaying(Engine::Auto, &[&origin]).toml()).unwrap();
    let second = gate.command(&["run", file.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(text(&second.stderr).contains("another lychgate"), "{second:?}");
    assert_eq!(gate.ask(&["status"])["state"], "running");
}

#[test]
fn shells_get_their_completions() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let script = text(&lychgate(&["completions", shell]).output().unwrap().stdout);
        assert!(script.contains(word) && script.contains("recycle"), "{shell}");
    }
}
