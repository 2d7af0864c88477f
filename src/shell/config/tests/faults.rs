//! Every kind of fault: its line, its path, what it says and what it advises.

use super::*;

/// In config/full.toml: what is replaced, with what (its last line is at fault), the path, and
/// parts of what is said and advised.
#[rustfmt::skip] // A row a fault.
const FAULTS: &[[&str; 5]] = &[
    // Names of keys.
    ["threads = 0", "treads = 0", "server.treads", "unknown key", "did you mean threads?"],
    ["threads = 0", "head_size = \"8KiB\"", "server.head_size", "unknown key", "server.limits.head_size"],
    ["threads = 0", "colour = 1", "server.colour", "unknown key", "known here: engine, threads"],
    ["[server.log]", "[pol.x]\n[server.log]", "pol", "unknown key", "did you mean pool?"],
    ["backlog = 4096", "tls = { certificate = \"a\" }", "listen.tls", "not supported yet", "leave it out"],
    ["transport = \"http\"", "transport = \"handoff\"", "pool.shop.transport", "not supported yet", "\"http\""],
    // Forms.
    ["threads = 0", "threads = \"4\"", "server.threads", "expected an integer, found a string", "without quotes"],
    ["threads = 0", "threads = 1.5", "server.threads", "found a float", "without quotes"],
    ["engine = \"auto\"", "engine = true", "server.engine", "found a boolean", "\"auto\", \"uring\" or \"epoll\""],
    ["user = \"lychgate\"", "user = 5", "server.user", "expected a string, found an integer", "\"5\""],
    ["name = \"shop\"", "name = 1979-05-27", "site.name", "found a date", "between quotes"],
    ["listen = [\"0.0.0.0:8080\"]", "listen = \"0.0.0.0:8080\"", "site.listen", "expected a list", "[\"0.0.0.0:8080\"]"],
    ["environment = { PYTHONUNBUFFERED = \"1\" }", "environment = { A = 1 }", "pool.shop.environment.A", "expected a string", "\"1\""],
    ["environment = { PYTHONUNBUFFERED = \"1\" }", "environment = [\"A=1\"]", "pool.shop.environment", "expected a table", "environment = {"],
    ["[pool.api.upstream]", "upstream = 5\n[pool.c]\nservers=[\"[::1]:1\"]\n[pool.c.upstream]", "pool.api.upstream", "expected a table", "[pool.api.upstream]"],
    // Words.
    ["engine = \"auto\"", "engine = \"urng\"", "server.engine", "\"urng\" is not a choice", "did you mean \"uring\"?"],
    ["format = \"combined\"", "format = \"w3c\"", "server.log.format", "not a choice", "\"json\" or \"combined\""],
    ["bind = \"port\" ", "bind = \"pipe\" ", "pool.shop.bind", "not a choice", "\"port\", \"unix\" or \"fd\""],
    // Units and bounds.
    ["head_timeout = \"30s\"", "head_timeout = 30", "server.limits.head_timeout", "30 has no unit", "\"30s\""],
    ["head_timeout = \"30s\"", "head_timeout = \"30\"", "server.limits.head_timeout", "\"30\" has no unit", "\"30s\""],
    ["head_timeout = \"30s\"", "head_timeout = \"soon\"", "server.limits.head_timeout", "not a duration", "such as"],
    ["head_timeout = \"30s\"", "head_timeout = \"1ms\"", "server.limits.head_timeout", "1ms is out of range", "10ms at least"],
    ["head_timeout = \"30s\"", "head_timeout = [\"1s\"]", "server.limits.head_timeout", "expected a duration", "such as"],
    ["head_size = \"32KiB\"", "head_size = 32768", "server.limits.head_size", "has no unit", "\"32KiB\""],
    ["head_size = \"32KiB\"", "head_size = \"32KB\"", "server.limits.head_size", "not a size", "\"32KiB\""],
    ["head_size = \"32KiB\"", "head_size = \"1MiB\"", "server.limits.head_size", "out of range", "256KiB at most"],
    ["header_count = 100", "header_count = 99999999999999999999", "server.limits.header_count", "out of range", "256 at most"],
    ["threads = 0", "threads = -1", "server.threads", "-1 is out of range", "0 at least"],
    ["target_size = \"8KiB\"", "target_size = \"64KiB\"", "server.limits.target_size", "more than head_size (32KiB)", "lower target_size"],
    ["interval = \"5s\"", "interval = \"500ms\"", "pool.api.check.timeout", "more than interval", "lower timeout"],
    // Single words.
    ["user = \"lychgate\"", "user = \"a b\"", "server.user", "not the name of a user", "lychgate"],
    ["\"/var/log/lychgate/access.log\"", "\"access.log\"", "server.log.access", "absolute path", "begins with /"],
    ["address = \"unix:/run/lychgate/http.sock\"", "address = \"localhost:80\"", "listen.address", "not an address", "127.0.0.1:80"],
    ["address = \"unix:/run/lychgate/http.sock\"", "address = \"unix:a\"", "listen.address", "absolute path of a socket", "begins with /"],
    ["backlog = 4096", "backlog = 4096\n[[listen]]\naddress = \"0.0.0.0:8080\"", "listen.address", "listened on already", "once"],
    ["hosts = [\"shop.example\", ", "hosts = [\"shop.example:80\", ", "site.hosts", "not a host name", "\"shop.example\""],
    ["hosts = [\"shop.example\", ", "hosts = [\"*.shop.example\", ", "site.hosts", "host *.shop.example is served by site \"shop\" already", "one site"],
    ["hosts = [\"shop.example\", \"*.shop.example\"]", "hosts = []", "site.hosts", "is empty", "every host"],
    ["name = \"inside\"", "name = \"shop\"", "site.name", "a site shop already", "its own name"],
    ["name = \"inside\"", "name = \"in side\"", "site.name", "not a name", "letters, digits"],
    ["path = \"/api\"", "path = \"/api/\"", "site.route.path", "not in normal form", "\"/api\""],
    ["path = \"/api\"", "path = \"api\"", "site.route.path", "not a path", "begins with /"],
    ["path = \"/api\"", "path = \"/\"", "site.route.path", "routes / already", "once"],
    ["command = [\"python3\", ", "command = [\"\", ", "pool.shop.command", "program is empty", "path"],
    ["command = [\"python3\", ", "command = [\"a\\u0000\", ", "pool.shop.command", "zero byte", "\\u0000"],
    ["\"{port}\", ", "\"{socket}\", ", "pool.shop.command", "{socket} has no value", "bind = \"unix\""],
    ["working_directory = \".\"", "working_directory = \"\"", "pool.shop.working_directory", "is empty", "\".\""],
    ["PYTHONUNBUFFERED = ", "PORT = ", "pool.shop.environment.PORT", "sets this variable itself", "leave it out"],
    ["PYTHONUNBUFFERED = ", "LYCHGATE_POOL = ", "pool.shop.environment.LYCHGATE_POOL", "itself", "leave it out"],
    ["PYTHONUNBUFFERED = ", "\"A=B\" = ", "pool.shop.environment.\"A=B\"", "not the name of a variable", "without ="],
    ["ready = { path = \"/\"", "ready = { path = \"a b\"", "pool.shop.ready.path", "cannot be requested", "/healthz"],
    ["servers = [\"127.0.0.1:3000\", ", "servers = [\"app:3000\", ", "pool.api.servers", "not an address", "IP address"],
    ["servers = [\"127.0.0.1:3000\", ", "servers = [\"unix:/run/api.sock\", ", "pool.api.servers", "a server already", "once"],
    ["[pool.api.upstream]", "[pool.\"a b\"]\nservers = [\"[::1]:1\"]\n[pool.api.upstream]", "pool.\"a b\"", "not a name", "letters"],
    // Gardens.
    ["control = \"/run/lychgate/control.sock\"", "control = \"control.sock\"", "server.control", "not where a control socket can be", "absolute path"],
    ["control = \"/run/lychgate/control.sock\"", "control = \"/control.sock\"", "server.control", "not where a control socket can be", "alone"],
    ["autostart = true", "autostart = \"yes\"", "pool.shop.autostart", "expected a boolean, found a string", "true or false"],
    ["min_workers = 1", "min_workers = 5", "pool.shop.min_workers", "min_workers (5) is more than workers", "write 4 at most"],
    ["warm_up = [\"/\", \"/catalogue\"]", "warm_up = [\"catalogue\"]", "pool.shop.warm_up", "cannot be requested", "begins with /"],
    ["warm_up = [\"/\", \"/catalogue\"]", "warm_up = \"/\"", "pool.shop.warm_up", "expected a list of strings", "[\"/\"]"],
    ["by = \"cookie\"", "by = \"client-ip\"", "pool.shop.affinity.name", "means nothing with by = \"client-ip\"", "leave name out"],
    ["by = \"cookie\", name = \"lychgate\"", "by = \"header\"", "pool.shop.affinity.name", "name is missing", "add name"],
    ["name = \"lychgate\"", "name = \"a b\"", "pool.shop.affinity.name", "not the name of a cookie", "letters"],
    ["restart_limit = 10 ", "restart_limit = 1001 ", "pool.shop.queue.restart_limit", "restart_limit (1001) is more than limit (1000)", "raise limit"],
    ["disconnect_check = \"5s\"", "disconnect_check = \"never\"", "pool.shop.queue.disconnect_check", "not a duration", "\"off\""],
    ["disconnect_check = \"5s\"", "disconnect_check = \"1ms\"", "pool.shop.queue.disconnect_check", "1ms is out of range", "10ms at least"],
    ["timeout = \"120s\"\ndisconnect", "timeout = \"off\"\ndisconnect", "pool.shop.queue.timeout", "not a duration", "such as"],
    ["retry_after = \"5s\"", "retry_after = \"1500ms\"", "pool.shop.queue.retry_after", "whole seconds", "\"2s\""],
    ["reject = \"503\"                   # \"503\" | \"reset\"\nretry_after = \"5s\"", "reject = \"reset\"\nretry_after = \"6s\"", "pool.shop.queue.retry_after", "means nothing with reject", "leave retry_after out"],
    ["orphan = true                    # release a failed worker instead of killing it\norphan_command = [\"logger\", ", "orphan = false                    # release a failed worker instead of killing it\norphan_command = [\"logger\", ", "pool.shop.lifecycle.orphan_command", "means nothing without orphan = true", "leave"],
    ["{pid} is an orphan", "{port} is an orphan", "pool.shop.lifecycle.orphan_command", "{port} has no value here", "{pid}, {reason}, {pool}"],
    ["[\"logger\", \"pool {pool} was", "[\"\", \"pool {pool} was", "pool.shop.rapid_fail.command", "the program is empty", "path"],
    ["pool {pool} was stopped", "{pid} of pool {pool} was stopped", "pool.shop.rapid_fail.command", "{pid} has no value here", "{pool}"],
    ["failures = 5                     # 0 = off\nwindow = \"5m\"\ncommand = [\"logger\", ", "failures = 0                     # 0 = off\nwindow = \"5m\"\ncommand = [\"logger\", ", "pool.shop.rapid_fail.command", "means nothing with failures = 0", "leave"],
    ["ping_interval = \"30s\"            # \"off\"\nping_timeout = \"90s\"\nping_path = \"/healthz\"", "ping_interval = \"off\"            # \"off\"\nping_timeout = \"90s\"\nping_path = \"/healthz\"", "pool.shop.health.ping_path", "means nothing with ping_interval", "leave"],
    ["deadlock_interval = \"3m\"         # requests wait and nothing comes; \"off\"\ndeadlock_pause = \"9m\"", "deadlock_interval = \"off\"\ndeadlock_pause = \"8m\"", "pool.shop.health.deadlock_pause", "means nothing with deadlock_interval", "leave"],
    ["at = [\"03:00\", ", "at = [\"3:00\", ", "pool.shop.recycle.at", "\"3:00\" is not a time of the day", "\"03:00\""],
    ["at = [\"03:00\", ", "at = [\"15:30\", ", "pool.shop.recycle.at", "15:30 stands here twice", "once"],
    ["jitter = \"10%\"", "jitter = 10", "pool.shop.recycle.jitter", "10 has no unit", "\"10%\""],
    ["jitter = \"10%\"", "jitter = \"51%\"", "pool.shop.recycle.jitter", "51% is out of range", "50% at most"],
    ["log = [\"every\", ", "log = [\"evry\", ", "pool.shop.recycle.log", "\"evry\" is not a reason to recycle", "\"every\""],
    ["servers = [\"127.0.0.1:3000\", ", "workers = 2\nservers = [\"127.0.0.1:3000\", ", "pool.api.workers", "means nothing without command", "add command"],
    ["[pool.api.upstream]", "[pool.api.recycle]\nevery = \"1h\"\n[pool.api.upstream]", "pool.api.recycle", "means nothing without command", "add command"],
    // What is missing or contradicts.
    ["[[site.route]]\npath = \"/api\"", "[[site.route]]", "site.route.path", "path is missing", "add path"],
    ["pool = \"shop\"", "pool = \"shp\"", "site.route.pool", "no pool \"shp\"", "did you mean \"shop\"?"],
    ["pool = \"shop\"", "pool = \"elsewhere\"", "site.route.pool", "no pool", "add [pool.elsewhere]"],
    ["listen = [\"0.0.0.0:8080\"]", "listen = [\"0.0.0.0:808\"]", "site.listen", "no [[listen]] has", "did you mean \"0.0.0.0:8080\"?"],
    ["listen = [\"0.0.0.0:8080\"]", "listen = [\"10.1.2.3:4\"]", "site.listen", "no [[listen]] has", "add [[listen]]"],
    ["listen = [\"0.0.0.0:8080\"]", "listen = [\"0.0.0.0:8080\", \"0.0.0.0:8080\"]", "site.listen", "twice", "once"],
    ["servers = [\"127.0.0.1:3000\", ", "bind = \"fd\"\nservers = [\"127.0.0.1:3000\", ", "pool.api.bind", "means nothing without command", "add command"],
    ["transport = \"http\"", "check = { path = \"/\" }", "pool.shop.check", "means nothing without servers", "add servers"],
    ["transport = \"http\"", "servers = [\"[::1]:1\"]", "pool.shop.servers", "a command and servers", "keep command"],
    ["[pool.api.upstream]", "[pool.idle]\n[pool.api.upstream]", "pool.idle", "neither a command nor servers", "add command"],
    ["[[site]]\nname = \"inside\"", "[[site]]\nname = \"idle\"\nhosts = [\"a\"]\n[[site]]\nname = \"inside\"", "site.route", "no route", "add [[site.route]]"],
    // Syntax.
    ["threads = 0", "threads = ", "", "must be quoted", "between quotes"],
    ["threads = 0", "threads = 0\nthreads = 0", "", "duplicate key", "once"],
    ["user = \"lychgate\"", "user = \"lychgate", "", "basic string", "same line"],
    ["user = \"lychgate\"", "user = \"a\" \"b\"", "", "expected newline", "line of its own"],
];

