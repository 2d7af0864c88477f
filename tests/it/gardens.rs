//! Gardens of programs that people use, unmodified: Python's http.server, gunicorn, uvicorn, Node and
//! nginx. Each is started on demand, recycled under load, killed, frozen and idled out; each way to
//! be recycled or to fail is met by one of them.

use crate::harness::clock::wait_until;
use crate::harness::engine::{Engine, each};
use crate::harness::gate::Gate;
use crate::harness::port::Port;
use crate::harness::program;
use crate::harness::recipe::Recipe;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// An application as a pool's command: the lines of its pool.
type Application = fn(&str) -> Option<String>;

const ALL: [(&str, Application); 5] = [
    ("http.server", http_server),
    ("gunicorn", gunicorn),
    ("uvicorn", uvicorn),
    ("node", node),
    ("nginx", nginx),
];

fn http_server(test: &str) -> Option<String> {
    let python = program::python("http.server", test)?;
    Some(format!(
        "command = [{python:?}, \"-m\", \"http.server\", \"{{port}}\", \"--bind\", \"127.0.0.1\"]\n\
         working_directory = \"{{dir}}\"\n"
    ))
}

fn gunicorn(test: &str) -> Option<String> {
    let (python, scripts) = (program::python("gunicorn", test)?, program::script(""));
    Some(format!(
        "bind = \"unix\"\ncommand = [{python:?}, \"-m\", \"gunicorn\", \"--umask\", \"0\", \
         \"--bind\", \"unix:{{socket}}\", \"--chdir\", {scripts:?}, \"--worker-tmp-dir\", \
         \"/dev/shm\", \"wsgi:app\"]\nenvironment = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n"
    ))
}

fn uvicorn(test: &str) -> Option<String> {
    let (python, scripts) = (program::python("uvicorn", test)?, program::script(""));
    Some(format!(
        "command = [{python:?}, \"-m\", \"uvicorn\", \"--port\", \"{{port}}\", \"--app-dir\", \
         {scripts:?}, \"asgi:app\"]\nenvironment = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n"
    ))
}

fn node(test: &str) -> Option<String> {
    let (node, script) = (program::find("node", test)?, program::script("server.js"));
    Some(format!("command = [\"{}\", {script:?}]\n", node.display()))
}

/// One process, its port put into its configuration before it starts.
fn nginx(test: &str) -> Option<String> {
    let nginx = program::find("nginx", test)?;
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path $0/{kind}.$1;"))
        .concat();
    let text = format!(
        "daemon off; master_process off; {user} pid $0/pid.$1; error_log stderr; \
         events {{ worker_connections 128; }} http {{ access_log off; {temporary} \
         server {{ listen 127.0.0.1:$1; location / {{ return 200 hello; }} }} }}"
    );
    let start = format!(
        "echo \"{text}\" > $0/nginx.$1.conf; exec {} -p $0 -e stderr -c $0/nginx.$1.conf",
        nginx.display()
    );
    Some(format!("command = [\"sh\", \"-c\", '{start}', \"{{dir}}\", \"{{port}}\"]\n"))
}

/// A gate before a garden of the application; `keys` are further lines of its pool and tables.
fn before(engine: Engine, application: &str, keys: &str) -> Gate {
    Recipe::new(engine)
        .threads(2)
        .with_our_identity()
        .site("/", "app")
        .text(&format!("[pool.app]\n{application}{keys}"))
        .start()
}

fn workers(gate: &Gate) -> Vec<Value> {
    gate.ask(&["workers", "app"]).as_array().unwrap().clone()
}

fn serving(gate: &Gate) -> Vec<i32> {
    let all = workers(gate).into_iter().filter(|worker| worker["state"] == "serving");
    all.map(|worker| i32::try_from(worker["pid"].as_i64().unwrap()).unwrap()).collect()
}

fn pool(gate: &Gate) -> Value {
    gate.ask(&["pools"])[0].clone()
}

fn wait_serving(gate: &Gate, count: usize) {
    wait_until(&format!("{count} workers serve"), || serving(gate).len() == count);
}

