//! `[server]`, `[[listen]]` and `[[site]]`.

use super::{Absent, Form, Key, deadline, key, later, table, word};

pub(super) const FRONT: &[Key] = &[
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
    key(
        "server.control",
        Form::Text,
        Absent::Means(
            "/run/lychgate/control.sock as root, else one below $XDG_RUNTIME_DIR or /tmp",
        ),
        "Path of the socket on which lychgate is told what to do; its folder is lychgate's own.",
    ),
    key(
        "server.max_workers",
        Form::Integer { min: 1, max: 65_535 },
        Absent::Default("1000"),
        "Worker processes at once, over all pools; no more are started.",
    ),
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
];
