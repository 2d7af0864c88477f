//! Every key of the configuration, once: its form, its bounds, what holds when it is absent, and a
//! line of documentation. `NAME` stands for the name of a pool. The checks, the reference in
//! docs/configuration.md and config/full.toml are held to this table.

/// One key.
#[derive(Debug)]
pub struct Key {
    /// From the top of the file, such as `server.limits.head_timeout`.
    pub path: &'static str,
    pub form: Form,
    pub absent: Absent,
    pub doc: &'static str,
}

/// What may stand there. Bounds are inclusive, and written as an operator would write them.
#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    Duration {
        min: &'static str,
        max: &'static str,
    },
    Size {
        min: &'static str,
        max: &'static str,
    },
    Integer {
        min: u32,
        max: u32,
    },
    /// One of `words`; those of `later` are understood and refused.
    Word {
        words: &'static [&'static str],
        later: &'static [&'static str],
    },
    Text,
    /// A list of strings.
    List,
    /// A table of strings, with names of the operator's choosing.
    Map,
    Table,
    /// `[[name]]`
    Tables,
    /// Understood, and refused until it does something.
    Later,
}

/// What holds when a key is not written.
#[derive(Debug, PartialEq, Eq)]
pub enum Absent {
    /// This value, as it would be written, without quotes.
    Default(&'static str),
    /// Something that no value of the key can say.
    Means(&'static str),
    /// The key must be written.
    Fault,
}

/// The key `name` of the table `section` ("" = the top of the file).
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.within(section) == Some(name))
}

/// All keys of the table `section`, in the order of the documentation.
pub fn names(section: &'static str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| key.within(section))
}

/// A key of another table that has this name.
pub fn elsewhere(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        key.form != Form::Later && key.path.rsplit_once('.').is_some_and(|(_, last)| last == name)
    })
}

impl Key {
    /// The last word of the path, if the words before it are `section`.
    fn within(&self, section: &str) -> Option<&'static str> {
        let rest = self.path.strip_prefix(section)?;
        let name = if section.is_empty() { rest } else { rest.strip_prefix('.')? };
        (!name.contains('.')).then_some(name)
    }
}

const DEADLINE: Form = Form::Duration { min: "10ms", max: "720h" };

const fn key(path: &'static str, form: Form, absent: Absent, doc: &'static str) -> Key {
    Key { path, form, absent, doc }
}

const fn table(path: &'static str, doc: &'static str) -> Key {
    key(path, Form::Table, Absent::Means("the defaults below"), doc)
}