#[test]
fn each_fault_has_its_line_its_path_and_a_hint() {
    for [from, to, path, what, hint] in FAULTS {
        assert_eq!(FULL.matches(from).count().min(1), 1, "{from}");
        let text = FULL.replacen(from, to, 1);
        let found = complaints(&text);
        let [Complaint { line, column, fault }] = &found[..] else {
            panic!("{from} -> {to}: {found:#?}")
        };
        let parts = [(&fault.path, path), (&fault.what, what), (&fault.hint, hint)];
        for (said, part) in parts {
            assert!(said.contains(part), "{to}: {fault:?} should have {part}");
        }
        assert_eq!(fault.path, *path, "{to}");
        let at = FULL.find(from).unwrap();
        let first = FULL[..at].matches('\n').count() + 1;
        let lines = first..=first + to.matches('\n').count();
        assert!(lines.contains(line), "{to}: line {line} is not among {lines:?}");
        let report = parse(&text, "full.toml").unwrap_err().to_string();
        assert!(report.starts_with(&format!("full.toml:{line}:{column}: ")), "{report}");
        assert!(report.ends_with("full.toml: 1 fault\n"), "{report}");
    }
}

#[test]
fn what_the_whole_file_lacks_is_told_at_its_end() {
    let found = complaints("");
    let told: Vec<_> =
        found.iter().map(|it| (it.line, it.column, it.fault.path.as_str())).collect();
    assert_eq!(told, [(1, 1, "listen"), (1, 1, "site")]);
    assert!(found[0].fault.hint.contains("add [[listen]]"), "{found:?}");
    let report = parse("# nothing\n", "a").unwrap_err().to_string();
    assert!(report.starts_with("a:2:1: listen: ") && report.ends_with("a: 2 faults\n"), "{report}");
}

