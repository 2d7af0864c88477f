//! Configurations as text: what they mean, what is wrong with them, and what a reload makes of two.

use super::*;
use crate::base::address::Address;
use crate::base::id::PoolIndex;
use crate::plan::diff::{Change, Process, diff};
use crate::plan::keys::{Absent, Form, KEYS, Key};
use crate::plan::{
    AccessLog, EngineChoice, Host, Level, Limits, Listener, Log, LogFormat, Route, Server, Site,
    UnknownHost, Upstream, units,
};
use core::time::Duration;
use proptest::prelude::*;
use std::collections::BTreeSet;

mod faults;
mod garden;
mod iis;
mod keys;

const FULL: &str = include_str!("../../../config/full.toml");

/// The least that holds.
const LEAST: &str = r#"[[listen]]
address = "127.0.0.1:80"
[[site]]
name = "all"
[[site.route]]
path = "/"
pool = "app"
[pool.app]
servers = ["127.0.0.1:3000"]
"#;

fn plan(text: &str) -> Plan {
    parse(text, "test.toml").unwrap_or_else(|report| panic!("{report}\n{text}"))
}

fn complaints(text: &str) -> Vec<Complaint> {
    parse(text, "test.toml").expect_err(text).complaints
}

#[test]
fn the_shipped_files_hold() {
    assert!(matches!(&plan(QUICKSTART).pools[0].source, Source::Garden(garden)
        if garden.command.argv == ["{self}", "demo"]));
    let full = plan(FULL);
    assert_eq!((full.listeners.len(), full.sites.len(), full.pools.len()), (2, 2, 2));
    assert_eq!(full.sites[1].listeners, [1]);
    assert_eq!(full.sites[0].routes[1], Route { path: "/api".into(), pool: PoolIndex(0) });
}

#[test]
fn what_is_not_written_has_the_documented_default() {
    let seconds = Duration::from_secs;
    let expected = Server {
        engine: EngineChoice::Auto,
        threads: 0,
        user: None,
        connections_max: 100_000,
        shutdown_limit: seconds(30),
        control: None,
        workers_max: 1000,
        unknown_host: UnknownHost::NotFound,
        limits: Limits {
            head_timeout: seconds(30),
            body_timeout: seconds(60),
            idle_timeout: seconds(120),
            send_rate_min: 240,
            head_size: 32 * 1024,
            header_count: 100,
            target_size: 8 * 1024,
            body_size: u64::MAX,
        },
        log: Log { access: AccessLog::Off, format: LogFormat::Json, level: Level::Info },
    };
    let plan = plan(LEAST);
    assert_eq!(plan.server, expected);
    let address = |text: &str| Address::Tcp(text.parse().unwrap());
    assert_eq!(plan.listeners, [Listener { address: address("127.0.0.1:80"), backlog: 4096 }]);
    let routes = vec![Route { path: "/".into(), pool: PoolIndex(0) }];
    let site = Site { name: "all".into(), hosts: vec![Host::Any], listeners: vec![0], routes };
    assert_eq!(plan.sites, [site]);
    let upstream = Upstream {
        connect_timeout: seconds(5),
        response_timeout: seconds(60),
        idle_connections: 64,
        idle_timeout: seconds(4),
    };
    let source = Source::Servers(vec![address("127.0.0.1:3000")]);
    let pool = crate::plan::Pool { name: "app".into(), source, upstream, check: None };
    assert_eq!(plan.pools, [pool]);
}

