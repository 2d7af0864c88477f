//! The operational log: what is done, to what, why it failed, what helps; one line each on
//! standard error. Values of an application's environment never stand in it.

use crate::plan::Level;
use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The way to change the level later; unset while `RUST_LOG` rules.
static LEVEL: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log of this process, once; later calls change nothing. `RUST_LOG`, if set, rules
/// over the level of the configuration.
pub fn start() {
    let plain = !stderr().is_terminal();
    let lines = fmt::layer().with_writer(stderr).with_target(false).with_ansi(!plain);
    // A person at a terminal and the journal have their own clocks.
    let lines = if plain && std::env::var_os("JOURNAL_STREAM").is_none() {
        lines.boxed()
    } else {
        lines.without_time().boxed()
    };
    let is_ruled = std::env::var_os("RUST_LOG").is_some();
    let rule = if is_ruled { EnvFilter::from_default_env() } else { EnvFilter::new("info") };
    let (filter, handle) = reload::Layer::new(rule);
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    if started.is_ok() && !is_ruled {
        let _ = LEVEL.set(handle);
    }
}

/// From here on, lines of this level and above.
pub fn set_level(level: Level) {
    let word = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    if let Some(handle) = LEVEL.get() {
        let _ = handle.modify(|current| *current = EnvFilter::new(word));
    }
}
