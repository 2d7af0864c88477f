//! The process model end to end, with one scripted application: workers come with demand and go
//! without it, are recycled, paused, stopped, released, and say things of themselves.

use crate::harness::client::Client;
use crate::harness::clock::{PATIENCE, now, wait_for, wait_until};
use crate::harness::engine::{Engine, each};
use crate::harness::gate::{Gate, send};
use crate::harness::program;
use crate::harness::recipe::Recipe;
use crate::harness::tree;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A gate before `scripts/app.py`; `keys` are further lines of its pool and tables.
fn recipe(engine: Engine, keys: &str) -> Option<Recipe> {
    let python = program::python("http.server", "gardens")?;
    let script = program::script("app.py");
    let pool = format!("[pool.app]\ncommand = [{python:?}, {script:?}]\n{keys}\n");
    Some(Recipe::new(engine).threads(2).with_our_identity().site("/", "app").text(&pool))
}

fn workers(gate: &Gate) -> Vec<Value> {
    gate.ask(&["workers", "app"]).as_array().unwrap().clone()
}

/// Process ids of the workers in a state, by slot.
fn pids(gate: &Gate, state: &str) -> Vec<u32> {
    let all = workers(gate).into_iter().filter(|worker| worker["state"] == state);
    all.map(|worker| u32::try_from(worker["pid"].as_u64().unwrap()).unwrap()).collect()
}

fn pool(gate: &Gate) -> Value {
    gate.ask(&["pools"])[0].clone()
}

fn events(gate: &Gate) -> Vec<String> {
    let events = gate.ask(&["events"]);
    let words = events.as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap());
    words.map(str::to_owned).collect()
}

#[test]
fn a_garden_grows_with_demand_and_shrinks_without() {
    each(|engine| {
        let keys = "workers = 2\nslots = 1\n[pool.app.lifecycle]\nidle_timeout = \"1s\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        assert_eq!(pool(&gate)["workers_alive"], 0);
        let mut clients = [gate.client(), gate.client(), gate.client()];
        for client in &mut clients {
            client.send("GET /sleep/0.5 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        let pids = clients.each_mut().map(|client| {
            let answer: Value = serde_json::from_str(client.answer().text()).unwrap();
            answer["pid"].as_u64().unwrap()
        });
        let mut distinct = pids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 2, "three requests, one slot each, two workers: {pids:?}");
        wait_until("they have idled out", || pool(&gate)["workers_alive"] == 0);
        assert_eq!(pool(&gate)["failures"], 0);
        assert_eq!(gate.get("/").status(), 200);
    });
}

#[test]
fn a_recycle_takes_nothing_from_a_request_that_runs() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\n") else { return };
        let gate = recipe.start();
        let old = wait_for("a worker", || pids(&gate, "serving").first().copied());
        let mut client = gate.client();
        client.send("GET /sleep/6 HTTP/1.1\r\nHost: test\r\n\r\n");
        wait_until("it runs", || pool(&gate)["executing"] == 1);
        gate.ask(&["recycle", "app"]);
        gate.ask(&["recycle", "app"]);
        let new = wait_for("its successor", || {
            pids(&gate, "serving").into_iter().find(|pid| *pid != old)
        });
        assert_eq!(pids(&gate, "draining"), [old]);
        let answer: Value = serde_json::from_str(client.answer().text()).unwrap();
        assert_eq!(answer["pid"], old);
        wait_until("the old one is gone", || tree::is_gone(old));
        assert_eq!(pids(&gate, "serving"), [new], "a recycle while recycling is one recycle");
        assert_eq!(pool(&gate)["recycles"], 1);
    });
}

#[test]
fn a_pool_is_paused_stopped_and_started_and_a_reload_changes_nothing_of_it() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "") else { return };
        let gate = recipe.start();
        assert_eq!(gate.get("/").status(), 200);
        gate.ask(&["pause", "app", "--max", "1"]);
        wait_until("it is paused", || pool(&gate)["state"] == "paused");
        let mut waits = gate.client();
        waits.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        wait_until("a request waits", || pool(&gate)["waiting"] == 1);
        assert!(gate.get("/").text().starts_with("503 queue-full"));
        let listed = gate.ask(&["requests"]);
        assert_eq!(listed["rows"][0]["state"], "waiting", "{listed}");
        gate.ask(&["resume", "app"]);
        assert_eq!(waits.answer().status(), 200);

        gate.ask(&["stop", "app"]);
        wait_until("it is stopped", || pool(&gate)["workers_alive"] == 0);
        assert!(gate.get("/").text().starts_with("503 pool-stopped"));
        gate.ask(&["reload"]);
        assert_eq!(pool(&gate)["state"], "stopped");
        gate.ask(&["start", "app"]);
        gate.wait_served("/");
    });
}

