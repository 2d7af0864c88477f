//! What the control API says, as tables for people.

use super::table::{Left, Right, Table, age, size};
use crate::shell::view::{EventRow, PoolRow, Requests, Status, WorkerRow};
use crate::shell::visible::{iso, shown};
use std::fmt::Write as _;

pub(super) fn status(status: &Status) -> String {
    let listener = &status.listener;
    let restarts = match listener.restarts {
        0 => String::new(),
        times => format!(", restarts: {times}"),
    };
    let listening = match status.listening.as_slice() {
        [] => "nothing".to_owned(),
        addresses => addresses.join(", "),
    };
    let mut lines = vec![
        ("state", format!("{}, for {}", status.state, age(status.uptime_ms))),
        ("version", status.version.clone()),
        ("supervisor", format!("process {}", status.pid)),
        (
            "listener",
            format!(
                "process {}, {} threads on {}{restarts}",
                listener.pid, listener.threads, listener.engine
            ),
        ),
        ("listening on", listening),
        ("configuration", format!("{}, revision {}", status.configuration, status.revision)),
    ];
    if let Some(why) = &status.refused {
        lines.push(("last reload", format!("refused: {why}")));
    }
    lines.push(("pools", status.pools.to_string()));
    lines.push(("workers", format!("{} of at most {}", status.workers, status.workers_max)));
    let mut out = String::new();
    for (name, value) in lines {
        // A refusal has a line for each fault; further ones stand below the first.
        for (at, line) in value.lines().enumerate() {
            let name = if at == 0 { name } else { "" };
            let _ = writeln!(out, "{name:<15}{}", shown(line));
        }
    }
    out
}

/// A row for each pool; below, why one is not as it should be, and what its last failed worker
/// wrote.
pub(super) fn pools(pools: &[PoolRow]) -> String {
    let mut table = Table::new([
        ("POOL", Left),
        ("STATE", Left),
        ("SERVING", Right),
        ("ALIVE", Right),
        ("MAX", Right),
        ("WAITING", Right),
        ("EXECUTING", Right),
        ("STARTS", Right),
        ("RECYCLES", Right),
        ("FAILURES", Right),
        ("RECENT", Right),
        ("ORPHANS", Right),
        ("BACK-OFF", Right),
    ]);
    for pool in pools {
        table.row([
            pool.name.clone(),
            pool.state.clone(),
            pool.workers_serving.to_string(),
            pool.workers_alive.to_string(),
            pool.workers_max.to_string(),
            pool.waiting.to_string(),
            pool.executing.to_string(),
            pool.starts.to_string(),
            pool.recycles.to_string(),
            pool.failures.to_string(),
            pool.failures_recent.to_string(),
            pool.orphans.to_string(),
            pool.backoff_ms.map(age).unwrap_or_default(),
        ]);
    }
    let mut out = table.text();
    for pool in pools.iter().filter(|pool| !pool.why.is_empty() || !pool.last_words.is_empty()) {
        let why = if pool.why.is_empty() { "its last failed worker wrote" } else { &pool.why };
        let _ = writeln!(out, "\n{}: {}", shown(&pool.name), shown(why));
        for words in &pool.last_words {
            let _ = writeln!(out, "  | {}", shown(words));
        }
    }
    out
}

pub(super) fn workers(workers: &[WorkerRow]) -> String {
    let mut table = Table::new([
        ("POOL", Left),
        ("SLOT", Right),
        ("GENERATION", Right),
        ("PID", Right),
        ("STATE", Left),
        ("FOR", Right),
        ("AGE", Right),
        ("EXECUTING", Right),
        ("REQUESTS", Right),
        ("PRIVATE", Right),
        ("VIRTUAL", Right),
        ("ADDRESS", Left),
        ("REASON", Left),
        ("STATUS", Left),
    ]);
    for worker in workers {
        table.row([
            worker.pool.clone(),
            worker.slot.to_string(),
            worker.generation.to_string(),
            worker.pid.to_string(),
            worker.state.clone(),
            age(worker.state_ms),
            age(worker.age_ms),
            worker.executing.to_string(),
            worker.requests.to_string(),
            memory(worker.private_memory),
            memory(worker.virtual_memory),
            worker.address.clone(),
            worker.reason.clone(),
            worker.status.clone(),
        ]);
    }
    table.text()
}

/// Nothing has no memory: it was not measured.
fn memory(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { size(bytes) }
}

pub(super) fn orphans(orphans: &[WorkerRow]) -> String {
    let mut table = Table::new([
        ("PID", Right),
        ("POOL", Left),
        ("SLOT", Right),
        ("GENERATION", Right),
        ("REASON", Left),
        ("ORPHANED", Right),
        ("AGE", Right),
        ("PRIVATE", Right),
        ("ADDRESS", Left),
    ]);
    for orphan in orphans {
        table.row([
            orphan.pid.to_string(),
            orphan.pool.clone(),
            orphan.slot.to_string(),
            orphan.generation.to_string(),
            orphan.reason.clone(),
            age(orphan.state_ms),
            age(orphan.age_ms),
            memory(orphan.private_memory),
            orphan.address.clone(),
        ]);
    }
    table.text()
}