/// Asks on four connections while `act` runs; every answer has to be 200.
fn under_load(gate: &Gate, act: impl FnOnce()) -> u64 {
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gate.client();
                while !is_over.load(Ordering::Relaxed) {
                    let answer = client.get("/");
                    assert_eq!(answer.status(), 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        act();
        is_over.store(true, Ordering::Relaxed);
    });
    answered.into_inner()
}

#[test]
fn each_application_lives_a_whole_life() {
    each(|engine| {
        for (name, application) in ALL {
            let Some(command) = application(name) else { continue };
            let keys = "workers = 3\nmin_workers = 2\n\
                        [pool.app.lifecycle]\nshutdown_limit = \"5s\"\n\
                        [pool.app.health]\nping_interval = \"1s\"\nping_timeout = \"1s\"\n";
            let gate = before(engine, &command, keys);
            assert_eq!(gate.wait_served("/").status(), 200, "{name}");
            wait_until("two workers", || serving(&gate).len() >= 2);

            // Recycled under load: another process in each slot, and nobody notices.
            let old = serving(&gate);
            let answered = under_load(&gate, || {
                gate.ask(&["recycle", "app"]);
                wait_until("all are replaced", || {
                    let new = serving(&gate);
                    new.len() >= old.len() && new.iter().all(|pid| !old.contains(pid))
                });
            });
            assert!(answered > 0, "{name}");

            // Killed: replaced, counted, and told why.
            let victim = serving(&gate)[0];
            kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
            wait_until("the killed one is replaced", || {
                let new = serving(&gate);
                new.len() >= 2 && !new.contains(&victim)
            });
            assert_eq!(pool(&gate)["failures"], 1, "{name}");

            // Frozen: it does not answer its pings, and is replaced.
            let victim = serving(&gate)[0];
            // With what it started, which may be what answers.
            kill(Pid::from_raw(-victim), Signal::SIGSTOP).unwrap();
            wait_until("the frozen one is replaced", || {
                let new = serving(&gate);
                new.len() >= 2 && !new.contains(&victim)
            });
            gate.wait_log(&["ping-timeout"]);
            assert_eq!(gate.get("/").status(), 200, "{name}");
        }
    });
}

#[test]
fn each_application_starts_on_demand_and_ends_when_idle() {
    each(|engine| {
        for (name, application) in ALL {
            let Some(command) = application(name) else { continue };
            let keys = "workers = 4\n[pool.app.lifecycle]\nidle_timeout = \"3s\"\n";
            let gate = before(engine, &command, keys);
            assert_eq!(pool(&gate)["workers_alive"], 0, "{name}");
            for _ in 0..2 {
                assert_eq!(gate.get("/").status(), 200, "{name}");
                assert!(!serving(&gate).is_empty(), "{name}");
                wait_until("all have idled out", || pool(&gate)["workers_alive"] == 0);
            }
            assert_eq!(pool(&gate)["failures"], 0, "{name}");
        }
    });
}

#[test]
fn each_trigger_recycles() {
    each(|engine| {
        let triggers = [
            ("every", "every = \"1s\"\n", ALL[0]),
            ("requests", "requests = 5\n", ALL[1]),
            ("private-memory", "private_memory = \"1MiB\"\n", ALL[2]),
            ("virtual-memory", "virtual_memory = \"8MiB\"\n", ALL[3]),
        ];
        for (word, key, (name, application)) in triggers {
            let Some(command) = application(name) else { continue };
            let keys = format!("workers = 2\nstart = \"always\"\n[pool.app.recycle]\n{key}");
            let gate = before(engine, &command, &keys);
            wait_serving(&gate, 2);
            let before = serving(&gate);
            under_load(&gate, || {
                wait_until("both are recycled", || {
                    serving(&gate).iter().all(|pid| !before.contains(pid))
                });
            });
            gate.wait_log(&["recycling", word]);
        }
    });
}

