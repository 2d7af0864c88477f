//! `command` of a pool, and what goes with it: how a worker's process is started.

use super::is_over;
use super::pool::probe;
use super::section::{Section, Text};
use crate::plan::fault::Faults;
use crate::plan::{Bind, Command, Probe};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Words of a command, and variables of its environment.
const WORDS_MAX: usize = 1024;

/// Reads every key that belongs to a command, so that their faults are told even without one; then
/// it has no words.
pub(super) fn command(section: &Section<'_>, faults: &mut Faults) -> Command {
    let argv = section.list("command", faults).unwrap_or_default();
    let bind = section.word("bind", [Bind::Port, Bind::Unix, Bind::Fd], faults);
    let directory = section.text("working_directory", faults);
    let environment = environment(section, faults);
    let ready = probe(section, "ready", faults)
        .and_then(|(path, _, timeout)| Some(Probe { path: path?, timeout }));
    if let Some(directory) = directory.as_ref().filter(|directory| directory.content.is_empty()) {
        directory.refuse(faults, || ("is empty".into(), "write \".\" or leave it out".into()));
    }
    is_over(argv.len(), WORDS_MAX, section, "command", faults);
    named(&argv, faults);
    for word in &argv {
        misplaced(word, bind, faults);
    }
    Command {
        argv: argv.iter().map(|word| word.content.to_string()).collect(),
        bind,
        working_directory: directory.map(|directory| directory.content.to_string()),
        environment,
        ready,
    }
}

/// A command that is run when something happens; `placeholders` are what is put into it.
pub(super) fn action(
    section: &Section<'_>,
    name: &str,
    placeholders: &[&str],
    faults: &mut Faults,
) -> Vec<String> {
    let argv = section.series(name, faults).unwrap_or_default();
    is_over(argv.len(), WORDS_MAX, section, name, faults);
    named(&argv, faults);
    for word in &argv {
        for other in ["{pid}", "{reason}", "{pool}", "{self}", "{port}", "{socket}", "{fd}"] {
            if !placeholders.contains(&other) && word.content.contains(other) {
                word.refuse(faults, || {
                    let known = placeholders.join(", ");
                    (format!("{other} has no value here"), format!("what is put in here: {known}"))
                });
            }
        }
    }
    argv.iter().map(|word| word.content.to_string()).collect()
}

fn named(argv: &[Text<'_>], faults: &mut Faults) {
    if let Some(program) = argv.first().filter(|program| program.content.is_empty()) {
        program.refuse(faults, || ("the program is empty".into(), "write its path".into()));
    }
}

/// A placeholder that nothing will be put into, because the pool binds in another way.
fn misplaced(word: &Text<'_>, bind: Bind, faults: &mut Faults) {
    for (other, placeholder, name) in
        [(Bind::Port, "{port}", "port"), (Bind::Unix, "{socket}", "unix"), (Bind::Fd, "{fd}", "fd")]
    {
        if other != bind && word.content.contains(placeholder) {
            word.refuse(faults, || {
                (
                    format!("{placeholder} has no value here"),
                    format!("add bind = \"{name}\" to the pool"),
                )
            });
        }
    }
}

fn environment(section: &Section<'_>, faults: &mut Faults) -> Vec<(String, String)> {
    /// What lychgate tells the command itself.
    const OWN: [&str; 5] = ["PORT", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];
    let pairs = section.map("environment", faults);
    is_over(pairs.len(), WORDS_MAX, section, "environment", faults);
    let mut environment = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        if name.content.is_empty() || name.content.contains(['=', '\0']) {
            name.refuse(faults, || {
                ("is not the name of a variable".into(), "write a name without = in it".into())
            });
        } else if OWN.contains(&name.content) || name.content.starts_with("LYCHGATE_") {
            name.refuse(faults, || {
                ("lychgate sets this variable itself".into(), "leave it out".into())
            });
        } else {
            environment.push((name.content.to_string(), value.content.to_string()));
        }
    }
    environment.sort();
    environment
}