#[test]
fn words_mean_their_variants() {
    let server = |line: &str| plan(&format!("[server]\n{line}\n{LEAST}")).server;
    let log = |line: &str| plan(&format!("[server.log]\n{line}\n{LEAST}")).server.log;
    assert_eq!(server("engine = \"uring\"").engine, EngineChoice::Uring);
    assert_eq!(server("engine = \"epoll\"").engine, EngineChoice::Epoll);
    assert_eq!(server("unknown_host = \"misdirected\"").unknown_host, UnknownHost::Misdirected);
    assert_eq!(server("user = \"www-data\"").user.as_deref(), Some("www-data"));
    assert_eq!(server("max_connections = 1_000").connections_max, 1000);
    assert_eq!(server("threads = 0x10").threads, 16);
    assert_eq!(log("format = \"combined\"").format, LogFormat::Combined);
    assert_eq!(log("access = \"stdout\"").access, AccessLog::Stdout);
    assert_eq!(log("access = \"/a.log\"").access, AccessLog::File("/a.log".into()));
    for (word, level) in [("error", Level::Error), ("warn", Level::Warn), ("debug", Level::Debug)] {
        assert_eq!(log(&format!("level = \"{word}\"")).level, level);
    }
    for (bind, variant) in [("port", "Port"), ("unix", "Unix"), ("fd", "Fd")] {
        let pool = format!("command = [\"app\"]\nbind = \"{bind}\"");
        let plan = plan(&LEAST.replace("servers = [\"127.0.0.1:3000\"]", &pool));
        let Source::Garden(garden) = &plan.pools[0].source else { panic!("{bind}") };
        assert_eq!(format!("{:?}", garden.command.bind), variant);
    }
}

#[test]
fn pools_are_sorted_and_sites_find_them() {
    let text = LEAST.replace("[pool.app]", "[pool.zoo]\nservers = [\"[::1]:9\"]\n[pool.app]")
        + "[pool.aaa]\nservers = [\"unix:/a\"]\n";
    let plan = plan(&text);
    let names: Vec<_> = plan.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["aaa", "app", "zoo"]);
    assert_eq!(plan.sites[0].routes[0].pool, PoolIndex(1));
}

#[test]
fn one_host_may_have_two_sites_at_two_addresses() {
    let second = "[[listen]]\naddress = \"[::1]:81\"\n[[site]]\nname = \"b\"\n\
                  listen = [\"[::1]:81\"]\n[[site.route]]\npath = \"/\"\npool = \"app\"\n";
    let apart = LEAST.replace("name = \"all\"", "name = \"all\"\nlisten = [\"127.0.0.1:80\"]");
    assert_eq!(plan(&(apart + second)).sites[1].listeners, [1]);
    let both = complaints(&(LEAST.to_owned() + second));
    assert!(both[0].fault.what.contains("served by site \"all\" already"), "{both:?}");
    // Whoever came first is named to all who come later.
    let third = "[[site]]\nname = \"c\"\n[[site.route]]\npath = \"/\"\npool = \"app\"\n";
    let fourth = third.replace("\"c\"", "\"d\"");
    let found = complaints(&(LEAST.to_owned() + third + &fourth));
    assert!(found.iter().all(|it| it.fault.what.contains("\"all\" already")), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn directories_start_at_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    let load_with = |written: &str| {
        let pool = format!("command = [\"app\"]\nworking_directory = \"{written}\"");
        std::fs::write(&path, LEAST.replace("servers = [\"127.0.0.1:3000\"]", &pool)).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.text, std::fs::read_to_string(&path).unwrap());
        let Source::Garden(garden) = &loaded.plan.pools[0].source else { panic!("{written}") };
        PathBuf::from(garden.command.working_directory.clone().unwrap())
    };
    assert_eq!(load_with("."), directory.path());
    assert_eq!(load_with("app/x"), directory.path().join("app/x"));
    assert_eq!(load_with("/srv"), Path::new("/srv"));
}

#[test]
fn files_that_cannot_be_read_are_told_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let told = |path: &Path| load(path).unwrap_err().to_string();
    assert!(told(&path("none.toml")).contains("no such file. check"));
    assert!(told(directory.path()).contains("not a regular file. name"));
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(told(&path("pipe")).contains("not a regular file"));
    std::fs::File::create(path("large")).unwrap().set_len(CONFIG_SIZE_MAX + 1).unwrap();
    assert!(told(&path("large")).contains("more than 8388608 bytes"));
    std::fs::write(path("latin"), b"# fine\n# gr\xf6\xdfe\n").unwrap();
    let report = load(&path("latin")).unwrap_err();
    assert_eq!((report.complaints[0].line, report.complaints[0].column), (2, 5));
    assert!(report.to_string().contains("latin:2:5: this byte is not UTF-8. save"), "{report}");
}