#[test]
fn a_memory_share_recycles_a_worker_that_takes_too_much() {
    each(|engine| {
        let Some(python) = program::python("http.server", "memory_percent") else { return };
        // One percent of what this machine has, and somewhat more.
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total = memory.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
        let program = format!(
            "import http.server, os; hog = b'x' * {}; http.server.ThreadingHTTPServer(('127.0.0.1', \
             int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler).serve_forever()",
            total / 80
        );
        let command = format!("command = [{python:?}, \"-c\", {program:?}]\n");
        let keys = "start = \"always\"\n[pool.app.recycle]\nmemory_percent = 1\n";
        let gate = before(engine, &command, keys);
        gate.wait_log(&["recycling", "memory-percent"]);
    });
}

#[test]
fn what_refuses_to_start_says_why_and_trips_its_pool_alone() {
    each(|engine| {
        let name = "refuses_to_start";
        let Some(python) = program::python("gunicorn", name) else { return };
        let Some(good) = http_server(name) else { return };
        let gate = Recipe::new(engine)
            .with_our_identity()
            .site("/", "good")
            .text("[[site]]\nname = \"bad\"\nhosts = [\"bad.example\"]\n[[site.route]]\npath = \"/\"\npool = \"bad\"\n")
            .text(&format!("[pool.good]\n{good}"))
            .text(&format!(
                "[pool.bad]\nbind = \"unix\"\nstart = \"always\"\ncommand = [{python:?}, \"-m\", \"gunicorn\", \
                 \"--bind\", \"unix:{{socket}}\", \"no_such_module:app\"]\n\
                 [pool.bad.rapid_fail]\nfailures = 2\n"
            ))
            .start();
        wait_until("the bad pool trips", || {
            gate.ask(&["pools"])
                .as_array()
                .unwrap()
                .iter()
                .any(|pool| pool["name"] == "bad" && pool["state"] == "tripped")
        });
        let pools = gate.ask(&["pools"]);
        let bad = pools.as_array().unwrap().iter().find(|pool| pool["name"] == "bad").unwrap();
        let words = bad["last_words"].to_string();
        assert!(words.contains("no_such_module"), "{bad}");
        assert_eq!(gate.get("/").status(), 200);
    });
}

#[test]
fn what_listens_elsewhere_is_told_where() {
    each(|engine| {
        let name = "listens_elsewhere";
        let Some(python) = program::python("uvicorn", name) else { return };
        let (scripts, wrong) = (program::script(""), Port::claim());
        let port = wrong.address().rsplit(':').next().unwrap().to_owned();
        let command = format!(
            "command = [{python:?}, \"-m\", \"uvicorn\", \"--port\", \"{port}\", \"--app-dir\", \
             {scripts:?}, \"asgi:app\"]\nstart = \"always\"\n\
             environment = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
             [pool.app.lifecycle]\nstartup_limit = \"3s\"\n"
        );
        let gate = before(engine, &command, "");
        gate.wait_log(&["startup-timeout", &wrong.address()]);
        assert!(pool(&gate)["why"].as_str().unwrap().contains(&wrong.address()));
    });
}

#[test]
fn a_pool_at_fault_says_why_and_leaves_the_others() {
    each(|engine| {
        let Some(good) = http_server("pool_at_fault") else { return };
        let gate = Recipe::new(engine)
            .with_our_identity()
            .site("/", "good")
            .text(
                "[[site.route]]\npath = \"/bad\"\npool = \"bad\"\n\
                 [pool.bad]\ncommand = [\"true\"]\nworkers = 1\nmin_workers = 2",
            )
            .text(&format!("[pool.good]\n{good}"))
            .start();
        assert_eq!(gate.get("/").status(), 200);
        let answer = gate.get("/bad/thing");
        assert_eq!(answer.status(), 503);
        assert!(answer.text().contains("pool-invalid"), "{answer:?}");
        let pools = gate.ask(&["pools"]);
        let bad = pools.as_array().unwrap().iter().find(|pool| pool["name"] == "bad").unwrap();
        assert_eq!(bad["state"], "invalid");
        assert!(bad["why"].as_str().unwrap().contains("min_workers"), "{bad}");
        gate.wait_log(&["min_workers"]);
    });
}