#[test]
fn a_failed_worker_is_released_and_ended_by_the_operator() {
    each(|engine| {
        let keys = "start = \"always\"\n[pool.app.lifecycle]\norphan = true\n\
                    orphan_command = [\"echo\", \"look at {pid} of {pool}: {reason}\"]\n\
                    [pool.app.health]\nping_interval = \"1s\"\nping_timeout = \"1s\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        let victim = wait_for("a worker", || pids(&gate, "serving").first().copied());
        send(victim, Signal::SIGSTOP);
        gate.wait_log(&[&format!("look at {victim} of app: ping-timeout")]);
        let orphans = gate.ask(&["orphans"]);
        assert_eq!(orphans[0]["pid"], victim, "{orphans}");
        assert_eq!(orphans[0]["reason"], "ping-timeout", "{orphans}");
        assert_eq!(gate.get("/").status(), 200);
        assert!(!tree::is_gone(victim));
        gate.ask(&["orphans", "end", &victim.to_string()]);
        wait_until("it is gone", || tree::is_gone(victim));
        wait_until("it is listed no more", || gate.ask(&["orphans"]) == Value::Array(Vec::new()));
    });
}

#[test]
fn a_worker_speaks_for_itself() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "start = \"always\"\n") else { return };
        let gate = recipe.start();
        let old = wait_for("a worker", || pids(&gate, "serving").first().copied());
        assert_eq!(gate.get("/notify/STATUS=warm").status(), 200);
        wait_until("its status is shown", || workers(&gate)[0]["status"] == "warm");
        assert_eq!(gate.get("/notify/X_LYCHGATE_RECYCLE=leaky").status(), 200);
        gate.wait_log(&["recycled", "leaky"]);
        wait_until("it is replaced", || {
            let new = pids(&gate, "serving");
            new.len() == 1 && new != [old]
        });
        assert_eq!(pool(&gate)["failures"], 0);
        let told = events(&gate);
        assert!(told.contains(&"recycling".to_owned()), "{told:?}");
    });
}

#[test]
fn a_reload_changes_the_slots_of_workers_that_run() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "slots = 1\n") else { return };
        let gate = recipe.start();
        assert_eq!(gate.get("/").status(), 200);
        let (mut runs, mut waits) = (gate.client(), gate.client());
        runs.send("GET /sleep/30 HTTP/1.1\r\nHost: test\r\n\r\n");
        wait_until("one runs", || pool(&gate)["executing"] == 1);
        waits.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        wait_until("one waits", || pool(&gate)["waiting"] == 1);
        gate.rewrite(&gate.recipe.toml().replace("slots = 1", "slots = 2"));
        gate.ask(&["reload"]);
        assert_eq!(waits.answer().status(), 200);
        assert_eq!(pool(&gate)["starts"], 1);
    });
}

#[test]
fn a_worker_that_crashes_is_replaced_while_its_requests_wait() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "slots = 1\n") else { return };
        let gate = recipe.start();
        assert_eq!(gate.get("/").status(), 200);
        let mut waits = gate.client();
        let mut runs = gate.client();
        runs.send("POST /sleep/30 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        wait_until("one runs", || pool(&gate)["executing"] == 1);
        waits.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        wait_until("one waits", || pool(&gate)["waiting"] == 1);
        send(pids(&gate, "serving")[0], Signal::SIGKILL);
        assert_eq!(runs.answer().status(), 502);
        let answer = waits.answer();
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(pool(&gate)["failures"], 1);
        gate.wait_log(&["crash", "signal 9"]);
    });
}

