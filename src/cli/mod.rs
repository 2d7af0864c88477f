//! Floor 5: the command line. Arguments in, an exit code out: 0, 1 (it failed), 2 (it was asked
//! wrongly), and from commands that ask a supervisor 3 (none is there) and 4 (no such pool).

mod ask;
pub mod check;
mod greeting;

use crate::shell::config::{self, Loaded, QUICKSTART};
use crate::shell::logs::operational;
use crate::shell::paths;
use crate::shell::supervisor::{self, Origin};
use crate::shell::{demo, listener};
use ask::Question;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::collections::BTreeMap;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

/// A front door for web applications: listens, routes, relays requests to them, and starts them.
///
/// Without a command it runs a demonstration application and serves it on
/// <http://127.0.0.1:8080/>.
#[derive(Debug, Parser)]
#[command(name = "lychgate", version, after_help = AFTER_HELP)]
struct Arguments {
    /// The supervisor's control socket; `run` serves it, others ask there [default: below /run for
    /// root, else below $XDG_RUNTIME_DIR, else below /tmp; see docs/control.md]
    #[arg(long, global = true, value_name = "PATH", env = "LYCHGATE_CONTROL")]
    #[arg(hide_env_values = true)]
    control: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, in the foreground, until SIGTERM or SIGINT.
    ///
    /// Starts the listener process, which gives up its privileges, and the commands of the
    /// configuration's pools, and starts them again when they die.
    Run {
        /// The configuration, in TOML. Without it, a demonstration application is served on
        /// <http://127.0.0.1:8080/>.
        file: Option<PathBuf>,
    },
    /// Say whether a configuration would be taken, and every fault if not.
    ///
    /// Exits with 0 when the file holds and with 1 when it does not.
    Check {
        /// The configuration, in TOML.
        file: PathBuf,
    },
    #[command(flatten)]
    Ask(Question),
    /// Write a script that completes this command line in a shell.
    Completions { shell: Shell },
    /// The listener process; started by `run`.
    #[command(hide = true)]
    Listener,
    /// The demonstration application; started by a pool's command.
    #[command(hide = true)]
    Demo,
}

const AFTER_HELP: &str = "\
Signals to `lychgate run`:
  TERM, INT  finish what runs (server.shutdown_limit), then end; a second one ends at once
  HUP        read the configuration again; a bad one changes nothing and is reported
  USR1       open the access log's file again, after it was moved away
  USR2       write all counters to the operational log, as one line of JSON

Environment:
  LYCHGATE_CONTROL  the control socket, if --control does not name it
  RUST_LOG          filter of the operational log, over server.log.level (tracing's EnvFilter)
  NOTIFY_SOCKET     where readiness is told to the service manager (sd_notify)

Exit codes: 0 as asked, 1 failed or refused (the reason is on standard error), 2 wrong usage,
  3 no supervisor at the control socket, 4 no such pool";

/// Runs the program.
pub fn run() -> ExitCode {
    let Arguments { control, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version count as asked for; nobody may be reading either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let outcome = match command {
        None | Some(Command::Run { file: None }) => run_quickstart(control),
        Some(Command::Run { file: Some(file) }) => run_file(file, control),
        Some(Command::Check { file }) => {
            return check::check(&file, &mut stdout().lock(), &mut stderr().lock()).into();
        }
        Some(Command::Ask(question)) => {
            let control = control.unwrap_or_else(paths::default_control);
            return ask::ask(question, &control, &mut stdout().lock(), &mut stderr().lock()).into();
        }
        Some(Command::Completions { shell }) => return complete(shell),
        Some(Command::Listener) => listener::run(),
        Some(Command::Demo) => {
            operational::start();
            demo::run()
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            for line in why.lines() {
                tracing::error!("{line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run_file(file: PathBuf, control: Option<PathBuf>) -> Result<(), String> {
    operational::start();
    let loaded = config::load(&file).map_err(|report| report.to_string())?;
    supervisor::run(Origin::File(file), loaded, control, None)
}

fn run_quickstart(control: Option<PathBuf>) -> Result<(), String> {
    operational::start();
    let plan = config::parse(QUICKSTART, "quickstart.toml").map_err(|report| report.to_string())?;
    let text = QUICKSTART.to_owned();
    let loaded = Loaded { plan, text, pages: BTreeMap::new(), complaint: None };
    supervisor::run(Origin::Quickstart, loaded, control, Some(greeting::greet))
}

/// Made whole first: the generator does not expect that nobody reads.
fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lychgate", &mut script);
    ExitCode::from(u8::from(stdout().lock().write_all(&script).is_err()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_hides_what_is_not_for_people() {
        Arguments::command().debug_assert();
        let help = Arguments::command().render_long_help().to_string();
        assert!(
            help.contains("check")
                && help.contains("USR1")
                && !help.contains("listener process; started")
        );
        for good in [&["lychgate"][..], &["lychgate", "run"], &["lychgate", "run", "a.toml"]] {
            Arguments::try_parse_from(good).unwrap();
        }
        for bad in
            [&["lychgate", "check"][..], &["lychgate", "walk"], &["lychgate", "run", "a", "b"]]
        {
            assert!(Arguments::try_parse_from(bad).unwrap_err().use_stderr(), "{bad:?}");
        }
    }
}
