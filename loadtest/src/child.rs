//! A program under measurement: pinned to a CPU, its complaints kept, ended with us whatever happens.

use crate::clock;
use crate::failure::{Failure, while_doing};
use crate::rig::Rig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: std::process::Child,
    errors: PathBuf,
    output: PathBuf,
}

impl Child {
    /// Starts `command` on `core`. `setpriv` makes the kernel end it when this process ends, and
    /// `taskset` pins it before its first instruction; both replace themselves by the program, so the
    /// process number is the program's. Must be called on the main thread: the death signal is tied
    /// to the thread that forks.
    pub(crate) fn start(
        rig: &Rig,
        name: &str,
        core: usize,
        command: &[String],
    ) -> Result<Self, Failure> {
        let (errors, output) =
            (rig.path(&format!("{name}.stderr")), rig.path(&format!("{name}.stdout")));
        let create = |path: &PathBuf| {
            File::create(path).map_err(while_doing(format!("creating {}", path.display())))
        };
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c", &core.to_string()])
            .args(command)
            .current_dir(rig.folder())
            .stdin(Stdio::null())
            .stdout(create(&output)?)
            .stderr(create(&errors)?)
            // Ctrl-C is for this process; the children follow in order.
            .process_group(0)
            .spawn()
            .map_err(while_doing(format!("starting {name} by setpriv (package util-linux)")))?;
        Ok(Self { name: name.to_owned(), process, errors, output })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn errors(&self) -> String {
        text(&self.errors)
    }

    /// Fails with what the program said if it has ended.
    pub(crate) fn expect_running(&mut self) -> Result<(), Failure> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.complaint(&format!("it ended with {status}"))),
            Err(cause) => Err(self.complaint(&cause.to_string())),
        }
    }

    /// Waits for the program to end by itself; its standard output.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<String, Failure> {
        let status = self.ended_within(limit);
        match status {
            Some(status) if status.success() => Ok(text(&self.output)),
            Some(status) => Err(self.complaint(&format!("it ended with {status}"))),
            None => Err(self.complaint(&format!("it did not end within {limit:?}"))),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill(self.id(), signal).map_err(while_doing(format!("sending {signal} to {}", self.name)))
    }

    pub(crate) fn complaint(&self, cause: &str) -> Failure {
        let said = self.errors();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(8)..].join("\n  ");
        Failure::new(format!("running {}: {cause}. It said:\n  {last}", self.name))
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = clock::now() + limit;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Err(_) => return None,
                Ok(None) if clock::now() >= deadline => return None,
                Ok(None) => sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Not yet waited for, so the number is still this child's.
        if let Ok(None) = self.process.try_wait() {
            let _ = kill(self.id(), Signal::SIGTERM);
            if self.ended_within(GRACE).is_none() {
                let _ = killpg(self.id(), Signal::SIGKILL);
                let _ = self.process.wait();
            }
        }
    }
}

fn text(path: &PathBuf) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Child;
    use crate::rig::{Cores, Rig};
    use std::time::Duration;

    fn shell(rig: &Rig, script: &str) -> Child {
        let command = ["sh", "-c", script].map(String::from);
        Child::start(rig, "shell", 0, &command).unwrap()
    }

    #[test]
    fn output_and_complaints_are_kept() {
        let rig = Rig::set_up(Cores { front: 0, load: 0 }).unwrap();
        let said = shell(&rig, "echo $$").finish(Duration::from_secs(20)).unwrap();
        assert!(said.trim().parse::<u32>().is_ok());
        let failed = shell(&rig, "echo bad luck >&2; exit 3").finish(Duration::from_secs(20));
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("bad luck") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let rig = Rig::set_up(Cores { front: 0, load: 0 }).unwrap();
        let child = shell(&rig, "exec sleep 600");
        let pid = child.pid();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
