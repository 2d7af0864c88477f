//! The operator of a gate under test: the command line on its control socket.

use super::gate::Gate;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

impl Gate {
    /// Its control socket, in a folder that is its alone.
    pub(crate) fn control(&self) -> PathBuf {
        self.path("home/control.sock")
    }

    /// A command on the control socket, not yet run.
    pub(crate) fn operator(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lychgate"));
        command.args(arguments).env("LYCHGATE_CONTROL", self.control());
        command
    }

    /// Runs it, whatever becomes of it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.operator(arguments).output().unwrap()
    }

    /// What the API says; it has to say yes.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
    }
}
