//! loadtest: lychgate side by side with nginx, HAProxy and the bare application, on one machine and
//! in the same minute. README.md says how to read what comes out.

mod answer;
mod application;
mod args;
mod child;
mod clock;
mod failure;
mod front;
mod hostile;
mod probe;
mod processes;
mod report;
mod rig;
mod runner;
mod scenario;
mod sink;
mod stats;
mod swarm;
mod tools;
mod wrk;

use args::Arguments;
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match scenario::run(arguments.command, &arguments.options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "loadtest: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// A line for whoever watches; a closed terminal stops no measurement.
fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}