#[test]
fn a_reload_is_made_of_the_least_steps() {
    let command = |line: &str| {
        let pool = format!("command = [\"app\"]\n{line}");
        LEAST.replace("servers = [\"127.0.0.1:3000\"]", &pool)
    };
    let steps = |old: &str, new: &str| diff(&plan(old), &plan(new));
    assert_eq!(steps(FULL, FULL), []);
    let alter = |process| Change::Alter { old: PoolIndex(0), new: PoolIndex(0), process };
    for (old, new, expected) in [
        (
            LEAST.into(),
            format!("[server]\nthreads = 2\n{LEAST}"),
            Change::Postponed { key: "server.threads" },
        ),
        (
            LEAST.into(),
            format!("[server]\nuser = \"x\"\n{LEAST}"),
            Change::Postponed { key: "server.user" },
        ),
        (
            LEAST.into(),
            format!("[server]\nengine = \"epoll\"\n{LEAST}"),
            Change::Postponed { key: "server.engine" },
        ),
        (LEAST.into(), format!("[server.limits]\nhead_size = \"8KiB\"\n{LEAST}"), Change::Limits),
        (LEAST.into(), format!("[server]\nmax_connections = 5\n{LEAST}"), Change::Limits),
        (LEAST.into(), format!("[server]\nmax_workers = 5\n{LEAST}"), Change::Limits),
        (
            LEAST.into(),
            format!("[server]\ncontrol = \"/a/b\"\n{LEAST}"),
            Change::Postponed { key: "server.control" },
        ),
        (command(""), command("workers = 2\nrecycle = { every = \"off\" }"), alter(Process::Keep)),
        (LEAST.into(), format!("[server.log]\naccess = \"stdout\"\n{LEAST}"), Change::Log),
        (LEAST.into(), LEAST.replace("\"/\"", "\"/a\""), Change::Sites),
        (LEAST.into(), LEAST.replace("\"all\"", "\"all\"\nhosts = [\"a\"]"), Change::Sites),
        (
            LEAST.into(),
            LEAST.replace(":80\"", ":80\"\nbacklog = 1"),
            Change::Relisten { old: 0, new: 0 },
        ),
        (LEAST.into(), LEAST.replace(":3000", ":3001"), alter(Process::Keep)),
        (LEAST.into(), command(""), alter(Process::Start)),
        (command(""), LEAST.into(), alter(Process::Stop)),
        (command(""), command("bind = \"fd\""), alter(Process::Recycle)),
        (command(""), command("environment = { A = \"1\" }"), alter(Process::Recycle)),
        (command(""), command("working_directory = \"/\""), alter(Process::Recycle)),
        (command(""), command("lifecycle = { shutdown_limit = \"1s\" }"), alter(Process::Keep)),
        (command(""), command("ready = { path = \"/\" }"), alter(Process::Keep)),
    ] {
        assert_eq!(steps(&old, &new), [expected], "{new}");
    }
}

#[test]
fn a_reload_opens_before_it_shuts_and_looks_places_up_in_their_own_plan() {
    let more = "[pool.aaa]\nservers = [\"[::1]:9\"]\n";
    let old = plan(&(LEAST.to_owned() + more));
    let new = plan(&LEAST.replace(":80\"", ":81\"").replace("app", "zoo"));
    let changes = diff(&old, &new);
    let told: Vec<String> = changes.iter().map(|change| change.tell(&old, &new)).collect();
    assert_eq!(
        told,
        [
            "listens on 127.0.0.1:81",
            "adds pool zoo",
            "changes sites or routes",
            "listens no more on 127.0.0.1:80",
            "removes pool aaa",
            "removes pool app",
        ]
    );
    // The same pool at another place is not another pool.
    assert_eq!(diff(&old, &plan(LEAST)), [Change::Remove { old: PoolIndex(0) }]);
}
