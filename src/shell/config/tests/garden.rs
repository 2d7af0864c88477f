//! Gardens as text, and pools that alone are at fault.

use super::*;
use crate::plan::garden::{Affinity, Dispatch, Garden, Reject, Start, Trigger};
use crate::plan::{Bind, Command};

/// [`LEAST`] with these lines for its pool.
fn with_pool(lines: &str) -> String {
    LEAST.replace("servers = [\"127.0.0.1:3000\"]", lines)
}

fn garden(lines: &str) -> Garden {
    let plan = plan(&with_pool(&format!("command = [\"app\"]\n{lines}")));
    let Source::Garden(garden) = &plan.pools[0].source else { panic!("{lines}") };
    Garden::clone(garden)
}

fn bare() -> Garden {
    Garden::of(Command {
        argv: vec!["app".into()],
        bind: Bind::Port,
        working_directory: None,
        environment: Vec::new(),
        ready: None,
    })
}

#[test]
fn a_garden_of_defaults_is_what_an_unadorned_command_gives() {
    assert_eq!(garden(""), bare());
}

#[test]
fn each_setting_lands_where_it_belongs() {
    let full = plan(FULL);
    let Source::Garden(garden) = &full.pools[1].source else { panic!("shop") };
    let mut expected = Garden::of(garden.command.clone());
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    (expected.workers, expected.workers_min, expected.slots) = (4, 1, 16);
    expected.warm_up = words(&["/", "/catalogue"]);
    expected.affinity = Some(Affinity::Cookie("lychgate".into()));
    expected.lifecycle.orphan = true;
    expected.lifecycle.orphan_command =
        words(&["logger", "pool {pool}: {pid} is an orphan: {reason}"]);
    expected.health.ping_path = Some("/healthz".into());
    expected.recycle.at = vec![180, 930];
    expected.recycle.private_memory = 512 << 20;
    expected.rapid_fail.command =
        words(&["logger", "pool {pool} was stopped: its workers keep failing"]);
    assert_eq!(**garden, expected);
}

#[test]
fn every_other_setting_departs_from_its_default_alone() {
    type Departure = (&'static str, fn(&mut Garden));
    let departures: [Departure; 26] = [
        ("start = \"always\"", |garden| garden.start = Start::Always),
        ("autostart = false", |garden| garden.autostart = false),
        ("workers = 0", |garden| garden.workers = 0),
        ("dispatch = \"least-busy\"", |garden| garden.dispatch = Dispatch::LeastBusy),
        ("affinity = { by = \"header\", name = \"X-Id\" }", |garden| {
            garden.affinity = Some(Affinity::Header("x-id".into()));
        }),
        ("affinity.by = \"client-ip\"", |garden| garden.affinity = Some(Affinity::ClientIp)),
        ("affinity = {}", |garden| garden.affinity = Some(Affinity::Cookie("lychgate".into()))),
        // A default gives way to what is written.
        ("queue.limit = 5", |garden| (garden.queue.limit, garden.queue.restart_limit) = (5, 5)),
        ("queue.restart_limit = 0", |garden| garden.queue.restart_limit = 0),
        ("queue.timeout = \"1s\"", |garden| garden.queue.timeout = Duration::from_secs(1)),
        ("queue.disconnect_check = \"off\"", |garden| garden.queue.disconnect_check = None),
        ("queue.reject = \"reset\"", |garden| garden.queue.reject = Reject::Reset),
        ("queue.retry_after = \"0s\"", |garden| garden.queue.retry_after = Duration::ZERO),
        ("queue.error_page = \"a\"", |garden| garden.queue.error_page = Some("a".into())),
        ("lifecycle.idle_timeout = \"off\"", |garden| garden.lifecycle.idle_timeout = None),
        ("lifecycle = { orphan = true, max_orphans = 9 }", |garden| {
            (garden.lifecycle.orphan, garden.lifecycle.orphans_max) = (true, 9);
        }),
        ("health.ping_interval = \"off\"", |garden| garden.health.ping_interval = None),
        ("health.deadlock_interval = \"off\"", |garden| garden.health.deadlock_interval = None),
        ("recycle.every = \"off\"", |garden| garden.recycle.every = None),
        ("recycle.jitter = \"0%\"", |garden| garden.recycle.jitter = 0),
        ("recycle.requests = 4294967295", |garden| garden.recycle.requests = 4_294_967_295),
        ("recycle.virtual_memory = \"1GiB\"", |garden| garden.recycle.virtual_memory = 1 << 30),
        ("recycle.overlap = false", |garden| garden.recycle.overlap = false),
        ("recycle.on_config_change = false", |garden| garden.recycle.on_config_change = false),
        ("recycle.log = [\"config\", \"at\", \"at\"]", |garden| {
            garden.recycle.log = vec![Trigger::At, Trigger::Config];
        }),
        ("rapid_fail.failures = 0", |garden| garden.rapid_fail.failures = 0),
    ];
    for (line, depart) in departures {
        let mut expected = bare();
        depart(&mut expected);
        assert_eq!(garden(line), expected, "{line}");
    }
    // Sorted, whatever the order.
    assert_eq!(garden("recycle.at = [\"23:59\", \"00:00\"]").recycle.at, [0, 1439]);
}

const FAULTY: &str = "[pool.bad]\ncommand = [\"x\"]\nworkers = 999\ncolour = 1\n";

#[test]
fn a_pool_alone_at_fault_leaves_the_others_alone() {
    let routed = format!("{LEAST}{FAULTY}").replace("pool = \"app\"", "pool = \"bad\"");
    let (plan, report) = salvage(&routed, "a").unwrap();
    let report = report.unwrap();
    assert_eq!(report.complaints.len(), 2, "{report}");
    let names: Vec<_> = plan.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["app", "bad"]);
    assert!(matches!(plan.pools[0].source, Source::Servers(_)));
    let Source::Invalid(why) = &plan.pools[1].source else { panic!("{plan:?}") };
    assert!(why.starts_with("pool.bad.workers: 999 is out of range. write 0 at least"), "{why}");
    assert!(why.ends_with("(2 faults in all)"), "{why}");
    // The route leads to it all the same, and whoever asks for all of it is refused.
    assert_eq!(plan.sites[0].routes[0].pool, PoolIndex(1));
    assert_eq!(parse(&routed, "a").unwrap_err(), report);
}

