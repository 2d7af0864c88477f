//! A supervisor that dies and the one after it: what lives is taken over whole, what cannot be is
//! ended, and nobody is forgotten.

use crate::harness::client::Client;
use crate::harness::clock::{PATIENCE, now, wait_for, wait_until};
use crate::harness::engine::{Engine, each};
use crate::harness::gate::{Gate, send};
use crate::harness::program;
use crate::harness::recipe::Recipe;
use crate::harness::tree;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A gate before `scripts/app.py`; `keys` are further lines of its pool and tables.
fn recipe(engine: Engine, keys: &str) -> Option<Recipe> {
    let python = program::python("http.server", "succession")?;
    let script = program::script("app.py");
    let pool = format!("[pool.app]\ncommand = [{python:?}, {script:?}]\n{keys}\n");
    Some(Recipe::new(engine).threads(2).with_our_identity().site("/", "app").text(&pool))
}

fn workers(gate: &Gate) -> Vec<Value> {
    gate.ask(&["workers", "app"]).as_array().unwrap().clone()
}

fn serving(gate: &Gate) -> Vec<u32> {
    let all = workers(gate).into_iter().filter(|worker| worker["state"] == "serving");
    all.map(|worker| u32::try_from(worker["pid"].as_u64().unwrap()).unwrap()).collect()
}

fn wait_serving(gate: &Gate, count: usize) -> Vec<u32> {
    wait_for(&format!("{count} workers serve"), || {
        Some(serving(gate)).filter(|serving| serving.len() == count)
    })
}

fn pool(gate: &Gate) -> Value {
    gate.ask(&["pools"])[0].clone()
}

/// Everybody that was started with this gate's place in the environment.
fn marked(gate: &Gate) -> Vec<u32> {
    let mark = format!("NOTIFY_SOCKET={}", gate.path("home/notify").display());
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|line| line == mark.as_bytes())
    })
    .collect()
}

/// Asks on some connections while `act` runs; every answer has to be 200.
fn under_load(gate: &mut Gate, act: impl FnOnce(&mut Gate)) {
    let (address, is_over) = (gate.address.clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = Client::connect(&address);
                // A test that fails must not wait for ever.
                let end = now() + PATIENCE * 3;
                while !is_over.load(Ordering::Relaxed) && now() < end {
                    assert_eq!(client.get("/").status(), 200);
                }
            });
        }
        act(gate);
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn under_load_a_successor_adopts_recycles_and_counts_on() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\nworkers = 2\n") else { return };
        let mut gate = recipe.start();
        let old = wait_serving(&gate, 2);
        let listener = gate.listener_pid();
        under_load(&mut gate, |gate| {
            for round in 1..=2u64 {
                let events = gate.ask(&["events"]);
                let told = events.as_array().unwrap().last().unwrap()["sequence"].clone();
                let told = told.as_u64().unwrap();
                gate.kill_supervisor();
                gate.succeed();
                let status = gate.ask(&["status"]);
                assert_eq!(status["listener"]["pid"], listener, "{status}");
                gate.ask(&["recycle", "app"]);
                wait_until("both are recycled", || pool(gate)["recycles"] == round * 2);
                let first = gate.ask(&["events"])[0]["sequence"].as_u64().unwrap();
                assert!(first > told && told > 0, "events are numbered anew: {first}, {told}");
            }
            wait_until("the old ones are gone", || old.iter().all(|pid| tree::is_gone(*pid)));
        });
        wait_serving(&gate, 2);
        let generations: Vec<u64> =
            workers(&gate).iter().map(|it| it["generation"].as_u64().unwrap()).collect();
        assert!(generations.iter().all(|generation| (5..=6).contains(generation)));
        assert_eq!(pool(&gate)["starts"], 6);
        assert_eq!(pool(&gate)["failures"], 0);
    });
}

#[test]
fn a_recycle_that_was_under_way_is_finished_by_the_successor() {
    each(|engine| {
        let keys = "start = \"always\"\nworkers = 3\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let mut gate = recipe.start();
        let old = wait_serving(&gate, 3);
        gate.ask(&["recycle", "app"]);
        wait_until("it has begun", || workers(&gate).iter().any(|it| it["reason"] == "demand"));
        gate.kill_supervisor();
        gate.succeed();
        wait_until("all are others", || {
            let new = serving(&gate);
            new.len() == 3 && new.iter().all(|pid| !old.contains(pid))
        });
    });
}