#[test]
fn many_faults_come_in_one_report_in_the_order_of_the_file() {
    let text = FULL
        .replace("engine = \"auto\"", "engine = \"gas\"")
        .replace("rise = 2", "rise = 0")
        .replace("pool = \"api\"", "pool = \"apy\"")
        .replace("backlog = 4096", "backlog = \"big\"");
    let told: Vec<_> =
        complaints(&text).into_iter().map(|it| (it.line, it.column, it.fault.path)).collect();
    let expected = [
        (6, 10, "server.engine"),
        (32, 11, "listen.backlog"),
        (46, 8, "site.route.pool"),
        (53, 8, "site.route.pool"),
        (116, 80, "pool.api.check.rise"),
    ];
    assert_eq!(told, expected.map(|(line, column, path)| (line, column, path.to_owned())));
}

#[test]
fn a_text_that_is_not_toml_is_not_blamed_for_what_could_not_be_read() {
    let told = |text: &str| -> Vec<_> {
        complaints(text).into_iter().map(|it| (it.line, it.fault.path)).collect()
    };
    // The broken header takes the keys below it elsewhere, and the pool with it.
    let text = LEAST.replace("[pool.app]", "[pool.app") + "[server]\nthreads = -1\n";
    assert_eq!(told(&text), [(8, String::new()), (11, "server.threads".into())]);
    // What the parser puts in place of the broken value is nobody's mistake.
    assert_eq!(told(&LEAST.replace("\"127.0.0.1:80\"", "")), [(2, String::new())]);
}

