//! `lychgate check FILE`: whether a configuration would be taken.

use crate::plan::Plan;
use crate::shell::config;
use std::io::{self, Write};
use std::path::Path;

/// The exit code: 0 when the file holds, 1 when it does not or could not be read. A summary goes
/// to `out`, faults to `err`.
pub fn check(path: &Path, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    match config::load(path) {
        Ok(loaded) => told(&writeln!(out, "{}: ok: {}", path.display(), summary(&loaded.plan)), 0),
        Err(report) => told(&write!(err, "{report}"), 1),
    }
}

/// Nobody may be reading; the verdict of a good file is lost then, so it must not look good.
fn told(written: &io::Result<()>, code: u8) -> u8 {
    if written.is_ok() { code } else { 1 }
}

fn summary(plan: &Plan) -> String {
    let count =
        |count: usize, thing: &str| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
    let [listeners, sites, pools] = [
        count(plan.listeners.len(), "listener"),
        count(plan.sites.len(), "site"),
        count(plan.pools.len(), "pool"),
    ];
    format!("{listeners}, {sites}, {pools}")
}