#[test]
fn a_tripped_pool_stays_tripped_and_generations_go_on_without_workers() {
    each(|engine| {
        let keys = "start = \"always\"\n[pool.app.rapid_fail]\nfailures = 1\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let mut gate = recipe.start();
        let worker = wait_serving(&gate, 1)[0];
        send(worker, Signal::SIGKILL);
        wait_until("it trips", || pool(&gate)["state"] == "tripped");
        let why = pool(&gate)["why"].clone();
        assert!(why.as_str().unwrap().contains("signal 9"), "{why}");
        // On paper before anybody could have asked again.
        wait_until("it is written down", || {
            fs::read_to_string(gate.path("home/state.json")).unwrap().contains("tripped")
        });
        gate.kill_supervisor();
        gate.succeed();
        let shown = pool(&gate);
        assert_eq!((&shown["state"], &shown["why"]), (&Value::from("tripped"), &why));
        assert!(gate.get("/").text().starts_with("503 pool-tripped"));
        gate.ask(&["start", "app"]);
        wait_serving(&gate, 1);
        assert_eq!(workers(&gate)[0]["generation"], 2);
        assert_eq!(gate.wait_served("/").status(), 200);
    });
}

#[test]
fn what_an_operator_started_runs_on_under_a_successor() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "autostart = false\nstart = \"always\"\n") else {
            return;
        };
        let mut gate = recipe.start();
        gate.ask(&["start", "app"]);
        let old = wait_serving(&gate, 1);
        gate.kill_supervisor();
        gate.succeed();
        assert_eq!(pool(&gate)["state"], "running");
        assert_eq!(serving(&gate), old);
    });
}

#[test]
fn nobody_of_before_is_left_when_the_listener_died_too() {
    each(|engine| {
        let Some(python) = program::python("http.server", "succession") else { return };
        let script = program::script("app.py");
        // A grandchild in a session of its own, and nobody listens to SIGTERM.
        let shell = format!("trap '' TERM; setsid sleep 1000 & exec {python} {script}");
        let pool = format!(
            "[pool.app]\nstart = \"always\"\nworkers = 2\ncommand = [\"sh\", \"-c\", {shell:?}]\n"
        );
        let recipe = Recipe::new(engine).with_our_identity().site("/", "app").text(&pool);
        let mut gate = recipe.start();
        let old = wait_serving(&gate, 2);
        let listener = gate.listener_pid();
        let before = marked(&gate);
        assert!(before.len() >= 4, "{before:?}");
        gate.kill_supervisor();
        send(listener, Signal::SIGKILL);
        wait_until("the listener is gone", || tree::is_gone(listener));
        gate.succeed();
        assert_eq!(gate.wait_served("/").status(), 200);
        let left: Vec<u32> = before.into_iter().filter(|pid| !tree::is_gone(*pid)).collect();
        assert!(left.is_empty(), "{left:?} of {old:?}");
    });
}

#[test]
fn a_worker_that_stands_on_no_paper_is_ended() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\nworkers = 2\n") else { return };
        let mut gate = recipe.start();
        let old = wait_serving(&gate, 2);
        let state = gate.path("home/state.json");
        wait_until("both are written down", || {
            let text = fs::read_to_string(&state).unwrap();
            old.iter().all(|pid| text.contains(&format!("\"pid\":{pid},")))
        });
        gate.kill_supervisor();
        // As if it had been killed before it could write of the second.
        let mut text: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
        text["pools"]["app"]["workers"].as_array_mut().unwrap().retain(|it| it["pid"] == old[0]);
        fs::write(&state, text.to_string()).unwrap();
        gate.succeed();
        wait_until("the other is gone", || tree::is_gone(old[1]));
        let new = wait_serving(&gate, 2);
        assert_eq!(new[0], old[0]);
        for _ in 0..8 {
            assert_eq!(gate.get("/").status(), 200);
        }
        assert_eq!(pool(&gate)["failures"], 0);
    });
}

#[test]
fn a_state_that_cannot_be_read_costs_the_workers_and_nothing_else() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\nworkers = 2\n") else { return };
        let mut gate = recipe.start();
        let old = wait_serving(&gate, 2);
        gate.kill_supervisor();
        fs::write(gate.path("home/state.json"), "{\"version\":").unwrap();
        gate.succeed();
        assert!(old.iter().all(|pid| tree::is_gone(*pid)));
        wait_serving(&gate, 2);
        for _ in 0..8 {
            assert_eq!(gate.wait_served("/").status(), 200);
        }
        let generations: Vec<u64> =
            workers(&gate).iter().map(|it| it["generation"].as_u64().unwrap()).collect();
        assert_eq!(generations, [3, 4], "nobody has the name of one that the listener knew");
    });
}