#[test]
fn columns_count_characters_and_lines_may_end_as_on_windows() {
    let text = LEAST.replace("path = \"/\"", "\"größe\" = 1\npath = \"/\"").replace('\n', "\r\n");
    let found = complaints(&text);
    assert_eq!((found[0].line, found[0].column), (6, 1), "{found:?}");
    let pool = "check = { path = \"/ö\", b = 1 }\nservers";
    let found = complaints(&LEAST.replace("servers", pool));
    assert_eq!((found[1].line, found[1].column), (9, 24), "{found:?}");
}

#[test]
fn the_report_ends_somewhere() {
    let text = (0..2000).fold(String::new(), |text, i| text + &format!("k{i} = 1\n")) + LEAST;
    let report = parse(&text, "a").unwrap_err();
    assert_eq!(report.complaints.len(), Faults::COUNT_MAX);
    assert!(report.to_string().ends_with("a: 1000 faults or more\n"));
}

#[test]
fn a_long_text_that_is_no_configuration_has_one_fault() {
    let text = "=\n".repeat(RECOVERY_SIZE_MAX);
    assert_eq!(complaints(&text).len(), 1);
    let good = LEAST.to_owned() + &"#\n".repeat(RECOVERY_SIZE_MAX);
    assert_eq!(plan(&good), plan(LEAST));
}

