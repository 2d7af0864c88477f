//! `[pool.NAME]`: what every pool has.

use super::{Absent, Form, Key, deadline, key, table, word};

pub(super) const POOL: &[Key] = &[
    key(
        "pool",
        Form::Table,
        Absent::Means("no pool to route to"),
        "One table a pool: servers that answer the same requests.",
    ),
    key(
        "pool.NAME",
        Form::Table,
        Absent::Means("no such pool"),
        "A pool; it has either a command or servers.",
    ),
    key(
        "pool.NAME.command",
        Form::List,
        Absent::Means("servers are given"),
        "Program and arguments of an application that lychgate starts and keeps running.",
    ),
    key(
        "pool.NAME.transport",
        Form::Word { words: &["http"], later: &["handoff"] },
        Absent::Default("http"),
        "How requests reach the servers of the pool.",
    ),
    word(
        "pool.NAME.bind",
        &["port", "unix", "fd"],
        "How the command is told where to listen: PORT, LYCHGATE_SOCKET, or a descriptor.",
    ),
    key(
        "pool.NAME.working_directory",
        Form::Text,
        Absent::Means("the directory in which lychgate was started"),
        "Of the command; a relative path starts at the directory of the configuration file.",
    ),
    key(
        "pool.NAME.environment",
        Form::Map,
        Absent::Means("nothing beyond lychgate's own environment"),
        "Environment variables that the command gets, names and values.",
    ),
    key(
        "pool.NAME.ready",
        Form::Table,
        Absent::Means("the command is ready when it listens"),
        "A request that a started command must answer with 2xx or 3xx before it serves.",
    ),
    key(
        "pool.NAME.ready.path",
        Form::Text,
        Absent::Fault,
        "The path that is requested, such as /healthz.",
    ),
    deadline("pool.NAME.ready.timeout", "1s", "For each attempt."),
    key(
        "pool.NAME.servers",
        Form::List,
        Absent::Means("a command is given"),
        "Addresses of servers that run already: \"127.0.0.1:3000\" or \"unix:/run/app.sock\".",
    ),
    key(
        "pool.NAME.check",
        Form::Table,
        Absent::Means("servers are judged by the requests relayed to them"),
        "A request that each server is asked again and again; 2xx and 3xx are good.",
    ),
    key(
        "pool.NAME.check.path",
        Form::Text,
        Absent::Fault,
        "The path that is requested, such as /healthz.",
    ),
    deadline("pool.NAME.check.interval", "5s", "Between the beginnings of two checks."),
    deadline("pool.NAME.check.timeout", "1s", "For each check. At most interval."),
    key(
        "pool.NAME.check.fall",
        Form::Integer { min: 1, max: 1000 },
        Absent::Default("3"),
        "Failures in a row that take a server out.",
    ),
    key(
        "pool.NAME.check.rise",
        Form::Integer { min: 1, max: 1000 },
        Absent::Default("2"),
        "Successes in a row that bring a server back.",
    ),
    table("pool.NAME.upstream", "The connections to the servers of a pool."),
    deadline(
        "pool.NAME.upstream.connect_timeout",
        "5s",
        "To connect to a server; then 504 or another server.",
    ),
    deadline(
        "pool.NAME.upstream.response_timeout",
        "60s",
        "To the first byte of a response, and between two pieces of its body; then 504.",
    ),
    key(
        "pool.NAME.upstream.idle_connections",
        Form::Integer { min: 0, max: 65_535 },
        Absent::Default("64"),
        "Kept open for reuse, for each server and listener thread; 0 is none.",
    ),
    deadline(
        "pool.NAME.upstream.idle_timeout",
        "4s",
        "How long such a connection is kept; set it below the keep-alive time of the servers.",
    ),
];