#[test]
fn a_fault_beyond_a_pool_refuses_the_whole_file() {
    for (line, what) in [
        ("[server]\nthreads = -1\n", "out of range"),
        ("[pool.\"a b\"]\nservers = [\"[::1]:1\"]\n", "not a name"),
        ("[pool.c]\nservers = [\n", ""),
        ("[pol.c]\n", "unknown key"),
        ("[pool]\nx = 5\n", "expected a table"),
    ] {
        let report = salvage(&format!("{line}{LEAST}{FAULTY}"), "a").unwrap_err();
        assert!(report.complaints.iter().any(|it| it.fault.what.contains(what)), "{report}");
    }
}

#[test]
fn a_reload_may_not_take_a_sound_pool_away() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    let loaded = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load(&path).unwrap()
    };
    let faulty = loaded(&format!("{LEAST}{FAULTY}"));
    let sound = loaded(&format!("{LEAST}[pool.bad]\ncommand = [\"x\"]\n"));
    assert!(faulty.complaint.is_some() && sound.complaint.is_none());
    let refused = faulty.may_replace(&sound.plan).unwrap_err();
    assert!(refused.to_string().contains("a.toml:12:11: pool.bad.workers: "), "{refused}");
    assert_eq!(faulty.may_replace(&faulty.plan), Ok(()));
    assert_eq!(faulty.may_replace(&plan(LEAST)), Ok(()));
    assert_eq!(sound.may_replace(&faulty.plan), Ok(()));
    let alter = Change::Alter { old: PoolIndex(1), new: PoolIndex(1), process: Process::Start };
    assert_eq!(diff(&faulty.plan, &sound.plan), [alter]);
}

#[test]
fn error_pages_are_read_with_care() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let inside = |name: &str| directory.path().canonicalize().unwrap().join(name);
    let path = inside("a.toml");
    let load_with = |page: &str| {
        let lines = format!("command = [\"x\"]\n[pool.app.queue]\nerror_page = \"{page}\"");
        std::fs::write(&path, with_pool(&lines)).unwrap();
        load(&path).unwrap()
    };
    std::fs::create_dir(inside("pages")).unwrap();
    std::fs::write(inside("pages/503.html"), "sorry").unwrap();
    symlink(inside("pages"), inside("link")).unwrap();
    symlink(inside("pages/503.html"), inside("last")).unwrap();
    std::fs::write(inside("large"), vec![b'x'; 64 * 1024 + 1]).unwrap();

    let good = load_with("pages/503.html");
    assert_eq!((&*good.pages["app"], &good.complaint), (&b"sorry"[..], &None));
    let Source::Garden(garden) = &good.plan.pools[0].source else { panic!("a garden") };
    assert_eq!(garden.queue.error_page.as_deref(), inside("pages/503.html").to_str());
    for (page, what) in [
        ("link/503.html", "a symbolic link is in its path. write the path"),
        ("last", "a symbolic link is in its path"),
        ("none", "there is no such file. check the path"),
        ("pages", "not a regular file. name one"),
        ("large", "more than 65536 bytes. name a smaller file"),
    ] {
        let bad = load_with(page);
        let told = bad.complaint.as_ref().unwrap().to_string();
        assert!(told.contains("a.toml:11:14: pool.app.queue.error_page: reading /"), "{told}");
        assert!(told.contains(what), "{told}");
        assert!(bad.pages.is_empty());
        // It runs with the built-in page, but does not take the place of one that has its own.
        assert_eq!(bad.plan.pools.len(), 1);
        assert!(bad.may_replace(&good.plan).is_err());
    }
}
