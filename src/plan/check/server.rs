//! `[server]` and `[[listen]]`.

use super::section::{Section, Text};
use super::{is_over, name};
use crate::base::address::Address;
use crate::base::limits;
use crate::plan::fault::{Faults, Nature};
use crate::plan::{
    AccessLog, EngineChoice, Level, Limits, Listener, Log, LogFormat, Server, UnknownHost,
};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The listeners, and what `site.listen` needs to find them.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) list: Vec<Listener>,
    /// Every address that was written, to its place in `list`.
    pub(super) places: BTreeMap<Address, u16>,
    /// Whether every `[[listen]]` could be read: if not, an address may be missing from `places`.
    pub(super) is_whole: bool,
}

pub(super) fn server(section: &Section<'_>, faults: &mut Faults) -> Server {
    let user = section.text("user", faults);
    let control = section.text("control", faults);
    Server {
        engine: section.word(
            "engine",
            [EngineChoice::Auto, EngineChoice::Uring, EngineChoice::Epoll],
            faults,
        ),
        threads: u16::try_from(section.integer("threads", faults))
            .expect("the table of keys bounds threads"),
        user: user.and_then(|user| read(&user, name::user, faults)),
        connections_max: section.integer("max_connections", faults),
        shutdown_limit: section.duration("shutdown_limit", faults),
        control: control.and_then(|path| read(&path, name::control, faults)),
        workers_max: section.integer("max_workers", faults),
        unknown_host: section.word(
            "unknown_host",
            [UnknownHost::NotFound, UnknownHost::Misdirected],
            faults,
        ),
        limits: limits(&section.section("limits", faults), faults),
        log: log(&section.section("log", faults), faults),
    }
}

fn limits(section: &Section<'_>, faults: &mut Faults) -> Limits {
    let bytes = |name: &str, faults: &mut Faults| {
        usize::try_from(section.size(name, faults)).unwrap_or(usize::MAX)
    };
    let limits = Limits {
        head_timeout: section.duration("head_timeout", faults),
        body_timeout: section.duration("body_timeout", faults),
        idle_timeout: section.duration("idle_timeout", faults),
        send_rate_min: section.integer("min_send_rate", faults),
        head_size: bytes("head_size", faults),
        header_count: usize::try_from(section.integer("header_count", faults))
            .unwrap_or(limits::HEADER_COUNT_MAX),
        target_size: bytes("target_size", faults),
        body_size: match section.size("body_size", faults) {
            0 => u64::MAX,
            size => size,
        },
    };
    if limits.target_size > limits.head_size {
        let name = if section.has("target_size") { "target_size" } else { "head_size" };
        section.refuse(name, Nature::Here, faults, || {
            let head = crate::plan::units::show_size(limits.head_size as u64);
            let target = crate::plan::units::show_size(limits.target_size as u64);
            (
                format!("target_size ({target}) is more than head_size ({head})"),
                "the target is part of the head: lower target_size or raise head_size".into(),
            )
        });
    }
    limits
}

fn log(section: &Section<'_>, faults: &mut Faults) -> Log {
    let access = section.text("access", faults).and_then(|access| match access.content {
        "" => None,
        "stdout" => Some(AccessLog::Stdout),
        _ => read(&access, name::file, faults).map(AccessLog::File),
    });
    Log {
        access: access.unwrap_or(AccessLog::Off),
        format: section.word("format", [LogFormat::Json, LogFormat::Combined], faults),
        level: section.word(
            "level",
            [Level::Error, Level::Warn, Level::Info, Level::Debug],
            faults,
        ),
    }
}

pub(super) fn listeners(file: &Section<'_>, faults: &mut Faults) -> Listeners {
    let sections = file.sections("listen", faults);
    if sections.is_empty() && !file.has("listen") {
        file.lacks("listen", faults, || {
            (
                "there is no address to listen on".into(),
                "add [[listen]] with address = \"127.0.0.1:8080\"".into(),
            )
        });
    }
    let mut listeners =
        Listeners { list: Vec::new(), places: BTreeMap::new(), is_whole: !sections.is_empty() };
    if is_over(sections.len(), limits::LISTENERS_MAX, file, "listen", faults) {
        listeners.is_whole = false;
        return listeners;
    }
    for section in &sections {
        let text = section.text("address", faults);
        let backlog = section.integer("backlog", faults);
        let address = text.as_ref().and_then(|text| read(text, name::address, faults));
        let (Some(text), Some(address)) = (text, address) else {
            listeners.is_whole = false;
            continue;
        };
        let place = u16::try_from(listeners.list.len()).expect("LISTENERS_MAX fits");
        if listeners.places.contains_key(&address) {
            text.refuse(faults, || {
                (format!("{address} is listened on already"), "write each address once".into())
            });
            continue;
        }
        listeners.places.insert(address.clone(), place);
        listeners.list.push(Listener { address, backlog });
    }
    listeners
}

/// What `reading` makes of a text; what it refuses is a fault.
pub(super) fn read<T>(
    text: &Text<'_>,
    reading: impl FnOnce(&str) -> Result<T, (String, String)>,
    faults: &mut Faults,
) -> Option<T> {
    match reading(text.content) {
        Ok(value) => Some(value),
        Err(refusal) => {
            text.refuse(faults, || refusal);
            None
        }
    }
}