#[test]
fn depth_and_counts_beyond_reason_are_faults() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("a{} = 1", ".a".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
    ] {
        assert!(!complaints(&text).is_empty());
    }
    let over = |path: &str, text: &str| {
        let is_over = |it: &Complaint| it.fault.what.contains("too many") && it.fault.path == path;
        assert!(complaints(text).iter().any(is_over), "{path}");
    };
    let many = |count: usize, line: fn(usize) -> String| {
        (0..count).fold(LEAST.to_owned(), |text, i| text + &line(i))
    };
    over("listen", &many(256, |i| format!("[[listen]]\naddress = \"[::1]:{}\"\n", i + 1000)));
    over("pool", &many(4096, |i| format!("[pool.p{i}]\nservers = [\"[::1]:1\"]\n")));
    let servers = format!("{:?}", vec!["[::1]:1"; 257]);
    over("pool.app.servers", &LEAST.replace("[\"127.0.0.1:3000\"]", &servers));
    let words = format!("command = {:?}", vec!["x"; 1025]);
    over("pool.app.command", &LEAST.replace("servers = [\"127.0.0.1:3000\"]", &words));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}") {
        well_told(&text);
    }

    #[test]
    fn no_soup_of_its_words_makes_it_panic(
        words in proptest::collection::vec(proptest::sample::select(words()), 0..60),
    ) {
        well_told(&words.concat());
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(
        cuts in proptest::collection::vec((0..FULL.len(), 0..40_usize, ".{0,4}"), 1..6),
    ) {
        let mut text = FULL.to_owned();
        for (at, size, with) in cuts {
            let start = text.floor_char_boundary(at);
            let end = text.floor_char_boundary(start + size).max(start);
            text.replace_range(start..end, &with);
        }
        well_told(&text);
    }
}