#[test]
fn a_supervisor_that_dies_is_followed_by_another_and_nobody_notices() {
    each(|engine| {
        let keys = "start = \"always\"\nworkers = 2\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let mut gate = recipe.start();
        let old = wait_for("two workers", || {
            Some(pids(&gate, "serving")).filter(|serving| serving.len() == 2)
        });
        let address = gate.address.clone();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| {
                let (mut client, mut count) = (Client::connect(&address), 0);
                // A test that fails must not wait for ever.
                let end = now() + PATIENCE * 3;
                while !is_over.load(Ordering::Relaxed) && now() < end {
                    assert_eq!(client.get("/").status(), 200);
                    count += 1;
                }
                count
            });
            gate.kill_supervisor();
            // Nobody is there to ask, and requests are served.
            assert_eq!(gate.get("/").status(), 200);
            assert!(!gate.command(&["status"]).status.success());
            gate.succeed();
            assert_eq!(pids(&gate, "serving"), old);
            assert_eq!(pool(&gate)["starts"], 2);
            gate.ask(&["recycle", "app"]);
            wait_until("all are recycled", || {
                let new = pids(&gate, "serving");
                new.len() == 2 && new.iter().all(|pid| !old.contains(pid))
            });
            wait_until("the old ones are gone", || old.iter().all(|pid| tree::is_gone(*pid)));
            is_over.store(true, Ordering::Relaxed);
            assert!(load.join().unwrap() > 0);
        });
        gate.signal(Signal::SIGTERM);
        assert!(gate.wait_exit().success());
    });
}

#[test]
fn a_successor_with_another_configuration_applies_it() {
    each(|engine| {
        let keys = "start = \"always\"\nenvironment = { COLOUR = \"green\" }\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let mut gate = recipe.start();
        let old = wait_for("a worker", || pids(&gate, "serving").first().copied());
        gate.kill_supervisor();
        gate.rewrite(&gate.recipe.toml().replace("green", "blue"));
        gate.succeed();
        wait_until("the new environment", || gate.get("/").text().contains("\"blue\""));
        wait_until("the old one is gone", || tree::is_gone(old));
    });
}

#[test]
fn what_a_worker_leaves_behind_dies_with_it() {
    each(|engine| {
        let Some(python) = program::python("http.server", "gardens") else { return };
        let script = program::script("app.py");
        // A grandchild in a session of its own, which no signal to the group reaches.
        let shell = format!("setsid sleep 1000 & echo left $!; exec {python} {script}");
        let pool =
            format!("[pool.app]\nstart = \"always\"\ncommand = [\"sh\", \"-c\", {shell:?}]\n");
        let recipe = Recipe::new(engine).with_our_identity().site("/", "app").text(&pool);
        let gate = recipe.start();
        let line = gate.wait_log(&["left "]);
        let left: u32 = line.rsplit(' ').next().unwrap().trim().parse().unwrap();
        let worker = wait_for("a worker", || pids(&gate, "serving").first().copied());
        send(worker, Signal::SIGKILL);
        wait_until("what it left is gone", || tree::is_gone(left));
    });
}

#[test]
fn a_new_release_recycles_its_workers() {
    each(|engine| {
        let Some(python) = program::python("http.server", "gardens") else { return };
        let script = program::script("app.py");
        let pool = format!(
            "[pool.app]\nstart = \"always\"\ncommand = [{python:?}, {script:?}]\n\
             working_directory = \"{{dir}}/current\"\n"
        );
        let recipe = Recipe::new(engine).with_our_identity().site("/", "app").text(&pool);
        let folder = tempfile::tempdir().unwrap();
        for release in ["one", "two"] {
            std::fs::create_dir(folder.path().join(release)).unwrap();
        }
        let current = folder.path().join("current");
        std::os::unix::fs::symlink(folder.path().join("one"), &current).unwrap();
        let toml = recipe.toml().replace("{dir}/current", &current.display().to_string());
        let gate = Gate::launch_with(recipe, &toml);
        gate.wait_notice("READY=1");
        let old = wait_for("a worker", || pids(&gate, "serving").first().copied());
        let beside = folder.path().join("beside");
        std::os::unix::fs::symlink(folder.path().join("two"), &beside).unwrap();
        std::fs::rename(&beside, &current).unwrap();
        wait_until("it is recycled", || {
            let new = pids(&gate, "serving");
            new.len() == 1 && new != [old]
        });
    });
}

