//! The programs of others that a run needs, and which Debian package brings each.

use crate::failure::{Failure, while_doing};
use std::env;
use std::path::PathBuf;
use std::process::Command;

const PACKAGES: [(&str, &str); 5] = [
    ("wrk", "wrk"),
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("taskset", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Checks that all are there; with `install`, asks apt for those that are not.
pub(crate) fn ensure(install: bool) -> Result<(), Failure> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let line = missing.join(" ");
    if !install {
        return Err(Failure::new(format!(
            "looking for the programs to measure with: missing packages: {line}. \
             Run as root: apt-get install {line} (or give --install)"
        )));
    }
    // Run level 1 keeps the packages' own services from being started on port 80.
    let status = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends"])
        .args(&missing)
        .envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")])
        .status()
        .map_err(while_doing("running apt-get"))?;
    if status.success() && self::missing().is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("installing {line}: apt-get ended with {status}. Are you root?")))
}

/// First line that a program says of its version, on either output.
pub(crate) fn version(program: &str, option: &str) -> String {
    let Some(path) = find(program) else { return "not installed".to_owned() };
    let Ok(output) = Command::new(path).arg(option).output() else { return "unknown".to_owned() };
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or("unknown").trim().to_owned()
}

/// Where a program is; system administration folders included, which a user's PATH often lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let beside = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = |folder: PathBuf| Some(folder.join(program)).filter(|path| path.is_file());
    env::split_paths(&path).chain(beside).find_map(found)
}

/// The path of a program as an argument; its bare name if it is nowhere, for the error to name it.
pub(crate) fn path(program: &str) -> String {
    find(program).map_or_else(|| program.to_owned(), |path| path.display().to_string())
}

fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|&(_, package)| package)
        .collect();
    packages.dedup();
    packages
}