#[test]
fn workers_of_a_pool_that_is_no_more_end_though_they_do_not_want_to() {
    each(|engine| {
        let Some(python) = program::python("http.server", "succession") else { return };
        let script = program::script("app.py");
        let shell = format!("trap '' TERM; exec {python} {script}");
        let deaf =
            format!("[pool.deaf]\nstart = \"always\"\ncommand = [\"sh\", \"-c\", {shell:?}]\n");
        let app = format!("[pool.app]\ncommand = [{python:?}, {script:?}]\n");
        let recipe = Recipe::new(engine)
            .with_our_identity()
            .server("shutdown_limit = \"1s\"")
            .site("/", "app")
            .text(&app);
        let toml = format!("{}{deaf}", recipe.toml());
        let mut gate = Gate::launch_with(recipe, &toml);
        gate.wait_notice("READY=1");
        let deaf = wait_for("the worker of the other pool", || {
            gate.ask(&["workers", "deaf"])[0]["pid"].as_u64()
        });
        let deaf = u32::try_from(deaf).unwrap();
        gate.kill_supervisor();
        gate.rewrite(&gate.recipe.toml());
        gate.succeed();
        wait_until("it is gone", || tree::is_gone(deaf));
        assert_eq!(gate.get("/").status(), 200);
    });
}

#[test]
fn a_second_supervisor_in_one_home_is_refused_and_harms_nobody() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\n") else { return };
        let mut gate = recipe.start();
        let old = wait_serving(&gate, 1);
        let file = gate.path("lychgate.toml");
        let second = gate.command(&["run", file.to_str().unwrap()]);
        let error = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(!second.status.success() && error.contains("another lychgate"), "{error}");
        assert_eq!(serving(&gate), old);
        assert_eq!(gate.get("/").status(), 200);
        assert!(gate.is_running() && gate.path("home/state.json").exists());
        gate.kill_supervisor();
        gate.succeed();
        assert_eq!(serving(&gate), old);
    });
}

#[test]
fn a_successor_that_cannot_begin_leaves_everything_to_the_next() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\n") else { return };
        let mut gate = recipe.start();
        let old = wait_serving(&gate, 1);
        gate.kill_supervisor();
        // Where the notices are heard is taken by what cannot be replaced.
        let notices = gate.path("home/notify");
        fs::remove_file(&notices).unwrap();
        fs::create_dir(&notices).unwrap();
        let file = gate.path("lychgate.toml");
        let failed = gate.command(&["run", file.to_str().unwrap()]);
        assert!(!failed.status.success());
        fs::remove_dir(&notices).unwrap();
        gate.succeed();
        assert_eq!(serving(&gate), old);
        assert_eq!(gate.get("/").status(), 200);
    });
}

#[test]
fn a_worker_that_talks_is_heard_while_no_supervisor_lives() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\n") else { return };
        let mut gate = recipe.start();
        wait_serving(&gate, 1);
        gate.kill_supervisor();
        let mut client = gate.client();
        // Each answer is told in the log: together more than a pipe holds.
        let target = format!("/?{}", "x".repeat(2000));
        for _ in 0..100 {
            assert_eq!(client.get(&target).status(), 200);
        }
        gate.succeed();
        assert_eq!(client.get("/").status(), 200);
        gate.wait_log(&["served"]);
    });
}

#[test]
fn successions_and_recycles_cost_no_descriptors() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\n") else { return };
        let mut gate = recipe.start();
        wait_serving(&gate, 1);
        let listener = gate.listener_pid();
        let succeed = |gate: &mut Gate| {
            gate.kill_supervisor();
            gate.succeed();
            gate.ask(&["status"]);
        };
        succeed(&mut gate);
        let before = (tree::descriptors(gate.pid()), tree::descriptors(listener));
        for _ in 0..10 {
            succeed(&mut gate);
        }
        wait_until("the supervisor has as many as before", || {
            tree::descriptors(gate.pid()) <= before.0
        });
        wait_until("the listener has as many as before", || {
            tree::descriptors(listener) <= before.1
        });
        for round in 1..=10u64 {
            gate.ask(&["recycle", "app"]);
            wait_until("it is recycled", || {
                pool(&gate)["recycles"] == round && pool(&gate)["workers_alive"] == 1
            });
        }
        wait_until("the supervisor still has as many", || {
            tree::descriptors(gate.pid()) <= before.0
        });
        wait_until("the listener still has as many", || tree::descriptors(listener) <= before.1);
    });
}