/// Told twice, a mistake looks like two, and the second remedy is wrong.
#[test]
fn one_mistake_is_told_once() {
    for (written, mistake) in [
        ("address = \"0.0.0.0:8080\"\nbacklog", "adress = \"0.0.0.0:9090\"\nbacklog"),
        ("ready = { path = \"/\", timeout = \"1s\" }", "ready = \"/\""),
        ("ready = { path = \"/\", timeout = \"1s\" }", "ready = { pth = \"/\" }"),
        ("path = \"/api\"", "pth = \"/api\""),
    ] {
        let text = FULL.replacen(written, mistake, 1).replace("listen = [\"0.0.0.0:8080\"]", "");
        assert!(text.contains(mistake), "{written}");
        let report = parse(&text, "a").unwrap_err();
        assert_eq!(report.complaints.len(), 1, "{report}");
    }
}

/// What a configuration is made of, and what it should not be made of.
fn words() -> Vec<String> {
    let paths = KEYS.iter().map(|key| format!("{} ", key.path.replace("NAME", "a")));
    let names = KEYS.iter().filter_map(|key| Some(key.path.rsplit_once('.')?.1.to_owned()));
    let signs = "[ ] [[ ]] { } = = = . , \\ # \" ''' \"\"\" 1 -9 1.5 inf true 1979-05-27 \
                 \"/\" \"*\" \"30s\" \"a\" \"[::1]:1\" \u{feff} \0 \r";
    let signs = signs.split(' ').chain(["\n", "\n", "\n[", "]\n", " "]).map(str::to_owned);
    paths.chain(names).chain(signs).collect()
}

fn well_told(text: &str) {
    let Err(report) = parse(text, "a") else { return };
    assert!(report.cause.is_none() && !report.complaints.is_empty());
    let mut before = (1, 1);
    for Complaint { line, column, fault } in &report.complaints {
        assert!((*line, *column) >= before, "{text:?}: {report}");
        before = (*line, *column);
        assert!(!fault.what.is_empty() && !fault.hint.is_empty(), "{fault:?}");
    }
    assert!(before.0 <= text.matches('\n').count() + 1);
    // One line a fault, whatever the text holds.
    assert_eq!(report.to_string().lines().count(), report.complaints.len() + 1, "{report}");
}
