//! Real programs found on the machine. One that is missing costs its tests, and they say so.

use super::engine::note;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of a program, or `None` after saying which test is skipped and what to do about it.
pub(crate) fn find(program: &str, test: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        skip(test, program, &format!("apt-get install {}", package(program)));
    }
    found
}

/// A Python that can import `module`: the tests' own environment first.
pub(crate) fn python(module: &str, test: &str) -> Option<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/bin/python");
    let found = [own, PathBuf::from("python3")].into_iter().find_map(|python| {
        let ask = format!("import sys, {module}; print(sys.executable)");
        let output = Command::new(python).args(["-c", &ask]).output().ok()?;
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(path)
    });
    if found.is_none() {
        skip(test, &format!("Python module {module}"), "./test, which makes target/test-venv");
    }
    found
}

/// A file of the tests' own, by its name under `tests/it/scripts`.
pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/it/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn package(program: &str) -> &str {
    match program {
        "nginx" => "nginx-light",
        "node" => "nodejs",
        other => other,
    }
}

fn skip(test: &str, program: &str, remedy: &str) {
    note(&format!("SKIPPED: {test}: no {program} here. To run it: {remedy}"));
}
