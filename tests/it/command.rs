//! Pools whose application the gate starts itself: told where to listen in three ways, awaited,
//! restarted, ended.

use crate::harness::clock::wait_until;
use crate::harness::engine::{Engine, each};
use crate::harness::gate::{Gate, send};
use crate::harness::program;
use crate::harness::recipe::Recipe;
use crate::harness::tree;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A gate before `scripts/app.py`; `keys` are further lines of its pool.
fn recipe(engine: Engine, keys: &str, argument: &str) -> Option<Recipe> {
    let python = program::python("http.server", "command pools")?;
    let script = program::script("app.py");
    let pool = format!(
        "[pool.app]\ncommand = [{python:?}, {script:?}, {argument:?}]\n{keys}\n\
         environment = {{ COLOUR = \"green\" }}\n"
    );
    Some(Recipe::new(engine).with_our_identity().site("/", "app").text(&pool))
}

fn told(gate: &Gate) -> Value {
    serde_json::from_str(gate.wait_served("/").text()).unwrap()
}

#[test]
fn it_is_told_where_to_listen_in_three_ways() {
    each(|engine| {
        for (bind, variable) in
            [("port", "PORT"), ("unix", "LYCHGATE_SOCKET"), ("fd", "LISTEN_FDS")]
        {
            let Some(recipe) = recipe(engine, &format!("bind = \"{bind}\""), "") else { return };
            let gate = recipe.start();
            let env = &told(&gate)["env"];
            assert!(env[variable].is_string(), "{bind}: {env}");
            assert_eq!(env["LYCHGATE_POOL"], "app", "{bind}");
            assert_eq!(env["LYCHGATE_SLOT"], "0", "{bind}");
            assert!(env["LYCHGATE_GENERATION"].is_string(), "{bind}");
            assert_eq!(env["COLOUR"], "green", "{bind}");
        }
    });
}

#[test]
fn an_application_that_dies_is_started_again() {
    each(|engine| {
        for bind in ["port", "unix", "fd"] {
            let Some(recipe) = recipe(engine, &format!("bind = \"{bind}\""), "") else { return };
            let gate = recipe.start();
            let first = told(&gate);
            assert_eq!(gate.get("/crash").status(), 502, "{bind}");
            let second = told(&gate);
            assert_ne!(first["pid"], second["pid"], "{bind}");
            gate.wait_log(&["WARN", "pool app", "ended by itself", "exit code 3"]);
        }
    });
}

#[test]
fn an_application_that_cannot_start_is_503_and_its_last_words_are_logged() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "bind = \"port\"", "fail") else { return };
        let gate = recipe.start();
        let answer = gate.get("/");
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert!(answer.text().starts_with("503 pool-tripped\n"), "{answer:?}");
        gate.wait_log(&["WARN", "app", "ended by itself", "cannot find my database"]);
    });
}

#[test]
fn an_application_that_does_not_listen_in_time_is_ended_and_said_so() {
    each(|engine| {
        let pool = "[pool.app]\ncommand = [\"sleep\", \"1000\"]\nbind = \"port\"\n\
                    [pool.app.lifecycle]\nstartup_limit = \"500ms\"\n";
        let gate = Recipe::new(engine).site("/", "app").text(pool).start();
        assert_eq!(gate.get("/").status(), 503);
        gate.wait_log(&["app", "startup_limit", "refused", "Make it listen on 127.0.0.1"]);
    });
}

#[test]
fn a_program_that_is_not_there_is_named_with_what_to_check() {
    each(|engine| {
        let pool = "[pool.app]\ncommand = [\"./no-such-program\"]\n";
        let gate = Recipe::new(engine).site("/", "app").text(pool).start();
        assert_eq!(gate.get("/").status(), 503);
        gate.wait_log(&["could not be started: ./no-such-program:", "No such file", "it is there"]);
    });
}

#[test]
fn it_ends_with_the_gate_and_after_its_clients() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "bind = \"unix\"", "") else { return };
        let mut gate = recipe.start();
        let pid = u32::try_from(told(&gate)["pid"].as_u64().unwrap()).unwrap();
        gate.signal(Signal::SIGTERM);
        assert!(gate.wait_exit().success());
        assert!(tree::is_gone(pid));
    });
}

#[test]
fn a_listener_that_dies_finds_its_application_again() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "bind = \"unix\"", "") else { return };
        let gate = recipe.start();
        let before = told(&gate);
        let listener = gate.listener_pid();
        send(listener, Signal::SIGKILL);
        wait_until("it is dead", || tree::is_gone(listener));
        assert_eq!(told(&gate)["pid"], before["pid"], "the application had no part in it");
    });
}

#[test]
fn a_reload_with_another_command_starts_the_other() {
    each(|engine| {
        let Some(recipe) = recipe(engine, "bind = \"port\"", "") else { return };
        let gate = recipe.start();
        let before = told(&gate);
        gate.rewrite(&gate.recipe.toml().replace("green", "blue"));
        gate.signal(Signal::SIGHUP);
        wait_until("the new environment", || {
            let answer = gate.get("/");
            answer.status() == 200 && answer.text().contains("\"blue\"")
        });
        let old = u32::try_from(before["pid"].as_u64().unwrap()).unwrap();
        wait_until("the old one is gone", || tree::is_gone(old));
    });
}

#[test]
fn the_quickstart_serves_its_demonstration() {
    each(|engine| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/quickstart.toml");
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains("127.0.0.1:8080"));
        let recipe = Recipe::new(engine);
        let address = recipe.port.address();
        let quick = text.replace("127.0.0.1:8080", &address);
        let gate = Gate::launch_with(recipe, &quick);
        gate.wait_notice("READY=1");
        let page = gate.wait_served("/");
        assert!(page.field("content-type").unwrap().starts_with("text/html"), "{page:?}");
        assert!(page.text().contains("127.0.0.1"), "{}", page.text());
        assert_eq!(gate.client().post("/echo", b"hello").text(), "hello");
    });
}
