//! What can be asked for on the command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures lychgate side by side with nginx, HAProxy and the bare application, on this machine.
///
/// The front has one CPU to itself, the application and the generator share another; fronts take
/// turns, several rounds each. Only the ratios mean anything elsewhere.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Small answers on kept connections: the main table, judged against the goals.
    Compare,
    /// The same on 64, 1,000 and 10,000 connections.
    Connections,
    /// Bodies of 64 KiB and 1 MiB, down and up.
    Bodies,
    /// A connection for each request.
    Connect,
    /// Memory of an idle connection.
    Idle,
    /// A minute of load beside hostile clients: what leaks, what hangs.
    Soak,
    /// The listener is killed under load: what clients see of it.
    Restart,
    /// A garden of workers is recycled, killed and its supervisor followed by another, under load.
    Gardens,
    /// All of these, one after the other.
    All,
    /// Only rewrites docs/performance.md from the results that are there.
    Docs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Rounds; every front is measured once in each.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Length of one measurement [default: 2; soak: 60]
    #[arg(long, global = true, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: Option<u64>,
    /// Connections of the generator [default: 64; idle: 10000]
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) connections: Option<u32>,
    /// Only fronts whose names begin so, for example "nginx-tcp,haproxy,lychgate-uring"
    #[arg(long, global = true, default_value = "")]
    pub(crate) only: String,
    /// Folder for SCENARIO.json, .md and .svg
    #[arg(long, global = true, default_value = "loadtest/results")]
    pub(crate) out: PathBuf,
    /// Puts what was measured into docs/performance.md
    #[arg(long, global = true)]
    pub(crate) docs: bool,
    /// Installs missing packages by apt-get (as root)
    #[arg(long, global = true)]
    pub(crate) install: bool,
    /// Takes target/release/lychgate as it is
    #[arg(long, global = true)]
    pub(crate) no_build: bool,
    /// Another binary to measure; nothing is built
    #[arg(long, global = true)]
    pub(crate) lychgate: Option<PathBuf>,
    /// CPU of the front
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) front_core: usize,
    /// CPU of the application and the generator
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) load_core: usize,
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Command};
    use clap::{CommandFactory, Parser};

    #[test]
    fn options_stand_before_or_behind_the_scenario() {
        Arguments::command().debug_assert();
        let line = ["loadtest", "compare", "--rounds", "7", "--only", "bare"];
        let given = Arguments::try_parse_from(line).unwrap();
        assert_eq!((given.command, given.options.rounds), (Command::Compare, 7));
        assert!(Arguments::try_parse_from(["loadtest", "--rounds", "0", "compare"]).is_err());
        assert!(Arguments::try_parse_from(["loadtest"]).is_err());
    }
}
