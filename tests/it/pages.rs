//! The pages for operators agree with the product: events, settings, commands, fields, recipes.

use lychgate::base::limits;
use lychgate::machine::event::{Kind, Severity};
use lychgate::machine::pool::seam::{Exit, Failure, Trigger};
use lychgate::plan::keys::KEYS;
use lychgate::shell::config;
use lychgate::shell::control::{RequestRow, Worker};
use lychgate::shell::view::{
    EventRow, ListenerRow, Outcome, PoolRow, Problem, Requests, Status, WorkerRow,
};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

fn read(page: &str) -> String {
    let path = format!("{}/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// The text between a heading and the next of its level or above.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let from = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let text = &page[from + heading.len() + 2..];
    let level = heading.split(' ').next().unwrap();
    let end = text.match_indices("\n#").find(|(at, _)| {
        let marks = text[at + 1..].split(' ').next().unwrap();
        marks.len() <= level.len()
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

/// Rows of the tables in a text, as cells.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|--"));
    lines
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

const FAILURES: [Failure; 9] = [
    Failure::Spawn,
    Failure::StartupTimeout,
    Failure::ShutdownTimeout,
    Failure::Crash(Exit::Code(1)),
    Failure::PingTimeout,
    Failure::Deadlock,
    Failure::ProtocolViolation,
    Failure::SelfReported,
    Failure::OutOfMemory,
];

fn kinds() -> Vec<Kind> {
    let failures = FAILURES.map(Kind::WorkerFailed);
    let triggers = Trigger::ALL.map(Kind::Recycling);
    [
        Kind::WorkerStarted,
        Kind::WorkerServing,
        Kind::WorkerEnded,
        Kind::WorkerOrphaned(Failure::PingTimeout),
        Kind::RecycleFailed(Trigger::Every),
        Kind::IdledOut,
        Kind::PoolTripped,
        Kind::PoolStarted,
        Kind::PoolStopped,
        Kind::PoolPaused,
        Kind::PoolResumed,
        Kind::PoolInvalid,
        Kind::WorkersExhausted,
    ]
    .into_iter()
    .chain(failures)
    .chain(triggers)
    .collect()
}

const fn severity(kind: Kind) -> &'static str {
    match kind.severity() {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

#[test]
fn the_table_of_events_is_that_of_the_machine() {
    let page = read("pools.md");
    let told: BTreeMap<String, (BTreeSet<u16>, String)> = rows(section(&page, "## Events"))
        .into_iter()
        .skip(1)
        .map(|row| {
            let ids = row[1].split(", ").map(|id| id.parse().unwrap()).collect();
            (row[0].trim_matches('`').to_owned(), (ids, row[2].clone()))
        })
        .collect();
    let mut known: BTreeMap<String, (BTreeSet<u16>, String)> = BTreeMap::new();
    for kind in kinds() {
        let severity = severity(kind).to_owned();
        let entry = known.entry(kind.word().to_owned());
        entry.or_insert_with(|| (BTreeSet::new(), severity)).0.insert(kind.id());
    }
    assert_eq!(told, known);
}

#[test]
fn failures_and_triggers_have_their_words_and_numbers() {
    let page = read("pools.md");
    let told = |heading: &str, word: usize, id: usize| -> BTreeSet<(String, u16)> {
        let rows = rows(section(&page, heading)).into_iter().skip(1);
        rows.filter(|row| row[id].parse::<u16>().is_ok())
            .map(|row| (row[word].trim_matches('`').to_owned(), row[id].parse().unwrap()))
            .collect()
    };
    let failures = FAILURES.map(|it| (it.word().to_owned(), Kind::WorkerFailed(it).id()));
    assert_eq!(told("## Health", 0, 2), failures.into());
    let triggers = Trigger::ALL.map(|it| (it.word().to_owned(), Kind::Recycling(it).id()));
    assert_eq!(told("## Recycling", 1, 2), triggers.into());
}

#[test]
fn settings_that_are_named_exist() {
    let known: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
    let tables = ["queue", "lifecycle", "health", "recycle", "rapid_fail", "upstream", "ready"];
    let mut count = 0;
    for page in ["pools.md", "control.md"] {
        for word in read(page).split('`').skip(1).step_by(2) {
            let name = word.split(" = ").next().unwrap();
            let table = name.split('.').next().unwrap();
            let path = match table {
                _ if !name.contains('.') || name.contains(['/', ' ']) => continue,
                "server" => name.to_owned(),
                table if tables.contains(&table) => format!("pool.NAME.{name}"),
                _ => continue,
            };
            count += 1;
            assert!(known.contains(path.as_str()), "{page}: `{word}`: there is no {path}");
        }
    }
    assert!(count > 40, "only {count} settings were looked at");
}

#[test]
fn recipes_are_configurations() {
    let page = read("pools.md");
    let recipes = section(&page, "## Recipes");
    let block = recipes.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let pools = block.matches("[pool.").count();
    let first = block.split("[pool.").nth(1).unwrap().split(']').next().unwrap();
    let head = format!(
        "[[listen]]\naddress = \"127.0.0.1:8080\"\n[[site]]\nname = \"all\"\n[[site.route]]\n\
         path = \"/\"\npool = \"{first}\"\n"
    );
    let plan =
        config::parse(&(head + block), "pools.md").unwrap_or_else(|faults| panic!("{faults}"));
    assert!(pools >= 5);
    assert_eq!(plan.pools.len(), pools);
    for pool in &plan.pools {
        let is_garden = matches!(pool.source, lychgate::plan::Source::Garden(_));
        assert!(is_garden, "{}: {:?}", pool.name, pool.source);
    }
    assert!(limits::POOLS_MAX > pools);
}

#[test]
fn every_command_and_exit_code_is_described() {
    let lychgate = || Command::new(env!("CARGO_BIN_EXE_lychgate"));
    let help = lychgate().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: BTreeSet<&str> =
        commands.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    let page = read("control.md");
    let described: BTreeSet<&str> = quoted(&page)
        .filter_map(|word| word.strip_prefix("lychgate ")?.split(' ').next())
        .collect();
    for name in names {
        // These ask nobody.
        if !["run", "check", "help"].contains(&name) {
            assert!(described.contains(name), "control.md says nothing of `lychgate {name}`");
            let asked = lychgate().args([name, "--help"]).output().unwrap();
            assert!(asked.status.success());
        }
    }
    for described in described {
        let shown = lychgate().args([described, "--help"]).output().unwrap();
        assert!(shown.status.success(), "there is no `lychgate {described}`");
    }
}

/// The names of all fields, those of objects within among them.
fn fields(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                into.insert(name.clone());
                fields(value, into);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, into)),
        _ => {}
    }
}

#[test]
fn every_field_of_the_api_is_described() {
    fn json(value: impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }
    let text = String::new;
    let status = Status {
        version: text(),
        pid: 0,
        state: text(),
        uptime_ms: 0,
        configuration: text(),
        revision: 0,
        refused: None,
        listener: ListenerRow::default(),
        listening: Vec::new(),
        pools: 0,
        workers: 0,
        workers_max: 0,
    };
    let worker = WorkerRow {
        pool: text(),
        slot: 0,
        generation: 0,
        pid: 0,
        state: text(),
        reason: text(),
        age_ms: 0,
        state_ms: 0,
        executing: 0,
        requests: 0,
        private_memory: 0,
        virtual_memory: 0,
        address: text(),
        status: text(),
    };
    let request = RequestRow {
        id: text(),
        pool: text(),
        worker: Some(Worker { slot: 0, generation: 0 }),
        client: text(),
        method: text(),
        host: text(),
        target: text(),
        state: text(),
        elapsed_ms: 0,
    };
    let event = EventRow {
        sequence: 0,
        time_ms: 0,
        id: 0,
        event: text(),
        severity: text(),
        pool: text(),
        slot: None,
        generation: None,
        pid: None,
        reason: None,
        text: text(),
    };
    let page = read("control.md");
    let values = section(&page, "### What the values say");
    for (name, value) in [
        ("status", json(status)),
        ("pool", json(PoolRow::default())),
        ("worker", json(worker)),
        ("requests", json(Requests { rows: vec![request], is_cut: false })),
        ("event", json(event)),
        ("outcome", json(Outcome { text: text() })),
        ("problem", json(Problem { error: text() })),
    ] {
        let mark = format!("**{name}**");
        let told = values.split(&mark).nth(1).unwrap_or_else(|| panic!("no {mark}"));
        let told = told.split("**").next().unwrap();
        let told: BTreeSet<&str> = quoted(told).collect();
        let mut wanted = BTreeSet::new();
        fields(&value, &mut wanted);
        for field in wanted {
            assert!(told.contains(field.as_str()), "control.md, {name}: nothing about `{field}`");
        }
    }
}