pub(super) fn requests(requests: &Requests) -> String {
    let mut table = Table::new([
        ("ID", Left),
        ("POOL", Left),
        ("WORKER", Left),
        ("STATE", Left),
        ("ELAPSED", Right),
        ("CLIENT", Left),
        ("METHOD", Left),
        ("HOST", Left),
        ("TARGET", Left),
    ]);
    for row in &requests.rows {
        let worker = row.worker.map(|worker| format!("{}/{}", worker.slot, worker.generation));
        table.row([
            row.id.clone(),
            row.pool.clone(),
            worker.unwrap_or_default(),
            row.state.clone(),
            age(row.elapsed_ms),
            row.client.clone(),
            row.method.clone(),
            row.host.clone(),
            row.target.clone(),
        ]);
    }
    let mut out = table.text();
    if requests.is_cut {
        out.push_str("There are more than these: --pool and --older show fewer.\n");
    }
    out
}

/// One event, alone on its line, so that a stream of them looks like a list.
pub(super) fn event(event: &EventRow) -> String {
    let worker = match (event.slot, event.generation) {
        (Some(slot), Some(generation)) => format!("{slot}/{generation}"),
        _ => "-".to_owned(),
    };
    format!(
        "{}  {:<7}  {:>4}  {:<17}  {:<12}  {worker:<6}  {}\n",
        iso(event.time_ms),
        shown(&event.severity),
        event.id,
        shown(&event.event),
        shown(&event.pool),
        shown(&event.text),
    )
}

/// Above a list of events.
pub(super) fn event_header() -> String {
    let (time, severity, event, pool) = ("TIME", "SEVERITY", "EVENT", "POOL");
    // The severities are shorter than their heading, which borrows from the gap.
    format!("{time:<24}  {severity:<8} {:>4}  {event:<17}  {pool:<12}  WORKER  TEXT\n", "ID")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::control::{RequestRow, Worker};
    use crate::shell::view::ListenerRow;

    #[test]
    fn the_server_is_described() {
        let row = Status {
            version: "0.1.0".into(),
            pid: 41,
            state: "running".into(),
            uptime_ms: 192_000,
            configuration: "/etc/lychgate.toml".into(),
            revision: 2,
            refused: Some("line 3:\u{1b}[2J\n1 fault\n".into()),
            listener: ListenerRow { pid: 42, engine: "uring".into(), threads: 2, restarts: 1 },
            listening: vec!["127.0.0.1:80".into(), "unix:/run/x".into()],
            pools: 3,
            workers: 4,
            workers_max: 1000,
        };
        assert_eq!(
            status(&row),
            "state          running, for 3m12s\n\
             version        0.1.0\n\
             supervisor     process 41\n\
             listener       process 42, 2 threads on uring, restarts: 1\n\
             listening on   127.0.0.1:80, unix:/run/x\n\
             configuration  /etc/lychgate.toml, revision 2\n\
             last reload    refused: line 3:\\u{1b}[2J\n\
             \x20              1 fault\n\
             pools          3\n\
             workers        4 of at most 1000\n"
        );
    }

    #[test]
    fn a_pool_in_trouble_says_why_and_what_it_wrote() {
        let well = PoolRow { name: "a".into(), state: "running".into(), ..PoolRow::default() };
        let ill = PoolRow {
            name: "shop".into(),
            state: "tripped".into(),
            why: "5 failures within 5m".into(),
            last_words: vec!["Traceback".into(), "\u{9b}31mKeyError".into()],
            backoff_ms: Some(2500),
            ..PoolRow::default()
        };
        let text = pools(&[well, ill]);
        let (table, rest) = text.split_once("\n\n").unwrap();
        assert_eq!(table.lines().count(), 3);
        assert!(table.lines().nth(1).unwrap().starts_with("a     running "));
        assert!(table.ends_with(" 2.5s"));
        assert_eq!(rest, "shop: 5 failures within 5m\n  | Traceback\n  | \\u{9b}31mKeyError\n");
    }

    #[test]
    fn what_clients_wrote_cannot_move_the_cursor() {
        let row = RequestRow {
            id: "r1".into(),
            pool: "shop".into(),
            worker: Some(Worker { slot: 1, generation: 7 }),
            client: "127.0.0.1".into(),
            method: "GET".into(),
            host: "shop\u{1b}]0;owned\u{7}".into(),
            target: "/\r\nfake".into(),
            state: "sent".into(),
            elapsed_ms: 5_100,
        };
        let waiting = RequestRow { worker: None, ..row.clone() };
        let text = requests(&Requests { rows: vec![row, waiting], is_cut: true });
        assert_eq!(text.lines().count(), 4);
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
        assert!(text.contains(" 1/7 ") && text.contains(" -  ") && text.contains(" 5.1s "));
        assert!(text.ends_with("--older show fewer.\n"));
    }

    #[test]
    fn events_are_lines_under_their_heading() {
        let row = EventRow {
            sequence: 1,
            time_ms: 1_795_266_914_123,
            id: 5009,
            event: "worker-failed".into(),
            severity: "warning".into(),
            pool: "shop".into(),
            slot: Some(0),
            generation: Some(3),
            pid: Some(7),
            reason: Some("crash".into()),
            text: "it died\nfake line".into(),
        };
        let (header, line) = (event_header(), event(&row));
        assert_eq!(line.matches('\n').count(), 1);
        for (heading, value) in
            [("SEVERITY", "warning"), ("EVENT", "worker-failed"), ("POOL", "shop"), ("TEXT", "it")]
        {
            assert_eq!(header.find(heading).unwrap(), line.find(value).unwrap(), "{heading}");
        }
        let pool = EventRow { slot: None, ..row };
        assert!(event(&pool).contains("  -       it died\\u{a}fake"));
    }
}