#[test]
fn crashes_trip_a_pool_at_its_limit_and_not_below() {
    each(|engine| {
        let keys = "start = \"always\"\nworkers = 3\n[pool.app.rapid_fail]\nfailures = 3\n\
                    command = [\"echo\", \"look after {pool}\"]\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        for failures in 1..=2 {
            let all = wait_for("three workers", || {
                Some(pids(&gate, "serving")).filter(|serving| serving.len() == 3)
            });
            send(all[0], Signal::SIGKILL);
            wait_until("it is counted", || pool(&gate)["failures"] == failures);
            assert_eq!(pool(&gate)["state"], "running");
            assert_eq!(gate.get("/").status(), 200);
        }
        let all = wait_for("three workers", || {
            Some(pids(&gate, "serving")).filter(|serving| serving.len() == 3)
        });
        send(all[0], Signal::SIGKILL);
        wait_until("it trips", || pool(&gate)["state"] == "tripped");
        gate.wait_log(&["rapid_fail.command: look after app"]);
        assert!(gate.get("/").text().starts_with("503 pool-tripped"));
        wait_until("the others are gone, too", || all.iter().all(|pid| tree::is_gone(*pid)));
        gate.ask(&["start", "app"]);
        gate.wait_served("/");
    });
}

#[test]
fn a_request_does_not_wait_for_what_cannot_be_started() {
    each(|engine| {
        let pool_of_nothing = "[pool.app]\ncommand = [\"/nowhere/at/all\"]\n\
                               [pool.app.rapid_fail]\nfailures = 2\n";
        let recipe = Recipe::new(engine).with_our_identity().site("/", "app").text(pool_of_nothing);
        let gate = recipe.start();
        let (first, second) = (gate.client(), gate.client());
        let mut clients = [first, second];
        let begin = now();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for client in &mut clients {
            let answer = client.answer();
            assert!(answer.text().starts_with("503 pool-tripped"), "{answer:?}");
        }
        assert!(begin.elapsed() < PATIENCE, "it waited for {:?}", begin.elapsed());
        assert!(pool(&gate)["why"].as_str().unwrap().contains("/nowhere/at/all"));
    });
}

#[test]
fn a_new_listener_does_not_give_a_worker_its_requests_again() {
    each(|engine| {
        let keys = "start = \"always\"\n[pool.app.recycle]\nrequests = 10\njitter = \"0%\"\n";
        let Some(recipe) = recipe(engine, keys) else { return };
        let gate = recipe.start();
        let old = wait_for("a worker", || pids(&gate, "serving").first().copied());
        for _ in 0..7 {
            assert_eq!(gate.get("/").status(), 200);
        }
        wait_until("they are counted", || workers(&gate)[0]["requests"] == 7);
        let listener = gate.listener_pid();
        send(listener, Signal::SIGKILL);
        wait_until("another listener serves", || {
            let status = gate.ask(&["status"]);
            status["listener"]["pid"] != listener && status["state"] == "running"
        });
        assert_eq!(gate.get("/").status(), 200);
        wait_until("it goes on counting", || workers(&gate)[0]["requests"] == 8);
        for _ in 0..2 {
            assert_eq!(gate.get("/").status(), 200);
        }
        wait_until("it is recycled", || {
            let new = pids(&gate, "serving");
            new.len() == 1 && new != [old]
        });
    });
}

#[test]
fn the_end_comes_amid_starting_and_recycling_and_leaves_nothing() {
    each(|engine| {
        let Some(python) = program::python("http.server", "pools") else { return };
        let script = program::script("app.py");
        // Deaf to SIGTERM, with a grandchild that left the family; those that follow never listen.
        let shell = format!(
            "trap '' TERM; setsid sleep 1000 & test $LYCHGATE_GENERATION -gt 1 && exec sleep 1000; \
             exec {python} {script}"
        );
        let keys = format!(
            "[pool.app]\nstart = \"always\"\nbind = \"unix\"\ncommand = [\"sh\", \"-c\", {shell:?}]\n"
        );
        let recipe = Recipe::new(engine)
            .with_our_identity()
            .server("shutdown_limit = \"1s\"")
            .site("/", "app")
            .text(&keys);
        let mut gate = recipe.start();
        wait_for("a worker", || pids(&gate, "serving").first().copied());
        gate.ask(&["recycle", "app"]);
        wait_for("its successor starts", || pids(&gate, "starting").first().copied());
        let everybody = tree::descendants(gate.pid());
        assert!(everybody.len() >= 4, "{everybody:?}");
        gate.signal(Signal::SIGTERM);
        assert!(gate.wait_exit().success());
        let left: Vec<u32> = everybody.into_iter().filter(|pid| !tree::is_gone(*pid)).collect();
        assert!(left.is_empty(), "{left:?}");
        let home = std::fs::read_dir(gate.path("home")).unwrap().flatten();
        let files: Vec<_> = home.map(|entry| entry.file_name()).collect();
        assert_eq!(files, ["lock"]);
    });
}