const fn word(path: &'static str, words: &'static [&'static str], doc: &'static str) -> Key {
    key(path, Form::Word { words, later: &[] }, Absent::Default(words[0]), doc)
}

const fn deadline(path: &'static str, default: &'static str, doc: &'static str) -> Key {
    key(path, DEADLINE, Absent::Default(default), doc)
}

const fn later(path: &'static str) -> Key {
    key(path, Form::Later, Absent::Means("it does not exist yet"), "Not supported yet.")
}

pub const KEYS: &[Key] = &[
    table("server", "The listener process as a whole."),
    word(
        "server.engine",
        &["auto", "uring", "epoll"],
        "How sockets are driven; auto takes io_uring where the kernel allows it, else epoll.",
    ),
    key(
        "server.threads",
        Form::Integer { min: 0, max: 256 },
        Absent::Default("0"),
        "Listener threads; 0 is one for each CPU that the process may use.",
    ),
    key(
        "server.user",
        Form::Text,
        Absent::Means("lychgate"),
        "Identity of the listener process when lychgate is started as root; else unused.",
    ),
    key(
        "server.max_connections",
        Form::Integer { min: 1, max: 1_000_000 },
        Absent::Default("100000"),
        "Client connections at once, over all threads; more are closed unseen.",
    ),
    deadline(
        "server.shutdown_limit",
        "30s",
        "How long running requests may take to finish when lychgate is stopped.",
    ),
    word(
        "server.unknown_host",
        &["not-found", "misdirected"],
        "Answer to a host that no site serves: 404 (not-found) or 421 (misdirected).",
    ),
    later("server.control"),
    later("server.max_workers"),
    table("server.limits", "What one client may cost."),
    deadline(
        "server.limits.head_timeout",
        "30s",
        "From the first byte of a request to the end of its head; then 408.",
    ),
    deadline(
        "server.limits.body_timeout",
        "60s",
        "Between two pieces of a request's body; then 408.",
    ),
    deadline(
        "server.limits.idle_timeout",
        "120s",
        "How long a connection may stay open between requests, and a tunnel without traffic.",
    ),
    key(
        "server.limits.min_send_rate",
        Form::Integer { min: 0, max: 1_000_000_000 },
        Absent::Default("240"),
        "Bytes a second that a client must take, averaged over the response; 0 is off.",
    ),
    key(
        "server.limits.head_size",
        Form::Size { min: "1KiB", max: "256KiB" },
        Absent::Default("32KiB"),
        "Request line and fields together; more is 431.",
    ),
    key(
        "server.limits.header_count",
        Form::Integer { min: 1, max: 256 },
        Absent::Default("100"),
        "Fields in one request head; more is 431.",
    ),
    key(
        "server.limits.target_size",
        Form::Size { min: "64B", max: "256KiB" },
        Absent::Default("8KiB"),
        "Request target (path and query); more is 414. At most head_size.",
    ),
    key(
        "server.limits.body_size",
        Form::Size { min: "0", max: "1048576TiB" },
        Absent::Default("0"),
        "Body of one request; more is 413; 0 is no limit.",
    ),
    table("server.log", "What is written down, and where."),
    key(
        "server.log.access",
        Form::Text,
        Absent::Default(""),
        "One line a request: \"\" is off, \"stdout\", or the absolute path of a file.",
    ),
    word(
        "server.log.format",
        &["json", "combined"],
        "Of the access log: JSON lines, or the combined format of Apache and nginx.",
    ),
    key(
        "server.log.level",
        Form::Word { words: &["error", "warn", "info", "debug"], later: &[] },
        Absent::Default("info"),
        "The least grave event that the operational log, on standard error, holds.",
    ),
    key("listen", Form::Tables, Absent::Fault, "Where clients connect; one table an address."),
    key(
        "listen.address",
        Form::Text,
        Absent::Fault,
        "\"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/run/lychgate/http.sock\".",
    ),
    key(
        "listen.backlog",
        Form::Integer { min: 1, max: 65_535 },
        Absent::Default("4096"),
        "Connections that the kernel keeps until they are accepted (capped by net.core.somaxconn).",
    ),
    later("listen.proxy_protocol"),
    later("listen.tls"),
    key("site", Form::Tables, Absent::Fault, "What is served to which hosts; one table a site."),
    key("site.name", Form::Text, Absent::Fault, "Names the site in logs; unique."),
    key(
        "site.hosts",
        Form::List,
        Absent::Means("every host"),
        "Hosts served: exact names, or *.suffix for all names below one; exact goes first.",
    ),
    key(
        "site.listen",
        Form::List,
        Absent::Means("every listener"),
        "Addresses of [[listen]] tables at which the site is served.",
    ),
    key(
        "site.route",
        Form::Tables,
        Absent::Fault,
        "Which path goes to which pool; the longest prefix of whole segments wins.",
    ),
    key(
        "site.route.path",
        Form::Text,
        Absent::Fault,
        "Prefix of the request's path: \"/shop\" matches /shop and /shop/cart, not /shopping.",
    ),
    key("site.route.pool", Form::Text, Absent::Fault, "Name of the pool that answers."),
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
    table("pool.NAME.lifecycle", "How long a command may take to start and to end."),
    deadline(
        "pool.NAME.lifecycle.startup_limit",
        "90s",
        "Until it must be ready; then it is killed and started again.",
    ),
    deadline("pool.NAME.lifecycle.shutdown_limit", "90s", "From SIGTERM to SIGKILL."),
    later("pool.NAME.lifecycle.idle_timeout"),
    later("pool.NAME.lifecycle.orphan"),
    later("pool.NAME.lifecycle.orphan_command"),
    later("pool.NAME.lifecycle.max_orphans"),
    later("pool.NAME.lend"),
    later("pool.NAME.start"),
    later("pool.NAME.autostart"),
    later("pool.NAME.workers"),
    later("pool.NAME.min_workers"),
    later("pool.NAME.slots"),
    later("pool.NAME.dispatch"),
    later("pool.NAME.affinity"),
    later("pool.NAME.queue"),
    later("pool.NAME.health"),
    later("pool.NAME.recycle"),
    later("pool.NAME.rapid_fail"),
];
