//! `[pool.NAME]` with a command: the garden of workers.

use super::command::{action, command};
use super::section::Section;
use super::server::read;
use super::{is_over, name};
use crate::plan::Garden;
use crate::plan::fault::{Faults, Nature, nearest};
use crate::plan::garden::{
    Affinity, Dispatch, Health, Lifecycle, Queue, RapidFail, Recycle, Reject, Start, Trigger,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What means nothing without a command.
pub(super) const KEYS: [&str; 17] = [
    "bind",
    "working_directory",
    "environment",
    "ready",
    "start",
    "autostart",
    "workers",
    "min_workers",
    "slots",
    "dispatch",
    "warm_up",
    "affinity",
    "queue",
    "lifecycle",
    "health",
    "recycle",
    "rapid_fail",
];

/// Paths of `warm_up`, and times of `recycle.at`.
const LIST_MAX: usize = 100;
/// Of a cookie, unless another is named.
const COOKIE: &str = "lychgate";

/// Reads every key that belongs to a command, so that their faults are told even without one.
pub(super) fn garden(section: &Section<'_>, faults: &mut Faults) -> Option<Garden> {
    let short = |name: &str, faults: &mut Faults| {
        u16::try_from(section.integer(name, faults)).expect("the table of keys bounds it")
    };
    let garden = Garden {
        command: command(section, faults),
        start: section.word("start", [Start::OnDemand, Start::Always], faults),
        autostart: section.flag("autostart", faults),
        workers: short("workers", faults),
        workers_min: short("min_workers", faults),
        slots: section.integer("slots", faults),
        dispatch: section.word("dispatch", [Dispatch::RoundRobin, Dispatch::LeastBusy], faults),
        warm_up: warm_up(section, faults),
        affinity: affinity(section, faults),
        queue: queue(&section.section("queue", faults), faults),
        lifecycle: lifecycle(&section.section("lifecycle", faults), faults),
        health: health(&section.section("health", faults), faults),
        recycle: recycle(&section.section("recycle", faults), faults),
        rapid_fail: rapid_fail(&section.section("rapid_fail", faults), faults),
    };
    if garden.workers > 0 && garden.workers_min > garden.workers {
        section.refuse("min_workers", Nature::Here, faults, || {
            (
                format!("min_workers ({}) is more than workers", garden.workers_min),
                format!("write {} at most, or raise workers", garden.workers),
            )
        });
    }
    section.has("command").then_some(garden).filter(|garden| !garden.command.argv.is_empty())
}

fn warm_up(section: &Section<'_>, faults: &mut Faults) -> Vec<String> {
    let paths = section.series("warm_up", faults).unwrap_or_default();
    is_over(paths.len(), LIST_MAX, section, "warm_up", faults);
    paths.iter().filter_map(|path| read(path, name::probe, faults)).collect()
}

fn affinity(section: &Section<'_>, faults: &mut Faults) -> Option<Affinity> {
    #[derive(Clone, Copy)]
    enum By {
        Cookie,
        Header,
        ClientIp,
    }
    if !section.has_table("affinity") {
        section.section("affinity", faults);
        return None;
    }
    let section = section.section("affinity", faults);
    let by = section.word("by", [By::Cookie, By::Header, By::ClientIp], faults);
    let written = section.text("name", faults);
    let name = written.as_ref().and_then(|name| read(name, name::token, faults));
    match (by, &written) {
        (By::Cookie, _) => Some(Affinity::Cookie(name.unwrap_or_else(|| COOKIE.to_string()))),
        (By::Header, Some(_)) => Some(Affinity::Header(name?.to_ascii_lowercase())),
        (By::Header, None) => {
            if !section.has("name") {
                section.lacks("name", faults, || {
                    ("name is missing".into(), "add name = \"x-session\", the field's".into())
                });
            }
            None
        }
        (By::ClientIp, None) => Some(Affinity::ClientIp),
        (By::ClientIp, Some(_)) => {
            section.refuse("name", Nature::Here, faults, || {
                (
                    "name means nothing with by = \"client-ip\"".into(),
                    "leave name out, or write by = \"header\" or \"cookie\"".into(),
                )
            });
            None
        }
    }
}

fn queue(section: &Section<'_>, faults: &mut Faults) -> Queue {
    let mut queue = Queue {
        limit: section.integer("limit", faults),
        restart_limit: section.integer("restart_limit", faults),
        timeout: section.duration("timeout", faults),
        disconnect_check: section.optional("disconnect_check", faults),
        reject: section.word("reject", [Reject::Unavailable, Reject::Reset], faults),
        retry_after: section.duration("retry_after", faults),
        error_page: section.text("error_page", faults).and_then(|path| match path.content {
            "" => None,
            path => Some(path.to_string()),
        }),
    };
    if queue.restart_limit > queue.limit {
        // A default gives way to what is written.
        if section.has("restart_limit") {
            section.refuse("restart_limit", Nature::Here, faults, || {
                let Queue { limit, restart_limit, .. } = &queue;
                (
                    format!("restart_limit ({restart_limit}) is more than limit ({limit})"),
                    format!("write {limit} at most, or raise limit"),
                )
            });
        }
        queue.restart_limit = queue.limit;
    }
    if queue.retry_after.subsec_nanos() != 0 {
        section.refuse("retry_after", Nature::Here, faults, || {
            (
                "Retry-After has whole seconds only".into(),
                format!("write \"{}s\"", queue.retry_after.as_secs() + 1),
            )
        });
    }
    if queue.reject == Reject::Reset {
        void(section, "error_page", "with reject = \"reset\"", faults);
        void(section, "retry_after", "with reject = \"reset\"", faults);
    }
    queue
}

fn lifecycle(section: &Section<'_>, faults: &mut Faults) -> Lifecycle {
    let placeholders = ["{pid}", "{reason}", "{pool}"];
    let lifecycle = Lifecycle {
        startup_limit: section.duration("startup_limit", faults),
        shutdown_limit: section.duration("shutdown_limit", faults),
        idle_timeout: section.optional("idle_timeout", faults),
        orphan: section.flag("orphan", faults),
        orphan_command: action(section, "orphan_command", &placeholders, faults),
        orphans_max: u16::try_from(section.integer("max_orphans", faults))
            .expect("the table of keys bounds max_orphans"),
    };
    if !lifecycle.orphan {
        void(section, "orphan_command", "without orphan = true", faults);
        void(section, "max_orphans", "without orphan = true", faults);
    }
    lifecycle
}

fn health(section: &Section<'_>, faults: &mut Faults) -> Health {
    let path = section.text("ping_path", faults);
    let health = Health {
        ping_interval: section.optional("ping_interval", faults),
        ping_timeout: section.duration("ping_timeout", faults),
        ping_path: path.and_then(|path| read(&path, name::probe, faults)),
        deadlock_interval: section.optional("deadlock_interval", faults),
        deadlock_pause: section.duration("deadlock_pause", faults),
    };
    if health.ping_interval.is_none() {
        void(section, "ping_timeout", "with ping_interval = \"off\"", faults);
        void(section, "ping_path", "with ping_interval = \"off\"", faults);
    }
    if health.deadlock_interval.is_none() {
        void(section, "deadlock_pause", "with deadlock_interval = \"off\"", faults);
    }
    health
}

fn recycle(section: &Section<'_>, faults: &mut Faults) -> Recycle {
    Recycle {
        every: section.optional("every", faults),
        at: times(section, faults),
        jitter: section.percent("jitter", faults),
        requests: u64::from(section.integer("requests", faults)),
        private_memory: section.size("private_memory", faults),
        virtual_memory: section.size("virtual_memory", faults),
        memory_percent: u8::try_from(section.integer("memory_percent", faults))
            .expect("the table of keys bounds memory_percent"),
        overlap: section.flag("overlap", faults),
        on_config_change: section.flag("on_config_change", faults),
        log: triggers(section, faults),
    }
}

/// Sorted, each once.
fn times(section: &Section<'_>, faults: &mut Faults) -> Vec<u16> {
    let texts = section.series("at", faults).unwrap_or_default();
    is_over(texts.len(), LIST_MAX, section, "at", faults);
    let mut times = Vec::with_capacity(texts.len());
    for text in &texts {
        let Some(time) = read(text, name::time, faults) else { continue };
        if times.contains(&time) {
            text.refuse(faults, || {
                (format!("{} stands here twice", text.content), "write each time once".into())
            });
        } else {
            times.push(time);
        }
    }
    times.sort_unstable();
    times
}

/// In the order of [`Trigger::ALL`], each once; all when nothing is written.
fn triggers(section: &Section<'_>, faults: &mut Faults) -> Vec<Trigger> {
    let Some(texts) = section.series("log", faults) else { return Trigger::ALL.to_vec() };
    let words = || Trigger::ALL.iter().map(|trigger| trigger.word());
    for text in &texts {
        if !words().any(|word| word == text.content) {
            text.refuse(faults, || {
                let hint = nearest(text.content, words()).map_or_else(
                    || format!("known here: {}", words().collect::<Vec<_>>().join(", ")),
                    |word| format!("did you mean \"{word}\"?"),
                );
                (format!("{} is not a reason to recycle", name::quoted(text.content)), hint)
            });
        }
    }
    let is_written = |trigger: &Trigger| texts.iter().any(|text| text.content == trigger.word());
    Trigger::ALL.into_iter().filter(is_written).collect()
}

fn rapid_fail(section: &Section<'_>, faults: &mut Faults) -> RapidFail {
    let rapid_fail = RapidFail {
        failures: section.integer("failures", faults),
        window: section.duration("window", faults),
        command: action(section, "command", &["{pool}"], faults),
    };
    if rapid_fail.failures == 0 {
        void(section, "window", "with failures = 0", faults);
        void(section, "command", "with failures = 0", faults);
    }
    rapid_fail
}

/// A key that has no effect beside another; a default that is written out asks for none.
fn void(section: &Section<'_>, name: &str, beside: &str, faults: &mut Faults) {
    if section.departs(name) {
        section.refuse(name, Nature::Here, faults, || {
            (format!("{name} means nothing {beside}"), format!("leave {name} out, or change that"))
        });
    }
}
